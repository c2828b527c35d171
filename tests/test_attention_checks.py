"""The checks of maps: a network that looks at one patch alone shows what a map is worth."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from gz2vit.attention import attribution_maps, predict_probabilities
from gz2vit.attention_checks import (
    change_patches,
    check_maps,
    describe_failures,
    galaxy_masks,
    light_fraction,
    randomise_weights,
    rank_correlation,
    rank_patches,
    summarise_checks,
)
from gz2vit.attention_maps import open_model
from gz2vit.evaluation import bootstrap_interval
from gz2vit.io import Gz2vitError
from gz2vit.models import build_model
from tests.test_attention import SMALL, TIMM, build
from tests.trained_run import open_splits

QUANTITIES = [
    *("deletion_most", "deletion_random", "deletion_centre", "deletion_gain"),
    *("insertion_most", "insertion_random", "insertion_gain", "deletion_gain_centre"),
    *("light", "light_gain", "light_gain_others"),
    *("randomised_similarity", "other_galaxy_similarity"),
]
FULL = 1 / (1 + np.exp(-8.0))  # of class 1 with the patch; 0.5 without


class OnePatch(nn.Module):
    """Class 1 is as probable as the patch in row 1, column 2 of 4 x 4 is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(4.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        bright = self.gain * images[:, :, 2:4, 4:6].mean(dim=(1, 2, 3))
        return torch.stack([-bright, bright], dim=1)


IMAGES = torch.zeros(40, 3, 8, 8)  # all 0 but that patch, which is 1
IMAGES[:, :, 2:4, 4:6] = 1.0


def changed(
    ranks: np.ndarray, insertion: bool = False, steps: int = 16
) -> tuple[np.ndarray, np.ndarray]:
    """Fractions changed, and class 1's probability while IMAGES become black, or the other way."""
    images = IMAGES[: len(ranks)]
    both = {"whole": images, "black": torch.zeros_like(images)}
    ends = tuple(both)[:: -1 if insertion else 1]
    first, last = (predict_probabilities(OnePatch(), both[one])[:, 1] for one in ends)
    fractions, found = change_patches(OnePatch(), both, [(*ends, ranks)], steps)
    return fractions, np.column_stack([first, found[0, :, :, 1], last])


def maps_of(row: int, column: int, count: int = 3) -> np.ndarray:
    maps = np.zeros((count, 4, 4))
    maps[:, row, column] = 1.0
    return maps


def test_deletion_and_insertion_of_what_the_network_looks_at():
    ranks = rank_patches(maps_of(1, 2), "most")
    fractions, deletion = changed(ranks)
    assert fractions == pytest.approx(np.arange(17) / 16)
    assert deletion[:, 0] == pytest.approx(FULL)
    assert deletion[:, 1:] == pytest.approx(0.5)
    insertion = changed(ranks, insertion=True)[1]
    assert insertion[:, 0] == pytest.approx(0.5)
    assert insertion[:, 1:] == pytest.approx(FULL)
    # a right map beats random order, and a wrong one does not; at random the patch goes at any step
    maps = maps_of(1, 2, 40)
    orders = ((maps, "most"), (maps, "random"), (-maps, "most"))
    right, random, wrong = (
        np.trapezoid(changed(rank_patches(*order))[1], dx=1 / 16, axis=1) for order in orders
    )
    assert right.max() < random.mean() < wrong.min()
    assert random.mean() == pytest.approx((FULL + 0.5) / 2, abs=0.05)


def test_orders_of_patches():
    ranks = rank_patches(np.zeros((5, 4, 4)), "random", seed=1)
    assert [sorted(one.ravel()) for one in ranks] == [list(range(16))] * 5
    assert len({tuple(one.ravel()) for one in ranks}) == 5
    assert np.array_equal(ranks, rank_patches(np.zeros((5, 4, 4)), "random", seed=1))
    assert not np.array_equal(ranks, rank_patches(np.zeros((5, 4, 4)), "random", seed=2))
    assert rank_patches(np.array([[[0.1, 0.9], [0.5, 0.3]]]), "most").tolist() == [[[3, 0], [1, 2]]]
    flat = rank_patches(np.ones((50, 2, 2)), "most")  # ties are broken at random
    assert len({tuple(one.ravel()) for one in flat}) > 10
    centre = rank_patches(np.random.default_rng(0).random((2, 5, 5)), "centre")
    assert (centre[:, 2, 2] == 0).all()
    assert (centre[:, [0, 0, 4, 4], [0, 4, 0, 4]] >= 21).all()


def test_maps_of_any_grid():
    fractions, found = changed(rank_patches(np.random.rand(2, 3, 3), "most"), steps=4)
    assert fractions == pytest.approx(np.array([0, 2, 4, 7, 9]) / 9)
    assert found[:, -1] == pytest.approx(0.5)
    fractions, _ = changed(rank_patches(np.random.rand(3, 2, 2), "most"), steps=100)
    assert fractions.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]  # as many as patches


