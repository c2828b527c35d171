"""What the numbers say about a claim, by stated rules: supported, contradicted, or not decided.

A claim is a dict: what is claimed, the effect that was measured, on which side of zero the claim
wants it, and the test (two-sided). `judge` makes the table of verdicts. At the level alpha a claim
is

- supported, where its p-value, corrected for all claims of its family (Holm), is below alpha, and
  the whole interval of the effect lies on the claim's side of zero;
- contradicted, where the same holds for the other side;
- not decided by this data otherwise; the verdict then adds the smallest effect that such data would
  show with a power of 80 %.

The claims are the paper's: of two networks the one with the higher published accuracy is the more
accurate; class weights raise the macro-averaged recall; the ViT is better on small and faint
galaxies.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm, t

from gz2vit.catalog import read_properties, read_selection
from gz2vit.comparisons import (
    BINS,
    MIN_GROUP,
    PERMUTATIONS,
    compare_counts,
    compare_right,
    corrected,
    difference_in_bins,
    lead_trend,
    macro_difference,
    region_counts,
    right_table,
    separation,
)
from gz2vit.evaluation import LEVEL, metric_intervals, read_predictions
from gz2vit.io import WEIGHTED, Gz2vitError, atomic_path, command_for
from gz2vit.paper import FIG4_COUNTS, FIG4_HISTOGRAMS, PUBLISHED_RESULTS

ALPHA = 0.05
POWER = 0.80
SUPPORTED, CONTRADICTED, NOT_DECIDED = "supported", "contradicted", "not decided"
# The families: questions as the report shows them, each with all the claims that answer it.
PAPER_FIG4 = "The paper's Fig. 4, by its own numbers"
OUR_FIG4 = "Fig. 4: is the ViT better on small and faint galaxies?"
ACCURACY = "Which network is the more accurate?"
WEIGHTS = "Do tuned class weights help the rare classes?"
CALIBRATION = "Are the networks as sure as they are right?"
PUBLISHED_NAMES = ("the paper's Linformer", "the paper's ResNet-50")
PAPER_CLAIM = (
    "The paper says of its Fig. 4, judged by eye, that the Vision Transformer (the Linformer) is "
    "better than the CNN (the ResNet-50) on smaller and fainter galaxies."
)
END_FRACTION = 0.25  # "the smallest galaxies": a quarter
TEST_FILE, VALID_FILE = "predictions.csv", "validation_predictions.csv"
NO_PROBABILITIES = "the predictions are classes without probabilities (no columns p0 to p7)"
# `claim` follows "the claim that"; `quantity` names the `effect`, printed `scale` times as large in
# `unit`; `standard_error`: the effect's where there is none; `largest`: possible effect;
# `left_out`: galaxies without a value; `reason`: why no test was made; `note`: for the reader.
CLAIM = {
    **dict.fromkeys(("family", "claim", "quantity", "test", "unit", "reason", "note"), ""),
    **dict.fromkeys(("effect", "low", "high", "p_value", "standard_error"), np.nan),
    **{"n": 0, "left_out": 0, "towards": 1, "largest": np.inf, "scale": 1.0},
}
POINTS = {"scale": 100.0, "unit": " points", "largest": 1.0}
VERDICT_COLUMNS = (
    *("family", "claim", "outcome", "sentence", "effect", "low", "high", "n"),
    *("p_value", "p_corrected", "smallest_effect"),
)
EVIDENCE_COLUMNS = (
    *("model", "against", "quantity", "class_name", "value", "low", "high"),
    *("p_value", "p_corrected", "n"),
)


@dataclass(frozen=True)
class Property:
    """A column of galaxy_properties.csv in Fig. 4, and the end that the claim is about."""

    column: str
    name: str
    unit: str
    comparative: str
    superlative: str
    towards: int  # 1 where values grow to that end, -1 where they fall
    logarithm: bool  # whether regressions take it

    def scaled(self, values: pd.Series) -> pd.Series:
        """The values as regressions take them; NaN where there is no logarithm."""
        return np.log10(values.where(values > 0)) if self.logarithm else values


SIZE = Property("petroR90_r", "size", "arcsec", "smaller", "smallest", -1, True)
MAGNITUDE = Property("dered_r", "r magnitude", "mag", "fainter", "faintest", 1, False)
FIG4_PROPERTIES = (SIZE, MAGNITUDE)
FIG4_COLUMNS = tuple(what.column for what in FIG4_PROPERTIES)


def judge(claims: Sequence[Mapping[str, Any]], alpha: float = ALPHA) -> pd.DataFrame:
    """The verdicts on `claims` (dicts with keys of `CLAIM`), a table with `VERDICT_COLUMNS`.

    p-values are corrected within each family. Raises `Gz2vitError` for a level outside 0 to 1.
    """
    if not 0 < alpha < 1:
        raise Gz2vitError(f"alpha {alpha} is not a level; give a number between 0 and 1")
    rows = []
    for family in dict.fromkeys(claim["family"] for claim in claims):
        own = [CLAIM | claim for claim in claims if claim["family"] == family]
        p_corrected = corrected([claim["p_value"] for claim in own])
        tested = int(np.isfinite(p_corrected).sum())
        # Normal approximation; alpha is divided as in the first step of Holm's correction.
        errors = norm.ppf(1 - alpha / max(1, tested) / 2) + norm.ppf(POWER)
        for claim, p in zip(own, p_corrected, strict=True):
            value, *ends = (claim[name] * claim["towards"] for name in ("effect", "low", "high"))
            outcome = NOT_DECIDED  # as is whatever has NaN
            if p < alpha and value > 0 and min(ends) >= 0:
                outcome = SUPPORTED
            elif p < alpha and value < 0 and max(ends) <= 0:
                outcome = CONTRADICTED
            smallest = errors * claim["standard_error"]
            sentence = _sentence(claim, outcome, p, tested, smallest)
            found = {"outcome": outcome, "sentence": sentence, "p_corrected": p}
            rows.append(claim | found | {"smallest_effect": smallest})
    return pd.DataFrame(rows, columns=list(VERDICT_COLUMNS))


def _sentence(
    claim: Mapping[str, Any], outcome: str, p_corrected: float, tested: int, smallest: float
) -> str:
    """A verdict with all the numbers that it rests on."""
    scale, unit = claim["scale"], claim["unit"]
    ends = np.array([claim["effect"], claim["low"], claim["high"]]) * scale
    parts = [f"The claim that {claim['claim']} is {outcome}"]
    if outcome == NOT_DECIDED:
        parts[0] += " by this data"
    if claim["reason"]:
        parts.append(f"no test was made: {claim['reason']}")
    else:
        half = (ends[2] - ends[1]) / 2  # printed to two digits
        digits = max(0, 1 - int(np.floor(np.log10(half)))) if 0 < half < np.inf else 2
        value, low, high = (f"{end:+.{digits}f}" for end in ends)
        correction = f", {p_corrected:.2g} corrected for {tested} claims" if tested > 1 else ""
        parts.append(
            f"{claim['quantity']} {value}{unit} ({100 * LEVEL:g} % interval {low} to {high}, "
            f"n = {claim['n']:,}), {claim['test']}: p = {claim['p_value']:.2g}{correction}"
        )
    if outcome == NOT_DECIDED and smallest <= claim["largest"] and np.isfinite(smallest):
        parts.append(
            f"an effect of {smallest * scale:.2g}{unit} would have been seen four times in five, "
            "smaller ones less often"
        )
    elif outcome == NOT_DECIDED and not np.isnan(smallest):
        parts.append("no effect, however large, would have been seen reliably")
    if claim["note"]:
        parts.append(claim["note"])
    if claim["left_out"]:
        parts.append(f"{claim['left_out']} galaxies without a value were left out")
    return "; ".join(parts) + "."


def claim_fig4(
    joined: pd.DataFrame,
    first: str,
    second: str,
    properties: Sequence[Property] = FIG4_PROPERTIES,
    permutations: int = PERMUTATIONS,
) -> list[dict[str, Any]]:
    """The four claims for each property, of a table of `join_predictions` with its properties.

    "Better on small galaxies" can mean that those which only the first has right are smaller than
    the second's own (what the figure shows; it holds as soon as the first loses less on small
    ones), that its lead grows towards small ones, also among galaxies of one class, or that it has
    more of the smallest right, as a reader takes it.
    """
    claims = []
    for what in properties:
        claims.append(_apart(joined, first, second, what, permutations))
        for classes in (None, joined.true):
            claims.append(_gains(joined, first, second, what, classes))
        values = joined[what.column] * what.towards
        end = values >= np.nanquantile(values, 1 - END_FRACTION, method="higher")
        found = compare_right(joined.first_right[end], joined.second_right[end])
        where = f" among the {what.superlative} {100 * END_FRACTION:g} % of them"
        claims.append(more_accurate(first, second, found, where))
    return [{"family": OUR_FIG4, **claim} for claim in claims]


def more_accurate(
    first: str, second: str, found: Mapping[str, Any], where: str = ""
) -> dict[str, Any]:
    """That the first model has more galaxies right, by McNemar's test (of `compare_counts`)."""
    counts = f"{found['only_first']} against {found['only_second']}"
    claim = f"{first} classifies more galaxies correctly than {second}{where}"
    test = f"McNemar's test ({found['method']}, {counts})"
    return POINTS | found | {"claim": claim, "quantity": "difference of accuracies", "test": test}


