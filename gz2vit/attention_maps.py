"""The trained models of a results folder, as looking inside them needs them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from gz2vit.attention import (
    CLASS_ACTIVATION,
    attention_rollout,
    collect_attention,
    gaze,
    predict_probabilities,
    why_no_map,
)
from gz2vit.batches import shrink
from gz2vit.catalog import Selection, read_selection
from gz2vit.evaluation import PROBABILITY_COLUMNS, read_predictions
from gz2vit.images import open_split
from gz2vit.io import CHECKPOINT, Gz2vitError, atomic_path, command_for, require
from gz2vit.paper import CLASS_NAMES, CLASS_SHORT_NAMES, FIG5_GALAXY_IDS, PUBLISHED_RESULTS
from gz2vit.plots.paper_figures import (
    COLOUR_MAP,
    caption_of,
    draw_fig5,
    draw_one_galaxy,
    draw_side_by_side,
)
from gz2vit.plots.style import Figure, draw_missing, model_name
from gz2vit.training import GalaxyClassifier, load_classifier

MAPS_BATCH_SIZE = 32  # images at once: the attention of a ViT-Base at 224 px is 22 MB an image


@dataclass(frozen=True)
class TrainedModel:
    """A trained network and how its images are made; `key` is the name of its folder."""

    key: str
    classifier: GalaxyClassifier

    @property
    def network(self) -> nn.Module:
        """The network itself, in evaluation mode, on the GPU where there is one."""
        return self.classifier.network

    def prepare(self, images: np.ndarray) -> torch.Tensor:
        """Images as the store holds them, uint8 (B, H, W, 3), as the network takes them.

        Float32 (B, 3, h, w) on the network's device: shrunk to what the network sees, normalised
        as in its training.
        """
        own = self.classifier
        small = np.ascontiguousarray(shrink(images, own.settings.image_size))
        pixels = torch.from_numpy(small).to(own.device).permute(0, 3, 1, 2)
        return torch.addcmul(own.shift, pixels.float(), own.scale)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Class probabilities float64 (B, 8) of images as the store holds them."""
        return predict_probabilities(self.network, self.prepare(images), MAPS_BATCH_SIZE)


def trained_models(
    results_dir: Path | str, keys: Sequence[str] = ()
) -> tuple[list[str], list[str]]:
    """The models that are trained, and those that are not, of `keys`.

    Without `keys`: the paper's seven, and whatever else stands in `models/`. Raises `Gz2vitError`,
    with the step to run, where none is trained.
    """
    folder = Path(results_dir) / "models"
    there = sorted(path.parent.name for path in folder.glob(f"*/{CHECKPOINT}"))
    wanted = list(keys) or list(dict.fromkeys([*PUBLISHED_RESULTS, *there]))
    found = [key for key in wanted if key in there]
    if not found:
        require(folder / wanted[0] / CHECKPOINT, wanted[0])
    return found, [key for key in wanted if key not in there]


def describe_models(results_dir: Path | str, found: Sequence[str], missing: Sequence[str]) -> str:
    """Which models take part, and how those are trained that cannot."""
    folder = Path(results_dir).resolve() / "models"
    lines = [f"{len(found)} models: {', '.join(found)}"]
    lines += [
        f"{key} is not trained yet and left out; run {command_for(folder / key, key)}"
        for key in missing
    ]
    return "\n".join(lines)


def open_model(results_dir: Path | str, key: str) -> TrainedModel:
    """The trained model of that key, on the GPU where there is one.

    Raises `Gz2vitError`, with the step to run, where it is not trained.
    """
    classifier = load_classifier(Path(results_dir) / "models" / key)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return TrainedModel(key, classifier.to(device).eval())


# ------------------------------------------------------------------------------------------
# Which galaxies to look at: the paper's, chosen ones, a random batch, mistakes, mergers.
#
# A list of the paper's Fig. 5 whose images are not there has a stand-in of the same kind: of list A
# six test galaxies that are round ellipticals, unbarred spirals, and unbarred spirals taken for
# round ellipticals, two of each; of list B six mergers.

