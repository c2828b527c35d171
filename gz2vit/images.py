"""Images: from a file to pixels, what can be wrong with one, and the image cache for training.

Of the paper's images, 424 x 424 px, the central 224 x 224 px are used (the authors' notebooks).

The image cache holds a split's images, decoded and cropped once: `store/<split>/shard_00000.npy`
and so on, uint8 (n, H, W, 3), and `store/<split>.json`, which records galaxies, crop and the
pixels' digest. A shard gets its name when it is whole: packing resumes with those missing. Bytes
changed inside a JPEG's compressed data are not found: libjpeg fills the hole with grey.
"""

import errno
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL
from PIL import Image, ImageOps, UnidentifiedImageError, features
from scipy import ndimage
from tqdm import tqdm

from gz2vit import catalog, io
from gz2vit.catalog import DataFolder
from gz2vit.io import Gz2vitError, atomic_path, available_cores, command_for, read_json, write_json
from gz2vit.paper import CLASS_COUNT, IMAGE_PX

JPEG_END = b"\xff\xd9"
TAIL_BYTES = 64  # some writers pad the file behind its end marker
MACHINE_ERRORS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # which no image is to blame for
FITS_ADVICE = (
    "is a FITS file, which holds measurements and not a picture; make a colour image of it as the "
    "SDSS does (for instance astropy.visualization.make_lupton_rgb) and save that as PNG or JPEG"
)

BROKEN_LIST = Path("logs", "broken_images.csv")  # in a results folder
BROKEN_COLUMNS = ["galaxyID", "split", "path", "fault"]
FIX = "fix the data folder and run again"
LEAVE_OUT = f"{FIX}, or leave such galaxies out with --set LEAVE_OUT_BROKEN=true"
FORMAT = 3  # of the image cache
SHARD_IMAGES = 8192  # 1.2 GB at 224 px


# ---- One image


class ImageFault(Gz2vitError):
    """What is wrong with one image file: a sentence that names it."""


def decode(
    path: Path | str, crop_px: int | None = None, image_px: int | None = None
) -> Image.Image:
    """An image file as RGB as a viewer shows it, its central `crop_px` x `crop_px` if given.

    EXIF turns are applied, transparent pixels are black sky, 16-bit values are scaled to 8 bits;
    with `image_px` the file must be `image_px` x `image_px`. Raises `ImageFault`.
    """
    with _open_image(path, image_px) as image:
        if "exif" in image.info or image.format != "JPEG":
            image = ImageOps.exif_transpose(image)
        if crop_px is not None:
            wide, high = image.size
            if min(wide, high) < crop_px:
                raise ImageFault(f"image {path} is {wide} x {high} px, smaller than {crop_px} px")
            # As torchvision's CenterCrop; before the conversion, which then has fewer pixels.
            left, upper = round((wide - crop_px) / 2.0), round((high - crop_px) / 2.0)
            image = image.crop((left, upper, left + crop_px, upper + crop_px))
        if image.mode.startswith("I"):
            levels = np.asarray(image)
            # 255 becomes 65535; some writers leave the lower byte empty instead.
            levels = levels // (257 if (levels & 255).any() else 256)
            image = Image.fromarray(levels.astype(np.uint8))
        if image.has_transparency_data:
            sky = Image.new("RGBA", image.size, (0, 0, 0, 255))
            image = Image.alpha_composite(sky, image.convert("RGBA"))
        return image.convert("RGB")


def read_image(path: Path | str, crop_px: int | None = None) -> np.ndarray:
    """`decode` as uint8 (H, W, 3)."""
    return np.asarray(decode(path, crop_px))


def decoder_versions() -> dict[str, str]:
    """The libraries that turn a JPEG into pixels; two versions can differ by a grey level."""
    return {"pillow": PIL.__version__, "libjpeg_turbo": str(features.version("libjpeg_turbo"))}


def find_fault(path: Path, image_px: int = IMAGE_PX, whole: bool = False) -> str | None:
    """What is wrong with an image file, decoded `whole` or where it ends not as a JPEG; or None."""
    try:
        with _open_image(path, image_px) as image, open(path, "rb") as stream:
            stream.seek(-min(TAIL_BYTES, path.stat().st_size), os.SEEK_END)
            if whole or image.format != "JPEG" or JPEG_END not in stream.read():
                image.load()
    except ImageFault as fault:
        return str(fault)
    return None


