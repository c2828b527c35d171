"""What can be read off embeddings: a linear classifier for each layer, and nearest neighbours.

Source: linear probes, Alain & Bengio 2016, arXiv:1610.01644.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch.nn import functional

from gz2vit.errors import Gz2vitError
from gz2vit.evaluation import ClassIndices, wilson_interval

Embeddings = Mapping[str, torch.Tensor]
MAX_ITERATIONS = 2000  # of L-BFGS; standardised features need some hundred


def linear_probe(
    train: Embeddings,
    train_classes: ClassIndices,
    test: Embeddings,
    test_classes: ClassIndices,
    strength: float = 1.0,
) -> pd.DataFrame:
    """How well each layer's embedding tells the classes, by logistic regression.

    `train`, `test`: layer name -> (B, D), as `layer_embeddings` returns them; classes (B,). The
    classifier learns from the training galaxies alone, its features scaled to their mean and
    standard deviation; `strength` is scikit-learn's C. One row for each layer: `layer`,
    `accuracy` of the test galaxies (0 to 1), `low` and `high` (95 % Wilson interval), `galaxies`.
    Raises `Gz2vitError` where layers or numbers do not fit, or one class is all there is to learn.
    """
    if not train or list(train) != list(test):
        raise Gz2vitError("the layers of training and test embeddings differ; take one network's")
    rows = []
    for layer in train:
        known = _checked(train[layer], train_classes, f"training, {layer}")
        asked = _checked(test[layer], test_classes, f"test, {layer}")
        hits = _hits(known, asked, strength)
        low, high = wilson_interval(int(hits.sum()), len(hits))
        rows.append((layer, float(hits.mean()), low, high, len(hits)))
    return pd.DataFrame(rows, columns=["layer", "accuracy", "low", "high", "galaxies"])


Labelled = tuple[np.ndarray, np.ndarray]  # embeddings (B, D), classes (B,)


def _hits(known: Labelled, asked: Labelled, strength: float) -> np.ndarray:
    """Which galaxies of `asked` a classifier taught with `known` recognises, bool (B,)."""
    if len(np.unique(known[1])) < 2:
        raise Gz2vitError("the training galaxies are all of one class; a probe needs two or more")
    if not strength > 0:
        raise Gz2vitError(f"strength is {strength}; it must be larger than 0")
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=MAX_ITERATIONS))
    # Hundreds of small steps: several threads would mostly wait for each other, 12 times as long.
    with threadpool_limits(1):
        return probe.fit(*known).predict(asked[0]) == asked[1]


def _checked(embeddings: torch.Tensor, classes: ClassIndices, what: str) -> Labelled:
    """Both as arrays, float64 (B, D) and (B,)."""
    vectors, classes = np.asarray(embeddings, dtype=np.float64), np.asarray(classes)
    if vectors.ndim != 2 or len(vectors) == 0 or classes.shape != vectors.shape[:1]:
        raise Gz2vitError(
            f"{what}: embeddings of shape {vectors.shape} and classes of shape {classes.shape} do "
            "not fit; give (B, D) and (B,)"
        )
    if not np.isfinite(vectors).all():
        raise Gz2vitError(f"{what}: embeddings hold values that are not finite; check the network")
    return vectors, classes


def nearest_neighbours(
    embeddings: torch.Tensor, row: int, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The `k` galaxies nearest to that of `row` by the cosine of their embeddings (B, D).

    Returns their rows, int64 (k,), nearest first and without `row` itself, and the cosines,
    float32 (k,), -1 to 1. Raises `Gz2vitError` for a row or a k that B does not hold.
    """
    count = len(embeddings)
    if embeddings.ndim != 2 or not 0 <= row < count or not 1 <= k < count:
        raise Gz2vitError(
            f"embeddings of shape {tuple(embeddings.shape)} have no row {row} with {k} neighbours; "
            "give (B, D), a row from 0 to B - 1 and k from 1 to B - 1"
        )
    directions = functional.normalize(embeddings.float(), dim=1)
    cosines = (directions @ directions[row]).clamp(-1.0, 1.0)
    order = cosines.argsort(descending=True, stable=True)
    order = order[order != row][:k]
    return order, cosines[order]
