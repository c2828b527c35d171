"""Attention and class activation: what is collected is what the network computes, by definition."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from gz2vit.attention import (
    CLASS_ACTIVATION,
    CLASS_RELEVANCE,
    EFFECTIVE_ROLLOUT,
    LEAST_CELLS,
    ROLLOUT,
    ROW_SUM_TOLERANCE,
    attention_rollout,
    attribution_maps,
    class_activation,
    collect_attention,
    family_of,
    linformer_layers,
    methods_of,
    predict_probabilities,
    stages_of,
    value_projection,
)
from gz2vit.io import Gz2vitError
from gz2vit.models import build_model

TRANSFORMER = {"image_size": 32, "patch_size": 8, "depth": 2, "dim": 16, "heads": 4}
SMALL = {
    "linformer": TRANSFORMER | {"k_dim": 4},
    "vit": TRANSFORMER | {"mlp_dim": 8},
    "hf_vit": TRANSFORMER | {"mlp_dim": 8},
    "resnet50": {},
    "vgg16_bn": {},
    "backbone": {"name": "timm/convnext_atto", "image_size": 32},
}
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
        linformer_layers,
        lambda layer: layer.to_out,
        lambda layer: layer.to_k if layer.share_kv else layer.to_v,
        lambda layer, made: by_head(made, layer.dim_head),
    ),
}


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
    for whole, layer in zip(exact, linformer_layers(network), strict=True):
        sums, f = whole.sum(-1), value_projection(layer).sum(dim=0)
        assert f.min() - 1e-6 <= sums.min() < sums.max() <= f.max() + 1e-6
        assert whole.min() < 0
    for share, whole in zip(collect_attention(network, images), exact, strict=True):
        assert torch.allclose(share, whole.abs() / whole.abs().sum(-1, keepdim=True))
    with pytest.raises(Gz2vitError):
        attention_rollout(exact)  # its rows are not distributions
    check_products("linformer", network, images)
    check_products("linformer", network, images[:, :, :16, :16])  # 5 of the 17 tokens


@pytest.mark.parametrize("name", ["linformer", "vit", "hf_vit", TIMM, "timm/convnext_atto"])
def test_maps_leave_the_network_and_do_not_mix_images(name: str):
    network, images = build(name)
    with torch.no_grad():
        before = network(images)
    network.train().requires_grad_(False)
    with torch.inference_mode():
        maps = attribution_maps(network, images)
    assert not any(one.requires_grad for one in (images, *maps.values()))
    assert predict_probabilities(network, images) == pytest.approx(before.softmax(1), abs=1e-6)
    for kind, alone in attribution_maps(network, images[1:2]).items():
        assert torch.allclose(alone, maps[kind][1:2], atol=1e-3)
    with torch.no_grad():
        assert torch.equal(network(images), before)
    if name == TIMM:
        assert all(block.attn.fused_attn for block in network.blocks)


@pytest.mark.parametrize("name", ["linformer", "hf_vit", "resnet50"])
def test_threads_share_the_images_not_a_batch(name: str):
    network, images = build(name)
    alone, threads = predict_probabilities(network, images), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = predict_probabilities(network, images)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_allclose(found, alone, atol=1e-6)


def random_attention(layers: int = 4, heads: int = 3, grid: int = 3) -> list[torch.Tensor]:
    """Softmax rows, float32 (2, heads, N, N) for each layer; sharp, so that layers differ."""
    torch.manual_seed(0)
    return [(2 * torch.randn(2, heads, *2 * [grid**2 + 1])).softmax(-1) for _ in range(layers)]


def test_rollout_is_the_definition():
    """Whole matrices of the paper's recipe, in float64: of the heads' mean, and of each."""
    attentions = random_attention()
    average, heads = attention_rollout(attentions), attention_rollout(attentions, each_head=True)
    for head, maps in ((None, average), *((head, heads[:, head]) for head in range(3))):
        for galaxy in range(2):
            product = np.eye(10)
            for layer in attentions:
                weights = layer[galaxy].double().numpy()
                mean = weights.mean(axis=0) if head is None else weights[head]
                product = (mean + np.eye(10)) / 2 @ product
            expected = product[0, 1:].reshape(3, 3)
            assert maps[galaxy].numpy() == pytest.approx(expected / expected.max(), abs=1e-6)
        assert maps.dtype == torch.float32


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


def spoilt(value: float) -> list[torch.Tensor]:
    """Attention with one entry replaced in the second layer."""
    attentions = random_attention()
    attentions[1][0, 1, 2, 3] = value
    return attentions


@pytest.mark.parametrize(
    ("attentions", "named"),
    [
        ([torch.eye(6)[None, None]], "6 tokens"),
        ([torch.eye(1)[None, None]], "1 tokens"),
        (spoilt(float("nan")), "layer 1"),
        (spoilt(float("inf")), "layer 1"),
        (spoilt(-0.5), "layer 1 .* -0.5"),
        ([torch.eye(5)[None, None] * (1 + 1.1 * ROW_SUM_TOLERANCE)], "0.0055"),
    ],
)
def test_what_is_not_attention_is_refused(attentions: list, named: str):
    with pytest.raises(Gz2vitError, match=named):
        attention_rollout(attentions)


def linformer_pairs(network: nn.Module, images: torch.Tensor, wanted: list[int]) -> list[tuple]:
    """Each Linformer layer's effective attention as a matrix in the network's way, its gradient.

    Later layers attend otherwise when an earlier one does, so that each matrix is computed anew in
    the pass, from the layer's own queries and keys: the gradient goes through all that follows.
    """
    _, _, maker, values_of = LAYERS["linformer"]
    attentions = []

    def instead(layer: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        def forward(tokens: torch.Tensor) -> torch.Tensor:
            queries = by_head(layer.to_q(tokens), layer.dim_head)
            keys = layer.proj_k.T @ by_head(layer.to_k(tokens), layer.dim_head)  # (B, H, k, d)
            shares = (queries @ keys.transpose(2, 3) / layer.dim_head**0.5).softmax(dim=-1)
            attentions.append(shares @ (layer.proj_k if layer.share_kv else layer.proj_v).T)
            result = attentions[-1] @ values_of(layer, maker(layer)(tokens))
            return layer.to_out(result.transpose(1, 2).flatten(2))

        return forward

    for layer in linformer_layers(network):
        layer.forward = instead(layer)
    logits = network(images)
    score = sum(logits[row, index] for row, index in enumerate(wanted))
    return list(zip(attentions, torch.autograd.grad(score, attentions), strict=True))


@pytest.mark.parametrize("options", [*LINFORMERS, None])
def test_relevance_is_the_definition(options: dict | None):
    """Maps of whole matrices, in float64: R = R + C R, layer after layer."""
    network, images = build("vit") if options is None else build("linformer", **options)
    maps = attribution_maps(network, images, torch.tensor([1, 2, 3]))["class"]
    if options is None:
        kept: list[torch.Tensor] = []
        for layer in LAYERS["vit"][0](network):
            layer.attend.register_forward_hook(lambda _, i, o: kept.append(o))
        logits = network(images)
        score = logits[0, 1] + logits[1, 2] + logits[2, 3]
        pairs = list(zip(kept, torch.autograd.grad(score, kept), strict=True))
    else:
        pairs = linformer_pairs(network, images, [1, 2, 3])
    relevance = torch.eye(17, dtype=torch.float64)
    for weights, gradient in pairs:
        contribution = (weights * gradient).detach().double().clamp(min=0).mean(dim=1)
        relevance = relevance + contribution @ relevance
    expected = relevance[:, 0, 1:].unflatten(1, (4, 4))
    expected = expected / expected.amax(dim=(1, 2), keepdim=True)
    assert maps.dtype == torch.float32
    assert maps.numpy() == pytest.approx(expected.numpy(), abs=1e-4)


def grad_cam(
    network: nn.Module,
    images: torch.Tensor,
    wanted: list[int],
    stage: int = -1,
    turned: Callable[[torch.Tensor], torch.Tensor] = lambda planes: planes,
) -> np.ndarray:
    """Maps (B, h, w) by definition; `turned` makes planes (B, C, h, w) of what a stage returns."""
    kept = []
    hook = stages_of(network)[stage].register_forward_hook(lambda _, i, o: kept.append(o))
    logits = network(images)
    hook.remove()
    score = sum(logits[row, index] for row, index in enumerate(wanted))
    gradient = turned(torch.autograd.grad(score, kept[0])[0])
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    maps = (weights * turned(kept[0])).detach().sum(dim=1).clamp(min=0)
    return torch.stack([one / one.max() if one.max() > 0 else one for one in maps]).numpy()


@pytest.mark.parametrize(
    ("name", "side", "stage", "cells", "turned"),
    [
        ("resnet50", 64, 2, 4, None),
        ("resnet50", 8, 0, 2, None),  # none is as fine: the first
        ("vgg16_bn", 32, 3, 4, None),
        ("timm/convnext_atto", 64, 2, 4, None),
        # Transformers without a class token: planes (B, h, w, C), or tokens (B, h w, C).
        (SWIN, 224, -1, 7, lambda stage: stage.permute(0, 3, 1, 2)),
        (MIXER, 224, -1, 7, lambda stage: stage.transpose(1, 2).unflatten(2, (7, 7))),
    ],
)
def test_class_activation_is_the_definition(
    name: str, side: int, stage: int, cells: int, turned: Callable | None
):
    network, images = build(name, side)
    maps = attribution_maps(network, images, torch.tensor([3, 5, 0]))["class"]
    assert maps.shape == (3, cells, cells)
    options = {"turned": turned} if turned else {}
    expected = grad_cam(network, images, [3, 5, 0], stage, **options)
    assert maps.numpy() == pytest.approx(expected, abs=1e-4)
    assert not any(part._forward_hooks for part in network.modules())


TWO = [ROLLOUT, CLASS_RELEVANCE]
METHODS = {
    "linformer": ("linformer", [EFFECTIVE_ROLLOUT, CLASS_RELEVANCE]), "vit": ("vit", TWO),
    "hf_vit": ("hugging_face", TWO), "resnet50": ("resnet", [CLASS_ACTIVATION]),
    "vgg16_bn": ("vgg", [CLASS_ACTIVATION]), "backbone": ("timm", [CLASS_ACTIVATION]),
}  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_every_architecture_has_maps(name: str, monkeypatch: pytest.MonkeyPatch):
    network, images = build(name)
    methods = list(methods_of(network).values())
    assert (family_of(network), methods) == METHODS[name]
    classes = torch.tensor([0, 5, 2])
    whole = attribution_maps(network, images, classes)
    monkeypatch.setattr("gz2vit.attention.BATCH_SIZE", 2)
    for kind, maps in attribution_maps(network, images, classes).items():
        assert torch.allclose(maps, whole[kind], atol=1e-3)
        assert maps.amin() >= 0 and maps.amax() <= 1
    if len(methods) == 1:
        assert whole["class"].shape == (3, LEAST_CELLS, LEAST_CELLS)
        return
    attentions = collect_attention(network, images)
    assert torch.allclose(whole["attention"], attention_rollout(attentions), atol=1e-5)
    assert torch.allclose(whole["heads"], attention_rollout(attentions, True), atol=1e-5)


@pytest.mark.parametrize(
    ("method", "name", "named"),
    [
        (class_activation, "vit", "ViT"),
        (class_activation, "hf_vit", "HuggingFaceClassifier"),
        (collect_attention, "backbone", "ConvNeXt"),
        # It has a class token and blocks, but mixes heads.
        (attribution_maps, "timm/cait_xxs24_224", "Cait"),
        (attribution_maps, "timm/deit_tiny_distilled_patch16_224", "6 tokens"),
    ],
)
def test_networks_that_a_method_does_not_fit(method: Callable, name: str, named: str):
    with pytest.raises(Gz2vitError, match=named):
        method(*build(name))


def test_what_cannot_be_looked_into():
    with pytest.raises(Gz2vitError, match="Linear"):
        family_of(nn.Linear(1, 1))
    network, _ = build("vit")
    for shape in ((3, 8, 8), (0, 3, 32, 32), (1, 1, 32, 32)):
        with pytest.raises(Gz2vitError, match="32|8, 8"):
            predict_probabilities(network, torch.zeros(shape))
    with pytest.raises(Gz2vitError, match="uint8"):
        predict_probabilities(network, torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
