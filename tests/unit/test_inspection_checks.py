"""gz2vit.inspection.checks: what is checked, of which maps, and with which numbers."""

from pathlib import Path

import numpy as np
import pytest

from gz2vit.attention import gaze, resize_maps
from gz2vit.attention_checks import (
    Curve,
    areas_and_gains,
    check_maps,
    light_fraction,
    rank_correlation,
)
from gz2vit.attention_maps import open_model
from gz2vit.io import Gz2vitError
from tests.unit.small_training import open_splits

QUANTITIES = [
    *("deletion_most", "deletion_random", "deletion_centre", "deletion_gain"),
    *("insertion_most", "insertion_random", "insertion_gain", "deletion_gain_centre"),
    *("light", "light_gain", "light_gain_others"),
    *("randomised_similarity", "other_galaxy_similarity"),
]


def curve(*probability: float) -> Curve:
    """One galaxy's curve at three states."""
    return Curve(np.array([0.0, 0.5, 1.0]), np.array([probability]), np.array([0]))


def test_gains_are_positive_where_the_map_is_the_better_order():
    curves = {
        ("deletion", "most"): curve(1.0, 0.1, 0.0),  # area 0.3: it falls at once
        ("deletion", "random"): curve(1.0, 0.7, 0.0),  # 0.6
        ("deletion", "centre"): curve(1.0, 0.5, 0.0),  # 0.5
        ("insertion", "most"): curve(0.0, 0.9, 1.0),  # 0.7: it rises at once
        ("insertion", "random"): curve(0.0, 0.3, 1.0),  # 0.4
    }
    found = {name: value.round(6).tolist() for name, value in areas_and_gains(curves).items()}
    assert found == {
        "deletion_most": [0.3],
        "deletion_random": [0.6],
        "deletion_centre": [0.5],
        "deletion_gain": [0.3],
        "insertion_most": [0.7],
        "insertion_random": [0.4],
        "insertion_gain": [0.3],
        "deletion_gain_centre": [0.2],
    }


@pytest.mark.parametrize(
    ("key", "kinds"), [("linformer", ["attention", "class"]), ("convnext", ["class"])]
)
def test_every_quantity_of_every_kind_of_map(inspected: Path, key: str, kinds: list[str]):
    images = open_splits(inspected)[2].store.images[:6]
    model = open_model(inspected, key)
    checks = check_maps(model, images, steps=2)
    assert list(checks.table["map"].unique()) == kinds
    for kind, rows in checks.table.groupby("map", sort=False):
        assert list(rows["quantity"]) == QUANTITIES
        known = rows.set_index("quantity")
        values = known["value"]
        gain = values["deletion_random"] - values["deletion_most"]
        assert values["deletion_gain"] == pytest.approx(gain, abs=1e-9)
        there = known[known["galaxies"] > 0]
        assert (there["low"] <= there["value"] + 1e-12).all()
        assert (there["value"] <= there["high"] + 1e-12).all()
        maps = gaze(model.network, model.prepare(images), of_class=kind == "class").maps
        alike = np.nanmean(rank_correlation(maps, maps.roll(1, 0)))
        assert values["other_galaxy_similarity"] == pytest.approx(alike, abs=1e-3)
        planes = model.classifier.shift.new_tensor(images).permute(0, 3, 1, 2)
        lit = light_fraction(resize_maps(maps, 8), planes)
        assert np.isnan(values["light"]) == np.isnan(lit.fraction).all()
    curves = checks.curves
    assert set(curves["order"]) == {"most", "random", "centre"}
    ends = curves[(curves["kind"] == "deletion") & (curves["changed"] == 0)]
    sure = model.probabilities(images).max(axis=1).mean()
    assert ends["probability"].to_numpy() == pytest.approx(sure, abs=1e-3)


def test_one_galaxy_is_too_few(inspected: Path):
    images = open_splits(inspected)[2].store.images[:1]
    with pytest.raises(Gz2vitError, match="compare galaxies; give two or more, not 1"):
        check_maps(open_model(inspected, "linformer"), images)
