"""The simulation: who the galaxies are, how their light is laid, what the survey makes of it."""

from pathlib import Path

import galsim
import numpy as np
import pytest
from PIL import Image

from gz2sim import canvas as photometry
from gz2sim import canvas as survey
from gz2sim import disks as structures
from gz2sim.canvas import NATIVE_PIXEL_ARCSEC, make_canvas
from gz2sim.odd import BUILDERS, draw_components
from gz2sim.population import (
    FAINTEST_R_MAG,
    MEDIAN_R_MAG,
    MIN_GALAXIES,
    SMALLEST_R90_ARCSEC,
    assign_classes,
    class_counts,
    draw_galaxy,
    largest_remainder,
)
from gz2sim.survey import expose
from gz2vit import paper
from gz2vit.io import Gz2vitError

ROOT = Path(__file__).parents[2]
REAL_GALAXIES = ROOT / "../shared/data/real_gz2"


# Population


def test_largest_remainder_known_values():
    assert largest_remainder(10, [0.64, 0.16, 0.20], minimum=1) == [6, 2, 2]
    assert largest_remainder(3, [0.64, 0.16, 0.20], minimum=1) == [1, 1, 1]
    assert largest_remainder(100, [0.005, 0.995], minimum=3) == [3, 97]


def test_class_mix_is_the_papers():
    total = sum(paper.CLASS_COUNTS)
    assert class_counts(total) == list(paper.CLASS_COUNTS)
    counts = class_counts(2400)
    assert sum(counts) == 2400
    for count, published in zip(counts, paper.CLASS_COUNTS, strict=True):
        assert abs(count - 2400 * published / total) < 1


def test_smallest_simulation_has_every_class_in_every_split():
    classes, splits = assign_classes(MIN_GALAXIES, seed=0)
    pairs = set(zip(classes.tolist(), splits.tolist(), strict=True))
    assert len(pairs) == paper.CLASS_COUNT * len(paper.SPLIT_FRACTIONS) == MIN_GALAXIES


def test_splits_are_stratified_and_ids_say_nothing():
    classes, splits = assign_classes(5000, seed=1)
    for class_index in range(paper.CLASS_COUNT):
        members = splits[classes == class_index]
        for split, fraction in paper.SPLIT_FRACTIONS.items():
            assert abs(np.sum(members == split) - fraction * len(members)) < 1
    assert abs(np.corrcoef(classes, np.arange(5000))[0, 1]) < 0.06
    assert not np.array_equal(classes, assign_classes(5000, seed=2)[0])
    assert np.array_equal(classes, assign_classes(5000, seed=1)[0])


def test_too_few_galaxies_is_one_sentence():
    with pytest.raises(Gz2vitError, match="--galaxies 23 is too few: give at least 24"):
        class_counts(23)


def test_magnitudes_and_sizes_follow_the_survey():
    rng = np.random.default_rng(0)
    drawn = [draw_galaxy(1, 5, rng) for _ in range(4000)]
    mags = np.array([galaxy.r_mag for galaxy in drawn])
    sizes = np.array([galaxy.r90_arcsec for galaxy in drawn])
    assert mags.max() < FAINTEST_R_MAG and sizes.min() >= SMALLEST_R90_ARCSEC
    assert abs(np.median(mags) - MEDIAN_R_MAG) < 0.05
    # Brighter galaxies are larger, by 0.14 dex per magnitude.
    slope = np.polyfit(mags, np.log10(sizes), 1)[0]
    assert slope == pytest.approx(-0.14, abs=0.01)


def test_smooth_galaxies_are_redder_than_spirals_and_irregulars():
    rng = np.random.default_rng(0)
    colour = []
    for class_index in (0, 5, 6):
        drawn = [draw_galaxy(1, class_index, rng) for _ in range(300)]
        colour.append(np.median([galaxy.g_r_mag for galaxy in drawn if not galaxy.spoilt]))
    assert colour[0] > colour[1] + 0.1 and colour[1] > colour[2] + 0.05


