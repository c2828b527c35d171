"""From light to picture: one night's seeing and noise, the colour composite and the cutout.

As in SDSS, every band is exposed on native pixels, the colour composite is made there (Lupton et
al. 2004, PASP 116, 133), and the cutout is cut from it at 0.02 x petroR90 arcsec per pixel: a small
galaxy is blurred, and its noise comes in patches.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator

from gz2sim.canvas import NATIVE_PIXEL_ARCSEC

IMAGE_PX = 424
# Willett et al. 2013: one image pixel is 0.02 x petroR90_r, so that R90 always spans 50 px.
PIXEL_SCALE_PER_R90 = 0.02

# SDSS DR7: quartiles of the r-band seeing 1.30, 1.43, 1.58 arcsec; ln(1.58 / 1.30) / 1.349 = 0.145.
SEEING_FWHM_ARCSEC, SEEING_LN_SCATTER = 1.43, 0.145
# Noise per native pixel, sky and read-out together: 0.028 in r follows from sky, gain and exposure
# time; g and i are set so that empty sky has the grey levels of real images in R, G and B.
SKY_NOISE_NMGY = (0.0145, 0.028, 0.035)
# Median sky per native pixel: 21.84, 20.86 and 20.30 mag per square arcsec.
SKY_LEVEL_NMGY = (0.29, 0.71, 1.19)
# Band to colour: i -> R, r -> G, g -> B, weighted as in the SDSS composites (4.9 : 5.7 : 7.8).
COMPOSITE_WEIGHTS = (1.37, 1.0, 0.86)
# Fitted to the radial brightness profiles and the sky noise of real Galaxy Zoo 2 images: slope at
# the sky (full scale per nanomaggy), and the flux per native pixel where the stretch bends.
STRETCH_SLOPE, STRETCH_SOFTENING_NMGY = 2.7, 0.05
# The composites are stored as JPEG before they are cut; this quality gives the correlation of the
# colours (0.9) and of neighbouring pixels (0.9) in the noise of real images.
FIELD_JPEG_QUALITY = 80
# Misfit of the bands, in native pixels (one standard deviation), and its scatter over the fields.
REGISTRATION_PX, REGISTRATION_LN_SCATTER = 0.15, 0.5
# From night to night: noise as a whole and in each band, and what is left of the sky (fitted to
# the scatter of noise and median of empty sky in real images).
NOISE_LN_SCATTER, BAND_LN_SCATTER = 0.1, 0.08
SKY_RESIDUAL_NMGY = 0.003


@dataclass(frozen=True)
class Night:
    """The conditions of one exposure: noise and sky in nanomaggies for g, r, i."""

    fwhm_arcsec: float = SEEING_FWHM_ARCSEC
    noise_nmgy: tuple[float, ...] = SKY_NOISE_NMGY
    sky_residual_nmgy: tuple[float, ...] = (0.0, 0.0, 0.0)
    registration_px: float = REGISTRATION_PX


def draw_night(rng: Generator) -> Night:
    """Conditions as they scatter over the survey."""
    common = NOISE_LN_SCATTER * rng.standard_normal()
    factors = np.exp(common + BAND_LN_SCATTER * rng.standard_normal(3))
    fwhm_arcsec = SEEING_FWHM_ARCSEC * math.exp(SEEING_LN_SCATTER * rng.standard_normal())
    return Night(
        fwhm_arcsec,
        tuple(factors * SKY_NOISE_NMGY),
        tuple(SKY_RESIDUAL_NMGY * rng.standard_normal(3)),
        REGISTRATION_PX * math.exp(REGISTRATION_LN_SCATTER * rng.standard_normal()),
    )


def cut_side_px(pixel_scale_arcsec: float) -> int:
    """Native pixels on the side of a cutout of 424 image pixels, with a margin of 2 each side."""
    return math.ceil(IMAGE_PX * pixel_scale_arcsec / NATIVE_PIXEL_ARCSEC) + 4


def resample(bands: np.ndarray, night: Night, rng: Generator) -> None:
    """Resample each band to the sky's grid in place, up to half a pixel aside.

    As in mosaics, it smooths the noise; misfits of the bands give small galaxies coloured edges.
    """
    side = bands.shape[1]
    common = rng.uniform(-0.5, 0.5, 2)
    for band in range(len(bands)):
        dx, dy = common + night.registration_px * rng.standard_normal(2)
        shift = np.array([[1, 0, dx], [0, 1, dy]])
        bands[band] = cv2.warpAffine(bands[band], shift, (side, side), flags=cv2.INTER_LINEAR)


def add_noise(bands: np.ndarray, night: Night, rng: Generator) -> None:
    """Add the photon noise of sky and sources, and a rest of sky, to `bands` (3, H, W) in place."""
    for band, (noise, sky) in enumerate(zip(night.noise_nmgy, SKY_LEVEL_NMGY, strict=True)):
        sigma = noise * np.sqrt(1 + np.maximum(bands[band], 0) / sky)
        bands[band] += sigma * rng.standard_normal(bands[band].shape, dtype=np.float32)
        bands[band] += np.float32(night.sky_residual_nmgy[band])


def composite(bands: np.ndarray) -> np.ndarray:
    """Lupton et al. (2004) asinh composite of (3, H, W) g, r, i: (H, W, 3) R, G, B in 0 to 1.

    The mean of the weighted bands is stretched; a pixel with a channel above 1 is dimmed as a
    whole, so that colours are kept.
    """
    weighted = bands * np.array(COMPOSITE_WEIGHTS, np.float32)[:, None, None]
    intensity = weighted.mean(0)
    bent = np.maximum(intensity, 1e-4) / STRETCH_SOFTENING_NMGY
    gain = np.where(intensity > 0, STRETCH_SLOPE * np.arcsinh(bent) / bent, 0)
    rgb = np.maximum(gain * weighted, 0)
    rgb /= np.maximum(rgb.max(0), 1.0)
    return np.ascontiguousarray(rgb[::-1].transpose(1, 2, 0))


def compress(rgb: np.ndarray) -> np.ndarray:
    """The composite (H, W, 3) in 0 to 1 after its JPEG: uint8."""
    pixels = np.rint(255 * rgb).astype(np.uint8)
    quality = [cv2.IMWRITE_JPEG_QUALITY, FIELD_JPEG_QUALITY]
    # OpenCV takes and gives B, G, R.
    _, encoded = cv2.imencode(".jpg", pixels[..., ::-1], quality)
    return np.ascontiguousarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1])


def cut(rgb: np.ndarray, centre_px: tuple[float, float], pixel_scale_arcsec: float) -> np.ndarray:
    """The cutout (424, 424, 3) around `centre_px` (column, row) of a native composite, uint8."""
    native_px = pixel_scale_arcsec / NATIVE_PIXEL_ARCSEC
    # Real Galaxy Zoo 2 cutouts have the galaxy at pixel 212 of 0 to 423, half a pixel off.
    left, top = (place - IMAGE_PX / 2 * native_px for place in centre_px)
    to_native = np.array([[native_px, 0, left], [0, native_px, top]])
    flags, size = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, (IMAGE_PX, IMAGE_PX)
    return cv2.warpAffine(rgb, to_native, size, flags=flags, borderMode=cv2.BORDER_REFLECT)
