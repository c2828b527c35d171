"""What all looks into a network need: which family it is of, evaluation mode, batches of images.

Networks are those of `gz2vit.models.build_model`; images are their input, normalised.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional

from gz2vit.io import Gz2vitError

BATCH_SIZE = 16  # images at once: all attention of a ViT-Base at 224 px is 22 MB an image
# Where a network's class is defined decides its family, so that no library is imported for asking.
_FAMILIES = {
    "vit_pytorch.vit": "vit",
    "vit_pytorch.efficient": "linformer",
    "torchvision.models.resnet": "resnet",
    "torchvision.models.vgg": "vgg",
    "gz2vit.models": "hugging_face",
    "timm.models": "timm",
}


def family_of(network: nn.Module) -> str:
    """`vit`, `linformer`, `resnet`, `vgg`, `hugging_face` or `timm`.

    Raises `Gz2vitError` for a network that `build_model` does not build.
    """
    for base in type(network).__mro__:
        for home, family in _FAMILIES.items():
            if base.__module__ == home or base.__module__.startswith(f"{home}."):
                return family
    raise Gz2vitError(
        f"a network of type {type(network).__name__} cannot be looked into; give one of "
        "gz2vit.models.build_model (of a classifier, its `network`)"
    )


def has_class_token(network: nn.Module) -> bool:
    """Whether a network is a transformer that reads its answer off a class token."""
    names = (name for name, _ in network.named_parameters())
    return any(name.rpartition(".")[2] == "cls_token" for name in names)


@contextmanager
def in_evaluation(network: nn.Module) -> Iterator[None]:
    """Evaluation mode for the block; afterwards every part is in the mode that it was in."""
    modes = [(part, part.training) for part in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def with_gradients(network: nn.Module, images: torch.Tensor) -> Iterator[torch.Tensor]:
    """A copy of the images, checked, that gradients reach; evaluation mode for the block.

    Also where the caller has switched gradients off, or none of the network's parameters has any.
    Errors as of `on_device`.
    """
    images = on_device(network, images)
    with torch.inference_mode(False), torch.enable_grad(), in_evaluation(network):
        yield images.detach().clone().requires_grad_()


def on_device(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Images, checked, on the network's device.

    Raises `Gz2vitError` unless they are floating-point (B, 3, H, W) with B from 1 on.
    """
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[1] != 3 or 0 in shape or not images.is_floating_point():
        raise Gz2vitError(
            f"images of shape {shape} and type {images.dtype} are no input of a network; give "
            "normalised floats (B, 3, H, W)"
        )
    return images.to(next(network.parameters()).device)


def in_batches(images: torch.Tensor, batch_size: int) -> tuple[torch.Tensor, ...]:
    """Images (B, ...) in pieces of `batch_size`, in order; `Gz2vitError` for a size below 1."""
    if batch_size < 1:
        raise Gz2vitError(f"batch_size is {batch_size}; it must be 1 or more")
    return images.split(batch_size)


def predict_probabilities(
    network: nn.Module, images: torch.Tensor, batch_size: int = BATCH_SIZE
) -> np.ndarray:
    """Class probabilities, float64 (B, classes), each row's sum 1, for images (B, 3, H, W)."""
    with torch.no_grad(), in_evaluation(network):
        logits = [
            network(part).cpu() for part in in_batches(on_device(network, images), batch_size)
        ]
    return torch.cat(logits).double().softmax(dim=1).numpy()


def check_class(class_index: int | torch.Tensor | None, logits: torch.Tensor) -> torch.Tensor:
    """The class of each image, int64 (B,); by default the one with the largest logit.

    Raises `Gz2vitError` for a class that is not there, or another number of them.
    """
    if class_index is None:
        return logits.argmax(dim=1)
    wanted = torch.as_tensor(class_index, device=logits.device)
    if wanted.is_floating_point() or wanted.ndim > 1 or wanted.numel() not in (1, len(logits)):
        raise Gz2vitError(
            f"class_index of shape {tuple(wanted.shape)} does not fit {len(logits)} images; give "
            "one whole number for all, or one for each"
        )
    wrong = wanted[(wanted < 0) | (wanted >= logits.shape[1])]
    if wrong.numel():
        raise Gz2vitError(
            f"there is no class {wrong.flatten()[0]}; the classes are 0 to {logits.shape[1] - 1}"
        )
    return wanted.long().expand(len(logits))


# ------------------------------------------------------------------------------------------
# The attention of every layer of a network, taken from its own forward pass by hooks.
#
# Nothing of a network's forward pass is written a second time here, so that what is collected is
# what was computed. Sources: the installed vit-pytorch, linformer, transformers and timm.


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


# ------------------------------------------------------------------------------------------
# Attention rollout: how much of each image patch reaches the class token, through all layers.
#
# Sources: Abnar & Zuidema 2020, arXiv:2005.00928; the paper's Fig. 5 draws it for the Hugging Face
# ViT, for all heads averaged and for each head alone.

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


