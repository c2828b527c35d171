"""Accuracy against size and magnitude: of all models, and of one model less another's."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gz2vit.calibration import Calibration
from gz2vit.comparisons import accuracy_trends, difference_in_bins
from gz2vit.evidence import ALPHA, FIG4_PROPERTIES, SIZE, Property
from gz2vit.images import segment_galaxy
from gz2vit.io import Gz2vitError
from gz2vit.paper import CLASS_COUNT, CLASS_NAMES, CLASS_SHORT_NAMES
from gz2vit.plots.paper_figures import (
    AXIS_NAMES,
    COLOUR_MAP,
    FIG2_TITLES,
    TITLES,
    panels,
    show_image,
    show_map,
)
from gz2vit.plots.style import (
    BLUE,
    GREEN,
    GREY,
    NOTEBOOK_WIDTH_IN,
    ORANGE,
    PALE,
    SMALL_PT,
    SPLIT_COLOURS,
    TEXT_WIDTH_IN,
    describe,
    draw_missing,
    footer,
    full_name,
    looks,
)
from gz2vit.sim2real import FEATURES, REAL, SIMULATED
from gz2vit.votes import Agreement, ClassRule, Rule, derive_classes, vote_count, vote_fraction

LARGE_SET = 5_000  # test galaxies from which there are ten bins, as the statistics have
FEW_BINS, MANY_BINS = 5, 10
SPREAD = 0.55  # part of the gap between two bins over which the models' points are spread
LEGEND_COLUMNS = 4


def bins_for(galaxies: int) -> int:
    """How many bins of equal counts so many galaxies are parted into."""
    return MANY_BINS if galaxies >= LARGE_SET else FEW_BINS


def draw_accuracy_trends(
    table: pd.DataFrame, model_keys: list[str], data: Mapping[str, Any]
) -> Figure:
    """Accuracy in bins of equal counts of size (left) and magnitude (right), a line a model.

    `table`: as `evidence.gather_answers` gives it; bars are 95 % Wilson intervals. The models'
    points stand side by side around the median of their bin, so that all bars can be seen.
    """
    figure, axes = plt.subplots(
        1, 2, figsize=(TEXT_WIDTH_IN, 3.2), sharey=True, layout="constrained"
    )
    styles, told = looks(model_keys), []
    for panel, what in zip(axes, FIG4_PROPERTIES, strict=True):
        right = {key: table[key] for key in model_keys}
        trends = accuracy_trends(right, table[what.column], bins_for(len(table)))
        for place, key in enumerate(model_keys):
            shift = SPREAD * ((place + 0.5) / len(model_keys) - 0.5)
            _draw_line(panel, trends[trends.model == key], shift, styles[key], full_name(key))
        _name_axis(panel, what)
        told.append(_words(what, trends))
    axes[0].set_ylabel("accuracy (%)")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=LEGEND_COLUMNS)
    bars = f"{bins_for(len(table))} bins of equal counts, bars: 95 % Wilson intervals"
    footer(figure, data, f"{len(table):,} test galaxies, {bars}")
    return describe(figure, f"Accuracy of each network in bins. {' '.join(told)}")


def draw_lead(table: pd.DataFrame, names: tuple[str, str], data: Mapping[str, Any]) -> Figure:
    """By how many points the first model is ahead of the second, in bins of size and magnitude.

    `table`: as `evidence.gather_pair` gives it; `names`: the models' keys. Bars are 95 % intervals
    (Bonett and Price); a filled point is a lead by McNemar's test, corrected for the bins (Holm).
    """
    figure, axes = plt.subplots(
        1, 2, figsize=(TEXT_WIDTH_IN, 2.5), sharey=True, layout="constrained"
    )
    answers, told = (table.first_right, table.second_right), []
    for panel, what in zip(axes, FIG4_PROPERTIES, strict=True):
        bins = difference_in_bins(*answers, table[what.column], bins_for(len(table)))
        _draw_bins(panel, bins)
        _name_axis(panel, what)
        points = ", ".join(f"{100 * value:+.1f}" for value in bins.difference)
        told.append(f"By {what.name}, from low to high: {points} points.")
    first, second = map(full_name, names)
    axes[0].set_ylabel(f"accuracy of {first}\nless that of {second} (points)")
    words = "filled: they differ (McNemar, Holm)"
    footer(figure, data, f"bins of equal counts, bars: 95 % intervals; {words}")
    return describe(figure, f"The lead of {first} over {second} in bins. {' '.join(told)}")


def _draw_line(
    axes: Axes, bins: pd.DataFrame, shift: float, look: Mapping[str, Any], name: str
) -> None:
    """One model's accuracies with their intervals."""
    x = bins["median"].to_numpy()
    x = x + shift * (np.diff(x).min() if len(x) > 1 else 0.1)
    value = 100 * bins.accuracy
    ends = np.abs(100 * bins[["low", "high"]].to_numpy().T - value.to_numpy())
    options = {"markersize": 3.5, "linewidth": 0.9, "elinewidth": 0.6, "label": name}
    axes.errorbar(x, value, yerr=ends, **look, **options)


