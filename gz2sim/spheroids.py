"""The three smooth classes, told apart by their axis ratio.

The ranges of axis ratio are those at which Galaxy Zoo 2 volunteers answer "completely round",
"in between" and "cigar shaped" (Willett et al. 2013, question T07), with gaps where they disagree.
"Smooth" is what volunteers say, not what a galaxy is: besides ellipticals these classes hold
lenticulars, smooth disks, and spirals whose arms cannot be made out (ibid., section 5).
"""

from collections.abc import Sequence

import numpy as np

from gz2sim import disks as structures
from gz2sim.canvas import Canvas, Component, random_angle, sersic
from gz2sim.disks import unbarred_spiral

# Measured on the drawings (Petrosian, in circles, with seeing): R90 is 3.0 half-light radii of the
# body and, since circles cut an elongated body short, falls as its axis ratio to the power 0.42.
R90_PER_HALF_LIGHT = 3.0
R90_AXIS_POWER = 0.42
# How many of the round and in-between ones are spirals whose arms nobody noticed.
HIDDEN_SPIRALS = 0.06


def spheroid(
    rng: np.random.Generator, canvas: Canvas, r90: float, axis_ratio: float, index: float
) -> list[Component]:
    """A Sersic body and a core, rounder or an embedded disk, redder or, now and then, bluer."""
    angle = random_angle(rng)
    radius = r90 / (R90_PER_HALF_LIGHT * axis_ratio**R90_AXIS_POWER)
    body = sersic(index, radius, axis_ratio, angle)
    core_ratio = min(1.0, axis_ratio * rng.uniform(0.75, 1.25))
    core = sersic(rng.choice([1.0, 2.0]), rng.uniform(0.1, 0.35) * radius, core_ratio, angle)
    core_share = rng.uniform(0.02, 0.35)
    # Cores that form stars, or are active, are blue: one in twenty real images.
    redder = 0.12 if rng.random() < 0.94 else -0.5
    return [
        Component(canvas.smooth(body), 1 - core_share, -0.04),
        Component(canvas.smooth(core), core_share, redder),
    ]


def lenticular(
    rng: np.random.Generator,
    canvas: Canvas,
    r90: float,
    axis_ratio: float,
    indices: Sequence[float] = (0.5, 1.0),
) -> list[Component]:
    """A smooth disk of one of the Sersic `indices` around a bulge of up to half of the light."""
    angle = random_angle(rng)
    radius = r90 / (2.4 * axis_ratio**R90_AXIS_POWER)
    disk = sersic(rng.choice(indices), radius, axis_ratio, angle)
    round_part = (1 + 2 * axis_ratio) / 3
    bulge = sersic(rng.uniform(1.5, 4.0), rng.uniform(0.1, 0.35) * radius, round_part, angle)
    bulge_share = rng.uniform(0.02, 0.45)
    return [
        Component(canvas.smooth(disk), 1 - bulge_share, -0.06),
        Component(canvas.smooth(bulge), bulge_share, 0.12),
    ]


def round_elliptical(rng: np.random.Generator, canvas: Canvas, r90: float) -> list[Component]:
    """A smooth body that volunteers call completely round."""
    axis_ratio = rng.uniform(0.8, 1.0)
    if rng.random() < HIDDEN_SPIRALS:
        return unbarred_spiral(rng, canvas, r90, 0.15, axis_ratio)
    if rng.random() < 0.25:
        return lenticular(rng, canvas, r90, axis_ratio, indices=(1.0,))
    return spheroid(rng, canvas, r90, axis_ratio, rng.uniform(1.5, 6.0))


def in_between(rng: np.random.Generator, canvas: Canvas, r90: float) -> list[Component]:
    """A smooth body between round and cigar-shaped: an elliptical, lenticular or smooth disk."""
    axis_ratio = rng.uniform(0.42, 0.8)
    if rng.random() < HIDDEN_SPIRALS:
        return unbarred_spiral(rng, canvas, r90, 0.15, axis_ratio)
    if rng.random() < 0.45:
        return lenticular(rng, canvas, r90, axis_ratio)
    return spheroid(rng, canvas, r90, axis_ratio, rng.uniform(0.8, 5.5))


def cigar_shaped(rng: np.random.Generator, canvas: Canvas, r90: float) -> list[Component]:
    """A smooth, very elongated body: thicker than an edge-on disk, and without a clear bulge."""
    axis_ratio = rng.uniform(0.2, 0.4)
    if rng.random() < 0.4:
        return spheroid(rng, canvas, r90, axis_ratio, rng.uniform(0.6, 2.4))
    return _thick_disk(rng, canvas, r90, axis_ratio)


def _thick_disk(
    rng: np.random.Generator, canvas: Canvas, r90: float, axis_ratio: float
) -> list[Component]:
    """A truncated disk that is thick or not quite edge-on, with a faint bulge as flat as itself."""
    angle = random_angle(rng)
    scale = r90 / 2.4
    x, z = canvas.plane(1.0, angle)
    end = rng.uniform(1.6, 3.2)
    # Measured: the disk's deviation along x is 0.35 + 0.25 ends; that of sech^2 is 0.91 heights.
    height = axis_ratio * (0.35 + 0.25 * end) / 0.91
    light = structures.edge_on_disk(x, z, scale, height * scale, end * scale)
    core_share = rng.uniform(0.0, 0.18)
    core = sersic(1.5, 0.3 * scale, min(1.0, 1.5 * axis_ratio), angle)
    return [
        Component(canvas.structured(light), 1 - core_share, -0.02),
        Component(canvas.smooth(core), core_share, 0.12),
    ]
