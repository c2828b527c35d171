"""Small catalogues of votes for tests, in the form of Galaxy Zoo 2's."""

from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd

from gz2vit import votes as v

# Which answers belong to one question, and how many of its volunteers a galaxy has here.
QUESTIONS = [list(names) for _, names in groupby(v.ANSWERS, key=lambda name: v.ANSWERS[name][:3])]
VOLUNTEERS = [40 if one[0] in ("smooth", "odd") else 30 for one in QUESTIONS]


def galaxy(votes: Mapping[str, float]) -> dict[str, float]:
    """One row: the vote fractions given, 0 for every other answer, counts to match."""
    row: dict[str, float] = {}
    for answers, volunteers in zip(QUESTIONS, VOLUNTEERS, strict=True):
        for answer in answers:
            fraction = votes.get(answer, 0.0)
            values = dict.fromkeys(v.KINDS, fraction) | {"count": round(fraction * volunteers)}
            row |= {f"{v.ANSWERS[answer]}_{kind}": value for kind, value in values.items()}
    return row


def random_votes(galaxies: int, seed: int) -> pd.DataFrame:
    """Galaxies with drawn votes; debiased fractions differ from the raw ones."""
    rng, columns = np.random.default_rng(seed), {}
    for answers, volunteers in zip(QUESTIONS, VOLUNTEERS, strict=True):
        shares = rng.dirichlet(np.full(len(answers), 0.5), galaxies)
        counts = np.array([rng.multinomial(volunteers, share) for share in shares])
        fractions = counts / volunteers
        debiased = np.clip(fractions + rng.normal(0, 0.05, counts.shape), 0, 1)
        for place, answer in enumerate(answers):
            for kind, value in zip(v.KINDS, (counts, debiased, fractions, fractions), strict=True):
                columns[f"{v.ANSWERS[answer]}_{kind}"] = value[:, place].astype(float)
    ids = pd.Index([str(587722981736120347 + row) for row in range(galaxies)], name="galaxy_id")
    return pd.DataFrame(columns, ids)


def write_votes(path: Path, votes: pd.DataFrame, key: str = "dr7objid") -> Path:
    """Write a catalogue, compressed where its name says so; its path."""
    votes.rename_axis(key).to_csv(path)
    return path


def make_votes_home(path: Path, votes: pd.DataFrame, rule: v.Rule) -> Path:
    """A folder as a download leaves it, without images: votes, file map, labels by `rule`."""
    (path / "downloads").mkdir(parents=True)
    write_votes(path / v.VOTES_FILE, votes)
    names = [str(1000 + row) for row in range(len(votes))]
    mapping = pd.DataFrame({"objid": votes.index, "sample": "original", "asset_id": names})
    mapping.to_csv(path / v.MAPPING_FILE, index=False)
    classes = v.derive_classes(votes, rule).set_axis(names)
    v.write_label_tables(path, v.split_galaxies(v.label_table(classes), seed=0))
    return path
