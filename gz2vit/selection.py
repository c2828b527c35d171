"""The galaxies of a run: which ones, in which split, from which data folder.

The step `select` writes `selection/gz2_<split>.csv`, `selection/left_out.csv` (galaxies left out
because their images cannot be read) and `selection/data.json` into the results folder; every later
step reads its galaxies there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gz2vit.catalog import (
    SIMULATION_RECORD,
    SPLITS,
    DataFolder,
    folder_signature,
    read_label_table,
)
from gz2vit.errors import Gz2vitError
from gz2vit.paper import CLASS_NAMES, FIG2_GALAXY_IDS
from gz2vit.results import atomic_path, read_json, require, write_json

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
