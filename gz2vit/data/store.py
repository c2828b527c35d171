"""The image store: all images of a split, decoded and centre-cropped once, in one array file.

`<split>.npy` is a plain NumPy file, uint8 (galaxies, H, W, 3), read through a memory map, so that
training touches no JPEG and holds no image twice. `<split>.json` beside it says what it holds; a
store that was made of other galaxies, of another state of the data or with another crop is refused.

Packing is safe against interruption: an array grows under a temporary name (`partial`) and gets
its real name when it is whole; given again, it continues.
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import features

from gz2vit.data.broken import refuse_broken
from gz2vit.data.packing import available_workers, by_processes, packing_pool
from gz2vit.data.partial import PartialStore
from gz2vit.errors import Gz2vitError
from gz2vit.paper import IMAGE_PX
from gz2vit.results import command_for, read_json, require

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
