"""Many comparisons at once: p-values that allow for how many there were.

Of 20 comparisons without any effect, one falls below 0.05 by chance. Holm (1979) keeps the chance
of even one false claim at the stated level; Benjamini & Hochberg (1995) keep the share of false
ones among the claims there, which finds more. Both are statsmodels'.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType

import numpy as np
import pandas as pd
from scipy.special import xlogy
from scipy.stats import (
    PermutationMethod,
    anderson_ksamp,
    binomtest,
    chi2,
    ks_2samp,
    mannwhitneyu,
    norm,
)
from statsmodels.discrete.discrete_model import Logit
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.tools.sm_exceptions import ConvergenceWarning, PerfectSeparationWarning

from gz2vit.catalog import PROPERTY_COLUMNS
from gz2vit.evaluation import (
    LEVEL,
    QUANTITIES,
    QUANTITY_CLASSES,
    RESAMPLES,
    ClassIndices,
    Interval,
    check_bootstrap,
    classification_metrics,
    metrics_of,
    percentile_bounds,
    resample_table,
    wilson_interval,
)
from gz2vit.io import Gz2vitError
from gz2vit.paper import CLASS_COUNT

PValues = Sequence[float] | np.ndarray


def holm(p_values: PValues) -> np.ndarray:
    """Holm's corrected p-values, float64 (M,), in the order given.

    NaN (no test was possible) stays NaN and does not count as a comparison. Raises `Gz2vitError`
    for a value outside 0 to 1.
    """
    return _corrected(p_values, "holm")


def benjamini_hochberg(p_values: PValues) -> np.ndarray:
    """Benjamini and Hochberg's corrected p-values, float64 (M,); NaN and errors as for `holm`."""
    return _corrected(p_values, "fdr_bh")


def _corrected(p_values: PValues, method: str) -> np.ndarray:
    """statsmodels' correction of those that are numbers."""
    corrected = np.array(p_values, dtype=np.float64)
    tested = ~np.isnan(corrected)
    wrong = corrected[tested & ~((corrected >= 0) & (corrected <= 1))]
    if len(wrong):
        raise Gz2vitError(f"{wrong[0]} is no p-value; give numbers from 0 to 1")
    if tested.any():
        corrected[tested] = multipletests(corrected[tested], method=method)[1]
    return corrected


# ------------------------------------------------------------------------------------------
# Two groups of galaxies and one property of theirs: do they differ, in which way, how much?
#
# Kolmogorov and Smirnov's test looks at the largest gap between the cumulative distributions,
# Anderson and Darling's (Scholz & Stephens 1987) weighs the tails more. Either says *that* two
# groups differ. In which way and how much, the effect sizes say: Cliff's delta (1993), the chance
# that a galaxy of the first group has the larger value less the chance that it has the smaller one;
# and the difference of the medians, in the property's own unit.
#
# The groups must share no galaxy: compare a group with the rest of the test set, not with all of it.

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


# ------------------------------------------------------------------------------------------
# Two models on one test set: which galaxies both, one or neither of them classify rightly.
#
# The paper's Fig. 4 compares the galaxies that only its ViT has right with those that only its CNN
# has right. Models are joined by galaxy id, whatever the order of their files.

REGIONS = ("both right", "only first", "only second", "both wrong")


@dataclass(frozen=True)
class WithProperties:
    """`table`: galaxies with their properties as further columns, NaN where unknown; `missing`:
    how many galaxies have none, by column. Each test leaves these out and counts them."""

    table: pd.DataFrame
    missing: Mapping[str, int]


