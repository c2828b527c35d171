"""Fig. 4, the lead, trends, reliability, precision and recall: the right numbers are drawn."""

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from PIL import Image

from gz2vit.calibration import (
    average_precisions,
    calibrate,
    precision_recall_curves,
    probabilities_of,
    reliability_pair,
)
from gz2vit.evidence import SIZE, published_edges
from gz2vit.paper import CLASS_NAMES
from gz2vit.plots.extra_figures import (
    draw_accuracy_trends,
    draw_lead,
    draw_precision_recall,
    draw_reliability,
)
from gz2vit.plots.paper_figures import (
    draw_published_size_brightness,
    draw_size_brightness,
    histogram_edges,
)
from gz2vit.plots.style import LOOKS, draw_missing, full_name, looks
from tests.unit.folders import needs_shared

DATA = {"profile": "demo", "name": "2,640 galaxies of real_gz2", "simulated": False}
# The left panel of the paper's Fig. 4, in pixels of its picture from the top: the upper edge of
# each histogram's line (six pixels thick), of the grey its first row. None: hidden by lines.
ONLY_FIRST_PX = (
    *(517, 300, 92, 76, 226, 286, 416, 448, 483, 513),
    *(529, 552, 554, 554, 568, 564, 578, 571, 578, 575),
)
ONLY_SECOND_PX = (
    *(511, 376, 200, 140, 201, 284, 330, 414, 460, 502),
    *(523, 523, 554, 548, 562, 570, 572, 567, 574, 571),
)
ALL_PX = (
    *(499, 323, 147, 128, 209, None, 366, 435, None, None),
    *(536, 547, None, None, None, 572, 575, None, 577, None),
)
BASE_PX = 580.0  # zero, in rows
AREA_PX = 2570.0  # of each histogram: the sum of its heights
LEFT_PX, BIN_PX = 77.5, 33.0  # the first bin's left edge, a bin's width, in columns


COLOURS = {"all": (211, 211, 211), "only first": (178, 34, 34), "only second": (255, 165, 0)}


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def heights(axes: Axes) -> dict[str, np.ndarray]:
    """The densities that a panel of Fig. 4 shows, bin by bin, of its three histograms."""
    bars = [patch.get_height() for patch in axes.patches if isinstance(patch, Rectangle)]
    lines = [patch for patch in axes.patches if not isinstance(patch, Rectangle)]
    steps = [patch.get_xy()[1 : 2 * len(bars) : 2, 1] for patch in lines]
    return dict(zip(COLOURS, [np.array(bars), *steps], strict=True))


def test_fig4s_left_panel_from_counts_matches_the_papers_bin_by_bin():
    axes = draw_published_size_brightness().axes[0]
    drawn = {name: one * 1.0982 * AREA_PX for name, one in heights(axes).items()}
    for name, tops in (("only first", ONLY_FIRST_PX), ("only second", ONLY_SECOND_PX)):
        published = np.maximum(BASE_PX - (np.array(tops) + 2.5), 0)  # the middle of the line
        np.testing.assert_allclose(drawn[name], published, atol=1.0)
    seen = np.array([top is not None for top in ALL_PX])
    published = BASE_PX + 0.5 - np.array([top for top in ALL_PX if top])
    np.testing.assert_allclose(drawn["all"][seen], published, atol=1.0)
    covered = np.array([top for top, free in zip(ONLY_FIRST_PX, seen, strict=True) if not free])
    # Where the line hides the grey's edge, the edge is somewhere behind its six pixels.
    assert (np.abs(drawn["all"][~seen] - (BASE_PX - covered - 2.5)) < 4).all()


def test_those_heights_are_the_published_pictures():
    path = needs_shared("paper/figures/fig4.png")
    picture = np.array(Image.open(path).convert("RGB")).astype(int)
    columns = {"all": ALL_PX, "only first": ONLY_FIRST_PX, "only second": ONLY_SECOND_PX}
    for name, tops in columns.items():
        for index, top in enumerate(tops):
            if top is None:
                continue
            left = int(LEFT_PX + BIN_PX * index)
            inside = picture[top - 1 : top + 1, left + 6 : left + 28]
            near = (np.abs(inside - COLOURS[name]).max(axis=2) < 40).any(axis=1)
            assert near.tolist() == [False, True], f"{name}, bin {index}"


