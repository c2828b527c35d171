"""What tells the simulated classes apart, measured on their light without noise."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from gz2sim import survey as exposure
from gz2sim.canvas import NATIVE_PIXEL_ARCSEC, Canvas, make_canvas
from gz2sim.disks import SHORTEST_BAR_FWHM, barred_spiral, unbarred_spiral
from gz2sim.odd import Builder, merger
from gz2sim.population import SMALLEST_R90_ARCSEC
from gz2sim.spheroids import spheroid


def light_of(builder: Builder, seed: int, canvas: Canvas, r90: float = 12.0) -> np.ndarray:
    """The r-band light (H, W) of one galaxy."""
    components = builder(np.random.default_rng(seed), canvas, r90)
    return sum(component.share * component.light for component in components)


def lopsidedness(light: np.ndarray) -> float:
    """The part of the light that half a turn about the middle does not bring back, 0 to 1."""
    return float(np.abs(light - light[::-1, ::-1]).sum() / (2 * light.sum()))


def widths(light: np.ndarray) -> tuple[float, float]:
    """Deviations along the minor and major axis in px."""
    rows, columns = np.indices(light.shape)
    moments = np.cov(rows.ravel(), columns.ravel(), aweights=np.maximum(light, 0).ravel())
    small, large = np.sqrt(np.linalg.eigvalsh(moments))
    return float(small), float(large)


def test_mergers_are_lopsided_and_ellipticals_are_not():
    canvas = make_canvas(160, fwhm_arcsec=1.43)
    mergers = [lopsidedness(light_of(merger, seed, canvas)) for seed in range(8)]
    smooth = [
        lopsidedness(light_of(lambda *of: spheroid(*of, 0.9, 2.0), seed, canvas))
        for seed in range(4)
    ]
    assert np.median(mergers) > 0.15 and max(smooth) < 0.01


def test_spirals_have_arms_where_spheroids_have_none():
    canvas = make_canvas(160, fwhm_arcsec=1.43)
    rows, columns = np.indices((160, 160)) - 79.5
    radius = np.hypot(rows, columns)
    ring = (radius > 15.0) & (radius < 15.5)

    def roughness(light: np.ndarray) -> float:
        """Scatter of brightness along a ring, in units of its mean."""
        return float(light[ring].std() / light[ring].mean())

    def face_on(rng: np.random.Generator, on: Canvas, r90: float) -> list:
        return unbarred_spiral(rng, on, r90, axis_ratio=1.0)

    spirals = [roughness(light_of(face_on, seed, canvas)) for seed in range(6)]
    smooth = [
        roughness(light_of(lambda *of: spheroid(*of, 1.0, 1.0), seed, canvas)) for seed in range(3)
    ]
    assert np.median(spirals) > 0.05 and max(smooth) < 0.025


@pytest.mark.parametrize("fwhm_arcsec", [1.2, 2.4])
def test_a_bar_shows_through_the_seeing(fwhm_arcsec: float):
    canvas = make_canvas(80, fwhm_arcsec)
    stretches = []
    for seed in range(7):
        # A small galaxy: without a limit its bar would drown in the seeing.
        bar = barred_spiral(np.random.default_rng(seed), canvas, 4.0)[-2].light
        small, large = widths(bar)
        stretches.append(np.sqrt(large**2 - small**2))
    # The deviation of a bar seen from above is 0.45 half-lengths; most are foreshortened a little.
    half_length_px = SHORTEST_BAR_FWHM * fwhm_arcsec / NATIVE_PIXEL_ARCSEC
    assert np.median(stretches) > 0.25 * half_length_px


def test_the_error_of_r90_scatters_and_keeps_to_the_samples_limit():
    rng = np.random.default_rng(0)
    measured = np.array([exposure._with_error(8.0, rng) for _ in range(3000)])
    assert np.log(measured / 8.0).std() == pytest.approx(exposure.R90_LN_ERROR, rel=0.06)
    assert abs(np.log(measured / 8.0).mean()) < 0.01
    at_limit = [exposure._with_error(1.01 * SMALLEST_R90_ARCSEC, rng) for _ in range(300)]
    assert min(at_limit) > SMALLEST_R90_ARCSEC


def test_the_same_galaxy_through_worse_air_or_further_away():
    """For experiments; a fainter galaxy stands in the same field."""
    expose = partial(exposure.expose, 3, 1, 0)
    plain, measured = expose()
    same, _ = expose(lambda galaxy, night: (galaxy, night))
    assert np.array_equal(plain, same)
    fainter, dim = expose(lambda g, night: (replace(g, r_mag=g.r_mag + 1.5), night))
    assert dim.dered_r_mag == pytest.approx(measured.dered_r_mag + 1.5)
    middle = (slice(202, 222), slice(202, 222))
    assert fainter[middle].mean() < 0.8 * plain[middle].mean()
    assert np.abs(fainter[:60].astype(int) - plain[:60]).mean() < 1.0
    wide, blurred = expose(lambda g, night: (g, replace(night, fwhm_arcsec=4.0)))
    assert blurred.petro_r90_arcsec > 1.1 * measured.petro_r90_arcsec
    assert wide[middle].max() < plain[middle].max()
