"""Attention and class activation: what is collected is what the network computes, by definition."""

from collections.abc import Callable
from functools import partial
from operator import attrgetter

import numpy as np
import pytest
import torch
from torch import nn

from gz2vit import attention
from gz2vit.attention import attention_rollout, attribution_maps, collect_attention
from gz2vit.io import Gz2vitError
from gz2vit.models import build_model

TRANSFORMER = {"image_size": 32, "patch_size": 8, "depth": 2, "dim": 16, "heads": 4}
SMALL = {
    "linformer": TRANSFORMER | {"k_dim": 4}, "vit": TRANSFORMER | {"mlp_dim": 8},
    "hf_vit": TRANSFORMER | {"mlp_dim": 8}, "resnet50": {}, "vgg16_bn": {},
    "backbone": {"name": "timm/convnext_atto", "image_size": 32},
}  # fmt: skip
TIMM = "timm/vit_tiny_patch16_224"
SWIN, MIXER = "timm/swin_tiny_patch4_window7_224", "timm/mixer_s32_224"
LINFORMERS = [{"share_kv": a, "one_kv_head": b} for a in (False, True) for b in (False, True)]


def build(name: str, side: int = 32, **hyperparameters: bool) -> tuple[nn.Module, torch.Tensor]:
    """A small network with random weights, and three images for it."""
    torch.manual_seed(0)
    sizes = SMALL.get(name, {"image_size": side})
    return build_model(name, **sizes, **hyperparameters).eval(), torch.randn(3, 3, side, side)


def by_head(values: torch.Tensor, dim_head: int) -> torch.Tensor:
    """(B, N, H d) to (B, H, N, d)."""
    return values.unflatten(2, (-1, dim_head)).transpose(1, 2)


# For each family: its layers; their last projection; what makes values; values of what it made.
LAYERS = {
    "vit": (
        lambda n: [layer[0].fn for layer in n.transformer.layers],
        attrgetter("to_out"), attrgetter("to_qkv"),
        lambda layer, made: by_head(made.chunk(3, dim=-1)[2], 64),
    ),
    "hf_vit": (
        lambda n: [layer.attention for layer in n.model.vit.layers],
        attrgetter("o_proj"), attrgetter("v_proj"),
        lambda layer, made: by_head(made, layer.head_dim),
    ),
    TIMM: (
        lambda n: [block.attn for block in n.blocks], attrgetter("proj"), attrgetter("qkv"),
        lambda layer, made: by_head(made.chunk(3, dim=-1)[2], layer.head_dim),
    ),
    "linformer": (
        attention.linformer_layers, attrgetter("to_out"),
        lambda layer: layer.to_k if layer.share_kv else layer.to_v,
        lambda layer, made: by_head(made, layer.dim_head),
    ),
}  # fmt: skip


def check_products(name: str, network: nn.Module, images: torch.Tensor) -> None:
    """Attention times values is what goes into the layer's last projection, in an ordinary pass."""
    layers_of, last, maker, values_of = LAYERS[name]
    layers, results, made = layers_of(network), [], []
    attentions = collect_attention(network, images, normalised=False)
    for layer in layers:
        last(layer).register_forward_pre_hook(lambda _, inputs: results.append(inputs[0]))
        maker(layer).register_forward_hook(lambda _, i, output: made.append(output))
    with torch.no_grad():
        network(images)
    assert len(attentions) == len(layers) == len(results)
    if name != "linformer":
        attention_rollout(attentions)  # rows are distributions
    for layer, weights, result, one in zip(layers, attentions, results, made, strict=True):
        found = (weights @ values_of(layer, one)).transpose(1, 2).flatten(2)
        assert torch.allclose(found, result, atol=1e-5)


@pytest.mark.parametrize("name", ["vit", "hf_vit", TIMM])
def test_attention_times_values_is_the_layers_result(name: str):
    check_products(name, *build(name))


@pytest.mark.parametrize("options", LINFORMERS)
def test_a_linformers_effective_attention_is_exact(options: dict):
    network, images = build("linformer", **options)
    exact = collect_attention(network, images, normalised=False)
    for whole, layer in zip(exact, attention.linformer_layers(network), strict=True):
        sums, f = whole.sum(-1), attention.value_projection(layer).sum(dim=0)
        assert f.min() - 1e-6 <= sums.min() < sums.max() <= f.max() + 1e-6
        assert whole.min() < 0
    for share, whole in zip(collect_attention(network, images), exact, strict=True):
        assert torch.allclose(share, whole.abs() / whole.abs().sum(-1, keepdim=True))
    with pytest.raises(Gz2vitError):
        attention_rollout(exact)  # its rows are not distributions
    check_products("linformer", network, images)
    check_products("linformer", network, images[:, :, :16, :16])  # 5 of the 17 tokens


