"""One galaxy from its number to its picture and its measured properties."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from gz2vit import paper
from gz2vit.simulation import artifacts, photometry, survey
from gz2vit.simulation.canvas import NATIVE_PIXEL_ARCSEC, Component, make_canvas
from gz2vit.simulation.neighbours import add_neighbours
from gz2vit.simulation.photometry import band_fluxes, nanomaggies
from gz2vit.simulation.population import SMALLEST_R90_ARCSEC, Galaxy, draw_galaxy
from gz2vit.simulation.profiles import draw_components

# Another galaxy and night than the drawn ones.
Change = Callable[[Galaxy, survey.Night], tuple[Galaxy, survey.Night]]

# Columns of galaxy_properties.csv, after galaxyID: arcsec, mag, mag.
COLUMNS = ("petroR90_r", "dered_r", "dered_g_r")
# Room for a galaxy whose measured R90 comes out larger than the drawn one.
SIZE_MARGIN = 1.2
# Scatter of the measured R90 about that of the noiseless galaxy: fitted to how much the sizes of
# smooth galaxies scatter in real cutouts, which are scaled by it.
R90_LN_ERROR = 0.1


@dataclass(frozen=True)
class Measured:
    """What `galaxy_properties.csv` says of a galaxy: R90 with an error, the rest without noise."""

    petro_r90_arcsec: float
    dered_r_mag: float
    dered_g_r_mag: float

    def as_row(self) -> dict[str, float]:
        """The properties by column name, to 4 decimals."""
        values = (self.petro_r90_arcsec, self.dered_r_mag, self.dered_g_r_mag)
        return {name: round(value, 4) for name, value in zip(COLUMNS, values, strict=True)}

    @classmethod
    def from_row(cls, row: Mapping[str, float]) -> "Measured":
        """The properties from a mapping by column name; KeyError where one is missing."""
        return cls(*(float(row[name]) for name in COLUMNS))


def expose(
    galaxy_id: int, class_index: int, seed: int, change: Change | None = None
) -> tuple[np.ndarray, Measured]:
    """The image (424, 424, 3) uint8 and properties of galaxy `galaxy_id` of a class.

    `change` makes it another galaxy, or another night, before it is drawn: what the same galaxy
    would look like if it were fainter, or seen through worse air. Where that changes its R90, the
    cutout is another, and so are the neighbours in it.

    Everything follows from (seed, galaxy_id, class_index); each stage has a stream of its own, so
    that a change to one stage leaves the draws of the others as they were.
    """
    streams = np.random.SeedSequence([seed, galaxy_id]).spawn(5)
    truth, body, field, noise, faults = (np.random.default_rng(stream) for stream in streams)
    galaxy = draw_galaxy(galaxy_id, class_index, truth)
    night = survey.draw_night(truth)
    if change is not None:
        galaxy, night = change(galaxy, night)
    centre = tuple(truth.uniform(-0.5, 0.5, 2) * NATIVE_PIXEL_ARCSEC)
    bands, measured = _draw_body(galaxy, night.fwhm_arcsec, centre, body)
    add_neighbours(bands, night.fwhm_arcsec, field)
    (artifacts.spoil if galaxy.spoilt else artifacts.touch)(bands, night.fwhm_arcsec, faults)
    survey.add_noise(bands, night, noise)
    survey.resample(bands, night, noise)
    rgb = survey.composite(bands)
    artifacts.draw_edges(rgb, galaxy.spoilt, faults)
    middle = (bands.shape[1] - 1) / 2
    centre_px = tuple(middle + offset / NATIVE_PIXEL_ARCSEC for offset in centre)
    scale = paper.PIXEL_SCALE_PER_R90 * measured.petro_r90_arcsec
    return survey.cut(survey.compress(rgb), centre_px, scale), measured


def _draw_body(
    galaxy: Galaxy, fwhm_arcsec: float, centre: tuple[float, float], rng: np.random.Generator
) -> tuple[np.ndarray, Measured]:
    """The galaxy alone without noise: bands (3, H, W) in nanomaggies, and what is measured.

    A galaxy that comes out with R90 below the sample's limit is drawn again, larger.
    """
    state = rng.bit_generator.state
    while True:
        rng.bit_generator.state = state
        scale = paper.PIXEL_SCALE_PER_R90 * galaxy.r90_arcsec * SIZE_MARGIN
        canvas = make_canvas(survey.cut_side_px(scale), fwhm_arcsec, centre)
        components = draw_components(galaxy.drawn_as, rng, canvas, galaxy.r90_arcsec)
        bands = _mix(components, galaxy)
        petrosian = photometry.measure(bands[1], canvas)
        if petrosian.r90_arcsec > SMALLEST_R90_ARCSEC:
            break
        galaxy = replace(galaxy, r90_arcsec=1.1 * galaxy.r90_arcsec)
    bands *= np.float32(nanomaggies(galaxy.r_mag) / petrosian.flux)
    g_flux = photometry.measure(bands[0], canvas).flux
    g_r = photometry.ZERO_POINT_MAG - 2.5 * np.log10(g_flux) - galaxy.r_mag
    r90_arcsec = _with_error(petrosian.r90_arcsec, rng)
    scale = paper.PIXEL_SCALE_PER_R90 * r90_arcsec
    bands = _fit(bands, survey.cut_side_px(scale))
    return bands, Measured(r90_arcsec, galaxy.r_mag, float(g_r))


def _with_error(r90_arcsec: float, rng: np.random.Generator) -> float:
    """R90 as a pipeline finds it under noise and neighbours, still above the sample's limit."""
    measured = r90_arcsec * math.exp(R90_LN_ERROR * rng.standard_normal())
    return measured if measured > SMALLEST_R90_ARCSEC else r90_arcsec


def _fit(bands: np.ndarray, side_px: int) -> np.ndarray:
    """`bands` (3, H, H) cropped or padded with dark sky to `side_px`, with the same middle.

    One pixel is added where only that keeps the middle.
    """
    border = (side_px - bands.shape[1] + 1) // 2
    if border > 0:
        return np.pad(bands, ((0, 0), (border, border), (border, border)))
    inside = slice(-border, bands.shape[1] + border)
    return np.ascontiguousarray(bands[:, inside, inside])


def _mix(components: list[Component], galaxy: Galaxy) -> np.ndarray:
    """The components in their colours: bands (3, H, W) g, r, i of total r flux 1, none negative."""
    bands = np.zeros((3, *components[0].light.shape), np.float32)
    for component in components:
        # Along the stellar locus r - i changes by 0.45 of g - r.
        fluxes = band_fluxes(
            component.share,
            galaxy.g_r_mag + component.redder_mag,
            galaxy.r_i_mag + 0.45 * component.redder_mag,
        )
        bands += np.array(fluxes, np.float32)[:, None, None] * component.light
    return np.maximum(bands, 0)