# ------------------------------------------------------------------------------------------
# Class activation maps: where a network with planes finds its evidence for a class.
#
# Source: Grad-CAM, Selvaraju et al. 2017, arXiv:1610.02391, as captum computes it
# (https://github.com/pytorch/captum).


def class_activation(
    network: nn.Module,
    images: torch.Tensor,
    class_index: int | torch.Tensor | None = None,
    least_cells: int = 1,
) -> torch.Tensor:
    """Grad-CAM maps float32 (B, h, w), each map's maximum 1, of the last stage that has planes.

    `images`: normalised floats (B, 3, H, W); h and w are the stage's: H / 32 for a ResNet, H / 16
    for a VGG. Of a transformer without a class token its tokens, one for each patch, are the plane.
    `class_index`: the class whose evidence is sought, one for all or (B,); by default
    the predicted one. `least_cells`: the last stage with so many cells on a side is taken instead
    (or the first, if none has them): of small images the last stage sees hardly more than one
    cell. Each channel of the stage is weighted with the mean gradient of the class's logit over
    the plane, and only what speaks for the class is kept: a map can be 0 throughout.

    Raises `Gz2vitError` for a network without such a stage and a class that is not there.
    """
    from captum.attr import LayerGradCam  # slow to import, and only wanted here

    with with_gradients(network, images) as images:
        logits, stage = _look_once(network, images, least_cells)
        target = check_class(class_index, logits)
        with _as_planes(stage, images.shape) as planes:
            activation = LayerGradCam(network, planes)
            maps = activation.attribute(images, target=target, relu_attributions=True)
    return scale_maps(maps[:, 0].detach())  # (B, 1, h, w) -> (B, h, w)


def stages_of(network: nn.Module) -> list[nn.Module]:
    """The parts after which a CNN's planes, (B, channels, h, w), shrink; first part first.

    Of a VGG, what each max pooling takes in; of others, what their library lists. Raises
    `Gz2vitError` where there are none.
    """
    match family_of(network):
        case "resnet":
            return [network.layer1, network.layer2, network.layer3, network.layer4]
        case "vgg":
            parts = list(network.features)
            return [a for a, b in pairwise(parts) if isinstance(b, nn.MaxPool2d)]
        case "timm":
            return [network.get_submodule(one["module"]) for one in network.feature_info]
        case "hugging_face":
            encoder = getattr(network.model.base_model, "encoder", None)
            for name in ("stages", "layers"):
                if hasattr(encoder, name):
                    return list(getattr(encoder, name))
    raise _no_stage(network)


Shape = tuple[int, ...]


def _look_once(
    network: nn.Module, images: torch.Tensor, least_cells: int
) -> tuple[torch.Tensor, nn.Module]:
    """The logits (B, classes), and the last stage with so many cells on a side, or the first.

    `Gz2vitError` if what the stages return are no planes of the image.
    """
    stages, shapes = stages_of(network), {}

    def keep(number: int, output: object) -> None:
        """Note the shape that a stage returns."""
        shapes[number] = getattr(output, "shape", ())  # some return several tensors

    with torch.no_grad(), listening(stages, keep):
        logits = network(images)
    grids = [plane_of(shapes.get(number, ()), images.shape) for number in range(len(stages))]
    if has_class_token(network) or not grids[-1]:
        raise _no_stage(network)
    fine = [number for number, grid in enumerate(grids) if min(grid, default=0) >= least_cells]
    first = next(number for number, grid in enumerate(grids) if grid)
    return logits, stages[max(fine, default=first)]


def plane_of(shape: Shape, image_shape: Shape) -> Shape:
    """The h and w of what a stage returns, of images (B, 3, H, W); nothing if it is no plane.

    Planes are (B, C, h, w), (B, h, w, C) as in Swin, or tokens (B, h w, C), with h : w = H : W.
    """
    height, width = image_shape[2:]
    if len(shape) == 3:
        side = math.isqrt(shape[1])
        return (side, side) if side**2 == shape[1] and height == width else ()
    if len(shape) != 4:
        return ()
    pairs = (tuple(shape[2:]), tuple(shape[1:3]))  # channels first, as torch has it; or last
    return next((pair for pair in pairs if pair[0] * width == pair[1] * height), ())