@contextmanager
def _open_image(path: Path | str, image_px: int | None) -> Iterator[Image.Image]:
    """An image file, its kind and size checked; errors about it become an `ImageFault`."""
    try:
        with Image.open(path) as image:
            if image.format == "FITS":
                raise ImageFault(f"image {path} {FITS_ADVICE}")
            sixteen_bits = image.mode.startswith("I;16") or image.format in ("PPM", "PNG")
            if image.mode == "F" or (image.mode.startswith("I") and not sixteen_bits):
                kind = "floats" if image.mode == "F" else "32-bit integers"
                raise ImageFault(f"image {path} holds {kind}; convert it to 8 bits per channel")
            if image_px is not None and image.size != (image_px, image_px):
                size = f"{image.width} x {image.height} px instead of {image_px} x {image_px}"
                raise ImageFault(f"image {path} is {size}")
            yield image
    except Exception as error:  # Pillow's readers raise whatever they stumble over
        machine = isinstance(error, MemoryError) or getattr(error, "errno", 0) in MACHINE_ERRORS
        if isinstance(error, ImageFault) or machine:
            raise
        reason = f"is broken or truncated ({' '.join(str(error).split()) or type(error).__name__})"
        if isinstance(error, UnidentifiedImageError):
            fits = {".fits", ".fit", ".fts"} & {suffix.lower() for suffix in Path(path).suffixes}
            reason = FITS_ADVICE if fits else "is not an image that can be read"
        elif isinstance(error, OSError) and error.strerror:
            missing = isinstance(error, FileNotFoundError)
            reason = "is missing" if missing else f"cannot be read ({error.strerror})"
        raise ImageFault(f"image {path} {reason}") from error


# ---- The broken images of a data folder


def check_folder(
    folder: DataFolder, results_dir: Path | str | None = None, leave_out_broken: bool = False
) -> None:
    """Check all images of a data folder; `Gz2vitError` unless broken ones are left out.

    `logs/broken_images.csv` in the results lists them, and those that packing found; only these are
    read again while the pixels are those of `logs/checked.json`.
    """
    splits = [table[["galaxyID"]].assign(split=name) for name, table in folder.tables.items()]
    known, whole = pd.concat(splits), False
    known["path"] = known.galaxyID.map(folder.image_path)
    if results_dir is not None:
        listed, checked = read_broken(results_dir), Path(results_dir) / "logs" / "checked.json"
        if checked.exists() and read_json(checked) == _state(results_dir, folder, listed):
            known, whole = listed, True  # a permission or a disk may have been fixed meanwhile
    # Threads: they wait for the disk, and Pillow releases the interpreter's lock.
    with ThreadPoolExecutor() as pool:
        faults = list(pool.map(lambda path: find_fault(Path(path), whole=whole), known.path))
    broken = known.assign(fault=faults).dropna(subset="fault").astype(str)
    if results_dir is not None:
        _write_broken(results_dir, folder, broken)
    if not leave_out_broken:
        _refuse(broken, results_dir, FIX if results_dir is None else LEAVE_OUT)


def read_broken(results_dir: Path | str) -> pd.DataFrame:
    """The broken images that are known, as text: galaxyID, split, path, fault (a sentence)."""
    path = Path(results_dir) / BROKEN_LIST
    if not path.exists():
        return pd.DataFrame(columns=BROKEN_COLUMNS, dtype=str)
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def _state(results_dir: Path | str, folder: DataFolder, broken: pd.DataFrame) -> dict[str, Any]:
    """The folder and the pixels that a list of broken images is about."""
    pixels = catalog.data_signature(folder, Path(results_dir) / catalog.IMAGE_DIGESTS)["pixels"]
    return {"folder": str(folder.path), "pixels": pixels, "broken": len(broken)}


def _write_broken(results_dir: Path | str, folder: DataFolder, broken: pd.DataFrame) -> None:
    """List `broken` as all that is broken in this state of the folder; no list for nothing."""
    io.write_text(path := Path(results_dir) / BROKEN_LIST, broken.to_csv(index=False))
    path.unlink() if broken.empty else None
    write_json(path.with_name("checked.json"), _state(results_dir, folder, broken))


