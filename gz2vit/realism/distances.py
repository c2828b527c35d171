"""How far the simulated galaxies' features lie from the real ones', feature by feature.

The distance is Kolmogorov and Smirnov's: the largest gap between the two cumulative distributions,
0 for the same distribution, 1 for two that do not overlap. It is never quite 0 in samples; `alike`
says what two samples of these sizes from one distribution stay below in 95 of 100 cases.
"""

import numpy as np
import pandas as pd

from gz2vit.evidence.distributions import MIN_GROUP, cliffs_delta
from gz2vit.evidence.intervals import check_bootstrap, percentile_bounds
from gz2vit.paper import CLASS_NAMES
from gz2vit.realism.names import FEATURES, REAL, SIMULATED

ALL = "all classes"
RESAMPLES = 300
KOLMOGOROV_95 = 1.358  # 95 % quantile of Kolmogorov's distribution


def feature_distances(
    measured: pd.DataFrame, resamples: int = RESAMPLES, seed: int = 0
) -> pd.DataFrame:
    """The distance of each feature, of all classes together and of each, a row each.

    `measured`: columns `origin`, `class_index` and the FEATURES. Columns: `class_name`, `feature`,
    `real`, `simulated` (galaxies with a value), `real_median`, `simulated_median`, `ks` (0 to 1),
    `low`, `high` (95 % bootstrap; NaN with fewer than ten galaxies on a side), `alike`, and
    `cliffs_delta` (-1 to 1, positive where the simulated ones have the larger values). NaN where a
    side has no galaxies.
    """
    check_bootstrap(0.95, resamples)
    rng = np.random.default_rng(seed)
    rows = []
    for name in (ALL, *CLASS_NAMES):
        one = name != ALL
        own = measured[measured.class_index == CLASS_NAMES.index(name)] if one else measured
        for feature in FEATURES:
            groups = [own[feature][own.origin == side].dropna() for side in (REAL, SIMULATED)]
            found = _distance(*(np.sort(group.to_numpy()) for group in groups), resamples, rng)
            rows.append({"class_name": name, "feature": feature, **found})
    return pd.DataFrame(rows)


def _distance(
    real: np.ndarray, simulated: np.ndarray, resamples: int, rng: np.random.Generator
) -> dict[str, float]:
    """One row of the table, from sorted values."""
    found = {"real": len(real), "simulated": len(simulated)}
    medians = [float(np.median(side)) if len(side) else np.nan for side in (real, simulated)]
    found |= {"real_median": medians[0], "simulated_median": medians[1]}
    nothing = dict.fromkeys(("ks", "low", "high", "alike", "cliffs_delta"), np.nan)
    if not len(real) or not len(simulated):
        return found | nothing
    sizes = len(real), len(simulated)
    found |= nothing | {"ks": kolmogorov_distance(real, simulated)}
    found["alike"] = min(1.0, KOLMOGOROV_95 * float(np.sqrt(sum(sizes) / np.prod(sizes))))
    found["cliffs_delta"] = cliffs_delta(simulated, real)
    if min(sizes) >= MIN_GROUP:
        drawn = [
            [np.sort(rng.choice(side, len(side))) for side in (real, simulated)]
            for _ in range(resamples)
        ]
        low, high = percentile_bounds(np.array([kolmogorov_distance(*pair) for pair in drawn]))
        found |= {"low": float(low), "high": float(high)}
    return found


def kolmogorov_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Kolmogorov and Smirnov's statistic of two sorted samples (N,) and (M,), neither empty."""
    both = np.concatenate([first, second])
    shares = [np.searchsorted(side, both, side="right") / len(side) for side in (first, second)]
    return float(np.abs(shares[0] - shares[1]).max())
