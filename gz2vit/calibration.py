"""Is a model right as often as it says? The reliability diagram and the calibration error.

Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv:1706.04599: the expected
calibration error (ECE) over 15 bins of equal width.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import t
from sklearn.metrics import average_precision_score, precision_recall_curve

from gz2vit.evaluation import (
    LEVEL,
    PROBABILITY_COLUMNS,
    RESAMPLES,
    ClassIndices,
    Interval,
    check_bootstrap,
    percentile_bounds,
    wilson_interval,
)
from gz2vit.io import Gz2vitError
from gz2vit.paper import CLASS_COUNT, CLASS_NAMES

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


# ------------------------------------------------------------------------------------------
# Temperature scaling: one number that makes a model neither too sure nor too modest.
#
# Source: Guo et al. 2017, arXiv:1706.04599: logits are divided by the temperature T for which the
# true classes are likeliest. Probabilities serve as logits: log p is a logit less a constant of the
# galaxy's, which softmax does not see. The predicted classes stay what they are.
#
# T must come from other galaxies than those it is judged on: from the validation set, or, where only
# test predictions exist, for each part of the test set from the other parts.

SMALLEST = float(np.finfo(np.float32).tiny)  # the networks' softmax gives 0 below it
TEMPERATURES = (0.02, 50.0)
FOLDS = 5


@dataclass(frozen=True)
class Calibration:
    """A model's calibration before and after scaling, on the galaxies of its test set.

    `temperature`: above 1 where the model is too sure (the folds' mean, where cross-fitted);
    `ece_before`, `ece_after`: expected calibration errors (0 to 1); `ece_if_calibrated`: the mean
    ECE of a perfectly calibrated model with the same confidences, which is not zero, and
    `calibrated_p`, the chance of one as large as `ece_before`; `overconfidence`: mean confidence
    less accuracy, before; `log_likelihood_gain`: what scaling adds to the logarithm of the true
    class's probability, mean over the galaxies. The last two have Student's interval.
    """

    temperature: float
    ece_before: Interval
    ece_after: Interval
    ece_if_calibrated: float
    calibrated_p: float
    overconfidence: Interval
    log_likelihood_gain: Interval


def fit_temperature(true: ClassIndices, probabilities: np.ndarray) -> float:
    """The temperature for which classes `true` (N,) are likeliest, given probabilities (N, 8).

    At the ends of `TEMPERATURES` (a model that is always right would be sharpened for ever) it
    stops. Raises `Gz2vitError` for what are no probabilities.
    """
    true = np.asarray(true)
    confidences(true, probabilities)  # checks that both go together
    logits = _logits(probabilities)
    rows = np.arange(len(true))

    def loss(log_temperature: float) -> float:
        """Mean negative log likelihood of the true classes."""
        scaled = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(scaled[rows, true].mean())

    found = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded")
    return float(np.exp(found.x))


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities (N, 8) at `temperature`: above 1 they come closer to each other."""
    if not temperature > 0:
        raise Gz2vitError(f"temperature {temperature} scales nothing; give one above 0")
    return np.exp(log_softmax(_logits(probabilities) / temperature, axis=1))


def _logits(probabilities: np.ndarray) -> np.ndarray:
    """Logarithms of probabilities, of those that are 0 as of the smallest float32."""
    return np.log(np.maximum(check_probabilities(probabilities), SMALLEST))


def cross_fit(
    true: ClassIndices, probabilities: np.ndarray, folds: int = FOLDS, seed: int = 0
) -> tuple[np.ndarray, float]:
    """Scaled probabilities (N, 8), each fold's at the temperature of the others; the mean one.

    For a test set without validation predictions: no galaxy has a say in its own temperature.
    Raises `Gz2vitError` where there are fewer galaxies than folds.
    """
    true, probabilities = np.asarray(true), check_probabilities(probabilities)
    if not 2 <= folds <= len(true):
        raise Gz2vitError(f"{len(true)} galaxies do not make {folds} folds; give from 2 on, fewer")
    fold = np.random.default_rng(seed).permutation(len(true)) % folds
    scaled, temperatures = np.empty_like(probabilities), []
    for index in range(folds):
        inside = fold == index
        temperatures.append(fit_temperature(true[~inside], probabilities[~inside]))
        scaled[inside] = apply_temperature(probabilities[inside], temperatures[-1])
    return scaled, float(np.mean(temperatures))


def scale(
    test: pd.DataFrame, valid: pd.DataFrame | None = None, seed: int = 0
) -> tuple[np.ndarray, float]:
    """Scaled probabilities of `test` (N, 8), and the temperature; arguments as of `calibrate`."""
    true, before = test["class"].to_numpy(), probabilities_of(test)
    if valid is None:
        return cross_fit(true, before, seed=seed)
    _check_apart(test, valid)
    temperature = fit_temperature(valid["class"].to_numpy(), probabilities_of(valid))
    return apply_temperature(before, temperature), temperature


def calibrate(
    test: pd.DataFrame,
    valid: pd.DataFrame | None = None,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Calibration:
    """Calibration on `test` before and after scaling at the temperature of `valid`.

    Both: predictions as `evaluation.read_predictions` returns them, with p0 to p7. Without `valid`
    the temperature is cross-fitted within `test`. Raises `Gz2vitError` for tables without
    probabilities, or with a galaxy in both.
    """
    true, before = test["class"].to_numpy(), probabilities_of(test)
    after, temperature = scale(test, valid, seed)
    options = {"level": level, "resamples": resamples, "seed": seed}
    confidence, right = confidences(true, before)
    own = np.arange(len(true)), true
    gain = np.log(np.maximum(after[own], SMALLEST)) - np.log(np.maximum(before[own], SMALLEST))
    return Calibration(
        temperature,
        expected_calibration_error(true, before, **options),
        expected_calibration_error(true, after, **options),
        *error_if_calibrated(true, before, resamples=resamples, seed=seed),
        _mean_interval(confidence - right, level),
        _mean_interval(gain, level),
    )


def reliability_pair(
    test: pd.DataFrame, valid: pd.DataFrame | None = None, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The reliability diagrams (`calibration.reliability`) of `test` before and after scaling.

    Arguments as of `calibrate`.
    """
    after, _ = scale(test, valid, seed)
    return reliability(test["class"], probabilities_of(test)), reliability(test["class"], after)


def _check_apart(test: pd.DataFrame, valid: pd.DataFrame) -> None:
    """Raise `Gz2vitError` where a galaxy would be judged at a temperature that it had a say in."""
    shared = test.GalaxyID[test.GalaxyID.isin(valid.GalaxyID)]
    if len(shared):
        raise Gz2vitError(
            f"galaxy {shared.iloc[0]} is among both validation and test predictions "
            f"({len(shared)} such galaxies); fit the temperature on other galaxies"
        )


def _mean_interval(values: np.ndarray, level: float) -> Interval:
    """The mean of `values` (N,) with Student's interval; ends NaN for a single value."""
    n, mean = len(values), float(values.mean())
    if n < 2:
        return Interval(mean, np.nan, np.nan, n, level)
    half = float(t.ppf((1 + level) / 2, n - 1) * values.std(ddof=1) / np.sqrt(n))
    return Interval(mean, mean - half, mean + half, n, level)


# ------------------------------------------------------------------------------------------
# Precision against recall, class by class: how pure a sample of rare galaxies can be made.
#
# Each class against the rest, by its probability; curves and average precision as scikit-learn
# defines them (no interpolation). Guessing has a precision of the class's share at any recall.

CURVE_RESAMPLES = 500  # 2.5 % of them are 12: each costs a pass over all galaxies and classes


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
    resamples: int = CURVE_RESAMPLES,
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