def _apart(
    joined: pd.DataFrame, first: str, second: str, what: Property, permutations: int
) -> dict[str, Any]:
    """That galaxies which only the first has right are smaller (fainter) than the second's."""
    groups = (joined[what.column][joined.region == f"only {one}"] for one in ("first", "second"))
    found = separation(*groups, permutations=permutations)
    one, two = found["first"], found["second"]
    claim = {
        "claim": f"the galaxies that only {first} has right are {what.comparative} than those that "
        f"only {second} has right",
        "quantity": f"Cliff's delta of the {what.name}",
        "effect": found["cliffs_delta"],
        "low": found["delta_low"],
        "high": found["delta_high"],
        "n": one + two,
        "towards": what.towards,
        "test": "Kolmogorov-Smirnov",
        # Of Cliff's delta where the groups are alike (Mann & Whitney 1947).
        "standard_error": np.sqrt((one + two + 1) / (3 * one * two)) if one and two else np.inf,
        "largest": 1.0,
        "left_out": found["left_out"],
    }
    if min(one, two) < MIN_GROUP:
        reason = f"the groups have {one} and {two} galaxies; {MIN_GROUP} are needed in each"
        return claim | {"reason": reason}
    sign = "=" if found["ad_p"] > 1 / (PERMUTATIONS + 1) else "<="
    note = (
        f"Anderson-Darling p {sign} {found['ad_p']:.2g}, medians {found['median_shift']:+.3g} "
        f"{what.unit} apart ({found['shift_low']:+.3g} to {found['shift_high']:+.3g})"
    )
    return claim | {"p_value": found["ks_p"], "note": note}


