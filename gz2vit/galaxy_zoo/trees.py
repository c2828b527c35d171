"""A free decision tree beside the rule: how much of the labels do the votes explain at all?

The tree may split on any answer's fraction in any order, so that it shows whether the form of a
rule (thresholds along the questions' path) misses something that the votes do tell.
"""

import numpy as np
import pandas as pd
from sklearn.model_selection import cross_val_predict
from sklearn.tree import DecisionTreeClassifier, export_text

from gz2vit.galaxy_zoo.labels import NO_CLASS
from gz2vit.galaxy_zoo.rules import ANSWERS
from gz2vit.galaxy_zoo.votes import vote_fraction

FOLDS = 5


def tree_agreement(votes: pd.DataFrame, labels: pd.Series, column: str, depth: int) -> float:
    """Share of galaxies whose label a decision tree of `depth` tells right, cross-validated.

    `labels`: class by galaxy id; galaxies of `votes` without one count as not selected.
    """
    fractions, truth = _features(votes, column), _truth(votes, labels)
    return float((cross_val_predict(_tree(depth), fractions, truth, cv=FOLDS) == truth).mean())


def tree_text(votes: pd.DataFrame, labels: pd.Series, column: str, depth: int) -> str:
    """The tree fitted to all galaxies, as text; -1 is a galaxy that is not selected."""
    tree = _tree(depth).fit(_features(votes, column), _truth(votes, labels))
    return export_text(tree, feature_names=list(ANSWERS), decimals=3)


def _tree(depth: int) -> DecisionTreeClassifier:
    """The same tree in every run."""
    return DecisionTreeClassifier(max_depth=depth, random_state=0)


def _features(votes: pd.DataFrame, column: str) -> np.ndarray:
    """The vote fraction of every answer, float64 (galaxies, answers)."""
    return np.column_stack([vote_fraction(votes, (name,), column) for name in ANSWERS])


def _truth(votes: pd.DataFrame, labels: pd.Series) -> np.ndarray:
    """The class of every galaxy of `votes`, NO_CLASS where it has none."""
    return labels.reindex(votes.index, fill_value=NO_CLASS).to_numpy()
