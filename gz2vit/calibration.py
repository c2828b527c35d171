"""Is a model right as often as its probabilities say, and how pure a sample can it make?

Expected calibration error (ECE), reliability diagram and temperature scaling as in Guo et al. 2017
(arXiv:1706.04599). Logarithms of probabilities serve as logits: they differ by a constant that
softmax does not see.
"""

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import ttest_1samp
from sklearn.metrics import average_precision_score, precision_recall_curve

from gz2vit.evaluation import (
    LEVEL,
    PROBABILITY_COLUMNS,
    RESAMPLES,
    ClassIndices,
    bootstrap,
    count_rows,
    percentile_bounds,
    wilson_interval,
)
from gz2vit.io import Gz2vitError
from gz2vit.paper import CLASS_COUNT, CLASS_NAMES

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
    """`p0` to `p7` of a table of predictions, float64 (N, 8), each row scaled to sum 1 exactly.

    Raises `Gz2vitError` where columns are missing or values are not probabilities.
    """
    if missing := [name for name in PROBABILITY_COLUMNS if name not in table]:
        raise Gz2vitError(
            f"the predictions have no column {missing[0]}, and calibration needs all of p0 to p7; "
            "predict again with this version"
        )
    probabilities = table[list(PROBABILITY_COLUMNS)].to_numpy(np.float64)
    totals = probabilities.sum(axis=1)
    good = (probabilities >= 0).all(axis=1) & (np.abs(totals - 1) <= SUM_TOLERANCE)
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        raise Gz2vitError(
            f"galaxy {table.GalaxyID.iloc[row]} has probabilities with sum {totals[row]:.4g} and "
            f"smallest entry {probabilities[row].min():.4g}; give softmax outputs"
        )
    return _normalised(probabilities)


