"""Two groups and one property: tests with known answers, effect sizes, empty groups, NaN."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import anderson_ksamp, binom, ks_2samp

from gz2vit.comparisons import _effect_draws, _medians, cliffs_delta, compare_groups, separation
from gz2vit.io import Gz2vitError

pytestmark = pytest.mark.usefixtures("quick_collection")


def test_groups_wholly_apart():
    found = separation([1, 2, 3, 4, 5], [6, 7, 8, 9, 10])
    assert found.ks == 1
    # Of the 252 ways to choose 5 of 10, two are as extreme.
    assert found.ks_p == pytest.approx(2 / 252)
    assert found.ad_p == pytest.approx(2 / 252)
    assert found.cliffs_delta.value == -1
    assert found.median_shift.value == -5
    assert np.isnan(found.cliffs_delta.low)  # five values are too few to draw from


def test_agrees_with_scipy():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=80), rng.normal(0.35, 1.2, size=120)
    found = separation(first, second)
    known = ks_2samp(first, second)
    assert (found.ks, found.ks_p) == (known.statistic, known.pvalue)
    tabulated = anderson_ksamp([first, second], variant="midrank")
    assert found.ad == pytest.approx(tabulated.statistic)
    # scipy interpolates a table where it does not permute.
    assert 0.001 < tabulated.pvalue < 0.25
    assert found.ad_p == pytest.approx(tabulated.pvalue, abs=0.02)


def test_cliffs_delta_by_counting():
    first, second = [1, 2, 2, 5], [2, 3, 0]
    signs = np.sign(np.subtract.outer(first, second))
    assert cliffs_delta(first, second) == pytest.approx(signs.mean())
    assert np.isnan(cliffs_delta([], [1]))


def test_resampled_effects_are_those_of_resampled_galaxies():
    rng = np.random.default_rng(1)
    first, second = rng.integers(9, size=14) * 1.0, rng.integers(12, size=11) * 1.0  # many ties
    fast = np.concatenate(list(_effect_draws(first, second, 2000, seed=2)))
    slow = []
    for _ in range(2000):
        one, other = rng.choice(first, 14), rng.choice(second, 11)
        slow.append([cliffs_delta(one, other), np.median(one) - np.median(other)])
    np.testing.assert_allclose(fast.mean(axis=0), np.mean(slow, axis=0), atol=0.12)
    np.testing.assert_allclose(fast.std(axis=0), np.std(slow, axis=0), rtol=0.1)


def test_medians_of_even_and_odd_numbers():
    different = np.array([1.0, 2.0, 10.0])
    assert _medians(different, np.array([[1.0, 1.0, 1.0], [0, 0, 3]])).tolist() == [2, 10]
    assert _medians(different, np.array([[2.0, 0.0, 2.0], [1, 2, 1]])).tolist() == [5.5, 2]


def test_the_interval_holds_the_truth_as_often_as_it_says():
    hits = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        first, second = rng.normal(0.5, 1, size=60), rng.normal(size=80)
        delta = separation(first, second, resamples=300, permutations=1, seed=seed).cliffs_delta
        hits += delta.low <= 0.2763 <= delta.high  # 2 Phi(0.5 / sqrt 2) - 1
    assert 178 <= hits <= 200


def test_tests_keep_their_level():
    p_values = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        groups = rng.exponential(size=40), rng.exponential(size=25)
        found = separation(*groups, resamples=1, permutations=39, seed=seed)
        p_values.append([found.ks_p, found.ad_p])
    alarms = (np.array(p_values) <= 0.05).sum(axis=0)
    assert (alarms <= binom.ppf(0.999, 200, 0.05)).all()
    assert alarms.min() > 0  # a test that never speaks would pass otherwise


def test_missing_values_are_left_out_and_counted():
    found = separation([1, np.nan, 3], pd.Series([2.0, 4.0, np.nan, np.nan]))
    assert (found.galaxies, found.left_out) == ((2, 2), (1, 2))
    assert found.median_shift.value == -1


def test_an_empty_group():
    found = separation([np.nan], [1.0, 2.0])
    assert found.galaxies == (0, 2)
    assert np.isnan([found.ks_p, found.ad_p, found.cliffs_delta.value]).all()
    assert found.standard_error == np.inf


def test_all_values_equal():
    found = separation([2.0] * 12, [2.0] * 15)
    assert found.ks_p == 1
    assert np.isnan(found.ad_p)
    assert (found.cliffs_delta.low, found.cliffs_delta.high) == (0, 0)


def test_the_same_seed_gives_the_same_numbers():
    rng = np.random.default_rng(3)
    groups = rng.normal(size=30), rng.normal(size=30)
    assert separation(*groups, seed=4) == separation(*groups, seed=4)


def test_groups_of_fig_4():
    rng = np.random.default_rng(5)
    region = np.repeat(["both right", "only first", "only second", "both wrong"], [60, 40, 50, 30])
    size = rng.normal(10, 1, 180) - 2 * (region == "only first")
    joined = pd.DataFrame({"region": region, "size": size})
    joined.loc[0, "size"] = np.nan
    found = compare_groups(joined, ["size"], permutations=99).set_index("comparison")
    assert found["first"].tolist() == [40, 40, 50]
    assert found["second"].tolist() == [50, 139, 129]
    assert found.left_out.tolist() == [0, 1, 1]
    assert found.delta_high["only first against only second"] < -0.5
    assert found.delta_low["only second against the rest"] > 0
    assert (found.ks_p_holm >= found.ks_p).all()
    with pytest.raises(Gz2vitError, match="the galaxies have no dered_r"):
        compare_groups(joined, ["dered_r"])
