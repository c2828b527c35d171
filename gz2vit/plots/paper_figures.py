"""Figs. 3 to 5 of the paper (arXiv:2110.01024), and pictures of galaxies like its Fig. 2.

Bins, colours and classes are arguments. Fig. 1 and Fig. 2 are drawn in their notebooks.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter

from gz2vit.evaluation import PROBABILITY_COLUMNS, ClassIndices, confusion_matrix, confusion_percent
from gz2vit.evidence import published_edges
from gz2vit.images import segment_galaxy
from gz2vit.io import WEIGHTED, Gz2vitError
from gz2vit.paper import CLASS_COUNT, CLASS_NAMES, CLASS_SHORT_NAMES, FIG5_GALAXY_IDS
from gz2vit.plots import style
from gz2vit.plots.style import GREY, SMALL_PT, describe, footer, full_name, house_style, model_name

# --- Fig. 2 and other pictures of galaxies

COLUMNS = 8  # galaxies in a row of a grid
# PAPER, Fig. 2: the titles of its columns, shorter than the names of the classes.
FIG2_TITLES = ("Round Elliptical", "In-between", "Cigar-shaped", "Edge-on",
               "Barred Spiral", "Unbarred Spiral", "Irregular", "Merger")  # fmt: skip


def show_galaxy(
    axes: Axes, image: np.ndarray | None, nothing: str = "no galaxy", **options: Any
) -> None:
    """One image (H, W, 3) without ticks and frame, or a pale panel that says `nothing`."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if image is not None:
        axes.imshow(image, **options)
    else:
        axes.set(facecolor=style.PALE, box_aspect=1)
        style.say(axes, nothing, fontsize=SMALL_PT)


def draw_galaxies(
    images: Sequence[np.ndarray], class_index: Sequence[int], galaxy_ids: Sequence[str]
) -> Figure:
    """A grid of galaxies, uint8 (H, W, 3), eight in a row, each under its class and id."""
    own = zip(class_index, galaxy_ids, strict=True)
    return _draw_grid(images, [f"{CLASS_SHORT_NAMES[index]}\n{name}" for index, name in own])


def draw_mistakes(predictions: pd.DataFrame, images: np.ndarray, count: int = 16) -> Figure:
    """The `count` mistakes that a network was most certain of, each under "true → predicted".

    `predictions`: of `read_predictions`, a row per image; `images`: uint8 (N, H, W, 3).
    """
    if len(predictions) != len(images):
        raise Gz2vitError(f"predictions of {len(predictions)} galaxies, but {len(images)} images")
    table = predictions.assign(sure=predictions[list(PROBABILITY_COLUMNS)].max(axis=1))
    wrong = table.reset_index(drop=True).query("`class` != pred")
    shown = wrong.sort_values("sure", ascending=False, kind="stable").head(count)
    captions = [
        f"{CLASS_SHORT_NAMES[true]}\n→ {CLASS_SHORT_NAMES[pred]}, {100 * sure:.0f}%"
        for true, pred, sure in shown[["class", "pred", "sure"]].itertuples(index=False)
    ]
    nothing = f"no mistakes among {len(table):,} galaxies"
    return _draw_grid([images[row] for row in shown.index], captions, nothing)


@house_style()
def _draw_grid(
    images: Sequence[np.ndarray], captions: Sequence[str], nothing: str = "no galaxies"
) -> Figure:
    """Images in rows of eight under their captions; without images, the words `nothing`."""
    if not len(images):
        figure = plt.figure(figsize=(4.0, 0.5))
        figure.text(0.5, 0.5, nothing, ha="center", va="center", color=GREY)
        return figure
    rows, columns = -(-len(images) // COLUMNS), min(COLUMNS, len(images))
    side_in = style.NOTEBOOK_WIDTH_IN / COLUMNS
    size = (columns * side_in, rows * (side_in + 0.3))
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.02, wspace=0, hspace=0)
    for panel in axes.flat[len(images) :]:
        panel.set_axis_off()
    for panel, image, caption in zip(axes.flat, images, captions, strict=False):
        show_galaxy(panel, image)
        panel.set_title(caption, fontsize=7, pad=2)
    return figure


# --- Fig. 3: confusion matrices in percent of the true class


