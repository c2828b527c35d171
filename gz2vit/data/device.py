"""Batches made on a GPU: images that live there or are streamed to it, augmented all at once.

A GPU whose memory holds a split keeps it as uint8, and each batch is a selection of its rows;
otherwise threads read batches ahead into pinned memory, from which they are copied while the GPU
computes. The drawn geometry is the CPU's (`batches`); one bilinear interpolation applies it.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from gz2vit.data.augmentation import shrink
from gz2vit.data.batches import Batch, Batches, Order
from gz2vit.data.store import ImageStore

READERS = 4  # threads that read ahead; one reads some 8,000 images of 224 px a second from memory
AHEAD = 8  # batches in hand: at 64 images of 224 px, 77 MB of pinned memory
CHUNK = 1024  # images copied to the GPU at once while a split is loaded: 154 MB at 224 px
MEMORY_SHARE = 0.6  # of the GPU's free memory, that images may take; the rest is for the network


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
        with ThreadPoolExecutor(1 if self.images is not None else READERS) as pool:
            waiting: deque[Future] = deque()
            for order in self.batches.plan():
                waiting.append(pool.submit(self._fetch, order))
                if len(waiting) > AHEAD:
                    yield self._make(*waiting.popleft().result())
            while waiting:
                yield self._make(*waiting.popleft().result())

    def _fetch(self, order: Order) -> tuple[Order, torch.Tensor]:
        """The rows' numbers where the images are on the device already, otherwise their pixels."""
        if self.images is not None:
            return order, torch.from_numpy(order.rows)
        pixels = shrink(self.batches.store.read(order.rows), self.batches.image_size)
        return order, torch.from_numpy(np.ascontiguousarray(pixels))

    def _make(self, order: Order, fetched: torch.Tensor) -> Batch:
        """One batch on the device."""
        images = self._send(fetched)
        if self.images is not None:
            images = self.images[images]
        images = images.permute(0, 3, 1, 2)  # (B, H, W, 3) -> (B, 3, H, W)
        if order.matrices is not None:
            matrices = self._send(torch.from_numpy(order.matrices.astype(np.float32)))
            images = warp_on_device(images, matrices)
        classes = (self._send(torch.from_numpy(part)) for part in (order.class_index, order.whole))
        return Batch(images, *classes)

    def _send(self, tensor: torch.Tensor) -> torch.Tensor:
        """`tensor` on the device, copied while the GPU goes on with what it has."""
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)


def warp_on_device(images: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
    """`augmentation.warp` for tensors: (B, 3, H, W) and (B, 2, 3) to float32 (B, 3, H, W).

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


def load_images(store: ImageStore, image_size: int, device: torch.device) -> torch.Tensor:
    """All images of a store on a device, uint8 (N, H, W, 3), shrunk to `image_size` px."""
    shape = (len(store), image_size, image_size, 3)
    images = torch.empty(shape, dtype=torch.uint8, device=device)
    for start in range(0, len(store), CHUNK):
        rows = np.arange(start, min(start + CHUNK, len(store)))
        images[start : start + CHUNK] = torch.from_numpy(shrink(store.read(rows), image_size))
    return images


def fits_on_device(counts: list[int], image_size: int, device: torch.device) -> bool:
    """Whether splits of `counts` galaxies leave room for the network in a GPU's free memory."""
    if device.type != "cuda":
        return False
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return sum(counts) * 3 * image_size**2 <= MEMORY_SHARE * free_bytes
