"""Two models on one test set: who is right about which galaxies, and is one of them better?

McNemar's test (1947) of the galaxies that only one of them has right, with Bonett and Price's
interval of the difference (2012). p-values shown side by side are corrected: Holm (1979) keeps the
chance of one false claim, Benjamini and Hochberg (1995) the expected fraction of false ones.
Positive differences favour the first model. Galaxies without a property (NaN) are left out.
"""

import warnings
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import PermutationMethod, anderson_ksamp, ks_2samp, mannwhitneyu, norm
from scipy.stats import chi2 as chi_squared
from statsmodels.discrete.discrete_model import Logit
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.tools.sm_exceptions import ConvergenceWarning, PerfectSeparationWarning

from gz2vit.evaluation import (
    LEVEL,
    QUANTITIES,
    RESAMPLES,
    ClassIndices,
    bootstrap,
    classification_metrics,
    count_rows,
    metrics_of,
    percentile_bounds,
    resample_table,
    wilson_interval,
)
from gz2vit.io import Gz2vitError
from gz2vit.paper import CLASS_COUNT, CLASS_NAMES

Answers = np.ndarray | pd.Series  # bool (N,): is the model right?
Values = np.ndarray | pd.Series  # float (N,): a property of the galaxies
Bins = int | Sequence[float]  # so many of equal counts, or their edges
REGIONS = ("both right", "only first", "only second", "both wrong")
TABLE_NAMES = {"effect": "difference", "n": "galaxies"}  # in tables of differences
BINS = 10
# Discordant galaxies up to which McNemar's test is exact; at 1,000 chi-squared gives the same.
EXACT_UP_TO = 1_000
PERMUTATIONS = 999  # p-values of Anderson and Darling's test are at least 0.001
MIN_GROUP = 10  # too few galaxies to draw bootstrap intervals from
# Galaxies on the rarer side for each coefficient (Peduzzi et al. 1996, J Clin Epidemiol 49).
EVENTS_PER_TERM = 10


def corrected(p_values: Sequence[float] | np.ndarray, method: str = "holm") -> np.ndarray:
    """p-values (M,) corrected for their number; NaN (no test was possible) does not count."""
    p_values = np.array(p_values, dtype=np.float64)
    tested = ~np.isnan(p_values)
    if tested.any():
        p_values[tested] = multipletests(p_values[tested], method=method)[1]
    return p_values


