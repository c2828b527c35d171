"""Loss and accuracy over the epochs of a training."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gz2vit.figures.description import describe
from gz2vit.figures.style import GREY, SPLIT_COLOURS

SHORT_HISTORY = 12  # up to so many epochs, each gets a dot: one epoch is no line
NOTEBOOK_IN, SHAPE = 8.0, 0.38  # width, and height by width
PARTS = {"train": "training", "valid": "validation"}


def draw_learning_curves(history: pd.DataFrame, width_in: float = NOTEBOOK_IN) -> Figure:
    """Loss and accuracy of the training and validation galaxies, the best epoch marked.

    `history`: one row an epoch, with `epoch` (from 1), `train_loss`, `valid_loss`, `train_acc`,
    `valid_acc` (0 to 1). Best is the first epoch with the highest validation accuracy, whose
    weights are kept. `width_in`: of the figure; where it is small, its words are large beside it.
    """
    size = (width_in, SHAPE * width_in)
    figure, (loss, accuracy) = plt.subplots(1, 2, figsize=size, layout="constrained")
    best = history.loc[history.valid_acc.idxmax()]
    for axes, quantity in ((loss, "loss"), (accuracy, "acc")):
        _draw_curves(axes, history, quantity)
        axes.axvline(best.epoch, color=GREY, linewidth=0.8, linestyle=":", zorder=0)
    loss.set_ylabel("loss (cross-entropy)")
    accuracy.set_ylabel("accuracy")
    accuracy.plot(best.epoch, best.valid_acc, "o", markersize=8, fillstyle="none", color=GREY)
    accuracy.set_title(f"best: epoch {best.epoch:.0f}, validation {best.valid_acc:.3f}")
    loss.legend()
    return describe(figure, _words(history, best))


def _words(history: pd.DataFrame, best: pd.Series) -> str:
    """The curves' beginnings and ends, and the best epoch."""
    first, last = history.iloc[0], history.iloc[-1]
    told = [
        f"{name} {long} from {first[f'{part}_{short}']:.3g} to {last[f'{part}_{short}']:.3g}"
        for short, long in (("loss", "loss"), ("acc", "accuracy"))
        for part, name in PARTS.items()
    ]
    return (
        f"Two panels with loss and accuracy over {len(history)} epochs: {', '.join(told)}. Best "
        f"epoch: {best.epoch:.0f}, validation accuracy {best.valid_acc:.3f}."
    )


def _draw_curves(axes: Axes, history: pd.DataFrame, quantity: str) -> None:
    """The curves of both parts for `loss` or `acc`."""
    marker = "o" if len(history) <= SHORT_HISTORY else None
    for part, name in PARTS.items():
        values = history[f"{part}_{quantity}"]
        colour = SPLIT_COLOURS[part]
        axes.plot(history.epoch, values, marker=marker, ms=3.5, color=colour, label=name)
    axes.set_xlim(history.epoch.min() - 0.5, history.epoch.max() + 0.5)
    axes.xaxis.set_major_locator(plt.MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch")
