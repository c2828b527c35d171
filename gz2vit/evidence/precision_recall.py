"""Precision against recall, class by class: how pure a sample of rare galaxies can be made.

Each class against the rest, by its probability; curves and average precision as scikit-learn
defines them (no interpolation). Guessing has a precision of the class's share at any recall.
"""

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, precision_recall_curve

from gz2vit.evaluation import ClassIndices
from gz2vit.evidence.calibration import check_probabilities, confidences
from gz2vit.evidence.intervals import LEVEL, check_bootstrap, percentile_bounds
from gz2vit.paper import CLASS_NAMES

RESAMPLES = 500  # 2.5 % of them are 12: each costs a pass over all galaxies and classes
CHUNK = 2_000_000  # numbers drawn at once: 16 MB


def precision_recall_curves(true: ClassIndices, probabilities: np.ndarray) -> pd.DataFrame:
    """The curve of each class that has galaxies, from classes (N,) and probabilities (N, 8).

    Columns: `class_name`, `threshold`, `precision`, `recall` of calling a galaxy of this class if
    its probability is at least `threshold`; recall falls from 1. scikit-learn's end point (1, 0)
    has the threshold inf. Raises `Gz2vitError` for what are no probabilities.
    """
    true, probabilities = _check(true, probabilities)
    curves = []
    for index, name in enumerate(CLASS_NAMES):
        positive = true == index
        if positive.any():
            precision, recall, threshold = precision_recall_curve(positive, probabilities[:, index])
            columns = {"threshold": np.append(threshold, np.inf)}
            columns |= {"precision": precision, "recall": recall}
            curves.append(pd.DataFrame(columns).assign(class_name=name))
    names = ["class_name", "threshold", "precision", "recall"]
    return pd.concat(curves, ignore_index=True)[names]


def average_precisions(
    true: ClassIndices,
    probabilities: np.ndarray,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """The area under each class's curve with its bootstrap interval, a row for each class.

    Columns: `class_name`, `average_precision`, `low`, `high`, `share` (that of guessing),
    `galaxies` (of the class). A class without galaxies has NaN. Raises `Gz2vitError` for what are
    no probabilities, and an impossible level.
    """
    check_bootstrap(level, resamples)
    true, probabilities = _check(true, probabilities)
    positive = true[:, None] == np.arange(len(CLASS_NAMES))
    values = [
        average_precision_score(own, score) if own.any() else np.nan
        for own, score in zip(positive.T, probabilities.T, strict=True)
    ]
    low, high = percentile_bounds(_draws(positive, probabilities, resamples, seed), level)
    columns = {"class_name": CLASS_NAMES, "average_precision": values, "low": low, "high": high}
    counts = {"share": positive.mean(axis=0), "galaxies": positive.sum(axis=0)}
    return pd.DataFrame(columns | counts)


def _check(true: ClassIndices, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays, checked."""
    confidences(true, probabilities)
    return np.asarray(true), check_probabilities(probabilities)


def _draws(
    positive: np.ndarray, probabilities: np.ndarray, resamples: int, seed: int
) -> np.ndarray:
    """Average precisions of resampled galaxies, (R, 8)."""
    n, rng, drawn = len(positive), np.random.default_rng(seed), []
    at_once = max(1, CHUNK // n)
    columns = list(zip(positive.T, probabilities.T, strict=True))
    for done in range(0, resamples, at_once):
        rows = min(at_once, resamples - done)
        chosen = rng.integers(n, size=(rows, n)) + np.arange(rows)[:, None] * n
        weights = np.bincount(chosen.ravel(), minlength=rows * n).reshape(rows, n)
        drawn.append(np.column_stack([_weighted(own, score, weights) for own, score in columns]))
    return np.concatenate(drawn)


def _weighted(positive: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision (R,) of galaxies that count `weights` (R, N) times each."""
    order = np.argsort(-score, kind="stable")
    # Galaxies of equal probability come in together: sums are read at each group's last one.
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    weights = weights[:, order]
    called = weights.cumsum(axis=1)[:, last]
    hits = (weights * positive[order]).cumsum(axis=1)[:, last]
    with np.errstate(invalid="ignore"):
        recall_steps = np.diff(hits, axis=1, prepend=0) / hits[:, -1:]
    return (recall_steps * hits / np.maximum(called, 1)).sum(axis=1)
