"""The results table: for each model and quantity the paper's value, ours, and whether they compare.

The paper's values are `paper.PUBLISHED_RESULTS`; ours are in `models/<key>/` and, of further seeds,
in `models/<key>/seed<N>/`: `metrics.json`, `params.json` and `predictions.csv`.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gz2vit import paper
from gz2vit.catalog import class_weights
from gz2vit.evaluation import (
    classification_metrics,
    metric_intervals,
    read_predictions,
    wilson_interval,
)
from gz2vit.io import WEIGHTED, Gz2vitError, command_for, read_json, run_folders, write_text
from gz2vit.paper import CLASS_NAMES, EPOCH_SECONDS, PUBLISHED_RESULTS, SPLIT_CLASS_COUNTS

# A run's `metrics.json` with what else `read_run` found beside it.
Run = Mapping[str, Any]

MISSING = "–"
MACRO = ("recall_macro", "f1_macro")  # no shares of galaxies: their intervals are the bootstrap's
# What every run has; what it had of a training may be missing in somebody else's predictions.
RUN_FIGURES = ("accuracy", *MACRO, "class_acc", "test_galaxies", "class_test_galaxies")
# What the runs of one model share, whatever their seed.
SHARED_FIGURES = ("parameters", "weights", "class_weights", "data", "class_test_galaxies")
COLUMNS = (
    *("model", "quantity", "class_name", "paper", "ours", "spread", "seeds"),
    *("low", "high", "difference", "n"),
)


# --- From a results folder to the table


def results_table(
    results_dir: Path | str,
    model_keys: Sequence[str],
    seeds: Mapping[str, Sequence[int]] | None = None,
) -> pd.DataFrame:
    """One row for each model and quantity, missing values NaN.

    `seeds`: of each model that was trained with several; only their folders are read. `ours`: mean
    over the trained seeds, `spread`: their sample standard deviation, `seeds`: their number; `low`,
    `high`: 95 % interval on the `n` test galaxies, Wilson's of an accuracy, the bootstrap's of a
    macro average; `difference`: ours less the paper's, none of times. `table.attrs`: `notes` (a
    sentence for each model) and `runs` (for each model its runs, as of `read_run`).

    Raises `Gz2vitError` for a damaged file, and for a seed of another network or other galaxies.
    """
    results_dir = Path(results_dir).resolve()
    selected = results_dir / "selection" / "data.json"
    data = read_json(selected) if selected.exists() else {}
    rows, notes, all_runs = [], {}, {}
    for key in model_keys:
        model = results_dir / "models" / key
        folders, command = run_folders((seeds or {}).get(key, ())), command_for(model, key)
        runs = all_runs[key] = []
        for folder in (model / one for one in folders):
            if not any((folder / name).exists() for name in ("metrics.json", "predictions.csv")):
                continue
            try:
                runs.append(read_run(folder, data))
                _rows(key, runs[-1:])  # alone, so that an error names the file that is damaged
                comparability(key, runs[-1:])
            except (Gz2vitError, LookupError, TypeError, ArithmeticError) as error:
                path = folder / "metrics.json"
                raise Gz2vitError(
                    f"{path} is not whole ({error}); delete it and run {command}"
                ) from error
            for name in SHARED_FIGURES:
                if runs[-1].get(name) != runs[0].get(name):
                    raise Gz2vitError(
                        f"{folder} does not go with the model's other seeds ('{name}' differs); "
                        f"delete it and run {command} with the same SEEDS"
                    )
        rows += _rows(key, runs)
        notes[key] = f"not trained: {command}"
        if runs:
            notes[key] = comparability(key, runs, data.get("galaxies"))
            if len(runs) < len(folders):
                notes[key] += f"; {len(runs)} of {len(folders)} seeds trained"
    table = pd.DataFrame(rows, columns=COLUMNS)
    table.attrs = {"notes": notes, "runs": all_runs}
    return table


def read_run(folder: Path, data: Mapping[str, Any]) -> Run:
    """A run's `metrics.json`; without one, what its `predictions.csv` shows, of `data`.

    With it `recipe` (parameters), `started` (record of the weights) and `sessions` of `params.json`
    and `intervals`: (low, high) of the bootstrap by macro average. Raises `Gz2vitError`, TypeError
    or KeyError for a damaged file.
    """
    path, predictions = folder / "metrics.json", folder / "predictions.csv"
    run, record, intervals = {}, read_record(folder), {}
    if predictions.exists():
        table = read_predictions(predictions)
        found = metric_intervals(table["class"], table["pred"]).set_index("quantity")
        intervals = {name: (float(found.low[name]), float(found.high[name])) for name in MACRO}
        counts = np.bincount(table["class"], minlength=len(CLASS_NAMES)).tolist()
        run = classification_metrics(table["class"], table["pred"])
        run |= {"test_galaxies": len(table), "class_test_galaxies": counts}
        run |= {"profile": data.get("profile"), "data": data.get("name", "galaxies")}
    if path.exists():
        run = read_json(path)
        if missing := [name for name in RUN_FIGURES if name not in run]:
            raise KeyError(*missing)
    if "train_seconds" in run:
        run["epoch_seconds"] = run["train_seconds"] / run["epochs"]
    kept = {"recipe": "parameters", "started": "weights"}
    run |= {name: record.get(recorded, {}) for name, recorded in kept.items()}
    return run | {"sessions": record.get("sessions", []), "intervals": intervals}


def read_record(folder: Path) -> dict[str, Any]:
    """A run's `params.json`; empty where it is missing. Raises `Gz2vitError` if it is damaged."""
    path = folder / "params.json"
    record = read_json(path) if path.exists() else {}
    if not isinstance(record, dict):
        raise Gz2vitError(f"cannot read {path}: it holds a {type(record).__name__}")
    return record


