"""Batches for training and prediction: read from the store, shrunk, augmented, as tensors.

Order and augmentation of epoch e come from a generator seeded with (seed, e) alone, so that any
epoch can be drawn again without its past, and by several devices, each of which takes its share of
every batch.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch

from gz2vit.data.augmentation import affine_matrices, draw, shrink, warp
from gz2vit.data.store import ImageStore

NO_CLASS = -100  # what torch's cross-entropy passes over


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
    """What a batch is to be made of.

    `rows`, `class_index`: int64 (B,); `whole`: int64 (A,); `matrices`: float64 (B, 2, 3) as
    `augmentation.affine_matrices` makes them, or None.
    """

    rows: np.ndarray
    class_index: np.ndarray
    whole: np.ndarray
    matrices: np.ndarray | None


@dataclass(frozen=True)
class Batches:
    """An iterable over `Batch`es, made on the CPU.

    With `augment` the order and the augmentations are those of (`seed`, `epoch`); without, the
    order is the store's and nothing is drawn. `share` (r, n): the r-th of n devices, from 0 on.
    """

    store: ImageStore
    class_index: np.ndarray
    image_size: int
    batch_size: int
    augment: bool = False
    seed: int = 0
    epoch: int = 0
    share: tuple[int, int] = (0, 1)

    def __len__(self) -> int:
        """Batches in one pass, the last, smaller one included."""
        return -(-len(self.store) // self.batch_size)

    def plan(self) -> Iterator[Order]:
        """What each batch of the pass is made of, drawn as it is asked for."""
        rng = np.random.default_rng([self.seed, self.epoch])
        count = len(self.store)
        order = rng.permutation(count) if self.augment else np.arange(count)
        for start in range(0, count, self.batch_size):
            rows = order[start : start + self.batch_size]
            matrices = None
            if self.augment:
                matrices = affine_matrices(draw(rng, len(rows), self.image_size))
            yield self._own_share(rows, matrices)

    def _own_share(self, rows: np.ndarray, matrices: np.ndarray | None) -> Order:
        """This device's part of a batch; where there is none, one image that does not count."""
        whole = self.class_index[rows]
        rank, devices = self.share
        own = slice(rank, None, devices) if rank < len(rows) else slice(0, 1)
        classes = whole[own] if rank < len(rows) else np.full(1, NO_CLASS)
        return Order(rows[own], classes, whole, None if matrices is None else matrices[own])

    def __iter__(self) -> Iterator[Batch]:
        # Between the steps, by all threads, rather than by one that works ahead beside them: where
        # all cores compute, it would hold up one, for which the others wait (3 % slower on two).
        cv2.setNumThreads(1)  # an image is too small a piece of work for several
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for order in self.plan():
                yield self._make(order, pool)

    def _make(self, order: Order, pool: ThreadPoolExecutor) -> Batch:
        """One batch: read from the store, shrunk, augmented, turned into tensors."""
        count = len(order.rows)
        images = np.empty((count, self.image_size, self.image_size, 3), dtype=np.uint8)
        size = -(-count // torch.get_num_threads())
        shares = [slice(start, start + size) for start in range(0, count, size)]
        list(pool.map(lambda share: self._fill(images[share], order, share), shares))
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
        return Batch(pixels, torch.from_numpy(order.class_index), torch.from_numpy(order.whole))

    def _fill(self, images: np.ndarray, order: Order, share: slice) -> None:
        """Put a batch's images of `share`, as the network gets them, into `images`."""
        found = shrink(self.store.read(order.rows[share]), self.image_size)
        if order.matrices is None:
            images[:] = found
        else:
            warp(found, order.matrices[share], images)
