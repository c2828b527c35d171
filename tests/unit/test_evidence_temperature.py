"""Temperature scaling: a known temperature is found, classes stay, galaxies are kept apart."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from gz2vit.calibration import apply_temperature, calibrate, cross_fit, fit_temperature
from gz2vit.io import Gz2vitError


def galaxies(n: int, temperature: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes drawn from a network's logits, and probabilities as if they were `temperature` times
    as large: scaling by `temperature` makes them right again."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, size=(n, 8))
    true = (softmax(logits, axis=1).cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return true, softmax(logits * temperature, axis=1)


def table(true: np.ndarray, probabilities: np.ndarray, prefix: str) -> pd.DataFrame:
    columns = {f"p{index}": probabilities[:, index] for index in range(8)}
    ids = [f"{prefix}{row}" for row in range(len(true))]
    pred = probabilities.argmax(axis=1)
    return pd.DataFrame({"GalaxyID": ids, "class": true, "pred": pred, **columns})


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_a_known_temperature_is_found(temperature: float):
    true, probabilities = galaxies(4000, temperature, seed=0)
    assert fit_temperature(true, probabilities) == pytest.approx(temperature, rel=0.06)


def test_scaling_undoes_itself_and_keeps_the_classes():
    _, probabilities = galaxies(50, 1.0, seed=1)
    hot = apply_temperature(probabilities, 3.0)
    np.testing.assert_allclose(hot.sum(axis=1), 1)
    assert (hot.argmax(axis=1) == probabilities.argmax(axis=1)).all()
    assert (hot.max(axis=1) < probabilities.max(axis=1)).all()
    np.testing.assert_allclose(apply_temperature(hot, 1 / 3), probabilities)
    with pytest.raises(Gz2vitError, match="temperature 0"):
        apply_temperature(probabilities, 0)


def test_probabilities_of_zero_do_not_break_it():
    certain = np.eye(8)[[0, 1, 2, 3]]
    assert np.isfinite(fit_temperature([0, 1, 2, 7], certain))
    assert np.isfinite(apply_temperature(certain, 2.0)).all()


def test_calibration_with_validation_galaxies():
    valid, test = (
        table(*galaxies(2000, 2.0, seed), prefix) for seed, prefix in ((2, "v"), (3, "t"))
    )
    found = calibrate(test, valid)
    assert found.temperature == pytest.approx(2.0, rel=0.1)
    assert found.ece_before.value > 0.15
    assert found.ece_after.value < 0.04
    assert found.overconfidence.low > 0.1
    assert found.log_likelihood_gain.low > 0
    assert found.calibrated_p < 0.001
    confidence = test[[f"p{index}" for index in range(8)]].max(axis=1)
    expected = (confidence - (test["class"] == test["pred"])).mean()
    assert found.overconfidence.value == pytest.approx(expected)


def test_galaxies_in_both_sets_are_refused():
    test = table(*galaxies(20, 1.0, seed=4), "t")
    with pytest.raises(Gz2vitError, match="galaxy t0 is among both .* .20 such"):
        calibrate(test, test)


def test_without_validation_galaxies_each_fold_has_the_others_temperature():
    true, probabilities = galaxies(3000, 2.0, seed=5)
    scaled, temperature = cross_fit(true, probabilities, folds=3)
    assert temperature == pytest.approx(2.0, rel=0.1)
    used = np.log(probabilities[:, 0] / probabilities[:, 1])
    used /= np.log(scaled[:, 0] / scaled[:, 1])
    assert len(np.unique(used.round(6))) == 3
    found = calibrate(table(true, probabilities, "t"))
    assert found.ece_after.value < 0.5 * found.ece_before.value
    with pytest.raises(Gz2vitError, match="4 galaxies do not make 5 folds"):
        cross_fit(true[:4], probabilities[:4])


def test_a_fold_has_no_say_in_its_own_temperature():
    true, probabilities = galaxies(400, 1.0, seed=6)
    scaled, _ = cross_fit(true, probabilities, folds=2, seed=7)
    fold = np.random.default_rng(7).permutation(400) % 2
    own = apply_temperature(
        probabilities[fold == 0], fit_temperature(true[fold == 1], probabilities[fold == 1])
    )
    np.testing.assert_allclose(scaled[fold == 0], own)
