"""Batches for training and prediction: order, the paper's augmentation, tensors on the device.

Training images pass, after the centre crop, RandomRotation(90), both flips with probability 1/2,
and RandomResizedCrop(scale=(0.8, 1), ratio=(0.99, 1.01)) (the authors' notebooks). All four are
affine maps, so their product is one 2 x 3 matrix per image, which OpenCV applies on the CPU and
torch on a GPU. Order and augmentation of an epoch come from a generator seeded with (seed, epoch)
alone, so that any epoch can be drawn again without its past, and by each of several devices.

DEVIATION: one bilinear interpolation instead of nearest-neighbour rotation and bilinear resizing;
the drawn geometry has the same distribution (tests compare with torchvision on the same draws).
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.nn import functional

from gz2vit.images import ImageCache
from gz2vit.paper import CROP_RATIO, CROP_SCALE, ROTATION_DEG

CROP_ATTEMPTS = 10  # torchvision's RandomResizedCrop tries ten times before it takes the whole
NO_CLASS = -100  # what torch's cross-entropy passes over
READERS = 4  # threads that read ahead; one reads some 8,000 images of 224 px a second from memory
AHEAD = 8  # batches read ahead: at 64 images of 224 px, 77 MB of pinned memory
CHUNK = 1024  # images copied to the GPU at once while a split is loaded: 154 MB at 224 px
MEMORY_SHARE = 0.6  # of the GPU's free memory, that images may take; the rest is for the network


# ---- The augmentation, a whole batch at once


@dataclass(frozen=True)
class Draws:
    """What was drawn for a batch of B images of `size_px` x `size_px`.

    `angle_deg` (B,) counter-clockwise, in [-90, 90]; `flip_horizontal`, `flip_vertical` (B,) bool;
    `crop_px` (B, 4) int: top, left, height, width of the crop after rotation and flips.
    """

    size_px: int
    angle_deg: np.ndarray
    flip_horizontal: np.ndarray
    flip_vertical: np.ndarray
    crop_px: np.ndarray


def draw(rng: np.random.Generator, count: int, size_px: int) -> Draws:
    """Draw the augmentation of `count` images, with torchvision's distributions."""
    angle_deg = rng.uniform(-ROTATION_DEG, ROTATION_DEG, count)
    flip_horizontal = rng.random(count) < 0.5
    flip_vertical = rng.random(count) < 0.5
    # As RandomResizedCrop.get_params: the first of ten crops that fits in the image.
    shape = (count, CROP_ATTEMPTS)
    area = size_px**2 * rng.uniform(*CROP_SCALE, shape)
    ratio = np.exp(rng.uniform(*np.log(CROP_RATIO), shape))
    width, height = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
    fits = (width <= size_px) & (height <= size_px)
    rows, first = np.arange(count), fits.argmax(axis=1)
    # Where none fits, torchvision takes the whole image, whose ratio of 1 is within bounds.
    none = ~fits.any(axis=1)
    width = np.where(none, size_px, width[rows, first]).astype(np.int64)
    height = np.where(none, size_px, height[rows, first]).astype(np.int64)
    top = rng.integers(0, size_px - height + 1)
    left = rng.integers(0, size_px - width + 1)
    crop_px = np.stack([top, left, height, width], axis=1)
    return Draws(size_px, angle_deg, flip_horizontal, flip_vertical, crop_px)


def affine_matrices(draws: Draws) -> np.ndarray:
    """Matrices (B, 2, 3), float64, that take an output pixel (x, y, 1) to its input pixel.

    Coordinates count from the centre of the first pixel, x to the right and y down. Read from the
    output backwards: undo the resized crop, undo the flips, undo the rotation about the centre.
    """
    top, left, height, width = draws.crop_px.T.astype(np.float64)
    size, centre = draws.size_px, (draws.size_px - 1) / 2
    # Resized crop: x_rotated = left + (x + 1/2) width / size - 1/2, then measured from the centre.
    scale_x, scale_y = width / size, height / size
    shift_x = left + scale_x / 2 - 0.5 - centre
    shift_y = top + scale_y / 2 - 0.5 - centre
    # Rotation counter-clockwise as seen, with y down: x_in = x cos - y sin, y_in = x sin + y cos;
    # a flip changes the sign of x or y before.
    angle = np.deg2rad(draws.angle_deg)
    sign_x = np.where(draws.flip_horizontal, -1.0, 1.0)
    sign_y = np.where(draws.flip_vertical, -1.0, 1.0)
    x_by_x, x_by_y = np.cos(angle) * sign_x, -np.sin(angle) * sign_y
    y_by_x, y_by_y = np.sin(angle) * sign_x, np.cos(angle) * sign_y
    matrices = np.empty((len(angle), 2, 3))
    matrices[:, 0, 0], matrices[:, 0, 1] = x_by_x * scale_x, x_by_y * scale_y
    matrices[:, 1, 0], matrices[:, 1, 1] = y_by_x * scale_x, y_by_y * scale_y
    matrices[:, 0, 2] = x_by_x * shift_x + x_by_y * shift_y + centre
    matrices[:, 1, 2] = y_by_x * shift_x + y_by_y * shift_y + centre
    return matrices


