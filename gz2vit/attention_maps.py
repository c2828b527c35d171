"""The galaxies to look at, and where each trained model of a results folder looks in them.

The step `attention` writes `attention/galaxies.{npz,csv}` (the galaxies and the lists that they are
in) and `attention/<key>.npz` (a model's maps); figures and the explorer read them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from gz2vit.attention import attribution_maps, family_of, methods_of, predict_probabilities
from gz2vit.batches import shrink
from gz2vit.catalog import Selection, read_selection
from gz2vit.evaluation import PROBABILITY_COLUMNS, read_predictions
from gz2vit.images import open_split
from gz2vit.io import CHECKPOINT, Gz2vitError, atomic_path, command_for, require
from gz2vit.models import use_onednn
from gz2vit.paper import CLASS_COUNT, CLASS_NAMES, FIG5_GALAXY_IDS, PUBLISHED_RESULTS
from gz2vit.training import GalaxyClassifier, load_classifier

NO_MAP = "no map"
ROUND, UNBARRED, MERGER = (
    CLASS_NAMES.index(name) for name in ("Round Elliptical", "Unbarred Spiral", "Merger")
)
# The (true, predicted) classes of list A, as the authors' published predictions have its galaxies.
LIST_A_KINDS = ((UNBARRED, UNBARRED), (ROUND, ROUND), (UNBARRED, ROUND))


@dataclass(frozen=True)
class TrainedModel:
    """A trained network and how its images are prepared; `key` is the name of its folder."""

    key: str
    classifier: GalaxyClassifier

    @property
    def network(self) -> nn.Module:
        """The network itself."""
        return self.classifier.network

    def prepare(self, images: np.ndarray) -> torch.Tensor:
        """Images of the image cache, uint8 (B, H, W, 3), as in training: float32 (B, 3, h, w)."""
        own = self.classifier
        small = np.ascontiguousarray(shrink(images, own.settings.image_size))
        pixels = torch.from_numpy(small).to(own.device).permute(0, 3, 1, 2)
        return torch.addcmul(own.shift, pixels.float(), own.scale)


def open_model(results_dir: Path | str, key: str) -> TrainedModel:
    """A trained model, on the GPU where there is one, in evaluation mode."""
    classifier = load_classifier(Path(results_dir) / "models" / key)
    use_onednn(classifier.network)
    return TrainedModel(key, classifier.to("cuda" if torch.cuda.is_available() else "cpu").eval())


def trained_keys(results_dir: Path | str) -> list[str]:
    """The trained models of a results folder, the paper's first."""
    trained = sorted(path.parent.name for path in Path(results_dir).glob(f"models/*/{CHECKPOINT}"))
    return [key for key in dict.fromkeys([*PUBLISHED_RESULTS, *trained]) if key in trained]


def open_models(
    results_dir: Path | str, keys: Sequence[str] = ()
) -> tuple[dict[str, TrainedModel], dict[str, str]]:
    """The trained models among `keys` (default: the paper's seven and all others trained).

    The second value: why, for those trained whose network `build_model` does not build (one changed
    in a notebook, say) or whose layers are not known. Prints who is left out; `Gz2vitError` where
    none is left.
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


@dataclass(frozen=True)
class Sample:
    """Galaxies: ids and classes (N,), images uint8 (N, H, W, 3); ids by their list's name."""

    galaxy_ids: tuple[str, ...]
    class_index: np.ndarray
    images: np.ndarray
    lists: dict[str, list[str]]

    def rows(self, name: str) -> np.ndarray:
        """The rows of the galaxies of a list, int64; none for a list that does not exist."""
        place = pd.Series(range(len(self.galaxy_ids)), index=self.galaxy_ids)
        return place.loc[self.lists.get(name, [])].to_numpy()