@contextmanager
def _as_planes(stage: nn.Module, image_shape: Shape) -> Iterator[nn.Module]:
    """A module through which all goes that `stage` returns, as planes (B, C, h, w)."""
    planes = nn.Identity()

    def lead_through(_part: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        """The stage's output, unchanged, after it has gone through `planes`."""
        height, width = plane_of(output.shape, image_shape)
        if output.ndim == 3:  # (B, h w, C)
            return planes(output.mT.unflatten(2, (height, width))).flatten(2).mT
        if output.shape[2:] == (height, width):
            return planes(output)
        return planes(output.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # (B, h, w, C)

    hook = stage.register_forward_hook(lead_through)
    try:
        yield planes
    finally:
        hook.remove()


def _no_stage(network: nn.Module) -> Gz2vitError:
    """What to say of a network that has no planes."""
    return Gz2vitError(
        f"{type(network).__name__} has no stage of planes, which class activation needs; for a "
        "transformer with a class token take attention_rollout"
    )


# ------------------------------------------------------------------------------------------
# Attention weighted with the gradient of a class's score: which tokens speak for that class.
#
# Source: Chefer et al. 2021, arXiv:2103.15679, their rule for self-attention. It takes attention of
# either sign, and so a Linformer's effective attention as it is.


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


# ------------------------------------------------------------------------------------------
# Where a network looks: one door for all of them, by the means that fits each.

ROLLOUT = "attention rollout"
EFFECTIVE_ROLLOUT = "attention rollout of absolute effective attention"
CLASS_RELEVANCE = "attention weighted with the class's gradient"
# Of 2 x 2 cells none lies on a galaxy in the middle: 4 is the least that can tell it from the sky.
LEAST_CELLS = 4
CLASS_ACTIVATION = f"Grad-CAM of the last stage with {LEAST_CELLS} x {LEAST_CELLS} cells or more"


@dataclass(frozen=True)
class Gaze:
    """Where a network looks in each image.

    `maps`: float32 (B, g, g) on the CPU, 0 to 1, each map's maximum 1 (or 0 throughout);
    `method`: how they were made, one of the names above. Maps of different methods share a
    scale, but not a meaning: rollout knows no class, the other two are for one.
    """

    maps: torch.Tensor
    method: str


def gaze(
    network: nn.Module,
    images: torch.Tensor,
    class_index: torch.Tensor | None = None,
    of_class: bool = False,
    batch_size: int = BATCH_SIZE,
) -> Gaze:
    """Where `network` looks in `images`, normalised floats (B, 3, H, W).

    For a ViT attention rollout, for a Linformer rollout of its effective attention's absolute
    values, for a CNN class activation. With `of_class`, for a transformer `class_relevance`
    instead, which tells galaxies apart where rollout does not: a Linformer's projections are the
    same for all galaxies, and its rollout nearly is (`rank_correlation` of maps of two galaxies).
    `class_index` (B,): whose evidence, by default the predicted classes'; rollout has no use for
    it. g is that of the patches, or of the CNN's last stage with `LEAST_CELLS` on a side. Raises
    `Gz2vitError` for a network that none of these fits.
    """
    method = method_for(network, of_class)
    found = []
    for number, part in enumerate(in_batches(on_device(network, images), batch_size)):
        rows = slice(number * batch_size, (number + 1) * batch_size)
        wanted = None if class_index is None else class_index[rows]
        if method == CLASS_ACTIVATION:
            maps = class_activation(network, part, wanted, LEAST_CELLS)
        elif method == CLASS_RELEVANCE:
            maps = class_relevance(network, part, wanted)
        else:
            maps = attention_rollout(collect_attention(network, part))
        found.append(maps.cpu())
    return Gaze(torch.cat(found), method)


def method_for(network: nn.Module, of_class: bool = False) -> str:
    """How `gaze` looks into a network: one of the four names above."""
    linformer = family_of(network) == "linformer"
    if not (linformer or has_class_token(network)):
        return CLASS_ACTIVATION
    if of_class:
        return CLASS_RELEVANCE
    return EFFECTIVE_ROLLOUT if linformer else ROLLOUT


def why_no_map(network: nn.Module, images: torch.Tensor) -> str:
    """Why `gaze` cannot look into a network; nothing where it can.

    Tried on the first of `images`, normalised floats (B, 3, H, W): what a network of another
    library hands on cannot be told from its class.
    """
    try:
        for of_class in (False, True):
            gaze(network, images[:1], of_class=of_class)
    except Gz2vitError as error:
        return str(error)
    return ""


def resize_maps(maps: torch.Tensor, size: int) -> torch.Tensor:
    """Maps (B, h, w) as float32 (B, size, size), to lay over images or to compare networks.

    Bilinear; to a smaller size, means over areas. Not scaled again. Raises `Gz2vitError` for
    other shapes.
    """
    if maps.ndim != 3 or size < 1:
        raise Gz2vitError(
            f"maps of shape {tuple(maps.shape)} cannot become {size} x {size}; give (B, h, w) and "
            "a size from 1 on"
        )
    planes = maps.float().unsqueeze(1)  # (B, 1, h, w)
    if size < maps.shape[1]:
        return functional.adaptive_avg_pool2d(planes, size)[:, 0]
    return functional.interpolate(planes, (size, size), mode="bilinear", align_corners=False)[:, 0]
