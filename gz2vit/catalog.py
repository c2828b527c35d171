"""The data folder: its label tables, its galaxy properties, and the checks before any work.

A data folder holds `images/<galaxyID>.jpg`, one label table for each split
(`gz2_train.csv`, `gz2_valid.csv`, `gz2_test.csv`: `galaxyID,label1[,label2,label3,label4]`) and,
where known, `galaxy_properties.csv` (`galaxyID,petroR90_r,dered_r,dered_g_r`). Simulated,
downloaded and users' own galaxies all take this form. A galaxy's id is text, the stem of its
image's name, so that 64-bit SDSS ids and names such as `NGC1300` serve alike.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gz2vit.io import Gz2vitError, atomic_path, read_json, require, write_json
from gz2vit.paper import CLASS_COUNT, CLASS_NAMES, FIG2_GALAXY_IDS, TUNED_CLASS_WEIGHTS

SPLITS = ("train", "valid", "test")
SIMULATION_RECORD = "simulation.json"  # the simulator leaves it in the folders that it makes
PROPERTY_COLUMNS = ("petroR90_r", "dered_r", "dered_g_r")


@dataclass(frozen=True)
class DataFolder:
    """A data folder whose tables have been read and checked.

    `tables`: for each split a DataFrame with `galaxyID` (text) and `label1` (int, 0 to 7), and
    label2 to label4 where the file has them. `properties`: petroR90_r [arcsec], dered_r [mag] and
    dered_g_r [mag], or None where the folder has no such file.
    """

    path: Path
    tables: Mapping[str, pd.DataFrame]
    properties: pd.DataFrame | None

    def image_path(self, galaxy_id: str) -> Path:
        """Where the image of `galaxy_id` stands."""
        return self.path / "images" / f"{galaxy_id}.jpg"


def read_data_folder(path: Path | str) -> DataFolder:
    """Read the tables of a data folder and check them; the images are not opened.

    Raises `Gz2vitError` for a missing folder, file or column, an unknown class, an id that stands
    twice in a split or in two splits, and an empty split.
    """
    path = Path(path).resolve()
    if not path.is_dir():
        raise Gz2vitError(f"the data folder {path} does not exist; name another with --data DIR")
    tables = {split: read_label_table(path / f"gz2_{split}.csv") for split in SPLITS}
    check_disjoint(tables, path)
    if not (path / "images").is_dir():
        raise Gz2vitError(f"{path / 'images'} does not exist; it must hold <galaxyID>.jpg files")
    return DataFolder(path, tables, read_properties(path / "galaxy_properties.csv"))


def read_label_table(path: Path) -> pd.DataFrame:
    """One split's label table, checked: columns, classes, duplicate ids, not empty."""
    table = _read_csv(path, required=("galaxyID", "label1"))
    if table.empty:
        raise Gz2vitError(f"{path} holds no galaxies; every split needs at least one")
    repeated = table.galaxyID[table.galaxyID.duplicated()]
    if len(repeated):
        raise Gz2vitError(f"{path}: galaxy {repeated.iloc[0]} stands there more than once")
    for column in [name for name in table.columns if name.startswith("label")]:
        table[column] = _class_indices(table, column, path)
    return table


def _class_indices(table: pd.DataFrame, column: str, path: Path) -> pd.Series:
    """A label column as integers; an entry that is not a class index is an error."""
    numbers = pd.to_numeric(table[column], errors="coerce")
    wrong = ~numbers.isin(range(CLASS_COUNT))
    if wrong.any():
        row = table[wrong].iloc[0]
        known = ", ".join(f"{index} {name}" for index, name in enumerate(CLASS_NAMES))
        raise Gz2vitError(
            f"{path}: galaxy {row.galaxyID} has {column} '{row[column]}', "
            f"which is not a class index ({known})"
        )
    return numbers.astype(np.int64)


