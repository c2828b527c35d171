"""The simulated data folder: many processes, resuming, and tables that are written last.

`simulation.json` is written first and says whose folder this is; every image is renamed into place
when it is whole and carries its own properties in its JPEG comment; the tables come last, so that
their presence says that the folder is complete.
"""

import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from gz2sim.population import assign_classes
from gz2sim.survey import COLUMNS, Change, Measured, expose
from gz2vit import __version__, paper
from gz2vit.catalog import SIMULATION_RECORD
from gz2vit.images import JPEG_END
from gz2vit.io import Gz2vitError, atomic_path, read_json, write_json, write_text

PROPERTIES_NAME = "galaxy_properties.csv"
# Raise this whenever the pictures of a given seed change: folders of two recipes must not mix.
RECIPE = 2
# The real Galaxy Zoo 2 images have the quantisation tables of quality 75, colours at half
# resolution.
JPEG_QUALITY = 75
# Mean 13 kB, with room for file system blocks and the larger ones.
BYTES_PER_GALAXY = 24_000
# About a second of work, so that the bar moves and an interruption loses little.
CHUNK_GALAXIES = 32


def simulate(
    directory: Path,
    galaxies: int,
    seed: int,
    processes: int | None = None,
    replace: bool = False,
) -> None:
    """Fill `directory` with `galaxies` simulated galaxies: images, label tables, properties.

    The files depend on (galaxies, seed) only, whatever `processes` (default: all cores). A run
    that was interrupted is continued; a complete folder is left as it is; with `replace`, another
    simulation in its place is deleted. Raises `Gz2vitError` for arguments out of range, a folder
    that holds something else, and a disk that is or gets full.
    """
    directory = Path(directory)
    if seed < 0:
        raise Gz2vitError(f"--seed {seed} is negative: give 0 or more")
    if processes is not None and processes < 1:
        raise Gz2vitError(f"--processes {processes} is too few: give 1 or more")
    classes, splits = assign_classes(galaxies, seed)
    if replace:
        _clear_other(directory, galaxies, seed)
    _claim(directory, galaxies, seed)
    if all((directory / name).exists() for name in _table_names()):
        return
    measured = _make_images(directory, classes, seed, processes or _cores())
    _remove_leftovers(directory)
    _write_tables(directory, classes, splits, measured)


def _cores() -> int:
    """Cores that this process may use: a cluster or container may give fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _table_names() -> list[str]:
    """The files whose presence says that a folder is complete."""
    return [f"gz2_{split}.csv" for split in paper.SPLIT_FRACTIONS] + [PROPERTIES_NAME]


def _mark(galaxies: int, seed: int) -> dict[str, object]:
    """What a folder of simulated galaxies says of itself."""
    return {
        "simulated": True,
        "what": "Simulated galaxies, not observations, in the form of Galaxy Zoo 2.",
        "galaxies": galaxies,
        "seed": seed,
        "recipe": RECIPE,
        "version": __version__,
    }


def _clear_other(directory: Path, galaxies: int, seed: int) -> None:
    """Delete `directory` if it is marked as another simulation; anything else stays."""
    path = directory / SIMULATION_RECORD
    if path.exists():
        try:
            _check_same(path, _mark(galaxies, seed))
        except Gz2vitError:
            shutil.rmtree(directory)


def _claim(directory: Path, galaxies: int, seed: int) -> None:
    """Mark `directory` as this simulation's, or raise `Gz2vitError` if it holds something else."""
    mark = _mark(galaxies, seed)
    path = directory / SIMULATION_RECORD
    if path.exists():
        _check_same(path, mark)
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
        occupied = any(directory.iterdir())
    except OSError as error:
        raise Gz2vitError(
            f"cannot use the folder {directory}: {error.strerror}; give a folder that you may write"
        ) from error
    if occupied:
        raise Gz2vitError(
            f"{directory} already holds something else than simulated galaxies: give a folder that "
            "is empty or not there yet"
        )
    _check_space(directory, galaxies)
    write_json(path, mark)


def _check_same(path: Path, mark: dict[str, object]) -> None:
    """Raise `Gz2vitError` unless the folder's mark has the same galaxies, seed and recipe."""
    found = read_json(path)
    for key in ("galaxies", "seed", "recipe"):
        there = found.get(key) if isinstance(found, dict) else None
        if there != mark[key]:
            raise Gz2vitError(
                f"{path.parent} holds another simulation ({key} {there}, not {mark[key]}): give "
                "another folder, or delete this one"
            )


def _check_space(directory: Path, galaxies: int) -> None:
    """Raise `Gz2vitError` if the disk of `directory` has no room for `galaxies` images."""
    needed, free = galaxies * BYTES_PER_GALAXY, shutil.disk_usage(directory).free
    if free < needed:
        raise Gz2vitError(
            f"{directory}: {galaxies} galaxies need about {needed / 1e9:.2f} GB, but the disk has "
            f"{free / 1e9:.2f} GB free: make room or ask for fewer --galaxies"
        )


