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
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
IMAGE_DIGESTS = Path("logs", "images.json")  # in a results folder: digests of image files
LEFT_OUT_COLUMNS = ("galaxyID", "split", "class_index", "fault")

SEPARATORS = (",", ";", "\t", "|", " ")  # the last: any white space
EXACT = 2**53  # up to here a floating-point number holds every integer
EXCEL_DIGITS = 15

ClassWeights = str | Sequence[float]


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
    rows, lines = [], []
    with _open_text(path) as stream:
        header, separator, names = _find_header(path, stream, wanted)
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
        for line, values in enumerate(_split(stream, separator, strict=True), header + 1):
            while len(values) > len(names) and not values[-1].strip():
                values.pop()
            if len(values) == len(names):
                rows.append([values[place].strip() for place in columns.values()])
                lines.append(line)
            elif any(map(str.strip, values)):
                raise Gz2vitError(
                    f"{path}, line {line} has {len(values)} values, the header in line {header} "
                    f"has {len(names)} names"
                )
    table = pd.DataFrame(rows, index=lines, columns=list(columns), dtype=str)
    table = table[(table != "").any(axis=1)]
    if separator == ";":  # where commas are decimal points
        for column in table.columns.drop(id_column):
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
    except (UnicodeError, EOFError, csv.Error) as error:
        raise Gz2vitError(f"{path} is not a readable CSV file: {error}") from error


def _find_header(path: Path, stream: Any, wanted: Sequence[str]) -> tuple[int, str, list[str]]:
    """The number of the header's line, at least 1, the separator, and the names."""
    for number, line in enumerate(stream, 1):
        text = line.strip("# \t\r\n")
        all_known = all(_plain(name) in _plain(text) for name in wanted)
        # A `#` line is the header if it holds the names; `sep=;` is a hint to Excel.
        if not text or text.startswith("sep=") or (line.startswith("#") and not all_known):
            continue
        splits = {
            separator: [name.strip() for name in next(_split([text], separator))]
            for separator in SEPARATORS
        }
        separator = max(
            splits, key=lambda s: len(set(map(_plain, wanted)) & set(map(_plain, splits[s])))
        )
        names = splits[separator]
        return number, separator, names if names[-1] else names[:-1]
    raise Gz2vitError(f"{path} is empty; it needs a header with {', '.join(wanted)}")


def _split(lines: Iterable[str], separator: str, strict: bool = False) -> Iterator[list[str]]:
    """The values of each line; none for comments. `strict`: errors for unbalanced quotes."""
    lines = ("\n" if line.startswith("#") else line for line in lines)
    if separator == " ":
        lines = (line.strip().replace("\t", " ") for line in lines)
    return csv.reader(lines, delimiter=separator, skipinitialspace=separator == " ", strict=strict)


