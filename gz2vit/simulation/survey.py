"""From light to picture: neighbours, noise, the colour composite and the cutout.

The order is that of SDSS: every band is exposed on native pixels, the colour composite is made
there (Lupton et al. 2004, PASP 116, 133), and the cutout is cut from it at 0.02 x petroR90 arcsec
per pixel. A small galaxy is therefore blurred, and its noise comes in patches, as in Galaxy Zoo 2.
Flux is in nanomaggies (zero point 22.5 AB mag); bands stand in the order g, r, i.
"""

import math

import cv2
import galsim
import numpy as np

from gz2vit import paper
from gz2vit.simulation.canvas import FAST, NATIVE_PIXEL_ARCSEC, sersic

ZERO_POINT_MAG = 22.5
# SDSS DR7: quartiles of the r-band seeing 1.30, 1.43, 1.58 arcsec; ln(1.58 / 1.30) / 1.349 = 0.145.
SEEING_FWHM_ARCSEC = 1.43
SEEING_LN_SCATTER = 0.145
# Noise per native pixel, sky and read-out together: 0.028 in r follows from sky, gain and exposure
# time; g and i are set so that empty sky has the grey levels of real images in R, G and B.
SKY_NOISE_NMGY = (0.016, 0.028, 0.035)
# Median sky per native pixel: 21.84, 20.86 and 20.30 mag per square arcsec.
SKY_LEVEL_NMGY = (0.29, 0.71, 1.19)

# Neighbours per square arcmin between magnitudes 15 (stars) or 17 (galaxies) and 22.5 at high
# galactic latitude, and the growth of their number in dex per mag.
STARS_PER_ARCMIN2, STAR_MAGS, STAR_SLOPE_DEX = 2.2, (15.0, 22.5), 0.15
GALAXIES_PER_ARCMIN2, GALAXY_MAGS, GALAXY_SLOPE_DEX = 4.5, (17.0, 22.5), 0.38

# Band to colour: i -> R, r -> G, g -> B, weighted as in the SDSS composites (4.9 : 5.7 : 7.8).
COMPOSITE_WEIGHTS = (1.37, 1.0, 0.86)
# Fitted to the radial brightness profiles and the sky noise of real Galaxy Zoo 2 images: slope at
# the sky (full scale per nanomaggy), and the flux per native pixel where the stretch bends.
STRETCH_SLOPE = 2.7
STRETCH_SOFTENING_NMGY = 0.05
# The composites are stored as JPEG before they are cut; this quality gives the correlation of the
# colours (0.9) and of neighbouring pixels (0.9) in the noise of real images.
FIELD_JPEG_QUALITY = 80
# Misfit of the bands, in native pixels (one standard deviation).
REGISTRATION_PX = 0.15


def draw_seeing(rng: np.random.Generator) -> float:
    """The r-band FWHM of one exposure in arcsec."""
    return SEEING_FWHM_ARCSEC * math.exp(SEEING_LN_SCATTER * rng.standard_normal())


def nanomaggies(mag: float) -> float:
    """Flux of an AB magnitude."""
    return 10 ** (0.4 * (ZERO_POINT_MAG - mag))


def band_fluxes(r_flux: float, g_r_mag: float, r_i_mag: float) -> tuple[float, float, float]:
    """Flux in g, r and i from that in r and two colours."""
    return r_flux * 10 ** (-0.4 * g_r_mag), r_flux, r_flux * 10 ** (0.4 * r_i_mag)


def cut_side_px(pixel_scale_arcsec: float) -> int:
    """Native pixels on the side of a cutout of 424 image pixels, with a margin of 2 each side."""
    return math.ceil(paper.IMAGE_PX * pixel_scale_arcsec / NATIVE_PIXEL_ARCSEC) + 4


