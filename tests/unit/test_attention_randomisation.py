"""gz2vit.attention.randomisation: nothing learnt is left, and nothing else is touched."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from gz2vit.attention import gaze
from gz2vit.attention_checks import randomise_weights, randomised_similarity, rank_correlation
from gz2vit.io import Gz2vitError
from gz2vit.models import ARCHITECTURES, build_model
from tests.unit.test_models import SMALL


def test_rank_correlation_is_spearmans():
    torch.manual_seed(0)
    first, second = torch.rand(4, 5, 5), torch.rand(4, 5, 5).round(decimals=1)  # with ties
    expected = [
        spearmanr(one.flatten(), other.flatten()).statistic
        for one, other in zip(first.numpy(), second.numpy(), strict=True)
    ]
    assert rank_correlation(first, second) == pytest.approx(expected)
    assert rank_correlation(first, first.exp()) == pytest.approx(1.0)
    assert rank_correlation(first, -first) == pytest.approx(-1.0)
    assert np.isnan(rank_correlation(first, torch.ones(4, 5, 5))).all()
    with pytest.raises(Gz2vitError, match="bring them to one size with resize_maps"):
        rank_correlation(first, torch.rand(4, 2, 2))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_weight_that_could_have_been_learnt_is_drawn_anew(architecture: str):
    torch.manual_seed(0)
    network = build_model(architecture, **SMALL[architecture])
    with torch.no_grad():  # as if trained: nothing stands at its start
        for parameter in network.parameters():
            parameter.add_(torch.rand_like(parameter))
    before = {name: one.clone() for name, one in network.state_dict().items()}
    generator = torch.get_rng_state()
    first, again, other = (randomise_weights(network, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(one, before[name]) for name, one in network.state_dict().items())
    drawn = dict(again.named_parameters())
    for name, parameter in first.named_parameters():
        assert torch.equal(parameter, drawn[name])
        if parameter.numel() > 1:
            assert not torch.equal(parameter, before[name]), name
    images = torch.randn(2, 3, 32, 32)
    assert not torch.equal(first.eval()(images), other.eval()(images))


def test_what_has_no_known_start_is_shuffled():
    network = build_model("linformer", **SMALL["linformer"])
    fresh = randomise_weights(network)
    for name in ("pos_embedding", "cls_token"):
        old, new = getattr(network, name).flatten(), getattr(fresh, name).flatten()
        assert torch.equal(old.sort().values, new.sort().values)
        assert not torch.equal(old, new)


@pytest.mark.parametrize("of_class", [False, True])
def test_similarity_is_between_the_maps_of_both(of_class: bool):
    torch.manual_seed(0)
    network = build_model("vit", **SMALL["vit"]).eval()
    images = torch.randn(3, 3, 32, 32)
    found = randomised_similarity(network, images, 4, of_class)
    with torch.no_grad():
        classes = network(images).argmax(dim=1)
    learnt = gaze(network, images, classes, of_class).maps
    random = gaze(randomise_weights(network, 4), images, classes, of_class).maps
    assert found == pytest.approx(rank_correlation(learnt, random))
    assert found.shape == (3,)
    assert (np.abs(found) <= 1).all()
