"""Figs. 2 to 5 of the paper (arXiv:2110.01024), and pictures of galaxies like them.

Each figure is one function that a notebook calls in one cell; bins, colours, classes are arguments.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import BboxImage
from matplotlib.transforms import Bbox, TransformedBbox
from scipy.ndimage import gaussian_filter

from gz2vit import paper
from gz2vit.catalog import class_weights
from gz2vit.evaluation import PROBABILITY_COLUMNS, ClassIndices, confusion_matrix, confusion_percent
from gz2vit.evidence import published_edges, published_galaxies
from gz2vit.images import segment_galaxy
from gz2vit.io import WEIGHTED, Gz2vitError
from gz2vit.paper import CLASS_COUNT, CLASS_NAMES, CLASS_SHORT_NAMES, SPLIT_CLASS_COUNTS
from gz2vit.plots.style import (
    BLUE,
    GREY,
    NOTEBOOK_WIDTH_IN,
    ORANGE,
    PALE,
    SMALL_PT,
    TEXT_WIDTH_IN,
    describe,
    footer,
    full_name,
    model_name,
    say,
    strip_axes,
    styled,
    write_below,
)

# --- Fig. 2 and other pictures of galaxies

COLUMNS = 8  # galaxies in a row of a grid
# PAPER, Fig. 2: the titles of its columns, shorter than the names of the classes.
FIG2_TITLES = (
    *("Round Elliptical", "In-between", "Cigar-shaped", "Edge-on"),
    *("Barred Spiral", "Unbarred Spiral", "Irregular", "Merger"),
)


def show_galaxy(axes: Axes, image: np.ndarray | None, nothing: str = "no galaxy") -> None:
    """One image (H, W, 3) without ticks and frame, or a pale panel that says `nothing`."""
    strip_axes(axes)
    if image is not None:
        axes.imshow(image, aspect="auto")
        return
    axes.set_facecolor(PALE)
    say(axes, nothing, fontsize=SMALL_PT)


def draw_galaxies(
    images: Sequence[np.ndarray], class_index: Sequence[int], galaxy_ids: Sequence[str]
) -> Figure:
    """A grid of galaxies, eight in a row, each under its class and id.

    `images`: uint8 (H, W, 3); `class_index` (0 to 7) and `galaxy_ids` in the same order.
    """
    captions = [
        f"{CLASS_SHORT_NAMES[index]}\n{galaxy_id}"
        for index, galaxy_id in zip(class_index, galaxy_ids, strict=True)
    ]
    return _draw_grid(images, captions, nothing="no galaxies")


def draw_mistakes(predictions: pd.DataFrame, images: np.ndarray, count: int = 16) -> Figure:
    """The `count` mistakes that a network was most certain of, each under "true → predicted".

    `predictions`: one row per image, in the order of `images`, with `class`, `pred` and `p0` to
    `p7`; `images`: uint8 (N, H, W, 3), of which only those shown are read. Raises `Gz2vitError`
    where the two do not fit, or the probabilities are missing.
    """
    if len(predictions) != len(images):
        raise Gz2vitError(f"predictions of {len(predictions)} galaxies, but {len(images)} images")
    if not set(PROBABILITY_COLUMNS) <= set(predictions):
        raise Gz2vitError("the predictions have no probabilities (columns p0 to p7)")
    table = predictions.reset_index(drop=True)
    probabilities = table[list(PROBABILITY_COLUMNS)].to_numpy()
    table["certainty"] = probabilities[np.arange(len(table)), table["pred"]]
    wrong = table[table["class"] != table["pred"]]
    shown = wrong.sort_values("certainty", ascending=False, kind="stable").head(count)
    captions = [
        f"{CLASS_SHORT_NAMES[true]}\n→ {CLASS_SHORT_NAMES[pred]}, {100 * certainty:.0f}%"
        for true, pred, certainty in shown[["class", "pred", "certainty"]].itertuples(index=False)
    ]
    nothing = f"no mistakes among {len(table):,} galaxies"
    return _draw_grid([images[row] for row in shown.index], captions, nothing)


@styled
def _draw_grid(images: Sequence[np.ndarray], captions: Sequence[str], nothing: str) -> Figure:
    """Images in rows of eight under their captions; without images, the words `nothing`."""
    if not len(images):
        figure = plt.figure(figsize=(4.0, 0.5))
        figure.text(0.5, 0.5, nothing, ha="center", va="center", color=GREY)
        return figure
    rows, columns = math.ceil(len(images) / COLUMNS), min(COLUMNS, len(images))
    side_in, caption_in = NOTEBOOK_WIDTH_IN / COLUMNS, 0.3
    size = (columns * side_in, rows * (side_in + caption_in))
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.02, wspace=0, hspace=0)
    for panel in axes.flat[len(images) :]:
        panel.set_axis_off()
    for panel, image, caption in zip(axes.flat, images, captions, strict=False):
        show_galaxy(panel, image)
        panel.set_title(caption, fontsize=7, pad=2)
    return figure


# --- Fig. 3: confusion matrices in percent of the true class

NO_GALAXIES = "–"  # in the cells of a class that the test galaxies lack


@styled
def draw_confusion_pair(
    counts: Sequence[np.ndarray | None],
    metrics: Sequence[Mapping[str, Any]],
    data: Mapping[str, Any],
    colour_map: str = "Blues",
    classes: Sequence[int] = range(CLASS_COUNT),
) -> Figure:
    """Fig. 3: the confusion matrices of two models side by side.

    `counts`: two integer arrays (8, 8), rows true, columns predicted; `metrics`: the models'
    `metrics.json`; `data`: the record of the selection; `classes`: those shown. A model that is not
    trained has counts None and a metric `missing`, the words for its panel. Raises `Gz2vitError`
    where the two were not tested on the same galaxies.
    """
    totals = [count.sum(axis=1) for count in counts if count is not None]
    if (totals[0] != totals[-1]).any():
        names = " and ".join(metric["model"] for metric in metrics)
        raise Gz2vitError(f"the models {names} were tested on different galaxies; run both again")
    panels = []
    for count, metric in zip(counts, metrics, strict=True):
        if count is None:
            panels.append((None, metric["missing"]))
        else:
            title = _confusion_title(metric, f"{100 * metric['accuracy']:.1f}%")
            panels.append((confusion_percent(count), title))
    figure = _draw_matrices(panels, totals[0], colour_map, classes)
    footer(figure, data)
    return figure


@styled
def draw_published_pair(
    colour_map: str = "Blues", classes: Sequence[int] = range(CLASS_COUNT)
) -> Figure:
    """Fig. 3 from the paper's own percentages, to stand beside ours."""
    panels = []
    for key, percent in paper.FIG3_CONFUSION_PERCENT.items():
        choice = "tuned" if key.endswith(WEIGHTED) else "uniform"
        weights = class_weights(choice, SPLIT_CLASS_COUNTS["train"])
        accuracy = f"{100 * paper.PUBLISHED_RESULTS[key]['test_acc']:.2f}%"
        title = _confusion_title({"model": key, "class_weights": weights}, accuracy)
        panels.append((np.array(percent), title))
    figure = _draw_matrices(panels, np.array(SPLIT_CLASS_COUNTS["test"]), colour_map, classes)
    source = f"the published numbers of arXiv:{paper.ARXIV}, Fig. 3"
    write_below(figure, f"drawn from {source}; none is ours")
    return figure


