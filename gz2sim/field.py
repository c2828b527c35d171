"""What else is in the field, and what spoils an exposure.

The bands of SDSS see a place one after the other (Gunn et al. 1998, AJ 116, 3040), so that what
moves or glares shows in one band alone. Galaxy Zoo 2 has such images among its irregulars. Levels
(nanomaggies per native pixel) are fitted by eye to them; places are (column, row) in native pixels.
"""

import math
from collections.abc import Callable
from functools import partial

import cv2
import galsim
import numpy as np
from numpy.random import Generator

from gz2sim.canvas import FAST, NATIVE, band_fluxes, nanomaggies, offsets_px, random_angle, turned
from gz2sim.population import draw_mag

# Shares of stars by kind (most are near the turn-off or red dwarfs, far from the Milky Way's
# plane), and of the starlight in wings wider than the seeing's: by eye.
TURN_OFF_SHARE, RED_DWARF_SHARE = 0.5, 0.35
HALO_SHARE, HALO_RADII = 0.04, 2.2
SEEN = 224 / 424  # of half the field's side: what the network sees
EDGE_SHARE, SPOILT_EDGE_SHARE = 0.03, 0.15  # of images with a seam, ordinary and spoilt ones
Source = tuple[galsim.GSObject, tuple[float, ...]]  # a profile of unit flux; its fluxes in g, r, i


def star(rng: Generator, fwhm_arcsec: float, mag: float) -> Source:
    """A star of a given r magnitude, in a colour of the stellar locus (Covey et al. 2007)."""
    kind = rng.random()
    if kind < TURN_OFF_SHARE:
        g_r = rng.normal(0.42, 0.12)
    elif kind < TURN_OFF_SHARE + RED_DWARF_SHARE:
        g_r = rng.normal(1.38, 0.06)
    else:
        g_r = rng.uniform(0.5, 1.3)
    # Red dwarfs (g - r at its limit of 1.4) spread out in r - i.
    r_i = 0.4 * g_r + (rng.uniform(0.0, 0.9) if g_r > 1.2 else 0.0)
    core = galsim.Moffat(beta=3.0, fwhm=fwhm_arcsec, gsparams=FAST)
    halo = galsim.Moffat(beta=2.0, fwhm=HALO_RADII * fwhm_arcsec, gsparams=FAST)
    light = (1 - HALO_SHARE) * core + HALO_SHARE * halo
    return light, band_fluxes(nanomaggies(mag), g_r, r_i)


def small_galaxy(rng: Generator, fwhm_arcsec: float, mag: float) -> Source:
    """A background galaxy of a given r magnitude and the size that goes with it."""
    # 0.6 arcsec at r = 21, and 0.1 dex larger per mag brighter.
    radius = 0.6 * 10 ** (0.1 * (21.0 - mag)) * math.exp(0.25 * rng.standard_normal())
    axis_ratio = rng.uniform(0.3, 1.0)
    # A Moffat of the width that disk and seeing have together spares an FFT. In half-light radii
    # the FWHM is 0.83 for an exponential disk, 1.58 for this Moffat: between.
    major, minor = (math.hypot(fwhm_arcsec, 1.25 * radius * q) for q in (1.0, axis_ratio))
    body = galsim.Moffat(beta=3.0, fwhm=math.sqrt(major * minor), gsparams=FAST)
    body = body.shear(q=minor / major, beta=rng.uniform(0, math.pi) * galsim.radians)
    g_r = rng.normal(0.85, 0.3)
    return body, band_fluxes(nanomaggies(mag), g_r, 0.45 * g_r + 0.05)


# Neighbours per square arcmin (as in real images) between two magnitudes, with growth in dex / mag.
NEIGHBOURS = ((star, 2.9, 13.5, 22.5, 0.15), (small_galaxy, 5.0, 17.0, 22.5, 0.38))


def add_neighbours(bands: np.ndarray, fwhm_arcsec: float, rng: Generator) -> None:
    """Add field stars and small galaxies to `bands` (3, H, W) in place."""
    side = bands.shape[1]
    area_arcmin2 = (side * NATIVE["scale"] / 60) ** 2
    for draw, per_arcmin2, brightest, faintest, slope_dex in NEIGHBOURS:
        for _ in range(rng.poisson(per_arcmin2 * area_arcmin2)):
            mag = draw_mag(rng, brightest, faintest, slope_dex)
            add_stamp(bands, draw(rng, fwhm_arcsec, mag), rng.uniform(0, side, 2))


