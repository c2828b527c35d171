"""What trainings started from and how long they went, in words: for tables, notes and figures."""

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from gz2vit.catalog import class_weights
from gz2vit.evaluation import confusion_matrix, metric_intervals, read_predictions, wilson_interval
from gz2vit.io import WEIGHTED, Gz2vitError, command_for, read_json, run_folders, write_text
from gz2vit.paper import (
    ARXIV,
    BATCH_SIZE,
    CLASS_NAMES,
    CROP_PX,
    EARLY_STOPPING_EPOCHS,
    EPOCH_SECONDS,
    MAX_EPOCH,
    NETWORKS,
    PUBLISHED_RESULTS,
    SCHEDULES,
    SEED,
    SPLIT_CLASS_COUNTS,
    TITLE,
)

FILE_PARTS = 2  # of a file of weights: `linformer/best.ckpt` tells more than `best.ckpt`
SUM_LETTERS = 12
LIBRARIES = ("timm/", "transformers/")  # whose published weights need not be ImageNet's


def origin(run: Mapping[str, Any]) -> str:
    """What a training started from: `from scratch`, `from ImageNet weights`, `from the file ...`.

    `run`: a `metrics.json`, with `started`, the record of the weights in `params.json`, where it
    is known; a file is told with the beginning of its SHA-256, which names it whatever it is
    called.
    """
    weights, record = run["weights"], run.get("started", {})
    if weights == "none":
        return "from scratch"
    if weights == "imagenet":
        library = str(run.get("network", "")).startswith(LIBRARIES)
        return f"from {'its published' if library else 'ImageNet'} weights"
    name = Path(*Path(weights).parts[-FILE_PARTS:]).as_posix()
    checksum = record.get("sha256", "")[:SUM_LETTERS]
    return f"from the file {name}" + (f" (SHA-256 {checksum}…)" if checksum else "")


def started_from(record: Mapping[str, Any]) -> str:
    """The file of weights that a run's `params.json` names, whole; empty where there was none."""
    weights = record.get("weights", {})
    if "file" not in weights:
        return ""
    parts = [f"{record['parameters']['model_key']}: {weights['file']} of {weights['source']}"]
    parts += [f"{name} {weights[name]}" for name in ("revision", "sha256") if name in weights]
    return ", ".join(parts)


def training_words(results_dir: Path | str, model_keys: Sequence[str]) -> str:
    """How models came to be, for a figure's footer: `linformer trained from scratch for 10 epochs`.

    Those that began alike are told together; one that is not trained is left out. Raises
    `Gz2vitError` for a damaged file and KeyError for one that lacks a figure.
    """
    runs = {}
    for key in model_keys:
        path = Path(results_dir) / "models" / key / "metrics.json"
        if path.exists():
            record = path.with_name("params.json")
            started = read_json(record).get("weights", {}) if record.exists() else {}
            runs[key] = read_json(path) | {"started": started}
    groups: dict[str, list[str]] = {}
    for key, run in runs.items():
        groups.setdefault(origin(run), []).append(key)
    if len(groups) == 1:
        epochs = span([run["epochs"] for run in runs.values()])
        return f"trained {next(iter(groups))} for {epochs} epochs"
    return "; ".join(f"{', '.join(keys)} trained {words}" for words, keys in groups.items())


def span(values: Sequence[int]) -> str:
    """The range of some whole numbers in words: `7`, or `5 to 7`."""
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"


# ------------------------------------------------------------------------------------------
# Whether a run may be compared with the paper's, and if not, every reason why.
#
# The paper's side is in `gz2vit.paper`: data, weights, network and recipe; ours is what a run left in
# `metrics.json`, of its recipe in `params.json`, and of its galaxies in `selection/data.json`.

# A `metrics.json`, with what `params.json` has of its `recipe` (the parameters), of the weights
# that it `started` from, and of its `sessions`.
Run = Mapping[str, Any]

