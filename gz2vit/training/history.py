"""The history of a training run: one row an epoch, in a file and at the terminal."""

import time
from pathlib import Path
from typing import Any

import lightning
import pandas as pd
from lightning.pytorch.callbacks import Callback

from gz2vit.results import atomic_path
from gz2vit.training.classifier import GalaxyClassifier

HISTORY_COLUMNS = ("epoch", "train_loss", "train_acc", "valid_loss", "valid_acc", "lr", "seconds")


class History(Callback):
    """Prints a line for each epoch and keeps `history.csv` up to date.

    Its rows travel with the checkpoint, so that a run that continues has them all.
    """

    def __init__(self, path: Path, max_epoch: int) -> None:
        self.path, self.max_epoch, self.rows = path, max_epoch, []

    def state_dict(self) -> dict[str, Any]:
        """The rows so far, for the checkpoint."""
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the rows of a checkpoint."""
        self.rows = list(state["rows"])

    def table(self) -> pd.DataFrame:
        """One row an epoch, `HISTORY_COLUMNS`: losses and shares of hits, lr, time [s]."""
        return pd.DataFrame(self.rows, columns=HISTORY_COLUMNS)

    def on_train_epoch_start(self, trainer: lightning.Trainer, module: GalaxyClassifier) -> None:
        """Note the time and the learning rate of the epoch."""
        self.start = time.perf_counter()
        self.lr = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: GalaxyClassifier) -> None:
        """Add the epoch's row to the file and print it; one device of several does both."""
        row = {"epoch": trainer.current_epoch + 1, "lr": self.lr}
        totals = {part: module.total(part) for part in ("train", "valid")}
        for part, (loss_sum, hits, count) in totals.items():
            row |= {f"{part}_loss": loss_sum / count, f"{part}_acc": hits / count}
        row["seconds"] = time.perf_counter() - self.start
        self.rows.append(row)
        if trainer.is_global_zero:
            self.write(self.path)
            print(self._line(row, totals["train"][2] / row["seconds"]), flush=True)

    def write(self, path: Path) -> None:
        """Write the table to `path`."""
        with atomic_path(path) as temporary:
            self.table().to_csv(temporary, index=False)

    def _line(self, row: dict, rate: float) -> str:
        return (
            f"epoch {row['epoch']:>3}/{self.max_epoch}"
            f"  train loss {row['train_loss']:.3f} acc {row['train_acc']:.3f}"
            f"  valid loss {row['valid_loss']:.3f} acc {row['valid_acc']:.3f}"
            f"  {row['seconds']:.1f} s ({rate:.0f} images/s)"
        )


def is_complete(rows: list[dict[str, Any]], max_epoch: int, patience: int) -> bool:
    """Whether a run with these rows has ended: all epochs, or `patience` without a better one."""
    if len(rows) >= max_epoch:
        return True
    accuracies = [row["valid_acc"] for row in rows]
    return bool(rows) and len(rows) - 1 - accuracies.index(max(accuracies)) >= patience
