"""What all looks into a network need: which family it is of, evaluation mode, batches of images.

Networks are those of `gz2vit.models.build_model`; images are their input, normalised.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from gz2vit.errors import Gz2vitError

BATCH_SIZE = 16  # images at once: all attention of a ViT-Base at 224 px is 22 MB an image
# Where a network's class is defined decides its family, so that no library is imported for asking.
_FAMILIES = {
    "vit_pytorch.vit": "vit",
    "vit_pytorch.efficient": "linformer",
    "torchvision.models.resnet": "resnet",
    "torchvision.models.vgg": "vgg",
    "gz2vit.models.hugging_face": "hugging_face",
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
