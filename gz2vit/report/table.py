"""The results table: for each model and quantity the paper's value, ours, and what may be said.

The paper's values are `paper.PUBLISHED_RESULTS`; ours are in `models/<key>/metrics.json`, and for
further seeds in `models/<key>/seeds/<seed>/metrics.json`.
"""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gz2vit.class_weights import class_weights
from gz2vit.errors import Gz2vitError
from gz2vit.evaluation import wilson_interval
from gz2vit.paper import CLASS_NAMES, PUBLISHED_RESULTS, SPLIT_CLASS_COUNTS
from gz2vit.results import command_for, read_json
from gz2vit.seeds import run_folders

COLUMNS = (
    *("model", "quantity", "class_name", "paper", "ours", "spread", "seeds"),
    *("low", "high", "difference", "n"),
)
PLAIN_QUANTITIES = ("parameters", "train_acc", "valid_acc", "recall_macro", "f1_macro")
RUN_FIGURES = (  # what the headings and notes need, besides the quantities
    *("weights", "class_weights", "best_epoch", "epochs", "train_seconds", "device"),
    *("data", "profile", "test_galaxies", "class_test_galaxies", "largest_class_fraction"),
)
# What the runs of one model share, whatever their seed.
SHARED_FIGURES = ("parameters", "weights", "class_weights", "data", "class_test_galaxies")
PRETRAINED = ("resnet50", "vgg16_bn", "hf_vit")  # the paper starts these from ImageNet weights


Run = Mapping[str, Any]  # a `metrics.json`


def results_table(
    results_dir: Path | str,
    model_keys: Sequence[str],
    seeds: Mapping[str, Sequence[int]] | None = None,
) -> pd.DataFrame:
    """One row for each model and quantity, missing values NaN.

    `seeds`: those of each model that was trained with several, as `seeds.named_seeds` tells them;
    only their folders are read. Columns: `model`; `quantity` (`parameters`, `accuracy`,
    `recall_macro`, `f1_macro`, `train_acc`, `valid_acc`, `class_acc`); `class_name` (of
    `class_acc`, else empty); `paper`; `ours`, the mean over the seeds that are trained; `spread`,
    their sample standard deviation, and `seeds`, their number; `low`, `high`, the 95 % Wilson
    interval of an accuracy (of the mean) on the test galaxies; `difference` (ours - paper); `n`,
    the number of test galaxies. `table.attrs` holds `notes` (a sentence for each model) and `runs`
    (the metrics of each model's trained seeds, a list).

    Raises `Gz2vitError` for a `metrics.json` that cannot be read, lacks a figure, or is of another
    network or other galaxies than the model's other seeds.
    """
    rows, notes, runs = [], {}, {}
    for key in model_keys:
        folders = run_folders((seeds or {}).get(key, ()))
        folder = Path(results_dir).resolve() / "models" / key
        runs[key] = _read_runs(key, [folder / one / "metrics.json" for one in folders])
        rows += _rows(key, runs[key])
        command = command_for(folder / "metrics.json", key)
        notes[key] = _note(key, runs[key]) if runs[key] else f"not trained: {command}"
        if len(runs[key]) < len(folders) and runs[key]:
            notes[key] += f"; {len(runs[key])} of {len(folders)} seeds trained"
    table = pd.DataFrame(rows, columns=COLUMNS)
    table.attrs = {"notes": notes, "runs": runs}
    return table


def _read_runs(key: str, paths: Sequence[Path]) -> list[Run]:
    """The runs of one model that there are, each of them checked."""
    runs = []
    for path in filter(Path.exists, paths):
        command = command_for(path, key)
        try:
            run = _read_run(path)
            _rows(key, [run])  # tried alone, so that an error names the file that is damaged
            _note(key, [run])
        except (Gz2vitError, KeyError, TypeError, ValueError) as error:
            raise Gz2vitError(
                f"{path} is not whole ({error}); delete it and run {command}"
            ) from error
        runs.append(run)
        for name in SHARED_FIGURES:
            if run[name] != runs[0][name]:
                raise Gz2vitError(
                    f"{path} does not go with the model's other seeds ('{name}' differs); delete "
                    f"it and run {command} with the same SEEDS"
                )
    return runs


