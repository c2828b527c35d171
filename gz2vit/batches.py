"""Batches for training and prediction: order, the paper's augmentation, tensors on the device.

Training images pass, after the centre crop, RandomRotation(90), both flips with probability 1/2,
and RandomResizedCrop(scale=(0.8, 1), ratio=(0.99, 1.01)) (the authors' notebooks). All four are
affine maps, so their product is one 2 x 3 matrix per image, which OpenCV applies on the CPU and
torch on a GPU. DEVIATION: one bilinear interpolation instead of nearest-neighbour rotation and
bilinear resizing; the drawn geometry has the same distribution.
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
    """What was drawn for a batch of B images of `size_px` px."""

    size_px: int
    angle_deg: np.ndarray  # (B,), counter-clockwise, in [-90, 90]
    flip_horizontal: np.ndarray  # (B,) bool
    flip_vertical: np.ndarray
    crop_px: np.ndarray  # (B, 4) int: top, left, height, width after rotation and flips


def draw(rng: np.random.Generator, count: int, size_px: int) -> Draws:
    """Draw the augmentation of `count` images, with torchvision's distributions."""
    angle_deg = rng.uniform(-ROTATION_DEG, ROTATION_DEG, count)
    flip_horizontal, flip_vertical = (rng.random(count) < 0.5 for _ in range(2))
    # As RandomResizedCrop.get_params: the first of ten crops that fits in the image.
    shape = (count, CROP_ATTEMPTS)
    area = size_px**2 * rng.uniform(*CROP_SCALE, shape)
    ratio = np.exp(rng.uniform(*np.log(CROP_RATIO), shape))
    width, height = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
    fits = (width <= size_px) & (height <= size_px)
    chosen, none = (np.arange(count), fits.argmax(axis=1)), ~fits.any(axis=1)
    # Where none fits, torchvision takes the whole image, whose ratio of 1 is within bounds.
    width, height = (np.where(none, size_px, s[chosen]).astype(int) for s in (width, height))
    top, left = (rng.integers(0, size_px - side + 1) for side in (height, width))
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


