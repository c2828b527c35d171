"""The evidence as tables: one of all numbers, one of all verdicts, written as CSV.

`tables/evidence.csv` has a row for each model and quantity, `tables/verdicts.csv` one for each
claim; both hold all digits.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from gz2vit.errors import Gz2vitError
from gz2vit.evidence.gathering import Gathered
from gz2vit.evidence.intervals import Interval, metric_intervals
from gz2vit.evidence.temperature import Calibration
from gz2vit.evidence.verdicts import ALPHA, NOT_DECIDED, Finding, Verdict, judge
from gz2vit.results import atomic_path

EVIDENCE_COLUMNS = (
    *("model", "against", "quantity", "class_name", "value", "low", "high"),
    *("p_value", "p_corrected", "n"),
)
VERDICT_COLUMNS = (
    *("family", "claim", "outcome", "sentence", "effect", "low", "high", "n"),
    *("p_value", "p_corrected", "smallest_effect"),
)


def judge_families(
    families: Mapping[str, Sequence[Finding]], alpha: float = ALPHA
) -> dict[str, list[Verdict]]:
    """The verdicts by family: a question and all the claims that answer it, corrected together."""
    return {name: judge(findings, alpha) for name, findings in families.items()}


def verdicts_table(families: Mapping[str, Sequence[Verdict]]) -> pd.DataFrame:
    """The verdicts as a table with VERDICT_COLUMNS, a row each, in order."""
    rows = []
    for family, verdicts in families.items():
        for one in verdicts:
            effect = (one.effect.value, one.effect.low, one.effect.high, one.effect.galaxies)
            numbers = (*effect, one.p_value, one.p_corrected, one.smallest_effect)
            rows.append((family, one.claim, one.outcome, one.sentence, *numbers))
    return pd.DataFrame(rows, columns=list(VERDICT_COLUMNS))


def undecided(family: str, claim: str, why: str) -> pd.DataFrame:
    """The table of one claim of which nothing can be said, because of `why`."""
    sentence = f"The claim that {claim} is {NOT_DECIDED} by this data: {why}."
    row = {"family": family, "claim": claim, "outcome": NOT_DECIDED, "sentence": sentence, "n": 0}
    return pd.DataFrame([row], columns=list(VERDICT_COLUMNS))


def evidence_table(
    found: Gathered,
    comparisons: pd.DataFrame,
    calibrations: Mapping[str, Calibration],
    precisions: Mapping[str, pd.DataFrame],
) -> pd.DataFrame:
    """All numbers in one table with EVIDENCE_COLUMNS, a row each.

    Of each model the metrics with bootstrap intervals, the calibration, and average precisions (as
    `precision_recall.average_precisions` gives them); of each pair the difference of accuracies
    (`comparisons`, as `comparison.compare_models` gives them; `p_corrected` is Holm's).
    """
    parts = []
    for model, table in found.test.items():
        metrics = metric_intervals(table["class"], table["pred"])
        parts.append(metrics.assign(model=model).rename(columns={"galaxies": "n"}))
        if model in calibrations:
            parts.append(_calibration_rows(model, calibrations[model]))
        if model in precisions:
            names = {"average_precision": "value", "galaxies": "n"}
            own = precisions[model].rename(columns=names)
            parts.append(own.assign(model=model, quantity="average_precision"))
    names = {"first": "model", "second": "against", "difference": "value", "p_holm": "p_corrected"}
    pairs = comparisons.rename(columns=names | {"galaxies": "n"})
    parts.append(pairs.assign(quantity="accuracy_difference"))
    filled = [part.reindex(columns=list(EVIDENCE_COLUMNS)) for part in parts if len(part)]
    if not filled:
        return pd.DataFrame(columns=list(EVIDENCE_COLUMNS))
    # Columns that a part has not are left out before, as pandas asks for.
    table = pd.concat([part.dropna(axis=1, how="all") for part in filled], ignore_index=True)
    table = table.reindex(columns=list(EVIDENCE_COLUMNS))
    words = table[["against", "class_name"]].astype(object)
    return table.assign(**words.where(words.notna(), ""))


def _calibration_rows(model: str, found: Calibration) -> pd.DataFrame:
    """One model's calibration as rows."""
    exact = {"temperature": found.temperature, "ece_if_calibrated": found.ece_if_calibrated}
    intervals = {name: getattr(found, name) for name in ("ece_before", "ece_after")}
    intervals |= {"overconfidence": found.overconfidence}
    intervals |= {"log_likelihood_gain": found.log_likelihood_gain}
    nothing, n = float("nan"), found.ece_before.galaxies
    intervals |= {name: Interval(value, nothing, nothing, n) for name, value in exact.items()}
    rows = [(model, name, one.value, one.low, one.high, n) for name, one in intervals.items()]
    table = pd.DataFrame(rows, columns=["model", "quantity", "value", "low", "high", "n"])
    # The test of the calibration before scaling.
    table.loc[table.quantity == "ece_before", "p_value"] = found.calibrated_p
    return table


def verdicts_markdown(table: pd.DataFrame) -> str:
    """The verdicts as Markdown: each family a heading in bold, each sentence an item."""
    lines = []
    for family, rows in table.groupby("family", sort=False):
        lines += [f"**{family}**", ""]
        lines += [f"- *{row.outcome}*: {row.sentence}" for row in rows.itertuples()] + [""]
    return "\n".join(lines)


def write_table(path: Path | str, table: pd.DataFrame) -> Path:
    """Write a table as CSV, atomically; its path. Raises `Gz2vitError` where it cannot."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False)
    return Path(path)


def read_verdict_table(path: Path | str) -> pd.DataFrame:
    """A table of `verdicts_table` from its file, empty where there is none.

    Raises `Gz2vitError` for a file that is not one.
    """
    if not Path(path).exists():
        return pd.DataFrame(columns=list(VERDICT_COLUMNS))
    table = pd.read_csv(path)
    if list(table.columns) != list(VERDICT_COLUMNS):
        raise Gz2vitError(f"{path} is no table of verdicts; delete it and run again")
    return table
