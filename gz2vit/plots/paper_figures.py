"""Fig. 1: the Linformer Vision Transformer, and its attention, with a network's own numbers.

Sources: the paper, arXiv:2110.01024; Dosovitskiy et al. 2021, arXiv:2010.11929, for the Vision
Transformer; Wang et al. 2020, arXiv:2006.04768, for the attention, softmax(Q (EK)^T / sqrt(d)) FV.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
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

from gz2vit.catalog import class_weights
from gz2vit.evaluation import PROBABILITY_COLUMNS, ClassIndices, confusion_matrix, confusion_percent
from gz2vit.evidence import (
    FIG4_PROPERTIES,
    MAGNITUDE,
    PUBLISHED_NAMES,
    SIZE,
    Property,
    published_edges,
    published_galaxies,
)
from gz2vit.images import segment_galaxy
from gz2vit.io import WEIGHTED, Gz2vitError
from gz2vit.paper import (
    ARXIV,
    CLASS_COUNT,
    CLASS_NAMES,
    CLASS_SHORT_NAMES,
    FIG3_CONFUSION_PERCENT,
    FIG4_COUNTS,
    PUBLISHED_RESULTS,
    SPLIT_CLASS_COUNTS,
)
from gz2vit.plots.style import (
    BLUE,
    GREY,
    NOTEBOOK_WIDTH_IN,
    ORANGE,
    PALE,
    SMALL_PT,
    TEXT_WIDTH_IN,
    arrow,
    box,
    describe,
    footer,
    full_name,
    inch_axes,
    label,
    matrix,
    model_name,
    write_below,
)

HEIGHT_IN = 5.0
# Paler Okabe-Ito colours, under black words: tokens and what is made of them, what is learned to
# project, the class token, the table of attention.
TOKEN, LEARNED, CLASS, TABLE = "#BFDCEC", "#F9E4B8", "#F2C4A0", "#BFE6D9"
MLP_FACTOR = 4  # linformer.FeedForward: its inner layer is so many times as wide as a token
CHANNELS = 3


@dataclass(frozen=True)
class Sizes:
    """The sizes of a Linformer Vision Transformer, by the names of its hyperparameters."""

    image_size: int
    patch_size: int
    depth: int
    dim: int
    k_dim: int
    heads: int

    @classmethod
    def of(cls, network: Mapping[str, Any]) -> "Sizes":
        """The sizes among a network's hyperparameters; KeyError where one is missing."""
        return cls(**{name: network[name] for name in cls.__dataclass_fields__})

    @property
    def side(self) -> int:
        """Patches on a side of the image."""
        return self.image_size // self.patch_size

    @property
    def tokens(self) -> int:
        """N: the patches and the class token."""
        return self.side**2 + 1

    @property
    def head_dim(self) -> int:
        """d: the width of a head."""
        return self.dim // self.heads


def draw_architecture(
    network: Mapping[str, Any], parameters: int, source: str, image: np.ndarray | None = None
) -> Figure:
    """Fig. 1: (a) the way of an image through the network, (b) what happens in its attention.

    `network`: the Linformer's hyperparameters, as `models.build_linformer` takes them;
    `parameters`: how many numbers it learns; `source`: where those are from, for the footer;
    `image`: uint8 (H, W, 3), what it sees, or none. Raises KeyError for a missing hyperparameter.
    """
    sizes = Sizes.of(network)
    figure = plt.figure(figsize=(TEXT_WIDTH_IN, HEIGHT_IN))
    axes = inch_axes(figure)
    label(axes, (0.05, 4.88), f"(a) The network: {parameters:,} parameters", ha="left", fontsize=8)
    _draw_image(axes, sizes, image)
    _draw_tokens(axes, sizes)
    _draw_layers(axes, sizes)
    _draw_head(axes, sizes)
    _draw_attention(axes, sizes, bool(network.get("share_kv")))
    write_below(figure, source)
    return describe(figure, _words(sizes, parameters))


def _draw_image(axes: Axes, sizes: Sizes, image: np.ndarray | None) -> None:
    """The image with the cuts between its patches, and the first and last patch."""
    left, low, side_in = 0.08, 3.0, 1.25
    edges = np.linspace(0, side_in, sizes.side + 1)
    if image is not None:
        axes.imshow(image, extent=(left, left + side_in, low, low + side_in), zorder=0)
        axes.set_xlim(0, TEXT_WIDTH_IN)
        axes.set_ylim(0, HEIGHT_IN)
        axes.set_aspect("auto")
    colour = GREY if image is None else "white"
    for edge in edges:
        style = {"color": colour, "linewidth": 0.4}
        axes.plot([left + edge] * 2, [low, low + side_in], **style)
        axes.plot([left, left + side_in], [low + edge] * 2, **style)
    words = f"{sizes.image_size} × {sizes.image_size} px, cut into\n{sizes.side} × {sizes.side} "
    label(axes, (left + side_in / 2, low - 0.2), f"{words}patches of {sizes.patch_size} px")
    arrow(axes, (1.38, 3.63), (1.55, 3.63))


