"""The galaxies: label tables, properties, what identifies a data folder, a run's selection.

A data folder holds `images/<galaxyID>.jpg` (or .jpeg, .png), one label table per split
(`gz2_train.csv`, `gz2_valid.csv`, `gz2_test.csv`: `galaxyID,label1[,label2,label3,label4]`) and,
where known, `galaxy_properties.csv` (`galaxyID,petroR90_r,dered_r,dered_g_r`). Simulated,
downloaded and users' own galaxies all take this form. A galaxy's id is text, the stem of its
image's name, so that 64-bit SDSS ids and names such as `NGC1300` both work.
"""

import csv
import gzip
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gz2vit.io import Gz2vitError, atomic_path, read_json, require, write_json
from gz2vit.paper import CLASS_COUNT, CLASS_NAMES, FIG2_GALAXY_IDS, TUNED_CLASS_WEIGHTS

SPLITS = ("train", "valid", "test")
SIMULATION_RECORD = "simulation.json"  # the simulator leaves it in the folders that it makes
LABEL_COLUMNS = ("label1", "label2", "label3", "label4")
PROPERTY_COLUMNS = ("petroR90_r", "dered_r", "dered_g_r")
MISSING = (-9999.0, -999.0)  # SDSS's and the Galaxy Zoo catalogues' marks for a missing value
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
LEFT_OUT_COLUMNS = ("galaxyID", "split", "class_index", "fault")

SEPARATORS = (",", ";", "\t", "|", r"\s+")
EXACT = 2**53  # up to here a floating-point number holds every integer
EXCEL_DIGITS = 15


# ---- Tables that people hand in


def read_table(
    path: Path | str,
    required: Sequence[str],
    id_column: str = "galaxyID",
    optional: Sequence[str] = (),
) -> pd.DataFrame:
    """Columns of a CSV table as text: `id_column`, `required`, and `optional` where present.

    Accepts what catalogues, spreadsheets and TOPCAT write: a byte order mark, `#` lines before the
    header or before its names, other separators, other capitals, a comma at the end of each line,
    ids as `123.0` or `123.jpg`. Raises `Gz2vitError` for a file that cannot be read, a missing
    column or value, and ids that have lost digits.
    """
    path, wanted = Path(path), (id_column, *required)
    with _open_text(path) as stream:
        header, separator, names = _find_header(path, stream, wanted)
        columns = _find_columns(path, names, wanted, optional)
        rows = _check_lines(path, stream, header, separator, len(names))
    with _open_text(path) as stream:
        table = pd.read_csv(
            stream,
            sep=separator,
            header=None,
            skiprows=header,
            skip_blank_lines=False,
            names=range(len(names)),
            usecols=list(columns.values()),  # with it a comma at each line's end shifts nothing
            dtype=str,
            keep_default_na=False,
        ) if rows else pd.DataFrame(columns=range(len(names)), dtype=str)  # fmt: skip
    table.index += header + 1  # the number of each row's line
    table = table[list(columns.values())].set_axis(list(columns), axis=1).fillna("")
    table = table[(table != "").any(axis=1) & ~table[id_column].str.startswith("#")]
    for column in columns:
        table[column] = table[column].str.strip()
        if separator == ";" and column != id_column:  # where commas are decimal points
            table[column] = table[column].str.replace(r"^(-?\d+),(\d+)$", r"\1.\2", regex=True)
    table[id_column] = read_ids(table[id_column], path)
    return table.reset_index(drop=True)


def read_header(path: Path | str, wanted: Sequence[str]) -> list[str]:
    """The names in the header of a CSV table that has some of the columns `wanted`."""
    with _open_text(Path(path)) as stream:
        return _find_header(Path(path), stream, wanted)[2]


@contextmanager
def _open_text(path: Path) -> Iterator[Any]:
    """The file as text; UTF-16, as Excel's "Unicode text", by its byte order mark."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as stream:
            wide = stream.read(2) in (b"\xff\xfe", b"\xfe\xff")
        with opener(path, "rt", encoding="utf-16" if wide else "utf-8-sig", newline=None) as stream:
            yield stream
    except OSError as error:
        raise Gz2vitError(f"cannot read {path}: {error.strerror or error}") from error
    except (pd.errors.ParserError, UnicodeError, EOFError, csv.Error) as error:
        raise Gz2vitError(f"{path} is not a readable CSV file: {error}") from error


def _find_header(path: Path, stream: Any, wanted: Sequence[str]) -> tuple[int, str, list[str]]:
    """The number of the header's line (from 1), the separator, and the names."""
    for number, line in enumerate(stream, 1):
        text = line.strip("# \t\r\n")
        known = [_plain(name) in _plain(text) for name in wanted]
        # A `#` line is the header if it holds the names; `sep=;` is a hint to Excel.
        if not text or text.startswith("sep=") or (line.startswith("#") and not all(known)):
            continue
        splits = {separator: _split(text, separator) for separator in SEPARATORS}
        separator = max(
            splits, key=lambda s: len(set(map(_plain, wanted)) & set(map(_plain, splits[s])))
        )
        names = splits[separator]
        return number, separator, names if names[-1] else names[:-1]
    raise Gz2vitError(f"{path} is empty; it needs a header with {', '.join(wanted)}")