def warp(images: np.ndarray, matrices: np.ndarray, warped: np.ndarray | None = None) -> np.ndarray:
    """Apply `matrices` (B, 2, 3) to uint8 images (B, H, W, 3), bilinearly, black outside.

    The result is written into `warped`, uint8 (B, H, W, 3), where that is given.
    """
    height, width = images.shape[1:3]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = np.empty_like(images) if warped is None else warped
    # With a fourth channel OpenCV takes another code path: the same bits, three times as fast.
    four, turned = np.empty((2, height, width, 4), dtype=np.uint8)
    for image, matrix, target in zip(images, matrices, warped, strict=True):
        cv2.cvtColor(image, cv2.COLOR_RGB2RGBA, dst=four)
        cv2.warpAffine(four, matrix, (width, height), dst=turned, flags=flags)
        cv2.cvtColor(turned, cv2.COLOR_RGBA2RGB, dst=target)
    return warped


def shrink(images: np.ndarray, image_size: int) -> np.ndarray:
    """Average uint8 images (B, H, W, 3) over areas to `image_size` px; the field of view stays."""
    if images.shape[1:3] == (image_size, image_size):
        return images
    size = (image_size, image_size)
    return np.stack([cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images])


# ---- Batches made on the CPU


class Batch(NamedTuple):
    """A batch, or one device's share of it.

    `images`: (B, 3, H, W), 0 to 255, uint8, or float32 where a GPU augmented them; `class_index`:
    int64 (B,), `NO_CLASS` for an image that only fills up; `whole`: int64 (A,), the classes of the
    whole batch of which this is the share.
    """

    images: torch.Tensor
    class_index: torch.Tensor
    whole: torch.Tensor


class Order(NamedTuple):
    """What a batch is made of: `rows`, int64 (B,), `matrices` (B, 2, 3); the rest as in `Batch`."""

    rows: np.ndarray
    class_index: np.ndarray
    whole: np.ndarray
    matrices: np.ndarray | None


