"""What saved features know: classes by layer, maps of galaxies, neighbours."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from gz2vit.attention import linear_probe, nearest_neighbours
from gz2vit.catalog import read_properties
from gz2vit.errors import Gz2vitError
from gz2vit.inspection.features import Features, features_path, layers_of, read_features
from gz2vit.inspection.projection import project
from gz2vit.results import require
from gz2vit.selection import Selection

# The properties of the figure, and how their scales are called.
PROPERTIES = {"petroR90_r": "size, R90 [arcsec]", "dered_r": "magnitude, r [mag]"}


def probe_layers(
    results_dir: Path | str, key: str, most: int | None = None, seed: int = 0
) -> pd.DataFrame:
    """Linear probes of every layer of a model, learnt from training and asked of test galaxies.

    `most`: training galaxies at most. Columns: `model`, `layer`, `accuracy` (0 to 1), `low`,
    `high` (95 % Wilson), `galaxies`. Errors as of `linear_probe` and `read_features`.
    """
    path = features_path(results_dir, key)
    rows = []
    for layer in layers_of(path):
        every = read_features(path, layer)
        train, test = every.of("train", most, seed), every.of("test")
        pair = ({layer: train.vectors}, train.class_index, {layer: test.vectors}, test.class_index)
        rows.append(linear_probe(*pair))
    table = pd.concat(rows, ignore_index=True)
    table.insert(0, "model", key)
    return table


def umap_table(
    results_dir: Path | str, keys: Sequence[str], most: int, neighbours: int, seed: int = 0
) -> pd.DataFrame:
    """UMAP of the last layer of each model: the same test galaxies for all, `most` at most.

    Columns: `model`, `galaxyID`, `class`, `x`, `y`. Errors as of `project` and `read_features`.
    """
    parts = []
    for key in keys:
        own = read_features(features_path(results_dir, key)).of("test", most, seed)
        points = project(own.vectors, neighbours, seed)
        columns = {"galaxyID": own.galaxy_ids, "class": own.class_index}
        parts.append(pd.DataFrame({"model": key, **columns, "x": points[:, 0], "y": points[:, 1]}))
    return pd.concat(parts, ignore_index=True)


def read_umap(results_dir: Path | str) -> pd.DataFrame:
    """The table of `umap_table`, as the step `features` saved it."""
    path = require(Path(results_dir) / "features" / "umap.csv", "features")
    return pd.read_csv(path, dtype={"galaxyID": str})


def property_values(
    selection: Selection, galaxy_ids: Sequence[str]
) -> Mapping[str, np.ndarray | str]:
    """Sizes and magnitudes of galaxies (N,), by the label of their scale.

    Words that say why there are none, where the data folder has no `galaxy_properties.csv` or no
    value for any of these galaxies. NaN where one galaxy's is unknown.
    """
    folder = Path(selection.data["folder"])
    table = read_properties(folder / "galaxy_properties.csv")
    if table is None:
        why = f"not known:\n{folder.name} has no\ngalaxy_properties.csv"
        return dict.fromkeys(PROPERTIES.values(), why)
    known = table.drop_duplicates("galaxyID").set_index("galaxyID").reindex(list(galaxy_ids))
    found: dict[str, np.ndarray | str] = {}
    for column, label in PROPERTIES.items():
        values = known[column].to_numpy(dtype=np.float64)
        empty = f"not known:\n{column} has no value\nfor these galaxies"
        found[label] = empty if np.isnan(values).all() else values
    return found


def nearest_galaxies(features: Features, galaxy_id: str, count: int) -> list[str]:
    """The ids of the `count` galaxies nearest to one, by the cosine of their features.

    Fewer where there are not so many. Raises `Gz2vitError` for a galaxy without features.
    """
    rows = np.flatnonzero(features.galaxy_ids == galaxy_id)
    if len(rows) == 0:
        raise Gz2vitError(f"galaxy {galaxy_id} has no features; run the step 'features' again")
    near = min(count, len(features.galaxy_ids) - 1)
    found, _ = nearest_neighbours(features.vectors, int(rows[0]), near)
    return features.galaxy_ids[found.numpy()].tolist()
