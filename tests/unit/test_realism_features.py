"""gz2vit.sim2real on galaxies that are drawn here, so that every answer is known."""

import numpy as np
import pytest

from gz2vit.sim2real import FEATURES, find_outline, measure_image

SIDE = 424


def radius_of(ratio: float, angle_deg: float, shift_px: float = 0.0) -> np.ndarray:
    """Elliptical radius (H, W) in pixels, the long axis turned by `angle_deg`."""
    y, x = np.indices((SIDE, SIDE)) - (SIDE - 1) / 2
    x = x - shift_px
    angle = np.deg2rad(angle_deg)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return np.hypot(along, across / ratio)


def picture(light: np.ndarray, colour: tuple = (1.0, 1.0, 1.0), noise: float = 3.0) -> np.ndarray:
    """Light (H, W) in a colour (R, G, B) on a sky of level 10 with white noise, uint8."""
    sky = np.random.default_rng(1).normal(10, noise, (SIDE, SIDE, 3))
    return np.clip(np.rint(light[..., None] * np.array(colour) + sky), 0, 255).astype(np.uint8)


def exponential(ratio: float = 1.0, angle_deg: float = 0.0, scale_px: float = 14.0) -> np.ndarray:
    return 150 * np.exp(-radius_of(ratio, angle_deg) / scale_px)


@pytest.mark.parametrize("angle_deg", [0, 35, 90])
@pytest.mark.parametrize("ratio", [0.35, 0.7, 1.0])
def test_the_axis_ratio_is_the_drawn_one(ratio: float, angle_deg: float):
    found = measure_image(picture(exponential(ratio, angle_deg)))
    assert found["axis_ratio"] == pytest.approx(ratio, abs=0.06)


def test_colour_is_the_drawn_one_and_bluer_is_smaller():
    red = measure_image(picture(exponential(), (1.2, 1.0, 0.6)))
    blue = measure_image(picture(exponential(), (0.6, 1.0, 1.2)))
    assert red["redness"] == pytest.approx(2.5 * np.log10(2), abs=0.05)
    assert blue["redness"] == pytest.approx(-2.5 * np.log10(2), abs=0.05)
    assert red["colour_gradient"] == pytest.approx(0, abs=0.1)
    assert red["colour_saturation"] > 0.4
    grey = measure_image(picture(exponential(), noise=1.0))
    assert grey["colour_saturation"] < 0.2


def test_a_red_middle_in_a_blue_disk_is_a_gradient():
    inner = exponential(scale_px=8.0)[..., None] * np.array([1.0, 0.7, 0.4])
    outer = (0.4 * exponential(scale_px=25.0))[..., None] * np.array([0.5, 0.7, 1.0])
    sky = np.random.default_rng(1).normal(10, 2, inner.shape)
    image = np.clip(np.rint(inner + outer + sky), 0, 255).astype(np.uint8)
    assert measure_image(image)["colour_gradient"] > 0.2


def test_the_sky_is_the_drawn_one():
    found = measure_image(picture(exponential(), noise=6.0))
    assert found["sky_level"] == pytest.approx(10, abs=0.8)  # cut off at 0
    assert found["sky_noise"] == pytest.approx(6 / np.sqrt(3), abs=0.35)
    assert found["sky_colour_noise"] == pytest.approx(6 * np.sqrt(2), abs=0.8)
    assert found["sky_grain"] == pytest.approx(1, abs=0.1)


def test_noise_that_is_the_same_over_some_pixels_has_grain():
    coarse = np.random.default_rng(1).normal(0, 6, (SIDE // 4, SIDE // 4, 1))
    sky = np.repeat(np.repeat(coarse, 4, axis=0), 4, axis=1) + 40
    image = np.clip(np.rint(exponential()[..., None] + sky), 0, 255).astype(np.uint8)
    found = measure_image(np.repeat(image, 3, axis=2))
    assert found["sky_grain"] == pytest.approx(4, abs=0.4)


def test_a_symmetric_galaxy_is_and_a_lopsided_one_is_not():
    round_one = exponential()
    clump = 120 * np.exp(-((radius_of(1.0, 0, shift_px=25) / 8) ** 2))
    even = measure_image(picture(round_one, noise=6.0))
    odd = measure_image(picture(round_one + clump, noise=6.0))
    assert abs(even["asymmetry"]) < 0.05
    assert odd["asymmetry"] > 0.15
    assert odd["clumpiness"] > even["clumpiness"]


def test_light_in_the_middle_is_concentrated():
    disk = measure_image(picture(120.0 * (radius_of(1.0, 0) < 40)))
    peaked = measure_image(picture(230 * np.exp(-((radius_of(1.0, 0) / 4) ** 0.5))))
    # Of an even disk 20 and 80 % lie inside sqrt(0.2) and sqrt(0.8) of its radius: 5 log 2.
    assert disk["concentration"] == pytest.approx(5 * np.log10(2), abs=0.1)
    assert disk["radius_px"] == pytest.approx(43, abs=3)  # outskirts count
    assert peaked["concentration"] > disk["concentration"] + 0.8
    assert peaked["gini"] > disk["gini"] + 0.2


def test_saturated_pixels_and_neighbours_are_counted():
    bright = measure_image(picture(400.0 * (radius_of(1.0, 0) < 40)))
    assert bright["saturated_percent"] == pytest.approx(100 * (40 / 45) ** 2, abs=3)
    star = 200 * np.exp(-((radius_of(1.0, 0, shift_px=150) / 4) ** 2))
    assert measure_image(picture(exponential()))["neighbours"] == 0
    assert measure_image(picture(exponential() + star))["neighbours"] == 1


def test_a_galaxy_that_is_not_there_has_no_features_but_a_sky():
    far = 200 * np.exp(-((radius_of(1.0, 0, shift_px=150) / 6) ** 2))
    for light in (np.zeros((SIDE, SIDE)), far):
        found = measure_image(picture(light))
        assert set(found) == set(FEATURES)
        assert np.isnan(found["redness"])
        assert np.isnan(found["asymmetry"])
        assert found["sky_noise"] > 1


def test_a_picture_of_one_level_is_no_error():
    found = measure_image(np.zeros((SIDE, SIDE, 3), np.uint8))
    assert found["sky_level"] == 0
    assert np.isnan(found["sky_grain"])


def test_the_outline_leaves_neighbours_out():
    star = 200 * np.exp(-((radius_of(1.0, 0, shift_px=150) / 6) ** 2))
    parts = find_outline(picture(exponential() + star))
    assert parts.galaxy[SIDE // 2, SIDE // 2]
    assert not parts.galaxy[SIDE // 2, SIDE // 2 + 150]
    assert not parts.sky[SIDE // 2, SIDE // 2 + 150]
    assert not (parts.sky & parts.galaxy).any()
