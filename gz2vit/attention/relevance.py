"""Attention weighted with the gradient of a class's score: which tokens speak for that class.

Source: Chefer et al. 2021, arXiv:2103.15679, their rule for self-attention. It takes attention of
either sign, and so a Linformer's effective attention as it is.
"""

from collections.abc import Iterator

import torch
from torch import nn

from gz2vit.attention.collection import (
    effective_attention,
    linformer_layers,
    listening,
    record_attention,
    value_projection,
)
from gz2vit.attention.networks import check_class, family_of, with_gradients
from gz2vit.attention.rollout import grid_of, scale_maps


def class_relevance(
    network: nn.Module, images: torch.Tensor, class_index: int | torch.Tensor | None = None
) -> torch.Tensor:
    """How much each patch speaks for a class, float32 (B, g, g), each map's maximum 1.

    `images`: normalised floats (B, 3, H, W); `class_index`: one class for all or (B,), by default
    the predicted one. With A a layer's attention (of a Linformer the effective one, not
    normalised) and G the gradient of the class's logit with respect to it, C is the mean over
    heads of the positive part of G * A, and the map is the class token's row of (I + C_L) ...
    (I + C_1), without its own entry. A map can be 0 throughout. Raises `Gz2vitError` for a network
    without attention between a class token and all patches, and a class that is not there.
    """
    with with_gradients(network, images) as images:
        find = _contributions_linformer if family_of(network) == "linformer" else _contributions
        contributions = list(find(network, images, class_index))
    tokens = contributions[0].shape[1]
    row = torch.zeros(len(images), 1, tokens, device=images.device)
    row[:, :, 0] = 1.0  # (B, 1, N): the class token alone
    for contribution in reversed(contributions):
        row = row + row @ contribution  # a row of a product needs no product of matrices
    grid = grid_of(tokens)
    return scale_maps(row[:, 0, 1:].unflatten(1, (grid, grid)))


def _contributions(
    network: nn.Module, images: torch.Tensor, class_index: int | torch.Tensor | None
) -> Iterator[torch.Tensor]:
    """C of each layer of a ViT, (B, N, N)."""
    logits, attentions = record_attention(network, images)
    gradients = torch.autograd.grad(_score(logits, class_index), attentions)
    for weights, gradient in zip(attentions, gradients, strict=True):
        yield _positive_mean(weights, gradient)


def _contributions_linformer(
    network: nn.Module, images: torch.Tensor, class_index: int | torch.Tensor | None
) -> Iterator[torch.Tensor]:
    """C of each layer of a Linformer, (B, N, N).

    The effective attention A = P F never stands in the network's pass, but the layer's result is
    A V: with Z the gradient of the logit with respect to it, that with respect to A is Z V^T.
    """
    layers = linformer_layers(network)
    weights, values, results = {}, {}, {}
    own_values = [layer.to_k if layer.share_kv else layer.to_v for layer in layers]
    with (
        listening([layer.dropout for layer in layers], weights.__setitem__),
        listening(own_values, values.__setitem__),
        listening([layer.to_out for layer in layers], results.__setitem__),
    ):
        logits = network(images)
    gradients = torch.autograd.grad(_score(logits, class_index), [*results.values()])
    for number, layer in enumerate(layers):
        # to_out is linear: before it the gradient is that behind it times its weights
        before = _by_head(gradients[number] @ layer.to_out.weight, layer.dim_head)
        value = _by_head(values[number], layer.dim_head)  # (B, 1, N, d) with one_kv_head
        tokens = value.shape[2]
        effective = effective_attention(weights[number], value_projection(layer)[:tokens])
        yield _positive_mean(effective, before @ value.transpose(2, 3))


def _score(logits: torch.Tensor, class_index: int | torch.Tensor | None) -> torch.Tensor:
    """The sum over images of the class's logit: images do not mix, so each keeps its gradient."""
    wanted = check_class(class_index, logits)
    return logits.gather(1, wanted.unsqueeze(1)).sum()


def _by_head(tensor: torch.Tensor, dim_head: int) -> torch.Tensor:
    """(B, N, H d) to (B, H, N, d)."""
    return tensor.unflatten(2, (-1, dim_head)).transpose(1, 2)


def _positive_mean(weights: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """The mean over heads of the positive part of weight times gradient: (B, N, N)."""
    return (weights * gradient).detach().clamp(min=0).mean(dim=1)
