"""Irregulars: clumpy, lopsided, blue galaxies without a centre.

The other half of this class, ordinary galaxies in images that something has spoilt, is drawn as a
smooth galaxy; see `artifacts`.
"""

import math

import numpy as np

from gz2vit.simulation import structures
from gz2vit.simulation.canvas import NATIVE_PIXEL_ARCSEC, Canvas, Component, random_angle, sersic
from gz2vit.simulation.disks import HALF_LIGHT_PER_SCALE

# Measured on the drawings (Petrosian, in circles, with seeing).
R90_PER_SCALE_IRREGULAR = 2.9


def irregular(rng: np.random.Generator, canvas: Canvas, r90: float) -> list[Component]:
    """A faint disk and blue knots, both off the centre and crowded to one side."""
    angle = random_angle(rng)
    axis_ratio = rng.uniform(0.3, 0.9)
    scale = r90 / R90_PER_SCALE_IRREGULAR
    shift = rng.uniform(0.1, 0.7) * scale
    aside = canvas.moved(-shift * math.cos(angle), -shift * math.sin(angle))
    disk = sersic(rng.choice([0.5, 1.0]), HALF_LIGHT_PER_SCALE * scale, axis_ratio, angle)
    x, y = canvas.plane(axis_ratio, angle)
    knots = structures.clumps(rng, x, y, int(rng.integers(2, 13)), rng.uniform(0.5, 1.0) * scale)
    haze = structures.texture(rng, canvas.side_px, 0.3 * scale / NATIVE_PIXEL_ARCSEC, 0.7)
    knot_share, haze_share = rng.uniform(0.15, 0.5), rng.uniform(0.15, 0.4)
    return [
        Component(aside.smooth(disk), 1 - knot_share - haze_share, 0.05),
        Component(canvas.structured(knots), knot_share, -rng.uniform(0.1, 0.3)),
        Component(canvas.structured(haze * np.exp(-np.hypot(x, y) / scale)), haze_share, -0.04),
    ]
