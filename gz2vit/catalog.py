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
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gz2vit.io import Gz2vitError, read_json, require, write_json, write_text
from gz2vit.paper import CLASS_COUNT, CLASS_NAMES, FIG2_GALAXY_IDS, TUNED_CLASS_WEIGHTS

SPLITS = ("train", "valid", "test")
SIMULATION_RECORD = "simulation.json"  # the simulator leaves it in the folders that it makes
LABEL_COLUMNS = ("label1", "label2", "label3", "label4")
PROPERTY_COLUMNS = ("petroR90_r", "dered_r", "dered_g_r")
MISSING = (-9999.0, -999.0)  # SDSS's and the Galaxy Zoo catalogues' marks for a missing value
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
ClassWeights = str | Sequence[float]
IMAGE_DIGESTS = Path("logs", "images.json")  # in a results folder: digests of image files

# ---- Tables that people hand in

SEPARATORS = (",", ";", "\t", "|", " ")  # the last: any white space
EXACT, EXCEL_DIGITS = 2**53, 15  # up to where floating-point numbers and Excel hold every integer


def read_table(
    path: Path | str, required: Sequence[str], ids: Sequence[str] = ("galaxyID",),
    optional: Sequence[str] = (),
) -> pd.DataFrame:  # fmt: skip
    """Columns of a CSV table as text: of `ids` those that there are, `required`, and `optional`.

    Accepts what catalogues, spreadsheets and TOPCAT write: a byte order mark, UTF-16, `#` lines,
    other separators and capitals, a comma at the end of each line, ids as `123.0` or `123.jpg`.
    Raises `Gz2vitError`, also for a missing column or value, and ids that have lost digits.
    """
    path, rows, places = Path(path), {}, {}  # values by line; columns by name
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as stream:
            wide = stream.read(2) in (b"\xff\xfe", b"\xfe\xff")
        with opener(path, "rt", encoding="utf-16" if wide else "utf-8-sig", newline=None) as stream:
            header, separator, names = _find_header(path, stream, ids, required)
            plain = [*map(_plain, names)]
            for name in dict.fromkeys([*ids, *required, *optional]):
                same = [place for place, other in enumerate(names) if other == name]
                same = same or [place for place, other in enumerate(plain) if other == _plain(name)]
                if len(same) > 1:
                    raise Gz2vitError(f"{path} has {len(same)} columns '{name}'; keep one")
                places |= zip([name], same, strict=False)  # not, where there is none
            for line, values in enumerate(_split(stream, separator, strict=True), header + 1):
                while len(values) > len(names) and not values[-1].strip():
                    values.pop()
                if len(values) == len(names):
                    rows[line] = [values[place].strip() for place in places.values()]
                elif any(map(str.strip, values)):
                    words = f"the header in line {header} has {len(names)} names"
                    raise Gz2vitError(f"{path}, line {line} has {len(values)} values, {words}")
    except OSError as error:
        raise Gz2vitError(f"cannot read {path}: {error.strerror or error}") from error
    except (UnicodeError, EOFError, csv.Error) as error:
        raise Gz2vitError(f"{path} is not a readable CSV file: {error}") from error
    keys = [name for name in ids if name in places]
    for name in [*required, *([] if keys else ids[:1])]:
        if name not in places:
            shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
            raise Gz2vitError(f"{path} has no column '{name}'; its header is: {shown}")
    table = pd.DataFrame(rows.values(), index=list(rows), columns=list(places), dtype=str)
    table = table[(table != "").any(axis=1)]
    if separator == ";":  # where commas are decimal points
        numbers = table.columns.difference(keys)
        table[numbers] = table[numbers].replace(r"^(-?\d+),(\d+)$", r"\1.\2", regex=True)
    table[keys] = table[keys].apply(_read_ids, path=path)
    return table.reset_index(drop=True)


