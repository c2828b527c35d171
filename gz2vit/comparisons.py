"""Two models on one test set: who is right about which galaxies, and is one of them better?

By McNemar's test (1947) with Bonett and Price's interval (2012); p-values shown side by side are
corrected after Holm (1979) or Benjamini and Hochberg (1995). Positive differences favour the first
model. Galaxies without a property (NaN) are left out.
"""

import gc
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import PermutationMethod, anderson_ksamp, chi2, ks_2samp, mannwhitneyu, norm
from statsmodels.discrete.discrete_model import Logit
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.tools.sm_exceptions import ModelWarning

from gz2vit import evaluation
from gz2vit.evaluation import LEVEL, RESAMPLES, ClassIndices, percentile_bounds
from gz2vit.io import Gz2vitError
from gz2vit.paper import CLASS_COUNT

Answers = np.ndarray | pd.Series  # bool (N,): is the model right?
Values = np.ndarray | pd.Series  # float (N,): a property of the galaxies
Bins = int | Sequence[float]  # so many of equal counts, or their edges
REGIONS = ("both right", "only first", "only second", "both wrong")
EDGES = ["low_edge", "high_edge"]
SEPARATION = ("ks", "ks_p", "ad", "ad_p", "cliffs_delta", "delta_low", "delta_high",
              "median_shift", "shift_low", "shift_high")  # fmt: skip
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
    if (tested := ~np.isnan(p_values)).any():
        gc.freeze()  # it looks for garbage, among all objects that there are
        p_values[tested] = multipletests(p_values[tested], method=method)[1]
        gc.unfreeze()
    return p_values


