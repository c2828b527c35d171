"""A classifier that is told to tell real from simulated galaxies: what it achieves is what is left.

Both sides have as many galaxies of each class, so that 0.5 is the accuracy of guessing and of a
perfect simulation. Every galaxy is judged by a classifier that has not seen it (cross-validation).
A stronger classifier would find more: these accuracies bound the distance from below.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from gz2vit.evaluation import wilson_interval
from gz2vit.realism.names import FEATURES, SIMULATED

FOLDS = 5
COMPONENTS = 40  # principal components of the thumbnails: no more than galaxies can support
SCORE_COLUMNS = ("looks_at", "method", "galaxies", "accuracy", "low", "high", "auc")
GIVE_AWAY_COLUMNS = ("feature", "accuracy_lost", "auc_alone")


def matched(galaxies: pd.DataFrame) -> np.ndarray:
    """Which `galaxies` (`origin`, `class_index`) are of classes that both sides have, bool (N,)."""
    both = galaxies.groupby("class_index").origin.transform("nunique") == 2
    return both.to_numpy(bool)


def discriminate(measured: pd.DataFrame, thumbs: np.ndarray, seed: int = 0) -> pd.DataFrame:
    """How well real and simulated galaxies are told apart, a row for each way, SCORE_COLUMNS.

    `measured`: `origin`, `class_index` and FEATURES; `thumbs`: float (N, H, W, 3) of the same rows.
    `accuracy` (of galaxies not learnt from) with its 95 % Wilson interval `low` to `high`; `auc`:
    the chance that of a pair the simulated one looks more simulated. An empty table where the sides
    have fewer than `FOLDS` galaxies in common classes.
    """
    kept = matched(measured)
    simulated = (measured.origin[kept] == SIMULATED).to_numpy()
    if min(simulated.sum(), (~simulated).sum()) < FOLDS:
        return pd.DataFrame(columns=list(SCORE_COLUMNS))
    features = measured.loc[kept, list(FEATURES)].to_numpy(float)
    pixels = thumbs[kept].reshape(len(simulated), -1)
    components = min(COMPONENTS, len(simulated) * (FOLDS - 1) // FOLDS - 1, pixels.shape[1])
    small = PCA(components, random_state=seed).fit_transform(pixels)  # sees no labels
    line = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    ways: Mapping[str, tuple[str, ClassifierMixin, np.ndarray]] = {
        "measured features": ("gradient boosting", _boosting(seed), features),
        "thumbnails": ("logistic regression", line, small),
        "both": ("gradient boosting", _boosting(seed), np.hstack([features, small])),
    }
    with threadpool_limits(1):  # so few galaxies are learnt from sooner by one thread
        rows = [
            (looks_at, method, *_score(classifier, values, simulated, seed))
            for looks_at, (method, classifier, values) in ways.items()
        ]
    return pd.DataFrame(rows, columns=list(SCORE_COLUMNS))


def _boosting(seed: int) -> HistGradientBoostingClassifier:
    """Small trees, few of them: there are some hundred galaxies to learn from. NaN is a value."""
    return HistGradientBoostingClassifier(
        max_iter=100, learning_rate=0.1, max_leaf_nodes=8, min_samples_leaf=10, random_state=seed
    )


def _folds(seed: int) -> StratifiedKFold:
    return StratifiedKFold(FOLDS, shuffle=True, random_state=seed)


def _score(
    classifier: ClassifierMixin, values: np.ndarray, simulated: np.ndarray, seed: int
) -> tuple[int, float, float, float, float]:
    """Galaxies, accuracy with its interval, area under the curve, of galaxies not learnt from."""
    judged = cross_val_predict(
        classifier, values, simulated, cv=_folds(seed), method="predict_proba"
    )[:, 1]
    right = int(((judged > 0.5) == simulated).sum())
    low, high = wilson_interval(right, len(simulated))
    return len(simulated), right / len(simulated), low, high, roc_auc_score(simulated, judged)


def give_aways(measured: pd.DataFrame, seed: int = 0, repeats: int = 3) -> pd.DataFrame:
    """Which features give the simulation away, the most telling first, GIVE_AWAY_COLUMNS.

    `accuracy_lost`: by how much the accuracy falls, on galaxies not learnt from, when a feature's
    values are shuffled among them (0: nothing depends on it, or another feature tells the same);
    `auc_alone`: how well the feature alone would tell (0.5 to 1). Empty as in `discriminate`.
    """
    kept = matched(measured)
    simulated = (measured.origin[kept] == SIMULATED).to_numpy()
    if min(simulated.sum(), (~simulated).sum()) < FOLDS:
        return pd.DataFrame(columns=list(GIVE_AWAY_COLUMNS))
    values = measured.loc[kept, list(FEATURES)].to_numpy(float)
    with threadpool_limits(1):
        lost = [
            _accuracy_lost(values, simulated, learnt, judged, seed, repeats)
            for learnt, judged in _folds(seed).split(values, simulated)
        ]
    alone = [_auc_alone(column, simulated) for column in values.T]
    columns = (list(FEATURES), np.mean(lost, axis=0), alone)
    table = pd.DataFrame(dict(zip(GIVE_AWAY_COLUMNS, columns, strict=True)))
    return table.sort_values("accuracy_lost", ascending=False, ignore_index=True)


def _accuracy_lost(
    values: np.ndarray,
    simulated: np.ndarray,
    learnt: np.ndarray,
    judged: np.ndarray,
    seed: int,
    repeats: int,
) -> np.ndarray:
    """By how much the accuracy of a fold falls when a feature is shuffled, (features,)."""
    fitted = _boosting(seed).fit(values[learnt], simulated[learnt])
    shuffled = {"n_repeats": repeats, "random_state": seed}
    found = permutation_importance(fitted, values[judged], simulated[judged], **shuffled)
    return found.importances_mean


def _auc_alone(values: np.ndarray, simulated: np.ndarray) -> float:
    """The area under the curve of one feature, in whichever direction it tells; NaN left out."""
    known = ~np.isnan(values)
    if len(np.unique(simulated[known])) < 2:
        return float("nan")
    area = roc_auc_score(simulated[known], values[known])
    return float(max(area, 1 - area))
