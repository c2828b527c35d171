"""What every layer of a trained model makes of every galaxy, as one Parquet file a model.

One row a galaxy: `galaxyID`, `split`, `class`, and a column of vectors for each layer (`block 1`,
... of a transformer, `stage 1`, ... of a CNN). Vectors are half-precision numbers, three decimal
digits: all layers of a ViT-Base for the paper's 155,951 galaxies are then 2.9 GB, not 5.7 GB.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from gz2vit.attention import layer_embeddings
from gz2vit.data import LabelledImages, open_split
from gz2vit.errors import Gz2vitError
from gz2vit.inspection.models import BATCH_SIZE, TrainedModel
from gz2vit.paper import SPLIT_FRACTIONS
from gz2vit.results import atomic_path, require

ABOUT = ("galaxyID", "split", "class")  # the columns that are no layers
CHUNK = 512  # galaxies in memory at once: 308 MB of images at 224 px


@dataclass(frozen=True)
class Features:
    """One layer's vectors: `vectors` float32 (N, D), and whose they are, (N,) each."""

    layer: str
    galaxy_ids: np.ndarray
    split: np.ndarray
    class_index: np.ndarray
    vectors: torch.Tensor

    def of(self, split: str, most: int | None = None, seed: int = 0) -> "Features":
        """Those of one split; `most` of them at most, drawn with `seed`."""
        rows = np.flatnonzero(self.split == split)
        if most is not None and len(rows) > most:
            rows = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
        own = (self.galaxy_ids[rows], self.split[rows], self.class_index[rows])
        return Features(self.layer, *own, self.vectors[torch.from_numpy(rows)])


def features_path(results_dir: Path | str, key: str) -> Path:
    """Where a model's features stand."""
    return Path(results_dir) / "features" / f"{key}.parquet"


def write_features(
    results_dir: Path | str, model: TrainedModel, most: int | None = None, seed: int = 0
) -> Path:
    """Write the features of a model for the galaxies of all splits and return the path.

    `most`: galaxies of a split at most, drawn with `seed`; None: all. Raises `Gz2vitError` where a
    layer's values are not finite.
    """
    path = features_path(results_dir, model.key)
    with atomic_path(path) as temporary:
        writer = None
        try:
            for split in SPLIT_FRACTIONS:
                for table in _tables(model, open_split(results_dir, split), most, seed):
                    writer = writer or pq.ParquetWriter(temporary, table.schema, compression="zstd")
                    writer.write_table(table)
        finally:
            if writer is not None:
                writer.close()
    return path


def _tables(
    model: TrainedModel, galaxies: LabelledImages, most: int | None, seed: int
) -> Iterator[pa.Table]:
    """The rows of a split, some hundred galaxies at a time."""
    rows = np.arange(len(galaxies.store))
    if most is not None and len(rows) > most:
        rows = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
    ids = np.array(galaxies.store.galaxy_ids)
    for start in range(0, len(rows), CHUNK):
        own = rows[start : start + CHUNK]
        prepared = model.prepare(galaxies.store.read(own))
        layers = layer_embeddings(model.network, prepared, BATCH_SIZE)
        columns = {
            "galaxyID": pa.array(ids[own], pa.string()),
            "split": pa.array([galaxies.split] * len(own), pa.string()),
            "class": pa.array(galaxies.class_index[own], pa.int8()),
        }
        yield pa.table(columns | {name: _column(name, one) for name, one in layers.items()})


def _column(name: str, vectors: torch.Tensor) -> pa.Array:
    """Vectors (B, D) as a column of half-precision vectors of fixed length."""
    halves = vectors.numpy().astype(np.float16)
    if not np.isfinite(halves).all():
        raise Gz2vitError(f"the features of {name} are not finite numbers; check the network")
    return pa.FixedSizeListArray.from_arrays(pa.array(halves.ravel()), vectors.shape[1])


def layers_of(path: Path | str) -> list[str]:
    """The layers in a file of features, first layer first; `Gz2vitError` where it is missing."""
    names = pq.read_schema(require(path, "features")).names
    return [name for name in names if name not in ABOUT]


def read_features(path: Path | str, layer: str | None = None) -> Features:
    """The vectors of one layer, by default the last.

    Raises `Gz2vitError` for a missing file and a layer that it does not have.
    """
    layers = layers_of(path)
    layer = layer or layers[-1]
    if layer not in layers:
        raise Gz2vitError(f"{path} has no layer '{layer}'; it has {', '.join(layers)}")
    table = pq.read_table(path, columns=[*ABOUT, layer]).combine_chunks()
    about = [table.column(name).to_numpy() for name in ABOUT]
    column = table.column(layer).combine_chunks()
    width = column.type.list_size
    vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    return Features(layer, *about, torch.from_numpy(vectors.astype(np.float32)))
