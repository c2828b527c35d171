"""What was run on what: data, models, code, versions, machine, from the records of the runs."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gz2vit.catalog import SPLITS
from gz2vit.paper import CLASS_NAMES
from gz2vit.report.cells import MINUTE_S, Cells
from gz2vit.report.origins import started_from
from gz2vit.report.runs import read_record
from gz2vit.results import run_record
from gz2vit.seeds import run_folders
from gz2vit.selection import Selection

Terms = list[tuple[str, str]]  # what a value is called, and the value, both text
SPLIT_NAMES = {"train": "to learn from", "valid": "to choose the best epoch", "test": "to test on"}
COMMIT_LETTERS = 12


def read_records(
    results_dir: Path | str, model_keys: Sequence[str], seeds: Mapping[str, Sequence[int]]
) -> list[Mapping[str, Any]]:
    """The `params.json` of every run that has one."""
    models = Path(results_dir) / "models"
    folders = [models / key / one for key in model_keys for one in run_folders(seeds.get(key, ()))]
    return [record for record in map(read_record, folders) if record]


def describe_run(selection: Selection, table: pd.DataFrame) -> Terms:
    """Profile, data, models and time, for the head of the report."""
    data, runs = selection.data, table.attrs["runs"]
    galaxies = ", ".join(f"{data['galaxies'][split]:,} {SPLIT_NAMES[split]}" for split in SPLITS)
    trained = [key for key, own in runs.items() if own]
    seconds = sum(run["train_seconds"] for own in runs.values() for run in own)
    devices = dict.fromkeys(run["device"] for own in runs.values() for run in own)
    terms = [
        ("Profile", str(data["profile"])),
        ("Data", data["name"] + (" (simulated, not observed)" if data["simulated"] else "")),
        ("Galaxies", galaxies),
        ("Models", f"{len(trained)} of {len(runs)} trained: {', '.join(trained) or 'none'}"),
    ]
    if trained:
        terms.append(("Training", f"{seconds / MINUTE_S:,.1f} minutes in all, on {_join(devices)}"))
    return terms + _faults(data)


def _faults(data: Mapping[str, Any]) -> Terms:
    """Galaxies and classes that the run does without."""
    terms = []
    lost = sum(data.get("left_out", {}).values())
    if lost:
        terms.append(("Left out", f"{lost:,} galaxies, whose images cannot be read"))
    gone = [
        f"{name} ({split})"
        for split, names in data.get("gone_classes", {}).items()
        for name in names
    ]
    if gone:
        terms.append(("Without galaxies", ", ".join(gone)))
    return terms


def composition(selection: Selection) -> Cells:
    """How many galaxies of each class there are in each split."""
    counts = {
        split: table.label1.value_counts().reindex(range(len(CLASS_NAMES)), fill_value=0)
        for split, table in selection.tables.items()
    }
    rows = []
    for index, name in enumerate(CLASS_NAMES):
        own = [int(counts[split][index]) for split in SPLITS]
        rows.append([name, *(f"{count:,}" for count in (*own, sum(own)))])
    return Cells("Galaxies by class", ["class", *SPLITS, "all"], rows)


def describe_environment(records: Sequence[Mapping[str, Any]]) -> Terms:
    """Versions, code and machines of all runs; of this report where nothing is trained."""
    records = records or [run_record({}, 0, "none")]
    names = dict.fromkeys(name for record in records for name in record["versions"])
    terms = [(name, _join(record["versions"].get(name) for record in records)) for name in names]
    terms.append(("Code", _join(_short(record["git_commit"]) for record in records)))
    systems = (record["machine"]["system"] for record in records)
    cores = (str(record["machine"]["cpu_cores"]) for record in records)
    terms += [("System", _join(systems)), ("Processor cores", _join(cores))]
    terms.append(("Device", _join(record["device"] for record in records)))
    started = dict.fromkeys(filter(None, map(started_from, records)))
    return terms + [("Started from", words) for words in started]


def _short(commit: str) -> str:
    """A commit's first letters, and whether the code was changed after it."""
    name, plus, changes = commit.partition("+")
    return name[:COMMIT_LETTERS] + (f" with {changes}" if plus else "")


def _join(values: Iterable[str | None]) -> str:
    """Different values, each once: `2.10` or `2.10 or 2.11`."""
    return " or ".join(dict.fromkeys(value for value in values if value)) or "unknown"
