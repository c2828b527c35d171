"""The real Galaxy Zoo 2 as a data folder: fetched, verified, and its properties joined."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gz2vit.catalog import PROPERTY_COLUMNS, SPLITS, read_label_table
from gz2vit.downloads.galaxy_zoo import download
from gz2vit.galaxy_zoo import write_properties
from gz2vit.galaxy_zoo.folder import MAPPING_FILE, SAMPLE_FILE


def fetch_galaxy_zoo(
    directory: Path,
    what: Sequence[str] = (),
    mirror: str | None = None,
    images: Path | None = None,
    **published: Any,
) -> None:
    """Fetch `what` (all by default) into the data folder `directory`, and join the properties.

    See `downloads.galaxy_zoo.download`, also for `published`. `galaxy_properties.csv` is written
    once label tables, file map and sample table are there; how many galaxies have no value is
    printed.
    """
    download(directory, what, mirror, images, **published)
    tables = [directory / f"gz2_{split}.csv" for split in SPLITS]
    sources = [directory / MAPPING_FILE, directory / SAMPLE_FILE]
    target = directory / "galaxy_properties.csv"
    if not all(path.exists() for path in (*tables, *sources)) or _newer(target, tables + sources):
        return
    galaxy_ids = pd.concat([read_label_table(path).galaxyID for path in tables])
    joined = write_properties(directory, galaxy_ids, *sources)
    missing = ", ".join(f"{joined.missing[name]:,} without {name}" for name in PROPERTY_COLUMNS)
    print(
        f"{target.name}: {len(galaxy_ids):,} galaxies; {missing}; {joined.unmatched:,} of them are "
        "not in the sample table",
        flush=True,
    )


def _newer(target: Path, sources: Sequence[Path]) -> bool:
    """Whether `target` was made after all `sources`."""
    if not target.exists():
        return False
    return all(target.stat().st_mtime_ns >= path.stat().st_mtime_ns for path in sources)