# Light


def test_structured_light_goes_through_the_same_seeing_as_smooth_light():
    for side in (80, 81):
        canvas = make_canvas(side, fwhm_arcsec=1.43, centre_arcsec=(0.9, -0.6))
        x, y = canvas.coordinates()
        by_hand = canvas.structured(np.exp(-(x**2 + y**2) / (2 * 2.0**2)))
        by_galsim = canvas.smooth(galsim.Gaussian(sigma=2.0))
        assert by_hand.shape == (side, side)
        assert by_hand.sum() == pytest.approx(1, abs=1e-3)
        np.testing.assert_allclose(by_hand, by_galsim, atol=0.01 * by_galsim.max())


def test_a_star_has_the_width_of_the_seeing():
    canvas = make_canvas(101, fwhm_arcsec=1.584)
    star = canvas.smooth(galsim.Gaussian(sigma=1e-3))
    # 1.584 arcsec is 4 px: 2 px from the centre a star has half of its peak.
    assert star[50, 52] / star[50, 50] == pytest.approx(0.5, abs=0.02)
    assert star[48, 50] / star[50, 50] == pytest.approx(0.5, abs=0.02)


def test_petrosian_radii_of_an_exponential_disk():
    canvas = make_canvas(400, fwhm_arcsec=0.5)
    image = 7 * canvas.smooth(galsim.Exponential(scale_radius=6.0))
    measured = photometry.measure(image, canvas)
    # Graham et al. 2005: 99 % of the flux, R50 = 1.66 and R90 = 3.8 scale lengths.
    assert measured.flux == pytest.approx(7 * 0.99, rel=0.01)
    assert measured.r50_arcsec == pytest.approx(1.66 * 6, rel=0.02)
    assert measured.r90_arcsec == pytest.approx(3.8 * 6, rel=0.02)


def axis_ratio(class_index: int, seed: int) -> float:
    """Minor over major axis, by second moments, of a large galaxy of a class."""
    canvas = make_canvas(240, fwhm_arcsec=1.43)
    components = draw_components(class_index, np.random.default_rng(seed), canvas, 20.0)
    light = sum(component.share * component.light for component in components)
    x, y = (axis + np.zeros_like(light) for axis in canvas.coordinates())
    light = light * (np.hypot(x, y) < 40)
    moments = np.cov(np.stack([x.ravel(), y.ravel()]), aweights=np.maximum(light, 0).ravel())
    small, large = np.linalg.eigvalsh(moments)
    return float(np.sqrt(small / large))


def test_smooth_classes_and_edge_on_disks_differ_by_axis_ratio():
    ratios = [[axis_ratio(class_index, seed) for seed in range(5)] for class_index in range(4)]
    assert min(ratios[0]) > 0.8
    assert min(ratios[1]) > 0.42 and max(ratios[1]) < 0.85
    assert max(ratios[2]) < 0.46
    assert np.mean(ratios[3]) < np.mean(ratios[2])


@pytest.mark.parametrize("class_index", range(paper.CLASS_COUNT))
def test_components_hold_the_whole_galaxy(class_index: int):
    canvas = make_canvas(240, fwhm_arcsec=1.43)
    for seed in range(4):
        components = draw_components(class_index, np.random.default_rng(seed), canvas, 15.0)
        assert sum(component.share for component in components) == pytest.approx(1)
        total = sum(component.share * component.light for component in components)
        assert total.sum() == pytest.approx(1, abs=0.06)
        assert total.dtype == np.float32 and np.isfinite(total).all()


def test_noise_is_normal_and_as_coarse_as_asked():
    for grain_px in (1.0, 8.0):
        field = structures.noise(np.random.default_rng(0), 200, grain_px)
        assert field.mean() == pytest.approx(0, abs=1e-4)
        assert field.std() == pytest.approx(1, abs=1e-3)
        # Neighbours are alike within a grain and strangers four grains away.
        near, far = round(grain_px / 2) or 1, round(6 * grain_px)
        assert np.mean(field[:, near:] * field[:, :-near]) > 0.5
        assert abs(np.mean(field[:, far:] * field[:, :-far])) < 0.2


