"""The galaxies to look at, and where each trained model of a results folder looks in them.

The step `attention` writes `attention/galaxies.{npz,csv}` (the galaxies and the lists that they are
in) and `attention/<key>.npz` (a model's maps); figures and the explorer read them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from gz2vit.attention import (
    BATCH_SIZE,
    CLASS_ACTIVATION,
    attention_rollout,
    attribution_maps,
    collect_attention,
    family_of,
    method_for,
    predict_probabilities,
    rollout_of_heads,
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

NO_MAP = "no map"
ROUND, UNBARRED, MERGER = (
    CLASS_NAMES.index(name) for name in ("Round Elliptical", "Unbarred Spiral", "Merger")
)
# The (true, predicted) classes of list A, as the authors' published predictions have its galaxies.
LIST_A_KINDS = ((UNBARRED, UNBARRED), (ROUND, ROUND), (UNBARRED, ROUND))
Lists = dict[str, list[str]]  # galaxy ids by the list's name


@dataclass(frozen=True)
class TrainedModel:
    """A trained network and how its images are prepared; `key` is the name of its folder."""

    key: str
    classifier: GalaxyClassifier

    @property
    def network(self) -> nn.Module:
        """The network itself, in evaluation mode, on the GPU where there is one."""
        return self.classifier.network

    def prepare(self, images: np.ndarray) -> torch.Tensor:
        """Images of the image cache, uint8 (B, H, W, 3), as the network takes them.

        Float32 (B, 3, h, w) on the network's device: shrunk and normalised as in training.
        """
        own = self.classifier
        small = np.ascontiguousarray(shrink(images, own.settings.image_size))
        pixels = torch.from_numpy(small).to(own.device).permute(0, 3, 1, 2)
        return torch.addcmul(own.shift, pixels.float(), own.scale)


def open_model(results_dir: Path | str, key: str) -> TrainedModel:
    """The trained model of that key, on the GPU where there is one.

    Raises `Gz2vitError` where it is not trained, or its network cannot be built.
    """
    classifier = load_classifier(Path(results_dir) / "models" / key)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return TrainedModel(key, classifier.to(device).eval())


def trained_keys(results_dir: Path | str) -> list[str]:
    """The trained models of a results folder, the paper's first."""
    folder = Path(results_dir) / "models"
    trained = sorted(path.parent.name for path in folder.glob(f"*/{CHECKPOINT}"))
    return [key for key in dict.fromkeys([*PUBLISHED_RESULTS, *trained]) if key in trained]


def open_models(
    results_dir: Path | str, keys: Sequence[str] = ()
) -> tuple[dict[str, TrainedModel], dict[str, str]]:
    """The trained models among `keys` (default: the paper's seven and all others trained).

    Prints them, and one line for each that is left out. The second value: why, for those that are
    trained, but whose network `build_model` does not build (one changed in a notebook, say), or
    whose layers are not known (one registered by the user).
    Raises `Gz2vitError`, with the step to run, where none is left.
    """
    folder, trained = (Path(results_dir) / "models").resolve(), trained_keys(results_dir)
    wanted = list(keys) or list(dict.fromkeys([*PUBLISHED_RESULTS, *trained]))
    models, left_out = {}, {}
    for key in wanted:
        if key not in trained:
            print(f"{key} is left out: not trained yet; run {command_for(folder / key, key)}")
            continue
        try:
            model = open_model(results_dir, key)
            family_of(model.network)
            models[key] = model
        except Gz2vitError as error:
            left_out[key] = str(error)
            print(f"{key} is left out: {error}")
    if not models:
        require(folder / wanted[0] / CHECKPOINT, wanted[0])
        raise Gz2vitError(next(iter(left_out.values())))
    print(f"{len(models)} models: {', '.join(models)}")
    return models, left_out


# ------------------------------------------------------------------------------------------
# The galaxies


@dataclass(frozen=True)
class Sample:
    """Galaxies with their images.

    `galaxy_ids` (N,); `class_index` int64 (N,), their true classes; `images` uint8 (N, H, W, 3),
    from the image cache; `lists`: names of lists and their galaxies, any number of times.
    """

    galaxy_ids: tuple[str, ...]
    class_index: np.ndarray
    images: np.ndarray
    lists: Lists

    def rows(self, name: str) -> np.ndarray:
        """The rows of the galaxies of a list, int64; none for a list that does not exist."""
        place = {galaxy_id: row for row, galaxy_id in enumerate(self.galaxy_ids)}
        return np.array([place[galaxy_id] for galaxy_id in self.lists.get(name, [])], dtype=int)