def _read_csv(path: Path, required: tuple[str, ...]) -> pd.DataFrame:
    """A CSV file as text columns, with its required columns checked."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise Gz2vitError(f"{path} does not exist; a data folder needs it (see README)") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise Gz2vitError(f"{path} is not a readable CSV file: {error}") from error
    missing = [name for name in required if name not in table.columns]
    if missing:
        raise Gz2vitError(f"{path} has no column {missing[0]}; it needs {', '.join(required)}")
    return table


def check_disjoint(tables: Mapping[str, pd.DataFrame], path: Path) -> None:
    """Raise `Gz2vitError` if a galaxy stands in more than one split."""
    owner: dict[str, str] = {}
    for split, table in tables.items():
        shared = [name for name in table.galaxyID if name in owner]
        if shared:
            raise Gz2vitError(
                f"{path}: galaxy {shared[0]} stands in both gz2_{owner[shared[0]]}.csv and "
                f"gz2_{split}.csv ({len(shared)} such galaxies); each may be in one split only"
            )
        owner.update(dict.fromkeys(table.galaxyID, split))


def read_properties(path: Path) -> pd.DataFrame | None:
    """Galaxy properties as floats (NaN where unknown), or None where there is no such file."""
    if not path.exists():
        return None
    table = _read_csv(path, required=("galaxyID", *PROPERTY_COLUMNS))
    for column in PROPERTY_COLUMNS:
        values = pd.to_numeric(table[column].replace("", "nan"), errors="coerce")
        wrong = values.isna() & ~table[column].str.lower().isin(["", "nan"])
        if wrong.any():
            row = table[wrong].iloc[0]
            raise Gz2vitError(f"{path}: {column} of galaxy {row.galaxyID} is '{row[column]}'")
        table[column] = values
    return table


def class_composition(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Galaxies per class (rows, by name) and split (columns), with a last column `all`."""
    counts = {
        split: np.bincount(table.label1, minlength=CLASS_COUNT) for split, table in tables.items()
    }
    composition = pd.DataFrame(counts, index=pd.Index(CLASS_NAMES, name="class_name"))
    return composition.assign(all=composition.sum(axis=1))


def take_subset(tables: Mapping[str, pd.DataFrame], galaxies: int) -> dict[str, pd.DataFrame]:
    """At most `galaxies` galaxies in all, each split and class keeping its share.

    Rows are taken from the top of each class, at least one of each class that a split has, so the
    total can exceed `galaxies` by a few; the order of the table is kept.
    """
    share = min(1.0, galaxies / sum(len(table) for table in tables.values()))
    return {split: _take_share(table, share) for split, table in tables.items()}


def _take_share(table: pd.DataFrame, share: float) -> pd.DataFrame:
    """The first `share` of each class's rows, one at least."""
    rank = table.groupby("label1").cumcount()
    size = table.groupby("label1").label1.transform("size")
    return table[rank < np.maximum(1, np.floor(size * share))].reset_index(drop=True)


def folder_signature(path: Path | str) -> str:
    """A short hash of the names, sizes and times of all files of a data folder.

    It changes when an image is added, removed or rewritten; no file is opened for it, so that
    every run can afford it.
    """
    digest = hashlib.sha256()
    for folder in (Path(path), Path(path) / "images"):
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.is_file():
                    status = entry.stat()
                    row = f"{entry.name}\t{status.st_size}\t{status.st_mtime_ns}\n"
                    digest.update(row.encode())
    return digest.hexdigest()[:16]


# ------------------------------------------------------------------------------------------
# Weights of the loss per class: how much a mistake on a rare galaxy costs.

ClassWeights = str | Sequence[float]


