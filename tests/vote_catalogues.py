"""Small catalogues of votes for tests, in the form of Galaxy Zoo 2's."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from gz2vit.votes import (
    ANSWERS,
    KINDS,
    Rule,
    derive_classes,
    label_table,
    split_galaxies,
    write_label_tables,
)

# Which answers belong to one question, and how many of its volunteers a galaxy has here.
QUESTIONS = {
    ("smooth", "features_or_disk", "star_or_artifact"): 40,
    ("edgeon", "not_edgeon"): 30,
    ("bar", "no_bar"): 30,
    ("spiral", "no_spiral"): 30,
    ("odd", "not_odd"): 40,
    ("completely_round", "in_between", "cigar_shaped"): 30,
    ("ring", "lens_or_arc", "disturbed", "irregular", "other", "merger", "dust_lane"): 30,
}


def galaxy(votes: Mapping[str, float]) -> dict[str, float]:
    """One row: the vote fractions given, 0 for every other answer, counts to match."""
    row: dict[str, float] = {}
    for answers, volunteers in QUESTIONS.items():
        for answer in answers:
            fraction = votes.get(answer, 0.0)
            values = dict.fromkeys(KINDS, fraction) | {"count": round(fraction * volunteers)}
            row |= {f"{ANSWERS[answer]}_{kind}": values[kind] for kind in KINDS}
    return row


def random_votes(galaxies: int, seed: int) -> pd.DataFrame:
    """Galaxies with drawn votes; debiased fractions differ from the raw ones."""
    rng = np.random.default_rng(seed)
    columns: dict[str, np.ndarray] = {}
    for answers, volunteers in QUESTIONS.items():
        shares = rng.dirichlet(np.full(len(answers), 0.5), galaxies)
        counts = np.array([rng.multinomial(volunteers, share) for share in shares])
        debiased = np.clip(counts / volunteers + rng.normal(0, 0.05, counts.shape), 0, 1)
        for place, answer in enumerate(answers):
            fractions = counts[:, place] / volunteers
            values = (counts[:, place], debiased[:, place], fractions, fractions)
            for kind, value in zip(KINDS, values, strict=True):
                columns[f"{ANSWERS[answer]}_{kind}"] = value.astype(float)
    ids = pd.Index([str(587722981736120347 + row) for row in range(galaxies)], name="galaxy_id")
    return pd.DataFrame(columns, ids)


def write_votes(path: Path, votes: pd.DataFrame, key: str = "dr7objid") -> Path:
    """Write a catalogue, compressed where its name says so; its path."""
    votes.rename_axis(key).to_csv(path)
    return path


def make_votes_home(path: Path, votes: pd.DataFrame, rule: Rule) -> Path:
    """A folder as a download leaves it, without images: votes, file map, labels by `rule`."""
    (path / "downloads").mkdir(parents=True)
    write_votes(path / "downloads" / "gz2_hart16.csv.gz", votes)
    names = [str(1000 + row) for row in range(len(votes))]
    rows = [f"{objid},original,{name}" for objid, name in zip(votes.index, names, strict=True)]
    mapping = "\n".join(["objid,sample,asset_id", *rows]) + "\n"
    (path / "downloads" / "gz2_filename_mapping.csv").write_text(mapping)
    classes = derive_classes(votes, rule).set_axis(names)
    write_label_tables(path, split_galaxies(label_table(classes), seed=0))
    return path