def _draw_tokens(axes: Axes, sizes: Sizes) -> None:
    """The projection of the patches, and the tokens that come out."""
    inner = CHANNELS * sizes.patch_size**2
    words = f"linear projection, {inner:,} to {sizes.dim}"
    box(axes, (1.72, 3.63), (0.3, 1.98), words, LEARNED, turned=True)
    arrow(axes, (1.89, 3.63), (2.1, 3.63))
    middle, step = 2.3, 0.22
    names = ["class", "1", "2", "⋮", f"{sizes.tokens - 1}"]
    for row, name in enumerate(names):
        place = (middle, 4.07 - row * step)
        if name == "⋮":
            label(axes, place, name, fontsize=8)
        else:
            box(axes, place, (0.34, 0.18), name, CLASS if row == 0 else TOKEN)
    label(axes, (middle, 4.32), "+ position", color=GREY)
    label(axes, (middle, 2.7), f"N = {sizes.tokens} tokens,\n{sizes.dim} wide")
    arrow(axes, (2.52, 3.63), (2.78, 3.63))


def _draw_layers(axes: Axes, sizes: Sizes) -> None:
    """One layer, from its input on the left below to its output above; how often it is repeated."""
    left, right, low, high = 2.8, 4.72, 2.62, 4.6
    box(axes, ((left + right) / 2, (low + high) / 2), (right - left, high - low), "", "white")
    label(axes, (right - 0.06, high - 0.1), f"× {sizes.depth} layers", ha="right", weight="bold")
    middle, inner = 3.85, MLP_FACTOR * sizes.dim
    heads = f"Linformer attention,\n{sizes.heads} heads, {sizes.head_dim} wide"
    parts = (
        (2.86, "LayerNorm", PALE, 0.17),
        (3.17, heads, TABLE, 0.28),
        (3.46, "+", "white", 0.16),
        (3.72, "LayerNorm", PALE, 0.17),
        (4.02, f"MLP, {sizes.dim} – {inner} – {sizes.dim}", LEARNED, 0.2),
        (4.28, "+", "white", 0.16),
    )
    arrow(
        axes, (left, 3.63), (left + 0.12, 3.63), (left + 0.12, 2.7), (middle, 2.7), (middle, 2.77)
    )
    for (y, words, colour, height), after in zip(parts, [*parts[1:], None], strict=True):
        box(axes, (middle, y), (0.18 if words == "+" else 1.3, height), words, colour)
        if after:
            arrow(axes, (middle, y + height / 2), (middle, after[0] - after[3] / 2))
    for start, end in ((2.7, 3.46), (3.575, 4.28)):  # what a layer adds to, past it
        skip = left + 0.26
        arrow(axes, (middle, start), (skip, start), (skip, end), (middle - 0.09, end))
    arrow(
        axes, (middle, 4.36), (middle, 4.44), (right - 0.1, 4.44), (right - 0.1, 3.63), (4.92, 3.63)
    )


def _draw_head(axes: Axes, sizes: Sizes) -> None:
    """From the class token of the last layer to the eight classes."""
    words = f"class token,\nLayerNorm,\nlinear\n{sizes.dim} to {CLASS_COUNT}"
    box(axes, (5.27, 3.63), (0.68, 0.8), words, LEARNED)
    arrow(axes, (5.62, 3.63), (5.82, 3.63))
    for row, name in enumerate(CLASS_SHORT_NAMES):
        box(axes, (6.36, 4.4 - row * 0.22), (1.0, 0.18), name, PALE)


def _draw_attention(axes: Axes, sizes: Sizes, shared: bool) -> None:
    """(b): keys and values shortened to k rows, then a table of N times k, not N times N."""
    tokens, k, d = sizes.tokens, sizes.k_dim, sizes.head_dim
    unit = 0.66 / max(tokens, k, d)
    title = f"(b) Attention in one head of a layer: N = {tokens} tokens, k = {k}, d = {d}"
    label(axes, (0.05, 2.28), title, ha="left", fontsize=8)
    upper, lower = 1.79, 0.95
    x = 0.15
    values = ("E", "K", "values: the keys") if shared else ("F", "V", "values")
    for learned, whole, kind in (("E", "K", "keys"), values):
        right = matrix(axes, x, upper, (k, tokens), unit, learned, LEARNED)
        right = matrix(axes, right + 0.08, upper, (tokens, d), unit, whole, TOKEN)
        label(axes, (right + 0.14, upper), "=", fontsize=9)
        short = learned + whole
        right = matrix(axes, right + 0.3, upper, (k, d), unit, short, TOKEN)
        label(axes, (right + 0.12, upper), f"{kind},\n{tokens} rows\nmixed to {k}", ha="left")
        x = 3.6
    _draw_equation(axes, sizes, unit, lower, values[0] + values[1])
    ours, ordinary = tokens * k, tokens**2
    words = (
        f"{'E is' if shared else 'E and F are'} learned, one for all heads of a layer. A head "
        f"compares N k = {ours:,} pairs;\nordinary attention compares N² = {ordinary:,}, which "
        f"grows with the square of the number of tokens."
    )
    label(axes, (0.15, 0.33), words, ha="left", color=GREY)


