"""The two sides of the comparison: real galaxies of a run, and simulated ones, class by class."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from gz2vit.catalog import DataFolder, read_data_folder
from gz2vit.data.images import read_image
from gz2vit.paper import CLASS_COUNT, CROP_PX
from gz2vit.realism.names import REAL, SIMULATED
from gz2vit.selection import read_selection

# The test galaxies have no say in how the simulation is judged, and by that made.
SPLITS = ("train", "valid")
COLUMNS = ("galaxy_id", "class_index", "path")
THUMBNAIL_PX = 32


def find_sides(
    results_dir: Path | str, galaxies: int, seed: int, processes: int | None = None
) -> dict[str, pd.DataFrame]:
    """The galaxies of both sides, {REAL: table, SIMULATED: table}, with COLUMNS.

    The real ones are those of the run, training and validation; beside them, `galaxies` simulated
    ones are made with `seed` in `realism/simulated/` of the results folder. A run on simulated
    galaxies has those alone, and an empty table of real ones. Raises `Gz2vitError` as
    `simulation.simulate` and `selection.read_selection`.
    """
    selection = read_selection(results_dir)
    folder = Path(selection.data["folder"])
    own = _list_galaxies(selection.tables, folder)
    if selection.data["simulated"]:
        return {REAL: own.iloc[:0], SIMULATED: own}
    made = _simulated_folder(Path(results_dir) / "realism" / "simulated", galaxies, seed, processes)
    return {REAL: own, SIMULATED: _list_galaxies(made.tables, made.path)}


def _simulated_folder(path: Path, galaxies: int, seed: int, processes: int | None) -> DataFolder:
    """A data folder of simulated galaxies, made where it is not there yet."""
    from gz2vit.simulation import simulate  # GalSim is slow to load

    simulate(path, galaxies, seed, processes, replace=True)
    return read_data_folder(path)


def _list_galaxies(tables: Mapping[str, pd.DataFrame], folder: Path) -> pd.DataFrame:
    """The galaxies of SPLITS with their classes and images."""
    rows = pd.concat([tables[split] for split in SPLITS], ignore_index=True)
    paths = [str(folder / "images" / f"{name}.jpg") for name in rows.galaxyID]
    columns = (rows.galaxyID, rows.label1, paths)
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))


def match_classes(
    sides: Mapping[str, pd.DataFrame], per_class: int, seed: int = 0
) -> pd.DataFrame:
    """As many galaxies of each class on both sides, `per_class` at most, drawn with `seed`.

    One table with a column `origin` (REAL or SIMULATED). A class that only one side has is taken
    from that side, so that it is seen; where both have it, their numbers are the same.
    """
    chosen = []
    for index in range(CLASS_COUNT):
        own = {name: table[table.class_index == index] for name, table in sides.items()}
        number = min([per_class, *(len(table) for table in own.values() if len(table))])
        for name, table in own.items():
            drawn = table.sample(min(number, len(table)), random_state=seed)
            chosen.append(drawn.assign(origin=name))
    return pd.concat(chosen, ignore_index=True)


def pictures(galaxies: pd.DataFrame, per_class: int) -> dict[str, list[list[np.ndarray]]]:
    """Of each side and class, in order, the first `per_class` images of `galaxies` (or fewer).

    uint8 (224, 224, 3): the central square that networks see. `galaxies`: as `match_classes`
    returns them.
    """
    found = {}
    for side in (REAL, SIMULATED):
        own = galaxies[galaxies.origin == side]
        chosen = [own.path[own.class_index == index][:per_class] for index in range(CLASS_COUNT)]
        found[side] = [[read_image(Path(path), CROP_PX) for path in paths] for paths in chosen]
    return found


def thumbnails(galaxies: pd.DataFrame) -> np.ndarray:
    """The pictures of `galaxies` (column `path`), small: float32 (N, 32, 32, 3), 0 to 1.

    Of the central square that networks see, averaged down.
    """
    size = (THUMBNAIL_PX, THUMBNAIL_PX)
    small = [
        cv2.resize(read_image(Path(path), CROP_PX), size, interpolation=cv2.INTER_AREA)
        for path in galaxies.path
    ]
    return np.array(small, np.float32).reshape(-1, *size, 3) / 255.0
