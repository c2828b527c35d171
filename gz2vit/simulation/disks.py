"""The three disk classes: edge-on, barred and unbarred spirals.

An exponential disk of old stars, a redder Sersic bulge and bluer arms (Freeman 1970 disks,
logarithmic arms); the bar, where there is one, is as red as the bulge and the arms leave its ends.
"""

import math
from dataclasses import dataclass

import galsim
import numpy as np

from gz2vit.simulation import structures
from gz2vit.simulation.canvas import (
    FAST,
    NATIVE_PIXEL_ARCSEC,
    Canvas,
    Component,
    random_angle,
    sersic,
)

# An exponential disk has half of its light within 1.68 scale lengths.
HALF_LIGHT_PER_SCALE = 1.678
# R90 in scale lengths: 3.9 for a bare face-on disk; measured on the drawings (Petrosian, in
# circles, with seeing) for the others, whose bulge, bar or inclination gathers the light.
R90_PER_SCALE = 3.9
R90_PER_SCALE_BARRED = 3.6
R90_PER_SCALE_EDGE_ON = 2.6


@dataclass(frozen=True)
class Disk:
    """The plane of a spiral: scale length, apparent axis ratio and position angle."""

    scale_arcsec: float
    axis_ratio: float
    angle_rad: float

    def old_stars(self, canvas: Canvas) -> np.ndarray:
        """Light of the smooth exponential disk (H, W)."""
        half_light = HALF_LIGHT_PER_SCALE * self.scale_arcsec
        return canvas.smooth(sersic(1.0, half_light, self.axis_ratio, self.angle_rad))

    def bulge(self, canvas: Canvas, radius_in_scales: float) -> np.ndarray:
        """Light of a bulge (H, W), half as flattened as the disk."""
        radius = radius_in_scales * self.scale_arcsec
        axis_ratio = (1 + self.axis_ratio) / 2
        return canvas.smooth(sersic(2.0, radius, axis_ratio, self.angle_rad))

    def arms(self, rng: np.random.Generator, canvas: Canvas, arms: structures.Arms) -> np.ndarray:
        """Light of young stars along spiral arms (H, W), in patches an eighth of a scale wide."""
        x, y = canvas.plane(self.axis_ratio, self.angle_rad)
        grain_px = 0.125 * self.scale_arcsec / NATIVE_PIXEL_ARCSEC
        patches = structures.texture(rng, canvas.side_px, grain_px, rng.uniform(0.3, 0.9))
        # Young stars reach further out than old ones.
        return canvas.structured(
            structures.spiral_arms(x, y, 1.3 * self.scale_arcsec, arms) * patches
        )

    def bar(self, canvas: Canvas, length: float, width: float, angle_rad: float) -> np.ndarray:
        """Light of a bar at `angle_rad` from the line of nodes (H, W); lengths in arcsec."""
        x, y = canvas.plane(self.axis_ratio, self.angle_rad)
        cosine, sine = math.cos(angle_rad), math.sin(angle_rad)
        light = structures.bar(x * cosine + y * sine, y * cosine - x * sine, length, width)
        return canvas.structured(light)


def edge_on(rng: np.random.Generator, canvas: Canvas, r90: float) -> list[Component]:
    """A disk with sech^2 height within 6 degrees of edge-on, mostly a bulge, at times dust."""
    angle = random_angle(rng)
    scale = r90 / R90_PER_SCALE_EDGE_ON
    disk = galsim.InclinedExponential(
        rng.uniform(84.0, 90.0) * galsim.degrees,
        scale_radius=scale,
        scale_h_over_r=rng.uniform(0.07, 0.14),
        gsparams=FAST,
    ).rotate(angle * galsim.radians)
    bulge = sersic(2.0, rng.uniform(0.3, 0.7) * scale, rng.uniform(0.5, 0.85), angle)
    bulge_share = rng.uniform(0.05, 0.3) if rng.random() < 0.7 else 0.0
    dust_share = rng.uniform(0.08, 0.2) if rng.random() < 0.4 else 0.0
    return [
        Component(canvas.smooth(disk), 1 - bulge_share + dust_share, -0.04),
        Component(canvas.smooth(bulge), bulge_share, 0.15),
        # Dust takes more light away in g than in r: what it takes is bluer than the galaxy.
        Component(_lane(rng, canvas, scale, angle), -dust_share, -0.25),
    ]


def _lane(rng: np.random.Generator, canvas: Canvas, scale: float, angle: float) -> np.ndarray:
    """The light that a dust lane takes away (H, W)."""
    x, z = canvas.plane(1.0, angle)
    # A lane thinner than a pixel would fall between the samples.
    width = max(0.1 * scale, 0.5 * NATIVE_PIXEL_ARCSEC)
    height = rng.normal(0.0, 0.05) * scale
    return canvas.structured(structures.dust_lane(x, z - height, scale, width))


def unbarred_spiral(rng: np.random.Generator, canvas: Canvas, r90: float) -> list[Component]:
    """Two to four arms that start near the bulge."""
    disk = Disk(r90 / R90_PER_SCALE, rng.uniform(0.4, 1.0), random_angle(rng))
    arms = structures.Arms(
        count=int(rng.choice([2, 2, 2, 3, 4])),
        pitch_rad=math.radians(rng.uniform(12.0, 28.0)),
        start_arcsec=rng.uniform(0.3, 0.7) * disk.scale_arcsec,
        phase_rad=random_angle(rng),
        sharpness=rng.uniform(1.5, 4.0),
        sense=int(rng.choice([-1, 1])),
    )
    bulge_share, arm_share = rng.uniform(0.04, 0.2), rng.uniform(0.4, 0.65)
    return [
        Component(disk.old_stars(canvas), 1 - bulge_share - arm_share, 0.03),
        Component(disk.bulge(canvas, rng.uniform(0.25, 0.5)), bulge_share, 0.2),
        Component(disk.arms(rng, canvas, arms), arm_share, -0.16),
    ]


def barred_spiral(rng: np.random.Generator, canvas: Canvas, r90: float) -> list[Component]:
    """A red bar across the bulge and two arms that leave from its ends."""
    disk = Disk(r90 / R90_PER_SCALE_BARRED, rng.uniform(0.5, 1.0), random_angle(rng))
    length = rng.uniform(1.0, 1.7) * disk.scale_arcsec
    bar_angle = random_angle(rng)
    arms = structures.Arms(
        count=2,
        pitch_rad=math.radians(rng.uniform(10.0, 24.0)),
        start_arcsec=length,
        phase_rad=bar_angle,
        sharpness=rng.uniform(1.5, 4.0),
        sense=int(rng.choice([-1, 1])),
    )
    width = rng.uniform(0.18, 0.3) * length
    bulge_share, arm_share = rng.uniform(0.04, 0.12), rng.uniform(0.3, 0.45)
    bar_share = rng.uniform(0.18, 0.32)
    return [
        Component(disk.old_stars(canvas), 1 - bulge_share - arm_share - bar_share, 0.0),
        Component(disk.bulge(canvas, rng.uniform(0.2, 0.4)), bulge_share, 0.15),
        Component(disk.bar(canvas, length, width, bar_angle), bar_share, 0.12),
        Component(disk.arms(rng, canvas, arms), arm_share, -0.16),
    ]