def right_table(predictions: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """`true` (class index) and for each model whether it is right (bool), by galaxy id.

    `predictions`: tables of `read_predictions` by model; the first one's order is kept. Raises
    `Gz2vitError` where the test sets differ.
    """
    if not predictions:
        raise Gz2vitError("there are no predictions to compare; give at least one model's")
    tables = {name: table.set_index("GalaxyID") for name, table in predictions.items()}
    first_name, first = next(iter(tables.items()))
    joined = pd.DataFrame({"true": first["class"]}).rename_axis("galaxy_id")
    for name, table in tables.items():
        alone = first.index.symmetric_difference(table.index)
        if len(alone):
            raise Gz2vitError(
                f"'{first_name}' and '{name}' were tested on different galaxies: only one of them "
                f"has galaxy {alone[0]} ({len(alone)} such galaxies); test both on the same split"
            )
        table = table.reindex(first.index)
        differs = first.index[first["class"] != table["class"]]
        if len(differs):
            raise Gz2vitError(
                f"'{first_name}' and '{name}' give galaxy {differs[0]} different true classes "
                f"({len(differs)} such galaxies); test both with the same labels"
            )
        joined[name] = (table["pred"] == table["class"]).to_numpy()
    return joined


def join_predictions(
    first: pd.DataFrame, second: pd.DataFrame, names: tuple[str, str] = ("first", "second")
) -> pd.DataFrame:
    """`right_table` of two models: `true`, `first_right`, `second_right`, `region` (`REGIONS`)."""
    right = right_table(dict(zip(names, (first, second), strict=True)))
    joined = right[["true"]].assign(first_right=right[names[0]], second_right=right[names[1]])
    # REGIONS count in twos: is the first wrong, and the second?
    number = 2 * ~joined.first_right + ~joined.second_right
    return joined.assign(region=number.map(dict(enumerate(REGIONS))))


def region_counts(joined: pd.DataFrame) -> dict[str, int]:
    """Galaxies in each of `REGIONS`, of a table of `join_predictions`."""
    return joined["region"].value_counts().reindex(REGIONS, fill_value=0).to_dict()


def compare_counts(
    both_right: int, only_first: int, only_second: int, both_wrong: int
) -> dict[str, Any]:
    """McNemar's test of four counts of galaxies, two-sided; `effect`: difference of accuracies.

    `standard_error` is that of equally good models. Raises `Gz2vitError` without galaxies.
    """
    n = both_right + only_first + only_second + both_wrong
    if n == 0:
        raise Gz2vitError("there are no galaxies to compare the models on")
    exact = only_first + only_second <= EXACT_UP_TO
    test = mcnemar([[both_right, only_first], [only_second, both_wrong]], exact=exact)
    # Bonett and Price add one galaxy to each discordant cell.
    p_first, p_second = (only_first + 1) / (n + 2), (only_second + 1) / (n + 2)
    middle = p_first - p_second
    half = norm.ppf((1 + LEVEL) / 2) * np.sqrt((p_first + p_second - middle**2) / (n + 2))
    return {
        "only_first": only_first,
        "only_second": only_second,
        "effect": (only_first - only_second) / n,
        "low": float(max(-1.0, middle - half)),
        "high": float(min(1.0, middle + half)),
        "method": "exact" if exact else "chi-squared",
        "p_value": min(1.0, float(test.pvalue)),  # the tails of an even split overlap
        "n": n,
        "standard_error": float(np.sqrt(only_first + only_second + 2) / (n + 2)),
    }


def compare_right(first_right: Answers, second_right: Answers) -> dict[str, Any]:
    """McNemar's test of who is right: the keys of `compare_counts`."""
    first, second = np.asarray(first_right, dtype=bool), np.asarray(second_right, dtype=bool)
    cells = (first & second, first & ~second, ~first & second, ~first & ~second)
    return compare_counts(*(int(cell.sum()) for cell in cells))


def compare_models(predictions: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """McNemar's test of every pair of models, a row each; empty for fewer than two.

    Columns: `first`, `second`, `only_first`, `only_second`, `difference`, `low`, `high`, `method`,
    `p_value`, `p_holm`, `p_bh`, `galaxies`.
    """
    pairs = list(combinations(predictions, 2))
    if not pairs:
        return pd.DataFrame()
    right = right_table(predictions)
    found = pd.DataFrame([compare_right(right[one], right[two]) for one, two in pairs])
    table = pd.DataFrame(pairs, columns=["first", "second"]).join(found)
    table.insert(9, "p_holm", corrected(table.p_value))
    table.insert(10, "p_bh", corrected(table.p_value, "fdr_bh"))
    return table.rename(columns=TABLE_NAMES).drop(columns="standard_error")


def macro_difference(
    first: pd.DataFrame,
    second: pd.DataFrame,
    name: str = "recall_macro",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """A macro average (`recall_macro`, `f1_macro`) of the first predictions less the second's.

    By the paired bootstrap: `p_value` is how often the difference falls beyond zero, two-sided, at
    least 2 / (resamples + 1).
    """
    true, one = first["class"].to_numpy(), first["pred"].to_numpy()
    two = second.set_index("GalaxyID")["pred"].reindex(first.GalaxyID).to_numpy()
    # Galaxies by true class, first and second prediction: all that the metric can see.
    counts = np.zeros((CLASS_COUNT,) * 3, dtype=np.int64)
    np.add.at(counts, (true, one, two), 1)
    drawn = resample_table(counts, resamples, seed)
    draws = metrics_of(drawn.sum(axis=3)) - metrics_of(drawn.sum(axis=2))
    draws = draws[:, QUANTITIES.index(name)]
    low, high = (float(end) for end in percentile_bounds(draws))
    beyond = min((draws <= 0).sum(), (draws >= 0).sum())
    scores = [classification_metrics(true, pred)[name] for pred in (one, two)]
    return {
        "effect": scores[0] - scores[1],
        "low": low,
        "high": high,
        "p_value": float(min(1.0, 2 * (beyond + 1) / (resamples + 1))),
        "n": len(true),
        "standard_error": (high - low) / (2 * norm.ppf((1 + LEVEL) / 2)) or np.inf,
    }


def separation(
    first: Values,
    second: Values,
    resamples: int = RESAMPLES,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> dict[str, float]:
    """Test and measure how the values of two groups, which share no galaxy, differ.

    Tests: Kolmogorov and Smirnov's (`ks`, `ks_p`), Anderson and Darling's (`ad`, `ad_p`; Scholz &
    Stephens 1987, permuted). How much: `cliffs_delta` (`delta_low`, `delta_high`), `median_shift`
    (`shift_low`, `shift_high`; the property's unit), positive where the first group's are larger;
    intervals by bootstrap from `MIN_GROUP` galaxies in each group. `first`, `second`: galaxies with
    a value; `left_out`: without one. What cannot be computed is NaN.
    """
    groups = [np.asarray(group, dtype=np.float64) for group in (first, second)]
    one, two = (group[~np.isnan(group)] for group in groups)
    found = {"first": len(one), "second": len(two)}
    found["left_out"] = sum(map(len, groups)) - len(one) - len(two)
    numbers = ("ks", "ks_p", "ad", "ad_p", "cliffs_delta", "delta_low", "delta_high")
    found |= dict.fromkeys((*numbers, "median_shift", "shift_low", "shift_high"), np.nan)
    if not len(one) or not len(two):
        return found
    different, ranks = np.unique(np.append(one, two), return_inverse=True)
    found["ks"], found["ks_p"] = (float(number) for number in ks_2samp(one, two))
    if len(different) > 1:
        method = PermutationMethod(n_resamples=permutations, rng=np.random.default_rng(seed))
        test = anderson_ksamp([one, two], variant="midrank", method=method)
        found["ad"], found["ad_p"] = float(test.statistic), float(test.pvalue)
    found["cliffs_delta"] = cliffs_delta(one, two)
    found["median_shift"] = float(np.median(one) - np.median(two))
    if min(len(one), len(two)) < MIN_GROUP:
        return found

    def effects(chosen: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Cliff's delta and the shift of the median of galaxies drawn from each group, (R, 2)."""
        first_counts = count_rows(ranks[: len(one)][chosen], len(different)) * 1.0
        counts = count_rows(ranks[len(one) :][others], len(different)) * 1.0
        below = counts.cumsum(axis=1) - counts / 2  # equal values count as half
        delta = 2 * np.einsum("rk,rk->r", first_counts, below) / (len(one) * len(two)) - 1
        shift = np.median(one[chosen], axis=1) - np.median(two[others], axis=1)
        return np.column_stack([delta, shift])

    draws = bootstrap(effects, len(one), len(two), resamples=resamples, seed=seed)
    low, high = percentile_bounds(draws)
    found["delta_low"], found["shift_low"] = low.tolist()
    found["delta_high"], found["shift_high"] = high.tolist()
    return found


def cliffs_delta(first: Values, second: Values) -> float:
    """P(first > second) - P(first < second) (Cliff 1993), by Mann and Whitney's U."""
    if not len(first) or not len(second):
        return float("nan")
    u = mannwhitneyu(first, second, method="asymptotic").statistic
    return float(2 * u / (len(first) * len(second)) - 1)


def compare_groups(
    joined: pd.DataFrame,
    columns: Sequence[str],
    resamples: int = RESAMPLES,
    permutations: int = PERMUTATIONS,
) -> pd.DataFrame:
    """Fig. 4: galaxies that only one model has right, against each other and against the rest.

    `joined`: of `join_predictions`, with properties `columns`. A row for each `property` and
    `comparison`: the keys of `separation`, with `ks_p_holm`, `ad_p_holm` over the rows.
    """
    first, second = (joined.region == f"only {one}" for one in ("first", "second"))
    groups = {
        "only first against only second": (first, second),
        "only first against the rest": (first, ~first),
        "only second against the rest": (second, ~second),
    }
    rows = []
    for column in columns:
        for name, sides in groups.items():
            found = separation(*(joined[column][one] for one in sides), resamples, permutations)
            rows.append({"property": column, "comparison": name, **found})
    table = pd.DataFrame(rows)
    for name in ("ks_p", "ad_p"):
        table.insert(table.columns.get_loc(name) + 1, f"{name}_holm", corrected(table[name]))
    return table


def bin_edges(values: Values, bins: int) -> np.ndarray:
    """The edges of `bins` bins of equal counts: galaxies' own values; equal ones stay together."""
    values = np.asarray(values, dtype=np.float64)
    values = values[~np.isnan(values)]
    if bins < 1 or not len(values):
        raise Gz2vitError(f"{len(values)} galaxies with a value do not fill {bins} bins")
    upper = np.quantile(values, np.linspace(0, 1, bins + 1)[1:], method="lower")
    return np.array([values.min(), *np.unique(upper)])


def _in_bins(values: Values, bins: Bins, **answers: Answers) -> pd.DataFrame:
    """Galaxies within the bins: `value`, `answers`, their bin's `low_edge` and `high_edge`."""
    edges = np.asarray(bins, dtype=np.float64) if np.ndim(bins) else bin_edges(values, bins)
    values = np.asarray(values, dtype=np.float64)
    inside = (values >= edges[0]) & (values <= edges[-1])
    number = np.searchsorted(edges[1:], values[inside], side="left")
    columns = {name: np.asarray(right, dtype=bool)[inside] for name, right in answers.items()}
    ends = {"low_edge": edges[number], "high_edge": edges[number + 1]}
    return pd.DataFrame({**ends, "value": values[inside], **columns})


def accuracy_trends(
    right: Mapping[str, Answers], values: Values, bins: Bins = BINS
) -> pd.DataFrame:
    """Accuracy of every model in the same bins of `values`: a row for each model and bin.

    Columns: `model`, `low_edge`, `high_edge` (included), `median` of the values, `galaxies`,
    `right`, `accuracy`, `low`, `high` (Wilson). Values beyond the edges are left out.
    """
    parts = {}
    for name, answers in right.items():
        groups = _in_bins(values, bins, right=answers).groupby(["low_edge", "high_edge"])
        part = groups.agg(median=("value", "median"), galaxies=("right", "size"))
        parts[name] = part.assign(right=groups["right"].sum())
    table = pd.concat(parts, names=["model"]).reset_index()
    low, high = wilson_interval(table.right, table.galaxies)
    return table.assign(accuracy=table.right / table.galaxies, low=low, high=high)


def difference_in_bins(
    first_right: Answers, second_right: Answers, values: Values, bins: Bins = BINS
) -> pd.DataFrame:
    """McNemar's test in each of the bins of `accuracy_trends`, with `p_holm` over the bins."""
    inside = _in_bins(values, bins, first=first_right, second=second_right)
    rows = []
    for (low, high), own in inside.groupby(["low_edge", "high_edge"]):
        ends = {"low_edge": low, "high_edge": high, "median": own.value.median()}
        rows.append(compare_right(own["first"], own["second"]) | ends)
    names = ["low_edge", "high_edge", "median", "n", "only_first", "only_second"]
    table = pd.DataFrame(rows, columns=[*names, "effect", "low", "high", "p_value"])
    return table.rename(columns=TABLE_NAMES).assign(p_holm=corrected(table.p_value))


def difference_by_class(
    first_right: Answers,
    second_right: Answers,
    values: Values,
    classes: ClassIndices,
    bins: Bins = BINS,
) -> pd.DataFrame:
    """`difference_in_bins` in each class (`class_name`), in the bins of all galaxies."""
    edges = bins if np.ndim(bins) else bin_edges(values, bins)
    arrays = [np.asarray(one) for one in (first_right, second_right, values)]
    tables = {}
    for index in np.unique(classes):
        inside = np.asarray(classes) == index
        tables[CLASS_NAMES[index]] = difference_in_bins(*(one[inside] for one in arrays), edges)
    table = pd.concat(tables, names=["class_name", ""]).reset_index("class_name")
    return table.assign(p_holm=corrected(table.p_value)).reset_index(drop=True)


def same_class_mix(by_class: pd.DataFrame) -> pd.DataFrame:
    """The lead in each bin of `difference_by_class` if all bins had the class mix of all galaxies.

    By direct standardisation; classes that a bin lacks are left out. Columns: `low_edge`,
    `high_edge`, `galaxies`, `difference`, `low`, `high`.
    """
    weight = by_class.groupby("class_name").galaxies.transform("sum")
    edges = [by_class.low_edge, by_class.high_edge]
    weight = weight / weight.groupby(edges).transform("sum")
    error = (by_class.high - by_class.low) / 2  # of 1.96 standard errors, as are the ends below
    parts = {"galaxies": by_class.galaxies, "difference": weight * by_class.difference}
    table = pd.DataFrame(parts | {"square": (weight * error) ** 2}).groupby(edges).sum()
    half = np.sqrt(table.pop("square"))
    ends = {"low": table.difference - half, "high": table.difference + half}
    return table.assign(**ends).reset_index()


def lead_trend(
    first_right: Answers,
    second_right: Answers,
    values: Values,
    classes: ClassIndices | None = None,
) -> dict[str, Any]:
    """Does the first model's lead over the second depend on `values` (N,)?

    A logistic regression, among the galaxies that only one model has right, of whether it is the
    first: the conditional likelihood of a model with a term for each galaxy (Breslow & Day 1980,
    chapter 7). With `classes` only galaxies of one class are compared; a class in which the same
    model is always the right one is left out. Give sizes as logarithms.

    Returns the slope as `effect` (log odds for one standard deviation of the whole test set) with
    Wald's `low` and `high`, `p_value` (likelihood ratio), `only_first`, `only_second`, `n` (in the
    fit), `left_out`, `standard_error` (without a slope), and `reason` why there is no fit, or "".
    """
    table = pd.DataFrame({"first": first_right, "second": second_right, "value": values})
    table["stratum"] = 0 if classes is None else np.asarray(classes)
    known, spread = table.value.notna(), table.value.std(ddof=0)
    used = table[known & (table["first"] != table["second"])]
    if classes is not None and table.stratum.nunique() > 1:
        used = used[used.groupby("stratum")["first"].transform("nunique") == 2]
    won, terms = used["first"].astype(float), pd.get_dummies(used.stratum, dtype=float)
    scaled = (used.value - used.value.mean()) / (spread if spread > 0 else 1.0)
    counts = int(won.sum()), int((1 - won).sum())
    groups = pd.DataFrame({"won": won, "scaled": scaled}).groupby(used.stratum)
    spreads = groups.var(ddof=0)  # Fisher's information on a slope of zero, class by class
    information = float((spreads.won * spreads.scaled * groups.size()).sum())
    found = dict.fromkeys(("effect", "low", "high", "p_value"), np.nan) | {
        "only_first": counts[0],
        "only_second": counts[1],
        "n": len(won),
        "left_out": int((~known).sum()),
        "standard_error": information**-0.5 if information > 0 else np.inf,
        "reason": "" if spread > 0 else "all galaxies have the same value",
    }
    needed = EVENTS_PER_TERM * max(1, terms.shape[1])  # a slope, and the classes' differences
    if min(counts) < needed:
        found["reason"] = (
            f"of the galaxies that only one model has right, {counts[0]} are the first's and "
            f"{counts[1]} the second's, and the fit needs {needed} of each"
        )
    if found["reason"]:
        return found
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", PerfectSeparationWarning)
            warnings.simplefilter("error", ConvergenceWarning)
            fit = Logit(won, terms.assign(slope=scaled)).fit(disp=0, maxiter=100)
        slope, likelihood, ends = fit.params["slope"], fit.llf, fit.conf_int(1 - LEVEL).loc["slope"]
    except (PerfectSeparationWarning, ConvergenceWarning, np.linalg.LinAlgError):
        # The property separates the two sides completely: the likelihood has no maximum.
        slope = np.copysign(np.inf, scaled[won == 1].mean() - scaled[won == 0].mean())
        likelihood, ends = 0.0, sorted((0.0, slope))
    ratio = 2 * (likelihood - Logit(won, terms).fit(disp=0).llf)
    low, high = map(float, ends)
    p_value = float(chi_squared.sf(ratio, 1))
    return found | {"effect": float(slope), "low": low, "high": high, "p_value": p_value}


def lead_model(
    first_right: Answers, second_right: Answers, properties: pd.DataFrame, classes: ClassIndices
) -> pd.DataFrame:
    """The regression of `lead_trend` on `properties` (N, P), standardised, and the class at once.

    A row for each property, and for each class against the most frequent one: `term`, `coefficient`
    (log odds), `low`, `high` (Wald), `odds_ratio`, `p_value`, `galaxies` (in the fit). Empty where
    too few galaxies tell the models apart.
    """
    first = np.asarray(first_right, dtype=bool)
    names = pd.Series(np.asarray(CLASS_NAMES)[np.asarray(classes)])
    scaled = ((properties - properties.mean()) / properties.std(ddof=0)).reset_index(drop=True)
    used = (first != np.asarray(second_right, dtype=bool)) & scaled.notna().all(axis=1)
    sides = pd.crosstab(names[used], first[used]).reindex(columns=[True, False], fill_value=0)
    kept = sides.index[sides.min(axis=1) > 0]  # where one model always wins, no odds are finite
    used &= names.isin(kept)
    columns = ["term", "coefficient", "low", "high", "odds_ratio", "p_value", "galaxies"]
    terms = scaled.shape[1] + len(kept)
    if min(first[used].sum(), (~first[used]).sum()) < EVENTS_PER_TERM * terms:
        return pd.DataFrame(columns=columns)
    dummies = pd.get_dummies(names[used], dtype=float).drop(columns=names[used].mode()[0])
    design = scaled[used].join(dummies).assign(intercept=1.0)
    fit = Logit(first[used].astype(float), design).fit(disp=0, maxiter=100)
    table = pd.DataFrame({"coefficient": fit.params, "p_value": fit.pvalues})
    table[["low", "high"]] = fit.conf_int(1 - LEVEL)
    table = table.assign(odds_ratio=np.exp(table.coefficient), galaxies=used.sum())
    return table.drop("intercept").rename_axis("term").reset_index()[columns]
