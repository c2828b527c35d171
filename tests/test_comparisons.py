"""Comparisons of two models: known answers, error rates, effects that are built in or absent."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.stats import anderson_ksamp, binom, ks_2samp
from statsmodels.discrete.conditional_models import ConditionalLogit

from gz2vit import comparisons
from gz2vit.comparisons import compare_counts, corrected, join_predictions, lead_trend, separation
from gz2vit.evaluation import classification_metrics
from gz2vit.io import Gz2vitError


def predictions(ids: str, true: list[int], pred: list[int]) -> pd.DataFrame:
    return pd.DataFrame({"GalaxyID": list(ids), "class": true, "pred": pred})


FIRST = predictions("abcd", [0, 1, 2, 3], [0, 1, 7, 7])
SECOND = predictions("dcba", [3, 2, 1, 0], [6, 2, 6, 0])  # another order
VALUES = np.arange(1.0, 101)


def answers(n: int, slope: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two models on galaxies of some size: both are worse on small ones, and on hard ones.

    `slope`: what the first model's log odds gain on the second's with the size.
    """
    rng = np.random.default_rng(seed)
    size, ease = rng.normal(size=n), rng.normal(1, 1, size=n)
    first = rng.random(n) < 1 / (1 + np.exp(-(ease + (0.8 + slope) * size)))
    second = rng.random(n) < 1 / (1 + np.exp(-(ease + 0.8 * size)))
    return first, second, size


def test_corrections_by_hand():
    p_values = [0.01, 0.04, 0.03, 0.005]
    # Holm, from the smallest: 4 x 0.005, 3 x 0.01, 2 x 0.03, then 1 x 0.04, but never falling.
    np.testing.assert_allclose(corrected(p_values), [0.03, 0.06, 0.06, 0.02])
    # Benjamini-Hochberg, from the largest: 4/4 x 0.04, 4/3 x 0.03, 4/2 x 0.01, 4/1 x 0.005.
    np.testing.assert_allclose(corrected(p_values, "fdr_bh"), [0.02, 0.04, 0.04, 0.02])
    np.testing.assert_allclose(corrected([0.02, np.nan, 0.03]), [0.04, np.nan, 0.04])
    assert np.isnan(corrected([np.nan])).all()


def test_galaxies_are_joined_by_id():
    joined = join_predictions(FIRST, SECOND)
    assert joined.index.tolist() == list("abcd")
    assert joined.region.tolist() == ["both right", "only first", "only second", "both wrong"]
    assert comparisons.region_counts(joined) == dict.fromkeys(comparisons.REGIONS, 1)
    assert comparisons.region_counts(joined[:2])["both wrong"] == 0
    table = comparisons.right_table({"one": FIRST, "two": SECOND})
    assert table["two"].tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    ("ids", "true"), [("abce", range(4)), ("abc", range(3)), ("abcd", [0, 1, 2, 4])]
)
def test_different_test_sets_are_refused(ids: str, true: list[int]):
    with pytest.raises(Gz2vitError, match="'vit' and 'cnn'.* d "):
        join_predictions(FIRST, predictions(ids, list(true), [0] * len(ids)), ("vit", "cnn"))


def test_mcnemar_with_bonett_and_prices_interval():
    found = compare_counts(20, 3, 9, 5)
    # Both tails of 12 coins with at most 3 heads: 2 (1 + 12 + 66 + 220) / 2^12
    assert found["p_value"] == pytest.approx(598 / 4096)
    assert (found["method"], found["n"]) == ("exact", 37)
    assert found["effect"] == pytest.approx(-6 / 37)
    assert compare_counts(0, 8, 8, 0)["p_value"] == 1
    found = compare_counts(1, 1, 7, 12)
    p_first, p_second = 2 / 23, 8 / 23
    half = 1.959964 * np.sqrt((p_first + p_second - (p_first - p_second) ** 2) / 23)
    assert (found["low"], found["high"]) == pytest.approx((-6 / 23 - half, -6 / 23 + half))
    assert found["standard_error"] == pytest.approx(np.sqrt(10) / 23)
    same = compare_counts(40, 0, 0, 10)  # models that never differ
    assert same["p_value"] == 1 and same["low"] < 0 < same["high"]
    found = compare_counts(24009, 1116, 2683, 3383)  # of the paper's Fig. 4
    assert found["method"] == "chi-squared"
    assert found["effect"] == pytest.approx(0.8055 - 0.8558, abs=1e-4)
    # Agresti 2002, "Categorical Data Analysis", Table 10.1 gives 0.04 and its error 0.0095.
    found = compare_counts(794, 150, 86, 570)
    assert (found["low"], found["high"]) == pytest.approx((0.021, 0.059), abs=6e-4)
    with pytest.raises(Gz2vitError):
        compare_counts(0, 0, 0, 0)