def test_rank_correlation_is_spearmans():
    first, second = torch.rand(4, 5, 5), torch.rand(4, 5, 5).round(decimals=1)  # with ties
    expected = [
        spearmanr(one.flatten(), other.flatten()).statistic
        for one, other in zip(first.numpy(), second.numpy(), strict=True)
    ]
    assert rank_correlation(first, second) == pytest.approx(expected)
    second[1] = 1.0  # flat
    assert np.isnan(rank_correlation(first, second)).tolist() == [False, True, False, False]
    assert np.isnan(rank_correlation(first, torch.ones(4, 5, 5))).all()


@pytest.mark.parametrize("name", ["linformer", "vit", "hf_vit", TIMM, "resnet50"])
def test_patches_are_embedded_once_with_the_same_result(name: str):
    """Of embedded patches as of whole images; of a CNN there are only images."""
    network, images = build(name)
    grid, both = 2 if name == TIMM else 4, {"whole": images, "b": images.flip(0)}
    ranks = rank_patches(np.random.default_rng(0).random((3, grid, grid)), "most")
    fractions, found = change_patches(
        network, both, [("whole", "b", ranks), ("b", "whole", ranks)], 4
    )
    for number, fraction in enumerate(fractions[1:-1]):
        mask = torch.from_numpy(ranks < fraction * grid**2).repeat_interleave(32 // grid, 1)
        mask = mask.repeat_interleave(32 // grid, 2)[:, None]
        for own, pair in zip(found, (both.values(), reversed(both.values())), strict=True):
            first, last = pair
            expected = predict_probabilities(network, torch.where(mask, last, first))
            np.testing.assert_allclose(own[:, number], expected, atol=1e-6)
    with torch.no_grad():
        assert network(images).shape == (3, 8)  # and the network takes images again


@pytest.mark.parametrize("architecture", ["linformer", "vit", "hf_vit", "resnet50", "backbone"])
def test_every_weight_that_could_have_been_learnt_is_drawn_anew(architecture: str):
    torch.manual_seed(0)
    network = build_model(architecture, **SMALL[architecture])
    with torch.no_grad():  # as if trained: nothing is as it started
        for parameter in network.parameters():
            parameter.add_(torch.rand_like(parameter))
    before = {name: one.clone() for name, one in network.state_dict().items()}
    generator = torch.get_rng_state()
    first, again, other = (randomise_weights(network, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(one, before[name]) for name, one in network.state_dict().items())
    drawn, others = dict(again.named_parameters()), dict(other.named_parameters())
    differ = 0
    for name, parameter in first.named_parameters():
        assert torch.equal(parameter, drawn[name])
        differ += not torch.equal(parameter, others[name])
        if parameter.numel() > 1:
            assert not torch.equal(parameter, before[name]), name
    assert differ
    if architecture == "linformer":  # what has no known start is shuffled
        old, new = (one.pos_embedding.flatten() for one in (network, first))
        assert torch.equal(old.sort().values, new.sort().values)


SIDE = 112


def galaxies(*sigmas: float) -> np.ndarray:
    """Round galaxies on noisy sky, (B, SIDE, SIDE, 3); none where sigma is 0."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    distance = (columns - 55.5) ** 2 + (rows - 55.5) ** 2
    light = [150 * np.exp(-distance / (2 * s**2)) if s else 0 * distance for s in sigmas]
    noise = np.random.default_rng(0).normal(20.0, 2.0, (len(sigmas), SIDE, SIDE))
    return np.repeat((np.stack(light) + noise)[..., None], 3, axis=3)


def test_fractions_of_known_maps():
    masks = galaxy_masks(galaxies(8, 8, 8))
    area = masks.mean(axis=(1, 2))
    maps = torch.zeros(3, 14, 14)
    maps[0, 6:8, 6:8] = 1.0  # on the galaxy
    maps[1, 0, 0] = 1.0  # in a corner
    maps[2] = 0.5  # everywhere
    found = light_fraction(maps, masks)
    assert found.light.tolist() == pytest.approx([1.0, 0.0, area[2]])
    assert found.uniform.to_numpy() == pytest.approx(area)
    assert found.others[0] == pytest.approx((0.0 + area[0]) / 2)
    assert found.others[1] == pytest.approx((1.0 + area[1]) / 2)
    # a cell counts with the fraction of its pixels
    assert light_fraction(torch.ones(3, 1, 1), masks).light.to_numpy() == pytest.approx(area)
    # what does not exist has no value
    masks = galaxy_masks(galaxies(8, 0, 8))
    maps = torch.ones(3, 4, 4)
    maps[2] = 0.0
    found = light_fraction(maps, masks)
    assert found.light.isna().tolist() == [False, True, True]
    assert found.uniform.isna().tolist() == [False, True, False]
    assert found.others[0] == pytest.approx(found.uniform[0])  # map 2 is empty: only map 1 counts
    assert found.others[2] == pytest.approx(found.uniform[2])
    assert light_fraction(maps[:1], masks[:1]).others.isna().all()


def test_every_quantity_of_every_map(trained_run: Path, capsys: pytest.CaptureFixture):
    images = open_splits(trained_run)[2].cache[:][:6]
    models = {key: open_model(trained_run, key) for key in ("linformer", "convnext")}
    per_galaxy, curves = check_maps(models.values(), images, steps=2)
    bars, masks = capsys.readouterr().err, galaxy_masks(images)
    assert all(f"check {key}: 100%" in bars for key in models)
    table = summarise_checks(per_galaxy)
    kinds = table[["model", "map"]].drop_duplicates().to_numpy().tolist()
    assert kinds == [["linformer", "attention"], ["linformer", "class"], ["convnext", "class"]]
    for (key, kind), rows in table.groupby(["model", "map"], sort=False):
        assert list(rows["quantity"]) == QUANTITIES
        model, known = models[key], rows.set_index("quantity")
        own = per_galaxy[(per_galaxy["model"] == key) & (per_galaxy["map"] == kind)]
        gain = bootstrap_interval((own["deletion_random"] - own["deletion_most"]).to_numpy())
        expected = own["insertion_most"] - own["insertion_random"]
        np.testing.assert_allclose(own["insertion_gain"], expected)
        assert known.loc["deletion_gain", "value":"high"].tolist() == pytest.approx(
            [gain.value, gain.low, gain.high]
        )
        prepared = model.prepare(images)
        classes = torch.from_numpy(predict_probabilities(model.network, prepared).argmax(axis=1))
        maps = attribution_maps(model.network, prepared)[kind]
        random = attribution_maps(randomise_weights(model.network), prepared, classes)[kind]
        fine = nn.Upsample(8, mode="bilinear")(maps[:, None])[:, 0]
        expected = {
            "other_galaxy_similarity": rank_correlation(maps, maps.roll(1, 0)),
            "randomised_similarity": rank_correlation(maps, random),
            "light": light_fraction(fine, masks).light,
        }
        for name, values in expected.items():
            np.testing.assert_allclose(own[name], values, atol=1e-3)
        mean = curves[(curves["model"] == key) & (curves["map"] == kind)]
        assert set(mean["order"]) == {"most", "random", "centre"}
        sure = predict_probabilities(model.network, prepared).max(axis=1).mean()
        ends = mean[(mean["kind"] == "deletion") & (mean["changed"] == 0)]
        assert ends["probability"].to_numpy() == pytest.approx(sure, abs=1e-3)
        assert ((mean["low"] <= mean["probability"]) & (mean["probability"] <= mean["high"])).all()
    for wrong in ((images[:1], 2), (images, 1)):
        with pytest.raises(Gz2vitError, match="galaxies in"):
            check_maps(models.values(), *wrong)


@pytest.mark.parametrize("weak", [(0.1, -0.1, 0.3), 3 * (np.nan,)])
def test_failures_are_named_and_only_they(weak: tuple):
    columns = ["model", "map", "quantity", "value", "low", "high"]
    good = ("vit", "class", "deletion_gain", 0.2, 0.1, 0.3)
    rows = [good, ("cnn", "class", "deletion_gain", *weak)]
    words = describe_failures(pd.DataFrame(rows, columns=columns))
    assert words.startswith("For 1 of 2 maps")
    assert ("cnn" in words, "vit" in words) == (True, False)
    assert describe_failures(pd.DataFrame([good], columns=columns)).startswith("For all 1 maps")
