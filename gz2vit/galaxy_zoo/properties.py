"""Sizes and magnitudes of a data folder's galaxies, joined by SDSS DR7 object id.

From Galaxy Zoo 2's sample table (`gz2sample.csv.gz`): petroR90_r [arcsec] is PETROR90_R; dered_r
[mag] is PETROMAG_R - EXTINCTION_R; dered_g_r [mag] the same for g, less that for r.

DEVIATION: the paper's Fig. 4 used SDSS's dered_r, a model magnitude; the sample table holds only
Petrosian ones. For galaxies this bright the two differ by hundredths of a magnitude as a rule.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from gz2vit.catalog import PROPERTY_COLUMNS
from gz2vit.errors import Gz2vitError
from gz2vit.galaxy_zoo.identifiers import object_ids, read_mapping
from gz2vit.results import atomic_path

SAMPLE_KEY = "OBJID"
REQUIRED = (SAMPLE_KEY, "PETROR90_R", "PETROMAG_R", "EXTINCTION_R")
OPTIONAL = ("PETROMAG_G", "EXTINCTION_G")
# Extinction in g over that in r, for any amount of dust: 3.793 / 2.751 (Stoughton et al. 2002,
# AJ 123, 485, Table 22). Used where the table has no EXTINCTION_G.
EXTINCTION_G_OVER_R = 3.793 / 2.751
MAGNITUDE_RANGE = (0.0, 30.0)  # SDSS writes -9999 for "not measured"


@dataclass(frozen=True)
class JoinedProperties:
    """`table`: galaxyID (text), petroR90_r, dered_r, dered_g_r, NaN where unknown, one row for
    each galaxy asked for; `missing`: how many of them have no value, by column; `unmatched`: how
    many are not in the sample table at all."""

    table: pd.DataFrame
    missing: Mapping[str, int]
    unmatched: int


def read_sample(path: Path | str) -> pd.DataFrame:
    """The sample table as petroR90_r, dered_r, dered_g_r (float64), indexed by object id (text).

    Impossible values become NaN. Raises `Gz2vitError` for a file that cannot be read or lacks a
    column. An object that stands there twice is taken once, its first row.
    """
    try:
        header = pd.read_csv(path, nrows=0).columns
        missing = [name for name in REQUIRED if name not in header]
        if missing:
            raise Gz2vitError(f"{path} has no column {missing[0]}; it is not GZ2's sample table")
        columns = [*REQUIRED, *(name for name in OPTIONAL if name in header)]
        types = dict.fromkeys(columns[1:], np.float64) | {SAMPLE_KEY: str}
        table = pd.read_csv(path, usecols=columns, dtype=types)
    except FileNotFoundError:
        raise Gz2vitError(
            f"there is no sample table {path}; `python -m gz2vit download properties --to DIR` "
            "fetches it"
        ) from None
    except (OSError, EOFError, ValueError, UnicodeDecodeError) as error:
        raise Gz2vitError(f"{path} cannot be read as GZ2's sample table: {error}") from error
    return _physical(table.drop_duplicates(SAMPLE_KEY).set_index(SAMPLE_KEY))


def _physical(table: pd.DataFrame) -> pd.DataFrame:
    """The three properties, from the columns of the sample table."""
    radius_arcsec = table.PETROR90_R.where(table.PETROR90_R > 0)
    extinction_r = table.EXTINCTION_R.where(table.EXTINCTION_R >= 0)
    dered_r = _magnitude(table.PETROMAG_R) - extinction_r
    dered_g_r = pd.Series(np.nan, table.index)
    if "PETROMAG_G" in table:
        extinction_g = extinction_r * EXTINCTION_G_OVER_R
        if "EXTINCTION_G" in table:
            extinction_g = table.EXTINCTION_G.where(table.EXTINCTION_G >= 0)
        dered_g_r = _magnitude(table.PETROMAG_G) - extinction_g - dered_r
    columns = dict(zip(PROPERTY_COLUMNS, (radius_arcsec, dered_r, dered_g_r), strict=True))
    return pd.DataFrame(columns)


def _magnitude(values: pd.Series) -> pd.Series:
    """Magnitudes, NaN where they are not ones."""
    low, high = MAGNITUDE_RANGE
    return values.where((values > low) & (values < high))


def join_properties(
    galaxy_ids: pd.Series, mapping: pd.DataFrame, sample: pd.DataFrame
) -> JoinedProperties:
    """Properties of `galaxy_ids` (image names), by way of the file map's object ids."""
    objects = object_ids(mapping).reindex(galaxy_ids).to_numpy()
    table = sample.reindex(objects).reset_index(drop=True)
    table.insert(0, "galaxyID", galaxy_ids.to_numpy())
    missing = {name: int(table[name].isna().sum()) for name in PROPERTY_COLUMNS}
    return JoinedProperties(table, missing, int((~pd.Index(objects).isin(sample.index)).sum()))


def write_properties(
    directory: Path | str, galaxy_ids: pd.Series, mapping_path: Path, sample_path: Path
) -> JoinedProperties:
    """Write `galaxy_properties.csv` of a data folder for `galaxy_ids`; what was joined."""
    joined = join_properties(galaxy_ids, read_mapping(mapping_path), read_sample(sample_path))
    with atomic_path(Path(directory) / "galaxy_properties.csv") as temporary:
        joined.table.to_csv(temporary, index=False, float_format="%.4f")
    return joined
