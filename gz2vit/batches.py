"""Batches for training and prediction: order, the paper's augmentation, tensors on the device.

Training images pass, after the centre crop, RandomRotation(90), both flips with probability 1/2,
and RandomResizedCrop(scale=(0.8, 1), ratio=(0.99, 1.01)) (the authors' notebooks). All four are
affine maps, so their product is one 2 x 3 matrix per image, which OpenCV applies on the CPU and
torch on a GPU. Order and augmentation of an epoch follow from (seed, epoch) alone, so that any
epoch can be drawn again without its past, and by each of several devices.

DEVIATION: one bilinear interpolation instead of nearest-neighbour rotation and bilinear resizing;
the drawn geometry has the same distribution (tests compare with torchvision on the same draws).
"""

from collections import deque, namedtuple
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
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


class Draws(NamedTuple):
    """What was drawn for a batch of B images."""

    size_px: int  # side of the images
    angle_deg: np.ndarray  # (B,), counter-clockwise, in [-90, 90]
    flip_horizontal: np.ndarray  # (B,) bool
    flip_vertical: np.ndarray
    crop_px: np.ndarray  # (B, 4) int: top, left, height, width after rotation and flips


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
    chosen, none = (np.arange(count), fits.argmax(axis=1)), ~fits.any(axis=1)
    # Where none fits, torchvision takes the whole image, whose ratio of 1 is within bounds.
    width, height = (np.where(none, size_px, s[chosen]).astype(int) for s in (width, height))
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
    shift_x, shift_y = left + scale_x / 2 - 0.5 - centre, top + scale_y / 2 - 0.5 - centre
    # Rotation counter-clockwise as seen, with y down: x_in = x cos - y sin, y_in = x sin + y cos;
    # a flip changes the sign of x or y before.
    angle = np.deg2rad(draws.angle_deg)
    sign_x, sign_y = 1.0 - 2.0 * draws.flip_horizontal, 1.0 - 2.0 * draws.flip_vertical
    cos, sin = np.cos(angle), np.sin(angle)
    rows = (cos * sign_x, -sin * sign_y), (sin * sign_x, cos * sign_y)
    made = [[x * scale_x, y * scale_y, x * shift_x + y * shift_y + centre] for x, y in rows]
    return np.moveaxis(np.array(made), 2, 0).copy()


def warp(images: np.ndarray, matrices: np.ndarray, warped: np.ndarray | None = None) -> np.ndarray:
    """`matrices` (B, 2, 3) applied to uint8 images (B, H, W, 3): bilinear, black outside."""
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
    size = (image_size, image_size)
    if images.shape[1:3] == size:
        return images
    return np.stack([cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images])


class Batch(NamedTuple):
    """A batch, or one device's share of it."""

    images: torch.Tensor  # (B, 3, H, W), 0 to 255: uint8, or float32 where a GPU augmented them
    class_index: torch.Tensor  # int64 (B,), `NO_CLASS` for an image that only fills up
    whole: torch.Tensor  # int64 (A,), the classes of the whole batch of which this is the share


# What a batch is made of: `rows`, int64 (B,), `matrices` (B, 2, 3) or None; the rest as in `Batch`
Order = namedtuple("Order", "rows class_index whole matrices")


@dataclass(eq=False)
class Batches:
    """An iterable over `Batch`es.

    With `augment` the order and the augmentations are those of (`seed`, `epoch`); without, the
    order is the cache's and nothing is drawn. `share` (r, n): device r of n, counted from 0. They
    are made on the CPU, or on `device`: from a split's `images` there, as `load_images` puts them,
    or else from those that threads read ahead into pinned memory.
    """

    cache: ImageCache
    class_index: np.ndarray
    image_size: int
    batch_size: int
    augment: bool = False
    seed: int = 0
    epoch: int = 0
    share: tuple[int, int] = (0, 1)
    device: torch.device | None = None
    images: torch.Tensor | None = None

    def __len__(self) -> int:
        """Batches in one pass, the last, smaller one included."""
        return len(self._starts())

    def _starts(self) -> list[int]:
        """Where each batch begins in the order."""
        starts = list(range(0, count := len(self.cache), self.batch_size))
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
        return self._on_cpu() if self.device is None else self._on_device()

    def _read(self, rows: np.ndarray) -> np.ndarray:
        return shrink(self.cache.read(rows), self.image_size)

    def _on_cpu(self) -> Iterator[Batch]:
        def fill(share: slice) -> None:
            found = self._read(order.rows[share])
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
                tensors = map(torch.from_numpy, (images, order.class_index, order.whole))
                yield Batch(next(tensors).permute(0, 3, 1, 2), *tensors)

    def _on_device(self) -> Iterator[Batch]:
        def send(array: np.ndarray) -> torch.Tensor:  # copied while the GPU computes
            tensor = torch.from_numpy(array)
            tensor = tensor.pin_memory() if self.device.type == "cuda" else tensor
            return tensor.to(self.device, non_blocking=True)

        def fetch(order: Order) -> tuple[Order, np.ndarray]:
            return order, self._read(order.rows) if self.images is None else order.rows

        for order, found in run_ahead(fetch, self.plan(), READERS, AHEAD):
            images = send(found) if self.images is None else self.images[send(found)]
            images = images.permute(0, 3, 1, 2)  # (B, H, W, 3) -> (B, 3, H, W)
            if order.matrices is not None:
                images = warp_on_device(images, send(order.matrices.astype(np.float32)))
            yield Batch(images, send(order.class_index), send(order.whole))


def run_ahead(function: Callable, items: Iterable, threads: int, ahead: int) -> Iterator:
    """`function` of each item, in order; threads are at most `ahead` items ahead."""
    items, waiting = iter(items), deque()
    with ThreadPoolExecutor(threads) as pool:
        while True:
            new = islice(items, ahead - len(waiting))
            waiting.extend(pool.submit(function, one) for one in new)
            if not waiting:
                return
            yield waiting.popleft().result()


def warp_on_device(images: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
    """`warp` for tensors: (B, 3, H, W) and (B, 2, 3) to float32 (B, 3, H, W), not rounded."""
    height, width = images.shape[2:]
    # torch counts -1 to 1 between the centres of the first and the last pixel: x = s (u + 1) with
    # s = (width - 1) / 2, so that (x, y, 1) = to_pixels (u, v, 1).
    half = torch.tensor([(width - 1) / 2, (height - 1) / 2], device=images.device)
    to_pixels = torch.diag(torch.cat([half, half.new_ones(1)]))
    to_pixels[:2, 2] = half
    theta = (matrices @ to_pixels) / half[:, None]  # (B, 2, 3): from (u, v) to input pixels
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
    size = sum(counts) * 3 * image_size**2
    return device.type == "cuda" and size <= MEMORY_SHARE * torch.cuda.mem_get_info(device)[0]
