"""What each layer of a network makes of a galaxy, and what can be read from it.

`features/<key>.parquet` has one row per galaxy: `galaxyID`, `split`, `class`, and a column of
vectors, float16, for each layer: of a transformer with a class token, that token after each block
(`block 1`, ...); of a CNN, the mean over the plane after each stage (`stage 1`, ...).

Sources: linear probes, Alain & Bengio 2016, arXiv:1610.01644; UMAP, McInnes, Healy & Melville 2018,
arXiv:1802.03426, by umap-learn.
"""

import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import nn
from tqdm import tqdm

from gz2vit import attention
from gz2vit.attention_maps import TrainedModel
from gz2vit.evaluation import wilson_interval
from gz2vit.images import open_split
from gz2vit.io import Gz2vitError, atomic_path, require
from gz2vit.paper import SPLIT_FRACTIONS

ABOUT = ("galaxyID", "split", "class")  # the columns that are not layers
CHUNK = 512  # galaxies in memory at once: 308 MB of images at 224 px
MAX_ITERATIONS = 2000  # of L-BFGS; standardised features need some hundred


def layer_embeddings(network: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Layer name -> float32 (B, D) on the CPU, first layer first, for normalised (B, 3, H, W)."""
    images = attention.check_images(network, images)
    work, parts = torch.inference_mode()(_embed), images.split(attention.BATCH_SIZE)
    found = list(attention.map_batches(work, network, parts))
    word = "block" if attention.has_class_token(network) else "stage"
    layers = (torch.cat(parts).float().cpu() for parts in zip(*found, strict=True))
    return {f"{word} {number}": layer for number, layer in enumerate(layers, 1)}


def _embed(network: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """One vector per image of each layer, (B, D)."""
    family, token = attention.family_of(network), attention.has_class_token(network)
    if family in ("vit", "linformer"):
        # The sum with the skip connection is computed outside all parts: a block's result is seen
        # where the next block takes it in; the last one's is the transformer's.
        inside = network.transformer
        blocks = inside.net.layers if family == "linformer" else inside.layers
        tokens: list[torch.Tensor] = []
        with ExitStack() as hooks:
            for block in blocks[1:]:
                taken = block[0].register_forward_pre_hook(lambda _, own: tokens.append(own[0]))
                hooks.callback(taken.remove)
            tokens += attention.record_outputs(network, images, [inside])[1]
        return [one[:, 0] for one in tokens]
    if family == "hugging_face":  # its own record, the first of which is the patches themselves
        outputs = network.model(pixel_values=images, output_hidden_states=True).hidden_states[1:]
    elif family == "vgg":
        stages = [part for part in network.features if isinstance(part, nn.MaxPool2d)]
        outputs = attention.record_outputs(network, images, stages)[1]
    else:
        outputs = attention.record_outputs(network, images, attention.stages_of(network))[1]
        if any(one is None for one in outputs):  # not all that timm lists is used: its last alone
            return [network.forward_head(network.forward_features(images), pre_logits=True)]
        # Some add their class token behind the stages.
        token = token and attention.has_plain_blocks(network)
    vectors = []
    for one in outputs:
        if one.ndim == 3:  # tokens (B, N, D)
            vectors.append(one[:, 0] if token else one.mean(dim=1))
            continue
        planes = attention.planes_of(one, images.shape)
        if planes is None:
            raise Gz2vitError(f"a layer's output of shape {tuple(one.shape)} cannot be pooled")
        vectors.append(planes.mean(dim=(2, 3)))
    return vectors


@dataclass(frozen=True)
class Features:
    """One layer's vectors, float32 (N, D), and whose they are, (N,) each."""

    layer: str
    galaxy_ids: np.ndarray
    split: np.ndarray
    class_index: np.ndarray
    vectors: np.ndarray

    def of(self, split: str, most: int | None = None, seed: int = 0) -> "Features":
        """Those of one split; `most` of them at most, drawn with `seed`."""
        rows = _draw(np.flatnonzero(self.split == split), most, seed)
        whole = (self.galaxy_ids, self.split, self.class_index, self.vectors)
        return Features(self.layer, *(one[rows] for one in whole))


def _draw(rows: np.ndarray, most: int | None, seed: int) -> np.ndarray:
    """`most` of `rows` at most, drawn with `seed`, in order."""
    if most is None or len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def features_path(results_dir: Path | str, key: str) -> Path:
    """Where a model's features are."""
    return Path(results_dir) / "features" / f"{key}.parquet"


def write_features(
    results_dir: Path | str, model: TrainedModel, most: int | None = None, seed: int = 0
) -> Path:
    """Write the features of a model, of `most` galaxies of each split, and return the path."""
    splits = [open_split(results_dir, split) for split in SPLIT_FRACTIONS]
    drawn = [_draw(np.arange(len(one.cache)), most, seed) for one in splits]
    path, writer = features_path(results_dir, model.key), None
    bar = tqdm(total=sum(map(len, drawn)), desc=f"features of {model.key}", unit=" images")
    with atomic_path(path) as temporary, bar, ExitStack() as closing:
        for galaxies, rows in zip(splits, drawn, strict=True):
            for own in np.split(rows, range(CHUNK, len(rows), CHUNK)):
                columns = {
                    "galaxyID": pa.array(np.array(galaxies.cache.galaxy_ids)[own], pa.string()),
                    "split": pa.array([galaxies.split] * len(own), pa.string()),
                    "class": pa.array(galaxies.class_index[own], pa.int8()),
                }
                prepared = model.prepare(galaxies.cache.read(own))
                for name, vectors in layer_embeddings(model.network, prepared).items():
                    halves = vectors.numpy().astype(np.float16)
                    if not np.isfinite(halves).all():
                        raise Gz2vitError(f"{name} of {model.key} is not finite; check the network")
                    flat, width = pa.array(halves.ravel()), halves.shape[1]
                    columns[name] = pa.FixedSizeListArray.from_arrays(flat, width)
                table = pa.table(columns)
                writer = writer or closing.enter_context(
                    pq.ParquetWriter(temporary, table.schema, compression="zstd")
                )
                writer.write_table(table)
                bar.update(len(own))
    return path


def write_no_features(results_dir: Path | str, key: str) -> None:
    """Write a file without layers, for a model whose network cannot be built."""
    with atomic_path(features_path(results_dir, key)) as temporary:
        pq.write_table(pa.table({name: pa.array([], pa.string()) for name in ABOUT}), temporary)


def layers_of(path: Path | str) -> list[str]:
    """The layers in a file of features, first layer first; `Gz2vitError` where it is missing."""
    names = pq.read_schema(require(path, "features")).names
    return [name for name in names if name not in ABOUT]


def read_features(path: Path | str, layer: str | None = None) -> Features:
    """The vectors of one layer, by default the last."""
    layers = layers_of(path)
    if not layers or layer not in (None, *layers):
        known = ", ".join(layers) or "none: the network could not be built"
        raise Gz2vitError(f"{path} has no layer '{layer or 'last'}'; it has {known}")
    layer = layer or layers[-1]
    table = pq.read_table(path, columns=[*ABOUT, layer]).combine_chunks()
    vectors = np.stack(table.column(layer).to_numpy()).astype(np.float32)
    return Features(layer, *(table.column(name).to_numpy() for name in ABOUT), vectors)


def probe_hits(train: Features, test: Features, strength: float = 1.0) -> np.ndarray:
    """Which galaxies of `test` a logistic regression trained on `train` classifies right: bool.

    Features are scaled to the training galaxies' mean and standard deviation; `strength` is
    scikit-learn's C.
    """
    if len(np.unique(train.class_index)) < 2:
        raise Gz2vitError("the training galaxies are all of one class; a probe needs two or more")
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=MAX_ITERATIONS))
    known, asked = (one.vectors.astype(np.float64) for one in (train, test))
    # Hundreds of small steps: several threads would mostly wait for each other, 12 times as long.
    with threadpool_limits(1):
        return probe.fit(known, train.class_index).predict(asked) == test.class_index


