"""gz2sim: who the galaxies are, how their light is laid, what survey and volunteers make of it."""

from dataclasses import astuple, replace
from functools import partial
from pathlib import Path

import galsim
import numpy as np
import pandas as pd
import pytest

from gz2sim import classes, field, population, survey
from gz2sim.canvas import Canvas, band_fluxes, measure, nanomaggies
from gz2sim.classes import BUILDERS
from gz2sim.survey import expose
from gz2sim.volunteers import simulate_votes
from gz2vit import paper, votes
from gz2vit.sim2real import measure_galaxies, measure_image
from tests.folders import needs_shared


def test_the_papers_constants_are_those_of_gz2vit():
    merged = paper.MERGED_LABELS.values()
    assert np.array_equal(np.transpose((range(8), *merged)), population.LABELS)
    assert paper.CLASS_COUNTS == population.CLASS_COUNTS
    assert paper.SPLIT_FRACTIONS == population.SPLIT_FRACTIONS
    assert paper.IMAGE_PX == survey.IMAGE_PX
    assert paper.PIXEL_SCALE_PER_R90 == survey.PIXEL_SCALE_PER_R90


def test_classes_are_the_papers_mix_in_every_split():
    drawn, splits = population.assign_classes(5000, seed=1)
    for index, number in enumerate(population.CLASS_COUNTS):
        members = splits[drawn == index]
        assert abs(len(members) - 5000 * number / sum(population.CLASS_COUNTS)) < 1
        for split, fraction in population.SPLIT_FRACTIONS.items():
            assert abs(np.sum(members == split) - fraction * len(members)) < 1
    assert abs(np.corrcoef(drawn, np.arange(5000))[0, 1]) < 0.06
    again, other = (population.assign_classes(5000, seed)[0] for seed in (1, 2))
    assert np.array_equal(drawn, again) and not np.array_equal(drawn, other)
    assert len(set(zip(*population.assign_classes(24, seed=0), strict=True))) == 24


def test_magnitudes_sizes_and_colours_follow_the_survey():
    rng = np.random.default_rng(0)

    def drawn(class_index: int, count: int) -> pd.DataFrame:
        return pd.DataFrame([population.draw_galaxy(class_index, rng) for _ in range(count)])

    spirals, smooth, odd = drawn(5, 4000), drawn(0, 300), drawn(population.IRREGULAR, 600)
    assert spirals.r_mag.max() < 17.0 and spirals.r90_arcsec.min() >= 3.0
    assert abs(spirals.r_mag.median() - population.MEDIAN_R_MAG) < 0.05
    # Brighter galaxies are larger, by 0.14 dex per magnitude.
    slope = np.polyfit(spirals.r_mag, np.log10(spirals.r90_arcsec), 1)[0]
    assert slope == pytest.approx(-0.14, abs=0.01)
    irregular = odd[odd.drawn_as == population.IRREGULAR]  # the others are spoilt images
    assert len(irregular) / 600 == pytest.approx(0.5, abs=0.06) and set(odd.drawn_as) == {0, 1, 6}
    colours = [table.g_r_mag.median() for table in (smooth, spirals, irregular)]
    assert colours[0] > colours[1] + 0.1 > colours[2] + 0.15


@pytest.mark.parametrize("side", [80, 81])
def test_structured_light_goes_through_the_same_seeing_as_smooth_light(side):
    canvas = Canvas(side, fwhm_arcsec=1.43, centre_arcsec=(0.9, -0.6))
    x, y = canvas.coordinates()
    by_hand = canvas.structured(np.exp(-(x**2 + y**2) / (2 * 2.0**2)))
    by_galsim = canvas.smooth(galsim.Gaussian(sigma=2.0))
    assert by_hand.sum() == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(by_hand, by_galsim, atol=0.01 * by_galsim.max())
    star = Canvas(101, fwhm_arcsec=1.584).smooth(galsim.Gaussian(sigma=1e-3))
    # 1.584 arcsec is 4 px: 2 px from the centre a star has half of its peak.
    assert star[[50, 48], [52, 50]] / star[50, 50] == pytest.approx([0.5, 0.5], abs=0.02)


def test_petrosian_radius_of_an_exponential_disk():
    canvas = Canvas(400, fwhm_arcsec=0.5)
    found = measure(7 * canvas.smooth(galsim.Exponential(scale_radius=6.0)), canvas)
    # Graham et al. 2005: 99 % of the flux, R90 = 3.8 scale lengths.
    assert found == pytest.approx((7 * 0.99, 3.8 * 6), rel=0.02)
    assert band_fluxes(nanomaggies(20.0), 1.0, 0.5) == pytest.approx((10**0.6, 10, 10**1.2))


def light_of(builder, seed: int, canvas: Canvas, r90: float = 12.0) -> np.ndarray:
    components = list(builder(np.random.default_rng(seed), canvas, r90))
    assert sum(component.share for component in components) == pytest.approx(1)
    return sum(component.share * component.light for component in components)


