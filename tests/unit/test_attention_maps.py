"""gz2vit.attention.maps: one door for every network, and maps brought to one size."""

import pytest
import torch

from gz2vit.attention import (
    CLASS_ACTIVATION,
    CLASS_RELEVANCE,
    EFFECTIVE_ROLLOUT,
    ROLLOUT,
    attention_rollout,
    class_activation,
    class_relevance,
    collect_attention,
    gaze,
    resize_maps,
    why_no_map,
)
from gz2vit.io import Gz2vitError
from gz2vit.models import ARCHITECTURES, build_model
from tests.unit.test_models import SMALL

METHODS = {
    "linformer": (EFFECTIVE_ROLLOUT, CLASS_RELEVANCE),
    "vit": (ROLLOUT, CLASS_RELEVANCE),
    "hf_vit": (ROLLOUT, CLASS_RELEVANCE),
    "resnet50": (CLASS_ACTIVATION, CLASS_ACTIVATION),
    "vgg16_bn": (CLASS_ACTIVATION, CLASS_ACTIVATION),
    "backbone": (CLASS_ACTIVATION, CLASS_ACTIVATION),
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_has_a_gaze(architecture: str):
    torch.manual_seed(0)
    network = build_model(architecture, **SMALL[architecture]).eval()
    images = torch.randn(3, 3, 32, 32)
    classes = torch.tensor([0, 5, 2])
    for of_class in (False, True):
        found = gaze(network, images, classes, of_class, batch_size=2)
        assert found.method == METHODS[architecture][of_class]
        assert found.maps.dtype == torch.float32
        assert found.maps.amin() >= 0
        assert found.maps.amax() <= 1
        match found.method:
            case "Grad-CAM of the last stage with 4 x 4 cells or more":
                expected = class_activation(network, images, classes, least_cells=4)
                assert expected.shape == (3, 4, 4)
            case "attention weighted with the class's gradient":
                expected = class_relevance(network, images, classes)
            case _:
                expected = attention_rollout(collect_attention(network, images))
        assert torch.allclose(found.maps, expected, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "why"),
    [("timm/convnext_atto", ""), ("timm/vit_tiny_patch16_224", ""),
     ("timm/deit_tiny_distilled_patch16_224", "6 tokens are not a class token and a square"),
     ("timm/coat_tiny", "CoaT has no stage of planes")],
)  # fmt: skip
def test_why_a_network_has_no_map(name: str, why: str):
    network = build_model(name, image_size=32).eval()
    assert why_no_map(network, torch.randn(3, 3, 32, 32)).startswith(why)
    assert bool(why_no_map(network, torch.randn(1, 3, 32, 32))) == bool(why)


def test_sizes():
    maps = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    assert resize_maps(maps, 1).tolist() == [[[0.5]]]
    assert torch.equal(resize_maps(maps, 2), maps)
    larger = resize_maps(maps, 8)
    assert larger.shape == (1, 8, 8)
    assert larger[0, 0, 0] == 0.0
    assert larger[0, 0, 7] == 1.0
    assert larger.mean() == pytest.approx(0.5)
    for wrong, size in ((maps[0], 4), (maps, 0)):
        with pytest.raises(Gz2vitError, match=r"give \(B, h, w\) and a size from 1 on"):
            resize_maps(wrong, size)
