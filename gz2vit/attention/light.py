"""How much of a map lies on the galaxy: its own light decides which pixels are the galaxy.

Galaxy Zoo 2's cutouts are scaled so that the galaxy's petroR90_r spans 50 of 424 px (Willett et
al. 2013): in the central 224 px the border lies at some 2.2 R90, on the sky.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from gz2vit.errors import Gz2vitError

THRESHOLD_SIGMA = 4.0  # of smoothed pixels above the sky: one of noise alone in 30,000
SMOOTHING_SHARE = 1 / 224  # standard deviation, of the image's side: 1 px of the paper's crop
BORDER_SHARE = 1 / 16  # width of the frame that measures the sky: 14 px of 224
CENTRE_SHARE = 1 / 8  # a galaxy whose light begins further from the centre is not this one
CLIP_SIGMA, CLIP_ROUNDS = 3.0, 5  # the frame's pixels with neighbours' light are left out
MAD_TO_SIGMA = 1.4826  # a normal distribution's standard deviation over its median deviation


@dataclass(frozen=True)
class LightFraction:
    """Of each galaxy's map, the part on the galaxy; float64 (B,), 0 to 1, NaN where there is none.

    `fraction`: of its map; `uniform`: of a map that is the same everywhere, which is the galaxy's
    share of the area; `others`: the mean over the other galaxies' maps laid on this galaxy, which
    is what a map of "the middle" gets without looking.
    """

    fraction: np.ndarray
    uniform: np.ndarray
    others: np.ndarray


def light_fraction(maps: torch.Tensor, images: torch.Tensor) -> LightFraction:
    """How much of `maps` (B, h, w), not negative, lies on the galaxies in `images` (B, 3, H, W).

    Images at any positive scale: 0 to 255, or normalised channel by channel. A cell of a map
    counts with the share of its pixels that `segment_galaxy` finds. A galaxy that is not found,
    and a map that is 0 throughout, have NaN. Raises `Gz2vitError` for maps that do not fit.
    """
    if maps.ndim != 3 or len(maps) != len(images) or not torch.isfinite(maps).all():
        raise Gz2vitError(
            f"maps of shape {tuple(maps.shape)} do not fit {len(images)} images; give one finite "
            "map (B, h, w) for each"
        )
    if maps.min() < 0:
        raise Gz2vitError(f"a map holds {maps.min().item():.3g}; weights cannot be negative")
    masks = np.stack([segment_galaxy(image) for image in images.float().mean(dim=1).cpu().numpy()])
    cover = functional.adaptive_avg_pool2d(torch.from_numpy(masks).double(), tuple(maps.shape[1:]))
    cover = np.where(masks.any(axis=(1, 2))[:, None], cover.flatten(1).numpy(), np.nan)
    weights = maps.flatten(1).double().cpu().numpy()
    with np.errstate(invalid="ignore"):
        weights = weights / weights.sum(axis=1, keepdims=True)  # (B, h w), each row's sum 1
    own = (cover * weights).sum(axis=1)
    return LightFraction(own, cover.mean(axis=1), _of_other_maps(cover, weights))


def _of_other_maps(cover: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The mean part on each galaxy (B,) of the others' maps; `cover`, `weights` (B, h w)."""
    whole = np.isfinite(weights).all(axis=1)  # a map that is 0 throughout says nothing
    weights = np.where(whole[:, None], weights, 0.0)
    total = cover @ weights.sum(axis=0) - (cover * weights).sum(axis=1)
    count = whole.sum() - whole  # without the galaxy's own map
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)


def segment_galaxy(light: np.ndarray) -> np.ndarray:
    """The pixels of the galaxy in the middle of an image `light` (H, W), bool (H, W).

    Smoothed, more than `THRESHOLD_SIGMA` times the noise above the sky, and connected with the
    centre, or with the nearest such pixel within `CENTRE_SHARE` of the side; none if there is
    none. Sky and noise are those of the frame. A neighbour whose light touches the galaxy's is
    counted with it.
    """
    side = min(light.shape)
    smooth = ndimage.gaussian_filter(light.astype(np.float64), SMOOTHING_SHARE * side)
    sky, noise = measure_sky(smooth)
    # strictly brighter: in a plane without noise nothing is
    labels, _ = ndimage.label(smooth > sky + max(THRESHOLD_SIGMA * noise, 1e-9))
    y, x = np.indices(light.shape)
    from_centre = np.hypot(y - (light.shape[0] - 1) / 2, x - (light.shape[1] - 1) / 2)
    from_centre[labels == 0] = np.inf
    nearest = np.unravel_index(from_centre.argmin(), light.shape)
    if from_centre[nearest] > max(CENTRE_SHARE * side, 1.0):
        return np.zeros(light.shape, dtype=bool)
    return ndimage.binary_fill_holes(labels == labels[nearest])


def measure_sky(light: np.ndarray) -> tuple[float, float]:
    """Level and noise (standard deviation) of the frame of an image (H, W), by clipped medians."""
    width = max(1, round(BORDER_SHARE * min(light.shape)))
    inner = np.zeros(light.shape, dtype=bool)
    inner[width:-width, width:-width] = True
    values = light[~inner]
    for _ in range(CLIP_ROUNDS):
        level = np.median(values)
        noise = MAD_TO_SIGMA * np.median(np.abs(values - level))
        kept = values[np.abs(values - level) <= CLIP_SIGMA * noise]
        if len(kept) == len(values) or len(kept) == 0:
            break
        values = kept
    return float(level), float(noise)
