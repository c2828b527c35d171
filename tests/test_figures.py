"""What is drawn: the right numbers in the right places, the same files each time, nothing else."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from gz2vit import evidence
from gz2vit import paper as facts
from gz2vit.attention_maps import GalaxyMaps, Sample
from gz2vit.evaluation import confusion_percent
from gz2vit.io import Gz2vitError
from gz2vit.plots import extra_figures as extra
from gz2vit.plots import paper_figures as paper
from gz2vit.plots import style
from gz2vit.plots.captions import FIGURES, entry_of, figures_of
from gz2vit.plots.style import describe, description

ROOT = Path(__file__).resolve().parents[1]
DATA = {"profile": "demo", "name": "2,640 galaxies of real_gz2", "simulated": False}
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def picture(grey: int) -> np.ndarray:
    return np.full((32, 32, 3), grey, dtype=np.uint8)


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def words(figure: Figure) -> str:
    """All that a figure says, its panels' titles and its footer included, on one line."""
    parts = [figure.get_supxlabel(), *(text.get_text() for text in figure.texts)]
    for axes in figure.axes:
        parts += [axes.get_title(), axes.get_xlabel(), axes.get_ylabel(), *texts(axes)]
    return " ".join(" | ".join(parts).split())


# --- Style, saving, descriptions, the list of figures


