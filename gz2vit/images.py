"""One image file to pixels, and what can be wrong with it; needs Pillow and nothing else.

The processes that pack images import this module, so it must stay light: they start in a tenth of
a second and hold a few megabytes each.

What is found: files that are missing, cannot be opened, are no images, have another size, end
early, or whose stream the JPEG decoder gives up. What is not: bytes that were changed inside the
compressed data. libjpeg fills the hole with something grey, counts a warning, and Pillow offers no
way to ask for it: of 300 real images with a hole of 512 zeros all were decoded without a word, with
512 random bytes 64. Only checksums made before the damage could tell, and the archives have none.
"""

import errno
import hashlib
import mmap
import os
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL
from PIL import Image, UnidentifiedImageError, features
from scipy import ndimage
from tqdm import tqdm

from gz2vit.catalog import DataFolder, Selection, folder_signature, read_selection
from gz2vit.io import Gz2vitError, atomic_path, command_for, read_json, require, write_json
from gz2vit.paper import CLASS_COUNT, IMAGE_PX

JPEG_END = b"\xff\xd9"
TAIL_BYTES = 64  # some writers pad the file behind its end marker
# The machine's trouble, not the image's: it must never make an image count as broken.
OUR_TROUBLE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class ImageFault(Gz2vitError):
    """What is wrong with one image file: a sentence that names it."""


def decode(
    path: Path | str, crop_px: int | None = None, image_px: int | None = None
) -> Image.Image:
    """Decode an image as RGB, its central `crop_px` x `crop_px` where given.

    With `image_px` the file must be `image_px` x `image_px`. Raises `ImageFault`.
    """
    with _faults_of(path), Image.open(path) as image:
        _check_size(path, image, image_px)
        if crop_px is None:
            return image.convert("RGB")
        # Cropped first: the copy and the conversion then handle a quarter of the pixels.
        return image.crop(_centre_box(path, image, crop_px)).convert("RGB")


def check(path: Path, image_px: int, whole: bool = False) -> str | None:
    """What is wrong with an image of `image_px` x `image_px`, as a sentence; None if nothing is.

    Its header and its end marker are looked at; it is decoded where that marker is missing, and
    with `whole` in any case.
    """
    try:
        with _faults_of(path), Image.open(path) as image:
            _check_size(path, image, image_px)
            if whole or not _has_end(path):
                image.load()
    except ImageFault as fault:
        return str(fault)
    return None


def _has_end(path: Path) -> bool:
    """Whether a JPEG's end marker stands near the end of the file."""
    with open(path, "rb") as stream:
        stream.seek(-min(TAIL_BYTES, path.stat().st_size), os.SEEK_END)
        return JPEG_END in stream.read()


def _check_size(path: Path | str, image: Image.Image, image_px: int | None) -> None:
    """Raise `ImageFault` for an image of another size."""
    if image_px is not None and image.size != (image_px, image_px):
        wide, high = image.size
        raise ImageFault(f"image {path} is {wide} x {high} px instead of {image_px} x {image_px}")


def _centre_box(path: Path | str, image: Image.Image, crop_px: int) -> tuple[int, int, int, int]:
    """Left, upper, right, lower of the centre, as torchvision's CenterCrop takes it."""
    wide, high = image.size
    if min(wide, high) < crop_px:
        raise ImageFault(f"image {path} is {wide} x {high} px, smaller than {crop_px} px")
    left, upper = round((wide - crop_px) / 2.0), round((high - crop_px) / 2.0)
    return left, upper, left + crop_px, upper + crop_px


@contextmanager
def _faults_of(path: Path | str) -> Iterator[None]:
    """Turn what Pillow and the system raise about a file into an `ImageFault`."""
    try:
        yield
    except (ImageFault, MemoryError):
        raise
    except FileNotFoundError as error:
        raise ImageFault(f"image {path} is missing") from error
    except UnidentifiedImageError as error:
        raise ImageFault(f"image {path} is not an image that can be read") from error
    except Exception as error:  # Pillow's readers raise whatever they stumble over
        if getattr(error, "errno", None) in OUR_TROUBLE:
            raise
        told = " ".join(str(error).split()) or type(error).__name__
        raise ImageFault(f"image {path} is broken or truncated ({told})") from error