@pytest.mark.parametrize("class_index", range(8))
def test_picture_and_properties_of_each_class(class_index: int):
    canvas = Canvas(240, fwhm_arcsec=1.43)
    for seed in range(2):  # components hold the whole galaxy
        light = light_of(BUILDERS[class_index], seed, canvas, 15.0)
        assert light.sum() == pytest.approx(1, abs=0.06)
        assert light.dtype == np.float32 and np.isfinite(light).all()
    (image, measured), again, other = (expose(k, class_index, seed=8) for k in (3, 3, 4))
    assert image.shape == (424, 424, 3) and image.dtype == np.uint8
    r90, mag, g_r = measured.values()
    assert r90 > 3.0 and mag < 17.0 and -0.3 < g_r < 1.4
    assert image[192:232, 192:232].mean() > 3 * np.median(image) and np.median(image) < 20
    assert np.array_equal(image, again[0]) and not np.array_equal(image, other[0])


def axis_ratio_of(light: np.ndarray, canvas: Canvas) -> float:
    """Of the standard deviations of the light within 40 arcsec."""
    x, y = (axis + np.zeros_like(light) for axis in canvas.coordinates())
    light = np.maximum(light, 0) * (np.hypot(x, y) < 40)
    widths = np.linalg.eigvalsh(np.cov(x.ravel(), y.ravel(), aweights=light.ravel()))
    return np.sqrt(widths[0] / widths[1])


def test_smooth_classes_and_edge_on_disks_differ_by_axis_ratio():
    canvas = Canvas(240, fwhm_arcsec=1.43)
    drawn = [[light_of(builder, n, canvas, 20.0) for n in range(5)] for builder in BUILDERS[:4]]
    round_, between, cigar, edge_on = ([axis_ratio_of(one, canvas) for one in own] for own in drawn)
    assert min(round_) > 0.8 and 0.42 < min(between) < max(between) < 0.85
    assert np.mean(edge_on) < np.mean(cigar) < max(cigar) < 0.46


def test_mergers_are_lopsided_and_spirals_rough_where_ellipticals_are_neither():
    canvas = Canvas(160, fwhm_arcsec=1.43)
    ring = np.abs(np.hypot(*(np.indices((160, 160)) - 79.5)) - 15.25) < 0.25

    def looks(builder, number: int, **options) -> tuple[list[float], list[float]]:
        drawn = [light_of(partial(builder, **options), seed, canvas) for seed in range(number)]
        lopsided = [np.abs(light - light[::-1, ::-1]).sum() / (2 * light.sum()) for light in drawn]
        return lopsided, [light[ring].std() / light[ring].mean() for light in drawn]

    assert np.median(looks(classes.merger, 8)[0]) > 0.15
    assert np.median(looks(classes.unbarred_spiral, 6, axis_ratio=1)[1]) > 0.05
    lopsided, rough = looks(classes.spheroid, 3, axis_ratio=1, index=1)
    assert max(lopsided) < 0.01 and max(rough) < 0.025


def test_arms_follow_a_logarithmic_spiral():
    y, x = np.mgrid[-60:61, -60:61].astype(float)
    arms = classes.Arms(2, np.radians(20.0), 10.0, 0.3, 4.0, 1)
    light = classes.spiral_arms(x, y, 20.0, arms) * np.exp(np.hypot(x, y) / 20.0)
    turn, side = np.meshgrid([0.0, 1.0, 2.0], [0.0, np.pi])
    radius, angle = 10 * np.exp(turn * np.tan(np.radians(20.0))), 0.3 + turn + side
    places = np.rint(60 + radius * np.array([np.sin(angle), np.cos(angle)])).astype(int)
    assert light[tuple(places)].min() > 0.85
    assert light[round(60 + 10 * np.cos(0.3)), round(60 - 10 * np.sin(0.3))] < 0.1  # between
    angle, rng = np.linspace(-np.pi, np.pi, 721)[None, :], np.random.default_rng(0)
    light = classes.flocculent_arms(rng, 15 * np.cos(angle), 15 * np.sin(angle), 10.0, arms)[0]
    assert light.std() > 0.2 * light.mean() and abs(light[0] - light[-1]) < 1e-3


def test_seeing_and_noise_are_the_surveys_and_noise_grows_with_flux():
    bands = np.zeros((3, 300, 300), np.float32)
    bands[:, :, 150:] = 2.13  # three times the r-band sky: noise twice as high
    survey.add_noise(bands, survey.Night(), np.random.default_rng(0))
    assert bands[1, :, :150].std() == pytest.approx(0.028, rel=0.02)
    assert bands[1, :, 150:].std() == pytest.approx(0.056, rel=0.02)
    rng = np.random.default_rng(0)
    fwhm, noise, *_ = zip(*(astuple(survey.draw_night(rng)) for _ in range(2000)), strict=True)
    assert np.percentile(fwhm, [25, 50, 75]) == pytest.approx([1.30, 1.43, 1.58], abs=0.03)
    assert np.median(noise, axis=0) == pytest.approx(survey.SKY_NOISE_NMGY, rel=0.02)