def _normalised(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities (N, 8) with rows of sum 1, which rounding and float32 leave only nearly so."""
    return probabilities / probabilities.sum(axis=1)[:, None]


def confidences(true: ClassIndices, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest probability of each galaxy (N,), and whether its class is right, bool (N,)."""
    probabilities = _normalised(probabilities)
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == np.asarray(true)


def _bin_numbers(confidence: np.ndarray, bins: int) -> np.ndarray:
    """The bin of each confidence (0 to bins - 1); a bin includes its upper edge."""
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def reliability(true: ClassIndices, probabilities: np.ndarray, bins: int = BINS) -> pd.DataFrame:
    """The reliability diagram, a row for each bin of confidence that holds galaxies.

    Columns: `low_edge`, `high_edge` (included), `confidence` (mean), `galaxies`, `right`,
    `accuracy`, `low`, `high` (Wilson).
    """
    confidence, right = confidences(true, probabilities)
    number = _bin_numbers(confidence, bins)
    groups = pd.DataFrame({"confidence": confidence, "right": right}).groupby(number)
    aggregates = {"galaxies": ("right", "size"), "right": ("right", "sum")}
    table = groups.agg(confidence=("confidence", "mean"), **aggregates)
    table.insert(0, "low_edge", table.index / bins)
    table.insert(1, "high_edge", (table.index + 1) / bins)
    low, high = wilson_interval(table.right, table.galaxies)
    table = table.assign(accuracy=table.right / table.galaxies, low=low, high=high)
    return table.reset_index(drop=True)


def _ece(number: np.ndarray, gap: np.ndarray, bins: int) -> np.ndarray:
    """The ECE of each row (R,), of bin numbers and of confidence less rightness, both (R, N)."""
    return np.abs(count_rows(number, bins, gap)).sum(axis=1) / number.shape[1]


def expected_calibration_error(
    true: ClassIndices,
    probabilities: np.ndarray,
    bins: int = BINS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float, float]:
    """The ECE and the ends of its interval: mean |confidence - accuracy|, bins by their galaxies.

    Noise raises it, in resamples once more than in the sample. Hence the basic bootstrap interval
    (Efron & Tibshirani 1993), which mirrors the resamples at the value; at least 0.
    """
    confidence, right = confidences(true, probabilities)
    number, gap = _bin_numbers(confidence, bins), confidence - right
    value = float(_ece(number[None], gap[None], bins)[0])
    draws = bootstrap(
        lambda i: _ece(number[i], gap[i], bins), len(gap), resamples=resamples, seed=seed
    )
    low, high = percentile_bounds(draws)
    return value, max(0.0, float(2 * value - high)), float(2 * value - low)


def error_if_calibrated(
    true: ClassIndices,
    probabilities: np.ndarray,
    bins: int = BINS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """The mean ECE of a perfectly calibrated model with these confidences, and p.

    By consistency resampling (Bröcker & Smith 2007). p: the chance of an ECE as large as the one
    found, at least 1 / (resamples + 1).
    """
    confidence, right = confidences(true, probabilities)
    number, rng = _bin_numbers(confidence, bins)[None], np.random.default_rng(seed)
    found, drawn = _ece(number, (confidence - right)[None], bins)[0], []
    for _ in range(resamples):
        gap = confidence - (rng.random(len(right)) < confidence)
        drawn.append(_ece(number, gap[None], bins)[0])
    chance = (1 + (np.array(drawn) >= found).sum()) / (1 + resamples)
    return float(np.mean(drawn)), float(chance)


def fit_temperature(true: ClassIndices, probabilities: np.ndarray) -> float:
    """The temperature, within `TEMPERATURES`, for which classes `true` (N,) are likeliest."""
    logits = _logits(probabilities)
    own = np.arange(len(logits)), np.asarray(true)
    found = minimize_scalar(
        lambda log: -float(log_softmax(logits / np.exp(log), axis=1)[own].mean()),
        bounds=np.log(TEMPERATURES),
        method="bounded",
    )
    return float(np.exp(found.x))


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities (N, 8) at `temperature`: above 1 they come closer to each other."""
    return np.exp(log_softmax(_logits(probabilities) / temperature, axis=1))


def _logits(probabilities: np.ndarray) -> np.ndarray:
    """Logarithms of probabilities, of those that are 0 as of the smallest float32."""
    return np.log(np.maximum(_normalised(probabilities), SMALLEST))


def scale(
    test: pd.DataFrame, valid: pd.DataFrame | None = None, folds: int = FOLDS, seed: int = 0
) -> tuple[np.ndarray, float]:
    """Scaled probabilities of `test` (N, 8), and the temperature, fitted to `valid`.

    Without `valid` each fold's is fitted to the other folds, and their mean returned. Raises
    `Gz2vitError` where a galaxy is in both tables.
    """
    true, before = test["class"].to_numpy(), probabilities_of(test)
    if valid is not None:
        shared = test.GalaxyID[test.GalaxyID.isin(valid.GalaxyID)]
        if len(shared):
            raise Gz2vitError(
                f"galaxy {shared.iloc[0]} is among both validation and test predictions "
                f"({len(shared)} such galaxies); fit the temperature on other galaxies"
            )
        temperature = fit_temperature(valid["class"].to_numpy(), probabilities_of(valid))
        return apply_temperature(before, temperature), temperature
    if not 2 <= folds <= len(true):
        raise Gz2vitError(f"{len(true)} galaxies do not make {folds} folds; give 2 or more, fewer")
    fold = np.random.default_rng(seed).permutation(len(true)) % folds
    scaled, temperatures = np.empty_like(before), []
    for index in range(folds):
        inside = fold == index
        temperatures.append(fit_temperature(true[~inside], before[~inside]))
        scaled[inside] = apply_temperature(before[inside], temperatures[-1])
    return scaled, float(np.mean(temperatures))


def calibrate(
    test: pd.DataFrame,
    valid: pd.DataFrame | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Calibration on `test` before and after scaling (arguments as of `scale`).

    Columns `value`, `low`, `high`, `p_value`, `n`; rows, by name: `ece_before` (with the p of
    `error_if_calibrated`), `ece_after`; `overconfidence`, mean confidence less accuracy, and
    `log_likelihood_gain` by scaling, per galaxy, with Student's tests against zero; `temperature`;
    `ece_if_calibrated`.
    """
    true, before = test["class"].to_numpy(), probabilities_of(test)
    after, temperature = scale(test, valid, seed=seed)
    options = {"resamples": resamples, "seed": seed}
    if_calibrated, chance = error_if_calibrated(true, before, **options)
    confidence, right = confidences(true, before)
    gain = (_logits(after) - _logits(before))[np.arange(len(true)), true]
    rows = {
        "ece_before": (*expected_calibration_error(true, before, **options), chance),
        "ece_after": expected_calibration_error(true, after, **options),
    }
    for name, values in (("overconfidence", confidence - right), ("log_likelihood_gain", gain)):
        rows[name] = (float(values.mean()),)
        if values.std() > 0:  # galaxies that do not differ allow no test
            student = ttest_1samp(values, 0.0)
            rows[name] += (*student.confidence_interval(LEVEL), float(student.pvalue))
    rows |= {"temperature": (temperature,), "ece_if_calibrated": (if_calibrated,)}
    columns = ["value", "low", "high", "p_value"]
    known = [dict(zip(columns, values, strict=False)) for values in rows.values()]
    table = pd.DataFrame(known, rows, columns)
    return table.rename_axis("quantity").assign(n=len(true))


def reliability_pair(
    test: pd.DataFrame, valid: pd.DataFrame | None = None, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The reliability diagrams of `test` before and after scaling (arguments as of `scale`)."""
    after, _ = scale(test, valid, seed=seed)
    return reliability(test["class"], probabilities_of(test)), reliability(test["class"], after)


def precision_recall_curves(true: ClassIndices, probabilities: np.ndarray) -> pd.DataFrame:
    """The curve of each class that has galaxies, from classes (N,) and probabilities (N, 8).

    Columns: `class_name`, `threshold`, `precision`, `recall` of calling a galaxy of this class if
    its probability is at least `threshold`; scikit-learn's end point (1, 0) has the threshold inf.
    """
    true, probabilities = np.asarray(true), _normalised(probabilities)
    curves = {}
    for index in np.unique(true):
        precision, recall, threshold = precision_recall_curve(
            true == index, probabilities[:, index]
        )
        columns = {"threshold": np.append(threshold, np.inf), "precision": precision}
        curves[CLASS_NAMES[index]] = pd.DataFrame({**columns, "recall": recall})
    table = pd.concat(curves, names=["class_name", ""])
    return table.reset_index("class_name").reset_index(drop=True)


def average_precisions(
    true: ClassIndices,
    probabilities: np.ndarray,
    resamples: int = CURVE_RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """The area under each class's curve with its bootstrap interval; NaN without galaxies.

    Columns: `class_name`, `average_precision`, `low`, `high`, `share` (the precision of guessing),
    `galaxies` (of the class).
    """
    probabilities = _normalised(probabilities)
    positive = np.asarray(true)[:, None] == np.arange(CLASS_COUNT)
    columns = list(zip(positive.T, probabilities.T, strict=True))
    values = [average_precision_score(*one) if one[0].any() else np.nan for one in columns]

    def areas(drawn: np.ndarray) -> np.ndarray:
        """Average precisions (rows, 8) of the galaxies drawn."""
        weights = count_rows(drawn, len(positive))
        return np.column_stack([_weighted(*one, weights) for one in columns])

    low, high = percentile_bounds(bootstrap(areas, len(true), resamples=resamples, seed=seed))
    found = {"class_name": CLASS_NAMES, "average_precision": values, "low": low, "high": high}
    counts = {"share": positive.mean(axis=0), "galaxies": positive.sum(axis=0)}
    return pd.DataFrame(found | counts)


def _weighted(positive: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision (R,) of galaxies that count `weights` (R, N) times each.

    scikit-learn's definition; its function would sort the scores anew for every resample.
    """
    order = np.argsort(-score, kind="stable")
    # Galaxies of equal probability come in together: sums are read at each group's last one.
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    weights = weights[:, order]
    called = weights.cumsum(axis=1)[:, last]
    hits = (weights * positive[order]).cumsum(axis=1)[:, last]
    with np.errstate(invalid="ignore"):
        recall_steps = np.diff(hits, axis=1, prepend=0) / hits[:, -1:]
    return (recall_steps * hits / np.maximum(called, 1)).sum(axis=1)
