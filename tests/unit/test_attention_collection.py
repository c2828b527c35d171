"""gz2vit.attention.collection: what is collected, times the values, is what the layer computed."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from gz2vit.attention import (
    attention_rollout,
    collect_attention,
    effective_attention,
    effective_row_sums,
)
from gz2vit.io import Gz2vitError
from gz2vit.models import build_model
from tests.unit.test_models import SMALL

TIMM = "timm/vit_tiny_patch16_224"
LINFORMERS = [
    {"share_kv": share_kv, "one_kv_head": one_kv_head}
    for share_kv in (False, True)
    for one_kv_head in (False, True)
]


def build(name: str, **hyperparameters: bool) -> tuple[nn.Module, torch.Tensor]:
    """A small network with random weights, and three images for it."""
    torch.manual_seed(0)
    sizes = SMALL.get(name, {"image_size": 32})
    return build_model(name, **sizes, **hyperparameters).eval(), torch.randn(3, 3, 32, 32)


def watch(network: nn.Module, images: torch.Tensor, before: list, behind: list) -> tuple:
    """What parts take in, and what parts return, in one ordinary pass of a network."""
    taken, given = [], []
    hooks = [one.register_forward_pre_hook(lambda _, i: taken.append(i[0])) for one in before]
    hooks += [one.register_forward_hook(lambda _, i, o: given.append(o)) for one in behind]
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    return taken, given


def by_head(values: torch.Tensor, dim_head: int) -> torch.Tensor:
    """(B, N, H d) to (B, H, N, d)."""
    return values.unflatten(2, (-1, dim_head)).transpose(1, 2)


# For each family: the layers; their last projection; what makes values; values of what it made.
Parts = tuple[Callable, Callable, Callable, Callable]
LAYERS: dict[str, Parts] = {
    "vit": (
        lambda n: [layer[0].fn for layer in n.transformer.layers],
        lambda layer: layer.to_out,
        lambda layer: layer.to_qkv,
        lambda layer, made: by_head(made.chunk(3, dim=-1)[2], 64),
    ),
    "hf_vit": (
        lambda n: [layer.attention for layer in n.model.vit.layers],
        lambda layer: layer.o_proj,
        lambda layer: layer.v_proj,
        lambda layer, made: by_head(made, layer.head_dim),
    ),
    TIMM: (
        lambda n: [block.attn for block in n.blocks],
        lambda layer: layer.proj,
        lambda layer: layer.qkv,
        lambda layer, made: by_head(made.chunk(3, dim=-1)[2], layer.head_dim),
    ),
    "linformer": (
        lambda n: [block[0].fn for block in n.transformer.net.layers],
        lambda layer: layer.to_out,
        lambda layer: layer.to_k if layer.share_kv else layer.to_v,
        lambda layer, made: by_head(made, layer.dim_head),
    ),
}


def check_products(name: str, network: nn.Module, images: torch.Tensor) -> None:
    """Attention times values is what goes into the layer's last projection."""
    layers_of, last, maker, values_of = LAYERS[name]
    layers = layers_of(network)
    attentions = collect_attention(network, images, normalised=False)
    results, made = watch(network, images, [last(x) for x in layers], [maker(x) for x in layers])
    assert len(attentions) == len(layers) == len(results)
    for layer, weights, result, one in zip(layers, attentions, results, made, strict=True):
        product = weights @ values_of(layer, one)  # (B, H, N, d)
        found = product.transpose(1, 2).flatten(2)
        assert found.shape == result.shape
        assert torch.allclose(found, result, atol=1e-5)


@pytest.mark.parametrize("name", ["vit", "hf_vit", TIMM])
def test_attention_times_values_is_the_layers_result(name: str):
    network, images = build(name)
    check_products(name, network, images)
    for weights in collect_attention(network, images):
        assert torch.allclose(weights.sum(dim=-1), torch.ones(()), atol=1e-5)


@pytest.mark.parametrize("options", LINFORMERS)
def test_effective_attention_times_values_is_the_layers_result(options: dict):
    network, images = build("linformer", **options)
    check_products("linformer", network, images)