def _refuse(broken: pd.DataFrame, results_dir: Path | str | None, advice: str) -> None:
    """Raise `Gz2vitError` if images are broken: the first, how many more, the list, what to do."""
    if not broken.empty:
        text, *others = broken.fault.iloc[0], *(Path(path).name for path in broken.path[1:])
        if others:
            more = f"{', '.join(others[:2])}{', ...' * (len(others) > 2)}"
            text += f" (and {len(others)} more: {more})"
        where = f"; {Path(results_dir) / BROKEN_LIST} lists all" if results_dir else ""
        raise Gz2vitError(f"{text}{where}; {advice}")


# ---- The image cache


@dataclass(frozen=True)
class ImageCache:
    """One split's decoded images, in the order of `galaxy_ids`; `record`: what they are of."""

    path: Path
    shards: tuple[np.ndarray, ...]  # memory maps of uint8 (n, H, W, 3), of one n but for the last
    galaxy_ids: tuple[str, ...]
    record: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.galaxy_ids)

    @property
    def crop_px(self) -> int:
        """Side of the images [px]."""
        return self.shards[0].shape[1]

    def __getitem__(self, rows: int | slice | Sequence[int]) -> np.ndarray:
        """One image (H, W, 3), or those of a slice or a list of rows, (B, H, W, 3)."""
        chosen = np.arange(len(self))[rows]
        return self.read(np.atleast_1d(chosen))[0 if chosen.ndim == 0 else slice(None)]

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Images of `rows` (B,), uint8 (B, H, W, 3); `Gz2vitError` for a file cut short."""
        # Not through the memory maps, which would keep every page that training touches.
        found = np.empty((len(rows), *self.shards[0].shape[1:]), dtype=np.uint8)
        numbers, places = np.divmod(rows, len(self.shards[0]))
        for number in np.unique(numbers):
            shard, chosen = self.shards[number], np.flatnonzero(numbers == number)
            if not isinstance(shard, np.memmap):
                found[chosen] = shard[places[chosen]]
                continue
            with open(shard.filename, "rb", buffering=0) as file:
                for row in chosen:
                    file.seek(shard.offset + int(places[row]) * found[row].nbytes)
                    if file.readinto(memoryview(found[row]).cast("B")) != found[row].nbytes:
                        name = shard.filename
                        raise Gz2vitError(f"{name} is cut short; delete it and pack it again")
        return found


def pack_images(
    paths: Sequence[Path], galaxy_ids: Sequence[str], target: Path, crop_px: int
) -> ImageCache:
    """`fill_cache` of the folder `target`, opened; `Gz2vitError` for broken images, too."""
    source = catalog.pixels_digest(galaxy_ids, paths)
    faults = fill_cache(paths, galaxy_ids, target, crop_px, source)
    rows = [(galaxy_ids[row], "", paths[row], fault) for row, fault in faults]
    _refuse(pd.DataFrame(rows, columns=BROKEN_COLUMNS), None, FIX)
    return open_cache(target, galaxy_ids, crop_px=crop_px, source=source)


def fill_cache(
    paths: Sequence[Path], galaxy_ids: Sequence[str], target: Path, crop_px: int, source: str,
    workers: int | None = None,
) -> list[tuple[int, str]]:  # fmt: skip
    """Make the missing shards of the cache `target`; returns (row, fault) of broken images.

    `source`: the `pixels_digest` of the images. A shard with broken images is not kept. Raises
    `Gz2vitError` for a full disk and a crop larger than the images.
    """
    if crop_px > IMAGE_PX:
        raise Gz2vitError(f"CROP_PX {crop_px} is larger than the images of {IMAGE_PX} px")
    record = _identity(galaxy_ids) | {"galaxies": len(galaxy_ids), "source": source}
    record |= {"image_px": IMAGE_PX, "crop_px": crop_px}
    with suppress(Gz2vitError):
        open_cache(target, galaxy_ids, **record)
        return []
    record |= decoder_versions()  # no cache begins with one version and ends with another
    start, faults, workers = time.perf_counter(), [], workers or available_workers()
    record_path = target.with_suffix(".json")
    known = read_json(record_path, default={}) == record
    for stale in target.glob(".shard_*.npy" if known else "shard_*.npy"):
        stale.unlink()
    write_json(record_path, record)
    shards = _open_shards(target, len(paths), crop_px)
    done = sum(len(shard) for shard in shards.values() if shard is not None)
    if done:
        print(f"{target.name}: continued from image {done:,} of {len(paths):,}")
    # The bar is drawn once a second, for an executed notebook keeps each drawing.
    words = {"desc": f"pack {target.name}", "unit": " images", "mininterval": 1.0}
    # Threads: Pillow decodes without the interpreter's lock.
    pool = ThreadPoolExecutor(workers)
    try:
        with tqdm(total=len(paths), initial=done, **words) as bar:
            for number, path in enumerate(shards):
                if shards[path] is None:
                    rows = range(len(paths))[number * SHARD_IMAGES :][:SHARD_IMAGES]
                    found = _make_shard(path, [paths[row] for row in rows], crop_px, pool, bar)
                    faults += [(rows[row], fault) for row, fault in found]
    finally:
        pool.shutdown(cancel_futures=True)  # on Ctrl-C what has not begun is dropped
    seconds, images = time.perf_counter() - start, len(paths) - done
    rate = f"{images / seconds:,.0f} a second by {workers} workers"
    print(f"packed {images:,} images in {seconds:.1f} s: {rate}", flush=True)
    return faults


def _make_shard(
    shard: Path, paths: Sequence[Path], crop_px: int, pool: ThreadPoolExecutor, bar: tqdm
) -> list[tuple[int, str]]:
    """Write a shard unless images are broken; (row, fault) of those."""

    def fill(row: int) -> tuple[int, str] | None:
        try:
            images[row] = decode(paths[row], crop_px, IMAGE_PX)
        except ImageFault as fault:
            return row, str(fault)

    faults = []
    with suppress(ImageFault), atomic_path(shard) as temporary:
        shape = len(paths), crop_px, crop_px, 3
        images = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        if hasattr(os, "posix_fallocate"):
            # Take the blocks now: through a memory map a full disk would be a SIGBUS.
            with temporary.open("r+b") as stream:
                os.posix_fallocate(stream.fileno(), 0, temporary.stat().st_size)
        for fault in pool.map(fill, range(len(paths))):
            faults += [fault] * (fault is not None)
            bar.update()
        images.flush()
        if faults:
            raise ImageFault(f"{shard} would hold black images")
    return faults


def available_workers() -> int:
    """Workers by default: the threads that the workflow grants, or the cores that we may use."""
    granted = os.environ.get("OMP_NUM_THREADS", "")
    return int(granted) if granted.isdecimal() and int(granted) > 0 else available_cores()


def open_cache(target: Path, galaxy_ids: Sequence[str], **expected: Any) -> ImageCache:
    """The cache of `galaxy_ids`, in that order; `Gz2vitError` if not whole or as `expected`."""
    record = read_json(io.require(target.with_suffix(".json"), "pack"))
    expected |= _identity(galaxy_ids)
    shards = _open_shards(target, len(galaxy_ids), record.get("crop_px", 0))
    wrong = [key for key, value in expected.items() if record.get(key) != value]
    wrong += [path.name for path, shard in shards.items() if shard is None]
    if wrong:
        words = f"is incomplete or of other data ({', '.join(wrong[:3])} differ)"
        command = command_for(target.resolve(), "pack")
        raise Gz2vitError(f"the image cache {target} {words}; run {command}")
    return ImageCache(target, tuple(shards.values()), tuple(galaxy_ids), record)


def _identity(galaxy_ids: Sequence[str]) -> dict[str, Any]:
    """What the record of any cache of these galaxies holds."""
    digest = hashlib.sha256("\n".join(galaxy_ids).encode()).hexdigest()
    return {"format": FORMAT, "galaxy_ids_sha256": digest}


def _open_shards(target: Path, galaxies: int, crop_px: int) -> dict[Path, np.ndarray | None]:
    """The shards of a cache of so many galaxies, by path; None for one that is not whole."""
    shards = {}
    for number, first in enumerate(range(0, galaxies, SHARD_IMAGES)):
        path, shard = target / f"shard_{number:05d}.npy", None
        with suppress(OSError, ValueError, EOFError):
            shard = np.load(path, mmap_mode="r")
        shape = (min(SHARD_IMAGES, galaxies - first), crop_px, crop_px, 3)
        shards[path] = shard if shard is not None and shard.shape == shape else None
    return shards


# ---- The splits of a run as training and prediction see them


@dataclass(frozen=True)
class LabelledImages:
    """The images of one split and their classes: `class_index` int64 (N,), in the cache's order."""

    split: str
    cache: ImageCache
    class_index: np.ndarray

    def class_counts(self) -> np.ndarray:
        """Galaxies per class, int64 (8,)."""
        return np.bincount(self.class_index, minlength=CLASS_COUNT)

    def signature(self) -> str:
        """A digest of ids, classes, pixels and crop: what a training on them is identified by."""
        known = {key: self.cache.record.get(key) for key in ("source", "image_px", "crop_px")}
        words = [list(self.cache.galaxy_ids), self.class_index.tolist(), known]
        return hashlib.sha256(json.dumps(words).encode()).hexdigest()


