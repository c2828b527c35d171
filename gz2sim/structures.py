"""What has no closed form: spiral arms, rings, edge-on disks, clumps and tidal tails, as arrays.

All are surface brightness on a grid of coordinates (arcsec), in arbitrary units, before the PSF.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator


class Arms(NamedTuple):
    """A family of logarithmic spiral arms, r = start x exp(angle x tan(pitch))."""

    count: int
    pitch_rad: float
    start_arcsec: float
    phase_rad: float
    # Arm against inter-arm: full width at half maximum is about 2.4 / sqrt(sharpness) of phase.
    sharpness: float
    sense: int  # +1 or -1: in which the arms open


def spiral_arms(
    x: np.ndarray, y: np.ndarray, scale_arcsec: float, arms: Arms, bent: np.ndarray | float = 0.0
) -> np.ndarray:
    """Light of the arms (H, W): an exponential disk times a ridge along each arm.

    `bent` (H, W) turns the ridges by an angle in radians, so that no arm is a perfect curve.
    """
    radius = np.hypot(x, y)
    winding = np.log(np.maximum(radius, 0.3 * arms.start_arcsec) / arms.start_arcsec)
    winding *= arms.sense / math.tan(arms.pitch_rad)
    ridge = np.cos(arms.count * (np.arctan2(y, x) - arms.phase_rad - winding + bent))
    inside = np.minimum(radius / arms.start_arcsec, 1.0) ** 3
    return np.exp(-radius / scale_arcsec + arms.sharpness * (ridge - 1)) * inside


def flocculent_arms(
    rng: Generator, x: np.ndarray, y: np.ndarray, scale_arcsec: float, arms: Arms
) -> np.ndarray:
    """Light of many short arms (H, W): noise in log radius and angle, sheared by the pitch."""
    radius = np.maximum(np.hypot(x, y), 0.05 * scale_arcsec)
    log_radius = np.log(radius / scale_arcsec)
    turned = np.arctan2(y, x) - arms.sense * log_radius / math.tan(arms.pitch_rad)
    columns, rows = 4 * arms.count, 10
    coarse = rng.standard_normal((rows, columns), dtype=np.float32)
    coarse = np.pad(coarse, ((0, 0), (2, 2)), mode="wrap")  # closes the circle
    column = np.mod(turned / (2 * math.pi), 1) * columns + 2
    row = np.clip((log_radius + 3) * 2, 0, rows - 1)
    patches = cv2.remap(coarse, column.astype(np.float32), row.astype(np.float32), cv2.INTER_LINEAR)
    return np.exp(-radius / scale_arcsec + 0.45 * arms.sharpness * patches)


def ring(x: np.ndarray, y: np.ndarray, radius_arcsec: float, width_arcsec: float) -> np.ndarray:
    """A ring (H, W) of Gaussian cross-section around the centre."""
    return np.exp(-0.5 * ((np.hypot(x, y) - radius_arcsec) / width_arcsec) ** 2)


def edge_on_disk(
    x: np.ndarray, z: np.ndarray, scale_arcsec: float, height_arcsec: float, end_arcsec: float
) -> np.ndarray:
    """An exponential disk seen from its side (H, W): sech^2 in height, fading out at `end_arcsec`.

    Van der Kruit & Searle 1981, A&A 95, 105. The line of sight flattens the middle, for which the
    radius is softened by half a scale length.
    """
    radius = np.hypot(x, 0.5 * scale_arcsec)
    # exp of more than 30 is as good as an end.
    beyond = np.clip((np.abs(x) - end_arcsec) / (0.3 * scale_arcsec), -30, 30)
    height = np.clip(np.abs(z) / height_arcsec, 0, 20)
    return np.exp(-radius / scale_arcsec) / np.cosh(height) ** 2 / (1 + np.exp(beyond))


def noise(rng: Generator, side_px: int, grain_px: float) -> np.ndarray:
    """Smooth noise (side, side) of mean 0 and deviation 1, float32, with grains of `grain_px`.

    Interpolated from a grid of one point per grain: as blurred noise, at a fraction of its cost.
    """
    cells = max(4, math.ceil(side_px / (2 * max(grain_px, 0.5))))
    coarse = rng.standard_normal((cells, cells), dtype=np.float32)
    fine = cv2.resize(coarse, (side_px, side_px), interpolation=cv2.INTER_CUBIC)
    return (fine - fine.mean()) / max(float(fine.std()), 1e-6)


def texture(rng: Generator, side_px: int, grain_px: float, strength: float) -> np.ndarray:
    """Lognormal patches (side, side) of median 1: star-forming regions of size `grain_px`."""
    return np.exp(strength * noise(rng, side_px, grain_px))


def clumps(
    rng: Generator, x: np.ndarray, y: np.ndarray, count: int, spread_arcsec: float
) -> np.ndarray:
    """`count` knots of lognormal flux scattered over `spread_arcsec`, crowded to one side."""
    light = np.zeros(np.broadcast(x, y).shape, np.float32)
    for _ in range(count):
        dx = x - rng.normal(0.4 * spread_arcsec, spread_arcsec)
        dy = y - rng.normal(0.0, spread_arcsec)
        size = spread_arcsec * rng.uniform(0.12, 0.4)
        flux = np.float32(rng.lognormal(0.0, 0.8))
        light += flux * (np.exp(-(dx**2 + dy**2) / (2 * size**2)) / (2 * math.pi * size**2))
    return light


def tidal_tail(
    x: np.ndarray, y: np.ndarray, start_arcsec: float, sweep_rad: float, width_arcsec: float
) -> np.ndarray:
    """A tail that leaves at `start_arcsec` on the x axis, opens outwards and fades (H, W)."""
    along = np.mod(np.arctan2(y, x) + 0.5, 2 * math.pi) - 0.5
    ridge = start_arcsec * (1 + 0.5 * along)
    width = width_arcsec * (1 + 0.4 * np.maximum(along, 0))
    fading = np.exp(-np.maximum(along, 0) / sweep_rad - 4 * np.maximum(-along, 0))
    return np.exp(-((np.hypot(x, y) - ridge) ** 2) / (2 * width**2)) * fading
