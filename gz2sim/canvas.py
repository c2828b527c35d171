"""The grid of SDSS pixels on which components of light are laid, seen through the atmosphere.

Profiles with a closed form go through GalSim (Rowe et al. 2015, arXiv:1407.7676); anything else is
an array of surface brightness that is convolved with the same GalSim PSF by one FFT.
"""

import math
from dataclasses import dataclass, replace

import cv2
import galsim
import numpy as np
import scipy.fft

from gz2vit import paper

# SDSS imaging camera.
NATIVE_PIXEL_ARCSEC = 0.396
# GalSim's defaults aim at 0.1 % shear accuracy; 1 % of the light is below the noise of one pixel.
FAST = galsim.GSParams(
    maximum_fft_size=4096,
    folding_threshold=1e-2,
    maxk_threshold=5e-3,
    kvalue_accuracy=1e-3,
)
# Zeros around an array before its FFT: 20 px is 8 arcsec, 5 times the seeing.
FFT_PADDING_PX = 20
# SDSS cuts its de Vaucouleurs models at 8 half-light radii; cut profiles keep GalSim's FFT small.
SERSIC_TRUNCATION = 8.0


@dataclass(frozen=True)
class Component:
    """One stellar population of a galaxy.

    `light` (H, W) float32 sums to 1 where it lies whole on the canvas; `share` is its part of the
    galaxy's r-band flux (negative for dust, which takes light away); `redder_mag` is its g - r
    minus the galaxy's.
    """

    light: np.ndarray
    share: float
    redder_mag: float = 0.0