def _draw_equation(axes: Axes, sizes: Sizes, unit: float, y: float, short: str) -> None:
    """softmax(Q (EK)^T / sqrt(d)) FV, factor by factor; `short`: what FV is called."""
    tokens, k, d = sizes.tokens, sizes.k_dim, sizes.head_dim
    large = {"fontsize": 9, "ha": "left"}
    label(axes, (0.15, y), "softmax(", **large)
    right = matrix(axes, 0.76, y, (tokens, d), unit, "Q", TOKEN)
    right = matrix(axes, right + 0.16, y, (d, k), unit, "(EK)ᵀ", TOKEN)
    label(axes, (right + 0.06, y), f"/ √{d} ) =", **large)
    right = matrix(axes, right + 0.76, y, (tokens, k), unit, "P", TABLE)
    words = "how much each token\ntakes from each of\nthe k summaries"
    label(axes, (right + 0.1, y), words, ha="left")
    right = matrix(axes, right + 1.18, y, (tokens, k), unit, "P", TABLE)
    right = matrix(axes, right + 0.12, y, (k, d), unit, short, TOKEN)
    label(axes, (right + 0.14, y), "=", fontsize=9)
    right = matrix(axes, right + 0.3, y, (tokens, d), unit, "O", TOKEN)
    label(axes, (right + 0.12, y), "heads side by side,\nthen a linear layer", ha="left")


def _words(sizes: Sizes, parameters: int) -> str:
    """The figure in words."""
    return (
        f"Two drawings. (a) The network, {parameters:,} parameters: an image of {sizes.image_size} "
        f"px is cut into {sizes.side} by {sizes.side} patches of {sizes.patch_size} px; each is "
        f"projected to {sizes.dim} numbers; with a class token and positions they are "
        f"{sizes.tokens} tokens, which pass {sizes.depth} layers of LayerNorm, Linformer attention "
        f"with {sizes.heads} heads, LayerNorm and an MLP, each added to its input; the class token "
        f"then gives the scores of {CLASS_COUNT} classes. (b) The attention: matrices E and F mix "
        f"the {sizes.tokens} keys and values into {sizes.k_dim}, so that softmax(Q (E K)^T / "
        f"sqrt(d)) F V compares {sizes.tokens} times {sizes.k_dim} pairs, not {sizes.tokens} "
        f"squared."
    )


# ------------------------------------------------------------------------------------------
# Pictures of galaxies: a grid of any, the paper's Fig. 2, and a network's mistakes.

COLUMNS = 8  # galaxies in a row of a grid
# PAPER, Fig. 2: the titles of its columns, shorter than the names of the classes.
FIG2_TITLES = (
    "Round Elliptical",
    "In-between",
    "Cigar-shaped",
    "Edge-on",
    "Barred Spiral",
    "Unbarred Spiral",
    "Irregular",
    "Merger",
)
NO_GALAXY = "no galaxy"  # in an empty panel of Fig. 2


def draw_galaxies(
    images: Sequence[np.ndarray], class_index: Sequence[int], galaxy_ids: Sequence[str]
) -> Figure:
    """A grid of galaxies, eight in a row, each under its class and id.

    `images`: uint8 arrays (H, W, 3); `class_index` (0 to 7) and `galaxy_ids` in the same order.
    """
    captions = [
        f"{CLASS_SHORT_NAMES[index]}\n{galaxy_id}"
        for index, galaxy_id in zip(class_index, galaxy_ids, strict=True)
    ]
    return _draw_grid(images, captions, nothing="no galaxies")


def draw_mistakes(predictions: pd.DataFrame, images: np.ndarray, count: int = 16) -> Figure:
    """The `count` mistakes that a network was most certain of, each under "true → predicted".

    `predictions`: one row an image, in the order of `images`, with `class`, `pred` and `p0` to
    `p7`; `images`: uint8 (N, H, W, 3), of which only those shown are read. Raises `Gz2vitError`
    where the two do not fit, or the probabilities are missing.
    """
    if len(predictions) != len(images):
        raise Gz2vitError(
            f"there are predictions for {len(predictions)} galaxies, but {len(images)} images"
        )
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


def draw_examples(
    panels: Sequence[Sequence[np.ndarray]], data: Mapping[str, Any], whose: str = ""
) -> Figure:
    """Fig. 2: two galaxies of each class, one above the other, as in the paper.

    `panels`: for each of the eight classes, in order, up to two uint8 images (H, W, 3); `data`:
    the record of the selection; `whose`: which galaxies these are, for the footer. Where there is
    no galaxy, its panel says so.
    """
    gap_in, title_in, footer_in = 0.025, 0.17, 0.17
    side_in = (TEXT_WIDTH_IN - (CLASS_COUNT - 1) * gap_in) / CLASS_COUNT
    height_in = 2 * side_in + title_in + footer_in
    figure = plt.figure(figsize=(TEXT_WIDTH_IN, height_in))
    grid = {"left": 0, "right": 1, "hspace": 0, "wspace": gap_in / side_in}
    grid |= {"bottom": footer_in / height_in, "top": 1 - title_in / height_in}
    axes = figure.subplots(2, CLASS_COUNT, gridspec_kw=grid)
    for column, title, images in zip(axes.T, FIG2_TITLES, panels, strict=True):
        column[0].set_title(title, fontsize=SMALL_PT, pad=3)
        for row, panel in enumerate(column):
            _draw_image_galaxies(panel, images[row] if row < len(images) else None)
    footer(figure, data, whose)
    shown = (f"{name} {len(images)}" for name, images in zip(FIG2_TITLES, panels, strict=True))
    return describe(figure, f"Images of galaxies by class, in columns: {', '.join(shown)}.")


