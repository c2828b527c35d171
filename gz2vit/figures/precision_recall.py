"""Precision against recall, a panel for each class, a line for each model."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gz2vit.figures.description import describe
from gz2vit.figures.model_styles import full_name, looks
from gz2vit.figures.style import GREY, TEXT_WIDTH_IN, footer
from gz2vit.paper import CLASS_NAMES

ROWS, COLUMNS = 2, 4
LEGEND_COLUMNS = 4


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
    figure, axes = plt.subplots(ROWS, COLUMNS, figsize=(TEXT_WIDTH_IN, 4.3), **options)
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
    return describe(figure, f"Precision against recall. {_words(averages)}")


def _draw_curve(axes: Axes, curve: pd.DataFrame, look: Mapping[str, Any], name: str) -> None:
    """One model's curve, in steps: between two thresholds nothing is known of it."""
    line = {key: value for key, value in look.items() if key != "marker"}
    axes.step(curve.recall, curve.precision, where="post", linewidth=0.9, label=name, **line)


def _say_empty(axes: Axes) -> None:
    """The panel of a class without test galaxies."""
    place = {"transform": axes.transAxes, "ha": "center", "va": "center"}
    axes.text(0.5, 0.5, "no test galaxies\nof this class", color=GREY, **place)


def _words(averages: Mapping[str, pd.DataFrame]) -> str:
    """The mean of the average precisions of each model."""
    means = [
        f"{full_name(key)} {table.average_precision.mean():.3f}" for key, table in averages.items()
    ]
    return f"Average precision, mean over the classes: {', '.join(means)}."
