"""What galaxies of the eight classes are made of.

A builder takes a random generator, a canvas and the radius that should hold 90 % of the light
(arcsec); it yields components whose shares of the r-band flux sum to 1. Smooth classes differ by
axis ratio, as volunteers' answers do, and hold lenticulars, smooth disks and spirals whose arms
cannot be made out (Willett et al. 2013, T07 and section 5); arms are logarithmic, flocculent
(Elmegreen & Elmegreen 1982, MNRAS 201, 1021) or between. Mergers: tails and bridges after Toomre &
Toomre 1972 (ApJ 178, 623), pairs as in Darg et al. 2010 (MNRAS 401, 1043).
"""

import math
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator

from gz2sim.canvas import NATIVE_PIXEL_ARCSEC, Canvas, Component, Pair, random_angle, sersic, turned

Components = Iterable[Component]

# Measured on the drawings (Petrosian, in circles, with seeing), which cut elongated bodies short.
R90_PER_HALF_LIGHT, R90_AXIS_POWER = 3.0, 0.42
HIDDEN_SPIRALS = 0.06  # of the round and in-between ones: nobody noticed their arms
HALF_LIGHT_PER_SCALE = 1.678  # of an exponential disk
# R90 in scale lengths: 3.9 for a bare face-on disk; for the others measured likewise.
R90_PER_SCALE, R90_PER_SCALE_BARRED = 3.7, 3.5
R90_PER_SCALE_EDGE_ON, R90_PER_SCALE_IRREGULAR = 2.5, 2.9
SHORTEST_BAR_FWHM = 1.5  # half the length of the shortest bar that shows, in FWHM of the seeing
# Of two bodies, projected, in R90 of the larger: with that of both at 50 px mostly 12 to 60 px.
SEPARATION = (0.35, 2.2)


# ---- What has no closed form: surface brightness on a grid (arcsec), in any unit, before the PSF


class Arms(NamedTuple):
    """A family of logarithmic spiral arms, r = start x exp(angle x tan(pitch))."""

    count: int
    pitch_rad: float
    start_arcsec: float
    phase_rad: float
    sharpness: float  # the full width at half maximum is about 2.4 / sqrt(sharpness) of phase
    sense: int  # +1 or -1: in which the arms open


def spiral_arms(
    x: np.ndarray, y: np.ndarray, scale_arcsec: float, arms: Arms, bent: np.ndarray | float = 0.0
) -> np.ndarray:
    """Light of the arms (H, W): an exponential disk times a ridge along each, `bent` in radians."""
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
    sheared = np.arctan2(y, x) - arms.sense * log_radius / math.tan(arms.pitch_rad)
    columns, rows = 4 * arms.count, 10
    coarse = rng.standard_normal((rows, columns), dtype=np.float32)
    coarse = np.pad(coarse, ((0, 0), (2, 2)), mode="wrap")  # closes the circle
    column = (np.mod(sheared / (2 * math.pi), 1) * columns + 2).astype(np.float32)
    row = np.clip((log_radius + 3) * 2, 0, rows - 1).astype(np.float32)
    patches = cv2.remap(coarse, column, row, cv2.INTER_LINEAR)
    return np.exp(-radius / scale_arcsec + 0.45 * arms.sharpness * patches)


def ring(x: np.ndarray, y: np.ndarray, radius_arcsec: float, width_arcsec: float) -> np.ndarray:
    """A ring (H, W) of Gaussian cross-section around the centre."""
    return np.exp(-0.5 * ((np.hypot(x, y) - radius_arcsec) / width_arcsec) ** 2)


def edge_on_disk(
    x: np.ndarray, z: np.ndarray, scale_arcsec: float, height_arcsec: float, end_arcsec: float
) -> np.ndarray:
    """A disk seen from its side (H, W): sech^2 in height (van der Kruit & Searle 1981)."""
    radius = np.hypot(x, 0.5 * scale_arcsec)  # the line of sight flattens the middle
    # exp of more than 30 is as good as an end.
    beyond = np.clip((np.abs(x) - end_arcsec) / (0.3 * scale_arcsec), -30, 30)
    height = np.clip(np.abs(z) / height_arcsec, 0, 20)
    return np.exp(-radius / scale_arcsec) / np.cosh(height) ** 2 / (1 + np.exp(beyond))