def _draw_grid(images: Sequence[np.ndarray], captions: Sequence[str], nothing: str) -> Figure:
    """Images in rows of eight under their captions; without images, the words `nothing`."""
    side_in, caption_in = NOTEBOOK_WIDTH_IN / COLUMNS, 0.3
    columns = min(COLUMNS, max(len(images), 1))
    rows = max(math.ceil(len(images) / COLUMNS), 1)
    size = (columns * side_in, rows * (side_in + caption_in))
    if not images:
        figure = plt.figure(figsize=(4.0, 0.5))
        figure.text(0.5, 0.5, nothing, ha="center", va="center", color=GREY)
        return figure
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.02, wspace=0, hspace=0)
    for panel in axes.flat[len(images) :]:
        panel.set_axis_off()
    for panel, image, caption in zip(axes.flat, images, captions, strict=False):
        _draw_image_galaxies(panel, image)
        panel.set_title(caption, fontsize=7, pad=2)
    return figure


def _draw_image_galaxies(axes: Axes, image: np.ndarray | None) -> None:
    """One image (H, W, 3) without ticks and frame, or a pale panel that says there is none."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if image is not None:
        axes.imshow(image, aspect="auto")
        return
    axes.set_facecolor(PALE)
    place = {"transform": axes.transAxes, "ha": "center", "va": "center"}
    axes.text(0.5, 0.5, NO_GALAXY, fontsize=SMALL_PT, color=GREY, **place)


# ------------------------------------------------------------------------------------------
# Confusion matrices in percent of the true class, as in the paper's Fig. 3.

Panel = tuple[np.ndarray | None, str]  # percentages (8, 8) and a title, or None and words
LINE_LETTERS = 42  # of the words in a panel without a matrix
NO_GALAXIES = "–"  # in the cells of a class that the test galaxies lack


def draw_confusion(true: ClassIndices, pred: ClassIndices) -> Figure:
    """The confusion matrix of predictions `pred` (N,) for galaxies of class `true` (N,)."""
    counts = confusion_matrix(true, pred)
    percent = confusion_percent(counts)
    figure, axes = plt.subplots(figsize=(5.0, 3.9), layout="constrained")
    _draw_matrix(axes, percent)
    _name_rows(axes, counts.sum(axis=1))
    total, right = counts.sum(), counts.trace()
    title = f"{total:,} galaxies, {100 * right / total:.1f}% of them right"
    axes.set_title(title)
    return describe(figure, f"A confusion matrix: {_words_confusion(title, percent)}")


def draw_confusion_pair(
    counts: Sequence[np.ndarray | None],
    metrics: Sequence[Mapping[str, Any]],
    data: Mapping[str, Any],
) -> Figure:
    """Fig. 3: the confusion matrices of two models side by side.

    `counts`: two integer arrays (8, 8), rows true, columns predicted; `metrics`: the contents of
    the models' `metrics.json`; `data`: the record of the selection. A model that is not trained
    has counts None and a metric `missing`, the words for its panel. Raises `Gz2vitError` where the
    two were not tested on the same galaxies.
    """
    totals = [count.sum(axis=1) for count in counts if count is not None]
    if (totals[0] != totals[-1]).any():
        names = " and ".join(metric["model"] for metric in metrics)
        raise Gz2vitError(f"the models {names} were tested on different galaxies; run both again")
    panels = [
        (None, metric["missing"])
        if count is None
        else (confusion_percent(count), _title(metric, f"{100 * metric['accuracy']:.1f}%"))
        for count, metric in zip(counts, metrics, strict=True)
    ]
    figure = _draw_pair(panels, totals[0])
    footer(figure, data, _training([one for one in metrics if "missing" not in one]))
    return figure


def draw_published_pair() -> Figure:
    """Fig. 3 from the paper's own numbers, to stand beside ours; the published percentages."""
    totals = np.array(SPLIT_CLASS_COUNTS["test"])
    panels = []
    for key, percent in FIG3_CONFUSION_PERCENT.items():
        choice = "tuned" if key.endswith(WEIGHTED) else "uniform"
        weights = class_weights(choice, SPLIT_CLASS_COUNTS["train"])
        accuracy = f"{100 * PUBLISHED_RESULTS[key]['test_acc']:.2f}%"
        title = _title({"model": key, "class_weights": list(weights)}, accuracy)
        panels.append((np.array(percent), title))
    figure = _draw_pair(panels, totals)
    write_below(figure, f"drawn from the published numbers of arXiv:{ARXIV}, Fig. 3; none is ours")
    return figure


