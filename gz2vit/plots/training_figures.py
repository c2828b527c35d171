"""What a training notebook shows beside its curves: a batch, the schedule, curves as they grow."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython import get_ipython
from IPython.display import Image, display
from lightning import Callback, Trainer
from matplotlib.figure import Figure

from gz2vit.paper import CLASS_SHORT_NAMES
from gz2vit.plots.extra_figures import draw_learning_curves
from gz2vit.plots.style import BLUE, NOTEBOOK_WIDTH_IN, describe, house_style, png_bytes


@house_style()
def draw_batch(
    before: np.ndarray, after: torch.Tensor, class_index: Sequence[int], count: int = 8
) -> Figure:
    """Galaxies of a batch: `before`, uint8 (B, H, W, 3), above `after`, (B, 3, H, W), 0 to 255."""
    count = min(count, len(before))
    turned = after[:count].permute(0, 2, 3, 1).round().to(torch.uint8).cpu().numpy()
    size = (NOTEBOOK_WIDTH_IN, 1.96 * NOTEBOOK_WIDTH_IN / count + 0.2)
    figure, axes = plt.subplots(2, count, figsize=size, squeeze=False, layout="constrained")
    for line, words, images in zip(axes, ("stored", "augmented"), (before, turned), strict=True):
        line[0].set_ylabel(words)
        for panel, image in zip(line, images, strict=False):
            panel.imshow(image)
            panel.set(xticks=[], yticks=[])
    for panel, label in zip(axes[0], class_index, strict=False):
        panel.set_title(CLASS_SHORT_NAMES[int(label)])
    return describe(figure, f"{count} galaxies of a batch, as stored and as augmented.")


@house_style()
def draw_schedule(rates: Sequence[float]) -> Figure:
    """The learning rate of each epoch, the first at 1."""
    figure, axes = plt.subplots(figsize=(0.55 * NOTEBOOK_WIDTH_IN, 1.8), layout="constrained")
    axes.step(range(1, len(rates) + 1), rates, ".-", where="mid", color=BLUE, markersize=3)
    axes.set(xlabel="epoch", ylabel="learning rate", ylim=(0, 1.08 * max(rates)))
    axes.xaxis.set_major_locator(plt.MaxNLocator(8, integer=True, min_n_ticks=1))
    words = f"from {rates[0]:g} to {rates[-1]:.3g} over {len(rates)} epochs"
    return describe(figure, f"Learning rate {words}.")


def beside_authors(history: pd.DataFrame, authors: pd.DataFrame, model_dir: Path) -> str:
    """The authors' validation accuracy after as many epochs, and how far the seeds here spread."""
    last = min(len(history), len(authors))
    theirs, ours = (100 * one.valid_acc.iloc[last - 1] for one in (authors, history))
    words = f"after epoch {last} the authors had {theirs:.1f} % on validation, you have {ours:.1f}"
    others = [*model_dir.glob("history.csv"), *model_dir.glob("seed*/history.csv")]
    found = [one.valid_acc[last - 1] for one in map(pd.read_csv, others) if len(one) >= last]
    if len(found) < 2:
        return f"{words} %"
    spread = 100 * np.std(found, ddof=1)
    return f"{words} %; expect {spread:.1f} points either way, as {len(found)} seeds here spread"


class LiveCurve(Callback):
    """Learning curves in JupyterLab, drawn anew after every epoch.

    Where nobody watches (a terminal, a notebook run by the pipeline) it draws nothing. After the
    first epoch it prints `beside_authors`.
    """

    def __init__(self, authors: pd.DataFrame | None = None, model_dir: Path = Path()) -> None:
        self.authors, self.model_dir, self.shown = authors, model_dir, None

    def on_train_epoch_start(self, trainer: Trainer, module: Any) -> None:
        """Draw the epochs so far: the row of the last one is there when the next begins."""
        history = pd.DataFrame(module.rows)
        if len(history) == 1 and self.authors is not None and trainer.is_global_zero:
            print(beside_authors(history, self.authors, self.model_dir), flush=True)
        # Whether a front end that somebody can type into has started the cell that runs.
        kernel = getattr(get_ipython(), "kernel", None)
        request = kernel.get_parent("shell") if kernel else {}
        if module.rows and request.get("content", {}).get("allow_stdin"):
            picture = Image(png_bytes(draw_learning_curves(history, authors=self.authors), dpi=110))
            if self.shown is None:
                self.shown = display(picture, display_id=True)
            else:
                self.shown.update(picture)

    on_train_end = on_train_epoch_start