def read_all_predictions(results_dir: Path | str, keys: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The test predictions of models, by galaxy id, all in one order."""
    tables: dict[str, pd.DataFrame] = {}
    for key in keys:
        path = require(Path(results_dir) / "models" / key / "predictions.csv", key)
        table = read_predictions(path).set_index("GalaxyID")
        first = next(iter(tables.values()), table)
        if set(table.index) != set(first.index):
            words = f"{path} has other galaxies than {keys[0]}'s"
            raise Gz2vitError(f"{words}; run the step '{key}' again")
        tables[key] = table.loc[first.index]
    return tables


def choose_lists(
    selection: Selection, predictions: Mapping[str, pd.DataFrame], model_key: str,
    count: int, seed: int, galaxy_ids: Sequence[str] = (),
) -> dict[str, list[str]]:  # fmt: skip
    """Galaxies to look at, by the name of their list; `count` in each, where there are so many.

    `A`, `B`: the paper's Fig. 5, or stand-ins of the same kinds by the predictions of `model_key`;
    `chosen`: `galaxy_ids`; `random`, `mergers`: of the test galaxies; `mistakes`: those of which
    the models together (their mean probability) were most certain; `classes`: of each class the
    galaxy they are surest of.
    """

    def surest(certainty: pd.Series, most: int) -> list[str]:
        return certainty.sort_values(ascending=False, kind="stable").index[:most].tolist()

    everything = set(pd.concat(selection.tables.values()).galaxyID)
    chosen = [str(galaxy_id) for galaxy_id in galaxy_ids]
    if unknown := [one for one in chosen if one not in everything]:
        raise Gz2vitError(f"galaxy {unknown[0]} is not among the selected galaxies; name others")

    own, columns = predictions[model_key], list(PROBABILITY_COLUMNS)
    true, pred, certainty = own["class"], own["pred"], own[columns].max(axis=1)
    kinds = [surest(certainty[(true == a) & (pred == b)], 2) for a, b in LIST_A_KINDS]
    recognised = surest(certainty[(true == MERGER) & (pred == MERGER)], 6)
    others = surest(certainty[(true == MERGER) & (pred != MERGER)], 6 - len(recognised))
    stand_ins = {"A": sum(kinds, []), "B": recognised + others}
    lists = {
        name: [str(one) for one in ids if str(one) in everything] or stand_ins[name]
        for name, ids in FIG5_GALAXY_IDS.items()
    }

    test = next(iter(predictions.values()))["class"]
    shuffled = test.sample(frac=1, random_state=seed)
    mean = sum(table[columns].to_numpy() for table in predictions.values()) / len(predictions)
    wrong = mean.argmax(axis=1) != test
    of_true = pd.Series(mean[np.arange(len(test)), test], index=test.index)
    lists |= {
        "chosen": chosen,
        "random": shuffled.index[:count].tolist(),
        "mergers": shuffled.index[shuffled == MERGER][:count].tolist(),
        "mistakes": surest(pd.Series(mean.max(axis=1), index=test.index)[wrong], count),
        "classes": sum((surest(of_true[test == one], 1) for one in range(CLASS_COUNT)), []),
    }
    return {name: ids for name, ids in lists.items() if ids}


def read_sample(results_dir: Path | str, lists: dict[str, list[str]]) -> Sample:
    """The galaxies of `lists`, each once, with their images from all splits."""
    wanted = list(dict.fromkeys(sum(lists.values(), [])))
    ids, classes, images = [], [], []
    for split in read_selection(results_dir).tables:
        galaxies = open_split(results_dir, split)
        rows = pd.Index(galaxies.cache.galaxy_ids).get_indexer(wanted)  # -1: of another split
        rows = rows[rows >= 0]
        ids += [galaxies.cache.galaxy_ids[row] for row in rows]
        classes.append(galaxies.class_index[rows])
        images.append(galaxies.cache.read(rows))
    return Sample(tuple(ids), np.concatenate(classes), np.concatenate(images), lists)


def draw_test_images(results_dir: Path | str, count: int, seed: int) -> np.ndarray:
    """The images of `count` test galaxies at most, drawn with `seed`: uint8 (N, H, W, 3)."""
    cache = open_split(results_dir, "test").cache
    rows = np.random.default_rng(seed).permutation(len(cache))[:count]
    return cache.read(np.sort(rows))


def write_sample(folder: Path | str, sample: Sample) -> None:
    """Write a sample: `galaxies.npz` (ids, classes, images) and `galaxies.csv` (the lists)."""
    folder = Path(folder)
    arrays = {name: vars(sample)[name] for name in ("galaxy_ids", "class_index", "images")}
    with atomic_path(folder / "galaxies.npz") as temporary:
        np.savez_compressed(temporary, **arrays)
    rows = [(name, one) for name, ids in sample.lists.items() for one in ids]
    with atomic_path(folder / "galaxies.csv") as temporary:
        pd.DataFrame(rows, columns=["list", "galaxyID"]).to_csv(temporary, index=False)


def load_sample(folder: Path | str) -> Sample:
    """What `write_sample` wrote; `Gz2vitError`, with the step to run, where it is missing."""
    table, arrays = (require(Path(folder) / f"galaxies.{k}", "attention") for k in ("csv", "npz"))
    lists = pd.read_csv(table, dtype=str, keep_default_na=False).groupby("list", sort=False)
    with np.load(arrays, allow_pickle=False) as own:
        ids, images = tuple(own["galaxy_ids"].tolist()), own["images"]
        return Sample(ids, own["class_index"], images, lists.galaxyID.apply(list).to_dict())


@dataclass(frozen=True)
class GalaxyMaps:
    """Where one model looks in N galaxies; every map float32, its maximum 1 (or 0 throughout)."""

    average: np.ndarray  # (N, g, g): rollout with all heads averaged, of a CNN `of_class`
    heads: np.ndarray  # (N, H, g, g): of each head alone, H = 0 for a CNN
    of_class: np.ndarray  # (N, g, g): what speaks for the predicted class
    probability: np.ndarray  # float64 (N, 8)
    method: str  # how `average` was made, or why there is no map, which then is a cell of 0
    class_method: str  # how `of_class` was made

    @property
    def seen(self) -> bool:
        """Whether the network has maps."""
        return not self.method.startswith(NO_MAP)


def map_galaxies(model: TrainedModel, images: np.ndarray) -> GalaxyMaps:
    """The maps of `model` for images of the image cache, uint8 (N, H, W, 3), N at least 1."""
    prepared, methods = model.prepare(images), methods_of(model.network)
    probability = predict_probabilities(model.network, prepared)
    try:
        maps = attribution_maps(model.network, prepared, torch.from_numpy(probability.argmax(1)))
    except Gz2vitError as error:
        return no_maps(str(error), probability)
    of_class = maps["class"].numpy()
    average = maps.get("attention", maps["class"]).numpy()
    heads = maps["heads"].numpy() if "heads" in maps else of_class[:, None][:, :0]
    method = methods.get("attention", methods["class"])
    return GalaxyMaps(average, heads, of_class, probability, method, methods["class"])


def no_maps(why: str, probability: np.ndarray) -> GalaxyMaps:
    """The maps of a network that has none, with the reason; `probability` (N, 8)."""
    empty = np.zeros((len(probability), 1, 1), dtype=np.float32)
    why = f"{NO_MAP}: {why}"
    return GalaxyMaps(empty, empty[:, :0, None], empty, probability, why, why)


def write_maps(folder: Path | str, key: str, maps: GalaxyMaps) -> None:
    """Write the maps of a model to `<folder>/<key>.npz`."""
    with atomic_path(Path(folder) / f"{key}.npz") as temporary:
        np.savez_compressed(temporary, **vars(maps))


def read_maps(folder: Path | str, key: str) -> GalaxyMaps:
    """What `write_maps` wrote; `Gz2vitError`, with the step to run, where it is missing."""
    with np.load(require(Path(folder) / f"{key}.npz", "attention"), allow_pickle=False) as arrays:
        values = {one.name: arrays[one.name] for one in fields(GalaxyMaps)}
    return GalaxyMaps(**{k: v if v.ndim else str(v) for k, v in values.items()})
