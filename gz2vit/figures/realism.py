"""The simulation beside real galaxies: a gallery, the features' distributions, their distances."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gz2vit.figures.description import describe
from gz2vit.figures.galaxies import FIG2_TITLES
from gz2vit.figures.missing import draw_missing
from gz2vit.figures.style import BLUE, GREY, ORANGE, PALE, SMALL_PT, TEXT_WIDTH_IN, footer
from gz2vit.paper import CLASS_COUNT, CLASS_NAMES, CLASS_SHORT_NAMES
from gz2vit.realism.names import FEATURES, REAL, SIMULATED

SIDE_COLOURS = {REAL: BLUE, SIMULATED: ORANGE}
BINS = 24
ACROSS = 4  # panels in a row of distributions
INSIDE = (2, 98)  # percentiles between which a panel shows the values

NO_REAL = "no real galaxies in this run: give some with --data DIR"

Images = Sequence[Sequence[np.ndarray]]  # of each class, in order, some images (H, W, 3)


def draw_realism_gallery(sides: Mapping[str, Images], rows: int, data: Mapping[str, Any]) -> Figure:
    """Galaxies of each class (columns), `rows` real ones above as many simulated ones.

    `sides`: {REAL: ..., SIMULATED: ...}, of each class the images that there are; `data`: the
    record of the selection. Where there is no galaxy, its panel says so; a side without any is
    left out.
    """
    sides = {name: images for name, images in sides.items() if any(map(len, images))}
    label_in, gap_in, title_in, footer_in = 0.18, 0.02, 0.17, 0.16
    side_in = (TEXT_WIDTH_IN - label_in - (CLASS_COUNT - 1) * gap_in) / CLASS_COUNT
    between_in = 0.08
    height_in = len(sides) * rows * (side_in + gap_in) + between_in + title_in + footer_in
    figure = plt.figure(figsize=(TEXT_WIDTH_IN, height_in))
    for place, (name, images) in enumerate(sides.items()):
        for row in range(rows):
            above = title_in + (place * rows + row) * (side_in + gap_in) + place * between_in
            for column in range(CLASS_COUNT):
                left = label_in + column * (side_in + gap_in)
                box = np.array([left, height_in - above - side_in, side_in, side_in])
                panel = figure.add_axes(box / np.tile([TEXT_WIDTH_IN, height_in], 2))
                own = images[column]
                _draw_galaxy(panel, own[row] if row < len(own) else None, f"no {name}\ngalaxy")
                if place == row == 0:
                    panel.set_title(FIG2_TITLES[column], fontsize=SMALL_PT, pad=3)
                if column == 0 and row == 0:
                    _name_side(panel, name, rows)
    footer(figure, data, _made(data))
    told = " above ".join(f"{rows} {name}" for name in sides)
    return describe(figure, f"Galaxies of each class: {told} ones.")


def _draw_galaxy(axes: Axes, image: np.ndarray | None, nothing: str) -> None:
    """One image without ticks and frame, or a pale panel that says `nothing`."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if image is not None:
        axes.imshow(image)
        return
    axes.set_facecolor(PALE)
    place = {"transform": axes.transAxes, "ha": "center", "va": "center"}
    axes.text(0.5, 0.5, nothing, fontsize=SMALL_PT, color=GREY, **place)


def _name_side(axes: Axes, name: str, rows: int) -> None:
    """The word `real` or `simulated` along the left of its rows, of which `axes` is the first."""
    place = {"transform": axes.transAxes, "rotation": 90, "ha": "right", "va": "center"}
    axes.text(-0.06, 1 - rows / 2, name, color=SIDE_COLOURS[name], fontsize=8.0, **place)


def _made(data: Mapping[str, Any]) -> str:
    """What the footer adds: where the simulated galaxies are from, or that there are no others."""
    if data["simulated"]:
        return NO_REAL
    return "the simulated galaxies were made for this comparison"