PRETRAINED = ("resnet50", "vgg16_bn", "hf_vit")  # the paper starts these from ImageNet weights
FLOAT32 = "32-true"  # Lightning's name for it
SPLIT_WORDS = {"train": "to learn from", "valid": "to choose the epoch by", "test": "to test on"}
# AUTHORS (gz2vit/paper.py), outputs of their notebook.
PAPER_REMARKS = {"linformer": "the paper's own training was cut short when its session ended"}
# What a recipe's values are called, in the order in which differences are told; others as they are.
RECIPE_NAMES = {
    "image_size": "images of {} px",
    "patch_size": "patches of {} px",
    "depth": "{} layers",
    "dim": "tokens {} wide",
    "mlp_dim": "layers {} wide inside",
    "k_dim": "projection to {}",
    "heads": "{} attention heads",
    "lr": "learning rate {:g}",
    "step_size": "learning rate reduced every {} epochs",
    "gamma": "learning rate reduced by a factor {:g}",
    "batch_size": "batches of {}",
    "max_epoch": "{} epochs at most",
    "early_stopping_epochs": "early stopping after {} epochs",
}


def comparability(key: str, runs: Sequence[Run], galaxies: Mapping[str, int] | None = None) -> str:
    """One sentence on the `runs` of model `key` (its seeds): "comparable", or why they are not.

    `galaxies`: how many there were in each split, None where that is not known. What a reader must
    know of comparable runs (other seeds, other precision) follows after a semicolon.
    """
    if key not in PUBLISHED_RESULTS:
        return f"not comparable: the paper has no such model ({runs[0].get('network', key)})"
    reasons = [*_weights_reasons(key, runs[0]), *_network_reasons(key, runs[0])]
    reasons += dict.fromkeys(reason for run in runs for reason in recipe_reasons(key, run))
    reasons += _data_reasons(runs, galaxies)
    if reasons:
        return f"not comparable: {'; '.join(reasons)}"
    return "; ".join(["comparable", *_remarks(key, runs)])


def paper_recipe(key: str) -> dict[str, Any]:
    """The paper's recipe for model `key`, by the names of a run's settings and hyperparameters."""
    architecture = key.removesuffix(WEIGHTED)
    recipe = {"image_size": CROP_PX, **SCHEDULES[architecture], "batch_size": BATCH_SIZE}
    recipe |= {"max_epoch": MAX_EPOCH, "early_stopping_epochs": EARLY_STOPPING_EPOCHS}
    return recipe | NETWORKS[architecture]


def recipe_reasons(key: str, run: Run) -> list[str]:
    """Everything in the recipe of `run` that is not the paper's, in words.

    A value that the run did not record is one that may have been another.
    """
    recipe = run.get("recipe")
    if not recipe:
        return ["its recipe is not known (params.json is missing)"]
    ours = {**recipe, **recipe.get("hyperparameters", {})}
    reasons = []
    for name, theirs in paper_recipe(key).items():
        if name not in ours:
            reasons.append(f"{name} is not recorded, the paper's {theirs}")
        elif not _same(ours[name], theirs):
            words = RECIPE_NAMES.get(name, f"{name} {{}}")
            reasons.append(f"{words.format(ours[name])}, the paper's {theirs}")
    return reasons


def _same(ours: Any, theirs: Any) -> bool:
    """Whether two values of a recipe are equal; numbers but for the last digits."""
    if isinstance(ours, float) or isinstance(theirs, float):
        return math.isclose(ours, theirs, rel_tol=1e-9)
    return ours == theirs


def _weights_reasons(key: str, run: Run) -> list[str]:
    """What differs from the paper in what the training started from and what it trained."""
    reasons = []
    theirs = "imagenet" if key.removesuffix(WEIGHTED) in PRETRAINED else "none"
    if run["weights"] != theirs:
        reasons.append(f"trained {origin(run)}, the paper's {origin({'weights': theirs})}")
    if run.get("trainable_parameters", run["parameters"]) != run["parameters"]:
        reasons.append("only the last layer was trained, in the paper all of them")
    return reasons


