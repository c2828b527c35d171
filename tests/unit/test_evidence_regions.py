"""Two models joined by galaxy: regions, different test sets, properties that are missing."""

import numpy as np
import pandas as pd
import pytest

from gz2vit.comparisons import join_predictions, region_counts, right_table, with_properties
from gz2vit.io import Gz2vitError


def predictions(ids: str, true: list[int], pred: list[int]) -> pd.DataFrame:
    return pd.DataFrame({"GalaxyID": list(ids), "class": true, "pred": pred})


FIRST = predictions("abcd", [0, 1, 2, 3], [0, 1, 7, 7])
SECOND = predictions("dcba", [3, 2, 1, 0], [6, 2, 6, 0])  # another order


def test_each_galaxy_has_its_region():
    joined = join_predictions(FIRST, SECOND)
    assert joined.index.tolist() == list("abcd")
    assert joined.region.tolist() == ["both right", "only first", "only second", "both wrong"]
    assert joined.second_pred.tolist() == [0, 6, 2, 6]
    assert region_counts(joined) == dict.fromkeys(joined.region, 1)
    assert region_counts(joined[:2])["both wrong"] == 0


def test_right_table_of_several_models():
    table = right_table({"one": FIRST, "two": SECOND})
    assert table["one"].tolist() == [True, True, False, False]
    assert table["two"].tolist() == [True, False, True, False]
    assert table["true"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (predictions("abce", [0, 1, 2, 3], [0] * 4), "different test sets: galaxy d .*\\(2 such"),
        (predictions("abc", [0, 1, 2], [0] * 3), "different test sets: galaxy d "),
        (predictions("abcd", [0, 1, 2, 4], [0] * 4), "galaxy d different true classes"),
    ],
)
def test_different_test_sets_are_refused(other: pd.DataFrame, words: str):
    with pytest.raises(Gz2vitError, match=words):
        join_predictions(FIRST, other)
    with pytest.raises(Gz2vitError, match="'vit' and 'cnn'.*" + words):
        right_table({"vit": FIRST, "cnn": other})


def test_no_predictions():
    with pytest.raises(Gz2vitError, match="no predictions"):
        right_table({})


def test_properties_are_joined_and_missing_ones_counted():
    properties = pd.DataFrame({"galaxyID": list("xdba"), "petroR90_r": [9, 4, np.nan, 1.0]})
    found = with_properties(join_predictions(FIRST, SECOND), properties, ["petroR90_r"])
    np.testing.assert_array_equal(found.table.petroR90_r, [1, np.nan, np.nan, 4])
    assert found.missing == {"petroR90_r": 2}  # b has no value, c no row


def test_properties_of_other_galaxies_or_twice_are_refused():
    joined = join_predictions(FIRST, SECOND)
    others = pd.DataFrame({"galaxyID": ["x"], "dered_r": [15.0]})
    with pytest.raises(Gz2vitError, match="no test galaxy has a dered_r"):
        with_properties(joined, others, ["dered_r"])
    with pytest.raises(Gz2vitError, match="galaxy x stands more than once"):
        with_properties(joined, pd.concat([others, others]), ["dered_r"])