def _check_lines(path: Path, stream: Any, header: int, separator: str, columns: int) -> int:
    """The number of lines; `Gz2vitError` for one with more or fewer values than the header."""
    number = header
    for number, line in enumerate(stream, header + 1):
        if line.count(separator) == columns - 1 or '"' in line or line.startswith("#"):
            continue
        values = _split(line.strip("\r\n"), separator)
        while len(values) > columns and not values[-1]:
            values.pop()
        if len(values) != columns and any(values):
            raise Gz2vitError(
                f"{path}, line {number} has {len(values)} values, the header in line {header} has "
                f"{columns} names"
            )
    return number - header


def _split(text: str, separator: str) -> list[str]:
    """The values of a line."""
    if separator == r"\s+":
        return text.split()
    return [name.strip() for name in next(csv.reader([text], delimiter=separator), [])]


def _plain(name: str) -> str:
    """A column's name without capitals, spaces and underscores."""
    return re.sub(r"[\W_]", "", name).lower()


def _find_columns(
    path: Path, names: Sequence[str], wanted: Sequence[str], optional: Sequence[str]
) -> dict[str, int]:
    """Where the wanted columns are; written exactly so, or but for capitals and underscores."""
    columns = {}
    for name in dict.fromkeys([*wanted, *optional]):
        places = [place for place, found in enumerate(names) if found == name]
        places = places or [p for p, found in enumerate(names) if _plain(found) == _plain(name)]
        if len(places) > 1:
            raise Gz2vitError(f"{path} has {len(places)} columns '{name}'; remove all but one")
        if places:
            columns[name] = places[0]
        elif name in wanted:
            found = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
            raise Gz2vitError(f"{path} has no column '{name}'; its header is: {found}")
    return columns


def read_ids(ids: pd.Series, path: Path) -> pd.Series:
    """Ids as they were meant; `Gz2vitError` where a spreadsheet or a float has rounded them."""
    ids = ids.str.replace(r"^=?[\"'](.*?)[\"']?$", r"\1", regex=True)  # ="587...", '587...
    ids = ids.str.replace(r"(?i)\.(jpe?g|png)$", "", regex=True)
    ids = ids.str.replace(r"^(\d+)\.0*$", r"\1", regex=True)
    if (ids == "").any():
        raise Gz2vitError(f"{path}, line {ids.index[ids == ''][0]} has no galaxy id")
    for line, text in ids[ids.str.fullmatch(r"\d+(\.\d+[eE]\+?|[eE]\+)\d+")].items():
        digits, exponent = re.split("[eE]", text)
        if float(text) >= EXACT or len(digits.partition(".")[2]) < int(exponent):
            raise Gz2vitError(
                f"{path}, line {line}: the id {text} was rounded by a spreadsheet or a program "
                "that took it for a number; export the table again with its ids as text"
            )
        ids[line] = str(int(float(text)))
    long = [text for text in ids if len(text) > EXCEL_DIGITS and text.isdecimal()]
    as_float = all(int(text) == int(float(text)) for text in long)
    as_excel = all(text.endswith("0" * (len(text) - EXCEL_DIGITS)) for text in long)
    if len(set(long)) > 2 and int(max(long, key=int)) > EXACT and (as_float or as_excel):
        raise Gz2vitError(
            f"{path}: the ids, such as {long[0]}, were rounded by a program that took them for "
            "numbers; export the table again with its ids as text"
        )
    return ids


# ---- The data folder


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

    @cached_property
    def image_files(self) -> Mapping[str, Sequence[str]]:
        """The names of the files in `images/`, by stem."""
        files = defaultdict(list)
        for name in _list_folder(self.path / "images"):
            files[os.path.splitext(name)[0]].append(name)
        return files

    def image_path(self, galaxy_id: str) -> Path:
        """The image file of `galaxy_id`, `<galaxy_id>.jpg` where there is none.

        Raises `Gz2vitError` where there are two. A file of another format is returned, so that
        decoding it gives the reason why it is refused.
        """
        others = self.image_files.get(galaxy_id, ())
        names = [name for name in others if name.lower().endswith(IMAGE_SUFFIXES)] or others
        if len(names) > 1:
            raise Gz2vitError(
                f"galaxy {galaxy_id} has several images in {self.path / 'images'}: "
                f"{', '.join(sorted(names))}; keep one"
            )
        return self.path / "images" / (names[0] if names else f"{galaxy_id}.jpg")


