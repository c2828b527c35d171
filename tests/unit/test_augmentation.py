"""The batch augmentation against torchvision's one-by-one transforms, on the same draws."""

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import RandomResizedCrop, RandomRotation
from torchvision.transforms import functional as tv
from torchvision.transforms.functional import InterpolationMode

from gz2vit.batches import Draws, affine_matrices, draw, shrink, warp
from gz2vit.paper import CROP_RATIO, CROP_SCALE, ROTATION_DEG

SIZE_PX = 96


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


def test_equals_torchvision_on_the_same_draws():
    images = smooth_images(32)
    draws = draw(np.random.default_rng(0), len(images), SIZE_PX)
    ours = warp(images, affine_matrices(draws)).astype(float)
    inside = slice(12, -12)  # at the rim of the rotated frame the two interpolate black differently
    y, x = np.mgrid[:SIZE_PX, :SIZE_PX] - (SIZE_PX - 1) / 2
    disk = (np.hypot(x, y) < 0.42 * SIZE_PX)[inside, inside]
    for row, image in enumerate(images):
        theirs = one_by_one(image, draws, row)
        difference = np.abs(ours[row] - theirs)[inside, inside][disk]
        assert difference.mean() < 0.6, f"image {row}: {difference.mean():.2f} of 255 grey levels"


def test_each_transform_matters_in_the_comparison():
    """The comparison above can fail: a wrong sign of the angle is seen at once."""
    images = smooth_images(4)
    draws = draw(np.random.default_rng(0), len(images), SIZE_PX)
    wrong = Draws(
        SIZE_PX, -draws.angle_deg, draws.flip_horizontal, draws.flip_vertical, draws.crop_px
    )
    ours = warp(images, affine_matrices(wrong)).astype(float)
    assert np.abs(ours[0] - one_by_one(images[0], draws, 0)).mean() > 3


def test_crops_have_torchvisions_distribution():
    count = 3000
    ours = draw(np.random.default_rng(3), count, SIZE_PX).crop_px
    torch.manual_seed(4)
    image = torch.zeros(3, SIZE_PX, SIZE_PX)
    theirs = np.array(
        [RandomResizedCrop.get_params(image, CROP_SCALE, CROP_RATIO) for _ in range(count)]
    )
    for column, name in enumerate(("top", "left", "height", "width")):
        p_value = stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue
        assert p_value > 1e-3, f"{name} is distributed differently (p = {p_value:.1e})"


def test_angles_and_flips_have_torchvisions_distribution():
    draws = draw(np.random.default_rng(5), 4000, SIZE_PX)
    torch.manual_seed(6)
    theirs = [RandomRotation.get_params([-ROTATION_DEG, ROTATION_DEG]) for _ in range(4000)]
    assert stats.ks_2samp(draws.angle_deg, theirs).pvalue > 1e-3
    for flips in (draws.flip_horizontal, draws.flip_vertical):
        assert flips.mean() == pytest.approx(0.5, abs=0.04)


def test_identity_draw_changes_nothing():
    images = smooth_images(2)
    no = np.zeros(2, dtype=bool)
    whole = np.tile([0, 0, SIZE_PX, SIZE_PX], (2, 1))
    draws = Draws(SIZE_PX, np.zeros(2), no, no, whole)
    assert np.array_equal(warp(images, affine_matrices(draws)), images)


def test_shrink_averages_over_areas():
    image = np.zeros((1, 4, 4, 3), dtype=np.uint8)
    image[0, :2, :2] = 100
    assert shrink(image, 2)[0, :, :, 0].tolist() == [[100, 0], [0, 0]]
    assert shrink(image, 4) is image
