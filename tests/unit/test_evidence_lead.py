"""Does a lead depend on a property: against statsmodels, with known effects, with too little."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom
from statsmodels.discrete.conditional_models import ConditionalLogit
from statsmodels.discrete.discrete_model import Logit

from gz2vit.comparisons import lead_trend
from gz2vit.io import Gz2vitError


def answers(n: int, slope: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two models on galaxies of some size: both are worse on small ones, and on hard ones.

    `slope`: what the first model's log odds gain on the second's with the size.
    """
    rng = np.random.default_rng(seed)
    size, ease = rng.normal(size=n), rng.normal(1, 1, size=n)
    first = rng.random(n) < 1 / (1 + np.exp(-(ease + (0.8 + slope) * size)))
    second = rng.random(n) < 1 / (1 + np.exp(-(ease + 0.8 * size)))
    return first, second, size


def test_it_is_the_interaction_of_a_conditional_regression():
    first, second, size = answers(400, slope=0.6, seed=0)
    found = lead_trend(first, second, size)
    model = np.repeat([1.0, 0.0], 400)
    scaled = np.tile((size - size.mean()) / size.std(), 2)
    exog = np.column_stack([model, model * scaled])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it reports the galaxies that say nothing
        right, galaxy = np.append(first, second).astype(int), np.tile(np.arange(400), 2)
        model = ConditionalLogit(right, exog, groups=galaxy)
        known = model.fit(method="newton", disp=0)  # its default stops three digits short
    assert found.slope.value == pytest.approx(known.params[1], rel=1e-6)
    ends = known.conf_int()[1]
    assert (found.slope.low, found.slope.high) == pytest.approx(tuple(ends), rel=1e-6)


def test_likelihood_ratio_is_statsmodels():
    first, second, size = answers(500, slope=0.3, seed=1)
    used = first != second
    exog = np.column_stack([np.ones(used.sum()), size[used]])
    known = Logit(first[used].astype(float), exog).fit(disp=0)
    found = lead_trend(first, second, size)
    assert found.p_value == pytest.approx(known.llr_pvalue)
    assert found.slope.value == pytest.approx(known.params[1] * size.std())
    assert found.only_first + found.only_second == used.sum()


def test_built_in_slopes_are_found_and_no_others():
    found = [lead_trend(*answers(500, slope=0.8, seed=seed)) for seed in range(20)]
    assert np.mean([one.slope.value for one in found]) == pytest.approx(0.8, abs=0.15)
    assert sum(one.p_value < 0.05 for one in found) >= 16
    null = [lead_trend(*answers(400, slope=0.0, seed=seed)).p_value for seed in range(200)]
    alarms = np.sum(np.array(null) < 0.05)
    assert 1 <= alarms <= binom.ppf(0.999, 200, 0.05)


def test_the_null_error_foretells_the_spread():
    found = [lead_trend(*answers(400, slope=0.0, seed=seed)) for seed in range(100)]
    spread = np.std([one.slope.value for one in found])
    assert np.mean([one.standard_error for one in found]) == pytest.approx(spread, rel=0.25)


def test_a_lead_that_is_the_classes_only():
    rng = np.random.default_rng(2)
    classes = rng.integers(2, size=1000)
    size = rng.normal(size=1000) + 2 * classes  # one class is larger, and the first is good at it
    first, second = (rng.random(1000) < share for share in (0.5 + 0.35 * classes, 0.65))
    assert lead_trend(first, second, size).p_value < 1e-6
    within = lead_trend(first, second, size, classes)
    assert within.p_value > 0.05
    assert within.slope.low < 0 < within.slope.high


def test_a_class_in_which_one_model_always_wins_is_left_out():
    first, second, size = answers(300, slope=0.5, seed=3)
    alone = lead_trend(first, second, size, np.zeros(300))
    more = [
        np.append(one, two)
        for one, two in zip(
            (first, second, size, np.zeros(300)),
            ([True] * 5, [False] * 5, size[:5], [7] * 5),
            strict=True,
        )
    ]
    both = lead_trend(*more)
    assert (both.only_first, both.only_second) == (alone.only_first, alone.only_second)
    assert both.p_value == pytest.approx(alone.p_value)


def test_too_few_galaxies_say_so():
    first, second = np.array([True] * 12 + [False] * 9), np.array([False] * 12 + [True] * 9)
    found = lead_trend(first, second, np.arange(21.0))
    assert "12 are the first's and 9 the second's, and the fit needs 10 of each" in found.reason
    assert np.isnan([found.p_value, found.slope.value]).all()
    assert 0 < found.standard_error < 1
    nobody = lead_trend(first, first, np.arange(21.0))
    assert nobody.standard_error == np.inf
    assert "0 are the first's" in nobody.reason


def test_equal_and_missing_values():
    first, second, size = answers(300, slope=0.5, seed=4)
    assert lead_trend(first, second, np.ones(300)).reason == "all galaxies have the same value"
    nothing = lead_trend(first, second, np.full(300, np.nan))
    assert nothing.left_out == 300
    assert nothing.reason
    size[:7] = np.nan
    found = lead_trend(pd.Series(first), pd.Series(second), pd.Series(size))
    assert found.left_out == 7
    assert found.p_value == pytest.approx(lead_trend(first[7:], second[7:], size[7:]).p_value)


def test_sides_that_do_not_overlap():
    first = np.arange(40) < 20
    found = lead_trend(first, ~first, np.arange(40.0))
    assert found.slope.value == -np.inf
    assert (found.slope.low, found.slope.high) == (-np.inf, 0)
    assert found.p_value < 1e-10


def test_lengths_must_agree():
    with pytest.raises(Gz2vitError, match="do not go with"):
        lead_trend([True] * 3, [True] * 3, [1.0, 2.0])
