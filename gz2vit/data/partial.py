"""A store in the making: an array file under a hidden name, and a note of how far it is.

A kill, a crash or a power cut costs what was done since the last note, a second or two of work:
the note is written after the images before it are on the disk. Syncing them about every second
also keeps the system from gathering gigabytes of unwritten pages.
"""

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from gz2vit.data.packing import ArrayFile, Rows, chunk_size, fill_in_order
from gz2vit.errors import Gz2vitError
from gz2vit.results import read_json, write_json

NOTE_SECONDS = 1.0  # between two notes of progress
HEADER_BYTES = 4096  # a NumPy file's header, filled up so that the pixels begin on a disk's sector


class PartialStore:
    """`.<split>.partial.npy` and its note; continued where it is of this very store, else begun.

    `note`: all that must be the same for an array to be continued, `galaxies`, `crop_px` and
    `image_px` among it. `done`: images before this one are in the array, but for those in
    `faults` (row: what is wrong with the image). Raises `Gz2vitError` where the disk is too small.
    """

    def __init__(self, target: Path, note: dict[str, Any]) -> None:
        self.target, self.note = target, note
        self.array = target.with_name(f".{target.stem}.partial.npy")
        self.progress = self.array.with_suffix(".json")
        self.done, self.faults = 0, dict[int, str]()
        target.parent.mkdir(parents=True, exist_ok=True)
        past = self._read_progress()
        if past is None:
            self._begin()
        else:
            self.done, self.faults = past["done"], dict.fromkeys(past["faulty"], "")
            if self.done:
                total = note["galaxies"]
                print(f"{target.stem}: continued from image {self.done:,} of {total:,}", flush=True)

    @property
    def missing(self) -> int:
        """Images that are still to be decoded."""
        return self.note["galaxies"] - self.done + len(self.faults)

    def _read_progress(self) -> dict[str, Any] | None:
        """The note of progress if it and its array are there and belong to this store."""
        if not (self.array.exists() and self.progress.exists()):
            return None
        try:
            past = read_json(self.progress)
        except Gz2vitError:
            return None  # a power cut can leave a note empty
        return past if {**past, **self.note} == past else None

    def _begin(self) -> None:
        """A new array file, its blocks taken."""
        self.progress.unlink(missing_ok=True)
        self.array.unlink(missing_ok=True)
        shape = (self.note["galaxies"], self.note["crop_px"], self.note["crop_px"], 3)
        size_bytes, free_bytes = int(np.prod(shape)), shutil.disk_usage(self.array.parent).free
        if free_bytes < size_bytes:
            raise Gz2vitError(
                f"the image store {self.array.parent} needs {size_bytes / 1e9:.2f} GB, "
                f"but its disk has {free_bytes / 1e9:.2f} GB free"
            )
        with self.array.open("wb") as stream:
            stream.write(_header(shape))
            stream.truncate(HEADER_BYTES + size_bytes)
            if hasattr(os, "posix_fallocate"):
                # Take the blocks now: a disk that fills up later must not stop us half-way.
                os.posix_fallocate(stream.fileno(), 0, HEADER_BYTES + size_bytes)

    def fill(
        self, paths: Sequence[Path], pool: Executor, workers: int, direct: bool = False
    ) -> None:
        """Decode what is missing, noting progress; images that cannot be decoded go to `faults`.

        `direct`: see `packing.ArrayFile`.
        """
        side_px = (self.note["crop_px"], self.note["image_px"])
        file = ArrayFile(str(self.array), HEADER_BYTES, *side_px, direct)
        work = fill_in_order(pool, workers, file, self._chunks(paths, workers))
        pending: Future[None] | None = None
        noted = time.monotonic()
        with ThreadPoolExecutor(1) as scribe, self._bar() as bar:
            try:
                for chunk, faults in work:
                    self._take(chunk, faults)
                    bar.update(len(chunk))
                    due = time.monotonic() - noted >= NOTE_SECONDS
                    if due and (pending is None or pending.done()):
                        pending = scribe.submit(self._write_note, self._state())
                        noted = time.monotonic()
            finally:
                # On an error or Ctrl-C too: what was done is not done again.
                scribe.submit(self._write_note, self._state()).result()

    def _bar(self) -> tqdm:
        """The progress bar; drawn once a second, for an executed notebook keeps each drawing."""
        total = self.note["galaxies"]
        words = {"desc": f"pack {self.target.stem}", "unit": " images", "mininterval": 1.0}
        return tqdm(total=total, initial=total - self.missing, **words)

    def _chunks(self, paths: Sequence[Path], workers: int) -> Iterator[Rows]:
        """What is to be done: first what could not be decoded before, then the rest in order."""
        size = chunk_size(self.missing, workers)
        for rows in (sorted(self.faults), range(self.done, len(paths))):
            for start in range(0, len(rows), size):
                yield [(row, str(paths[row])) for row in rows[start : start + size]]

    def _take(self, chunk: Rows, faults: Sequence[tuple[int, str]]) -> None:
        """A chunk is done; chunks come in order."""
        for row, _ in chunk:
            self.faults.pop(row, None)
        self.faults.update(faults)
        self.done = max(self.done, chunk[-1][0] + 1)

    def _state(self) -> dict[str, Any]:
        """The note of progress as it stands."""
        return {**self.note, "done": self.done, "faulty": sorted(self.faults)}

    def _write_note(self, state: dict[str, Any]) -> None:
        """Have the array on the disk, then note `state`."""
        with self.array.open("r+b") as stream:
            getattr(os, "fdatasync", os.fsync)(stream.fileno())
        write_json(self.progress, state)

    def finish(self, note: dict[str, Any]) -> None:
        """Give the array its name; `note` goes first, so that no array stands without."""
        self.target.unlink(missing_ok=True)
        write_json(self.target.with_suffix(".json"), note)
        os.replace(self.array, self.target)
        self.progress.unlink(missing_ok=True)


def _header(shape: tuple[int, ...]) -> bytes:
    """The header of a NumPy file of uint8 in `shape`, HEADER_BYTES long (format version 1.0)."""
    words = str({"descr": "|u1", "fortran_order": False, "shape": shape})
    start = np.lib.format.magic(1, 0) + (HEADER_BYTES - 10).to_bytes(2, "little")
    return start + words.encode().ljust(HEADER_BYTES - 11) + b"\n"
