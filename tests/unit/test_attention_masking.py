"""gz2vit.attention.masking: a network that looks at one patch alone tells what a map is worth."""

import numpy as np
import pytest
import torch
from torch import nn

from gz2vit.attention_checks import deletion_curve, insertion_curve, rank_patches
from gz2vit.io import Gz2vitError


class OnePatch(nn.Module):
    """Class 1 is as probable as the patch in row 1, column 2 of 4 x 4 is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(4.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        bright = self.gain * images[:, :, 2:4, 4:6].mean(dim=(1, 2, 3))
        return torch.stack([-bright, bright], dim=1)


def bright_images(count: int = 3) -> torch.Tensor:
    """8 x 8 px, all 0 but that patch, which is 1."""
    images = torch.zeros(count, 3, 8, 8)
    images[:, :, 2:4, 4:6] = 1.0
    return images


def maps_of(row: int, column: int, count: int = 3) -> torch.Tensor:
    maps = torch.zeros(count, 4, 4)
    maps[:, row, column] = 1.0
    return maps


BLACK = torch.zeros(3)
FULL = 1 / (1 + np.exp(-8.0))  # of class 1 with the patch; 0.5 without


def test_deletion_of_what_the_network_looks_at():
    curve = deletion_curve(OnePatch(), bright_images(), maps_of(1, 2), steps=16, fill=BLACK)
    assert curve.predicted.tolist() == [1, 1, 1]
    assert curve.changed == pytest.approx(np.arange(17) / 16)
    assert curve.probability.shape == (3, 17)
    assert curve.probability[:, 0] == pytest.approx(FULL)
    assert curve.probability[:, 1:] == pytest.approx(0.5)
    assert curve.area == pytest.approx((FULL + 0.5) / 32 + 0.5 * 15 / 16)


def test_insertion_of_what_the_network_looks_at():
    curve = insertion_curve(OnePatch(), bright_images(), maps_of(1, 2), steps=16, fill=BLACK)
    assert curve.probability[:, 0] == pytest.approx(0.5)
    assert curve.probability[:, 1:] == pytest.approx(FULL)


def test_a_right_map_beats_random_and_a_wrong_one_does_not():
    images = bright_images(40)
    random = deletion_curve(OnePatch(), images, maps_of(1, 2, 40), "random", fill=BLACK).area
    right = deletion_curve(OnePatch(), images, maps_of(1, 2, 40), fill=BLACK).area
    wrong = deletion_curve(OnePatch(), images, -maps_of(1, 2, 40), fill=BLACK).area
    assert right.max() < random.mean() < wrong.min()
    # at random the patch goes at any step alike: its area is on average the middle one
    assert random.mean() == pytest.approx((FULL + 0.5) / 2, abs=0.05)


def test_random_orders_differ_between_galaxies_and_repeat_with_the_seed():
    maps = np.zeros((5, 4, 4))
    ranks = rank_patches(maps, "random", seed=1)
    assert [sorted(one.ravel()) for one in ranks] == [list(range(16))] * 5
    assert len({tuple(one.ravel()) for one in ranks}) == 5
    assert np.array_equal(ranks, rank_patches(maps, "random", seed=1))
    assert not np.array_equal(ranks, rank_patches(maps, "random", seed=2))


def test_the_order_is_the_maps_and_ties_are_broken_at_random():
    maps = np.array([[[0.1, 0.9], [0.5, 0.3]]])
    assert rank_patches(maps, "most").tolist() == [[[3, 0], [1, 2]]]
    flat = rank_patches(np.ones((50, 2, 2)), "most")
    assert len({tuple(one.ravel()) for one in flat}) > 10


def test_the_centre_goes_first_whatever_the_map():
    ranks = rank_patches(np.random.default_rng(0).random((2, 5, 5)), "centre")
    assert (ranks[:, 2, 2] == 0).all()
    assert (ranks[:, [0, 0, 4, 4], [0, 4, 0, 4]] >= 21).all()


def test_fills():
    torch.manual_seed(0)
    images = bright_images() + 0.1 * torch.rand(3, 3, 8, 8)
    looked: list[torch.Tensor] = []
    network = OnePatch()
    network.register_forward_pre_hook(lambda _, inputs: looked.append(inputs[0]))
    for fill in ("mean", "blur"):
        deletion_curve(network, images, maps_of(1, 2), steps=1, fill=fill)
    # of each: the whole image for the class, then all of it replaced; one plane serves for all
    mean, blurred = looked[1], looked[3]
    assert (len(mean), len(blurred)) == (1, 3)
    expected = images.mean(dim=(0, 2, 3)).view(1, 3, 1, 1).expand_as(mean)
    assert torch.allclose(mean, expected)
    assert torch.allclose(blurred.mean(dim=(2, 3)), images.mean(dim=(2, 3)), atol=1e-2)
    assert 0 < blurred.std(dim=(2, 3)).max() < 0.5 * images.std(dim=(2, 3)).min()


def test_maps_need_not_divide_the_image():
    images = torch.rand(2, 3, 10, 10)
    curve = deletion_curve(OnePatch(), images, torch.rand(2, 3, 3), steps=4, fill=BLACK)
    assert curve.changed == pytest.approx(np.array([0, 2, 4, 7, 9]) / 9)
    assert curve.probability[:, -1] == pytest.approx(0.5)


def test_more_steps_than_patches_are_as_many_as_patches():
    curve = deletion_curve(OnePatch(), bright_images(), torch.rand(3, 2, 2), steps=100)
    assert curve.changed.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize(
    ("maps", "options", "message"),
    [
        (torch.zeros(2, 4, 4), {}, r"shape \(2, 4, 4\) do not fit 3 images"),
        (torch.full((3, 4, 4), float("nan")), {}, "give one finite map"),
        (maps_of(1, 2), {"order": "least"}, "no order 'least'; there are most, random, centre"),
        (maps_of(1, 2), {"steps": 0}, "steps is 0; it must be 1 or more"),
        (maps_of(1, 2), {"fill": "black"}, "fill 'black' is neither one of mean, blur nor a"),
        (maps_of(1, 2), {"fill": torch.zeros(1)}, "nor a colour"),
    ],
)
def test_what_cannot_be_masked(maps: torch.Tensor, options: dict, message: str):
    for curve in (deletion_curve, insertion_curve):
        with pytest.raises(Gz2vitError, match=message):
            curve(OnePatch(), bright_images(), maps, **options)
