"""How much of a map lies on the galaxy, whose own light decides which pixels those are."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from gz2vit.errors import Gz2vitError
from gz2vit.segmentation import segment_galaxy


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
