"""Predictions of a trained network, and the metrics that follow from them."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from gz2vit.data import Batches, open_split
from gz2vit.data.device import DeviceBatches
from gz2vit.data.galaxies import LabelledImages
from gz2vit.evaluation import PROBABILITY_COLUMNS, classification_metrics
from gz2vit.models import count_parameters
from gz2vit.results import atomic_path, read_json, require, write_json
from gz2vit.selection import read_selection
from gz2vit.training.classifier import CHECKPOINT, GalaxyClassifier, load_classifier
from gz2vit.training.unfinished import forget


def predict(classifier: GalaxyClassifier, galaxies: LabelledImages) -> pd.DataFrame:
    """Class probabilities for a split, on the GPU where there is one.

    Columns `GalaxyID`, `class` (true index), `pred` (the most probable), `p0` to `p7` (sum 1).
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    classifier = classifier.to(device).eval()
    settings = classifier.settings
    sizes = {"image_size": settings.image_size, "batch_size": settings.batch_size}
    batches = Batches(galaxies.store, galaxies.class_index, **sizes)
    made = DeviceBatches(batches, device) if device.type == "cuda" else batches
    with torch.inference_mode():
        logits = torch.cat([classifier(batch.images).cpu() for batch in made])
    probabilities = logits.double().softmax(dim=1).numpy()
    table = pd.DataFrame({"GalaxyID": galaxies.store.galaxy_ids, "class": galaxies.class_index})
    table["pred"] = probabilities.argmax(axis=1)
    return table.assign(**dict(zip(PROBABILITY_COLUMNS, probabilities.T, strict=True)))


def evaluate_model(
    results_dir: Path | str, model_key: str, test: LabelledImages, run: str = ""
) -> dict:
    """Predict the test galaxies with the best weights and write what came out.

    `run`: the folder of a further seed inside the model's folder, such as "seeds/1". Writes
    `predictions.csv`, `validation_predictions.csv` (a temperature is fitted to them: the test
    galaxies may have no say in it) and `metrics.json` into the run's folder and returns the
    metrics: those of `classification_metrics`, training figures of the best epoch, size, time and
    device.
    """
    folder = require(Path(results_dir) / "models" / model_key / run, model_key)
    require(folder / CHECKPOINT, model_key)
    classifier = load_classifier(folder)
    predictions = predict(classifier, test)
    validation = predict(classifier, open_split(results_dir, "valid"))
    for name, table in (("predictions", predictions), ("validation_predictions", validation)):
        with atomic_path(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)
    metrics = _metrics(results_dir, folder, classifier, predictions, test)
    write_json(folder / "metrics.json", metrics)
    forget(folder)
    return metrics


def _metrics(
    results_dir: Path | str,
    folder: Path,
    classifier: GalaxyClassifier,
    predictions: pd.DataFrame,
    test: LabelledImages,
) -> dict:
    """All figures of one run, as plain values; an accuracy that cannot be measured is null."""
    history = pd.read_csv(require(folder / "history.csv", classifier.settings.model_key))
    best = history.loc[history.valid_acc.idxmax()]
    record = read_json(folder / "params.json")
    selection = read_selection(results_dir)
    metrics = classification_metrics(predictions["class"], predictions["pred"])
    counts = test.class_counts()
    return {
        "model": classifier.settings.model_key,
        **metrics,
        "class_acc": [None if np.isnan(value) else value for value in metrics["class_acc"]],
        "class_test_galaxies": counts.tolist(),
        "test_galaxies": int(counts.sum()),
        "largest_class_fraction": float(counts.max() / counts.sum()),
        "train_acc": float(best.train_acc),
        "valid_acc": float(best.valid_acc),
        "best_epoch": int(best.epoch),
        "epochs": len(history),
        "train_seconds": float(history.seconds.sum()),
        "parameters": count_parameters(classifier.network),
        "trainable_parameters": count_parameters(classifier.network, trainable=True),
        "network": classifier.settings.hyperparameters.get("name", classifier.settings.network),
        "weights": classifier.settings.weights,
        "class_weights": classifier.loss_weights.tolist(),
        "device": record["device"],
        "data": selection.data["name"],
        "profile": selection.data["profile"],
    }