def read_data_folder(path: Path | str) -> DataFolder:
    """Read the tables of a data folder and check them; the images are not opened.

    Raises `Gz2vitError` for a missing folder, file or column, an unknown class, an id that occurs
    twice in a split or in two splits, and an empty split.
    """
    path = Path(os.path.realpath(os.path.expanduser(path)))
    _list_folder(path)
    tables = {split: read_label_table(path / f"gz2_{split}.csv") for split in SPLITS}
    check_disjoint(tables, path)
    folder = DataFolder(path, tables, read_properties(path / "galaxy_properties.csv"))
    _ = folder.image_files
    return folder


def _list_folder(path: Path) -> list[str]:
    """The names in a folder; names that are not UTF-8 included, by surrogate escapes."""
    try:
        return os.listdir(path)
    except OSError as error:
        raise Gz2vitError(
            f"cannot read the folder {path}: {error.strerror}; a data folder has the form that "
            "the README describes, set it with --data DIR"
        ) from error


def read_label_table(path: Path) -> pd.DataFrame:
    """One split's label table, checked: columns, classes, duplicate ids, not empty."""
    table = read_table(path, LABEL_COLUMNS[:1], optional=LABEL_COLUMNS[1:])
    if table.empty:
        raise Gz2vitError(f"{path} holds no galaxies; every split needs at least one")
    repeated = table.galaxyID[table.galaxyID.duplicated()]
    if len(repeated):
        raise Gz2vitError(f"{path}: galaxy {repeated.iloc[0]} occurs more than once")
    for column in table.columns[1:]:
        numbers = pd.to_numeric(table[column], errors="coerce")
        wrong = ~numbers.isin(range(CLASS_COUNT))
        if wrong.any():
            row = table[wrong].iloc[0]
            known = ", ".join(f"{index} {name}" for index, name in enumerate(CLASS_NAMES))
            raise Gz2vitError(
                f"{path}: galaxy {row.galaxyID} has {column} '{row[column]}', "
                f"which is not a class index ({known})"
            )
        table[column] = numbers.astype(np.int64)
    return table


def check_disjoint(tables: Mapping[str, pd.DataFrame], path: Path) -> None:
    """Raise `Gz2vitError` if a galaxy is in more than one split."""
    owner: dict[str, str] = {}
    for split, table in tables.items():
        shared = [name for name in table.galaxyID if name in owner]
        if shared:
            raise Gz2vitError(
                f"{path}: galaxy {shared[0]} is in both gz2_{owner[shared[0]]}.csv and "
                f"gz2_{split}.csv ({len(shared)} such galaxies); each may be in one split only"
            )
        owner.update(dict.fromkeys(table.galaxyID, split))


def read_properties(path: Path) -> pd.DataFrame | None:
    """Galaxy properties as floats (NaN where unknown), or None where there is no such file."""
    if not path.exists():
        return None
    table = read_table(path, PROPERTY_COLUMNS)
    for column in PROPERTY_COLUMNS:
        values = pd.to_numeric(table[column], errors="coerce")
        unknown = table[column].str.lower().isin(["", "nan", "na", "null", "none", "--"])
        wrong = values.isna() & ~unknown
        if wrong.any():
            row = table[wrong].iloc[0]
            raise Gz2vitError(f"{path}: {column} of galaxy {row.galaxyID} is '{row[column]}'")
        table[column] = values.mask(values.isin(MISSING))
    return table


def data_signature(folder: DataFolder, cache: Path | None = None) -> dict[str, str]:
    """What identifies the galaxies of a data folder: {"galaxies": sha256, "pixels": sha256}.

    `galaxies` covers ids, labels and splits, `pixels` the bytes of these galaxies' image files;
    other files, names and times do not count. `cache`: as of `pixels_digest`.
    """
    labels, ids = hashlib.sha256(), []
    for split, table in folder.tables.items():
        labels.update(f"{split}\n{table.to_csv(index=False)}".encode())
        ids += table.galaxyID.tolist()
    pixels = pixels_digest(ids, [folder.image_path(galaxy_id) for galaxy_id in ids], cache)
    return {"galaxies": labels.hexdigest(), "pixels": pixels}