# ------------------------------------------------------------------------------------------
# The images of a data folder that cannot be used: remembered, listed, and told in one sentence.
#
# `logs/checked.json` in the results folder remembers which state of a data folder was read and what
# was found; `logs/broken_images.csv` lists the same for people. The check before a run and packing
# both add to them.

COLUMNS = ("galaxyID", "split", "path", "fault")
NAMED = 3  # broken images that an error names; the list has them all


def broken_table(rows: Iterable[tuple[str, str, Path | str, str]] = ()) -> pd.DataFrame:
    """Broken images as a table of text: galaxyID, split, path, fault (a sentence)."""
    return pd.DataFrame([tuple(map(str, row)) for row in rows], columns=list(COLUMNS), dtype=str)


def list_path(results_dir: Path | str) -> Path:
    """Where the list for people stands."""
    return Path(results_dir) / "logs" / "broken_images.csv"


def read_broken(
    results_dir: Path | str, folder: Path | str, signature: str | None = None
) -> pd.DataFrame | None:
    """What was found broken in this state of the data folder; None where nobody has looked yet.

    `signature`: of the folder (`catalog.folder_signature`), where it is known already.
    """
    memo = _memo_path(results_dir)
    past = read_json(memo) if memo.exists() else {}
    state = (str(folder), signature or folder_signature(folder))
    if (past.get("folder"), past.get("signature")) != state or "broken" not in past:
        return None
    return broken_table([tuple(row) for row in past["broken"]])


def write_broken(
    results_dir: Path | str, folder: Path | str, signature: str, broken: pd.DataFrame
) -> None:
    """Remember `broken` as all that is broken in this state, and list it; no list for nothing."""
    if broken.empty:
        list_path(results_dir).unlink(missing_ok=True)
    else:
        with atomic_path(list_path(results_dir)) as temporary:
            broken.to_csv(temporary, index=False)
    rows = broken.to_numpy().tolist()
    memo = {"folder": str(folder), "signature": signature, "broken": rows}
    write_json(_memo_path(results_dir), memo)


def add_broken(
    results_dir: Path | str, folder: Path | str, signature: str, broken: pd.DataFrame
) -> None:
    """Add to what is known of this state of the data folder."""
    known = read_broken(results_dir, folder, signature)
    if known is not None:
        broken = pd.concat([known, broken]).drop_duplicates("galaxyID", keep="last")
    write_broken(results_dir, folder, signature, broken)


def refuse_broken(
    faults: Sequence[tuple[Path | str, str]], results_dir: Path | str | None, way_on: str
) -> None:
    """Raise `Gz2vitError` for (path, fault) pairs: the first, how many more, the list, the way on.

    Nothing happens where there are none.
    """
    if not faults:
        return
    told, others = faults[0][1], faults[1:]
    if others:
        names = ", ".join(Path(path).name for path, _ in others[: NAMED - 1])
        more = ", ..." if len(others) >= NAMED else ""
        number = "1 more file has" if len(others) == 1 else f"{len(others)} more files have"
        told += f" (and {number} faults: {names}{more})"
    where = f"; the whole list is {list_path(results_dir)}" if results_dir is not None else ""
    raise Gz2vitError(f"{told}{where}; {way_on}")


def _memo_path(results_dir: Path | str) -> Path:
    """Where a checked state is remembered."""
    return Path(results_dir) / "logs" / "checked.json"


# ------------------------------------------------------------------------------------------
# The images of a data folder: finding broken ones before any work, and reading one.
#
# The paper's images are 424 x 424 px, of which the central 224 x 224 px are used
# (`torchvision.transforms.CenterCrop(224)` in the authors' notebooks). What counts as broken, and
# what cannot be found out, stands in `decoding`.