def class_weights(choice: ClassWeights, class_counts: Sequence[int]) -> np.ndarray:
    """The eight weights, float64 (8,), for a training set with `class_counts` (8,) galaxies.

    `choice`: "uniform" (all 1); "tuned" (the paper's, scaled to sum to 8: 0.19 for round
    ellipticals to 3.23 for mergers); "reciprocal" (all galaxies / galaxies of the class, as the
    authors compute it, 4.6 to 73.3 for the paper's sample); or eight positive numbers, used as
    they are. Raises `Gz2vitError` for anything else, and for "reciprocal" with an empty class.
    """
    counts = np.asarray(class_counts, dtype=np.float64)
    if not isinstance(choice, str):
        return _given(choice)
    if choice == "uniform":
        return np.ones(CLASS_COUNT)
    if choice == "tuned":
        weights = np.asarray(TUNED_CLASS_WEIGHTS)
        return weights * CLASS_COUNT / weights.sum()
    if choice == "reciprocal":
        if (counts == 0).any():
            empty = CLASS_NAMES[int(counts.argmin())]
            raise Gz2vitError(f"reciprocal class weights need training galaxies of class '{empty}'")
        return counts.sum() / counts
    raise Gz2vitError(
        f"CLASS_WEIGHTS '{choice}' is not uniform, tuned, reciprocal or a list of {CLASS_COUNT}"
    )


def _given(choice: Sequence[float]) -> np.ndarray:
    """A user's own eight weights, checked."""
    try:
        weights = np.asarray(choice, dtype=np.float64)
    except (TypeError, ValueError):
        weights = np.empty(0)
    if weights.shape != (CLASS_COUNT,) or not np.all(np.isfinite(weights) & (weights > 0)):
        raise Gz2vitError(f"CLASS_WEIGHTS {choice} must be {CLASS_COUNT} positive numbers")
    return weights


# ------------------------------------------------------------------------------------------
# The galaxies of a run: which ones, in which split, from which data folder.
#
# The step `select` writes `selection/gz2_<split>.csv`, `selection/left_out.csv` (galaxies left out
# because their images cannot be read) and `selection/data.json` into the results folder; every later
# step reads its galaxies there.

LEFT_OUT_COLUMNS = ("galaxyID", "split", "class_index", "fault")


@dataclass(frozen=True)
class Selection:
    """The galaxies of a run: label tables by split, where they are from, and who is missing.

    `data` holds `profile`, `folder` (absolute path), `name` (for people: "2,640 galaxies of
    real_gz2"), `simulated`, `signature` (of the folder, at selection), `galaxies` and `left_out` by
    split, and `gone_classes`: by split the names of classes that were left out altogether.
    `left_out`: the galaxies left out, with LEFT_OUT_COLUMNS; None where the run does not allow it.
    """

    tables: Mapping[str, pd.DataFrame]
    data: Mapping[str, Any]
    left_out: pd.DataFrame | None = None


def leave_out(
    tables: Mapping[str, pd.DataFrame], broken: pd.DataFrame
) -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    """`tables` without the galaxies of `broken` (galaxyID, fault), and a table of those.

    The second has LEFT_OUT_COLUMNS. Raises `Gz2vitError` where a split has nothing left.
    """
    faults = broken.set_index("galaxyID").fault
    kept, lost = {}, [pd.DataFrame(columns=list(LEFT_OUT_COLUMNS))]
    for split, table in tables.items():
        out = table.galaxyID.isin(faults.index)
        if out.all():
            raise Gz2vitError(
                f"no image of the {len(table)} galaxies of the split '{split}' can be read, so "
                "that nothing would be left of it; mend the data folder and run again"
            )
        kept[split] = table[~out].reset_index(drop=True)
        rows = table[out].rename(columns={"label1": "class_index"}).assign(split=split)
        lost.append(rows.assign(fault=rows.galaxyID.map(faults))[list(LEFT_OUT_COLUMNS)])
    lost = [part for part in lost if len(part)] or lost[:1]
    return kept, pd.concat(lost, ignore_index=True)


