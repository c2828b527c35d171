"""The results table: for each model and quantity the paper's value, ours, and whether they compare.

Ours are what `metrics.json`, `params.json` and `predictions.csv` in `models/<key>/` say, and, of
further seeds, in `models/<key>/seed<N>/`.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gz2vit import evaluation, io, paper
from gz2vit.catalog import class_weights
from gz2vit.io import WEIGHTED, Gz2vitError
from gz2vit.paper import CLASS_NAMES, EPOCH_SECONDS, PUBLISHED_RESULTS, SPLIT_CLASS_COUNTS

Run = Mapping[str, Any]  # `metrics.json` with what else `read_run` found beside it
Seeds = Mapping[str, Sequence[int]] | None  # of each model that was trained with several

MISSING = "–"
MACRO = ("recall_macro", "f1_macro")  # no shares of galaxies: their intervals are the bootstrap's
# What every run has; what it had of a training may be missing in somebody else's predictions.
RUN_FIGURES = ("accuracy", *MACRO, "class_acc", "test_galaxies", "class_test_galaxies")
# What the runs of one model share, whatever their seed.
SHARED_FIGURES = ("parameters", "weights", "class_weights", "data", "class_test_galaxies")
SCALARS = ("parameters", "accuracy", "train_acc", "valid_acc", *MACRO)
TIMES = ("train_seconds", "epoch_seconds")
COLUMNS = ("model", "quantity", "class_name", "paper", "ours", "spread", "seeds", "low", "high",
           "difference", "n")  # fmt: skip
TITLES = ("On the test galaxies", "On the training and validation galaxies", "Accuracy by class",
          "The runs")  # fmt: skip
PRETRAINED = ("resnet50", "vgg16_bn", "hf_vit")  # the paper starts these from ImageNet weights
FLOAT32 = "32-true"  # Lightning's name for it


# --- From a results folder to the table


def results_table(
    results_dir: Path | str, model_keys: Sequence[str], seeds: Seeds = None
) -> pd.DataFrame:
    """One row for each model and quantity (COLUMNS), missing values NaN.

    `ours`: mean over the trained `seeds`, `spread`: their sample standard deviation; `low`, `high`:
    95 % interval on the `n` test galaxies; `difference`: ours less the paper's, none of times.
    `table.attrs`: by model `notes` (a sentence) and `runs` (of `read_run`). Raises `Gz2vitError`
    for a damaged file, and for a seed of another network or other galaxies.
    """
    results_dir = Path(results_dir).resolve()
    data = read_record(results_dir / "selection" / "data.json")
    rows, notes, all_runs = [], {}, {}
    for key in model_keys:
        model = results_dir / "models" / key
        folders, command = io.run_folders((seeds or {}).get(key, ())), io.command_for(model, key)
        notes[key] = io.never_there(model) or f"not trained: {command}"
        try:
            runs = all_runs[key] = [run for one in folders if (run := read_run(model / one, data))]
            rows += _rows(key, runs)
            if runs:
                notes[key] = comparability(key, runs, data.get("galaxies"))
        except (Gz2vitError, LookupError, TypeError, ValueError) as error:
            damaged = f"a metrics.json in {model} is not whole ({error})"
            raise Gz2vitError(f"{damaged}; delete it and run {command}") from error
        for run in runs:
            for name in (one for one in SHARED_FIGURES if run.get(one) != runs[0].get(one)):
                other = f"{run['folder']} does not go with the model's other seeds"
                again = f"delete it and run {command} with the same SEEDS"
                raise Gz2vitError(f"{other} ('{name}' differs); {again}")
        if 0 < len(runs) < len(folders):
            notes[key] += f"; {len(runs)} of {len(folders)} seeds trained"
    table = pd.DataFrame(rows, columns=COLUMNS)
    table.attrs = {"notes": notes, "runs": all_runs}
    return table


def read_run(folder: Path, data: Mapping[str, Any]) -> dict[str, Any]:
    """A run's `metrics.json`; without one, what its `predictions.csv` shows, of `data`; or nothing.

    With macro averages' `intervals`; `recipe`, `started` (weights), `sessions` of `params.json`.
    """
    path, predictions = folder / "metrics.json", folder / "predictions.csv"
    run = {"intervals": {}}
    if predictions.exists():
        table = evaluation.read_predictions(predictions)
        found = evaluation.metric_intervals(table["class"], table.pred).set_index("quantity")
        run["intervals"] = {name: found.loc[name, ["low", "high"]].tolist() for name in MACRO}
        run |= {name: found.value[name] for name in ("accuracy", *MACRO)}
        run |= {"class_acc": found.value["class_acc"].tolist(), "test_galaxies": len(table)}
        run["class_test_galaxies"] = found.galaxies["class_acc"].tolist()
        run |= {"profile": data.get("profile"), "data": data.get("name", "galaxies")}
    elif not path.exists():
        return {}
    run |= read_record(path)
    if missing := [name for name in RUN_FIGURES if name not in run]:
        raise Gz2vitError(f"{path} has no {missing[0]}")
    if "train_seconds" in run:
        run["epoch_seconds"] = run["train_seconds"] / run["epochs"]
    record = read_record(folder / "params.json")
    run |= {"recipe": record.get("parameters", {}), "started": record.get("weights", {})}
    return run | {"sessions": record.get("sessions", []), "folder": folder}


def read_record(path: Path) -> dict[str, Any]:
    """What a JSON file holds, nothing where it is missing; `Gz2vitError` if it is damaged."""
    return dict(io.read_json(path)) if path.exists() else {}


def _rows(key: str, runs: Sequence[Run]) -> list[tuple]:
    """All rows of one model, as COLUMNS; `runs` is empty where it was not trained."""
    theirs = dict(PUBLISHED_RESULTS.get(key, {}))
    theirs |= zip(CLASS_NAMES, theirs.get("class_acc", ()), strict=False)
    theirs["accuracy"] = theirs.get("test_acc", np.nan)
    theirs["epoch_seconds"] = EPOCH_SECONDS.get(key.removesuffix(WEIGHTED), (np.nan,))[0]
    flat = [run | dict(zip(CLASS_NAMES, run["class_acc"], strict=True)) for run in runs]
    counts, rows = {}, []
    for run in runs[:1]:  # the seeds share their test galaxies
        counts = dict.fromkeys(("accuracy", *MACRO), run["test_galaxies"])
        counts |= zip(CLASS_NAMES, run["class_test_galaxies"], strict=True)
    for name in (*SCALARS, *TIMES, *CLASS_NAMES):
        values = np.array([run.get(name) for run in flat], dtype=np.float64)
        their, n, ends = theirs.get(name, np.nan), counts.get(name, 0), (np.nan, np.nan)
        ours = values.mean() if runs else np.nan
        spread = values.std(ddof=1) if len(runs) > 1 else np.nan
        if name in MACRO and runs:
            # Several seeds do not narrow what their test galaxies leave open.
            ends = np.mean([run["intervals"].get(name, ends) for run in runs], axis=0)
        elif n:
            ends = evaluation.wilson_interval(round(ours * n), n)
        difference = np.nan if name in TIMES else ours - their
        about = ("class_acc", name) if name in CLASS_NAMES else (name, "")
        rows.append((key, *about, their, ours, spread, len(runs), *ends, difference, n))
    return rows


# --- Why a run may not be compared with the paper's


def comparability(key: str, runs: Sequence[Run], galaxies: Mapping[str, int] | None = None) -> str:
    """One sentence on the `runs` of model `key` (its seeds): "comparable", or why they are not.

    `galaxies`: of each split. Other seeds or another precision of comparable runs are mentioned.
    """
    first, architecture = runs[0], key.removesuffix(WEIGHTED)
    if first.get("profile") == "published":
        remark = "" if key != "hf_vit" else ", of another run than the paper's (84.41 %)"
        return f"comparable; the predictions are the authors' own{remark}"
    if key not in PUBLISHED_RESULTS:
        return f"not comparable: the paper has no such model ({first.get('network', key)})"
    if not all("weights" in run and run["recipe"] for run in runs):
        words = "metrics.json or params.json is missing"
        return f"not comparable: how it was trained is not known ({words})"
    choice = "tuned" if key != architecture else "uniform"
    tuned = class_weights(choice, SPLIT_CLASS_COUNTS["train"])
    weights = "imagenet" if architecture in PRETRAINED else "none"
    theirs = {
        "trained": origin({"weights": weights}),
        "parameters": PUBLISHED_RESULTS[key]["parameters"],
        "trainable_parameters": first["parameters"],
        "class_weights": tuned.round(2).tolist(),
        **{"image_size": paper.CROP_PX, "batch_size": paper.BATCH_SIZE},
        **{"max_epoch": paper.MAX_EPOCH, "early_stopping_epochs": paper.EARLY_STOPPING_EPOCHS},
        **paper.SCHEDULES[architecture],
        **paper.NETWORKS[architecture],
        **{f"{split} galaxies": f"{sum(n):,}" for split, n in SPLIT_CLASS_COUNTS.items()},
    }
    reasons, galaxies = {}, galaxies or {}
    for run in runs:
        ours = {"trainable_parameters": first["parameters"], **run, **run["recipe"]}
        ours |= run["recipe"].get("hyperparameters", {})
        ours |= {f"{split} galaxies": f"{count:,}" for split, count in galaxies.items()}
        ours["trained"] = theirs["trained"] if run["weights"] == weights else origin(run)
        ours["test galaxies"] = f"{run['test_galaxies']:,} of {run['data']}"
        same = tuple(run["class_test_galaxies"]) == tuple(SPLIT_CLASS_COUNTS["test"])
        if same and "simulated" not in run["data"]:
            ours["test galaxies"] = theirs["test galaxies"]
        # The paper prints two digits of these: weights given so are the paper's.
        if np.abs(np.subtract(run["class_weights"], tuned)).max() <= 0.01:
            ours["class_weights"] = theirs["class_weights"]
        for name, their in theirs.items():
            if ours.get(name) != their:
                reasons[f"{name} {ours.get(name, 'not recorded')}, the paper's {their}"] = None
    if reasons:
        return f"not comparable: {'; '.join(reasons)}"
    remarks, seeds = ["comparable"], [run["recipe"].get("seed") for run in runs]
    if seeds != [paper.SEED]:
        words = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
        remarks.append(f"{words}, the paper's {paper.SEED}")
    if others := {one["precision"] for run in runs for one in run["sessions"]} - {FLOAT32}:
        remarks.append(f"precision {', '.join(sorted(others))}, the paper's {FLOAT32}")
    if key == "linformer":  # AUTHORS, outputs of their notebook
        remarks.append("the paper's own training was cut short when its session ended")
    return "; ".join(remarks)


def origin(run: Run) -> str:
    """What a training started from, a file with the beginning of its SHA-256."""
    weights = run.get("weights")
    if weights in (None, "none"):
        return "from scratch" if weights else MISSING
    if weights == "imagenet":  # libraries' published weights need not be ImageNet's
        library = str(run.get("network", "")).startswith(("timm/", "transformers/"))
        return f"from {'its published' if library else 'ImageNet'} weights"
    name = Path(*Path(weights).parts[-2:]).as_posix()  # `linformer/best.ckpt` says more
    checksum = run.get("started", {}).get("sha256", "")[:12]
    return f"from the file {name}" + (f" (SHA-256 {checksum}…)" if checksum else "")


def span(values: Sequence[int]) -> str:
    """The range of some whole numbers in words: `7`, or `5 to 7`."""
    return " to ".join(f"{value}" for value in sorted({min(values), max(values)}))


def training_words(results_dir: Path | str, model_keys: Sequence[str]) -> str:
    """How those models were trained that are, for a footer: `trained from scratch for 10 epochs`"""
    groups: dict[str, dict[str, int]] = {}
    for folder in (Path(results_dir) / "models" / key for key in model_keys):
        run, record = (read_record(folder / name) for name in ("metrics.json", "params.json"))
        if "weights" in run:
            words = origin(run | {"started": record.get("weights", {})})
            groups.setdefault(words, {})[folder.name] = run["epochs"]
    if len(groups) == 1:
        ((words, own),) = groups.items()
        return f"trained {words} for {span(own.values())} epochs"
    return "; ".join(f"{', '.join(own)} trained {words}" for words, own in groups.items())


def published_history(key: str) -> pd.DataFrame | None:
    """The authors' own epochs of model `key` (columns as of `history.csv`), where published."""
    table = pd.read_csv(Path(paper.__file__).with_name(paper.HISTORIES_FILE), comment="#")
    own = table[table.run == key].reset_index(drop=True)
    return own if len(own) else None