THREADS = 8  # they wait for the disk, and Pillow and file reads release the interpreter's lock
MEND = "mend the data folder and run again"
LEAVE_OUT = f"{MEND}, or leave such galaxies out with --set LEAVE_OUT_BROKEN=true"


def check_images(paths: Iterable[Path], image_px: int = IMAGE_PX) -> None:
    """Check that every file is a whole JPEG of `image_px` x `image_px`, without decoding it.

    Raises one `Gz2vitError` that names the first bad files and counts them. A file whose end
    marker is missing is decoded, to be sure.
    """
    paths = list(paths)
    found = zip(paths, find_faults(paths, image_px), strict=True)
    refuse_broken([(path, fault) for path, fault in found if fault], None, MEND)


def find_faults(
    paths: Sequence[Path], image_px: int = IMAGE_PX, whole: bool = False
) -> list[str | None]:
    """For each file what is wrong with it, or None; decoded in any case with `whole`."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda path: check(path, image_px, whole), paths))


def check_folder(
    folder: DataFolder, results_dir: Path | str | None = None, leave_out_broken: bool = False
) -> str:
    """Check all images of a data folder; a short text that changes when the folder does.

    A results folder remembers, in `logs/checked.json`, what was found in which state
    (`catalog.folder_signature`), so that the road and its notebooks read the images once; only
    those found broken, here or in packing, are looked at again. All broken ones are listed in
    `logs/broken_images.csv`. Raises `Gz2vitError` as `check_images`, unless they shall be left
    out: then the returned text also changes with what is broken.
    """
    signature = folder_signature(folder.path)
    if results_dir is None:
        broken = _look_at_all(folder)
    else:
        past = read_broken(results_dir, folder.path, signature)
        broken = _look_at_all(folder) if past is None else _look_again(past)
        if past is None or len(past):
            write_broken(results_dir, folder.path, signature, broken)
    if not leave_out_broken:
        faults = list(zip(broken.path, broken.fault, strict=True))
        refuse_broken(faults, results_dir, LEAVE_OUT if results_dir is not None else MEND)
    if broken.empty:
        return signature
    ids = "\n".join(sorted(broken.galaxyID))
    return f"{signature}-{hashlib.sha256(ids.encode()).hexdigest()[:16]}"


def _look_at_all(folder: DataFolder) -> pd.DataFrame:
    """The broken images of a folder, each file's header and end looked at."""
    galaxies = [
        (name, split, folder.image_path(name))
        for split, table in folder.tables.items()
        for name in table.galaxyID
    ]
    faults = find_faults([path for _, _, path in galaxies])
    found = zip(galaxies, faults, strict=True)
    return broken_table((*galaxy, fault) for galaxy, fault in found if fault)


def _look_again(past: pd.DataFrame) -> pd.DataFrame:
    """Those of `past` that are still broken: a right or a disk may have been mended meanwhile."""
    faults = find_faults([Path(path) for path in past.path], whole=True)
    return past.assign(fault=faults).dropna(subset="fault")


def read_image(path: Path, crop_px: int | None = None) -> np.ndarray:
    """Decode one image: uint8 (H, W, 3), its central `crop_px` x `crop_px` if given.

    Raises `Gz2vitError` for a file that is missing, truncated or smaller than the crop.
    """
    return np.asarray(decode(path, crop_px))


# ------------------------------------------------------------------------------------------
# Images into the rows of an array file, many at a time: the work behind the image store.
#
# A few thousand images are decoded by threads. From `PROCESSES_FROM` on, fresh processes do it:
# Pillow's copies hold the interpreter's lock, so that threads stop gaining after a few cores. A
# process imports this module and `decoding` only (no NumPy, no torch) and writes each image straight
# to its place in the file, so that memory does not grow with the store and no pixel is sent about.
#
# Where the system has O_DIRECT, processes write past its cache, one block while the next is decoded:
# a store of 23.5 GB would push everything else out of that cache, and filling it cost a fifth to half
# of the rate of decoding. Training reads the store from the disk once, then the system keeps what
# fits.

