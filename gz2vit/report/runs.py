"""What the training of a model left on disk: its figures, its recipe, and its intervals."""

from pathlib import Path
from typing import Any

import numpy as np

from gz2vit.errors import Gz2vitError
from gz2vit.evaluation import confusion_matrix, read_predictions
from gz2vit.evidence import metric_intervals
from gz2vit.paper import NETWORKS, PUBLISHED_RESULTS
from gz2vit.report.comparability import Run
from gz2vit.results import WEIGHTED, command_for, read_json

RUN_FIGURES = (  # what the headings and notes need, besides the quantities
    *("weights", "class_weights", "best_epoch", "epochs", "train_seconds", "device"),
    *("data", "profile", "test_galaxies", "class_test_galaxies", "largest_class_fraction"),
)
MACRO = ("recall_macro", "f1_macro")  # no shares of galaxies: their intervals are the bootstrap's


def read_run(path: Path) -> Run:
    """A run's `metrics.json`, with what the files beside it tell.

    From `params.json`, empty where that is missing: `recipe`, the parameters; `started`, the record
    of the weights; `sessions`. `intervals`: by macro average its bootstrap interval (low, high)
    from `predictions.csv`, empty where that is missing.
    Raises `Gz2vitError` for what is no JSON or no table, TypeError for what is no object, and
    KeyError for an object that lacks a figure: an empty file is damaged, not a model untrained.
    """
    run = _read_object(path)
    missing = [name for name in RUN_FIGURES if name not in run]
    if missing:
        raise KeyError(*missing)
    record = read_record(path.parent)
    return run | {
        "recipe": record.get("parameters", {}),
        "started": record.get("weights", {}),
        "sessions": record.get("sessions", []),
        "epoch_seconds": run["train_seconds"] / run["epochs"],
        "intervals": _macro_intervals(path.with_name("predictions.csv")),
    }


def read_record(folder: Path) -> Run:
    """A run's `params.json`; empty where it is missing. Raises `Gz2vitError` if it is damaged."""
    path = folder / "params.json"
    try:
        return _read_object(path) if path.exists() else {}
    except TypeError as error:
        raise Gz2vitError(f"cannot read {path}: {error}") from error


def read_network(results_dir: Path | str, key: str) -> tuple[dict[str, Any], int, str]:
    """The network of model `key`: its hyperparameters, its number of parameters, and the source.

    Those of the model as it was trained; where it is not, the paper's, and the source says so.
    Raises `Gz2vitError` for damaged files.
    """
    path = Path(results_dir) / "models" / key / "metrics.json"
    architecture = key.removesuffix(WEIGHTED)
    if not path.exists():
        words = f"the paper's values: {key} is not trained here"
        return dict(NETWORKS[architecture]), PUBLISHED_RESULTS[key]["parameters"], words
    try:
        network = read_record(path.parent)["parameters"]["hyperparameters"]
        return network, int(_read_object(path)["parameters"]), f"sizes of models/{key}"
    except (Gz2vitError, KeyError, TypeError) as error:
        raise damaged(path.resolve(), key, error) from error


def read_confusion(results_dir: Path | str, key: str) -> tuple[np.ndarray | None, dict[str, Any]]:
    """The confusion matrix of model `key`, int64 (8, 8), and its metrics, for Fig. 3.

    Of a model that is not trained: None, and what to say in its place (`model`, `missing`).
    """
    folder = Path(results_dir) / "models" / key
    if not (folder / "metrics.json").exists():
        command = command_for((folder / "metrics.json").resolve(), key)
        return None, {"model": key, "missing": f"{key} is not trained: run {command}"}
    table = read_predictions(folder / "predictions.csv")
    return confusion_matrix(table["class"], table["pred"]), read_json(folder / "metrics.json")


def _read_object(path: Path) -> Run:
    """The object in a JSON file; TypeError for anything else."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise TypeError(f"it holds a {type(value).__name__}")
    return value


def _macro_intervals(path: Path) -> dict[str, tuple[float, float]]:
    """The 95 % intervals of the macro averages, where there are predictions."""
    if not path.exists():
        return {}
    predictions = read_predictions(path)
    table = metric_intervals(predictions["class"], predictions["pred"]).set_index("quantity")
    return {name: (float(table.low[name]), float(table.high[name])) for name in MACRO}


def damaged(path: Path, key: str, error: Exception) -> Gz2vitError:
    """The error for a run whose files cannot be used: it says what to delete and what to run."""
    return Gz2vitError(f"{path} is not whole ({error}); delete it and run {command_for(path, key)}")