def noise(rng: Generator, side_px: int, grain_px: float) -> np.ndarray:
    """Noise (side, side) of mean 0 and deviation 1, float32, from a grid of a point per grain."""
    cells = max(4, math.ceil(side_px / (2 * max(grain_px, 0.5))))
    coarse = rng.standard_normal((cells, cells), dtype=np.float32)
    fine = cv2.resize(coarse, (side_px, side_px), interpolation=cv2.INTER_CUBIC)
    return (fine - fine.mean()) / max(float(fine.std()), 1e-6)


def texture(rng: Generator, side_px: int, grain_px: float, strength: float) -> np.ndarray:
    """Lognormal patches (side, side) of median 1: star-forming regions of size `grain_px`."""
    return np.exp(strength * noise(rng, side_px, grain_px))


# ---- The classes


def spheroid(
    rng: Generator, canvas: Canvas, r90: float, axis_ratio: float, index: float
) -> Components:
    """A Sersic body and a core, rounder or an embedded disk, redder or, now and then, bluer."""
    angle = random_angle(rng)
    radius = r90 / (R90_PER_HALF_LIGHT * axis_ratio**R90_AXIS_POWER)
    core_ratio = min(1.0, axis_ratio * rng.uniform(0.75, 1.25))
    core = sersic(rng.choice([1.0, 2.0]), rng.uniform(0.1, 0.35) * radius, core_ratio, angle)
    core_share = rng.uniform(0.02, 0.35)
    # Cores that form stars, or are active, are blue: one in twenty real images.
    redder = 0.12 if rng.random() < 0.94 else -0.5
    yield Component(canvas.smooth(sersic(index, radius, axis_ratio, angle)), 1 - core_share, -0.04)
    yield Component(canvas.smooth(core), core_share, redder)


def lenticular(
    rng: Generator, canvas: Canvas, r90: float, axis_ratio: float, indices: Pair = (0.5, 1.0)
) -> Components:
    """A smooth disk of one of the Sersic `indices` around a bulge of up to half of the light."""
    angle, radius = random_angle(rng), r90 / (2.4 * axis_ratio**R90_AXIS_POWER)
    disk = sersic(rng.choice(indices), radius, axis_ratio, angle)
    round_part = (1 + 2 * axis_ratio) / 3
    bulge = sersic(rng.uniform(1.5, 4.0), rng.uniform(0.1, 0.35) * radius, round_part, angle)
    bulge_share = rng.uniform(0.02, 0.45)
    yield Component(canvas.smooth(disk), 1 - bulge_share, -0.06)
    yield Component(canvas.smooth(bulge), bulge_share, 0.12)


def smooth(
    rng: Generator, canvas: Canvas, r90: float, ratios: Pair, disks: float,
    disk_indices: tuple[float, ...], indices: Pair,
) -> Components:  # fmt: skip
    """An elliptical of Sersic `indices`, in a part `disks` a lenticular; a few are spirals."""
    axis_ratio = rng.uniform(*ratios)
    if rng.random() < HIDDEN_SPIRALS:
        return unbarred_spiral(rng, canvas, r90, 0.15, axis_ratio)
    if rng.random() < disks:
        return lenticular(rng, canvas, r90, axis_ratio, disk_indices)
    return spheroid(rng, canvas, r90, axis_ratio, rng.uniform(*indices))


