"""The grid of SDSS pixels on which components of light are laid and measured.

Closed forms go through GalSim (Rowe et al. 2015, arXiv:1407.7676), arrays of surface brightness
through the same PSF by one FFT. Flux is in nanomaggies (zero point 22.5 AB mag), bands are g, r, i.
"""

import copy
import math
from typing import NamedTuple

import galsim
import numpy as np
import scipy.fft
from numpy.random import Generator

NATIVE_PIXEL_ARCSEC = 0.396  # of the SDSS imaging camera
# no_pixel: the published seeing is measured on pixels, so they are in it already.
NATIVE = {"scale": NATIVE_PIXEL_ARCSEC, "method": "no_pixel"}
# GalSim's defaults aim at 0.1 % shear accuracy; 1 % of the light is below the noise of one pixel.
FAST = galsim.GSParams(
    maximum_fft_size=4096, folding_threshold=1e-2, maxk_threshold=5e-3, kvalue_accuracy=1e-3
)
FFT_PADDING_PX = 20  # zeros around an array before its FFT: 8 arcsec, 5 times the seeing
SERSIC_TRUNCATION = 8.0  # half-light radii, as SDSS cuts its models; keeps GalSim's FFT small
ZERO_POINT_MAG = 22.5
PETROSIAN_RATIO, APERTURE_RADII = 0.2, 2.0
STEP_PX, FIRST_PX = 0.5, 3.0  # radii from 1.2 arcsec: below, an annulus holds too few pixels

Pair = tuple[float, float]


class Component(NamedTuple):
    """One stellar population of a galaxy."""

    light: np.ndarray  # (H, W) float32, of sum 1 where it lies whole on the canvas
    share: float  # of the galaxy's r-band flux; negative for dust, which takes light away
    redder_mag: float  # its g - r minus the galaxy's


class Canvas:
    """A square of native pixels, seen through a Moffat PSF, and where (arcsec) light is laid."""

    def __init__(self, side_px: int, fwhm_arcsec: float, centre_arcsec: Pair = (0.0, 0.0)) -> None:
        self.side_px, self.centre_arcsec = side_px, centre_arcsec
        self.psf = galsim.Moffat(beta=3.0, fwhm=fwhm_arcsec, gsparams=FAST)
        size = scipy.fft.next_fast_len(side_px + FFT_PADDING_PX, real=True)
        # An odd-sized drawing has its peak on a pixel; rolled to the corner it shifts nothing.
        odd = size - 1 + size % 2
        drawn = self.psf.drawImage(nx=odd, ny=odd, **NATIVE).array
        kernel = np.zeros((size, size), np.float32)
        kernel[:odd, :odd] = drawn / drawn.sum()
        self.psf_transform = scipy.fft.rfft2(np.roll(kernel, (-(odd // 2), -(odd // 2)), (0, 1)))

    def moved(self, distance_arcsec: float, angle_rad: float) -> "Canvas":
        """The same canvas with its centre moved in a direction."""
        other, way = copy.copy(self), (math.cos(angle_rad), math.sin(angle_rad))
        other.centre_arcsec = np.add(self.centre_arcsec, np.multiply(distance_arcsec, way))
        return other

    def coordinates(self) -> tuple[np.ndarray, np.ndarray]:
        """Offsets x, y of every pixel from the centre in arcsec: (1, W) and (H, 1) float32."""
        (x, y), pixel = np.float32(self.centre_arcsec), np.float32(NATIVE_PIXEL_ARCSEC)
        columns, rows = offsets_px(self.side_px)
        return pixel * columns - x, pixel * rows - y

    def plane(self, axis_ratio: float, angle_rad: float) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates (H, W) in arcsec within a disk inclined to `axis_ratio`, major axis first."""
        along, aside = turned(*self.coordinates(), angle_rad)
        return along, aside / axis_ratio

    def smooth(self, profile: galsim.GSObject) -> np.ndarray:
        """A GalSim profile of unit flux, centred, through the seeing: (H, W) float32."""
        seen = galsim.Convolve(profile.shift(*self.centre_arcsec), self.psf, gsparams=FAST)
        return seen.drawImage(nx=self.side_px, ny=self.side_px, dtype=np.float32, **NATIVE).array

    def structured(self, light: np.ndarray) -> np.ndarray:
        """Surface brightness (H, W), any unit, through the seeing, scaled to sum 1: float32."""
        size = (len(self.psf_transform),) * 2
        light = (light / light.sum()).astype(np.float32)
        transform = scipy.fft.rfft2(light, size) * self.psf_transform
        return scipy.fft.irfft2(transform, size)[: self.side_px, : self.side_px]


def offsets_px(side_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns (1, W) and rows (H, 1) counted from the middle, float32."""
    offset = np.arange(side_px, dtype=np.float32) - np.float32((side_px - 1) / 2)
    return offset[None, :], offset[:, None]


def turned(x: np.ndarray, y: np.ndarray, angle_rad: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates along an axis at `angle_rad`, and across it."""
    cosine, sine = math.cos(angle_rad), math.sin(angle_rad)
    return x * cosine + y * sine, y * cosine - x * sine


def random_angle(rng: Generator) -> float:
    """An angle in radians: the sky has no preferred direction."""
    return rng.uniform(0.0, 2 * math.pi)


def sersic(
    index: float, radius_arcsec: float, axis_ratio: float, angle_rad: float
) -> galsim.GSObject:
    """A Sersic profile of unit flux; `radius_arcsec` is the half-light radius on the major axis."""
    # Rounded to the next half, because GalSim tabulates every new index for milliseconds.
    circular, index = radius_arcsec * math.sqrt(axis_ratio), round(2 * index) / 2
    profile = galsim.Sersic(index, circular, trunc=SERSIC_TRUNCATION * circular, gsparams=FAST)
    return profile.shear(q=axis_ratio, beta=angle_rad * galsim.radians)


def nanomaggies(mag: float) -> float:
    """Flux of an AB magnitude."""
    return 10 ** (0.4 * (ZERO_POINT_MAG - mag))


def band_fluxes(r_flux: float, g_r_mag: float, r_i_mag: float) -> tuple[float, float, float]:
    """Flux in g, r and i from that in r and two colours."""
    return r_flux * 10 ** (-0.4 * g_r_mag), r_flux, r_flux * 10 ** (0.4 * r_i_mag)


def measure(image: np.ndarray, canvas: Canvas) -> tuple[float, float]:
    """Petrosian flux (Strauss et al. 2002, AJ 124, 1810) of an image (H, W), and R90 in arcsec."""
    rings = (np.hypot(*canvas.coordinates()) / NATIVE_PIXEL_ARCSEC / STEP_PX).astype(np.intp)
    grown = np.cumsum(np.bincount(rings.ravel(), weights=image.ravel()))
    # Dust may take more from a pixel than it has; a growth curve has to rise.
    within = np.r_[0.0, np.maximum.accumulate(grown)]
    radii = STEP_PX * np.arange(len(within))
    search = np.arange(FIRST_PX, radii[-1] / 1.25, STEP_PX)
    inner, at, outer = (np.interp(factor * search, radii, within) for factor in (0.8, 1.0, 1.25))
    below = np.flatnonzero((outer - inner) / (1.25**2 - 0.8**2) / at < PETROSIAN_RATIO)
    petrosian = search[below[0]] if len(below) else search[-1]
    flux = float(np.interp(APERTURE_RADII * petrosian, radii, within))
    return flux, float(np.interp(0.9 * flux, within, radii) * NATIVE_PIXEL_ARCSEC)