def test_arms_follow_a_logarithmic_spiral():
    y, x = np.mgrid[-60:61, -60:61].astype(float)
    arms = structures.Arms(2, np.radians(20.0), 10.0, 0.3, 4.0, 1)
    light = structures.spiral_arms(x, y, 20.0, arms) * np.exp(np.hypot(x, y) / 20.0)
    for turn in (0.0, 1.0, 2.0):
        radius, angle = 10 * np.exp(turn * np.tan(np.radians(20.0))), 0.3 + turn
        for side in (0.0, np.pi):
            column = round(60 + radius * np.cos(angle + side))
            row = round(60 + radius * np.sin(angle + side))
            assert light[row, column] > 0.85
    between = round(60 + 10 * np.sin(0.3 + np.pi / 2)), round(60 + 10 * np.cos(0.3 + np.pi / 2))
    assert light[between] < 0.1


def test_flocculent_arms_close_their_circle():
    angle = np.linspace(-np.pi, np.pi, 721)[None, :]
    x, y = 15 * np.cos(angle), 15 * np.sin(angle)
    arms = structures.Arms(3, np.radians(20.0), 5.0, 0.0, 2.0, 1)
    light = structures.flocculent_arms(np.random.default_rng(0), x, y, 10.0, arms)[0]
    steps = np.abs(np.diff(light))
    assert light.std() > 0.2 * light.mean()
    assert abs(light[0] - light[-1]) < 1e-3 and steps.max() < 0.1 * light.max()


def test_an_edge_on_disk_is_thin_and_ends():
    z, x = np.mgrid[-40:41, -80:81].astype(float)
    light = structures.edge_on_disk(x, z, 10.0, 2.0, 35.0)
    assert light[42, 80] / light[40, 80] == pytest.approx(1 / np.cosh(1) ** 2, rel=1e-6)
    assert light[40, 80 + 20] / light[40, 80 + 10] == pytest.approx(np.exp(-1), rel=0.12)
    assert light[40, 80 + 45] < 0.01 * light[40, 80 + 30]


def test_every_class_has_a_builder():
    assert len(BUILDERS) == len(set(BUILDERS)) == paper.CLASS_COUNT


# Survey


def test_fluxes_of_colours():
    assert photometry.nanomaggies(22.5) == pytest.approx(1)
    assert photometry.nanomaggies(20.0) == pytest.approx(10)
    g, r, i = photometry.band_fluxes(5.0, g_r_mag=1.0, r_i_mag=0.5)
    assert (g, r, i) == pytest.approx((5 * 10**-0.4, 5, 5 * 10**0.2))


def test_composite_keeps_colour_and_never_exceeds_white():
    faint, bright = np.array([0.02, 0.04, 0.06]), np.array([3.0, 60.0, 90.0])
    bands = np.stack([faint, bright, np.zeros(3), -faint], axis=1)[:, None, :]
    rgb = survey.composite(bands.astype(np.float32))[0]
    weighted = faint * survey.COMPOSITE_WEIGHTS
    # g, r, i become blue, green, red.
    assert rgb[0, ::-1] / rgb[0, 1] == pytest.approx(weighted / weighted[1], rel=1e-4)
    assert rgb[1].max() == pytest.approx(1) and rgb[1, 0] > rgb[1, 1] > rgb[1, 2]
    assert (rgb[2:] == 0).all()