def right_table(predictions: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """`true` (class index) and for each model whether it is right (bool), by galaxy id.

    The order is that of the first model's predictions; `Gz2vitError` where the test sets differ.
    """
    tables = {name: table.set_index("GalaxyID") for name, table in predictions.items()}
    first_name, first = next(iter(tables.items()))
    joined = pd.DataFrame({"true": first["class"]}).rename_axis("galaxy_id")
    for name, table in tables.items():
        alone = first.index.symmetric_difference(table.index)
        table = table.reindex(first.index)
        if len(wrong := alone.append(first.index[first["class"] != table["class"]])):
            raise Gz2vitError(
                f"'{first_name}' and '{name}' were tested on different galaxies or classes, such "
                f"as galaxy {wrong[0]} ({len(wrong)} in all); test both on the same split"
            )
        joined[name] = table["pred"] == table["class"]
    return joined


def join_predictions(
    first: pd.DataFrame, second: pd.DataFrame, names: tuple[str, str] = ("first", "second")
) -> pd.DataFrame:
    """`right_table` of two models: `true`, `first_right`, `second_right`, `region` (`REGIONS`)."""
    joined = right_table(dict(zip(names, (first, second), strict=True)))
    joined.columns = ["true", "first_right", "second_right"]
    # REGIONS count in twos: is the first wrong, and the second?
    number = 2 * ~joined.first_right + ~joined.second_right
    return joined.assign(region=number.map(dict(enumerate(REGIONS))))


def region_counts(joined: pd.DataFrame) -> dict[str, int]:
    """Galaxies in each of `REGIONS`, of a table of `join_predictions`."""
    return joined.region.value_counts().reindex(REGIONS, fill_value=0).to_dict()


def compare_counts(both_right: int, only_first: int, only_second: int, both_wrong: int) -> dict:
    """McNemar's test, two-sided; `effect`: difference of accuracies, with the error if alike."""
    n = both_right + only_first + only_second + both_wrong
    if n == 0:
        raise Gz2vitError("there are no galaxies to compare the models on")
    exact = only_first + only_second <= EXACT_UP_TO
    test = mcnemar([[both_right, only_first], [only_second, both_wrong]], exact=exact)
    # Bonett and Price add one galaxy to each discordant cell.
    one, two = (only_first + 1) / (n + 2), (only_second + 1) / (n + 2)
    half = norm.ppf((1 + LEVEL) / 2) * np.sqrt((one + two - (one - two) ** 2) / (n + 2))
    low, high = np.clip([one - two - half, one - two + half], -1, 1).tolist()
    found = {"only_first": only_first, "only_second": only_second}
    found |= {"effect": (only_first - only_second) / n, "low": low, "high": high}
    found["method"] = "exact" if exact else "chi-squared"
    found["p_value"] = min(1.0, float(test.pvalue))  # the tails of an even split overlap
    error = float(np.sqrt(only_first + only_second + 2) / (n + 2))
    return found | {"n": n, "standard_error": error}


def compare_right(first_right: Answers, second_right: Answers) -> dict[str, Any]:
    """McNemar's test of who is right: the keys of `compare_counts`."""
    wrong = 2 * ~np.asarray(first_right, dtype=bool) + ~np.asarray(second_right, dtype=bool)
    return compare_counts(*np.bincount(wrong, minlength=4).tolist())


def macro_difference(first: pd.DataFrame, second: pd.DataFrame) -> dict[str, Any]:
    """The macro-averaged recall of the first predictions less the second's, paired bootstrap."""
    true, one = first["class"], first.pred
    two = second.set_index("GalaxyID").pred.reindex(first.GalaxyID).to_numpy()
    # Galaxies by true class, first and second prediction: all that the metric can see.
    counts = np.zeros((CLASS_COUNT,) * 3, dtype=np.int64)
    np.add.at(counts, (true, one, two), 1)
    drawn = evaluation.resample_table(counts)
    draws = evaluation.metrics_of(drawn.sum(axis=3)) - evaluation.metrics_of(drawn.sum(axis=2))
    draws = draws[:, evaluation.QUANTITIES.index("recall_macro")]
    low, high = percentile_bounds(draws).tolist()
    beyond = min((draws <= 0).sum(), (draws >= 0).sum())  # the difference falls beyond zero
    scores = [evaluation.classification_metrics(true, pred)["recall_macro"] for pred in (one, two)]
    found = {"effect": scores[0] - scores[1], "low": low, "high": high, "n": len(true)}
    found["p_value"] = float(min(1.0, 2 * (beyond + 1) / (len(draws) + 1)))
    return found | {"standard_error": (high - low) / (2 * norm.ppf((1 + LEVEL) / 2)) or np.inf}


def separation(first: Values, second: Values) -> dict[str, float]:
    """Test and measure how the values of two groups, which share no galaxy, differ.

    SEPARATION: Kolmogorov and Smirnov's test, Anderson and Darling's (Scholz & Stephens 1987,
    permuted), Cliff's delta and the shift of the median, positive where the first group's are
    larger, with bootstrap intervals from `MIN_GROUP` galaxies in each group; and the galaxies:
    `first`, `second`, `left_out` (NaN). What cannot be computed is NaN.
    """
    one, two = (pd.Series(group, dtype=np.float64).dropna().to_numpy() for group in (first, second))
    left_out = len(first) + len(second) - len(one) - len(two)
    found = {"first": len(one), "second": len(two), "left_out": left_out}
    found |= dict.fromkeys(SEPARATION, np.nan)
    if not len(one) or not len(two):
        return found
    different, ranks = np.unique(np.append(one, two), return_inverse=True)
    found["ks"], found["ks_p"] = map(float, ks_2samp(one, two))
    if len(different) > 1:
        method = PermutationMethod(n_resamples=PERMUTATIONS, rng=np.random.default_rng(0))
        test = anderson_ksamp([one, two], variant="midrank", method=method)
        found["ad"], found["ad_p"] = float(test.statistic), float(test.pvalue)
    shift = float(np.median(one) - np.median(two))
    found |= {"cliffs_delta": cliffs_delta(one, two), "median_shift": shift}

    def effects(chosen: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Cliff's delta and the shift of the median of galaxies drawn from each group, (R, 2)."""
        first_counts = evaluation.count_rows(ranks[: len(one)][chosen], len(different)) * 1.0
        counts = evaluation.count_rows(ranks[len(one) :][others], len(different)) * 1.0
        below = counts.cumsum(axis=1) - counts / 2  # equal values count as half
        delta = 2 * np.einsum("rk,rk->r", first_counts, below) / (len(one) * len(two)) - 1
        shift = np.median(one[chosen], axis=1) - np.median(two[others], axis=1)
        return np.column_stack([delta, shift])

    if min(len(one), len(two)) >= MIN_GROUP:
        draws = evaluation.bootstrap(effects, len(one), len(two), resamples=RESAMPLES)
        ends = ("delta_low", "delta_high", "shift_low", "shift_high")
        found |= zip(ends, percentile_bounds(draws).T.ravel().tolist(), strict=True)
    return found


def cliffs_delta(first: Values, second: Values) -> float:
    """P(first > second) - P(first < second) (Cliff 1993), by Mann and Whitney's U."""
    if not len(first) or not len(second):
        return float("nan")
    u = mannwhitneyu(first, second, method="asymptotic").statistic
    return float(2 * u / (len(first) * len(second)) - 1)


def bin_edges(values: Values, bins: Bins) -> np.ndarray:
    """The edges of `bins` bins of equal counts: galaxies' own values; equal ones stay together."""
    if np.ndim(bins):
        return np.asarray(bins, dtype=np.float64)
    values = pd.Series(values, dtype=np.float64).dropna()
    if bins < 1 or values.empty:
        raise Gz2vitError(f"{len(values)} galaxies with a value do not fill {bins} bins")
    upper = np.quantile(values, np.linspace(0, 1, bins + 1)[1:], method="lower")
    return np.array([values.min(), *np.unique(upper)])


def _in_bins(values: Values, bins: Bins, **columns: Answers) -> pd.DataFrame:
    """The galaxies within the bins: `value`, `columns`, and their bin's EDGES (the upper in it)."""
    edges = bin_edges(values, bins)
    table = pd.DataFrame({"value": values, **columns})
    table = table[table.value.between(edges[0], edges[-1])]
    number = np.searchsorted(edges[1:], table.value, side="left")
    return table.assign(low_edge=edges[number], high_edge=edges[number + 1])


def accuracy_trends(
    right: Mapping[str, Answers], values: Values, bins: Bins = BINS
) -> pd.DataFrame:
    """Accuracy of every model, `low` and `high` (Wilson) in the same bins of `values`, a row each.

    The upper edge belongs to a bin; values beyond the edges are left out.
    """
    named = {"galaxies": ("right", "size"), "right": ("right", "sum")}
    parts = {}
    for name, answers in right.items():
        groups = _in_bins(values, bins, right=answers).groupby(EDGES)
        parts[name] = groups.agg(median=("value", "median"), **named)
    table = pd.concat(parts, names=["model"]).reset_index()
    low, high = evaluation.wilson_interval(table.right, table.galaxies)
    return table.assign(accuracy=table.right / table.galaxies, low=low, high=high)


def difference_in_bins(
    first_right: Answers, second_right: Answers, values: Values, bins: Bins = BINS
) -> pd.DataFrame:
    """McNemar's test in each of the bins of `accuracy_trends`, with `p_holm` over the bins."""
    groups = _in_bins(values, bins, first=first_right, second=second_right).groupby(EDGES)
    table = groups.agg(median=("value", "median")).reset_index()
    found = [compare_right(own["first"], own["second"]) for _, own in groups]
    names = ["n", "only_first", "only_second", "effect", "low", "high", "p_value"]
    table = table.join(pd.DataFrame(found, columns=names))
    table["p_holm"] = corrected(table.p_value)
    return table.rename(columns={"effect": "difference", "n": "galaxies"})


def lead_trend(
    first_right: Answers, second_right: Answers, values: Values, classes: ClassIndices | None = None
) -> dict[str, Any]:
    """Does the first model's lead over the second depend on `values` (N,)?

    A logistic regression, among the galaxies that only one model has right, of whether it is the
    first: the conditional likelihood of a model with a term for each galaxy (Breslow & Day 1980,
    chapter 7). With `classes` galaxies are compared within each; a class in which the same model is
    always the right one is left out. `effect`: the slope (log odds for one standard deviation of
    the test set), with Wald's interval and the p-value of the likelihood ratio; `n` in the fit;
    `left_out` (NaN); `reason` why there is no fit, or "".
    """
    table = pd.DataFrame({"won": first_right, "second": second_right, "value": values})
    table["stratum"] = 0 if classes is None else np.asarray(classes)
    left_out, spread = int(table.value.isna().sum()), table.value.std(ddof=0)
    used = table[table.value.notna() & (table.won != table.second)].astype({"won": float})
    if table.stratum.nunique() > 1:
        used = used[used.groupby("stratum").won.transform("nunique") == 2]
    terms = pd.get_dummies(used.stratum, dtype=float)
    slope = (used.value - used.value.mean()) / (spread if spread > 0 else 1.0)
    groups = used.assign(slope=slope).groupby("stratum")[["won", "slope"]]
    # Fisher's information on a slope of zero, class by class.
    information = float((groups.var(ddof=0).prod(axis=1) * groups.size()).sum())
    one, two = int(used.won.sum()), int((1 - used.won).sum())
    needed = EVENTS_PER_TERM * max(1, terms.shape[1])  # a slope, and the classes' differences
    found = {"only_first": one, "only_second": two, "n": one + two, "left_out": left_out}
    found |= dict.fromkeys(("effect", "low", "high", "p_value"), np.nan) | {"reason": ""}
    found["standard_error"] = information**-0.5 if information > 0 else np.inf
    if min(one, two) < needed:
        words = f"of the galaxies that only one model has right, {one} are the first's and {two} "
        return found | {"reason": f"{words}the second's, and the fit needs {needed} of each"}
    if not spread > 0:
        return found | {"reason": "all galaxies have the same value"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ModelWarning)
            fit = Logit(used.won, terms.assign(slope=slope)).fit(disp=0, maxiter=100)
    except (ModelWarning, np.linalg.LinAlgError):  # the likelihood has no maximum
        return found | {"reason": "the values separate the two models' galaxies completely"}
    ratio = 2 * (fit.llf - Logit(used.won, terms).fit(disp=0).llf)
    found["low"], found["high"] = map(float, fit.conf_int(1 - LEVEL).loc["slope"])
    return found | {"effect": float(fit.params["slope"]), "p_value": float(chi2.sf(ratio, 1))}
