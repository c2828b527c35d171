"""The three smooth classes: Sersic bodies told apart by their axis ratio alone.

The ranges of axis ratio are those at which Galaxy Zoo 2 volunteers answer "completely round",
"in between" and "cigar shaped" (Willett et al. 2013, question T07), with gaps where they disagree.
"""

import numpy as np

from gz2vit.simulation.canvas import Canvas, Component, random_angle, sersic

# Measured on the drawings (Petrosian, in circles, with seeing): R90 is 3.0 half-light radii of the
# body and, since circles cut an elongated body short, falls as its axis ratio to the power 0.42.
R90_PER_HALF_LIGHT = 3.0
R90_AXIS_POWER = 0.42


def spheroid(
    rng: np.random.Generator, canvas: Canvas, r90: float, axis_ratio: float, index: float
) -> list[Component]:
    """A Sersic body and a small, rounder, redder core."""
    angle = random_angle(rng)
    radius = r90 / (R90_PER_HALF_LIGHT * axis_ratio**R90_AXIS_POWER)
    body = sersic(index, radius, axis_ratio, angle)
    core = sersic(2.0, 0.25 * radius, min(1.0, axis_ratio + 0.1), angle)
    core_share = rng.uniform(0.02, 0.15)
    return [
        Component(canvas.smooth(body), 1 - core_share, -0.02),
        Component(canvas.smooth(core), core_share, 0.08),
    ]


def round_elliptical(rng: np.random.Generator, canvas: Canvas, r90: float) -> list[Component]:
    """A smooth body that volunteers call completely round."""
    return spheroid(rng, canvas, r90, rng.uniform(0.84, 1.0), rng.uniform(1.5, 4.2))


def in_between(rng: np.random.Generator, canvas: Canvas, r90: float) -> list[Component]:
    """A smooth body between round and cigar-shaped."""
    return spheroid(rng, canvas, r90, rng.uniform(0.46, 0.78), rng.uniform(1.2, 4.2))


def cigar_shaped(rng: np.random.Generator, canvas: Canvas, r90: float) -> list[Component]:
    """A smooth, very elongated body: thicker than an edge-on disk, and without a clear bulge."""
    return spheroid(rng, canvas, r90, rng.uniform(0.2, 0.36), rng.uniform(0.8, 2.2))