def _gains(
    joined: pd.DataFrame, first: str, second: str, what: Property, classes: pd.Series | None = None
) -> dict[str, Any]:
    """That the first model's lead grows towards smaller (fainter) galaxies (of one class)."""
    answers = (joined.first_right, joined.second_right)
    found = lead_trend(*answers, what.scaled(joined[what.column]), classes)
    where = "" if classes is None else ", among galaxies of one class"
    return found | {
        "claim": f"{first} gains on {second} towards {what.comparative} galaxies{where}",
        "quantity": f"slope of the log odds with the {what.name}",
        "towards": what.towards,
        "test": f"likelihood ratio ({found['only_first']} against {found['only_second']} galaxies)",
        "unit": " per standard deviation",
    }


def published_edges(column: str) -> np.ndarray:
    """The edges of the bins of the paper's Fig. 4, float64 (bins + 1): arcsec or mag."""
    histogram = FIG4_HISTOGRAMS[column]
    return histogram["low_edge"] + histogram["width"] * np.arange(len(histogram["all"]) + 1)


def published_galaxies(column: str) -> pd.DataFrame:
    """The galaxies of the paper's Fig. 4, like a table of `join_predictions`, at bins' middles.

    Those that both models have right or wrong, which the figure does not separate, are `both
    right`: no comparison of two models depends on it.
    """
    histogram = FIG4_HISTOGRAMS[column]
    middles = histogram["low_edge"] + histogram["width"] * (np.arange(len(histogram["all"])) + 0.5)
    counts = {name: np.array(histogram[name]) for name in ("only first", "only second")}
    counts["both right"] = np.array(histogram["all"]) - sum(counts.values())
    parts = [pd.DataFrame({column: np.repeat(middles, n), "region": r}) for r, n in counts.items()]
    table = pd.concat(parts, ignore_index=True)
    return table.assign(
        first_right=table.region != "only second", second_right=table.region != "only first"
    )