def cigar_shaped(rng: Generator, canvas: Canvas, r90: float) -> Components:
    """A smooth, very elongated body: thicker than an edge-on disk, and without a clear bulge."""
    axis_ratio = rng.uniform(0.2, 0.4)
    if rng.random() < 0.4:
        yield from spheroid(rng, canvas, r90, axis_ratio, rng.uniform(0.6, 2.4))
        return
    # Else a truncated disk, thick or not quite edge-on, with a faint bulge as flat as itself.
    angle, scale = random_angle(rng), r90 / 2.4
    end = rng.uniform(1.6, 3.2)
    # Measured: the disk's deviation along x is 0.35 + 0.25 ends; that of sech^2 is 0.91 heights.
    height = axis_ratio * (0.35 + 0.25 * end) / 0.91
    light = edge_on_disk(*canvas.plane(1.0, angle), scale, height * scale, end * scale)
    core_share = rng.uniform(0.0, 0.18)
    core = sersic(1.5, 0.3 * scale, min(1.0, 1.5 * axis_ratio), angle)
    yield Component(canvas.structured(light), 1 - core_share, -0.02)
    yield Component(canvas.smooth(core), core_share, 0.12)


class Disk(NamedTuple):
    """The plane of a spiral: scale length, apparent axis ratio and position angle."""

    scale_arcsec: float
    axis_ratio: float
    angle_rad: float

    def old_stars(self, rng: Generator, canvas: Canvas) -> np.ndarray:
        """Light of the smooth disk (H, W): exponential, or, as 60 % of disks, bent outside."""
        # Pohlen & Trujillo 2006, A&A 454, 759; a Gaussian of equal half-light radius does as much.
        radius = np.hypot(*canvas.plane(self.axis_ratio, self.angle_rad))
        half_lights = radius / (HALF_LIGHT_PER_SCALE * self.scale_arcsec)
        if rng.random() < 0.4:
            return canvas.structured(np.exp(-HALF_LIGHT_PER_SCALE * half_lights))
        return canvas.structured(np.exp(-math.log(2) * half_lights**2))

    def bulge(self, canvas: Canvas, radius_in_scales: float, index: float) -> np.ndarray:
        """Light of a Sersic bulge (H, W), half as flattened as the disk."""
        radius, axis_ratio = radius_in_scales * self.scale_arcsec, (1 + self.axis_ratio) / 2
        return canvas.smooth(sersic(index, radius, axis_ratio, self.angle_rad))

    def arms(self, rng: Generator, canvas: Canvas, arms: Arms, flocculence: float) -> np.ndarray:
        """Light of young stars (H, W): ordered arms and, for a part 0 to 1, flocculent ones."""
        x, y = canvas.plane(self.axis_ratio, self.angle_rad)
        scale_px = self.scale_arcsec / NATIVE_PIXEL_ARCSEC
        patches = texture(rng, canvas.side_px, 0.125 * scale_px, rng.uniform(0.2, 0.8))
        bent = rng.uniform(0.1, 0.5) * noise(rng, canvas.side_px, scale_px)
        # Young stars reach further out than old ones.
        reach = rng.uniform(1.1, 1.6) * self.scale_arcsec
        light = (1 - flocculence) * spiral_arms(x, y, reach, arms, bent)
        if flocculence > 0:
            light = light + flocculence * flocculent_arms(rng, x, y, reach, arms)
        # One side of most disks is brighter (lopsidedness: Zaritsky & Rix 1997, ApJ 477, 118).
        lopsided = 1 + rng.uniform(0.0, 0.5) * np.tanh(x / (2 * self.scale_arcsec))
        return canvas.structured(light * patches * lopsided)