def read_all_predictions(results_dir: Path | str, keys: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The test predictions of trained models, indexed by galaxy id, in one order.

    Raises `Gz2vitError` for a missing file, and for models tested on different galaxies.
    """
    tables: dict[str, pd.DataFrame] = {}
    for key in keys:
        path = require(Path(results_dir) / "models" / key / "predictions.csv", key)
        table = read_predictions(path).set_index("GalaxyID")
        first = next(iter(tables.values()), table)
        if set(table.index) != set(first.index):
            raise Gz2vitError(
                f"{path} has other galaxies than {keys[0]}'s; run the step '{key}' again"
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

    `A`, `B`: the paper's Fig. 5, those that are in `selection`, or, where none is, stand-ins of the
    same kinds by the predictions of `model_key`: for A six of the kinds `LIST_A_KINDS`, for B six
    mergers; `chosen`: `galaxy_ids`; `random`: of the test galaxies; `mistakes`: those of which the
    models together (the mean of their probabilities) were most certain; `mergers`: true ones of
    the test set; `classes`: for each class the galaxy that the models together are surest of.
    Raises `Gz2vitError` for a chosen galaxy that is not in the selection.
    """
    everything = set(pd.concat(selection.tables.values()).galaxyID)
    chosen = [str(galaxy_id) for galaxy_id in galaxy_ids]
    for galaxy_id in chosen:
        if galaxy_id not in everything:
            raise Gz2vitError(f"galaxy {galaxy_id} is not among the selected galaxies; name others")

    own = predictions[model_key]
    true, pred, certainty = own["class"], own["pred"], own[list(PROBABILITY_COLUMNS)].max(axis=1)
    kinds = [_surest(certainty[(true == a) & (pred == b)], 2) for a, b in LIST_A_KINDS]
    recognised = _surest(certainty[(true == MERGER) & (pred == MERGER)], 6)
    others = _surest(certainty[(true == MERGER) & (pred != MERGER)], 6 - len(recognised))
    stand_ins = {"A": [name for names in kinds for name in names], "B": recognised + others}
    papers = {
        name: [str(one) for one in ids if str(one) in everything]
        for name, ids in FIG5_GALAXY_IDS.items()
    }

    test = next(iter(predictions.values()))["class"]
    shuffled = test.sample(frac=1, random_state=seed)
    lists = {name: papers[name] or stand_ins[name] for name in papers} | {
        "chosen": chosen,
        "random": shuffled.index[:count].tolist(),
        "mergers": shuffled.index[shuffled == MERGER][:count].tolist(),
    }
    mean = sum(table[list(PROBABILITY_COLUMNS)].to_numpy() for table in predictions.values())
    together = pd.DataFrame(mean / len(predictions), index=test.index)
    guess, certainty = together.idxmax(axis=1), together.max(axis=1)
    lists["mistakes"] = _surest(certainty[guess != test], count)
    of_true = pd.Series(together.to_numpy()[np.arange(len(test)), test], index=test.index)
    lists["classes"] = [
        name for index in range(len(CLASS_NAMES)) for name in _surest(of_true[test == index], 1)
    ]
    return {name: ids for name, ids in lists.items() if ids}


def _surest(certainty: pd.Series, count: int) -> list[str]:
    """The galaxies of the `count` largest values, largest first."""
    return certainty.sort_values(ascending=False, kind="stable").index[:count].tolist()


def read_sample(results_dir: Path | str, lists: Lists) -> Sample:
    """The galaxies of `lists`, each once, with their images from all splits."""
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
    table = pd.read_csv(
        require(folder / "galaxies.csv", "attention"), dtype=str, keep_default_na=False
    )
    lists = table.groupby("list", sort=False).galaxyID.apply(list).to_dict()
    with np.load(require(folder / "galaxies.npz", "attention"), allow_pickle=False) as arrays:
        ids = tuple(arrays["galaxy_ids"].tolist())
        return Sample(ids, arrays["class_index"], arrays["images"], lists)


# ------------------------------------------------------------------------------------------
# Their maps


@dataclass(frozen=True)
class GalaxyMaps:
    """Where one model looks in N galaxies; every map float32, its maximum 1 (or 0 throughout).

    `average` (N, g, g): attention rollout with all heads averaged, of a CNN its class activation;
    `heads` (N, H, g, g): rollout of each head alone, H = 0 for a CNN; `of_class` (N, g, g): what
    speaks for the predicted class; `probability` float64 (N, 8); `method`, `class_method`: how
    `average` and `of_class` were made. Of a network that has no maps they are one cell of 0, and
    `method` gives the reason.
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
        """Whether the network has maps."""
        return not self.method.startswith(NO_MAP)


def map_galaxies(model: TrainedModel, images: np.ndarray) -> GalaxyMaps:
    """The maps of `model` for images of the image cache, uint8 (N, H, W, 3), N at least 1."""
    network, prepared = model.network, model.prepare(images)
    probability = predict_probabilities(network, prepared)
    classes = torch.from_numpy(probability.argmax(axis=1))
    try:
        of_class = attribution_maps(network, prepared, classes, of_class=True)
        if method_for(network) == CLASS_ACTIVATION:
            average, heads = of_class, of_class[:, None][:, :0]
        else:
            parts = []
            for part in prepared.split(BATCH_SIZE):
                seen = collect_attention(network, part)
                parts.append((attention_rollout(seen).cpu(), rollout_of_heads(seen).cpu()))
            average, heads = map(torch.cat, zip(*parts, strict=True))
    except Gz2vitError as error:
        return no_maps(str(error), probability)
    arrays = (one.numpy() for one in (average, heads, of_class))
    return GalaxyMaps(*arrays, probability, method_for(network), method_for(network, True))


def no_maps(why: str, probability: np.ndarray) -> GalaxyMaps:
    """The maps of a network that has none, with the reason; `probability` (N, 8)."""
    empty = np.zeros((len(probability), 1, 1), dtype=np.float32)
    words = (f"{NO_MAP}: {why}",) * 2
    return GalaxyMaps(empty, empty[:, :0, None], empty, probability, *words)


def write_maps(folder: Path | str, key: str, maps: GalaxyMaps) -> Path:
    """Write the maps of a model to `<folder>/<key>.npz` and return the path."""
    path = Path(folder) / f"{key}.npz"
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **vars(maps))
    return path


def read_maps(folder: Path | str, key: str) -> GalaxyMaps:
    """What `write_maps` wrote; `Gz2vitError`, with the step to run, where it is missing."""
    with np.load(require(Path(folder) / f"{key}.npz", "attention"), allow_pickle=False) as arrays:
        values = {one.name: arrays[one.name] for one in fields(GalaxyMaps)}
    texts = {name: str(values[name]) for name in ("method", "class_method")}
    return GalaxyMaps(**values | texts)


# ------------------------------------------------------------------------------------------
# Samples and maps as figures

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
    shown, below = {}, {}
    for key, own in maps.items():
        shown[key] = getattr(own, kind)[rows]
        names = (CLASS_SHORT_NAMES[index] for index in own.predicted[rows])
        certainty = 100 * own.probability[rows].max(axis=1)
        below[key] = [f"{a} {b:.0f}%" for a, b in zip(names, certainty, strict=True)]
    words = f"{KINDS[kind]}; {REST}"
    return draw_side_by_side(sample.images[rows], shown, captions, below, data, words, colour_map)


def draw_heads(
    sample: Sample,
    name: str,
    maps: Mapping[str, GalaxyMaps],
    key: str,
    data: Mapping[str, Any],
    colour_map: str = COLOUR_MAP,
    first: bool = False,
) -> Figure:
    """The average and every head's map of the model `key` for the galaxies of a list: Fig. 5.

    `first`: of its first galaxy alone, large, as the authors print it. Where the model has no heads
    or no maps, or the list no galaxies, a frame that says so.
    """
    rows = sample.rows(name)
    why = "" if len(rows) else NO_GALAXIES
    if key not in maps:
        why = f"{key} is not among the mapped models, {', '.join(maps)}; train it, or name another"
    elif not maps[key].heads.shape[1]:
        why = f"{key} is a CNN and has no attention heads; name a transformer"
    if why:
        what = f"A galaxy's heads of {key}" if first else f"Every head of {key} for list '{name}'"
        return draw_missing(what, why, data)
    own, words = maps[key], f"{model_name(key)} ({key}), {maps[key].method}"
    if name in FIG5_GALAXY_IDS:
        papers = set(sample.lists[name]) <= {str(one) for one in FIG5_GALAXY_IDS[name]}
        words += (
            "; the paper's galaxies, as far as this run has them"
            if papers
            else "; stand-ins: the paper's galaxies are not in this run"
        )
    captions = [
        caption_of(sample.galaxy_ids[row], sample.class_index[row], own.predicted[row])
        for row in rows
    ]
    shown = [part[rows] for part in (sample.images, own.average, own.heads)] + [captions]
    if first:
        return draw_one_galaxy(*(part[0] for part in shown), data, words, colour_map)
    return draw_fig5(*shown, data, words, colour_map)
