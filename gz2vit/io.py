"""The one exception that is meant for the user's eyes.

Everything that a user can mend (a missing image, an unknown profile key, a full disk) is raised
as `Gz2vitError` with one sentence that names the file or value and says what to do. The command
line prints that sentence alone, as its last line, and a notebook shows it without a traceback;
any other exception is a fault of ours.
"""

import fcntl
import json
import os
import platform
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gz2vit import __version__


class Gz2vitError(Exception):
    """One clear sentence for the user: what is wrong, where, and what to do about it."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback (its documented hook)."""
        return [f"{type(self).__name__}: {self}"]


# ------------------------------------------------------------------------------------------
# Results on disk: where they stand, atomic writing, and the record that each run leaves.
#
# A results folder (`results/<profile>`) holds `notebooks/`, `models/<key>/`, `figures/`, `tables/`
# and `store/`. Every file is written under a temporary name and then renamed, so that a killed run
# or a full disk never leaves half a file under a good name.

ROOT = Path(__file__).resolve().parents[1]  # the project's folder
MODEL_FILES = (
    *("history.csv", "predictions.csv", "validation_predictions.csv"),
    *("metrics.json", "params.json", "best.ckpt"),
)
ROAD_RECORD = "logs/road.json"  # in the results folder: how `run_all.sh` was last called
WEIGHTED = "_weighted"  # a model key that ends so is the same network, trained with class weights
CHECKPOINT = "best.ckpt"  # the weights that a training leaves in its model's folder
CHECKPOINT_SUFFIX = ".ckpt"
RECORDED_PACKAGES = ("torch", "torchvision", "lightning", "linformer", "vit-pytorch", "numpy")


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds.

    The temporary name keeps the suffix, because writers choose the format by it. On an error the
    temporary file is removed and `path` is untouched; a full disk or a missing right becomes a
    `Gz2vitError` that names the file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.filename is not None and Path(error.filename) not in (temporary, path):
            raise
        raise Gz2vitError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def sole_user(lock_path: Path, told: str) -> Iterator[int]:
    """Hold a lock file and yield its descriptor; `Gz2vitError` saying `told` if another has it.

    The system lets go of it when the last process that inherited it ends, in whatever way.
    """
    lock_path.parent.mkdir(parents=True, exist_ok=True)
    with lock_path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Gz2vitError(told) from None
        yield lock.fileno()


def write_text(path: Path | str, text: str) -> None:
    """Write `text` (UTF-8) to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON to `path` atomically; NaN is refused (ValueError)."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """The value in a JSON file; raises `Gz2vitError` naming the file where it cannot be read."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Gz2vitError(f"cannot read {path}: {error}") from error


def require(path: Path | str, step: str) -> Path:
    """`path` if it exists; otherwise raise `Gz2vitError` that says which step makes it."""
    path = Path(path)
    if path.exists():
        return path
    raise Gz2vitError(
        f"{path.resolve()} does not exist yet: the step '{step}' makes it; "
        f"run {command_for(path.resolve(), step)} in the project's folder"
    )


def trained_checkpoint(source: str) -> Path | None:
    """The trained network that `source` names, by its checkpoint or its model's folder.

    None for a source of another kind ("none", "imagenet", a file of weights). Raises `Gz2vitError`
    for a checkpoint that is not there.
    """
    path = Path(source)
    if path.suffix == CHECKPOINT_SUFFIX and not path.is_dir():
        if not path.is_file():
            raise Gz2vitError(f"there is no trained network {path}; name a {CHECKPOINT}")
        return path
    return path / CHECKPOINT if (path / CHECKPOINT).is_file() else None


def command_for(path: Path, step: str) -> str:
    """The command that makes `path` (inside a results folder) by running `step`.

    Profile, data and settings are those that the folder was last made with.
    """
    for folder in path.parents:
        if folder.parent.name == "results" or (folder / "logs").is_dir():
            return f"`./run_all.sh {' '.join([*_options(folder), '--only', step])}`"
    return f"`./run_all.sh --only {step}`"


def _options(folder: Path) -> list[str]:
    """The options of `run_all.sh` behind a results folder, as far as its record knows them."""
    named = ["--results", shlex.quote(str(folder))]
    standard = folder.parent.name == "results"
    try:
        call = json.loads((folder / ROAD_RECORD).read_text(encoding="utf-8"))
        profile, data, settings = (call[name] for name in ("profile", "data", "overrides"))
    except (OSError, ValueError, KeyError, TypeError):
        return [folder.name] if standard else named
    words = [profile] if standard and folder.name == profile else [profile, *named]
    words += ["--data", shlex.quote(data)] if data else []
    return [*words, "--set", *map(shlex.quote, settings)] if settings else words


def run_record(parameters: Mapping[str, Any], seed: int, device: str) -> dict[str, Any]:
    """What is needed to run again: parameters, seed, git commit, versions, device, machine."""
    return {
        "parameters": dict(parameters),
        "seed": seed,
        "device": device,
        "git_commit": git_commit(),
        "versions": {"gz2vit": __version__, "python": platform.python_version(), **_versions()},
        "machine": {"system": platform.platform(), "cpu_cores": os.cpu_count()},
    }


def _versions() -> dict[str, str]:
    """Installed versions of the packages that decide a result."""
    found = {}
    for name in RECORDED_PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def git_commit() -> str:
    """The commit of the code that runs, with `+changes` where it differs; or `unknown`."""
    try:
        changed = _git("status", "--porcelain", "--untracked-files=no")
        return _git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*words: str) -> str:
    """What git says of the project's folder."""
    command = ["git", "-C", str(ROOT), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
