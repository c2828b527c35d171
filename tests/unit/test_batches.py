"""Batches: every galaxy once, in an order and with augmentations that the epoch decides."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gz2vit.batches import Batches
from gz2vit.images import ImageStore


@pytest.fixture
def galaxies() -> tuple[ImageStore, np.ndarray]:
    """Ten images of 16 px, each of one grey level that tells which it is."""
    images = np.stack([np.full((16, 16, 3), 20 * row, dtype=np.uint8) for row in range(10)])
    return ImageStore(Path("none"), images, tuple("abcdefghij")), np.arange(10) % 8


def centres(batches: Batches) -> list[int]:
    """The grey level in the middle of each image, which no augmentation changes."""
    return [int(value) for batch in batches for value in batch.images[:, 0, 8, 8]]


def test_without_augmentation_the_images_come_as_they_are(galaxies: tuple):
    store, classes = galaxies
    batches = Batches(store, classes, image_size=16, batch_size=4)
    made = list(batches)
    assert [len(batch.images) for batch in made] == [4, 4, 2]
    assert len(batches) == 3
    images = torch.cat([batch.images for batch in made])
    assert images.dtype == torch.uint8
    assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), store.images)
    assert torch.cat([batch.class_index for batch in made]).tolist() == classes.tolist()


def test_an_epoch_shows_every_galaxy_once_with_its_class(galaxies: tuple):
    store, classes = galaxies
    batches = Batches(store, classes, 16, 4, augment=True, seed=3, epoch=2)
    assert sorted(centres(batches)) == [20 * row for row in range(10)]
    for images, labels, _ in batches:
        rows = images[:, 0, 8, 8].long() // 20
        assert (rows % 8 == labels).all()


def test_seed_and_epoch_decide_order_and_augmentation(galaxies: tuple):
    store, classes = galaxies

    def pixels(seed: int, epoch: int) -> torch.Tensor:
        batches = Batches(store, classes, 16, 4, augment=True, seed=seed, epoch=epoch)
        return torch.cat([batch.images for batch in batches])

    assert torch.equal(pixels(0, 5), pixels(0, 5))
    assert not torch.equal(pixels(0, 5), pixels(0, 6))
    assert not torch.equal(pixels(0, 5), pixels(1, 5))


def test_images_are_shrunk_to_what_the_network_sees(galaxies: tuple):
    store, classes = galaxies
    images = next(iter(Batches(store, classes, image_size=8, batch_size=4))).images
    assert images.shape == (4, 3, 8, 8)


def test_classes_that_do_not_fit_the_store_are_an_error(galaxies: tuple):
    store, classes = galaxies
    batches = Batches(store, classes[:3], image_size=16, batch_size=4)
    with pytest.raises(IndexError):
        list(batches)
