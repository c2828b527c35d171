"""Class activation maps: where a CNN finds its evidence for a class.

Source: Grad-CAM, Selvaraju et al. 2017, arXiv:1610.02391, as captum computes it
(https://github.com/pytorch/captum).
"""

from itertools import pairwise

import torch
from torch import nn

from gz2vit.attention.collection import listening
from gz2vit.attention.networks import check_class, family_of, with_gradients
from gz2vit.attention.rollout import scale_maps
from gz2vit.errors import Gz2vitError


def class_activation(
    network: nn.Module,
    images: torch.Tensor,
    class_index: int | torch.Tensor | None = None,
    least_cells: int = 1,
) -> torch.Tensor:
    """Grad-CAM maps float32 (B, h, w), each map's maximum 1, of the last convolutional stage.

    `images`: normalised floats (B, 3, H, W); h and w are the stage's: H / 32 for a ResNet, H / 16
    for a VGG. `class_index`: the class whose evidence is sought, one for all or (B,); by default
    the predicted one. `least_cells`: the last stage with so many cells on a side is taken instead
    (or the first, if none has them): of small images the last stage sees hardly more than one
    cell. Each channel of the stage is weighted with the mean gradient of the class's logit over
    the plane, and only what speaks for the class is kept: a map can be 0 throughout.

    Raises `Gz2vitError` for a network without a convolutional stage and a class that is not there.
    """
    from captum.attr import LayerGradCam  # slow to import, and only wanted here

    with with_gradients(network, images) as images:
        logits, layer = _look_once(network, images, least_cells)
        target = check_class(class_index, logits)
        maps = LayerGradCam(network, layer).attribute(images, target=target, relu_attributions=True)
    return scale_maps(maps[:, 0].detach())  # (B, 1, h, w) -> (B, h, w)


def stages_of(network: nn.Module) -> list[nn.Module]:
    """The parts of a CNN after which its planes, (B, channels, h, w), shrink; first part first.

    Of a VGG, what each max pooling takes in. Raises `Gz2vitError` where there are none.
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
            stages = getattr(getattr(network.model.base_model, "encoder", None), "stages", None)
            if stages is not None:
                return list(stages)
    raise _no_stage(network)


def _look_once(
    network: nn.Module, images: torch.Tensor, least_cells: int
) -> tuple[torch.Tensor, nn.Module]:
    """The logits (B, classes), and the last stage with so many cells on a side, or the first.

    `Gz2vitError` if what the last stage returns is no plane of the image: the layers of some
    transformers return (B, h, w, channels), whose last axes are none.
    """
    stages, shapes = stages_of(network), {}
    with torch.no_grad(), listening(stages, lambda i, output: shapes.update({i: output.shape})):
        logits = network(images)
    height, width = images.shape[2:]
    last = shapes[len(stages) - 1]
    if len(last) != 4 or last[2] * width != last[3] * height:
        raise _no_stage(network)
    fine = [number for number in shapes if min(shapes[number][2:]) >= least_cells]
    return logits, stages[max(fine, default=0)]


def _no_stage(network: nn.Module) -> Gz2vitError:
    """What to say of a network that is no CNN."""
    return Gz2vitError(
        f"{type(network).__name__} has no last convolutional stage, which class activation needs; "
        "for a transformer with a class token take attention_rollout"
    )
