"""What spoils simulated exposures: each fault does what it says, and to the galaxies it should."""

import numpy as np
import pytest

from gz2sim import survey as artifacts
from gz2sim.neighbours import add_stamp, star
from gz2sim.population import IRREGULAR, SPOILT_CLASSES, SPOILT_SHARE, draw_galaxy
from gz2sim.survey import expose
from gz2vit import paper

SIDE = 120
FWHM = 1.43


def spoilt_sky(fault: artifacts.Fault, seed: int) -> np.ndarray:
    """Bands (3, SIDE, SIDE) of dark sky with one fault."""
    bands = np.zeros((3, SIDE, SIDE), np.float32)
    fault(bands, FWHM, np.random.default_rng(seed))
    assert np.isfinite(bands).all() and bands.dtype == np.float32
    return bands


@pytest.mark.parametrize("seed", range(5))
def test_a_trail_is_a_line_in_one_band(seed: int):
    bands = spoilt_sky(artifacts.trail, seed)
    lit = [band for band in bands if band.max() > 0]
    assert len(lit) == 1
    rows, columns = np.nonzero(lit[0] > 0.5 * lit[0].max())
    small, large = np.linalg.eigvalsh(np.cov(rows, columns))
    assert np.sqrt(small) < 4 and np.sqrt(large) > 15


@pytest.mark.parametrize("seed", range(5))
def test_glare_has_a_colour_and_never_darkens(seed: int):
    bands = spoilt_sky(artifacts.glare, seed)
    assert bands.min() >= 0
    faint, middle, bright = sorted(band.mean() for band in bands)
    assert bright > 5 * middle >= 5 * faint > 0


@pytest.mark.parametrize("seed", range(5))
def test_a_saturated_star_is_cut_off_and_has_spikes(seed: int):
    bands = spoilt_sky(artifacts.saturated_star, seed)
    for band in bands:
        top = band.max()
        assert 3 <= top <= 30
        # The pixels of a saturated centre have all the same value.
        assert np.count_nonzero(band > 0.999 * top) >= 5


def test_spikes_stand_at_right_angles():
    y, x = np.mgrid[-40:41, -40:41].astype(np.float32)
    light = artifacts._star_light(x, y, np.random.default_rng(0))
    ring = np.round(np.hypot(x, y)) == 30
    angle = np.degrees(np.arctan2(y, x))[ring]
    brightest = angle[light[ring] > 0.5 * light[ring].max()] % 90
    spread = np.abs((brightest - np.median(brightest) + 45) % 90 - 45)
    assert spread.max() < 6
    assert light[ring].max() > 3 * np.median(light[ring])


def test_misfit_moves_the_outer_bands_and_keeps_their_light():
    bands = np.zeros((3, SIDE, SIDE), np.float32)
    add_stamp(bands, star(np.random.default_rng(0), FWHM, 17.0), np.array([60.0, 60.0]))
    before = bands.copy()
    artifacts.misfit(bands, FWHM, np.random.default_rng(1))
    assert np.array_equal(bands[1], before[1])
    for band in (0, 2):
        assert bands[band].sum() == pytest.approx(before[band].sum(), rel=0.01)
        assert np.abs(bands[band] - before[band]).sum() > 0.3 * before[band].sum()


def test_a_step_has_two_levels_and_passes_near_the_middle():
    bands = spoilt_sky(artifacts.step, seed=2)
    for band in bands:
        assert len(np.unique(band)) == 2
    part = np.mean(bands[0] != 0)
    assert 0.1 < part < 0.6


def test_crowds_and_covering_stars_lie_where_the_network_looks():
    seen = slice(round(SIDE * (1 - artifacts.SEEN) / 2), round(SIDE * (1 + artifacts.SEEN) / 2))
    for seed in range(4):
        for fault in (artifacts.crowd, artifacts.covering_star):
            bands = spoilt_sky(fault, seed)
            assert bands[:, seen, seen].sum() > 0.7 * bands.sum() > 0


def test_a_stamp_outside_the_field_adds_nothing_and_one_at_its_border_is_cut():
    bands = np.zeros((3, SIDE, SIDE), np.float32)
    one = star(np.random.default_rng(0), FWHM, 17.0)
    add_stamp(bands, one, np.array([-400.0, 60.0]))
    assert not bands.any()
    add_stamp(bands, one, np.array([0.0, 60.0]))
    whole = np.zeros((3, SIDE, SIDE), np.float32)
    add_stamp(whole, one, np.array([60.0, 60.0]))
    np.testing.assert_allclose(bands[:, :, :20], whole[:, :, 60:80], rtol=1e-4, atol=1e-4)


def test_edges_are_black_lines_of_some_images(monkeypatch):
    monkeypatch.setattr(artifacts, "EDGE_SHARE", 1.0)
    rgb = np.full((SIDE, SIDE, 3), 0.5, np.float32)
    artifacts.draw_edges(rgb, spoilt=False, rng=np.random.default_rng(0))
    assert rgb.min() < 0.15 and np.median(rgb) == 0.5
    assert 0.2 * SIDE < np.count_nonzero(rgb[..., 0] < 0.4) < 3 * SIDE
    monkeypatch.setattr(artifacts, "EDGE_SHARE", 0.0)
    clean = np.full((SIDE, SIDE, 3), 0.5, np.float32)
    artifacts.draw_edges(clean, spoilt=False, rng=np.random.default_rng(0))
    assert (clean == 0.5).all()


def test_only_irregulars_are_spoilt_and_only_a_part_of_them():
    rng = np.random.default_rng(0)
    for class_index in range(paper.CLASS_COUNT):
        drawn = [draw_galaxy(1, class_index, rng) for _ in range(800)]
        spoilt = [galaxy for galaxy in drawn if galaxy.spoilt]
        expected = SPOILT_SHARE if class_index == IRREGULAR else 0.0
        assert len(spoilt) / 800 == pytest.approx(expected, abs=0.06)
        assert {galaxy.drawn_as for galaxy in spoilt} <= set(SPOILT_CLASSES)


def test_shares_of_faults_sum_to_one():
    assert sum(share for _, share in artifacts.ODD_FAULTS) == pytest.approx(1)


def test_spoilt_images_are_reproducible_and_brighter_away_from_the_galaxy():
    outside = {True: [], False: []}
    for galaxy_id in range(1, 13):
        image, _ = expose(galaxy_id, IRREGULAR, seed=3)
        assert np.array_equal(image, expose(galaxy_id, IRREGULAR, seed=3)[0])
        truth = np.random.default_rng(np.random.SeedSequence([3, galaxy_id]).spawn(5)[0])
        spoilt = draw_galaxy(galaxy_id, IRREGULAR, truth).spoilt
        crop = image[100:324, 100:324].astype(float)
        outside[spoilt].append(np.concatenate([crop[:40], crop[-40:]]).mean())
    assert min(len(values) for values in outside.values()) >= 3
    assert np.mean(outside[True]) > 1.5 * np.mean(outside[False])
