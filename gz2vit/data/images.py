"""JPEG files of galaxies: finding broken ones before any work, decoding and centre-cropping.

The paper's images are 424 x 424 px, of which the central 224 x 224 px are used
(`torchvision.transforms.CenterCrop(224)` in the authors' notebooks).
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from gz2vit.catalog import DataFolder, folder_signature
from gz2vit.errors import Gz2vitError
from gz2vit.paper import CROP_PX, IMAGE_PX
from gz2vit.results import read_json, write_json

JPEG_END = b"\xff\xd9"
TAIL_BYTES = 64  # some writers pad the file behind its end marker
THREADS = 8  # Pillow and file reads release the interpreter's lock


def check_images(paths: Iterable[Path], image_px: int = IMAGE_PX) -> None:
    """Check that every file is a whole JPEG of `image_px` x `image_px`, without decoding it.

    Raises one `Gz2vitError` that names the first bad file and counts the others. A file whose end
    marker is missing is decoded, to be sure.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        faults = [fault for fault in pool.map(lambda path: _fault(path, image_px), paths) if fault]
    if faults:
        others = f" (and {len(faults) - 1} more files have faults)" if len(faults) > 1 else ""
        raise Gz2vitError(f"{faults[0]}{others}; mend the data folder and run again")


def check_folder(folder: DataFolder, results_dir: Path | str | None = None) -> str:
    """Check all images of a data folder; its signature (`catalog.folder_signature`).

    A results folder remembers, in `logs/checked.json`, the state that was found in order, so that
    the road and its notebooks read the images once. Raises `Gz2vitError` as `check_images`.
    """
    state = {"folder": str(folder.path), "signature": folder_signature(folder.path)}
    record = Path(results_dir) / "logs" / "checked.json" if results_dir is not None else None
    if record is None or not record.exists() or read_json(record) != state:
        tables = folder.tables.values()
        check_images([folder.image_path(name) for table in tables for name in table.galaxyID])
        if record is not None:
            write_json(record, state)
    return state["signature"]


def _fault(path: Path, image_px: int) -> str | None:
    """What is wrong with one image file, or None."""
    try:
        with Image.open(path) as image:
            if image.size != (image_px, image_px):
                wide, high = image.size
                return f"image {path} is {wide} x {high} px instead of {image_px} x {image_px}"
            with path.open("rb") as stream:
                stream.seek(-min(TAIL_BYTES, path.stat().st_size), 2)
                if JPEG_END not in stream.read():
                    image.load()
    except FileNotFoundError:
        return f"image {path} is missing"
    except UnidentifiedImageError:
        return f"image {path} is not an image that can be read"
    except OSError as error:
        return f"image {path} is broken or truncated ({error})"
    return None


def read_image(path: Path, crop_px: int | None = None) -> np.ndarray:
    """Decode one image: uint8 (H, W, 3), its central `crop_px` x `crop_px` if given.

    Raises `Gz2vitError` for a file that is missing, truncated or smaller than the crop.
    """
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise Gz2vitError(f"cannot read image {path}: {error}") from error
    return pixels if crop_px is None else centre_crop(pixels, crop_px, path)


def centre_crop(pixels: np.ndarray, crop_px: int = CROP_PX, path: Path | None = None) -> np.ndarray:
    """The central `crop_px` x `crop_px` of (H, W, 3), as torchvision's CenterCrop takes it."""
    height, width = pixels.shape[:2]
    if min(height, width) < crop_px:
        raise Gz2vitError(f"image {path} is {width} x {height} px, smaller than {crop_px} px")
    top, left = round((height - crop_px) / 2.0), round((width - crop_px) / 2.0)
    return pixels[top : top + crop_px, left : left + crop_px]