def _network_reasons(key: str, run: Run) -> list[str]:
    """What differs from the paper in the network's size and the loss."""
    reasons = []
    if run["parameters"] != PUBLISHED_RESULTS[key]["parameters"]:
        reasons.append(f"another network, of {run['parameters']:,} parameters")
    choice = "tuned" if key.endswith(WEIGHTED) else "uniform"
    theirs = class_weights(choice, SPLIT_CLASS_COUNTS["train"])
    # The paper prints two digits of these: weights given so are the paper's.
    pairs = zip(run["class_weights"], theirs, strict=True)
    if any(abs(weight - their) > 0.01 for weight, their in pairs):
        reasons.append("other class weights than the paper's")
    return reasons


def _data_reasons(runs: Sequence[Run], galaxies: Mapping[str, int] | None) -> list[str]:
    """What differs from the paper in the galaxies and the profile."""
    reasons, run = [], runs[0]
    if run["profile"] != "paper":
        reasons.append(f"profile {run['profile']} ({span([one['epochs'] for one in runs])} epochs)")
    same = tuple(run["class_test_galaxies"]) == tuple(SPLIT_CLASS_COUNTS["test"])
    if galaxies is None:
        reasons.append("how many galaxies it learned from is not known (selection/ is missing)")
        ours = {"test": run["test_galaxies"]}
    else:
        ours = {**galaxies, "test": run["test_galaxies"]}
        same &= all(ours[split] == sum(SPLIT_CLASS_COUNTS[split]) for split in SPLIT_WORDS)
    if not same or "simulated" in run["data"]:
        known = {split: words for split, words in SPLIT_WORDS.items() if split in ours}
        parts = [f"{ours[split]:,} {words}" for split, words in known.items()]
        theirs = [f"{sum(SPLIT_CLASS_COUNTS[split]):,}" for split in known]
        reasons.append(f"{run['data']}, {', '.join(parts)} (the paper's {', '.join(theirs)})")
    return reasons


def _remarks(key: str, runs: Sequence[Run]) -> list[str]:
    """What is no other recipe, but must be known of runs that are comparable."""
    remarks = []
    seeds = [run["recipe"].get("seed") for run in runs]
    if seeds != [SEED]:
        told = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
        remarks.append(f"{told}, the paper's {SEED}")
    precisions = {one["precision"] for run in runs for one in run.get("sessions", ())}
    if others := sorted(precisions - {FLOAT32}):
        remarks.append(f"precision {', '.join(others)}, the paper's {FLOAT32}")
    return remarks + ([PAPER_REMARKS[key]] if key in PAPER_REMARKS else [])


# ------------------------------------------------------------------------------------------
# What the training of a model left on disk: its figures, its recipe, and its intervals.

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


# ------------------------------------------------------------------------------------------
# The results table in pieces: headings and rows of text, for whatever form they are printed in.

MISSING = "–"
MINUTE_S = 60.0
ANSWERS = {"comparable": "yes", "not comparable": "no"}  # by how a note of comparability begins


class Cells(NamedTuple):
    """One printed table: a title, the heading and the rows, all text."""

    title: str
    heading: list[str]
    rows: list[list[str]]


def all_tables(table: pd.DataFrame) -> list[Cells]:
    """The printed tables of a `results_table`: test galaxies, fit, classes, runs."""
    return [summary(table), fit(table), by_class(table), training(table)]


def introduction(table: pd.DataFrame) -> list[str]:
    """What a reader must know before the tables, one paragraph each."""
    return [
        f"The paper: {TITLE}, arXiv:{ARXIV}.",
        *_data_sentences(table),
        "All in percent; in brackets the 95 % interval for the test galaxies (Wilson's of an "
        "accuracy, the bootstrap's of a macro average); Δ is ours minus the paper's, in percentage "
        f"points.{_seeds(table)}",
        *_empty_classes(table),
    ]


def _empty_classes(table: pd.DataFrame) -> list[str]:
    """Which classes have no test galaxies, and what to do, in a sentence; none where all have."""
    runs = [run for runs in table.attrs["runs"].values() for run in runs]
    counts = [run["class_test_galaxies"] for run in runs]
    names = [name for name, *own in zip(CLASS_NAMES, *counts, strict=True) if 0 in own]
    if not names:
        return []
    return [
        f"There are no test galaxies of: {', '.join(names)}. What is measured on them stays empty, "
        "and the macro averages are of the other classes; for more, add some to the data folder's "
        "`gz2_test.csv` and run again."
    ]


