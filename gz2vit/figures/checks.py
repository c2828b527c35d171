"""What the checks of attention maps found: gains with their intervals, and the curves behind."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gz2vit.figures.style import (
    BLUE,
    GREEN,
    GREY,
    NOTEBOOK_WIDTH_IN,
    ORANGE,
    SMALL_PT,
    TEXT_WIDTH_IN,
    footer,
)

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