def unbarred_spiral(
    rng: Generator, canvas: Canvas, r90: float, strongest_arms: float = 0.65,
    axis_ratio: float | None = None,
) -> Components:  # fmt: skip
    """A red bulge and bluer arms of any number and order, with part of the light of the disk."""
    axis_ratio = axis_ratio or rng.uniform(0.28, 1.0)
    disk = Disk(r90 / R90_PER_SCALE, axis_ratio, random_angle(rng))
    count, pitch = int(rng.choice([1, 2, 2, 2, 3, 4])), math.radians(rng.uniform(8.0, 30.0))
    start, phase = rng.uniform(0.3, 0.9) * disk.scale_arcsec, random_angle(rng)
    arms = Arms(count, pitch, start, phase, rng.uniform(0.8, 3.5), int(rng.choice([-1, 1])))
    bulge_share = rng.uniform(0.02, 0.3)
    arm_share = (1 - bulge_share) * rng.uniform(0.35 * strongest_arms, strongest_arms)
    young = -rng.uniform(0.08, 0.3)
    old = disk.old_stars(rng, canvas)
    # Bulges of late types are faint and exponential, those of early types bright and peaked.
    bulge = disk.bulge(canvas, rng.uniform(0.1, 0.4), 1.0 + 6.0 * bulge_share)
    # The part of the young stars outside ordered arms: ordered, between, or flocculent.
    flocculence = rng.choice([0.0, rng.uniform(0.2, 0.8), 1.0], p=[0.3, 0.35, 0.35])
    yield Component(old, 1 - bulge_share - arm_share, 0.0)
    yield Component(bulge, bulge_share, 0.32)
    yield Component(disk.arms(rng, canvas, arms, float(flocculence)), arm_share, young)


def barred_spiral(rng: Generator, canvas: Canvas, r90: float) -> Components:
    """A red bar across the bulge, in a lens or ring more often than not, and arms from its ends."""
    disk = Disk(r90 / R90_PER_SCALE_BARRED, rng.uniform(0.4, 1.0), random_angle(rng))
    # Bars that the seeing hides are not called bars.
    length = max(rng.uniform(0.6, 1.7) * disk.scale_arcsec, SHORTEST_BAR_FWHM * canvas.psf.fwhm)
    bar_angle, pitch = random_angle(rng), math.radians(rng.uniform(6.0, 26.0))
    arms = Arms(2, pitch, length, bar_angle, rng.uniform(0.8, 3.5), int(rng.choice([-1, 1])))
    bulge_share, bar_share = rng.uniform(0.04, 0.16), rng.uniform(0.15, 0.32)
    arm_share, width = rng.uniform(0.08, 0.35), rng.uniform(0.16, 0.28) * length
    flocculence = rng.choice([0.0, rng.uniform(0.0, 0.7)])
    x, y = canvas.plane(disk.axis_ratio, disk.angle_rad)
    # Lenses fill the bar's circle evenly, inner rings touch its ends (Kormendy 1979, ApJ 227, 714).
    disk_share = 1 - bulge_share - bar_share - arm_share
    kind, inner_share, inner = rng.random(), disk_share * rng.uniform(0.15, 0.45), []
    if kind < 0.35:
        radius = rng.uniform(1.0, 1.25) * length
        light = ring(x, y, radius, rng.uniform(0.12, 0.25) * length)
        inner = [Component(canvas.structured(light), inner_share, -0.1)]
    elif kind < 0.65:
        radii = np.hypot(x, y) / (rng.uniform(0.7, 1.0) * length)
        inner = [Component(canvas.structured(np.exp(-math.log(2) * radii**2)), inner_share, 0.08)]
    disk_share -= sum(component.share for component in inner)
    yield Component(disk.old_stars(rng, canvas), disk_share, -0.02)
    yield from inner
    # Flat along its length, with boxy ends.
    along, aside = turned(x, y, bar_angle)
    bar = np.exp(-0.7 * (np.abs(along / length) ** 3 + np.abs(aside / width) ** 2))
    yield Component(disk.bulge(canvas, rng.uniform(0.08, 0.25), 2.0), bulge_share, 0.18)
    yield Component(canvas.structured(bar), bar_share, 0.14)
    yield Component(disk.arms(rng, canvas, arms, flocculence), arm_share, -rng.uniform(0.08, 0.28))


