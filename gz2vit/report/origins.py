"""What trainings started from and how long they went, in words: for tables, notes and figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gz2vit.results import read_json

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