def _read_run(path: Path) -> Run:
    """A run's `metrics.json`.

    Raises `Gz2vitError` for what is no JSON, TypeError for what is no object, and KeyError for an
    object that lacks a figure of the run: an empty file is damaged, not a model left untrained.
    """
    run = read_json(path)
    if not isinstance(run, dict):
        raise TypeError(f"it holds a {type(run).__name__}")
    missing = [name for name in RUN_FIGURES if name not in run]
    if missing:
        raise KeyError(*missing)
    return run


def _rows(key: str, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """All rows of one model; `runs` is empty where it was not trained."""
    published = PUBLISHED_RESULTS.get(key, {})
    total = runs[0]["test_galaxies"] if runs else 0
    rows = [_row(key, name, published.get(name), _each(runs, name)) for name in PLAIN_QUANTITIES]
    accuracy = _each(runs, "accuracy")
    rows.insert(1, _row(key, "accuracy", published.get("test_acc"), accuracy, total))
    theirs = published.get("class_acc", [None] * len(CLASS_NAMES))
    ours = zip(*_each(runs, "class_acc"), strict=True) if runs else [()] * len(CLASS_NAMES)
    counts = runs[0]["class_test_galaxies"] if runs else [0] * len(CLASS_NAMES)
    for name, their, our, count in zip(CLASS_NAMES, theirs, ours, counts, strict=True):
        rows.append(_row(key, "class_acc", their, our, count, name))
    return rows


def _each(runs: Sequence[Run], name: str) -> list[Any]:
    """One figure of every run."""
    return [run[name] for run in runs]


def _row(
    key: str,
    quantity: str,
    theirs: float | None,
    values: Sequence[Any],
    n: int = 0,
    class_name: str = "",
) -> dict[str, Any]:
    """One row of `values`, one for each seed; an interval where they are shares of `n` galaxies."""
    nothing = float("nan")
    theirs = nothing if theirs is None else theirs
    measured = bool(values) and all(isinstance(value, int | float) for value in values)
    ours = statistics.fmean(values) if measured else nothing
    spread = statistics.stdev(values) if measured and len(values) > 1 else nothing
    low, high = wilson_interval(round(ours * n), n) if n else (nothing, nothing)
    figures = (theirs, ours, spread, len(values), low, high, ours - theirs, n)
    return dict(zip(COLUMNS, (key, quantity, class_name, *figures), strict=True))


def span(values: Sequence[int]) -> str:
    """The range of some whole numbers in words: `7`, or `5 to 7`."""
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"


def _note(key: str, runs: Sequence[Run]) -> str:
    """Whether runs may be compared with the paper's, and if not, every reason why."""
    if key not in PUBLISHED_RESULTS:
        return f"not comparable: the paper has no such model ({runs[0].get('network', key)})"
    reasons = [*_training_reasons(key, runs[0]), *_data_reasons(runs)]
    return f"not comparable: {'; '.join(reasons)}" if reasons else "comparable"


def _training_reasons(key: str, run: Run) -> list[str]:
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


def _data_reasons(runs: Sequence[Run]) -> list[str]:
    """What differs from the paper in the galaxies and the profile."""
    reasons, run = [], runs[0]
    if run["profile"] != "paper":
        reasons.append(f"profile {run['profile']} ({span(_each(runs, 'epochs'))} epochs)")
    same = tuple(run["class_test_galaxies"]) == tuple(SPLIT_CLASS_COUNTS["test"])
    if not same or "simulated" in run["data"]:
        reasons.append(f"{run['data']}, of them {run['test_galaxies']:,} to test on")
    return reasons