# --- The table printed: Markdown for reading, CSV with all digits, LaTeX for a paper


def write_tables(results_dir: Path | str, table: pd.DataFrame) -> list[Path]:
    """Write `tables/results.md`, `.csv` (all digits) and `.tex` into the results folder."""
    devices = {key: _devices(runs) for key, runs in table.attrs["runs"].items()}
    columns = {"device": table.model.map(devices), "note": table.model.map(table.attrs["notes"])}
    csv = table.assign(**columns).to_csv(index=False)
    forms = {"md": to_markdown(table), "csv": csv, "tex": to_latex(table)}
    paths = [Path(results_dir) / "tables" / f"results.{end}" for end in forms]
    for path, text in zip(paths, forms.values(), strict=True):
        io.write_text(path, text)
    return paths


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
    parts = [f"The paper: {paper.TITLE}, arXiv:{paper.ARXIV}."]
    parts += [] if runs else ["There are no predictions."]
    for run in runs:
        device = f", on {run['device']}" if "device" in run else ""
        parts.append(
            f"Ours: profile `{run.get('profile', 'unknown')}`, {run.get('data', 'galaxies')}, of "
            f"which {run['test_galaxies']:,} to test on{device}. Always guessing the largest class "
            f"would be right for {percent(largest_class(run))} % of them."
        )
    parts.append(
        "All in percent; in brackets the 95 % interval for the test galaxies (Wilson's of an "
        "accuracy, the bootstrap's of a macro average); Δ is ours minus the paper's, in percentage "
        "points. Of several seeds the mean is shown, and after ± their sample standard deviation. "
        "A class without test galaxies stays empty, and the macro averages are of the others."
    )
    # One sentence on the data as a rule; more where models of one folder differ in data or device.
    return list(dict.fromkeys(parts))


