"""The paper's networks: tensors in, tensors out.

`build_model("linformer", depth=12, dim=128)` returns a `torch.nn.Module` that takes normalised
images, float32 (B, 3, H, W), and returns class scores (logits), float32 (B, num_classes).
Without hyperparameters each is the paper's own, with random weights from torch's generator.
"""

import inspect
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

from torch import nn

from gz2vit.errors import Gz2vitError
from gz2vit.models.dropout import use_mask_dropout
from gz2vit.models.linformer import build_linformer
from gz2vit.models.resnet import build_resnet50

ARCHITECTURES: MappingProxyType[str, Callable[..., nn.Module]] = MappingProxyType(
    {"linformer": build_linformer, "resnet50": build_resnet50}
)
# Parameters of the last layer, by the beginning of their names: pretrained ones cannot serve.
HEAD_PREFIX = MappingProxyType({"linformer": "mlp_head.", "resnet50": "fc."})
WEIGHTED = "_weighted"  # a model key that ends so is the same network, trained with class weights


def architecture_of(model_key: str) -> str:
    """The architecture behind a model key: `linformer_weighted` is a `linformer`."""
    name = model_key.removesuffix(WEIGHTED)
    if name not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise Gz2vitError(f"there is no model '{model_key}'; the architectures are {known}")
    return name


def build_model(name: str, **hyperparameters: Any) -> nn.Module:
    """The network `name` (a model key or an architecture), the paper's unless told otherwise.

    Raises `Gz2vitError` for an unknown name, a hyperparameter that this network does not have,
    and values that do not fit together.
    """
    builder = ARCHITECTURES[architecture_of(name)]
    known = inspect.signature(builder).parameters
    for unknown in hyperparameters.keys() - known.keys():
        raise Gz2vitError(
            f"model '{name}' has no hyperparameter '{unknown}'; it has {', '.join(known)}"
        )
    return use_mask_dropout(builder(**hyperparameters))


def count_parameters(model: nn.Module, trainable: bool = False) -> int:
    """Parameters of a network; with `trainable`, only those that training changes."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)
