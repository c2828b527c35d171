"""What the layers of networks know: probes by layer, maps of galaxies, nearest neighbours."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gz2vit.errors import Gz2vitError
from gz2vit.figures.attention import panels, show_image
from gz2vit.figures.description import describe
from gz2vit.figures.style import BLUE, GREY, SMALL_PT, TEXT_WIDTH_IN, footer
from gz2vit.paper import CLASS_COUNT, CLASS_SHORT_NAMES

# Okabe & Ito's eight, as in `style`: one for each class.
CLASS_COLOURS = (
    *("#0072B2", "#56B4E9", "#009E73", "#000000"),
    *("#D55E00", "#E69F00", "#CC79A7", "#B8A800"),
)
COLUMNS = 4


def draw_probes(
    table: pd.DataFrame, accuracies: Mapping[str, float], data: Mapping[str, Any]
) -> Figure:
    """Linear probes: how well each layer of each model tells the classes, with 95 % intervals.

    `table`: `model`, `layer`, `accuracy`, `low`, `high` (0 to 1), `galaxies`; `accuracies`: the
    models' own on the same split, as dashed lines; `data`: the record of the selection.
    """
    models = list(dict.fromkeys(table["model"]))
    figure, axes = _small_panels(len(models), 1.35, sharey=True)
    for panel, model in zip(axes, models, strict=False):
        own = table[table["model"] == model]
        depth = np.arange(1, len(own) + 1)
        panel.axhline(100 * accuracies[model], color=GREY, linewidth=0.8, linestyle="--")
        panel.plot(depth, 100 * own["accuracy"], color=BLUE, marker="o", markersize=2.5)
        panel.fill_between(depth, 100 * own["low"], 100 * own["high"], color=BLUE, alpha=0.15)
        panel.set_title(model)
        panel.set_xlabel(own["layer"].iloc[0].partition(" ")[0])
        panel.set_xticks(depth[:: max(1, len(depth) // 6)])
    for panel in axes[::COLUMNS]:
        panel.set_ylabel("accuracy [%]")
    galaxies = int(table["galaxies"].max())
    words = f"logistic regression on each layer, {galaxies:,} test galaxies; dashed: the model"
    footer(figure, data, words)
    return figure


def draw_maps_of_galaxies(
    points: Mapping[str, np.ndarray], class_index: np.ndarray, data: Mapping[str, Any]
) -> Figure:
    """UMAP of the same galaxies for each model, coloured by true class.

    `points`: (N, 2) by model; `class_index` (N,); `data`: the record of the selection.
    """
    figure, axes = _small_panels(len(points), 1.75)
    for panel, (model, own) in zip(axes, points.items(), strict=False):
        _bare(panel)
        _scatter_classes(panel, own, class_index)
        panel.set_title(model)
    _name_classes(figure, axes[0])
    footer(figure, data, f"UMAP of the last layer, {len(class_index):,} test galaxies")
    words = f"Maps of {len(class_index)} galaxies by {', '.join(points)}, coloured by class."
    return describe(figure, words)


def draw_properties(
    points: np.ndarray,
    class_index: np.ndarray,
    properties: Mapping[str, np.ndarray | str],
    data: Mapping[str, Any],
    extra: str,
) -> Figure:
    """UMAP of one model's galaxies, coloured by class and by properties.

    `points` (N, 2); `properties`: values (N,) by the label of their scale, or words that say why
    there are none, which stand in the panel's place; `extra`: what the line below says.
    """
    count = 1 + len(properties)
    figure, axes = plt.subplots(1, count, figsize=(TEXT_WIDTH_IN, 2.9), layout="constrained")
    for panel in axes:
        _bare(panel)
    _scatter_classes(axes[0], points, class_index)
    axes[0].set_title("class")
    _name_classes(figure, axes[0])
    for panel, (label, values) in zip(axes[1:], properties.items(), strict=True):
        panel.set_title(label.partition(",")[0])
        if isinstance(values, str):
            place = {"transform": panel.transAxes, "ha": "center", "va": "center", "wrap": True}
            panel.text(0.5, 0.5, values, fontsize=SMALL_PT, color=GREY, **place)
            continue
        ends = np.nanpercentile(
            values, [2, 98]
        )  # a few extremes would leave one colour to the rest
        look = {"cmap": "viridis", "vmin": ends[0], "vmax": ends[1], "linewidths": 0}
        made = panel.scatter(*points.T, c=values, s=5, **look)
        figure.colorbar(made, ax=panel, location="bottom", label=label, pad=0.03, aspect=25)
    footer(figure, data, extra)
    return figure


def draw_neighbours(
    images: Sequence[Sequence[np.ndarray]],
    captions: Sequence[Sequence[str]],
    data: Mapping[str, Any],
    extra: str,
) -> Figure:
    """A row for each galaxy: itself, then its nearest neighbours, each over its caption.

    `images`: uint8 (H, W, 3), the galaxy first; `captions`: in the same order; the first stands
    on the left. Raises `Gz2vitError` without galaxies.
    """
    figure, axes = panels(len(images), max(map(len, images)), below_in=0.11)
    axes[0, 0].set_title("galaxy", fontsize=SMALL_PT, pad=2.5)
    axes[0, 1].set_title("nearest", fontsize=SMALL_PT, pad=2.5)
    for line, shown, words in zip(axes, images, captions, strict=True):
        for panel, image, caption in zip(line, shown, words, strict=True):
            show_image(panel, image, caption if panel is line[0] else "")
            if panel is not line[0]:
                panel.set_xlabel(caption, fontsize=SMALL_PT - 0.8, labelpad=1.2, color=GREY)
    footer(figure, data, extra)
    return figure


def _small_panels(count: int, height_in: float, sharey: bool = False) -> tuple[Figure, np.ndarray]:
    """Panels in rows of four; those left over are switched off."""
    if count < 1:
        raise Gz2vitError("there are no models to draw; train one")
    lines = -(-count // COLUMNS)
    size = (TEXT_WIDTH_IN, 0.45 + height_in * lines)
    words = {"figsize": size, "sharey": sharey, "squeeze": False, "layout": "constrained"}
    figure, axes = plt.subplots(lines, COLUMNS, **words)
    for panel in axes.flat[count:]:
        panel.set_axis_off()
    return figure, axes.ravel()


def _scatter_classes(axes: Axes, points: np.ndarray, class_index: np.ndarray) -> None:
    """Points (N, 2) in the colours of their classes, the rarest class on top."""
    counts = np.bincount(class_index, minlength=CLASS_COUNT)
    for index in np.unique(class_index):
        own = points[class_index == index]
        look = {"color": CLASS_COLOURS[index], "label": CLASS_SHORT_NAMES[index], "linewidths": 0}
        axes.scatter(*own.T, s=5, zorder=2 + 1 / counts[index], **look)


def _name_classes(figure: Figure, axes: Axes) -> None:
    """The classes' colours in one line above the figure, as the points of `axes` have them."""
    handles, names = axes.get_legend_handles_labels()
    words = {"ncols": len(names), "loc": "outside upper center", "markerscale": 2.0}
    figure.legend(handles, names, handletextpad=0.1, columnspacing=0.9, **words)


def _bare(axes: Axes) -> None:
    """No ticks: a map of galaxies has no units."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(GREY)