@pytest.mark.parametrize("name", ["linformer", "vit", "hf_vit", TIMM, "timm/convnext_atto"])
def test_maps_leave_the_network_and_do_not_mix_images(name: str, monkeypatch: pytest.MonkeyPatch):
    network, images = build(name)
    with torch.no_grad():
        before = network(images)
    network.train().requires_grad_(False)
    with torch.inference_mode():
        maps = attribution_maps(network, images)
    assert not any(one.requires_grad for one in (images, *maps.values()))
    threads = torch.get_num_threads()
    monkeypatch.setattr(attention, "BATCH_SIZE", 1)
    try:
        for count in (1, 2):  # which share the images, not a batch
            torch.set_num_threads(count)
            for kind, one in attribution_maps(network, images).items():
                assert torch.allclose(one, maps[kind], atol=1e-3)
            found = attention.predict_probabilities(network, images)
            assert found == pytest.approx(before.softmax(1).numpy(), abs=1e-6)
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    for kind, alone in attribution_maps(network, images[1:2]).items():
        assert torch.allclose(alone, maps[kind][1:2], atol=1e-3)
    with torch.no_grad():
        assert torch.equal(network(images), before)
    if name == TIMM:
        assert all(block.attn.fused_attn for block in network.blocks)


def random_attention(layers: int = 4, heads: int = 3, grid: int = 3) -> list[torch.Tensor]:
    """Softmax rows, float32 (2, heads, N, N) for each layer; sharp, so that layers differ."""
    torch.manual_seed(0)
    return [(2 * torch.randn(2, heads, *2 * [grid**2 + 1])).softmax(-1) for _ in range(layers)]


def test_rollout_is_the_definition():
    """Whole matrices of the paper's recipe, in float64: of the heads' mean, and of each."""
    attentions, product = random_attention(), np.eye(10)
    maps = (attention_rollout(attentions)[:, None], attention_rollout(attentions, each_head=True))
    for weights in (layer.double().numpy() for layer in attentions):
        weights = np.concatenate([weights.mean(axis=1, keepdims=True), weights], axis=1)
        product = (weights + np.eye(10)) / 2 @ product
    expected = product[:, :, 0, 1:] / product[:, :, :1, 1:].max(axis=3)
    assert all(one.dtype == torch.float32 for one in maps)
    found = torch.cat(maps, dim=1).flatten(2).numpy()
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_last_layer_comes_last():
    """The class token takes from patch 1 in the last layer, which took from patch 3 in the first:
    the other way round nothing would reach it from patch 3."""
    first, last = torch.eye(5), torch.eye(5)
    first[1], last[0] = torch.eye(5)[3], torch.eye(5)[1]
    maps = attention_rollout([first[None, None], last[None, None]])
    assert maps[0].flatten().tolist() == [1.0, 0.0, 1.0, 0.0]
    turned = attention_rollout([last[None, None], first[None, None]])
    assert turned[0].flatten().tolist() == [1.0, 0.0, 0.0, 0.0]
    assert not attention_rollout([torch.eye(5)[None, None]]).any()  # a token that looks nowhere
    rough = [layer.bfloat16() for layer in random_attention(grid=14)]
    assert attention_rollout(rough).amax() == 1.0  # half precision is within the tolerance


@pytest.mark.parametrize(("wrong", "named"), [
    (torch.eye(6), "6 tokens"), (torch.eye(1), "1 tokens"),
    (torch.eye(5) * (1 + 1.1 * attention.ROW_SUM_TOLERANCE), "0.0055"),
    (float("nan"), "layer 1"), (float("inf"), "layer 1"), (-0.5, "layer 1 .* -0.5"),
])  # fmt: skip
def test_what_is_not_attention_is_refused(wrong: torch.Tensor | float, named: str):
    attentions = random_attention()
    if isinstance(wrong, float):
        attentions[1][0, 1, 2, 3] = wrong
    else:
        attentions = [wrong[None, None]]
    with pytest.raises(Gz2vitError, match=named):
        attention_rollout(attentions)