def _make_images(
    directory: Path, classes: np.ndarray, seed: int, processes: int
) -> dict[int, Measured]:
    """Make every image that is not there yet; the properties of all, by galaxy id."""
    images = directory / "images"
    measured: dict[int, Measured] = {}
    numbered = [(index + 1, int(class_index)) for index, class_index in enumerate(classes)]
    chunks = [
        numbered[start : start + CHUNK_GALAXIES]
        for start in range(0, len(numbered), CHUNK_GALAXIES)
    ]
    with tqdm(total=len(classes), desc="simulating galaxies", unit="galaxy") as progress:
        for done in _run_chunks(images, chunks, seed, min(processes, len(chunks))):
            measured |= done
            progress.update(len(done))
    return measured


def _run_chunks(
    images: Path, chunks: list[list[tuple[int, int]]], seed: int, processes: int
) -> Iterator[dict[int, Measured]]:
    """Yield the properties of each chunk as it is done, here or in `processes` workers."""
    if processes == 1:
        for chunk in chunks:
            yield make_chunk(images, chunk, seed)
        return
    with _workers(processes) as pool:
        waiting: set[Future[dict[int, Measured]]] = set()
        for chunk in chunks:
            waiting.add(pool.submit(make_chunk, images, chunk, seed))
            # Two chunks in hand for each worker; more would only fill memory.
            if len(waiting) >= 3 * processes:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        yield from (future.result() for future in waiting)


@contextmanager
def _workers(processes: int) -> Iterator[Executor]:
    """A pool of fresh processes; on an error or Ctrl-C what has not begun is dropped."""
    # spawn: a fork of a process that runs threads (PyTorch, OpenCV) may hang.
    pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=_start_worker)
    try:
        yield pool
    except BrokenProcessPool as error:
        raise Gz2vitError(
            "a simulating process was killed (out of memory?): run the same command again to "
            f"continue, with fewer --processes than {processes}"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """One thread of work; Ctrl-C is the parent's business, and the parent's death ends a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Wait for the parent to die, then end: a worker of a killed parent would wait for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def make_chunk(
    images: Path, chunk: list[tuple[int, int]], seed: int, change: Change | None = None
) -> dict[int, Measured]:
    """Make the images of (galaxy id, class index) pairs that are not there; properties of all.

    `change`: as of `expose`.
    """
    measured = {}
    for galaxy_id, class_index in chunk:
        path = images / f"{galaxy_id}.jpg"
        known = _read_measured(path)
        if known is None:
            pixels, known = expose(galaxy_id, class_index, seed, change)
            _write_image(path, pixels, known)
        measured[galaxy_id] = known
    return measured


def _remove_leftovers(directory: Path) -> None:
    """Remove the unfinished images that a killed run has left."""
    for path in (directory / "images").glob(".*.tmp.jpg"):
        path.unlink(missing_ok=True)


def _write_image(path: Path, pixels: np.ndarray, measured: Measured) -> None:
    """Write (424, 424, 3) uint8 as a JPEG whose comment holds the galaxy's properties."""
    comment = {"simulated": True, "recipe": RECIPE, **measured.as_row()}
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(
            temporary, quality=JPEG_QUALITY, comment=json.dumps(comment).encode()
        )


def _read_measured(path: Path) -> Measured | None:
    """The properties in an image's comment; None where there is no whole image that has them."""
    try:
        # A file that lost its end in a power failure still has its comment.
        if not path.read_bytes().endswith(JPEG_END):
            return None
        with Image.open(path) as image:
            return Measured.from_row(json.loads(image.info["comment"]))
    except (OSError, KeyError, ValueError):
        return None


def _write_tables(
    directory: Path, classes: np.ndarray, splits: np.ndarray, measured: dict[int, Measured]
) -> None:
    """Write the properties, then the three label tables, each row in the order of galaxy ids."""
    lines = [",".join(("galaxyID", *COLUMNS))]
    for galaxy_id in sorted(measured):
        values = measured[galaxy_id].as_row().values()
        lines.append(",".join([str(galaxy_id), *(f"{value:.4f}" for value in values)]))
    write_text(directory / PROPERTIES_NAME, "\n".join(lines) + "\n")
    for split in paper.SPLIT_FRACTIONS:
        lines = ["galaxyID,label1,label2,label3,label4"]
        for index in np.flatnonzero(splits == split):
            lines.append(",".join(str(value) for value in (index + 1, *_labels(classes[index]))))
        write_text(directory / f"gz2_{split}.csv", "\n".join(lines) + "\n")


def _labels(class_index: int) -> tuple[int, int, int, int]:
    """label1 to label4 of a class."""
    return (
        int(class_index),
        paper.LABEL1_TO_LABEL2[class_index],
        paper.LABEL1_TO_LABEL3[class_index],
        paper.LABEL1_TO_LABEL4[class_index],
    )
