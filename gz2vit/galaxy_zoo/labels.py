"""From votes to label tables: the classes of a rule, the merged labels, and the three splits."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from gz2vit.catalog import SPLITS
from gz2vit.errors import Gz2vitError
from gz2vit.galaxy_zoo.rules import Rule
from gz2vit.galaxy_zoo.votes import vote_count, vote_fraction
from gz2vit.paper import (
    CLASS_NAMES,
    LABEL1_TO_LABEL2,
    LABEL1_TO_LABEL3,
    LABEL1_TO_LABEL4,
    SPLIT_FRACTIONS,
)
from gz2vit.results import atomic_path

NO_CLASS = -1  # a galaxy that fulfils the conditions of no class


def fulfilled(votes: pd.DataFrame, rule: Rule) -> np.ndarray:
    """Which galaxies fulfil which class: bool (classes in the rule's order, galaxies)."""
    passes = {
        one: vote_fraction(votes, one.answers, one.column) >= one.at_least
        for one in rule.conditions().values()
    }
    rows = []
    for one in rule.classes:
        row = vote_count(votes, one.question) >= rule.min_votes
        for condition in one.conditions:
            row = row & passes[condition]
        rows.append(row)
    return np.array(rows)


def first_fulfilled(matches: np.ndarray, rule: Rule) -> np.ndarray:
    """The class that each galaxy gets, int64 (galaxies,), from `fulfilled`'s matrix."""
    indices = np.array([one.class_index for one in rule.classes])
    return np.where(matches.any(axis=0), indices[matches.argmax(axis=0)], NO_CLASS)


def derive_classes(votes: pd.DataFrame, rule: Rule) -> pd.Series:
    """The class of every galaxy (0 to 7, or NO_CLASS), indexed by galaxy id."""
    return pd.Series(first_fulfilled(fulfilled(votes, rule), rule), votes.index, name="label1")


def label_table(classes: pd.Series) -> pd.DataFrame:
    """`galaxyID,label1,label2,label3,label4` of all galaxies that have a class."""
    chosen = classes[classes != NO_CLASS]
    table = pd.DataFrame({"galaxyID": chosen.index, "label1": chosen.to_numpy()})
    merged = (LABEL1_TO_LABEL2, LABEL1_TO_LABEL3, LABEL1_TO_LABEL4)
    for number, mapping in enumerate(merged, start=2):
        table[f"label{number}"] = np.array(mapping)[table.label1]
    return table


def split_galaxies(table: pd.DataFrame, seed: int) -> dict[str, pd.DataFrame]:
    """The paper's 64 % train, 16 % valid and 20 % test, drawn with `seed`.

    Drawn as the published sizes tell: a fifth for testing, then a fifth of the rest for validation,
    each rounded up, without regard to class. 155,951 galaxies give 99,808, 24,952 and 31,191.
    Raises `Gz2vitError` where a split would be empty.
    """
    if len(table) < 5:  # a fifth of less leaves a split empty
        raise Gz2vitError(f"{len(table)} galaxies got a class; three splits need at least 5")
    from sklearn.model_selection import train_test_split  # slow to import, and seldom wanted

    rest, test = train_test_split(
        table, test_size=SPLIT_FRACTIONS["test"], random_state=seed, shuffle=True
    )
    share = SPLIT_FRACTIONS["valid"] / (1 - SPLIT_FRACTIONS["test"])
    train, valid = train_test_split(rest, test_size=round(share, 9), random_state=seed)
    parts = {"train": train, "valid": valid, "test": test}
    return {split: parts[split].reset_index(drop=True) for split in SPLITS}


def write_label_tables(directory: Path | str, tables: Mapping[str, pd.DataFrame]) -> list[Path]:
    """Write `gz2_<split>.csv` into `directory`; the paths."""
    paths = []
    for split, table in tables.items():
        path = Path(directory) / f"gz2_{split}.csv"
        with atomic_path(path) as temporary:
            table.to_csv(temporary, index=False)
        paths.append(path)
    return paths


def class_counts(classes: pd.Series) -> pd.Series:
    """Galaxies for each class name, and under `no class` those that got none."""
    counts = np.bincount(classes[classes != NO_CLASS], minlength=len(CLASS_NAMES))
    names = [f"{index} {name}" for index, name in enumerate(CLASS_NAMES)]
    counted = dict(zip(names, counts.tolist(), strict=True))
    return pd.Series(counted | {"no class": int((classes == NO_CLASS).sum())}, name="galaxies")