def near_the_middle(rng: Generator, side_px: int, nearest: float, farthest: float) -> np.ndarray:
    """A place (column, row) at a distance from the middle in units of half the field's side."""
    angle = random_angle(rng)
    distance = rng.uniform(nearest, farthest) * side_px / 2
    return side_px / 2 + distance * np.array([math.cos(angle), math.sin(angle)])


def add_stamp(bands: np.ndarray, source: Source, place: np.ndarray) -> None:
    """Add a source to `bands` (3, H, W) at `place`, as far as it shows."""
    side, (profile, fluxes), (column, row) = bands.shape[1], source, place
    # Fluxes range from 1 to 10^4 nanomaggies (r = 12.5): from 16 to 80 px to either side.
    half = int(min(8 * (1 + max(fluxes)) ** 0.25 + 6, 80))
    size = {"nx": 2 * half, "ny": 2 * half, "offset": (column % 1, row % 1)}
    stamp = profile.drawImage(**size, **NATIVE)
    stamp.setOrigin(math.floor(column) - half, math.floor(row) - half)
    seen = stamp.bounds & galsim.BoundsI(0, side - 1, 0, side - 1)
    if seen.isDefined():
        window = np.s_[:, seen.ymin : seen.ymax + 1, seen.xmin : seen.xmax + 1]
        bands[window] += np.array(fluxes, np.float32)[:, None, None] * stamp[seen].array


def _across(side_px: int, rng: Generator, farthest: float) -> np.ndarray:
    """Signed distance (H, W) in px to a random line within `farthest` half sides of the middle."""
    along, _ = turned(*offsets_px(side_px), random_angle(rng))
    return along - rng.uniform(0, farthest) * side_px / 2


# ---- Faults, each added to `bands` (3, H, W) in place


def glare(bands: np.ndarray, fwhm_arcsec: float, rng: Generator, brightest: float = 1.0) -> None:
    """Stray light of a bright star outside the field: a slope, a sharp border or a beam."""
    side = bands.shape[1]
    distance = _across(side, rng, SEEN)
    width = side / 2 * math.exp(rng.uniform(math.log(0.02), math.log(0.6)))
    if rng.random() < 0.35:
        light = np.exp(-0.5 * (distance / max(width / 2, 1.5)) ** 2)
    else:
        light = 1 / (1 + np.exp(-np.clip(distance / width, -30, 30)))
    level = brightest * math.exp(rng.uniform(math.log(0.04), 0.0))
    # Mostly in one band, often i.
    levels = rng.uniform(0.0, 0.15, 3).astype(np.float32)
    levels[rng.choice(3, p=[0.15, 0.25, 0.6])] = 1.0
    levels *= np.float32(level)
    bands += levels[:, None, None] * (light + rng.uniform(0.0, 0.4))


def saturated_star(bands: np.ndarray, fwhm_arcsec: float, rng: Generator) -> None:
    """A star with wide wings, four spikes and a column of spilt charge, white or in a colour."""
    side = bands.shape[1]
    place = np.float32(near_the_middle(rng, side, 0.2, 1.3 * SEEN) - side / 2)
    x, y = (offsets - at for offsets, at in zip(offsets_px(side), place, strict=True))
    flux = nanomaggies(rng.uniform(10.0, 14.0))
    radius2 = x**2 + y**2
    core = 2 / (math.pi * 9) * (1 + radius2 / 9) ** -3
    halo = 1 / (2 * math.pi * 25) * (1 + radius2 / 25) ** -1.5
    axes = turned(x, y, rng.uniform(0, math.pi / 2))
    length = rng.uniform(8.0, 25.0)
    spikes = sum(np.exp(-0.5 * (v / 0.75) ** 2 - np.abs(u) / length) for u, v in (axes, axes[::-1]))
    light = flux * (0.93 * core + 0.06 * halo + rng.uniform(0.3, 1.0) * 2e-4 * spikes)
    charge = np.exp(-0.5 * (x / rng.uniform(0.5, 1.2)) ** 2 - np.abs(y) / rng.uniform(10, 60))
    fluxes = band_fluxes(1.0, rng.uniform(0.2, 1.2), rng.uniform(0.1, 0.5))
    for band, share in enumerate(fluxes):
        full_well = rng.uniform(3.0, 30.0)
        seen = share * light + charge * (full_well if rng.random() < 0.25 else 0.0)
        bands[band] += np.minimum(seen, full_well)