def attend_by_matrix(layer: nn.Module, kept: list, tokens: torch.Tensor) -> torch.Tensor:
    """A Linformer layer's forward by its effective attention (B, H, N, N), which `kept` gets.

    Computed anew in the pass: later layers attend otherwise when an earlier one does, and the
    gradient goes through all that follows.
    """
    _, _, maker, values_of = LAYERS["linformer"]
    queries = by_head(layer.to_q(tokens), layer.dim_head)
    keys = layer.proj_k.T @ by_head(layer.to_k(tokens), layer.dim_head)  # (B, H, k, d)
    shares = (queries @ keys.transpose(2, 3) / layer.dim_head**0.5).softmax(dim=-1)
    kept.append(shares @ (layer.proj_k if layer.share_kv else layer.proj_v).T)
    result = kept[-1] @ values_of(layer, maker(layer)(tokens))
    return layer.to_out(result.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("options", [*LINFORMERS, None])
def test_relevance_is_the_definition(options: dict | None):
    """Maps of whole matrices, in float64: R = R + C R, layer after layer."""
    network, images = build("vit") if options is None else build("linformer", **options)
    maps, kept = attribution_maps(network, images, torch.tensor([1, 2, 3]))["class"], []
    if options is None:
        for layer in LAYERS["vit"][0](network):
            layer.attend.register_forward_hook(lambda _, i, o: kept.append(o))
    else:
        for layer in attention.linformer_layers(network):
            layer.forward = partial(attend_by_matrix, layer, kept)
    score = network(images)[[0, 1, 2], [1, 2, 3]].sum()
    relevance = torch.eye(17, dtype=torch.float64)
    for weights, gradient in zip(kept, torch.autograd.grad(score, kept), strict=True):
        contribution = (weights * gradient).detach().double().clamp(min=0).mean(dim=1)
        relevance = relevance + contribution @ relevance
    expected = relevance[:, 0, 1:].unflatten(1, (4, 4))
    expected = expected / expected.amax(dim=(1, 2), keepdim=True)
    assert maps.dtype == torch.float32
    assert maps.numpy() == pytest.approx(expected.numpy(), abs=1e-4)


@pytest.mark.parametrize(("name", "side", "stage", "cells", "turned"), [
    ("resnet50", 64, 2, 4, torch.clone),
    ("resnet50", 8, 0, 2, torch.clone),  # none is as fine: the first
    ("vgg16_bn", 32, 3, 4, torch.clone),
    ("timm/convnext_atto", 64, 2, 4, torch.clone),
    # Transformers without a class token: planes (B, h, w, C), or tokens (B, h w, C).
    (SWIN, 224, -1, 7, lambda planes: planes.permute(0, 3, 1, 2)),
    (MIXER, 224, -1, 7, lambda tokens: tokens.transpose(1, 2).unflatten(2, (7, 7))),
])  # fmt: skip
def test_class_activation_is_the_definition(
    name: str, side: int, stage: int, cells: int, turned: Callable
):
    (network, images), kept = build(name, side), []
    found = attribution_maps(network, images, torch.tensor([3, 5, 0]))["class"]
    assert found.shape == (3, cells, cells)
    assert not any(part._forward_hooks for part in network.modules())
    last = attention.stages_of(network)[stage]
    last.register_forward_hook(lambda _, i, output: kept.append(output))
    score = network(images)[[0, 1, 2], [3, 5, 0]].sum()
    weights = turned(torch.autograd.grad(score, kept[0])[0]).mean(dim=(2, 3), keepdim=True)
    maps = (weights * turned(kept[0])).detach().sum(dim=1).clamp(min=0)  # (B, h, w)
    expected = (maps / maps.amax(dim=(1, 2), keepdim=True)).nan_to_num()  # a flat map stays 0
    assert found.numpy() == pytest.approx(expected.numpy(), abs=1e-4)


TWO, CAM = ([attention.ROLLOUT, attention.CLASS_RELEVANCE], [attention.CLASS_ACTIVATION])
METHODS = {
    "linformer": ("linformer", [attention.EFFECTIVE_ROLLOUT, attention.CLASS_RELEVANCE]),
    "vit": ("vit", TWO), "hf_vit": ("hugging_face", TWO),
    "resnet50": ("resnet", CAM), "vgg16_bn": ("vgg", CAM), "backbone": ("timm", CAM),
}  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_every_architecture_has_maps(name: str, monkeypatch: pytest.MonkeyPatch):
    network, images = build(name)
    methods = list(attention.methods_of(network).values())
    assert (attention.family_of(network), methods) == METHODS[name]
    classes = torch.tensor([0, 5, 2])
    whole = attribution_maps(network, images, classes)
    monkeypatch.setattr("gz2vit.attention.BATCH_SIZE", 2)
    for kind, maps in attribution_maps(network, images, classes).items():
        assert torch.allclose(maps, whole[kind], atol=1e-3)
        assert maps.amin() >= 0 and maps.amax() <= 1
    if methods == CAM:
        assert whole["class"].shape == (3, attention.LEAST_CELLS, attention.LEAST_CELLS)
        return
    attentions = collect_attention(network, images)
    assert torch.allclose(whole["attention"], attention_rollout(attentions), atol=1e-5)
    assert torch.allclose(whole["heads"], attention_rollout(attentions, True), atol=1e-5)


@pytest.mark.parametrize(("method", "name", "named"), [
    (attention.class_activation, "vit", "ViT"),
    (attention.class_activation, "hf_vit", "HuggingFaceClassifier"),
    (collect_attention, "backbone", "ConvNeXt"),
    (attribution_maps, "timm/cait_xxs24_224", "Cait"),  # a class token and blocks, but mixes heads
    (attribution_maps, "timm/deit_tiny_distilled_patch16_224", "6 tokens"),
])  # fmt: skip
def test_networks_that_a_method_does_not_fit(method: Callable, name: str, named: str):
    with pytest.raises(Gz2vitError, match=named):
        method(*build(name))


def test_what_cannot_be_looked_into():
    with pytest.raises(Gz2vitError, match="Linear"):
        attention.family_of(nn.Linear(1, 1))
    for shape in ((3, 8, 8), (0, 3, 32, 32), (1, 1, 32, 32)):
        with pytest.raises(Gz2vitError, match="32|8, 8"):
            attention.predict_probabilities(build("vit")[0], torch.zeros(shape))
    with pytest.raises(Gz2vitError, match="uint8"):
        attention.predict_probabilities(
            build("vit")[0], torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
        )
