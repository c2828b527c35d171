"""Figures beyond the paper: data, training, evidence, maps, features, realism, votes."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gz2vit.comparisons import accuracy_trends, difference_in_bins
from gz2vit.images import segment_galaxy
from gz2vit.paper import CLASS_NAMES, CLASS_SHORT_NAMES
from gz2vit.plots.paper_figures import (
    COLOUR_MAP,
    FIG4_PANELS,
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
    footer,
    full_name,
    looks,
    rows_of_panels,
    say,
    styled,
)
from gz2vit.votes import Agreement, Rule, derive_classes

# --- The galaxies of a run, and its trainings


@styled
def draw_class_composition(composition: pd.DataFrame, data: Mapping[str, Any]) -> Figure:
    """One stacked bar for each class, with its share of all galaxies, and the counts beside it.

    `composition`: galaxies by class name (rows) and by `train`, `valid`, `test`, `all` (columns);
    `data`: the record of the selection.
    """
    figure, axes = plt.subplots(figsize=(TEXT_WIDTH_IN, 2.7), layout="constrained")
    rows, start = np.arange(len(composition)), np.zeros(len(composition))
    for split, colour in SPLIT_COLOURS.items():
        axes.barh(rows, composition[split], left=start, color=colour, height=0.72, label=split)
        start += composition[split]
    totals = composition["all"]
    for row, total in enumerate(totals):
        share = f" {100 * total / max(totals.sum(), 1):.1f}%"
        axes.text(total, row, share, va="center", fontsize=7, color=GREY)
    # The counts in columns on the right, whose heads are the colours' legend.
    place = {"transform": axes.get_yaxis_transform(), "ha": "right", "fontsize": 7}
    for column, name in enumerate((*SPLIT_COLOURS, "all"), start=1):
        x, colour = 1.0 + column * 0.105, SPLIT_COLOURS.get(name, "black")
        axes.text(x, -0.62, name, color=colour, weight="bold", va="bottom", **place)
        for row, count in enumerate(composition[name]):
            axes.text(x, row, f"{count:,}", va="center", **place)
    axes.set_yticks(rows, composition.index)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(composition) - 0.5, -0.5)  # the first class on top
    axes.set_xlim(0, 1.13 * max(totals.max(), 1))  # room for the longest bar's share
    axes.xaxis.set_major_locator(plt.MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("galaxies")
    footer(figure, data)
    counts = ", ".join(f"{name} {count:,}" for name, count in totals.items())
    return describe(figure, f"Bars of the number of galaxies in each class: {counts}.")


@styled
def draw_learning_curves(
    history: pd.DataFrame, width_in: float = 8.0, authors: pd.DataFrame | None = None
) -> Figure:
    """Loss and accuracy of the training and validation galaxies, the best epoch marked.

    `history`: one row per epoch, with `epoch` (from 1), `train_loss`, `valid_loss`, `train_acc`,
    `valid_acc` (0 to 1). Best is the first epoch with the highest validation accuracy, whose
    weights are kept. `width_in`: of the figure. `authors`: the same of the authors' run,
    whose first epochs are drawn thin and dashed.
    """
    figure, axes = plt.subplots(1, 2, figsize=(width_in, 0.38 * width_in), layout="constrained")
    best, first, last = history.loc[history.valid_acc.idxmax()], history.iloc[0], history.iloc[-1]
    marker = "o" if len(history) <= 12 else None  # one epoch is no line
    parts, words = {"train": "training", "valid": "validation"}, []
    for panel, (short, long) in zip(axes, {"loss": "loss", "acc": "accuracy"}.items(), strict=True):
        for part, name in parts.items():
            column, look = f"{part}_{short}", {"color": SPLIT_COLOURS[part]}
            panel.plot(history.epoch, history[column], marker=marker, ms=3.5, label=name, **look)
            words.append(f"{name} {long} from {first[column]:.3g} to {last[column]:.3g}")
            if authors is not None:
                shown = authors[authors.epoch <= history.epoch.max()]
                thin = {"linestyle": "--", "linewidth": 0.8, "marker": marker, "ms": 2.0}
                panel.plot(shown.epoch, shown[column], **thin, **look)
        panel.set_xlim(history.epoch.min() - 0.5, history.epoch.max() + 0.5)
        panel.xaxis.set_major_locator(plt.MaxNLocator(8, integer=True, min_n_ticks=1))
        panel.set_xlabel("epoch")
        panel.axvline(best.epoch, color=GREY, linewidth=0.8, linestyle=":", zorder=0)
    loss, accuracy = axes
    loss.set_ylabel("loss (cross-entropy)")
    accuracy.set_ylabel("accuracy")
    accuracy.plot(best.epoch, best.valid_acc, "o", markersize=8, fillstyle="none", color=GREY)
    accuracy.set_title(f"best: epoch {best.epoch:.0f}, validation {best.valid_acc:.3f}")
    if authors is None:
        loss.legend()
    else:
        loss.plot([], [], color=GREY, linestyle="--", linewidth=0.8, label="the authors'")
        figure.legend(*loss.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return describe(
        figure,
        f"Two panels with loss and accuracy over {len(history)} epochs: {', '.join(words)}. Best "
        f"epoch: {best.epoch:.0f}, validation accuracy {best.valid_acc:.3f}.",
    )


# --- The evidence

LARGE_SET = 5_000  # test galaxies from which there are ten bins, as the statistics have


def bins_for(galaxies: int) -> int:
    """How many bins of equal counts so many galaxies are divided into."""
    return 10 if galaxies >= LARGE_SET else 5


@styled
def draw_accuracy_trends(
    table: pd.DataFrame,
    model_keys: list[str],
    data: Mapping[str, Any],
    bins: Mapping[str, int | Sequence[float]] | None = None,
) -> Figure:
    """Accuracy in bins of size (left) and magnitude (right), a line per model.

    `table`: one row per test galaxy, with whether each model has it right, and the columns of
    FIG4_PANELS; `bins`: how many of equal counts, or edges, by column (otherwise `bins_for`);
    bars are 95 % Wilson intervals. The models' points stand side by side around the
    median of their bin, so that all bars can be seen.
    """
    size = (TEXT_WIDTH_IN, 3.2)
    figure, axes = plt.subplots(1, 2, figsize=size, sharey=True, layout="constrained")
    styles, words = looks(model_keys), []
    for panel, (column, look) in zip(axes, FIG4_PANELS.items(), strict=True):
        right = {key: table[key] for key in model_keys}
        number = (bins or {}).get(column, bins_for(len(table)))
        trends = accuracy_trends(right, table[column], number)
        ends = []
        for place, key in enumerate(model_keys):
            own = trends[trends.model == key]
            x, value = own["median"].to_numpy(), 100 * own.accuracy
            # Spread over a part of the narrowest gap between two bins.
            shift = 0.55 * ((place + 0.5) / len(model_keys) - 0.5)
            x = x + shift * (np.diff(x).min() if len(x) > 1 else 0.1)
            bars = np.abs(100 * own[["low", "high"]].to_numpy().T - value.to_numpy())
            options = {"markersize": 3.5, "linewidth": 0.9, "elinewidth": 0.6}
            panel.errorbar(x, value, yerr=bars, label=full_name(key), **styles[key], **options)
            ends.append(f"{full_name(key)} {value.iloc[0]:.0f}% to {value.iloc[-1]:.0f}%")
        _name_axis(panel, column)
        words.append(f"By {look['name']}, from the lowest to the highest bin: {', '.join(ends)}.")
    axes[0].set_ylabel("accuracy (%)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    bars = f"{trends.high_edge.nunique()} bins, bars: 95 % Wilson intervals"
    footer(figure, data, f"{len(table):,} test galaxies, {bars}")
    return describe(figure, f"Accuracy of each network in bins. {' '.join(words)}")


@styled
def draw_lead(
    table: pd.DataFrame,
    names: tuple[str, str],
    data: Mapping[str, Any],
    alpha: float = 0.05,
    bins: Mapping[str, int | Sequence[float]] | None = None,
) -> Figure:
    """By how many points the first model is ahead of the second, in bins of size and magnitude.

    `table`: as `draw_size_brightness` takes it, with `first_right` and `second_right`; `names`: the
    models' keys. Bars are 95 % intervals (Bonett and Price); a filled point is a lead by McNemar's
    test at the level `alpha`, corrected for the bins (Holm). `bins`: how many of equal counts, or
    edges, by column (otherwise `bins_for`).
    """
    size = (TEXT_WIDTH_IN, 2.5)
    figure, axes = plt.subplots(1, 2, figsize=size, sharey=True, layout="constrained")
    words = []
    for panel, (column, look) in zip(axes, FIG4_PANELS.items(), strict=True):
        number = (bins or {}).get(column, bins_for(len(table)))
        leads = difference_in_bins(table.first_right, table.second_right, table[column], number)
        x, value = leads["median"], 100 * leads.difference
        across = np.abs(100 * leads[["low", "high"]].to_numpy().T - value.to_numpy())
        along = np.abs(leads[["low_edge", "high_edge"]].to_numpy().T - x.to_numpy())
        options = {"fmt": "none", "ecolor": BLUE}
        panel.errorbar(x, value, yerr=across, elinewidth=1.0, **options)
        panel.errorbar(x, value, xerr=along, elinewidth=0.5, alpha=0.5, **options)
        faces = np.where(leads.p_holm < alpha, BLUE, "white")
        panel.scatter(x, value, s=20, c=faces, edgecolors=BLUE, linewidths=1.0, zorder=3)
        panel.axhline(0, color=GREY, linewidth=0.6, linestyle=":")
        _name_axis(panel, column)
        points = ", ".join(f"{one:+.1f}" for one in value)
        words.append(f"By {look['name']}, from low to high: {points} points.")
    first, second = map(full_name, names)
    axes[0].set_ylabel(f"accuracy of {first}\nless that of {second} (points)")
    filled = "filled: they differ (McNemar, Holm)"
    footer(figure, data, f"bars: 95 % intervals; {filled}")
    return describe(figure, f"The lead of {first} over {second} in bins. {' '.join(words)}")


def _name_axis(axes: Axes, column: str) -> None:
    """Title and x axis; sizes in logarithmic steps, because their bins widen so."""
    axes.set(title=FIG4_PANELS[column]["title"], xlabel=FIG4_PANELS[column]["axis"])
    axes.xaxis.set_major_locator(plt.MaxNLocator(6, steps=[1, 2, 5, 10]))
    if column == "petroR90_r":
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(plt.FixedLocator([1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50]))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(plt.NullLocator())


@styled
def draw_reliability(
    diagrams: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]],
    calibrations: Mapping[str, pd.DataFrame],
    data: Mapping[str, Any],
) -> Figure:
    """A panel for each model: the share that is right against the mean confidence, in bins.

    `diagrams`: by model, bins before and after scaling (`calibration.reliability_pair`);
    `calibrations`: by model. Bars are 95 % Wilson intervals; bins of fewer than five galaxies are
    left out. On the diagonal a model is right as often as it says; below it is too sure.
    """
    figure, axes, columns = rows_of_panels(len(diagrams), 0.8, 1.75, sharex=True, sharey=True)
    styles = (
        {"color": ORANGE, "marker": "s", "label": "as it is"},
        {"color": BLUE, "marker": "o", "label": "after temperature scaling"},
    )
    words = []
    for panel, (key, diagram) in zip(axes, diagrams.items(), strict=False):
        found = calibrations[key].value
        panel.plot([0, 1], [0, 1], color=GREY, linewidth=0.6, linestyle=":", zorder=0)
        for bins, style in zip(diagram, styles, strict=True):
            known = bins[bins.galaxies >= 5]
            bars = np.abs(known[["low", "high"]].to_numpy().T - known.accuracy.to_numpy())
            options = {"markersize": 3, "linewidth": 0.9, "elinewidth": 0.6, "clip_on": False}
            panel.errorbar(known.confidence, known.accuracy, yerr=bars, **options, **style)
        panel.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        before, after = found.ece_before, found.ece_after
        text = f"T = {found.temperature:.2f}\nECE {before:.3f}\n→ {after:.3f}"
        place = {"transform": panel.transAxes, "ha": "right", "va": "bottom"}
        panel.text(0.98, 0.03, text, fontsize=SMALL_PT, linespacing=1.3, **place)
        panel.set_title(full_name(key), fontsize="medium")
        panel.label_outer()
        too = found.overconfidence
        words.append(
            f"{full_name(key)}: too {'sure' if too > 0 else 'modest'} by {abs(too):.3f} on "
            f"average, ECE {before:.3f} before and {after:.3f} after scaling at "
            f"T = {found.temperature:.2f}."
        )
    for column in range(columns):  # its lowest panel
        lowest = axes[column + columns * ((len(diagrams) - 1 - column) // columns)]
        lowest.set_xlabel("confidence")
        lowest.tick_params(labelbottom=True)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    figure.supylabel("share that is right", fontsize="medium")
    galaxies = calibrations[next(iter(diagrams))].n.ece_before
    note = "ECE: expected calibration error; T: temperature; bars: 95 % Wilson intervals"
    footer(figure, data, f"{galaxies:,} test galaxies; {note}")
    return describe(figure, f"Reliability diagrams. {' '.join(words)}")


@styled
def draw_precision_recall(
    curves: Mapping[str, pd.DataFrame],
    averages: Mapping[str, pd.DataFrame],
    data: Mapping[str, Any],
) -> Figure:
    """The curves of all models, class by class; the dotted line is what guessing would reach.

    `curves`: by model, as `calibration.precision_recall_curves` gives them; `averages`: by model,
    as `calibration.average_precisions`. The panel of a class without test galaxies says so.
    """
    options = {"sharex": True, "sharey": True, "layout": "constrained"}
    figure, axes = plt.subplots(2, 4, figsize=(TEXT_WIDTH_IN, 4.3), **options)
    styles, shares = looks(list(curves)), next(iter(averages.values())).set_index("class_name")
    for panel, name in zip(axes.flat, CLASS_NAMES, strict=True):
        panel.set_title(f"{name} ({shares.galaxies[name]:,})")
        if not shares.galaxies[name]:
            say(panel, "no test galaxies\nof this class")
            continue
        panel.axhline(shares.share[name], color=GREY, linewidth=0.6, linestyle=":")
        for key, table in curves.items():
            own, look = table[table.class_name == name], dict(styles[key])
            look |= {"marker": None, "linewidth": 0.9, "label": full_name(key)}
            # In steps: between two thresholds nothing is known of it.
            panel.step(own.recall, own.precision, where="post", **look)
        panel.set(xlim=(0, 1), ylim=(0, 1.02), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    shown = next(panel for panel in axes.flat if panel.lines)
    figure.legend(*shown.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    figure.supylabel("precision", fontsize="medium")
    for panel in axes[-1]:
        panel.set_xlabel("recall")
    footer(figure, data, "test galaxies of the class in brackets; dotted: guessing")
    means = ", ".join(
        f"{full_name(key)} {table.average_precision.mean():.3f}" for key, table in averages.items()
    )
    words = f"Average precision, mean over the classes: {means}."
    return describe(figure, f"Precision against recall. {words}")


# --- What the checks of attention maps found, and one galaxy to explore

# The quantities of `attention_checks`, and what their panels are called.
CHECKS = {
    "deletion_gain": "deleting by the map:\nmore harm than at random",
    "insertion_gain": "inserting by the map:\nmore gain than at random",
    "light_gain": "share on the galaxy,\nbeyond an even map's",
    "randomised_similarity": "likeness to the map of\nrandom weights (rank corr.)",
}
MAP_NAMES = {"attention": "attention rollout", "class": "evidence for the class"}


@styled
def draw_checks(table: pd.DataFrame, data: Mapping[str, Any]) -> Figure:
    """Four checks of every model's maps: the mean over galaxies and its 95 % interval.

    `table`: as of `attention_checks`; `data`: the record of the selection.
    """
    models = list(dict.fromkeys(table["model"]))
    size = (TEXT_WIDTH_IN, 0.95 + 0.24 * len(models))
    figure, axes = plt.subplots(1, len(CHECKS), figsize=size, sharey=True, layout="constrained")
    for panel, (quantity, title) in zip(axes, CHECKS.items(), strict=True):
        panel.axvline(0, color=GREY, linewidth=0.6)
        for kind, own in table[table["quantity"] == quantity].groupby("map", sort=False):
            shift, colour = (-0.13, BLUE) if kind == "attention" else (0.13, ORANGE)
            places = [models.index(model) + shift for model in own["model"]]
            spread = [own["value"] - own["low"], own["high"] - own["value"]]
            look = {"fmt": "o", "color": colour, "markersize": 3.5, "linewidth": 1.0}
            panel.errorbar(own["value"], places, xerr=spread, label=MAP_NAMES[kind], **look)
        panel.tick_params(axis="y", length=0)
        panel.margins(x=0.12)
        panel.set_title(title, fontsize=SMALL_PT + 0.5)
    axes[0].set_yticks(range(len(models)), models)
    axes[0].set_ylim(len(models) - 0.4, -0.6)
    handles, labels = axes[0].get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    figure.legend(named.values(), named, loc="outside upper right", ncols=2, borderpad=0.1)
    galaxies = int(table["galaxies"].max())
    footer(figure, data, f"means over {galaxies} test galaxies, 95 % bootstrap intervals")
    return figure


@styled
def draw_check_curves(curves: pd.DataFrame, kind: str = "deletion") -> Figure:
    """The predicted class's mean probability while patches change: a panel for each map.

    `curves`: as of `attention_checks`; `kind`: deletion or insertion; bands are 95 % intervals.
    """
    groups = list(curves[curves["kind"] == kind].groupby(["model", "map"], sort=False))
    colours = {"most": BLUE, "random": GREY, "centre": GREEN}
    size = (NOTEBOOK_WIDTH_IN, 0.4 + 1.7 * -(-len(groups) // 4))
    words = {"sharex": True, "sharey": True, "squeeze": False, "layout": "constrained"}
    figure, axes = plt.subplots(-(-len(groups) // 4), 4, figsize=size, **words)
    for panel in axes.flat[len(groups) :]:
        panel.set_axis_off()
    for panel, ((model, name), rows) in zip(axes.flat, groups, strict=False):
        for order, own in rows.groupby("order", sort=False):
            look = {"color": colours[order]}
            panel.plot(own["changed"], own["probability"], label=order, **look)
            panel.fill_between(own["changed"], own["low"], own["high"], alpha=0.15, **look)
        panel.set_title(f"{model}, {MAP_NAMES[name]}", fontsize=7)
    axes[0, 0].legend()
    verb = "deleted" if kind == "deletion" else "inserted"
    figure.supxlabel(f"share of patches {verb}", fontsize=8)
    figure.supylabel("probability of the predicted class", fontsize=8)
    return figure


@styled
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
    """A galaxy, where a network looks in it, its class probabilities, and its nearest galaxies.

    `image`: uint8 (H, W, 3); `attention`: (g, g), 0 to 1; `probability` (8,), whose bar of the
    class `true` is orange; `titles`: of image and map; `neighbours`: images, uint8 (H, W, 3), over
    their `captions`; `note`: above them, or why there are none.
    """
    heights = (3.3, 1.8 if len(neighbours) else 0.3)
    figure = plt.figure(figsize=(NOTEBOOK_WIDTH_IN, sum(heights)), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=heights)
    shown, mapped, bars = above.subplots(1, 3)
    shown.imshow(image)
    shown.set_title(titles[0])
    shown.set_axis_off()
    show_map(mapped, attention, COLOUR_MAP, segment_galaxy(image.astype(np.float32).mean(axis=2)))
    mapped.set(title=titles[1], box_aspect=1)
    mapped.set_xlabel("blue: 0, red: its maximum; white: the outline")
    colours = [ORANGE if index == true else BLUE for index in range(len(probability))]
    drawn = bars.barh(CLASS_NAMES, 100 * probability, color=colours)
    bars.bar_label(drawn, fmt="%.0f", padding=2, fontsize=7)
    bars.invert_yaxis()
    bars.set(xlim=(0, 112), xlabel="probability [%]; orange: its class", box_aspect=1)
    below.suptitle(note, fontsize=8, color=GREY)
    if len(neighbours):
        near = below.subplots(1, len(neighbours), squeeze=False)[0]
        for panel, one, words in zip(near, neighbours, captions, strict=True):
            panel.imshow(one)
            panel.set_title(words)
            panel.set_axis_off()
    return figure


# --- From votes to classes


@styled
def draw_decision_path(votes: pd.DataFrame, rule: Rule, data: Mapping[str, Any]) -> Figure:
    """One row for each class in the order of precedence: its conditions, and who is left.

    `votes`: as `votes.read_votes` gives them; `data`: the record for the footer.
    """
    size = (TEXT_WIDTH_IN, 0.46 * len(rule.classes) + 0.5)
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    steps = max(len(one.conditions) for one in rule.classes) + 2
    classes = derive_classes(votes, rule)
    text = {"fontsize": SMALL_PT, "ha": "center", "va": "center", "linespacing": 1.5}
    box = {"boxstyle": "round,pad=0.35", "linewidth": 0.6}
    for row, one in enumerate(rule.classes):
        axes.plot([0, steps - 1], [row, row], color=GREY, linewidth=0.6, zorder=0)
        left, stages = np.ones(len(votes), dtype=bool), []
        for condition, passes in one.stages(votes, rule.min_votes):
            left &= passes
            words = condition.replace("_", " ").replace("edgeon", "edge-on").replace(">=", "≥")
            stages.append(f"{textwrap.fill(words, 30)}\n{left.sum():,}")
        for place, words in enumerate(stages):
            look = box | {"facecolor": PALE, "edgecolor": GREY}
            axes.text(place, row, words, bbox=look, **text)
        words = f"{one.class_name}\n{(classes == one.class_index).sum():,}"
        look = box | {"facecolor": "white", "edgecolor": BLUE}
        axes.text(steps - 1, row, words, bbox=look, **text)
    axes.set(xlim=(-0.5, steps - 0.5), ylim=(len(rule.classes) - 0.5, -0.5))
    axes.axis("off")
    which = "exactly one row must fit" if rule.exactly_one else "the first row that fits is taken"
    axes.set_title(f"{len(votes):,} galaxies; {which}: {(classes >= 0).sum():,} are selected")
    footer(figure, data, f"rule: {rule.name}")
    return figure


@styled
def draw_agreement(agreement: Agreement, data: Mapping[str, Any]) -> Figure:
    """Published (rows) against derived classes (columns), counts; colour in percent of the row."""
    counts = agreement.table().to_numpy()
    with np.errstate(invalid="ignore"):
        percent = 100.0 * counts / counts.sum(axis=1, keepdims=True)
    percent[-1] = 0.0  # galaxies that the published tables lack: no class to be right about
    figure, axes = plt.subplots(figsize=(5.4, 4.3), layout="constrained")
    texts = np.array([[f"{count:,}" if count else "·" for count in row] for row in counts])
    look = {"annot_kws": {"fontsize": SMALL_PT}, "cmap": "Blues", "vmin": 0, "vmax": 100}
    seaborn.heatmap(np.nan_to_num(percent), annot=texts, fmt="", cbar=False, ax=axes, **look)
    names = [*CLASS_SHORT_NAMES, "not selected"]
    axes.set_xticklabels(names, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticklabels(names, rotation=0)
    axes.tick_params(length=0, pad=2)
    axes.set(xlabel="Class derived from the votes", ylabel="Class in the label tables")
    share = f"{100 * agreement.share:.1f}% in the same class"
    axes.set_title(f"{agreement.both:,} galaxies in both, {share}")
    footer(figure, data)
    return figure
