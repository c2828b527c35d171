"""The simulated data folder: many processes, resuming, and tables that are written last.

`simulation.json` comes first and identifies the simulation and its code; an image is renamed into
place when it is whole, its properties in its JPEG comment; with the tables the folder is complete.
"""

import ast
import hashlib
import io
import json
import os
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
CHUNK_GALAXIES = 32  # which a process takes at a time: a second of work


def simulate(
    directory: Path | str, galaxies: int, seed: int, processes: int | None = None,
    replace: bool = False,
) -> None:  # fmt: skip
    """Fill `directory` with `galaxies` simulated galaxies: images, label tables, properties.

    The files depend on (galaxies, seed) and the code only. An interrupted run is continued, a
    complete folder left as it is; `replace` first removes those of another simulation or code.
    """
    directory = Path(directory)
    for name, value, least in (("seed", seed, 0), ("processes", processes, 1)):
        if value is not None and value < least:
            raise SimulationError(f"--{name} {value} is too few: give {least} or more")
    classes, splits = assign_classes(galaxies, seed)
    _claim(directory, galaxies, seed, replace)
    if all((directory / name).exists() for name in TABLE_NAMES):
        return
    made = make_images(directory / "images", classes, seed, processes)
    for path in directory.glob("images/.[0-9]*.tmp.jpg"):  # of runs that were killed
        path.unlink(missing_ok=True)
    properties = pd.DataFrame.from_dict(made, orient="index", columns=COLUMNS)
    labels = pd.DataFrame(LABELS[classes], made, ["label1", "label2", "label3", "label4"])
    tables = [labels[splits == split] for split in SPLIT_FRACTIONS] + [properties]
    for name, table in zip(TABLE_NAMES, tables, strict=True):
        text = table.to_csv(index_label="galaxyID", float_format="%.4f", lineterminator="\n")
        _write(directory / name, text.encode())


def make_images(
    images: Path, classes: np.ndarray, seed: int, processes: int | None = None,
    change: Change | None = None, first: int = 1,
) -> dict[int, dict[str, float]]:  # fmt: skip
    """Make the images that do not exist of galaxies `first`, ... of `classes`; COLUMNS of all."""
    processes = processes or joblib.cpu_count()
    make = partial(_make_image, images, seed=seed, change=change)
    galaxies = range(first, first + len(classes)), classes.tolist()
    # spawn: a fork of a process that runs threads (PyTorch, OpenCV) may hang.
    pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=_start_worker)
    try:
        alone = processes == 1 or len(classes) <= CHUNK_GALAXIES
        done = (
            map(make, *galaxies) if alone else pool.map(make, *galaxies, chunksize=CHUNK_GALAXIES)
        )
        bar = tqdm(done, "simulating galaxies", len(classes), unit="galaxy")
        return dict(zip(galaxies[0], bar, strict=True))
    except BrokenProcessPool as error:
        raise SimulationError(
            "a simulating process was killed (out of memory?): run the same command again with "
            f"fewer --processes than {processes}"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _make_image(
    images: Path, galaxy_id: int, class_index: int, seed: int, change: Change | None
) -> dict[str, float]:
    """Make an image that does not exist; its properties."""
    path = images / f"{galaxy_id}.jpg"
    properties = _read_properties(path)
    # A file that lost its end in a power failure still has its comment.
    if properties is None or not path.read_bytes().endswith(JPEG_END):
        pixels, properties = expose(galaxy_id, class_index, seed, change)
        comment, encoded = json.dumps({"simulated": True, **properties}).encode(), io.BytesIO()
        Image.fromarray(pixels).save(encoded, "jpeg", quality=JPEG_QUALITY, comment=comment)
        _write(path, encoded.getvalue())
    return properties


@cache
def code_signature() -> str:
    """A hash of the code that decides what is drawn; comments and docstrings do not count."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            if documented and ast.get_docstring(node):
                node.body[0] = ast.Pass()
        if path.stem != "volunteers":  # they vote on galaxies, and draw none
            digest.update(ast.unparse(tree).encode())
    return digest.hexdigest()[:16]


def _claim(directory: Path, galaxies: int, seed: int, replace: bool) -> None:
    """Mark `directory` as this simulation's; raise `SimulationError` if it holds something else."""
    what = "Simulated galaxies, not observations, in the form of Galaxy Zoo 2."
    record = {"simulated": True, "what": what, "galaxies": galaxies, "seed": seed}
    text = json.dumps(record | {"code": code_signature()}, indent=2) + "\n"
    path = directory / RECORD_NAME
    try:
        directory.mkdir(parents=True, exist_ok=True)
        occupied = any(directory.iterdir())
        found = path.read_text(encoding="utf-8", errors="replace") if path.exists() else None
    except OSError as error:
        raise SimulationError(f"cannot use the folder {directory}: {error.strerror}") from error
    if found == text:
        return
    if found is None and occupied:
        raise SimulationError(
            f"{directory} holds something other than simulated galaxies: give an empty folder"
        )
    if found is not None and not replace:
        other = " ".join(line for line in found.split("\n") if line not in text.split("\n"))
        raise SimulationError(
            f"{directory} holds another simulation ({' '.join(other.split())}): give another "
            "folder, or pass --replace"
        )
    if found is not None:
        # Tables first, so that what remains is not complete; the record last, in case of a kill.
        for name in TABLE_NAMES:
            (directory / name).unlink(missing_ok=True)
        for image in list(directory.glob("images/*.jpg")):
            if _read_properties(image) is not None:
                image.unlink()
    _write(path, text.encode())


def _start_worker() -> None:
    """One thread; Ctrl-C is handled by the parent, whose death ends the worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    threading.Thread(target=lambda: (parent_process().join(), os._exit(1)), daemon=True).start()


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
