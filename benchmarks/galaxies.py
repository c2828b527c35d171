"""Galaxies to measure with: a data folder, simulated unless one is named, and its image cache."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from gz2sim.folder import simulate
from gz2vit.catalog import read_data_folder, write_selection
from gz2vit.images import LabelledImages, open_cache, open_split, pack_images
from gz2vit.paper import CROP_PX

SIMULATED = 800  # 512 of them to train on


@contextmanager
def galaxies_at_hand(data: Path | None, copies: int = 1) -> Iterator[tuple[Path, Path]]:
    """Yield a data folder and a results folder with its image cache, both gone afterwards.

    `copies`: how often the training split is repeated in the cache, to have more galaxies to train
    on than there are images.
    """
    with TemporaryDirectory() as scratch:
        if data is None:
            data = Path(scratch) / "data"
            simulate(data, SIMULATED, seed=1)
        folder = read_data_folder(data)
        results = Path(scratch) / "results"
        tables = dict(folder.tables)
        write_selection(results, folder, tables, "demo")
        for split, table in tables.items():
            ids, paths = list(table.galaxyID), [folder.image_path(name) for name in table.galaxyID]
            pack_images(paths, ids, results / "store" / split, CROP_PX)
            if copies > 1 and split == "train":
                many = [f"{name}-{copy}" for copy in range(copies) for name in ids]
                pack_images(paths * copies, many, results / "store" / "repeated", CROP_PX)
        yield data, results


def open_galaxies(results: Path, copies: int = 1) -> tuple[LabelledImages, LabelledImages]:
    """The training split, as often as the cache holds it, and the validation split."""
    train, valid = (open_split(results, split) for split in ("train", "valid"))
    if copies == 1:
        return train, valid
    ids = [f"{name}-{copy}" for copy in range(copies) for name in train.cache.galaxy_ids]
    cache = open_cache(results / "store" / "repeated", ids)
    return replace(train, cache=cache, class_index=np.tile(train.class_index, copies)), valid
