"""Galaxies to measure with: a data folder, simulated unless one is named, and its packed store."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from gz2sim.folder import simulate
from gz2vit.catalog import read_data_folder, write_selection
from gz2vit.images import LabelledImages, open_split, pack_images
from gz2vit.paper import CROP_PX

SIMULATED = 800  # 512 of them to train on


@contextmanager
def galaxies_at_hand(data: Path | None, copies: int = 1) -> Iterator[tuple[Path, Path]]:
    """Yield a data folder and a results folder with its stores, both gone afterwards.

    `copies`: how often the training split is repeated in the store, to have more galaxies to train
    on than images at hand.
    """
    with TemporaryDirectory() as scratch:
        if data is None:
            data = Path(scratch) / "data"
            simulate(data, SIMULATED, seed=1)
        folder = read_data_folder(data)
        results = Path(scratch) / "results"
        tables = dict(folder.tables)
        signature = write_selection(results, folder, tables, "demo").data["signature"]
        for split, table in tables.items():
            ids, paths = list(table.galaxyID), [folder.image_path(name) for name in table.galaxyID]
            pack_images(paths, ids, results / "store" / f"{split}.npy", CROP_PX, signature)
        if copies > 1:
            _repeat(results, copies)
        yield data, results


def open_galaxies(results: Path, copies: int = 1) -> tuple[LabelledImages, LabelledImages]:
    """The training split, as often as the store holds it, and the validation split."""
    train, valid = (open_split(results, split) for split in ("train", "valid"))
    if copies == 1:
        return train, valid
    path = results / "store" / "repeated.npy"
    ids = tuple(f"{name}-{copy}" for copy in range(copies) for name in train.store.galaxy_ids)
    store = replace(train.store, path=path, images=np.load(path, mmap_mode="r"), galaxy_ids=ids)
    return replace(train, store=store, class_index=np.tile(train.class_index, copies)), valid


def _repeat(results: Path, copies: int) -> None:
    """Write the training split's images `copies` times into one array file."""
    images = np.load(results / "store" / "train.npy", mmap_mode="r")
    shape = (copies * len(images), *images.shape[1:])
    path = results / "store" / "repeated.npy"
    target = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    for copy in range(copies):
        target[copy * len(images) : (copy + 1) * len(images)] = images
    target.flush()