def _seeds(table: pd.DataFrame) -> str:
    """What is shown where a model was trained with several seeds."""
    if table.seeds.max() < 2:
        return ""
    return (
        " Of several seeds the mean is shown, and after ± their sample standard deviation; the "
        "interval is that of the mean, for the test galaxies alone."
    )


def _data_sentences(table: pd.DataFrame) -> list[str]:
    """Data, profile and baseline of the runs, in a sentence or two."""
    runs = [run for runs in table.attrs["runs"].values() for run in runs]
    if not runs:
        return ["No model has been trained yet."]
    # One sentence as a rule; more where models of one folder differ in data or device.
    sentences = dict.fromkeys(
        f"Ours: profile `{run['profile']}`, {run['data']}, of which {run['test_galaxies']:,} "
        f"to test on, on {run['device']}. Always guessing the largest class would be right for "
        f"{100 * run['largest_class_fraction']:.1f} % of them."
        for run in runs
    )
    return list(sentences)


def summary(table: pd.DataFrame) -> Cells:
    """The paper's figures of merit on the test galaxies: theirs, ours, the difference.

    The last column says whether that difference may be quoted.
    """
    names = {"accuracy": "accuracy", "recall_macro": "macro recall", "f1_macro": "macro F1"}
    heading, rows = _beside(table, names, " [95 %]")
    notes = table.attrs["notes"]
    rows = [[*row, _comparable(notes[row[0]])] for row in rows]
    return Cells("On the test galaxies", [*heading, "comparable"], rows)


def _comparable(note: str) -> str:
    """`yes`, `no`, or nothing of a model that is not trained."""
    return next((word for words, word in ANSWERS.items() if note.startswith(words)), MISSING)


def fit(table: pd.DataFrame) -> Cells:
    """The accuracies on the galaxies that the networks learned from and were chosen by."""
    names = {"train_acc": "training", "valid_acc": "validation"}
    return Cells("On the training and validation galaxies", *_beside(table, names))


def _beside(
    table: pd.DataFrame, names: dict[str, str], interval: str = ""
) -> tuple[list[str], list[list[str]]]:
    """Heading and rows with three columns for each quantity: theirs, ours, the difference."""
    heading = ["model"]
    for name in names.values():
        heading += [f"{name}: paper", f"{name}: ours{interval}", f"{name}: Δ"]
    rows = []
    for key in table.attrs["runs"]:
        values, row = values_of(table, key), [key]
        for name in names:
            one = values.loc[name]
            row += [percent(one.paper, 2), ours(one), points(one.difference)]
        rows.append(row)
    return heading, rows


def by_class(table: pd.DataFrame) -> Cells:
    """Accuracies class by class, two columns for each model."""
    keys = list(table.attrs["runs"])
    classes = table[table.quantity == "class_acc"].set_index(["class_name", "model"])
    rows = []
    for name in CLASS_NAMES:
        cells = [classes.loc[(name, key)] for key in keys]
        counts = sorted({cell.n for cell in cells if table.attrs["runs"][cell.name[1]]})
        row = [name, " or ".join(map(_count, counts)) or MISSING]
        rows.append(row + [text for one in cells for text in (percent(one.paper), ours(one))])
    pairs = [text for key in keys for text in (f"{key}: paper", f"{key}: ours [95 %]")]
    return Cells("Accuracy by class", ["class", "test galaxies", *pairs], rows)


def training(table: pd.DataFrame) -> Cells:
    """How each model was trained: from what, how large, how long, on what."""
    heading = ["model", "seeds", "trained", "epoch kept", "parameters", "parameters: paper"]
    heading += ["minutes", "seconds an epoch", "seconds: paper", "device"]
    rows = []
    for key, runs in table.attrs["runs"].items():
        values = values_of(table, key)
        sizes = values.loc["parameters"]
        row = [key, *(_origin(runs) if runs else [MISSING] * 3)]
        row += [_count(sizes.ours), _count(sizes.paper), *_times(key, values)]
        rows.append([*row, " or ".join(dict.fromkeys(run["device"] for run in runs)) or MISSING])
    return Cells("The runs", heading, rows)