def _find_header(
    path: Path, stream: Iterable[str], ids: Sequence[str], required: Sequence[str]
) -> tuple[int, str, list[str]]:
    """The number of the header's line, at least 1, the separator, and the names."""
    keys, needed = {*map(_plain, ids)}, {*map(_plain, required)}
    for number, line in enumerate(stream, 1):
        text = line.strip("# \t\r\n")
        # A `#` line is the header if it holds the names; `sep=;` is a hint to Excel.
        known = any(k in _plain(text) for k in keys) and all(n in _plain(text) for n in needed)
        if not text or text.startswith("sep=") or (line.startswith("#") and not known):
            continue
        splits = {one: [name.strip() for name in next(_split([text], one))] for one in SEPARATORS}
        best = max(splits, key=lambda one: len((keys | needed) & set(map(_plain, splits[one]))))
        return number, best, splits[best] if splits[best][-1] else splits[best][:-1]
    raise Gz2vitError(f"{path} is empty; it needs a header with {', '.join((ids[0], *required))}")


def _split(lines: Iterable[str], separator: str, strict: bool = False) -> Iterator[list[str]]:
    """The values of each line; none for comments. `strict`: errors for unbalanced quotes."""
    lines = ("\n" if line.startswith("#") else line for line in lines)
    if separator == " ":
        lines = (line.strip().replace("\t", " ") for line in lines)
    return csv.reader(lines, delimiter=separator, skipinitialspace=separator == " ", strict=strict)


def _plain(name: str) -> str:
    """A column's name without capitals, spaces and underscores."""
    return re.sub(r"[\W_]", "", name).lower()


def _read_ids(ids: pd.Series, path: Path) -> pd.Series:
    """Ids as they were meant; `Gz2vitError` where a spreadsheet or a float has rounded them."""
    advice = "export the table again with its ids as text"
    ids = ids.str.replace(r"^=?[\"'](.*?)[\"']?$", r"\1", regex=True)  # ="587...", '587...
    ids = ids.str.replace(r"(?i)\.(jpe?g|png)$", "", regex=True)
    ids = ids.str.replace(r"^(\d+)\.0*$", r"\1", regex=True)
    if (ids == "").any():
        raise Gz2vitError(f"{path}, line {ids.index[ids == ''][0]} has no galaxy id")
    for line, text in ids[ids.str.fullmatch(r"\d+(\.\d+[eE]\+?|[eE]\+)\d+")].items():
        digits, exponent = re.split("[eE]", text)
        if float(text) >= EXACT or len(digits.partition(".")[2]) < int(exponent):
            raise Gz2vitError(f"{path}, line {line}: a program has rounded the id {text}; {advice}")
        ids[line] = str(int(float(text)))
    long = [text for text in ids if len(text) > EXCEL_DIGITS and text.isdecimal()]
    as_float = all(int(text) == int(float(text)) for text in long)
    as_excel = all(text.endswith("0" * (len(text) - EXCEL_DIGITS)) for text in long)
    if len(set(long)) > 2 and int(max(long, key=int)) > EXACT and (as_float or as_excel):
        raise Gz2vitError(f"{path}: a program has rounded the ids, such as {long[0]}; {advice}")
    return ids


# ---- The data folder


@dataclass(frozen=True)
class DataFolder:
    """A data folder whose tables have been read and checked."""

    path: Path
    tables: Mapping[str, pd.DataFrame]  # by split: galaxyID (text), label1 (0 to 7), others if any

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
        """The image file of `galaxy_id`, which may be missing, or of a format that is not read."""
        others = self.image_files.get(galaxy_id, [f"{galaxy_id}.jpg"])
        names = [name for name in others if name.lower().endswith(IMAGE_SUFFIXES)] or others
        if len(names) > 1:
            several = f"several images in {self.path / 'images'}: {', '.join(sorted(names))}"
            raise Gz2vitError(f"galaxy {galaxy_id} has {several}; keep one")
        return self.path / "images" / names[0]