def _draw_pair(panels: Sequence[Panel], totals: np.ndarray) -> Figure:
    """Two matrices of percentages (8, 8) under their titles, or words where there is none.

    `totals` (8,): the galaxies of each true class.
    """
    figure, axes = plt.subplots(1, 2, figsize=(TEXT_WIDTH_IN, 3.55), layout="constrained")
    drawn = []
    for panel, (percent, words) in zip(axes, panels, strict=True):
        if percent is None:
            panel.set_axis_off()
            place = {"transform": panel.transAxes, "ha": "center", "va": "center", "wrap": True}
            panel.text(0.5, 0.5, textwrap.fill(words, LINE_LETTERS), color=GREY, **place)
            continue
        _draw_matrix(panel, percent)
        panel.set_title(words, fontsize=SMALL_PT, linespacing=1.4)
        drawn.append(panel)
    _name_rows(drawn[0], totals)
    for panel in drawn[1:]:
        panel.set_yticks([])
    told = [
        words if percent is None else _words_confusion(words, percent) for percent, words in panels
    ]
    return describe(figure, f"Two confusion matrices. Left: {told[0]} Right: {told[1]}")


def _draw_matrix(axes: Axes, percent: np.ndarray) -> None:
    """Percentages (8, 8) as a map, each written in its cell; NaN where a class has no galaxies."""
    texts = [[NO_GALAXIES if np.isnan(x) else f"{x:.1f}%" for x in row] for row in percent]
    seaborn.heatmap(
        np.nan_to_num(percent),
        annot=np.array(texts),
        fmt="",
        annot_kws={"fontsize": SMALL_PT},
        cmap="Blues",
        vmin=0,
        vmax=100,  # the same in every matrix, so that equal shares look equal
        cbar=False,
        ax=axes,
    )
    axes.set_xticklabels(CLASS_SHORT_NAMES, rotation=30, ha="right", rotation_mode="anchor")
    axes.tick_params(length=0, pad=2)
    axes.set_xlabel("Predicted class")


def _name_rows(axes: Axes, totals: np.ndarray) -> None:
    """Write the true classes on the left, each with its number of galaxies."""
    names = [f"{name} ({n:,})" for name, n in zip(CLASS_NAMES, totals, strict=True)]
    axes.set_yticklabels(names, rotation=0)
    axes.set_ylabel("True class (test galaxies)")


def _words_confusion(title: str, percent: np.ndarray) -> str:
    """A matrix in words: its title, what was recognised, and the largest confusion."""
    own = percent.diagonal()
    shares = ", ".join(
        f"{name} {NO_GALAXIES if np.isnan(x) else f'{x:.1f}%'}"
        for name, x in zip(CLASS_SHORT_NAMES, own, strict=True)
    )
    others = np.nan_to_num(percent - np.diag(own))
    row, column = np.unravel_index(others.argmax(), others.shape)
    names = CLASS_SHORT_NAMES[row], CLASS_SHORT_NAMES[column]
    return (
        f"{title.splitlines()[0]}; recognised of each class: {shares}; most often confused: "
        f"{names[0]} taken for {names[1]}, {others[row, column]:.1f}%."
    )


def _title(metric: Mapping[str, Any], accuracy: str) -> str:
    """The model, its accuracy, and the class weights it was trained with."""
    weights = ", ".join(_weight(weight) for weight in metric["class_weights"])
    return f"{model_name(metric['model'])}, accuracy {accuracy}\nclass weights = [{weights}]"


def _weight(weight: float) -> str:
    """A class weight as the paper prints it: 1 or 0.19; 73.3 where two digits are in front."""
    if weight == round(weight):
        return f"{weight:.0f}"
    return f"{weight:.2f}" if weight < 10 else f"{weight:.1f}"


def _training(metrics: Sequence[Mapping[str, Any]]) -> str:
    """How the two models came to be, once if it was the same way."""
    told = [
        f"trained {_origin(metric['weights'])} for {metric['epochs']} epochs" for metric in metrics
    ]
    if len(told) < 2:
        return told[0]
    left, right = told
    return f"both {left}" if left == right else f"left {left}, right {right}"


def _origin(weights: str) -> str:
    """What the training started from; of a file the folder too: many are called best.ckpt."""
    named = {"none": "from scratch", "imagenet": "from ImageNet weights"}
    return named.get(weights) or f"from the file {Path(*Path(weights).parts[-2:]).as_posix()}"


# ------------------------------------------------------------------------------------------
# Fig. 4: sizes and magnitudes of all test galaxies, and of those that one model alone has right.
#
# As the paper draws it, in its bins; the red and orange of the paper are blue and orange here, which
# are told apart by all kinds of colour vision.

FULL_GREY = "#D3D3D3"  # the paper's
TITLES = {SIZE.column: "galaxy size", MAGNITUDE.column: "galaxy brightness"}
AXIS_NAMES = {
    SIZE.column: "90% light radius (arcsec)",
    MAGNITUDE.column: "(brighter) ←  r-band magnitude (mag)  → (fainter)",
}
DENSITY_NAMES = {SIZE.column: "pdf (1/arcsec)", MAGNITUDE.column: "pdf (1/mag)"}
TICK_STEPS = {SIZE.column: 5, MAGNITUDE.column: 1}  # arcsec, mag
LEGEND_PLACES = {SIZE.column: "upper right", MAGNITUDE.column: "upper left"}
PER_BIN = 5  # galaxies that the smaller group should have in a bin, on average
INSIDE = 0.95  # share of the galaxies that the paper's bins must hold to be used


