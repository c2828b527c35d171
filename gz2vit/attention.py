"""Where a network looks in an image: the attention of transformers, the class activation of CNNs.

Networks are those of `gz2vit.models.build_model`; images are their input, normalised floats
(B, 3, H, W). A network computes in evaluation mode and is left as it was. Hooks take what the
network itself computes; vit-pytorch's `Recorder` and timm's `AttentionExtract` serve neither
gradients nor a Linformer.

Sources: attention rollout, Abnar & Zuidema 2020, arXiv:2005.00928 (the paper's Fig. 5); attention
weighted with gradients, Chefer et al. 2021, arXiv:2103.15679; Grad-CAM, Selvaraju et al. 2017,
arXiv:1610.02391, by captum; the Linformer's attention, Wang et al. 2020, arXiv:2006.04768.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from gz2vit.io import Gz2vitError

BATCH_SIZE = 32  # images at once for maps: all attention of a ViT-Base at 224 px is 22 MB per image
BATCH_PIXELS = BATCH_SIZE * 224**2  # of images at once where only logits are computed
# float32 softmax rows miss 1 by about 1e-6, those of bfloat16 by up to 2^-9 = 2e-3; an effective
# attention that was not normalised misses it by tenths.
ROW_SUM_TOLERANCE = 5e-3

# How a map was made. Maps of different methods share a scale, 0 to 1, but not a meaning: rollout
# knows no class, the other two are for one.
ROLLOUT = "attention rollout"
EFFECTIVE_ROLLOUT = "attention rollout of absolute effective attention"
CLASS_RELEVANCE = "attention weighted with the class's gradient"
# Of 2 x 2 cells none lies on a galaxy in the middle: 4 is the least that can tell it from the sky.
LEAST_CELLS = 4
CLASS_ACTIVATION = f"Grad-CAM of the last stage with {LEAST_CELLS} x {LEAST_CELLS} cells or more"

# Where a network's class is defined decides its family, so that no library is imported to ask.
_FAMILIES = {
    "vit_pytorch.vit": "vit",
    "vit_pytorch.efficient": "linformer",
    "torchvision.models.resnet": "resnet",
    "torchvision.models.vgg": "vgg",
    "gz2vit.models": "hugging_face",
    "timm.models": "timm",
}


def family_of(network: nn.Module) -> str:
    """`vit`, `linformer`, `resnet`, `vgg`, `hugging_face` or `timm`; `Gz2vitError` for others."""
    for base in type(network).__mro__:
        for home, family in _FAMILIES.items():
            if f"{base.__module__}.".startswith(f"{home}."):
                return family
    raise Gz2vitError(
        f"a network of type {type(network).__name__} has no known layers; pass one of "
        "gz2vit.models.build_model (of a classifier, its `network`)"
    )


def has_class_token(network: nn.Module) -> bool:
    """Whether a network is a transformer that classifies by a class token."""
    return any(name.rpartition(".")[2] == "cls_token" for name, _ in network.named_parameters())


def has_plain_blocks(network: nn.Module) -> bool:
    """Whether a network of timm is made of blocks whose attention can be seen."""
    layers = [getattr(block, "attn", None) for block in getattr(network, "blocks", [])]
    known = (hasattr(one, "fused_attn") and hasattr(one, "attn_drop") for one in layers)
    return bool(layers) and all(known)


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


def check_images(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Images on the network's device; `Gz2vitError` unless they are floats (B, 3, H, W), B > 0."""
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[1] != 3 or 0 in shape or not images.is_floating_point():
        raise Gz2vitError(
            f"images of shape {shape} and type {images.dtype} do not fit a network; pass "
            "normalised floats (B, 3, H, W)"
        )
    return images.to(next(network.parameters()).device)


@contextmanager
def _with_gradients(network: nn.Module, images: torch.Tensor) -> Iterator[torch.Tensor]:
    """A copy of the images that gradients reach, also where the caller has switched them off."""
    images = check_images(network, images)
    with torch.inference_mode(False), torch.enable_grad(), in_evaluation(network):
        yield images.detach().clone().requires_grad_()


