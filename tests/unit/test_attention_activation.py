"""gz2vit.attention.activation: Grad-CAM by its definition, on the last stage with planes."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from gz2vit.attention import class_activation, plane_of, stages_of
from gz2vit.io import Gz2vitError
from gz2vit.models import build_model
from tests.unit.test_models import SMALL

NAMES = ["resnet50", "vgg16_bn", "timm/resnet18", "timm/convnext_atto"]


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build_model(name).eval()


def by_definition(
    network: nn.Module,
    images: torch.Tensor,
    wanted: list[int],
    stage: int = -1,
    turned: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> torch.Tensor:
    """Maps (B, h, w) with a loop over channels; `turned` makes planes (B, C, h, w) of a stage."""
    kept = []
    hook = stages_of(network)[stage].register_forward_hook(lambda _, i, o: kept.append(o))
    logits = network(images)
    hook.remove()
    score = sum(logits[row, index] for row, index in enumerate(wanted))
    (gradient,) = torch.autograd.grad(score, kept[0])
    if turned:
        gradient, kept[0] = turned(gradient), turned(kept[0])
    maps = torch.zeros(len(images), *kept[0].shape[2:])
    for row in range(len(images)):
        for channel in range(kept[0].shape[1]):
            maps[row] += gradient[row, channel].mean() * kept[0][row, channel].detach()
    maps = maps.clamp(min=0)
    return torch.stack([one / one.max() if one.max() > 0 else one for one in maps])


@pytest.mark.parametrize("name", NAMES)
def test_maps_are_the_definition(name: str):
    network = build(name)
    images = torch.randn(2, 3, 64, 64)
    maps = class_activation(network, images, torch.tensor([3, 5]))
    assert maps.dtype == torch.float32
    assert maps.shape[1] == (4 if name == "vgg16_bn" else 2)
    assert maps.numpy() == pytest.approx(by_definition(network, images, [3, 5]).numpy(), abs=1e-4)


@pytest.mark.parametrize(("name", "stage"), [("resnet50", 2), ("vgg16_bn", 3)])
def test_a_finer_stage_on_request(name: str, stage: int):
    network = build(name)
    images = torch.randn(2, 3, 32, 32) if name == "vgg16_bn" else torch.randn(2, 3, 64, 64)
    maps = class_activation(network, images, torch.tensor([3, 5]), least_cells=3)
    assert maps.shape == (2, 4, 4)
    expected = by_definition(network, images, [3, 5], stage)
    assert maps.numpy() == pytest.approx(expected.numpy(), abs=1e-4)
    # where none is as fine, the finest there is
    whole = class_activation(network, images, 3, least_cells=999)
    assert whole.shape[1] == {"resnet50": 16, "vgg16_bn": 32}[name]


def test_the_class_is_the_predicted_one_by_default():
    network = build("timm/resnet18")
    images = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        predicted = network(images).argmax(dim=1)
    assert torch.equal(
        class_activation(network, images), class_activation(network, images, predicted)
    )
    other = (predicted + 1) % 8
    assert not torch.equal(
        class_activation(network, images), class_activation(network, images, other)
    )


def test_a_frozen_network_in_training_mode_is_left_as_it_was():
    network = build_model("timm/convnext_atto", image_size=64, freeze_backbone=True).train()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        class_activation(network, images)
    assert network.training
    assert not images.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())
    with torch.inference_mode():
        class_activation(network, images.clone())


# Transformers without a class token: their planes are (B, h, w, C), or tokens (B, h w, C).
TURNED = {
    "timm/swin_tiny_patch4_window7_224": lambda stage: stage.permute(0, 3, 1, 2),
    "timm/mixer_s32_224": lambda stage: stage.transpose(1, 2).unflatten(2, (7, 7)),
}


@pytest.mark.parametrize("name", TURNED)
def test_tokens_that_are_patches_are_planes(name: str):
    network, images = build(name), torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        before = network(images)
    maps = class_activation(network, images, torch.tensor([3, 5]))
    expected = by_definition(network, images, [3, 5], turned=TURNED[name])
    assert maps.shape == (2, 7, 7)
    assert maps.numpy() == pytest.approx(expected.numpy(), abs=1e-4)
    with torch.no_grad():
        assert torch.equal(network(images), before)  # no hook is left behind
    assert not any(part._forward_hooks for part in stages_of(network))


@pytest.mark.parametrize(
    ("shape", "plane"),
    [((2, 64, 7, 7), (7, 7)), ((2, 7, 7, 64), (7, 7)), ((2, 49, 64), (7, 7)), ((2, 50, 64), ()),
     ((2, 64), ()), ((), ()), ((2, 5, 6, 7), ())],
)  # fmt: skip
def test_planes_are_told_by_their_shape(shape: tuple, plane: tuple):
    assert plane_of(shape, (2, 3, 224, 224)) == plane
    assert plane_of((2, 64, 4, 8), (2, 3, 112, 224)) == (4, 8)
    assert plane_of((2, 49, 64), (2, 3, 112, 224)) == ()


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("vit", SMALL["vit"]), ("linformer", SMALL["linformer"]), ("hf_vit", SMALL["hf_vit"]),
     ("timm/vit_tiny_patch16_224", {"image_size": 32}), ("timm/coat_tiny", {"image_size": 32})],
)  # fmt: skip
def test_where_there_are_no_planes(name: str, sizes: dict):
    network = build_model(name, **sizes)
    side = sizes["image_size"]
    with pytest.raises(Gz2vitError, match="has no stage of planes"):
        class_activation(network, torch.randn(1, 3, side, side))


def test_a_class_that_is_not_there_is_refused():
    with pytest.raises(Gz2vitError, match="there is no class 8; the classes are 0 to 7"):
        class_activation(build("timm/resnet18"), torch.randn(1, 3, 32, 32), 8)