def test_cut_puts_r90_at_50_px():
    field = np.zeros((201, 201, 3), np.uint8)
    r90_arcsec = 30 * NATIVE_PIXEL_ARCSEC
    field[100, 130] = 255
    image = survey.cut(field, (100, 100), paper.PIXEL_SCALE_PER_R90 * r90_arcsec)
    assert image.shape == (paper.IMAGE_PX, paper.IMAGE_PX, 3)
    rows, columns = np.indices((paper.IMAGE_PX, paper.IMAGE_PX))
    assert np.average(rows, weights=image[..., 0]) == pytest.approx(212, abs=0.1)
    assert np.average(columns, weights=image[..., 0]) == pytest.approx(212 + 50, abs=0.1)


def test_noise_is_the_surveys_and_grows_with_flux():
    bands = np.zeros((3, 300, 300), np.float32)
    bands[:, :, 150:] = 2.13  # three times the r-band sky: noise twice as high
    survey.add_noise(bands, survey.Night(), np.random.default_rng(0))
    assert bands[1, :, :150].std() == pytest.approx(0.028, rel=0.02)
    assert bands[1, :, 150:].std() == pytest.approx(0.056, rel=0.02)
    assert abs(bands[1, :, :150].mean()) < 0.001


def test_nights_scatter_around_the_surveys_medians():
    rng = np.random.default_rng(0)
    nights = [survey.draw_night(rng) for _ in range(2000)]
    fwhm = np.array([night.fwhm_arcsec for night in nights])
    noise = np.array([night.noise_nmgy for night in nights])
    sky = np.array([night.sky_residual_nmgy for night in nights])
    assert np.percentile(fwhm, [25, 50, 75]) == pytest.approx([1.30, 1.43, 1.58], abs=0.03)
    assert np.median(noise, axis=0) == pytest.approx(survey.SKY_NOISE_NMGY, rel=0.02)
    assert np.log(noise).std(axis=0) == pytest.approx([0.128] * 3, rel=0.1)
    assert sky.std(axis=0) == pytest.approx([survey.SKY_RESIDUAL_NMGY] * 3, rel=0.1)


@pytest.mark.parametrize("class_index", range(paper.CLASS_COUNT))
def test_picture_and_properties_of_each_class(class_index: int):
    image, measured = expose(galaxy_id=3, class_index=class_index, seed=8)
    assert image.shape == (paper.IMAGE_PX, paper.IMAGE_PX, 3) and image.dtype == np.uint8
    assert measured.petro_r90_arcsec > SMALLEST_R90_ARCSEC
    assert measured.dered_r_mag < FAINTEST_R_MAG
    assert -0.3 < measured.dered_g_r_mag < 1.4
    middle = image[192:232, 192:232].mean()
    assert middle > 3 * np.median(image) and np.median(image) < 20
    again, _ = expose(galaxy_id=3, class_index=class_index, seed=8)
    assert np.array_equal(image, again)
    other, _ = expose(galaxy_id=4, class_index=class_index, seed=8)
    assert not np.array_equal(image, other)


def sky_and_brightness(images: list[np.ndarray]) -> tuple[float, float]:
    """Median over images of the sky's standard deviation and the mean of the central crop."""
    skies, means = [], []
    for image in images:
        grey = image.astype(float).mean(2)
        corners = [grey[:60, :60], grey[:60, -60:], grey[-60:, :60], grey[-60:, -60:]]
        skies.append(min(corner.std() for corner in corners))
        means.append(grey[100:324, 100:324].mean() / 255)
    return float(np.median(skies)), float(np.median(means))


def test_sky_and_brightness_are_those_of_real_images():
    if not REAL_GALAXIES.is_dir():
        pytest.skip(f"no real galaxies at {REAL_GALAXIES}")
    paths = sorted((REAL_GALAXIES / "images").glob("*.jpg"))[::20]
    real = sky_and_brightness([np.asarray(Image.open(path)) for path in paths])
    ours = sky_and_brightness([expose(k, k % paper.CLASS_COUNT, seed=0)[0] for k in range(32)])
    assert ours[0] == pytest.approx(real[0], rel=0.25)
    assert ours[1] == pytest.approx(real[1], rel=0.35)
