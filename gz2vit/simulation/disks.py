"""The two disk classes seen from above: barred and unbarred spirals.

An exponential disk of old stars (Freeman 1970), a redder Sersic bulge and bluer arms, which are
logarithmic, flocculent (Elmegreen & Elmegreen 1982, MNRAS 201, 1021) or between the two; the bar,
where there is one, is as red as the bulge, often in a lens or ring, and the arms leave its ends.
How strong the arms are was set so that as many of them can hardly be seen as in real images.
"""

import math
from dataclasses import dataclass

import numpy as np

from gz2vit.simulation import structures
from gz2vit.simulation.canvas import (
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
R90_PER_SCALE = 3.7
R90_PER_SCALE_BARRED = 3.5
# Half the length of the shortest bar that shows, in FWHM of the seeing.
SHORTEST_BAR_FWHM = 1.5


@dataclass(frozen=True)
class Disk:
    """The plane of a spiral: scale length, apparent axis ratio and position angle."""

    scale_arcsec: float
    axis_ratio: float
    angle_rad: float

    def old_stars(self, rng: np.random.Generator, canvas: Canvas) -> np.ndarray:
        """Light of the smooth disk (H, W): exponential, or bent down outside as most disks are.

        Pohlen & Trujillo 2006 (A&A 454, 759): 60 % bend down; a Gaussian of the same half-light
        radius does as much.
        """
        half_lights = self._radius(canvas) / (HALF_LIGHT_PER_SCALE * self.scale_arcsec)
        if rng.random() < 0.4:
            return canvas.structured(np.exp(-HALF_LIGHT_PER_SCALE * half_lights))
        return canvas.structured(np.exp(-math.log(2) * half_lights**2))

    def lens(self, canvas: Canvas, radius: float) -> np.ndarray:
        """Light of a lens (H, W), evenly bright out to about its half-light radius in arcsec."""
        return canvas.structured(np.exp(-math.log(2) * (self._radius(canvas) / radius) ** 2))

    def _radius(self, canvas: Canvas) -> np.ndarray:
        """Distance from the centre in the plane of the disk (H, W) in arcsec."""
        return np.hypot(*canvas.plane(self.axis_ratio, self.angle_rad))

    def bulge(self, canvas: Canvas, radius_in_scales: float, index: float) -> np.ndarray:
        """Light of a Sersic bulge (H, W), half as flattened as the disk."""
        radius = radius_in_scales * self.scale_arcsec
        axis_ratio = (1 + self.axis_ratio) / 2
        return canvas.smooth(sersic(index, radius, axis_ratio, self.angle_rad))

    def arms(
        self, rng: np.random.Generator, canvas: Canvas, arms: structures.Arms, flocculence: float
    ) -> np.ndarray:
        """Light of young stars (H, W): ordered arms and, for a part 0 to 1, flocculent ones."""
        x, y = canvas.plane(self.axis_ratio, self.angle_rad)
        scale_px = self.scale_arcsec / NATIVE_PIXEL_ARCSEC
        patches = structures.texture(rng, canvas.side_px, 0.125 * scale_px, rng.uniform(0.2, 0.8))
        bent = rng.uniform(0.1, 0.5) * structures.noise(rng, canvas.side_px, scale_px)
        # Young stars reach further out than old ones.
        reach = rng.uniform(1.1, 1.6) * self.scale_arcsec
        light = (1 - flocculence) * structures.spiral_arms(x, y, reach, arms, bent)
        if flocculence > 0:
            light = light + flocculence * structures.flocculent_arms(rng, x, y, reach, arms)
        # One side of most disks is brighter (lopsidedness: Zaritsky & Rix 1997, ApJ 477, 118).
        lopsided = 1 + rng.uniform(0.0, 0.5) * np.tanh(x / (2 * self.scale_arcsec))
        return canvas.structured(light * patches * lopsided)

    def bar(self, canvas: Canvas, length: float, width: float, angle_rad: float) -> np.ndarray:
        """Light of a bar at `angle_rad` from the line of nodes (H, W); lengths in arcsec."""
        x, y = canvas.plane(self.axis_ratio, self.angle_rad)
        cosine, sine = math.cos(angle_rad), math.sin(angle_rad)
        light = structures.bar(x * cosine + y * sine, y * cosine - x * sine, length, width)
        return canvas.structured(light)

    def ring(self, canvas: Canvas, radius: float, width: float) -> np.ndarray:
        """Light of a ring in the plane (H, W); lengths in arcsec."""
        x, y = canvas.plane(self.axis_ratio, self.angle_rad)
        return canvas.structured(structures.ring(x, y, radius, width))


def unbarred_spiral(
    rng: np.random.Generator,
    canvas: Canvas,
    r90: float,
    strongest_arms: float = 0.65,
    axis_ratio: float | None = None,
) -> list[Component]:
    """Arms of any number and order that start near the bulge, from faint to striking.

    Inclined to `axis_ratio`, or at random; arms have at most `strongest_arms` of the disk's light.
    """
    axis_ratio = axis_ratio or rng.uniform(0.28, 1.0)
    disk = Disk(r90 / R90_PER_SCALE, axis_ratio, random_angle(rng))
    arms = structures.Arms(
        count=int(rng.choice([1, 2, 2, 2, 3, 4])),
        pitch_rad=math.radians(rng.uniform(8.0, 30.0)),
        start_arcsec=rng.uniform(0.3, 0.9) * disk.scale_arcsec,
        phase_rad=random_angle(rng),
        sharpness=rng.uniform(0.8, 3.5),
        sense=int(rng.choice([-1, 1])),
    )
    # Bulges of late types are faint and exponential, those of early types bright and peaked.
    bulge_share = rng.uniform(0.02, 0.3)
    index = 1.0 + 6.0 * bulge_share
    arm_share = (1 - bulge_share) * rng.uniform(0.35 * strongest_arms, strongest_arms)
    young = -rng.uniform(0.08, 0.3)
    return [
        Component(disk.old_stars(rng, canvas), 1 - bulge_share - arm_share, 0.0),
        Component(disk.bulge(canvas, rng.uniform(0.1, 0.4), index), bulge_share, 0.32),
        Component(disk.arms(rng, canvas, arms, _flocculence(rng)), arm_share, young),
    ]


def _flocculence(rng: np.random.Generator) -> float:
    """The part of the young stars outside ordered arms: 60 % of spirals have none such alone."""
    return float(rng.choice([0.0, rng.uniform(0.2, 0.8), 1.0], p=[0.3, 0.35, 0.35]))


def barred_spiral(rng: np.random.Generator, canvas: Canvas, r90: float) -> list[Component]:
    """A red bar across the bulge, in a lens or ring more often than not, and arms from its ends."""
    disk = Disk(r90 / R90_PER_SCALE_BARRED, rng.uniform(0.4, 1.0), random_angle(rng))
    # Bars that the seeing hides are not called bars.
    length = max(rng.uniform(0.6, 1.7) * disk.scale_arcsec, SHORTEST_BAR_FWHM * canvas.psf.fwhm)
    bar_angle = random_angle(rng)
    arms = structures.Arms(
        count=2,
        pitch_rad=math.radians(rng.uniform(6.0, 26.0)),
        start_arcsec=length,
        phase_rad=bar_angle,
        sharpness=rng.uniform(0.8, 3.5),
        sense=int(rng.choice([-1, 1])),
    )
    bulge_share, bar_share = rng.uniform(0.04, 0.16), rng.uniform(0.15, 0.32)
    arm_share = rng.uniform(0.08, 0.35)
    width = rng.uniform(0.16, 0.28) * length
    flocculence = rng.choice([0.0, rng.uniform(0.0, 0.7)])
    return [
        *_lens_and_ring(rng, canvas, disk, length, 1 - bulge_share - bar_share - arm_share),
        Component(disk.bulge(canvas, rng.uniform(0.08, 0.25), 2.0), bulge_share, 0.18),
        Component(disk.bar(canvas, length, width, bar_angle), bar_share, 0.14),
        Component(disk.arms(rng, canvas, arms, flocculence), arm_share, -rng.uniform(0.08, 0.28)),
    ]


def _lens_and_ring(
    rng: np.random.Generator, canvas: Canvas, disk: Disk, length: float, share: float
) -> list[Component]:
    """The disk of a barred galaxy: a part of its `share` in a lens or a ring around the bar.

    Lenses fill the bar's circle evenly, inner rings touch its ends (Kormendy 1979, ApJ 227, 714).
    """
    kind = rng.random()
    part = share * rng.uniform(0.15, 0.45)
    if kind < 0.35:
        ring = disk.ring(canvas, rng.uniform(1.0, 1.25) * length, rng.uniform(0.12, 0.25) * length)
        inner = Component(ring, part, -0.1)
    elif kind < 0.65:
        inner = Component(disk.lens(canvas, rng.uniform(0.7, 1.0) * length), part, 0.08)
    else:
        return [Component(disk.old_stars(rng, canvas), share, -0.02)]
    return [Component(disk.old_stars(rng, canvas), share - part, -0.02), inner]
