"""What has no closed form: spiral arms, bars, clumps, dust lanes and tidal tails, as arrays.

All are surface brightness on a grid of coordinates (arcsec), in arbitrary units, before the PSF.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from gz2sim import disks as structures
from gz2sim.canvas import NATIVE_PIXEL_ARCSEC, Canvas, Component, random_angle, sersic


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


def spiral_arms(
    x: np.ndarray,
    y: np.ndarray,
    scale_arcsec: float,
    arms: Arms,
    bent: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Light of the arms (H, W): an exponential disk times a ridge along each arm.

    `bent` (H, W) turns the ridges by an angle in radians, so that no arm is a perfect curve.
    """
    radius = np.hypot(x, y)
    angle = np.arctan2(y, x)
    winding = np.log(np.maximum(radius, 0.3 * arms.start_arcsec) / arms.start_arcsec)
    winding *= arms.sense / math.tan(arms.pitch_rad)
    ridge = np.cos(arms.count * (angle - arms.phase_rad - winding + bent))
    inside = np.minimum(radius / arms.start_arcsec, 1.0) ** 3
    return np.exp(-radius / scale_arcsec + arms.sharpness * (ridge - 1)) * inside


def flocculent_arms(
    rng: np.random.Generator, x: np.ndarray, y: np.ndarray, scale_arcsec: float, arms: Arms
) -> np.ndarray:
    """Light of many short arms (H, W): noise in log radius and angle, sheared by the pitch."""
    radius = np.maximum(np.hypot(x, y), 0.05 * scale_arcsec)
    log_radius = np.log(radius / scale_arcsec)
    turned = np.arctan2(y, x) - arms.sense * log_radius / math.tan(arms.pitch_rad)
    columns, rows = 4 * arms.count, 10
    coarse = rng.standard_normal((rows, columns), dtype=np.float32)
    # One column more on either side closes the circle.
    coarse = np.concatenate([coarse[:, -2:], coarse, coarse[:, :2]], axis=1)
    column = np.mod(turned / (2 * math.pi), 1) * columns + 2
    row = np.clip((log_radius + 3) * 2, 0, rows - 1)
    patches = cv2.remap(coarse, column.astype(np.float32), row.astype(np.float32), cv2.INTER_LINEAR)
    return np.exp(-radius / scale_arcsec + 0.45 * arms.sharpness * patches)


def bar(x: np.ndarray, y: np.ndarray, length_arcsec: float, width_arcsec: float) -> np.ndarray:
    """A bar (H, W): flat along its length, with boxy ends, of half-length and half-width given."""
    boxy = np.abs(x / length_arcsec) ** 3 + np.abs(y / width_arcsec) ** 2
    return np.exp(-0.7 * boxy)


def ring(x: np.ndarray, y: np.ndarray, radius_arcsec: float, width_arcsec: float) -> np.ndarray:
    """A ring (H, W) of Gaussian cross-section around the centre."""
    return np.exp(-0.5 * ((np.hypot(x, y) - radius_arcsec) / width_arcsec) ** 2)


def edge_on_disk(
    x: np.ndarray, z: np.ndarray, scale_arcsec: float, height_arcsec: float, end_arcsec: float
) -> np.ndarray:
    """An exponential disk seen from its side (H, W): sech^2 in height, fading out at `end_arcsec`.

    Van der Kruit & Searle 1981, A&A 95, 105: the vertical profile and the truncation. The line of
    sight flattens the middle, for which the radius is softened by half a scale length.
    """
    radius = np.hypot(x, 0.5 * scale_arcsec)
    # exp of more than 30 is as good as an end.
    beyond = np.clip((np.abs(x) - end_arcsec) / (0.3 * scale_arcsec), -30, 30)
    height = np.clip(np.abs(z) / height_arcsec, 0, 20)
    return np.exp(-radius / scale_arcsec) / np.cosh(height) ** 2 / (1 + np.exp(beyond))


def noise(rng: np.random.Generator, side_px: int, grain_px: float) -> np.ndarray:
    """Smooth noise (side, side) of mean 0 and deviation 1, float32, with grains of `grain_px`.

    Drawn on a grid of one point a grain and interpolated: the same look as blurred noise at a
    fraction of its cost.
    """
    cells = max(4, math.ceil(side_px / (2 * max(grain_px, 0.5))))
    coarse = rng.standard_normal((cells, cells), dtype=np.float32)
    fine = cv2.resize(coarse, (side_px, side_px), interpolation=cv2.INTER_CUBIC)
    return (fine - fine.mean()) / max(float(fine.std()), 1e-6)


def texture(rng: np.random.Generator, side_px: int, grain_px: float, strength: float) -> np.ndarray:
    """Lognormal patches (side, side) of median 1: star-forming regions of size `grain_px`."""
    return np.exp(strength * noise(rng, side_px, grain_px))


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


# ------------------------------------------------------------------------------------------
# The two disk classes seen from above: barred and unbarred spirals.
#
# An exponential disk of old stars (Freeman 1970), a redder Sersic bulge and bluer arms, which are
# logarithmic, flocculent (Elmegreen & Elmegreen 1982, MNRAS 201, 1021) or between the two; the bar,
# where there is one, is as red as the bulge, often in a lens or ring, and the arms leave its ends.
# How strong the arms are was set so that as many of them can hardly be seen as in real images.

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


# ------------------------------------------------------------------------------------------
# Disks seen from their side: sech^2 in height, truncated, mostly with a bulge, at times with dust.
#
# Van der Kruit & Searle 1981 (A&A 95, 105): heights and truncations; scale heights of 0.1 to 0.2
# scale lengths are those of Kregel et al. 2002 (MNRAS 334, 646).

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
