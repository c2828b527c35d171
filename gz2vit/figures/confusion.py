"""Confusion matrices in percent of the true class, as in the paper's Fig. 3."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gz2vit.class_weights import class_weights
from gz2vit.errors import Gz2vitError
from gz2vit.evaluation import ClassIndices, confusion_matrix, confusion_percent
from gz2vit.figures.description import describe
from gz2vit.figures.style import GREY, SMALL_PT, TEXT_WIDTH_IN, footer, model_name, write_below
from gz2vit.paper import (
    ARXIV,
    CLASS_NAMES,
    CLASS_SHORT_NAMES,
    FIG3_CONFUSION_PERCENT,
    PUBLISHED_RESULTS,
    SPLIT_CLASS_COUNTS,
)
from gz2vit.results import WEIGHTED

Panel = tuple[np.ndarray | None, str]  # percentages (8, 8) and a title, or None and words
LINE_LETTERS = 42  # of the words in a panel without a matrix
NO_GALAXIES = "–"  # in the cells of a class that the test galaxies lack


def draw_confusion(true: ClassIndices, pred: ClassIndices) -> Figure:
    """The confusion matrix of predictions `pred` (N,) for galaxies of class `true` (N,)."""
    counts = confusion_matrix(true, pred)
    percent = confusion_percent(counts)
    figure, axes = plt.subplots(figsize=(5.0, 3.9), layout="constrained")
    _draw_matrix(axes, percent)
    _name_rows(axes, counts.sum(axis=1))
    total, right = counts.sum(), counts.trace()
    title = f"{total:,} galaxies, {100 * right / total:.1f}% of them right"
    axes.set_title(title)
    return describe(figure, f"A confusion matrix: {_words(title, percent)}")


def draw_confusion_pair(
    counts: Sequence[np.ndarray | None],
    metrics: Sequence[Mapping[str, Any]],
    data: Mapping[str, Any],
) -> Figure:
    """Fig. 3: the confusion matrices of two models side by side.

    `counts`: two integer arrays (8, 8), rows true, columns predicted; `metrics`: the contents of
    the models' `metrics.json`; `data`: the record of the selection. A model that is not trained
    has counts None and a metric `missing`, the words for its panel. Raises `Gz2vitError` where the
    two were not tested on the same galaxies.
    """
    totals = [count.sum(axis=1) for count in counts if count is not None]
    if (totals[0] != totals[-1]).any():
        names = " and ".join(metric["model"] for metric in metrics)
        raise Gz2vitError(f"the models {names} were tested on different galaxies; run both again")
    panels = [
        (None, metric["missing"])
        if count is None
        else (confusion_percent(count), _title(metric, f"{100 * metric['accuracy']:.1f}%"))
        for count, metric in zip(counts, metrics, strict=True)
    ]
    figure = _draw_pair(panels, totals[0])
    footer(figure, data, _training([one for one in metrics if "missing" not in one]))
    return figure


def draw_published_pair() -> Figure:
    """Fig. 3 from the paper's own numbers, to stand beside ours; the published percentages."""
    totals = np.array(SPLIT_CLASS_COUNTS["test"])
    panels = []
    for key, percent in FIG3_CONFUSION_PERCENT.items():
        choice = "tuned" if key.endswith(WEIGHTED) else "uniform"
        weights = class_weights(choice, SPLIT_CLASS_COUNTS["train"])
        accuracy = f"{100 * PUBLISHED_RESULTS[key]['test_acc']:.2f}%"
        title = _title({"model": key, "class_weights": list(weights)}, accuracy)
        panels.append((np.array(percent), title))
    figure = _draw_pair(panels, totals)
    write_below(figure, f"drawn from the published numbers of arXiv:{ARXIV}, Fig. 3; none is ours")
    return figure


def _draw_pair(panels: Sequence[Panel], totals: np.ndarray) -> Figure:
    """Two matrices of percentages (8, 8) under their titles, or words where there is none.

    `totals` (8,): the galaxies of each true class.
    """
    figure, axes = plt.subplots(1, 2, figsize=(TEXT_WIDTH_IN, 3.55), layout="constrained")
    drawn = []
    for panel, (percent, words) in zip(axes, panels, strict=True):
        if percent is None:
            panel.set_axis_off()
            place = {"transform": panel.transAxes, "ha": "center", "va": "center", "wrap": True}
            panel.text(0.5, 0.5, textwrap.fill(words, LINE_LETTERS), color=GREY, **place)
            continue
        _draw_matrix(panel, percent)
        panel.set_title(words, fontsize=SMALL_PT, linespacing=1.4)
        drawn.append(panel)
    _name_rows(drawn[0], totals)
    for panel in drawn[1:]:
        panel.set_yticks([])
    told = [words if percent is None else _words(words, percent) for percent, words in panels]
    return describe(figure, f"Two confusion matrices. Left: {told[0]} Right: {told[1]}")


def _draw_matrix(axes: Axes, percent: np.ndarray) -> None:
    """Percentages (8, 8) as a map, each written in its cell; NaN where a class has no galaxies."""
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


def _name_rows(axes: Axes, totals: np.ndarray) -> None:
    """Write the true classes on the left, each with its number of galaxies."""
    names = [f"{name} ({n:,})" for name, n in zip(CLASS_NAMES, totals, strict=True)]
    axes.set_yticklabels(names, rotation=0)
    axes.set_ylabel("True class (test galaxies)")


def _words(title: str, percent: np.ndarray) -> str:
    """A matrix in words: its title, what was recognised, and the largest confusion."""
    own = percent.diagonal()
    shares = ", ".join(
        f"{name} {NO_GALAXIES if np.isnan(x) else f'{x:.1f}%'}"
        for name, x in zip(CLASS_SHORT_NAMES, own, strict=True)
    )
    others = np.nan_to_num(percent - np.diag(own))
    row, column = np.unravel_index(others.argmax(), others.shape)
    names = CLASS_SHORT_NAMES[row], CLASS_SHORT_NAMES[column]
    return (
        f"{title.splitlines()[0]}; recognised of each class: {shares}; most often confused: "
        f"{names[0]} taken for {names[1]}, {others[row, column]:.1f}%."
    )


def _title(metric: Mapping[str, Any], accuracy: str) -> str:
    """The model, its accuracy, and the class weights it was trained with."""
    weights = ", ".join(_weight(weight) for weight in metric["class_weights"])
    return f"{model_name(metric['model'])}, accuracy {accuracy}\nclass weights = [{weights}]"


def _weight(weight: float) -> str:
    """A class weight as the paper prints it: 1 or 0.19; 73.3 where two digits are in front."""
    if weight == round(weight):
        return f"{weight:.0f}"
    return f"{weight:.2f}" if weight < 10 else f"{weight:.1f}"


def _training(metrics: Sequence[Mapping[str, Any]]) -> str:
    """How the two models came to be, once if it was the same way."""
    told = [
        f"trained {_origin(metric['weights'])} for {metric['epochs']} epochs" for metric in metrics
    ]
    if len(told) < 2:
        return told[0]
    left, right = told
    return f"both {left}" if left == right else f"left {left}, right {right}"


def _origin(weights: str) -> str:
    """What the training started from; of a file the folder too: many are called best.ckpt."""
    named = {"none": "from scratch", "imagenet": "from ImageNet weights"}
    return named.get(weights) or f"from the file {Path(*Path(weights).parts[-2:]).as_posix()}"
