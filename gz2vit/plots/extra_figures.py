"""Figures beyond the paper that several notebooks share; others are drawn in their notebook."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gz2vit.comparisons import Bins, accuracy_trends
from gz2vit.images import segment_galaxy
from gz2vit.paper import CLASS_NAMES
from gz2vit.plots import style
from gz2vit.plots.paper_figures import COLOUR_MAP, FIG4_PANELS, show_galaxy, show_map
from gz2vit.plots.style import GREY, SPLIT_COLOURS, describe, full_name, house_style


@house_style()
def draw_learning_curves(
    history: pd.DataFrame, width_in: float = 8.0, authors: pd.DataFrame | None = None
) -> Figure:
    """Loss and accuracy of the training and validation galaxies, the best epoch marked.

    `history`: one row per epoch, with `epoch` (from 1), `train_loss`, `valid_loss`, `train_acc`,
    `valid_acc` (0 to 1). Best is the first epoch with the highest validation accuracy, whose
    weights are kept. `authors`: the same of the authors' run, whose first epochs are thin lines.
    """
    figure, axes = plt.subplots(1, 2, figsize=(width_in, 0.38 * width_in), layout="constrained")
    best, first, last = history.loc[history.valid_acc.idxmax()], history.iloc[0], history.iloc[-1]
    marker, words = "o" if len(history) <= 12 else None, []  # one epoch is no line
    for panel, (short, long) in zip(axes, {"loss": "loss", "acc": "accuracy"}.items(), strict=True):
        for part, name in {"train": "training", "valid": "validation"}.items():
            column, look = f"{part}_{short}", {"color": SPLIT_COLOURS[part], "marker": marker}
            panel.plot(history.epoch, history[column], ms=3.5, label=name, **look)
            words.append(f"{name} {long} from {first[column]:.3g} to {last[column]:.3g}")
            if authors is not None:
                shown = authors[authors.epoch <= history.epoch.max()]
                panel.plot(shown.epoch, shown[column], "--", linewidth=0.8, ms=2.0, **look)
        panel.set_xlim(history.epoch.min() - 0.5, history.epoch.max() + 0.5)
        panel.xaxis.set_major_locator(plt.MaxNLocator(8, integer=True, min_n_ticks=1))
        panel.set(xlabel="epoch", ylabel="loss (cross-entropy)" if short == "loss" else long)
        panel.axvline(best.epoch, color=GREY, linewidth=0.8, linestyle=":", zorder=0)
    loss, accuracy = axes
    accuracy.plot(best.epoch, best.valid_acc, "o", markersize=8, fillstyle="none", color=GREY)
    found = f"epoch {best.epoch:.0f}, validation"
    accuracy.set_title(f"best: {found} {best.valid_acc:.3f}")
    if authors is None:
        loss.legend()
    else:
        loss.plot([], [], color=GREY, linestyle="--", linewidth=0.8, label="the authors'")
        figure.legend(*loss.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    shown = f"Two panels with loss and accuracy over {len(history)} epochs: {', '.join(words)}"
    return describe(figure, f"{shown}. Best: {found} accuracy {best.valid_acc:.3f}.")


@house_style()
def draw_accuracy_trends(
    table: pd.DataFrame, model_keys: list[str], data: Mapping[str, Any], bins: Mapping[str, Bins]
) -> Figure:
    """Accuracy in bins of size (left) and magnitude (right), a line per model.

    `table`: one row per test galaxy, with whether each model has it right, and the columns of
    FIG4_PANELS; `bins`: how many of equal counts, or edges, by column. Bars: 95 % Wilson intervals.
    """
    size = (style.TEXT_WIDTH_IN, 3.2)
    figure, axes = plt.subplots(1, 2, figsize=size, sharey=True, layout="constrained")
    styles, words = style.looks(model_keys), []
    for panel, (column, look) in zip(axes, FIG4_PANELS.items(), strict=True):
        trends = accuracy_trends(table[model_keys], table[column], bins[column])
        ends = []
        for place, key in enumerate(model_keys):
            own = trends[trends.model == key]
            x, value = own["median"].to_numpy(), 100 * own.accuracy
            # Side by side in a part of the narrowest gap of two bins, so that all bars can be seen.
            shift = 0.55 * ((place + 0.5) / len(model_keys) - 0.5)
            x = x + shift * (np.diff(x).min() if len(x) > 1 else 0.1)
            bars = np.abs(100 * own[["low", "high"]].to_numpy().T - value.to_numpy())
            options = styles[key] | {"markersize": 3.5, "linewidth": 0.9, "elinewidth": 0.6}
            panel.errorbar(x, value, yerr=bars, label=full_name(key), **options)
            ends.append(f"{full_name(key)} {value.iloc[0]:.0f}% to {value.iloc[-1]:.0f}%")
        name_axis(panel, column)
        words.append(f"By {look['name']}, from the lowest to the highest bin: {', '.join(ends)}.")
    axes[0].set_ylabel("accuracy (%)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    bars = f"{trends.high_edge.nunique()} bins, bars: 95 % Wilson intervals"
    style.footer(figure, data, f"{len(table):,} test galaxies, {bars}")
    return describe(figure, f"Accuracy of each network in bins. {' '.join(words)}")


def name_axis(axes: Axes, column: str) -> None:
    """Title and x axis; sizes in logarithmic steps, because their bins widen so."""
    axes.set(title=FIG4_PANELS[column]["title"], xlabel=FIG4_PANELS[column]["axis"])
    axes.xaxis.set_major_locator(plt.MaxNLocator(6, steps=[1, 2, 5, 10]))
    if column == "petroR90_r":
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(plt.FixedLocator([1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50]))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(plt.NullLocator())


@house_style()
def draw_explored(
    image: np.ndarray, attention: np.ndarray, probability: np.ndarray, titles: tuple[str, str],
    true: int, neighbours: Sequence[tuple[np.ndarray, str]] = (), note: str = "",
) -> Figure:  # fmt: skip
    """A galaxy, where a network looks in it, its class probabilities, and its nearest galaxies.

    `image`: uint8 (H, W, 3); `attention`: (g, g), 0 to 1; `probability` (8,); `titles`: of image
    and map; `neighbours`: images with their captions; `note`: on them, or why there are none.
    """
    heights = (3.3, 1.8 if neighbours else 0.3)
    figure = plt.figure(figsize=(style.NOTEBOOK_WIDTH_IN, sum(heights)), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=heights)
    shown, mapped, bars = above.subplots(1, 3)
    show_galaxy(shown, image)
    shown.set_title(titles[0])
    show_map(mapped, attention, COLOUR_MAP, segment_galaxy(image.astype(np.float32).mean(axis=2)))
    mapped.set(title=titles[1], xlabel="blue: 0, red: its maximum; white: the outline")
    drawn = bars.barh(CLASS_NAMES, 100 * probability, color=style.BLUE)
    drawn[true].set_facecolor(style.ORANGE)
    bars.bar_label(drawn, fmt="%.0f", padding=2, fontsize=7)
    bars.invert_yaxis()
    bars.set(xlim=(0, 112), xlabel="probability [%]; orange: its class", box_aspect=1)
    below.suptitle(note, fontsize=8, color=GREY)
    near = below.subplots(1, len(neighbours), squeeze=False)[0] if neighbours else ()
    for panel, (one, words) in zip(near, neighbours, strict=True):
        show_galaxy(panel, one)
        panel.set_title(words)
    return figure
