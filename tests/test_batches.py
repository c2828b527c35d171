"""Batches: order and augmentation that the epoch decides, torchvision's geometry, CPU as GPU."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import RandomResizedCrop, RandomRotation
from torchvision.transforms import functional as tv
from torchvision.transforms.functional import InterpolationMode

from gz2vit.batches import (
    Batches,
    Draws,
    affine_matrices,
    draw,
    fits_on_device,
    load_images,
    shrink,
    warp,
    warp_on_device,
)
from gz2vit.images import ImageCache
from gz2vit.paper import CROP_RATIO, CROP_SCALE, ROTATION_DEG

SIZE_PX = 96
CPU = torch.device("cpu")


def smooth_images(count: int) -> np.ndarray:
    """uint8 images (count, H, W, 3) of blobs, smooth enough that interpolation hardly matters."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:SIZE_PX, :SIZE_PX]
    images = np.zeros((count, SIZE_PX, SIZE_PX, 3))
    for image in images:
        for _ in range(4):
            cx, cy = rng.uniform(15, 80, 2)
            blob = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * rng.uniform(6, 14) ** 2))
            image += blob[..., None] * rng.uniform(40, 120, 3)
    return np.clip(images, 0, 255).astype(np.uint8)


# ---- The geometry of the augmentation


def one_by_one(image: np.ndarray, draws: Draws, row: int) -> np.ndarray:
    """The same draw applied as torchvision does it, step by step."""
    tensor = torch.from_numpy(image).permute(2, 0, 1).float()
    tensor = tv.rotate(tensor, float(draws.angle_deg[row]), InterpolationMode.BILINEAR)
    tensor = tv.hflip(tensor) if draws.flip_horizontal[row] else tensor
    tensor = tv.vflip(tensor) if draws.flip_vertical[row] else tensor
    top, left, height, width = draws.crop_px[row].tolist()
    size = [SIZE_PX, SIZE_PX]
    tensor = tv.resized_crop(tensor, top, left, height, width, size, antialias=True)
    return tensor.permute(1, 2, 0).numpy()


def test_warp_equals_torchvision_on_the_same_draws():
    images = smooth_images(32)
    draws = draw(np.random.default_rng(0), len(images), SIZE_PX)
    inside = slice(12, -12)  # at the rim of the rotated frame the two interpolate black differently
    y, x = np.mgrid[:SIZE_PX, :SIZE_PX] - (SIZE_PX - 1) / 2
    disk = (np.hypot(x, y) < 0.42 * SIZE_PX)[inside, inside]
    theirs = np.stack([one_by_one(image, draws, row) for row, image in enumerate(images)])

    def difference(draws: Draws) -> np.ndarray:
        ours = warp(images, affine_matrices(draws)).astype(float)
        return np.abs(ours - theirs)[:, inside, inside][:, disk].mean(axis=(1, 2))

    assert difference(draws).max() < 0.6  # of 255 grey levels
    assert difference(draws._replace(angle_deg=-draws.angle_deg)).mean() > 3


def test_draws_have_torchvisions_distributions():
    count = 3000
    draws = draw(np.random.default_rng(3), count, SIZE_PX)
    torch.manual_seed(4)
    image = torch.zeros(3, SIZE_PX, SIZE_PX)
    crops = [RandomResizedCrop.get_params(image, CROP_SCALE, CROP_RATIO) for _ in range(count)]
    for column in range(4):
        assert stats.ks_2samp(draws.crop_px[:, column], np.array(crops)[:, column]).pvalue > 1e-3
    angles = [RandomRotation.get_params([-ROTATION_DEG, ROTATION_DEG]) for _ in range(count)]
    assert stats.ks_2samp(draws.angle_deg, angles).pvalue > 1e-3
    for flips in (draws.flip_horizontal, draws.flip_vertical):
        assert flips.mean() == pytest.approx(0.5, abs=0.04)


def test_draws_are_those_of_earlier_versions():
    draws = draw(np.random.default_rng([7, 3]), 2, 224)
    found = [draws.angle_deg.round(4).tolist(), draws.flip_horizontal.tolist()]
    assert found == [[85.506, 69.2221], [True, False]]
    assert draws.flip_vertical.tolist() == [True, False]
    assert draws.crop_px.tolist() == [[11, 0, 211, 211], [3, 1, 215, 217]]


def test_identity_changes_nothing():
    images, no = smooth_images(2), np.zeros(2, dtype=bool)
    draws = Draws(SIZE_PX, np.zeros(2), no, no, np.tile([0, 0, SIZE_PX, SIZE_PX], (2, 1)))
    assert np.array_equal(warp(images, affine_matrices(draws)), images)
    tensor = torch.arange(12.0).reshape(1, 1, 3, 4).expand(1, 3, 3, 4)  # also where not square
    identity = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])
    assert torch.allclose(warp_on_device(tensor, identity), tensor, atol=1e-5)


def test_torch_warps_as_opencv_does():
    images = smooth_images(16)
    matrices = affine_matrices(draw(np.random.default_rng(0), 16, SIZE_PX))
    theirs = warp(images, matrices).astype(float)
    tensors = torch.from_numpy(images).permute(0, 3, 1, 2)

    def difference(matrices: np.ndarray) -> np.ndarray:
        ours = warp_on_device(tensors, torch.from_numpy(matrices).float())
        return np.abs(ours.permute(0, 2, 3, 1).numpy() - theirs)

    # OpenCV rounds places to 1/32 px and values to whole grey levels.
    assert difference(matrices).mean() < 0.5
    assert np.quantile(difference(matrices), 0.999) < 8  # at the rim of the rotated frame
    assert difference(matrices[:, :, [1, 0, 2]].copy()).mean() > 3


