"""The attention of every layer of a network, taken from its own forward pass by hooks.

Nothing of a network's forward pass is written a second time here, so that what is collected is
what was computed. Sources: the installed vit-pytorch, linformer, transformers and timm.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager

import pandas as pd
import torch
from torch import nn

from gz2vit.attention.networks import family_of, has_class_token, in_evaluation, on_device
from gz2vit.errors import Gz2vitError


def collect_attention(
    network: nn.Module, images: torch.Tensor, normalised: bool = True
) -> list[torch.Tensor]:
    """What each layer's tokens attend to: (B, H, N, N) for each layer, first layer first.

    `images`: normalised floats (B, 3, H, W). Row n, column m is the weight that token n gives to
    token m; token 0 is the class token. In a ViT every row is a softmax. In a Linformer it is the
    `effective_attention`; only with `normalised` do its rows sum to one. The network computes in
    evaluation mode and is left as it was. On the network's device, without gradients.

    Raises `Gz2vitError` for a network without attention between all its tokens.
    """
    images = on_device(network, images)
    with torch.no_grad(), in_evaluation(network):
        if family_of(network) != "linformer":
            return record_attention(network, images)[1]
        weights = _record(linformer_layers(network), "dropout", network, images)[1]
        return [
            effective_attention(own, value_projection(layer)[: own.shape[2]], normalised)
            for own, layer in zip(weights, linformer_layers(network), strict=True)
        ]


def record_attention(
    network: nn.Module, images: torch.Tensor
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """A ViT's logits (B, classes) and, of the same pass, each layer's softmax (B, H, N, N).

    The network's mode and gradients are the caller's. Raises `Gz2vitError` for a network without
    attention between a class token and all patches.
    """
    match family_of(network):
        case "vit":
            layers = [layer[0].fn for layer in network.transformer.layers]
            return _record(layers, "attend", network, images)
        case "hugging_face" if has_class_token(network):
            return _record_hugging_face(network.model, images)
        case "timm" if has_class_token(network) and has_plain_blocks(network):
            return _record_timm(network, images)
    raise Gz2vitError(
        f"{type(network).__name__} has no attention between a class token and all patches; for a "
        "CNN take class_activation"
    )


def effective_attention(
    weights: torch.Tensor, projection: torch.Tensor, normalised: bool = False
) -> torch.Tensor:
    """A Linformer layer's attention over its tokens, (B, H, N, N), from that over projections.

    `weights`: P = softmax(Q (E K)^T / sqrt(d)), (B, H, N, k), attention to k projected keys;
    `projection`: F^T, the layer's parameter for values, (N, k). The layer's result is P (F V) =
    (P F) V, so that token n takes exactly (P F)[n, m] of the value of token m: the effective
    attention is P F. It can be negative, and since sum_m (P F)[n, m] = sum_k P[n, k] f_k with
    f_k = sum_m F[k, m], a row sums to a weighted mean of the projection's column sums f, which
    nothing holds at one.

    With `normalised`, absolute values divided by each row's sum, so that rows are distributions,
    as rollout needs them: the share that each token has in moving the result, whichever its sign.
    That loses the sign, and how strong the layer is beside its skip connection. A row of zeros
    stays.
    """
    effective = weights @ projection.transpose(0, 1)  # (B, H, N, k) @ (k, N) -> (B, H, N, N)
    if not normalised:
        return effective
    return nn.functional.normalize(effective, p=1.0, dim=-1).abs()


def effective_row_sums(network: nn.Module, images: torch.Tensor) -> pd.DataFrame:
    """What the rows of a Linformer's effective attention P F sum to, a row for each layer.

    `images`: normalised floats (B, 3, H, W). Columns: `row_sum_low`, `row_sum_high` over images,
    heads and tokens; `f_low`, `f_high`: the ends of the projection's sums f, between which each
    row's must lie; `negative`: the share of entries below 0. Index: `layer`, from 1.

    Raises `Gz2vitError` for another network.
    """
    if family_of(network) != "linformer":
        raise Gz2vitError(f"{type(network).__name__} is no Linformer; its rows sum to 1")
    rows = []
    layers = collect_attention(network, images, normalised=False)
    for effective, layer in zip(layers, linformer_layers(network), strict=True):
        sums = effective.sum(dim=-1)
        f = value_projection(layer)[: effective.shape[-1]].detach().sum(dim=0)  # (k,)
        ends = [one.item() for one in (sums.min(), sums.max(), f.min(), f.max())]
        rows.append([*ends, (effective < 0).float().mean().item()])
    columns = ["row_sum_low", "row_sum_high", "f_low", "f_high", "negative"]
    return pd.DataFrame(rows, columns=columns, index=pd.RangeIndex(1, len(rows) + 1, name="layer"))


def linformer_layers(network: nn.Module) -> list[nn.Module]:
    """The attention layers of a vit-pytorch ViT around a Linformer, first layer first.

    Each hands its P to its `dropout`, which returns it unchanged in evaluation mode.
    """
    return [block[0].fn for block in network.transformer.net.layers]


def value_projection(layer: nn.Module) -> torch.Tensor:
    """F^T of a Linformer layer, (N, k): with `share_kv` keys and values have one projection.

    It is the same for all heads; `one_kv_head` changes which keys P is made of, not its shape.
    """
    return layer.proj_k if layer.share_kv else layer.proj_v


Recorded = tuple[torch.Tensor, list[torch.Tensor]]  # logits (B, classes), attention of each layer


def _record_hugging_face(model: nn.Module, images: torch.Tensor) -> Recorded:
    """A transformers model's own record: only its `eager` attention has weights to record."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        outputs = model(pixel_values=images, output_attentions=True)
    finally:
        model.set_attn_implementation(before)
    if not getattr(outputs, "attentions", None):
        raise Gz2vitError(f"{type(model).__name__} records no attention; its maps cannot be made")
    return outputs.logits, list(outputs.attentions)


def has_plain_blocks(network: nn.Module) -> bool:
    """Whether a network of timm is made of blocks whose attention can be seen."""
    layers = [getattr(block, "attn", None) for block in getattr(network, "blocks", [])]
    known = (hasattr(one, "fused_attn") and hasattr(one, "attn_drop") for one in layers)
    return bool(layers) and all(known)


def _record_timm(network: nn.Module, images: torch.Tensor) -> Recorded:
    """A ViT of timm, its attention unfused for the call: fused attention has no weights to see."""
    layers = [block.attn for block in network.blocks]
    fused = [layer.fused_attn for layer in layers]
    try:
        for layer in layers:
            layer.fused_attn = False
        return _record(layers, "attn_drop", network, images)
    finally:
        for layer, own in zip(layers, fused, strict=True):
            layer.fused_attn = own


def _record(
    layers: Iterable[nn.Module], part: str, network: nn.Module, images: torch.Tensor
) -> Recorded:
    """The logits, and what the part of that name returns in each layer."""
    found: dict[int, torch.Tensor] = {}
    parts = [getattr(layer, part) for layer in layers]
    with listening(parts, found.__setitem__):
        logits = network(images)
    return logits, [found[number] for number in range(len(parts))]


@contextmanager
def listening(
    parts: Iterable[nn.Module], tell: Callable[[int, torch.Tensor], None]
) -> Iterator[None]:
    """For the block, call `tell(number, output)` whenever the part of that number has computed."""
    with ExitStack() as hooks:
        for number, part in enumerate(parts):
            hook = part.register_forward_hook(
                lambda _part, _inputs, output, number=number: tell(number, output)
            )
            hooks.callback(hook.remove)
        yield
