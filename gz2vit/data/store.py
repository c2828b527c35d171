"""The image store: all images of a split, decoded and centre-cropped once, in one array file.

`<split>.npy` is a plain NumPy file, uint8 (galaxies, H, W, 3), read through a memory map, so that
training touches no JPEG and holds no image twice. `<split>.json` beside it says what it holds;
a store that was made of other galaxies or with another crop is refused.

Packing is safe against interruption: the array grows under a temporary name with a note of how
many images are done, and gets its real name when it is whole; given again, it continues.
"""

import hashlib
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from gz2vit.data.images import THREADS, read_image
from gz2vit.errors import Gz2vitError
from gz2vit.results import read_json, require, write_json

FORMAT = 1
CHUNK = 256  # images between two notes of progress: 38 MB at 224 px


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


def pack_images(
    image_paths: Sequence[Path], galaxy_ids: Sequence[str], target: Path, crop_px: int, source: str
) -> ImageStore:
    """Decode and crop all images into `target` (`<split>.npy`) and return the store.

    `source` names the state of the data (a folder signature), so that a half-made store of an
    older state is not continued. Raises `Gz2vitError` for an unreadable image or a full disk.
    """
    note = _describe(galaxy_ids, crop_px, source)
    partial = target.with_name(f".{target.stem}.partial.npy")
    progress = partial.with_suffix(".json")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        array, done = _open_partial(partial, progress, note)
        _fill(array, done, image_paths, crop_px, progress, note)
        del array
        _finish(partial, progress, target, note)
    except OSError as error:
        raise Gz2vitError(f"cannot write {target}: {error.strerror or error}") from error
    return open_store(target, galaxy_ids, crop_px)


def open_store(target: Path, galaxy_ids: Sequence[str], crop_px: int | None = None) -> ImageStore:
    """Open a finished store; it must hold exactly `galaxy_ids`, in that order.

    Raises `Gz2vitError` if it is missing, half-made, or made of other galaxies or another crop.
    """
    require(target, "pack")
    note = read_json(require(target.with_suffix(".json"), "pack"))
    images = np.load(target, mmap_mode="r")
    want = _describe(galaxy_ids, crop_px or note["crop_px"], note.get("source", ""))
    wrong = [key for key in want if note.get(key) != want[key]]
    if wrong or images.shape != (len(galaxy_ids), note["crop_px"], note["crop_px"], 3):
        what = ", ".join(wrong) or "shape"
        raise Gz2vitError(f"{target} was packed from other data ({what} differ); pack it again")
    return ImageStore(target, images, tuple(galaxy_ids))


def _describe(galaxy_ids: Sequence[str], crop_px: int, source: str) -> dict[str, Any]:
    """What makes two stores the same."""
    digest = hashlib.sha256("\n".join(galaxy_ids).encode()).hexdigest()
    return {
        "format": FORMAT,
        "galaxies": len(galaxy_ids),
        "galaxy_ids_sha256": digest,
        "crop_px": crop_px,
        "source": source,
    }


def _open_partial(partial: Path, progress: Path, note: dict) -> tuple[np.ndarray, int]:
    """The half-made array and how many images it already holds; a foreign one is begun anew."""
    if partial.exists() and progress.exists():
        past = read_json(progress)
        done = past.pop("done", 0)
        if past == note:
            return np.lib.format.open_memmap(partial, mode="r+"), done
    progress.unlink(missing_ok=True)
    shape = (note["galaxies"], note["crop_px"], note["crop_px"], 3)
    partial.unlink(missing_ok=True)
    size_bytes, free_bytes = int(np.prod(shape)), shutil.disk_usage(partial.parent).free
    if free_bytes < size_bytes:
        raise Gz2vitError(
            f"the image store {partial.parent} needs {size_bytes / 1e9:.2f} GB, "
            f"but its disk has {free_bytes / 1e9:.2f} GB free"
        )
    array = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
    _reserve(partial)
    return array, 0


def _reserve(path: Path) -> None:
    """Take the file's blocks now: a memory map on a disk that fills up later dies of SIGBUS."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)


def _fill(
    array: np.ndarray, done: int, paths: Sequence[Path], crop_px: int, progress: Path, note: dict
) -> None:
    """Decode the images from number `done` on, noting progress after every chunk."""
    bar = tqdm(
        total=len(paths),
        initial=done,
        unit=" images",
        desc=f"pack {progress.name[1:].split('.')[0]}",
    )
    with bar, ThreadPoolExecutor(THREADS) as pool:
        for start in range(done, len(paths), CHUNK):
            chunk = paths[start : start + CHUNK]
            images = pool.map(lambda path: read_image(path, crop_px), chunk)
            for offset, image in enumerate(images):
                array[start + offset] = image
            array.flush()
            write_json(progress, {**note, "done": start + len(chunk)})
            bar.update(len(chunk))


def _finish(partial: Path, progress: Path, target: Path, note: dict) -> None:
    """Give the finished array its name; the note goes first, so that no array stands without."""
    target.unlink(missing_ok=True)
    write_json(target.with_suffix(".json"), note)
    os.replace(partial, target)
    progress.unlink(missing_ok=True)