def add_neighbours(bands: np.ndarray, fwhm_arcsec: float, rng: np.random.Generator) -> None:
    """Add field stars and small galaxies to `bands` (3, H, W) in place."""
    area_arcmin2 = (bands.shape[1] * NATIVE_PIXEL_ARCSEC / 60) ** 2
    psf = galsim.Moffat(beta=3.0, fwhm=fwhm_arcsec, gsparams=FAST)
    for _ in range(rng.poisson(STARS_PER_ARCMIN2 * area_arcmin2)):
        flux = nanomaggies(_draw_mag(rng, STAR_MAGS, STAR_SLOPE_DEX))
        g_r = rng.uniform(0.2, 1.4)
        # Red dwarfs (g - r at its limit of 1.4) spread out in r - i.
        r_i = 0.4 * g_r + (rng.uniform(0.0, 0.6) if g_r > 1.2 else 0.0)
        _add_stamp(bands, psf, band_fluxes(flux, g_r, r_i), rng)
    for _ in range(rng.poisson(GALAXIES_PER_ARCMIN2 * area_arcmin2)):
        mag = _draw_mag(rng, GALAXY_MAGS, GALAXY_SLOPE_DEX)
        # 0.6 arcsec at r = 21, and 0.1 dex larger per mag brighter.
        radius = 0.6 * 10 ** (0.1 * (21.0 - mag)) * math.exp(0.25 * rng.standard_normal())
        angle = rng.uniform(0, math.pi)
        profile = galsim.Convolve(sersic(1.0, radius, rng.uniform(0.3, 1), angle), psf)
        g_r = rng.normal(0.85, 0.3)
        fluxes = band_fluxes(nanomaggies(mag), g_r, 0.45 * g_r + 0.05)
        _add_stamp(bands, profile.withGSParams(FAST), fluxes, rng)


def _draw_mag(rng: np.random.Generator, mags: tuple[float, float], slope_dex: float) -> float:
    """A magnitude between two limits from counts that rise as 10^(slope x mag)."""
    brightest = 10 ** (slope_dex * (mags[0] - mags[1]))
    return mags[1] + math.log10(rng.uniform(brightest, 1.0)) / slope_dex


def _add_stamp(
    bands: np.ndarray,
    profile: galsim.GSObject,
    fluxes: tuple[float, float, float],
    rng: np.random.Generator,
) -> None:
    """Draw `profile` (unit flux) at a random place on a stamp as large as its light is seen."""
    side = bands.shape[1]
    # A Moffat (beta = 3) falls as radius^-4: a star of 10^4 nanomaggies (r = 12.5) needs 80 px.
    half = int(min(8 * (1 + max(fluxes)) ** 0.25 + 6, 80))
    column, row = rng.uniform(0, side, 2)
    left, top = int(column) - half, int(row) - half
    stamp = profile.drawImage(
        nx=2 * half,
        ny=2 * half,
        scale=NATIVE_PIXEL_ARCSEC,
        method="no_pixel",
        offset=(column - int(column), row - int(row)),
    ).array
    inside = np.s_[max(-top, 0) : side - top, max(-left, 0) : side - left]
    seen = stamp[inside]
    top, left = max(top, 0), max(left, 0)
    window = np.s_[:, top : top + seen.shape[0], left : left + seen.shape[1]]
    bands[window] += np.array(fluxes, np.float32)[:, None, None] * seen


def resample(bands: np.ndarray, rng: np.random.Generator) -> None:
    """Resample each band to the sky's grid in place, up to half a pixel aside.

    The composites of SDSS are mosaics: resampling smooths their noise. The bands fit on each other
    within `REGISTRATION_PX`, so small galaxies show faintly coloured edges.
    """
    side = bands.shape[1]
    common = rng.uniform(-0.5, 0.5, 2)
    for band in range(len(bands)):
        dx, dy = common + REGISTRATION_PX * rng.standard_normal(2)
        shift = np.array([[1, 0, dx], [0, 1, dy]])
        bands[band] = cv2.warpAffine(bands[band], shift, (side, side), flags=cv2.INTER_LINEAR)


def add_noise(bands: np.ndarray, rng: np.random.Generator) -> None:
    """Add the photon noise of sky and sources to `bands` (3, H, W) in place.

    The sky noise includes read noise; the variance grows in proportion to sky level plus flux.
    """
    for band, (noise, sky) in enumerate(zip(SKY_NOISE_NMGY, SKY_LEVEL_NMGY, strict=True)):
        sigma = noise * np.sqrt(1 + np.maximum(bands[band], 0) / sky)
        bands[band] += sigma * rng.standard_normal(bands[band].shape, dtype=np.float32)


def composite(bands: np.ndarray) -> np.ndarray:
    """Lupton et al. (2004) asinh composite of (3, H, W) g, r, i: (H, W, 3) R, G, B in 0 to 1.

    The mean of the weighted bands is stretched and colours are kept; a pixel with a channel above
    1 is dimmed as a whole.
    """
    weights = np.array(COMPOSITE_WEIGHTS, np.float32)[:, None, None]
    weighted = bands * weights
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
    middle = (paper.IMAGE_PX - 1) / 2
    to_native = np.array(
        [
            [native_px, 0, centre_px[0] - middle * native_px],
            [0, native_px, centre_px[1] - middle * native_px],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (paper.IMAGE_PX, paper.IMAGE_PX)
    return cv2.warpAffine(rgb, to_native, size, flags=flags, borderMode=cv2.BORDER_REFLECT)
