"""Temperature scaling: one number that makes a model neither too sure nor too modest.

Source: Guo et al. 2017, arXiv:1706.04599: logits are divided by the temperature T for which the
true classes are likeliest. Probabilities serve as logits: log p is a logit less a constant of the
galaxy's, which softmax does not see. The predicted classes stay what they are.

T must come from other galaxies than those it is judged on: from the validation set, or, where only
test predictions exist, for each part of the test set from the other parts.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import t

from gz2vit.errors import Gz2vitError
from gz2vit.evaluation import ClassIndices
from gz2vit.evidence.calibration import (
    check_probabilities,
    confidences,
    error_if_calibrated,
    expected_calibration_error,
    probabilities_of,
    reliability,
)
from gz2vit.evidence.intervals import LEVEL, RESAMPLES, Interval

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