def _draw_bins(axes: Axes, bins: pd.DataFrame) -> None:
    """The differences, their intervals across and the bins' widths along."""
    value = 100 * bins.difference
    across = np.abs(100 * bins[["low", "high"]].to_numpy().T - value.to_numpy())
    along = np.abs(bins[["low_edge", "high_edge"]].to_numpy().T - bins["median"].to_numpy())
    clear = (bins.p_holm < ALPHA).to_numpy()
    options = {"fmt": "none", "ecolor": BLUE}
    axes.errorbar(bins["median"], value, yerr=across, elinewidth=1.0, **options)
    axes.errorbar(bins["median"], value, xerr=along, elinewidth=0.5, alpha=0.5, **options)
    faces = np.where(clear, BLUE, "white")
    axes.scatter(bins["median"], value, s=20, c=faces, edgecolors=BLUE, linewidths=1.0, zorder=3)
    axes.axhline(0, color=GREY, linewidth=0.6, linestyle=":")


def _name_axis(axes: Axes, what: Property) -> None:
    """Title and x axis; sizes in logarithmic steps, because their bins widen so."""
    axes.set_title(TITLES[what.column])
    axes.set_xlabel(AXIS_NAMES[what.column])
    axes.xaxis.set_major_locator(plt.MaxNLocator(6, steps=[1, 2, 5, 10]))
    if what is SIZE:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(plt.FixedLocator([1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50]))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(plt.NullLocator())


def _words(what: Property, trends: pd.DataFrame) -> str:
    """What a panel of accuracies shows: each model at both ends."""
    ends = [
        f"{full_name(key)} {100 * own.accuracy.iloc[0]:.0f}% to {100 * own.accuracy.iloc[-1]:.0f}%"
        for key, own in trends.groupby("model", sort=False)
    ]
    return f"By {what.name}, from the lowest to the highest bin: {', '.join(ends)}."


# ------------------------------------------------------------------------------------------
# What the checks of attention maps found: gains with their intervals, and the curves behind.

# The quantities of `inspection.checks`, and what their panels are called.
PANELS = {
    "deletion_gain": "deleting by the map:\nmore harm than at random",
    "insertion_gain": "inserting by the map:\nmore gain than at random",
    "light_gain": "share on the galaxy,\nbeyond an even map's",
    "randomised_similarity": "likeness to the map of\nrandom weights (rank corr.)",
}
MAP_COLOURS = {"attention": BLUE, "class": ORANGE}
MAP_NAMES = {"attention": "attention rollout", "class": "evidence for the class"}
ORDER_COLOURS = {"most": BLUE, "random": GREY, "centre": GREEN}


def draw_checks(table: pd.DataFrame, data: Mapping[str, Any]) -> Figure:
    """Four checks of every model's maps: the mean over galaxies and its 95 % interval.

    `table`: as of `inspection.checks`; `data`: the record of the selection.
    """
    models = list(dict.fromkeys(table["model"]))
    size = (TEXT_WIDTH_IN, 0.95 + 0.24 * len(models))
    figure, axes = plt.subplots(1, len(PANELS), figsize=size, sharey=True, layout="constrained")
    for panel, (quantity, title) in zip(axes, PANELS.items(), strict=True):
        _draw_forest(panel, table[table["quantity"] == quantity], models)
        panel.set_title(title, fontsize=SMALL_PT + 0.5)
    axes[0].set_yticks(range(len(models)), models)
    axes[0].set_ylim(len(models) - 0.4, -0.6)
    handles, labels = axes[0].get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    figure.legend(named.values(), named, loc="outside upper right", ncols=2, borderpad=0.1)
    galaxies = int(table["galaxies"].max())
    footer(figure, data, f"means over {galaxies} test galaxies, 95 % bootstrap intervals")
    return figure


