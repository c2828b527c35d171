"""Batches made on a device, here on the CPU: the same galaxies, draws and pixels as `Batches`."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gz2vit.batches import (
    Batches,
    DeviceBatches,
    affine_matrices,
    draw,
    fits_on_device,
    load_images,
    warp,
    warp_on_device,
)
from gz2vit.images import ImageStore
from tests.unit.test_augmentation import SIZE_PX, smooth_images

CPU = torch.device("cpu")


@pytest.fixture
def batches() -> Batches:
    images = smooth_images(10)
    store = ImageStore(Path("none"), images, tuple("abcdefghij"))
    return Batches(store, np.arange(10) % 8, SIZE_PX, 4, augment=True, seed=3, epoch=2)


def test_warps_as_opencv_does_from_the_same_matrices():
    images = smooth_images(16)
    matrices = affine_matrices(draw(np.random.default_rng(0), 16, SIZE_PX))
    theirs = warp(images, matrices).astype(float)
    tensors = torch.from_numpy(images).permute(0, 3, 1, 2)
    ours = warp_on_device(tensors, torch.from_numpy(matrices).float()).permute(0, 2, 3, 1).numpy()
    # OpenCV rounds places to 1/32 px and values to whole grey levels.
    assert np.abs(ours - theirs).mean() < 0.5
    assert np.quantile(np.abs(ours - theirs), 0.999) < 8  # at the rim of the rotated frame


def test_a_wrong_matrix_is_seen_by_that_comparison():
    images = smooth_images(4)
    matrices = affine_matrices(draw(np.random.default_rng(0), 4, SIZE_PX))
    theirs = warp(images, matrices).astype(float)
    tensors = torch.from_numpy(images).permute(0, 3, 1, 2)
    wrong = torch.from_numpy(matrices[:, :, [1, 0, 2]].copy()).float()
    ours = warp_on_device(tensors, wrong).permute(0, 2, 3, 1).numpy()
    assert np.abs(ours - theirs).mean() > 3


def test_images_that_are_not_square_are_warped_in_place():
    tensor = torch.arange(12.0).reshape(1, 1, 3, 4).expand(1, 3, 3, 4)
    identity = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])
    assert torch.allclose(warp_on_device(tensor, identity), tensor, atol=1e-5)


@pytest.mark.parametrize("resident", [True, False])
def test_makes_the_batches_of_the_cpu(batches: Batches, resident: bool):
    images = load_images(batches.store, SIZE_PX, CPU) if resident else None
    made = list(DeviceBatches(batches, CPU, images))
    wanted = list(batches)
    assert len(made) == len(wanted) == len(DeviceBatches(batches, CPU, images)) == 3
    for ours, theirs in zip(made, wanted, strict=True):
        assert torch.equal(ours.class_index, theirs.class_index)
        assert torch.equal(ours.whole, theirs.whole)
        assert (ours.images - theirs.images.float()).abs().mean() < 0.5


def test_without_augmentation_pixels_are_the_stores(batches: Batches):
    plain = Batches(batches.store, batches.class_index, SIZE_PX, 4)
    pixels = torch.cat([batch.images for batch in DeviceBatches(plain, CPU)])
    assert pixels.dtype == torch.uint8
    assert np.array_equal(pixels.permute(0, 2, 3, 1).numpy(), batches.store.images)


def test_images_are_loaded_shrunk(batches: Batches):
    assert load_images(batches.store, SIZE_PX // 2, CPU).shape == (
        10,
        SIZE_PX // 2,
        SIZE_PX // 2,
        3,
    )


def test_splits_live_on_a_gpu_that_has_room_for_them(monkeypatch: pytest.MonkeyPatch):
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (40_000_000_000, 0))
    assert fits_on_device([99_808, 24_952], 224, gpu)  # 18.8 GB of 24
    assert not fits_on_device([299_424, 24_952], 224, gpu)
    assert not fits_on_device([10], 224, CPU)


def test_shares_of_a_batch_add_up_to_it(batches: Batches):
    whole = list(batches)
    shares = [
        list(Batches(batches.store, batches.class_index, SIZE_PX, 4, True, 3, 2, share=(r, 3)))
        for r in range(3)
    ]
    for number, batch in enumerate(whole):
        parts = [share[number] for share in shares]
        for rank, part in enumerate(parts):
            assert torch.equal(part.whole, batch.class_index)
            real = part.class_index >= 0
            assert torch.equal(part.class_index[real], batch.class_index[rank::3])
            assert torch.equal(part.images[real], batch.images[rank::3])
    assert whole[2].class_index.shape == (2,)  # the third device has no galaxy of the last batch
    assert shares[2][2].class_index.tolist() == [-100]
