"""The paper's networks, and any other by name: tensors in, tensors out.

`build_model("linformer", depth=12, dim=128)` returns a `torch.nn.Module` that takes normalised
images, float32 (B, 3, H, W), and returns class scores (logits), float32 (B, num_classes).
Without hyperparameters each is the paper's own, with random weights from torch's generator.
`build_model("timm/convnext_atto")` builds a network that the paper does not have.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gz2vit.errors import Gz2vitError
from gz2vit.models.dropout import use_mask_dropout
from gz2vit.results import WEIGHTED

ARCHITECTURES = ("linformer", "vit", "resnet50", "vgg16_bn", "hf_vit", "backbone")
LIBRARIES = ("timm/", "transformers/")  # where a network that is named so comes from
# Parameters of the last layer, by the beginning of their names: pretrained ones cannot serve.
HEADS = {
    "linformer": ("mlp_head.",),
    "vit": ("mlp_head.",),
    "resnet50": ("fc.",),
    "vgg16_bn": ("classifier.6.",),
    "hf_vit": ("model.classifier.",),
}


def architecture_of(model_key: str) -> str:
    """The architecture behind a model key: `linformer_weighted` is a `linformer`."""
    name = model_key.removesuffix(WEIGHTED)
    if name.startswith(LIBRARIES):
        return "backbone"
    if name not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise Gz2vitError(
            f"there is no model '{model_key}'; the architectures are {known}, and any network "
            "named timm/NAME or transformers/NAME"
        )
    return name


def build_model(name: str, /, **hyperparameters: Any) -> nn.Module:
    """The network `name` (a model key or an architecture), the paper's unless told otherwise.

    Raises `Gz2vitError` for an unknown name, a hyperparameter that this network does not have,
    and values that do not fit together.
    """
    builder = _builder(architecture_of(name))
    if name.startswith(LIBRARIES):
        hyperparameters = {"name": name, **hyperparameters}
    known = inspect.signature(builder).parameters
    for unknown in hyperparameters.keys() - known.keys():
        raise Gz2vitError(
            f"model '{name}' has no hyperparameter '{unknown}'; it has {', '.join(known)}"
        )
    return use_mask_dropout(builder(**hyperparameters))


def _builder(architecture: str) -> Callable[..., nn.Module]:
    """The function behind an architecture, imported when it is wanted: some libraries are slow."""
    match architecture:
        case "linformer":
            from gz2vit.models.linformer import build_linformer as builder
        case "vit":
            from gz2vit.models.vit import build_vit as builder
        case "resnet50":
            from gz2vit.models.resnet import build_resnet50 as builder
        case "vgg16_bn":
            from gz2vit.models.vgg import build_vgg16_bn as builder
        case "hf_vit":
            from gz2vit.models.hugging_face import build_hf_vit as builder
        case _:
            from gz2vit.models.backbone import build_backbone as builder
    return builder


def head_prefixes(architecture: str, network: nn.Module) -> tuple[str, ...]:
    """How the names of the last layer's parameters begin."""
    if architecture in HEADS:
        return HEADS[architecture]
    from gz2vit.models.backbone import head_prefixes as of_backbone

    return of_backbone(network)


def count_parameters(model: nn.Module, trainable: bool = False) -> int:
    """Parameters of a network; with `trainable`, only those that training changes."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)


def count_flops(model: nn.Module, image_size: int) -> int:
    """Floating-point operations for one image of `image_size` px, forward only.

    Products and sums of matrix products, convolutions and attention, counted by torch; a
    multiplication and the addition after it are two.
    """
    first = next(model.parameters())
    image = torch.zeros(1, 3, image_size, image_size, device=first.device)
    was_training = model.training
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model.eval()(image)
    model.train(was_training)
    return counter.get_total_flops()
