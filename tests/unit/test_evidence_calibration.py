"""Reliability and calibration error: known answers, what chance alone makes, bad probabilities."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from gz2vit.calibration import (
    check_probabilities,
    error_if_calibrated,
    expected_calibration_error,
    probabilities_of,
    reliability,
)
from gz2vit.io import Gz2vitError


def sure_of(confidence: np.ndarray, pred: np.ndarray | int = 0) -> np.ndarray:
    """Probabilities (N, 8) with `confidence` in class `pred`, the rest spread over the others."""
    confidence = np.asarray(confidence)
    probabilities = np.repeat((1 - confidence[:, None]) / 7, 8, axis=1)
    probabilities[np.arange(len(confidence)), pred] = confidence
    return probabilities


def test_worked_example():
    # Ten galaxies at 0.9, seven of them right; ten at 0.5, six right: (0.2 + 0.1) / 2.
    probabilities = sure_of(np.repeat([0.9, 0.5], 10))
    true = np.array([0] * 7 + [1] * 3 + [0] * 6 + [1] * 4)
    found = expected_calibration_error(true, probabilities)
    assert found.value == pytest.approx(0.15)
    assert found.low <= 0.15
    table = reliability(true, probabilities)
    assert table.accuracy.tolist() == [0.6, 0.7]
    assert table.confidence.tolist() == pytest.approx([0.5, 0.9])
    assert table.galaxies.tolist() == [10, 10]
    assert table.low_edge.tolist() == pytest.approx([7 / 15, 13 / 15])


def test_errors_within_a_bin_cancel_and_between_bins_do_not():
    true = np.array([0] * 5 + [1] * 5)
    assert expected_calibration_error(true, sure_of(np.full(10, 0.5)), 15).value < 1e-12
    halves = sure_of(np.repeat([0.4, 0.6], 5))
    assert expected_calibration_error(true, halves, bins=15).value == pytest.approx(0.6)
    assert expected_calibration_error(true, halves, bins=1).value < 1e-12


def test_confidence_of_one_is_in_the_last_bin():
    table = reliability([0, 0], sure_of(np.array([1.0, 1.0])))
    assert table.high_edge.tolist() == [1]


def calibrated(n: int, seed: int, excess: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Galaxies that are right as often as the model says, less `excess`."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.4, 0.95, size=n)
    right = rng.random(n) < confidence - excess
    return np.where(right, 0, 1), sure_of(confidence)


def test_a_calibrated_model_passes_and_another_does_not():
    p_values = [error_if_calibrated(*calibrated(300, s), resamples=200)[1] for s in range(200)]
    alarms = np.sum(np.array(p_values) <= 0.05)
    assert 1 <= alarms <= binom.ppf(0.999, 200, 0.05)
    assert error_if_calibrated(*calibrated(300, 0, excess=0.2))[1] < 0.01


def test_the_error_of_a_calibrated_model_is_not_zero():
    errors = [expected_calibration_error(*calibrated(300, s), resamples=1).value for s in range(50)]
    expected = error_if_calibrated(*calibrated(300, 99))[0]
    assert expected == pytest.approx(np.mean(errors), rel=0.15)
    assert expected > 0.03


def test_bad_probabilities_are_named():
    with pytest.raises(Gz2vitError, match="row 1 .* sum 0.8"):
        check_probabilities([[1.0] + [0] * 7, [0.1] * 8])
    with pytest.raises(Gz2vitError, match="row 0 .* smallest entry -1"):
        check_probabilities([[2.0, -1.0] + [0] * 6])
    with pytest.raises(Gz2vitError, match="row 0 .* sum nan"):
        check_probabilities([[np.nan] * 8])
    for shape in ((0, 8), (3, 7), (8,)):
        with pytest.raises(Gz2vitError, match="give .N, 8."):
            check_probabilities(np.zeros(shape))
    with pytest.raises(Gz2vitError, match="3 true classes, but 2 rows"):
        reliability([0, 0, 0], sure_of(np.array([0.5, 0.6])))


def test_probabilities_of_a_table():
    table = pd.DataFrame(sure_of(np.array([0.6, 0.7])), columns=[f"p{index}" for index in range(8)])
    np.testing.assert_allclose(probabilities_of(table)[:, 0], [0.6, 0.7])
    with pytest.raises(Gz2vitError, match="no column p3"):
        probabilities_of(table.drop(columns="p3"))
