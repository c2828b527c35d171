"""How good predictions are: the paper's metrics, the confusion matrix, intervals of a share.

All functions take class indices (0 to 7, in the order of `paper.CLASS_NAMES`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sklearn import metrics

from gz2vit.io import Gz2vitError
from gz2vit.paper import CLASS_COUNT, CLASS_NAMES

ClassIndices = Sequence[int] | np.ndarray | pd.Series
PREDICTION_COLUMNS = ("GalaxyID", "class", "pred")
PROBABILITY_COLUMNS = tuple(f"p{index}" for index in range(CLASS_COUNT))


def classification_metrics(true: ClassIndices, pred: ClassIndices) -> dict:
    """The paper's figures of merit for predictions `pred` (N,) of galaxies of class `true` (N,).

    Returns `accuracy`, `recall_macro`, `f1_macro` (floats, 0 to 1) and `class_acc`, a list of
    eight: the share of each class that was recognised (its recall), NaN for a class without
    galaxies in `true`. The macro averages are scikit-learn's, over the classes that stand in
    `true`: a class that is only ever predicted lowers the others' recall and F1, but has none of
    its own. Raises `Gz2vitError` for empty input, other lengths, or an unknown class.
    """
    true, pred = _check_pair(true, pred)
    present = np.unique(true)
    options = {"labels": present, "average": "macro", "zero_division": 0}
    counts = confusion_matrix(true, pred)
    totals = counts.sum(axis=1)
    with np.errstate(invalid="ignore"):
        class_acc = counts.diagonal() / totals
    return {
        "accuracy": float(metrics.accuracy_score(true, pred)),
        "recall_macro": float(metrics.recall_score(true, pred, **options)),
        "f1_macro": float(metrics.f1_score(true, pred, **options)),
        "class_acc": class_acc.tolist(),
    }


def confusion_matrix(true: ClassIndices, pred: ClassIndices) -> np.ndarray:
    """Counts, int64 (8, 8): row = true class, column = predicted class."""
    true, pred = _check_pair(true, pred)
    return metrics.confusion_matrix(true, pred, labels=range(CLASS_COUNT))


def confusion_percent(counts: np.ndarray) -> np.ndarray:
    """Counts (8, 8) in percent of their row, float64; NaN in a row without galaxies."""
    with np.errstate(invalid="ignore"):
        return 100.0 * counts / counts.sum(axis=1, keepdims=True)


def wilson_interval(successes: int, total: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share, `successes` of `total`, at confidence `level`.

    Source: Wilson 1927; computed by scipy. (nan, nan) where `total` is 0.
    """
    if total == 0:
        return float("nan"), float("nan")
    interval = binomtest(int(successes), int(total)).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def read_predictions(path: Path | str) -> pd.DataFrame:
    """A `predictions.csv`: `GalaxyID` (text), `class`, `pred` (int), and `p0` to `p7` if there.

    Raises `Gz2vitError` that names the file where it is missing, or a column, class or id is off.
    """
    try:
        table = pd.read_csv(path, dtype={"GalaxyID": str})
    except (OSError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise Gz2vitError(f"cannot read predictions {path}: {error}") from error
    for name in PREDICTION_COLUMNS:
        if name not in table:
            raise Gz2vitError(f"{path} has no column {name}")
    for name in ("class", "pred"):
        wrong = table[~table[name].isin(range(CLASS_COUNT))]
        if len(wrong):
            value = wrong[name].iloc[0]
            raise Gz2vitError(f"{path}: galaxy {wrong.GalaxyID.iloc[0]} has {name} {value}")
    repeated = table.GalaxyID[table.GalaxyID.duplicated()]
    if len(repeated):
        raise Gz2vitError(f"{path}: galaxy {repeated.iloc[0]} stands there more than once")
    probabilities = [name for name in PROBABILITY_COLUMNS if name in table]
    if table[probabilities].isna().any(axis=None):
        raise Gz2vitError(f"{path} has probabilities that are not numbers")
    return table


def _check_pair(true: ClassIndices, pred: ClassIndices) -> tuple[np.ndarray, np.ndarray]:
    """Both as int64 (N,), checked."""
    true, pred = (_check(name, values) for name, values in (("true", true), ("pred", pred)))
    if len(true) != len(pred):
        raise Gz2vitError(f"there are {len(true)} true classes, but {len(pred)} predicted ones")
    if len(true) == 0:
        raise Gz2vitError("there are no galaxies to evaluate")
    return true, pred


def _check(name: str, values: ClassIndices) -> np.ndarray:
    """Class indices as int64 (N,); anything else is an error that names the value."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise Gz2vitError(f"'{name}' must be one-dimensional; its shape is {array.shape}")
    wrong = array[~np.isin(array, range(CLASS_COUNT))]
    if len(wrong):
        raise Gz2vitError(f"'{name}' holds {wrong[0]}, which is no class index (0 to 7)")
    return array.astype(np.int64)


# ------------------------------------------------------------------------------------------
# Every metric with what is known of its error: the bootstrap over test galaxies, seeded.
#
# Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", the percentile interval.
#
# The metrics see the galaxies only through the confusion matrix. To draw N galaxies with replacement
# and count them again is to draw the matrix's cells from a multinomial distribution of N draws, so
# that the 31,191 galaxies of the paper cost no more than 31.

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


# ------------------------------------------------------------------------------------------
# Means over galaxies with what is known of their error: the bootstrap, seeded.
#
# Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", the percentile interval.

RESAMPLES_INTERVALS = 10_000  # the ends of a 95 % interval then stand on 250 resamples each
CHUNK = 1_000_000  # numbers drawn at once: 8 MB


@dataclass(frozen=True)
class IntervalIntervals:
    """A mean over `galaxies` galaxies, and the bootstrap interval `low` to `high` of it."""

    value: float
    low: float
    high: float
    galaxies: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] (n = {self.galaxies})"


def bootstrap_interval(
    values: Sequence[float] | np.ndarray,
    level: float = 0.95,
    resamples: int = RESAMPLES_INTERVALS,
    seed: int = 0,
) -> IntervalIntervals:
    """The mean of `values` (B,), one a galaxy, with its percentile interval at `level`.

    Galaxies are drawn with replacement, `resamples` times; the same seed gives the same interval.
    NaN (a galaxy without a value) is left out, and `galaxies` counts the others. Raises
    `Gz2vitError` if none is left, or a level outside 0 to 1.
    """
    values = np.asarray(values, dtype=np.float64).ravel()
    values = values[~np.isnan(values)]
    if len(values) == 0:
        raise Gz2vitError("no galaxy has a value to average; give at least one number")
    if not 0 < level < 1 or resamples < 1:
        raise Gz2vitError(
            f"level {level} and resamples {resamples} make no interval; give a level between 0 and "
            "1 and at least one resample"
        )
    rng = np.random.default_rng(seed)
    at_once = max(1, CHUNK // len(values))
    means = [
        values[rng.integers(len(values), size=(min(at_once, resamples - done), len(values)))].mean(
            1
        )
        for done in range(0, resamples, at_once)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return IntervalIntervals(float(values.mean()), float(low), float(high), len(values))


def paired_difference(
    first: np.ndarray, second: np.ndarray, level: float = 0.95, seed: int = 0
) -> IntervalIntervals:
    """The mean of `first - second` (B,) over the same galaxies, with its bootstrap interval.

    Raises `Gz2vitError` where they are not as many.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise Gz2vitError(
            f"values of shape {first.shape} and {second.shape} are no pairs; give one of each for "
            "the same galaxies"
        )
    return bootstrap_interval(first - second, level, seed=seed)
