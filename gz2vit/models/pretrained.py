"""Pretrained weights in the names and shapes of a network that is built here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gz2vit.downloads.weights import read_tensors
from gz2vit.errors import Gz2vitError


def pretrained_state(
    architecture: str, hyperparameters: Mapping[str, Any], path: Path
) -> dict[str, torch.Tensor]:
    """The state dict of `build_model(architecture, **hyperparameters)` with weights from `path`.

    `path` is what `downloads.weights.fetch_weights` returns. The last layer is of no use. Raises
    `Gz2vitError` where the weights are of another network.
    """
    num_classes = hyperparameters.get("num_classes", 8)
    if architecture == "hf_vit":
        from gz2vit.models.hugging_face import HuggingFaceClassifier, load_folder

        return HuggingFaceClassifier(load_folder(path, num_classes)).state_dict()
    if architecture != "backbone":
        return read_tensors(path)
    from gz2vit.models import backbone

    name = hyperparameters["name"]
    if name.startswith(backbone.TIMM):
        image_size = hyperparameters.get("image_size", 224)
        return backbone.timm_state(name, read_tensors(path), image_size, num_classes)
    return _transformers_state(name, path, num_classes)


def _transformers_state(name: str, folder: Path, num_classes: int) -> dict[str, torch.Tensor]:
    """The classifier saved in a folder, with a new last layer."""
    from transformers import AutoModelForImageClassification

    from gz2vit.models.hugging_face import HuggingFaceClassifier

    try:
        model = AutoModelForImageClassification.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            num_labels=num_classes,
            ignore_mismatched_sizes=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:160]
        raise Gz2vitError(f"the weights in {folder} do not fit {name}: {reason}") from error
    return HuggingFaceClassifier(model).state_dict()
