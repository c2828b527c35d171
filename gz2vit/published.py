"""The authors' own predictions as a results folder, from which the same steps draw all figures.

The authors published, galaxy by galaxy, what their Linformer, ViT and ResNet-50 predicted for the
test galaxies, with sizes and magnitudes (`paper.PREDICTION_CATALOGUE`), and the predictions of a
fine-tuned ViT. Classes alone: without probabilities, images or weights.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from gz2vit import paper
from gz2vit.catalog import PROPERTY_COLUMNS, SPLITS, read_classes, read_label_table, read_table
from gz2vit.download import FILES, RemoteFile, Unreachable, fetch_galaxy_zoo
from gz2vit.evaluation import confusion_matrix, confusion_percent
from gz2vit.io import CHECKPOINT, Gz2vitError, write_json, write_text

CATALOGUE, HF_VIT, ROWS = "catalogue", "hf_vit", paper.PREDICTION_CATALOGUE["rows"]
# The column of each network's predictions, by file.
COLUMNS = {CATALOGUE: paper.PREDICTION_CATALOGUE["predictions"], HF_VIT: {HF_VIT: "pred"}}
# The paper's, but for HF_VIT's, which is of another run.
ACCURACIES = {key: paper.PUBLISHED_RESULTS[key]["test_acc"] for key in COLUMNS[CATALOGUE]}
ACCURACIES |= {HF_VIT: paper.HF_VIT_PREDICTIONS["test_acc"]}
GIT_NAME = f"git:{paper.PREDICTION_CATALOGUE['git_blob_sha1']}"
_HF_COLUMNS = ("GalaxyID", "class", "pred")
AUTHORS = {  # as `download.FILES`
    CATALOGUE: (RemoteFile(paper.PREDICTION_CATALOGUE["url"], ROWS, checksum=GIT_NAME),),
    "labels": FILES["labels"],
    HF_VIT: (RemoteFile(paper.HF_VIT_PREDICTIONS["url"], ROWS, columns=_HF_COLUMNS),),
}
UNKNOWN_FROM = 900  # sizes and magnitudes beyond it stand for a missing value: -9999 and the like


def fetch_published(directory: Path, own: Path | None = None) -> tuple[dict[str, Path], str]:
    """The authors' files by kind (`catalogue`, `labels`, `hf_vit`), and why others are missing.

    `own`: a catalogue that is taken as it is; others are downloaded to `directory`, and verified.
    """
    paths, why = {CATALOGUE: own} if own else {}, ""
    for kind, remotes in AUTHORS.items():
        places = [remote.path(directory) for remote in remotes]
        offline = "no answer" in why and not all(map(Path.is_file, places))
        if kind in paths or offline:  # do not wait again for a network that is not there
            continue
        try:
            fetch_galaxy_zoo(directory, [kind], files=FILES | AUTHORS)
            paths[kind] = places[-1]
        except Unreachable as error:
            why = why or str(error)
    return paths, why


def read_catalogue(path: Path, columns: Mapping[str, str] = COLUMNS[CATALOGUE]) -> pd.DataFrame:
    """The authors' table: `galaxyID` (text), `class`, a column for each model, and properties.

    `columns`: the file's column by model. Their order, other columns, numbers written as floats
    and rows repeated do not matter. Raises `Gz2vitError` for anything else.
    """
    table = read_table(path, ["class", *columns.values()], ("GalaxyID",), PROPERTY_COLUMNS)
    table = table.rename(columns={"GalaxyID": "galaxyID"})
    table = read_classes(table, ["class", *columns.values()], path)
    table = table.rename(columns={column: key for key, column in columns.items()})
    for name in PROPERTY_COLUMNS:
        values = pd.to_numeric(table.get(name, pd.Series(np.nan, table.index)), errors="coerce")
        table[name] = values.where(values.abs() < UNKNOWN_FROM)
    table = table.drop_duplicates(ignore_index=True)
    for repeated in table.galaxyID[table.galaxyID.duplicated()]:
        raise Gz2vitError(f"{path} lists galaxy {repeated} twice, differently; keep one row")
    return table


def read_published(paths: Mapping[str, Path]) -> pd.DataFrame | None:
    """All predictions of `fetch_published` in one table, if they agree; None without any."""
    tables = {kind: read_catalogue(paths[kind], COLUMNS[kind]) for kind in COLUMNS if kind in paths}
    if not tables:
        return None
    first, table = next(iter(tables.items()))
    classes = {kind: one.set_index("galaxyID")["class"] for kind, one in tables.items()}
    if "labels" in paths:
        classes["labels"] = read_label_table(paths["labels"]).set_index("galaxyID").label1
    for kind, own in classes.items():
        wrong = table.galaxyID[own.reindex(table.galaxyID).to_numpy() != table["class"].to_numpy()]
        if len(own) != len(table) or len(wrong):
            where = f", such as {wrong.iloc[0]}" if len(wrong) else ""
            words = f"{len(wrong):,} galaxies of {len(table):,} and {len(own):,}{where}"
            files = f"{paths[first]} and {paths[kind]}"
            raise Gz2vitError(f"{files} do not agree on {words}; give others")
    if HF_VIT in tables:
        table[HF_VIT] = table.galaxyID.map(tables[HF_VIT].set_index("galaxyID")[HF_VIT])
    return table


def check_published(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """What the paper says of its predictions beside what `table` gives: `paper`, `found`.

    Counts of galaxies, accuracies, the four counts of Fig. 4, and Fig. 3 cell by cell (percent).
    Raises `Gz2vitError` naming `source` and whatever does not hold.
    """
    true, names = table["class"], paper.CLASS_NAMES
    rows = {"test galaxies": (ROWS, len(table))}
    counts = zip(paper.SPLIT_CLASS_COUNTS["test"], np.bincount(true, minlength=8), strict=True)
    rows |= {f"galaxies of class {name}": both for name, both in zip(names, counts, strict=True)}
    right = {key: table[key] == true for key in ACCURACIES if key in table}
    for key, one in right.items():
        rows[f"accuracy of {key}"] = (ACCURACIES[key], round(one.mean(), 4))
    if set(paper.FIG4_MODELS) <= set(right):
        first, second = (right[key] for key in paper.FIG4_MODELS)
        regions = (first & second, first & ~second, ~first & second, ~first & ~second)
        for (name, count), region in zip(paper.FIG4_COUNTS.items(), regions, strict=True):
            rows[f"{name} ({' and '.join(paper.FIG4_MODELS)})"] = (count, int(region.sum()))
        percent = confusion_percent(confusion_matrix(true, table[paper.FIG4_MODELS[0]]))
        cells = np.array(paper.FIG3_CONFUSION_PERCENT[paper.FIG4_MODELS[0]])
        # printed with one digit, and a half may have been rounded either way
        found = np.where(abs(percent - cells) < 0.0501, cells, percent.round(2))
        for i, j in np.ndindex(cells.shape):
            rows[f"Fig. 3, {names[i]} taken for {names[j]} [%]"] = (cells[i, j], found[i, j])
    checks = pd.DataFrame.from_dict(rows, orient="index", columns=["paper", "found"])
    wrong = checks[checks.paper != checks.found]
    if len(wrong):
        words = [f"{name} is {one.found:,g}, not {one.paper:,g}" for name, one in wrong.iterrows()]
        more = f", and {len(words) - 6} more" if len(words) > 6 else ""
        what = f"{source} does not give the paper's numbers: {'; '.join(words[:6])}{more}"
        raise Gz2vitError(f"{what}; give another, or none so that the published one is fetched")
    return checks


def write_published(
    results_dir: Path | str, table: pd.DataFrame | None, paths: Mapping[str, Path],
    profile: str, verified: bool = True, missing: str = "",
) -> str:  # fmt: skip
    """Write `models/<key>/predictions.csv`, `selection/` and `data/galaxy_properties.csv`.

    `table`: of `read_published`; what it lacks is removed. `verified`: whether the catalogue is
    the published file. `missing`: what could not be had, for the report. Returns the data's name.
    Raises `Gz2vitError` in a folder that holds a training, whose predictions would be replaced.
    """
    name = "the paper's own numbers, without its predictions, which are missing"
    results = Path(results_dir)
    if trained := [*results.glob(f"models/*/{CHECKPOINT}")]:
        raise Gz2vitError(f"{trained[0]} is a training's; name other results with --results DIR")
    files: dict[str, pd.DataFrame | None] = {"data/galaxy_properties.csv": None}
    files |= {f"models/{key}/predictions.csv": None for key in ACCURACIES}
    for split in SPLITS:
        labels = paths["labels"].with_name(f"gz2_{split}.csv") if "labels" in paths else None
        files[f"selection/gz2_{split}.csv"] = read_label_table(labels) if labels else None
    if table is not None:
        name = f"the paper's {len(table):,} test galaxies with its authors' predictions"
        name += "" if verified else f" from {paths[CATALOGUE].name}, which was not verified"
        labels = table[["galaxyID", "class"]].rename(columns={"class": "label1"})
        files["selection/gz2_test.csv"] = labels
        for key in table.columns.intersection([*ACCURACIES]):
            own = table[["galaxyID", "class", key]].set_axis(["GalaxyID", "class", "pred"], axis=1)
            files[f"models/{key}/predictions.csv"] = own
        if CATALOGUE in paths:
            files["data/galaxy_properties.csv"] = table[["galaxyID", *PROPERTY_COLUMNS]]
    for file, content in files.items():
        if content is None:
            (results / file).unlink(missing_ok=True)
        else:
            write_text(results / file, content.to_csv(index=False))
    counts = {split: sum(counts) for split, counts in paper.SPLIT_CLASS_COUNTS.items()}
    data = {"profile": profile, "folder": str((results / "data").resolve()), "name": name}
    data |= {"simulated": False, "galaxies": counts, "missing": missing}
    write_json(results / "selection" / "data.json", data)
    return name