def claim_published_fig4(permutations: int = PERMUTATIONS) -> list[dict[str, Any]]:
    """Which network is better, and `claim_fig4` by the published counts (without true classes).

    The ends are the outermost whole bins, about `END_FRACTION` of all galaxies.
    """
    claims = [more_accurate(*PUBLISHED_NAMES, compare_counts(*FIG4_COUNTS.values()))]
    for what in FIG4_PROPERTIES:
        table, histogram = published_galaxies(what.column), FIG4_HISTOGRAMS[what.column]
        apart = _apart(table, *PUBLISHED_NAMES, what, permutations)
        # Medians can only be whole bins apart.
        note = apart["note"].split(", medians")[0]
        apart["note"] = f"{note}, in bins of {histogram['width']:.2g} {what.unit}"
        order = slice(None, None, -what.towards)  # from the end that the claim is about
        fraction = np.cumsum(histogram["all"][order]) / sum(histogram["all"])
        inside = int(np.abs(fraction - END_FRACTION).argmin()) + 1
        all_, one, two = (
            sum(histogram[name][order][:inside]) for name in ("all", "only first", "only second")
        )
        side, below = ("below", inside) if what.towards < 0 else ("above", -inside - 1)
        edge = published_edges(what.column)[below]
        where = f" among the {what.superlative} {100 * fraction[inside - 1]:.0f} % of them"
        where += f" ({side} {edge:.1f} {what.unit})"
        ahead = compare_counts(all_ - one - two, one, two, 0)
        claims += [apart, _gains(table, *PUBLISHED_NAMES, what)]
        claims.append(more_accurate(*PUBLISHED_NAMES, ahead, where))
    return [{"family": PAPER_FIG4, **claim} for claim in claims]