def write_selection(
    results_dir: Path | str,
    folder: DataFolder,
    tables: Mapping[str, pd.DataFrame],
    profile: str,
    left_out: pd.DataFrame | None = None,
) -> Selection:
    """Write the selected `tables` of `folder` into the results folder and return them.

    `left_out`: what `leave_out` returns, where the run leaves galaxies out.
    """
    target = Path(results_dir) / "selection"
    for split, table in tables.items():
        with atomic_path(target / f"gz2_{split}.csv") as temporary:
            table.to_csv(temporary, index=False)
    if left_out is None:
        (target / "left_out.csv").unlink(missing_ok=True)
    else:
        with atomic_path(target / "left_out.csv") as temporary:
            left_out.to_csv(temporary, index=False)
    data = _describe(folder, tables, profile, left_out)
    write_json(target / "data.json", data)
    return Selection(tables, data, left_out)


def _describe(
    folder: DataFolder,
    tables: Mapping[str, pd.DataFrame],
    profile: str,
    left_out: pd.DataFrame | None,
) -> dict[str, Any]:
    """`Selection.data`."""
    simulated = (folder.path / SIMULATION_RECORD).exists()
    total = sum(len(table) for table in tables.values())
    kind = "simulated galaxies" if simulated else f"galaxies of {folder.path.name}"
    missing = left_out if left_out is not None else pd.DataFrame(columns=list(LEFT_OUT_COLUMNS))
    words = f", {len(missing):,} left out: images that cannot be read" if len(missing) else ""
    return {
        "profile": profile,
        "folder": str(folder.path),
        "name": f"{total:,} {kind}{words}",
        "simulated": simulated,
        "signature": folder_signature(folder.path),
        "galaxies": {split: len(table) for split, table in tables.items()},
        "left_out": {split: int((missing.split == split).sum()) for split in tables},
        "gone_classes": _gone_classes(tables, missing),
    }


def _gone_classes(
    tables: Mapping[str, pd.DataFrame], left_out: pd.DataFrame
) -> dict[str, list[str]]:
    """By split, the classes that have galaxies left out and none in the table."""
    gone = {}
    for split, table in tables.items():
        indices = set(left_out.class_index[left_out.split == split]) - set(table.label1)
        gone[split] = [CLASS_NAMES[index] for index in sorted(indices)]
    return gone


def read_selection(results_dir: Path | str) -> Selection:
    """The selection of a results folder; `Gz2vitError` where the step has not run."""
    folder = Path(results_dir) / "selection"
    data = read_json(require(folder / "data.json", "select"))
    tables = {
        split: read_label_table(require(folder / f"gz2_{split}.csv", "select")) for split in SPLITS
    }
    lost = folder / "left_out.csv"
    left_out = None
    if lost.exists():
        left_out = pd.read_csv(lost, dtype={"galaxyID": str}, keep_default_na=False)
    return Selection(tables, data, left_out)


def choose_examples(
    tables: Mapping[str, pd.DataFrame], per_class: int, seed: int
) -> dict[str, list[str]]:
    """Ids of `per_class` galaxies of each class, by class name; fewer where a class has fewer.

    The paper's own (`paper.FIG2_GALAXY_IDS`) if every one of them is among `tables` with the
    class that the paper gives it; otherwise drawn from the test split with `seed`.
    """
    everything = pd.concat(tables.values()).set_index("galaxyID").label1
    published = {
        name: [str(galaxy_id) for galaxy_id in ids[:per_class]]
        for name, ids in zip(CLASS_NAMES, FIG2_GALAXY_IDS, strict=True)
    }
    if all(
        everything.get(galaxy_id) == index
        for index, ids in enumerate(published.values())
        for galaxy_id in ids
    ):
        return published
    shuffled = tables["test"].sample(frac=1, random_state=seed)
    return {
        name: shuffled.galaxyID[shuffled.label1 == index].head(per_class).tolist()
        for index, name in enumerate(CLASS_NAMES)
    }