def draw_size_brightness(
    table: pd.DataFrame, names: tuple[str, str], data: Mapping[str, Any]
) -> Figure:
    """Fig. 4 of two models: size on the left, magnitude on the right.

    `table`: as `evidence.gather_pair` gives it, with `region` and the two properties; `names`: the
    models' keys; `data`: the record of the selection. NaN is left out and counted in the footer.
    """
    figure, axes = plt.subplots(1, 2, figsize=(TEXT_WIDTH_IN, 2.9), layout="constrained")
    told, beyond = [], []
    for panel, what in zip(axes, FIG4_PROPERTIES, strict=True):
        values = _by_group(table, what)
        edges = histogram_edges(what, values)
        told.append(draw_histograms(panel, what, values, edges, tuple(map(full_name, names))))
        beyond.append(_left_out(table[what.column], edges, what))
    footer(figure, data, "; ".join(filter(None, beyond)))
    return describe(figure, f"Histograms of the test galaxies. {' '.join(told)}")


def draw_published_size_brightness() -> Figure:
    """Fig. 4 from the paper's own counts, to stand beside ours."""
    totals = {**FIG4_COUNTS, "all": sum(FIG4_COUNTS.values())}
    figure, axes = plt.subplots(1, 2, figsize=(TEXT_WIDTH_IN, 2.9), layout="constrained")
    told = []
    for panel, what in zip(axes, FIG4_PROPERTIES, strict=True):
        values = _by_group(published_galaxies(what.column), what)
        edges = published_edges(what.column)
        names = tuple(name.removeprefix("the paper's ") for name in PUBLISHED_NAMES)
        told.append(draw_histograms(panel, what, values, edges, names, totals))
    write_below(
        figure, f"drawn from counts read off the published Fig. 4 of arXiv:{ARXIV}; none is ours"
    )
    return describe(figure, f"The paper's histograms, from its counts. {' '.join(told)}")


def _by_group(table: pd.DataFrame, what: Property) -> dict[str, np.ndarray]:
    """The known values of all galaxies, of those only the first has right, only the second."""
    known = table[table[what.column].notna()]
    regions = ("only first", "only second")
    parts = {one: known[what.column][known.region == one].to_numpy() for one in regions}
    return {"all": known[what.column].to_numpy()} | parts


