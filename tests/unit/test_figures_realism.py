"""gz2vit.figures.realism: what the panels show, with both sides and with one."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from gz2vit.plots.extra_figures import (
    draw_realism_distances,
    draw_realism_distributions,
    draw_realism_gallery,
)
from gz2vit.plots.style import description
from gz2vit.sim2real import FEATURES, REAL, SIMULATED, feature_distances
from tests.unit.test_realism_compared import two_sides

DATA = {"profile": "smoke", "name": "96 galaxies of mine", "simulated": False}
ALONE = {"profile": "smoke", "name": "96 simulated galaxies", "simulated": True}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def texts(figure: plt.Figure) -> list[str]:
    found = [text.get_text() for axes in figure.axes for text in axes.texts]
    return found + [figure.get_supxlabel().replace("\n", " ")]


def test_the_gallery_has_real_above_simulated_ones():
    grey, white = (np.full((24, 24, 3), level, np.uint8) for level in (90, 250))
    sides = {REAL: [[grey, grey]] * 8, SIMULATED: [[white, white]] * 7 + [[white]]}
    figure = draw_realism_gallery(sides, 2, DATA)
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == 31
    lowest_real = min(a.get_position().y0 for a in panels if a.images[0].get_array().max() < 100)
    highest = max(a.get_position().y1 for a in panels if a.images[0].get_array().max() > 200)
    assert highest < lowest_real
    assert texts(figure).count("no simulated\ngalaxy") == 1
    assert texts(figure)[-1].startswith("gz2vit, profile smoke, 96 galaxies of mine; ")


def test_one_side_alone_says_so():
    sides = {REAL: [[]] * 8, SIMULATED: [[np.zeros((24, 24, 3), np.uint8)]] * 8}
    figure = draw_realism_gallery(sides, 1, ALONE)
    assert len([axes for axes in figure.axes if axes.images]) == len(figure.axes) == 8
    assert description(figure) == "Galaxies of each class: 1 simulated ones."
    assert "no real galaxies in this run: give some with --data DIR" in texts(figure)[-1]
    measured = two_sides(4)
    measured = measured[measured.origin == SIMULATED]
    distances = feature_distances(measured, 3)
    figure = draw_realism_distributions(measured, distances, ALONE)
    assert not figure.axes[0].get_title(loc="right")
    assert len(figure.legends[0].get_texts()) == 1
    assert description(figure).endswith("distances: no real galaxies to compare.")
    words = description(draw_realism_distances(distances, ALONE))
    assert words.startswith("The distance of each feature is not drawn: there are no real galaxies")


def test_the_distributions_show_both_sides_and_their_distance():
    measured = two_sides(20, redness=1.5)
    distances = feature_distances(measured, 3)
    figure = draw_realism_distributions(measured, distances, DATA)
    panels = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_xlabel() for axes in panels] == list(FEATURES.values())
    assert panels[0].get_title(loc="right") == f"D = {distances.ks[0]:.2f}"
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named == ["real, 160 galaxies", "simulated, 160 galaxies"]
    assert f"redness {distances.ks[0]:.2f}" in description(figure)


def test_the_distances_stand_by_feature_and_class():
    distances = feature_distances(two_sides(12, redness=1.5), 3)
    figure = draw_realism_distances(distances, DATA)
    axes = figure.axes[0]
    shown = axes.images[0].get_array()
    assert shown.shape == (len(FEATURES), 9)
    assert shown[0, 0] == pytest.approx(distances.ks[0])
    assert [tick.get_text() for tick in axes.get_xticklabels()][:2] == ["All\n96", "Round\n12"]