def test_macro_averages_are_compared_on_the_same_galaxies():
    rng = np.random.default_rng(0)
    true = rng.integers(7, size=600)  # Merger has no galaxies
    wrong = (true + rng.integers(1, 7, size=600)) % 7
    preds = (np.where(rng.random(600) < share, true, wrong) for share in (0.8, 0.6))
    table = pd.DataFrame({"GalaxyID": np.arange(600).astype(str), "class": true})
    first, second = (table.assign(pred=pred) for pred in preds)
    found = comparisons.macro_difference(first, second.sample(frac=1, random_state=1))
    metrics = [classification_metrics(one["class"], one.pred) for one in (first, second)]
    assert found["effect"] == pytest.approx(metrics[0]["recall_macro"] - metrics[1]["recall_macro"])
    assert 0 < found["low"] < found["effect"] < found["high"]
    assert found["p_value"] < 0.002
    assert comparisons.macro_difference(first, first)["p_value"] == 1
    alike = first.copy()
    alike.loc[:11, "pred"] = (alike["class"][:12] + 1) % 7  # but for a dozen
    found = comparisons.macro_difference(first, alike)
    assert found["high"] - found["low"] < 0.03  # each model's own is 0.08 wide


def test_separation_of_known_groups():
    found = separation([1, 2, 3, 4, 5], [6, 7, 8, 9, 10])
    # Of the 252 ways to choose 5 of 10, two are as extreme.
    assert (found["ks"], found["ks_p"], found["ad_p"]) == pytest.approx((1, 2 / 252, 2 / 252))
    assert (found["cliffs_delta"], found["median_shift"]) == (-1, -5)
    assert np.isnan(found["delta_low"])  # five values are too few to draw from
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=80), rng.normal(0.35, 1.2, size=120)
    found, known = separation(first, np.append(second, np.nan)), ks_2samp(first, second)
    assert (found["ks"], found["ks_p"]) == (known.statistic, known.pvalue)
    assert (found["first"], found["second"], found["left_out"]) == (80, 120, 1)
    tabulated = anderson_ksamp([first, second], variant="midrank")
    assert found["ad"] == pytest.approx(tabulated.statistic)
    assert found["ad_p"] == pytest.approx(tabulated.pvalue, abs=0.02)  # scipy's is interpolated
    first, second = [1, 2, 2, 5], [2, 3, 0]
    signs = np.sign(np.subtract.outer(first, second))
    assert comparisons.cliffs_delta(first, second) == pytest.approx(signs.mean())
    assert np.isnan(comparisons.cliffs_delta([], [1]))


