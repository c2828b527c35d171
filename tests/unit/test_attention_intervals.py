"""gz2vit.attention.intervals: seeded, and as wide as theory says."""

import numpy as np
import pytest

from gz2vit.evaluation import bootstrap_interval, paired_difference
from gz2vit.io import Gz2vitError


def test_the_interval_of_a_normal_sample_is_that_of_its_standard_error():
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    found = bootstrap_interval(values)
    error = values.std() / np.sqrt(len(values))
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.02)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.02)
    assert found.galaxies == 400
    narrow = bootstrap_interval(values, level=0.5)
    assert narrow.high == pytest.approx(values.mean() + 0.674 * error, abs=0.02)


def test_95_percent_of_the_intervals_hold_the_truth():
    rng = np.random.default_rng(2)
    samples = rng.exponential(1.0, (300, 80))
    found = [bootstrap_interval(sample, resamples=500) for sample in samples]
    covered = np.mean([one.low <= 1.0 <= one.high for one in found])
    assert 0.89 < covered < 0.99


def test_a_seed_gives_one_interval_and_another_seed_another():
    values = np.random.default_rng(3).random(30)
    assert bootstrap_interval(values, seed=5) == bootstrap_interval(values, seed=5)
    assert bootstrap_interval(values, seed=5) != bootstrap_interval(values, seed=6)


def test_galaxies_without_a_value_are_left_out():
    found = bootstrap_interval([1.0, np.nan, 3.0])
    assert (found.value, found.galaxies) == (2.0, 2)
    assert str(bootstrap_interval([0.5])) == "0.500 [0.500, 0.500] (n = 1)"


def test_many_galaxies_are_drawn_in_pieces(monkeypatch: pytest.MonkeyPatch):
    values = np.random.default_rng(4).random(50)
    whole = bootstrap_interval(values, resamples=999)
    monkeypatch.setattr("gz2vit.evaluation.CHUNK", 120)
    assert bootstrap_interval(values, resamples=999) == whole


def test_pairs_cancel_what_galaxies_share():
    rng = np.random.default_rng(5)
    galaxy = rng.normal(0, 10, 100)
    found = paired_difference(galaxy + rng.normal(1.0, 0.1, 100), galaxy)
    assert 0.9 < found.low < found.value < found.high < 1.1


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([], {}, "no galaxy has a value"),
        ([np.nan], {}, "no galaxy has a value"),
        ([1.0], {"level": 1.0}, "level 1.0 and resamples 10000 make no interval"),
        ([1.0], {"resamples": 0}, "make no interval"),
    ],
)
def test_what_makes_no_interval(values: list, options: dict, message: str):
    with pytest.raises(Gz2vitError, match=message):
        bootstrap_interval(values, **options)


def test_what_makes_no_pairs():
    with pytest.raises(Gz2vitError, match=r"shape \(2,\) and \(3,\) are no pairs"):
        paired_difference(np.zeros(2), np.zeros(3))