def pixels_digest(ids: Sequence[str], paths: Sequence[Path], cache: Path | None = None) -> str:
    """The sha256 over these galaxies' ids and the bytes of their image files.

    `cache`, a JSON file, remembers each image's digest for its size and time of change, so that
    unchanged images are not read again.
    """
    try:
        known = read_json(cache) if cache and cache.exists() else {}
    except Gz2vitError:
        known = {}  # cut short by a power cut
    states = dict.fromkeys(paths, "")
    for path in paths:
        with suppress(OSError):
            status = path.stat()
            states[path] = f"{status.st_size} {status.st_mtime_ns}"
    new = [path for path in paths if known.get(path.name, [""])[0] != states[path]]
    with ThreadPoolExecutor() as pool:  # reading and hashing release the interpreter's lock
        digests = dict(zip(new, pool.map(_file_digest, new), strict=True))
    readable = {path.name: [states[path], digest] for path, digest in digests.items() if digest}
    if cache and readable:
        write_json(cache, known | readable)
    pixels = hashlib.sha256()
    for galaxy_id, path in zip(ids, paths, strict=True):
        digest = digests[path] if path in digests else known.get(path.name, ["", ""])[1]
        pixels.update(f"{galaxy_id}\t{digest}\n".encode())
    return pixels.hexdigest()


def signature_cache(results_dir: Path | str) -> Path:
    """Where a results folder remembers digests of images."""
    return Path(results_dir) / "logs" / "images.json"


def _file_digest(path: Path) -> str:
    """The sha256 of a file; "" for one that is missing or cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""


def class_composition(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Galaxies per class (rows, by name) and split (columns), with a last column `all`."""
    counts = {
        split: np.bincount(table.label1, minlength=CLASS_COUNT) for split, table in tables.items()
    }
    composition = pd.DataFrame(counts, index=pd.Index(CLASS_NAMES, name="class_name"))
    return composition.assign(all=composition.sum(axis=1))


ClassWeights = str | Sequence[float]


def class_weights(choice: ClassWeights, class_counts: Sequence[int]) -> np.ndarray:
    """The loss's eight weights, float64 (8,), for a training set with `class_counts` (8,) galaxies.

    `choice`: "uniform" (all 1); "tuned" (the paper's, scaled to sum to 8: 0.19 for round
    ellipticals to 3.23 for mergers); "reciprocal" (all galaxies / galaxies of the class, as the
    authors compute it, 4.6 to 73.3 for the paper's sample); or eight positive numbers, used as
    they are. Raises `Gz2vitError` for anything else, and for "reciprocal" with an empty class.
    """
    counts = np.asarray(class_counts, dtype=np.float64)
    if isinstance(choice, str):
        if choice == "uniform":
            return np.ones(CLASS_COUNT)
        if choice == "tuned":
            return np.asarray(TUNED_CLASS_WEIGHTS) * CLASS_COUNT / np.sum(TUNED_CLASS_WEIGHTS)
        if choice != "reciprocal":
            raise Gz2vitError(
                f"CLASS_WEIGHTS '{choice}' is not uniform, tuned, reciprocal or {CLASS_COUNT} "
                "numbers"
            )
        if (counts == 0).any():
            empty = CLASS_NAMES[int(counts.argmin())]
            raise Gz2vitError(f"reciprocal class weights need training galaxies of class '{empty}'")
        return counts.sum() / counts
    try:
        weights = np.asarray(choice, dtype=np.float64)
    except (TypeError, ValueError):
        weights = np.empty(0)
    if weights.shape != (CLASS_COUNT,) or not np.all(np.isfinite(weights) & (weights > 0)):
        raise Gz2vitError(f"CLASS_WEIGHTS {choice} must be {CLASS_COUNT} positive numbers")
    return weights


# ---- The galaxies of a run: `selection/` in the results folder


@dataclass(frozen=True)
class Selection:
    """The galaxies of a run: label tables by split, their origin, and which are left out.

    `data` holds `profile`, `folder` (absolute path), `name` (for people: "2,640 galaxies of
    real_gz2"), `simulated`, by split the digest of the images' bytes (`pixels`) and counts
    (`galaxies`, `left_out`), and `gone_classes`: by split the names of classes that were left out
    altogether. `left_out`: the galaxies left out because their images cannot
    be read, with LEFT_OUT_COLUMNS; None where the run does not allow it.
    """

    tables: Mapping[str, pd.DataFrame]
    data: Mapping[str, Any]
    left_out: pd.DataFrame | None = None

    def image_path(self, galaxy_id: str) -> Path:
        """The image file of `galaxy_id`, as `DataFolder.image_path`."""
        return self.folder.image_path(galaxy_id)

    @cached_property
    def folder(self) -> DataFolder:
        """The data folder with the selected galaxies."""
        return DataFolder(Path(self.data["folder"]), self.tables, None)


