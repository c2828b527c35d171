"""Attention rollout: how much of each image patch reaches the class token, through all layers.

Sources: Abnar & Zuidema 2020, arXiv:2005.00928; the paper's Fig. 5 draws it for the Hugging Face
ViT, for all heads averaged and for each head alone.
"""

import math
from collections.abc import Sequence

import torch

from gz2vit.errors import Gz2vitError

# float32 softmax rows miss 1 by some 1e-6, those of bfloat16 by up to 2^-9 = 2e-3; an effective
# attention that was not normalised misses it by tenths.
ROW_SUM_TOLERANCE = 5e-3


def attention_rollout(attentions: Sequence[torch.Tensor], head: int | None = None) -> torch.Tensor:
    """The class token's attention to every patch, (B, g, g), each map's maximum 1.

    `attentions`: one tensor (B, H, N, N) for each layer, first layer first, every row a
    distribution over the N = g^2 + 1 tokens, class token first. `head`: one of the H heads instead
    of their mean. With A the mean of a layer, A' = (A + I) / 2 stands for attention and skip
    connection, and its rows still sum to one. The class token's row of A'_L ... A'_2 A'_1 (the
    last layer leftmost), without its own entry, is the map. A map whose maximum is 0 stays 0.

    Computed in float64 (on Apple's GPUs, which have none, in float32); returned as float32.
    Raises `Gz2vitError` for no layers, other shapes, layers that differ in shape, a head that is
    not there, values that are not finite or negative, and rows whose sum misses 1 by more than
    `ROW_SUM_TOLERANCE`, 0.005.
    """
    grid = _check_shapes(attentions, head)
    kind = torch.float32 if attentions[0].device.type == "mps" else torch.float64
    row = attentions[0].new_zeros(len(attentions[0]), 1, grid**2 + 1, dtype=kind)
    row[:, :, 0] = 1.0  # (B, 1, N): the class token alone
    for number in reversed(range(len(attentions))):
        weights = attentions[number].detach()
        _check_rows(weights, number)
        weights = (weights.to(kind).mean(dim=1) if head is None else weights[:, head]).to(kind)
        # A row of a product needs no product of matrices: row A' = (row A + row) / 2
        row = (row @ weights + row) / 2
    return scale_maps(row[:, 0, 1:].unflatten(1, (grid, grid)))


def layer_attention(
    attentions: Sequence[torch.Tensor], layer: int, head: int | None = None
) -> torch.Tensor:
    """What the class token takes from each patch in one layer alone, (B, g, g), maximum 1.

    `attentions` and `head` as of `attention_rollout`; `layer` counts from 0. Float32. Raises
    `Gz2vitError` as there, and for a layer that is not there.
    """
    grid = _check_shapes(attentions, head)
    if not 0 <= layer < len(attentions):
        raise Gz2vitError(f"there is no layer {layer}; the layers are 0 to {len(attentions) - 1}")
    weights = attentions[layer].detach()
    _check_rows(weights, layer)
    row = weights[:, :, 0, 1:].float()  # (B, H, N - 1)
    row = row.mean(dim=1) if head is None else row[:, head]
    return scale_maps(row.unflatten(1, (grid, grid)))


def scale_maps(maps: torch.Tensor) -> torch.Tensor:
    """Maps (B, h, w), none negative, divided by each one's maximum; float32. All-zero ones stay."""
    largest = maps.amax(dim=(1, 2), keepdim=True)
    return torch.where(largest > 0, maps / largest, 0.0).float()


def grid_of(tokens: int) -> int:
    """The side g of the square of patches among `tokens` = g^2 + 1; `Gz2vitError` for others."""
    grid = math.isqrt(max(tokens - 1, 0))
    if grid == 0 or grid**2 + 1 != tokens:
        raise Gz2vitError(
            f"{tokens} tokens are not a class token and a square of patches; a map needs g*g + 1"
        )
    return grid


def _check_shapes(attentions: Sequence[torch.Tensor], head: int | None) -> int:
    """The side g of the grid of patches, if all layers fit together."""
    if len(attentions) == 0:
        raise Gz2vitError("there are no layers of attention to roll out; give at least one")
    shape = tuple(attentions[0].shape)
    if len(shape) != 4 or 0 in shape:
        raise Gz2vitError(f"attention of shape {shape} cannot be rolled out; give (B, H, N, N)")
    for number, weights in enumerate(attentions):
        if tuple(weights.shape) != shape:
            raise Gz2vitError(
                f"layer {number} has attention of shape {tuple(weights.shape)}, but layer 0 has "
                f"{shape}; rollout needs the same tokens in every layer"
            )
    if shape[2] != shape[3]:
        raise Gz2vitError(
            f"attention of {shape[2]} to {shape[3]} tokens is not among all of them; give "
            "(B, H, N, N)"
        )
    grid = grid_of(shape[2])
    if head is not None and not 0 <= head < shape[1]:
        raise Gz2vitError(f"there is no head {head}; the heads are 0 to {shape[1] - 1}")
    return grid


def _check_rows(weights: torch.Tensor, number: int) -> None:
    """Refuse a layer whose rows are no distributions."""
    if not torch.isfinite(weights).all():
        raise Gz2vitError(
            f"the attention of layer {number} holds values that are not finite; check the weights "
            "of the network and its images"
        )
    if weights.min() < 0:
        raise Gz2vitError(
            f"the attention of layer {number} holds {weights.min().item():.3g}; rollout needs "
            "weights that are not negative (a Linformer's: collect_attention with normalised=True)"
        )
    worst = (weights.float().sum(dim=-1) - 1).abs().max().item()
    if worst > ROW_SUM_TOLERANCE:
        raise Gz2vitError(
            f"a row of the attention of layer {number} sums to {worst:.3g} more or less than 1; "
            f"rollout needs rows that sum to 1 within {ROW_SUM_TOLERANCE}"
        )
