"""Irregulars: clumpy, lopsided, blue galaxies without a centre.

The other half of this class, ordinary galaxies in images that something has spoilt, is drawn as a
smooth galaxy; see `artifacts`.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from gz2sim import disks, spheroids
from gz2sim import disks as structures
from gz2sim.canvas import NATIVE_PIXEL_ARCSEC, Canvas, Component, random_angle, sersic
from gz2sim.disks import HALF_LIGHT_PER_SCALE, barred_spiral, edge_on, unbarred_spiral
from gz2sim.spheroids import lenticular, spheroid

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


# ------------------------------------------------------------------------------------------
# Mergers: two bodies of any kind at any stage, with bridges, tails, shells and common haloes.
#
# The morphology is that of Toomre & Toomre 1972 (ApJ 178, 623) for tails and bridges; the mixture of
# pairs was set to that of visually selected mergers in Darg et al. 2010 (MNRAS 401, 1043: mass
# ratios mostly 1:3 to 1:1, spirals twice as many as ellipticals, a few chance superpositions).

# Projected distance of the two bodies in units of the R90 of the larger: with the R90 of the whole
# at 50 px most end up 12 to 60 px apart.
SEPARATION = (0.35, 2.2)


def merger(rng: np.random.Generator, canvas: Canvas, r90: float) -> list[Component]:
    """Two bodies, the brighter at the centre, in colours of their own, and their debris."""
    angle = random_angle(rng)
    # Close pairs are more often called mergers than wide ones.
    separation = SEPARATION[0] + (SEPARATION[1] - SEPARATION[0]) * rng.beta(1.2, 1.8)
    # Measured on the drawings: the circle that holds 90 % of the light grows with the separation.
    radius = r90 / (1.05 + 0.5 * separation)
    distance = separation * radius
    second = canvas.moved(distance * math.cos(angle), distance * math.sin(angle))
    second_share = rng.uniform(0.15, 0.5)
    dry = rng.random() < 0.3
    debris_share = rng.uniform(0.0, 0.15) if dry else rng.uniform(0.05, 0.35)
    bodies = [
        *_scaled(_body(rng, canvas, radius, dry), 1 - second_share, rng.normal(0.0, 0.06)),
        *_scaled(
            _body(rng, second, radius * rng.uniform(0.45, 1.0), dry),
            second_share,
            rng.normal(0.0, 0.2),
        ),
    ]
    debris = _halo if dry else _tails
    return [
        *_scaled(bodies, 1 - debris_share, 0.0),
        Component(
            debris(rng, canvas, second, distance, angle), debris_share, 0.0 if dry else -0.12
        ),
    ]


def _body(rng: np.random.Generator, canvas: Canvas, r90: float, dry: bool) -> list[Component]:
    """One of the two galaxies: without gas (`dry`) a spheroid, otherwise mostly a disk."""
    kind = 0.0 if dry else rng.random()
    if kind < 0.2:
        return spheroid(rng, canvas, r90, rng.uniform(0.5, 1.0), rng.uniform(1.5, 4.0))
    if kind < 0.4:
        return lenticular(rng, canvas, r90, rng.uniform(0.3, 0.9))
    if kind < 0.7:
        return unbarred_spiral(rng, canvas, r90)
    if kind < 0.78:
        return barred_spiral(rng, canvas, r90)
    return (edge_on if kind < 0.9 else irregular)(rng, canvas, r90)


def _scaled(components: list[Component], factor: float, redder_mag: float) -> list[Component]:
    """The same components with shares multiplied by `factor`, redder by `redder_mag`."""
    return [
        replace(
            component,
            share=component.share * factor,
            redder_mag=component.redder_mag + redder_mag,
        )
        for component in components
    ]


def _halo(
    rng: np.random.Generator, first: Canvas, second: Canvas, distance: float, angle: float
) -> np.ndarray:
    """The common halo of two bodies without gas (H, W), at times with a shell."""
    x, y = first.coordinates()
    middle = distance / 2 * math.cos(angle), distance / 2 * math.sin(angle)
    common = first.moved(*middle)
    light = common.smooth(sersic(1.0, rng.uniform(1.0, 1.6) * distance + 1.0, 0.8, angle))
    if rng.random() < 0.3:
        x, y = common.plane(0.9, angle)
        shell = structures.ring(x, y, rng.uniform(1.2, 2.0) * distance, 0.15 * distance + 0.4)
        one_side = 1 / (1 + np.exp(-np.clip(4 * x / distance, -30, 30)))
        light = 0.8 * light + 0.2 * common.structured(shell * one_side)
    return light


def _tails(
    rng: np.random.Generator, first: Canvas, second: Canvas, distance: float, angle: float
) -> np.ndarray:
    """The bridge and a tail from either body (H, W), as clumpy as young stars are."""
    width = rng.uniform(0.12, 0.3) * distance + 0.5
    x, y = first.plane(1.0, angle)
    light = rng.uniform(0.2, 1.0) * structures.bridge(x, y, distance, width)
    for canvas, outwards in ((first, angle + math.pi), (second, angle)):
        x, y = canvas.plane(1.0, outwards + rng.normal(0.0, 0.8))
        y = y * rng.choice([-1, 1])
        sweep = rng.uniform(0.4, 2.0)
        tail = structures.tidal_tail(x, y, rng.uniform(0.5, 1.1) * distance, sweep, width)
        light = light + rng.uniform(0.0, 1.2) * tail
    return first.structured(light * structures.texture(rng, first.side_px, 3.0, 0.4))


# ------------------------------------------------------------------------------------------
# Which builder draws which class.
#
# A builder takes a random generator, a canvas and the radius that should hold 90 % of the light
# (arcsec); it returns components whose shares of the r-band flux sum to 1.

Builder = Callable[[np.random.Generator, Canvas, float], list[Component]]

# In the order of `paper.CLASS_NAMES`.
BUILDERS: tuple[Builder, ...] = (
    spheroids.round_elliptical,
    spheroids.in_between,
    spheroids.cigar_shaped,
    edge_on,
    disks.barred_spiral,
    disks.unbarred_spiral,
    irregular,
    merger,
)


def draw_components(
    class_index: int, rng: np.random.Generator, canvas: Canvas, r90_arcsec: float
) -> list[Component]:
    """The components of one galaxy of a class, each through the seeing on `canvas`."""
    components = BUILDERS[class_index](rng, canvas, r90_arcsec)
    return [component for component in components if component.share != 0]
