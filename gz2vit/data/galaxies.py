"""A split as training and prediction see it: its images and its labels, row by row."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gz2vit.data.store import ImageStore, open_store
from gz2vit.paper import CLASS_COUNT
from gz2vit.selection import read_selection


@dataclass(frozen=True)
class LabelledImages:
    """The images of one split and their classes: `class_index` int64 (N,), in the store's order."""

    split: str
    store: ImageStore
    class_index: np.ndarray

    def class_counts(self) -> np.ndarray:
        """Galaxies per class, int64 (8,)."""
        return np.bincount(self.class_index, minlength=CLASS_COUNT)


def open_split(results_dir: Path | str, split: str) -> LabelledImages:
    """Open one split (train, valid or test) of a results folder.

    Raises `Gz2vitError` that names the step to run where the selection or the store is missing.
    """
    table = read_selection(results_dir).tables[split]
    store = open_store(Path(results_dir) / "store" / f"{split}.npy", table.galaxyID.tolist())
    return LabelledImages(split, store, table.label1.to_numpy())