@styled
def draw_confusion(true: ClassIndices, pred: ClassIndices, colour_map: str = "Blues") -> Figure:
    """The confusion matrix of predictions `pred` (N,) for galaxies of class `true` (N,)."""
    counts = confusion_matrix(true, pred)
    percent, total = confusion_percent(counts), counts.sum()
    figure, axes = plt.subplots(figsize=(5.0, 3.9), layout="constrained")
    _draw_matrix(axes, percent, range(CLASS_COUNT), colour_map, counts.sum(axis=1))
    title = f"{total:,} galaxies, {100 * counts.trace() / total:.1f}% of them right"
    axes.set_title(title)
    return describe(figure, f"A confusion matrix: {_describe_matrix(title, percent)}")


def _draw_matrices(
    panels: Sequence[tuple[np.ndarray | None, str]],
    totals: np.ndarray,
    colour_map: str,
    classes: Sequence[int],
) -> Figure:
    """Two matrices of percentages (8, 8) under their titles, or words where there is none.

    `totals` (8,): the galaxies of each true class.
    """
    figure, axes = plt.subplots(1, 2, figsize=(TEXT_WIDTH_IN, 3.55), layout="constrained")
    words, named = [], False
    for panel, (percent, title) in zip(axes, panels, strict=True):
        if percent is None:
            panel.set_axis_off()
            say(panel, textwrap.fill(title, 42), wrap=True)
            words.append(title)
        else:
            _draw_matrix(panel, percent, classes, colour_map, None if named else totals)
            panel.set_title(title, fontsize=SMALL_PT, linespacing=1.4)
            words.append(_describe_matrix(title, percent))
            named = True
    return describe(figure, f"Two confusion matrices. Left: {words[0]} Right: {words[1]}")


