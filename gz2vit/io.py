"""Files of a results folder, written whole or not at all, and the record that each run leaves."""

import ast
import fcntl
import hashlib
import json
import os
import platform
import re
import shlex
import subprocess
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gz2vit import __version__

ROOT = Path(__file__).resolve().parents[1]  # the project's folder
MODEL_FILES = ("history.csv", "predictions.csv", "validation_predictions.csv")
MODEL_FILES += ("metrics.json", "params.json", "best.ckpt")
SETTINGS = "settings.yaml"  # in a results folder: profile, data folder and --set of its run
ARCHIVE_RECORD = "archive.json"  # in a results folder that was made from an archive
WEIGHTED = "_weighted"  # a model key that ends so is the same network, trained with class weights
CHECKPOINT, CHECKPOINT_SUFFIX = "best.ckpt", ".ckpt"  # what a training leaves of the network
# The network in the box, its model card, and the galaxies that it has learnt from.
BUNDLED = Path(__file__).parent / "bundled" / "linformer.safetensors"
MODEL_CARD, LEARNT = BUNDLED.with_name("MODEL_CARD.md"), BUNDLED.with_name("learnt.csv")
RECORDED_PACKAGES = ("torch", "torchvision", "lightning", "linformer", "vit-pytorch", "numpy")


class Gz2vitError(Exception):
    """One sentence for the user: what is wrong, where, and what to do about it."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback (its documented hook)."""
        return [f"{type(self).__name__}: {self}"]


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path (of the same suffix) that becomes `path` if the block succeeds."""
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.filename and Path(error.filename) not in (temporary, path, *path.parents):
            raise  # of another file
        raise Gz2vitError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def sole_user(lock_path: Path, message: str) -> Iterator[int]:
    """Lock a file until all who inherit its descriptor end; `Gz2vitError(message)` if taken."""
    lock_path.parent.mkdir(parents=True, exist_ok=True)
    with lock_path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Gz2vitError(message) from None
        except OSError as error:
            where = f"{lock_path.parent} is on a file system without locks ({error.strerror})"
            warnings.warn(f"{where}: do not start a second run on it", stacklevel=2)
        yield lock.fileno()


def write_text(path: Path | str, text: str) -> None:
    """Write `text` (UTF-8) to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON to `path` atomically; NaN is refused (ValueError)."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path | str, default: Any = None) -> Any:
    """The value in a JSON file; where it cannot be read `default`, or without one `Gz2vitError`."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        if default is not None:
            return default
        raise Gz2vitError(f"cannot read {path}: {error}") from error


def require(path: Path | str, step: str) -> Path:
    """`path` if it exists; otherwise `Gz2vitError` that names the command which makes it."""
    if (path := Path(path)).exists():
        return path
    command = f"run {command_for(path.resolve(), step)} in the project's folder"
    raise Gz2vitError(f"{path.resolve()} does not exist yet: {command}")


def trained_checkpoint(source: str) -> Path | None:
    """The checkpoint that `source` names by itself or its folder; None for another source."""
    if source in ("none", "imagenet", "bundled"):  # whatever files of these names there are
        return BUNDLED if source == "bundled" else None
    path = Path(source)
    if path.suffix == CHECKPOINT_SUFFIX and not path.is_dir():
        if not path.is_file():
            raise Gz2vitError(f"there is no trained network {path}; name a {CHECKPOINT}")
        return path
    return path / CHECKPOINT if (path / CHECKPOINT).is_file() else None


def command_for(path: Path, step: str) -> str:
    """The command that makes `path`, inside a results folder, which remembers its settings."""
    for folder in path.parents:
        if folder.parent.name == "results" and (ROOT / f"profiles/{folder.name}.yaml").exists():
            return f"`./run_all.sh {folder.name} --only {step}`"
        if (folder / SETTINGS).is_file():
            return f"`./run_all.sh --results {shlex.quote(str(folder))} --only {step}`"
    return f"`./run_all.sh --only {step}`"


def never_there(path: Path) -> str:
    """Why nothing will make `path`, in a results folder of which a part was taken over; or ""."""
    what = "predictions" if "models" in path.parts else "images or weights"
    for folder in path.parents:
        selection = folder / "selection" / "data.json"
        if (folder / ARCHIVE_RECORD).exists():
            return f"the {what} are not in the archive that these results were made from"
        if selection.exists() and "missing" in (data := read_json(selection)):
            return f"the {what} are not published{', or not fetched' if data['missing'] else ''}"
    return ""


def run_record(parameters: Mapping[str, Any], seed: int, device: str) -> dict[str, Any]:
    """What is needed to run again: parameters, seed, git commit, versions, device, machine."""
    versions = {"gz2vit": __version__, "python": platform.python_version()}
    versions |= {name: version(name) for name in RECORDED_PACKAGES}
    machine = {"system": platform.platform(), "cpu_cores": os.cpu_count()}
    record = {"parameters": dict(parameters), "seed": seed, "device": device}
    return record | {"git_commit": git_commit(), "versions": versions, "machine": machine}


def git_commit() -> str:
    """The commit of the code that runs, with `+changes` where it differs; or `unknown`."""
    words = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+changes"]
    how = {"cwd": ROOT, "text": True, "stderr": subprocess.DEVNULL}
    try:
        return subprocess.check_output(words, **how).strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def available_cores() -> int:
    """Processor cores that this process may use: its affinity, and a container's quota."""
    from joblib import cpu_count  # here: `--help` needs no packages

    return cpu_count()


def run_folders(seeds: Sequence[int]) -> list[str]:
    """The folders of a model's runs, inside its own, which is the first's: "", "seed1", ..."""
    return ["", *(f"seed{seed}" for seed in seeds[1:])]


@cache
def code_hash(text: str) -> str:
    """A hash of what Python code means: comments and docstrings may change freely."""
    # IPython's own lines (%matplotlib inline, !ls) count as they are.
    plain = re.sub(r"^(\s*)([%!].*)$", r"\1pass  # \2", text, flags=re.MULTILINE)
    magics = "".join(re.findall(r"^\s*[%!].*$", text, flags=re.MULTILINE))
    try:
        tree = ast.parse(plain)
    except SyntaxError:
        return hashlib.sha256(text.encode()).hexdigest()
    for node in ast.walk(tree):
        match getattr(node, "body", None):
            case [ast.Expr(value=ast.Constant()), *_]:
                node.body[0] = ast.Pass()
    return hashlib.sha256((ast.dump(tree) + magics).encode()).hexdigest()


def files_hash(patterns: Iterable[str], root: Path = ROOT) -> str:
    """A short hash of the code in the files that match `patterns`, such as `gz2sim/*.py`."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in patterns for path in root.glob(pattern)}):
        digest.update(code_hash(path.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()[:16]