def right_table(predictions: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Which model has which galaxy right: `true` (class index) and a bool column for each model.

    `predictions`: tables as `evaluation.read_predictions` returns them, by the model's name. The
    rows are indexed by galaxy id (`galaxy_id`), in the first table's order. Raises `Gz2vitError`
    where the tables are not of the same galaxies, or give one of them another class.
    """
    if not predictions:
        raise Gz2vitError("there are no predictions to compare; give at least one model's")
    tables = {name: _by_id(table) for name, table in predictions.items()}
    first_name, first = next(iter(tables.items()))
    joined = pd.DataFrame({"true": first["class"]})
    for name, table in tables.items():
        _check_same(first, table, f"'{first_name}' and '{name}'")
        joined[name] = (table["pred"] == table["class"]).reindex(joined.index)
    return joined


def join_predictions(
    first: pd.DataFrame, second: pd.DataFrame, names: tuple[str, str] = ("first", "second")
) -> pd.DataFrame:
    """Two models' predictions side by side, indexed by galaxy id, in the order of `first`.

    Columns: `true`, `first_pred`, `second_pred` (class indices), `first_right`, `second_right`
    (bool), `region` (one of `REGIONS`). Raises `Gz2vitError`, with the models' `names`, where the
    test sets differ.
    """
    first, second = _by_id(first), _by_id(second)
    _check_same(first, second, f"'{names[0]}' and '{names[1]}'")
    joined = pd.DataFrame({"true": first["class"], "first_pred": first["pred"]})
    joined["second_pred"] = second["pred"].reindex(joined.index)
    joined["first_right"] = joined.first_pred == joined.true
    joined["second_right"] = joined.second_pred == joined.true
    # REGIONS counts in twos: is the first wrong, and the second?
    number = 2 * ~joined.first_right + ~joined.second_right
    joined["region"] = number.map(dict(enumerate(REGIONS)))
    return joined


def region_counts(joined: pd.DataFrame) -> dict[str, int]:
    """Galaxies in each of `REGIONS`, of a table of `join_predictions`."""
    counts = joined["region"].value_counts()
    return {name: int(counts.get(name, 0)) for name in REGIONS}


def with_properties(
    joined: pd.DataFrame,
    properties: pd.DataFrame,
    columns: Sequence[str] = PROPERTY_COLUMNS,
) -> WithProperties:
    """Add `columns` of `properties` (as `catalog.read_properties` returns it) to `joined`.

    Raises `Gz2vitError` where a galaxy stands there twice, or none of them has a value.
    """
    repeated = properties.galaxyID[properties.galaxyID.duplicated()]
    if len(repeated):
        raise Gz2vitError(
            f"galaxy {repeated.iloc[0]} stands more than once in galaxy_properties.csv; leave one "
            "row of it"
        )
    known = properties.set_index("galaxyID")[list(columns)].reindex(joined.index)
    missing = {name: int(known[name].isna().sum()) for name in columns}
    for name, count in missing.items():
        if count == len(joined):
            raise Gz2vitError(
                f"no test galaxy has a {name} in galaxy_properties.csv; are its galaxyIDs those of "
                "the test set?"
            )
    return WithProperties(joined.assign(**known), missing)


def _by_id(table: pd.DataFrame) -> pd.DataFrame:
    """Predictions indexed by galaxy id."""
    return table.set_index("GalaxyID").rename_axis("galaxy_id")


def _check_same(first: pd.DataFrame, second: pd.DataFrame, whose: str) -> None:
    """Raise `Gz2vitError` where two models were not tested on the same galaxies and classes."""
    alone = first.index.symmetric_difference(second.index)
    if len(alone):
        raise Gz2vitError(
            f"the predictions of {whose} are of different test sets: galaxy {alone[0]} stands in "
            f"one of them only ({len(alone)} such galaxies); test both on the same split"
        )
    differs = first["class"] != second["class"].reindex(first.index)
    if differs.any():
        raise Gz2vitError(
            f"the predictions of {whose} give galaxy {first.index[differs][0]} different true "
            f"classes ({differs.sum()} such galaxies); test both with the same labels"
        )


# ------------------------------------------------------------------------------------------
# Two models on one test set: is one of them better?
#
# Both see the same galaxies, so only those count that one has right and the other wrong. McNemar
# (1947) tests whether they fall to both sides alike. The interval of the difference of accuracies is
# Bonett and Price's (2012, "Adjusted Wald confidence interval for a difference of binomial
# proportions based on paired data"), which keeps its level in small samples and is not of zero width
# where the models never differ.

# Discordant galaxies up to which the exact binomial test is made. Textbooks change to chi-squared
# with the continuity correction at 25, to spare work by hand; at 1,000 the two are alike.
EXACT_UP_TO = 1_000


@dataclass(frozen=True)
class Comparison:
    """McNemar's test of a first against a second model.

    The four counts of galaxies; the test's `statistic` (chi-squared, or the smaller discordant
    count) and two-sided `p_value`; `method`, `exact` or `chi-squared`; `difference`, the accuracy
    of the first less that of the second (-1 to 1); `share_first`, of the galaxies that one alone
    has right the first's share (Clopper and Pearson's interval; NaN without any).
    """

    both_right: int
    only_first: int
    only_second: int
    both_wrong: int
    statistic: float
    p_value: float
    method: str
    difference: Interval
    share_first: Interval

    @property
    def galaxies(self) -> int:
        """All galaxies of the test set."""
        return self.both_right + self.only_first + self.only_second + self.both_wrong

    @property
    def discordant(self) -> int:
        """Galaxies that one model has right and the other wrong."""
        return self.only_first + self.only_second

    @property
    def standard_error(self) -> float:
        """Of the difference, were the models equally good; smoothed as Bonett and Price do."""
        return float(np.sqrt(self.discordant + 2) / (self.galaxies + 2))


def compare_counts(
    both_right: int, only_first: int, only_second: int, both_wrong: int, level: float = LEVEL
) -> Comparison:
    """McNemar's test of the four counts of galaxies.

    Raises `Gz2vitError` where there are none, or a count is negative.
    """
    counts = (both_right, only_first, only_second, both_wrong)
    if min(counts) < 0 or sum(counts) == 0:
        raise Gz2vitError(f"{counts} are no counts of galaxies; give four, not all of them zero")
    exact = only_first + only_second <= EXACT_UP_TO
    test = mcnemar([counts[:2], counts[2:]], exact=exact, correction=True)
    difference = _difference(only_first, only_second, sum(counts), level)
    share = _share(only_first, only_first + only_second, level)
    method = "exact" if exact else "chi-squared"
    # The tails of an even split overlap: their sum is a rounding error above 1.
    p_value = min(1.0, float(test.pvalue))
    return Comparison(*counts, float(test.statistic), p_value, method, difference, share)


def compare_right(
    first_right: np.ndarray | pd.Series, second_right: np.ndarray | pd.Series, level: float = LEVEL
) -> Comparison:
    """McNemar's test of who is right, bool (N,), galaxy by galaxy. Raises as `compare_counts`."""
    first, second = np.asarray(first_right, dtype=bool), np.asarray(second_right, dtype=bool)
    if first.ndim != 1 or first.shape != second.shape:
        raise Gz2vitError(
            f"{first.shape} and {second.shape} answers are no pairs; give one of each model for "
            "the same galaxies"
        )
    cells = (first & second, first & ~second, ~first & second, ~first & ~second)
    return compare_counts(*(int(cell.sum()) for cell in cells), level=level)


