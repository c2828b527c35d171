"""What has no closed form: spiral arms, bars, clumps, dust lanes and tidal tails, as arrays.

All are surface brightness on a grid of coordinates (arcsec), in arbitrary units, before the PSF.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Arms:
    """A family of logarithmic spiral arms, r = start x exp(angle x tan(pitch))."""

    count: int
    pitch_rad: float
    start_arcsec: float
    phase_rad: float
    # Arm against inter-arm: full width at half maximum is about 2.4 / sqrt(sharpness) of phase.
    sharpness: float
    # +1 or -1: the sense in which the arms open.
    sense: int


def spiral_arms(x: np.ndarray, y: np.ndarray, scale_arcsec: float, arms: Arms) -> np.ndarray:
    """Light of the arms (H, W): an exponential disk times a ridge along each arm."""
    radius = np.hypot(x, y)
    angle = np.arctan2(y, x)
    winding = np.log(np.maximum(radius, 0.3 * arms.start_arcsec) / arms.start_arcsec)
    winding *= arms.sense / math.tan(arms.pitch_rad)
    ridge = np.cos(arms.count * (angle - arms.phase_rad - winding))
    inside = np.minimum(radius / arms.start_arcsec, 1.0) ** 3
    return np.exp(-radius / scale_arcsec + arms.sharpness * (ridge - 1)) * inside


def bar(x: np.ndarray, y: np.ndarray, length_arcsec: float, width_arcsec: float) -> np.ndarray:
    """A bar (H, W): flat along its length, with boxy ends, of half-length and half-width given."""
    boxy = np.abs(x / length_arcsec) ** 3 + np.abs(y / width_arcsec) ** 2
    return np.exp(-0.7 * boxy)


def texture(rng: np.random.Generator, side_px: int, grain_px: float, strength: float) -> np.ndarray:
    """Lognormal patches (side, side) of median 1: star-forming regions of size `grain_px`."""
    noise = rng.standard_normal((side_px, side_px), dtype=np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), max(grain_px, 0.5))
    return np.exp(strength * noise / noise.std())


def blob(
    x: np.ndarray, y: np.ndarray, centre_arcsec: tuple[float, float], size_arcsec: float
) -> np.ndarray:
    """A round Gaussian clump of unit flux and standard deviation `size_arcsec`."""
    dx, dy = x - centre_arcsec[0], y - centre_arcsec[1]
    return np.exp(-(dx**2 + dy**2) / (2 * size_arcsec**2)) / (2 * math.pi * size_arcsec**2)


def clumps(
    rng: np.random.Generator, x: np.ndarray, y: np.ndarray, count: int, spread_arcsec: float
) -> np.ndarray:
    """`count` knots of lognormal flux scattered over `spread_arcsec`, crowded to one side."""
    lopsided = 0.4 * spread_arcsec
    light = np.zeros(np.broadcast(x, y).shape, np.float32)
    for _ in range(count):
        centre = (rng.normal(lopsided, spread_arcsec), rng.normal(0.0, spread_arcsec))
        size = spread_arcsec * rng.uniform(0.12, 0.4)
        light += np.float32(rng.lognormal(0.0, 0.8)) * blob(x, y, centre, size)
    return light


def dust_lane(x: np.ndarray, z: np.ndarray, scale_arcsec: float, width_arcsec: float) -> np.ndarray:
    """The light that a thin layer of dust along the plane of an edge-on disk takes away."""
    return np.exp(-np.abs(x) / scale_arcsec - z**2 / (2 * width_arcsec**2))


def tidal_tail(
    x: np.ndarray, y: np.ndarray, start_arcsec: float, sweep_rad: float, width_arcsec: float
) -> np.ndarray:
    """A tail that leaves at `start_arcsec` on the x axis, opens outwards and fades (H, W)."""
    radius = np.hypot(x, y)
    along = np.mod(np.arctan2(y, x) + 0.5, 2 * math.pi) - 0.5
    ridge = start_arcsec * (1 + 0.5 * along)
    width = width_arcsec * (1 + 0.4 * np.maximum(along, 0))
    fading = np.exp(-np.maximum(along, 0) / sweep_rad - 4 * np.maximum(-along, 0))
    return np.exp(-((radius - ridge) ** 2) / (2 * width**2)) * fading


def bridge(x: np.ndarray, y: np.ndarray, length_arcsec: float, width_arcsec: float) -> np.ndarray:
    """A band of stars from the centre to `length_arcsec` along the x axis (H, W)."""
    beyond = np.abs(x - length_arcsec / 2) - length_arcsec / 2
    outside = np.maximum(beyond, 0) / width_arcsec
    return np.exp(-0.5 * (outside**2 + (y / width_arcsec) ** 2))