def edge_on(rng: Generator, canvas: Canvas, r90: float) -> Components:
    """A thin, at times warped disk, two in three with a bulge, one in three with a dust lane."""
    angle, scale = random_angle(rng), r90 / R90_PER_SCALE_EDGE_ON
    x, z = canvas.plane(1.0, angle)
    warp = rng.normal(0.0, 0.03) * np.sign(x) * np.maximum(np.abs(x) / scale - 1.2, 0) ** 2
    # Heights of 0.1 to 0.2 scale lengths: Kregel et al. 2002, MNRAS 334, 646.
    height = max(rng.uniform(0.08, 0.19) * scale, 0.5 * NATIVE_PIXEL_ARCSEC)
    light = edge_on_disk(x, z - scale * warp, scale, height, rng.uniform(2.2, 5.0) * scale)
    index, radius = rng.choice([1.0, 2.0, 3.0]), rng.uniform(0.2, 0.6) * scale
    bulge = sersic(index, radius, rng.uniform(0.45, 0.9), angle)
    bulge_share = rng.uniform(0.08, 0.42) if rng.random() < 0.7 else 0.0
    dust_share = rng.uniform(0.06, 0.2) if rng.random() < 0.35 else 0.0
    # A lane thinner than a pixel would fall between the samples.
    width = max(0.1 * scale, 0.5 * NATIVE_PIXEL_ARCSEC)
    beside = z - rng.normal(0.0, 0.06) * scale
    lane = np.exp(-np.abs(x) / scale - beside**2 / (2 * width**2))
    yield Component(canvas.structured(light), 1 - bulge_share + dust_share, -0.06)
    yield Component(canvas.smooth(bulge), bulge_share, 0.15)
    # Dust takes more light away in g than in r: what it takes is bluer than the galaxy.
    yield Component(canvas.structured(lane), -dust_share, -0.25)


def irregular(rng: Generator, canvas: Canvas, r90: float) -> Components:
    """A faint disk and blue knots, both off the centre and crowded to one side."""
    angle, axis_ratio = random_angle(rng), rng.uniform(0.3, 0.9)
    scale = r90 / R90_PER_SCALE_IRREGULAR
    aside = canvas.moved(-rng.uniform(0.1, 0.7) * scale, angle)
    disk = sersic(rng.choice([0.5, 1.0]), HALF_LIGHT_PER_SCALE * scale, axis_ratio, angle)
    x, y = canvas.plane(axis_ratio, angle)
    count, spread = int(rng.integers(2, 13)), rng.uniform(0.5, 1.0) * scale
    knots = np.zeros(np.broadcast(x, y).shape, np.float32)
    for _ in range(count):
        dx, dy = x - rng.normal(0.4 * spread, spread), y - rng.normal(0.0, spread)
        size, flux = spread * rng.uniform(0.12, 0.4), np.float32(rng.lognormal(0.0, 0.8))
        knots += flux * (np.exp(-(dx**2 + dy**2) / (2 * size**2)) / (2 * math.pi * size**2))
    haze = texture(rng, canvas.side_px, 0.3 * scale / NATIVE_PIXEL_ARCSEC, 0.7)
    knot_share, haze_share = rng.uniform(0.15, 0.5), rng.uniform(0.15, 0.4)
    yield Component(aside.smooth(disk), 1 - knot_share - haze_share, 0.05)
    yield Component(canvas.structured(knots), knot_share, -rng.uniform(0.1, 0.3))
    yield Component(canvas.structured(haze * np.exp(-np.hypot(x, y) / scale)), haze_share, -0.04)


def merger(rng: Generator, canvas: Canvas, r90: float) -> Components:
    """Two bodies, the brighter at the centre, in colours of their own, and their debris."""
    angle = random_angle(rng)
    # Close pairs are more often called mergers than wide ones.
    separation = SEPARATION[0] + (SEPARATION[1] - SEPARATION[0]) * rng.beta(1.2, 1.8)
    # Measured on the drawings: the circle that holds 90 % of the light grows with the separation.
    radius = r90 / (1.05 + 0.5 * separation)
    distance = separation * radius
    second, second_share = canvas.moved(distance, angle), rng.uniform(0.15, 0.5)
    dry = rng.random() < 0.3
    debris_share = rng.uniform(0.0, 0.15) if dry else rng.uniform(0.05, 0.35)
    first = list(_body(rng, canvas, radius, dry))
    bodies = _scaled(first, 1 - second_share, rng.normal(0.0, 0.06))
    companion = list(_body(rng, second, radius * rng.uniform(0.45, 1.0), dry))
    bodies += _scaled(companion, second_share, rng.normal(0.0, 0.2))
    debris = (_halo if dry else _tails)(rng, canvas, distance, angle)
    yield from _scaled(bodies, 1 - debris_share, 0.0)
    yield Component(debris, debris_share, 0.0 if dry else -0.12)