def warp_on_device(images: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
    """`warp` for tensors: (B, 3, H, W) and (B, 2, 3) to float32 (B, 3, H, W), not rounded."""
    height, width = images.shape[2:]
    x = torch.arange(width, dtype=torch.float32, device=images.device)
    y = torch.arange(height, dtype=torch.float32, device=images.device)[:, None]
    # Sums, no product of matrices: autocast would round that to half precision.
    m = matrices.float()[..., None, None]  # (B, 2, 3, 1, 1)
    x_in, y_in = (m[:, row, 0] * x + m[:, row, 1] * y + m[:, row, 2] for row in (0, 1))
    # torch counts -1 to 1 between the centres of the first and the last pixel
    grid = torch.stack([x_in * (2 / (width - 1)) - 1, y_in * (2 / (height - 1)) - 1], dim=-1)
    return functional.grid_sample(images.float(), grid, align_corners=True)


def shrink(images: np.ndarray, image_size: int) -> np.ndarray:
    """Average uint8 images (B, H, W, 3) over areas to `image_size` px; the field of view stays."""
    size = (image_size, image_size)
    if images.shape[1:3] == size:
        return images
    return np.stack([cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images])


class Batch(NamedTuple):
    """A batch, or one device's share of it."""

    images: torch.Tensor  # uint8 (B, 3, H, W)
    class_index: torch.Tensor  # int64 (B,), `NO_CLASS` for an image that only fills up
    whole: torch.Tensor  # int64 (A,), the classes of the whole batch of which this is the share
    matrices: torch.Tensor | None = None  # (B, 2, 3), where augmenting is left to the device


# What a batch is made of: `rows` of the image cache, int64 (B,); the rest as in `Batch`
Order = namedtuple("Order", "rows class_index whole matrices")


@dataclass(eq=False)
class Batches:
    """An iterable over `Batch`es.

    With `augment` order and augmentations follow from (`seed`, `epoch`) alone, without the past;
    else the order is the cache's. `share` (r, n): device r of n, counted from 0. They are made on
    the CPU, or on `device`: from a split's `images` there, as `load_images` puts them, or else
    from those that threads read ahead into pinned memory.
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
        batches, left = divmod(count := len(self.cache), self.batch_size)
        # Batch normalisation cannot learn from one image: it joins the others.
        joins = self.augment and left == 1 < self.batch_size < count
        return batches + (left > 0 and not joins)

    def plan(self) -> Iterator[Order]:
        """What each batch of the pass is made of; all is drawn with the first."""
        rng, count = np.random.default_rng([self.seed, self.epoch]), len(self.cache)
        order = rng.permutation(count) if self.augment else np.arange(count)
        rank, devices = self.share
        cuts = self.batch_size * np.arange(1, len(self))
        parts, matrices = np.split(order, cuts), [None] * len(self)
        if self.augment:
            drawn = [draw(rng, len(rows), self.image_size)[1:] for rows in parts]
            draws = Draws(self.image_size, *map(np.concatenate, zip(*drawn, strict=True)))
            matrices = np.split(affine_matrices(draws), cuts)
        for rows, turned in zip(parts, matrices, strict=True):
            whole, own = self.class_index[rows], slice(rank, None, devices)
            classes = whole[own]
            if not len(classes):  # nothing left for this device: one image that does not count
                own, classes = slice(0, 1), np.full(1, NO_CLASS)
            yield Order(rows[own], classes, whole, turned[own] if self.augment else None)

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
                shape = (count := len(order.rows), self.image_size, self.image_size, 3)
                images, size = np.empty(shape, dtype=np.uint8), -(-count // threads)
                list(pool.map(fill, [slice(at, at + size) for at in range(0, count, size)]))
                tensors = map(torch.from_numpy, (images, order.class_index, order.whole))
                yield Batch(next(tensors).permute(0, 3, 1, 2), *tensors)

    def _on_device(self) -> Iterator[Batch]:
        def pinned(array: np.ndarray) -> torch.Tensor:
            tensor = torch.from_numpy(array)  # pinned, it is copied while the GPU computes
            return tensor.pin_memory() if self.device.type == "cuda" else tensor

        def send(parts: Iterable[np.ndarray]) -> tuple[torch.Tensor, ...]:
            joined = pinned(np.concatenate(parts := list(parts)))
            return joined.to(self.device, non_blocking=True).split([len(one) for one in parts])

        # Sent once; what a batch costs the CPU is then to take its images from the split.
        rows, class_index, whole, matrices = zip(*self.plan(), strict=True)
        kept = [send(class_index), send(whole)]
        kept.append(send(np.float32(one) for one in matrices) if self.augment else matrices)
        if self.images is None:
            read = run_ahead(lambda one: pinned(self._read(one)), rows, READERS, AHEAD)
            images = (one.to(self.device, non_blocking=True) for one in read)
        else:
            images = map(self.images.__getitem__, send(rows))
        for found, *rest in zip(images, *kept, strict=True):
            yield Batch(found.permute(0, 3, 1, 2), *rest)


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


def load_images(cache: ImageCache, image_size: int, device: torch.device) -> torch.Tensor:
    """All images of a cache on a device, uint8 (N, H, W, 3), shrunk to `image_size` px."""
    shape, rows = (len(cache), image_size, image_size, 3), torch.arange(len(cache)).split(CHUNK)
    images = torch.empty(shape, dtype=torch.uint8, device=device)
    for part, own in zip(images.split(CHUNK), rows, strict=True):
        part.copy_(torch.from_numpy(shrink(cache.read(own.numpy()), image_size)))
    return images


def fits_on_device(counts: list[int], image_size: int, device: torch.device) -> bool:
    """Whether splits of `counts` galaxies leave room for the network in a GPU's free memory."""
    size = sum(counts) * 3 * image_size**2
    return device.type == "cuda" and size <= MEMORY_SHARE * torch.cuda.mem_get_info(device)[0]
