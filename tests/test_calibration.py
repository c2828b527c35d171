"""Calibration, temperature scaling, precision and recall: known answers, and what chance makes."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from scipy.stats import binom, ttest_1samp
from sklearn.metrics import average_precision_score

from gz2vit import calibration as cal
from gz2vit.calibration import apply_temperature, calibrate, fit_temperature, reliability
from gz2vit.io import Gz2vitError


def sure_of(confidence: np.ndarray) -> np.ndarray:
    """Probabilities (N, 8) with `confidence` in class 0, the rest spread over the others."""
    confidence = np.asarray(confidence)[:, None]
    return np.hstack([confidence, np.repeat((1 - confidence) / 7, 7, axis=1)])


def calibrated(n: int, seed: int, excess: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Galaxies that are right as often as the model says, less `excess`."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.4, 0.95, size=n)
    return np.where(rng.random(n) < confidence - excess, 0, 1), sure_of(confidence)


def galaxies(n: int, temperature: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes drawn from a network's logits, and probabilities as if they were `temperature` times
    as large: scaling by `temperature` makes them right again."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, size=(n, 8))
    true = (softmax(logits, axis=1).cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return true, softmax(logits * temperature, axis=1)


def table(true: np.ndarray, probabilities: np.ndarray, prefix: str = "t") -> pd.DataFrame:
    about = {"GalaxyID": [f"{prefix}{row}" for row in range(len(true))], "class": true}
    about["pred"] = probabilities.argmax(axis=1)
    return pd.DataFrame(about | {f"p{index}": probabilities[:, index] for index in range(8)})


def test_worked_example():
    # Ten galaxies at 0.9, seven of them right; ten at 0.5, six right: (0.2 + 0.1) / 2.
    probabilities = sure_of(np.repeat([0.9, 0.5], 10))
    true = np.array([0] * 7 + [1] * 3 + [0] * 6 + [1] * 4)
    value, low, high = cal.expected_calibration_error(true, probabilities)
    assert value == pytest.approx(0.15) and 0 <= low <= 0.15 <= high
    found = reliability(true, probabilities)
    rows = found.reset_index()[["index", "accuracy", "confidence", "galaxies"]].to_numpy()
    assert rows == pytest.approx(np.array([[7, 0.6, 0.5, 10], [13, 0.7, 0.9, 10]]))  # of 15 bins
    assert reliability([0, 0], sure_of([1.0, 1.0])).index.tolist() == [14]
    # Errors within a bin cancel, and between bins they do not.
    true, halves = np.array([0] * 5 + [1] * 5), sure_of(np.repeat([0.4, 0.6], 5))
    assert cal.expected_calibration_error(true, halves, bins=15)[0] == pytest.approx(0.6)
    assert cal.expected_calibration_error(true, halves, bins=1)[0] < 1e-12


def test_a_calibrated_model_passes_and_another_does_not():
    p_values = [cal.error_if_calibrated(*calibrated(300, s), resamples=200)[1] for s in range(100)]
    assert 1 <= np.sum(np.array(p_values) <= 0.05) <= binom.ppf(0.999, 100, 0.05)
    assert cal.error_if_calibrated(*calibrated(300, 0, excess=0.2))[1] < 0.01
    error_of = cal.expected_calibration_error
    errors = [error_of(*calibrated(300, s), resamples=1)[0] for s in range(50)]
    expected = cal.error_if_calibrated(*calibrated(300, 99))[0]
    assert expected == pytest.approx(np.mean(errors), rel=0.15) and expected > 0.03
    assert error_of(*calibrated(300, 1), resamples=200)[1] == 0  # noise alone


def test_bad_probabilities_are_named():
    good = table(np.zeros(2, int), sure_of([0.6, 0.7]))
    np.testing.assert_allclose(cal.probabilities_of(good)[:, 0], [0.6, 0.7])
    assert cal.has_probabilities(good) and not cal.has_probabilities(good.drop(columns="p3"))
    for wrong, value in (([0.1] * 8, "0.8"), ([2, -1] + [0] * 6, "-1"), ([np.nan] * 8, "nan")):
        bad = table(np.zeros(2, int), np.array([[1.0] + [0] * 7, wrong]))
        with pytest.raises(Gz2vitError, match=f"galaxy t1 .*{value}"):
            cal.probabilities_of(bad)


def test_a_known_temperature_is_found_and_scaling_undoes_itself():
    for temperature in (0.5, 1.0, 2.5):
        true, probabilities = galaxies(4000, temperature, seed=0)
        assert fit_temperature(true, probabilities) == pytest.approx(temperature, rel=0.06)
    hot = apply_temperature(probabilities, 3.0)
    assert (hot.argmax(axis=1) == probabilities.argmax(axis=1)).all()
    assert (hot.max(axis=1) < probabilities.max(axis=1)).all()
    np.testing.assert_allclose(apply_temperature(hot, 1 / 3), probabilities)
    certain = np.eye(8)[[0, 1, 2, 3]]
    scaled = apply_temperature(certain, fit_temperature([0, 1, 2, 7], certain))
    assert np.isfinite(scaled).all()


def test_calibration_with_validation_galaxies():
    valid, test = (table(*galaxies(2000, 2.0, seed), name) for seed, name in ((2, "v"), (3, "t")))
    found = calibrate(test, valid)
    value = found.value
    assert value.temperature == pytest.approx(2.0, rel=0.1)
    assert value.ece_before > 0.15 and value.ece_after < 0.04
    assert found.low.overconfidence > 0.1 and found.low.log_likelihood_gain > 0
    assert found.p_value.ece_before < 0.001 and (found.n == 2000).all()
    gap = test[[f"p{index}" for index in range(8)]].max(axis=1) - (test["class"] == test["pred"])
    known, row = ttest_1samp(gap, 0), found.loc["overconfidence"]
    assert (row.value, row.p_value) == pytest.approx((gap.mean(), known.pvalue))
    assert (row.low, row.high) == pytest.approx(tuple(known.confidence_interval()))
    after = reliability(test["class"], cal.scale(test, valid)[0])
    gap = np.average(after.accuracy - after.confidence, weights=after.galaxies)
    assert gap == pytest.approx(0, abs=0.03) and after.galaxies.sum() == 2000


def test_without_validation_galaxies_no_fold_influences_its_own_temperature():
    true, probabilities = galaxies(400, 2.0, seed=6)
    scaled, temperature = cal.scale(table(true, probabilities), folds=2)
    assert temperature == pytest.approx(2.0, rel=0.3)
    fold = np.random.default_rng(0).permutation(400) % 2
    own = fit_temperature(true[fold == 1], probabilities[fold == 1])
    expected = apply_temperature(probabilities[fold == 0], own)
    np.testing.assert_allclose(scaled[fold == 0], expected, rtol=1e-6)
    found = calibrate(table(true, probabilities), resamples=50)
    assert found.value.ece_after < 0.5 * found.value.ece_before
    with pytest.raises(Gz2vitError, match="4 galaxies .*5 folds"):
        cal.scale(table(true[:4], probabilities[:4]))


def test_areas_by_hand_and_scikit_learns():
    scores = np.array([0.9, 0.8, 0.7, 0.6])
    probabilities = np.column_stack([scores, 1 - scores, np.zeros((4, 6))])
    areas = cal.average_precisions([0, 1, 0, 1], probabilities)
    assert areas.average_precision[0] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert areas.loc[7, ["average_precision", "low", "high"]].isna().all()
    assert areas.galaxies[7] == 0
    rng = np.random.default_rng(0)
    score = rng.random(200).round(1)  # many galaxies of equal probability
    positive = rng.random(200) < 0.3 + 0.4 * score
    drawn = rng.integers(200, size=(5, 200))
    expected = [average_precision_score(positive[row], score[row]) for row in drawn]
    np.testing.assert_allclose(cal._areas(positive, score, drawn), expected)


def test_intervals_of_areas_hold_the_value_and_shrink_with_galaxies():
    few, many = (cal.average_precisions(*galaxies(n, 1.0, 1), resamples=200) for n in (200, 1800))
    for found in (few, many):
        assert found.average_precision.between(found.low, found.high).all()
    assert (many.high - many.low).mean() == pytest.approx((few.high - few.low).mean() / 3, rel=0.35)
    assert many.share.sum() == pytest.approx(1) and many.galaxies.sum() == 1800