def _origin(runs: Sequence[Run]) -> list[str]:
    """Number, weights and epochs of a model's runs."""
    kept, all_epochs = ([run[name] for run in runs] for name in ("best_epoch", "epochs"))
    return [f"{len(runs)}", origin(runs[0]), f"{span(kept)} of {span(all_epochs)}"]


def _times(key: str, values: pd.DataFrame) -> list[str]:
    """Minutes of a training, seconds of an epoch, and the authors' with their device."""
    minutes, epoch = values.ours["train_seconds"] / MINUTE_S, values.ours["epoch_seconds"]
    theirs, device = EPOCH_SECONDS.get(key.removesuffix(WEIGHTED), (None, ""))
    return [
        MISSING if pd.isna(minutes) else f"{minutes:.1f}",
        MISSING if pd.isna(epoch) else f"{epoch:,.1f}",
        f"{theirs:,} ({device})" if theirs else MISSING,
    ]


def values_of(table: pd.DataFrame, key: str) -> pd.DataFrame:
    """One model's rows but for the classes, by quantity."""
    return table[(table.model == key) & (table.class_name == "")].set_index("quantity")


def ours(row: pd.Series) -> str:
    """Our value in percent: `68.6`, with its interval where it has one `68.6 [64.5, 72.4]`.

    Of several seeds: `68.6 ± 1.2 (3 seeds) [64.5, 72.4]`.
    """
    text = percent(row.ours)
    if not pd.isna(row.spread):
        text += f" ± {percent(row.spread)} ({row.seeds} seeds)"
    if pd.isna(row.ours) or pd.isna(row.low):
        return text
    return f"{text} [{percent(row.low)}, {percent(row.high)}]"


def percent(share: float, digits: int = 1) -> str:
    """A share in percent, without the sign."""
    return MISSING if pd.isna(share) else f"{100 * share:.{digits}f}"


def points(difference: float) -> str:
    """A difference in percentage points, with its sign."""
    return MISSING if pd.isna(difference) else f"{100 * difference:+.1f}".replace("-", "−")


def _count(value: float) -> str:
    """A whole number with thousands set apart."""
    return MISSING if pd.isna(value) else f"{int(value):,}"


# ------------------------------------------------------------------------------------------
# The results table: for each model and quantity the paper's value, ours, and what may be said.
#
# The paper's values are `paper.PUBLISHED_RESULTS`; ours are in `models/<key>/metrics.json`, and for
# further seeds in `models/<key>/seeds/<seed>/metrics.json`.

COLUMNS = (
    *("model", "quantity", "class_name", "paper", "ours", "spread", "seeds"),
    *("low", "high", "difference", "n"),
)
PLAIN_QUANTITIES = ("parameters", "train_acc", "valid_acc", *MACRO)
TIMES = ("train_seconds", "epoch_seconds")
# What the runs of one model share, whatever their seed.
SHARED_FIGURES = ("parameters", "weights", "class_weights", "data", "class_test_galaxies")


