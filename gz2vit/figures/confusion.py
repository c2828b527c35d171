"""Confusion matrices in percent of the true class, as in the paper's Fig. 3."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gz2vit.errors import Gz2vitError
from gz2vit.evaluation import ClassIndices, confusion_matrix, confusion_percent
from gz2vit.figures.style import SMALL_PT, TEXT_WIDTH_IN, footer, model_name
from gz2vit.paper import CLASS_NAMES, CLASS_SHORT_NAMES

NO_GALAXIES = "–"  # in the cells of a class that the test galaxies lack


def draw_confusion(true: ClassIndices, pred: ClassIndices) -> Figure:
    """The confusion matrix of predictions `pred` (N,) for galaxies of class `true` (N,)."""
    counts = confusion_matrix(true, pred)
    figure, axes = plt.subplots(figsize=(5.0, 3.9), layout="constrained")
    _draw_matrix(axes, counts)
    _name_rows(axes, counts)
    total, right = counts.sum(), counts.trace()
    axes.set_title(f"{total:,} galaxies, {100 * right / total:.1f}% of them right")
    return figure


def draw_confusion_pair(
    counts: Sequence[np.ndarray], metrics: Sequence[Mapping[str, Any]], data: Mapping[str, Any]
) -> Figure:
    """Fig. 3: the confusion matrices of two models side by side.

    `counts`: two integer arrays (8, 8), rows true, columns predicted; `metrics`: the contents of
    the models' `metrics.json`; `data`: the record of the selection. Raises `Gz2vitError` where
    the two were not tested on the same galaxies.
    """
    left, right = counts
    if (left.sum(axis=1) != right.sum(axis=1)).any():
        names = " and ".join(metric["model"] for metric in metrics)
        raise Gz2vitError(f"the models {names} were tested on different galaxies; run both again")
    figure, axes = plt.subplots(1, 2, figsize=(TEXT_WIDTH_IN, 3.55), layout="constrained")
    for panel, matrix, metric in zip(axes, counts, metrics, strict=True):
        _draw_matrix(panel, matrix)
        panel.set_title(_title(metric), fontsize=SMALL_PT, linespacing=1.4)
    _name_rows(axes[0], left)
    axes[1].set_yticks([])
    footer(figure, data, _training(metrics))
    return figure


def _draw_matrix(axes: Axes, counts: np.ndarray) -> None:
    """Counts (8, 8) as a map of percentages, each written in its cell."""
    percent = confusion_percent(counts)
    texts = [[NO_GALAXIES if np.isnan(x) else f"{x:.1f}%" for x in row] for row in percent]
    seaborn.heatmap(
        np.nan_to_num(percent),
        annot=np.array(texts),
        fmt="",
        annot_kws={"fontsize": SMALL_PT},
        cmap="Blues",
        vmin=0,
        vmax=100,  # the same in every matrix, so that equal shares look equal
        cbar=False,
        ax=axes,
    )
    axes.set_xticklabels(CLASS_SHORT_NAMES, rotation=30, ha="right", rotation_mode="anchor")
    axes.tick_params(length=0, pad=2)
    axes.set_xlabel("Predicted class")


def _name_rows(axes: Axes, counts: np.ndarray) -> None:
    """Write the true classes on the left, each with its number of galaxies."""
    totals = counts.sum(axis=1)
    names = [f"{name} ({n:,})" for name, n in zip(CLASS_NAMES, totals, strict=True)]
    axes.set_yticklabels(names, rotation=0)
    axes.set_ylabel("True class (test galaxies)")


def _title(metric: Mapping[str, Any]) -> str:
    """The model, its accuracy, and the class weights it was trained with."""
    weights = ", ".join(_weight(weight) for weight in metric["class_weights"])
    head = f"{model_name(metric['model'])}, accuracy {100 * metric['accuracy']:.1f}%"
    return f"{head}\nclass weights = [{weights}]"


def _weight(weight: float) -> str:
    """A class weight as the paper prints it: 1 or 0.19; 73.3 where two digits are in front."""
    if weight == round(weight):
        return f"{weight:.0f}"
    return f"{weight:.2f}" if weight < 10 else f"{weight:.1f}"


def _training(metrics: Sequence[Mapping[str, Any]]) -> str:
    """How the two models came to be, once if it was the same way."""
    left, right = (
        f"trained {_origin(metric['weights'])} for {metric['epochs']} epochs" for metric in metrics
    )
    return f"both {left}" if left == right else f"left {left}, right {right}"


def _origin(weights: str) -> str:
    """What the training started from."""
    return "from scratch" if weights == "none" else f"from the weights {Path(weights).name}"