@house_style()
def draw_fig3(
    panels: Mapping[str, np.ndarray | None], totals: Sequence[int], data: Mapping[str, Any] | str,
    colour_map: str = "Blues", classes: Sequence[int] = range(CLASS_COUNT),
) -> Figure:  # fmt: skip
    """Fig. 3: confusion matrices of the `classes` side by side.

    `panels`: by title, percentages of `confusion_percent` (8, 8), or None where the title says why
    there are none; `totals` (8,): the galaxies of each true class; `data`: as of `footer`.
    """
    size = (style.TEXT_WIDTH_IN if len(panels) > 1 else 5.0, 3.55)
    figure, axes = plt.subplots(1, len(panels), figsize=size, squeeze=False, layout="constrained")
    names, words = [f"{CLASS_NAMES[row]} ({totals[row]:,})" for row in classes], []
    for panel, (title, percent) in zip(axes[0], panels.items(), strict=True):
        words.append(title)
        if percent is None:
            panel.set_axis_off()
            style.say(panel, textwrap.fill(title, 42), wrap=True)
            continue
        shown = percent[np.ix_(classes, classes)]
        # The same colours in every matrix, so that equal shares look equal.
        look = {"cmap": colour_map, "vmin": 0, "vmax": 100, "cbar": False, "fmt": ""}
        look |= {"annot": np.vectorize(_share)(shown), "annot_kws": {"fontsize": SMALL_PT}}
        seaborn.heatmap(np.nan_to_num(shown), ax=panel, **look)
        short = [CLASS_SHORT_NAMES[index] for index in classes]
        panel.set_xticklabels(short, rotation=30, ha="right", rotation_mode="anchor")
        panel.tick_params(length=0, pad=2)
        panel.set(xlabel="Predicted class", yticks=[])
        panel.set_title(title, fontsize=SMALL_PT, linespacing=1.4)
        if not any(axes.get_ylabel() for axes in figure.axes):  # once, in the first matrix
            panel.set_yticks(np.arange(len(classes)) + 0.5, names, rotation=0)
            panel.set_ylabel("True class (test galaxies)")
        own = zip(CLASS_SHORT_NAMES, percent.diagonal(), strict=True)
        shares = ", ".join(f"{name} {_share(x)}" for name, x in own)
        others = np.nan_to_num(percent - np.diag(percent.diagonal()))
        true, pred = np.unravel_index(others.argmax(), others.shape)
        confused = f"{CLASS_SHORT_NAMES[true]} taken for {CLASS_SHORT_NAMES[pred]}"
        words[-1] = f"A confusion matrix, {title.splitlines()[0]}; recognised of each class: "
        words[-1] += f"{shares}; most often confused: {confused}, {others[true, pred]:.1f}%."
    if data:
        footer(figure, data)
    return describe(figure, " ".join(words))


@house_style()
def draw_confusion(true: ClassIndices, pred: ClassIndices, colour_map: str = "Blues") -> Figure:
    """The confusion matrix of predictions `pred` (N,) for galaxies of class `true` (N,)."""
    counts = confusion_matrix(true, pred)
    title = f"{counts.sum():,} galaxies, {100 * counts.trace() / counts.sum():.1f}% of them right"
    return draw_fig3({title: confusion_percent(counts)}, counts.sum(axis=1), "", colour_map)


def confusion_title(metrics: Mapping[str, Any], accuracy: str) -> str:
    """The `model`, its accuracy, and its `class_weights`, if there are any, as in the paper."""
    weights = [
        f"{one:.{0 if one == round(one) else 2 if one < 10 else 1}f}"
        for one in metrics.get("class_weights", ())
    ]
    below = f"\nclass weights = [{', '.join(weights)}]" if weights else ""
    return f"{model_name(metrics['model'])}, accuracy {accuracy}{below}"


def _share(percent: float) -> str:
    """A cell of a matrix, with a dash where the test galaxies lack the class."""
    return "–" if np.isnan(percent) else f"{percent:.1f}%"


# --- Fig. 4: sizes and magnitudes of all test galaxies, and of those that one model has right

FIG4_GROUPS = ("all", "only first", "only second")
# The paper's grey; its red and orange are blue and orange here, distinct for all colour vision.
FIG4_COLOURS = dict(zip(FIG4_GROUPS, ("#D3D3D3", style.BLUE, style.ORANGE), strict=True))
# By column of galaxy_properties.csv, how a panel is labelled.
FIG4_PANELS = {
    "petroR90_r": {"title": "galaxy size", "name": "size", "unit": "arcsec",
                   "axis": "90% light radius (arcsec)", "tick_step": 5, "legend": "upper right"},
    "dered_r": {"title": "galaxy brightness", "name": "r magnitude", "unit": "mag", "tick_step": 1,
                "axis": "(brighter) ←  r-band magnitude (mag)  → (fainter)", "legend": "upper left"}
}  # fmt: skip
PER_BIN = 5  # galaxies that the smaller group should have in a bin, on average
INSIDE = 0.95  # share of the galaxies that the paper's bins must hold to be used


