"""Is a model right as often as its probabilities say, and how pure a sample can it make?

Expected calibration error (ECE), reliability, temperature: Guo et al. 2017 (arXiv:1706.04599).
Logarithms of probabilities serve as logits: they differ by a constant that softmax does not see.
"""

from functools import partial

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import ttest_1samp
from sklearn.metrics import average_precision_score

from gz2vit import evaluation
from gz2vit.evaluation import LEVEL, PROBABILITY_COLUMNS, RESAMPLES, ClassIndices, bootstrap
from gz2vit.io import Gz2vitError
from gz2vit.paper import CLASS_NAMES

BINS = 15  # of confidence, equally wide, as Guo et al. have them
CURVE_RESAMPLES = 500  # each costs a pass over all galaxies and classes
SUM_TOLERANCE = 1e-3  # probabilities rounded to four digits still pass
SMALLEST = float(np.finfo(np.float32).tiny)  # the networks' softmax gives 0 below it
TEMPERATURES = (0.02, 50.0)  # where a model is always right, sharpening would have no end
FOLDS = 5


def has_probabilities(table: pd.DataFrame) -> bool:
    """Whether predictions have p0 to p7; published ones are classes alone."""
    return set(PROBABILITY_COLUMNS) <= set(table)


def probabilities_of(table: pd.DataFrame) -> np.ndarray:
    """`p0` to `p7` of predictions, float64 (N, 8), scaled to sum 1; `Gz2vitError` for others."""
    probabilities = table[list(PROBABILITY_COLUMNS)].to_numpy(np.float64)
    totals = probabilities.sum(axis=1)
    good = (probabilities >= 0).all(axis=1) & (np.abs(totals - 1) <= SUM_TOLERANCE)
    for row in np.flatnonzero(~good):
        worst = f"sum {totals[row]:.4g} and smallest entry {probabilities[row].min():.4g}"
        name = f"galaxy {table.GalaxyID.iloc[row]} has probabilities"
        raise Gz2vitError(f"{name} with {worst}; give softmax outputs")
    return probabilities / totals[:, None]