def take_subset(tables: Mapping[str, pd.DataFrame], galaxies: int) -> dict[str, pd.DataFrame]:
    """At most `galaxies` galaxies in all, each split and class keeping its share.

    Rows are taken from the top of each class, at least one of each class that a split has, so the
    total can exceed `galaxies` by a few; the order of the table is kept.
    """
    share = min(1.0, galaxies / sum(len(table) for table in tables.values()))
    taken = {}
    for split, table in tables.items():
        classes = table.groupby("label1").label1
        most = np.maximum(1, np.floor(classes.transform("size") * share))
        taken[split] = table[classes.cumcount() < most].reset_index(drop=True)
    return taken


def leave_out(
    tables: Mapping[str, pd.DataFrame], broken: pd.DataFrame
) -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    """`tables` without the galaxies of `broken` (galaxyID, fault), and a table of those.

    The second has LEFT_OUT_COLUMNS. Raises `Gz2vitError` where a split has nothing left.
    """
    faults = broken.set_index("galaxyID").fault
    kept, lost = {}, []
    for split, table in tables.items():
        out = table.galaxyID.isin(faults.index)
        if out.all():
            raise Gz2vitError(
                f"no image of the {len(table)} galaxies of the split '{split}' can be read, so "
                "that nothing would be left of it; fix the data folder and run again"
            )
        kept[split] = table[~out].reset_index(drop=True)
        rows = table[out].rename(columns={"label1": "class_index"}).assign(split=split)
        lost.append(rows.assign(fault=rows.galaxyID.map(faults))[list(LEFT_OUT_COLUMNS)])
    return kept, pd.concat(lost, ignore_index=True)


def write_selection(
    results_dir: Path | str,
    folder: DataFolder,
    tables: Mapping[str, pd.DataFrame],
    profile: str,
    left_out: pd.DataFrame | None = None,
) -> Selection:
    """Write the selected `tables` of `folder` into `selection/` and return them.

    `left_out`: what `leave_out` returns, where the run leaves galaxies out.
    """
    target = Path(results_dir) / "selection"
    (target / "left_out.csv").unlink(missing_ok=True)
    files = {f"gz2_{split}": table for split, table in tables.items()}
    for name, table in (files if left_out is None else files | {"left_out": left_out}).items():
        with atomic_path(target / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)
    simulated = (folder.path / SIMULATION_RECORD).exists()
    total = sum(len(table) for table in tables.values())
    kind = "simulated galaxies" if simulated else f"galaxies of {folder.path.name}"
    lost = pd.DataFrame(columns=list(LEFT_OUT_COLUMNS)) if left_out is None else left_out
    words = f", {len(lost):,} left out: images that cannot be read" if len(lost) else ""
    gone = {
        split: sorted(set(lost.class_index[lost.split == split]) - set(table.label1))
        for split, table in tables.items()
    }
    data = {
        "profile": profile,
        "folder": str(folder.path),
        "name": f"{total:,} {kind}{words}",
        "simulated": simulated,
        "pixels": _selected_pixels(results_dir, folder, tables),
        "galaxies": {split: len(table) for split, table in tables.items()},
        "left_out": {split: int((lost.split == split).sum()) for split in tables},
        "gone_classes": {split: [CLASS_NAMES[i] for i in found] for split, found in gone.items()},
    }
    write_json(target / "data.json", data)
    return Selection(tables, data, left_out)


def _selected_pixels(
    results_dir: Path | str, folder: DataFolder, tables: Mapping[str, pd.DataFrame]
) -> dict[str, str]:
    """The digest of the images' bytes of each split."""
    cache = signature_cache(results_dir)
    return {
        split: pixels_digest(table.galaxyID, [*map(folder.image_path, table.galaxyID)], cache)
        for split, table in tables.items()
    }


def follow_folder(results_dir: Path | str, folder: DataFolder) -> None:
    """Let a selection name `folder` as its data folder where that is a copy of the one it names."""
    path = Path(results_dir) / "selection" / "data.json"
    if not path.exists() or read_json(path)["folder"] == str(folder.path):
        return
    selection = read_selection(results_dir)
    if selection.data["pixels"] == _selected_pixels(results_dir, folder, selection.tables):
        write_json(path, selection.data | {"folder": str(folder.path)})


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
