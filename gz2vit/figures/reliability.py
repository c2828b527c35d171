"""Is a network right as often as it says? The reliability diagram of each model."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gz2vit.evidence import Calibration
from gz2vit.figures.description import describe
from gz2vit.figures.model_styles import full_name
from gz2vit.figures.style import BLUE, GREY, ORANGE, SMALL_PT, TEXT_WIDTH_IN, footer

COLUMNS = 4
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
    told = " ".join(_words(key, calibrations[key]) for key in models)
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


def _words(key: str, found: Calibration) -> str:
    """What a panel shows."""
    sure = "too sure" if found.overconfidence.value > 0 else "too modest"
    return (
        f"{full_name(key)}: {sure} by {abs(found.overconfidence.value):.3f} on average, ECE "
        f"{found.ece_before.value:.3f} before and {found.ece_after.value:.3f} after scaling at "
        f"T = {found.temperature:.2f}."
    )
