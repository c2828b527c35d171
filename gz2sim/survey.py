"""From light to picture: one night's seeing and noise, the colour composite and the cutout.

As in SDSS, every band is exposed on native pixels, the colour composite is made there (Lupton et
al. 2004, PASP 116, 133), and the cutout is cut from it at 0.02 x petroR90 arcsec per pixel: a small
galaxy is blurred, and its noise comes in patches.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.random import Generator

from gz2sim.canvas import NATIVE_PIXEL_ARCSEC, Canvas, band_fluxes, measure, nanomaggies
from gz2sim.classes import BUILDERS
from gz2sim.field import add_faults, add_neighbours, draw_edges
from gz2sim.population import SMALLEST_R90_ARCSEC, Galaxy, draw_galaxy

IMAGE_PX = 424
PIXEL_SCALE_PER_R90 = 0.02  # Willett et al. 2013: R90 always spans 50 px
# SDSS DR7: quartiles of the r-band seeing 1.30, 1.43, 1.58 arcsec; ln(1.58 / 1.30) / 1.349 = 0.145.
SEEING_FWHM_ARCSEC, SEEING_LN_SCATTER = 1.43, 0.145
# Per native pixel, sky and read-out: r from sky, gain and exposure time, g and i as in real images.
SKY_NOISE_NMGY = (0.0145, 0.028, 0.035)
SKY_LEVEL_NMGY = (0.29, 0.71, 1.19)  # 21.84, 20.86, 20.30 mag per square arcsec: the medians
COMPOSITE_WEIGHTS = (1.37, 1.0, 0.86)  # of g, r, i as in the SDSS composites (4.9 : 5.7 : 7.8)
# Fitted to real images: slope at the sky (full scale per nanomaggy), flux where the stretch bends.
STRETCH_SLOPE, STRETCH_SOFTENING_NMGY = 2.7, 0.05
FIELD_JPEG_QUALITY = 80  # of the composites before they are cut: gives the grain of real noise
# Misfit of the bands, in native pixels (one standard deviation), and its scatter over the fields.
REGISTRATION_PX, REGISTRATION_LN_SCATTER = 0.15, 0.5
# From night to night: noise as a whole and in each band, and what is left of the sky (fitted).
NOISE_LN_SCATTER, BAND_LN_SCATTER = 0.1, 0.08
SKY_RESIDUAL_NMGY = 0.003
SIZE_MARGIN = 1.2  # room for a galaxy whose measured R90 comes out larger than the drawn one
# Scatter of the measured R90: fitted to that of sizes in real cutouts, which are scaled by it.
R90_LN_ERROR = 0.1
COLUMNS = ("petroR90_r", "dered_r", "dered_g_r")  # of the properties: arcsec, mag, mag


@dataclass(frozen=True)
class Night:
    """The conditions of one exposure: noise and sky in nanomaggies for g, r, i."""

    fwhm_arcsec: float = SEEING_FWHM_ARCSEC
    noise_nmgy: tuple[float, ...] = SKY_NOISE_NMGY
    sky_residual_nmgy: tuple[float, ...] = (0.0, 0.0, 0.0)
    registration_px: float = REGISTRATION_PX


Change = Callable[[Galaxy, Night], tuple[Galaxy, Night]]  # another one than the drawn ones


def draw_night(rng: Generator) -> Night:
    """Conditions as they scatter over the survey."""
    common = NOISE_LN_SCATTER * rng.standard_normal()
    factors = np.exp(common + BAND_LN_SCATTER * rng.standard_normal(3))
    fwhm_arcsec = SEEING_FWHM_ARCSEC * math.exp(SEEING_LN_SCATTER * rng.standard_normal())
    sky = tuple(SKY_RESIDUAL_NMGY * rng.standard_normal(3))
    registration_px = REGISTRATION_PX * math.exp(REGISTRATION_LN_SCATTER * rng.standard_normal())
    return Night(fwhm_arcsec, tuple(factors * SKY_NOISE_NMGY), sky, registration_px)


def add_noise(bands: np.ndarray, night: Night, rng: Generator) -> None:
    """Add the photon noise of sky and sources, and a rest of sky, to `bands` (3, H, W) in place."""
    levels = night.noise_nmgy, SKY_LEVEL_NMGY, night.sky_residual_nmgy
    for band, noise, level, rest in zip(bands, *levels, strict=True):
        sigma = noise * np.sqrt(1 + np.maximum(band, 0) / level)
        band += sigma * rng.standard_normal(band.shape, dtype=np.float32)
        band += np.float32(rest)


def resample(bands: np.ndarray, night: Night, rng: Generator) -> None:
    """Resample each band to the sky's grid in place, as in mosaics; misfits give coloured edges."""
    common = rng.uniform(-0.5, 0.5, 2)
    for band in bands:
        aside = common + night.registration_px * rng.standard_normal(2)
        shift = np.column_stack([np.eye(2), aside])
        band[:] = cv2.warpAffine(band, shift, band.shape, flags=cv2.INTER_LINEAR)


def composite(bands: np.ndarray) -> np.ndarray:
    """Lupton et al. (2004) asinh composite of (3, H, W) g, r, i: (H, W, 3) R, G, B in 0 to 1."""
    weighted = bands * np.array(COMPOSITE_WEIGHTS, np.float32)[:, None, None]
    intensity = weighted.mean(0)
    bent = np.maximum(intensity, 1e-4) / STRETCH_SOFTENING_NMGY
    gain = np.where(intensity > 0, STRETCH_SLOPE * np.arcsinh(bent) / bent, 0)
    rgb = np.maximum(gain * weighted, 0)
    rgb /= np.maximum(rgb.max(0), 1.0)  # dimmed as a whole, so that colours are kept
    return np.ascontiguousarray(rgb[::-1].transpose(1, 2, 0))