@house_style()
def draw_fig4(
    tables: pd.DataFrame | Mapping[str, pd.DataFrame], names: tuple[str, str],
    data: Mapping[str, Any] | str, edges: Mapping[str, np.ndarray] | None = None,
    colours: Mapping[str, str] = FIG4_COLOURS, totals: Mapping[str, int] | None = None,
) -> Figure:  # fmt: skip
    """Fig. 4 of two models (keys `names`): histograms of area 1, sizes left, magnitudes right.

    `tables`: the galaxies' `region` (of `join_predictions`) and the columns of FIG4_PANELS, or such
    a table by column; `data`: as of `footer`; `edges` of bins by column, else the paper's where
    they hold most galaxies, or as many between the extreme percentiles, for few galaxies half as
    many; `colours` by group; `totals`: the legend's counts, else of galaxies with a value.
    """
    first, second = map(full_name, names)
    groups = "full test set", f"{first} right, {second} wrong", f"{first} wrong, {second} right"
    line = {"histtype": "step", "linewidth": 1.5}
    lines = ({}, line, line | {"linestyle": (0, (4, 1.6))})
    left_out, described = [], []
    figure, axes = plt.subplots(1, 2, figsize=(style.TEXT_WIDTH_IN, 2.9), layout="constrained")
    for panel, (column, look) in zip(axes, FIG4_PANELS.items(), strict=True):
        table = tables if isinstance(tables, pd.DataFrame) else tables[column]
        known = table[table[column].notna()]
        values = {one: known.loc[known.region == one, column] for one in FIG4_GROUPS}
        values["all"] = known[column]
        bins = published_edges(column)
        if values["all"].between(bins[0], bins[-1]).mean() < INSIDE:
            low, high = values["all"].quantile([0.005, 0.995])
            bins = np.linspace(low, high if high > low else low + 1, len(bins))
        if min(map(len, values.values())) < PER_BIN * (len(bins) - 1):  # every other edge
            bins = np.append(bins[:-1:2], bins[-1])
        bins = np.asarray((edges or {}).get(column, bins), dtype=float)
        inside = {one: own[own.between(bins[0], bins[-1])] for one, own in values.items()}
        lost = {"of unknown": len(table) - len(known)}
        lost["beyond the axis of"] = len(known) - len(inside["all"])
        left_out += [f"{count:,} {what} {look['name']}" for what, count in lost.items() if count]
        n = totals or {one: len(own) for one, own in values.items()}
        for group, words, options in zip(FIG4_GROUPS, groups, lines, strict=True):
            label = f"{words} ({n[group]:,})"
            # Nothing has no density; its line is in the legend all the same.
            options = options | {"density": len(inside[group]) > 0, "color": colours[group]}
            panel.hist(inside[group], bins, label=label, **options)
            median = f"{label}, median {values[group].median():.3g} {look['unit']}"
            described.append(f"{look['title']}, {median}")
        panel.set(title=look["title"], xlabel=look["axis"], ylabel=f"pdf (1/{look['unit']})")
        panel.xaxis.set_major_locator(plt.MultipleLocator(look["tick_step"]))
        panel.set_xlim(bins[0] - 0.02 * np.ptp(bins), bins[-1])
        panel.set_ylim(0, 1.32 * panel.get_ylim()[1])  # room for the legend
        panel.legend(loc=look["legend"], handlelength=2.2)
    footer(figure, data, "; ".join(left_out))
    return describe(figure, f"Histograms of the test galaxies. {'; '.join(described)}.")


# --- Fig. 5: where networks look

# DEVIATION: the paper's Fig. 5 has jet, whose bands show edges that the maps do not have; turbo has
# its hues, but brightness without steps.
COLOUR_MAP = "turbo"
OUTLINE_SHARE = 1 / 75  # of the side: an outline is smoothed over 3 px of 224
KINDS = {
    "average": "transformers: attention rollout (of a Linformer's absolute effective attention)",
    "of_class": "transformers: attention weighted with the gradient of the predicted class",
}
REST = (
    "CNNs: Grad-CAM for the predicted class, no map where nothing speaks for it; below each map "
    "that class and its probability; white: the galaxy's outline from its own light"
)


