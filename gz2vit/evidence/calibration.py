"""Is a model right as often as it says? The reliability diagram and the calibration error.

Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv:1706.04599: the expected
calibration error (ECE) over 15 bins of equal width.
"""

import numpy as np
import pandas as pd

from gz2vit.errors import Gz2vitError
from gz2vit.evaluation import PROBABILITY_COLUMNS, ClassIndices, wilson_interval
from gz2vit.evidence.intervals import (
    LEVEL,
    RESAMPLES,
    Interval,
    check_bootstrap,
    percentile_bounds,
)
from gz2vit.paper import CLASS_COUNT

BINS = 15
SUM_TOLERANCE = 1e-3  # probabilities rounded to four digits still pass
CHUNK = 2_000_000  # numbers drawn at once: 16 MB


def probabilities_of(table: pd.DataFrame) -> np.ndarray:
    """`p0` to `p7` of a table of predictions, float64 (N, 8), each row's sum 1.

    Raises `Gz2vitError` where they are not in the table, or are no probabilities.
    """
    if missing := [name for name in PROBABILITY_COLUMNS if name not in table]:
        raise Gz2vitError(
            f"the predictions have no column {missing[0]}, and calibration needs all of p0 to p7; "
            "predict again with this version"
        )
    return check_probabilities(table[list(PROBABILITY_COLUMNS)].to_numpy(np.float64))


def check_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities (N, 8), their rows scaled to sum 1 exactly.

    Raises `Gz2vitError` for another shape, none at all, or rows that are no probabilities.
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if probabilities.ndim != 2 or probabilities.shape[1] != CLASS_COUNT or not len(probabilities):
        raise Gz2vitError(
            f"probabilities have shape {probabilities.shape}; give (N, {CLASS_COUNT})"
        )
    totals = probabilities.sum(axis=1)
    good = (probabilities >= 0).all(axis=1) & (np.abs(totals - 1) <= SUM_TOLERANCE)
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        raise Gz2vitError(
            f"row {row} of the probabilities has sum {totals[row]:.4g} and smallest entry "
            f"{probabilities[row].min():.4g}; give softmax outputs"
        )
    return probabilities / totals[:, None]


def confidences(true: ClassIndices, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest probability of each galaxy (N,), and whether its class is right, bool (N,)."""
    true, probabilities = np.asarray(true), check_probabilities(probabilities)
    if true.shape != (len(probabilities),):
        raise Gz2vitError(
            f"there are {true.size} true classes, but {len(probabilities)} rows of probabilities"
        )
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == true


def reliability(
    true: ClassIndices, probabilities: np.ndarray, bins: int = BINS, level: float = LEVEL
) -> pd.DataFrame:
    """The reliability diagram, a row for each bin of confidence that holds galaxies.

    Columns: `low_edge`, `high_edge`, `confidence` (mean), `galaxies`, `right`, `accuracy`, `low`,
    `high` (Wilson).
    """
    confidence, right = confidences(true, probabilities)
    number = _bin_numbers(confidence, bins)
    rows = []
    for index in np.unique(number):
        inside = number == index
        n, k = int(inside.sum()), int(right[inside].sum())
        edges = (index / bins, (index + 1) / bins)
        ends = wilson_interval(k, n, level)
        rows.append((*edges, confidence[inside].mean(), n, k, k / n, *ends))
    names = ["low_edge", "high_edge", "confidence", "galaxies", "right", "accuracy"]
    return pd.DataFrame(rows, columns=[*names, "low", "high"])


def _bin_numbers(confidence: np.ndarray, bins: int) -> np.ndarray:
    """The bin of each confidence (0 to bins - 1); a bin holds its upper edge, as Guo et al.'s."""
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def expected_calibration_error(
    true: ClassIndices,
    probabilities: np.ndarray,
    bins: int = BINS,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The ECE with its bootstrap interval: mean |confidence - accuracy|, bins by their galaxies.

    An absolute value grows with noise: resamples have a larger ECE than the sample, as the sample
    has a larger one than the truth. So the interval is the basic one (Efron & Tibshirani 1993),
    which mirrors the resamples at the value and thereby moves to the other side; 0 at least.
    """
    check_bootstrap(level, resamples)
    confidence, right = confidences(true, probabilities)
    number, gap, n = _bin_numbers(confidence, bins), confidence - right, len(right)
    value = float(_ece(number[None], gap[None], bins)[0])
    rng, draws = np.random.default_rng(seed), []
    at_once = max(1, CHUNK // n)
    for done in range(0, resamples, at_once):
        rows = min(at_once, resamples - done)
        chosen = rng.integers(n, size=(rows, n))
        draws.append(_ece(number[chosen], gap[chosen], bins))
    low, high = percentile_bounds(np.concatenate(draws), level)
    return Interval(value, max(0.0, float(2 * value - high)), float(2 * value - low), n, level)


def error_if_calibrated(
    true: ClassIndices,
    probabilities: np.ndarray,
    bins: int = BINS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """The mean ECE that a perfectly calibrated model with these confidences would show, and p.

    Each galaxy is right with the probability that the model gives (consistency resampling, Bröcker
    & Smith 2007). p: the chance of an ECE as large as the one found, 1 / (resamples + 1) at least.
    """
    check_bootstrap(LEVEL, resamples)
    confidence, right = confidences(true, probabilities)
    number, n = _bin_numbers(confidence, bins), len(right)
    found = _ece(number[None], (confidence - right)[None], bins)[0]
    rng, draws = np.random.default_rng(seed), []
    at_once = max(1, CHUNK // n)
    for done in range(0, resamples, at_once):
        rows = min(at_once, resamples - done)
        gap = confidence - (rng.random((rows, n)) < confidence)
        draws.append(_ece(np.broadcast_to(number, gap.shape), gap, bins))
    drawn = np.concatenate(draws)
    return float(drawn.mean()), float((1 + (drawn >= found).sum()) / (1 + resamples))


def _ece(number: np.ndarray, gap: np.ndarray, bins: int) -> np.ndarray:
    """The ECE of each row (R,), of bin numbers and of confidence less rightness, both (R, N)."""
    rows, n = number.shape
    flat = (number + np.arange(rows)[:, None] * bins).ravel()
    sums = np.bincount(flat, gap.ravel(), rows * bins).reshape(rows, bins)
    return np.abs(sums).sum(axis=1) / n
