"""Magnitudes and colours, and Petrosian flux and radius as the SDSS pipeline defines them.

Source: Strauss et al. 2002, AJ 124, 1810, section 3.2 (ratio 0.2, annulus 0.8 to 1.25 radii,
aperture of 2 Petrosian radii).
"""

from dataclasses import dataclass

import numpy as np

from gz2vit.simulation.canvas import NATIVE_PIXEL_ARCSEC, Canvas

ZERO_POINT_MAG = 22.5
PETROSIAN_RATIO = 0.2
APERTURE_RADII = 2.0
# Radii are searched from 1.2 arcsec: below, an annulus holds too few pixels.
STEP_PX = 0.5
FIRST_PX = 3.0


def nanomaggies(mag: float) -> float:
    """Flux of an AB magnitude."""
    return 10 ** (0.4 * (ZERO_POINT_MAG - mag))


def band_fluxes(r_flux: float, g_r_mag: float, r_i_mag: float) -> tuple[float, float, float]:
    """Flux in g, r and i from that in r and two colours."""
    return r_flux * 10 ** (-0.4 * g_r_mag), r_flux, r_flux * 10 ** (0.4 * r_i_mag)


@dataclass(frozen=True)
class Petrosian:
    """Petrosian flux (in the image's unit) and the radii of 50 % and 90 % of it, in arcsec."""

    flux: float
    r50_arcsec: float
    r90_arcsec: float


def measure(image: np.ndarray, canvas: Canvas) -> Petrosian:
    """Petrosian quantities of a noiseless image (H, W) in circles around the canvas's centre.

    An image whose profile never falls to the Petrosian ratio is measured to its edge.
    """
    radii, within = _growth_curve(image, canvas)

    def flux_within(radius_px: np.ndarray | float) -> np.ndarray:
        """Flux within a radius, between the measured ones."""
        return np.interp(radius_px, radii, within)

    search = np.arange(FIRST_PX, radii[-1] / 1.25, STEP_PX)
    annulus = flux_within(1.25 * search) - flux_within(0.8 * search)
    ratio = annulus / (1.25**2 - 0.8**2) / flux_within(search)
    below = np.flatnonzero(ratio < PETROSIAN_RATIO)
    petrosian = search[below[0]] if len(below) else search[-1]
    flux = float(flux_within(APERTURE_RADII * petrosian))
    r50, r90 = np.interp([0.5 * flux, 0.9 * flux], within, radii) * NATIVE_PIXEL_ARCSEC
    return Petrosian(flux, float(r50), float(r90))


def _growth_curve(image: np.ndarray, canvas: Canvas) -> tuple[np.ndarray, np.ndarray]:
    """Radii in native pixels, rising from 0, and the flux within each."""
    x, y = canvas.coordinates()
    radius_px = np.hypot(x, y) / NATIVE_PIXEL_ARCSEC
    rings = (radius_px / STEP_PX).astype(np.intp).ravel()
    flux = np.bincount(rings, weights=image.ravel())
    # Dust may take more from a pixel than it has; a growth curve has to rise.
    within = np.maximum.accumulate(np.cumsum(flux))
    radii = STEP_PX * np.arange(1, len(within) + 1)
    return np.r_[0.0, radii], np.r_[0.0, within]
