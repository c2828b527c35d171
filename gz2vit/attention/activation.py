"""Class activation maps: where a network with planes finds its evidence for a class.

Source: Grad-CAM, Selvaraju et al. 2017, arXiv:1610.02391, as captum computes it
(https://github.com/pytorch/captum).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import nn

from gz2vit.attention.collection import listening
from gz2vit.attention.networks import check_class, family_of, has_class_token, with_gradients
from gz2vit.attention.rollout import scale_maps
from gz2vit.errors import Gz2vitError


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
