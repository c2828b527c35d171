"""Disks seen from their side: sech^2 in height, truncated, mostly with a bulge, at times with dust.

Van der Kruit & Searle 1981 (A&A 95, 105): heights and truncations; scale heights of 0.1 to 0.2
scale lengths are those of Kregel et al. 2002 (MNRAS 334, 646).
"""

import numpy as np

from gz2vit.simulation import structures
from gz2vit.simulation.canvas import (
    NATIVE_PIXEL_ARCSEC,
    Canvas,
    Component,
    random_angle,
    sersic,
)

# Measured on the drawings (Petrosian, in circles, with seeing).
R90_PER_SCALE_EDGE_ON = 2.5


def edge_on(rng: np.random.Generator, canvas: Canvas, r90: float) -> list[Component]:
    """A thin, at times warped disk, with a bulge in two of three and a dust lane in one of three.

    Without bulge and dust it is redder or bluer as a whole, and still thinner than a cigar.
    """
    angle = random_angle(rng)
    scale = r90 / R90_PER_SCALE_EDGE_ON
    x, z = canvas.plane(1.0, angle)
    warp = rng.normal(0.0, 0.03) * np.sign(x) * np.maximum(np.abs(x) / scale - 1.2, 0) ** 2
    height = max(rng.uniform(0.08, 0.19) * scale, 0.5 * NATIVE_PIXEL_ARCSEC)
    light = structures.edge_on_disk(
        x, z - scale * warp, scale, height, rng.uniform(2.2, 5.0) * scale
    )
    bulge = sersic(
        rng.choice([1.0, 2.0, 3.0]),
        rng.uniform(0.2, 0.6) * scale,
        rng.uniform(0.45, 0.9),
        angle,
    )
    bulge_share = rng.uniform(0.08, 0.42) if rng.random() < 0.7 else 0.0
    dust_share = rng.uniform(0.06, 0.2) if rng.random() < 0.35 else 0.0
    return [
        Component(canvas.structured(light), 1 - bulge_share + dust_share, -0.06),
        Component(canvas.smooth(bulge), bulge_share, 0.15),
        # Dust takes more light away in g than in r: what it takes is bluer than the galaxy.
        Component(_lane(rng, canvas, scale, angle), -dust_share, -0.25),
    ]


def _lane(rng: np.random.Generator, canvas: Canvas, scale: float, angle: float) -> np.ndarray:
    """The light that a dust lane takes away (H, W)."""
    x, z = canvas.plane(1.0, angle)
    # A lane thinner than a pixel would fall between the samples.
    width = max(0.1 * scale, 0.5 * NATIVE_PIXEL_ARCSEC)
    height = rng.normal(0.0, 0.06) * scale
    return canvas.structured(structures.dust_lane(x, z - height, scale, width))