@dataclass(frozen=True)
class Canvas:
    """A square of `side_px` native pixels, its PSF, and the point (arcsec) where light is laid."""

    side_px: int
    psf: galsim.GSObject
    psf_transform: np.ndarray
    centre_arcsec: tuple[float, float] = (0.0, 0.0)

    def moved(self, x_arcsec: float, y_arcsec: float) -> "Canvas":
        """The same canvas with its centre moved by (x, y)."""
        x, y = self.centre_arcsec
        return replace(self, centre_arcsec=(x + x_arcsec, y + y_arcsec))

    def coordinates(self) -> tuple[np.ndarray, np.ndarray]:
        """Offsets x, y of every pixel from the centre in arcsec: (1, W) and (H, 1) float32."""
        offset_px = np.arange(self.side_px, dtype=np.float32) - (self.side_px - 1) / 2
        offset = np.float32(NATIVE_PIXEL_ARCSEC) * offset_px
        x, y = self.centre_arcsec
        return (offset - np.float32(x))[None, :], (offset - np.float32(y))[:, None]

    def plane(self, axis_ratio: float, angle_rad: float) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates (H, W) in arcsec within a disk inclined to `axis_ratio`, major axis first."""
        x, y = self.coordinates()
        cosine, sine = math.cos(angle_rad), math.sin(angle_rad)
        return x * cosine + y * sine, (y * cosine - x * sine) / axis_ratio

    def smooth(self, profile: galsim.GSObject) -> np.ndarray:
        """A GalSim profile of unit flux, centred, through the seeing: (H, W) float32."""
        profile = profile.shift(*self.centre_arcsec)
        seen = galsim.Convolve(profile, self.psf, gsparams=FAST)
        # no_pixel: the published seeing is measured on pixels, so they are in it already.
        return seen.drawImage(
            nx=self.side_px,
            ny=self.side_px,
            scale=NATIVE_PIXEL_ARCSEC,
            method="no_pixel",
            dtype=np.float32,
        ).array

    def structured(self, light: np.ndarray) -> np.ndarray:
        """Surface brightness (H, W), any unit, through the seeing, scaled to sum 1: float32."""
        size = self.psf_transform.shape[0]
        light = (light / light.sum()).astype(np.float32)
        transform = scipy.fft.rfft2(light, (size, size)) * self.psf_transform
        return scipy.fft.irfft2(transform, (size, size))[: self.side_px, : self.side_px]


def make_canvas(
    side_px: int, fwhm_arcsec: float, centre_arcsec: tuple[float, float] = (0.0, 0.0)
) -> Canvas:
    """A canvas under a Moffat PSF (beta = 3, near the wings of SDSS) of the given FWHM."""
    psf = galsim.Moffat(beta=3.0, fwhm=fwhm_arcsec, gsparams=FAST)
    size = scipy.fft.next_fast_len(side_px + FFT_PADDING_PX, real=True)
    # An odd-sized drawing has its peak on a pixel; rolled to the corner it shifts nothing.
    odd = size - 1 + size % 2
    drawn = psf.drawImage(nx=odd, ny=odd, scale=NATIVE_PIXEL_ARCSEC, method="no_pixel").array
    kernel = np.zeros((size, size), np.float32)
    kernel[:odd, :odd] = drawn / drawn.sum()
    kernel = np.roll(kernel, (-(odd // 2), -(odd // 2)), (0, 1))
    return Canvas(side_px, psf, scipy.fft.rfft2(kernel), centre_arcsec)


def random_angle(rng: np.random.Generator) -> float:
    """An angle in radians: the sky has no preferred direction."""
    return rng.uniform(0.0, 2 * math.pi)


def sersic(
    index: float, radius_arcsec: float, axis_ratio: float, angle_rad: float
) -> galsim.GSObject:
    """A Sersic profile of unit flux; `radius_arcsec` is the half-light radius on the major axis.

    `index` is rounded to the next half, because GalSim tabulates every new index for milliseconds.
    """
    circular = radius_arcsec * math.sqrt(axis_ratio)
    index = round(2 * index) / 2
    truncation = SERSIC_TRUNCATION * circular
    profile = galsim.Sersic(index, half_light_radius=circular, trunc=truncation, gsparams=FAST)
    return profile.shear(q=axis_ratio, beta=angle_rad * galsim.radians)


# ------------------------------------------------------------------------------------------
# From light to picture: noise, the colour composite and the cutout.
#
# The order is that of SDSS: every band is exposed on native pixels, the colour composite is made
# there (Lupton et al. 2004, PASP 116, 133), and the cutout is cut from it at 0.02 x petroR90 arcsec
# per pixel. A small galaxy is therefore blurred, and its noise comes in patches, as in Galaxy Zoo 2.
# Flux is in nanomaggies (zero point 22.5 AB mag); bands stand in the order g, r, i.

# SDSS DR7: quartiles of the r-band seeing 1.30, 1.43, 1.58 arcsec; ln(1.58 / 1.30) / 1.349 = 0.145.
SEEING_FWHM_ARCSEC = 1.43
SEEING_LN_SCATTER = 0.145
# Noise per native pixel, sky and read-out together: 0.028 in r follows from sky, gain and exposure
# time; g and i are set so that empty sky has the grey levels of real images in R, G and B.
SKY_NOISE_NMGY = (0.0145, 0.028, 0.035)
# Median sky per native pixel: 21.84, 20.86 and 20.30 mag per square arcsec.
SKY_LEVEL_NMGY = (0.29, 0.71, 1.19)

# Band to colour: i -> R, r -> G, g -> B, weighted as in the SDSS composites (4.9 : 5.7 : 7.8).
COMPOSITE_WEIGHTS = (1.37, 1.0, 0.86)
# Fitted to the radial brightness profiles and the sky noise of real Galaxy Zoo 2 images: slope at
# the sky (full scale per nanomaggy), and the flux per native pixel where the stretch bends.
STRETCH_SLOPE = 2.7
STRETCH_SOFTENING_NMGY = 0.05
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


def draw_night(rng: np.random.Generator) -> Night:
    """Conditions as they scatter over the survey."""
    common = NOISE_LN_SCATTER * rng.standard_normal()
    factors = np.exp(common + BAND_LN_SCATTER * rng.standard_normal(3))
    return Night(
        draw_seeing(rng),
        tuple(factors * SKY_NOISE_NMGY),
        tuple(SKY_RESIDUAL_NMGY * rng.standard_normal(3)),
        REGISTRATION_PX * math.exp(REGISTRATION_LN_SCATTER * rng.standard_normal()),
    )


def draw_seeing(rng: np.random.Generator) -> float:
    """The r-band FWHM of one exposure in arcsec."""
    return SEEING_FWHM_ARCSEC * math.exp(SEEING_LN_SCATTER * rng.standard_normal())


def cut_side_px(pixel_scale_arcsec: float) -> int:
    """Native pixels on the side of a cutout of 424 image pixels, with a margin of 2 each side."""
    return math.ceil(paper.IMAGE_PX * pixel_scale_arcsec / NATIVE_PIXEL_ARCSEC) + 4


def resample(bands: np.ndarray, night: Night, rng: np.random.Generator) -> None:
    """Resample each band to the sky's grid in place, up to half a pixel aside.

    The composites of SDSS are mosaics: resampling smooths their noise. The bands fit on each other
    within the registration, so small galaxies show faintly coloured edges.
    """
    side = bands.shape[1]
    common = rng.uniform(-0.5, 0.5, 2)
    for band in range(len(bands)):
        dx, dy = common + night.registration_px * rng.standard_normal(2)
        shift = np.array([[1, 0, dx], [0, 1, dy]])
        bands[band] = cv2.warpAffine(bands[band], shift, (side, side), flags=cv2.INTER_LINEAR)


def add_noise(bands: np.ndarray, night: Night, rng: np.random.Generator) -> None:
    """Add the photon noise of sky and sources, and a rest of sky, to `bands` (3, H, W) in place.

    The sky noise includes read noise; the variance grows in proportion to sky level plus flux.
    """
    for band, (noise, sky) in enumerate(zip(night.noise_nmgy, SKY_LEVEL_NMGY, strict=True)):
        sigma = noise * np.sqrt(1 + np.maximum(bands[band], 0) / sky)
        bands[band] += sigma * rng.standard_normal(bands[band].shape, dtype=np.float32)
        bands[band] += np.float32(night.sky_residual_nmgy[band])


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
    # Real Galaxy Zoo 2 cutouts have the galaxy at pixel 212 of 0 to 423, half a pixel off.
    middle = paper.IMAGE_PX / 2
    to_native = np.array(
        [
            [native_px, 0, centre_px[0] - middle * native_px],
            [0, native_px, centre_px[1] - middle * native_px],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (paper.IMAGE_PX, paper.IMAGE_PX)
    return cv2.warpAffine(rgb, to_native, size, flags=flags, borderMode=cv2.BORDER_REFLECT)


# ------------------------------------------------------------------------------------------
# Magnitudes and colours, and Petrosian flux and radius as the SDSS pipeline defines them.
#
# Source: Strauss et al. 2002, AJ 124, 1810, section 3.2 (ratio 0.2, annulus 0.8 to 1.25 radii,
# aperture of 2 Petrosian radii).

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
