"""The published label tables, checked against the published counts and against the images."""

from collections.abc import Mapping, Sequence, Set
from pathlib import Path

import pandas as pd

from gz2vit.catalog import SPLITS, check_disjoint, read_label_table
from gz2vit.errors import Gz2vitError
from gz2vit.paper import (
    CLASS_NAMES,
    LABEL1_TO_LABEL2,
    LABEL1_TO_LABEL3,
    LABEL1_TO_LABEL4,
    SPLIT_CLASS_COUNTS,
)

MERGED_LABELS = {
    "label2": LABEL1_TO_LABEL2,
    "label3": LABEL1_TO_LABEL3,
    "label4": LABEL1_TO_LABEL4,
}


def check_published_split(
    directory: Path, class_counts: Mapping[str, Sequence[int]] = SPLIT_CLASS_COUNTS
) -> None:
    """Check that `gz2_<split>.csv` in `directory` are the paper's label tables.

    `class_counts`: galaxies of each class for each split. Raises `Gz2vitError` that names the
    table and the class for another number of galaxies, a label2 to label4 that does not follow
    from label1, and a galaxy in two splits.
    """
    tables = {split: read_label_table(directory / f"gz2_{split}.csv") for split in SPLITS}
    check_disjoint(tables, directory)
    for split, table in tables.items():
        path = directory / f"gz2_{split}.csv"
        counts = table.label1.value_counts()
        for label, expected in enumerate(class_counts[split]):
            if counts.get(label, 0) != expected:
                raise Gz2vitError(
                    f"{path} holds {counts.get(label, 0):,} galaxies of class {label} "
                    f"{CLASS_NAMES[label]}, the published table {expected:,}; move it away and "
                    "download it again"
                )
        _check_merged_labels(table, path)


def _check_merged_labels(table: pd.DataFrame, path: Path) -> None:
    """label2 to label4 merge the classes of label1, row by row."""
    for column, merged in MERGED_LABELS.items():
        if column not in table:
            raise Gz2vitError(f"{path} has no column {column}; move it away and download it again")
        wrong = table[table[column] != table.label1.map(dict(enumerate(merged)))]
        if len(wrong):
            row = wrong.iloc[0]
            raise Gz2vitError(
                f"{path}: galaxy {row.galaxyID} of class {row.label1} has {column} {row[column]} "
                f"instead of {merged[row.label1]} ({len(wrong):,} such rows); move it away and "
                "download it again"
            )


def check_images_cover(directory: Path, names: Set[str], source: Path) -> None:
    """Raise `Gz2vitError` if a galaxy of the label tables in `directory` has no image.

    `names`: the images' file names, from `source`. Nothing is checked where there are no tables.
    """
    paths = [directory / f"gz2_{split}.csv" for split in SPLITS]
    tables = [read_label_table(path) for path in paths if path.exists()]
    galaxy_ids = [name for table in tables for name in table.galaxyID]
    missing = [galaxy_id for galaxy_id in galaxy_ids if f"{galaxy_id}.jpg" not in names]
    if missing:
        raise Gz2vitError(
            f"{source} has no image of {len(missing):,} of the {len(galaxy_ids):,} galaxies in the "
            f"label tables of {directory}, the first is {missing[0]}.jpg; name other images with "
            "--images"
        )
