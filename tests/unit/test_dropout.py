"""Dropout's masks: torch's distribution, torch's generator, torch's gradients."""

import pytest
import torch
from scipy import stats
from torch import nn

from gz2vit.models import MaskDropout, build_model, use_mask_dropout


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
def test_drops_with_the_right_probability_and_keeps_the_mean(p: float):
    torch.manual_seed(0)
    count = 1_000_003  # not a multiple of four
    out = MaskDropout(p)(torch.ones(count))
    dropped = int((out == 0).sum())
    assert stats.binomtest(dropped, count, p).pvalue > 1e-3
    assert out[out != 0].unique().tolist() == pytest.approx([1 / (1 - p)])


def test_the_mean_is_kept_in_bfloat16_too():
    """There 1 / 0.9 rounded to 8 bits would shift it by 0.2 %."""
    torch.manual_seed(0)
    values = torch.linspace(1.0, 2.0, 1_000_000).bfloat16()
    out = MaskDropout(0.1)(values)
    assert out.dtype == torch.bfloat16
    kept = out != 0
    ratio = out[kept].double().mean() / values[kept].double().mean()
    assert ratio.item() == pytest.approx(1 / 0.9, rel=2e-4)


def test_elements_are_dropped_independently():
    """Neighbours share a 64-bit draw; their drops must not know of each other."""
    torch.manual_seed(1)
    dropped = (MaskDropout(0.5)(torch.ones(400_000)) == 0).view(-1, 4)
    patterns = (dropped.long() * torch.tensor([1, 2, 4, 8])).sum(dim=1)
    assert stats.chisquare(torch.bincount(patterns, minlength=16).numpy()).pvalue > 1e-3


def test_the_generators_seed_decides():
    values, dropout = torch.randn(7, 11), MaskDropout(0.4)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, second = dropout(values), dropout(values)
    torch.set_rng_state(state)
    assert torch.equal(dropout(values), first)
    assert not torch.equal(first, second)


def test_gradients_pass_where_values_do():
    values = torch.randn(50, 4, requires_grad=True)
    out = MaskDropout(0.25)(values)
    out.sum().backward()
    assert torch.equal(values.grad != 0, out != 0)
    assert values.grad.max().item() == pytest.approx(4 / 3)


@pytest.mark.parametrize("p", [0.0, 0.1, 1.0])
def test_evaluation_and_the_ends_are_torchs(p: float):
    values = torch.randn(20)
    assert torch.equal(MaskDropout(p).eval()(values), values)
    if p in (0.0, 1.0):
        assert torch.equal(MaskDropout(p)(values), nn.Dropout(p)(values))


def test_every_dropout_of_a_network_is_replaced():
    network = use_mask_dropout(nn.Sequential(nn.Dropout(0.2), nn.Sequential(nn.Dropout(0.3))))
    assert [type(network[0]), type(network[1][0])] == [MaskDropout, MaskDropout]
    assert (network[0].p, network[1][0].p) == (0.2, 0.3)
    linformer = build_model("linformer", depth=2, dropout=0.15)
    dropouts = [part for part in linformer.modules() if isinstance(part, nn.Dropout)]
    assert {type(part) for part in dropouts} == {MaskDropout}
    assert {part.p for part in dropouts} == {0.15}