def read_data_folder(path: Path | str) -> DataFolder:
    """The tables of a data folder, read and checked (`Gz2vitError`); images are not opened."""
    path = Path(os.path.realpath(os.path.expanduser(path)))
    if not path.is_dir():
        raise Gz2vitError(f"there is no data folder {path}; set --data DIR as the README describes")
    tables = {split: read_label_table(path / f"gz2_{split}.csv") for split in SPLITS}
    galaxies = pd.concat([table.assign(split=split) for split, table in tables.items()])
    shared = galaxies[galaxies.galaxyID.duplicated(keep=False)]
    for name in shared.galaxyID:
        files = " and ".join(f"gz2_{split}.csv" for split in shared.split[shared.galaxyID == name])
        words = f"galaxy {name} is in {files} ({shared.galaxyID.nunique()} such galaxies)"
        raise Gz2vitError(f"{path}: {words}; keep each in one split only")
    folder = DataFolder(path, tables)
    _ = folder.image_files, read_properties(path / "galaxy_properties.csv")  # fails here, not later
    return folder


def read_label_table(path: Path) -> pd.DataFrame:
    """One split's label table, checked: columns, classes, duplicate ids, not empty."""
    table = read_table(path, LABEL_COLUMNS[:1], optional=LABEL_COLUMNS[1:])
    if table.empty:
        raise Gz2vitError(f"{path} holds no galaxies; every split needs at least one")
    for repeated in table.galaxyID[table.galaxyID.duplicated()]:
        raise Gz2vitError(f"{path}: galaxy {repeated} occurs more than once")
    return read_classes(table, table.columns[1:], path)


def read_classes(table: pd.DataFrame, columns: Iterable[str], path: Path) -> pd.DataFrame:
    """`table` with `columns` as class indices, int64; `Gz2vitError` for anything else in them."""
    for column in columns:
        numbers = pd.to_numeric(table[column], errors="coerce")
        for row in table[~numbers.isin(range(CLASS_COUNT))].to_dict("records"):
            known = ", ".join(f"{index} {name}" for index, name in enumerate(CLASS_NAMES))
            words = f"galaxy {row['galaxyID']} has {column} '{row[column]}'"
            raise Gz2vitError(f"{path}: {words}, which is not a class index ({known})")
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
        for row in table[values.isna() & ~unknown].to_dict("records"):
            raise Gz2vitError(f"{path}: {column} of galaxy {row['galaxyID']} is '{row[column]}'")
        table[column] = values.mask(values.isin(MISSING))
    return table


def data_signature(folder: DataFolder, cache: Path | None = None) -> dict[str, str]:
    """A data folder's sha256: "galaxies" (ids, labels, splits), "pixels" (of `pixels_digest`)."""
    tables = folder.tables.items()
    labels = "".join(f"{split}\n{table.to_csv(index=False)}" for split, table in tables)
    ids = [galaxy_id for _, table in tables for galaxy_id in table.galaxyID]
    pixels = pixels_digest(ids, [*map(folder.image_path, ids)], cache)
    return {"galaxies": hashlib.sha256(labels.encode()).hexdigest(), "pixels": pixels}