ROUND, UNBARRED, MERGER = (
    CLASS_NAMES.index(name) for name in ("Round Elliptical", "Unbarred Spiral", "Merger")
)
# The (true, predicted) classes of list A, as the authors' published predictions have its galaxies.
LIST_A_KINDS = ((UNBARRED, UNBARRED), (ROUND, ROUND), (UNBARRED, ROUND))
Lists = dict[str, list[str]]  # ids of galaxies by the list's name


@dataclass(frozen=True)
class Sample:
    """Galaxies with their images.

    `galaxy_ids` (N,); `class_index` int64 (N,), their true classes; `images` uint8 (N, H, W, 3),
    the store's; `lists`: names of lists and their galaxies, any number of times.
    """

    galaxy_ids: tuple[str, ...]
    class_index: np.ndarray
    images: np.ndarray
    lists: Lists

    def rows(self, name: str) -> np.ndarray:
        """The rows of the galaxies of a list, int64; none for a list that is not there."""
        place = {galaxy_id: row for row, galaxy_id in enumerate(self.galaxy_ids)}
        return np.array([place[galaxy_id] for galaxy_id in self.lists.get(name, [])], dtype=int)


def read_all_predictions(results_dir: Path | str, keys: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The test predictions of trained models, indexed by galaxy id, in one order.

    Raises `Gz2vitError` for a missing file, and for models that have not seen the same galaxies.
    """
    tables: dict[str, pd.DataFrame] = {}
    for key in keys:
        path = require(Path(results_dir) / "models" / key / "predictions.csv", key)
        table = read_predictions(path).set_index("GalaxyID")
        first = next(iter(tables.values()), table)
        if set(table.index) != set(first.index):
            raise Gz2vitError(
                f"{path} is of other galaxies than {keys[0]}'s; run the step '{key}' again"
            )
        tables[key] = table.loc[first.index]
    return tables


def choose_lists(
    selection: Selection,
    predictions: Mapping[str, pd.DataFrame],
    model_key: str,
    count: int,
    seed: int,
    galaxy_ids: Sequence[str] = (),
) -> Lists:
    """Galaxies to look at, by the name of their list; `count` in each, where there are so many.

    `A`, `B`: the paper's Fig. 5, those that are in `selection`, or stand-ins by the predictions of
    `model_key`; `chosen`: `galaxy_ids`; `random`: of the test galaxies; `mistakes`: of which the
    models together (the mean of their probabilities) were most certain; `mergers`: true ones of
    the test set; `classes`: of each class the one that the models together are surest of.
    Raises `Gz2vitError` for a chosen galaxy that is not in the selection.
    """
    everything = set(pd.concat(selection.tables.values()).galaxyID)
    for galaxy_id in map(str, galaxy_ids):
        if galaxy_id not in everything:
            raise Gz2vitError(f"galaxy {galaxy_id} is not among the selected galaxies; name others")
    test = next(iter(predictions.values()))["class"]
    shuffled = test.sample(frac=1, random_state=seed)
    lists = {
        **fig5_lists(everything, predictions[model_key]),
        "chosen": [str(galaxy_id) for galaxy_id in galaxy_ids],
        "random": shuffled.index[:count].tolist(),
        "mergers": shuffled.index[shuffled == MERGER][:count].tolist(),
    }
    mean = sum(table[list(PROBABILITY_COLUMNS)].to_numpy() for table in predictions.values())
    together = pd.DataFrame(mean / len(predictions), index=test.index)
    guess, certainty = together.idxmax(axis=1), together.max(axis=1)
    lists["mistakes"] = _surest(certainty[guess != test], count)
    own = pd.Series(together.to_numpy()[np.arange(len(test)), test], index=test.index)
    surest = (_surest(own[test == index], 1) for index in range(len(CLASS_NAMES)))
    lists["classes"] = [name for names in surest for name in names]
    return {name: ids for name, ids in lists.items() if ids}


def fig5_lists(everything: set[str], predictions: pd.DataFrame) -> Lists:
    """Lists A and B of Fig. 5: the paper's galaxies that are in `everything`, or stand-ins."""
    paper = {
        name: [str(one) for one in ids if str(one) in everything]
        for name, ids in FIG5_GALAXY_IDS.items()
    }
    certainty = predictions[list(PROBABILITY_COLUMNS)].max(axis=1)
    kinds = [
        _surest(certainty[(predictions["class"] == true) & (predictions["pred"] == pred)], 2)
        for true, pred in LIST_A_KINDS
    ]
    mergers = predictions["class"] == MERGER
    right = mergers & (predictions["pred"] == MERGER)
    recognised = _surest(certainty[right], 6)
    others = _surest(certainty[mergers & ~right], 6 - len(recognised))
    stand_ins = {"A": [name for names in kinds for name in names], "B": recognised + others}
    return {name: paper[name] or stand_ins[name] for name in paper}


def _surest(certainty: pd.Series, count: int) -> list[str]:
    """The galaxies of the `count` largest values, largest first."""
    return certainty.sort_values(ascending=False, kind="stable").index[:count].tolist()


def is_papers_list(name: str, galaxy_ids: Sequence[str]) -> bool:
    """Whether list `A` or `B` holds galaxies of the paper's own, not stand-ins."""
    return bool(galaxy_ids) and set(galaxy_ids) <= {str(one) for one in FIG5_GALAXY_IDS[name]}


def read_sample(results_dir: Path | str, lists: Lists) -> Sample:
    """The galaxies of `lists`, each once, with their images from the stores of all splits."""
    wanted = dict.fromkeys(galaxy_id for ids in lists.values() for galaxy_id in ids)
    ids, classes, images = [], [], []
    for split in read_selection(results_dir).tables:
        galaxies = open_split(results_dir, split)
        place = {galaxy_id: row for row, galaxy_id in enumerate(galaxies.store.galaxy_ids)}
        own = [galaxy_id for galaxy_id in wanted if galaxy_id in place]
        rows = np.array([place[galaxy_id] for galaxy_id in own], dtype=int)
        ids += own
        classes.append(galaxies.class_index[rows])
        images.append(galaxies.store.read(rows))
    return Sample(tuple(ids), np.concatenate(classes), np.concatenate(images), lists)


def draw_test_images(results_dir: Path | str, count: int, seed: int) -> np.ndarray:
    """The images of `count` test galaxies (all, if there are fewer), drawn with `seed`: uint8."""
    store = open_split(results_dir, "test").store
    rows = np.random.default_rng(seed).permutation(len(store))[:count]
    return store.read(np.sort(rows))


def write_sample(folder: Path | str, sample: Sample) -> None:
    """Write a sample: `galaxies.npz` (ids, classes, images) and `galaxies.csv` (the lists)."""
    folder = Path(folder)
    with atomic_path(folder / "galaxies.npz") as temporary:
        arrays = {"class_index": sample.class_index, "images": sample.images}
        np.savez_compressed(temporary, galaxy_ids=np.array(sample.galaxy_ids), **arrays)
    rows = [(name, one) for name, ids in sample.lists.items() for one in ids]
    with atomic_path(folder / "galaxies.csv") as temporary:
        pd.DataFrame(rows, columns=["list", "galaxyID"]).to_csv(temporary, index=False)


def load_sample(folder: Path | str) -> Sample:
    """What `write_sample` wrote; `Gz2vitError`, with the step to run, where it is missing."""
    folder = Path(folder)
    table = pd.read_csv(require(folder / "galaxies.csv", "attention"), dtype=str)
    lists = table.groupby("list", sort=False).galaxyID.apply(list).to_dict()
    with np.load(require(folder / "galaxies.npz", "attention"), allow_pickle=False) as arrays:
        ids = tuple(arrays["galaxy_ids"].tolist())
        return Sample(ids, arrays["class_index"], arrays["images"], lists)


# ------------------------------------------------------------------------------------------
# Where each trained model looks in chosen galaxies, on disk, for the figures.

NO_MAP = "no map"


@dataclass(frozen=True)
class GalaxyMaps:
    """Where one model looks in N galaxies; every map float32, its maximum 1 (or 0 throughout).

    `average` (N, g, g): attention rollout with all heads averaged, of a CNN its class activation;
    `heads` (N, H, g, g): rollout of each head alone, H = 0 for a CNN; `of_class` (N, g, g): what
    speaks for the predicted class; `probability` float64 (N, 8); `method`, `class_method`: how
    `average` and `of_class` were made, in words. Of a network that cannot be looked into all maps
    are one cell of 0, and `method` says why.
    """

    average: np.ndarray
    heads: np.ndarray
    of_class: np.ndarray
    probability: np.ndarray
    method: str
    class_method: str

    @property
    def predicted(self) -> np.ndarray:
        """The most probable class of each galaxy, int64 (N,)."""
        return self.probability.argmax(axis=1)

    @property
    def seen(self) -> bool:
        """Whether the network can be looked into."""
        return not self.method.startswith(NO_MAP)


def map_galaxies(model: TrainedModel, images: np.ndarray) -> GalaxyMaps:
    """The maps of `model` for images as the store holds them, uint8 (N, H, W, 3), N from 1 on."""
    prepared = model.prepare(images)
    if why := why_no_map(model.network, prepared):
        empty = np.zeros((len(images), 1, 1), dtype=np.float32)
        words = (f"{NO_MAP}: {why}",) * 2
        return GalaxyMaps(empty, empty[:, :0, None], empty, model.probabilities(images), *words)
    general = gaze(model.network, prepared, batch_size=MAPS_BATCH_SIZE)
    of_class = gaze(model.network, prepared, of_class=True, batch_size=MAPS_BATCH_SIZE)
    side = general.maps.shape[1]
    heads = torch.zeros(len(images), 0, side, side)
    if general.method != CLASS_ACTIVATION:
        heads = torch.cat([_by_head(model, part) for part in prepared.split(MAPS_BATCH_SIZE)])
    arrays = (general.maps.numpy(), heads.numpy(), of_class.maps.numpy())
    return GalaxyMaps(*arrays, model.probabilities(images), general.method, of_class.method)


def _by_head(model: TrainedModel, prepared: torch.Tensor) -> torch.Tensor:
    """Attention rollout of each head alone, (B, H, g, g), on the CPU."""
    attentions = collect_attention(model.network, prepared)
    heads = range(attentions[0].shape[1])
    return torch.stack([attention_rollout(attentions, head).cpu() for head in heads], dim=1)


def write_maps(folder: Path | str, key: str, maps: GalaxyMaps) -> Path:
    """Write the maps of a model to `<folder>/<key>.npz` and return the path."""
    path = Path(folder) / f"{key}.npz"
    with atomic_path(path) as temporary:
        np.savez_compressed(
            temporary, **{one.name: getattr(maps, one.name) for one in fields(maps)}
        )
    return path


def read_maps(folder: Path | str, key: str) -> GalaxyMaps:
    """What `write_maps` wrote; `Gz2vitError`, with the step to run, where it is missing."""
    with np.load(require(Path(folder) / f"{key}.npz", "attention"), allow_pickle=False) as arrays:
        values = {one.name: arrays[one.name] for one in fields(GalaxyMaps)}
    texts = {name: str(values[name]) for name in ("method", "class_method")}
    return GalaxyMaps(**values | texts)


# ------------------------------------------------------------------------------------------
# From samples of galaxies and saved maps to figures (`gz2vit.figures` draws them).

KINDS = {
    "average": "transformers: attention rollout (of a Linformer's absolute effective attention)",
    "of_class": "transformers: attention weighted with the gradient of the predicted class",
}
REST = (
    "CNNs: Grad-CAM for the predicted class, no map where nothing speaks for it; below each map "
    "that class and its probability; white: the galaxy's outline from its own light"
)
NO_GALAXIES = "the test galaxies have none of this kind"


def draw_list(
    sample: Sample,
    name: str,
    maps: Mapping[str, GalaxyMaps],
    data: Mapping[str, Any],
    kind: str = "average",
    colour_map: str = COLOUR_MAP,
) -> Figure:
    """The maps of all models for the galaxies of the list `name`, side by side.

    `kind`: `average` or `of_class`, as in `GalaxyMaps`; `data`: the record of the selection. For a
    list without galaxies a frame that says so.
    """
    rows = sample.rows(name)
    if not len(rows):
        return draw_missing(f"The list '{name}'", NO_GALAXIES, data)
    captions = [caption_of(sample.galaxy_ids[row], sample.class_index[row]) for row in rows]
    shown = {key: getattr(own, kind)[rows] for key, own in maps.items()}
    below = {
        key: [
            f"{CLASS_SHORT_NAMES[own.predicted[row]]} {100 * own.probability[row].max():.0f}%"
            for row in rows
        ]
        for key, own in maps.items()
    }
    words = f"{KINDS[kind]}; {REST}"
    arrays = (sample.images[rows], shown, captions, below)
    return draw_side_by_side(*arrays, data, words, colour_map)


def draw_heads(
    sample: Sample,
    name: str,
    maps: Mapping[str, GalaxyMaps],
    key: str,
    data: Mapping[str, Any],
    colour_map: str = COLOUR_MAP,
) -> Figure:
    """The average and every head's map of the model `key` for the galaxies of a list: Fig. 5.

    Where the model has no heads or no maps, or the list no galaxies, a frame that says so.
    """
    rows = sample.rows(name)
    what = f"Every head of {key} for the list '{name}'"
    if why := _why_not(maps, key, rows):
        return draw_missing(what, why, data)
    own = maps[key]
    captions = [_caption(sample, own, row) for row in rows]
    arrays = (sample.images[rows], own.average[rows], own.heads[rows])
    return draw_fig5(*arrays, captions, data, _origin(sample, name, key, own), colour_map)


def draw_first(
    sample: Sample,
    name: str,
    maps: Mapping[str, GalaxyMaps],
    key: str,
    data: Mapping[str, Any],
    colour_map: str = COLOUR_MAP,
) -> Figure:
    """The first galaxy of a list alone, as the authors print it; else as `draw_heads`."""
    rows = sample.rows(name)
    if why := _why_not(maps, key, rows):
        return draw_missing(f"A galaxy's heads of {key}", why, data)
    row, own = rows[0], maps[key]
    arrays = (sample.images[row], own.average[row], own.heads[row])
    words = _origin(sample, name, key, own)
    return draw_one_galaxy(*arrays, _caption(sample, own, row), data, words, colour_map)


def _why_not(maps: Mapping[str, GalaxyMaps], key: str, rows: Sequence[int]) -> str:
    """Why the heads of a model cannot be drawn; nothing where they can."""
    if key not in maps:
        return f"{key} is not among the mapped models, {', '.join(maps)}; train it, or name another"
    if not maps[key].heads.shape[1]:
        return f"{key} is a CNN and has no attention heads; name a transformer"
    return "" if len(rows) else NO_GALAXIES


def _caption(sample: Sample, maps: GalaxyMaps, row: int) -> str:
    """What stands beside a galaxy: id, true class, predicted class."""
    return caption_of(sample.galaxy_ids[row], sample.class_index[row], maps.predicted[row])


def _origin(sample: Sample, name: str, key: str, maps: GalaxyMaps) -> str:
    """Whose heads these are, how they were followed, and whether the galaxies are the paper's."""
    words = f"{model_name(key)} ({key}), {maps.method}"
    if name not in FIG5_GALAXY_IDS:
        return words
    if is_papers_list(name, sample.lists[name]):
        return f"{words}; the paper's galaxies, as far as this run has them"
    return f"{words}; stand-ins: the paper's galaxies are not in this run"
