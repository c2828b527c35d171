"""How many galaxies of each class there are, and in which split."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gz2vit.figures.description import describe
from gz2vit.figures.style import GREY, SPLIT_COLOURS, TEXT_WIDTH_IN, footer

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