def test_the_published_figure_says_what_it_is():
    figure = draw_published_size_brightness()
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == [
        "full test set (31,191)",
        "Linformer right, ResNet-50 wrong (1,116)",
        "Linformer wrong, ResNet-50 right (2,683)",
    ]
    assert "none is ours" in figure.get_supxlabel()
    assert "arcsec" in figure.axes[0].get_xlabel()
    assert "mag" in figure.axes[1].get_xlabel()


def galaxies(n: int, seed: int = 0) -> pd.DataFrame:
    """Two models' answers on galaxies of some size: the first is right on the smaller half."""
    rng = np.random.default_rng(seed)
    sizes, magnitudes = rng.permutation(np.linspace(4, 14, n)), rng.uniform(14, 17, n)
    table = pd.DataFrame({"petroR90_r": sizes, "dered_r": magnitudes})
    small = table.petroR90_r < 9
    regions = np.where(small, "only first", "only second")
    return table.assign(first_right=small, second_right=~small, region=regions)


def test_fig4_shows_each_group_where_its_galaxies_are():
    table = galaxies(2000)
    table.loc[:2, "petroR90_r"] = np.nan
    table.loc[3, "petroR90_r"] = 80.0
    figure = draw_size_brightness(table, ("linformer", "resnet50"), DATA)
    drawn, edges = heights(figure.axes[0]), published_edges("petroR90_r")
    middles = (edges[:-1] + edges[1:]) / 2
    for one in drawn.values():
        assert (one * np.diff(edges)).sum() == pytest.approx(1)
    assert (drawn["only first"][middles > 10] == 0).all()
    assert (drawn["only second"][middles < 8] == 0).all()
    assert "3 without a size, 1 beyond the axis of size" in figure.get_supxlabel()
    assert "profile demo, 2,640 galaxies of real_gz2" in figure.get_supxlabel()


def test_other_sizes_and_few_galaxies_have_other_bins():
    far = {"all": np.linspace(100, 200, 500), "only first": np.ones(500), "only second": []}
    edges = histogram_edges(SIZE, far | {"only second": np.ones(500)})
    assert (edges[0], edges[-1]) == pytest.approx((100.5, 199.5))
    few = {"all": np.linspace(4, 20, 50), "only first": np.ones(9), "only second": np.ones(9)}
    assert len(histogram_edges(SIZE, few)) - 1 == 10
    same = {"all": np.full(9, 300.0), "only first": np.ones(9), "only second": np.ones(9)}
    assert (np.diff(histogram_edges(SIZE, same)) > 0).all()


def test_the_footer_says_what_the_models_were_trained_from_and_is_no_wider_than_the_figure():
    told = "linformer trained from the file mine/best.ckpt (SHA-256 0123456789ab…); resnet50 " * 3
    data = DATA | {"training": told.strip()}
    for figure in (
        draw_size_brightness(galaxies(200), ("linformer", "resnet50"), data),
        draw_lead(galaxies(200), ("linformer", "resnet50"), data),
    ):
        footer = figure.get_supxlabel()
        assert "from the file mine/best.ckpt (SHA-256 0123456789ab…)" in " ".join(footer.split())
        figure.canvas.draw()
        label = figure._supxlabel.get_window_extent()
        assert label.x1 <= figure.bbox.x1 and label.height > 20
        assert label.y0 >= 0


def test_fig4_of_models_that_never_differ():
    table = galaxies(50).assign(region="both right")
    figure = draw_size_brightness(table, ("vit", "hf_vit_weighted"), DATA)
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels[1] == "ViT right, Hugging Face ViT, class weights wrong (0)"


