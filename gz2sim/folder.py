"""The simulated data folder: many processes, resuming, and tables that are written last.

`simulation.json` comes first and identifies the simulation and its code; an image is renamed into
place when it is whole, its properties in its JPEG comment; with the tables the folder is complete.
"""

import ast
import hashlib
import io
import json
import os
import re
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache, partial
from multiprocessing import get_context, parent_process
from pathlib import Path

import cv2
import joblib
import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from gz2sim import SimulationError
from gz2sim.population import LABELS, SPLIT_FRACTIONS, assign_classes
from gz2sim.survey import COLUMNS, Change, expose

RECORD_NAME = "simulation.json"
TABLE_NAMES = (*(f"gz2_{split}.csv" for split in SPLIT_FRACTIONS), "galaxy_properties.csv")
# The real images have the quantisation tables of quality 75, and colours at half resolution.
JPEG_QUALITY, JPEG_END = 75, b"\xff\xd9"
UNFINISHED = re.compile(r"\.\d+\.\d+\.tmp\.jpg")
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef
CHUNK_GALAXIES = 32  # a second of work: the bar moves, and an interruption loses little


def simulate(
    directory: Path | str, galaxies: int, seed: int, processes: int | None = None,
    replace: bool = False,
) -> None:  # fmt: skip
    """Fill `directory` with `galaxies` simulated galaxies: images, label tables, properties.

    The files depend on (galaxies, seed) and the code only, whatever `processes` (default: all
    cores). An interrupted run is continued; a complete folder is left as it is; with `replace`, the
    files of another simulation, or of one by other code, are removed first. Raises
    `SimulationError` for arguments out of range, a folder that holds something else, a full disk.
    """
    directory = Path(directory)
    if seed < 0:
        raise SimulationError(f"--seed {seed} is negative: give 0 or more")
    if processes is not None and processes < 1:
        raise SimulationError(f"--processes {processes} is too few: give 1 or more")
    classes, splits = assign_classes(galaxies, seed)
    _claim(directory, galaxies, seed, replace)
    if all((directory / name).exists() for name in TABLE_NAMES):
        return
    measured = _make_images(directory / "images", classes, seed, processes or joblib.cpu_count())
    for path in filter(lambda path: UNFINISHED.fullmatch(path.name), directory.glob("images/*")):
        path.unlink(missing_ok=True)
    properties = pd.DataFrame.from_dict(measured, orient="index", columns=COLUMNS).sort_index()
    columns = [f"label{level}" for level in (1, 2, 3, 4)]
    labels = pd.DataFrame([LABELS[index] for index in classes], properties.index, columns)
    for name in reversed(TABLE_NAMES):
        split = name.removeprefix("gz2_").removesuffix(".csv")
        table = labels[splits == split] if split in SPLIT_FRACTIONS else properties
        text = table.to_csv(index_label="galaxyID", float_format="%.4f", lineterminator="\n")
        _write(directory / name, text.encode())


@cache
def code_signature(package: Path = Path(__file__).parent) -> str:
    """A hash of the code that decides what is drawn; comments and docstrings do not count."""
    digest = hashlib.sha256()
    for path in sorted(package.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, DOCUMENTED) and ast.get_docstring(node):
                node.body[0] = ast.Pass()
        if path.stem != "volunteers":  # they vote on galaxies, and draw none
            digest.update(ast.unparse(tree).encode())
    return digest.hexdigest()[:16]


def _claim(directory: Path, galaxies: int, seed: int, replace: bool) -> None:
    """Mark `directory` as this simulation's; raise `SimulationError` if it holds something else."""
    what = "Simulated galaxies, not observations, in the form of Galaxy Zoo 2."
    record = {"simulated": True, "what": what, "galaxies": galaxies, "seed": seed}
    record["code"] = code_signature()
    path, found = directory / RECORD_NAME, None
    try:
        directory.mkdir(parents=True, exist_ok=True)
        occupied = any(directory.iterdir())
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            found = found if isinstance(found, dict) else {}
    except OSError as error:
        raise SimulationError(f"cannot use the folder {directory}: {error.strerror}") from error
    except ValueError:
        found = {}
    if found == record:
        return
    if found is None and occupied:
        raise SimulationError(
            f"{directory} holds something other than simulated galaxies: give an empty folder"
        )
    if found is not None and not replace:
        other = "; ".join(f"{k} {found.get(k)}" for k in record if found.get(k) != record[k])
        raise SimulationError(
            f"{directory} holds another simulation ({other}): give another one, or pass --replace"
        )
    if found is not None:
        # Tables first, so that what remains is not complete; the record last, in case of a kill.
        for name in TABLE_NAMES:
            (directory / name).unlink(missing_ok=True)
        for image in list((directory / "images").glob("*.jpg")):
            if UNFINISHED.fullmatch(image.name) or _read_properties(image) is not None:
                image.unlink()
    _write(path, (json.dumps(record, indent=2) + "\n").encode())


def _make_images(
    images: Path, classes: np.ndarray, seed: int, processes: int
) -> dict[int, dict[str, float]]:
    """Make every image that does not exist yet; the properties of all, by galaxy id."""
    numbered = list(enumerate(classes.tolist(), start=1))
    chunks = [numbered[at : at + CHUNK_GALAXIES] for at in range(0, len(numbered), CHUNK_GALAXIES)]
    make, workers = partial(make_chunk, images, seed=seed), min(processes, len(chunks))
    # spawn: a fork of a process that runs threads (PyTorch, OpenCV) may hang.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start_worker)
    measured: dict[int, dict[str, float]] = {}
    try:
        with tqdm(total=len(classes), desc="simulating galaxies", unit="galaxy") as progress:
            for done in map(make, chunks) if processes == 1 else pool.map(make, chunks):
                measured |= done
                progress.update(len(done))
    except BrokenProcessPool as error:
        raise SimulationError(
            "a simulating process was killed (out of memory?): run the same command again to "
            f"continue, with fewer --processes than {processes}"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
    return measured


def _start_worker() -> None:
    """One thread; Ctrl-C is handled by the parent, whose death ends the worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)

    def end_with_parent() -> None:
        parent_process().join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def make_chunk(
    images: Path, chunk: list[tuple[int, int]], seed: int, change: Change | None = None
) -> dict[int, dict[str, float]]:
    """Make the images of (galaxy id, class) pairs that do not exist; the properties of all."""
    measured = {}
    for galaxy_id, class_index in chunk:
        path = images / f"{galaxy_id}.jpg"
        properties = _read_properties(path)
        # A file that lost its end in a power failure still has its comment.
        if properties is None or not path.read_bytes().endswith(JPEG_END):
            pixels, properties = expose(galaxy_id, class_index, seed, change)
            comment, encoded = json.dumps({"simulated": True, **properties}).encode(), io.BytesIO()
            Image.fromarray(pixels).save(encoded, "jpeg", quality=JPEG_QUALITY, comment=comment)
            _write(path, encoded.getvalue())
        measured[galaxy_id] = properties
    return measured


def _read_properties(path: Path) -> dict[str, float] | None:
    """The properties in the comment of an image; None where it is not one of ours."""
    try:
        with Image.open(path) as image:
            comment = json.loads(image.info["comment"])
            return {name: float(comment[name]) for name in COLUMNS}
    except (OSError, KeyError, ValueError, TypeError):
        return None


def _write(path: Path, content: bytes) -> None:
    """Write a file under a temporary name and rename it; `SimulationError` where that fails."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(exist_ok=True)
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        raise SimulationError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