def _body(rng: Generator, canvas: Canvas, r90: float, dry: bool) -> Components:
    """One of the two galaxies: without gas (`dry`) a spheroid, otherwise mostly a disk."""
    kind = 0.0 if dry else rng.random()
    if kind < 0.2:
        return spheroid(rng, canvas, r90, rng.uniform(0.5, 1.0), rng.uniform(1.5, 4.0))
    if kind < 0.4:
        return lenticular(rng, canvas, r90, rng.uniform(0.3, 0.9))
    limits = ((0.7, unbarred_spiral), (0.78, barred_spiral), (0.9, edge_on), (1.0, irregular))
    return next(draw for limit, draw in limits if kind < limit)(rng, canvas, r90)


def _scaled(components: Components, factor: float, redder_mag: float) -> list[Component]:
    """The same components with shares multiplied by `factor`, redder by `redder_mag`."""
    return [Component(light, share * factor, red + redder_mag) for light, share, red in components]


def _halo(rng: Generator, first: Canvas, distance: float, angle: float) -> np.ndarray:
    """The common halo of two bodies without gas (H, W), at times with a shell."""
    common = first.moved(distance / 2, angle)
    light = common.smooth(sersic(1.0, rng.uniform(1.0, 1.6) * distance + 1.0, 0.8, angle))
    if rng.random() < 0.3:
        x, y = common.plane(0.9, angle)
        shell = ring(x, y, rng.uniform(1.2, 2.0) * distance, 0.15 * distance + 0.4)
        one_side = 1 / (1 + np.exp(-np.clip(4 * x / distance, -30, 30)))
        light = 0.8 * light + 0.2 * common.structured(shell * one_side)
    return light


def _tails(rng: Generator, first: Canvas, distance: float, angle: float) -> np.ndarray:
    """The bridge and a tail from either body (H, W), as clumpy as young stars are."""
    width = rng.uniform(0.12, 0.3) * distance + 0.5
    x, y = first.plane(1.0, angle)
    beyond = np.maximum(np.abs(x - distance / 2) - distance / 2, 0) / width
    light = rng.uniform(0.2, 1.0) * np.exp(-0.5 * (beyond**2 + (y / width) ** 2))
    for canvas, outwards in ((first, angle + math.pi), (first.moved(distance, angle), angle)):
        # A tail leaves its body at `start`, opens outwards, widens and fades.
        x, y = canvas.plane(1.0, outwards + rng.normal(0.0, 0.8))
        y, sweep = y * rng.choice([-1, 1]), rng.uniform(0.4, 2.0)
        start, along = rng.uniform(0.5, 1.1) * distance, np.mod(np.arctan2(y, x) + 0.5, 2 * math.pi)
        before, after = np.maximum(0.5 - along, 0), np.maximum(along - 0.5, 0)
        beside = np.hypot(x, y) - start * (1 + 0.5 * (along - 0.5))
        tail = np.exp(-(beside**2) / (2 * (width * (1 + 0.4 * after)) ** 2))
        tail = tail * np.exp(-after / sweep - 4 * before)
        light = light + rng.uniform(0.0, 1.2) * tail
    return first.structured(light * texture(rng, first.side_px, 3.0, 0.4))


BUILDERS = (  # in the order of the classes
    partial(smooth, ratios=(0.8, 1.0), disks=0.25, disk_indices=(1.0,), indices=(1.5, 6.0)),
    partial(smooth, ratios=(0.42, 0.8), disks=0.45, disk_indices=(0.5, 1.0), indices=(0.8, 5.5)),
    *(cigar_shaped, edge_on, barred_spiral, unbarred_spiral, irregular, merger),
)
