"""gz2vit.attention.light: galaxies of known size on noisy sky, with a neighbour."""

import numpy as np
import pytest
import torch

from gz2vit.attention_checks import light_fraction
from gz2vit.images import measure_sky, segment_galaxy
from gz2vit.io import Gz2vitError

SIDE, SKY, NOISE = 112, 20.0, 2.0


def galaxy(x: float = 55.5, y: float = 55.5, sigma: float = 8.0, peak: float = 150.0) -> np.ndarray:
    """A round galaxy's light (SIDE, SIDE), without sky."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return peak * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))


def with_sky(light: np.ndarray, seed: int = 0) -> np.ndarray:
    return light + np.random.default_rng(seed).normal(SKY, NOISE, light.shape)


def test_the_sky_is_measured_beside_stars():
    stars = galaxy(5, 5, 2.0) + galaxy(60, 108, 3.0)
    level, noise = measure_sky(with_sky(stars))
    assert level == pytest.approx(SKY, abs=0.2)
    assert noise == pytest.approx(NOISE, rel=0.1)


def test_the_galaxy_is_as_large_as_its_light_says_and_has_no_neighbour():
    light = with_sky(galaxy() + galaxy(95, 55, 4.0))
    mask = segment_galaxy(light)
    # where it falls to four times the noise of slightly smoothed pixels
    noise = measure_sky(light)[1]
    radius = 8.0 * np.sqrt(2 * np.log(150 / (4 * noise)))
    assert np.sqrt(mask.sum() / np.pi) == pytest.approx(radius, rel=0.1)
    assert mask[55, 55]
    assert not mask[55, 95]


def test_any_positive_scale_gives_the_same_galaxy():
    light = with_sky(galaxy())
    assert np.array_equal(segment_galaxy(light), segment_galaxy((light / 255 - 0.4) / 0.2))


def test_a_ring_is_filled_and_a_galaxy_beside_the_middle_is_found():
    ring = galaxy(sigma=12.0) - galaxy(sigma=11.0)
    mask = segment_galaxy(with_sky(5 * ring))
    assert mask[55, 55]
    assert segment_galaxy(with_sky(galaxy(63, 55, 2.0)))[55, 63]


@pytest.mark.parametrize("light", [np.full((SIDE, SIDE), 7.0), with_sky(galaxy(15, 15, 4.0))])
def test_an_empty_middle_has_no_galaxy(light: np.ndarray):
    assert not segment_galaxy(light).any()


def picture(*lights: np.ndarray) -> torch.Tensor:
    """Images (B, 3, SIDE, SIDE)."""
    planes = np.stack([with_sky(light, seed) for seed, light in enumerate(lights)])
    return torch.from_numpy(planes).float()[:, None].expand(-1, 3, -1, -1)


def test_fractions_of_known_maps():
    images = picture(galaxy(), galaxy(), galaxy())
    maps = torch.zeros(3, 14, 14)
    maps[0, 6:8, 6:8] = 1.0  # on the galaxy
    maps[1, 0, 0] = 1.0  # in a corner
    maps[2] = 0.5  # everywhere
    found = light_fraction(maps, images)
    assert found.fraction[:2].tolist() == [1.0, 0.0]
    assert found.fraction[2] == pytest.approx(found.uniform[2])
    area = np.array([segment_galaxy(one.numpy()).mean() for one in images[:, 0]])
    assert found.uniform == pytest.approx(area)
    assert found.others[0] == pytest.approx((0.0 + area[0]) / 2)
    assert found.others[1] == pytest.approx((1.0 + area[1]) / 2)


def test_a_cell_counts_with_the_share_of_its_pixels():
    images = picture(galaxy())
    maps = torch.ones(1, 1, 1)
    assert light_fraction(maps, images).fraction == pytest.approx(
        segment_galaxy(images[0, 0].numpy()).mean()
    )


def test_what_is_not_there_has_no_value():
    images = picture(galaxy(), np.zeros((SIDE, SIDE)), galaxy())
    maps = torch.ones(3, 4, 4)
    maps[2] = 0.0
    found = light_fraction(maps, images)
    assert np.isnan(found.fraction).tolist() == [False, True, True]
    assert np.isnan(found.uniform).tolist() == [False, True, False]
    assert found.others[0] == pytest.approx(found.uniform[0])  # map 2 is empty: only map 1 counts
    assert found.others[2] == pytest.approx(found.uniform[2])
    assert np.isnan(light_fraction(maps[:1], images[:1]).others).all()


@pytest.mark.parametrize(
    ("maps", "message"),
    [(torch.ones(2, 4, 4), "do not fit 1 images"), (-torch.ones(1, 4, 4), "cannot be negative"),
     (torch.full((1, 4, 4), float("nan")), "give one finite map")],
)  # fmt: skip
def test_maps_that_do_not_fit(maps: torch.Tensor, message: str):
    with pytest.raises(Gz2vitError, match=message):
        light_fraction(maps, picture(galaxy()))
