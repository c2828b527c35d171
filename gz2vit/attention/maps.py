"""Where a network looks: one door for all of them, by the means that fits each."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from gz2vit.attention.activation import class_activation
from gz2vit.attention.collection import collect_attention
from gz2vit.attention.networks import (
    BATCH_SIZE,
    family_of,
    has_class_token,
    in_batches,
    on_device,
)
from gz2vit.attention.relevance import class_relevance
from gz2vit.attention.rollout import attention_rollout
from gz2vit.errors import Gz2vitError

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
