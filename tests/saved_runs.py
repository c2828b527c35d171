"""Runs as a results folder has them, with the paper's numbers and recipe, for tests."""

import json
from pathlib import Path

from gz2vit.paper import PUBLISHED_RESULTS, SPLIT_CLASS_COUNTS, TUNED_CLASS_WEIGHTS

# The recipes of the authors' notebooks, as a run's `params.json` has them.
LINFORMER = {
    **{"lr": 3e-4, "step_size": 5, "gamma": 0.9, "image_size": 224, "batch_size": 64},
    **{"max_epoch": 200, "early_stopping_epochs": 10, "seed": 0},
    "hyperparameters": {
        **{"image_size": 224, "patch_size": 28, "depth": 12, "dim": 128, "k_dim": 64},
        **{"heads": 8, "dropout": 0.1, "share_kv": False},
    },
}
RESNET = LINFORMER | {"lr": 5e-5, "step_size": 10, "gamma": 0.1, "hyperparameters": {}}
GALAXIES = {"train": 99_808, "valid": 24_952, "test": 31_191}  # the paper's
CUT_SHORT = "the paper's own training was cut short when its session ended"


def metrics_of(key: str, **changes: object) -> dict:
    """A run that gave exactly the paper's figures, but for `changes`."""
    published = PUBLISHED_RESULTS[key]
    names = ("parameters", "train_acc", "valid_acc", "recall_macro", "f1_macro", "class_acc")
    run = {name: published.get(name, 0.5) for name in names}
    run |= {"model": key, "accuracy": published["test_acc"], "epochs": 30, "best_epoch": 20}
    run |= {"weights": "imagenet" if key == "resnet50" else "none", "train_seconds": 600.0}
    run |= {"test_galaxies": 31191, "class_test_galaxies": list(SPLIT_CLASS_COUNTS["test"])}
    tuned = [8 * weight / sum(TUNED_CLASS_WEIGHTS) for weight in TUNED_CLASS_WEIGHTS]
    run |= {"class_weights": tuned if key.endswith("_weighted") else [1.0] * 8}
    run |= {"largest_class_fraction": 0.2515, "device": "cpu", "profile": "paper"}
    return run | {"data": "155,951 galaxies of gz2"} | changes


def save_run(results: Path, run: dict, folder: str = "", **recipe: object) -> Path:
    """A run's `metrics.json` and `params.json`: the paper's recipe and galaxies, but for `recipe`.

    A selection that exists is kept.
    """
    path = results / "models" / run["model"] / folder / "metrics.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(run))
    parameters = (RESNET if run["model"] == "resnet50" else LINFORMER) | recipe
    path.with_name("params.json").write_text(json.dumps({"parameters": parameters}))
    selection = results / "selection" / "data.json"
    if not selection.exists():
        selection.parent.mkdir(parents=True)
        selection.write_text(json.dumps({"galaxies": GALAXIES}))
    return path