@house_style()
def draw_fig5(
    sample: Any, name: str, maps: Mapping[str, Any], data: Mapping[str, Any],
    model: str = "", kind: str = "average", colour_map: str = COLOUR_MAP,
) -> Figure:  # fmt: skip
    """Fig. 5: where networks look in the galaxies of the list `name` of `sample`, one in a row.

    `sample`: a `Sample`; `maps`: `GalaxyMaps` by model; `model`: one with heads, for its average
    and every head, as in the paper; without it all models side by side, with their maps of `kind`,
    `average` or `of_class`; `data`: as of `footer`. Where nothing can be drawn, a frame says why.
    """
    rows, own, why = sample.rows(name), maps.get(model), ""
    if not len(rows):
        why = "the test galaxies have none of this kind"
    elif model and own is None:
        why = f"{model} is not mapped, only {', '.join(maps)} are; train it, or name another"
    elif model and not own.heads.shape[1]:
        why = f"{model} is a CNN and has no attention heads; name a transformer"
    if why:
        what = f"Every head of {model} for list '{name}'" if model else f"The list '{name}'"
        return style.draw_missing(what, why, data)
    if model:
        words = f"{model_name(model)} ({model}), {own.method}"
        columns = {"average": own.average}
        columns |= {f"head {n + 1}": own.heads[:, n] for n in range(own.heads.shape[1])}
        if name in FIG5_GALAXY_IDS:
            papers = set(sample.lists[name]) <= set(map(str, FIG5_GALAXY_IDS[name]))
            words += "; the paper's galaxies, as far as this run has them" if papers else ""
            words += "" if papers else "; stand-ins: the paper's galaxies are not in this run"
    else:
        words = f"{KINDS[kind]}; {REST}"
        columns = {key: getattr(one, kind) for key, one in maps.items()}
    figure, axes = panels(len(rows), 1 + len(columns))
    for panel, title in zip(axes[0], ["image", *columns], strict=True):
        two = title.replace(WEIGHTED, f"\n{WEIGHTED.strip('_')}")
        panel.set_title(two, y=1.0, fontsize=SMALL_PT, pad=2.5, linespacing=1.05)
    captions = []
    for row, line in zip(rows, axes, strict=True):
        image, true = sample.images[row], CLASS_SHORT_NAMES[sample.class_index[row]]
        pred = [f"→ {CLASS_SHORT_NAMES[own.probability[row].argmax()]}"] if model else []
        captions.append("\n".join([*textwrap.wrap(sample.galaxy_ids[row], 10), true, *pred]))
        show_galaxy(line[0], image)
        line[0].set_ylabel(captions[-1], rotation=0, ha="right", va="center", fontsize=SMALL_PT)
        outline = None if model else segment_galaxy(image.astype(np.float32).mean(axis=2))
        for panel, (title, shown) in zip(line[1:], columns.items(), strict=True):
            show_map(panel, shown[row], colour_map, outline)
            if not model:
                sure = maps[title].probability[row]
                below = f"{CLASS_SHORT_NAMES[sure.argmax()]} {100 * sure.max():.0f}%"
                panel.set_xlabel(below, fontsize=SMALL_PT - 1, labelpad=1.2, color=GREY)
    strip = axes[0, 0].inset_axes([-0.78, 1.1, 0.35, 0.06])  # left of the titles
    figure.colorbar(
        plt.cm.ScalarMappable(cmap=colour_map), strip, ticks=[], orientation="horizontal"
    )
    for place, side, word in ((-0.1, "right", "0"), (1.1, "left", "max.")):
        look = {"ha": side, "va": "center_baseline", "fontsize": SMALL_PT - 0.8, "color": GREY}
        strip.text(place, 0.5, word, **look, transform=strip.transAxes)
    footer(figure, data, words)
    shown = f"{', '.join(columns)}, for galaxies {'; '.join(captions)}"
    return describe(figure, f"Maps of where {model or 'networks'} look: {shown}.")


def panels(rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    """Square panels close together, with room for captions on the left; the figure and its axes."""
    side = min(1.1, (style.TEXT_WIDTH_IN - 0.75) / columns)
    size = (0.75 + columns * side, 0.5 + rows * (side + 0.13))
    figure, axes = plt.subplots(rows, columns, squeeze=False, figsize=size, layout="compressed")
    figure.get_layout_engine().set(w_pad=0.015, h_pad=0.015, wspace=0, hspace=0)
    return figure, axes


def show_map(
    axes: Axes, values: np.ndarray, colour_map: str, outline: np.ndarray | None = None
) -> None:
    """A map (g, g), smoothed, with the galaxy's outline (H, W), or words where it is 0."""
    there, size = values.max() > 0, 1.0 if outline is None else float(len(outline))
    # Smooth, through the values, and nowhere beyond them: "bicubic" passes below the peaks, so that
    # no map would be red, and "catrom" adds dark rings.
    look = {"cmap": colour_map, "vmin": 0, "vmax": 1, "interpolation": "hermite"}
    show_galaxy(axes, values if there else None, "no map", extent=(0, size, size, 0), **look)
    if there and outline is not None and outline.any() and not outline.all():
        smooth = gaussian_filter(outline.astype(np.float32), OUTLINE_SHARE * size)
        axes.contour(smooth, [0.5], colors="white", linewidths=0.6)