def record_outputs(
    network: nn.Module, images: torch.Tensor, parts: Sequence[nn.Module]
) -> tuple[torch.Tensor, list]:
    """The logits (B, classes), and what each of `parts` returned in that pass (None: not used)."""
    found: list = [None] * len(parts)
    with ExitStack() as hooks:
        for number, part in enumerate(parts):

            def keep(_part: nn.Module, _in: object, output: object, number: int = number) -> None:
                found[number] = output

            hooks.callback(part.register_forward_hook(keep).remove)
        return network(images), found


def predict_probabilities(network: nn.Module, images: torch.Tensor) -> np.ndarray:
    """Class probabilities, float64 (B, classes), each row's sum 1."""
    images = check_images(network, images)
    at_once = max(BATCH_SIZE, BATCH_PIXELS // (images.shape[2] * images.shape[3]))
    with torch.inference_mode(), in_evaluation(network):
        logits = [network(part).cpu() for part in images.split(min(at_once, 8 * BATCH_SIZE))]
    return torch.cat(logits).double().softmax(dim=1).numpy()


def collect_attention(
    network: nn.Module, images: torch.Tensor, normalised: bool = True
) -> list[torch.Tensor]:
    """The weight that token n gives to token m in each layer, (B, H, N, N), first layer first.

    Token 0 is the class token. Rows of a ViT are a softmax; a Linformer's are its
    `effective_attention`, whose rows sum to one only if `normalised`. Without gradients.
    `Gz2vitError` for a network without attention between all its tokens.
    """
    images = check_images(network, images)
    with torch.no_grad(), in_evaluation(network):
        if family_of(network) != "linformer":
            return record_attention(network, images)[1]
        layers = linformer_layers(network)
        weights = record_outputs(network, images, [layer.dropout for layer in layers])[1]
        return [
            effective_attention(own, value_projection(layer)[: own.shape[2]], normalised)
            for own, layer in zip(weights, layers, strict=True)
        ]


def record_attention(
    network: nn.Module, images: torch.Tensor
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """A ViT's logits (B, classes) and, of the same pass, each layer's softmax (B, H, N, N).

    Mode and gradients are the caller's. `Gz2vitError` as of `collect_attention`.
    """
    family = family_of(network)
    if family == "vit":
        parts = [layer[0].fn.attend for layer in network.transformer.layers]
        return record_outputs(network, images, parts)
    if family == "hugging_face" and has_class_token(network):
        model = network.model
        before = model.config._attn_implementation
        model.set_attn_implementation("eager")  # the only one that has weights to record
        try:
            outputs = model(pixel_values=images, output_attentions=True)
        finally:
            model.set_attn_implementation(before)
        if getattr(outputs, "attentions", None):
            return outputs.logits, list(outputs.attentions)
    if family == "timm" and has_class_token(network) and has_plain_blocks(network):
        layers = [block.attn for block in network.blocks]
        fused = [layer.fused_attn for layer in layers]  # fused attention has no weights to see
        try:
            for layer in layers:
                layer.fused_attn = False
            return record_outputs(network, images, [layer.attn_drop for layer in layers])
        finally:
            for layer, own in zip(layers, fused, strict=True):
                layer.fused_attn = own
    raise Gz2vitError(
        f"{type(network).__name__} has no attention between a class token and all patches; for a "
        "CNN use class_activation"
    )


def effective_attention(
    weights: torch.Tensor, projection: torch.Tensor, normalised: bool = False
) -> torch.Tensor:
    """A Linformer layer's attention over its tokens, P F (B, H, N, N).

    `weights`: P = softmax(Q (E K)^T / sqrt(d)), (B, H, N, k); `projection`: F^T, (N, k). As the
    layer's result is P (F V) = (P F) V, this is exact; it can be negative, and rows need not sum to
    one. `normalised`: absolute values divided by each row's sum, the distributions that rollout
    needs; that loses the sign, and the layer's strength beside its skip connection.
    """
    effective = weights @ projection.transpose(0, 1)
    return functional.normalize(effective, p=1.0, dim=-1).abs() if normalised else effective


def linformer_layers(network: nn.Module) -> list[nn.Module]:
    """The attention layers of a Linformer; each passes its P through `dropout` unchanged."""
    return [block[0].fn for block in network.transformer.net.layers]


def value_projection(layer: nn.Module) -> torch.Tensor:
    """F^T of a Linformer layer, (N, k): with `share_kv` keys and values have one projection."""
    return layer.proj_k if layer.share_kv else layer.proj_v


def attention_rollout(attentions: Sequence[torch.Tensor], head: int | None = None) -> torch.Tensor:
    """The class token's attention to every patch, float32 (B, g, g), each map's maximum 1 (or 0).

    `attentions`: of each layer (B, H, N, N), first layer first, N = g^2 + 1, class token first.
    `head`: one head instead of the mean A of all. A' = (A + I) / 2 adds the skip connection; the
    map is the class token's row of A'_L ... A'_2 A'_1 without its own entry.
    `Gz2vitError` for other shapes, an unknown head, and rows that are not distributions
    (`ROW_SUM_TOLERANCE`).
    """
    _check_attention(attentions, head)
    if head is None:
        return _roll_out(attentions, average=True)[:, 0]
    return _roll_out([weights[:, head : head + 1] for weights in attentions])[:, 0]


def rollout_of_heads(attentions: Sequence[torch.Tensor]) -> torch.Tensor:
    """`attention_rollout` of each head alone, (B, H, g, g); the same errors."""
    _check_attention(attentions)
    return _roll_out(attentions)


def _roll_out(attentions: Sequence[torch.Tensor], average: bool = False) -> torch.Tensor:
    """Rollout of each head of `attentions`, or of their average, (B, H or 1, g, g)."""
    count, heads, tokens = attentions[0].shape[:3]
    # Apple's GPUs have no float64.
    kind = torch.float32 if attentions[0].device.type == "mps" else torch.float64
    row = attentions[0].new_zeros(count, 1 if average else heads, 1, tokens, dtype=kind)
    row[..., 0] = 1.0  # the class token alone
    for weights in reversed(attentions):
        weights = weights.detach().to(kind)
        weights = weights.mean(dim=1, keepdim=True) if average else weights
        # A row of a product needs no product of matrices: row A' = (row A + row) / 2
        row = (row @ weights + row) / 2
    return _map_of_row(row[:, :, 0])


def layer_attention(
    attentions: Sequence[torch.Tensor], layer: int, head: int | None = None
) -> torch.Tensor:
    """As `attention_rollout`, of one layer alone, counted from 0; `Gz2vitError` for an unknown."""
    _check_attention(attentions, head)
    if not 0 <= layer < len(attentions):
        raise Gz2vitError(
            f"layer {layer} does not exist; the layers are 0 to {len(attentions) - 1}"
        )
    row = attentions[layer].detach()[:, :, 0].float()  # (B, H, N)
    return _map_of_row(row.mean(dim=1) if head is None else row[:, head])


def scale_maps(maps: torch.Tensor) -> torch.Tensor:
    """Maps (..., h, w), none negative, divided by each one's maximum; float32. Zero maps stay."""
    largest = maps.amax(dim=(-2, -1), keepdim=True)
    return torch.where(largest > 0, maps / largest, 0.0).float()


def _map_of_row(row: torch.Tensor) -> torch.Tensor:
    """The class token's row (..., N) without its own entry as scaled maps (..., g, g)."""
    grid = math.isqrt(row.shape[-1] - 1)
    if grid == 0 or grid**2 + 1 != row.shape[-1]:
        raise Gz2vitError(
            f"{row.shape[-1]} tokens are not a class token and a square of patches; a map needs "
            "g*g + 1"
        )
    return scale_maps(row[..., 1:].unflatten(-1, (grid, grid)))


def _check_attention(attentions: Sequence[torch.Tensor], head: int | None = None) -> None:
    """`Gz2vitError` unless all layers are distributions (B, H, N, N) and have that head."""
    if len(attentions) == 0:
        raise Gz2vitError("no layers of attention were passed; pass at least one")
    shape = tuple(attentions[0].shape)
    if len(shape) != 4 or 0 in shape or shape[2] != shape[3]:
        raise Gz2vitError(f"attention of shape {shape} cannot be rolled out; pass (B, H, N, N)")
    if head is not None and not 0 <= head < shape[1]:
        raise Gz2vitError(f"head {head} does not exist; the heads are 0 to {shape[1] - 1}")
    for number, weights in enumerate(attentions):
        what = f"the attention of layer {number}"
        if tuple(weights.shape) != shape:
            raise Gz2vitError(f"{what} has shape {tuple(weights.shape)}, that of layer 0 {shape}")
        if not torch.isfinite(weights).all():
            raise Gz2vitError(f"{what} is not finite; check the network's weights and its images")
        if weights.min() < 0:
            raise Gz2vitError(
                f"{what} holds {weights.min().item():.3g}, but weights must not be negative (for a "
                "Linformer use collect_attention with normalised=True)"
            )
        worst = (weights.detach().float().sum(dim=-1) - 1).abs().max().item()
        if worst > ROW_SUM_TOLERANCE:
            raise Gz2vitError(
                f"{what} has a row whose sum misses 1 by {worst:.3g}; rollout needs sums of 1 "
                f"within {ROW_SUM_TOLERANCE}"
            )


def class_relevance(
    network: nn.Module, images: torch.Tensor, class_index: torch.Tensor | None = None
) -> torch.Tensor:
    """How much each patch speaks for a class, float32 (B, g, g), each map's maximum 1 (or 0).

    `class_index`: int64 (B,); None: the predicted classes. Chefer et al.'s rule: with A a layer's
    attention (a Linformer's effective one, of either sign) and G the gradient of the class's logit
    to it, C is the mean over heads of the positive part of G * A, and the map the class token's row
    of (I + C_L) ... (I + C_1). `Gz2vitError` as of `collect_attention`.
    """
    with _with_gradients(network, images) as images:
        linformer = family_of(network) == "linformer"
        if linformer:
            # A = P F is never computed in the network's pass, but the layer's result is A V: with
            # Z the gradient to that, the gradient to A is Z V^T.
            layers = linformer_layers(network)
            parts = [layer.dropout for layer in layers]
            parts += [layer.to_k if layer.share_kv else layer.to_v for layer in layers]
            parts += [layer.to_out for layer in layers]
            logits, found = record_outputs(network, images, parts)
            outputs = found[2 * len(layers) :]
        else:
            logits, outputs = record_attention(network, images)
        wanted = logits.argmax(dim=1) if class_index is None else class_index.to(logits.device)
        # Images do not mix: each keeps its own gradient in the sum over all.
        score = logits.gather(1, wanted.unsqueeze(1)).sum()
        contributions = []  # C of each layer, (B, N, N)
        for number, gradient in enumerate(torch.autograd.grad(score, outputs)):
            weights = outputs[number]
            if linformer:
                layer = layers[number]
                # to_out is linear: before it the gradient is the one behind it times its weights.
                before, values = (
                    one.unflatten(2, (-1, layer.dim_head)).transpose(1, 2)  # (B, H, N, d)
                    for one in (gradient @ layer.to_out.weight, found[len(layers) + number])
                )  # with one_kv_head values have H = 1
                projection = value_projection(layer)[: values.shape[2]]
                weights = effective_attention(found[number], projection)
                gradient = before @ values.transpose(2, 3)
            contributions.append((weights * gradient).detach().clamp(min=0).mean(dim=1))
    row = torch.zeros(len(images), 1, contributions[0].shape[1], device=images.device)
    row[:, :, 0] = 1.0  # the class token alone
    for contribution in reversed(contributions):
        row = row + row @ contribution
    return _map_of_row(row[:, 0])


def class_activation(
    network: nn.Module,
    images: torch.Tensor,
    class_index: torch.Tensor | None = None,
    least_cells: int = 1,
) -> torch.Tensor:
    """Grad-CAM maps float32 (B, h, w), each map's maximum 1 (or 0), of the last stage of planes.

    The stage is the last with `least_cells` cells on a side (or the first, if none has them); of a
    transformer without a class token its tokens are the plane. `class_index` as of
    `class_relevance`. `Gz2vitError` for a network without such a stage.
    """
    from captum.attr import LayerGradCam  # slow to import, and only wanted here

    with _with_gradients(network, images) as images:
        with torch.no_grad():
            stages = stages_of(network)
            outputs = record_outputs(network, images[:1], stages)[1]
            target = network(images).argmax(dim=1) if class_index is None else class_index
        grids = [plane_of(tuple(getattr(one, "shape", ())), images.shape) for one in outputs]
        if has_class_token(network) or not any(grids[-1:]):
            raise Gz2vitError(
                f"{type(network).__name__} has no stage of planes, which class activation needs; "
                "for a transformer with a class token use attention_rollout"
            )
        fine = [number for number, grid in enumerate(grids) if min(grid, default=0) >= least_cells]
        stage = stages[max(fine, default=next(n for n, grid in enumerate(grids) if grid))]
        planes = nn.Identity()

        def lead_through(_part: nn.Module, _in: object, output: torch.Tensor) -> torch.Tensor:
            """The stage's output, unchanged, after it has passed `planes` as (B, C, h, w)."""
            grid = plane_of(tuple(output.shape), images.shape)
            if output.ndim == 3:  # (B, h w, C)
                return planes(output.mT.unflatten(2, grid)).flatten(2).mT
            if output.shape[2:] == grid:
                return planes(output)
            return planes(output.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # (B, h, w, C)

        hook = stage.register_forward_hook(lead_through)
        try:
            activation = LayerGradCam(network, planes)
            maps = activation.attribute(images, target.to(images.device), relu_attributions=True)
        finally:
            hook.remove()
    return scale_maps(maps[:, 0].detach())  # (B, 1, h, w) -> (B, h, w)


def stages_of(network: nn.Module) -> list[nn.Module]:
    """The parts after which a network's planes shrink, first part first; [] without such parts.

    Of a VGG, what each max pooling takes in; of others, what their library lists.
    """
    match family_of(network):
        case "resnet":
            return [network.layer1, network.layer2, network.layer3, network.layer4]
        case "vgg":
            return [a for a, b in pairwise(network.features) if isinstance(b, nn.MaxPool2d)]
        case "timm":
            return [network.get_submodule(one["module"]) for one in network.feature_info]
        case "hugging_face":
            encoder = getattr(network.model.base_model, "encoder", None)
            return list(getattr(encoder, "stages", getattr(encoder, "layers", [])))
    return []


def plane_of(shape: tuple[int, ...], image_shape: tuple[int, ...]) -> tuple[int, ...]:
    """The h and w of what a stage returns, of images (B, 3, H, W); () if it is not a plane.

    Planes are (B, C, h, w), (B, h, w, C) as in Swin, or tokens (B, h w, C), with h : w = H : W.
    """
    height, width = image_shape[2:]
    side = math.isqrt(shape[1]) if len(shape) == 3 else 0
    if side and side**2 == shape[1] and height == width:
        return side, side
    pairs = (tuple(shape[2:]), tuple(shape[1:3])) if len(shape) == 4 else ()
    return next((pair for pair in pairs if pair[0] * width == pair[1] * height), ())


def attribution_maps(
    network: nn.Module,
    images: torch.Tensor,
    class_index: torch.Tensor | None = None,
    of_class: bool = False,
    batch_size: int = BATCH_SIZE,
) -> torch.Tensor:
    """Where any network looks in `images`, as `method_for` says: float32 (B, g, g) on the CPU.

    With `of_class`, a transformer's map is `class_relevance`, which tells galaxies apart where
    rollout (which ignores `class_index`) does not: a Linformer's projections are the same for all.
    `Gz2vitError` for a network that no method fits.
    """
    method, found = method_for(network, of_class), []
    for number, part in enumerate(check_images(network, images).split(batch_size)):
        wanted = None if class_index is None else class_index.split(batch_size)[number]
        if method == CLASS_ACTIVATION:
            maps = class_activation(network, part, wanted, LEAST_CELLS)
        elif method == CLASS_RELEVANCE:
            maps = class_relevance(network, part, wanted)
        else:
            maps = attention_rollout(collect_attention(network, part))
        found.append(maps.cpu())
    return torch.cat(found)


def method_for(network: nn.Module, of_class: bool = False) -> str:
    """How `attribution_maps` looks into a network: one of the four names above."""
    linformer = family_of(network) == "linformer"
    if not (linformer or has_class_token(network)):
        return CLASS_ACTIVATION
    if of_class:
        return CLASS_RELEVANCE
    return EFFECTIVE_ROLLOUT if linformer else ROLLOUT
