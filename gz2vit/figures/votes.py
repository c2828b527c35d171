"""From votes to classes, drawn: the decision path with counts, derived against published labels."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gz2vit.figures.style import BLUE, GREY, PALE, SMALL_PT, TEXT_WIDTH_IN, footer
from gz2vit.galaxy_zoo import Agreement, Rule, derive_classes
from gz2vit.galaxy_zoo.rules import ClassRule
from gz2vit.galaxy_zoo.votes import vote_count, vote_fraction
from gz2vit.paper import CLASS_SHORT_NAMES

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