def probe_layers(
    results_dir: Path | str, key: str, most: int | None = None, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Linear probes of every layer of a model, from `most` training galaxies, on all test galaxies.

    First `model`, `layer`, `accuracy` (0 to 1), `low`, `high` (95 % Wilson), `galaxies`; then which
    test galaxies are right, bool, one column per layer, by galaxy id.
    """
    path, rows, hits = features_path(results_dir, key), [], {}
    for layer in layers_of(path):
        every = read_features(path, layer)
        test = every.of("test")
        own = hits[layer] = probe_hits(every.of("train", most, seed), test)
        rows.append((key, layer, own.mean(), *wilson_interval(own.sum(), len(own)), len(own)))
    table = pd.DataFrame(rows, columns=["model", "layer", "accuracy", "low", "high", "galaxies"])
    return table, pd.DataFrame(hits, index=pd.Index(test.galaxy_ids, name="GalaxyID"))


def nearest_galaxies(features: Features, galaxy_id: str, count: int) -> list[str]:
    """The ids of the `count` galaxies nearest to one by the cosine of their features, in order."""
    rows = np.flatnonzero(features.galaxy_ids == galaxy_id)
    if len(rows) == 0:
        raise Gz2vitError(f"galaxy {galaxy_id} has no features; run the step 'features' again")
    search = NearestNeighbors(n_neighbors=min(count + 1, len(features.vectors)), metric="cosine")
    found = search.fit(features.vectors).kneighbors(features.vectors[rows], return_distance=False)
    return features.galaxy_ids[found[0][found[0] != rows[0]][:count]].tolist()


def project(vectors: np.ndarray, neighbours: int = 15, seed: int = 0) -> np.ndarray:
    """Vectors (N, D) as points float32 (N, 2) by UMAP of cosine distances, the same for a `seed`.

    Its `neighbours` (N / 2 at most) are to stay near a galaxy.
    """
    if len(vectors) < 4:
        raise Gz2vitError(f"{len(vectors)} galaxies are too few for a map; extract at least 4")
    from umap import UMAP  # it compiles for seconds, and is only wanted here

    near, threads = min(neighbours, len(vectors) // 2), torch.get_num_threads()
    try:
        with warnings.catch_warnings():
            # Expected: a seed leaves it one thread, and some groups are not connected.
            warnings.simplefilter("ignore", UserWarning)
            made = UMAP(n_neighbors=near, metric="cosine", random_state=seed, init="pca")
            return made.fit_transform(vectors).astype(np.float32)
    finally:
        torch.set_num_threads(threads)  # its compiler sets them for the whole process