def _difference(only_first: int, only_second: int, galaxies: int, level: float) -> Interval:
    """Bonett and Price's interval: one galaxy added to each discordant cell."""
    p_first, p_second = (only_first + 1) / (galaxies + 2), (only_second + 1) / (galaxies + 2)
    middle = p_first - p_second
    half = norm.ppf((1 + level) / 2) * np.sqrt((p_first + p_second - middle**2) / (galaxies + 2))
    value = (only_first - only_second) / galaxies
    low, high = max(-1.0, middle - half), min(1.0, middle + half)
    return Interval(value, float(low), float(high), galaxies, level)


def _share(successes: int, total: int, level: float) -> Interval:
    """Clopper and Pearson's interval of a share."""
    if total == 0:
        return Interval(np.nan, np.nan, np.nan, 0, level)
    ends = binomtest(successes, total).proportion_ci(level, method="exact")
    return Interval(successes / total, float(ends.low), float(ends.high), total, level)


def compare_models(predictions: Mapping[str, pd.DataFrame], level: float = LEVEL) -> pd.DataFrame:
    """McNemar's test of every pair of models, a row for each, with corrected p-values.

    `predictions`: tables of `evaluation.read_predictions` by name. Columns: `first`, `second`,
    `only_first`, `only_second`, `difference`, `low`, `high`, `method`, `p_value`, `p_holm`, `p_bh`,
    `galaxies`. Raises `Gz2vitError` where the test sets differ.
    """
    right = right_table(predictions)
    rows = []
    for first, second in combinations(predictions, 2):
        found = compare_right(right[first], right[second], level)
        rows.append(
            {
                "first": first,
                "second": second,
                "only_first": found.only_first,
                "only_second": found.only_second,
                "difference": found.difference.value,
                "low": found.difference.low,
                "high": found.difference.high,
                "method": found.method,
                "p_value": found.p_value,
                "galaxies": found.galaxies,
            }
        )
    if not rows:
        raise Gz2vitError(f"{len(predictions)} model makes no pair; give at least two")
    table = pd.DataFrame(rows)
    table.insert(9, "p_holm", holm(table.p_value))
    table.insert(10, "p_bh", benjamini_hochberg(table.p_value))
    return table


