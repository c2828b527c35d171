"""Derived against published labels: every galaxy is counted once, on its side."""

import numpy as np
import pandas as pd

from gz2vit.votes import NO_CLASS, compare_labels


def test_counts_on_both_sides():
    derived = pd.Series([0, 0, 1, NO_CLASS, NO_CLASS, 7], list("abcdef"))
    published = pd.Series([0, 1, 3, 7, 2], ["a", "b", "d", "f", "z"])
    found = compare_labels(derived, published)
    assert found.counts[0, 0] == 1  # a
    assert found.counts[1, 0] == 1  # b: published 1, derived 0
    assert found.counts[7, 7] == 1  # f
    assert found.counts.sum() == 3
    assert found.only_derived.tolist() == [0, 1, 0, 0, 0, 0, 0, 0]  # c
    assert found.only_published.tolist() == [0, 0, 0, 1, 0, 0, 0, 0]  # d
    assert (found.neither, found.unknown) == (1, 1)  # e; z
    assert found.share == 2 / 3


def test_table_has_the_missing_ones_last():
    derived = pd.Series([0, 1, NO_CLASS], list("abc"))
    table = compare_labels(derived, pd.Series([0, 5], ["a", "c"])).table()
    assert table.shape == (9, 9)
    assert table.loc["0 Round Elliptical", "0 Round Elliptical"] == 1
    assert table.loc["5 Unbarred Spiral", "not selected"] == 1
    assert table.loc["not selected", "1 In-between Elliptical"] == 1
    assert table.to_numpy().sum() == 3


def test_nothing_in_common():
    found = compare_labels(pd.Series([1], ["a"]), pd.Series([1], ["b"]))
    assert np.isnan(found.share)
    assert found.unknown == 1