def trail(bands: np.ndarray, fwhm_arcsec: float, rng: Generator) -> None:
    """A satellite or meteor that crossed the field while one band was exposed."""
    distance, width = _across(bands.shape[1], rng, 0.6 * SEEN), rng.uniform(0.8, 3.0)
    level = math.exp(rng.uniform(math.log(0.3), math.log(10.0)))
    bands[rng.integers(3)] += np.float32(level) * np.exp(-0.5 * (distance / width) ** 2)


def misfit(bands: np.ndarray, fwhm_arcsec: float, rng: Generator) -> None:
    """Bands that lie beside each other by a pixel or three: coloured ghosts."""
    for band in (0, 2):
        shift = np.column_stack([np.eye(2), rng.normal(0.0, 1.3, 2)])
        size, replicated = bands.shape[1:], {"borderMode": cv2.BORDER_REPLICATE}
        bands[band] = cv2.warpAffine(bands[band], shift, size, **replicated)


def step(bands: np.ndarray, fwhm_arcsec: float, rng: Generator) -> None:
    """Another frame on one side of a line, whose sky was taken off otherwise."""
    beyond = _across(bands.shape[1], rng, 0.7 * SEEN) > 0
    bands += beyond * rng.normal(0.0, 0.07, (3, 1, 1)).astype(np.float32)


def add_beside(
    bands: np.ndarray, fwhm_arcsec: float, rng: Generator,
    draw: Callable[..., Source], mags: tuple[float, float], places: tuple[float, float],
) -> None:  # fmt: skip
    """A source of a magnitude within `mags`, at a distance within `places` from the middle."""
    source = draw(rng, fwhm_arcsec, rng.uniform(*mags))
    add_stamp(bands, source, near_the_middle(rng, bands.shape[1], *places))


def crowd(bands: np.ndarray, fwhm_arcsec: float, rng: Generator) -> None:
    """Companions of like brightness close by, as in the middle of a cluster."""
    for _ in range(rng.integers(2, 7)):
        add_beside(bands, fwhm_arcsec, rng, small_galaxy, (17.2, 20.0), (0.08, 0.8 * SEEN))


def covering_star(bands: np.ndarray, fwhm_arcsec: float, rng: Generator) -> None:
    """A star in front of the galaxy, or beside it."""
    place = near_the_middle(rng, bands.shape[1], 0.03, 0.45 * SEEN)
    add_stamp(bands, star(rng, fwhm_arcsec, rng.uniform(14.5, 17.5)), place)


# What makes an image odd, and how often; fitted to 29 real ones.
ODD_FAULTS = {glare: 0.44, saturated_star: 0.14, crowd: 0.14, covering_star: 0.1, step: 0.08}
ODD_FAULTS |= {trail: 0.06, misfit: 0.04}
# What ordinary images have, each on its own, counted on about 250 real ones.
ORDINARY_FAULTS = {partial(glare, brightest=0.25): 0.04, saturated_star: 0.015, trail: 0.004}
FAINT = {"draw": small_galaxy, "mags": (18.0, 20.5), "places": (0.1, SEEN)}
CLOSE = {"draw": star, "mags": (16.5, 19.5), "places": (0.05, 0.5 * SEEN)}
ORDINARY_FAULTS |= {partial(add_beside, **FAINT): 0.12, partial(add_beside, **CLOSE): 0.03}


def add_faults(bands: np.ndarray, fwhm_arcsec: float, spoilt: bool, rng: Generator) -> None:
    """Give `bands` one or two faults that make a `spoilt` image odd, or an ordinary image's."""
    faults, shares = list(ODD_FAULTS), list(ODD_FAULTS.values())
    if spoilt:
        count = 1 + (rng.random() < 0.3)
        chosen = [faults[number] for number in rng.choice(7, count, replace=False, p=shares)]
    else:
        chosen = (fault for fault, share in ORDINARY_FAULTS.items() if rng.random() < share)
    for fault in chosen:
        fault(bands, fwhm_arcsec, rng)


def draw_edges(rgb: np.ndarray, spoilt: bool, rng: Generator) -> None:
    """Draw the seam of two frames, a thin black line, on some composites (H, W, 3) in place."""
    if rng.random() < (SPOILT_EDGE_SHARE if spoilt else EDGE_SHARE):
        distance = _across(rgb.shape[0], rng, 0.7 * SEEN)
        rgb *= 1 - np.exp(-0.5 * (distance / 0.4) ** 2)[:, :, None]
