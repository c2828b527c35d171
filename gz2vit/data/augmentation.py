"""The paper's augmentation, a whole batch at once.

Training images pass, after the centre crop, RandomRotation(90), both flips with probability 1/2,
and RandomResizedCrop(scale=(0.8, 1), ratio=(0.99, 1.01)) (the authors' notebooks). All four are
affine maps of the plane, so their product is one 2 x 3 matrix for each image and one bilinear
interpolation, where torchvision resamples twice (the first time by nearest neighbour).

DEVIATION: one bilinear interpolation instead of nearest-neighbour rotation and bilinear resizing;
the drawn geometry has the same distribution (tests compare with torchvision on the same draws).
"""

from dataclasses import dataclass

import cv2
import numpy as np

from gz2vit.paper import CROP_RATIO, CROP_SCALE, ROTATION_DEG

CROP_ATTEMPTS = 10  # torchvision's RandomResizedCrop tries ten times before it takes the whole


@dataclass(frozen=True)
class Draws:
    """What was drawn for a batch of B images of `size_px` x `size_px`.

    `angle_deg` (B,) counter-clockwise, in [-90, 90]; `flip_horizontal`, `flip_vertical` (B,) bool;
    `crop_px` (B, 4) int: top, left, height, width of the crop after rotation and flips.
    """

    size_px: int
    angle_deg: np.ndarray
    flip_horizontal: np.ndarray
    flip_vertical: np.ndarray
    crop_px: np.ndarray


def draw(rng: np.random.Generator, count: int, size_px: int) -> Draws:
    """Draw the augmentation of `count` images, with torchvision's distributions."""
    return Draws(
        size_px=size_px,
        angle_deg=rng.uniform(-ROTATION_DEG, ROTATION_DEG, count),
        flip_horizontal=rng.random(count) < 0.5,
        flip_vertical=rng.random(count) < 0.5,
        crop_px=_draw_crops(rng, count, size_px),
    )


def _draw_crops(rng: np.random.Generator, count: int, size_px: int) -> np.ndarray:
    """Crops (B, 4) as RandomResizedCrop.get_params draws them: the first of ten that fits."""
    shape = (count, CROP_ATTEMPTS)
    area = size_px**2 * rng.uniform(*CROP_SCALE, shape)
    ratio = np.exp(rng.uniform(*np.log(CROP_RATIO), shape))
    width, height = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
    fits = (width <= size_px) & (height <= size_px)
    rows, first = np.arange(count), fits.argmax(axis=1)
    # Where none fits, torchvision takes the whole image, whose ratio of 1 is within bounds.
    none = ~fits.any(axis=1)
    width = np.where(none, size_px, width[rows, first]).astype(np.int64)
    height = np.where(none, size_px, height[rows, first]).astype(np.int64)
    top = rng.integers(0, size_px - height + 1)
    left = rng.integers(0, size_px - width + 1)
    return np.stack([top, left, height, width], axis=1)


def affine_matrices(draws: Draws) -> np.ndarray:
    """Matrices (B, 2, 3), float64, that take an output pixel (x, y, 1) to its input pixel.

    Coordinates count from the centre of the first pixel, x to the right and y down. Read from the
    output backwards: undo the resized crop, undo the flips, undo the rotation about the centre.
    """
    top, left, height, width = draws.crop_px.T.astype(np.float64)
    size, centre = draws.size_px, (draws.size_px - 1) / 2
    # Resized crop: x_rotated = left + (x + 1/2) width / size - 1/2, then measured from the centre.
    scale_x, scale_y = width / size, height / size
    shift_x = left + scale_x / 2 - 0.5 - centre
    shift_y = top + scale_y / 2 - 0.5 - centre
    sign_x = np.where(draws.flip_horizontal, -1.0, 1.0)
    sign_y = np.where(draws.flip_vertical, -1.0, 1.0)
    angle = np.deg2rad(draws.angle_deg)
    cosine, sine = np.cos(angle), np.sin(angle)
    # Rotation counter-clockwise as seen, with y down: x_in = x cos - y sin, y_in = x sin + y cos.
    row_x = [
        cosine * sign_x * scale_x,
        -sine * sign_y * scale_y,
        cosine * sign_x * shift_x - sine * sign_y * shift_y + centre,
    ]
    row_y = [
        sine * sign_x * scale_x,
        cosine * sign_y * scale_y,
        sine * sign_x * shift_x + cosine * sign_y * shift_y + centre,
    ]
    return np.stack([np.stack(row_x, axis=-1), np.stack(row_y, axis=-1)], axis=-2)


def warp(images: np.ndarray, matrices: np.ndarray, warped: np.ndarray | None = None) -> np.ndarray:
    """Apply `matrices` (B, 2, 3) to uint8 images (B, H, W, 3), bilinearly, black outside.

    The result is written into `warped`, uint8 (B, H, W, 3), where that is given.
    """
    height, width = images.shape[1:3]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = np.empty_like(images) if warped is None else warped
    # With a fourth channel OpenCV takes another way, to the same bits, three times as fast.
    four, turned = np.empty((2, height, width, 4), dtype=np.uint8)
    for image, matrix, target in zip(images, matrices, warped, strict=True):
        cv2.cvtColor(image, cv2.COLOR_RGB2RGBA, dst=four)
        cv2.warpAffine(four, matrix, (width, height), dst=turned, flags=flags)
        cv2.cvtColor(turned, cv2.COLOR_RGBA2RGB, dst=target)
    return warped


def shrink(images: np.ndarray, image_size: int) -> np.ndarray:
    """Average uint8 images (B, H, W, 3) over areas to `image_size` x `image_size` pixels.

    The field of view stays; only the sampling gets coarser. Returns the images themselves where
    they already have that size.
    """
    if images.shape[1:3] == (image_size, image_size):
        return images
    size = (image_size, image_size)
    return np.stack([cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images])