def results_table(
    results_dir: Path | str,
    model_keys: Sequence[str],
    seeds: Mapping[str, Sequence[int]] | None = None,
) -> pd.DataFrame:
    """One row for each model and quantity, missing values NaN.

    `seeds`: those of each model that was trained with several, as `seeds.named_seeds` tells them;
    only their folders are read. Columns: `model`; `quantity` (`parameters`, `accuracy`,
    `recall_macro`, `f1_macro`, `train_acc`, `valid_acc`, `train_seconds`, `epoch_seconds`,
    `class_acc`); `class_name` (of `class_acc`, else empty); `paper`; `ours`, the mean over the
    seeds that are trained; `spread`, their sample standard deviation, and `seeds`, their number;
    `low`, `high`, the 95 % interval on the test galaxies: Wilson's of an accuracy (of the mean),
    the bootstrap's of a macro average where there are predictions; `difference` (ours - paper; of
    times none: they are of other devices); `n`, the number of test galaxies. `table.attrs`
    holds `notes` (a sentence for each model) and `runs` (the metrics of each model's trained
    seeds, a list, as `runs.read_run` gives them).

    Raises `Gz2vitError` for a `metrics.json` that cannot be read, lacks a figure, or is of another
    network or other galaxies than the model's other seeds.
    """
    rows, notes, runs = [], {}, {}
    galaxies = _count_galaxies(Path(results_dir))
    for key in model_keys:
        folders = run_folders((seeds or {}).get(key, ()))
        folder = Path(results_dir).resolve() / "models" / key
        runs[key] = _read_runs(key, [folder / one / "metrics.json" for one in folders])
        rows += _rows(key, runs[key])
        command = command_for(folder / "metrics.json", key)
        notes[key] = (
            comparability(key, runs[key], galaxies) if runs[key] else f"not trained: {command}"
        )
        if len(runs[key]) < len(folders) and runs[key]:
            notes[key] += f"; {len(runs[key])} of {len(folders)} seeds trained"
    table = pd.DataFrame(rows, columns=COLUMNS)
    table.attrs = {"notes": notes, "runs": runs}
    return table


def _count_galaxies(results_dir: Path) -> dict[str, int] | None:
    """How many galaxies the selection has in each split; None where there is no selection."""
    path = results_dir / "selection" / "data.json"
    return read_json(path)["galaxies"] if path.exists() else None