def histogram_edges(what: Property, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """The paper's bins where they hold most galaxies, else as many between the extreme percent.

    Where the smaller group would have fewer than PER_BIN galaxies in a bin, pairs are joined.
    """
    edges = published_edges(what.column)
    everything = values["all"]
    if np.mean((everything >= edges[0]) & (everything <= edges[-1])) < INSIDE:
        low, high = np.quantile(everything, [0.005, 0.995])
        edges = np.linspace(low, high if high > low else low + 1, len(edges))
    smaller = min(len(values["only first"]), len(values["only second"]))
    step = 1 if smaller >= PER_BIN * (len(edges) - 1) else 2
    return np.append(edges[:-1:step], edges[-1])


def draw_histograms(
    axes: Axes,
    what: Property,
    values: Mapping[str, np.ndarray],
    edges: np.ndarray,
    names: tuple[str, str],
    totals: Mapping[str, int] | None = None,
) -> str:
    """One panel: the three histograms, each of area 1, and their words.

    `values`: of `all`, `only first` and `only second`; `totals`: how many galaxies the legend says
    there are of each, by default those with a value.
    """
    first, second = names
    totals = totals or {name: len(group) for name, group in values.items()}
    labels = {
        "all": f"full test set ({totals['all']:,})",
        "only first": f"{first} right, {second} wrong ({totals['only first']:,})",
        "only second": f"{first} wrong, {second} right ({totals['only second']:,})",
    }
    line = {"histtype": "step", "linewidth": 1.5}
    looks = {
        "all": {"color": FULL_GREY},
        "only first": {**line, "color": BLUE},
        "only second": {**line, "color": ORANGE, "linestyle": (0, (4, 1.6))},
    }
    for name, text in labels.items():
        inside = values[name][(values[name] >= edges[0]) & (values[name] <= edges[-1])]
        # Nothing has no density: its line stands in the legend all the same.
        options = {"density": len(inside) > 0, "label": text, **looks[name]}
        axes.hist(inside, edges, **options)
    _set_axes(axes, what, edges)
    return _words_size_brightness(what, values, labels)


def _set_axes(axes: Axes, what: Property, edges: np.ndarray) -> None:
    """Title, axes with units, and the legend in the empty corner."""
    axes.set_title(TITLES[what.column])
    axes.set_xlabel(AXIS_NAMES[what.column])
    axes.set_ylabel(DENSITY_NAMES[what.column])
    axes.xaxis.set_major_locator(plt.MultipleLocator(TICK_STEPS[what.column]))
    axes.set_xlim(edges[0] - 0.02 * np.ptp(edges), edges[-1])
    axes.set_ylim(0, 1.32 * axes.get_ylim()[1])  # room for the legend
    axes.legend(loc=LEGEND_PLACES[what.column], handlelength=2.2)


def _words_size_brightness(
    what: Property, values: Mapping[str, np.ndarray], labels: Mapping[str, str]
) -> str:
    """What a panel shows."""
    medians = [
        f"{label}, median {np.median(values[name]):.3g} {what.unit}"
        for name, label in labels.items()
        if len(values[name])
    ]
    return f"{TITLES[what.column].capitalize()}: {'; '.join(medians)}."


def _left_out(values: pd.Series, edges: np.ndarray, what: Property) -> str:
    """How many galaxies a panel does not show, in words; nothing where there are none."""
    unknown = int(values.isna().sum())
    beyond = int(((values < edges[0]) | (values > edges[-1])).sum())
    parts = [f"{unknown:,} without a {what.name}"] if unknown else []
    parts += [f"{beyond:,} beyond the axis of {what.name}"] if beyond else []
    return ", ".join(parts)


# ------------------------------------------------------------------------------------------
# Where networks look: the paper's Fig. 5, and the maps of many networks side by side.

# DEVIATION: the paper's Fig. 5 has jet, whose bands show edges that the maps do not have; turbo has
# its hues, but brightness without steps.
COLOUR_MAP = "turbo"
# Smooth, through the values, and nowhere beyond them: "bicubic" passes below the peaks, so that no
# map would be red, and "catrom" adds dark rings.
INTERPOLATION = "hermite"
GAP_IN, LABEL_IN, TITLE_IN, FOOTER_IN = 0.03, 0.72, 0.2, 0.2
OUTLINE_SHARE = 1 / 75  # of the side: an outline is smoothed over 3 px of 224
LINE_IN = 0.13  # a further line below the figure
LARGEST_IN = 1.1  # side of a panel, where there are few
SCALE_IN = (0.3, 0.06)  # the strip of colours in an upper corner, width and height
NOTHING = "no map"  # in a panel without one


def draw_fig5(
    images: np.ndarray,
    average: np.ndarray,
    heads: np.ndarray,
    captions: Sequence[str],
    data: Mapping[str, Any],
    extra: str = "",
    colour_map: str = COLOUR_MAP,
) -> Figure:
    """Fig. 5: a row for each galaxy: its image, the average over heads, and every head's map.

    `images`: uint8 (N, H, W, 3); `average`: (N, g, g), `heads`: (N, heads, g, g), 0 to 1;
    `captions`: beside each row; `data`: the record of the selection; `extra`: what else the line
    below says. Raises `Gz2vitError` without galaxies.
    """
    titles = ["image", "average", *(f"head {number}" for number in range(1, heads.shape[1] + 1))]
    rows = [[average[row], *heads[row]] for row in range(len(images))]
    figure, axes = panels(len(images), len(titles))
    for panel, title in zip(axes[0], titles, strict=True):
        panel.set_title(title, fontsize=SMALL_PT, pad=2.5)
    for line, image, maps, caption in zip(axes, images, rows, captions, strict=True):
        show_image(line[0], image, caption)
        for panel, one in zip(line[1:], maps, strict=True):
            show_map(panel, one, colour_map)
    _foot(figure, data, extra)
    show_scale(figure, colour_map)
    words = f"Attention maps of {len(images)} galaxies: image, average, {heads.shape[1]} heads."
    return describe(figure, f"{words} {'; '.join(_line(one) for one in captions)}.")


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
    panels = [axes[0, 1], *axes[1:].flat]
    for panel, title, one in zip(panels, titles, [average, *heads], strict=False):
        show_map(panel, one, colour_map)
        panel.set_title(title, fontsize=SMALL_PT, pad=2.5)
    _foot(figure, data, extra)
    show_scale(figure, colour_map, right=True)
    return describe(figure, f"Attention maps of one galaxy, {_line(caption)}: average and heads.")


def draw_side_by_side(
    images: np.ndarray,
    maps: Mapping[str, np.ndarray],
    captions: Sequence[str],
    below: Mapping[str, Sequence[str]],
    data: Mapping[str, Any],
    extra: str = "",
    colour_map: str = COLOUR_MAP,
) -> Figure:
    """The maps of many models for the same galaxies: a row for each galaxy, a column each model.

    `images`: uint8 (N, H, W, 3); `maps`: (N, g, g), 0 to 1, by the column's title; `captions`:
    beside each row; `below`: what stands under each map, by title; the galaxy's outline, from its
    own light, is drawn over every map. Raises `Gz2vitError` without galaxies.
    """
    figure, axes = panels(len(images), 1 + len(maps), below_in=0.11, title_in=1.6 * TITLE_IN)
    for panel, title in zip(axes[0], ["image", *maps], strict=True):
        words = title.replace(WEIGHTED, f"\n{WEIGHTED.strip('_')}")
        panel.set_title(words, fontsize=SMALL_PT, pad=2.5, linespacing=1.05)
    for row, (line, image) in enumerate(zip(axes, images, strict=True)):
        show_image(line[0], image, captions[row])
        outline = segment_galaxy(image.astype(np.float32).mean(axis=2))
        for panel, (title, own) in zip(line[1:], maps.items(), strict=True):
            show_map(panel, own[row], colour_map, outline)
            panel.set_xlabel(below[title][row], fontsize=SMALL_PT - 0.8, labelpad=1.2, color=GREY)
    _foot(figure, data, extra)
    show_scale(figure, colour_map)
    words = f"Maps of where {len(maps)} models look, {', '.join(map(_line, maps))}, for galaxies "
    return describe(figure, words + "; ".join(map(_line, captions)) + ".")


def caption_of(galaxy_id: str, true: int, predicted: int | None = None) -> str:
    """What stands beside a galaxy: its id (long ones in two lines), class, and what it was taken
    for, where that is given."""
    name = galaxy_id if len(galaxy_id) <= 10 else f"{galaxy_id[:9]}\n{galaxy_id[9:]}"
    words = f"{name}\n{CLASS_SHORT_NAMES[true]}"
    if predicted is None:
        return words
    return f"{words}\n→ {CLASS_SHORT_NAMES[predicted]}"


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
    step = side + GAP_IN + below_in
    high = title_in + rows * step + FOOTER_IN
    figure = plt.figure(figsize=(wide, high))
    edges = {"left": LABEL_IN / wide, "right": 1.0}
    edges |= {"top": 1 - title_in / high, "bottom": (FOOTER_IN + GAP_IN + below_in) / high}
    gaps = {"wspace": GAP_IN / side, "hspace": (GAP_IN + below_in) / side}
    return figure, figure.subplots(rows, columns, squeeze=False, gridspec_kw=edges | gaps)


def _foot(figure: Figure, data: Mapping[str, Any], extra: str) -> None:
    """The line below a figure of `panels`, which becomes higher where it takes several lines."""
    footer(figure, data, extra)
    old = figure.get_figheight()
    # matplotlib puts the line at 1 % of the height, which counts in a high figure
    more = LINE_IN * figure.get_supxlabel().count("\n") + 0.01 * old
    grid = figure.axes[0].get_gridspec()
    now = grid.get_subplot_params(figure)
    figure.set_figheight(old + more)
    ends = {"bottom": now.bottom, "top": now.top}
    grid.update(**{name: (old * end + more) / (old + more) for name, end in ends.items()})


def show_image(axes: Axes, image: np.ndarray, caption: str) -> None:
    """A galaxy, uint8 (H, W, 3), with its caption on the left."""
    _bare(axes)
    axes.imshow(image, aspect="auto")
    words = {"ha": "left", "va": "center", "fontsize": SMALL_PT, "linespacing": 1.15}
    place = (-LABEL_IN * 72, 0)
    axes.annotate(caption, (0, 0.5), place, "axes fraction", "offset points", **words)


def show_map(
    axes: Axes, values: np.ndarray, colour_map: str, outline: np.ndarray | None = None
) -> None:
    """A map (g, g), smoothed, with the galaxy's outline (H, W), or words where it is 0."""
    _bare(axes)
    if not values.max() > 0:
        axes.set_facecolor(PALE)
        place = {"transform": axes.transAxes, "ha": "center", "va": "center"}
        axes.text(0.5, 0.5, NOTHING, fontsize=SMALL_PT, color=GREY, **place)
        return
    size = 1.0 if outline is None else float(len(outline))
    look = {"cmap": colour_map, "vmin": 0, "vmax": 1, "interpolation": INTERPOLATION}
    axes.imshow(values, extent=(0, size, size, 0), aspect="auto", **look)
    if outline is not None and outline.any() and not outline.all():
        smooth = gaussian_filter(outline.astype(np.float32), OUTLINE_SHARE * size)
        axes.contour(smooth, [0.5], colors="white", linewidths=0.6)


def show_scale(figure: Figure, colour_map: str, right: bool = False) -> None:
    """What the colours mean, 0 to each map's maximum, in the upper left or right corner."""
    wide, high = figure.get_size_inches()
    width, height = SCALE_IN
    start = wide - LABEL_IN + 0.08 if right else 0.08
    x0, x1, y = start / wide, (start + width) / wide, 1 - 0.12 / high
    strip = Bbox.from_extents(x0, y - height / 2 / high, x1, y + height / 2 / high)
    colours = BboxImage(TransformedBbox(strip, figure.transFigure), cmap=colour_map)
    colours.set_data(np.linspace(0, 1, 256)[None])
    figure.add_artist(colours)
    look = {"fontsize": SMALL_PT - 0.8, "va": "center_baseline", "color": GREY}
    figure.text(x0 - 0.02 / wide, y, "0", ha="right", **look)
    figure.text(x1 + 0.02 / wide, y, "max.", ha="left", **look)


def _bare(axes: Axes) -> None:
    """No ticks, no frame."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _line(text: str) -> str:
    """A caption on one line."""
    return " ".join(text.split())