@dataclass(frozen=True)
class Batches:
    """An iterable over `Batch`es, made on the CPU.

    With `augment` the order and the augmentations are those of (`seed`, `epoch`); without, the
    order is the cache's and nothing is drawn. `share` (r, n): device r of n, counted from 0.
    """

    cache: ImageCache
    class_index: np.ndarray
    image_size: int
    batch_size: int
    augment: bool = False
    seed: int = 0
    epoch: int = 0
    share: tuple[int, int] = (0, 1)

    def __len__(self) -> int:
        """Batches in one pass, the last, smaller one included."""
        return len(self._starts())

    def _starts(self) -> list[int]:
        """Where each batch begins in the order."""
        count = len(self.cache)
        starts = list(range(0, count, self.batch_size))
        if self.augment and 1 < self.batch_size < count and count - starts[-1] == 1:
            starts.pop()  # batch normalisation cannot learn from one image: it joins the others
        return starts

    def plan(self) -> Iterator[Order]:
        """What each batch of the pass is made of, drawn as it is asked for."""
        rng = np.random.default_rng([self.seed, self.epoch])
        count, (rank, devices) = len(self.cache), self.share
        order = rng.permutation(count) if self.augment else np.arange(count)
        for rows in np.split(order, self._starts()[1:]):
            whole, own, matrices = self.class_index[rows], slice(rank, None, devices), None
            classes = whole[own]
            if not len(classes):  # nothing left for this device: one image that does not count
                own, classes = slice(0, 1), np.full(1, NO_CLASS)
            if self.augment:
                matrices = affine_matrices(draw(rng, len(rows), self.image_size))[own]
            yield Order(rows[own], classes, whole, matrices)

    def __iter__(self) -> Iterator[Batch]:
        def fill(share: slice) -> None:
            found = shrink(self.cache.read(order.rows[share]), self.image_size)
            if order.matrices is None:
                images[share] = found
            else:
                warp(found, order.matrices[share], images[share])

        # Between the steps, by all threads, rather than by one that works ahead beside them: where
        # all cores compute, it would hold up one, for which the others wait (3 % slower on two).
        cv2.setNumThreads(1)  # an image is too small a piece of work for several
        threads = torch.get_num_threads()
        with ThreadPoolExecutor(threads) as pool:
            for order in self.plan():
                count = len(order.rows)
                images = np.empty((count, self.image_size, self.image_size, 3), dtype=np.uint8)
                size = -(-count // threads)
                list(pool.map(fill, [slice(at, at + size) for at in range(0, count, size)]))
                yield Batch(
                    torch.from_numpy(images).permute(0, 3, 1, 2),
                    torch.from_numpy(order.class_index),
                    torch.from_numpy(order.whole),
                )


# ---- Batches made on a GPU
#
# A GPU whose memory holds a split keeps it as uint8, and each batch is a selection of its rows;
# otherwise threads read batches ahead into pinned memory.


@dataclass(frozen=True)
class DeviceBatches:
    """`batches` (the same order, draws and shares), made on `device`.

    `images`: the split's images there, as `load_images` puts them, or None to stream them.
    """

    batches: Batches
    device: torch.device
    images: torch.Tensor | None = None

    def __len__(self) -> int:
        """Batches in one pass."""
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        def fetch(order: Order) -> tuple[Order, torch.Tensor]:
            if self.images is not None:
                return order, torch.from_numpy(order.rows)
            pixels = shrink(self.batches.cache.read(order.rows), self.batches.image_size)
            return order, torch.from_numpy(pixels)

        with ThreadPoolExecutor(1 if self.images is not None else READERS) as pool:
            waiting: deque[Future] = deque()
            for order in self.batches.plan():
                waiting.append(pool.submit(fetch, order))
                if len(waiting) > AHEAD:
                    yield self._make(*waiting.popleft().result())
            while waiting:
                yield self._make(*waiting.popleft().result())

    def _make(self, order: Order, fetched: torch.Tensor) -> Batch:
        """One batch on the device, of its pixels or of their rows in `images`."""

        def send(tensor: torch.Tensor) -> torch.Tensor:  # copied while the GPU computes
            tensor = tensor.pin_memory() if self.device.type == "cuda" else tensor
            return tensor.to(self.device, non_blocking=True)

        images = send(fetched) if self.images is None else self.images[send(fetched)]
        images = images.permute(0, 3, 1, 2)  # (B, H, W, 3) -> (B, 3, H, W)
        if order.matrices is not None:
            matrices = send(torch.from_numpy(order.matrices.astype(np.float32)))
            images = warp_on_device(images, matrices)
        classes = (send(torch.from_numpy(part)) for part in (order.class_index, order.whole))
        return Batch(images, *classes)


def warp_on_device(images: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
    """`warp` for tensors: (B, 3, H, W) and (B, 2, 3) to float32 (B, 3, H, W).

    Bilinear, black outside. Values are not rounded to whole grey levels as on the CPU.
    """
    height, width = images.shape[2:]
    # torch counts -1 to 1 between the centres of the first and the last pixel: x = s (u + 1) with
    # s = (width - 1) / 2, so that (x, y, 1) = to_pixels (u, v, 1).
    half = torch.tensor([(width - 1) / 2, (height - 1) / 2], device=images.device)
    to_pixels = torch.diag(torch.cat([half, half.new_ones(1)]))
    to_pixels[:2, 2] = half
    theta = matrices @ to_pixels  # (B, 2, 3): from (u, v) to input pixels, then to -1 to 1
    theta = theta / half[:, None]
    theta[:, :, 2] -= 1.0
    grid = functional.affine_grid(theta, list(images.shape), align_corners=True)
    return functional.grid_sample(images.float(), grid, align_corners=True)


def load_images(cache: ImageCache, image_size: int, device: torch.device) -> torch.Tensor:
    """All images of a cache on a device, uint8 (N, H, W, 3), shrunk to `image_size` px."""
    shape = (len(cache), image_size, image_size, 3)
    images = torch.empty(shape, dtype=torch.uint8, device=device)
    for start in range(0, len(cache), CHUNK):
        rows = np.arange(start, min(start + CHUNK, len(cache)))
        images[start : start + CHUNK] = torch.from_numpy(shrink(cache.read(rows), image_size))
    return images


def fits_on_device(counts: list[int], image_size: int, device: torch.device) -> bool:
    """Whether splits of `counts` galaxies leave room for the network in a GPU's free memory."""
    if device.type != "cuda":
        return False
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return sum(counts) * 3 * image_size**2 <= MEMORY_SHARE * free_bytes
