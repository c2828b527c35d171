"""Bootstrap intervals of the metrics: the metrics' own values, coverage, and rare classes."""

import numpy as np
import pytest

from gz2vit.evaluation import (
    Interval,
    classification_metrics,
    confusion_matrix,
    metric_intervals,
    metrics_of,
    percentile_bounds,
    read_predictions,
    resample_confusion,
)
from gz2vit.io import Gz2vitError
from tests.unit.folders import needs_shared


def galaxies(n: int, seed: int, classes: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """True and predicted classes, seven in ten right."""
    rng = np.random.default_rng(seed)
    true = rng.integers(classes, size=n)
    return true, np.where(rng.random(n) < 0.7, true, rng.integers(8, size=n))


@pytest.mark.parametrize("classes", [1, 5, 8])
def test_metrics_of_matrices_are_those_of_predictions(classes: int):
    pairs = [galaxies(60, seed, classes) for seed in range(5)]
    found = metrics_of(np.array([confusion_matrix(*pair) for pair in pairs]))
    for row, pair in zip(found, pairs, strict=True):
        metrics = classification_metrics(*pair)
        names = ("accuracy", "recall_macro", "f1_macro")
        expected = [*(metrics[name] for name in names), *metrics["class_acc"]]
        np.testing.assert_allclose(row, expected)


def test_published_predictions():
    table = read_predictions(needs_shared("data/published/gz2_hug_vit_121221C_predictions.csv"))
    accuracy = metric_intervals(table["class"], table["pred"]).iloc[0]
    assert round(accuracy.value, 4) == 0.8441
    # 1.96 sqrt(0.8441 0.1559 / 31191) = 0.00403
    assert accuracy.low == pytest.approx(0.8441 - 0.0040, abs=3e-4)
    assert accuracy.high == pytest.approx(0.8441 + 0.0040, abs=3e-4)
    assert accuracy.galaxies == 31191


def test_resampled_matrices_are_resampled_galaxies():
    true, pred = galaxies(300, seed=1)
    rng = np.random.default_rng(2)
    slow = []
    for _ in range(2000):
        chosen = rng.integers(300, size=300)
        slow.append(confusion_matrix(true[chosen], pred[chosen]))
    slow, fast = (
        metrics_of(np.array(slow)),
        metrics_of(resample_confusion(confusion_matrix(true, pred), 2000)),
    )
    np.testing.assert_allclose(fast.std(axis=0), slow.std(axis=0), rtol=0.12)
    np.testing.assert_allclose(fast.mean(axis=0), slow.mean(axis=0), atol=0.01)


def test_intervals_hold_the_truth_as_often_as_they_say():
    hits = 0
    for seed in range(200):
        true, pred = galaxies(400, seed=1000 + seed)
        table = metric_intervals(true, pred, resamples=400, seed=seed)
        row = table[table.quantity == "recall_macro"].iloc[0]
        hits += row.low <= 0.7 + 0.3 / 8 <= row.high
    assert 178 <= hits <= 200  # binomial: 95 % of 200, less than 178 once in 1,000


def test_stratified_keeps_the_classes():
    true, pred = galaxies(200, seed=3, classes=5)
    counts = confusion_matrix(true, pred)
    drawn = resample_confusion(counts, 50, stratified=True)
    assert (drawn.sum(axis=2) == counts.sum(axis=1)).all()
    assert drawn.std(axis=0).max() > 0
    free = resample_confusion(counts, 50)
    assert (free.sum(axis=(1, 2)) == 200).all()
    assert (free.sum(axis=2) != counts.sum(axis=1)).any()
    assert (free[:, counts == 0] == 0).all()


def test_the_seed_decides():
    pair = galaxies(100, seed=4)
    first, again = (metric_intervals(*pair, resamples=100, seed=5) for _ in range(2))
    assert first.equals(again)
    assert not first.equals(metric_intervals(*pair, resamples=100, seed=6))


def test_a_class_without_galaxies_and_one_that_is_all_right():
    true, pred = [0] * 7 + [1] * 20, [0] * 7 + [1] * 10 + [0] * 10
    table = metric_intervals(true, pred).set_index("class_name")
    assert table.loc["Merger", ["value", "low", "high", "wilson_low"]].isna().all()
    assert table.loc["Merger", "galaxies"] == 0
    certain = table.loc["Round Elliptical"]
    assert (certain.low, certain.high) == (1, 1)  # all that the bootstrap knows
    assert certain.wilson_low == pytest.approx(7 / (7 + 1.959964**2))  # Wilson: n / (n + z^2)


def test_percentiles_leave_undefined_draws_out():
    draws = np.column_stack([np.arange(101.0), np.full(101, np.nan)])
    draws[0, 0] = np.nan
    low, high = percentile_bounds(draws, level=0.98)
    assert low[0] == pytest.approx(1.99)
    assert high[0] == pytest.approx(99.01)
    assert np.isnan([low[1], high[1]]).all()


def test_impossible_level():
    with pytest.raises(Gz2vitError, match="level 95 "):
        metric_intervals([0], [0], level=95)


def test_an_interval_reads_well():
    assert str(Interval(0.8441, 0.8401, 0.8481, 31191)) == "0.844 [0.840, 0.848] (n = 31,191)"
