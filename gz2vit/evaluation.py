"""How good predictions are: the paper's metrics, the confusion matrix, and their intervals.

All functions take class indices (0 to 7, in the order of `paper.CLASS_NAMES`). Intervals are 95 %
percentiles of the seeded bootstrap over galaxies (Efron & Tibshirani 1993); of an accuracy also
Wilson's (1927).
"""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn import metrics
from statsmodels.stats.proportion import proportion_confint

from gz2vit.io import Gz2vitError
from gz2vit.paper import CLASS_COUNT, CLASS_NAMES

ClassIndices = Sequence[int] | np.ndarray | pd.Series
PROBABILITY_COLUMNS = tuple(f"p{index}" for index in range(CLASS_COUNT))
LEVEL = 0.95
RESAMPLES = 2_000  # 50 of them lie beyond either end of a 95 % interval
MEAN_RESAMPLES = 10_000  # means cost little
BATCH = 2_000_000  # numbers drawn at once: 16 MB
QUANTITIES = ("accuracy", "recall_macro", "f1_macro", *["class_acc"] * CLASS_COUNT)


def classification_metrics(true: ClassIndices, pred: ClassIndices) -> dict:
    """`accuracy`, `recall_macro`, `f1_macro` and `class_acc` of predictions (N,) of galaxies (N,).

    `class_acc` is a list of eight recalls, NaN for a class without galaxies in `true`; the macro
    averages are over the classes in `true`. `Gz2vitError` without galaxies or for a wrong class.
    """
    class_acc = metrics_of(confusion_matrix(true, pred)[None])[0, 3:].tolist()
    options = {"labels": np.unique(true), "average": "macro", "zero_division": 0}
    found = {"accuracy": float(metrics.accuracy_score(true, pred))}
    found["recall_macro"] = float(metrics.recall_score(true, pred, **options))
    found["f1_macro"] = float(metrics.f1_score(true, pred, **options))
    return found | {"class_acc": class_acc}


def confusion_matrix(true: ClassIndices, pred: ClassIndices) -> np.ndarray:
    """Counts of true (row) and predicted class, int64 (8, 8); `Gz2vitError` for an unknown one."""
    classes = np.concatenate([true, pred])
    for one in classes[~np.isin(classes, range(CLASS_COUNT))]:
        raise Gz2vitError(f"{one} is not a class index; give classes from 0 to {CLASS_COUNT - 1}")
    if not len(true):
        raise Gz2vitError("no galaxies are given; give the true and predicted class of at least 1")
    true, pred = (np.asarray(one, dtype=int) for one in (true, pred))
    return metrics.confusion_matrix(true, pred, labels=range(CLASS_COUNT))


def confusion_percent(counts: np.ndarray) -> np.ndarray:
    """Counts (8, 8) in percent of their row, float64; NaN in a row without galaxies."""
    with np.errstate(invalid="ignore"):
        return 100.0 * counts / counts.sum(axis=1, keepdims=True)


def read_predictions(path: Path | str) -> pd.DataFrame:
    """`GalaxyID` (text), `class`, `pred` and what else a `predictions.csv` has; checked."""
    unknown = dict.fromkeys(("class", "pred", *PROBABILITY_COLUMNS), ["", "nan"])
    try:  # a galaxy may be called NA
        table = pd.read_csv(path, dtype={"GalaxyID": str}, na_values=unknown, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise Gz2vitError(f"cannot read predictions {path}: {error}") from error
    if missing := [name for name in ("GalaxyID", "class", "pred") if name not in table]:
        raise Gz2vitError(f"{path} has no column {missing[0]}")
    for name in ("class", "pred"):
        for row in table[~table[name].isin(range(CLASS_COUNT))].to_dict("records"):
            raise Gz2vitError(f"{path}: galaxy {row['GalaxyID']} has {name} {row[name]}")
    for galaxy_id in table.GalaxyID[table.GalaxyID.duplicated()]:
        raise Gz2vitError(f"{path}: galaxy {galaxy_id} is listed more than once")
    if table.filter(PROBABILITY_COLUMNS).isna().any(axis=None):
        raise Gz2vitError(f"{path} has probabilities that are not numbers")
    return table.astype({"class": np.int64, "pred": np.int64})


class Interval(NamedTuple):
    """A number measured on `galaxies` galaxies, and its confidence interval."""

    value: float
    low: float
    high: float
    galaxies: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] (n = {self.galaxies:,})"


