"""Two groups of galaxies and one property of theirs: do they differ, in which way, how much?

Kolmogorov and Smirnov's test looks at the largest gap between the cumulative distributions,
Anderson and Darling's (Scholz & Stephens 1987) weighs the tails more. Either says *that* two
groups differ. In which way and how much, the effect sizes say: Cliff's delta (1993), the chance
that a galaxy of the first group has the larger value less the chance that it has the smaller one;
and the difference of the medians, in the property's own unit.

The groups must share no galaxy: compare a group with the rest of the test set, not with all of it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd
from scipy.stats import PermutationMethod, anderson_ksamp, ks_2samp, mannwhitneyu

from gz2vit.errors import Gz2vitError
from gz2vit.evidence.corrections import holm
from gz2vit.evidence.intervals import (
    LEVEL,
    RESAMPLES,
    Interval,
    check_bootstrap,
    percentile_bounds,
)

Values = np.ndarray | pd.Series
PERMUTATIONS = 999  # scipy tabulates p-values of 0.001 to 0.25 only; these start at 0.001 too
MIN_GROUP = 10  # below it no bootstrap interval is made: too few values to draw from
CHUNK = 2_000_000  # numbers drawn at once: 16 MB
# Whom Fig. 4 sets against whom; None is the rest of the test set.
GROUPS = MappingProxyType(
    {
        "only first against only second": ("only first", "only second"),
        "only first against the rest": ("only first", None),
        "only second against the rest": ("only second", None),
    }
)


@dataclass(frozen=True)
class Separation:
    """How the values of a first and a second group differ.

    `galaxies`: how many of each have a value; `left_out`: how many have none (NaN). `ks`, `ad`:
    the tests' statistics (AD normalised as Scholz and Stephens do), with two-sided p-values; NaN
    where a group is empty, or (AD) where all values are equal. `cliffs_delta` (-1 to 1) and
    `median_shift` (the property's unit): positive where the first group's values are larger;
    interval NaN with fewer than `MIN_GROUP` galaxies in a group.
    """

    galaxies: tuple[int, int]
    left_out: tuple[int, int]
    ks: float
    ks_p: float
    ad: float
    ad_p: float
    cliffs_delta: Interval
    median_shift: Interval

    @property
    def standard_error(self) -> float:
        """Of Cliff's delta, were the groups alike (Mann & Whitney 1947); inf if one is empty."""
        first, second = self.galaxies
        pairs = first * second
        return float(np.sqrt((first + second + 1) / (3 * pairs))) if pairs else float("inf")


def separation(
    first: Values,
    second: Values,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Separation:
    """Test and measure how `first` (N,) and `second` (M,) differ; NaN is left out and counted.

    The p-value of Anderson and Darling's test is from `permutations` of the galaxies between the
    groups, that of Kolmogorov and Smirnov's from scipy (exact for small groups). The intervals are
    bootstrap percentiles, each group redrawn on its own. The same seed gives the same numbers. An
    empty group makes NaN, not an error. Raises `Gz2vitError` for an impossible level.
    """
    check_bootstrap(level, resamples)
    groups = [np.asarray(group, dtype=np.float64) for group in (first, second)]
    known = [group[~np.isnan(group)] for group in groups]
    galaxies = (len(known[0]), len(known[1]))
    left_out = (len(groups[0]) - galaxies[0], len(groups[1]) - galaxies[1])
    ks, ks_p = _kolmogorov_smirnov(*known)
    ad, ad_p = _anderson_darling(*known, permutations, seed)
    delta, shift = _effects(*known, level, resamples, seed)
    return Separation(galaxies, left_out, ks, ks_p, ad, ad_p, delta, shift)


def _kolmogorov_smirnov(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Statistic and p-value; NaN where a group is empty."""
    if not len(first) or not len(second):
        return np.nan, np.nan
    test = ks_2samp(first, second)
    return float(test.statistic), float(test.pvalue)


def _anderson_darling(
    first: np.ndarray, second: np.ndarray, permutations: int, seed: int
) -> tuple[float, float]:
    """Statistic and p-value; NaN where a group is empty or all values are equal."""
    if not len(first) or not len(second) or len(np.unique(np.append(first, second))) < 2:
        return np.nan, np.nan
    method = PermutationMethod(n_resamples=permutations, rng=np.random.default_rng(seed))
    test = anderson_ksamp([first, second], variant="midrank", method=method)
    return float(test.statistic), float(test.pvalue)


def cliffs_delta(first: Values, second: Values) -> float:
    """P(first > second) - P(first < second), -1 to 1, NaN if empty.

    From Mann and Whitney's U, of which it is a rescaling: 2 U / (N M) - 1.
    """
    if not len(first) or not len(second):
        return float("nan")
    u = mannwhitneyu(first, second, method="asymptotic").statistic
    return float(2 * u / (len(first) * len(second)) - 1)


def _effects(
    first: np.ndarray, second: np.ndarray, level: float, resamples: int, seed: int
) -> tuple[Interval, Interval]:
    """Cliff's delta and the shift of the median."""
    nothing = not len(first) or not len(second)
    shift = np.nan if nothing else float(np.median(first) - np.median(second))
    values = np.array([cliffs_delta(first, second), shift])
    low = high = np.full(2, np.nan)
    if min(len(first), len(second)) >= MIN_GROUP:
        draws = np.concatenate(list(_effect_draws(first, second, resamples, seed)))
        low, high = percentile_bounds(draws, level)
    total = len(first) + len(second)
    effects = zip(values.tolist(), low.tolist(), high.tolist(), strict=True)
    delta, shift_interval = (Interval(*ends, total, level) for ends in effects)
    return delta, shift_interval


def _effect_draws(
    first: np.ndarray, second: np.ndarray, resamples: int, seed: int
) -> Iterator[np.ndarray]:
    """Cliff's delta and the median's shift of resampled groups, (R, 2), in chunks."""
    rng = np.random.default_rng(seed)
    different = np.unique(np.append(first, second))  # K values, ascending
    at_once = max(1, CHUNK // (len(first) + len(second)))
    for done in range(0, resamples, at_once):
        rows = min(at_once, resamples - done)
        counts = [
            _draw_counts(np.searchsorted(different, group), len(different), rows, rng)
            for group in (first, second)
        ]
        below = counts[1].cumsum(axis=1) - counts[1] / 2  # equal values count as half
        pairs = len(first) * len(second)
        delta = 2 * np.einsum("rk,rk->r", counts[0], below) / pairs - 1
        medians = [_medians(different, count) for count in counts]
        yield np.column_stack([delta, medians[0] - medians[1]])


def _draw_counts(ranks: np.ndarray, values: int, rows: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of K values is drawn, float64 (rows, K), from a group with these `ranks`."""
    drawn = ranks[rng.integers(len(ranks), size=(rows, len(ranks)))]
    flat = (drawn + np.arange(rows)[:, None] * values).ravel()
    counts = np.bincount(flat, minlength=rows * values)
    return counts.reshape(rows, values).astype(np.float64)


def _medians(different: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The median of each row's values, (R,), from how often each is drawn (R, K)."""
    cumulative = counts.cumsum(axis=1)
    total = int(cumulative[0, -1])
    middle = [(total + 1) // 2, total // 2 + 1]  # the same one where the total is odd
    return np.mean([different[(cumulative >= n).argmax(axis=1)] for n in middle], axis=0)


def compare_groups(
    joined: pd.DataFrame,
    columns: Sequence[str],
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> pd.DataFrame:
    """The comparisons of Fig. 4: galaxies that one model alone has right, with each other and rest.

    `joined`: a table of `regions.join_predictions` with the properties `columns`. A row for each
    property and each of `GROUPS`; columns: `property`, `comparison`, `first`, `second` (galaxies
    with a value), `left_out` (without one), `ks`, `ks_p`, `ks_p_holm`, `ad`, `ad_p`, `ad_p_holm`
    (corrected over the rows), `cliffs_delta`, `delta_low`, `delta_high`, `median_shift`,
    `shift_low`, `shift_high`. Raises `Gz2vitError` for an unknown column.
    """
    rows = []
    for column in columns:
        if column not in joined:
            raise Gz2vitError(f"the galaxies have no {column}; join their properties first")
        for name, (one, other) in GROUPS.items():
            inside = joined.region == one
            beyond = ~inside if other is None else joined.region == other
            groups = (joined[column][inside], joined[column][beyond])
            found = separation(*groups, level, resamples, permutations, seed)
            rows.append({"property": column, "comparison": name, **_flat(found)})
    table = pd.DataFrame(rows)
    table.insert(table.columns.get_loc("ks_p") + 1, "ks_p_holm", holm(table.ks_p))
    table.insert(table.columns.get_loc("ad_p") + 1, "ad_p_holm", holm(table.ad_p))
    return table


def _flat(found: Separation) -> dict[str, float]:
    """A separation's numbers as the columns of a table."""
    counts = {"first": found.galaxies[0], "second": found.galaxies[1]}
    tests = {"ks": found.ks, "ks_p": found.ks_p, "ad": found.ad, "ad_p": found.ad_p}
    delta, shift = found.cliffs_delta, found.median_shift
    effects = {"cliffs_delta": delta.value, "delta_low": delta.low, "delta_high": delta.high}
    effects |= {"median_shift": shift.value, "shift_low": shift.low, "shift_high": shift.high}
    return {**counts, "left_out": sum(found.left_out), **tests, **effects}