def _plain(name: str) -> str:
    """A column's name without capitals, spaces and underscores."""
    return re.sub(r"[\W_]", "", name).lower()


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

    `tables`: by split a DataFrame with `galaxyID` (text) and `label1` (int, 0 to 7), and label2 to
    label4 where the file has them. `properties`: as of `read_properties`.
    """

    path: Path
    tables: Mapping[str, pd.DataFrame]
    properties: pd.DataFrame | None

    @cached_property
    def image_files(self) -> Mapping[str, Sequence[str]]:
        """The names of the files in `images/`, by stem."""
        files = defaultdict(list)
        try:
            for name in os.listdir(self.path / "images"):
                files[os.path.splitext(name)[0]].append(name)
        except OSError as error:
            raise Gz2vitError(f"cannot read {self.path / 'images'}: {error.strerror}") from error
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
    if not path.is_dir():
        raise Gz2vitError(f"there is no data folder {path}; set --data DIR as the README describes")
    tables = {split: read_label_table(path / f"gz2_{split}.csv") for split in SPLITS}
    galaxies = pd.concat([table.assign(split=split) for split, table in tables.items()])
    shared = galaxies[galaxies.galaxyID.duplicated(keep=False)]
    if len(shared):
        galaxy_id = shared.galaxyID.iloc[0]
        files = " and ".join(f"gz2_{s}.csv" for s in shared.split[shared.galaxyID == galaxy_id])
        raise Gz2vitError(
            f"{path}: galaxy {galaxy_id} is in {files} ({shared.galaxyID.nunique()} such galaxies);"
            " keep each in one split only"
        )
    folder = DataFolder(path, tables, read_properties(path / "galaxy_properties.csv"))
    _ = folder.image_files  # fails here rather than in the middle of a run
    return folder


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


def read_properties(path: Path) -> pd.DataFrame | None:
    """petroR90_r [arcsec], dered_r, dered_g_r [mag], NaN where unknown; None without a file."""
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

    `cache`, a JSON file, holds each image's digest for its size and time of change, so that
    unchanged images are not read again. A file that cannot be read counts as empty.
    """
    known, states = {}, dict.fromkeys(paths, "")
    if cache:
        with suppress(Gz2vitError):  # missing, or cut short by a power cut
            known = read_json(cache)
    for path in states:
        with suppress(OSError):
            status = path.stat()
            states[path] = f"{status.st_size} {status.st_mtime_ns}"
    before = {path: known.get(path.name, ["", ""]) for path in states}

    def read_digest(path: Path) -> str:
        try:
            with path.open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError:
            return ""

    new = [path for path, state in states.items() if state != before[path][0]]
    digests = {path: digest for path, (_, digest) in before.items()}
    with ThreadPoolExecutor() as pool:  # reading and hashing release the interpreter's lock
        digests |= zip(new, pool.map(read_digest, new), strict=True)
    readable = {path.name: [states[path], digests[path]] for path in new if digests[path]}
    if cache and readable:
        write_json(cache, known | readable)
    lines = (f"{galaxy_id}\t{digests[path]}\n" for galaxy_id, path in zip(ids, paths, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def class_composition(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Galaxies per class (rows, by name) and split (columns), with a last column `all`."""
    counts = {
        split: np.bincount(table.label1, minlength=CLASS_COUNT) for split, table in tables.items()
    }
    composition = pd.DataFrame(counts, index=pd.Index(CLASS_NAMES, name="class_name"))
    return composition.assign(all=composition.sum(axis=1))


def class_weights(choice: ClassWeights, class_counts: Sequence[int]) -> np.ndarray:
    """The loss's eight weights, float64 (8,), for a training set with `class_counts` (8,) galaxies.

    `choice`: "uniform" (all 1); "tuned" (the paper's, scaled to sum to 8); "reciprocal" (all
    galaxies / galaxies of the class, as the authors compute it); or eight positive numbers, used
    as they are. Raises `Gz2vitError` for anything else, and for "reciprocal" with an empty class.
    """
    weights: Any = choice
    if isinstance(choice, str):
        counts, tuned = np.float64(class_counts), np.asarray(TUNED_CLASS_WEIGHTS)
        if choice == "reciprocal" and not counts.all():
            empty = CLASS_NAMES[counts.argmin()]
            raise Gz2vitError(f"reciprocal class weights need training galaxies of class '{empty}'")
        weights = {
            "uniform": np.ones(CLASS_COUNT),
            "tuned": tuned * CLASS_COUNT / tuned.sum(),
            "reciprocal": counts.sum() / np.maximum(counts, 1),
        }.get(choice)
    try:
        weights = np.asarray(weights, dtype=np.float64)
        valid = weights.shape == (CLASS_COUNT,) and np.all(np.isfinite(weights) & (weights > 0))
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise Gz2vitError(
            f"CLASS_WEIGHTS {choice} is not uniform, tuned, reciprocal or {CLASS_COUNT} positive "
            "numbers"
        )
    return weights


# ---- The galaxies of a run: `selection/` in the results folder


@dataclass(frozen=True)
class Selection(DataFolder):
    """The galaxies of a run: a data folder's, of which `tables` holds those selected.

    `data` holds `profile`, `folder` (absolute path), `name` (for people: "2,640 galaxies of
    real_gz2"), `simulated`, and by split the digest of the images' bytes (`pixels`), counts
    (`galaxies`, `left_out`) and the names of classes left out altogether (`gone_classes`).
    `left_out`: the galaxies whose images cannot be read, with LEFT_OUT_COLUMNS; None where the run
    does not leave any out.
    """

    data: Mapping[str, Any]
    left_out: pd.DataFrame | None = None


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
            raise Gz2vitError(f"no image of the split '{split}' can be read; fix the data folder")
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
    files = {f"gz2_{split}": table for split, table in tables.items()} | {"left_out": left_out}
    for name, table in files.items():
        if table is not None:
            with atomic_path(target / f"{name}.csv") as temporary:
                table.to_csv(temporary, index=False)
    simulated = (folder.path / SIMULATION_RECORD).exists()
    total = sum(map(len, tables.values()))
    kind = "simulated galaxies" if simulated else f"galaxies of {folder.path.name}"
    lost = dict.fromkeys(tables, ())
    if left_out is not None:
        lost = {split: left_out.class_index[left_out.split == split] for split in tables}
    count = sum(map(len, lost.values()))
    words = f", {count:,} left out: images that cannot be read" if count else ""
    data = {
        "profile": profile,
        "folder": str(folder.path),
        "name": f"{total:,} {kind}{words}",
        "simulated": simulated,
        "pixels": split_digests(results_dir, folder, tables),
        "galaxies": {split: len(table) for split, table in tables.items()},
        "left_out": {split: len(classes) for split, classes in lost.items()},
        "gone_classes": {
            split: [CLASS_NAMES[i] for i in sorted(set(lost[split]) - set(table.label1))]
            for split, table in tables.items()
        },
    }
    write_json(target / "data.json", data)
    return Selection(folder.path, tables, None, data, left_out)


def split_digests(
    results_dir: Path | str, folder: DataFolder, tables: Mapping[str, pd.DataFrame]
) -> dict[str, str]:
    """The digest of the images' bytes of each split."""
    cache = Path(results_dir) / IMAGE_DIGESTS
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
    if selection.data["pixels"] == split_digests(results_dir, folder, selection.tables):
        write_json(path, selection.data | {"folder": str(folder.path)})


def read_selection(results_dir: Path | str) -> Selection:
    """The selection of a results folder; `Gz2vitError` where the step has not run."""
    folder = Path(results_dir) / "selection"
    data = read_json(require(folder / "data.json", "select"))
    data.setdefault("pixels", {})  # an earlier version's: of no images that are known
    tables = {
        split: read_label_table(require(folder / f"gz2_{split}.csv", "select")) for split in SPLITS
    }
    left_out = None
    if (folder / "left_out.csv").exists():
        types = {"galaxyID": str}
        left_out = pd.read_csv(folder / "left_out.csv", dtype=types, keep_default_na=False)
    return Selection(Path(data["folder"]), tables, None, data, left_out)


def choose_examples(
    tables: Mapping[str, pd.DataFrame], per_class: int, seed: int
) -> dict[str, list[str]]:
    """Ids of `per_class` galaxies of each class, by class name; fewer where a class has fewer.

    The paper's own (`paper.FIG2_GALAXY_IDS`) if every one of them is among `tables` with the
    class that the paper gives it; otherwise drawn from the test split with `seed`.
    """
    classes = pd.concat(tables.values()).set_index("galaxyID").label1
    published = [[str(galaxy_id) for galaxy_id in ids[:per_class]] for ids in FIG2_GALAXY_IDS]
    if all((classes.reindex(ids) == index).all() for index, ids in enumerate(published)):
        return dict(zip(CLASS_NAMES, published, strict=True))
    shuffled = tables["test"].sample(frac=1, random_state=seed)
    return {
        name: shuffled.galaxyID[shuffled.label1 == index].head(per_class).tolist()
        for index, name in enumerate(CLASS_NAMES)
    }
