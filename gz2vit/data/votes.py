"""The votes at hand: the catalogue of a downloaded data folder, one named by its path, or, for
simulated galaxies, simulated volunteers; and the labels that they can be held against."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gz2vit.catalog import SIMULATION_RECORD, SPLITS, read_label_table
from gz2vit.errors import Gz2vitError
from gz2vit.galaxy_zoo import read_mapping, read_votes, rename_to_objects
from gz2vit.galaxy_zoo.folder import MAPPING_FILE, VOTES_FILE
from gz2vit.paper import CLASS_COUNTS


@dataclass(frozen=True)
class VotesAtHand:
    """`votes`: as `galaxy_zoo.read_votes` gives them; `labels`: the class of galaxies in the label
    tables, by the same ids, or None where nothing connects the two; `name`: for people."""

    votes: pd.DataFrame
    labels: pd.Series | None
    name: str
    simulated: bool

    def record(self, profile: str) -> Mapping[str, Any]:
        """What the footer of a figure tells."""
        return {"profile": profile, "name": self.name, "simulated": self.simulated}


def votes_at_hand(
    data_dir: Path | str, votes_path: Path | str | None, seed: int, simulated_galaxies: int = 0
) -> VotesAtHand:
    """The votes in `votes_path` if given, else those of the data folder.

    Where the folder's galaxies are simulated, volunteers are (with `seed`): on these galaxies, or
    on `simulated_galaxies` others in the paper's mix of classes. Raises `Gz2vitError` where there
    are no votes, and says how to get them.
    """
    data_dir = Path(data_dir)
    if votes_path is None and (data_dir / SIMULATION_RECORD).exists():
        return _simulated(data_dir, seed, simulated_galaxies)
    path = Path(votes_path) if votes_path is not None else data_dir / VOTES_FILE
    if votes_path is None and not path.exists():
        raise Gz2vitError(
            f"there are no votes in {data_dir.resolve()}: `python -m gz2vit download votes mapping "
            f"--to {data_dir.resolve()}` fetches them; or name a catalogue with --set VOTES=FILE"
        )
    votes = read_votes(path)
    labels = _labels(data_dir, votes)
    return VotesAtHand(votes, labels, f"votes on {len(votes):,} galaxies of {path.name}", False)


def _simulated(data_dir: Path, seed: int, galaxies: int) -> VotesAtHand:
    """Simulated volunteers on simulated galaxies, whose classes are known."""
    from gz2vit.simulation.volunteers import simulate_votes  # GalSim, for simulated data alone

    if galaxies:
        mix = np.array(CLASS_COUNTS) / sum(CLASS_COUNTS)
        classes = np.random.default_rng(seed).choice(len(mix), galaxies, p=mix)
        labels = pd.Series(classes, [f"drawn{row}" for row in range(galaxies)], name="label1")
    else:
        labels = _all_labels(data_dir)
    votes = simulate_votes(labels.index, labels.to_numpy(), seed)
    return VotesAtHand(votes, labels, f"simulated votes on {len(votes):,} galaxies", True)


def _all_labels(data_dir: Path) -> pd.Series:
    """The classes of all label tables that are there, by galaxy id."""
    paths = [data_dir / f"gz2_{split}.csv" for split in SPLITS]
    tables = [read_label_table(path) for path in paths if path.exists()]
    if not tables:
        return pd.Series(dtype=np.int64, name="label1")
    return pd.concat(tables).set_index("galaxyID").label1


def _labels(data_dir: Path, votes: pd.DataFrame) -> pd.Series | None:
    """The label tables' classes by the votes' ids; None where they share no galaxy."""
    labels = _all_labels(data_dir)
    mapping = data_dir / MAPPING_FILE
    if mapping.exists() and len(labels):
        labels = rename_to_objects(labels, read_mapping(mapping))
    return labels if labels.index.isin(votes.index).any() else None
