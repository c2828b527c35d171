"""gz2vit.attention.embeddings: every layer in order, the last of which makes the logits."""

import pytest
import torch
from torch import nn

from gz2vit.features import layer_embeddings
from gz2vit.models import build_model
from tests.unit.test_models import SMALL

SWIN = "timm/swin_tiny_patch4_window7_224"
# name: layers, their first and last width
LAYERS = {
    "linformer": (2, 16, 16),
    "vit": (2, 16, 16),
    "hf_vit": (2, 16, 16),
    "resnet50": (4, 256, 2048),
    "vgg16_bn": (5, 64, 512),
    "timm/convnext_atto": (4, 40, 320),
    "timm/vit_tiny_patch16_224": (12, 192, 192),
    SWIN: (4, 96, 768),
}


def build(name: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    side = 224 if name == SWIN else 32
    sizes = SMALL.get(name, {} if name in SMALL else {"image_size": side})
    return build_model(name, **sizes).eval(), torch.randn(3, 3, side, side)


def head(name: str, network: nn.Module, last: torch.Tensor) -> torch.Tensor:
    """The logits that a network makes of its last layer's embedding."""
    match name:
        case "linformer" | "vit":
            return network.mlp_head(last)
        case "hf_vit":
            return network.model.classifier(network.model.vit.layernorm(last))
        case "resnet50":
            return network.fc(last)
        case "vgg16_bn":  # 1 x 1 px are spread over the 7 x 7 that the classifier takes
            return network.classifier(last[:, :, None, None].expand(-1, -1, 7, 7).flatten(1))
        case "timm/convnext_atto":
            return network.head(last[:, :, None, None])
        case "timm/vit_tiny_patch16_224":
            return network.head(network.norm(last))
        case _:  # Swin's norm stands between its last stage and the mean: no way back
            return network.forward_head(network.norm(last)[:, None, None])


@pytest.mark.parametrize("name", LAYERS)
def test_the_last_layer_makes_the_logits(name: str):
    network, images = build(name)
    layers, first, last = LAYERS[name]
    found = layer_embeddings(network.train(), images, batch_size=2)
    assert all(part.training for part in network.modules())
    word = "block" if (first == last) else "stage"
    assert list(found) == [f"{word} {number}" for number in range(1, layers + 1)]
    vectors = list(found.values())
    assert vectors[0].shape == (3, first)
    assert vectors[-1].shape == (3, last)
    assert {one.dtype for one in vectors} == {torch.float32}
    if name != SWIN:
        with torch.no_grad():
            made = head(name, network.eval(), vectors[-1])
            assert torch.allclose(made, network(images), atol=1e-4)


@pytest.mark.parametrize("name", ["linformer", "vit", "hf_vit"])
def test_an_earlier_block_is_what_a_shorter_network_ends_with(name: str):
    network, images = build(name)
    found = layer_embeddings(network, images)
    blocks = {
        "linformer": lambda n: n.transformer.net.layers,
        "vit": lambda n: n.transformer.layers,
        "hf_vit": lambda n: n.model.vit.layers,
    }[name](network)
    del blocks[1]
    with torch.no_grad():
        assert torch.allclose(head(name, network, found["block 1"]), network(images), atol=1e-5)


def test_an_earlier_stage_is_the_mean_over_its_plane():
    network, images = build("resnet50")
    with torch.no_grad():
        plane = network.maxpool(network.relu(network.bn1(network.conv1(images))))
        expected = network.layer1(plane).mean(dim=(2, 3))
    assert torch.allclose(layer_embeddings(network, images)["stage 1"], expected, atol=1e-5)


def test_a_network_that_goes_past_its_stages_has_its_last_vector():
    network, images = build("timm/coat_tiny")
    (last,) = layer_embeddings(network, images).values()
    with torch.no_grad():
        assert torch.allclose(network.head(last), network(images), atol=1e-5)


def test_a_class_token_that_comes_later_is_not_taken_for_the_first_patch():
    network, images = build("timm/cait_xxs24_224")
    kept = []
    network.blocks[-1].register_forward_hook(lambda _, i, o: kept.append(o))
    found = layer_embeddings(network, images)
    assert kept[0].shape[1] == 4  # patches alone
    assert torch.allclose(found["block 24"], kept[0].mean(dim=1), atol=1e-6)