def pixels_digest(ids: Sequence[str], paths: Sequence[Path], cache: Path | None = None) -> str:
    """The sha256 over these galaxies' ids and the bytes of their images; unreadable ones are empty.

    `cache`, a JSON file, holds each image's digest for its size and time of change.
    """
    known = read_json(cache, default={}) if cache else {}  # a power cut may have cut it short

    def read_digest(path: Path) -> tuple[str, str]:
        """The file's state and its digest."""
        try:
            status = path.stat()
            state, before = f"{status.st_size} {status.st_mtime_ns}", known.get(path.name, [""])
            if state == before[0]:
                return state, before[1]
            with path.open("rb") as stream:
                return state, hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError:
            return "", ""

    with ThreadPoolExecutor() as pool:  # reading and hashing release the interpreter's lock
        found = list(pool.map(read_digest, paths))
    new = {path.name: [*one] for path, one in zip(paths, found, strict=True) if one[0]}
    if cache and known | new != known:
        write_json(cache, known | new)
    lines = (f"{galaxy_id}\t{digest}\n" for galaxy_id, (_, digest) in zip(ids, found, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def class_composition(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Galaxies per class (rows, by name) and split (columns), with a last column `all`."""
    counts = {s: np.bincount(one.label1, minlength=CLASS_COUNT) for s, one in tables.items()}
    composition = pd.DataFrame(counts, index=pd.Index(CLASS_NAMES, name="class_name"))
    return composition.assign(all=composition.sum(axis=1))


def class_weights(choice: ClassWeights, class_counts: Sequence[int]) -> np.ndarray:
    """The loss's eight weights, float64 (8,), for a training set with `class_counts` (8,) galaxies.

    `choice`: "uniform" (all 1); "tuned" (the paper's, scaled to sum to 8); "reciprocal" (all
    galaxies / galaxies of the class, as the authors compute it); or eight positive numbers.
    """
    counts = np.float64(class_counts)
    match choice:
        case "uniform":
            return np.ones(CLASS_COUNT)
        case "tuned":
            return np.array(TUNED_CLASS_WEIGHTS) * CLASS_COUNT / sum(TUNED_CLASS_WEIGHTS)
        case "reciprocal":
            for index in np.flatnonzero(counts == 0):
                words = f"training galaxies of class '{CLASS_NAMES[index]}'"
                raise Gz2vitError(f"reciprocal class weights need {words}")
            return counts.sum() / counts
    with suppress(TypeError, ValueError):
        weights = np.asarray(choice, dtype=np.float64)
        if weights.shape == (CLASS_COUNT,) and np.all(np.isfinite(weights) & (weights > 0)):
            return weights
    known = f"uniform, tuned, reciprocal or {CLASS_COUNT} positive numbers"
    raise Gz2vitError(f"CLASS_WEIGHTS {choice} is not {known}")


# ---- The galaxies of a run: `selection/` in the results folder


@dataclass(frozen=True)
class Selection(DataFolder):
    """The galaxies of a run: a data folder's, of which `tables` holds those selected.

    `data`: `profile`, `folder` (absolute path), `name` (for people), `simulated`, and by split
    `pixels` (digest of the images), `galaxies` and `left_out` (counts), `gone_classes` (names).
    """

    data: Mapping[str, Any]


def take_subset(tables: Mapping[str, pd.DataFrame], galaxies: int) -> dict[str, pd.DataFrame]:
    """About `galaxies`, the first of each class, in the same shares; one, at least, per class."""
    share, taken = min(1.0, galaxies / sum(map(len, tables.values()))), {}
    for split, table in tables.items():
        classes = table.groupby("label1").label1
        most = np.maximum(1, np.floor(classes.transform("size") * share))
        taken[split] = table[classes.cumcount() < most].reset_index(drop=True)
    return taken


def leave_out(
    tables: Mapping[str, pd.DataFrame], broken: pd.DataFrame
) -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    """`tables` without the galaxies of `broken` (galaxyID, fault), and those that were in them.

    The latter as galaxyID, split, class_index, fault. Raises `Gz2vitError` for an empty split.
    """
    kept, lost = {}, []
    for split, table in tables.items():
        lost.append(table.merge(broken[["galaxyID", "fault"]]).assign(split=split))
        kept[split] = table[~table.galaxyID.isin(broken.galaxyID)].reset_index(drop=True)
        if kept[split].empty:
            raise Gz2vitError(f"no image of the split '{split}' can be read; fix the data folder")
    lost = pd.concat(lost, ignore_index=True).rename(columns={"label1": "class_index"})
    return kept, lost[["galaxyID", "split", "class_index", "fault"]]


def write_selection(
    results_dir: Path | str, folder: DataFolder, tables: Mapping[str, pd.DataFrame], profile: str,
    left_out: pd.DataFrame | None = None,
) -> Selection:  # fmt: skip
    """Write the selected `tables` of `folder`, and `left_out` (of `leave_out`), to `selection/`."""
    target = Path(results_dir) / "selection"
    (target / "left_out.csv").unlink(missing_ok=True)
    files = {f"gz2_{split}": table for split, table in tables.items()}
    for name, table in (files if left_out is None else files | {"left_out": left_out}).items():
        write_text(target / f"{name}.csv", table.to_csv(index=False))
    simulated, count = (folder.path / SIMULATION_RECORD).exists(), sum(map(len, tables.values()))
    kind = "simulated galaxies" if simulated else f"galaxies of {folder.path.name}"
    name = f"{count:,} {kind}"
    lost = {split: pd.Series(dtype=int) for split in tables}
    if left_out is not None and len(left_out):
        lost |= dict(iter(left_out.groupby("split").class_index))
        name += f", {len(left_out):,} left out: images that cannot be read"
    gone = {split: sorted(set(lost[split]) - set(table.label1)) for split, table in tables.items()}
    data = {
        **{"profile": profile, "folder": str(folder.path), "name": name, "simulated": simulated},
        "pixels": split_digests(results_dir, folder, tables),
        "galaxies": {split: len(table) for split, table in tables.items()},
        "left_out": {split: len(classes) for split, classes in lost.items()},
        "gone_classes": {split: [CLASS_NAMES[i] for i in one] for split, one in gone.items()},
    }
    write_json(target / "data.json", data)
    return Selection(folder.path, tables, data)


def split_digests(
    results_dir: Path | str, folder: DataFolder, tables: Mapping[str, pd.DataFrame]
) -> dict[str, str]:
    """The digest of the images' bytes of each split."""
    cache, ids = Path(results_dir) / IMAGE_DIGESTS, {s: one.galaxyID for s, one in tables.items()}
    return {s: pixels_digest(one, [*map(folder.image_path, one)], cache) for s, one in ids.items()}


def follow_folder(results_dir: Path | str, folder: DataFolder) -> None:
    """Let a selection name `folder` as its data folder where that is a copy of the one it names."""
    path = Path(results_dir) / "selection" / "data.json"
    if path.exists() and read_json(path)["folder"] != str(folder.path):
        selection = read_selection(results_dir)
        if selection.data["pixels"] == split_digests(results_dir, folder, selection.tables):
            write_json(path, selection.data | {"folder": str(folder.path)})


def read_selection(results_dir: Path | str) -> Selection:
    """The selection of a results folder; `Gz2vitError` where the step has not run."""
    folder = Path(results_dir) / "selection"
    # pixels: an earlier version's selection is of no images that are known
    data = {"pixels": {}} | read_json(require(folder / "data.json", "select"))
    names = {split: folder / f"gz2_{split}.csv" for split in SPLITS}
    if data.get("profile") == "published":  # without a network some are not known
        names = {split: path for split, path in names.items() if path.exists()}
    tables = {split: read_label_table(require(path, "select")) for split, path in names.items()}
    return Selection(Path(data["folder"]), tables, data)


def choose_examples(
    tables: Mapping[str, pd.DataFrame], per_class: int, seed: int
) -> dict[str, list[str]]:
    """Ids of `per_class` galaxies of each class, by class name; fewer where a class has fewer.

    The paper's own if each is among `tables` with its class, else drawn from the test split.
    """
    if "test" not in tables:
        return {name: [] for name in CLASS_NAMES}
    classes = pd.concat(tables.values()).set_index("galaxyID").label1
    chosen = [[str(galaxy_id) for galaxy_id in ids[:per_class]] for ids in FIG2_GALAXY_IDS]
    if not all((classes.reindex(ids) == index).all() for index, ids in enumerate(chosen)):
        drawn = tables["test"].sample(frac=1, random_state=seed)
        classes = range(CLASS_COUNT)
        chosen = [drawn.galaxyID[drawn.label1 == i].head(per_class).tolist() for i in classes]
    return dict(zip(CLASS_NAMES, chosen, strict=True))