def claim_accuracy(predictions: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Of every pair of models, that the one with the higher published accuracy is the better.

    Models that the paper does not have come last.
    """
    published = {name: found["test_acc"] for name, found in PUBLISHED_RESULTS.items()}
    ranked = sorted(predictions, key=lambda name: -published.get(name, 0.0))
    right = right_table(predictions) if len(predictions) > 1 else None
    return [
        {"family": ACCURACY, **more_accurate(one, two, compare_right(right[one], right[two]))}
        for one, two in combinations(ranked, 2)
    ]


def claim_class_weights(predictions: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Of each network trained with and without class weights, that they raise the macro recall."""
    claims = []
    for name, table in predictions.items():
        plain = name.removesuffix(WEIGHTED)
        if name != plain and plain in predictions:
            right_table({name: table, plain: predictions[plain]})  # the same test set
            claim = f"{name} has a higher macro-averaged recall than {plain}"
            words = {"quantity": "difference of macro-averaged recall", "test": "bootstrap"}
            found = macro_difference(table, predictions[plain])
            claims.append(POINTS | found | words | {"family": WEIGHTS, "claim": claim})
    return claims


def claim_calibration(calibrations: Mapping[str, pd.DataFrame | None]) -> list[dict[str, Any]]:
    """Of each model, that it is overconfident, and that temperature scaling improves it.

    `calibrations`: tables of `calibrate`, None for a model without probabilities.
    """
    claims = []
    for name, table in calibrations.items():
        if table is None:
            claims.append({"claim": f"{name} is overconfident", "reason": NO_PROBABILITIES})
            continue
        value, ece = table["value"], f"ECE {table.value.ece_before:.3f}"
        sure = {
            "claim": f"{name} is overconfident",
            "quantity": "mean confidence less accuracy",
            "note": f"{ece}, and {value.ece_if_calibrated:.3f} for a perfectly calibrated model "
            f"(p = {table.p_value.ece_before:.2g})",
        }
        scaling = f"temperature scaling (T = {value.temperature:.3g})"
        gain = {
            "claim": f"{scaling} improves the probabilities of {name}",
            "quantity": "gain in log likelihood per galaxy",
            "note": f"{ece} before and {value.ece_after:.3f} after",
        }
        for words, row in ((sure, "overconfidence"), (gain, "log_likelihood_gain")):
            found = table.loc[row].rename({"value": "effect"}).to_dict() | {"n": int(table.n[row])}
            half = (found["high"] - found["low"]) / 2
            found["standard_error"] = half / t.ppf((1 + LEVEL) / 2, max(1, found["n"] - 1))
            reason = "" if half > 0 else "the galaxies do not differ"
            claims.append(found | words | {"test": "Student's test", "reason": reason})
    return [{"family": CALIBRATION, **claim} for claim in claims]


def gather_predictions(
    results_dir: Path | str, model_keys: Sequence[str], file: str = TEST_FILE
) -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    """The predictions of trained models (first seed), and what to run for the others."""
    found, missing = {}, {}
    for key in model_keys:
        path = Path(results_dir).resolve() / "models" / key / file
        if path.exists():
            found[key] = read_predictions(path)
        else:
            missing[key] = f"{key} is not trained: {command_for(path, key)}"
    return found, missing


def add_properties(table: pd.DataFrame, results_dir: Path | str) -> tuple[pd.DataFrame, str]:
    """`table` with the data folder's sizes and magnitudes (or NaN), or why it has none."""
    path = Path(read_selection(results_dir).data["folder"]) / "galaxy_properties.csv"
    properties = read_properties(path)
    if properties is None:
        return table, (
            f"the galaxies' sizes and magnitudes are not known, because {path} does not exist; put "
            "a table there with the columns galaxyID, petroR90_r (arcsec), dered_r and dered_g_r "
            "(mag); for Galaxy Zoo 2 `gz2vit download` makes it"
        )
    repeated = properties.galaxyID[properties.galaxyID.duplicated()]
    if len(repeated):
        return table, f"{path} lists galaxy {repeated.iloc[0]} more than once; keep one row of it"
    known = properties.set_index("galaxyID")[list(FIG4_COLUMNS)].reindex(table.index)
    for name in FIG4_COLUMNS:
        if known[name].isna().all():
            return table, f"no test galaxy has a {name} in {path}; check its galaxyIDs"
    return table.assign(**known), ""


def evidence_table(
    predictions: Mapping[str, pd.DataFrame],
    pairs: pd.DataFrame,
    calibrations: Mapping[str, pd.DataFrame | None],
    precisions: Mapping[str, pd.DataFrame],
) -> pd.DataFrame:
    """All numbers in one table with `EVIDENCE_COLUMNS`, a row for each model and quantity.

    `pairs`: of `compare_models`; by model `calibrations`: of `calibrate`, `precisions`: of
    `average_precisions`.
    """
    parts = []
    for model, table in predictions.items():
        parts.append(metric_intervals(table["class"], table["pred"]).assign(model=model))
        if calibrations.get(model) is not None:
            parts.append(calibrations[model].reset_index().assign(model=model))
        if model in precisions:
            parts.append(precisions[model].assign(model=model, quantity="average_precision"))
    if len(pairs):
        parts.append(pairs.assign(quantity="accuracy_difference"))
    names = {"first": "model", "second": "against", "p_holm": "p_corrected", "galaxies": "n"}
    names |= {"difference": "value", "average_precision": "value"}
    rows = [row for part in parts for row in part.rename(columns=names).to_dict("records")]
    table = pd.DataFrame(rows, columns=list(EVIDENCE_COLUMNS))
    return table.fillna({"against": "", "class_name": ""})


def write_table(path: Path | str, table: pd.DataFrame) -> Path:
    """Write a table as CSV, atomically; its path."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False)
    return Path(path)


def verdicts_markdown(table: pd.DataFrame) -> str:
    """The verdicts as Markdown: each family a heading in bold, each sentence an item."""
    lines = []
    for family, rows in table.groupby("family", sort=False):
        lines += [f"**{family}**", ""]
        lines += [f"- *{row.outcome}*: {row.sentence}" for row in rows.itertuples()] + [""]
    return "\n".join(lines)


def verdict_paragraph(
    verdicts: pd.DataFrame,
    first: str,
    second: str,
    joined: pd.DataFrame | None = None,
    bins: Mapping[str, int | Sequence[float]] | None = None,
) -> str:
    """`PAPER_CLAIM`, and what these predictions support of it, in plain words.

    `verdicts`: of `claim_fig4(joined, ...)`, with bins to count the lead in, by column; without
    `joined` of `claim_published_fig4`.
    """
    counts = FIG4_COUNTS if joined is None else region_counts(joined)
    galaxies = sum(counts.values())
    correct = [
        f"{100 * (counts['both right'] + counts[region]) / galaxies:.2f} %"
        for region in ("only first", "only second")
    ]
    words = [
        PAPER_CLAIM,
        f"Of {galaxies:,} test galaxies {first} classifies {correct[0]} correctly and {second} "
        f"{correct[1]}: {first} is {_lead_words(compare_counts(*counts.values()))}.",
    ]
    conclusions, only_shrinks = {}, False
    for what in FIG4_PROPERTIES:
        better = f"{first} classifies more galaxies correctly than {second} among "
        ahead = verdicts[verdicts.claim.str.startswith(f"{better}the {what.superlative}")]
        gains = f"{first} gains on {second} towards {what.comparative} galaxies"
        gains = verdicts[verdicts.claim.str.startswith(gains)].outcome.tolist()
        if ahead.empty:
            continue
        end = ahead.iloc[0]
        where = end.claim.removeprefix(better).replace(" of them", "")
        words.append(f"Among {where} it is {_lead_words(end)}.")
        if joined is not None:
            answers = (joined.first_right, joined.second_right, joined[what.column])
            leads = difference_in_bins(*answers, (bins or {}).get(what.column, BINS))
            clear = leads[leads.p_holm < ALPHA].difference
            words.append(
                f"In {(clear > 0).sum()} of {len(leads)} bins of {what.name} it is ahead, in "
                f"{(clear < 0).sum()} behind (McNemar's test, corrected)."
            )
        one_class = f" (among galaxies of one class: {gains[1]})" if len(gains) > 1 else ""
        towards = f"towards {what.comparative} galaxies"
        words.append(f"That it gains on {second} {towards} is {gains[0]}{one_class}.")
        conclusions.setdefault(end.outcome, []).append(f"the {what.superlative}")
        only_shrinks |= gains[0] == SUPPORTED and end.outcome == CONTRADICTED
    if conclusions:
        parts = [f"{outcome} for {' and '.join(ends)}" for outcome, ends in conclusions.items()]
        words.append(f"The claim that {first} is the better one is {', '.join(parts)} galaxies.")
    else:
        words.append("Sizes and magnitudes are not known here, so that the claim is not decided.")
    if only_shrinks:
        words.append("What Fig. 4 shows is a lag that shrinks, not a lead.")
    return " ".join(words)


def _lead_words(found: Mapping[str, Any]) -> str:
    """A difference of accuracies in words: ahead, behind, or not distinguishable."""
    value, low, high = (100 * found[name] for name in ("effect", "low", "high"))
    if low <= 0 <= high:
        interval = f"95 % interval {low:+.2f} to {high:+.2f}"
        return f"neither ahead nor behind ({value:+.2f} points, {interval})"
    near, far = sorted((abs(low), abs(high)))
    side = "ahead" if value > 0 else "behind"
    return f"{side} by {abs(value):.2f} points (95 % interval {near:.2f} to {far:.2f})"