def test_resampled_effects_are_those_of_resampled_galaxies(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(comparisons, "PERMUTATIONS", 1)
    rng = np.random.default_rng(1)
    first, second = rng.integers(9, size=14) * 1.0, rng.integers(12, size=11) * 1.0  # many ties
    found = separation(first, second)
    slow = []
    for _ in range(2000):
        one, two = rng.choice(first, 14), rng.choice(second, 11)
        slow.append([comparisons.cliffs_delta(one, two), np.median(one) - np.median(two)])
    low, high = np.quantile(slow, [0.025, 0.975], axis=0)
    ends = [found[name] for name in ("delta_low", "delta_high", "shift_low", "shift_high")]
    np.testing.assert_allclose(ends[:2], [low[0], high[0]], atol=0.07)
    np.testing.assert_allclose(ends[2:], [low[1], high[1]], atol=0.6)


def test_tests_and_intervals_keep_their_level(monkeypatch: pytest.MonkeyPatch):
    rngs = map(np.random.default_rng, range(150))
    groups = [(rng.normal(size=40), rng.normal(size=25)) for rng in rngs]
    monkeypatch.setattr(comparisons, "RESAMPLES", 1)
    monkeypatch.setattr(comparisons, "PERMUTATIONS", 39)
    found = [separation(*pair) for pair in groups]
    alarms = [sum(one[name] <= 0.05 for one in found) for name in ("ks_p", "ad_p")]
    assert all(1 <= one <= binom.ppf(0.999, 150, 0.05) for one in alarms)
    monkeypatch.setattr(comparisons, "RESAMPLES", 200)
    monkeypatch.setattr(comparisons, "PERMUTATIONS", 1)
    found = [separation(one, other - 0.5) for one, other in groups]
    hits = sum(one["delta_low"] <= 0.2763 <= one["delta_high"] for one in found)
    assert hits >= binom.ppf(0.001, 150, 0.95)  # 2 Phi(0.5 / sqrt 2) - 1 = 0.2763


def test_bins_of_equal_counts_or_given_edges():
    values = np.append(VALUES, np.nan)
    found = comparisons.accuracy_trends({"a": values > 50, "b": values > 90}, values, bins=4)
    assert found.model.tolist() == ["a"] * 4 + ["b"] * 4
    assert found.galaxies.tolist() == [25] * 8
    assert found.accuracy.tolist() == [0, 0, 1, 1, 0, 0, 0, 10 / 25]
    assert found.high_edge.tolist()[:4] == [25, 50, 75, 100]
    assert found["median"].tolist()[:4] == [13, 38, 63, 88]
    ties = comparisons.accuracy_trends({"a": [True] * 10}, np.repeat([1.0, 2.0], [8, 2]), bins=5)
    assert ties.galaxies.tolist() == [8, 2]  # equal values are never parted
    found = comparisons.difference_in_bins(values > 50, values > 60, values, [20, 50, 80])
    assert found.galaxies.tolist() == [31, 30]  # an edge of the first bin belongs to it
    assert found.only_first.tolist() == [0, 10]
    assert comparisons.difference_in_bins([True], [True], [5.0], [20, 50]).empty
    for values, bins in (([np.nan], 3), (VALUES, 0)):
        with pytest.raises(Gz2vitError):
            comparisons.accuracy_trends({"a": [True] * len(values)}, values, bins)
    # Differences are McNemar's, bin by bin.
    first, second = VALUES % 2 == 0, VALUES > 50
    found = comparisons.difference_in_bins(first, second, VALUES, bins=2)
    known = comparisons.compare_right(first[:50], second[:50])
    assert found.difference.tolist() == [0.5, -0.5]
    assert (found.low[0], found.p_value[0]) == (known["low"], known["p_value"])
    assert found.p_holm[0] == pytest.approx(2 * found.p_value[0])


def test_the_trend_is_the_interaction_of_a_conditional_regression():
    first, second, size = answers(400, slope=0.6, seed=0)
    found = lead_trend(first, second, size)
    model = np.repeat([1.0, 0.0], 400)
    scaled = np.tile((size - size.mean()) / size.std(), 2)
    exog = np.column_stack([model, model * scaled])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it reports the galaxies that say nothing
        right, galaxy = np.append(first, second).astype(int), np.tile(np.arange(400), 2)
        known = ConditionalLogit(right, exog, groups=galaxy).fit(method="newton", disp=0)
    ends = (found["effect"], found["low"], found["high"])
    assert ends == pytest.approx((known.params[1], *known.conf_int()[1]), rel=1e-6)


def test_built_in_slopes_are_found_and_no_others():
    found = [lead_trend(*answers(500, slope=0.8, seed=seed)) for seed in range(20)]
    assert np.mean([one["effect"] for one in found]) == pytest.approx(0.8, abs=0.15)
    assert sum(one["p_value"] < 0.05 for one in found) >= 16
    null = [lead_trend(*answers(400, slope=0.0, seed=seed)) for seed in range(100)]
    assert sum(one["p_value"] < 0.05 for one in null) <= binom.ppf(0.999, 100, 0.05)
    spread = np.std([one["effect"] for one in null])
    assert np.mean([one["standard_error"] for one in null]) == pytest.approx(spread, rel=0.25)


def test_a_trend_is_told_from_that_of_the_classes():
    rng = np.random.default_rng(2)
    classes = rng.integers(2, size=1000)
    size = rng.normal(size=1000) + 2 * classes
    first, second = (rng.random(1000) < share for share in (0.5 + 0.35 * classes, 0.65))
    assert lead_trend(first, second, size)["p_value"] < 1e-6
    within = lead_trend(first, second, size, classes)
    assert within["p_value"] > 0.05 and within["low"] < 0 < within["high"]
    # A class in which one model always wins is left out.
    first, second, size = answers(300, slope=0.5, seed=3)
    alone = lead_trend(first, second, size, np.zeros(300))
    more = (np.append(first, [True] * 5), np.append(second, [False] * 5), np.append(size, size[:5]))
    both = lead_trend(*more, np.repeat([0, 7], [300, 5]))
    assert (both["only_first"], both["only_second"]) == (alone["only_first"], alone["only_second"])
    assert both["p_value"] == pytest.approx(alone["p_value"])


def test_what_no_trend_can_be_fitted_to():
    first = np.arange(21) < 12
    found = lead_trend(first, ~first, np.arange(21.0))
    assert "12" in found["reason"]
    assert np.isnan([found["p_value"], found["effect"]]).all()
    assert 0 < found["standard_error"] < 1
    assert lead_trend(first, first, np.arange(21.0))["standard_error"] == np.inf
    first = np.arange(40) < 20
    found = lead_trend(first, ~first, np.arange(40.0))
    assert "separate" in found["reason"] and np.isnan(found["p_value"])
    first, second, size = answers(300, slope=0.5, seed=4)
    assert lead_trend(first, second, np.ones(300))["reason"]
    assert lead_trend(first, second, np.full(300, np.nan))["left_out"] == 300
    missing = np.where(np.arange(300) < 7, np.nan, size)
    found = lead_trend(pd.Series(first), pd.Series(second), pd.Series(missing))
    known = lead_trend(first[7:], second[7:], size[7:])
    assert found["left_out"] == 7 and found["p_value"] == pytest.approx(known["p_value"])
