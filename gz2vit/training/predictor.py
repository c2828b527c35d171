"""A trained network at work on image files: batches in, class probabilities out, in order.

The arithmetic is that of `predict`, in float32, so that a galaxy gets the same probabilities here
and there. On a GPU the next batch is started before the last one is taken back.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch

from gz2vit.errors import Gz2vitError
from gz2vit.paper import CLASS_COUNT
from gz2vit.training.classifier import GalaxyClassifier
from gz2vit.training.image_reading import ImageBatch, ImageReader


class Predicted(NamedTuple):
    """What came out of a batch: `probabilities` float64 (B, 8), without meaning at a fault."""

    paths: list[str]
    faults: list[str | None]
    probabilities: np.ndarray


@dataclass(frozen=True)
class Predictor:
    """A classifier on its device, and how it is used.

    `average`: the mean of the probabilities over the eight symmetries of a square; `strict`: the
    first broken image is a `Gz2vitError`.
    """

    classifier: GalaxyClassifier
    reader: ImageReader
    batch_size: int
    average: bool = False
    strict: bool = False

    def predict(self, images: Iterator[str], part_images: int) -> Iterator[Predicted]:
        """Predict images, in batches that never reach from one part into the next.

        So a part is the same whether or not the parts before it were made in the same run.
        """
        pending: tuple[ImageBatch, torch.Tensor] | None = None
        batches = cut(images, part_images, self.batch_size)
        for batch in self.reader.read_ahead(batches):
            self._check_faults(batch)
            started = batch, self._start(batch)
            if pending is not None:
                yield _finish(*pending)
            pending = started
        if pending is not None:
            yield _finish(*pending)

    def _check_faults(self, batch: ImageBatch) -> None:
        """Raise `Gz2vitError` for the first broken image, where that was asked for."""
        first = next(filter(None, batch.faults), None)
        if self.strict and first:
            raise Gz2vitError(f"{first}; mend or remove it, or leave --strict away")

    @torch.inference_mode()
    def _start(self, batch: ImageBatch) -> torch.Tensor:
        """Logits (S, B, 8) of S = 1 or 8 views of each image; a GPU may still be at work."""
        device = self.classifier.device
        if all(batch.faults):
            return torch.zeros(1, len(batch.paths), CLASS_COUNT)
        pixels = torch.from_numpy(batch.pixels)
        if device.type == "cuda":
            pixels = pixels.pin_memory()
        images = pixels.to(device, non_blocking=True).permute(0, 3, 1, 2)  # -> (B, 3, H, W)
        views = symmetries(images) if self.average else [images]
        try:
            return torch.stack([self.classifier(view) for view in views])
        except torch.OutOfMemoryError as error:
            raise Gz2vitError(
                f"{self.batch_size} images at once are too many for the memory of {device}; give a "
                "smaller --batch-size, with which the same command continues"
            ) from error


def _finish(batch: ImageBatch, logits: torch.Tensor) -> Predicted:
    """The mean probabilities over the views; `Gz2vitError` where they are not numbers."""
    # As in `predict`: float32 logits, softmax in float64, which Apple's GPUs do not have.
    probabilities = logits.cpu().double().softmax(dim=2).mean(dim=0).numpy()
    wrong = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
    if len(wrong):
        raise Gz2vitError(
            f"the network gives no numbers for image {batch.paths[wrong[0]]}; "
            "its weights are damaged, train it again"
        )
    return Predicted(batch.paths, batch.faults, probabilities)


def symmetries(images: torch.Tensor) -> Iterator[torch.Tensor]:
    """The eight views (B, C, H, W) of square images: quarter turns, as they are and mirrored."""
    for mirrored in (images, images.flip(3)):
        for turns in range(4):
            yield mirrored.rot90(turns, (2, 3))


def cut(images: Iterable[str], part_images: int, batch_size: int) -> Iterator[Sequence[str]]:
    """Batches of at most `batch_size` paths; every `part_images` paths a new one begins."""
    images = iter(images)
    while part := list(islice(images, part_images)):
        for start in range(0, len(part), batch_size):
            yield part[start : start + batch_size]
