"""What every layer of a network makes of an image: one vector a layer."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import nn
from torch.nn import functional

from gz2vit.attention import (
    BATCH_SIZE,
    family_of,
    has_class_token,
    has_plain_blocks,
    in_batches,
    in_evaluation,
    listening,
    on_device,
)
from gz2vit.attention_maps import MAPS_BATCH_SIZE, TrainedModel
from gz2vit.catalog import Selection, read_properties
from gz2vit.evaluation import ClassIndices, wilson_interval
from gz2vit.images import LabelledImages, open_split
from gz2vit.io import Gz2vitError, atomic_path, require
from gz2vit.paper import SPLIT_FRACTIONS


def layer_embeddings(
    network: nn.Module, images: torch.Tensor, batch_size: int = BATCH_SIZE
) -> dict[str, torch.Tensor]:
    """Layer name -> float32 (B, D) on the CPU, in the order of the layers.

    `images`: normalised floats (B, 3, H, W). Of a transformer with a class token, that token
    after each block (`block 1`, ...); of a CNN, the mean over the plane after each stage
    (`stage 1`, ...); of other transformers, the mean over tokens. Raises `Gz2vitError` for a
    network whose layers are not known.
    """
    collect = _collector(network)
    found = []
    with torch.no_grad(), in_evaluation(network):
        for part in in_batches(on_device(network, images), batch_size):
            found.append([one.float().cpu() for one in collect(network, part)])
    word = "block" if has_class_token(network) else "stage"
    layers = (torch.cat(parts) for parts in zip(*found, strict=True))
    return {f"{word} {number}": layer for number, layer in enumerate(layers, 1)}


Collector = Callable[[nn.Module, torch.Tensor], list[torch.Tensor]]


def _collector(network: nn.Module) -> Collector:
    """What finds a network's layers."""
    match family_of(network):
        case "vit" | "linformer":
            return _of_vit_pytorch
        case "hugging_face":
            return _of_hugging_face
        case _:
            return _of_stages


