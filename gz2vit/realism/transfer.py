"""What simulated galaxies teach about real ones: the transfer table.

Every number is a mean over the networks (seeds) of an arm, `spread` their sample standard
deviation. The interval is the bootstrap's over the test galaxies, the same redrawn galaxies for
every arm, so that differences are paired; it knows nothing of seeds that were not trained.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gz2vit.errors import Gz2vitError
from gz2vit.evidence.intervals import RESAMPLES, percentile_bounds
from gz2vit.paper import CLASS_COUNT, CLASS_NAMES
from gz2vit.results import write_text

SIMULATED_ALONE, REAL_ALONE, FINE_TUNED = "simulated", "real", "fine_tuned"
LARGEST = "largest_class"
ARM_NAMES = {
    LARGEST: "always the largest class",
    SIMULATED_ALONE: "simulated galaxies alone",
    REAL_ALONE: "real galaxies alone",
    FINE_TUNED: "simulated, then real galaxies",
}
# First arm less the second.
DIFFERENCES = ((FINE_TUNED, REAL_ALONE), (SIMULATED_ALONE, REAL_ALONE))
ACCURACY, RECALL_MACRO, RECALL = "accuracy", "recall_macro", "recall"
QUANTITIES = ((ACCURACY, ""), (RECALL_MACRO, ""), *((RECALL, name) for name in CLASS_NAMES))
COLUMNS = (
    *("arm", "less", "quantity", "class_name", "value", "spread", "low", "high"),
    *("seeds", "galaxies"),
)
TABLE = "transfer"  # tables/transfer.csv and .md


def transfer_table(
    predictions: Mapping[str, Sequence[pd.DataFrame]],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """The arms and their differences, a row for each quantity, COLUMNS.

    `predictions`: of each arm the tables of its seeds (`GalaxyID`, `class`, `pred`), all of the
    same test galaxies. `less` is empty, or names the arm that is subtracted. `value`, `spread`,
    `low` and `high` are shares (0 to 1) or differences of shares; NaN for a class without test
    galaxies, `spread` also for a single seed. Raises `Gz2vitError` where test galaxies differ.
    """
    true = _test_galaxies(predictions)
    galaxies = np.array([len(true), len(true), *np.bincount(true, minlength=CLASS_COUNT)])
    drawn = np.random.default_rng(seed).multinomial(
        len(true), np.full(len(true), 1 / len(true)), size=resamples
    )  # (R, N): how often each galaxy is redrawn
    right = {LARGEST: (np.bincount(true).argmax() == true)[None].astype(float)}
    for arm, tables in predictions.items():
        right[arm] = np.array([(table["pred"] == table["class"]) for table in tables], float)
    values = {arm: _quantities(hits, true, np.ones((1, len(true)))) for arm, hits in right.items()}
    draws = {
        arm: _quantities(hits.mean(axis=0, keepdims=True), true, drawn)[0]
        for arm, hits in right.items()
    }
    rows = []
    for arm in right:
        found = values[arm][:, 0]  # (seeds, quantities)
        rows += _rows(arm, "", found.mean(axis=0), _spread(found), draws[arm], galaxies, len(found))
    for first, second in DIFFERENCES:
        if first in right and second in right:
            one, other = values[first][:, 0], values[second][:, 0]
            pairs = one - other if len(one) == len(other) else one[:1] - other
            gained = one.mean(axis=0) - other.mean(axis=0)
            gap = draws[first] - draws[second]
            rows += _rows(first, second, gained, _spread(pairs), gap, galaxies, len(pairs))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _test_galaxies(predictions: Mapping[str, Sequence[pd.DataFrame]]) -> np.ndarray:
    """The true classes (N,) of the test galaxies, checked to be the same everywhere."""
    tables = [table for arm in predictions.values() for table in arm]
    if not tables:
        raise Gz2vitError("there are no predictions to compare")
    for table in tables[1:]:
        for column in ("GalaxyID", "class"):
            if table[column].tolist() != tables[0][column].tolist():
                raise Gz2vitError("the networks were tested on different galaxies; test them anew")
    return tables[0]["class"].to_numpy()


def _quantities(hits: np.ndarray, true: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """QUANTITIES of networks whose `hits` are (S, N), float64 (S, R, 10).

    `weights` (R, N): how much each galaxy counts. NaN for a class that is not there.
    """
    member = np.eye(CLASS_COUNT)[true]  # (N, 8)
    totals = weights @ member  # (R, 8)
    caught = np.einsum("sn,rn,nc->src", hits, weights, member, optimize=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = np.where(totals > 0, caught / totals, np.nan)
    accuracy = caught.sum(axis=2) / totals.sum(axis=1)
    macro = np.nansum(recall, axis=2) / (totals > 0).sum(axis=1)
    return np.concatenate([accuracy[..., None], macro[..., None], recall], axis=2)


def _spread(found: np.ndarray) -> np.ndarray:
    """Sample standard deviation over seeds (S, Q); NaN for one seed."""
    return found.std(axis=0, ddof=1) if len(found) > 1 else np.full(found.shape[1], np.nan)


def _rows(
    arm: str,
    less: str,
    values: np.ndarray,
    spread: np.ndarray,
    draws: np.ndarray,
    galaxies: np.ndarray,
    seeds: int,
) -> list[tuple]:
    """The rows of one arm, or of a difference; `draws` (R, Q)."""
    low, high = percentile_bounds(draws)
    return [
        (arm, less, *names, values[at], spread[at], low[at], high[at], seeds, galaxies[at])
        for at, names in enumerate(QUANTITIES)
    ]


def write_transfer(
    results_dir: Path | str, table: pd.DataFrame, arms: pd.DataFrame, data: Mapping[str, Any]
) -> list[Path]:
    """Write `tables/transfer.csv` (all digits) and `.md`; their paths.

    `arms`: how each network was trained (`training.transfer.describe_arms`); `data`: the record of
    the selection.
    """
    folder = Path(results_dir) / "tables"
    texts = {"csv": table.to_csv(index=False), "md": to_markdown(table, arms, data)}
    for ending, text in texts.items():
        write_text(folder / f"{TABLE}.{ending}", text)
    return [folder / f"{TABLE}.{ending}" for ending in texts]


def to_markdown(table: pd.DataFrame, arms: pd.DataFrame, data: Mapping[str, Any]) -> str:
    """The tables for reading: what was reached, by how much arms differ, how they were trained."""
    tested = f"{table.galaxies.iloc[0]:,} of {data['name']}, profile {data['profile']}"
    head = ["learnt from", "networks", "accuracy", "macro recall"]
    reached = _lines(table[table.less == ""])
    gained = _lines(table[table.less != ""])
    trained = [[str(value) for value in row] for row in arms.round(4).itertuples(index=False)]
    parts = [
        "# From simulated to real galaxies",
        f"Tested on {tested}. In percent: the mean over the networks of an arm, after ± the sample "
        "standard deviation over them, in brackets the 95 % bootstrap interval over test galaxies.",
        _markdown(head, reached),
        "## Differences",
        "In points, on the same test galaxies.",
        _markdown(head, gained),
        "## The trainings",
        "`valid_acc` is of validation galaxies of the kind that a network learnt from last.",
        _markdown(list(arms.columns), trained),
    ]
    return "\n\n".join(parts) + "\n"


def _lines(table: pd.DataFrame) -> list[list[str]]:
    """A line for each arm or difference: its name, its networks, accuracy, macro recall."""
    lines = []
    for (arm, less), rows in table.groupby(["arm", "less"], sort=False):
        name = ARM_NAMES[arm] + (f", less {ARM_NAMES[less]}" if less else "")
        found = rows.set_index("quantity")
        cells = [_cell(found.loc[quantity]) for quantity in (ACCURACY, RECALL_MACRO)]
        lines.append([name, "" if arm == LARGEST else str(rows.seeds.iloc[0]), *cells])
    return lines


def _cell(row: pd.Series) -> str:
    """`61.2 ± 0.8 [57.0, 65.3]`, in percent; differences with their sign."""
    sign = "+" if row.less else ""
    spread = "" if np.isnan(row.spread) else f" ± {100 * row.spread:.1f}"
    ends = ", ".join(f"{100 * end:{sign}.1f}" for end in (row.low, row.high))
    return f"{100 * row.value:{sign}.1f}{spread} [{ends}]"


def _markdown(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
    lines = [heading, ["-" * width for width in widths], *rows]
    padded = (
        " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )
    return "\n".join(f"| {line} |" for line in padded)
