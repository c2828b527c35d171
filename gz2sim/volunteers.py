"""Simulated volunteers: votes for galaxies whose class is known, in Galaxy Zoo 2's form.

They walk the decision tree (Willett et al. 2013, Fig. 1): the first question is put to all, and
each later one to those who gave the answer that leads to it. Real votes are not needed then to see
how labels come out of votes. How often each class is called what is this suite's assumption
(`_ANSWERS`); how much galaxies of one class differ is `AGREEMENT`. Distance does not enter, so
that the debiased fractions equal the raw ones.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from gz2vit.votes import ANSWERS, KINDS

VOLUNTEERS = (44, 8)  # mean and scatter for each galaxy: about those of the main catalogue
AGREEMENT = 5.0  # concentration of the Dirichlet distribution around a class's probabilities

# For each class: smooth, features or disk, star or artifact; edge-on; bar; spiral; odd; completely
# round, in-between, cigar-shaped; ring, lens, disturbed, irregular, other, merger, dust lane.
_ANSWERS = (
    ((80, 15, 5), 2, 15, 30, 8, (80, 19, 1), (30, 10, 10, 5, 35, 5, 5)),
    ((78, 17, 5), 5, 15, 30, 8, (12, 82, 6), (30, 10, 10, 5, 35, 5, 5)),
    ((70, 25, 5), 75, 10, 20, 8, (1, 19, 80), (10, 10, 15, 10, 40, 5, 10)),
    ((18, 79, 3), 90, 10, 25, 10, (1, 29, 70), (10, 5, 10, 10, 30, 5, 30)),
    ((12, 85, 3), 5, 80, 90, 12, (40, 50, 10), (40, 10, 15, 10, 15, 5, 5)),
    ((14, 83, 3), 4, 10, 90, 12, (50, 45, 5), (40, 10, 15, 10, 15, 5, 5)),
    ((30, 63, 7), 12, 20, 35, 80, (20, 60, 20), (2, 3, 20, 62, 6, 5, 2)),
    ((45, 48, 7), 12, 15, 40, 90, (35, 50, 15), (2, 3, 8, 3, 2, 80, 2)),
)
_QUESTIONS = (
    ("smooth", "features_or_disk", "star_or_artifact"),
    ("edgeon", "not_edgeon"),
    ("bar", "no_bar"),
    ("spiral", "no_spiral"),
    ("odd", "not_odd"),
    ("completely_round", "in_between", "cigar_shaped"),
    ("ring", "lens_or_arc", "disturbed", "irregular", "other", "merger", "dust_lane"),
)
# Who is asked each question: all, or those who gave these answers before.
_ASKED = (
    None,
    ("features_or_disk",),
    ("not_edgeon",),
    ("not_edgeon",),
    ("smooth", "features_or_disk"),
    ("smooth",),
    ("odd",),
)


def simulate_votes(
    galaxy_ids: Sequence[str], class_index: Sequence[int], seed: int
) -> pd.DataFrame:
    """Votes on galaxies of known class (0 to 7), as `galaxy_zoo.read_votes` returns them.

    Counts are whole numbers; fractions, 0 to 1, are 0 where nobody was asked.
    """
    rng = np.random.default_rng(seed)
    classes = np.asarray(class_index)
    mean, scatter = VOLUNTEERS
    volunteers = np.maximum(1, rng.normal(mean, scatter, len(classes)).round()).astype(np.int64)
    counts: dict[str, np.ndarray] = {}
    for place, (answers, leading) in enumerate(zip(_QUESTIONS, _ASKED, strict=True)):
        asked = volunteers if leading is None else sum(counts[answer] for answer in leading)
        shares = _shares(place, classes, rng)
        drawn = rng.multinomial(asked, shares)
        counts |= {answer: drawn[:, number] for number, answer in enumerate(answers)}
    columns = {"total_classifications": volunteers.astype(float)}
    for answers in _QUESTIONS:
        total = np.maximum(1, sum(counts[answer] for answer in answers))
        for answer in answers:
            fraction = (counts[answer] / total).round(3)  # the catalogues' precision
            values = dict.fromkeys(KINDS, fraction) | {"count": counts[answer].astype(float)}
            columns |= {f"{ANSWERS[answer]}_{kind}": values[kind] for kind in KINDS}
    return pd.DataFrame(columns, pd.Index(galaxy_ids, name="galaxy_id"))


def _shares(question: int, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each galaxy the probability of each answer to a question, float64 (galaxies, answers)."""
    table = []
    for answers in _ANSWERS:
        percent = answers[question]
        both = percent if isinstance(percent, tuple) else (percent, 100 - percent)
        table.append(np.array(both) / 100.0)
    gammas = rng.gamma(AGREEMENT * np.array(table)[classes])
    return gammas / gammas.sum(axis=1, keepdims=True)
