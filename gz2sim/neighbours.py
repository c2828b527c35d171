"""What else is in the field: stars and galaxies at random places, and companions near the centre.

Fluxes are nanomaggies in the order g, r, i; places are (column, row) in native pixels.
"""

import math
from dataclasses import dataclass

import galsim
import numpy as np

from gz2sim.canvas import FAST, NATIVE_PIXEL_ARCSEC, band_fluxes, nanomaggies

# Neighbours per square arcmin between magnitudes 15 (stars) or 17 (galaxies) and 22.5 at high
# galactic latitude, and the growth of their number in dex per mag; the densities are set to the
# spread of grey levels along the borders of real images.
STARS_PER_ARCMIN2, STAR_MAGS, STAR_SLOPE_DEX = 2.9, (13.5, 22.5), 0.15
GALAXIES_PER_ARCMIN2, GALAXY_MAGS, GALAXY_SLOPE_DEX = 5.0, (17.0, 22.5), 0.38
# Shares of stars by kind, set by eye to the colours of stars in real images.
TURN_OFF_SHARE, RED_DWARF_SHARE = 0.5, 0.35
# A Moffat of beta = 3, and the 4 % of SDSS starlight that lies in wider wings (fitted by eye to
# bright stars of real images).
HALO_SHARE, HALO_RADII = 0.04, 2.2


@dataclass(frozen=True)
class Stamp:
    """A profile of unit flux, seen through the seeing, and its fluxes in g, r, i."""

    profile: galsim.GSObject
    fluxes: tuple[float, float, float]


def point_source(fwhm_arcsec: float) -> galsim.GSObject:
    """The image of a star: a Moffat core with faint wider wings, unit flux."""
    core = galsim.Moffat(beta=3.0, fwhm=fwhm_arcsec, gsparams=FAST)
    halo = galsim.Moffat(beta=2.0, fwhm=HALO_RADII * fwhm_arcsec, gsparams=FAST)
    return (1 - HALO_SHARE) * core + HALO_SHARE * halo


def star(rng: np.random.Generator, fwhm_arcsec: float, mag: float) -> Stamp:
    """A star of a given r magnitude with a colour of the stellar locus (Covey et al. 2007, AJ 134,
    2398): far from the Milky Way's plane most are either near the turn-off or red dwarfs.
    """
    kind = rng.random()
    if kind < TURN_OFF_SHARE:
        g_r = rng.normal(0.42, 0.12)
    elif kind < TURN_OFF_SHARE + RED_DWARF_SHARE:
        g_r = rng.normal(1.38, 0.06)
    else:
        g_r = rng.uniform(0.5, 1.3)
    # Red dwarfs (g - r at its limit of 1.4) spread out in r - i.
    r_i = 0.4 * g_r + (rng.uniform(0.0, 0.9) if g_r > 1.2 else 0.0)
    return Stamp(point_source(fwhm_arcsec), band_fluxes(nanomaggies(mag), g_r, r_i))


def small_galaxy(rng: np.random.Generator, fwhm_arcsec: float, mag: float) -> Stamp:
    """A background galaxy of a given r magnitude and the size that goes with it.

    A Moffat of the width that disk and seeing have together stands for both, which spares an FFT.
    """
    # 0.6 arcsec at r = 21, and 0.1 dex larger per mag brighter.
    radius = 0.6 * 10 ** (0.1 * (21.0 - mag)) * math.exp(0.25 * rng.standard_normal())
    axis_ratio = rng.uniform(0.3, 1.0)
    # In half-light radii the FWHM is 0.83 for an exponential disk, 1.58 for this Moffat: between.
    major, minor = (math.hypot(fwhm_arcsec, 1.25 * radius * q) for q in (1.0, axis_ratio))
    body = galsim.Moffat(beta=3.0, fwhm=math.sqrt(major * minor), gsparams=FAST)
    body = body.shear(q=minor / major, beta=rng.uniform(0, math.pi) * galsim.radians)
    g_r = rng.normal(0.85, 0.3)
    return Stamp(body, band_fluxes(nanomaggies(mag), g_r, 0.45 * g_r + 0.05))


def add_neighbours(bands: np.ndarray, fwhm_arcsec: float, rng: np.random.Generator) -> None:
    """Add field stars and small galaxies to `bands` (3, H, W) in place."""
    side = bands.shape[1]
    area_arcmin2 = (side * NATIVE_PIXEL_ARCSEC / 60) ** 2
    for _ in range(rng.poisson(STARS_PER_ARCMIN2 * area_arcmin2)):
        mag = _draw_mag(rng, STAR_MAGS, STAR_SLOPE_DEX)
        add_stamp(bands, star(rng, fwhm_arcsec, mag), rng.uniform(0, side, 2))
    for _ in range(rng.poisson(GALAXIES_PER_ARCMIN2 * area_arcmin2)):
        mag = _draw_mag(rng, GALAXY_MAGS, GALAXY_SLOPE_DEX)
        add_stamp(bands, small_galaxy(rng, fwhm_arcsec, mag), rng.uniform(0, side, 2))


def near_the_middle(
    rng: np.random.Generator, side_px: int, nearest: float, farthest: float
) -> np.ndarray:
    """A place (column, row) at a distance from the middle in units of half the field's side."""
    angle = rng.uniform(0, 2 * math.pi)
    distance = rng.uniform(nearest, farthest) * side_px / 2
    return side_px / 2 + distance * np.array([math.cos(angle), math.sin(angle)])


def _draw_mag(rng: np.random.Generator, mags: tuple[float, float], slope_dex: float) -> float:
    """A magnitude between two limits from counts that rise as 10^(slope x mag)."""
    brightest = 10 ** (slope_dex * (mags[0] - mags[1]))
    return mags[1] + math.log10(rng.uniform(brightest, 1.0)) / slope_dex


def add_stamp(bands: np.ndarray, stamp: Stamp, place: np.ndarray) -> None:
    """Add `stamp` to `bands` (3, H, W) at `place`, on a square as large as its light is seen."""
    side = bands.shape[1]
    # Fluxes range from 1 to 10^4 nanomaggies (r = 12.5): from 16 to 80 px to either side.
    half = int(min(8 * (1 + max(stamp.fluxes)) ** 0.25 + 6, 80))
    column, row = place
    left, top = math.floor(column) - half, math.floor(row) - half
    if left >= side or top >= side or min(left, top) <= -2 * half:
        return
    seen = stamp.profile.drawImage(
        nx=2 * half,
        ny=2 * half,
        scale=NATIVE_PIXEL_ARCSEC,
        method="no_pixel",
        offset=(column % 1, row % 1),
    ).array[max(-top, 0) : side - top, max(-left, 0) : side - left]
    top, left = max(top, 0), max(left, 0)
    window = np.s_[:, top : top + seen.shape[0], left : left + seen.shape[1]]
    bands[window] += np.array(stamp.fluxes, np.float32)[:, None, None] * seen
