"""The checks of maps: a network that looks at one patch alone shows what a map is worth."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from gz2vit import attention_checks
from gz2vit.attention import attribution_maps, predict_probabilities
from gz2vit.attention_checks import change_patches, light_fraction, rank_correlation, rank_patches
from gz2vit.attention_maps import open_model
from gz2vit.evaluation import bootstrap_interval
from gz2vit.io import Gz2vitError
from gz2vit.models import build_model
from tests.test_attention import SMALL, TIMM, build
from tests.trained_run import open_splits

QUANTITIES = [
    "deletion_most", "deletion_random", "deletion_centre", "deletion_gain",
    "insertion_most", "insertion_random", "insertion_gain", "deletion_gain_centre",
    "light", "light_gain", "light_gain_others", "randomised_similarity", "other_galaxy_similarity",
]  # fmt: skip
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


def changed(ranks: np.ndarray, insertion: bool = False, steps: int = 16) -> tuple:
    """Fractions changed, and class 1's probability while IMAGES become black, or the other way."""
    both = {"whole": IMAGES[: len(ranks)], "black": torch.zeros_like(IMAGES[: len(ranks)])}
    ends = tuple(both)[:: -1 if insertion else 1]
    first, last = (predict_probabilities(OnePatch(), both[one])[:, 1] for one in ends)
    fractions, found = change_patches(OnePatch(), both, [(*ends, ranks)], steps)
    return fractions, np.column_stack([first, found[0, :, :, 1], last])


def test_deletion_and_insertion_of_what_the_network_looks_at():
    maps = np.zeros((40, 4, 4))
    maps[:, 1, 2] = 1.0
    ranks = rank_patches(maps, "most")
    fractions, deletion = changed(ranks)
    assert fractions == pytest.approx(np.arange(17) / 16)
    assert deletion[:, 0] == pytest.approx(FULL)
    assert deletion[:, 1:] == pytest.approx(0.5)
    insertion = changed(ranks, insertion=True)[1]
    assert insertion[:, 0] == pytest.approx(0.5)
    assert insertion[:, 1:] == pytest.approx(FULL)
    # a right map beats random order, and a wrong one does not; at random the patch goes at any step
    right, random, wrong = (
        np.trapezoid(changed(rank_patches(*order))[1], dx=1 / 16, axis=1)
        for order in ((maps, "most"), (maps, "random"), (-maps, "most"))
    )
    assert right.max() < random.mean() < wrong.min()
    assert random.mean() == pytest.approx((FULL + 0.5) / 2, abs=0.05)
    # maps of any grid, with as many steps as patches at most
    fractions, found = changed(rank_patches(np.random.rand(2, 3, 3), "most"), steps=4)
    assert fractions == pytest.approx(np.array([0, 2, 4, 7, 9]) / 9)
    assert found[:, -1] == pytest.approx(0.5)
    fractions, _ = changed(rank_patches(np.random.rand(3, 2, 2), "most"), steps=100)
    assert fractions.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_orders_of_patches():
    empty, flat = np.zeros((5, 4, 4)), np.ones((50, 2, 2))
    ranks = rank_patches(empty, "random", seed=1)
    assert [sorted(one.ravel()) for one in ranks] == [list(range(16))] * 5
    assert len({tuple(one.ravel()) for one in ranks}) == 5
    assert np.array_equal(ranks, rank_patches(empty, "random", seed=1))
    assert not np.array_equal(ranks, rank_patches(empty, "random", seed=2))
    assert rank_patches(np.array([[[0.1, 0.9], [0.5, 0.3]]]), "most").tolist() == [[[3, 0], [1, 2]]]
    assert len({tuple(one.ravel()) for one in rank_patches(flat, "most")}) > 10  # ties at random
    centre = rank_patches(np.random.default_rng(0).random((2, 5, 5)), "centre")
    assert (centre[:, 2, 2] == 0).all()
    assert (centre[:, [0, 0, 4, 4], [0, 4, 0, 4]] >= 21).all()


def test_rank_correlation_is_spearmans():
    first, second = torch.rand(4, 5, 5), torch.rand(4, 5, 5).round(decimals=1)  # with ties
    second[1] = 1.0  # flat
    found = rank_correlation(first, second)
    assert np.isnan(found).tolist() == [False, True, False, False]
    for row in (0, 2, 3):
        expected = spearmanr(first[row].flatten(), second[row].flatten()).statistic
        assert found[row] == pytest.approx(expected)
    assert np.isnan(rank_correlation(first, torch.ones(4, 5, 5))).all()


