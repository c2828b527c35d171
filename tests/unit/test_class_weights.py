"""Class weights: the paper's, reciprocal, the user's own."""

import numpy as np
import pytest

from gz2vit.catalog import class_weights
from gz2vit.io import Gz2vitError
from gz2vit.paper import CLASS_COUNTS, SPLIT_CLASS_COUNTS


def test_uniform():
    assert class_weights("uniform", CLASS_COUNTS).tolist() == [1] * 8


def test_tuned_are_the_papers():
    weights = class_weights("tuned", CLASS_COUNTS)
    assert weights.sum() == pytest.approx(8)
    printed = [0.19, 0.21, 0.98, 0.38, 0.53, 0.66, 1.81, 3.23]
    assert weights.round(2).tolist() == printed


def test_reciprocal_are_the_authors():
    printed = [4.6, 4.0, 20.9, 9.6, 7.7, 5.1, 26.5, 73.3]
    assert class_weights("reciprocal", SPLIT_CLASS_COUNTS["train"]).round(1).tolist() == printed


def test_given_are_taken_as_they_are():
    given = [1, 2, 3, 4, 5, 6, 7, 8.5]
    assert np.array_equal(class_weights(given, CLASS_COUNTS), given)


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("heavy", "'heavy' is not uniform, tuned, reciprocal"),
        ([1, 2, 3], "must be 8 positive numbers"),
        ([1, 1, 1, 1, 1, 1, 1, 0], "must be 8 positive numbers"),
        ([1, 1, 1, 1, 1, 1, 1, float("nan")], "must be 8 positive numbers"),
        (["a"] * 8, "must be 8 positive numbers"),
    ],
)
def test_others_are_refused(choice: object, words: str):
    with pytest.raises(Gz2vitError, match=words):
        class_weights(choice, CLASS_COUNTS)


def test_reciprocal_needs_every_class():
    with pytest.raises(Gz2vitError, match="training galaxies of class 'Merger'"):
        class_weights("reciprocal", [5, 5, 5, 5, 5, 5, 5, 0])