def test_shrink_averages_over_areas():
    image = np.zeros((1, 4, 4, 3), dtype=np.uint8)
    image[0, :2, :2] = 100
    assert shrink(image, 2)[0, :, :, 0].tolist() == [[100, 0], [0, 0]]
    assert shrink(image, 4) is image


# ---- Batches made on the CPU


def galaxies(count: int) -> tuple[ImageCache, np.ndarray]:
    """Images of 16 px, each of one grey level that shows which it is, and classes."""
    images = np.stack([np.full((16, 16, 3), 10 * row, dtype=np.uint8) for row in range(count)])
    ids = tuple(map(str, range(count)))
    return ImageCache(Path("none"), (images[:6], images[6:]), ids), np.arange(count) % 8


def test_without_augmentation_the_images_come_as_they_are():
    cache, classes = galaxies(10)
    batches = Batches(cache, classes, image_size=16, batch_size=4)
    made = list(batches)
    assert [len(batch.images) for batch in made] == [4, 4, 2]
    assert len(batches) == 3
    images = torch.cat([batch.images for batch in made])
    assert images.dtype == torch.uint8
    assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), cache[:])
    assert torch.cat([batch.class_index for batch in made]).tolist() == classes.tolist()
    assert next(iter(Batches(cache, classes, 8, 4))).images.shape == (4, 3, 8, 8)
    with pytest.raises(IndexError):
        list(Batches(cache, classes[:3], 16, 4))


def test_an_epoch_shows_every_galaxy_once_with_its_class():
    batches = Batches(*galaxies(10), 16, 4, augment=True, seed=3, epoch=2)
    rows = []
    for images, labels, *_ in batches:
        found = images[:, 0, 8, 8].long() // 10  # the middle, which no augmentation changes
        assert (found % 8 == labels).all()
        rows += found.tolist()
    assert sorted(rows) == list(range(10))


def test_seed_and_epoch_decide_order_and_augmentation():
    def pixels(seed: int, epoch: int) -> torch.Tensor:
        batches = Batches(*galaxies(10), 16, 4, augment=True, seed=seed, epoch=epoch)
        return torch.cat([batch.images for batch in batches])

    assert torch.equal(pixels(0, 5), pixels(0, 5))
    assert not torch.equal(pixels(0, 5), pixels(0, 6))
    assert not torch.equal(pixels(0, 5), pixels(1, 5))


@pytest.mark.parametrize(
    ("count", "size", "trained", "tested"),
    [
        (9, 4, [4, 5], [4, 4, 1]),
        (10, 4, [4, 4, 2], [4, 4, 2]),
        (8, 4, [4, 4], [4, 4]),
        (7, 8, [7], [7]),
        (3, 1, [1] * 3, [1] * 3),
    ],
)
def test_no_galaxy_is_trained_on_alone(count: int, size: int, trained: list, tested: list):
    plain = Batches(*galaxies(count), 16, size)
    augmented = replace(plain, augment=True)
    for batches, wanted in ((augmented, trained), (plain, tested)):
        assert [len(batch.class_index) for batch in batches] == wanted
        assert len(batches) == len(replace(batches, device=CPU)) == len(wanted)
    rows = np.concatenate([order.rows for order in augmented.plan()])
    assert sorted(rows) == list(range(count))


# ---- Batches made on a GPU, here on the CPU


@pytest.fixture
def batches() -> Batches:
    cache = ImageCache(Path("none"), (smooth_images(10),), tuple("abcdefghij"))
    return Batches(cache, np.arange(10) % 8, SIZE_PX, 4, augment=True, seed=3, epoch=2)


PLACES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("resident", [True, False])
def test_a_device_makes_the_batches_of_the_cpu(batches: Batches, resident: bool, place: str):
    device = torch.device(place)
    images = load_images(batches.cache, SIZE_PX, device) if resident else None
    made = list(replace(batches, device=device, images=images))
    for ours, theirs in zip(made, batches, strict=True):
        assert torch.equal(ours.class_index.cpu(), theirs.class_index)
        assert torch.equal(ours.whole.cpu(), theirs.whole)
        warped = warp_on_device(ours.images, ours.matrices).cpu()
        assert (warped - theirs.images.float()).abs().mean() < 0.5
    plain = replace(batches, augment=False, device=device, images=images)
    pixels = torch.cat([batch.images.cpu() for batch in plain])
    assert pixels.dtype == torch.uint8
    assert np.array_equal(pixels.permute(0, 2, 3, 1).numpy(), batches.cache[:])
    assert load_images(batches.cache, 48, device).shape == (10, 48, 48, 3)


def test_splits_live_on_a_gpu_that_has_room_for_them(monkeypatch: pytest.MonkeyPatch):
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (40_000_000_000, 0))
    assert fits_on_device([99_808, 24_952], 224, gpu)  # 18.8 GB of 24
    assert not fits_on_device([299_424, 24_952], 224, gpu)
    assert not fits_on_device([10], 224, CPU)


def test_shares_of_a_batch_add_up_to_it(batches: Batches):
    whole = list(batches)
    shares = [list(replace(batches, share=(rank, 3))) for rank in range(3)]
    for number, batch in enumerate(whole):
        for rank, part in enumerate(share[number] for share in shares):
            assert torch.equal(part.whole, batch.class_index)
            real = part.class_index >= 0
            assert torch.equal(part.class_index[real], batch.class_index[rank::3])
            assert torch.equal(part.images[real], batch.images[rank::3])
    assert whole[2].class_index.shape == (2,)  # the third device has no galaxy of the last batch
    assert shares[2][2].class_index.tolist() == [-100]