@pytest.mark.parametrize("options", LINFORMERS)
def test_effective_rows_sum_to_what_the_docstring_derives(options: dict):
    network, images = build("linformer", **options)
    layers = LAYERS["linformer"][0](network)
    # a layer's own P: what it hands to its dropout
    weights, _ = watch(network, images, [layer.dropout for layer in layers], [])
    effective = collect_attention(network, images, normalised=False)
    for layer, own, whole in zip(layers, weights, effective, strict=True):
        projection = layer.proj_k if layer.share_kv else layer.proj_v
        assert torch.allclose(whole.sum(-1), own @ projection.sum(dim=0), atol=1e-6)
        assert whole.min() < 0
        assert (whole.sum(-1) - 1).abs().max() > 0.1


@pytest.mark.parametrize("options", LINFORMERS)
def test_row_sums_are_told_layer_by_layer_between_the_ends_of_f(options: dict):
    network, images = build("linformer", **options)
    table = effective_row_sums(network, images)
    effective = collect_attention(network, images, normalised=False)
    assert table.index.tolist() == [1, 2]
    for row, whole in zip(table.itertuples(), effective, strict=True):
        assert row.row_sum_low == pytest.approx(whole.sum(-1).min().item(), abs=1e-6)
        assert row.row_sum_high == pytest.approx(whole.sum(-1).max().item(), abs=1e-6)
        assert row.f_low - 1e-6 <= row.row_sum_low < row.row_sum_high <= row.f_high + 1e-6
        assert row.negative == pytest.approx((whole < 0).float().mean().item(), abs=1e-6)
    with pytest.raises(Gz2vitError, match="ViT is no Linformer; its rows sum to 1"):
        effective_row_sums(*build("vit"))


def test_normalised_rows_are_distributions_and_roll_out():
    network, images = build("linformer")
    normalised = collect_attention(network, images)
    exact = collect_attention(network, images, normalised=False)
    for share, weights in zip(normalised, exact, strict=True):
        assert torch.allclose(share, weights.abs() / weights.abs().sum(-1, keepdim=True))
    assert attention_rollout(normalised).shape == (3, 4, 4)
    with pytest.raises(Gz2vitError, match="collect_attention with normalised=True"):
        attention_rollout(exact)


def test_effective_attention_of_numbers():
    weights = torch.tensor([[[[0.25, 0.75]]]])  # one token attends to two projected keys
    projection = torch.tensor([[4.0, 0.0], [0.0, -4.0]])  # of two tokens
    assert effective_attention(weights, projection).tolist() == [[[[1.0, -3.0]]]]
    assert effective_attention(weights, projection, True).tolist() == [[[[0.25, 0.75]]]]


def test_smaller_images_use_the_first_rows_of_the_projection():
    network, _ = build("linformer")
    images = torch.randn(2, 3, 16, 16)  # 4 + 1 of the 16 + 1 tokens
    check_products("linformer", network, images)


@pytest.mark.parametrize("name", ["linformer", "vit", "hf_vit", TIMM])
def test_the_network_is_left_as_it_was(name: str):
    network, images = build(name)
    with torch.no_grad():
        before = network(images)
    network.train()
    attentions = collect_attention(network, images)
    assert not attentions[0].requires_grad
    assert all(part.training for part in network.modules())
    if name == "hf_vit":
        assert network.model.config._attn_implementation == "sdpa"
    if name == TIMM:
        assert all(block.attn.fused_attn for block in network.blocks)
    else:  # timm has hooks of its own
        assert not any(part._forward_hooks for part in network.modules()) or name == "hf_vit"
    with torch.no_grad():
        assert torch.equal(network.eval()(images), before)


def test_attention_is_that_of_evaluation_mode():
    network, images = build("vit")
    first, second = (collect_attention(network.train(), images) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)


def test_a_cnn_has_none():
    network, images = build("backbone")
    with pytest.raises(Gz2vitError, match="for a CNN take class_activation"):
        collect_attention(network, images)


def test_blocks_of_another_kind_are_refused():
    """Cait has a class token and blocks, but they mix heads; it must not fail on a foreign name."""
    with torch.device("meta"):
        network = build_model("timm/cait_xxs24_224", image_size=32)
    with pytest.raises(Gz2vitError, match="Cait has no attention between a class token and all"):
        collect_attention(network, torch.randn(1, 3, 32, 32))
