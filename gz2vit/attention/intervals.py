"""Means over galaxies with what is known of their error: the bootstrap, seeded.

Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", the percentile interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gz2vit.errors import Gz2vitError

RESAMPLES = 10_000  # the ends of a 95 % interval then stand on 250 resamples each
CHUNK = 1_000_000  # numbers drawn at once: 8 MB


@dataclass(frozen=True)
class Interval:
    """A mean over `galaxies` galaxies, and the bootstrap interval `low` to `high` of it."""

    value: float
    low: float
    high: float
    galaxies: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] (n = {self.galaxies})"


def bootstrap_interval(
    values: Sequence[float] | np.ndarray,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The mean of `values` (B,), one a galaxy, with its percentile interval at `level`.

    Galaxies are drawn with replacement, `resamples` times; the same seed gives the same interval.
    NaN (a galaxy without a value) is left out, and `galaxies` counts the others. Raises
    `Gz2vitError` if none is left, or a level outside 0 to 1.
    """
    values = np.asarray(values, dtype=np.float64).ravel()
    values = values[~np.isnan(values)]
    if len(values) == 0:
        raise Gz2vitError("no galaxy has a value to average; give at least one number")
    if not 0 < level < 1 or resamples < 1:
        raise Gz2vitError(
            f"level {level} and resamples {resamples} make no interval; give a level between 0 and "
            "1 and at least one resample"
        )
    rng = np.random.default_rng(seed)
    at_once = max(1, CHUNK // len(values))
    means = [
        values[rng.integers(len(values), size=(min(at_once, resamples - done), len(values)))].mean(
            1
        )
        for done in range(0, resamples, at_once)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high), len(values))


def paired_difference(
    first: np.ndarray, second: np.ndarray, level: float = 0.95, seed: int = 0
) -> Interval:
    """The mean of `first - second` (B,) over the same galaxies, with its bootstrap interval.

    Raises `Gz2vitError` where they are not as many.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise Gz2vitError(
            f"values of shape {first.shape} and {second.shape} are no pairs; give one of each for "
            "the same galaxies"
        )
    return bootstrap_interval(first - second, level, seed=seed)
