"""Where a network looks in an image: the attention of transformers, the class activation of CNNs.

Networks are those of `gz2vit.models.build_model`, put in evaluation mode; images are their input,
normalised floats (B, 3, H, W). Hooks take what a network computes: vit-pytorch's `Recorder` and
timm's `AttentionExtract` give no gradients, captum's Grad-CAM takes no tokens.

Sources: attention rollout, Abnar & Zuidema 2020, arXiv:2005.00928 (the paper's Fig. 5); attention
weighted with gradients, Chefer et al. 2021, arXiv:2103.15679; Grad-CAM, Selvaraju et al. 2017,
arXiv:1610.02391; the Linformer's attention, Wang et al. 2020, arXiv:2006.04768.
"""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import pairwise, repeat
from threading import local

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from gz2vit.io import Gz2vitError

BATCH_SIZE = 32  # images at once for maps: all attention of a ViT-Base at 224 px is 22 MB per image
# Of images at once where only logits are computed: a batch stays in a core's own memory.
BATCH_PIXELS = {"cpu": 8 * 224**2, "cuda": 64 * 224**2}
ROW_SUM_TOLERANCE = 5e-3  # rows of bfloat16 miss 1 by 2e-3, effective attention by tenths

# How a map was made. They share a scale, not a meaning: rollout knows no class, the others do.
ROLLOUT = "attention rollout"
EFFECTIVE_ROLLOUT = "attention rollout of absolute effective attention"
CLASS_RELEVANCE = "attention weighted with the class's gradient"
LEAST_CELLS = 4  # on a side: of 2 x 2 cells none lies on a galaxy in the middle
CLASS_ACTIVATION = f"Grad-CAM of the last stage with {LEAST_CELLS} x {LEAST_CELLS} cells or more"

# Where a network's class is defined decides its family, so that no library is imported to ask.
_FAMILIES = {
    "vit_pytorch.vit": "vit", "vit_pytorch.efficient": "linformer", "gz2vit.models": "hugging_face",
    "torchvision.models.resnet": "resnet", "torchvision.models.vgg": "vgg", "timm.models": "timm",
}  # fmt: skip


def family_of(network: nn.Module) -> str:
    """`vit`, `linformer`, `resnet`, `vgg`, `hugging_face` or `timm`; `Gz2vitError` for others."""
    for base in type(network).__mro__:
        for home, family in _FAMILIES.items():
            if f"{base.__module__}.".startswith(f"{home}."):
                return family
    raise Gz2vitError(f"{type(network).__name__} is not known; pass one of models.build_model")


def has_class_token(network: nn.Module) -> bool:
    """Whether a network is a transformer that classifies by a class token."""
    return any(name.rpartition(".")[2] == "cls_token" for name, _ in network.named_parameters())


def has_plain_blocks(network: nn.Module) -> bool:
    """Whether a network of timm is made of blocks whose attention can be seen."""
    layers = [block.attn for block in getattr(network, "blocks", []) if hasattr(block, "attn")]
    return bool(layers) and all(hasattr(a, "fused_attn") & hasattr(a, "attn_drop") for a in layers)


def methods_of(network: nn.Module) -> dict[str, str]:
    """How `attribution_maps` makes each kind of map of a network: `class`, perhaps `attention`."""
    linformer = family_of(network) == "linformer"
    if linformer or has_class_token(network):
        return {"attention": EFFECTIVE_ROLLOUT if linformer else ROLLOUT, "class": CLASS_RELEVANCE}
    return {"class": CLASS_ACTIVATION}