def _of_vit_pytorch(network: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """The class token after each block of a vit-pytorch ViT, Linformer or not.

    The sum with the skip connection is made outside all parts, so that a block's result is seen
    where the next block takes it in; the last one's is the transformer's.
    """
    inside = network.transformer
    blocks = inside.net.layers if family_of(network) == "linformer" else inside.layers
    tokens: list[torch.Tensor] = []
    hooks = [
        block[0].register_forward_pre_hook(lambda _part, inputs: tokens.append(inputs[0][:, 0]))
        for block in list(blocks)[1:]
    ]
    hooks.append(inside.register_forward_hook(lambda _part, _in, out: tokens.append(out[:, 0])))
    try:
        network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return tokens


def _of_hugging_face(network: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """A transformers model's own record, the first of which is its patches before any layer."""
    states = network.model(pixel_values=images, output_hidden_states=True).hidden_states[1:]
    return [_pool(state, has_class_token(network), state.shape[1]) for state in states]


def _of_stages(network: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """After each stage of a CNN, or of what timm lists as stages."""
    family = family_of(network)
    if family == "resnet":
        parts = [network.layer1, network.layer2, network.layer3, network.layer4]
        channels = [None] * len(parts)
    elif family == "vgg":
        parts = [part for part in network.features if isinstance(part, nn.MaxPool2d)]
        channels = [None] * len(parts)
    else:
        parts = [network.get_submodule(one["module"]) for one in network.feature_info]
        channels = [one["num_chs"] for one in network.feature_info]
    pooled: dict[int, torch.Tensor] = {}
    # Some add their class token behind these stages: until then all tokens are patches.
    token = has_class_token(network) and has_plain_blocks(network)

    def keep(number: int, output: torch.Tensor) -> None:
        """Pool what a stage returns."""
        pooled[number] = _pool(output, token, channels[number] or output.shape[1])

    with listening(parts, keep):
        network(images)
    if len(pooled) < len(parts):  # it goes another way than through what timm lists: its last alone
        return [network.forward_head(network.forward_features(images), pre_logits=True)]
    return [pooled[number] for number in range(len(parts))]


def _pool(output: torch.Tensor, class_token: bool, channels: int) -> torch.Tensor:
    """One vector an image, (B, channels), of (B, N, D), (B, C, h, w) or (B, h, w, C)."""
    if output.ndim == 3:
        return output[:, 0] if class_token else output.mean(dim=1)
    if output.ndim == 4 and output.shape[1] == channels:
        return output.mean(dim=(2, 3))
    if output.ndim == 4 and output.shape[3] == channels:
        return output.mean(dim=(1, 2))
    raise Gz2vitError(
        f"a layer's output of shape {tuple(output.shape)} has no known pooling; give a network "
        "whose layers return tokens (B, N, D) or planes (B, C, h, w)"
    )


# ------------------------------------------------------------------------------------------
# What can be read off embeddings: a linear classifier for each layer, and nearest neighbours.
#
# Source: linear probes, Alain & Bengio 2016, arXiv:1610.01644.

Embeddings = Mapping[str, torch.Tensor]
MAX_ITERATIONS = 2000  # of L-BFGS; standardised features need some hundred


def linear_probe(
    train: Embeddings,
    train_classes: ClassIndices,
    test: Embeddings,
    test_classes: ClassIndices,
    strength: float = 1.0,
) -> pd.DataFrame:
    """How well each layer's embedding tells the classes, by logistic regression.

    `train`, `test`: layer name -> (B, D), as `layer_embeddings` returns them; classes (B,). The
    classifier learns from the training galaxies alone, its features scaled to their mean and
    standard deviation; `strength` is scikit-learn's C. One row for each layer: `layer`,
    `accuracy` of the test galaxies (0 to 1), `low` and `high` (95 % Wilson interval), `galaxies`.
    Raises `Gz2vitError` where layers or numbers do not fit, or one class is all there is to learn.
    """
    if not train or list(train) != list(test):
        raise Gz2vitError("the layers of training and test embeddings differ; take one network's")
    rows = []
    for layer in train:
        known = _checked(train[layer], train_classes, f"training, {layer}")
        asked = _checked(test[layer], test_classes, f"test, {layer}")
        hits = _hits(known, asked, strength)
        low, high = wilson_interval(int(hits.sum()), len(hits))
        rows.append((layer, float(hits.mean()), low, high, len(hits)))
    return pd.DataFrame(rows, columns=["layer", "accuracy", "low", "high", "galaxies"])


Labelled = tuple[np.ndarray, np.ndarray]  # embeddings (B, D), classes (B,)


def _hits(known: Labelled, asked: Labelled, strength: float) -> np.ndarray:
    """Which galaxies of `asked` a classifier taught with `known` recognises, bool (B,)."""
    if len(np.unique(known[1])) < 2:
        raise Gz2vitError("the training galaxies are all of one class; a probe needs two or more")
    if not strength > 0:
        raise Gz2vitError(f"strength is {strength}; it must be larger than 0")
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=MAX_ITERATIONS))
    # Hundreds of small steps: several threads would mostly wait for each other, 12 times as long.
    with threadpool_limits(1):
        return probe.fit(*known).predict(asked[0]) == asked[1]


def _checked(embeddings: torch.Tensor, classes: ClassIndices, what: str) -> Labelled:
    """Both as arrays, float64 (B, D) and (B,)."""
    vectors, classes = np.asarray(embeddings, dtype=np.float64), np.asarray(classes)
    if vectors.ndim != 2 or len(vectors) == 0 or classes.shape != vectors.shape[:1]:
        raise Gz2vitError(
            f"{what}: embeddings of shape {vectors.shape} and classes of shape {classes.shape} do "
            "not fit; give (B, D) and (B,)"
        )
    if not np.isfinite(vectors).all():
        raise Gz2vitError(f"{what}: embeddings hold values that are not finite; check the network")
    return vectors, classes


def nearest_neighbours(
    embeddings: torch.Tensor, row: int, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The `k` galaxies nearest to that of `row` by the cosine of their embeddings (B, D).

    Returns their rows, int64 (k,), nearest first and without `row` itself, and the cosines,
    float32 (k,), -1 to 1. Raises `Gz2vitError` for a row or a k that B does not hold.
    """
    count = len(embeddings)
    if embeddings.ndim != 2 or not 0 <= row < count or not 1 <= k < count:
        raise Gz2vitError(
            f"embeddings of shape {tuple(embeddings.shape)} have no row {row} with {k} neighbours; "
            "give (B, D), a row from 0 to B - 1 and k from 1 to B - 1"
        )
    directions = functional.normalize(embeddings.float(), dim=1)
    cosines = (directions @ directions[row]).clamp(-1.0, 1.0)
    order = cosines.argsort(descending=True, stable=True)
    order = order[order != row][:k]
    return order, cosines[order]


# ------------------------------------------------------------------------------------------
# What every layer of a trained model makes of every galaxy, as one Parquet file a model.
#
# One row a galaxy: `galaxyID`, `split`, `class`, and a column of vectors for each layer (`block 1`,
# ... of a transformer, `stage 1`, ... of a CNN). Vectors are half-precision numbers, three decimal
# digits: all layers of a ViT-Base for the paper's 155,951 galaxies are then 2.9 GB, not 5.7 GB.

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
        layers = layer_embeddings(model.network, prepared, MAPS_BATCH_SIZE)
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


# ------------------------------------------------------------------------------------------
# Features in two dimensions, for the eye: UMAP.
#
# Source: McInnes, Healy & Melville 2018, arXiv:1802.03426, by umap-learn. Neighbours stay together;
# distances between groups, and the groups' sizes, mean nothing.

LEAST = 4  # galaxies below which there are no neighbourhoods to keep


def project(vectors: torch.Tensor, neighbours: int = 15, seed: int = 0) -> np.ndarray:
    """Vectors (N, D) as points float32 (N, 2); distances by the cosine, as for neighbours.

    `neighbours`: how many of a galaxy's are to stay near it (fewer where there are not so many).
    With the same seed the same points. Raises `Gz2vitError` for fewer than `LEAST` galaxies.
    """
    if vectors.ndim != 2 or len(vectors) < LEAST:
        raise Gz2vitError(
            f"vectors of shape {tuple(vectors.shape)} are too few for a map; give (N, D) with N "
            f"from {LEAST} on"
        )
    from umap import UMAP  # it compiles for seconds, and is only wanted here

    near, threads = min(neighbours, len(vectors) // 2), torch.get_num_threads()
    try:
        with warnings.catch_warnings():
            # It tells that a seed leaves it one thread, and of groups that nothing connects.
            warnings.simplefilter("ignore", UserWarning)
            made = UMAP(n_neighbors=near, metric="cosine", random_state=seed, init="pca")
            return made.fit_transform(vectors.numpy()).astype(np.float32)
    finally:
        torch.set_num_threads(threads)  # its compiler sets them for the whole process


# ------------------------------------------------------------------------------------------
# What saved features know: classes by layer, maps of galaxies, neighbours.

# The properties of the figure, and how their scales are called.
PROPERTIES = {"petroR90_r": "size, R90 [arcsec]", "dered_r": "magnitude, r [mag]"}


def probe_layers(
    results_dir: Path | str, key: str, most: int | None = None, seed: int = 0
) -> pd.DataFrame:
    """Linear probes of every layer of a model, learnt from training and asked of test galaxies.

    `most`: training galaxies at most. Columns: `model`, `layer`, `accuracy` (0 to 1), `low`,
    `high` (95 % Wilson), `galaxies`. Errors as of `linear_probe` and `read_features`.
    """
    path = features_path(results_dir, key)
    rows = []
    for layer in layers_of(path):
        every = read_features(path, layer)
        train, test = every.of("train", most, seed), every.of("test")
        pair = ({layer: train.vectors}, train.class_index, {layer: test.vectors}, test.class_index)
        rows.append(linear_probe(*pair))
    table = pd.concat(rows, ignore_index=True)
    table.insert(0, "model", key)
    return table


def umap_table(
    results_dir: Path | str, keys: Sequence[str], most: int, neighbours: int, seed: int = 0
) -> pd.DataFrame:
    """UMAP of the last layer of each model: the same test galaxies for all, `most` at most.

    Columns: `model`, `galaxyID`, `class`, `x`, `y`. Errors as of `project` and `read_features`.
    """
    parts = []
    for key in keys:
        own = read_features(features_path(results_dir, key)).of("test", most, seed)
        points = project(own.vectors, neighbours, seed)
        columns = {"galaxyID": own.galaxy_ids, "class": own.class_index}
        parts.append(pd.DataFrame({"model": key, **columns, "x": points[:, 0], "y": points[:, 1]}))
    return pd.concat(parts, ignore_index=True)


def read_umap(results_dir: Path | str) -> pd.DataFrame:
    """The table of `umap_table`, as the step `features` saved it."""
    path = require(Path(results_dir) / "features" / "umap.csv", "features")
    return pd.read_csv(path, dtype={"galaxyID": str})


def property_values(
    selection: Selection, galaxy_ids: Sequence[str]
) -> Mapping[str, np.ndarray | str]:
    """Sizes and magnitudes of galaxies (N,), by the label of their scale.

    Words that say why there are none, where the data folder has no `galaxy_properties.csv` or no
    value for any of these galaxies. NaN where one galaxy's is unknown.
    """
    folder = Path(selection.data["folder"])
    table = read_properties(folder / "galaxy_properties.csv")
    if table is None:
        why = f"not known:\n{folder.name} has no\ngalaxy_properties.csv"
        return dict.fromkeys(PROPERTIES.values(), why)
    known = table.drop_duplicates("galaxyID").set_index("galaxyID").reindex(list(galaxy_ids))
    found: dict[str, np.ndarray | str] = {}
    for column, label in PROPERTIES.items():
        values = known[column].to_numpy(dtype=np.float64)
        empty = f"not known:\n{column} has no value\nfor these galaxies"
        found[label] = empty if np.isnan(values).all() else values
    return found


def nearest_galaxies(features: Features, galaxy_id: str, count: int) -> list[str]:
    """The ids of the `count` galaxies nearest to one, by the cosine of their features.

    Fewer where there are not so many. Raises `Gz2vitError` for a galaxy without features.
    """
    rows = np.flatnonzero(features.galaxy_ids == galaxy_id)
    if len(rows) == 0:
        raise Gz2vitError(f"galaxy {galaxy_id} has no features; run the step 'features' again")
    near = min(count, len(features.galaxy_ids) - 1)
    found, _ = nearest_neighbours(features.vectors, int(rows[0]), near)
    return features.galaxy_ids[found.numpy()].tolist()