def _rows(key: str, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """All rows of one model; `runs` is empty where it was not trained."""
    published = PUBLISHED_RESULTS.get(key, {})
    seconds = EPOCH_SECONDS.get(key.removesuffix(WEIGHTED), (None, ""))[0]
    theirs = published | {"accuracy": published.get("test_acc"), "epoch_seconds": seconds}
    n = runs[0]["test_galaxies"] if runs else 0

    def row(quantity: str, their: Any, values: Sequence[Any], n: int = 0, name: str = "") -> dict:
        their = np.nan if their is None else their
        measured = bool(values) and all(isinstance(value, int | float) for value in values)
        ours = float(np.mean(values)) if measured else np.nan
        spread = float(np.std(values, ddof=1)) if measured and len(values) > 1 else np.nan
        low, high = wilson_interval(round(ours * n), n) if n else (np.nan, np.nan)
        numbers = (their, ours, spread, len(values), low, high, ours - their, n)
        return dict(zip(COLUMNS, (key, quantity, name, *numbers), strict=True))

    rows = []
    for name in ("parameters", "accuracy", "train_acc", "valid_acc", *MACRO):
        values = [run.get(name) for run in runs]
        rows.append(row(name, theirs.get(name), values, n if name == "accuracy" else 0))
        if name in MACRO:
            # The seeds share their test galaxies: several do not narrow what these leave open.
            ends = [run["intervals"].get(name, (np.nan, np.nan)) for run in runs]
            low, high = np.mean(ends, axis=0) if ends else (np.nan, np.nan)
            rows[-1] |= {"n": n, "low": low, "high": high}
    for name in ("train_seconds", "epoch_seconds"):
        values = [run.get(name) for run in runs]
        rows.append(row(name, theirs.get(name), values) | {"difference": np.nan})
    for index, name in enumerate(CLASS_NAMES):
        their = published["class_acc"][index] if "class_acc" in published else None
        counts = runs[0]["class_test_galaxies"][index] if runs else 0
        values = [run["class_acc"][index] for run in runs]
        rows.append(row("class_acc", their, values, counts, name))
    return rows


# --- Why a run may not be compared with the paper's

PRETRAINED = ("resnet50", "vgg16_bn", "hf_vit")  # the paper starts these from ImageNet weights
FLOAT32 = "32-true"  # Lightning's name for it
# AUTHORS (gz2vit/paper.py), outputs of their notebook.
PAPER_REMARKS = {"linformer": "the paper's own training was cut short when its session ended"}
# What a recipe's values are called, in the order in which differences are listed; others as named.
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
    run, architecture = runs[0], key.removesuffix(WEIGHTED)
    if run.get("profile") == "published":
        return "comparable; the predictions are the authors' own"
    if key not in PUBLISHED_RESULTS:
        return f"not comparable: the paper has no such model ({run.get('network', key)})"
    if "weights" not in run:
        return "not comparable: how it was trained is not known (metrics.json is missing)"
    reasons = []

    weights = "imagenet" if architecture in PRETRAINED else "none"
    if run["weights"] != weights:
        reasons.append(f"trained {origin(run)}, the paper's {origin({'weights': weights})}")
    if run.get("trainable_parameters", run["parameters"]) != run["parameters"]:
        reasons.append("only the last layer was trained, in the paper all of them")
    if run["parameters"] != PUBLISHED_RESULTS[key]["parameters"]:
        reasons.append(f"another network, of {run['parameters']:,} parameters")
    choice = "tuned" if key.endswith(WEIGHTED) else "uniform"
    theirs = class_weights(choice, SPLIT_CLASS_COUNTS["train"])
    # The paper prints two digits of these: weights given so are the paper's.
    if np.abs(np.subtract(run["class_weights"], theirs)).max() > 0.01:
        reasons.append("other class weights than the paper's")

    recipe = {"image_size": paper.CROP_PX, **paper.SCHEDULES[architecture]}
    recipe |= {"batch_size": paper.BATCH_SIZE, "max_epoch": paper.MAX_EPOCH}
    recipe |= {"early_stopping_epochs": paper.EARLY_STOPPING_EPOCHS} | paper.NETWORKS[architecture]
    for one in runs:
        if not one["recipe"]:
            reasons.append("its recipe is not known (params.json is missing)")
            continue
        ours = one["recipe"] | one["recipe"].get("hyperparameters", {})
        for name, their in recipe.items():
            if name not in ours:
                reasons.append(f"{name} is not recorded, the paper's {their}")
            elif isinstance(their, float) and math.isclose(ours[name], their, rel_tol=1e-9):
                continue
            elif ours[name] != their:
                words = RECIPE_NAMES.get(name, f"{name} {{}}").format(ours[name])
                reasons.append(f"{words}, the paper's {their}")

    if run["profile"] != "paper":
        reasons.append(f"profile {run['profile']} ({span([one['epochs'] for one in runs])} epochs)")
    ours = dict(galaxies or {}, test=run["test_galaxies"])
    if galaxies is None:
        reasons.append("how many galaxies it learned from is not known (selection/ is missing)")
    purposes = {"train": "to learn from", "valid": "to choose the epoch by", "test": "to test on"}
    known = {split: words for split, words in purposes.items() if split in ours}
    totals = {split: sum(SPLIT_CLASS_COUNTS[split]) for split in known}
    same = tuple(run["class_test_galaxies"]) == tuple(SPLIT_CLASS_COUNTS["test"])
    if not same or "simulated" in run["data"] or any(ours[one] != totals[one] for one in known):
        counts = ", ".join(f"{ours[split]:,} {words}" for split, words in known.items())
        theirs = ", ".join(f"{total:,}" for total in totals.values())
        reasons.append(f"{run['data']}, {counts} (the paper's {theirs})")
    if reasons:
        return f"not comparable: {'; '.join(dict.fromkeys(reasons))}"

    remarks = ["comparable"]
    seeds = [one["recipe"].get("seed") for one in runs]
    if seeds != [paper.SEED]:
        words = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
        remarks.append(f"{words}, the paper's {paper.SEED}")
    precisions = {one["precision"] for run in runs for one in run["sessions"]} - {FLOAT32}
    if precisions:
        remarks.append(f"precision {', '.join(sorted(precisions))}, the paper's {FLOAT32}")
    return "; ".join(remarks + ([PAPER_REMARKS[key]] if key in PAPER_REMARKS else []))


def origin(run: Run) -> str:
    """What a training started from, a file with the beginning of its SHA-256."""
    weights = run.get("weights")
    if weights is None:
        return MISSING
    if weights == "none":
        return "from scratch"
    if weights == "imagenet":  # libraries' published weights need not be ImageNet's
        library = str(run.get("network", "")).startswith(("timm/", "transformers/"))
        return f"from {'its published' if library else 'ImageNet'} weights"
    name = Path(*Path(weights).parts[-2:]).as_posix()  # `linformer/best.ckpt` says more
    checksum = run.get("started", {}).get("sha256", "")[:12]
    return f"from the file {name}" + (f" (SHA-256 {checksum}…)" if checksum else "")


def span(values: Sequence[int]) -> str:
    """The range of some whole numbers in words: `7`, or `5 to 7`."""
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"


def training_words(results_dir: Path | str, model_keys: Sequence[str]) -> str:
    """How models were trained, for a figure's footer: `trained from scratch for 10 epochs`.

    Those that began alike are named together; one that is not trained is left out.
    """
    groups: dict[str, list[tuple[str, int]]] = {}
    for key in model_keys:
        path = Path(results_dir) / "models" / key / "metrics.json"
        run = read_json(path) if path.exists() else {}
        if "weights" in run:
            started = read_record(path.parent).get("weights", {})
            words = origin(run | {"started": started})
            groups.setdefault(words, []).append((key, run["epochs"]))
    if len(groups) == 1:
        ((words, own),) = groups.items()
        return f"trained {words} for {span([epochs for _, epochs in own])} epochs"
    return "; ".join(
        f"{', '.join(key for key, _ in own)} trained {words}" for words, own in groups.items()
    )


def published_history(key: str) -> pd.DataFrame | None:
    """The authors' own epochs of model `key` (columns as of `history.csv`), where published."""
    table = pd.read_csv(Path(paper.__file__).with_name(paper.HISTORIES_FILE), comment="#")
    own = table[table.run == key].reset_index(drop=True)
    return own if len(own) else None


# --- The table printed: Markdown for reading, CSV with all digits, LaTeX for a paper


def write_tables(results_dir: Path | str, table: pd.DataFrame) -> list[Path]:
    """Write `tables/results.md`, `.csv` and `.tex` into the results folder; their paths."""
    paths = []
    for ending, form in (("md", to_markdown), ("csv", to_csv), ("tex", to_latex)):
        paths.append(Path(results_dir) / "tables" / f"results.{ending}")
        write_text(paths[-1], form(table))
    return paths


def to_csv(table: pd.DataFrame) -> str:
    """Every row with all digits, the model's device and note; empty where there is no value."""
    devices = {key: _devices(runs) for key, runs in table.attrs["runs"].items()}
    columns = {"device": table.model.map(devices), "note": table.model.map(table.attrs["notes"])}
    return table.assign(**columns).to_csv(index=False)


def to_markdown(table: pd.DataFrame) -> str:
    """The test galaxies model by model and class by class, the runs, and what may be compared."""
    parts = ["# Results beside the paper's", *introduction(table)]
    for title, printed in printed_tables(table).items():
        cells = printed.map(lambda cell: cell.replace("|", r"\|"))
        text = cells.to_markdown(index=False, tablefmt="github", disable_numparse=True)
        parts += [f"## {title}", text]
    notes = [f"- **{key}**: {note}" for key, note in table.attrs["notes"].items()]
    return "\n\n".join([*parts, "## What may be compared", "\n".join(notes)]) + "\n"


def to_latex(table: pd.DataFrame) -> str:
    """The tables as LaTeX (package booktabs), the notes as comments above them."""
    parts = ["\n".join(f"% {key}: {note}" for key, note in table.attrs["notes"].items())]
    for printed in printed_tables(table).values():
        columns = "l" + "r" * (printed.shape[1] - 1)
        text = printed.to_latex(index=False, escape=True, column_format=columns).rstrip()
        for mark, maths in {"Δ": r"$\Delta$", "−": "$-$", "–": "--"}.items():
            text = text.replace(mark, maths)
        # The number of seeds has a column of its own.
        parts.append(re.sub(r"(\S+) ± (\S+) \(\d+ seeds\)", r"$\1 \\pm \2$", text))
    return "\n\n".join(parts) + "\n"


def introduction(table: pd.DataFrame) -> list[str]:
    """What a reader must know before the tables, one paragraph each."""
    runs = [run for own in table.attrs["runs"].values() for run in own]
    # One sentence on the data as a rule; more where models of one folder differ in data or device.
    about = {} if runs else {"No model has been trained yet.": None}
    for run in runs:
        known, counts = run.get("device"), run["class_test_galaxies"]
        largest = run.get("largest_class_fraction", max(counts) / sum(counts))
        words = (
            f"Ours: profile `{run.get('profile', 'unknown')}`, {run.get('data', 'galaxies')}, of "
            f"which {run['test_galaxies']:,} to test on{f', on {known}' if known else ''}. Always "
            f"guessing the largest class would be right for {100 * largest:.1f} % of them."
        )
        about[words] = None
    meaning = (
        "All in percent; in brackets the 95 % interval for the test galaxies (Wilson's of an "
        "accuracy, the bootstrap's of a macro average); Δ is ours minus the paper's, in percentage "
        "points."
    )
    if table.seeds.max() > 1:
        meaning += (
            " Of several seeds the mean is shown, and after ± their sample standard deviation; the "
            "interval is that of the mean, for the test galaxies alone."
        )
    parts = [f"The paper: {paper.TITLE}, arXiv:{paper.ARXIV}.", *about, meaning]
    counts = [run["class_test_galaxies"] for run in runs]
    if empty := [name for name, *own in zip(CLASS_NAMES, *counts, strict=True) if 0 in own]:
        parts.append(
            f"There are no test galaxies of: {', '.join(empty)}. What is measured on them stays "
            "empty, and the macro averages are of the other classes; for more, add some to the "
            "data folder's `gz2_test.csv` and run again."
        )
    return parts


def printed_tables(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The tables as text, by their titles: test galaxies, fit, classes, runs."""
    runs, notes = table.attrs["runs"], table.attrs["notes"]
    values = {key: own.set_index("quantity") for key, own in table.groupby("model", sort=False)}

    def beside(names: Mapping[str, str], interval: str = "") -> pd.DataFrame:
        lines = []
        for key, own in values.items():
            lines.append({"model": key})
            for quantity, name in names.items():
                one = own.loc[quantity]
                difference = shown("{:+.1f}", 100 * one.difference).replace("-", "−")
                lines[-1] |= {f"{name}: paper": percent(one.paper, 2)}
                lines[-1] |= {f"{name}: ours{interval}": ours(one), f"{name}: Δ": difference}
        return pd.DataFrame(lines)

    test = {"accuracy": "accuracy", "recall_macro": "macro recall", "f1_macro": "macro F1"}
    summary = beside(test, " [95 %]")
    summary["comparable"] = [
        MISSING if not runs[key] else "yes" if notes[key].startswith("comparable") else "no"
        for key in values
    ]
    classes = []
    for name, own in table[table.quantity == "class_acc"].groupby("class_name", sort=False):
        counts = sorted({int(one.n) for one in own.itertuples() if runs[one.model]})
        line = {"class": name, "test galaxies": " or ".join(map("{:,}".format, counts)) or MISSING}
        for _, one in own.iterrows():
            line |= {f"{one.model}: paper": percent(one.paper)}
            line |= {f"{one.model}: ours [95 %]": ours(one)}
        classes.append(line)
    trained = []
    for key, own in values.items():
        sizes, there = own.loc["parameters"], runs[key]
        seconds, device = EPOCH_SECONDS.get(key.removesuffix(WEIGHTED), (None, ""))
        epochs = MISSING
        if there and "epochs" in there[0]:
            kept, of = ([run[name] for run in there] for name in ("best_epoch", "epochs"))
            epochs = f"{span(kept)} of {span(of)}"
        trained.append(
            {
                "model": key,
                "seeds": f"{len(there)}" if there else MISSING,
                "trained": origin(there[0]) if there else MISSING,
                "epoch kept": epochs,
                "parameters": shown("{:,.0f}", sizes.ours),
                "parameters: paper": shown("{:,.0f}", sizes.paper),
                "minutes": shown("{:.1f}", own.ours["train_seconds"] / 60),
                "seconds an epoch": shown("{:,.1f}", own.ours["epoch_seconds"]),
                "seconds: paper": f"{seconds:,} ({device})" if seconds else MISSING,
                "device": _devices(there) or MISSING,
            }
        )
    return {
        "On the test galaxies": summary,
        "On the training and validation galaxies": beside(
            {"train_acc": "training", "valid_acc": "validation"}
        ),
        "Accuracy by class": pd.DataFrame(classes),
        "The runs": pd.DataFrame(trained),
    }


def ours(row: pd.Series) -> str:
    """Our value in percent: `68.6`, of several seeds `68.6 ± 1.2 (3 seeds) [64.5, 72.4]`."""
    text = percent(row.ours)
    if not pd.isna(row.spread):
        text += f" ± {percent(row.spread)} ({row.seeds} seeds)"
    if not pd.isna(row.ours) and not pd.isna(row.low):
        text += f" [{percent(row.low)}, {percent(row.high)}]"
    return text


def percent(share: float, digits: int = 1) -> str:
    """A share in percent, without the sign."""
    return shown(f"{{:.{digits}f}}", 100 * share)


def shown(form: str, value: float) -> str:
    """A number in this form, or the sign for a missing one."""
    return MISSING if pd.isna(value) else form.format(value)


def _devices(runs: Sequence[Run]) -> str:
    """The devices of some runs."""
    return " or ".join(dict.fromkeys(run["device"] for run in runs if "device" in run))
