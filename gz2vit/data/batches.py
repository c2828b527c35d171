"""Batches for training and prediction: read from the store, shrunk, augmented, as tensors.

Order and augmentation of epoch e come from a generator seeded with (seed, e) alone, so that any
epoch can be drawn again without its past. One thread prepares the next batch while the current
one is computed.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from gz2vit.data.augmentation import affine_matrices, draw, shrink, warp
from gz2vit.data.store import ImageStore

Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Batches:
    """An iterable over (images, class_index): uint8 (B, 3, H, W) and int64 (B,).

    With `augment` the order and the augmentations are those of (`seed`, `epoch`); without, the
    order is the store's and nothing is drawn.
    """

    store: ImageStore
    class_index: np.ndarray
    image_size: int
    batch_size: int
    augment: bool = False
    seed: int = 0
    epoch: int = 0

    def __len__(self) -> int:
        """Batches in one pass, the last, smaller one included."""
        return -(-len(self.store) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        rng = np.random.default_rng([self.seed, self.epoch])
        count = len(self.store)
        order = rng.permutation(count) if self.augment else np.arange(count)
        chunks = [order[i : i + self.batch_size] for i in range(0, count, self.batch_size)]
        # A single worker: it draws from `rng` batch by batch, always in the same order.
        with ThreadPoolExecutor(1) as worker:
            ahead = worker.submit(self._make, chunks[0], rng)
            for chunk in chunks[1:]:
                batch, ahead = ahead.result(), worker.submit(self._make, chunk, rng)
                yield batch
            yield ahead.result()

    def _make(self, rows: np.ndarray, rng: np.random.Generator) -> Batch:
        """One batch: read `rows` from the store, shrink, augment, and turn into tensors."""
        images = shrink(self.store.images[rows], self.image_size)  # (B, H, W, 3)
        if self.augment:
            images = warp(images, affine_matrices(draw(rng, len(rows), self.image_size)))
        pixels = torch.from_numpy(np.ascontiguousarray(images))
        return pixels.permute(0, 3, 1, 2), torch.from_numpy(self.class_index[rows])
