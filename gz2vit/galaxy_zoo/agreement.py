"""Derived against published labels: who agrees, and who is missing on either side."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from gz2vit.galaxy_zoo.labels import NO_CLASS
from gz2vit.paper import CLASS_COUNT, CLASS_NAMES


@dataclass(frozen=True)
class Agreement:
    """How two labellings of the same catalogue compare.

    `counts`: int64 (8, 8), rows published, columns derived, of galaxies that both have;
    `only_published`, `only_derived`: galaxies for each class (8,) that the other side lacks;
    `neither`: galaxies of the catalogue that are in no class of either; `unknown`: published
    galaxies that the catalogue of votes does not hold.
    """

    counts: np.ndarray
    only_published: np.ndarray
    only_derived: np.ndarray
    neither: int
    unknown: int

    @property
    def share(self) -> float:
        """Of the galaxies that both have, the share with the same class; NaN without any."""
        both = self.counts.sum()
        return float(self.counts.trace() / both) if both else float("nan")

    def table(self) -> pd.DataFrame:
        """Counts with the missing ones as a last row and column `not selected`."""
        names = [f"{index} {name}" for index, name in enumerate(CLASS_NAMES)]
        rows = np.vstack([self.counts, self.only_derived])
        last = np.append(self.only_published, self.neither)
        frame = pd.DataFrame(rows, [*names, "not selected"], names)
        frame["not selected"] = last
        return frame.rename_axis(index="published", columns="derived")


def compare_labels(derived: pd.Series, published: pd.Series) -> Agreement:
    """Compare `derived` (NO_CLASS where none) with `published`, both class by galaxy id.

    `derived` covers the whole catalogue of votes; `published` only the galaxies of its tables.
    """
    theirs = published.reindex(derived.index, fill_value=NO_CLASS).to_numpy()
    ours = derived.to_numpy()
    counts = np.zeros((CLASS_COUNT + 1, CLASS_COUNT + 1), dtype=np.int64)
    np.add.at(counts, (theirs, ours), 1)  # NO_CLASS, -1, is the last row and column
    return Agreement(
        counts=counts[:-1, :-1],
        only_published=counts[:-1, -1],
        only_derived=counts[-1, :-1],
        neither=int(counts[-1, -1]),
        unknown=int((~published.index.isin(derived.index)).sum()),
    )