def metric_differences(
    true: ClassIndices,
    first_pred: ClassIndices,
    second_pred: ClassIndices,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Every metric of the first model less the second's, on the same galaxies, a row for each.

    Columns: `quantity`, `class_name`, `difference`, `low`, `high`, `test`, `p_value`, `p_holm`
    (over the rows), `galaxies` (those that the quantity is a share of). `accuracy` and `class_acc`
    are shares: their test is `McNemar`, the interval Bonett and Price's, which holds for a class
    of seven galaxies too. Those of the macro averages are by paired `bootstrap`, where resampled
    galaxies serve both models: the p-value is how often they fall to the other side of zero,
    two-sided, 2 / (resamples + 1) at least. A class without galaxies has NaN. Raises `Gz2vitError`
    for arrays that do not go together.
    """
    check_bootstrap(level, resamples)
    found = [classification_metrics(true, pred) for pred in (first_pred, second_pred)]
    true, first_pred, second_pred = (np.asarray(one) for one in (true, first_pred, second_pred))
    # Galaxies by true class, first and second prediction: all that the metrics can see.
    counts = np.zeros((CLASS_COUNT,) * 3, dtype=np.int64)
    np.add.at(counts, (true, first_pred, second_pred), 1)
    drawn = resample_table(counts, resamples, seed)
    draws = metrics_of(drawn.sum(axis=3)) - metrics_of(drawn.sum(axis=2))
    answers = (first_pred == true, second_pred == true)
    rows = [_share_row(*answers, level)]
    for column in (1, 2):  # the macro averages
        value = found[0][QUANTITIES[column]] - found[1][QUANTITIES[column]]
        rows.append(_bootstrap_row(value, draws[:, column], len(true), level))
    for index in range(CLASS_COUNT):
        rows.append(_share_row(*(answer[true == index] for answer in answers), level))
    table = pd.DataFrame(rows, columns=["difference", "low", "high", "test", "p_value", "galaxies"])
    table.insert(0, "quantity", QUANTITIES)
    table.insert(1, "class_name", QUANTITY_CLASSES)
    table.insert(7, "p_holm", holm(table.p_value))
    return table


Row = tuple[float, float, float, str, float, int]


def _share_row(first: np.ndarray, second: np.ndarray, level: float) -> Row:
    """The row of an accuracy, from who is right, bool (N,) each."""
    if not len(first):
        return np.nan, np.nan, np.nan, "McNemar", np.nan, 0
    found = compare_right(first, second, level)
    ends = (found.difference.value, found.difference.low, found.difference.high)
    return *ends, "McNemar", found.p_value, found.galaxies


def _bootstrap_row(value: float, draws: np.ndarray, galaxies: int, level: float) -> Row:
    """The row of a macro average, from its resampled differences (R,)."""
    low, high = percentile_bounds(draws, level)
    beyond = min((draws <= 0).sum(), (draws >= 0).sum())
    p_value = float(min(1.0, 2 * (beyond + 1) / (len(draws) + 1)))
    return value, float(low), float(high), "bootstrap", p_value, galaxies


# ------------------------------------------------------------------------------------------
# Accuracy against size and magnitude, in bins of equal counts, for one model, two, or all.

Answers = np.ndarray | pd.Series  # bool: is the model right?
BINS = 10


def accuracy_in_bins(
    right: Answers, values: Values, bins: int = BINS, level: float = LEVEL
) -> pd.DataFrame:
    """Accuracy in bins of equal counts of `values` (N,), of answers `right` (N,).

    Columns: `low_edge`, `high_edge` (the bin holds its upper edge), `median` of the values,
    `galaxies`, `right`, `accuracy`, `low`, `high` (Wilson). Equal values are never parted, so
    there can be fewer bins. NaN is left out; `table.attrs["left_out"]` counts it. Raises
    `Gz2vitError` where nothing is left.
    """
    groups, left_out = _bin(values, bins, np.asarray(right, dtype=bool))
    rows = []
    for edges, inside, (hits,) in groups:
        n, k = len(inside), int(hits.sum())
        rows.append((*edges, np.median(inside), n, k, k / n, *wilson_interval(k, n, level)))
    names = ["low_edge", "high_edge", "median", "galaxies", "right", "accuracy", "low", "high"]
    table = pd.DataFrame(rows, columns=names)
    table.attrs["left_out"] = left_out
    return table


def accuracy_trends(
    right: Mapping[str, Answers], values: Values, bins: int = BINS, level: float = LEVEL
) -> pd.DataFrame:
    """`accuracy_in_bins` of every model, with a first column `model`; the bins are the same."""
    tables = {
        name: accuracy_in_bins(answers, values, bins, level) for name, answers in right.items()
    }
    joined = pd.concat([table.assign(model=name) for name, table in tables.items()])
    joined.attrs["left_out"] = next(iter(tables.values())).attrs["left_out"]
    return joined[["model", *joined.columns.drop("model")]].reset_index(drop=True)


def difference_in_bins(
    first_right: Answers,
    second_right: Answers,
    values: Values,
    bins: int = BINS,
    level: float = LEVEL,
) -> pd.DataFrame:
    """Accuracy of the first model less that of the second, in the bins of `accuracy_in_bins`.

    Columns: `low_edge`, `high_edge`, `median`, `galaxies`, `only_first`, `only_second`,
    `difference`, `low`, `high` (Bonett and Price), `p_value` (McNemar), `p_holm` over the bins.
    """
    answers = [np.asarray(right, dtype=bool) for right in (first_right, second_right)]
    groups, left_out = _bin(values, bins, *answers)
    rows = []
    for edges, inside, (first, second) in groups:
        found = compare_right(first, second, level)
        ends = (found.difference.value, found.difference.low, found.difference.high)
        counts = (len(inside), found.only_first, found.only_second)
        rows.append((*edges, np.median(inside), *counts, *ends, found.p_value))
    names = ["low_edge", "high_edge", "median", "galaxies", "only_first", "only_second"]
    table = pd.DataFrame(rows, columns=[*names, "difference", "low", "high", "p_value"])
    table["p_holm"] = holm(table.p_value)
    table.attrs["left_out"] = left_out
    return table


Group = tuple[tuple[float, float], np.ndarray, list[np.ndarray]]  # edges, values, answers


def _bin(values: Values, bins: int, *answers: np.ndarray) -> tuple[list[Group], int]:
    """Galaxies in bins of equal counts, and how many had no value."""
    values, known = known_values(values, *answers)
    if bins < 1 or not known.any():
        raise Gz2vitError(
            f"{known.sum()} galaxies with a value do not fill {bins} bins; give at least one of "
            "each"
        )
    values, answers = values[known], [one[known] for one in answers]
    # `lower`: an edge is a galaxy's own value, so that rounding moves no galaxy across it.
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)[1:], method="lower"))
    number = np.searchsorted(edges, values, side="left")
    lows = [values.min(), *edges[:-1]]
    chosen = [number == index for index in range(len(edges))]
    groups = [
        ((float(low), float(high)), values[inside], [one[inside] for one in answers])
        for low, high, inside in zip(lows, edges, chosen, strict=True)
    ]
    return groups, int((~known).sum())


def known_values(values: Values, *others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values as float64 (N,), and which of them are numbers, bool (N,).

    Raises `Gz2vitError` where one of `others` has another shape.
    """
    values = np.asarray(values, dtype=np.float64)
    for other in others:
        if other.shape != values.shape:
            raise Gz2vitError(
                f"{other.shape} answers do not go with {values.shape} values; give one of each for "
                "every galaxy"
            )
    return values, ~np.isnan(values)


def compare_at_end(
    first_right: Answers,
    second_right: Answers,
    values: Values,
    towards: int,
    share: float = 0.25,
    level: float = LEVEL,
) -> Comparison:
    """McNemar's test among the `share` of galaxies with the largest (`towards` = 1) or the
    smallest (-1) values: a lead that only shrinks may never be one. NaN is left out."""
    first, second = (np.asarray(right, dtype=bool) for right in (first_right, second_right))
    values, known = known_values(values, first, second)
    if towards not in (-1, 1) or not 0 < share <= 1 or not known.any():
        raise Gz2vitError(
            f"towards {towards}, share {share} of {known.sum()} galaxies choose none; give 1 or -1 "
            "and a share between 0 and 1"
        )
    edge = np.quantile(values[known] * towards, 1 - share, method="higher")
    chosen = known & (values * towards >= edge)
    return compare_right(first[chosen], second[chosen], level)


# ------------------------------------------------------------------------------------------
# Does one model's lead over another depend on a property of the galaxies, such as their size?
#
# The test of "the first model is better on smaller galaxies" is a logistic regression, among the
# galaxies that only one of two models has right, of whether it is the first. The reason: both models
# see the same galaxies, some of them hard for any model. In a logistic model of being right with a
# term for each galaxy, the models, the property and their interaction, those terms of the galaxies
# go when one conditions on how many of the two models are right (Breslow & Day 1980, chapter 7);
# galaxies with both or none then say nothing, and the interaction is the slope of this regression.
# Without a slope, its intercept is McNemar's test. Marginal models (GEE, clustered by galaxy) answer
# another question: there the average galaxy's odds are compared, and how hard the galaxies of a size
# are, which neither model is to blame for, mixes with the lead.
#
# A lead may also grow because small galaxies are of other classes: given the classes, the
# regression has a term for each of them.

# Galaxies on the rarer side that each coefficient needs (Peduzzi et al. 1996, J Clin Epidemiol 49).
EVENTS_PER_TERM = 10


@dataclass(frozen=True)
class Trend:
    """How the odds of "only the first is right" against "only the second" go with a property.

    `slope`: change of the log odds for one standard deviation of the property (of the whole test
    set) upwards; positive: the first gains on the second where the property is large. `p_value`:
    likelihood ratio, two-sided. `only_first`, `only_second`: galaxies that the fit saw;
    `left_out`: galaxies of the test set without the property (NaN). Where too few galaxies speak,
    `reason` says so and slope and p-value are NaN. `standard_error`: of the slope, were there
    none; `inf` where no slope could ever be seen.
    """

    slope: Interval
    p_value: float
    only_first: int
    only_second: int
    left_out: int
    standard_error: float
    reason: str = ""


def lead_trend(
    first_right: Answers,
    second_right: Answers,
    values: Values,
    classes: ClassIndices | None = None,
    level: float = LEVEL,
) -> Trend:
    """Does the first model's lead over the second depend on `values` (N,)? See the module.

    `classes` (N,): true classes, to compare only galaxies of one class with each other. A class in
    which only one of the models is ever alone in being right says nothing and is left out. Sizes
    should come as logarithms: they have a long tail, in which a few galaxies would rule the fit.
    NaN is left out and counted. Raises `Gz2vitError` for arrays of different lengths.
    """
    first, second = (np.asarray(right, dtype=bool) for right in (first_right, second_right))
    strata = np.zeros(len(first), dtype=np.int64) if classes is None else np.asarray(classes)
    values, known = known_values(values, first, second, strata)
    spread = values[known].std() if known.any() else 0.0
    used = _informative(first, known & (first != second), strata)
    won = first[used].astype(np.float64)
    terms = (strata[used][:, None] == np.unique(strata[used])).astype(np.float64)
    scaled = (values[used] - values[used].mean()) / spread if spread and used.any() else won * 0
    counts = (int(won.sum()), int((1 - won).sum()))
    error = _null_error(won, terms, scaled)
    reason = _reason(counts, terms.shape[1], float(spread))
    slope, p_value = Interval(np.nan, np.nan, np.nan, sum(counts), level), np.nan
    if not reason:
        slope, p_value = _fit(won, terms, scaled, level)
    return Trend(slope, p_value, *counts, int((~known).sum()), error, reason)


def _informative(first: np.ndarray, used: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Which of the galaxies `used` are of a class in which each model is alone at least once.

    Where there is but one class, all are kept: they are counted, if not fitted.
    """
    if len(np.unique(strata)) < 2:
        return used
    both = [len(np.unique(first[used & (strata == one)])) == 2 for one in np.unique(strata)]
    return used & np.isin(strata, np.unique(strata)[both])


def _reason(counts: tuple[int, int], strata: int, spread: float) -> str:
    """Why no slope can be fitted, or nothing; the coefficients are a slope and the classes."""
    needed = EVENTS_PER_TERM * max(1, strata)
    if min(counts) < needed:
        return (
            f"of the galaxies that one model alone has right, {counts[0]} are the first's and "
            f"{counts[1]} the second's, and the fit needs {needed} of each"
        )
    return "" if spread > 0 else "all galaxies have the same value"


def _null_error(won: np.ndarray, terms: np.ndarray, scaled: np.ndarray) -> float:
    """The slope's standard error without a slope: Fisher's information, class by class."""
    information = 0.0
    for inside in terms.T.astype(bool):
        share = won[inside].mean()
        information += share * (1 - share) * len(won[inside]) * scaled[inside].var()
    return float(1 / np.sqrt(information)) if information > 0 else float("inf")


def _fit(
    won: np.ndarray, terms: np.ndarray, scaled: np.ndarray, level: float
) -> tuple[Interval, float]:
    """The slope with Wald's interval, and the likelihood ratio's p-value, by statsmodels.

    Where the property parts the two sides wholly, the likelihood has no maximum: the slope is then
    infinite, and its interval all of that side.
    """
    sizes, shares = terms.sum(axis=0), terms.T @ won / terms.sum(axis=0)
    null = float((sizes * (xlogy(shares, shares) + xlogy(1 - shares, 1 - shares))).sum())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", PerfectSeparationWarning)
            warnings.simplefilter("error", ConvergenceWarning)
            fit = Logit(won, np.column_stack([terms, scaled])).fit(disp=0, maxiter=100)
        low, high = fit.conf_int(1 - level)[-1]
        slope, likelihood = float(fit.params[-1]), float(fit.llf)
    except (PerfectSeparationWarning, ConvergenceWarning, np.linalg.LinAlgError):
        slope = float(np.copysign(np.inf, scaled[won == 1].mean() - scaled[won == 0].mean()))
        low, high, likelihood = min(0.0, slope), max(0.0, slope), 0.0
    p_value = float(chi2.sf(2 * (likelihood - null), 1))
    return Interval(slope, float(low), float(high), len(won), level), p_value
