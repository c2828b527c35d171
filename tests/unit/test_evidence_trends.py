"""Accuracy in bins of equal counts: who is in which bin, ties, NaN, and the weakest galaxies."""

import numpy as np
import pytest

from gz2vit.comparisons import (
    accuracy_in_bins,
    accuracy_trends,
    compare_at_end,
    compare_right,
    difference_in_bins,
)
from gz2vit.evaluation import wilson_interval
from gz2vit.io import Gz2vitError

pytestmark = pytest.mark.usefixtures("quick_collection")

VALUES = np.random.default_rng(0).permutation(np.arange(1.0, 101.0))


def test_bins_hold_equal_counts():
    found = accuracy_in_bins(VALUES <= 25, VALUES, bins=10)
    assert found.galaxies.tolist() == [10] * 10
    assert found.low_edge.tolist() == [1, 10, 20, 30, 40, 50, 60, 70, 80, 90]
    assert found.high_edge.tolist() == [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    assert found["median"].tolist() == [5.5 + 10 * index for index in range(10)]
    assert found.accuracy.tolist() == [1, 1, 0.5] + [0] * 7
    assert (found.low[2], found.high[2]) == wilson_interval(5, 10)


@pytest.mark.parametrize("galaxies", [3, 97, 1001])
def test_every_galaxy_is_in_one_bin(galaxies: int):
    values = np.random.default_rng(galaxies).normal(size=galaxies)
    found = accuracy_in_bins(values > 0, values, bins=7)
    assert found.galaxies.sum() == galaxies
    assert found.right.sum() == (values > 0).sum()
    assert found.galaxies.max() - found.galaxies.min() <= 1 + galaxies // 100


def test_equal_values_are_not_parted():
    found = accuracy_in_bins([True] * 10, [1] * 6 + [2, 3, 4, 5], bins=5)
    assert found.galaxies.tolist() == [6, 2, 2]
    same = accuracy_in_bins([True, False], [7, 7], bins=5)
    assert same.galaxies.tolist() == [2]


def test_missing_values_are_left_out_and_counted():
    found = accuracy_in_bins([True, False, True], [1, np.nan, 2], bins=1)
    assert found.right.tolist() == [2]
    assert found.attrs["left_out"] == 1


@pytest.mark.parametrize(
    ("values", "bins", "words"),
    [([np.nan] * 3, 2, "0 galaxies"), ([1, 2, 3], 0, "0 bins"), ([1, 2], 2, "do not go with")],
)
def test_nothing_to_bin(values: list, bins: int, words: str):
    with pytest.raises(Gz2vitError, match=words):
        accuracy_in_bins([True] * 3, values, bins)


def test_models_share_their_bins():
    values = np.append(VALUES, np.nan)
    found = accuracy_trends({"good": values > 0, "bad": values > 90}, values, bins=4)
    assert found.model.tolist() == ["good"] * 4 + ["bad"] * 4
    assert found.high_edge[:4].tolist() == found.high_edge[4:].tolist()
    assert found.accuracy.tolist() == [1, 1, 1, 1, 0, 0, 0, 10 / 25]
    assert found.attrs["left_out"] == 1


def test_differences_are_mcnemars_bin_by_bin():
    first, second = VALUES % 2 == 0, VALUES > 50
    found = difference_in_bins(first, second, VALUES, bins=2)
    low = VALUES <= 50
    known = compare_right(first[low], second[low])
    assert found.difference.tolist() == [0.5, -0.5]
    assert found.only_first.tolist() == [25, 0]
    assert (found.low[0], found.p_value[0]) == (known.difference.low, known.p_value)
    assert found.p_holm[0] == pytest.approx(2 * found.p_value[0])


def test_the_smallest_and_the_largest_quarter():
    first, second = VALUES <= 10, VALUES > 95
    small = compare_at_end(first, second, VALUES, towards=-1)
    assert (small.galaxies, small.only_first, small.only_second) == (25, 10, 0)
    large = compare_at_end(first, second, np.append(VALUES[:-1], np.nan), towards=1)
    assert large.galaxies == 25
    assert large.only_first == 0
    with pytest.raises(Gz2vitError, match="towards 0"):
        compare_at_end(first, second, VALUES, towards=0)
