"""How good predictions are: the paper's metrics, the confusion matrix, intervals of a share.

All functions take class indices (0 to 7, in the order of `paper.CLASS_NAMES`).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sklearn import metrics

from gz2vit.errors import Gz2vitError
from gz2vit.paper import CLASS_COUNT

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
