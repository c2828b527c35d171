"""gz2vit.figures: maps, their checks, features and a galaxy to explore are drawn as given."""

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.image import BboxImage

from gz2vit.io import Gz2vitError
from gz2vit.plots.extra_figures import (
    draw_check_curves,
    draw_checks,
    draw_explored,
    draw_maps_of_galaxies,
    draw_neighbours,
    draw_probes,
    draw_properties,
)
from gz2vit.plots.paper_figures import (
    NOTHING,
    caption_of,
    draw_fig5,
    draw_one_galaxy,
    draw_side_by_side,
)

DATA = {"profile": "demo", "name": "24 galaxies", "simulated": False}
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 40, (2, 32, 32, 3), dtype=np.uint8)
IMAGES[:, 12:20, 12:20] = 255  # a galaxy that stands out from its sky


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def test_captions():
    assert caption_of("123", 0) == "123\nRound"
    assert caption_of("587739809958002871", 7, 2) == "587739809\n958002871\nMerger\n→ Cigar-shaped"


def test_every_map_is_drawn_between_0_and_1_and_an_empty_one_says_so():
    average, heads = RNG.random((2, 4, 4)), RNG.random((2, 3, 4, 4))
    heads[1, 2] = 0.0
    figure = draw_fig5(IMAGES, average, heads, ["a", "b"], DATA)
    assert [axes.get_title() for axes in figure.axes[:5]] == [
        *("image", "average", "head 1", "head 2", "head 3")
    ]
    maps = [axes.images[0] for axes in figure.axes[1:5]]
    assert all(one.get_clim() == (0, 1) for one in maps)
    assert figure.axes[9].texts[0].get_text() == NOTHING
    assert not figure.axes[9].images


def test_the_colours_are_explained_where_nothing_else_stands():
    average, heads, below = RNG.random((2, 4, 4)), RNG.random((2, 3, 4, 4)), {"vit": ["a", "b"]}
    captions = [caption_of("587739809958002871", 7, 2), "b"]
    for figure in (
        draw_fig5(IMAGES, average, heads, captions, DATA, colour_map="jet"),
        draw_one_galaxy(IMAGES[0], average[0], heads[0], captions[0], DATA, colour_map="jet"),
        draw_side_by_side(IMAGES, {"vit": average}, captions, below, DATA, colour_map="jet"),
    ):
        figure.canvas.draw()
        (strip,) = (one for one in figure.artists if isinstance(one, BboxImage))
        low, high = figure.texts[-2:]
        assert (low.get_text(), high.get_text()) == ("0", "max.")
        assert strip.get_cmap().name == "jet"
        assert low.get_window_extent().x1 <= strip.get_window_extent().x0
        assert strip.get_window_extent().x1 <= high.get_window_extent().x0
        taken = [
            part.get_window_extent()
            for axes in figure.axes
            for part in (axes.title, axes.patch, *axes.texts)
            if axes.axison or axes.images
        ]
        for one in (low, high, strip):
            assert figure.bbox.fully_contains(*one.get_window_extent().p0)
            assert figure.bbox.fully_contains(*one.get_window_extent().p1)
            assert not any(one.get_window_extent().overlaps(other) for other in taken)


def test_a_drawn_map_keeps_its_maximum_and_leaves_no_rings():
    """One bright patch is red in its middle, and nothing around it is darker than the rest."""
    one = np.full((8, 8), 0.2)
    one[3, 4] = 1.0
    figure = draw_fig5(IMAGES[:1], one[None], np.zeros((1, 0, 8, 8)), ["a"], DATA)
    panel = figure.axes[1]
    figure.canvas.draw()
    drawn = np.asarray(figure.canvas.buffer_rgba())[:, :, :3].astype(int)
    x0, y0, x1, y1 = (round(one) for one in panel.bbox.extents)
    part = drawn[len(drawn) - y1 + 2 : len(drawn) - y0 - 2, x0 + 2 : x1 - 2].reshape(-1, 3)
    colours = plt.get_cmap("turbo")(np.array([1.0, 0.2]), bytes=True)[:, :3].astype(int)
    assert np.abs(part - colours[0]).sum(axis=1).min() < 40, "the peak is not red"
    dark = plt.get_cmap("turbo")(0.12, bytes=True)[:3]
    assert np.abs(part - np.array(dark, int)).sum(axis=1).min() > 20, "a ring around the peak"


def test_a_long_line_below_hides_no_panel():
    average = RNG.random((2, 4, 4))
    for words in ("short", "long " * 120):
        below = {"vit": ["Round 50%", "Disk 20%"]}
        figure = draw_side_by_side(IMAGES, {"vit": average}, ["a", "b"], below, DATA, words)
        figure.canvas.draw()
        line = next(text for text in figure.texts if text.get_text() == figure.get_supxlabel())
        tops = line.get_window_extent().y1
        labels = [axes.xaxis.label.get_window_extent().y0 for axes in figure.axes[-1:]]
        assert tops <= min(labels) + 1


