"""Accuracy against size and magnitude, in bins of equal counts, for one model, two, or all."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from gz2vit.errors import Gz2vitError
from gz2vit.evaluation import wilson_interval
from gz2vit.evidence.comparison import Comparison, compare_right
from gz2vit.evidence.corrections import holm
from gz2vit.evidence.intervals import LEVEL

Answers = np.ndarray | pd.Series  # bool: is the model right?
Values = np.ndarray | pd.Series
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