def check_images(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Images on the device of the network, which is put in evaluation mode."""
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[1] != 3 or 0 in shape or not images.is_floating_point():
        raise Gz2vitError(f"images are {images.dtype} {shape}; pass normalised floats (B, 3, H, W)")
    return images.to(next(network.eval().parameters()).device)


def record_outputs(
    network: nn.Module, images: torch.Tensor, parts: Sequence[nn.Module]
) -> tuple[torch.Tensor, list]:
    """The logits (B, classes), and what each of `parts` returned in that pass (None: not used)."""
    found: dict[nn.Module, object] = {}
    with ExitStack() as hooks:
        for part in parts:
            keep = part.register_forward_hook(lambda own, _, output: found.update({own: output}))
            hooks.callback(keep.remove)
        logits = network(images)
    return logits, [found.get(part) for part in parts]


def batch_size(images: torch.Tensor) -> int:
    """How many of images (B, 3, H, W) at once where only logits are computed."""
    pixels = BATCH_PIXELS["cpu" if images.device.type == "cpu" else "cuda"]
    return min(256, max(1, pixels // (images.shape[2] * images.shape[3])))


def predict_probabilities(network: nn.Module, images: torch.Tensor) -> np.ndarray:
    """Class probabilities, float64 (B, classes), each row's sum 1."""
    images = check_images(network, images)
    return predict_batches(nn.Module.__call__, network, images.split(batch_size(images)))


def predict_batches(
    logits_of: Callable, network: nn.Module, batches: Iterable, bar: tqdm | None = None
) -> np.ndarray:
    """The probabilities of the logits of batches; `bar` advances by image."""
    work, found = torch.inference_mode()(lambda *given: logits_of(*given).cpu()), []
    for logits in map_batches(work, network, batches):
        found.append(logits)
        if bar is not None:
            bar.update(len(logits))
    return torch.cat(found).double().softmax(dim=1).numpy()


def map_batches(work: Callable, network: nn.Module, batches: Iterable) -> Iterator:
    """`work(network, batch)` of each batch, in order; on a CPU a batch for each thread.

    Threads that share a batch would wait for each other at every layer. Each has its own network,
    of the same weights, so that hooks see one pass alone.
    """
    here, weights = local(), [*network.parameters(), *network.buffers()]
    threads = torch.get_num_threads() if weights[0].device.type == "cpu" else 1

    def begin() -> None:
        torch.set_num_threads(1)
        here.network = copy.deepcopy(network, {id(one): one for one in weights})

    try:
        with ThreadPoolExecutor(threads, "predict", begin) as pool:
            yield from pool.map(lambda batch: work(here.network, batch), batches)
    finally:
        torch.set_num_threads(threads)  # the library's own count is one for all threads


def collect_attention(
    network: nn.Module, images: torch.Tensor, normalised: bool = True
) -> list[torch.Tensor]:
    """The weight that token n gives to token m in each layer, (B, H, N, N); 0 is the class token.

    A Linformer's is its `effective_attention`, made a distribution where `normalised`.
    """
    images = check_images(network, images)
    with torch.no_grad():
        attentions = record_attention(network, images)[1]
    linformer = family_of(network) == "linformer"
    return list(map(as_distribution, attentions)) if normalised and linformer else attentions


def record_attention(
    network: nn.Module, images: torch.Tensor
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Logits (B, classes) and each layer's attention, with its gradients."""
    family, token = family_of(network), has_class_token(network)
    with ExitStack() as restore:
        if family == "linformer":
            layers = linformer_layers(network)
            logits, weights = record_outputs(network, images, [layer.dropout for layer in layers])
            return logits, list(map(effective_attention, weights, layers))
        if family == "vit":
            parts = [layer[0].fn.attend for layer in network.transformer.layers]
            return record_outputs(network, images, parts)
        if family == "hugging_face" and token:
            change = network.model.set_attn_implementation
            restore.callback(change, network.model.config._attn_implementation)
            change("eager")  # the only one that has weights to record
            outputs = network.model(pixel_values=images, output_attentions=True)
            if outputs.get("attentions"):
                return outputs.logits, list(outputs.attentions)
        if family == "timm" and token and has_plain_blocks(network):
            layers = [block.attn for block in network.blocks]
            for layer in layers:
                restore.callback(setattr, layer, "fused_attn", layer.fused_attn)
                layer.fused_attn = False  # fused attention has no weights to see
            return record_outputs(network, images, [layer.attn_drop for layer in layers])
    words = "has no attention between a class token and all patches"
    raise Gz2vitError(f"{type(network).__name__} {words}")


def linformer_layers(network: nn.Module) -> list[nn.Module]:
    """The attention layers of a Linformer; each passes its P through `dropout` unchanged."""
    return [block[0].fn for block in network.transformer.net.layers]


def value_projection(layer: nn.Module) -> torch.Tensor:
    """F^T of a Linformer layer, (N, k): with `share_kv` keys and values have one projection."""
    return layer.proj_k if layer.share_kv else layer.proj_v


def effective_attention(weights: torch.Tensor, layer: nn.Module) -> torch.Tensor:
    """P F, (B, H, N, N), of a Linformer layer, with `weights` P = softmax(Q (E K)^T / sqrt(d)).

    As its result is P (F V) = (P F) V, this is exact; it can be negative, rows need not sum to one.
    """
    return weights @ value_projection(layer)[: weights.shape[2]].transpose(0, 1)


def as_distribution(attention: torch.Tensor) -> torch.Tensor:
    """Absolute values divided by each row's sum, as rollout needs; loses sign and strength."""
    return functional.normalize(attention, p=1.0, dim=-1).abs()


def attention_rollout(attentions: Sequence[torch.Tensor], each_head: bool = False) -> torch.Tensor:
    """The class token's attention to every patch, float32 (B, g, g), each map's maximum 1 (or 0).

    `attentions`: of each layer (B, H, N, N), first layer first, N = g^2 + 1, rows distributions.
    With A the mean over heads, A' = (A + I) / 2 adds the skip connection; the map is the class
    token's row of A'_L ... A'_2 A'_1 without its own entry. `each_head`: of each, (B, H, g, g).
    """
    # Apple's GPUs have no float64.
    kind = torch.float32 if attentions[0].device.type == "mps" else torch.float64
    count, heads, _, tokens = attentions[0].shape
    row = attentions[0].new_zeros(count, heads if each_head else 1, 1, tokens, dtype=kind)
    row[..., 0] = 1.0  # the class token alone
    for number, weights in reversed(list(enumerate(attentions))):
        weights, least = weights.detach(), weights.min().item()
        worst = (weights.float().sum(dim=-1) - 1).abs().max().item()
        if not (least >= 0 and worst <= ROW_SUM_TOLERANCE):  # NaN, too
            found = f"least weight is {least:.3g}, a row's sum misses 1 by {worst:.3g}"
            advice = "check the weights, or use as_distribution"
            raise Gz2vitError(f"layer {number} is no distribution: its {found}; {advice}")
        weights = weights.to(kind) if each_head else weights.to(kind).mean(dim=1, keepdim=True)
        # A row of a product needs no product of matrices: row A' = (row A + row) / 2
        row = (row @ weights + row) / 2
    return _map_of_row(row[:, :, 0] if each_head else row[:, 0, 0])


def _scale(maps: torch.Tensor) -> torch.Tensor:
    """Maps (..., h, w), none negative, divided by each one's maximum; float32. Zero maps stay."""
    largest = maps.amax(dim=(-2, -1), keepdim=True)
    return torch.where(largest > 0, maps / largest, 0.0).float()


def _map_of_row(row: torch.Tensor) -> torch.Tensor:
    """The class token's row (..., N) without its own entry as scaled maps (..., g, g)."""
    grid, tokens = math.isqrt(row.shape[-1] - 1), row.shape[-1]
    if grid == 0 or grid**2 + 1 != tokens:
        raise Gz2vitError(f"{tokens} tokens are not a class token and a square of patches, g*g + 1")
    return _scale(row[..., 1:].unflatten(-1, (grid, grid)))


def transformer_maps(
    network: nn.Module, images: torch.Tensor, class_index: torch.Tensor | None = None
) -> dict[str, torch.Tensor]:
    """The maps of a transformer from one pass, as `attribution_maps` describes them.

    `class` is Chefer et al.'s: with A a layer's attention (a Linformer's effective one, of either
    sign) and G the gradient of the class's logit to it, C is the mean over heads of the positive
    part of G * A, and the map the class token's row of (I + C_L) ... (I + C_1).
    """
    layers = linformer_layers(network) if (linformer := family_of(network) == "linformer") else []
    with torch.inference_mode(False), torch.enable_grad():
        images = images.detach().clone().requires_grad_()  # whatever the caller and weights have
        if linformer:
            # A = P F is never computed in the network's pass, but the layer's result is A V: with
            # Z the gradient to that, the gradient to A is Z V^T.
            parts = [(a.dropout, a.to_out, a.to_k if a.share_kv else a.to_v) for a in layers]
            logits, found = record_outputs(network, images, sum(parts, ()))
            attentions = list(map(effective_attention, found[::3], layers))
            outputs, values = found[1::3], found[2::3]
        else:
            logits, attentions = record_attention(network, images)
            outputs = attentions
        gradients = list(torch.autograd.grad(_score(logits, class_index), outputs))
    with torch.no_grad():
        for number, layer in enumerate(layers):
            # to_out is linear: before it the gradient is the one behind it times its weights.
            before, own = (
                one.unflatten(2, (-1, layer.dim_head)).transpose(1, 2)  # (B, H, N, d)
                for one in (gradients[number] @ layer.to_out.weight, values[number])
            )  # with one_kv_head values have H = 1
            gradients[number] = before @ own.transpose(2, 3)
        row = torch.zeros(len(images), 1, attentions[0].shape[3], device=images.device)
        row[:, :, 0] = 1.0  # the class token alone
        for weights, gradient in zip(attentions[::-1], gradients[::-1], strict=True):
            row = row + row @ (weights * gradient).clamp(min=0).mean(dim=1)
        shares = list(map(as_distribution, attentions)) if linformer else attentions
        maps = {"attention": attention_rollout(shares), "heads": attention_rollout(shares, True)}
        return maps | {"class": _map_of_row(row[:, 0])}


def _score(logits: torch.Tensor, class_index: torch.Tensor | None) -> torch.Tensor:
    """The sum of the classes' logits: images do not mix, so that each keeps its own gradient."""
    wanted = logits.argmax(dim=1) if class_index is None else class_index.to(logits.device)
    return logits.gather(1, wanted.unsqueeze(1)).sum()


def class_activation(
    network: nn.Module, images: torch.Tensor, class_index: torch.Tensor | None = None
) -> dict[str, torch.Tensor]:
    """`class`: Grad-CAM (B, h, w) of the last stage of `LEAST_CELLS` cells a side or the first."""
    stages, kept = stages_of(network), []

    def begin_here(_part: nn.Module, _in: object, output: torch.Tensor) -> torch.Tensor:
        """The stage's output, from which on gradients are recorded."""
        torch.set_grad_enabled(True)
        kept.append(output.detach().requires_grad_())
        return kept[0].clone()  # which the next layer may overwrite

    with torch.inference_mode(False), torch.no_grad():
        outputs = record_outputs(network, images[:1], stages)[1]
        planes = [planes_of(output, images.shape) for output in outputs]
        if not planes or planes[-1] is None:
            raise Gz2vitError(f"{type(network).__name__} has no stage of planes; it has no map")
        sides = [0 if one is None else min(one.shape[2:]) for one in planes]
        fine = [number for number, side in enumerate(sides) if side >= LEAST_CELLS]
        stage = stages[max(fine, default=next(n for n, side in enumerate(sides) if side))]
        hook = stage.register_forward_hook(begin_here)
        try:
            logits = network(images)
        finally:
            hook.remove()
        gradient = torch.autograd.grad(_score(logits, class_index), kept)[0]
    planes, gradient = (planes_of(one.detach(), images.shape) for one in (kept[0], gradient))
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return {"class": _scale((weights * planes).sum(dim=1).clamp(min=0))}


def stages_of(network: nn.Module) -> list[nn.Module]:
    """The parts after which planes shrink, first part first; of a VGG, before each max pooling."""
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


def planes_of(output: object, image_shape: Sequence[int]) -> torch.Tensor | None:
    """A stage's output (B, C, h, w), Swin's (B, h, w, C) or tokens (B, h w, C) as planes, or None.

    Planes are (B, C, h, w), with h : w = H : W of the images (B, 3, H, W).
    """
    height, width = image_shape[2:]
    ndim, both = getattr(output, "ndim", 0), ()
    if ndim == 4:
        both = (output, output.permute(0, 3, 1, 2))
    elif ndim == 3 and math.isqrt(output.shape[1]) ** 2 == output.shape[1]:
        both = (output.mT.unflatten(2, 2 * (math.isqrt(output.shape[1]),)),)
    return next((one for one in both if one.shape[2] * width == one.shape[3] * height), None)


def attribution_maps(
    network: nn.Module, images: torch.Tensor, class_index: torch.Tensor | None = None
) -> dict[str, torch.Tensor]:
    """Where any network looks: float32 maps on the CPU by kind, each one's maximum 1 (or 0).

    `class` (B, g, g), of the classes `class_index` int64 (B,), by default those predicted; of a
    transformer `attention` (B, g, g) and `heads` (B, H, g, g), too, which know no class: a
    Linformer's hardly tell galaxies apart, as its projections are the same for all.
    """
    make = transformer_maps if "attention" in methods_of(network) else class_activation
    parts = check_images(network, images).split(BATCH_SIZE)
    wanted = repeat(None) if class_index is None else class_index.split(BATCH_SIZE)
    pairs = zip(parts, wanted, strict=False)
    found = list(map_batches(lambda own, pair: make(own, *pair), network, pairs))
    return {kind: torch.cat([one[kind].cpu() for one in found]) for kind in found[0]}