def open_split(results_dir: Path | str, split: str) -> LabelledImages:
    """One split (train, valid or test) of a results folder; `Gz2vitError` names the step to run."""
    selection = catalog.read_selection(results_dir)
    table = selection.tables[split]
    target = Path(results_dir) / "store" / split
    ids, source = table.galaxyID.tolist(), selection.data["pixels"].get(split)
    return LabelledImages(split, open_cache(target, ids, source=source), table.label1.to_numpy())


def pack_selection(results_dir: Path | str, crop_px: int) -> None:
    """Pack the images of a results folder's selection into `store/<split>`, or continue that.

    Raises `Gz2vitError` for images that have changed since the selection and, at the end, for those
    that cannot be decoded, all listed in `logs/broken_images.csv`.
    """
    results, selection, rows = Path(results_dir), catalog.read_selection(results_dir), []
    digests = catalog.split_digests(results, selection, selection.tables)
    if digests != selection.data["pixels"]:
        words = f"{results / 'selection'} is of other images than {selection.path} holds now"
        raise Gz2vitError(f"{words}; run {command_for(results.resolve() / 'selection', 'select')}")
    for split, table in selection.tables.items():
        ids, paths = table.galaxyID.tolist(), table.galaxyID.map(selection.image_path).tolist()
        target = results / "store" / split
        faults = fill_cache(paths, ids, target, crop_px, digests[split])
        rows += [(ids[row], split, str(paths[row]), fault) for row, fault in faults]
    if rows:
        broken = pd.DataFrame(rows, columns=BROKEN_COLUMNS)
        known = pd.concat([read_broken(results), broken]).drop_duplicates("galaxyID", keep="last")
        _write_broken(results, catalog.read_data_folder(selection.path), known)
        if not (results / "selection" / "left_out.csv").exists():
            _refuse(broken, results, LEAVE_OUT)
        (results / "selection" / "data.json").unlink()  # so that galaxies are selected again
        _refuse(broken, results, "run the same command again, which leaves them out too")