def test_the_same_galaxy_through_worse_air_or_further_away():
    plain, measured = expose(3, 1, 0)
    fainter, dim = expose(3, 1, 0, lambda g, night: (replace(g, r_mag=g.r_mag + 1.5), night))
    assert dim["dered_r"] == pytest.approx(measured["dered_r"] + 1.5)
    middle = np.s_[202:222, 202:222]
    assert fainter[middle].mean() < 0.8 * plain[middle].mean()
    assert np.abs(fainter[:60].astype(int) - plain[:60]).mean() < 1.0  # the same field
    wide, blurred = expose(3, 1, 0, lambda g, night: (g, replace(night, fwhm_arcsec=4.0)))
    assert blurred["petroR90_r"] > 1.1 * measured["petroR90_r"]
    assert wide[middle].max() < plain[middle].max()


def test_sky_and_brightness_are_those_of_real_images():
    paths = sorted(Path(needs_shared("data/real_gz2/images")).glob("*.jpg"))[::40]
    ours = [measure_image(expose(k, k % 8, seed=0)[0]) for k in range(32)]
    ours, real = pd.DataFrame(ours).median(), measure_galaxies(paths).median()
    assert ours.sky_noise == pytest.approx(real.sky_noise, rel=0.25)
    assert ours.brightness == pytest.approx(real.brightness, rel=0.35)


@pytest.mark.parametrize("seed", range(4))
def test_each_fault_does_what_it_says(seed: int):
    side = 120

    def spoilt(fault) -> np.ndarray:
        fault(bands := np.zeros((3, side, side), np.float32), 1.43, np.random.default_rng(seed))
        assert np.isfinite(bands).all() and bands.dtype == np.float32
        return bands

    (trail,) = [band for band in spoilt(field.trail) if band.max() > 0]
    small, large = np.linalg.eigvalsh(np.cov(*np.nonzero(trail > 0.5 * trail.max())))
    assert np.sqrt(small) < 4 and np.sqrt(large) > 15  # a line in one band
    glare = spoilt(field.glare)
    _, middle, bright = sorted(band.mean() for band in glare)
    assert glare.min() >= 0 and bright > 5 * middle > 0  # light of one colour
    for band in spoilt(field.saturated_star):
        assert 3 <= band.max() <= 30
        assert np.count_nonzero(band > 0.999 * band.max()) >= 5  # cut off at the full well
    step = spoilt(field.step)[0]
    assert 0.1 < np.mean(step != 0) < 0.9 and len(np.unique(step)) == 2
    seen = slice(round(side * (1 - field.SEEN) / 2), round(side * (1 + field.SEEN) / 2))
    for fault in (field.crowd, field.covering_star):
        bands = spoilt(fault)
        assert bands[:, seen, seen].sum() > 0.7 * bands.sum() > 0  # where the network looks
    field.misfit(moved := bands.copy(), 1.43, np.random.default_rng(seed))
    assert np.array_equal(moved[1], bands[1]) and not np.array_equal(moved[0], bands[0])
    assert moved.sum() == pytest.approx(bands.sum(), rel=0.01)


VOTED = np.tile(np.arange(8), 250)


def test_each_question_goes_to_those_led_to_it():
    found, again, other = (simulate_votes(range(2000), VOTED, seed) for seed in (2, 2, 3))
    assert found.equals(again) and not found.equals(other)

    def counted(answers: str) -> np.ndarray:
        return votes.vote_fractions(found, answers.split(), "count").sum(axis=1)

    everyone = counted("smooth features_or_disk star_or_artifact")
    assert np.array_equal(everyone, found.total_classifications)
    for question, leading in (
        ("edgeon not_edgeon", "features_or_disk"), ("bar no_bar", "not_edgeon"),
        ("odd not_odd", "smooth features_or_disk"),
        ("completely_round in_between cigar_shaped", "smooth"),
    ):  # fmt: skip
        assert np.array_equal(counted(question), asked := counted(leading))
        total = votes.vote_fractions(found, question.split(), "fraction").sum(axis=1)
        assert np.allclose(total[asked > 0], 1, atol=0.002) and (total[asked == 0] == 0).all()


def test_most_galaxies_are_called_what_they_are_and_some_are_not():
    derived = votes.derive_classes(simulate_votes(range(2000), VOTED, seed=5), votes.DEFAULT_RULE)
    selected = derived != votes.NO_CLASS
    assert 0.8 < (derived == VOTED)[selected].mean() < 0.99 and 0.6 < selected.mean() < 0.98
    assert set(derived[selected]) == set(range(8))
