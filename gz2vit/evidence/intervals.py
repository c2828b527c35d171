"""Every metric with what is known of its error: the bootstrap over test galaxies, seeded.

Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", the percentile interval.

The metrics see the galaxies only through the confusion matrix. To draw N galaxies with replacement
and count them again is to draw the matrix's cells from a multinomial distribution of N draws, so
that the 31,191 galaxies of the paper cost no more than 31.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from gz2vit.errors import Gz2vitError
from gz2vit.evaluation import (
    ClassIndices,
    classification_metrics,
    confusion_matrix,
    wilson_interval,
)
from gz2vit.paper import CLASS_COUNT, CLASS_NAMES

LEVEL = 0.95
RESAMPLES = 2_000  # the ends of a 95 % interval then stand on 50 resamples each
QUANTITIES = ("accuracy", "recall_macro", "f1_macro", *["class_acc"] * CLASS_COUNT)
QUANTITY_CLASSES = ("", "", "", *CLASS_NAMES)


@dataclass(frozen=True)
class Interval:
    """A number found on `galaxies` galaxies, and its confidence interval, `low` to `high`."""

    value: float
    low: float
    high: float
    galaxies: int
    level: float = LEVEL

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] (n = {self.galaxies:,})"


def check_bootstrap(level: float, resamples: int) -> None:
    """Raise `Gz2vitError` where `level` is not between 0 and 1, or nothing would be drawn."""
    if not 0 < level < 1 or resamples < 1:
        raise Gz2vitError(
            f"level {level} and resamples {resamples} make no interval; give a level between 0 and "
            "1 and at least one resample"
        )


def percentile_bounds(draws: np.ndarray, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """The ends (low, high) of the percentile interval of `draws` (R, ...), each of shape (...).

    NaN draws (a resample in which the quantity is not defined) are left out; a column of nothing
    else has NaN ends.
    """
    tails = [(1 - level) / 2, (1 + level) / 2]
    defined = ~np.isnan(draws).all(axis=0)
    bounds = np.full((2, *draws.shape[1:]), np.nan)
    bounds[:, defined] = np.nanquantile(draws[:, defined], tails, axis=0)
    return bounds[0], bounds[1]


def metric_intervals(
    true: ClassIndices,
    pred: ClassIndices,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
    stratified: bool = False,
) -> pd.DataFrame:
    """All metrics of `evaluation.classification_metrics` with their intervals, a row for each.

    Columns: `quantity`, `class_name` (of `class_acc`, else empty), `value`, `low`, `high` (the
    bootstrap's), `wilson_low`, `wilson_high` (of a share, else NaN), `galaxies` (those that the
    quantity is a share of). A class without galaxies has NaN throughout.

    Not stratified by default: the paper's test set is a random fifth of its galaxies, so its class
    mix is a matter of chance too, and the interval must hold that chance. `stratified=True` keeps
    each class's number of galaxies, for a test set made with fixed numbers.

    Where a class has few galaxies, or all of them are right or wrong, the bootstrap knows too
    little (it never draws what it has not seen, and calls 7 of 7 certain): quote Wilson's interval
    of `class_acc`, and expect that of the macro averages to be somewhat too narrow.

    Raises `Gz2vitError` as `classification_metrics` does, and for an impossible level.
    """
    check_bootstrap(level, resamples)
    counts = confusion_matrix(true, pred)
    draws = metrics_of(resample_confusion(counts, resamples, seed, stratified))
    low, high = percentile_bounds(draws, level)
    found = classification_metrics(true, pred)
    values = [*(found[name] for name in QUANTITIES[:3]), *found["class_acc"]]
    wilson = [wilson_interval(*share, level) for share in _shares(counts)]
    wilson[1:1] = [(np.nan, np.nan)] * 2  # the macro averages are no shares
    columns = {"quantity": QUANTITIES, "class_name": QUANTITY_CLASSES, "value": values}
    columns |= {"low": low, "high": high}
    columns |= dict(zip(("wilson_low", "wilson_high"), zip(*wilson, strict=True), strict=True))
    return pd.DataFrame(columns | {"galaxies": [*[counts.sum()] * 3, *counts.sum(axis=1)]})


def _shares(counts: np.ndarray) -> list[tuple[int, int]]:
    """(right, galaxies) of all classes together, then of each."""
    rows = zip(counts.diagonal(), counts.sum(axis=1), strict=True)
    return [(counts.trace(), counts.sum()), *rows]


def metrics_of(counts: np.ndarray) -> np.ndarray:
    """The metrics of confusion matrices `counts` (R, 8, 8), float64 (R, 11).

    Columns as `QUANTITIES`; the same definitions as `evaluation.classification_metrics`.
    """
    right = np.diagonal(counts, axis1=1, axis2=2).astype(np.float64)
    true, pred = counts.sum(axis=2), counts.sum(axis=1)
    present = true > 0
    with np.errstate(invalid="ignore"):
        class_acc = right / np.where(present, true, np.nan)
        f1 = np.where(present, 2 * right / np.where(present, true + pred, 1), 0)
        classes = present.sum(axis=1)
        recall_macro = np.where(present, class_acc, 0).sum(axis=1) / classes
        accuracy = right.sum(axis=1) / true.sum(axis=1)
    return np.column_stack([accuracy, recall_macro, f1.sum(axis=1) / classes, class_acc])


def resample_confusion(
    counts: np.ndarray, resamples: int, seed: int = 0, stratified: bool = False
) -> np.ndarray:
    """Confusion matrices of resampled galaxies, int64 (R, 8, 8), of `counts` (8, 8)."""
    if not stratified:
        return resample_table(counts, resamples, seed)
    totals = counts.sum(axis=1)
    # A row without galaxies draws none, from whatever distribution.
    shares = np.where(totals[:, None] > 0, counts / np.maximum(totals, 1)[:, None], 1 / CLASS_COUNT)
    rng = np.random.default_rng(seed)
    return rng.multinomial(totals, shares, size=(resamples, CLASS_COUNT))


def resample_table(counts: np.ndarray, resamples: int, seed: int = 0) -> np.ndarray:
    """Tables of as many galaxies as `counts` (any shape), redrawn from it, int64 (R, ...)."""
    filled = counts > 0
    drawn = np.zeros((resamples, *counts.shape), dtype=np.int64)
    rng = np.random.default_rng(seed)
    shares = counts[filled] / counts.sum()
    drawn[:, filled] = rng.multinomial(counts.sum(), shares, size=resamples)
    return drawn