# ---- Which pixels of a galaxy's image are the galaxy: its own light decides.


def segment_galaxy(light: np.ndarray) -> np.ndarray:
    """The pixels of the galaxy in the middle of an image `light` (H, W), bool (H, W).

    Smoothed, more than 4 times the noise above the sky, and connected with the centre, or with the
    nearest such pixel within an eighth of the side, if any. Sky and noise: clipped medians of the
    border, which in the central 224 of 424 px lies at some 2.2 R90. A neighbour that touches the
    galaxy is counted with it.
    """
    side = min(light.shape)
    smooth = ndimage.gaussian_filter(light.astype(np.float64), 1 / 224 * side)
    width = max(1, round(side / 16))
    frame = np.ones(light.shape, dtype=bool)
    frame[width:-width, width:-width] = False
    values = smooth[frame]
    for _ in range(5):  # without the frame's pixels that have neighbours' light
        sky = np.median(values)
        noise = 1.4826 * np.median(np.abs(values - sky))
        kept = values[np.abs(values - sky) <= 3 * noise]
        if len(kept) in (0, len(values)):
            break
        values = kept
    # strictly brighter: in a plane without noise nothing is
    labels, _ = ndimage.label(smooth > sky + max(4 * noise, 1e-9))
    y, x = np.indices(light.shape)
    from_centre = np.hypot(y - (light.shape[0] - 1) / 2, x - (light.shape[1] - 1) / 2)
    from_centre[labels == 0] = np.inf
    nearest = np.unravel_index(from_centre.argmin(), light.shape)
    if from_centre[nearest] > max(side / 8, 1.0):
        return np.zeros(light.shape, dtype=bool)
    return ndimage.binary_fill_holes(labels == labels[nearest])
