"""Simulated volunteers: votes for galaxies whose class is known, in Galaxy Zoo 2's form.

They walk the decision tree (Willett et al. 2013, Fig. 1): each question after the first goes to
those who gave the answer that leads to it. `PERCENT` and `AGREEMENT` are assumptions; distance does
not enter, so that the debiased fractions equal the raw ones.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

VOLUNTEERS = (44, 8)  # mean and scatter for each galaxy: about those of the main catalogue
AGREEMENT = 5.0  # concentration of the Dirichlet distribution around a class's probabilities
# The catalogues' columns: <question>_<answer>_<kind>.
KINDS = ("count", "debiased", "weighted_fraction", "fraction")
QUESTIONS = {
    "t01_smooth_or_features": ("a01_smooth", "a02_features_or_disk", "a03_star_or_artifact"),
    "t02_edgeon": ("a04_yes", "a05_no"),
    "t03_bar": ("a06_bar", "a07_no_bar"),
    "t04_spiral": ("a08_spiral", "a09_no_spiral"),
    "t06_odd": ("a14_yes", "a15_no"),
    "t07_rounded": ("a16_completely_round", "a17_in_between", "a18_cigar_shaped"),
    "t08_odd_feature": ("a19_ring", "a20_lens_or_arc", "a21_disturbed", "a22_irregular",
                        "a23_other", "a24_merger", "a38_dust_lane"),
}  # fmt: skip
# Who is asked: those who gave one of these answers, or all.
LEADING = {
    "t02_edgeon": ("a02_features_or_disk",), "t03_bar": ("a05_no",), "t04_spiral": ("a05_no",),
    "t06_odd": ("a01_smooth", "a02_features_or_disk"), "t07_rounded": ("a01_smooth",),
    "t08_odd_feature": ("a14_yes",),
}  # fmt: skip
# For each class the answers to each question, in percent; the last of two answers is the rest.
PERCENT = (
    ((80, 15, 5), 2, 15, 30, 8, (80, 19, 1), (30, 10, 10, 5, 35, 5, 5)),
    ((78, 17, 5), 5, 15, 30, 8, (12, 82, 6), (30, 10, 10, 5, 35, 5, 5)),
    ((70, 25, 5), 75, 10, 20, 8, (1, 19, 80), (10, 10, 15, 10, 40, 5, 10)),
    ((18, 79, 3), 90, 10, 25, 10, (1, 29, 70), (10, 5, 10, 10, 30, 5, 30)),
    ((12, 85, 3), 5, 80, 90, 12, (40, 50, 10), (40, 10, 15, 10, 15, 5, 5)),
    ((14, 83, 3), 4, 10, 90, 12, (50, 45, 5), (40, 10, 15, 10, 15, 5, 5)),
    ((30, 63, 7), 12, 20, 35, 80, (20, 60, 20), (2, 3, 20, 62, 6, 5, 2)),
    ((45, 48, 7), 12, 15, 40, 90, (35, 50, 15), (2, 3, 8, 3, 2, 80, 2)),
)


def simulate_votes(
    galaxy_ids: Sequence[str], class_index: Sequence[int], seed: int
) -> pd.DataFrame:
    """Votes on galaxies of known class: the catalogues' columns; 0 where nobody was asked."""
    rng = np.random.default_rng(seed)
    volunteers = np.maximum(1, rng.normal(*VOLUNTEERS, len(class_index)).round()).astype(np.int64)
    columns, counts = {"total_classifications": volunteers.astype(float)}, {}
    percents = zip(*PERCENT, strict=True)
    for (question, answers), percent in zip(QUESTIONS.items(), percents, strict=True):
        leading = LEADING.get(question)
        asked = sum(counts[answer] for answer in leading) if leading else volunteers
        both = [one if isinstance(one, tuple) else (one, 100 - one) for one in percent]
        gammas = rng.gamma(AGREEMENT * (np.array(both) / 100.0)[np.asarray(class_index)])
        drawn = rng.multinomial(asked, gammas / gammas.sum(axis=1, keepdims=True))
        for answer, count in zip(answers, drawn.T, strict=True):
            counts[answer] = count
            fraction = (count / np.maximum(1, drawn.sum(axis=1))).round(3)  # as in the catalogues
            values = dict.fromkeys(KINDS, fraction) | {"count": count.astype(float)}
            columns |= {f"{question}_{answer}_{kind}": values[kind] for kind in KINDS}
    return pd.DataFrame(columns, pd.Index(galaxy_ids, name="galaxy_id"))
