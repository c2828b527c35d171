"""Images from their files into batches, decoded by threads ahead of the network.

The steps are those of the image store: decoding, the central `crop_px` x `crop_px`, averaging to
the network's size. Threads do it, because decompressing a JPEG, four fifths of the time that an
image takes, does not hold the interpreter's lock; what is in hand is bounded.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from gz2vit.data.augmentation import shrink
from gz2vit.data.decoding import ImageFault, decode
from gz2vit.paper import CROP_PX, IMAGE_PX

PIECE = 8  # images that a thread decodes at once: some 4 ms


class ImageBatch(NamedTuple):
    """Images of a batch: `paths`, `pixels` uint8 (B, H, W, 3), and what is wrong with each.

    `faults` holds None or a sentence; an image with a fault is black.
    """

    paths: list[str]
    pixels: np.ndarray
    faults: list[str | None]


@dataclass(frozen=True)
class ImageReader:
    """How files become the `image_size` x `image_size` pixels that a network sees.

    Files must be `IMAGE_PX` x `IMAGE_PX`; with `resize` they may have any size, and the largest
    central square is taken for the field of view of such an image. Their central `crop_px` x
    `crop_px` is used. `workers` threads decode.
    """

    image_size: int
    crop_px: int = CROP_PX
    resize: bool = False
    workers: int = 1

    def read(self, paths: Sequence[str]) -> ImageBatch:
        """Decode a few images, one after the other."""
        pixels = np.zeros((len(paths), self.image_size, self.image_size, 3), dtype=np.uint8)
        faults: list[str | None] = [None] * len(paths)
        for row, path in enumerate(paths):
            try:
                pixels[row] = self._pixels(path)
            except ImageFault as fault:
                faults[row] = str(fault)
        return ImageBatch(list(paths), pixels, faults)

    def _pixels(self, path: str) -> np.ndarray:
        """One image, uint8 (H, W, 3)."""
        if self.resize:
            image = decode_resized(path, self.crop_px)
        else:
            image = decode(path, self.crop_px, IMAGE_PX)
        return shrink(np.asarray(image)[None], self.image_size)[0]

    def read_ahead(self, batches: Iterable[Sequence[str]]) -> Iterator[ImageBatch]:
        """Decode batches by threads, some ahead; yield them in their order."""
        waiting: deque[list[Future[ImageBatch]]] = deque()
        pool = ThreadPoolExecutor(self.workers)
        try:
            for paths in batches:
                starts = range(0, len(paths), PIECE)
                pieces = [paths[start : start + PIECE] for start in starts]
                waiting.append([pool.submit(self.read, piece) for piece in pieces])
                # One batch for the network while another is decoded, and work for each thread.
                if sum(map(len, waiting)) > max(2 * len(pieces), 2 * self.workers):
                    yield _joined(waiting.popleft())
            while waiting:
                yield _joined(waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)


def _joined(pieces: list[Future[ImageBatch]]) -> ImageBatch:
    """The pieces of a batch as one."""
    paths, pixels, faults = zip(*(piece.result() for piece in pieces), strict=True)
    return ImageBatch(sum(paths, []), np.concatenate(pixels), sum(faults, []))


def decode_resized(path: str, crop_px: int) -> Image.Image:
    """The centre, `crop_px` wide, of an image whose central square is resampled to `IMAGE_PX`.

    Cropping and resampling (bicubic, with a wider filter where the image shrinks) are one step. An
    image of `IMAGE_PX` comes out as `decode` crops it. Raises `ImageFault`.
    """
    image = decode(path)
    side = min(image.size) * crop_px / IMAGE_PX
    left, upper = (image.width - side) / 2, (image.height - side) / 2
    box = (left, upper, left + side, upper + side)
    return image.resize((crop_px, crop_px), Image.Resampling.BICUBIC, box)
