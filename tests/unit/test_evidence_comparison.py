"""McNemar's test and paired differences: worked examples, models alike, several models."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, chi2

from gz2vit.comparisons import compare_counts, compare_models, compare_right, metric_differences
from gz2vit.evaluation import classification_metrics
from gz2vit.io import Gz2vitError

pytestmark = pytest.mark.usefixtures("quick_collection")


def test_exact_test_by_hand():
    found = compare_counts(20, 3, 9, 5)
    # Both tails of 12 coins with at most 3 heads: 2 (1 + 12 + 66 + 220) / 2^12
    assert found.p_value == pytest.approx(598 / 4096)
    assert (found.method, found.galaxies, found.discordant) == ("exact", 37, 12)
    assert found.difference.value == pytest.approx(-6 / 37)


def test_textbook_table():
    # Agresti 2002, "Categorical Data Analysis", Table 10.1: approval of the prime minister.
    found = compare_counts(794, 150, 86, 570)
    assert found.p_value == pytest.approx(2 * binom.cdf(86, 236, 0.5))
    assert found.p_value == pytest.approx(chi2.sf((150 - 86 - 1) ** 2 / 236, 1), rel=0.2)
    # He gives 0.04 for the difference and 0.0095 for its error: 0.021 to 0.059.
    ends = (found.difference.low, found.difference.high)
    assert ends == pytest.approx((0.021, 0.059), abs=6e-4)


def test_the_counts_of_the_papers_fig_4():
    # The paper's galaxies that only its ViT and only its CNN have right.
    found = compare_counts(24009, 1116, 2683, 3383)
    assert found.method == "chi-squared"
    assert found.statistic == pytest.approx((2683 - 1116 - 1) ** 2 / (2683 + 1116))
    # The published test accuracies, 0.8055 and 0.8558
    assert found.difference.value == pytest.approx(0.8055 - 0.8558, abs=1e-4)
    assert found.difference.high < -0.04
    assert found.share_first.value == pytest.approx(1116 / 3799)


def test_bonett_and_price_by_hand():
    found = compare_counts(1, 1, 7, 12)
    p_first, p_second = 2 / 23, 8 / 23
    half = 1.959964 * np.sqrt((p_first + p_second - (p_first - p_second) ** 2) / 23)
    ends = (found.difference.low, found.difference.high)
    assert ends == pytest.approx((-6 / 23 - half, -6 / 23 + half))
    assert found.standard_error == pytest.approx(np.sqrt(10) / 23)


def test_models_that_never_differ():
    found = compare_counts(40, 0, 0, 10)
    assert found.p_value == 1
    assert found.difference.value == 0
    assert found.difference.low < 0 < found.difference.high
    assert np.isnan(found.share_first.value)


def test_an_even_split_is_no_difference():
    assert compare_counts(0, 8, 8, 0).p_value == 1


def test_answers_are_counted_galaxy_by_galaxy():
    found = compare_right([True, True, False, False, False], [True, False, True, False, False])
    assert (found.both_right, found.only_first, found.only_second, found.both_wrong) == (1, 1, 1, 2)
    with pytest.raises(Gz2vitError, match="are no pairs"):
        compare_right([True], [True, False])
    with pytest.raises(Gz2vitError, match="no counts of galaxies"):
        compare_right([], [])


def test_the_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    cells = rng.multinomial(60, [0.6, 0.15, 0.05, 0.2], size=400)
    found = [compare_counts(*map(int, counts)).difference for counts in cells]
    hits = sum(one.low <= 0.10 <= one.high for one in found)
    assert 366 <= hits <= 396  # binomial bounds of 95 % of 400, one in 1,000 on either side


def table(pred: list[int], true: list[int]) -> pd.DataFrame:
    ids = [str(number) for number in range(len(true))]
    return pd.DataFrame({"GalaxyID": ids, "class": true, "pred": pred})


def test_every_pair_of_models_is_compared_and_corrected():
    true = [0] * 30
    models = {"all": table([0] * 30, true), "none": table([1] * 30, true)}
    models["half"] = table([0, 1] * 15, true)
    found = compare_models(models)
    assert list(zip(found["first"], found["second"], strict=True)) == [
        ("all", "none"),
        ("all", "half"),
        ("none", "half"),
    ]
    assert found.difference.tolist() == [1.0, 0.5, -0.5]
    assert found.p_value[1] == pytest.approx(2 * 0.5**15)
    assert found.p_holm[1] == pytest.approx(2 * found.p_value[1])
    assert found.p_bh[1] == pytest.approx(found.p_value[1] * 3 / 3)
    with pytest.raises(Gz2vitError, match="makes no pair"):
        compare_models({"all": models["all"]})


def answers(n: int, gain: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True classes and two models' predictions; the first has `gain` more right."""
    rng = np.random.default_rng(seed)
    true = rng.integers(7, size=n)
    wrong = (true + rng.integers(1, 7, size=n)) % 7
    chance = rng.random(n)
    first = np.where(chance < 0.6 + gain, true, wrong)
    return true, first, np.where(rng.random(n) < 0.6, true, wrong)


def test_metric_differences():
    true, first, second = answers(600, gain=0.2, seed=0)
    found = metric_differences(true, first, second).set_index(["quantity", "class_name"])
    metrics = [classification_metrics(true, pred) for pred in (first, second)]
    for name in ("accuracy", "recall_macro", "f1_macro"):
        row = found.loc[(name, "")]
        assert row.difference == pytest.approx(metrics[0][name] - metrics[1][name])
        assert 0 < row.low < row.difference < row.high
        assert row.p_value < 0.002
    assert found.test[("accuracy", "")] == "McNemar"
    assert found.p_value[("accuracy", "")] == compare_right(first == true, second == true).p_value
    missing = found.loc[("class_acc", "Merger")]
    assert missing.galaxies == 0
    assert np.isnan([missing.difference, missing.p_value, missing.p_holm]).all()


def test_a_paired_interval_is_narrower_than_two_intervals():
    true, first, _ = answers(600, gain=0.0, seed=1)
    second = first.copy()
    second[:12] = (true[:12] + 1) % 7  # alike but for a dozen
    row = metric_differences(true, first, second).iloc[1]
    assert row.high - row.low < 0.03  # each model's own is 0.08 wide


def test_bootstrap_p_is_no_alarm_for_equal_models():
    alarms = 0
    for seed in range(200):
        found = metric_differences(*answers(150, gain=0.0, seed=seed), resamples=200, seed=seed)
        alarms += found.p_value[2] < 0.05
    assert alarms <= binom.ppf(0.999, 200, 0.05)
    same = metric_differences([0, 1, 2], [0, 1, 1], [0, 1, 1])
    assert (same.p_value.dropna() == 1).all()