def printed_tables(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The tables as text, by their titles: test galaxies, fit, classes, runs."""
    test = {"accuracy": "accuracy", "recall_macro": "macro recall", "f1_macro": "macro F1"}
    fit = {"train_acc": "training", "valid_acc": "validation"}
    summary, fitted, by_class, trained = tables = [], [], [], []
    for key, rows in table.groupby("model", sort=False):
        own, runs = rows.set_index("quantity"), table.attrs["runs"][key]
        same = "yes" if table.attrs["notes"][key].startswith("comparable") else "no"
        summary.append({"model": key, **_beside(own, test, " [95 %]")})
        summary[-1]["comparable"] = same if runs else MISSING
        fitted.append({"model": key, **_beside(own, fit)})
        seconds, device = EPOCH_SECONDS.get(key.removesuffix(WEIGHTED), (None, ""))
        known = [run for run in runs if "epochs" in run]
        epochs = [span([run[one] for run in known]) for one in ("best_epoch", "epochs") if known]
        trained.append(
            {
                **{"model": key, "seeds": f"{len(runs)}" if runs else MISSING},
                "trained": origin(runs[0]) if runs else MISSING,
                "epoch kept": " of ".join(epochs) or MISSING,
                "parameters": shown("{:,.0f}", own.ours["parameters"]),
                "parameters: paper": shown("{:,.0f}", own.paper["parameters"]),
                "minutes": shown("{:.1f}", own.ours["train_seconds"] / 60),
                "seconds an epoch": shown("{:,.1f}", own.ours["epoch_seconds"]),
                "seconds: paper": f"{seconds:,} ({device})" if seconds else MISSING,
                "device": _devices(runs) or MISSING,
            }
        )
    for name, own in table[table.quantity == "class_acc"].groupby("class_name", sort=False):
        counts = " or ".join(f"{n:,}" for n in sorted(set(own.n[own.seeds > 0])))
        by_class.append({"class": name, "test galaxies": counts or MISSING})
        for one in own.itertuples():
            by_class[-1][f"{one.model}: paper"] = percent(one.paper)
            by_class[-1][f"{one.model}: ours [95 %]"] = ours(one)
    return dict(zip(TITLES, map(pd.DataFrame, tables), strict=True))


def _beside(own: pd.DataFrame, names: Mapping[str, str], interval: str = "") -> dict[str, str]:
    """A model's cells: for each quantity the paper's value, ours and the difference."""
    cells = {}
    for name, one in zip(names.values(), own.loc[[*names]].itertuples(), strict=True):
        cells |= {f"{name}: paper": percent(one.paper, 2), f"{name}: ours{interval}": ours(one)}
        cells[f"{name}: Δ"] = shown("{:+.1f}", 100 * one.difference).replace("-", "−")
    return cells


def ours(row: Any) -> str:
    """Our value in percent: `68.6`, of several seeds `68.6 ± 1.2 (3 seeds) [64.5, 72.4]`."""
    spread = "" if pd.isna(row.spread) else f" ± {percent(row.spread)} ({row.seeds} seeds)"
    interval = "" if pd.isna(row.low) else f" [{percent(row.low)}, {percent(row.high)}]"
    return f"{percent(row.ours)}{spread}{interval}"


def largest_class(run: Run) -> float:
    """The share of the test galaxies that always guessing the largest class has right."""
    return max(run["class_test_galaxies"]) / sum(run["class_test_galaxies"])


def percent(share: float, digits: int = 1) -> str:
    """A share in percent, without the sign."""
    return shown(f"{{:.{digits}f}}", 100 * share)


def shown(form: str, value: float) -> str:
    """A number in this form, or the sign for a missing one."""
    return MISSING if pd.isna(value) else form.format(value)


def _devices(runs: Sequence[Run]) -> str:
    """The devices of some runs."""
    return " or ".join(dict.fromkeys(run["device"] for run in runs if "device" in run))