def confidences(true: ClassIndices, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest probability of each galaxy (N,), and whether its class is right, bool (N,)."""
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == np.asarray(true)


def _bin_numbers(confidence: np.ndarray, bins: int) -> np.ndarray:
    """The bin of each confidence (0 to bins - 1); a bin includes its upper edge."""
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def reliability(true: ClassIndices, probabilities: np.ndarray, bins: int = BINS) -> pd.DataFrame:
    """A row for each bin of confidence that holds galaxies.

    Columns: `confidence` (mean), `galaxies`, `right`, `accuracy`, `low`, `high` (Wilson).
    """
    confidence, right = confidences(true, probabilities)
    table = pd.DataFrame({"confidence": confidence, "galaxies": 1, "right": right})
    groups = table.groupby(_bin_numbers(confidence, bins))
    table = groups.sum().assign(confidence=groups.confidence.mean())
    low, high = evaluation.wilson_interval(table.right, table.galaxies)
    return table.assign(accuracy=table.right / table.galaxies, low=low, high=high)


def _ece(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> np.ndarray:
    """The ECE of each row (R,), of confidences and whether they are right, both (R, N)."""
    gaps = evaluation.count_rows(_bin_numbers(confidence, bins), bins, confidence - right)
    return np.abs(gaps).sum(axis=1) / confidence.shape[1]


def expected_calibration_error(
    true: ClassIndices, probabilities: np.ndarray, bins: int = BINS, resamples: int = RESAMPLES
) -> tuple[float, float, float]:
    """The ECE and the ends of its interval: mean |confidence - accuracy|, bins by their galaxies.

    Noise raises it, in resamples once more than in the sample. Hence the basic bootstrap interval
    (Efron & Tibshirani 1993), which mirrors the resamples at the value; at least 0.
    """
    sure, right = confidences(true, probabilities)
    value = float(_ece(sure[None], right[None], bins)[0])
    draws = bootstrap(lambda i: _ece(sure[i], right[i], bins), len(sure), resamples=resamples)
    low, high = evaluation.percentile_bounds(draws).tolist()
    return value, max(0.0, 2 * value - high), 2 * value - low


def error_if_calibrated(
    true: ClassIndices, probabilities: np.ndarray, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """The mean ECE of a perfectly calibrated model with these confidences, and p.

    By consistency resampling (Bröcker & Smith 2007). p: the chance of an ECE at least as large.
    """
    sure, right = (one[None] for one in confidences(true, probabilities))
    rng, found = np.random.default_rng(0), _ece(sure, right)
    drawn = np.concatenate([_ece(sure, rng.random(sure.shape) < sure) for _ in range(resamples)])
    at_least = (drawn >= found - 1e-12).sum()  # equal ones may differ by rounding
    return float(drawn.mean()), float((1 + at_least) / (1 + resamples))


def _logits(probabilities: np.ndarray) -> np.ndarray:
    """Logarithms of probabilities, of those that are 0 as of the smallest float32."""
    return np.log(np.maximum(probabilities, SMALLEST))


def fit_temperature(true: ClassIndices, probabilities: np.ndarray) -> float:
    """The temperature, within `TEMPERATURES`, for which classes `true` (N,) are likeliest."""
    logits, own = _logits(probabilities), (np.arange(len(probabilities)), np.asarray(true))

    def loss(log: float) -> float:
        return -float(log_softmax(logits / np.exp(log), axis=1)[own].mean())

    return float(np.exp(minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded").x))


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities (N, 8) at `temperature`: above 1 they come closer to each other."""
    return np.exp(log_softmax(_logits(probabilities) / temperature, axis=1))


def scale(
    test: pd.DataFrame, valid: pd.DataFrame | None = None, folds: int = FOLDS
) -> tuple[np.ndarray, float]:
    """Scaled probabilities of `test` (N, 8), and the temperature, fitted to `valid`.

    Without `valid` each fold's is fitted to the other folds, and their mean returned.
    """
    true, before = test["class"].to_numpy(), probabilities_of(test)
    if valid is not None:
        temperature = fit_temperature(valid["class"], probabilities_of(valid))
        return apply_temperature(before, temperature), temperature
    if len(true) < folds:
        raise Gz2vitError(f"{len(true)} galaxies do not make {folds} folds; give more galaxies")
    fold = np.random.default_rng(0).permutation(len(true)) % folds
    groups = [fold != index for index in range(folds)]
    temperatures = np.array([fit_temperature(true[one], before[one]) for one in groups])
    return apply_temperature(before, temperatures[fold, None]), float(temperatures.mean())


def calibrate(
    test: pd.DataFrame, valid: pd.DataFrame | None = None, resamples: int = RESAMPLES
) -> pd.DataFrame:
    """Calibration on `test` before and after scaling (arguments as of `scale`).

    Columns `value`, `low`, `high`, `p_value`, `n`; rows: `ece_before` (p of `error_if_calibrated`),
    `ece_after`, `overconfidence` (mean confidence less accuracy) and `log_likelihood_gain` by
    scaling, both with Student's test against zero, `temperature`, `ece_if_calibrated`.
    """
    true, before = test["class"].to_numpy(), probabilities_of(test)
    after, temperature = scale(test, valid)
    if_calibrated, chance = error_if_calibrated(true, before, resamples)
    confidence, right = confidences(true, before)
    gain = (_logits(after) - _logits(before))[np.arange(len(true)), true]
    rows = {"ece_before": (*expected_calibration_error(true, before, BINS, resamples), chance)}
    rows["ece_after"] = expected_calibration_error(true, after, BINS, resamples)
    for name, values in (("overconfidence", confidence - right), ("log_likelihood_gain", gain)):
        rows[name] = (float(values.mean()),)
        if values.std() > 0:  # galaxies that do not differ allow no test
            student = ttest_1samp(values, 0.0)
            rows[name] += (*student.confidence_interval(LEVEL), float(student.pvalue))
    rows |= {"temperature": (temperature,), "ece_if_calibrated": (if_calibrated,)}
    columns = ["value", "low", "high", "p_value"]
    known = [dict(zip(columns, values, strict=False)) for values in rows.values()]
    return pd.DataFrame(known, pd.Index(rows, name="quantity"), columns).assign(n=len(true))


def average_precisions(
    true: ClassIndices, probabilities: np.ndarray, resamples: int = CURVE_RESAMPLES
) -> pd.DataFrame:
    """The area under each class's precision-recall curve, with its interval; NaN without galaxies.

    Columns: `class_name`, `average_precision`, `low`, `high`, `share` (the precision of guessing),
    `galaxies` (of the class).
    """
    rows = []
    for index, (name, score) in enumerate(zip(CLASS_NAMES, probabilities.T, strict=True)):
        positive = np.asarray(true) == index
        value = average_precision_score(positive, score) if positive.any() else np.nan
        draws = bootstrap(partial(_areas, positive, score), len(score), resamples=resamples)
        bounds = evaluation.percentile_bounds(draws)
        rows.append((name, value, *bounds, positive.mean(), positive.sum()))
    columns = ["class_name", "average_precision", "low", "high", "share", "galaxies"]
    return pd.DataFrame(rows, columns=columns)


def _areas(positive: np.ndarray, score: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """scikit-learn's average precision (R,) of the galaxies `drawn` (R, N), sorted once for all."""
    order = np.argsort(-score, kind="stable")
    # Galaxies of equal probability come in together: sums are read at each group's last one.
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    weights = evaluation.count_rows(drawn, len(score))[:, order]
    called = weights.cumsum(axis=1)[:, last]
    hits = (weights * positive[order]).cumsum(axis=1)[:, last]
    with np.errstate(invalid="ignore"):
        recall_steps = np.diff(hits, axis=1, prepend=0) / hits[:, -1:]
    return (recall_steps * hits / np.maximum(called, 1)).sum(axis=1)