@pytest.mark.parametrize("name", ["linformer", "vit", "hf_vit", TIMM, "resnet50"])
def test_patches_are_embedded_once_with_the_same_result(name: str):
    """Of embedded patches as of whole images; of a CNN there are only images."""
    network, images = build(name)
    grid, both = 2 if name == TIMM else 4, {"whole": images, "b": images.flip(0)}
    ranks = rank_patches(np.random.default_rng(0).random((3, grid, grid)), "most")
    changes = [("whole", "b", ranks), ("b", "whole", ranks)]
    fractions, found = change_patches(network, both, changes, 4)
    for number, fraction in enumerate(fractions[1:-1]):
        mask = torch.from_numpy(ranks < fraction * grid**2).repeat_interleave(32 // grid, 1)
        mask = mask.repeat_interleave(32 // grid, 2)[:, None]
        for own, (first, last, _) in zip(found, changes, strict=True):
            expected = predict_probabilities(network, torch.where(mask, both[last], both[first]))
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
    first, again, other = (attention_checks.randomise_weights(network, s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(one, before[name]) for name, one in network.state_dict().items())
    drawn, others = dict(again.named_parameters()), dict(other.named_parameters())
    for name, parameter in first.named_parameters():
        assert torch.equal(parameter, drawn[name])
        assert parameter.numel() == 1 or not torch.equal(parameter, before[name]), name
    assert not all(torch.equal(one, others[name]) for name, one in drawn.items())
    if architecture == "linformer":  # what has no known start is shuffled
        old, new = (one.pos_embedding.flatten() for one in (network, first))
        assert torch.equal(old.sort().values, new.sort().values)


def galaxies(*sigmas: float, side: int = 112) -> np.ndarray:
    """Round galaxies on noisy sky, (B, side, side, 3); none where sigma is 0."""
    rows, columns = np.mgrid[:side, :side]
    distance = (columns - 55.5) ** 2 + (rows - 55.5) ** 2
    light = [150 * np.exp(-distance / (2 * s**2)) if s else 0 * distance for s in sigmas]
    noise = np.random.default_rng(0).normal(20.0, 2.0, (len(sigmas), side, side))
    return np.repeat((np.stack(light) + noise)[..., None], 3, axis=3)


def test_fractions_of_known_maps():
    masks = attention_checks.galaxy_masks(galaxies(8, 8, 8))
    area, maps = masks.mean(axis=(1, 2)), torch.zeros(3, 14, 14)
    maps[0, 6:8, 6:8] = 1.0  # on the galaxy
    maps[1, 0, 0] = 1.0  # in a corner
    maps[2] = 0.5  # everywhere
    found = light_fraction(maps, masks)
    assert found.light.tolist() == pytest.approx([1.0, 0.0, area[2]])
    assert found.uniform.to_numpy() == pytest.approx(area)
    assert found.others[:2].tolist() == pytest.approx([area[0] / 2, (1 + area[1]) / 2])
    # a cell counts with the fraction of its pixels; what does not exist has no value
    assert light_fraction(torch.ones(3, 1, 1), masks).light.to_numpy() == pytest.approx(area)
    masks, maps = attention_checks.galaxy_masks(galaxies(8, 0, 8)), torch.ones(3, 4, 4)
    maps[2] = 0.0
    found = light_fraction(maps, masks)
    missing = found[["light", "uniform"]].isna().to_numpy().tolist()
    assert missing == [[False, False], [True, True], [True, False]]
    assert found.others[::2].tolist() == pytest.approx(found.uniform[::2])  # map 2 is empty
    assert light_fraction(maps[:1], masks[:1]).others.isna().all()


def test_every_quantity_of_every_map(trained_run: Path, capsys: pytest.CaptureFixture):
    images = open_splits(trained_run)[2].cache[:][:6]
    models = {key: open_model(trained_run, key) for key in ("linformer", "convnext")}
    per_galaxy, curves = attention_checks.check_maps(models.values(), images, steps=2)
    bars, masks = capsys.readouterr().err, attention_checks.galaxy_masks(images)
    assert all(f"check {key}: 100%" in bars for key in models)
    table = attention_checks.summarise_checks(per_galaxy)
    kinds = table[["model", "map"]].drop_duplicates().to_numpy().tolist()
    assert kinds == [["linformer", "attention"], ["linformer", "class"], ["convnext", "class"]]
    for (key, kind), rows in table.groupby(["model", "map"], sort=False):
        assert list(rows["quantity"]) == QUANTITIES
        own, mean = (one[(one.model == key) & (one["map"] == kind)] for one in (per_galaxy, curves))
        gain = bootstrap_interval((own["deletion_random"] - own["deletion_most"]).to_numpy())
        known = rows.set_index("quantity").loc["deletion_gain", "value":"high"].tolist()
        assert known == pytest.approx([gain.value, gain.low, gain.high])
        network, prepared = models[key].network, models[key].prepare(images)
        probabilities = predict_probabilities(network, prepared)
        classes = torch.from_numpy(probabilities.argmax(axis=1))
        other = attribution_maps(attention_checks.randomise_weights(network), prepared, classes)
        maps = attribution_maps(network, prepared)[kind]
        expected = {
            "insertion_gain": own["insertion_most"] - own["insertion_random"],
            "other_galaxy_similarity": rank_correlation(maps, maps.roll(1, 0)),
            "randomised_similarity": rank_correlation(maps, other[kind]),
            "light": light_fraction(nn.Upsample(8, mode="bilinear")(maps[None])[0], masks).light,
        }
        for name, values in expected.items():
            np.testing.assert_allclose(own[name], values, atol=1e-3)
        assert set(mean["order"]) == {"most", "random", "centre"}
        ends = mean.query("kind == 'deletion' and changed == 0")["probability"].to_numpy()
        assert ends == pytest.approx(probabilities.max(axis=1).mean(), abs=1e-3)
        assert ((mean["low"] <= mean["probability"]) & (mean["probability"] <= mean["high"])).all()
    for wrong in ((images[:1], 2), (images, 1)):
        with pytest.raises(Gz2vitError, match="galaxies in"):
            attention_checks.check_maps(models.values(), *wrong)


@pytest.mark.parametrize("weak", [(0.1, -0.1, 0.3), 3 * (np.nan,)])
def test_failures_are_named_and_only_they(weak: tuple):
    rows = [("vit", 0.2, 0.1, 0.3), ("cnn", *weak)]
    table = pd.DataFrame(rows, columns=["model", "value", "low", "high"])
    table = table.assign(map="class", quantity="deletion_gain")
    words = attention_checks.describe_failures(table)
    assert words.startswith("For 1 of 2 maps") and "cnn" in words and "vit" not in words
    assert attention_checks.describe_failures(table[:1]).startswith("For all 1 maps")
