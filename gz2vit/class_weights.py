"""Weights of the loss per class: how much a mistake on a rare galaxy costs."""

from collections.abc import Sequence

import numpy as np

from gz2vit.errors import Gz2vitError
from gz2vit.paper import CLASS_COUNT, CLASS_NAMES, TUNED_CLASS_WEIGHTS

ClassWeights = str | Sequence[float]


def class_weights(choice: ClassWeights, class_counts: Sequence[int]) -> np.ndarray:
    """The eight weights, float64 (8,), for a training set with `class_counts` (8,) galaxies.

    `choice`: "uniform" (all 1); "tuned" (the paper's, scaled to sum to 8: 0.19 for round
    ellipticals to 3.23 for mergers); "reciprocal" (all galaxies / galaxies of the class, as the
    authors compute it, 4.6 to 73.3 for the paper's sample); or eight positive numbers, used as
    they are. Raises `Gz2vitError` for anything else, and for "reciprocal" with an empty class.
    """
    counts = np.asarray(class_counts, dtype=np.float64)
    if not isinstance(choice, str):
        return _given(choice)
    if choice == "uniform":
        return np.ones(CLASS_COUNT)
    if choice == "tuned":
        weights = np.asarray(TUNED_CLASS_WEIGHTS)
        return weights * CLASS_COUNT / weights.sum()
    if choice == "reciprocal":
        if (counts == 0).any():
            empty = CLASS_NAMES[int(counts.argmin())]
            raise Gz2vitError(f"reciprocal class weights need training galaxies of class '{empty}'")
        return counts.sum() / counts
    raise Gz2vitError(
        f"CLASS_WEIGHTS '{choice}' is not uniform, tuned, reciprocal or a list of {CLASS_COUNT}"
    )


def _given(choice: Sequence[float]) -> np.ndarray:
    """A user's own eight weights, checked."""
    try:
        weights = np.asarray(choice, dtype=np.float64)
    except (TypeError, ValueError):
        weights = np.empty(0)
    if weights.shape != (CLASS_COUNT,) or not np.all(np.isfinite(weights) & (weights > 0)):
        raise Gz2vitError(f"CLASS_WEIGHTS {choice} must be {CLASS_COUNT} positive numbers")
    return weights