def _draw_matrix(
    axes: Axes,
    percent: np.ndarray,
    classes: Sequence[int],
    colour_map: str,
    totals: np.ndarray | None,
) -> None:
    """Percentages (8, 8) as a map of `classes`, each written in its cell; NaN: no galaxies.

    The rows are named, with their `totals`, where these are given.
    """
    shown = percent[np.ix_(classes, classes)]
    texts = [[NO_GALAXIES if np.isnan(x) else f"{x:.1f}%" for x in row] for row in shown]
    # The same colours in every matrix, so that equal shares look equal.
    options = {"cmap": colour_map, "vmin": 0, "vmax": 100, "cbar": False, "fmt": ""}
    options |= {"annot": np.array(texts), "annot_kws": {"fontsize": SMALL_PT}}
    seaborn.heatmap(np.nan_to_num(shown), ax=axes, **options)
    names = [CLASS_SHORT_NAMES[index] for index in classes]
    axes.set_xticklabels(names, rotation=30, ha="right", rotation_mode="anchor")
    axes.tick_params(length=0, pad=2)
    axes.set_xlabel("Predicted class")
    if totals is None:
        axes.set_yticks([])
        return
    axes.set_yticklabels([f"{CLASS_NAMES[row]} ({totals[row]:,})" for row in classes], rotation=0)
    axes.set_ylabel("True class (test galaxies)")


def _describe_matrix(title: str, percent: np.ndarray) -> str:
    """A matrix in words: its title, what was recognised, and the largest confusion."""
    shares = ", ".join(
        f"{name} {NO_GALAXIES if np.isnan(x) else f'{x:.1f}%'}"
        for name, x in zip(CLASS_SHORT_NAMES, percent.diagonal(), strict=True)
    )
    others = np.nan_to_num(percent - np.diag(percent.diagonal()))
    row, column = np.unravel_index(others.argmax(), others.shape)
    confused = f"{CLASS_SHORT_NAMES[row]} taken for {CLASS_SHORT_NAMES[column]}"
    return (
        f"{title.splitlines()[0]}; recognised of each class: {shares}; most often confused: "
        f"{confused}, {others[row, column]:.1f}%."
    )


def _confusion_title(metric: Mapping[str, Any], accuracy: str) -> str:
    """The model, its accuracy, and the class weights that it was trained with, as in the paper."""
    weights = [
        f"{weight:.0f}" if weight == round(weight) else f"{weight:.{2 if weight < 10 else 1}f}"
        for weight in metric.get("class_weights", ())
    ]
    below = f"\nclass weights = [{', '.join(weights)}]" if weights else ""
    return f"{model_name(metric['model'])}, accuracy {accuracy}{below}"


# --- Fig. 4: sizes and magnitudes of all test galaxies, and of those that one model has right

