"""The paper's metrics, their intervals, and predictions as users hand them in."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom, binomtest
from scipy.stats import bootstrap as scipy_bootstrap

from gz2vit import evaluation
from gz2vit.evaluation import bootstrap_interval, classification_metrics, confusion_matrix
from gz2vit.io import Gz2vitError


def galaxies(n: int, seed: int, classes: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """True and predicted classes, seven in ten right."""
    rng = np.random.default_rng(seed)
    true = rng.integers(classes, size=n)
    return true, np.where(rng.random(n) < 0.7, true, rng.integers(8, size=n))


def test_worked_example():
    true = [0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7]
    pred = [0, 0, 0, 1, 1, 0, 2, 3, 4, 5, 6, 0]
    metrics = classification_metrics(true, pred)
    assert metrics["accuracy"] == pytest.approx(9 / 12)
    assert metrics["class_acc"] == [0.75, 0.5, 1, 1, 1, 1, 1, 0]
    assert metrics["recall_macro"] == pytest.approx((0.75 + 0.5 + 5) / 8)
    # F1 = 2 hits / (true + predicted): class 0 has 4 true and 5 predicted, class 1 two and two.
    assert metrics["f1_macro"] == pytest.approx((2 * 3 / 9 + 2 * 1 / 4 + 5) / 8)
    counts = confusion_matrix([0, 0, 0, 1], [0, 1, 1, 1])  # rows are true classes
    assert counts[0].tolist() == [1, 2, 0, 0, 0, 0, 0, 0]
    percent = evaluation.confusion_percent(counts)
    assert percent[0, 1] == pytest.approx(200 / 3) and np.isnan(percent[2:]).all()
    # A class without galaxies has no accuracy and no part in the means.
    _, recall, f1, class_acc = classification_metrics([0, 0, 1], [0, 7, 1]).values()
    np.testing.assert_array_equal(class_acc, [0.5, 1.0] + [np.nan] * 6)
    assert (recall, f1) == pytest.approx((0.75, (2 / 3 + 1) / 2))


@pytest.mark.parametrize(
    ("true", "pred", "value"),
    [
        *(([0, 8], [0, 1], "8"), ([0, 1], [0, -1], "-1"), ([0, 1], [0, float("nan")], "nan")),
        *(([0, 1], [0.5, 1], "0.5"), ([], [], "no galaxies")),
    ],
)
def test_bad_classes_are_named(true: list, pred: list, value: str):
    with pytest.raises(Gz2vitError, match=value):
        classification_metrics(true, pred)


@pytest.mark.parametrize(
    ("content", "value"),
    [
        *(("GalaxyID,class\n1,0\n", "pred"), ("GalaxyID,class,pred\n17,0,9\n", "17 .*9")),
        *(("GalaxyID,class,pred\n17,0,0\n17,0,0\n", "17"), ("", "cannot read")),
        ("GalaxyID,class,pred,p0\n1,0,0,\n", "probabilities"),
    ],
)
def test_bad_predictions_name_the_file(tmp_path: Path, content: str, value: str):
    path = tmp_path / "predictions.csv"
    path.write_text(content)
    with pytest.raises(Gz2vitError, match=value) as caught:
        evaluation.read_predictions(path)
    assert str(path) in str(caught.value)
    ids = ["0123", "587742594156920921", "NA", "null"]  # ids are text, probabilities optional
    path.write_text("GalaxyID,class,pred\n" + "".join(f"{one},1,2.0\n" for one in ids))
    table = evaluation.read_predictions(path)
    assert table.GalaxyID.tolist() == ids and table.pred.dtype == np.int64


def test_wilson_interval():
    low, high = evaluation.wilson_interval([7, 5, 0, 0], [10, 5, 3, 0])
    for place, (right, total) in enumerate(((7, 10), (5, 5), (0, 3))):
        known = binomtest(right, total).proportion_ci(0.95, method="wilson")
        assert (low[place], high[place]) == pytest.approx((known.low, known.high))
    assert np.isnan([low[3], high[3]]).all()


@pytest.mark.parametrize("classes", [1, 5, 8])
def test_metrics_of_matrices_are_those_of_predictions(classes: int):
    pairs = [galaxies(60, seed, classes) for seed in range(5)]
    found = evaluation.metrics_of(np.array([confusion_matrix(*pair) for pair in pairs]))
    for row, pair in zip(found, pairs, strict=True):
        *macro, class_acc = classification_metrics(*pair).values()
        np.testing.assert_allclose(row, [*macro, *class_acc])


def test_resampled_matrices_are_resampled_galaxies():
    true, pred = galaxies(300, seed=1)
    rng = np.random.default_rng(2)
    chosen = [rng.integers(300, size=300) for _ in range(1000)]
    redrawn = np.array([confusion_matrix(true[one], pred[one]) for one in chosen])
    slow = evaluation.metrics_of(redrawn)
    fast = evaluation.metrics_of(evaluation.resample_table(confusion_matrix(true, pred)))
    np.testing.assert_allclose(fast.std(axis=0), slow.std(axis=0), rtol=0.12)
    np.testing.assert_allclose(fast.mean(axis=0), slow.mean(axis=0), atol=0.01)


def test_intervals_hold_the_truth_as_often_as_they_say(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gz2vit.evaluation.RESAMPLES", 400)
    tables = (evaluation.metric_intervals(*galaxies(400, seed=1000 + n)) for n in range(100))
    rows = [table.iloc[1] for table in tables]
    hits = sum(row.low <= 0.7 + 0.3 / 8 <= row.high for row in rows)  # of the macro recall
    assert hits >= binom.ppf(0.001, 100, 0.95)


def test_a_class_without_galaxies_and_one_that_is_all_right():
    true, pred = [0] * 7 + [1] * 20, [0] * 7 + [1] * 10 + [0] * 10
    table = evaluation.metric_intervals(true, pred).set_index("class_name")
    assert table.loc["Merger", ["value", "low", "high", "wilson_low"]].isna().all()
    assert table.loc["Merger", "galaxies"] == 0
    certain = table.loc["Round Elliptical"]
    assert (certain.low, certain.high) == (1, 1)  # all that the bootstrap knows
    assert certain.wilson_low == pytest.approx(7 / (7 + 1.959964**2))  # Wilson: n / (n + z^2)


def test_percentiles_leave_undefined_draws_out():
    draws = np.column_stack([np.arange(201.0), np.full(201, np.nan)])
    draws[0, 0] = np.nan
    low, high = evaluation.percentile_bounds(draws)
    assert (low[0], high[0]) == pytest.approx((5.975, 195.025))
    assert np.isnan([low[1], high[1]]).all()
    with pytest.raises(Gz2vitError, match="RESAMPLES"):
        evaluation.percentile_bounds(np.empty((0, 3)))


def test_means_are_drawn_as_scipy_draws_them(monkeypatch: pytest.MonkeyPatch):
    values = np.random.default_rng(4).random(50)
    options = {"n_resamples": evaluation.MEAN_RESAMPLES, "method": "percentile"}
    known = scipy_bootstrap((values,), np.mean, **options, rng=np.random.default_rng(5))
    found = bootstrap_interval(np.append(values, np.nan), seed=5)
    assert (found.low, found.high) == pytest.approx(tuple(known.confidence_interval))
    assert (found.value, found.galaxies) == (values.mean(), 50)
    assert found != bootstrap_interval(values, seed=6)
    monkeypatch.setattr("gz2vit.evaluation.BATCH", 120)  # many galaxies are drawn in pieces
    assert bootstrap_interval(values, seed=5) == found
    assert str(bootstrap_interval([0.5])) == "0.500 [0.500, 0.500] (n = 1)"
    for nothing in ([], [np.nan]):
        with pytest.raises(Gz2vitError, match="no galaxy"):
            bootstrap_interval(nothing)
