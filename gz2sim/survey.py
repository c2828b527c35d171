"""What spoils an exposure: glare, saturated stars, trails, ill-fitting bands, edges of frames.

The camera of SDSS drifts over the sky: its bands see a place one after the other, within five
minutes (Gunn et al. 1998, AJ 116, 3040), so that whatever moves or glares shows in one band alone,
in a pure colour. Galaxy Zoo 2 images with such faults are found among its irregulars, as odd as
those. Levels are nanomaggies per native pixel, fitted by eye to real images of that kind.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np

from gz2sim import canvas as photometry
from gz2sim import canvas as survey
from gz2sim import survey as artifacts
from gz2sim.canvas import NATIVE_PIXEL_ARCSEC, Component, band_fluxes, make_canvas, nanomaggies
from gz2sim.neighbours import add_neighbours, add_stamp, near_the_middle, small_galaxy, star
from gz2sim.odd import draw_components
from gz2sim.population import SMALLEST_R90_ARCSEC, Galaxy, draw_galaxy
from gz2vit import paper

# The network sees 224 of 424 pixels: this part of half the field's side.
SEEN = 224 / 424
# Of ordinary galaxies, the share with each fault (counted on about 250 real images).
EDGE_SHARE, GLARE_SHARE, STAR_SHARE, TRAIL_SHARE = 0.03, 0.04, 0.015, 0.004
# And with a companion (galaxies cluster) or a star close by.
COMPANION_SHARE, CLOSE_STAR_SHARE = 0.12, 0.03
SPOILT_EDGE_SHARE = 0.15

Fault = Callable[[np.ndarray, float, np.random.Generator], None]


def _offsets(side_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns (1, W) and rows (H, 1) counted from the middle, float32."""
    offset = np.arange(side_px, dtype=np.float32) - np.float32((side_px - 1) / 2)
    return offset[None, :], offset[:, None]


def _across(side_px: int, rng: np.random.Generator, farthest: float) -> np.ndarray:
    """Signed distance (H, W) in px to a random line within `farthest` half sides of the middle."""
    x, y = _offsets(side_px)
    angle = rng.uniform(0, 2 * math.pi)
    from_middle = rng.uniform(0, farthest) * side_px / 2
    return x * np.float32(math.cos(angle)) + y * np.float32(math.sin(angle)) - from_middle


def _in_one_band(rng: np.random.Generator) -> np.ndarray:
    """Relative levels in g, r, i (3, 1, 1) of a fault that shows mostly in one band, often i."""
    levels = rng.uniform(0.0, 0.15, 3)
    levels[rng.choice(3, p=[0.15, 0.25, 0.6])] = 1.0
    return levels.astype(np.float32)[:, None, None]


def glare(
    bands: np.ndarray, fwhm_arcsec: float, rng: np.random.Generator, brightest: float = 1.0
) -> None:
    """Stray light of a bright star outside the field: a slope, a sharp border or a beam."""
    side = bands.shape[1]
    distance = _across(side, rng, SEEN)
    width = side / 2 * math.exp(rng.uniform(math.log(0.02), math.log(0.6)))
    if rng.random() < 0.35:
        light = np.exp(-0.5 * (distance / max(width / 2, 1.5)) ** 2)
    else:
        light = 1 / (1 + np.exp(-np.clip(distance / width, -30, 30)))
    level = brightest * math.exp(rng.uniform(math.log(0.04), 0.0))
    bands += np.float32(level) * _in_one_band(rng) * (light + rng.uniform(0.0, 0.4))


def saturated_star(bands: np.ndarray, fwhm_arcsec: float, rng: np.random.Generator) -> None:
    """A star with wide wings, four spikes and a column of spilt charge, white or in a colour."""
    side = bands.shape[1]
    x, y = _offsets(side)
    column, row = near_the_middle(rng, side, 0.2, 1.3 * SEEN) - side / 2
    x, y = x - np.float32(column), y - np.float32(row)
    flux = nanomaggies(rng.uniform(10.0, 14.0))
    light = flux * _star_light(x, y, rng)
    charge = np.exp(-0.5 * (x / rng.uniform(0.5, 1.2)) ** 2 - np.abs(y) / rng.uniform(10, 60))
    fluxes = band_fluxes(1.0, rng.uniform(0.2, 1.2), rng.uniform(0.1, 0.5))
    for band, share in enumerate(fluxes):
        full_well = rng.uniform(3.0, 30.0)
        seen = share * light + charge * (full_well if rng.random() < 0.25 else 0.0)
        bands[band] += np.minimum(seen, full_well)


