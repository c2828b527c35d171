"""Which galaxies to look at: the paper's, chosen ones, a random batch, mistakes, mergers.

A list of the paper's Fig. 5 whose images are not there has a stand-in of the same kind: of list A
six test galaxies that are round ellipticals, unbarred spirals, and unbarred spirals taken for
round ellipticals, two of each; of list B six mergers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from gz2vit.data import open_split
from gz2vit.errors import Gz2vitError
from gz2vit.evaluation import PROBABILITY_COLUMNS, read_predictions
from gz2vit.paper import CLASS_NAMES, FIG5_GALAXY_IDS
from gz2vit.results import atomic_path, require
from gz2vit.selection import Selection, read_selection

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
