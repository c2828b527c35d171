"""Two models on one test set: is one of them better?

Both see the same galaxies, so only those count that one has right and the other wrong. McNemar
(1947) tests whether they fall to both sides alike. The interval of the difference of accuracies is
Bonett and Price's (2012, "Adjusted Wald confidence interval for a difference of binomial
proportions based on paired data"), which keeps its level in small samples and is not of zero width
where the models never differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import binomtest, norm
from statsmodels.stats.contingency_tables import mcnemar

from gz2vit.errors import Gz2vitError
from gz2vit.evaluation import ClassIndices, classification_metrics
from gz2vit.evidence.corrections import benjamini_hochberg, holm
from gz2vit.evidence.intervals import (
    LEVEL,
    QUANTITIES,
    QUANTITY_CLASSES,
    RESAMPLES,
    Interval,
    check_bootstrap,
    metrics_of,
    percentile_bounds,
    resample_table,
)
from gz2vit.evidence.regions import right_table
from gz2vit.paper import CLASS_COUNT

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