def test_the_lead_is_drawn_in_points_and_filled_where_it_is_one():
    figure = draw_lead(galaxies(500), ("linformer", "resnet50"), DATA)
    points = figure.axes[0].collections[-1]
    drawn = np.asarray(points.get_offsets())[:, 1]
    np.testing.assert_allclose(drawn, [100, 100, 0, -100, -100], atol=3)
    faces = [to_hex(face) for face in points.get_facecolors()]
    assert faces[2] == "#ffffff"
    assert faces[0] == faces[4] == "#0072b2"
    assert "(points)" in figure.axes[0].get_ylabel()


def test_trends_of_all_models_in_percent():
    table = galaxies(400).assign(vit=lambda one: one.first_right, convnext=False)
    figure = draw_accuracy_trends(table, ["vit", "convnext"], DATA)
    good, bad = (bars[0].get_ydata() for bars in figure.axes[0].containers)
    np.testing.assert_allclose(np.float64(good), [100, 100, 50, 0, 0], atol=3)
    assert (bad == 0).all()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ViT", "convnext"]
    assert "400 test galaxies, 5 bins" in figure.get_supxlabel()


def predictions(n: int, classes: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    true = np.arange(n) % classes
    logits = rng.normal(size=(n, 8)) + 2.0 * np.eye(8)[true]
    table = pd.DataFrame({"GalaxyID": [f"{seed}-{row}" for row in range(n)], "class": true})
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    table["pred"] = chances.argmax(axis=1)
    return table.assign(**{f"p{index}": chances[:, index] for index in range(8)})


@pytest.mark.parametrize("models", [1, 3, 5])
def test_reliability_has_a_panel_for_each_model(models: int):
    tests = {key: predictions(300, 8, seed) for seed, key in enumerate("abcde"[:models])}
    valid = predictions(300, 8, seed=9)
    pairs = {key: reliability_pair(table, valid) for key, table in tests.items()}
    found = {key: calibrate(table, valid, resamples=10) for key, table in tests.items()}
    figure = draw_reliability(pairs, found, DATA)
    shown = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title() for axes in shown] == list(tests)
    before, after = (bars[0].get_xydata() for bars in shown[0].containers)
    for drawn, bins in zip((before, after), pairs["a"], strict=True):
        known = bins[bins.galaxies >= 5]
        np.testing.assert_allclose(drawn, known[["confidence", "accuracy"]])
    assert f"T = {found['a'].temperature:.2f}" in shown[0].texts[0].get_text()
    assert all(axes.get_xlabel() for axes in shown[-min(models, 4) :])
    assert "300 test galaxies" in figure.get_supxlabel()


def test_precision_recall_has_a_panel_for_each_class_also_without_galaxies():
    table = predictions(200, 7, seed=0)  # no mergers
    curves = {"vit": precision_recall_curves(table["class"], probabilities_of(table))}
    averages = {"vit": average_precisions(table["class"], probabilities_of(table), resamples=5)}
    figure = draw_precision_recall(curves, averages, DATA)
    assert [axes.get_title().rsplit(" ", 1)[0] for axes in figure.axes] == list(CLASS_NAMES)
    assert figure.axes[7].texts[0].get_text() == "no test galaxies\nof this class"
    own = curves["vit"][curves["vit"].class_name == CLASS_NAMES[2]]
    guess, line = figure.axes[2].lines
    np.testing.assert_allclose(line.get_xydata(), own[["recall", "precision"]])
    assert guess.get_ydata()[0] == pytest.approx((table["class"] == 2).mean())
    assert "ViT nan" not in figure.get_label()


def test_what_is_missing_is_said_in_the_figures_place():
    figure = draw_missing("Fig. 4", "resnet50 is not trained: `./run_all.sh`", DATA)
    words = " ".join(figure.axes[0].texts[0].get_text().split())
    assert words == "Fig. 4 is not drawn: resnet50 is not trained: `./run_all.sh`."
    assert figure.get_label() == words
    assert draw_missing("Fig. 4", "", DATA) is None


def test_models_that_share_a_panel_are_told_apart():
    assert full_name("linformer_weighted") == "Linformer, class weights"
    assert full_name("my_weighted") == "my_weighted"
    assert len({tuple(look.values()) for look in LOOKS}) == len(LOOKS) == 8
    assert looks("abcdefghi")["i"] == looks("abcdefghi")["a"]