def cut(rgb: np.ndarray, centre: tuple[float, float], pixel_scale_arcsec: float) -> np.ndarray:
    """The cutout (424, 424, 3) uint8 of a composite (0 to 1) after its JPEG; `centre` in arcsec."""
    pixels = np.rint(255 * rgb).astype(np.uint8)
    quality = [cv2.IMWRITE_JPEG_QUALITY, FIELD_JPEG_QUALITY]
    _, encoded = cv2.imencode(".jpg", pixels[..., ::-1], quality)  # OpenCV has B, G, R
    pixels = np.ascontiguousarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1])
    native_px, middle = pixel_scale_arcsec / NATIVE_PIXEL_ARCSEC, (len(rgb) - 1) / 2
    # Real Galaxy Zoo 2 cutouts have the galaxy at pixel 212 of 0 to 423, half a pixel off.
    corner = [middle + at / NATIVE_PIXEL_ARCSEC - IMAGE_PX / 2 * native_px for at in centre]
    to_native = np.column_stack([native_px * np.eye(2), corner])
    flags, size = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, (IMAGE_PX, IMAGE_PX)
    return cv2.warpAffine(pixels, to_native, size, flags=flags, borderMode=cv2.BORDER_REFLECT)


def expose(
    galaxy_id: int, class_index: int, seed: int, change: Change | None = None
) -> tuple[np.ndarray, dict[str, float]]:
    """The image (424, 424, 3) uint8 of galaxy `galaxy_id` of a class, and its COLUMNS.

    Each stage has a stream of random numbers of its own, so that a change to one leaves the draws
    of the others. `change` makes it a fainter galaxy, say, or worse air, before it is drawn.
    """
    streams = np.random.SeedSequence([seed, galaxy_id]).spawn(5)
    truth, body, field, noise, faults = map(np.random.default_rng, streams)
    galaxy, night = draw_galaxy(class_index, truth), draw_night(truth)
    if change is not None:
        galaxy, night = change(galaxy, night)
    spoilt = galaxy.drawn_as != class_index
    centre = tuple(truth.uniform(-0.5, 0.5, 2) * NATIVE_PIXEL_ARCSEC)
    bands, r90_arcsec, g_r_mag = _draw_body(galaxy, night.fwhm_arcsec, centre, body)
    add_neighbours(bands, night.fwhm_arcsec, field)
    add_faults(bands, night.fwhm_arcsec, spoilt, faults)
    add_noise(bands, night, noise)
    resample(bands, night, noise)
    rgb = composite(bands)
    draw_edges(rgb, spoilt, faults)
    values = zip(COLUMNS, (r90_arcsec, galaxy.r_mag, g_r_mag), strict=True)
    image = cut(rgb, centre, PIXEL_SCALE_PER_R90 * r90_arcsec)
    return image, {name: round(value, 4) for name, value in values}


def _draw_body(
    galaxy: Galaxy, fwhm_arcsec: float, centre: tuple[float, float], rng: Generator
) -> tuple[np.ndarray, float, float]:
    """The galaxy alone without noise, (3, H, W) in nanomaggies; its R90 in arcsec and g - r."""

    def side_of(pixel_scale_arcsec: float) -> int:
        """Native pixels on the side of a cutout, with a margin of 2 each side."""
        return math.ceil(IMAGE_PX * pixel_scale_arcsec / NATIVE_PIXEL_ARCSEC) + 4

    state = rng.bit_generator.state
    while True:  # drawn again, larger, where R90 comes out below the sample's limit
        rng.bit_generator.state = state
        scale = PIXEL_SCALE_PER_R90 * galaxy.r90_arcsec * SIZE_MARGIN
        canvas = Canvas(side_of(scale), fwhm_arcsec, centre)
        bands = np.zeros((3, canvas.side_px, canvas.side_px), np.float32)
        for light, share, redder in BUILDERS[galaxy.drawn_as](rng, canvas, galaxy.r90_arcsec):
            # Along the stellar locus r - i changes by 0.45 of g - r.
            colours = galaxy.g_r_mag + redder, galaxy.r_i_mag + 0.45 * redder
            bands += np.array(band_fluxes(share, *colours), np.float32)[:, None, None] * light
        bands = np.maximum(bands, 0)
        flux, r90_arcsec = measure(bands[1], canvas)
        if r90_arcsec > SMALLEST_R90_ARCSEC:
            break
        galaxy = replace(galaxy, r90_arcsec=1.1 * galaxy.r90_arcsec)
    bands *= np.float32(nanomaggies(galaxy.r_mag) / flux)
    g_r_mag = -2.5 * np.log10(measure(bands[0], canvas)[0] / nanomaggies(galaxy.r_mag))
    # As a pipeline finds it under noise and neighbours, still above the sample's limit.
    found = r90_arcsec * math.exp(R90_LN_ERROR * rng.standard_normal())
    r90_arcsec = found if found > SMALLEST_R90_ARCSEC else r90_arcsec
    # Crop, or pad with dark sky; one pixel is added where only that keeps the middle.
    border = (side_of(PIXEL_SCALE_PER_R90 * r90_arcsec) - canvas.side_px + 1) // 2
    outside, inside = max(border, 0), slice(max(-border, 0), canvas.side_px + min(border, 0))
    bands = np.pad(bands[:, inside, inside], ((0, 0), (outside, outside), (outside, outside)))
    return bands, r90_arcsec, float(g_r_mag)