def test_side_by_side_has_outlines_and_needs_galaxies():
    average, below = RNG.random((2, 4, 4)), {"vit": ["Round 50%", "Disk 20%"]}
    figure = draw_side_by_side(IMAGES, {"vit": average}, ["a", "b"], below, DATA)
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "Round 50%", "", "Disk 20%"]
    assert len(figure.axes[1].collections) == 1
    with pytest.raises(Gz2vitError, match="there are no galaxies to draw"):
        draw_side_by_side(IMAGES[:0], {"vit": average[:0]}, [], {"vit": []}, DATA)


def checks() -> pd.DataFrame:
    rows = [
        (model, kind, quantity, 0.2, 0.1, 0.4, 30)
        for model, kinds in (("vit", ("attention", "class")), ("resnet50", ("class",)))
        for kind in kinds
        for quantity in ("deletion_gain", "insertion_gain", "light_gain", "randomised_similarity")
    ]
    return pd.DataFrame(
        rows, columns=["model", "map", "quantity", "value", "low", "high", "galaxies"]
    )


def test_checks_are_points_with_their_intervals():
    figure = draw_checks(checks(), DATA)
    for panel in figure.axes:
        ends = [bar.get_segments()[0][:, 0].tolist() for bar in panel.collections]
        assert [one for one in ends if one == pytest.approx([0.1, 0.4])]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["vit", "resnet50"]
    assert "means over 30 test galaxies" in figure.get_supxlabel()


def test_curves_have_a_panel_for_each_map():
    rows = [
        ("vit", kind, "deletion", order, changed, 1 - changed, 0.9 - changed, 1.1 - changed)
        for kind in ("attention", "class")
        for order in ("most", "random")
        for changed in (0.0, 0.5, 1.0)
    ]
    columns = ["model", "map", "kind", "order", "changed", "probability", "low", "high"]
    figure = draw_check_curves(pd.DataFrame(rows, columns=columns))
    lines = figure.axes[1].get_lines()
    assert [line.get_label() for line in lines] == ["most", "random"]
    assert lines[0].get_ydata().tolist() == [1.0, 0.5, 0.0]
    assert not figure.axes[2].axison


def test_probes_rise_with_depth():
    rows = [("vit", f"block {n}", n / 10, n / 20, n / 5, 24) for n in range(1, 5)]
    columns = ["model", "layer", "accuracy", "low", "high", "galaxies"]
    panel = draw_probes(pd.DataFrame(rows, columns=columns), {"vit": 0.3}, DATA).axes[0]
    dashed, line = panel.get_lines()
    assert set(dashed.get_ydata()) == {30.0}
    np.testing.assert_allclose(line.get_ydata(), [10, 20, 30, 40])


def test_maps_of_galaxies_colour_classes_and_properties():
    points, classes = RNG.random((30, 2)), np.arange(30) % 3
    figure = draw_maps_of_galaxies({"vit": points, "cnn": points + 1}, classes, DATA)
    drawn = np.concatenate([one.get_offsets() for one in figure.axes[1].collections])
    assert sorted(map(tuple, drawn)) == sorted(map(tuple, points + 1))
    values = {"size, R90 [arcsec]": np.arange(30.0), "magnitude, r [mag]": "not known"}
    figure = draw_properties(points, classes, values, DATA, "words")
    np.testing.assert_array_equal(figure.axes[1].collections[0].get_array(), np.arange(30.0))
    assert [text.get_text() for text in figure.axes[2].texts] == ["not known"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        *("Round", "In-between", "Cigar-shaped")
    ]
    figure.canvas.draw()
    scale = next(axes for axes in figure.axes if axes.get_xlabel() == "size, R90 [arcsec]")
    gap = figure.axes[1].get_window_extent().y0 - scale.get_window_extent().y1
    assert 0 < gap < 0.2 * figure.dpi  # the scale stands at its map


def test_neighbours_stand_behind_their_galaxy():
    figure = draw_neighbours([[IMAGES[0], IMAGES[1]]], [["Round", "Edge-on"]], DATA, "words")
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), IMAGES[0])
    assert figure.axes[1].get_xlabel() == "Edge-on"


def test_an_explored_galaxy_has_its_probabilities_and_neighbours():
    share = np.array([0.5, 0.1, 0.1, 0.1, 0.1, 0.05, 0.03, 0.02])
    words = ("7 (test): Merger", "vit: layer 1")
    near = (IMAGES, ["a", "b"], "near")
    figure = draw_explored(IMAGES[0], RNG.random((4, 4)), share, words, 7, *near)
    image, attention, bars, *near = figure.axes
    assert (image.get_title(), attention.get_title()) == words
    np.testing.assert_allclose([bar.get_width() for bar in bars.patches], 100 * share)
    colours = [bar.get_facecolor() for bar in bars.patches]
    assert colours[7] != colours[0] == colours[6]
    assert [axes.get_title() for axes in near] == ["a", "b"]
    alone = draw_explored(IMAGES[0], RNG.random((4, 4)), share, words, 7, note="none")
    assert len(alone.axes) == 3
    assert alone.get_figheight() < figure.get_figheight() - 1  # no empty half below
