"""The splits of a run as training and prediction see them: images and labels, row by row."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gz2vit.catalog import folder_signature
from gz2vit.data.broken import add_broken, broken_table, refuse_broken
from gz2vit.data.images import LEAVE_OUT
from gz2vit.data.store import ImageStore, StoreOrder, open_store, pack_stores
from gz2vit.errors import Gz2vitError
from gz2vit.paper import CLASS_COUNT
from gz2vit.results import command_for
from gz2vit.selection import Selection, read_selection


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

    Raises `Gz2vitError` that names the step to run where the selection or the store is missing,
    and where the store was packed of another state of the data folder than the selection's.
    """
    selection = read_selection(results_dir)
    table = selection.tables[split]
    target = Path(results_dir) / "store" / f"{split}.npy"
    source = selection.data["signature"]
    store = open_store(target, table.galaxyID.tolist(), source=source)
    return LabelledImages(split, store, table.label1.to_numpy())


def pack_selection(results_dir: Path | str, crop_px: int, workers: int | None = None) -> None:
    """Pack the images of a results folder's selection into `store/<split>.npy`.

    Given again after an interruption it continues. Raises `Gz2vitError` as `pack_stores`, for a
    data folder that has changed since the selection, and, at the end, for images that cannot be
    decoded: all of them are then listed in `logs/broken_images.csv`.
    """
    selection = read_selection(results_dir)
    folder, signature = Path(selection.data["folder"]), selection.data["signature"]
    if folder_signature(folder) != signature:
        command = command_for(Path(results_dir).resolve() / "selection", "select")
        raise Gz2vitError(f"{folder} has changed since galaxies were selected there; run {command}")
    orders = _orders(Path(results_dir), selection, crop_px)
    faults = pack_stores(list(orders.values()), workers)
    broken = [
        (order.galaxy_ids[row], split, order.paths[row], fault)
        for (split, order), found in zip(orders.items(), faults, strict=True)
        for row, fault in found
    ]
    if broken:
        add_broken(results_dir, folder, signature, broken_table(broken))
        again = "run the same command again, which leaves them out too"
        way_on = LEAVE_OUT if selection.left_out is None else again
        refuse_broken([row[2:] for row in broken], results_dir, way_on)


def _orders(results_dir: Path, selection: Selection, crop_px: int) -> dict[str, StoreOrder]:
    """What is to be packed, by split."""
    images, orders = Path(selection.data["folder"]) / "images", {}
    for split, table in selection.tables.items():
        ids = table.galaxyID.tolist()
        lost = selection.left_out
        left_out = () if lost is None else tuple(lost.galaxyID[lost.split == split])
        orders[split] = StoreOrder(
            target=results_dir / "store" / f"{split}.npy",
            paths=[images / f"{galaxy_id}.jpg" for galaxy_id in ids],
            galaxy_ids=ids,
            crop_px=crop_px,
            source=selection.data["signature"],
            left_out=left_out,
        )
    return orders
