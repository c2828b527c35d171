"""Accuracy against size and magnitude: of all models, and of one model less another's."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gz2vit.evidence import (
    ALPHA,
    FIG4_PROPERTIES,
    SIZE,
    Property,
    accuracy_trends,
    difference_in_bins,
)
from gz2vit.figures.description import describe
from gz2vit.figures.model_styles import full_name, looks
from gz2vit.figures.size_brightness import AXIS_NAMES, TITLES
from gz2vit.figures.style import BLUE, GREY, TEXT_WIDTH_IN, footer

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
