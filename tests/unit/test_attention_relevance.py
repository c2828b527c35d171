"""gz2vit.attention.relevance: gradients of the attention itself, put in the network's way."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from gz2vit.attention import class_relevance
from gz2vit.io import Gz2vitError
from gz2vit.models import build_model
from tests.unit.test_attention_collection import LAYERS, LINFORMERS, TIMM, build, by_head


def pairs_by_definition(network: nn.Module, images: torch.Tensor, wanted: list[int]) -> list[tuple]:
    """Each Linformer layer's effective attention as a matrix in the network's way, its gradient.

    Later layers attend otherwise when an earlier one does, so that each matrix is computed anew in
    the pass, from the layer's own queries and keys: the gradient goes through all that follows.
    """
    _, _, maker, values_of = LAYERS["linformer"]
    layers = LAYERS["linformer"][0](network)
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

    for layer in layers:
        layer.forward = instead(layer)
    logits = network(images)
    for layer in layers:
        del layer.forward
    score = sum(logits[row, index] for row, index in enumerate(wanted))
    return list(zip(attentions, torch.autograd.grad(score, attentions), strict=True))


def by_definition(pairs: list[tuple]) -> torch.Tensor:
    """Maps of whole matrices, in float64: R = R + C R, layer after layer."""
    relevance = torch.eye(pairs[0][0].shape[-1], dtype=torch.float64)
    for weights, gradient in pairs:
        contribution = (weights * gradient).detach().double().clamp(min=0).mean(dim=1)
        relevance = relevance + contribution @ relevance
    maps = relevance[:, 0, 1:].unflatten(1, (4, 4))
    return maps / maps.amax(dim=(1, 2), keepdim=True)


@pytest.mark.parametrize("options", LINFORMERS)
def test_a_linformers_relevance_is_the_definition(options: dict):
    network, images = build("linformer", **options)
    maps = class_relevance(network, images, torch.tensor([1, 2, 3]))
    expected = by_definition(pairs_by_definition(network, images, [1, 2, 3]))
    assert maps.dtype == torch.float32
    assert maps.numpy() == pytest.approx(expected.numpy(), abs=1e-4)


def test_a_vits_relevance_is_the_definition():
    network, images = build("vit")
    kept = []
    for layer in LAYERS["vit"][0](network):
        layer.attend.register_forward_hook(lambda _, i, o: kept.append(o))
    score = network(images)[:, 4].sum()
    pairs = list(zip(kept, torch.autograd.grad(score, kept), strict=True))
    maps = class_relevance(network, images, 4)
    assert maps.numpy() == pytest.approx(by_definition(pairs).numpy(), abs=1e-4)


@pytest.mark.parametrize("name", ["linformer", "vit", "hf_vit", TIMM])
def test_maps_of_each_transformer(name: str):
    network, images = build(name)
    network.requires_grad_(False).train()
    maps = class_relevance(network, images)
    assert maps.shape == ((3, 2, 2) if name == TIMM else (3, 4, 4))
    assert maps.amin() >= 0
    assert maps.amax(dim=(1, 2)).tolist() == [1.0, 1.0, 1.0]
    assert not maps.requires_grad
    assert network.training
    # images do not mix: alone each has the same map
    assert torch.allclose(class_relevance(network, images[1:2]), maps[1:2], atol=1e-4)


def test_a_cnn_has_none():
    network = build_model("timm/convnext_atto", image_size=32)
    with pytest.raises(Gz2vitError, match="for a CNN take class_activation"):
        class_relevance(network, torch.randn(1, 3, 32, 32))
