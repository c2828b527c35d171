"""What every layer of a network makes of an image: one vector a layer."""

from collections.abc import Callable

import torch
from torch import nn

from gz2vit.attention.collection import has_plain_blocks, listening
from gz2vit.attention.networks import (
    BATCH_SIZE,
    family_of,
    has_class_token,
    in_batches,
    in_evaluation,
    on_device,
)
from gz2vit.errors import Gz2vitError


def layer_embeddings(
    network: nn.Module, images: torch.Tensor, batch_size: int = BATCH_SIZE
) -> dict[str, torch.Tensor]:
    """Layer name -> float32 (B, D) on the CPU, in the order of the layers.

    `images`: normalised floats (B, 3, H, W). Of a transformer with a class token, that token
    after each block (`block 1`, ...); of a CNN, the mean over the plane after each stage
    (`stage 1`, ...); of other transformers, the mean over tokens. Raises `Gz2vitError` for a
    network whose layers are not known.
    """
    collect = _collector(network)
    found = []
    with torch.no_grad(), in_evaluation(network):
        for part in in_batches(on_device(network, images), batch_size):
            found.append([one.float().cpu() for one in collect(network, part)])
    word = "block" if has_class_token(network) else "stage"
    layers = (torch.cat(parts) for parts in zip(*found, strict=True))
    return {f"{word} {number}": layer for number, layer in enumerate(layers, 1)}


Collector = Callable[[nn.Module, torch.Tensor], list[torch.Tensor]]


def _collector(network: nn.Module) -> Collector:
    """What finds a network's layers."""
    match family_of(network):
        case "vit" | "linformer":
            return _of_vit_pytorch
        case "hugging_face":
            return _of_hugging_face
        case _:
            return _of_stages


def _of_vit_pytorch(network: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """The class token after each block of a vit-pytorch ViT, Linformer or not.

    The sum with the skip connection is made outside all parts, so that a block's result is seen
    where the next block takes it in; the last one's is the transformer's.
    """
    inside = network.transformer
    blocks = inside.net.layers if family_of(network) == "linformer" else inside.layers
    tokens: list[torch.Tensor] = []
    hooks = [
        block[0].register_forward_pre_hook(lambda _part, inputs: tokens.append(inputs[0][:, 0]))
        for block in list(blocks)[1:]
    ]
    hooks.append(inside.register_forward_hook(lambda _part, _in, out: tokens.append(out[:, 0])))
    try:
        network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return tokens


def _of_hugging_face(network: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """A transformers model's own record, the first of which is its patches before any layer."""
    states = network.model(pixel_values=images, output_hidden_states=True).hidden_states[1:]
    return [_pool(state, has_class_token(network), state.shape[1]) for state in states]


def _of_stages(network: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """After each stage of a CNN, or of what timm lists as stages."""
    family = family_of(network)
    if family == "resnet":
        parts = [network.layer1, network.layer2, network.layer3, network.layer4]
        channels = [None] * len(parts)
    elif family == "vgg":
        parts = [part for part in network.features if isinstance(part, nn.MaxPool2d)]
        channels = [None] * len(parts)
    else:
        parts = [network.get_submodule(one["module"]) for one in network.feature_info]
        channels = [one["num_chs"] for one in network.feature_info]
    pooled: dict[int, torch.Tensor] = {}
    # Some add their class token behind these stages: until then all tokens are patches.
    token = has_class_token(network) and has_plain_blocks(network)

    def keep(number: int, output: torch.Tensor) -> None:
        """Pool what a stage returns."""
        pooled[number] = _pool(output, token, channels[number] or output.shape[1])

    with listening(parts, keep):
        network(images)
    if len(pooled) < len(parts):  # it goes another way than through what timm lists: its last alone
        return [network.forward_head(network.forward_features(images), pre_logits=True)]
    return [pooled[number] for number in range(len(parts))]


def _pool(output: torch.Tensor, class_token: bool, channels: int) -> torch.Tensor:
    """One vector an image, (B, channels), of (B, N, D), (B, C, h, w) or (B, h, w, C)."""
    if output.ndim == 3:
        return output[:, 0] if class_token else output.mean(dim=1)
    if output.ndim == 4 and output.shape[1] == channels:
        return output.mean(dim=(2, 3))
    if output.ndim == 4 and output.shape[3] == channels:
        return output.mean(dim=(1, 2))
    raise Gz2vitError(
        f"a layer's output of shape {tuple(output.shape)} has no known pooling; give a network "
        "whose layers return tokens (B, N, D) or planes (B, C, h, w)"
    )
