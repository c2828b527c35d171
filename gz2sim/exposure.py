"""One galaxy from its number to its picture and its measured properties."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.random import Generator

from gz2sim import survey
from gz2sim.canvas import (
    NATIVE_PIXEL_ARCSEC,
    ZERO_POINT_MAG,
    Canvas,
    band_fluxes,
    measure,
    nanomaggies,
)
from gz2sim.classes import BUILDERS
from gz2sim.field import add_neighbours, draw_edges, spoil, touch
from gz2sim.population import SMALLEST_R90_ARCSEC, Galaxy, draw_galaxy

# Another galaxy and night than the drawn ones.
Change = Callable[[Galaxy, survey.Night], tuple[Galaxy, survey.Night]]

# Columns of galaxy_properties.csv, after galaxyID: arcsec, mag, mag.
COLUMNS = ("petroR90_r", "dered_r", "dered_g_r")
# Room for a galaxy whose measured R90 comes out larger than the drawn one.
SIZE_MARGIN = 1.2
# Scatter of the measured R90 about that of the noiseless galaxy: fitted to how much the sizes of
# smooth galaxies scatter in real cutouts, which are scaled by it.
R90_LN_ERROR = 0.1


def expose(
    galaxy_id: int, class_index: int, seed: int, change: Change | None = None
) -> tuple[np.ndarray, dict[str, float]]:
    """The image (424, 424, 3) uint8 of galaxy `galaxy_id` of a class, and its COLUMNS.

    Only R90 is measured with an error. `change` makes it a fainter galaxy, say, or worse air,
    before it is drawn; where that changes its R90, cutout and neighbours change as well.
    Everything follows from (seed, galaxy_id, class_index); each stage has a stream of its own, so
    that a change to one stage leaves the draws of the others as they were.
    """
    streams = np.random.SeedSequence([seed, galaxy_id]).spawn(5)
    truth, body, field, noise, faults = (np.random.default_rng(stream) for stream in streams)
    galaxy = draw_galaxy(class_index, truth)
    night = survey.draw_night(truth)
    if change is not None:
        galaxy, night = change(galaxy, night)
    centre = tuple(truth.uniform(-0.5, 0.5, 2) * NATIVE_PIXEL_ARCSEC)
    bands, r90_arcsec, g_r_mag = _draw_body(galaxy, night.fwhm_arcsec, centre, body)
    add_neighbours(bands, night.fwhm_arcsec, field)
    (spoil if galaxy.spoilt else touch)(bands, night.fwhm_arcsec, faults)
    survey.add_noise(bands, night, noise)
    survey.resample(bands, night, noise)
    rgb = survey.composite(bands)
    draw_edges(rgb, galaxy.spoilt, faults)
    middle = (bands.shape[1] - 1) / 2
    centre_px = tuple(middle + offset / NATIVE_PIXEL_ARCSEC for offset in centre)
    image = survey.cut(survey.compress(rgb), centre_px, survey.PIXEL_SCALE_PER_R90 * r90_arcsec)
    values = (r90_arcsec, galaxy.r_mag, g_r_mag)
    return image, {name: round(value, 4) for name, value in zip(COLUMNS, values, strict=True)}


def _draw_body(
    galaxy: Galaxy, fwhm_arcsec: float, centre: tuple[float, float], rng: Generator
) -> tuple[np.ndarray, float, float]:
    """The galaxy alone without noise, bands (3, H, W) in nanomaggies; its R90 [arcsec] and g - r.

    A galaxy that comes out with R90 below the sample's limit is drawn again, larger.
    """
    state = rng.bit_generator.state
    while True:
        rng.bit_generator.state = state
        scale = survey.PIXEL_SCALE_PER_R90 * galaxy.r90_arcsec * SIZE_MARGIN
        canvas = Canvas(survey.cut_side_px(scale), fwhm_arcsec, centre)
        bands = np.zeros((3, canvas.side_px, canvas.side_px), np.float32)
        for light, share, redder in BUILDERS[galaxy.drawn_as](rng, canvas, galaxy.r90_arcsec):
            # Along the stellar locus r - i changes by 0.45 of g - r.
            colours = galaxy.g_r_mag + redder, galaxy.r_i_mag + 0.45 * redder
            bands += np.array(band_fluxes(share, *colours), np.float32)[:, None, None] * light
        bands = np.maximum(bands, 0)
        flux, _, r90_arcsec = measure(bands[1], canvas)
        if r90_arcsec > SMALLEST_R90_ARCSEC:
            break
        galaxy = replace(galaxy, r90_arcsec=1.1 * galaxy.r90_arcsec)
    bands *= np.float32(nanomaggies(galaxy.r_mag) / flux)
    g_r_mag = ZERO_POINT_MAG - 2.5 * np.log10(measure(bands[0], canvas)[0]) - galaxy.r_mag
    r90_arcsec = with_error(r90_arcsec, rng)
    side_px = survey.cut_side_px(survey.PIXEL_SCALE_PER_R90 * r90_arcsec)
    # Crop, or pad with dark sky; one pixel is added where only that keeps the middle.
    border = (side_px - canvas.side_px + 1) // 2
    if border > 0:
        bands = np.pad(bands, ((0, 0), (border, border), (border, border)))
    else:
        inside = slice(-border, canvas.side_px + border)
        bands = np.ascontiguousarray(bands[:, inside, inside])
    return bands, r90_arcsec, float(g_r_mag)


def with_error(r90_arcsec: float, rng: Generator) -> float:
    """R90 as a pipeline finds it under noise and neighbours, still above the sample's limit."""
    measured = r90_arcsec * math.exp(R90_LN_ERROR * rng.standard_normal())
    return measured if measured > SMALLEST_R90_ARCSEC else r90_arcsec
