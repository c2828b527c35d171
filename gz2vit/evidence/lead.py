"""Does one model's lead over another depend on a property of the galaxies, such as their size?

The test of "the first model is better on smaller galaxies" is a logistic regression, among the
galaxies that only one of two models has right, of whether it is the first. The reason: both models
see the same galaxies, some of them hard for any model. In a logistic model of being right with a
term for each galaxy, the models, the property and their interaction, those terms of the galaxies
go when one conditions on how many of the two models are right (Breslow & Day 1980, chapter 7);
galaxies with both or none then say nothing, and the interaction is the slope of this regression.
Without a slope, its intercept is McNemar's test. Marginal models (GEE, clustered by galaxy) answer
another question: there the average galaxy's odds are compared, and how hard the galaxies of a size
are, which neither model is to blame for, mixes with the lead.

A lead may also grow because small galaxies are of other classes: given the classes, the
regression has a term for each of them.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from scipy.special import xlogy
from scipy.stats import chi2
from statsmodels.discrete.discrete_model import Logit
from statsmodels.tools.sm_exceptions import ConvergenceWarning, PerfectSeparationWarning

from gz2vit.evaluation import ClassIndices
from gz2vit.evidence.intervals import LEVEL, Interval
from gz2vit.evidence.trends import Answers, Values, known_values

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