def draw_realism_distributions(
    measured: pd.DataFrame, distances: pd.DataFrame, data: Mapping[str, Any]
) -> Figure:
    """A histogram of each feature, real and simulated, of as many galaxies of each class.

    `measured`: `origin` and the FEATURES; `distances`: of `feature_distances`, whose first rows
    (all classes) stand in the panels; `data`: the record of the selection.
    """
    down = -(-len(FEATURES) // ACROSS)
    size = (TEXT_WIDTH_IN, 1.45 * down + 0.45)
    figure, axes = plt.subplots(down, ACROSS, figsize=size, layout="constrained")
    overall = distances[: len(FEATURES)].set_index("feature")
    for panel, (feature, label) in zip(axes.flat, FEATURES.items(), strict=False):
        _draw_histograms(panel, measured, feature)
        panel.set(xlabel=label, yticks=[])
        panel.spines["left"].set_visible(False)
        panel.xaxis.label.set_fontsize(7.0)
        row = overall.loc[feature]
        if not np.isnan(row.ks):
            panel.set_title(f"D = {row.ks:.2f}", fontsize=SMALL_PT, pad=2, loc="right")
    for panel in axes.flat[len(FEATURES) :]:
        panel.set_axis_off()
    handles, labels = axes.flat[0].get_legend_handles_labels()
    counts = measured.origin.value_counts()
    named = [f"{label}, {counts[label]:,} galaxies" for label in labels]
    figure.legend(handles, named, loc="outside upper left", ncols=2)
    alike = overall.alike.max()
    words = "" if np.isnan(alike) else (
        f"; D: largest gap of the cumulative distributions, below {alike:.2f} in 95 of 100 cases "
        "where both are the same"
    )  # fmt: skip
    footer(figure, data, _made(data) + words)
    known = overall.ks.dropna().items()
    told = ", ".join(f"{name} {ks:.2f}" for name, ks in known) or "no real galaxies to compare"
    return describe(figure, f"Histograms of {len(FEATURES)} features; distances: {told}.")


def _draw_histograms(axes: Axes, measured: pd.DataFrame, feature: str) -> None:
    """The histograms of one feature, in the same bins, each of the same area."""
    values = measured[feature].dropna()
    if values.empty:
        return
    low, high = np.percentile(values, INSIDE)
    low, high = (low, high) if high > low else (low - 0.5, low + 0.5)
    edges = np.linspace(low, high, BINS + 1)
    for side, colour in SIDE_COLOURS.items():
        own = values[measured.origin == side]
        if len(own):
            bars = {"bins": edges, "density": True, "color": colour}
            held = own.clip(low, high)  # what lies beyond stands in the outermost bins
            axes.hist(held, histtype="stepfilled", alpha=0.15, **bars)
            axes.hist(held, histtype="step", linewidth=1.0, label=side, **bars)
    axes.set_xlim(low, high)


def draw_realism_distances(distances: pd.DataFrame, data: Mapping[str, Any]) -> Figure:
    """The distance of every feature (rows) in every class (columns), as numbers on colours.

    `distances`: of `feature_distances`; `data`: the record of the selection. A frame that says so
    where there are no real galaxies.
    """
    if distances.ks.isna().all():
        return draw_missing("The distance of each feature", f"there are {NO_REAL}", data)
    names = list(dict.fromkeys(distances.class_name))
    square, alike = (
        distances.pivot(index="feature", columns="class_name", values=column)
        .loc[list(FEATURES), names]
        .to_numpy(float)
        for column in ("ks", "alike")
    )
    figure, axes = plt.subplots(figsize=(TEXT_WIDTH_IN, 4.1), layout="constrained")
    shown = axes.imshow(square, cmap="Oranges", vmin=0, vmax=1, aspect="auto")
    short = dict(zip(CLASS_NAMES, CLASS_SHORT_NAMES, strict=True))
    counts = distances.groupby("class_name")[["real", "simulated"]].max().min(axis=1)
    words = [short.get(name, "All").removesuffix("-shaped") for name in names]
    titles = [f"{word}\n{counts[name]:,}" for word, name in zip(words, names, strict=True)]
    axes.set_xticks(range(len(names)), titles, fontsize=SMALL_PT)
    axes.set_yticks(range(len(square)), list(FEATURES.values()))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for (row, column), value in np.ndenumerate(square):
        look = {"color": "white" if value > 0.7 else "black", "ha": "center", "va": "center"}
        look |= {"fontweight": "bold" if value > alike[row, column] else "normal"}
        words = "–" if np.isnan(value) else f"{value:.2f}"
        axes.text(column, row, words, fontsize=SMALL_PT, **look)
    figure.colorbar(shown, ax=axes, label="distance D (0: alike, 1: apart)", pad=0.01)
    words = "below each class the galaxies of either side; bold: more than chance makes of so few"
    footer(figure, data, f"{_made(data)}; {words}")
    return describe(figure, "Distances between real and simulated galaxies, by feature and class.")