FULL_GREY = "#D3D3D3"  # the paper's
FIG4_GROUPS = ("all", "only first", "only second")
# The paper's red and orange are blue and orange here: distinct for all kinds of colour vision.
FIG4_COLOURS = dict(zip(FIG4_GROUPS, (FULL_GREY, BLUE, ORANGE), strict=True))
# By column of galaxy_properties.csv, how a panel is labelled.
FIG4_PANELS = {
    "petroR90_r": {
        **{"title": "galaxy size", "name": "size", "unit": "arcsec", "tick_step": 5},
        **{"axis": "90% light radius (arcsec)", "legend": "upper right"},
    },
    "dered_r": {
        **{"title": "galaxy brightness", "name": "r magnitude", "unit": "mag", "tick_step": 1},
        **{"axis": "(brighter) ←  r-band magnitude (mag)  → (fainter)", "legend": "upper left"},
    },
}
PER_BIN = 5  # galaxies that the smaller group should have in a bin, on average
INSIDE = 0.95  # share of the galaxies that the paper's bins must hold to be used


@styled
def draw_size_brightness(
    table: pd.DataFrame,
    names: tuple[str, str],
    data: Mapping[str, Any],
    edges: Mapping[str, np.ndarray] | None = None,
    colours: Mapping[str, str] = FIG4_COLOURS,
) -> Figure:
    """Fig. 4 of two models: size on the left, magnitude on the right.

    `table`: one row per galaxy, with its `region` (`only first`, `only second`, ...: which model
    has it right) and the columns of FIG4_PANELS; `names`: the models' keys; `data`: the record of
    the selection; `edges`: of the bins, by column; `colours`: by group. Missing values are left out
    and counted in the footer. Without `edges` the bins are the paper's where they hold most
    galaxies, else as many between the extreme percentiles, and half as many for few galaxies.
    """
    values, chosen, left_out = {}, {}, []
    for column, panel in FIG4_PANELS.items():
        known = table[table[column].notna()]
        groups = {"all": known} | {one: known[known.region == one] for one in FIG4_GROUPS[1:]}
        values[column] = {one: group[column].to_numpy() for one, group in groups.items()}
        bins = (edges or {}).get(column, _histogram_edges(column, values[column]))
        chosen[column] = np.asarray(bins, dtype=float)
        beyond = ((known[column] < bins[0]) | (known[column] > bins[-1])).sum()
        missing = len(table) - len(known)
        words = [f"{missing:,} without a {panel['name']}"] if missing else []
        words += [f"{beyond:,} beyond the axis of {panel['name']}"] if beyond else []
        left_out.append(", ".join(words))
    figure, words = _draw_histograms(values, chosen, tuple(map(full_name, names)), colours)
    footer(figure, data, "; ".join(filter(None, left_out)))
    return describe(figure, f"Histograms of the test galaxies. {words}")


@styled
def draw_published_size_brightness(colours: Mapping[str, str] = FIG4_COLOURS) -> Figure:
    """Fig. 4 from the paper's own counts (read off its pixels), to stand beside ours."""
    values, edges = {}, {}
    for column in FIG4_PANELS:
        edges[column], galaxies = published_edges(column), published_galaxies(column)
        values[column] = {one: galaxies[column][galaxies.region == one] for one in FIG4_GROUPS}
        values[column]["all"] = galaxies[column]
    totals = {**paper.FIG4_COUNTS, "all": sum(paper.FIG4_COUNTS.values())}
    figure, words = _draw_histograms(values, edges, ("Linformer", "ResNet-50"), colours, totals)
    source = f"counts read off the published Fig. 4 of arXiv:{paper.ARXIV}"
    write_below(figure, f"drawn from {source}; none is ours")
    return describe(figure, f"The paper's histograms, from its counts. {words}")