def _read_runs(key: str, paths: Sequence[Path]) -> list[Run]:
    """The runs of one model that there are, each of them checked."""
    runs = []
    for path in filter(Path.exists, paths):
        try:
            run = read_run(path)
            _rows(key, [run])  # tried alone, so that an error names the file that is damaged
            comparability(key, [run])
        except (Gz2vitError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise damaged(path, key, error) from error
        runs.append(run)
        for name in SHARED_FIGURES:
            if run[name] != runs[0][name]:
                raise Gz2vitError(
                    f"{path} does not go with the model's other seeds ('{name}' differs); delete "
                    f"it and run {command_for(path, key)} with the same SEEDS"
                )
    return runs


def _rows(key: str, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """All rows of one model; `runs` is empty where it was not trained."""
    published = PUBLISHED_RESULTS.get(key, {})
    total = runs[0]["test_galaxies"] if runs else 0
    rows = [_row(key, name, published.get(name), _each(runs, name)) for name in PLAIN_QUANTITIES]
    for row in rows:
        if row["quantity"] in MACRO:
            row |= {"n": total, **_mean_interval(runs, row["quantity"])}
    accuracy = _each(runs, "accuracy")
    rows.insert(1, _row(key, "accuracy", published.get("test_acc"), accuracy, total))
    return [*rows, *_time_rows(key, runs), *_class_rows(key, runs)]


def _class_rows(key: str, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The accuracies of one model class by class."""
    theirs = PUBLISHED_RESULTS.get(key, {}).get("class_acc", [None] * len(CLASS_NAMES))
    ours = zip(*_each(runs, "class_acc"), strict=True) if runs else [()] * len(CLASS_NAMES)
    counts = runs[0]["class_test_galaxies"] if runs else [0] * len(CLASS_NAMES)
    classes = zip(CLASS_NAMES, theirs, ours, counts, strict=True)
    return [_row(key, "class_acc", their, our, n, name) for name, their, our, n in classes]


def _time_rows(key: str, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """How long one model was trained; other devices are no difference to quote."""
    seconds, _ = EPOCH_SECONDS.get(key.removesuffix(WEIGHTED), (None, ""))
    rows = [_row(key, name, None, _each(runs, name)) for name in TIMES]
    return [rows[0], rows[1] | {"paper": _or_nan(seconds)}]


def _each(runs: Sequence[Run], name: str) -> list[Any]:
    """One figure of every run."""
    return [run[name] for run in runs]


def _or_nan(value: float | None) -> float:
    """The value, NaN for none."""
    return float("nan") if value is None else value


def _mean_interval(runs: Sequence[Run], name: str) -> dict[str, float]:
    """`low` and `high` of a macro average: the mean ends of the runs' bootstrap intervals.

    The seeds share their test galaxies, so that they do not narrow what those leave open.
    """
    ends = [run["intervals"].get(name) for run in runs]
    if not ends or None in ends:
        return {}
    low, high = (statistics.fmean(values) for values in zip(*ends, strict=True))
    return {"low": low, "high": high}


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
    theirs = _or_nan(theirs)
    measured = bool(values) and all(isinstance(value, int | float) for value in values)
    ours = statistics.fmean(values) if measured else nothing
    spread = statistics.stdev(values) if measured and len(values) > 1 else nothing
    low, high = wilson_interval(round(ours * n), n) if n else (nothing, nothing)
    figures = (theirs, ours, spread, len(values), low, high, ours - theirs, n)
    return dict(zip(COLUMNS, (key, quantity, class_name, *figures), strict=True))


# ------------------------------------------------------------------------------------------
# The results table as Markdown for reading, CSV with all digits, and LaTeX for a paper.

LATEX_ESCAPES = {mark: f"\\{mark}" for mark in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def write_tables(results_dir: Path | str, table: pd.DataFrame) -> list[Path]:
    """Write `tables/results.md`, `.csv` and `.tex` into the results folder; their paths."""
    folder = Path(results_dir) / "tables"
    texts = {"md": to_markdown(table), "csv": to_csv(table), "tex": to_latex(table)}
    for ending, text in texts.items():
        write_text(folder / f"results.{ending}", text)
    return [folder / f"results.{ending}" for ending in texts]


def to_csv(table: pd.DataFrame) -> str:
    """Every row with all digits, the model's device and note; empty where there is no value."""
    devices = {
        key: " or ".join(dict.fromkeys(run["device"] for run in runs))
        for key, runs in table.attrs["runs"].items()
    }
    notes = table.model.map(table.attrs["notes"])
    return table.assign(device=table.model.map(devices), note=notes).to_csv(index=False)


def to_markdown(table: pd.DataFrame) -> str:
    """The test galaxies model by model and class by class, the runs, and what to make of them."""
    parts = ["# Results beside the paper's", *introduction(table)]
    for title, heading, rows in all_tables(table):
        parts += [f"## {title}", _markdown(heading, rows)]
    notes = table.attrs["notes"].items()
    parts += ["## What may be compared", "\n".join(f"- **{key}**: {note}" for key, note in notes)]
    return "\n\n".join(parts) + "\n"


def to_latex(table: pd.DataFrame) -> str:
    """The tables as LaTeX (package booktabs), the notes as comments above them."""
    notes = "\n".join(f"% {key}: {note}" for key, note in table.attrs["notes"].items())
    tables = [_latex(heading, rows) for _, heading, rows in all_tables(table)]
    return "\n\n".join([notes, *tables]) + "\n"


def _markdown(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    heading, *rows = ([cell.replace("|", r"\|") for cell in line] for line in (heading, *rows))
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
    lines = []
    for cells in (heading, ["-" * width for width in widths], *rows):
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        lines.append("| " + " | ".join(padded) + " |")
    return "\n".join(lines)


def _latex(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A LaTeX tabular with booktabs' rules."""
    lines = [" & ".join(map(_escape, cells)) + r" \\" for cells in (heading, *rows)]
    columns = "l" + "r" * (len(heading) - 1)
    parts = [f"\\begin{{tabular}}{{{columns}}}", r"\toprule", lines[0], r"\midrule"]
    return "\n".join([*parts, *lines[1:], r"\bottomrule", r"\end{tabular}"])


def _escape(text: str) -> str:
    """A text that LaTeX prints as it stands; the number of seeds has a column of its own."""
    text = "".join(LATEX_ESCAPES.get(mark, mark) for mark in text)
    maths = {"Δ": r"$\Delta$", "−": "$-$", "–": "--"}
    text = "".join(maths.get(mark, mark) for mark in text)
    return re.sub(r"(\S+) ± (\S+) \(\d+ seeds\)", r"$\1 \\pm \2$", text)