# Images in one piece of work, at most: a quarter of a second, so that Ctrl-C is heard soon, and
# long enough that the wait for its last block does not count.
CHUNK = 512
BLOCK = 16  # images written at once past the cache: 2.4 MB at 224 px
SECTOR_BYTES = 4096  # what O_DIRECT wants offsets and lengths to be multiples of, on any disk
AHEAD = 4  # pieces in hand for each worker
# Starting two processes takes 0.2 s; threads pack so many images in less than a second.
PROCESSES_FROM = 2000

Rows = Sequence[tuple[int, str]]  # (row of the array, path of its image)
Faults = list[tuple[int, str]]  # (row of the array, what is wrong with its image)


@dataclass(frozen=True)
class ArrayFile:
    """Where images go: a file whose pixels begin at byte `offset`, uint8 (N, H, W, 3).

    H = W = `crop_px`; the images must be `image_px` x `image_px`. `direct`: write past the system's
    cache where that is possible.
    """

    path: str
    offset: int
    crop_px: int
    image_px: int
    direct: bool = False

    @property
    def row_bytes(self) -> int:
        """Bytes of one image."""
        return 3 * self.crop_px**2

    def start(self, row: int) -> int:
        """The byte at which a row begins."""
        return self.offset + row * self.row_bytes

    def takes_direct(self, rows: Rows) -> bool:
        """Whether `rows` can be written past the cache: whole blocks that begin on a sector."""
        first = rows[0][0]
        whole = len(rows) % BLOCK == 0 and rows[-1][0] == first + len(rows) - 1
        aligned = (self.start(first) | BLOCK * self.row_bytes) % SECTOR_BYTES == 0
        return self.direct and hasattr(os, "O_DIRECT") and whole and aligned


