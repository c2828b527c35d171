"""The results table: for each model and quantity the paper's value, ours, and what may be said.

The paper's values are `paper.PUBLISHED_RESULTS`; ours are in `models/<key>/metrics.json`, and for
further seeds in `models/<key>/seeds/<seed>/metrics.json`.
"""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gz2vit.errors import Gz2vitError
from gz2vit.evaluation import wilson_interval
from gz2vit.paper import CLASS_NAMES, EPOCH_SECONDS, PUBLISHED_RESULTS
from gz2vit.report.comparability import Run, comparability
from gz2vit.report.runs import MACRO, damaged, read_run
from gz2vit.results import WEIGHTED, command_for, read_json
from gz2vit.seeds import run_folders

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