def _histogram_edges(column: str, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """The bins of a panel as `draw_size_brightness` describes them."""
    edges, everything = published_edges(column), values["all"]
    if np.mean((everything >= edges[0]) & (everything <= edges[-1])) < INSIDE:
        low, high = np.quantile(everything, [0.005, 0.995])
        edges = np.linspace(low, high if high > low else low + 1, len(edges))
    smaller = min(len(values["only first"]), len(values["only second"]))
    step = 1 if smaller >= PER_BIN * (len(edges) - 1) else 2
    return np.append(edges[:-1:step], edges[-1])


def _draw_histograms(
    values: Mapping[str, Mapping[str, np.ndarray]],
    edges: Mapping[str, np.ndarray],
    names: tuple[str, str],
    colours: Mapping[str, str],
    totals: Mapping[str, int] | None = None,
) -> tuple[Figure, str]:
    """The two panels of Fig. 4, three histograms of area 1 in each, and what they show in words.

    `values`, `edges`: by column; `totals`: how many galaxies the legend counts in each group, by
    default those with a value.
    """
    (first, second), described = names, []
    figure, axes = plt.subplots(1, 2, figsize=(TEXT_WIDTH_IN, 2.9), layout="constrained")
    for panel, (column, look) in zip(axes, FIG4_PANELS.items(), strict=True):
        bins, medians = edges[column], []
        n = totals or {group: len(own) for group, own in values[column].items()}
        labels = (
            f"full test set ({n['all']:,})",
            f"{first} right, {second} wrong ({n['only first']:,})",
            f"{first} wrong, {second} right ({n['only second']:,})",
        )
        line = {"histtype": "step", "linewidth": 1.5}
        lines = ({}, line, line | {"linestyle": (0, (4, 1.6))})
        for group, label, style in zip(FIG4_GROUPS, labels, lines, strict=True):
            own = values[column][group]
            inside = own[(own >= bins[0]) & (own <= bins[-1])]
            # Nothing has no density; its line is in the legend all the same.
            options = {"density": len(inside) > 0, "label": label, "color": colours[group]}
            panel.hist(inside, bins, **options, **style)
            if len(own):
                medians.append(f"{label}, median {np.median(own):.3g} {look['unit']}")
        described.append(f"{look['title'].capitalize()}: {'; '.join(medians)}.")
        panel.set(title=look["title"], xlabel=look["axis"], ylabel=f"pdf (1/{look['unit']})")
        panel.xaxis.set_major_locator(plt.MultipleLocator(look["tick_step"]))
        panel.set_xlim(bins[0] - 0.02 * np.ptp(bins), bins[-1])
        panel.set_ylim(0, 1.32 * panel.get_ylim()[1])  # room for the legend
        panel.legend(loc=look["legend"], handlelength=2.2)
    return figure, " ".join(described)


# --- Fig. 5: where networks look, and the maps of many networks side by side

# DEVIATION: the paper's Fig. 5 has jet, whose bands show edges that the maps do not have; turbo has
# its hues, but brightness without steps.
COLOUR_MAP = "turbo"
# Smooth, through the values, and nowhere beyond them: "bicubic" passes below the peaks, so that no
# map would be red, and "catrom" adds dark rings.
INTERPOLATION = "hermite"
GAP_IN, LABEL_IN, TITLE_IN, FOOTER_IN = 0.03, 0.72, 0.2, 0.2
OUTLINE_SHARE = 1 / 75  # of the side: an outline is smoothed over 3 px of 224
LARGEST_IN = 1.1  # side of a panel, where there are few
NO_MAP = "no map"  # in a panel without one


@styled
def draw_fig5(
    images: np.ndarray,
    average: np.ndarray,
    heads: np.ndarray,
    captions: Sequence[str],
    data: Mapping[str, Any],
    extra: str = "",
    colour_map: str = COLOUR_MAP,
) -> Figure:
    """Fig. 5: one row per galaxy: its image, the average over heads, and every head's map.

    `images`: uint8 (N, H, W, 3); `average`: (N, g, g), `heads`: (N, heads, g, g), 0 to 1;
    `captions`: beside each row; `data`: the record of the selection; `extra`: what else the line
    below says. Raises `Gz2vitError` without galaxies.
    """
    titles = ["image", "average", *(f"head {number}" for number in range(1, heads.shape[1] + 1))]
    figure, axes = panels(len(images), len(titles))
    for panel, title in zip(axes[0], titles, strict=True):
        panel.set_title(title, fontsize=SMALL_PT, pad=2.5)
    for row, line in enumerate(axes):
        show_image(line[0], images[row], captions[row])
        for panel, one in zip(line[1:], [average[row], *heads[row]], strict=True):
            show_map(panel, one, colour_map)
    _finish_panels(figure, data, extra, colour_map)
    words = f"Attention maps of {len(images)} galaxies: image, average, {heads.shape[1]} heads."
    return describe(figure, f"{words} {'; '.join(captions)}.")


@styled
def draw_one_galaxy(
    image: np.ndarray,
    average: np.ndarray,
    heads: np.ndarray,
    caption: str,
    data: Mapping[str, Any],
    extra: str = "",
    colour_map: str = COLOUR_MAP,
) -> Figure:
    """One galaxy as the authors print it: image and average above, the heads' maps below in sixes.

    `image`: uint8 (H, W, 3); `average`: (g, g); `heads`: (heads, g, g); others as `draw_fig5`.
    """
    columns = max(2, min(6, len(heads)))
    rows = 1 + -(-len(heads) // columns)
    side = min(LARGEST_IN, TEXT_WIDTH_IN / columns)
    figure = plt.figure(figsize=(columns * side, rows * (side + TITLE_IN) + 3 * TITLE_IN))
    axes = figure.subplots(rows, columns, squeeze=False)
    high = figure.get_figheight()
    edges = {"bottom": FOOTER_IN / high, "top": 1 - 2.5 * TITLE_IN / high, "left": 0, "right": 1}
    figure.subplots_adjust(**edges, wspace=GAP_IN / side, hspace=TITLE_IN / side)
    for panel in axes.flat:
        panel.set_axis_off()
    axes[0, 0].imshow(image, aspect="auto")
    axes[0, 0].set_title(caption, fontsize=SMALL_PT, pad=2.5)
    titles = ["average", *(f"head {number}" for number in range(1, len(heads) + 1))]
    shown = zip([axes[0, 1], *axes[1:].flat], titles, [average, *heads], strict=False)
    for panel, title, one in shown:
        show_map(panel, one, colour_map)
        panel.set_title(title, fontsize=SMALL_PT, pad=2.5)
    _finish_panels(figure, data, extra, colour_map, scale_right=True)
    return describe(figure, f"Attention maps of one galaxy, {caption}: average and heads.")


@styled
def draw_side_by_side(
    images: np.ndarray,
    maps: Mapping[str, np.ndarray],
    captions: Sequence[str],
    below: Mapping[str, Sequence[str]],
    data: Mapping[str, Any],
    extra: str = "",
    colour_map: str = COLOUR_MAP,
) -> Figure:
    """The maps of many models for the same galaxies: one row per galaxy, one column per model.

    `images`: uint8 (N, H, W, 3); `maps`: (N, g, g), 0 to 1, by the column's title; `captions`:
    beside each row; `below`: what is written under each map, by title; the galaxy's outline, from
    its own light, is drawn over every map. Raises `Gz2vitError` without galaxies.
    """
    figure, axes = panels(len(images), 1 + len(maps), below_in=0.11, title_in=1.6 * TITLE_IN)
    for panel, title in zip(axes[0], ["image", *maps], strict=True):
        words = title.replace(WEIGHTED, f"\n{WEIGHTED.strip('_')}")
        panel.set_title(words, fontsize=SMALL_PT, pad=2.5, linespacing=1.05)
    for row, line in enumerate(axes):
        show_image(line[0], images[row], captions[row])
        outline = segment_galaxy(images[row].astype(np.float32).mean(axis=2))
        for panel, (title, own) in zip(line[1:], maps.items(), strict=True):
            show_map(panel, own[row], colour_map, outline)
            panel.set_xlabel(below[title][row], fontsize=SMALL_PT - 0.8, labelpad=1.2, color=GREY)
    _finish_panels(figure, data, extra, colour_map)
    words = f"Maps of where {len(maps)} models look, {', '.join(maps)}, for galaxies "
    return describe(figure, f"{words}{'; '.join(captions)}.")


def caption_of(galaxy_id: str, true: int, predicted: int | None = None) -> str:
    """The caption beside a galaxy: its id (long ones in two lines), class and predicted class."""
    name = galaxy_id if len(galaxy_id) <= 10 else f"{galaxy_id[:9]}\n{galaxy_id[9:]}"
    words = f"{name}\n{CLASS_SHORT_NAMES[true]}"
    return words if predicted is None else f"{words}\n→ {CLASS_SHORT_NAMES[predicted]}"


def panels(
    rows: int, columns: int, below_in: float = 0.0, title_in: float = TITLE_IN
) -> tuple[Figure, np.ndarray]:
    """Square panels in rows, with room for captions on the left and titles above.

    The figure and its axes (rows, columns). Raises `Gz2vitError` for no rows.
    """
    if rows < 1:
        raise Gz2vitError("there are no galaxies to draw; choose others")
    side = min(LARGEST_IN, (TEXT_WIDTH_IN - LABEL_IN - (columns - 1) * GAP_IN) / columns)
    wide = LABEL_IN + columns * side + (columns - 1) * GAP_IN
    high = title_in + rows * (side + GAP_IN + below_in) + FOOTER_IN
    figure = plt.figure(figsize=(wide, high))
    grid = {"left": LABEL_IN / wide, "right": 1.0}
    grid |= {"top": 1 - title_in / high, "bottom": (FOOTER_IN + GAP_IN + below_in) / high}
    grid |= {"wspace": GAP_IN / side, "hspace": (GAP_IN + below_in) / side}
    return figure, figure.subplots(rows, columns, squeeze=False, gridspec_kw=grid)


def show_image(axes: Axes, image: np.ndarray, caption: str) -> None:
    """A galaxy, uint8 (H, W, 3), with its caption on the left."""
    strip_axes(axes)
    axes.imshow(image, aspect="auto")
    words = {"ha": "left", "va": "center", "fontsize": SMALL_PT, "linespacing": 1.15}
    place = (-LABEL_IN * 72, 0)
    axes.annotate(caption, (0, 0.5), place, "axes fraction", "offset points", **words)


def show_map(
    axes: Axes, values: np.ndarray, colour_map: str, outline: np.ndarray | None = None
) -> None:
    """A map (g, g), smoothed, with the galaxy's outline (H, W), or words where it is 0."""
    strip_axes(axes)
    if not values.max() > 0:
        axes.set_facecolor(PALE)
        say(axes, NO_MAP, fontsize=SMALL_PT)
        return
    size = 1.0 if outline is None else float(len(outline))
    look = {"cmap": colour_map, "vmin": 0, "vmax": 1, "interpolation": INTERPOLATION}
    axes.imshow(values, extent=(0, size, size, 0), aspect="auto", **look)
    if outline is not None and outline.any() and not outline.all():
        smooth = gaussian_filter(outline.astype(np.float32), OUTLINE_SHARE * size)
        axes.contour(smooth, [0.5], colors="white", linewidths=0.6)


def _finish_panels(
    figure: Figure, data: Mapping[str, Any], extra: str, colour_map: str, scale_right: bool = False
) -> None:
    """The footer, for which the figure grows where it takes several lines, and the colour scale.

    The scale, 0 to each map's maximum, is in the upper left corner, or right.
    """
    footer(figure, data, extra)
    old = figure.get_figheight()
    # 0.13 in for a further line; matplotlib puts the first at 1 % of the height.
    more = 0.13 * figure.get_supxlabel().count("\n") + 0.01 * old
    grid = figure.axes[0].get_gridspec()
    now = grid.get_subplot_params(figure)
    wide, high = figure.get_figwidth(), old + more
    figure.set_figheight(high)
    grid.update(bottom=(now.bottom * old + more) / high, top=(now.top * old + more) / high)
    width, height = 0.3, 0.06  # of the strip of colours [in]
    start = wide - LABEL_IN + 0.08 if scale_right else 0.08
    x0, x1, y = start / wide, (start + width) / wide, 1 - 0.12 / high
    strip = Bbox.from_extents(x0, y - height / 2 / high, x1, y + height / 2 / high)
    colours = BboxImage(TransformedBbox(strip, figure.transFigure), cmap=colour_map)
    colours.set_data(np.linspace(0, 1, 256)[None])
    figure.add_artist(colours)
    look = {"fontsize": SMALL_PT - 0.8, "va": "center_baseline", "color": GREY}
    figure.text(x0 - 0.02 / wide, y, "0", ha="right", **look)
    figure.text(x1 + 0.02 / wide, y, "max.", ha="left", **look)