def _star_light(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Wings and diffraction spikes of a star of unit flux around (0, 0): (H, W) per px."""
    radius2 = x**2 + y**2
    core = 2 / (math.pi * 9) * (1 + radius2 / 9) ** -3
    halo = 1 / (2 * math.pi * 25) * (1 + radius2 / 25) ** -1.5
    angle = rng.uniform(0, math.pi / 2)
    along = x * math.cos(angle) + y * math.sin(angle)
    aside = y * math.cos(angle) - x * math.sin(angle)
    length = rng.uniform(8.0, 25.0)
    spikes = sum(
        np.exp(-0.5 * (v / 0.75) ** 2 - np.abs(u) / length)
        for u, v in ((along, aside), (aside, along))
    )
    return 0.93 * core + 0.06 * halo + rng.uniform(0.3, 1.0) * 2e-4 * spikes


def trail(bands: np.ndarray, fwhm_arcsec: float, rng: np.random.Generator) -> None:
    """A satellite or meteor that crossed the field while one band was exposed."""
    distance = _across(bands.shape[1], rng, 0.6 * SEEN)
    width = rng.uniform(0.8, 3.0)
    level = math.exp(rng.uniform(math.log(0.3), math.log(10.0)))
    bands[rng.integers(3)] += np.float32(level) * np.exp(-0.5 * (distance / width) ** 2)


def misfit(bands: np.ndarray, fwhm_arcsec: float, rng: np.random.Generator) -> None:
    """Bands that lie beside each other by a pixel or three: coloured ghosts."""
    size = bands.shape[2], bands.shape[1]
    for band in (0, 2):
        dx, dy = rng.normal(0.0, 1.3, 2)
        shift = np.array([[1, 0, dx], [0, 1, dy]])
        bands[band] = cv2.warpAffine(bands[band], shift, size, borderMode=cv2.BORDER_REPLICATE)


def step(bands: np.ndarray, fwhm_arcsec: float, rng: np.random.Generator) -> None:
    """Another frame on one side of a line, whose sky was taken off otherwise."""
    beyond = _across(bands.shape[1], rng, 0.7 * SEEN) > 0
    bands += beyond * rng.normal(0.0, 0.07, (3, 1, 1)).astype(np.float32)


def crowd(bands: np.ndarray, fwhm_arcsec: float, rng: np.random.Generator) -> None:
    """Companions of like brightness close by, as in the middle of a cluster."""
    side = bands.shape[1]
    for _ in range(rng.integers(2, 7)):
        companion = small_galaxy(rng, fwhm_arcsec, rng.uniform(17.2, 20.0))
        add_stamp(bands, companion, near_the_middle(rng, side, 0.08, 0.8 * SEEN))


def covering_star(bands: np.ndarray, fwhm_arcsec: float, rng: np.random.Generator) -> None:
    """A star in front of the galaxy, or beside it."""
    place = near_the_middle(rng, bands.shape[1], 0.03, 0.45 * SEEN)
    add_stamp(bands, star(rng, fwhm_arcsec, rng.uniform(14.5, 17.5)), place)


# What makes an image odd, and how often; fitted to 29 real ones.
ODD_FAULTS: tuple[tuple[Fault, float], ...] = (
    (glare, 0.44),
    (saturated_star, 0.14),
    (crowd, 0.14),
    (covering_star, 0.1),
    (step, 0.08),
    (trail, 0.06),
    (misfit, 0.04),
)


def spoil(bands: np.ndarray, fwhm_arcsec: float, rng: np.random.Generator) -> None:
    """Give `bands` (3, H, W) one or two faults that make the image odd, in place."""
    faults, shares = zip(*ODD_FAULTS, strict=True)
    for number in rng.choice(len(faults), 1 + (rng.random() < 0.3), replace=False, p=shares):
        faults[number](bands, fwhm_arcsec, rng)


def touch(bands: np.ndarray, fwhm_arcsec: float, rng: np.random.Generator) -> None:
    """Give `bands` (3, H, W) the faults that ordinary images have now and then, in place."""
    if rng.random() < GLARE_SHARE:
        glare(bands, fwhm_arcsec, rng, brightest=0.25)
    if rng.random() < STAR_SHARE:
        saturated_star(bands, fwhm_arcsec, rng)
    if rng.random() < TRAIL_SHARE:
        trail(bands, fwhm_arcsec, rng)
    if rng.random() < COMPANION_SHARE:
        companion = small_galaxy(rng, fwhm_arcsec, rng.uniform(18.0, 20.5))
        add_stamp(bands, companion, near_the_middle(rng, bands.shape[1], 0.1, SEEN))
    if rng.random() < CLOSE_STAR_SHARE:
        faint = star(rng, fwhm_arcsec, rng.uniform(16.5, 19.5))
        add_stamp(bands, faint, near_the_middle(rng, bands.shape[1], 0.05, 0.5 * SEEN))


def draw_edges(rgb: np.ndarray, spoilt: bool, rng: np.random.Generator) -> None:
    """Draw the seam of two frames, a thin black line, on some composites (H, W, 3) in place."""
    if rng.random() < (SPOILT_EDGE_SHARE if spoilt else EDGE_SHARE):
        distance = _across(rgb.shape[0], rng, 0.7 * SEEN)
        rgb *= 1 - np.exp(-0.5 * (distance / 0.4) ** 2)[:, :, None]


# ------------------------------------------------------------------------------------------
# One galaxy from its number to its picture and its measured properties.

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
