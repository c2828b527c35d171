"""The suite's claims: Fig. 4 with an effect built in and without one, calibration, metrics."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from gz2vit.calibration import Calibration
from gz2vit.comparisons import join_predictions, metric_differences, separation
from gz2vit.evaluation import Interval
from gz2vit.evidence import (
    SIZE,
    anderson_darling_words,
    claim_better_metric,
    claim_fig4,
    claim_overconfident,
    claim_scaling_helps,
    judge,
)
from gz2vit.io import Gz2vitError

pytestmark = pytest.mark.usefixtures("quick_collection")


def fig4_table(n: int, slope: float, lead: float, seed: int) -> pd.DataFrame:
    """Two models on galaxies of known size and magnitude; faint galaxies are hard for both.

    `slope`: what the first model's log odds gain on the second's for one standard deviation of
    smaller size; `lead`: its lead at the mean size.
    """
    rng = np.random.default_rng(seed)
    small, faint, ease = rng.normal(size=(3, n))
    true = rng.integers(4, size=n)
    chances = (ease + 1 - 0.5 * faint + slope * small + lead, ease + 1 - 0.5 * faint)
    tables = []
    for chance in chances:
        right = rng.random(n) < 1 / (1 + np.exp(-chance))
        pred = np.where(right, true, (true + 1) % 4)
        tables.append(pd.DataFrame({"GalaxyID": np.arange(n), "class": true, "pred": pred}))
    joined = join_predictions(*tables)
    return joined.assign(petroR90_r=8 * 10 ** (-0.15 * small), dered_r=16 + 0.7 * faint)


def test_a_built_in_effect_is_found_and_nothing_else():
    joined = fig4_table(4000, slope=0.5, lead=0.0, seed=0)
    verdicts = judge(claim_fig4(joined, "the ViT", "the CNN", permutations=19))
    assert [one.outcome for one in verdicts] == ["supported"] * 4 + ["not decided"] * 4
    assert "the galaxies that only the ViT has right are smaller" in verdicts[0].sentence
    assert "corrected for 8 claims" in verdicts[7].sentence
    assert verdicts[1].effect.value == pytest.approx(-0.5, abs=0.12)


def test_a_p_value_at_the_permutations_end_is_a_bound():
    found = separation(np.arange(30.0), np.arange(30.0) + 40, permutations=999)
    assert anderson_darling_words(found) == "Anderson-Darling p <= 0.001"
    found = separation(np.arange(30.0), np.arange(30.0) + 0.5, permutations=999)
    assert anderson_darling_words(found) == f"Anderson-Darling p = {found.ad_p:.2g}"


def test_the_opposite_effect_contradicts():
    joined = fig4_table(4000, slope=-0.5, lead=0.0, seed=1)
    verdicts = judge(claim_fig4(joined, "the ViT", "the CNN", [SIZE], permutations=19))
    assert [one.outcome for one in verdicts] == ["contradicted"] * 4


def test_losing_less_on_small_galaxies_is_not_being_better_on_them():
    joined = fig4_table(4000, slope=0.4, lead=-1.5, seed=2)
    verdicts = judge(claim_fig4(joined, "the ViT", "the CNN", [SIZE], permutations=19))
    assert [one.outcome for one in verdicts] == ["supported"] * 3 + ["contradicted"]
    assert "among the smallest 25 % of them" in verdicts[3].claim


def test_false_alarms_at_the_stated_rate():
    decided = 0
    for seed in range(200):
        joined = fig4_table(300, slope=0.0, lead=0.0, seed=100 + seed)
        verdicts = judge(claim_fig4(joined, "A", "B", [SIZE], permutations=1, seed=seed))
        decided += any(one.outcome != "not decided" for one in verdicts)
    assert 1 <= decided <= binom.ppf(0.999, 200, 0.05)


def test_a_built_in_effect_is_found_as_a_rule_and_never_taken_for_its_opposite():
    outcomes = []
    for seed in range(50):
        joined = fig4_table(1000, slope=0.8, lead=0.0, seed=1000 + seed)
        verdicts = judge(claim_fig4(joined, "A", "B", [SIZE], permutations=1, seed=seed))
        outcomes.append([one.outcome for one in verdicts])
    found = (np.array(outcomes) == "supported").mean(axis=0)
    assert (found >= 0.9).all()
    assert not (np.array(outcomes) == "contradicted").any()


def test_few_galaxies_decide_nothing_and_say_why():
    joined = fig4_table(30, slope=0.0, lead=0.0, seed=3)
    joined.loc[:4, "petroR90_r"] = np.nan
    verdicts = judge(claim_fig4(joined, "A", "B", [SIZE]))
    assert [one.outcome for one in verdicts] == ["not decided"] * 4
    assert "10 are needed in each" in verdicts[0].sentence
    assert "the fit needs 10 of each" in verdicts[1].sentence
    assert "5 galaxies without a value were left out" in verdicts[1].sentence
    assert all("would have been seen" in one.sentence for one in verdicts)


def test_two_equal_models():
    joined = fig4_table(100, slope=0.0, lead=0.0, seed=4)
    joined = joined.assign(second_right=joined.first_right)
    joined["region"] = np.where(joined.first_right, "both right", "both wrong")
    verdicts = judge(claim_fig4(joined, "A", "B"))
    assert {one.outcome for one in verdicts} == {"not decided"}
    assert "no effect, however large" in verdicts[0].sentence


def test_sizes_are_taken_as_logarithms():
    scaled = SIZE.scaled(pd.Series([10.0, 0.0, np.nan]))
    assert scaled[0] == 1
    assert scaled[1:].isna().all()


def test_a_property_must_be_there():
    joined = fig4_table(30, 0.0, 0.0, seed=5).drop(columns="dered_r")
    with pytest.raises(Gz2vitError, match="the galaxies have no dered_r"):
        claim_fig4(joined, "A", "B", permutations=1)


def test_metrics():
    true = np.repeat(np.arange(5), 40)
    good, bad = true.copy(), np.where(np.arange(200) % 2, true, (true + 1) % 5)
    table = metric_differences(true, good, bad)
    verdicts = judge([claim_better_metric("A", "B", row) for _, row in table.iterrows()])
    assert [one.outcome for one in verdicts] == ["supported"] * 8 + ["not decided"] * 3
    assert "A has a higher macro-averaged recall than B is supported" in verdicts[1].sentence
    assert "higher accuracy in class Round Elliptical" in verdicts[3].claim
    assert "no test was made: the test set has no such galaxies" in verdicts[10].sentence


def calibration(over: tuple[float, float], gain: tuple[float, float]) -> Calibration:
    ece = Interval(0.1, 0.05, 0.15, 500)
    means = (Interval(sum(ends) / 2, *ends, 500) for ends in (over, gain))
    return Calibration(1.5, ece, ece, 0.02, 0.001, *means)


def test_calibration():
    found = calibration(over=(0.02, 0.06), gain=(-0.01, 0.03))
    verdicts = judge([claim_overconfident("A", found), claim_scaling_helps("A", found)])
    assert [one.outcome for one in verdicts] == ["supported", "not decided"]
    # t = 0.04 / (0.02 / 1.9647) = 3.93 with 499 degrees of freedom
    assert verdicts[0].p_value == pytest.approx(9.8e-5, rel=0.02)
    assert "ECE 0.100, and 0.020 for a perfectly calibrated model" in verdicts[0].sentence
    assert "temperature scaling (T = 1.5)" in verdicts[1].sentence
    same = judge([claim_scaling_helps("A", calibration((0, 0), (0, 0)))])[0]
    assert "the galaxies do not differ" in same.sentence