def available_workers() -> int:
    """Workers by default: the threads that the workflow grants, or the cores that we may use."""
    granted = os.environ.get("OMP_NUM_THREADS", "")
    if granted.isdecimal() and int(granted) > 0:
        return int(granted)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def chunk_size(images: int, workers: int) -> int:
    """Images in one piece of work: whole blocks, and some pieces for each worker."""
    return max(1, min(CHUNK, images // (8 * workers)) // BLOCK) * BLOCK


def fill_rows(target: ArrayFile, rows: Rows) -> Faults:
    """Decode images into their rows; the faults of those that cannot be decoded."""
    if target.takes_direct(rows):
        try:
            return _fill_direct(target, rows)
        except OSError:
            pass  # a file system without O_DIRECT; if it is full, the plain way says so
    return _fill_plain(target, rows)


def _fill_plain(target: ArrayFile, rows: Rows) -> Faults:
    """`fill_rows` through the system's cache."""
    faults: Faults = []
    with open(target.path, "r+b", buffering=0) as stream:
        for row, path in rows:
            # Plain writing: through a memory map each 4 kB page costs a fault, and a full disk
            # would be a SIGBUS in place of an error.
            _write(stream.fileno(), _pixels(target, row, path, faults), target.start(row))
    return faults


def _fill_direct(target: ArrayFile, rows: Rows) -> Faults:
    """`fill_rows` past the cache: one block is written while the next is decoded."""
    faults: Faults = []
    size = target.row_bytes
    descriptor = os.open(target.path, os.O_WRONLY | os.O_DIRECT)
    pending: Future[None] | None = None
    try:
        with ThreadPoolExecutor(1) as writer:
            for number, at in enumerate(range(0, len(rows), BLOCK)):
                buffer = _buffers(BLOCK * size)[number % 2]
                for place, (row, path) in enumerate(rows[at : at + BLOCK]):
                    pixels = _pixels(target, row, path, faults)
                    buffer[place * size : (place + 1) * size] = pixels
                if pending:
                    pending.result()  # so that the other buffer is free, too
                pending = writer.submit(_write, descriptor, buffer, target.start(rows[at][0]))
            if pending:
                pending.result()
    finally:
        os.close(descriptor)
    return faults


@lru_cache(maxsize=1)
def _buffers(size_bytes: int) -> tuple[memoryview, memoryview]:
    """This process's two buffers, which begin on a page as O_DIRECT wants it."""
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    first, second = (memoryview(mmap.mmap(-1, size_bytes, flags=private)) for _ in range(2))
    return first, second


def _pixels(target: ArrayFile, row: int, path: str, faults: Faults) -> bytes:
    """One image's pixels; black, and a fault noted, where it cannot be decoded."""
    try:
        return decode(path, target.crop_px, target.image_px).tobytes()
    except ImageFault as fault:
        faults.append((row, str(fault)))
        return bytes(target.row_bytes)


def _write(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of `data` at `offset`; the system may take less at a time."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written


def fill_in_order(
    pool: Executor, workers: int, target: ArrayFile, chunks: Iterable[Rows]
) -> Iterator[tuple[Rows, Faults]]:
    """Have all chunks filled, a few at a time; yield each with its faults, in their order."""
    waiting: deque[tuple[Rows, Future[Faults]]] = deque()
    for chunk in chunks:
        waiting.append((chunk, pool.submit(fill_rows, target, chunk)))
        if len(waiting) >= AHEAD * workers:
            done, future = waiting.popleft()
            yield done, future.result()
    for done, future in waiting:
        yield done, future.result()


def by_processes(images: int, workers: int) -> bool:
    """Whether so many images are worth starting processes."""
    return images >= PROCESSES_FROM and workers > 1


@contextmanager
def packing_pool(workers: int, images: int) -> Iterator[Executor]:
    """Workers for so many images; on an error or Ctrl-C what has not begun is dropped.

    Raises `Gz2vitError` if one of them is killed.
    """
    if not by_processes(images, workers):
        pool: Executor = ThreadPoolExecutor(workers)
    else:
        # spawn: a fork of a process that runs threads (PyTorch, OpenCV, Jupyter) may hang.
        pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=start_worker)
    try:
        yield pool
    except BrokenProcessPool as error:
        raise Gz2vitError(
            "a process that packs images was killed (out of memory?); run the same command again "
            "to continue where it stopped"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def start_worker() -> None:
    """Ctrl-C is the parent's business, and a killed parent's workers end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Wait for the parent to die, then end: without it a worker would wait for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


# ------------------------------------------------------------------------------------------
# A store in the making: an array file under a hidden name, and a note of how far it is.
#
# A kill, a crash or a power cut costs what was done since the last note, a second or two of work:
# the note is written after the images before it are on the disk. Syncing them about every second
# also keeps the system from gathering gigabytes of unwritten pages.

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


# ------------------------------------------------------------------------------------------
# The image store: all images of a split, decoded and centre-cropped once, in one array file.
#
# `<split>.npy` is a plain NumPy file, uint8 (galaxies, H, W, 3), read through a memory map, so that
# training touches no JPEG and holds no image twice. `<split>.json` beside it says what it holds; a
# store that was made of other galaxies, of another state of the data or with another crop is refused.
#
# Packing is safe against interruption: an array grows under a temporary name (`partial`) and gets
# its real name when it is whole; given again, it continues.

FORMAT = 2


@dataclass(frozen=True)
class ImageStore:
    """One split's images in memory-mapped form.

    `images`: uint8 (N, H, W, 3), values 0 to 255, in the order of `galaxy_ids`.
    """

    path: Path
    images: np.ndarray
    galaxy_ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.galaxy_ids)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Images of `rows` (B,), uint8 (B, H, W, 3), read past the memory map.

        A map would keep every page that training touches in the process, until it holds the store.
        Raises `Gz2vitError` for a file that has become shorter.
        """
        if not isinstance(self.images, np.memmap):
            return self.images[rows]
        found = np.empty((len(rows), *self.images.shape[1:]), dtype=np.uint8)
        with self.path.open("rb", buffering=0) as file:
            for target, row in zip(found, rows, strict=True):
                file.seek(self.images.offset + int(row) * target.nbytes)
                if file.readinto(memoryview(target).cast("B")) != target.nbytes:
                    raise Gz2vitError(f"{self.path} is cut short; delete it and pack it again")
        return found


@dataclass(frozen=True)
class StoreOrder:
    """A store to be made at `target` (`<split>.npy`), of the images `paths`, in that order.

    Each image is `image_px` x `image_px`, its central `crop_px` x `crop_px` is kept; `source` names
    the state of the data (a folder's signature). `left_out`, galaxies that the run leaves out, is
    for the note only.
    """

    target: Path
    paths: Sequence[Path]
    galaxy_ids: Sequence[str]
    crop_px: int
    source: str
    image_px: int = IMAGE_PX
    left_out: Sequence[str] = ()

    def identity(self) -> dict[str, Any]:
        """What makes two stores the same."""
        digest = hashlib.sha256("\n".join(self.galaxy_ids).encode()).hexdigest()
        return {
            "format": FORMAT,
            "galaxies": len(self.galaxy_ids),
            "galaxy_ids_sha256": digest,
            "image_px": self.image_px,
            "crop_px": self.crop_px,
            "source": self.source,
        }

    def note(self) -> dict[str, Any]:
        """What the finished store says of itself."""
        folder = str(self.paths[0].parent) if len(self.paths) else ""
        known = {"images": folder, "left_out": list(self.left_out)}
        return {**self.identity(), **known, **decoder_versions()}


def decoder_versions() -> dict[str, str]:
    """The libraries that turn a JPEG into pixels; two versions can differ by a grey level."""
    turbo = features.version("libjpeg_turbo")
    return {"pillow": PIL.__version__, "libjpeg_turbo": str(turbo)}


def pack_images(
    image_paths: Sequence[Path],
    galaxy_ids: Sequence[str],
    target: Path,
    crop_px: int,
    source: str,
    image_px: int = IMAGE_PX,
) -> ImageStore:
    """Decode and crop all images into `target` (`<split>.npy`) and return the store.

    See `StoreOrder` for the arguments. Raises `Gz2vitError` as `pack_stores`, and for images that
    cannot be decoded.
    """
    order = StoreOrder(target, image_paths, galaxy_ids, crop_px, source, image_px)
    (faults,) = pack_stores([order])
    refuse_broken([(image_paths[row], fault) for row, fault in faults], None, "mend the images")
    return open_store(target, galaxy_ids, crop_px, source)


def pack_stores(
    orders: Sequence[StoreOrder], workers: int | None = None
) -> list[list[tuple[int, str]]]:
    """Make all stores; for each the images that cannot be decoded, as (row, what is wrong).

    Packing goes on over such images, but then no store gets its name. Stores that are there
    already are kept. All get their names at the end: the workflow deletes a step's finished files
    when the step is killed, half-made ones it does not know. `workers`: by default as many as
    there are cores. Raises `Gz2vitError` for a disk that is or gets full, an image size that does
    not hold the crop, and a worker that is killed.
    """
    workers = workers or available_workers()
    for order in orders:
        if order.crop_px > order.image_px:
            raise Gz2vitError(f"CROP_PX {order.crop_px} does not fit in {order.image_px} px")
    try:
        return _pack(orders, workers)
    except OSError as error:
        raise Gz2vitError(
            f"cannot write {orders[0].target.parent}: {error.strerror or error}"
        ) from error


def _pack(orders: Sequence[StoreOrder], workers: int) -> list[list[tuple[int, str]]]:
    """`pack_stores`, its errors as they come."""
    start = time.perf_counter()
    # The decoders count here: no store may begin with one version and end with another.
    partials = [
        None if _is_there(order) else PartialStore(order.target, order.identity() | versions)
        for order, versions in ((order, decoder_versions()) for order in orders)
    ]
    missing = sum(partial.missing for partial in partials if partial)
    direct = by_processes(missing, workers)
    with packing_pool(workers, missing) as pool:
        for order, partial in zip(orders, partials, strict=True):
            if partial and partial.missing:
                partial.fill(order.paths, pool, workers, direct)
    if missing:
        _tell(missing, time.perf_counter() - start, workers)
    faults = [sorted(partial.faults.items()) if partial else [] for partial in partials]
    if not any(faults):
        for order, partial in zip(orders, partials, strict=True):
            if partial:
                partial.finish(order.note())
    return faults


def _tell(images: int, seconds: float, workers: int) -> None:
    """One line on what was done."""
    rate = images / seconds
    print(f"packed {images:,} images in {seconds:.1f} s: {rate:,.0f} a second by {workers} workers")


def _is_there(order: StoreOrder) -> bool:
    """Whether the finished store stands there already."""
    if not order.target.exists():
        return False
    try:
        open_store(order.target, order.galaxy_ids, order.crop_px, order.source, order.image_px)
    except Gz2vitError:
        return False
    return True


def open_store(
    target: Path,
    galaxy_ids: Sequence[str],
    crop_px: int | None = None,
    source: str | None = None,
    image_px: int | None = None,
) -> ImageStore:
    """Open a finished store; it must hold exactly `galaxy_ids`, in that order.

    Raises `Gz2vitError` if it is missing, half-made, or made of other galaxies, and, where they
    are given, of another crop, another state of the data or images of another size.
    """
    require(target, "pack")
    note = read_json(require(target.with_suffix(".json"), "pack"))
    size_px = image_px or note.get("image_px", 0), crop_px or note.get("crop_px", 0)
    state = note.get("source", "") if source is None else source
    want = StoreOrder(target, (), galaxy_ids, size_px[1], state, size_px[0]).identity()
    wrong = [key for key in want if note.get(key) != want[key]]
    images = _map(target)
    side = want["crop_px"]
    if wrong or images is None or images.shape != (len(galaxy_ids), side, side, 3):
        what = ", ".join(wrong) or "shape"
        raise Gz2vitError(
            f"{target} was packed from other data ({what} differ); delete it and run "
            f"{command_for(target.resolve(), 'pack')} to pack it again"
        )
    return ImageStore(target, images, tuple(galaxy_ids))


def _map(target: Path) -> np.ndarray | None:
    """The array, mapped; None for a file that is none."""
    try:
        return np.load(target, mmap_mode="r")
    except (ValueError, EOFError):
        return None


# ------------------------------------------------------------------------------------------
# The splits of a run as training and prediction see them: images and labels, row by row.


@dataclass(frozen=True)
class LabelledImages:
    """The images of one split and their classes: `class_index` int64 (N,), in the store's order."""

    split: str
    store: ImageStore
    class_index: np.ndarray

    def class_counts(self) -> np.ndarray:
        """Galaxies per class, int64 (8,)."""
        return np.bincount(self.class_index, minlength=CLASS_COUNT)


def open_split(results_dir: Path | str, split: str) -> LabelledImages:
    """Open one split (train, valid or test) of a results folder.

    Raises `Gz2vitError` that names the step to run where the selection or the store is missing,
    and where the store was packed of another state of the data folder than the selection's.
    """
    selection = read_selection(results_dir)
    table = selection.tables[split]
    target = Path(results_dir) / "store" / f"{split}.npy"
    source = selection.data["signature"]
    store = open_store(target, table.galaxyID.tolist(), source=source)
    return LabelledImages(split, store, table.label1.to_numpy())


def pack_selection(results_dir: Path | str, crop_px: int, workers: int | None = None) -> None:
    """Pack the images of a results folder's selection into `store/<split>.npy`.

    Given again after an interruption it continues. Raises `Gz2vitError` as `pack_stores`, for a
    data folder that has changed since the selection, and, at the end, for images that cannot be
    decoded: all of them are then listed in `logs/broken_images.csv`.
    """
    selection = read_selection(results_dir)
    folder, signature = Path(selection.data["folder"]), selection.data["signature"]
    if folder_signature(folder) != signature:
        command = command_for(Path(results_dir).resolve() / "selection", "select")
        raise Gz2vitError(f"{folder} has changed since galaxies were selected there; run {command}")
    orders = _orders(Path(results_dir), selection, crop_px)
    faults = pack_stores(list(orders.values()), workers)
    broken = [
        (order.galaxy_ids[row], split, order.paths[row], fault)
        for (split, order), found in zip(orders.items(), faults, strict=True)
        for row, fault in found
    ]
    if broken:
        add_broken(results_dir, folder, signature, broken_table(broken))
        again = "run the same command again, which leaves them out too"
        way_on = LEAVE_OUT if selection.left_out is None else again
        refuse_broken([row[2:] for row in broken], results_dir, way_on)


def _orders(results_dir: Path, selection: Selection, crop_px: int) -> dict[str, StoreOrder]:
    """What is to be packed, by split."""
    images, orders = Path(selection.data["folder"]) / "images", {}
    for split, table in selection.tables.items():
        ids = table.galaxyID.tolist()
        lost = selection.left_out
        left_out = () if lost is None else tuple(lost.galaxyID[lost.split == split])
        orders[split] = StoreOrder(
            target=results_dir / "store" / f"{split}.npy",
            paths=[images / f"{galaxy_id}.jpg" for galaxy_id in ids],
            galaxy_ids=ids,
            crop_px=crop_px,
            source=selection.data["signature"],
            left_out=left_out,
        )
    return orders


# ------------------------------------------------------------------------------------------
# Which pixels of a galaxy's image are the galaxy: its own light decides.
#
# Galaxy Zoo 2's cutouts are scaled so that the galaxy's petroR90_r spans 50 of 424 px (Willett et
# al. 2013): in the central 224 px the border lies at some 2.2 R90, on the sky.

THRESHOLD_SIGMA = 4.0  # of smoothed pixels above the sky: one of noise alone in 30,000
SMOOTHING_SHARE = 1 / 224  # standard deviation, of the image's side: 1 px of the paper's crop
BORDER_SHARE = 1 / 16  # width of the frame that measures the sky: 14 px of 224
CENTRE_SHARE = 1 / 8  # a galaxy whose light begins further from the centre is not this one
CLIP_SIGMA, CLIP_ROUNDS = 3.0, 5  # the frame's pixels with neighbours' light are left out
MAD_TO_SIGMA = 1.4826  # a normal distribution's standard deviation over its median deviation


def segment_galaxy(light: np.ndarray) -> np.ndarray:
    """The pixels of the galaxy in the middle of an image `light` (H, W), bool (H, W).

    Smoothed, more than `THRESHOLD_SIGMA` times the noise above the sky, and connected with the
    centre, or with the nearest such pixel within `CENTRE_SHARE` of the side; none if there is
    none. Sky and noise are those of the frame. A neighbour whose light touches the galaxy's is
    counted with it.
    """
    side = min(light.shape)
    smooth = ndimage.gaussian_filter(light.astype(np.float64), SMOOTHING_SHARE * side)
    sky, noise = measure_sky(smooth)
    # strictly brighter: in a plane without noise nothing is
    labels, _ = ndimage.label(smooth > sky + max(THRESHOLD_SIGMA * noise, 1e-9))
    y, x = np.indices(light.shape)
    from_centre = np.hypot(y - (light.shape[0] - 1) / 2, x - (light.shape[1] - 1) / 2)
    from_centre[labels == 0] = np.inf
    nearest = np.unravel_index(from_centre.argmin(), light.shape)
    if from_centre[nearest] > max(CENTRE_SHARE * side, 1.0):
        return np.zeros(light.shape, dtype=bool)
    return ndimage.binary_fill_holes(labels == labels[nearest])


def measure_sky(light: np.ndarray) -> tuple[float, float]:
    """Level and noise (standard deviation) of the frame of an image (H, W), by clipped medians."""
    width = max(1, round(BORDER_SHARE * min(light.shape)))
    inner = np.zeros(light.shape, dtype=bool)
    inner[width:-width, width:-width] = True
    values = light[~inner]
    for _ in range(CLIP_ROUNDS):
        level = np.median(values)
        noise = MAD_TO_SIGMA * np.median(np.abs(values - level))
        kept = values[np.abs(values - level) <= CLIP_SIGMA * noise]
        if len(kept) == len(values) or len(kept) == 0:
            break
        values = kept
    return float(level), float(noise)