def _draw_forest(axes: Axes, rows: pd.DataFrame, models: list[str]) -> None:
    """A point and its interval for each model and kind of map; a line at 0."""
    axes.axvline(0, color=GREY, linewidth=0.6)
    for kind, own in rows.groupby("map", sort=False):
        shift = -0.13 if kind == "attention" else 0.13
        places = [models.index(model) + shift for model in own["model"]]
        spread = [own["value"] - own["low"], own["high"] - own["value"]]
        look = {"color": MAP_COLOURS[kind], "markersize": 3.5, "linewidth": 1.0}
        axes.errorbar(own["value"], places, xerr=spread, fmt="o", label=MAP_NAMES[kind], **look)
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.12)


def draw_check_curves(curves: pd.DataFrame, kind: str = "deletion") -> Figure:
    """The predicted class's mean probability while patches change: a panel for each map.

    `curves`: as of `inspection.checks`; `kind`: deletion or insertion; bands are 95 % intervals.
    """
    groups = list(curves[curves["kind"] == kind].groupby(["model", "map"], sort=False))
    columns = 4
    lines = -(-len(groups) // columns)
    size = (NOTEBOOK_WIDTH_IN, 0.4 + 1.7 * lines)
    words = {"sharex": True, "sharey": True, "squeeze": False, "layout": "constrained"}
    figure, axes = plt.subplots(lines, columns, figsize=size, **words)
    for panel in axes.flat[len(groups) :]:
        panel.set_axis_off()
    for panel, ((model, name), rows) in zip(axes.flat, groups, strict=False):
        for order, own in rows.groupby("order", sort=False):
            colour = ORDER_COLOURS[order]
            panel.plot(own["changed"], own["probability"], color=colour, label=order)
            panel.fill_between(own["changed"], own["low"], own["high"], color=colour, alpha=0.15)
        panel.set_title(f"{model}, {MAP_NAMES[name]}", fontsize=7)
    axes[0, 0].legend()
    verb = "deleted" if kind == "deletion" else "inserted"
    figure.supxlabel(f"share of patches {verb}", fontsize=8)
    figure.supylabel("probability of the predicted class", fontsize=8)
    return figure


# ------------------------------------------------------------------------------------------
# How many galaxies of each class there are, and in which split.

COLUMN_STEP = 0.105  # between two columns of numbers, in widths of the axes


def draw_class_composition(composition: pd.DataFrame, data: Mapping[str, Any]) -> Figure:
    """One stacked bar for each class, with its share of all galaxies, and the counts beside it.

    `composition`: galaxies by class name (rows) and by `train`, `valid`, `test`, `all` (columns);
    `data`: the record of the selection.
    """
    figure, axes = plt.subplots(figsize=(TEXT_WIDTH_IN, 2.7), layout="constrained")
    rows = np.arange(len(composition))
    start = np.zeros(len(composition))
    for split, colour in SPLIT_COLOURS.items():
        axes.barh(rows, composition[split], left=start, color=colour, height=0.72, label=split)
        start += composition[split]
    _write_shares(axes, composition["all"])
    _write_counts(axes, composition)
    axes.set_yticks(rows, composition.index)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(composition) - 0.5, -0.5)  # the first class on top
    axes.set_xlim(0, 1.13 * max(composition["all"].max(), 1))  # room for the longest bar's share
    axes.xaxis.set_major_locator(plt.MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("galaxies")
    footer(figure, data)
    counts = ", ".join(f"{name} {count:,}" for name, count in composition["all"].items())
    return describe(figure, f"Bars of the number of galaxies in each class: {counts}.")


def _write_shares(axes: Axes, totals: pd.Series) -> None:
    """The share of each class at the end of its bar."""
    for row, total in enumerate(totals):
        share = f" {100 * total / max(totals.sum(), 1):.1f}%"
        axes.text(total, row, share, va="center", fontsize=7, color=GREY)


def _write_counts(axes: Axes, composition: pd.DataFrame) -> None:
    """The counts in columns on the right, whose heads are the colours' legend."""
    place = {"transform": axes.get_yaxis_transform(), "ha": "right", "fontsize": 7}
    for column, name in enumerate((*SPLIT_COLOURS, "all")):
        x = 1.0 + (column + 1) * COLUMN_STEP
        colour = SPLIT_COLOURS.get(name, "black")
        axes.text(x, -0.62, name, color=colour, weight="bold", va="bottom", **place)
        for row, count in enumerate(composition[name]):
            axes.text(x, row, f"{count:,}", va="center", **place)


# ------------------------------------------------------------------------------------------
# Loss and accuracy over the epochs of a training.

SHORT_HISTORY = 12  # up to so many epochs, each gets a dot: one epoch is no line
NOTEBOOK_IN, SHAPE = 8.0, 0.38  # width, and height by width
PARTS = {"train": "training", "valid": "validation"}


def draw_learning_curves(history: pd.DataFrame, width_in: float = NOTEBOOK_IN) -> Figure:
    """Loss and accuracy of the training and validation galaxies, the best epoch marked.

    `history`: one row an epoch, with `epoch` (from 1), `train_loss`, `valid_loss`, `train_acc`,
    `valid_acc` (0 to 1). Best is the first epoch with the highest validation accuracy, whose
    weights are kept. `width_in`: of the figure; where it is small, its words are large beside it.
    """
    size = (width_in, SHAPE * width_in)
    figure, (loss, accuracy) = plt.subplots(1, 2, figsize=size, layout="constrained")
    best = history.loc[history.valid_acc.idxmax()]
    for axes, quantity in ((loss, "loss"), (accuracy, "acc")):
        _draw_curves(axes, history, quantity)
        axes.axvline(best.epoch, color=GREY, linewidth=0.8, linestyle=":", zorder=0)
    loss.set_ylabel("loss (cross-entropy)")
    accuracy.set_ylabel("accuracy")
    accuracy.plot(best.epoch, best.valid_acc, "o", markersize=8, fillstyle="none", color=GREY)
    accuracy.set_title(f"best: epoch {best.epoch:.0f}, validation {best.valid_acc:.3f}")
    loss.legend()
    return describe(figure, _words_curves(history, best))


def _words_curves(history: pd.DataFrame, best: pd.Series) -> str:
    """The curves' beginnings and ends, and the best epoch."""
    first, last = history.iloc[0], history.iloc[-1]
    told = [
        f"{name} {long} from {first[f'{part}_{short}']:.3g} to {last[f'{part}_{short}']:.3g}"
        for short, long in (("loss", "loss"), ("acc", "accuracy"))
        for part, name in PARTS.items()
    ]
    return (
        f"Two panels with loss and accuracy over {len(history)} epochs: {', '.join(told)}. Best "
        f"epoch: {best.epoch:.0f}, validation accuracy {best.valid_acc:.3f}."
    )


def _draw_curves(axes: Axes, history: pd.DataFrame, quantity: str) -> None:
    """The curves of both parts for `loss` or `acc`."""
    marker = "o" if len(history) <= SHORT_HISTORY else None
    for part, name in PARTS.items():
        values = history[f"{part}_{quantity}"]
        colour = SPLIT_COLOURS[part]
        axes.plot(history.epoch, values, marker=marker, ms=3.5, color=colour, label=name)
    axes.set_xlim(history.epoch.min() - 0.5, history.epoch.max() + 0.5)
    axes.xaxis.set_major_locator(plt.MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch")


# ------------------------------------------------------------------------------------------
# One galaxy for the eye: image, map, probabilities and neighbours in one picture.

ABOVE_IN = 3.3  # height of galaxy, map and probabilities
NOTE_IN, NEIGHBOURS_IN = 0.3, 1.8  # of the line below them alone, and of the neighbours with it


def draw_explored(
    image: np.ndarray,
    attention: np.ndarray,
    probability: np.ndarray,
    titles: tuple[str, str],
    true: int,
    neighbours: Sequence[np.ndarray] = (),
    captions: Sequence[str] = (),
    note: str = "",
) -> Figure:
    """A galaxy, where a network looks in it, what it takes it for, and the galaxies nearest to it.

    `image`: uint8 (H, W, 3); `attention`: (g, g), 0 to 1; `probability` (8,), whose bar of the
    class `true` is orange; `titles`: of image and map; `neighbours`: images, uint8 (H, W, 3), over
    their `captions`; `note`: what stands above them, or why there are none.
    """
    heights = (ABOVE_IN, NEIGHBOURS_IN if len(neighbours) else NOTE_IN)
    figure = plt.figure(figsize=(NOTEBOOK_WIDTH_IN, sum(heights)), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=heights)
    axes = above.subplots(1, 3)
    _show(axes[0], image, titles[0])
    outline = segment_galaxy(image.astype(np.float32).mean(axis=2))
    show_map(axes[1], attention, COLOUR_MAP, outline)
    axes[1].set_title(titles[1])
    axes[1].set_box_aspect(1)
    axes[1].set_xlabel("blue: 0, red: its maximum; white: the outline")
    _bars(axes[2], probability, true)
    below.suptitle(note, fontsize=8, color=GREY)
    if len(neighbours):
        panels = below.subplots(1, len(neighbours), squeeze=False)[0]
        for panel, one, words in zip(panels, neighbours, captions, strict=True):
            _show(panel, one, words)
    return figure


def _show(axes: Axes, image: np.ndarray, title: str) -> None:
    """An image without axes."""
    axes.imshow(image)
    axes.set_title(title)
    axes.set_axis_off()


def _bars(axes: Axes, probability: np.ndarray, true: int) -> None:
    """Class probabilities in percent; the true class's is orange."""
    colours = [ORANGE if index == true else BLUE for index in range(len(probability))]
    bars = axes.barh(CLASS_NAMES, 100 * probability, color=colours)
    axes.bar_label(bars, fmt="%.0f", padding=2, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlim(0, 112)
    axes.set_xlabel("probability [%]; orange: its class")
    axes.set_box_aspect(1)


# ------------------------------------------------------------------------------------------
# What the layers of networks know: probes by layer, maps of galaxies, nearest neighbours.

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


# ------------------------------------------------------------------------------------------
# Precision against recall, a panel for each class, a line for each model.

ROWS, COLUMNS_PRECISION_RECALL = 2, 4


def draw_precision_recall(
    curves: Mapping[str, pd.DataFrame],
    averages: Mapping[str, pd.DataFrame],
    data: Mapping[str, Any],
) -> Figure:
    """The curves of all models, class by class; the dotted line is what guessing would reach.

    `curves`: by model, as `evidence.precision_recall_curves` gives them; `averages`: by model, as
    `evidence.average_precisions`. The panel of a class without test galaxies says so.
    """
    options = {"sharex": True, "sharey": True, "layout": "constrained"}
    figure, axes = plt.subplots(
        ROWS, COLUMNS_PRECISION_RECALL, figsize=(TEXT_WIDTH_IN, 4.3), **options
    )
    styles, shares = looks(list(curves)), next(iter(averages.values())).set_index("class_name")
    for panel, name in zip(axes.flat, CLASS_NAMES, strict=True):
        panel.set_title(f"{name} ({shares.galaxies[name]:,})")
        if not shares.galaxies[name]:
            _say_empty(panel)
            continue
        panel.axhline(shares.share[name], color=GREY, linewidth=0.6, linestyle=":")
        for key, table in curves.items():
            _draw_curve(panel, table[table.class_name == name], styles[key], full_name(key))
        panel.set(xlim=(0, 1), ylim=(0, 1.02), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    shown = next(panel for panel in axes.flat if panel.lines)
    handles, names = shown.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=LEGEND_COLUMNS)
    figure.supylabel("precision", fontsize="medium")
    for panel in axes[-1]:
        panel.set_xlabel("recall")
    footer(figure, data, "test galaxies of the class in brackets; dotted: guessing")
    return describe(figure, f"Precision against recall. {_words_precision_recall(averages)}")


def _draw_curve(axes: Axes, curve: pd.DataFrame, look: Mapping[str, Any], name: str) -> None:
    """One model's curve, in steps: between two thresholds nothing is known of it."""
    line = {key: value for key, value in look.items() if key != "marker"}
    axes.step(curve.recall, curve.precision, where="post", linewidth=0.9, label=name, **line)


def _say_empty(axes: Axes) -> None:
    """The panel of a class without test galaxies."""
    place = {"transform": axes.transAxes, "ha": "center", "va": "center"}
    axes.text(0.5, 0.5, "no test galaxies\nof this class", color=GREY, **place)


def _words_precision_recall(averages: Mapping[str, pd.DataFrame]) -> str:
    """The mean of the average precisions of each model."""
    means = [
        f"{full_name(key)} {table.average_precision.mean():.3f}" for key, table in averages.items()
    ]
    return f"Average precision, mean over the classes: {', '.join(means)}."


# ------------------------------------------------------------------------------------------
# The simulation beside real galaxies: a gallery, the features' distributions, their distances.

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


# ------------------------------------------------------------------------------------------
# Is a network right as often as it says? The reliability diagram of each model.

PANEL_IN = 1.75
BEFORE = {"color": ORANGE, "marker": "s", "label": "as it is"}
AFTER = {"color": BLUE, "marker": "o", "label": "after temperature scaling"}
FEWEST = 5  # galaxies: a bin of fewer is a point without a meaning


Diagram = tuple[pd.DataFrame, pd.DataFrame]  # before and after scaling


def draw_reliability(
    diagrams: Mapping[str, Diagram],
    calibrations: Mapping[str, Calibration],
    data: Mapping[str, Any],
) -> Figure:
    """A panel for each model: the share that is right against the mean confidence, in bins.

    `diagrams`: by model, as `evidence.reliability_pair` gives them; `calibrations`: by model. Bars
    are 95 % Wilson intervals; bins of fewer than FEWEST galaxies are left out. On the diagonal a
    model is right as often as it says; below it is too sure.
    """
    models = list(diagrams)
    rows, columns = -(-len(models) // COLUMNS), min(COLUMNS, len(models))
    size = (TEXT_WIDTH_IN, rows * PANEL_IN + 0.8)
    options = {"sharex": True, "sharey": True, "squeeze": False, "layout": "constrained"}
    figure, axes = plt.subplots(rows, columns, figsize=size, **options)
    for panel in axes.flat[len(models) :]:
        panel.set_axis_off()
    for panel, key in zip(axes.flat, models, strict=False):
        _draw_panel(panel, diagrams[key], calibrations[key])
        panel.set_title(full_name(key), fontsize="medium")
        panel.label_outer()
    handles, names = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=2)
    figure.supylabel("share that is right", fontsize="medium")
    _name_columns(axes, len(models))
    galaxies = calibrations[models[0]].ece_before.galaxies
    note = "ECE: expected calibration error; T: temperature; bars: 95 % Wilson intervals"
    footer(figure, data, f"{galaxies:,} test galaxies; {note}")
    told = " ".join(_words_reliability(key, calibrations[key]) for key in models)
    return describe(figure, f"Reliability diagrams. {told}")


def _draw_panel(axes: Axes, diagram: Diagram, found: Calibration) -> None:
    """One model, before and after."""
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.6, linestyle=":", zorder=0)
    for bins, look in zip(diagram, (BEFORE, AFTER), strict=True):
        known = bins[bins.galaxies >= FEWEST]
        ends = np.abs(known[["low", "high"]].to_numpy().T - known.accuracy.to_numpy())
        options = {"markersize": 3, "linewidth": 0.9, "elinewidth": 0.6, "clip_on": False}
        axes.errorbar(known.confidence, known.accuracy, yerr=ends, **options, **look)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    text = (
        f"T = {found.temperature:.2f}\nECE {found.ece_before.value:.3f}\n"
        f"→ {found.ece_after.value:.3f}"
    )
    place = {"transform": axes.transAxes, "ha": "right", "va": "bottom"}
    axes.text(0.98, 0.03, text, fontsize=SMALL_PT, linespacing=1.3, **place)


def _name_columns(axes: np.ndarray, panels: int) -> None:
    """The x axis of the lowest panel in each column."""
    columns = axes.shape[1]
    for column in range(columns):
        lowest = axes.flat[column + columns * ((panels - 1 - column) // columns)]
        lowest.set_xlabel("confidence")
        lowest.tick_params(labelbottom=True)


def _words_reliability(key: str, found: Calibration) -> str:
    """What a panel shows."""
    sure = "too sure" if found.overconfidence.value > 0 else "too modest"
    return (
        f"{full_name(key)}: {sure} by {abs(found.overconfidence.value):.3f} on average, ECE "
        f"{found.ece_before.value:.3f} before and {found.ece_after.value:.3f} after scaling at "
        f"T = {found.temperature:.2f}."
    )


# ------------------------------------------------------------------------------------------
# From votes to classes, drawn: the decision path with counts, derived against published labels.

NOT_SELECTED = "not selected"
ROW_IN = 0.46  # height of one class
BOX = {"boxstyle": "round,pad=0.35", "linewidth": 0.6}


def draw_decision_path(votes: pd.DataFrame, rule: Rule, data: Mapping[str, Any]) -> Figure:
    """One row for each class in the order of precedence: its conditions, and who is left.

    `votes`: as `galaxy_zoo.read_votes` gives them; `data`: what the footer tells.
    """
    figure, axes = plt.subplots(
        figsize=(TEXT_WIDTH_IN, ROW_IN * len(rule.classes) + 0.5), layout="constrained"
    )
    steps = max(len(one.conditions) for one in rule.classes) + 2
    classes = derive_classes(votes, rule)
    for row, one in enumerate(rule.classes):
        given = int((classes == one.class_index).sum())
        _draw_row(axes, row, steps, f"{one.class_name}\n{given:,}", _stages(votes, one, rule))
    axes.set_xlim(-0.5, steps - 0.5)
    axes.set_ylim(len(rule.classes) - 0.5, -0.5)
    axes.axis("off")
    selected = int((classes >= 0).sum())
    axes.set_title(
        f"{len(votes):,} galaxies; the first row that fits from the top gives the class: "
        f"{selected:,} are selected"
    )
    footer(figure, data, f"rule: {rule.name}")
    return figure


def _stages(votes: pd.DataFrame, one: ClassRule, rule: Rule) -> list[tuple[str, int]]:
    """Each condition of a class in words, and how many galaxies fulfil it and all before."""
    left = np.ones(len(votes), dtype=bool)
    stages = []
    for condition in one.conditions:
        fraction = vote_fraction(votes, condition.answers, condition.column)
        left &= fraction >= condition.at_least
        words = condition.describe().replace("_", " ").replace("edgeon", "edge-on")
        words = words.replace(">=", "≥")
        stages.append((words, int(left.sum())))
    left &= vote_count(votes, one.question) >= rule.min_votes
    return [*stages, (f"≥ {rule.min_votes} votes", int(left.sum()))]


def _draw_row(
    axes: Axes, row: int, steps: int, verdict: str, stages: list[tuple[str, int]]
) -> None:
    """The boxes of one class from left to right, and the class at the end, on one line."""
    axes.plot([0, steps - 1], [row, row], color=GREY, linewidth=0.6, zorder=0)
    text = {"fontsize": SMALL_PT, "ha": "center", "va": "center", "linespacing": 1.5}
    for place, (words, left) in enumerate(stages):
        box = BOX | {"facecolor": PALE, "edgecolor": GREY}
        axes.text(place, row, f"{words}\n{left:,}", bbox=box, **text)
    box = BOX | {"facecolor": "white", "edgecolor": BLUE}
    axes.text(steps - 1, row, verdict, bbox=box, **text)


def draw_agreement(agreement: Agreement, data: Mapping[str, Any]) -> Figure:
    """Published (rows) against derived classes (columns), counts; colour in percent of the row."""
    counts = agreement.table().to_numpy()
    with np.errstate(invalid="ignore"):
        percent = 100.0 * counts / counts.sum(axis=1, keepdims=True)
    percent[-1] = 0.0  # galaxies that the published tables lack: no class to be right about
    figure, axes = plt.subplots(figsize=(5.4, 4.3), layout="constrained")
    texts = np.array([[f"{count:,}" if count else "·" for count in row] for row in counts])
    seaborn.heatmap(
        np.nan_to_num(percent),
        annot=texts,
        fmt="",
        annot_kws={"fontsize": SMALL_PT},
        cmap="Blues",
        vmin=0,
        vmax=100,
        cbar=False,
        ax=axes,
    )
    names = [*CLASS_SHORT_NAMES, NOT_SELECTED]
    axes.set_xticklabels(names, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticklabels(names, rotation=0)
    axes.tick_params(length=0, pad=2)
    axes.set_xlabel("Class derived from the votes")
    axes.set_ylabel("Class in the label tables")
    both = agreement.counts.sum()
    axes.set_title(f"{both:,} galaxies in both, {100 * agreement.share:.1f}% in the same class")
    footer(figure, data)
    return figure
