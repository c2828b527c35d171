"""The paper's metrics: known answers, classes without galaxies, and bad input."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gz2vit.evaluation import (
    classification_metrics,
    confusion_matrix,
    confusion_percent,
    read_predictions,
    wilson_interval,
)
from gz2vit.io import Gz2vitError
from tests.unit.folders import needs_shared


def test_published_predictions_have_the_published_accuracy():
    path = needs_shared("data/published/gz2_hug_vit_121221C_predictions.csv")
    table = read_predictions(path)
    metrics = classification_metrics(table["class"], table["pred"])
    assert len(table) == 31191
    assert round(metrics["accuracy"], 4) == 0.8441


def test_worked_example():
    true = [0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7]
    pred = [0, 0, 0, 1, 1, 0, 2, 3, 4, 5, 6, 0]
    metrics = classification_metrics(true, pred)
    assert metrics["accuracy"] == pytest.approx(9 / 12)
    assert metrics["class_acc"] == [0.75, 0.5, 1, 1, 1, 1, 1, 0]
    assert metrics["recall_macro"] == pytest.approx((0.75 + 0.5 + 5) / 8)
    # F1 = 2 hits / (true + predicted): class 0 has 4 true and 5 predicted, class 1 two and two.
    assert metrics["f1_macro"] == pytest.approx((2 * 3 / 9 + 2 * 1 / 4 + 5) / 8)


def test_a_class_without_galaxies_has_no_accuracy_and_no_part_in_the_mean():
    metrics = classification_metrics([0, 0, 1], [0, 7, 1])
    assert metrics["class_acc"][:2] == [0.5, 1.0]
    assert all(math.isnan(value) for value in metrics["class_acc"][2:])
    assert metrics["recall_macro"] == pytest.approx(0.75)
    assert metrics["f1_macro"] == pytest.approx((2 / 3 + 1) / 2)


@pytest.mark.parametrize(
    ("true", "pred", "words"),
    [
        ([0, 8], [0, 1], "'true' holds 8"),
        ([0, 1], [0, -1], "'pred' holds -1"),
        ([0, 1], [0, float("nan")], "'pred' holds nan"),
        ([0, 1], [0.5, 1], "'pred' holds 0.5"),
        ([0, 1], [0], "2 true classes, but 1 predicted"),
        ([], [], "no galaxies"),
        ([[0, 1]], [0, 1], "one-dimensional"),
    ],
)
def test_bad_input_is_named(true: list, pred: list, words: str):
    with pytest.raises(Gz2vitError, match=words):
        classification_metrics(true, pred)


def test_confusion_matrix_has_true_classes_as_rows():
    counts = confusion_matrix([0, 0, 0, 1], [0, 1, 1, 1])
    assert counts.shape == (8, 8)
    assert counts[0].tolist() == [1, 2, 0, 0, 0, 0, 0, 0]
    percent = confusion_percent(counts)
    assert percent[0, 1] == pytest.approx(200 / 3)
    assert np.isnan(percent[2:]).all()


def test_wilson_interval():
    # Wilson's formula by hand for 7 of 10 at 95 %: z = 1.959964
    z = 1.959963984540054
    centre = (0.7 + z**2 / 20) / (1 + z**2 / 10)
    half = z / (1 + z**2 / 10) * math.sqrt(0.7 * 0.3 / 10 + z**2 / 400)
    assert wilson_interval(7, 10) == pytest.approx((centre - half, centre + half))
    low, high = wilson_interval(5, 5)
    assert 0.5 < low < 0.6
    assert high == pytest.approx(1.0)
    assert all(math.isnan(bound) for bound in wilson_interval(0, 0))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("GalaxyID,class\n1,0\n", "has no column pred"),
        ("GalaxyID,class,pred\n1,0,9\n", "galaxy 1 has pred 9"),
        ("GalaxyID,class,pred\n1,0,0\n1,0,0\n", "galaxy 1 stands there more than once"),
        ("GalaxyID,class,pred,p0\n1,0,0,\n", "not numbers"),
        ("", "cannot read predictions"),
    ],
)
def test_bad_predictions_name_the_file(tmp_path: Path, content: str, words: str):
    path = tmp_path / "predictions.csv"
    path.write_text(content)
    with pytest.raises(Gz2vitError, match=words) as caught:
        read_predictions(path)
    assert str(path) in str(caught.value)


def test_read_predictions_keeps_long_ids(tmp_path: Path):
    path = tmp_path / "predictions.csv"
    pd.DataFrame({"GalaxyID": ["0123", "587742594156920921"], "class": 1, "pred": 2}).to_csv(path)
    assert read_predictions(path).GalaxyID.tolist() == ["0123", "587742594156920921"]