def test_saved_as_pdf_and_png_the_same_each_time_with_words(tmp_path: Path):
    figure, axes = plt.subplots(figsize=(2, 2))
    axes.plot([0, 1])
    assert describe(figure, "A line\n  that rises: Δ = 2.") is figure
    first, second = (style.save_figure(figure, tmp_path / name) for name in "ab")
    assert [path.name for path in first] == ["a.pdf", "a.png"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert b"CreationDate" not in first[0].read_bytes() and b"/Subject" in first[0].read_bytes()
    info = Image.open(first[1]).info
    assert (round(info["dpi"][0]), info["Description"]) == (300, "A line that rises: Δ = 2.")
    assert len(list(tmp_path.iterdir())) == 4
    assert Image.open(io.BytesIO(style.png_bytes(figure, dpi=50))).size == (100, 100)
    assert not plt.fignum_exists(figure.number)


def test_drawing_leaves_the_users_settings_alone_and_does_not_depend_on_them(tmp_path: Path):
    history = pd.DataFrame({"epoch": [1, 2], "train_loss": 1, "valid_loss": 2, "train_acc": 0.5})
    history["valid_acc"] = [0.4, 0.3]
    own = {"text.parse_math": True, "font.size": 15.0, "xtick.labelsize": 20.0, "axes.grid": True}
    shown = []
    for settings in ({}, own):
        with matplotlib.rc_context(settings):
            before = dict(matplotlib.rcParams)
            figure = extra.draw_learning_curves(history)
            figure.canvas.draw()  # as a notebook shows it
            png = style.save_figure(figure, tmp_path / "a")[1].read_bytes()
            assert dict(matplotlib.rcParams) == before
        shown.append((png, figure.axes[0].get_xticklabels()[0].get_fontsize()))
    assert shown[0] == shown[1] and shown[0][1] == 7.0

    def draw_dollars() -> Figure:
        plt.ion()  # as a notebook's backend does when the first figure loads it
        figure = plt.figure()
        figure.text(0, 0, "costs $5 to $6")
        return figure

    try:
        assert not style.house_style()(draw_dollars)().texts[0].get_parse_math()
        assert plt.isinteractive()  # a notebook shows every figure
    finally:
        plt.ioff()


def test_figures_without_words_and_frames_without_figures_are_described():
    figure, (left, right) = plt.subplots(1, 2)
    left.plot([0, 4], [1, 3], label="training")
    left.set(title="Loss\nof all", xlabel="epoch", ylabel="loss")
    right.set_xlabel("class")
    assert description(figure) == (
        "A figure of 2 panels; panel 1: Loss of all, x axis epoch, y axis loss, training; "
        "panel 2: x axis class"
    )
    shortened = description(describe(figure, "word " * 1000))
    assert len(shortened) <= style.LONGEST and shortened.endswith("word …")
    figure = style.draw_missing("Fig. 4", "resnet50 is not trained: `./run_all.sh`", DATA)
    assert description(figure) == "Fig. 4 is not drawn: resnet50 is not trained: `./run_all.sh`."
    assert description(figure) in words(figure)
    assert style.draw_missing("Fig. 4", "", DATA) is None


def test_models_and_figures_have_names():
    assert style.full_name("linformer_weighted") == "Linformer, class weights"
    assert style.full_name("my_weighted") == "my_weighted"
    shown = style.looks("abcdefghi")
    assert len({tuple(look.values()) for look in shown.values()}) == 8 and shown["i"] == shown["a"]

    assert len({one.name for one in FIGURES}) == len(FIGURES)
    assert figures_of("fig3") == ["fig3", "fig3_paper"]
    assert figures_of("labels") == ["decision_path"]  # agreement needs published labels
    assert entry_of("fig3_paper").title == "Fig. 3 from the paper's numbers"
    part = entry_of("fig2_my_choice")
    assert (part.step, part.title) == ("fig2", "Fig. 2: two galaxies of each class (my choice)")
    assert (entry_of("fig10").title, entry_of("fig10").step) == ("Fig10", "")


# --- Figs. 1 and 2

SMALL = {"image_size": 112, "patch_size": 28, "depth": 2, "dim": 32, "k_dim": 8, "heads": 4}


def fig1(network: dict, image: np.ndarray | None = None) -> Figure:
    """Fig. 1 as its notebook draws it."""
    notebook = json.loads((ROOT / "figures/15_draw_fig1_architecture.ipynb").read_text())
    cells = ["".join(one["source"]) for one in notebook["cells"] if one["cell_type"] == "code"]
    scope = {"network": network, "parameters": 2_785_416, "source": "the source", "image": image}
    for cell in (cells[0], *(one for one in cells if "label(" in one)):
        exec(cell, scope)
    return scope["figure"]


def test_fig1_has_the_papers_numbers_and_stays_on_the_paper():
    small = SMALL | {"heads": 1, "dim": 512}
    figures = [fig1(one, picture(7)) for one in (facts.NETWORKS["linformer"], small)]
    shown = words(figures[0])
    for part in (
        *("2,785,416 parameters", "224 × 224 px, cut into 8 × 8 patches of 28 px"),
        *("linear projection, 2,352 to 128", "N = 65 tokens, 128 wide"),  # 3 x 28 x 28
        *("× 12 layers", "8 heads, 16 wide", "MLP, 128 – 512 – 128", "N k = 4,160", "N² = 4,225"),
        *facts.CLASS_SHORT_NAMES,
    ):
        assert part in shown, part
    for figure in figures:
        figure.canvas.draw()
        assert (figure.axes[0].images[0].get_array() == picture(7)).all()
        for part in (*figure.axes[0].texts, *figure.axes[0].patches):
            box = part.get_window_extent()
            assert box.x0 >= 0 and box.x1 <= figure.bbox.x1, part
            assert box.y0 >= 0 and box.y1 <= figure.bbox.y1, part


def test_fig1s_matrices_fit_together_and_are_to_scale():
    figure = fig1(SMALL)
    found = re.findall(r"\| (\d+) × (\d+) (?=\||$)", words(figure))
    shapes = [(int(rows), int(columns)) for rows, columns in found]
    n, k, d = 17, 8, 8
    keys = [(k, n), (n, d), (k, d)]
    assert shapes == [*keys, *keys, (n, d), (d, k), (n, k), (n, k), (k, d), (n, d)]
    drawn = [one for one in figure.axes[0].patches if type(one) is Rectangle]
    unit = drawn[0].get_width() / n
    for patch, shape in zip(drawn, shapes, strict=True):
        assert (patch.get_height() / unit, patch.get_width() / unit) == pytest.approx(shape)
    shared = words(fig1(SMALL | {"share_kv": True}))
    assert "| F |" not in shared and "| V |" not in shared and shared.count("| EK |") == 3


def test_mistakes_come_surest_first_and_galaxies_have_their_class_and_id():
    images = np.stack([picture(grey) for grey in (0, 1, 2, 3)])
    table = pd.DataFrame({"class": [0, 1, 2, 3], "pred": [0, 0, 2, 7]})
    chances = np.full((4, 8), 0.01)
    chances[np.arange(4), table.pred] = [0.9, 0.8, 0.7, 0.6]
    table = table.assign(**{f"p{index}": chances[:, index] for index in range(8)})
    shown = [axes for axes in paper.draw_mistakes(table, images).axes if axes.images]
    assert [axes.images[0].get_array()[0, 0, 0] for axes in shown] == [1, 3]
    titles = [axes.get_title() for axes in shown]
    assert titles == ["In-between\n→ Round, 80%", "Edge-on\n→ Merger, 60%"]
    assert len(paper.draw_mistakes(table, images, 1).axes) == 1
    figure = paper.draw_mistakes(table[::2], images[::2])
    assert "no mistakes among 2 galaxies" in words(figure)
    with pytest.raises(Gz2vitError, match="4 galaxies.* 3 images"):
        paper.draw_mistakes(table, images[:3])
    figure = paper.draw_galaxies([picture(1), picture(2)], [7, 0], ["12", "NGC1300"])
    assert [axes.get_title() for axes in figure.axes] == ["Merger\n12", "Round\nNGC1300"]


# --- Fig. 3


def test_fig3_from_counts_matches_the_papers_cell_by_cell():
    exact = [np.array(percent) for percent in facts.FIG3_CONFUSION_PERCENT.values()]
    # A million galaxies of each class: enough to hold the published tenths of a percent.
    counts = [np.rint(1e6 * one / one.sum(axis=1, keepdims=True)).astype(int) for one in exact]
    for one in counts:
        one[:, 0] += 1_000_000 - one.sum(axis=1)
    panels = {f"model {place}": confusion_percent(one) for place, one in enumerate(counts)}
    figure = paper.draw_fig3(panels, [1_000_000] * 8, DATA | {"training": "for 3 epochs"})
    for axes, published in zip(figure.axes, exact, strict=True):
        drawn = np.array([float(text.rstrip("%")) for text in texts(axes)]).reshape(8, 8)
        assert np.abs(drawn - published).max() <= 0.2  # its rows add up to 99.8 to 100.2
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [f"{name} (1,000,000)" for name in facts.CLASS_NAMES]
    assert "for 3 epochs" in words(figure)
    assert "Irregular taken for Unbarred, 18.6%" in description(figure).partition("model 1")[0]
    rare = paper.draw_fig3(panels, [1] * 8, "none is ours", "Reds", classes=[6, 7])
    assert [len(texts(axes)) for axes in rare.axes] == [4, 4] and "none is ours" in words(rare)
    assert texts(rare.axes[1])[3] == texts(figure.axes[1])[63]
    metrics = {"model": "linformer_weighted", "class_weights": [0.19, 3.23, 12.345, 2.0]}
    title = paper.confusion_title(metrics, "77.42%")
    assert title == "Linformer, accuracy 77.42%\nclass weights = [0.19, 3.23, 12.3, 2]"
    # Published predictions have no class weights to show.
    assert paper.confusion_title({"model": "vit"}, "1%") == "ViT, accuracy 1%"


def test_what_is_not_known_says_so_in_its_panel_and_cell():
    panels = {"resnet50 is not trained: run `./run_all.sh`": None, "a": 100.0 * np.eye(8)}
    figure = paper.draw_fig3(panels, [1] * 8, DATA)
    assert "resnet50 is not trained" in texts(figure.axes[0])[0]
    labels = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert labels == [f"{name} (1)" for name in facts.CLASS_NAMES]
    assert "resnet50 is not trained: run" in description(figure)
    figure = paper.draw_confusion([0, 0, 0, 1], [0, 0, 1, 1])
    cells = np.array(texts(figure.axes[0])).reshape(8, 8)
    assert cells[0].tolist() == ["66.7%", "33.3%"] + ["0.0%"] * 6
    assert (cells[2:] == "–").all()  # classes without galaxies
    assert "4 galaxies, 75.0% of them right" in words(figure)


# --- Fig. 4 and the evidence

# The left panel of the paper's Fig. 4, in pixels of its picture from the top: the upper edge of
# each histogram's line (six pixels thick), of the grey its first row. 0: hidden by lines.
TOPS_PX = {
    "all": (499, 323, 147, 128, 209, 0, 366, 435, 0, 0, 536, 547, 0, 0, 0, 572, 575, 0, 577, 0),
    "only first": (517, 300, 92, 76, 226, 286, 416, 448, 483, 513,
                   529, 552, 554, 554, 568, 564, 578, 571, 578, 575),
    "only second": (511, 376, 200, 140, 201, 284, 330, 414, 460, 502,
                    523, 523, 554, 548, 562, 570, 572, 567, 574, 571),
}  # fmt: skip
BASE_PX = 580.0  # zero, in rows
AREA_PX = 2570.0  # of each histogram: the sum of its heights


def heights(axes: Axes) -> dict[str, np.ndarray]:
    """The densities that a panel of Fig. 4 shows, bin by bin, of its three histograms."""
    bars = [patch.get_height() for patch in axes.patches if isinstance(patch, Rectangle)]
    lines = [patch for patch in axes.patches if not isinstance(patch, Rectangle)]
    steps = [patch.get_xy()[1 : 2 * len(bars) : 2, 1] for patch in lines]
    return dict(zip(TOPS_PX, [np.array(bars), *steps], strict=True))


def test_fig4s_left_panel_from_counts_matches_the_papers_bin_by_bin():
    whole = {column: evidence.published_galaxies(column) for column in paper.FIG4_PANELS}
    edges = {column: evidence.published_edges(column) for column in paper.FIG4_PANELS}
    totals = {**facts.FIG4_COUNTS, "all": sum(facts.FIG4_COUNTS.values())}
    figure = paper.draw_fig4(whole, PAIR, "none is ours", edges, totals=totals)
    drawn = {name: one * 1.0982 * AREA_PX for name, one in heights(figure.axes[0]).items()}
    for name in ("only first", "only second"):
        published = np.maximum(BASE_PX - (np.array(TOPS_PX[name]) + 2.5), 0)  # the line's middle
        np.testing.assert_allclose(drawn[name], published, atol=1.0)
    tops = np.array(TOPS_PX["all"])
    seen = tops > 0
    np.testing.assert_allclose(drawn["all"][seen], BASE_PX + 0.5 - tops[seen], atol=1.0)
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels[:2] == ["full test set (31,191)", "Linformer right, ResNet-50 wrong (1,116)"]


def galaxies(n: int) -> pd.DataFrame:
    """Two models' answers on galaxies of some size: the first is right on the smaller half."""
    rng = np.random.default_rng(0)
    sizes, magnitudes = rng.permutation(np.linspace(4, 14, n)), rng.uniform(14, 17, n)
    table = pd.DataFrame({"petroR90_r": sizes, "dered_r": magnitudes})
    small = table.petroR90_r < 9
    regions = np.where(small, "only first", "only second")
    return table.assign(first_right=small, second_right=~small, region=regions)


PAIR = ("linformer", "resnet50")


def test_fig4_shows_each_group_where_its_galaxies_are():
    table = galaxies(2000)
    table.loc[:2, "petroR90_r"] = np.nan
    table.loc[3, "petroR90_r"] = 80.0
    figure = paper.draw_fig4(table, PAIR, DATA)
    bars = [one for one in figure.axes[0].patches if isinstance(one, Rectangle)]
    middles = np.array([one.get_x() + one.get_width() / 2 for one in bars])
    drawn = heights(figure.axes[0])
    for one in drawn.values():
        assert (one * bars[0].get_width()).sum() == pytest.approx(1)
    assert not drawn["only first"][middles > 10].any()
    assert not drawn["only second"][middles < 8].any()
    assert "3 of unknown size; 1 beyond the axis of size" in words(figure)
    never = paper.draw_fig4(galaxies(50).assign(region="both right"), PAIR, DATA)
    assert "right, ResNet-50 wrong (0)" in never.axes[0].get_legend().get_texts()[1].get_text()
    colours = {"all": "#ffff00", "only first": "#ff0000", "only second": "#0000ff"}
    chosen = {"petroR90_r": np.arange(4, 15, 5)}  # bins and colours are the reader's choice
    figure = paper.draw_fig4(galaxies(500), PAIR, DATA, chosen, colours)
    assert figure.axes[0].get_xlim() == pytest.approx((4 - 0.2, 14))
    assert len(heights(figure.axes[0])["all"]) == 2
    assert to_hex(figure.axes[0].patches[0].get_facecolor()) == "#ffff00"


@pytest.mark.parametrize("sizes", [np.linspace(100, 200, 400), np.full(400, 300.0)])
def test_fig4_has_room_for_other_sizes_few_galaxies_and_long_footers(sizes: np.ndarray):
    table = galaxies(400).assign(petroR90_r=sizes)
    bars = heights(paper.draw_fig4(table, PAIR, DATA).axes[0])
    assert all(one.sum() > 0 for one in bars.values()) and len(bars["all"]) == 20
    training = "linformer trained from the file mine/best.ckpt (SHA-256 0123456789ab…); " * 4
    figure = paper.draw_fig4(table[:50], PAIR, DATA | {"training": training.strip()})
    assert len(heights(figure.axes[0])["all"]) == 10
    assert "from the file mine/best.ckpt (SHA-256 0123456789ab…)" in words(figure)
    figure.canvas.draw()
    label = figure._supxlabel.get_window_extent()
    assert label.x1 <= figure.bbox.x1 and label.height > 20 and label.y0 >= 0


def test_trends_of_all_models_in_percent():
    table = galaxies(400).assign(vit=lambda one: one.first_right, convnext=False)
    bins = dict.fromkeys(paper.FIG4_PANELS, 5)
    figure = extra.draw_accuracy_trends(table, ["vit", "convnext"], DATA, bins)
    good, bad = (bars[0].get_ydata() for bars in figure.axes[0].containers)
    np.testing.assert_allclose(np.float64(good), [100, 100, 50, 0, 0], atol=3)
    assert (bad == 0).all()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ViT", "convnext"]
    assert "400 test galaxies, 5 bins" in words(figure)


# --- Fig. 5, checks of maps, features

IMAGES = RNG.integers(0, 40, (3, 32, 32, 3), dtype=np.uint8)
IMAGES[:, 12:20, 12:20] = 255  # a galaxy brighter than its sky
PAPERS = str(facts.FIG5_GALAXY_IDS["B"][0])
LISTS = {"A": ["g1", "g0"], "B": [PAPERS], "random": ["g0"]}
SAMPLE = Sample(("g0", "g1", PAPERS), np.array([0, 5, 7]), IMAGES, LISTS)


MAPS = {
    key: GalaxyMaps(
        *(RNG.random((3, 4, 4)), RNG.random((3, heads, 4, 4)), RNG.random((3, 4, 4))),
        *(RNG.dirichlet(np.ones(8), 3), "attention rollout", "evidence"),
    )
    for key, heads in {"vit": 3, "resnet50": 0}.items()
}


def lines(figure: Figure) -> list[list[np.ndarray]]:
    """What the panels of a figure show, line by line."""
    found: dict[int, list[np.ndarray]] = {}
    for axes in figure.axes:
        line = found.setdefault(axes.get_subplotspec().rowspan.start, [])
        line += [np.asarray(image.get_array()) for image in axes.images]
    return [found[number] for number in sorted(found)]


def test_fig5_has_a_line_per_galaxy_with_its_maps():
    vit = MAPS["vit"]
    figure = paper.draw_fig5(SAMPLE, "A", MAPS, DATA, "vit")
    for line, row in zip(lines(figure), (1, 0), strict=True):
        expected = [IMAGES[row], vit.average[row], *vit.heads[row]]
        assert [*map(np.array_equal, line, expected)] == [True] * 5
    titles = ["image", "average", "head 1", "head 2", "head 3"]
    assert [axes.get_title() for axes in figure.axes[:5]] == titles
    assert all(axes.images[0].get_clim() == (0, 1) for axes in figure.axes[1:5])
    for kind in ("average", "of_class"):
        figure = paper.draw_fig5(SAMPLE, "A", MAPS, DATA, kind=kind)
        labels = [axes.get_xlabel() for axes in figure.axes]
        assert any(one.endswith(f"{100 * vit.probability[1].max():.0f}%") for one in labels)
        for line, row in zip(lines(figure), (1, 0), strict=True):
            expected = [IMAGES[row], *(getattr(one, kind)[row] for one in MAPS.values())]
            assert [*map(np.array_equal, line, expected)] == [True] * 3
        assert len(figure.axes[1].collections) == 1  # the outline
    shown = {one: words(paper.draw_fig5(SAMPLE, one, MAPS, DATA, "vit")) for one in LISTS}
    assert "stand-ins" in shown["A"] and "galaxies are" not in shown["random"]
    assert "the paper's galaxies, as far" in shown["B"]


def test_maps_that_cannot_be_drawn_are_a_frame_with_the_reason():
    wrong = {"hf_vit": "vit, resnet50", "resnet50": "CNN", "vit": "none", "": "none"}
    for model, why in wrong.items():
        name = "mergers" if why == "none" else "A"
        figure = paper.draw_fig5(SAMPLE, name, MAPS, DATA, model)
        assert why in words(figure) and "not drawn" in description(figure)


@pytest.mark.parametrize("model", ["vit", ""])
def test_the_colours_are_explained_where_nothing_else_is(model: str):
    figure = paper.draw_fig5(SAMPLE, "A", MAPS, DATA, model, colour_map="jet")
    figure.canvas.draw()
    (strip,) = figure.axes[0].child_axes
    low, high = strip.texts
    assert (low.get_text(), high.get_text()) == ("0", "max.")
    assert strip.collections[-1].get_cmap().name == "jet"
    taken = [part.get_window_extent() for axes in figure.axes for part in (axes.title, axes.patch)]
    for one in (low, high, strip):
        assert figure.bbox.fully_contains(*one.get_window_extent().p0)
        assert not any(one.get_window_extent().overlaps(other) for other in taken)


def test_a_drawn_map_keeps_its_maximum_and_leaves_no_rings():
    """One bright patch is red in its middle, and nothing around it is darker than the rest."""
    one = np.full((8, 8), 0.2)
    one[3, 4] = 1.0
    figure, (axes, empty) = plt.subplots(1, 2, figsize=(6, 3))
    paper.show_map(axes, one, "turbo")
    paper.show_map(empty, 0 * one, "turbo")
    assert texts(empty) == ["no map"] and not empty.images
    figure.canvas.draw()
    drawn = np.asarray(figure.canvas.buffer_rgba())[:, :, :3].astype(int)
    x0, y0, x1, y1 = (round(one) for one in axes.bbox.extents)
    part = drawn[len(drawn) - y1 + 2 : len(drawn) - y0 - 2, x0 + 2 : x1 - 2].reshape(-1, 3)
    peak, dark = (np.array(plt.get_cmap("turbo")(x, bytes=True)[:3], int) for x in (1.0, 0.12))
    assert np.abs(part - peak).sum(axis=1).min() < 40, "the peak is not red"
    assert np.abs(part - dark).sum(axis=1).min() > 20, "a ring around the peak"


def test_an_explored_galaxy_has_its_probabilities_and_neighbours():
    share = np.array([0.5, 0.1, 0.1, 0.1, 0.1, 0.05, 0.03, 0.02])
    own = (IMAGES[0], MAPS["vit"].average[0], share, ("7 (test): Merger", "vit: layer 1"), 7)
    figure = extra.draw_explored(*own, [(IMAGES[0], "a"), (IMAGES[1], "b")], "near")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["7 (test): Merger", "vit: layer 1", "", "a", "b"]
    bars = figure.axes[2].patches
    np.testing.assert_allclose([bar.get_width() for bar in bars], 100 * share)
    assert bars[7].get_facecolor() != bars[0].get_facecolor() == bars[6].get_facecolor()
    alone = extra.draw_explored(*own, note="none")
    assert len(alone.axes) == 3
    assert alone.get_figheight() < figure.get_figheight() - 1  # no empty half below


# --- Data, training, simulation


@pytest.mark.parametrize("epochs", [1, 2, 40])
def test_learning_curves_mark_the_first_best_epoch(epochs: int):
    steps = np.arange(1, epochs + 1)
    history = pd.DataFrame({"epoch": steps, "valid_acc": np.minimum(steps, 7) / 10})
    history = history.assign(train_loss=2 / steps, valid_loss=2.1 / steps, train_acc=steps / 50)
    figure = extra.draw_learning_curves(history)
    loss, accuracy = figure.axes
    best = min(epochs, 7)
    assert accuracy.get_title().startswith(f"best: epoch {best}, validation 0.{best}00")
    assert loss.lines[0].get_ydata().tolist() == history.train_loss.tolist()
    assert loss.lines[1].get_ydata().tolist() == history.valid_loss.tolist()
    assert f"training loss from 2 to {2 / epochs:.3g}" in description(figure)
    authors = history.assign(epoch=steps).iloc[:3].assign(valid_acc=0.9)
    beside = extra.draw_learning_curves(history[:2], authors=authors).axes[1]
    dashed = [line for line in beside.lines if line.get_linestyle() == "--"]
    assert dashed[1].get_ydata().tolist() == [0.9] * min(epochs, 2)
    figure.canvas.draw()
    assert all(float(x).is_integer() for x in loss.get_xticks() if 0.5 <= x <= epochs + 0.5)
