"""The data folder: its label tables, its galaxy properties, and the checks before any work.

A data folder holds `images/<galaxyID>.jpg`, one label table for each split
(`gz2_train.csv`, `gz2_valid.csv`, `gz2_test.csv`: `galaxyID,label1[,label2,label3,label4]`) and,
where known, `galaxy_properties.csv` (`galaxyID,petroR90_r,dered_r,dered_g_r`). Simulated,
downloaded and users' own galaxies all take this form. A galaxy's id is text, the stem of its
image's name, so that 64-bit SDSS ids and names such as `NGC1300` serve alike.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from gz2vit.errors import Gz2vitError
from gz2vit.paper import CLASS_COUNT, CLASS_NAMES

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
