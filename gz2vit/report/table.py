"""The results table: for each model and quantity the paper's value, ours, and what may be said.

The paper's values are `paper.PUBLISHED_RESULTS`; ours are in `models/<key>/metrics.json`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gz2vit.class_weights import class_weights
from gz2vit.errors import Gz2vitError
from gz2vit.evaluation import wilson_interval
from gz2vit.paper import CLASS_NAMES, PUBLISHED_RESULTS, SPLIT_CLASS_COUNTS
from gz2vit.results import command_for, read_json

COLUMNS = ("model", "quantity", "class_name", "paper", "ours", "low", "high", "difference", "n")
PLAIN_QUANTITIES = ("parameters", "train_acc", "valid_acc", "recall_macro", "f1_macro")
RUN_FIGURES = (  # what the headings and notes need, besides the quantities
    *("weights", "class_weights", "best_epoch", "epochs", "train_seconds", "device"),
    *("data", "profile", "test_galaxies", "class_test_galaxies", "largest_class_fraction"),
)
PRETRAINED = ("resnet50", "vgg16_bn", "hf_vit")  # the paper starts these from ImageNet weights


def results_table(results_dir: Path | str, model_keys: Sequence[str]) -> pd.DataFrame:
    """One row for each model and quantity, missing values NaN.

    Columns: `model`; `quantity` (`parameters`, `accuracy`, `recall_macro`, `f1_macro`,
    `train_acc`, `valid_acc`, `class_acc`); `class_name` (of `class_acc`, else empty); `paper`,
    `ours`, `difference` (ours - paper); `low`, `high` (95 % Wilson interval of an accuracy on the
    test galaxies) and `n`, their number. `table.attrs` holds `notes` (a sentence for each model)
    and `runs` (each model's metrics; none where it was not trained).

    Raises `Gz2vitError` for a `metrics.json` that cannot be read or lacks a figure.
    """
    rows, notes, runs = [], {}, {}
    for key in model_keys:
        path = Path(results_dir).resolve() / "models" / key / "metrics.json"
        command = command_for(path, key)
        try:
            run = _read_run(path)
            rows += _rows(key, run)
            notes[key] = _note(key, run) if run else f"not trained: {command}"
        except (Gz2vitError, KeyError, TypeError, ValueError) as error:
            raise Gz2vitError(
                f"{path} is not whole ({error}); delete it and run {command}"
            ) from error
        runs[key] = run
    table = pd.DataFrame(rows, columns=COLUMNS)
    table.attrs = {"notes": notes, "runs": runs}
    return table


def _read_run(path: Path) -> dict[str, Any]:
    """A model's `metrics.json`, or nothing where there is no such file.

    Raises `Gz2vitError` for what is no JSON, TypeError for what is no object, and KeyError for an
    object that lacks a figure of the run: an empty file is damaged, not a model left untrained.
    """
    if not path.exists():
        return {}
    run = read_json(path)
    if not isinstance(run, dict):
        raise TypeError(f"it holds a {type(run).__name__}")
    missing = [name for name in RUN_FIGURES if name not in run]
    if missing:
        raise KeyError(*missing)
    return run


def _rows(key: str, run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All rows of one model; `run` is empty where it was not trained."""
    published = PUBLISHED_RESULTS.get(key, {})
    total = run["test_galaxies"] if run else 0
    rows = [_row(key, name, published.get(name), run and run[name]) for name in PLAIN_QUANTITIES]
    accuracy = run and run["accuracy"]
    rows.insert(1, _row(key, "accuracy", published.get("test_acc"), accuracy, total))
    theirs = published.get("class_acc", [None] * len(CLASS_NAMES))
    ours = run["class_acc"] if run else [None] * len(CLASS_NAMES)
    counts = run["class_test_galaxies"] if run else [0] * len(CLASS_NAMES)
    for name, their, our, count in zip(CLASS_NAMES, theirs, ours, counts, strict=True):
        rows.append(_row(key, "class_acc", their, our, count, name))
    return rows


def _row(
    key: str, quantity: str, theirs: float | None, ours: Any, n: int = 0, class_name: str = ""
) -> dict[str, Any]:
    """One row; an interval where `ours` is a share of `n` galaxies."""
    nothing = float("nan")
    theirs = nothing if theirs is None else theirs
    ours = ours if isinstance(ours, int | float) else nothing
    low, high = wilson_interval(round(ours * n), n) if n else (nothing, nothing)
    values = (key, quantity, class_name, theirs, ours, low, high, ours - theirs, n)
    return dict(zip(COLUMNS, values, strict=True))


def _note(key: str, run: Mapping[str, Any]) -> str:
    """Whether a run may be compared with the paper's, and if not, every reason why."""
    if key not in PUBLISHED_RESULTS:
        return f"not comparable: the paper has no such model ({run.get('network', key)})"
    reasons = [*_training_reasons(key, run), *_data_reasons(run)]
    return f"not comparable: {'; '.join(reasons)}" if reasons else "comparable"


def _training_reasons(key: str, run: Mapping[str, Any]) -> list[str]:
    """What differs from the paper in the weights, the network and the loss."""
    reasons = []
    pretrained = key.removesuffix("_weighted") in PRETRAINED
    if pretrained and run["weights"] == "none":
        reasons.append("trained from scratch, the paper's from ImageNet weights")
    elif run["weights"] != ("imagenet" if pretrained else "none"):
        theirs = "ImageNet weights" if pretrained else "scratch"
        reasons.append(f"trained from the weights {run['weights']}, the paper's from {theirs}")
    if run.get("trainable_parameters", run["parameters"]) != run["parameters"]:
        reasons.append("only the last layer was trained, in the paper all of them")
    if run["parameters"] != PUBLISHED_RESULTS[key]["parameters"]:
        reasons.append(f"another network, of {run['parameters']:,} parameters")
    choice = "tuned" if key.endswith("_weighted") else "uniform"
    theirs = class_weights(choice, SPLIT_CLASS_COUNTS["train"])
    # The paper prints two digits of these: weights given so are the paper's.
    pairs = zip(run["class_weights"], theirs, strict=True)
    if any(abs(weight - their) > 0.01 for weight, their in pairs):
        reasons.append("other class weights than the paper's")
    return reasons


def _data_reasons(run: Mapping[str, Any]) -> list[str]:
    """What differs from the paper in the galaxies and the profile."""
    reasons = []
    if run["profile"] != "paper":
        reasons.append(f"profile {run['profile']} ({run['epochs']} epochs)")
    same = tuple(run["class_test_galaxies"]) == tuple(SPLIT_CLASS_COUNTS["test"])
    if not same or "simulated" in run["data"]:
        reasons.append(f"{run['data']}, of them {run['test_galaxies']:,} to test on")
    return reasons
