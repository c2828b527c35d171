"""The two disturbed classes: irregulars (clumpy, lopsided, blue) and mergers (two bodies)."""

import math
from dataclasses import replace

import numpy as np

from gz2vit.simulation import structures
from gz2vit.simulation.canvas import NATIVE_PIXEL_ARCSEC, Canvas, Component, random_angle, sersic
from gz2vit.simulation.disks import HALF_LIGHT_PER_SCALE, edge_on, unbarred_spiral
from gz2vit.simulation.spheroids import spheroid

# Measured on the drawings (Petrosian, in circles, with seeing).
R90_PER_SCALE_IRREGULAR = 2.9
# Projected distance of the two bodies in units of the R90 of the larger: with the R90 of the whole
# at 50 px they end up about 20 to 60 px apart.
SEPARATION = (0.6, 2.6)


def irregular(rng: np.random.Generator, canvas: Canvas, r90: float) -> list[Component]:
    """A faint disk and blue knots, both off the centre and crowded to one side."""
    angle = random_angle(rng)
    axis_ratio = rng.uniform(0.35, 0.9)
    scale = r90 / R90_PER_SCALE_IRREGULAR
    shift = rng.uniform(0.1, 0.5) * scale
    aside = canvas.moved(-shift * math.cos(angle), -shift * math.sin(angle))
    disk = sersic(1.0, HALF_LIGHT_PER_SCALE * scale, axis_ratio, angle)
    x, y = canvas.plane(axis_ratio, angle)
    knots = structures.clumps(rng, x, y, int(rng.integers(4, 13)), 0.9 * scale)
    haze = structures.texture(rng, canvas.side_px, 0.3 * scale / NATIVE_PIXEL_ARCSEC, 0.7)
    knot_share, haze_share = rng.uniform(0.3, 0.55), rng.uniform(0.15, 0.35)
    return [
        Component(aside.smooth(disk), 1 - knot_share - haze_share, 0.05),
        Component(canvas.structured(knots), knot_share, -0.15),
        Component(canvas.structured(haze * np.exp(-np.hypot(x, y) / scale)), haze_share, -0.02),
    ]


def merger(rng: np.random.Generator, canvas: Canvas, r90: float) -> list[Component]:
    """Two bodies, the brighter at the centre, with a bridge between them and a tail or two."""
    angle = random_angle(rng)
    separation = rng.uniform(*SEPARATION)
    # Measured on the drawings: the circle that holds 90 % of the light grows with the separation.
    radius = r90 / (1.1 + 0.5 * separation)
    distance = separation * radius
    second = canvas.moved(distance * math.cos(angle), distance * math.sin(angle))
    second_share = rng.uniform(0.25, 0.5)
    debris_share = rng.uniform(0.12, 0.35)
    first_body = _body(rng, canvas, radius)
    second_body = _body(rng, second, radius * rng.uniform(0.6, 1.0))
    debris = _debris(rng, canvas, second, distance, angle)
    stars = 1 - debris_share
    return [
        *_scaled(first_body, stars * (1 - second_share)),
        *_scaled(second_body, stars * second_share),
        Component(canvas.structured(debris), debris_share, -0.08),
    ]


def _body(rng: np.random.Generator, canvas: Canvas, r90: float) -> list[Component]:
    """One of the two galaxies of a merger: a spheroid, a spiral or an edge-on disk."""
    kind = rng.random()
    if kind < 0.45:
        return spheroid(rng, canvas, r90, rng.uniform(0.5, 1.0), rng.uniform(1.5, 3.0))
    return (unbarred_spiral if kind < 0.85 else edge_on)(rng, canvas, r90)


def _scaled(components: list[Component], factor: float) -> list[Component]:
    """The same components with their shares multiplied by `factor`."""
    return [replace(component, share=component.share * factor) for component in components]


def _debris(
    rng: np.random.Generator, first: Canvas, second: Canvas, distance: float, angle: float
) -> np.ndarray:
    """Surface brightness of the bridge and of a tail from either body (H, W)."""
    width = rng.uniform(0.1, 0.2) * distance + 0.5
    x, y = first.plane(1.0, angle)
    light = rng.uniform(0.3, 1.0) * structures.bridge(x, y, distance, width)
    for canvas, outwards in ((first, angle + math.pi), (second, angle)):
        x, y = canvas.plane(1.0, outwards + rng.normal(0.0, 0.6))
        y = y * rng.choice([-1, 1])
        sweep = rng.uniform(0.5, 1.5)
        tail = structures.tidal_tail(x, y, rng.uniform(0.5, 0.9) * distance, sweep, width)
        light = light + rng.uniform(0.0, 1.0) * tail
    return light