def wilson_interval(successes: ClassIndices | int, total: ClassIndices | int) -> np.ndarray:
    """Wilson's interval of `successes` of `total`, (2,) or (2, N); NaN where `total` is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ends = proportion_confint(np.asarray(successes), np.asarray(total), 1 - LEVEL, "wilson")
    return np.clip(ends, 0, 1)


def bootstrap(
    statistic: Callable[..., np.ndarray], *galaxies: int, resamples: int, seed: int = 0
) -> np.ndarray:
    """`statistic` of galaxies drawn with replacement, (R, ...), drawn as scipy's `bootstrap` does.

    `statistic` takes the indices of the galaxies drawn, (rows, N) for each group of N `galaxies`,
    and returns (rows, ...). scipy's refuses groups of one, and warns where a rare class is missing.
    """
    rng = np.random.default_rng(seed)
    at_once = max(1, BATCH // sum(galaxies))
    batches = [min(at_once, resamples - done) for done in range(0, resamples, at_once)]
    draws = [statistic(*(rng.integers(n, size=(rows, n)) for n in galaxies)) for rows in batches]
    return np.concatenate(draws)


def percentile_bounds(draws: np.ndarray) -> np.ndarray:
    """The percentile interval of `draws` (R, ...), without those that are NaN: (2, ...)."""
    if not len(draws):
        raise Gz2vitError("without resamples there is no interval; set RESAMPLES to at least 1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # columns of NaN alone stay NaN
        return np.nanquantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)


def count_rows(numbers: np.ndarray, size: int, weights: np.ndarray | None = None) -> np.ndarray:
    """`np.bincount` of each row of `numbers` (R, N; 0 to size - 1), with `weights` (R, N)."""
    flat = (numbers + np.arange(len(numbers))[:, None] * size).ravel()
    weights = weights if weights is None else weights.ravel()
    return np.bincount(flat, weights, len(numbers) * size).reshape(-1, size)


def bootstrap_interval(values: Sequence[float] | np.ndarray, seed: int = 0) -> Interval:
    """The mean of `values` (N,) without NaN; `Gz2vitError` where nothing is left."""
    values = pd.Series(values, dtype=np.float64).dropna().to_numpy()
    if not len(values):
        raise Gz2vitError("no galaxy has a value to average; give at least one number")
    options = {"resamples": MEAN_RESAMPLES, "seed": seed}
    draws = bootstrap(lambda rows: values[rows].mean(axis=1), len(values), **options)
    return Interval(float(values.mean()), *map(float, percentile_bounds(draws)), len(values))


def metric_intervals(true: ClassIndices, pred: ClassIndices) -> pd.DataFrame:
    """All metrics of `classification_metrics` with their intervals, a row for each.

    Columns: `quantity`, `class_name` (of `class_acc`), `value`, `low`, `high` (bootstrap),
    `wilson_low`, `wilson_high` (of a proportion), `galaxies`. Of a class with few galaxies, or all
    right, quote Wilson's: the bootstrap calls 7 of 7 certain.
    """
    counts, found = confusion_matrix(true, pred), classification_metrics(true, pred)
    low, high = percentile_bounds(metrics_of(resample_table(counts)))
    galaxies = np.array([*[counts.sum()] * 3, *counts.sum(axis=1)])
    wilson = wilson_interval([counts.trace(), 0, 0, *counts.diagonal()], galaxies)
    wilson[:, 1:3] = np.nan  # the macro averages are not proportions
    values = [*(found[name] for name in QUANTITIES[:3]), *found["class_acc"]]
    table = {"quantity": QUANTITIES, "class_name": ("", "", "", *CLASS_NAMES), "value": values}
    ends = {"low": low, "high": high, "wilson_low": wilson[0], "wilson_high": wilson[1]}
    return pd.DataFrame(table | ends | {"galaxies": galaxies})


def metrics_of(counts: np.ndarray) -> np.ndarray:
    """The metrics of confusion matrices `counts` (R, 8, 8), float64 (R, 11), as `QUANTITIES`."""
    right = np.diagonal(counts, axis1=1, axis2=2).astype(np.float64)
    true, pred = counts.sum(axis=2), counts.sum(axis=1)
    present = true > 0
    class_acc = np.divide(right, true, out=np.full(right.shape, np.nan), where=present)
    f1 = np.divide(2 * right, true + pred, out=np.zeros(right.shape), where=present)
    macro = [each.sum(axis=1) / present.sum(axis=1) for each in (np.nan_to_num(class_acc), f1)]
    return np.column_stack([right.sum(axis=1) / true.sum(axis=1), *macro, class_acc])


def resample_table(counts: np.ndarray) -> np.ndarray:
    """Counts of galaxies (any shape) redrawn with replacement, int64 (R, ...): a multinomial."""
    filled, rng = counts > 0, np.random.default_rng(0)
    drawn = np.zeros((RESAMPLES, *counts.shape), dtype=np.int64)
    drawn[:, filled] = rng.multinomial(counts.sum(), counts[filled] / counts.sum(), RESAMPLES)
    return drawn
