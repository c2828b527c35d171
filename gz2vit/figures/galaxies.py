"""Pictures of galaxies: a grid of any, the paper's Fig. 2, and a network's mistakes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gz2vit.errors import Gz2vitError
from gz2vit.evaluation import PROBABILITY_COLUMNS
from gz2vit.figures.description import describe
from gz2vit.figures.style import GREY, NOTEBOOK_WIDTH_IN, PALE, SMALL_PT, TEXT_WIDTH_IN, footer
from gz2vit.paper import CLASS_COUNT, CLASS_SHORT_NAMES

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
            _draw_image(panel, images[row] if row < len(images) else None)
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
        _draw_image(panel, image)
        panel.set_title(caption, fontsize=7, pad=2)
    return figure


def _draw_image(axes: Axes, image: np.ndarray | None) -> None:
    """One image (H, W, 3) without ticks and frame, or a pale panel that says there is none."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if image is not None:
        axes.imshow(image, aspect="auto")
        return
    axes.set_facecolor(PALE)
    place = {"transform": axes.transAxes, "ha": "center", "va": "center"}
    axes.text(0.5, 0.5, NO_GALAXY, fontsize=SMALL_PT, color=GREY, **place)
