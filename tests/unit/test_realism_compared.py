"""Distances and the classifier between two sides whose difference is known."""

import numpy as np
import pandas as pd
import pytest

from gz2vit.paper import CLASS_NAMES
from gz2vit.sim2real import (
    ALL,
    FEATURES,
    REAL,
    SIMULATED,
    discriminate,
    feature_distances,
    give_aways,
    kolmogorov_distance,
    matched,
)


def two_sides(per_class: int, seed: int = 0, **shifts: float) -> pd.DataFrame:
    """Normal features, of both sides alike but for those that are shifted on the simulated one."""
    rng = np.random.default_rng(seed)
    rows = 8 * per_class * 2
    table = pd.DataFrame({name: rng.normal(size=rows) for name in FEATURES})
    table["class_index"] = np.tile(np.arange(8), rows // 8)
    table["origin"] = np.repeat([REAL, SIMULATED], rows // 2)
    for name, shift in shifts.items():
        table.loc[table.origin == SIMULATED, name] += shift
    return table


def thumbs_of(table: pd.DataFrame, seed: int = 1, brighter: float = 0.0) -> np.ndarray:
    pixels = np.random.default_rng(seed).normal(size=(len(table), 8, 8, 3))
    return pixels + brighter * (table.origin == SIMULATED).to_numpy()[:, None, None, None]


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [([1, 2, 3], [1, 2, 3], 0), ([1, 2], [3, 4], 1), ([1, 2, 3, 4], [3, 4, 5, 6], 0.5)],
)
def test_the_distance_of_known_samples(first: list, second: list, distance: float):
    assert kolmogorov_distance(np.array(first), np.array(second)) == pytest.approx(distance)


def test_a_shifted_feature_is_found_and_the_others_are_alike():
    table = feature_distances(two_sides(30, redness=1.5), resamples=100)
    overall = table[table.class_name == ALL].set_index("feature")
    assert overall.ks.idxmax() == "redness"
    # Two normal distributions 1.5 apart: 2 Phi(0.75) - 1.
    assert overall.ks["redness"] == pytest.approx(0.547, abs=0.08)
    assert overall.low["redness"] < overall.ks["redness"] < overall.high["redness"]
    assert overall.cliffs_delta["redness"] > 0.5
    assert overall.simulated_median["redness"] > overall.real_median["redness"] + 1
    others = overall.drop("redness")
    assert (others.ks > others.alike).sum() <= 2, "5 % of 15 by chance"
    assert set(table.class_name) == {ALL, *CLASS_NAMES}
    assert (table[table.class_name == CLASS_NAMES[3]].real == 30).all()


def test_unknown_values_and_a_missing_side_are_no_error():
    sides = two_sides(12)
    sides.loc[0, "gini"] = np.nan
    table = feature_distances(sides, resamples=5).set_index(["class_name", "feature"])
    assert table.real[ALL, "gini"] == 12 * 8 - 1
    alone = feature_distances(sides[sides.origin == SIMULATED], resamples=5)
    assert alone.ks.isna().all()
    assert alone.simulated_median.notna().all()
    few = feature_distances(two_sides(3), resamples=5)
    assert few[few.class_name != ALL].low.isna().all()


def test_what_is_alike_cannot_be_told_apart():
    sides = two_sides(25)
    table = discriminate(sides, thumbs_of(sides))
    assert table.looks_at.tolist() == ["measured features", "thumbnails", "both"]
    assert (table.galaxies == 400).all()
    assert (abs(table.accuracy - 0.5) < 0.1).all()
    assert ((table.low < table.accuracy) & (table.accuracy < table.high)).all()


def test_what_differs_is_told_apart_by_those_who_see_it():
    sides = two_sides(25, gini=2.5)
    table = discriminate(sides, thumbs_of(sides)).set_index("looks_at")
    assert table.accuracy["measured features"] > 0.8
    assert table.accuracy["thumbnails"] < 0.6
    assert table.accuracy["both"] > 0.8
    sides = two_sides(25)
    table = discriminate(sides, thumbs_of(sides, brighter=1.0)).set_index("looks_at")
    assert table.accuracy["measured features"] < 0.6
    assert table.accuracy["thumbnails"] > 0.9


def test_what_gives_it_away_stands_first():
    telling = give_aways(two_sides(25, gini=2.5, asymmetry=-0.8))
    assert telling.feature[0] == "gini"
    assert telling.accuracy_lost[0] > 0.1
    alone = telling.set_index("feature").auc_alone
    # Two normal distributions 2.5 and 0.8 apart: Phi(d / sqrt 2).
    assert alone["gini"] == pytest.approx(0.961, abs=0.03)
    assert alone["asymmetry"] == pytest.approx(0.714, abs=0.06)
    assert alone.min() >= 0.5


def test_only_classes_of_both_sides_are_judged():
    sides = two_sides(6)
    sides = sides[(sides.origin == REAL) | (sides.class_index != 6)].reset_index(drop=True)
    assert not matched(sides)[sides.class_index == 6].any()
    assert matched(sides).sum() == 2 * 6 * 7
    assert (discriminate(sides, thumbs_of(sides)).galaxies == 84).all()


def test_too_few_or_one_side_make_an_empty_table():
    sides = two_sides(10)
    for some in (sides[sides.origin == SIMULATED], sides[sides.origin == "none"]):
        some = some.reset_index(drop=True)
        assert discriminate(some, thumbs_of(some)).empty
        assert give_aways(some).empty
