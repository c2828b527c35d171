"""What is measured of a galaxy's picture, real and simulated alike.

Everything is measured in grey levels (0 to 255) of the JPEG that a network sees, after the survey's
asinh stretch: these are no fluxes, and serve to compare pictures with pictures. Shapes and the Gini
coefficient are photutils' (`SourceCatalog`); concentration and asymmetry follow Conselice 2003
(ApJS 147, 1) in definition, the concentration with the light inside the galaxy's outline.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from astropy.stats import mad_std
from photutils.segmentation import SegmentationImage, SourceCatalog, detect_sources
from photutils.utils.exceptions import NoDetectionsWarning
from scipy import ndimage
from tqdm import tqdm

from gz2vit.data.images import read_image
from gz2vit.realism.names import FEATURES

SMOOTHING_PX = 2.0  # before objects are looked for: about the seeing of a typical cutout
THRESHOLD = 3.0  # standard deviations of the smoothed sky
LEAST_LEVELS = 1.0  # the threshold at least: a sky that JPEG has made all one level has no noise
LEAST_PIXELS = 25  # of an object: 5 x 5
OUTSKIRTS_PX = 31  # side of the square by which objects are widened before the rest is sky
FARTHEST_PX = 50.0  # from the middle to the galaxy: petroR90, by the rule of the cutouts
SATURATED = 250  # a level from which a pixel counts as saturated
SPARSE = 7  # every so many sky pixels tell its level: some 20,000 of them, to 0.02 grey levels
BLOCK_PX = 4  # side of the blocks of the grain


@dataclass(frozen=True)
class Outline:
    """A picture taken apart: `light` float32 (H, W, 3) above the sky, and who is where.

    `galaxy` and `sky`: bool (H, W), the pixels of the galaxy in the middle and of no object;
    `others`: the number of other objects.
    """

    light: np.ndarray
    galaxy: np.ndarray
    sky: np.ndarray
    others: int


def measure_galaxies(paths: Sequence[Path | str]) -> pd.DataFrame:
    """The `FEATURES` of each picture, a row each in the order of `paths`; NaN without a galaxy."""
    rows = [
        measure_image(read_image(Path(path)))
        for path in tqdm(paths, desc="measuring galaxies", unit="galaxy")
    ]
    return pd.DataFrame(rows, columns=list(FEATURES))


def measure_image(image: np.ndarray) -> dict[str, float]:
    """The `FEATURES` of a picture, uint8 (H, W, 3).

    Where no galaxy stands out within `FARTHEST_PX` of the middle, its features are NaN and those of
    the sky remain.
    """
    parts = find_outline(image)
    found = dict.fromkeys(FEATURES, np.nan) | _sky_features(image, parts)
    found["neighbours"] = float(parts.others)
    if parts.galaxy.any():
        found |= _shape_features(parts) | _light_features(parts)
        found["saturated_percent"] = 100.0 * float((image[parts.galaxy] >= SATURATED).any(1).mean())
    return found


def find_outline(image: np.ndarray) -> Outline:
    """Find sky and objects of a picture, uint8 (H, W, 3)."""
    levels = image.astype(np.float32)
    smooth = cv2.GaussianBlur(levels.mean(axis=2), (0, 0), SMOOTHING_PX)
    sky, noise = _clipped(smooth[::BLOCK_PX, ::BLOCK_PX])
    threshold = max(THRESHOLD * noise, LEAST_LEVELS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoDetectionsWarning)  # an empty picture is an answer
        found = detect_sources(smooth - sky, threshold, LEAST_PIXELS)
    labels = np.zeros(smooth.shape, np.int32) if found is None else found.data
    galaxy = _central(labels)
    # The faint outskirts of objects are no sky.
    near = cv2.dilate((labels > 0).astype(np.uint8), np.ones((OUTSKIRTS_PX,) * 2, np.uint8))
    empty = near == 0 if (near == 0).any() else labels == 0
    some = levels[empty][::SPARSE]
    level = [_clipped(channel)[0] for channel in some.T] if len(some) else 0
    # An island in an object's outskirts is hardly brighter than the threshold.
    peaks = ndimage.maximum(smooth - sky, labels, np.unique(labels[(labels > 0) & ~galaxy]))
    others = int((np.array(peaks) > 2 * threshold).sum())
    return Outline(levels - np.float32(level), galaxy, empty, others)


def _clipped(values: np.ndarray) -> tuple[float, float]:
    """Mean and robust standard deviation after objects have been clipped away.

    The mean, because grey levels are whole numbers, and so is their median.
    """
    kept = values.ravel()
    for _ in range(5):
        middle, spread = float(np.median(kept)), float(mad_std(kept))
        inside = kept[np.abs(kept - middle) <= THRESHOLD * max(spread, 0.1)]
        if len(inside) == len(kept):
            break
        kept = inside
    return float(kept.mean()), spread


def _central(labels: np.ndarray) -> np.ndarray:
    """The pixels of the object in the middle, bool (H, W); none if it is farther than allowed."""
    ys, xs = np.nonzero(labels)
    if not len(ys):
        return labels > 0
    middle = (np.array(labels.shape) - 1) / 2
    distance = np.hypot(ys - middle[0], xs - middle[1])
    nearest = int(distance.argmin())
    if distance[nearest] > FARTHEST_PX:
        return np.zeros(labels.shape, bool)
    return labels == labels[ys[nearest], xs[nearest]]


def _shape_features(parts: Outline) -> dict[str, float]:
    """Size, shape and distribution of the light."""
    grey = parts.light.mean(axis=2)
    found = SourceCatalog(grey, SegmentationImage(parts.galaxy.astype(np.int32)))
    x, y = float(found.x_centroid[0]), float(found.y_centroid[0])
    ratio = float(found.semiminor_axis[0].value / found.semimajor_axis[0].value)
    ys, xs = np.nonzero(parts.galaxy)
    light, radius = grey[ys, xs], np.hypot(ys - y, xs - x)
    inner, outer = _light_radii(light, radius, (0.2, 0.8))
    total = np.abs(light).sum()
    smooth = cv2.GaussianBlur(grey, (0, 0), max(SMOOTHING_PX, outer / 4))[ys, xs]
    return {
        "concentration": 5 * float(np.log10(outer / inner)),
        "asymmetry": _asymmetry(grey, parts, (x, y)),
        "clumpiness": float(np.maximum(light - smooth, 0).sum() / total),
        "gini": float(found.gini[0]),
        "axis_ratio": ratio,
        "radius_px": float(np.sqrt(len(ys) / np.pi)),
    }


def _light_radii(
    light: np.ndarray, radius: np.ndarray, shares: Sequence[float]
) -> tuple[float, ...]:
    """The radii [px] inside which the `shares` of the light are, half a pixel at least."""
    order = np.argsort(radius)
    grown = np.maximum(light[order], 0).cumsum()
    places = np.searchsorted(grown, np.multiply(shares, grown[-1]))
    return tuple(max(float(radius[order[place]]), 0.5) for place in places)


def _asymmetry(grey: np.ndarray, parts: Outline, centre: tuple[float, float]) -> float:
    """Mean difference from the picture turned by 180 degrees, less what noise alone makes of it."""
    ys, xs = np.nonzero(parts.galaxy)
    turned_x, turned_y = (round(2 * place) for place in centre)
    other_y, other_x = turned_y - ys, turned_x - xs
    inside = (other_y >= 0) & (other_y < grey.shape[0])
    inside &= (other_x >= 0) & (other_x < grey.shape[1])
    light = grey[ys[inside], xs[inside]]
    difference = np.abs(light - grey[other_y[inside], other_x[inside]]).sum()
    # Two normal numbers of standard deviation s differ by 2 s / sqrt(pi) on average.
    noise = float(mad_std(grey[parts.sky])) if parts.sky.any() else 0.0
    expected = 2 / np.sqrt(np.pi) * noise * len(light)
    return float((difference - expected) / np.abs(light).sum())


def _light_features(parts: Outline) -> dict[str, float]:
    """Level and colours of the galaxy; a channel has one grey level at least."""
    pixels = parts.light[parts.galaxy]  # (N, 3); noise stays in it, so that it averages out
    # Chosen by their own noise, the fainter pixels would be too red or too blue.
    grey = cv2.GaussianBlur(parts.light.mean(axis=2), (0, 0), SMOOTHING_PX)[parts.galaxy]
    bright = grey >= np.median(grey)
    high, low = pixels.max(axis=1), np.maximum(pixels.min(axis=1), 0)
    return {
        "redness": _redness(pixels),
        "colour_gradient": _redness(pixels[bright]) - _redness(pixels[~bright]),
        # Of the light, not the mean of the pixels: where these are faint, noise is a colour, too.
        "colour_saturation": float((high - low).sum() / max(high.sum(), 1)),
        "brightness": float(pixels.mean()),
    }


def _redness(pixels: np.ndarray) -> float:
    """2.5 log10 of red over blue light of pixels (N, 3); redder is larger, as g - i is."""
    red, _, blue = np.maximum(pixels.mean(axis=0), 1.0) if len(pixels) else np.ones(3)
    return float(2.5 * np.log10(red / blue))


def _sky_features(image: np.ndarray, parts: Outline) -> dict[str, float]:
    """Level, noise and grain of the sky; NaN where objects cover all of the picture."""
    if not parts.sky.any():
        return {}
    grey = parts.light.mean(axis=2)
    colour = parts.light[..., 0] - parts.light[..., 2]
    noise = float(grey[parts.sky].std())
    rows, columns = (side // BLOCK_PX * BLOCK_PX for side in grey.shape)
    blocks = (rows // BLOCK_PX, BLOCK_PX, columns // BLOCK_PX, BLOCK_PX)
    means = grey[:rows, :columns].reshape(blocks).mean(axis=(1, 3))
    whole = parts.sky[:rows, :columns].reshape(blocks).all(axis=(1, 3))
    # 1 for noise that is independent from pixel to pixel, BLOCK_PX where blocks have one level.
    grain = BLOCK_PX * means[whole].std() / noise if whole.any() and noise > 0 else np.nan
    return {
        "sky_level": float(image[parts.sky].mean()),
        "sky_noise": noise,
        "sky_colour_noise": float(colour[parts.sky].std()),
        "sky_grain": float(grain),
    }
