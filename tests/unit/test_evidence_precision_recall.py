"""Precision and recall by class: scikit-learn's values, resampling, empty classes."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import average_precision_score

from gz2vit.calibration import _weighted, average_precisions, precision_recall_curves
from gz2vit.io import Gz2vitError
from gz2vit.paper import CLASS_NAMES


def galaxies(n: int, seed: int, classes: int = 8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = rng.integers(classes, size=n)
    logits = rng.normal(size=(n, 8)) + 2 * (true[:, None] == np.arange(8))
    return true, softmax(logits, axis=1)


def test_worked_example():
    scores = np.array([0.9, 0.8, 0.7, 0.6])
    probabilities = np.column_stack([scores, 1 - scores, np.zeros((4, 6))])
    found = precision_recall_curves([0, 1, 0, 1], probabilities)
    curve = found[found.class_name == CLASS_NAMES[0]]
    assert curve.threshold.tolist() == [0.6, 0.7, 0.8, 0.9, np.inf]
    assert curve.recall.tolist() == [1, 1, 0.5, 0.5, 0]
    assert curve.precision.tolist() == pytest.approx([0.5, 2 / 3, 0.5, 1, 1])
    area = average_precisions([0, 1, 0, 1], probabilities).average_precision[0]
    assert area == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_weighted_areas_are_scikit_learns():
    rng = np.random.default_rng(0)
    score = rng.random(200).round(1)  # many galaxies of equal probability
    positive = rng.random(200) < 0.3 + 0.4 * score
    weights = rng.integers(4, size=(5, 200))
    expected = [average_precision_score(positive, score, sample_weight=row) for row in weights]
    np.testing.assert_allclose(_weighted(positive, score, weights), expected)


def test_intervals_hold_the_value_and_shrink_with_galaxies():
    widths = []
    for n in (200, 1800):
        found = average_precisions(*galaxies(n, seed=1))
        assert (found.low < found.average_precision).all()
        assert (found.average_precision < found.high).all()
        widths.append((found.high - found.low).mean())
    assert widths[1] == pytest.approx(widths[0] / 3, rel=0.35)
    assert found.share.sum() == pytest.approx(1)
    assert found.galaxies.sum() == 1800


def test_a_class_without_galaxies():
    true, probabilities = galaxies(100, seed=2, classes=7)
    found = average_precisions(true, probabilities).iloc[7]
    assert np.isnan([found.average_precision, found.low, found.high]).all()
    assert found.galaxies == 0
    assert CLASS_NAMES[7] not in set(precision_recall_curves(true, probabilities).class_name)


def test_wrong_shapes_are_refused():
    with pytest.raises(Gz2vitError, match="give .N, 8."):
        average_precisions([0], np.ones((1, 3)))
    with pytest.raises(Gz2vitError, match="2 true classes"):
        precision_recall_curves([0, 1], np.eye(8)[:1])
