"""Images into the rows of an array file, many at a time: the work behind the image store.

A few thousand images are decoded by threads. From `PROCESSES_FROM` on, fresh processes do it:
Pillow's copies hold the interpreter's lock, so that threads stop gaining after a few cores. A
process imports this module and `decoding` only (no NumPy, no torch) and writes each image straight
to its place in the file, so that memory does not grow with the store and no pixel is sent about.

Where the system has O_DIRECT, processes write past its cache, one block while the next is decoded:
a store of 23.5 GB would push everything else out of that cache, and filling it cost a fifth to half
of the rate of decoding. Training reads the store from the disk once, then the system keeps what
fits.
"""

import mmap
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context, parent_process

from gz2vit.data.decoding import ImageFault, decode
from gz2vit.errors import Gz2vitError

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
