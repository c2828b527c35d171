"""The galaxies of a run: which ones, in which split, from which data folder.

The step `select` writes `selection/gz2_<split>.csv` and `selection/data.json` into the results
folder; every later step reads its galaxies there.
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
from gz2vit.paper import CLASS_NAMES, FIG2_GALAXY_IDS
from gz2vit.results import atomic_path, read_json, require, write_json


@dataclass(frozen=True)
class Selection:
    """The galaxies of a run: label tables by split, and where they are from.

    `data` holds `profile`, `folder` (absolute path), `name` (for people: "2,640 galaxies of
    real_gz2"), `simulated`, `signature` (of the folder, at selection) and `galaxies` by split.
    """

    tables: Mapping[str, pd.DataFrame]
    data: Mapping[str, Any]


def write_selection(
    results_dir: Path | str, folder: DataFolder, tables: Mapping[str, pd.DataFrame], profile: str
) -> Selection:
    """Write the selected `tables` of `folder` into the results folder and return them."""
    target = Path(results_dir) / "selection"
    for split, table in tables.items():
        with atomic_path(target / f"gz2_{split}.csv") as temporary:
            table.to_csv(temporary, index=False)
    simulated = (folder.path / SIMULATION_RECORD).exists()
    total = sum(len(table) for table in tables.values())
    kind = "simulated galaxies" if simulated else f"galaxies of {folder.path.name}"
    data = {
        "profile": profile,
        "folder": str(folder.path),
        "name": f"{total:,} {kind}",
        "simulated": simulated,
        "signature": folder_signature(folder.path),
        "galaxies": {split: len(table) for split, table in tables.items()},
    }
    write_json(target / "data.json", data)
    return Selection(tables, data)


def read_selection(results_dir: Path | str) -> Selection:
    """The selection of a results folder; `Gz2vitError` where the step has not run."""
    folder = Path(results_dir) / "selection"
    data = read_json(require(folder / "data.json", "select"))
    tables = {
        split: read_label_table(require(folder / f"gz2_{split}.csv", "select")) for split in SPLITS
    }
    return Selection(tables, data)


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
