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
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from gz2vit.errors import Gz2vitError

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
