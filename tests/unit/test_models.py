"""The networks: the paper's to the last parameter, and errors that say what would fit."""

from importlib.metadata import version

import pytest
import torch

from gz2vit.io import Gz2vitError
from gz2vit.models import (
    ARCHITECTURES,
    architecture_of,
    build_model,
    count_flops,
    count_parameters,
    head_prefixes,
)
from gz2vit.paper import PUBLISHED_RESULTS

SMALL = {
    "linformer": {"image_size": 32, "patch_size": 8, "depth": 2, "dim": 16, "k_dim": 4, "heads": 4},
    "vit": {"image_size": 32, "patch_size": 8, "depth": 2, "dim": 16, "mlp_dim": 8, "heads": 4},
    "resnet50": {},
    "vgg16_bn": {},
    "hf_vit": {"image_size": 32, "patch_size": 8, "depth": 2, "dim": 16, "mlp_dim": 8, "heads": 4},
    "backbone": {"name": "timm/convnext_atto", "image_size": 32},
}


@pytest.mark.parametrize("key", PUBLISHED_RESULTS)
def test_parameter_count_is_the_papers(key: str):
    assert count_parameters(build_model(key)) == PUBLISHED_RESULTS[key]["parameters"]


@pytest.mark.parametrize(
    ("hyperparameters", "parameters"),
    [  # two other runs that the authors published
        ({"patch_size": 14, "dim": 256, "share_kv": False}, 10_082_056),
        ({"patch_size": 16, "dim": 256, "share_kv": True}, 9_082_888),
    ],
)
def test_other_published_linformers(hyperparameters: dict, parameters: int):
    assert count_parameters(build_model("linformer", **hyperparameters)) == parameters


def test_another_published_vit():
    assert count_parameters(build_model("vit", depth=6, mlp_dim=32)) == 3_503_560


def test_a_frozen_backbone_leaves_the_last_layer_to_learn():
    network = build_model("hf_vit", freeze_backbone=True)
    assert count_parameters(network) == 85_804_808
    assert count_parameters(network, trainable=True) == 6_152
    other = build_model("timm/convnext_atto", image_size=32, freeze_backbone=True)
    assert count_parameters(other, trainable=True) == 320 * 8 + 8


def test_vit_pytorch_is_below_1():
    """From 1.0 on its patch embedding has two more LayerNorms: another network than the paper's."""
    assert int(version("vit-pytorch").split(".")[0]) < 1, (
        "vit-pytorch 1.0 and later add two LayerNorms to the patch embedding; the paper's "
        "Linformer would have 2,790,376 parameters instead of 2,785,416"
    )


def test_vit_pytorch_1_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gz2vit.models.version", lambda name: "1.0.0")
    for name in ("linformer", "vit"):
        with pytest.raises(Gz2vitError, match="install vit-pytorch below 1.0"):
            build_model(name)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_images_become_eight_scores_and_gradients_reach_every_parameter(architecture: str):
    torch.manual_seed(0)
    model = build_model(architecture, **SMALL[architecture])
    scores = model(torch.randn(2, 3, 32, 32))
    assert scores.shape == (2, 8)
    assert scores.dtype == torch.float32
    scores.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model(torch.randn(2, 3, 32, 32)).isfinite().all()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_last_layer_is_known_by_its_name(architecture: str):
    """Changing these parameters and no others changes which class gets which score."""
    model = build_model(architecture, **SMALL[architecture]).eval()
    prefixes = head_prefixes(architecture, model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith(prefixes) and name.endswith(
                "1.weight" if "mlp" in name else "weight"
            ):
                parameter.zero_()
                last = parameter
        assert last.shape[0] == 8
        first, other = (model(torch.randn(1, 3, 32, 32)) for _ in range(2))
    assert torch.allclose(first, other)


def test_one_head_for_keys_and_values():
    network = build_model("linformer", **SMALL["linformer"] | {"one_kv_head": True})
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 8)
    assert count_parameters(network) < count_parameters(
        build_model("linformer", **SMALL["linformer"])
    )


def test_floating_point_operations_are_those_of_the_literature():
    """He et al. 2016 give 3.8e9 multiply-adds for ResNet-50 at 224 px; torchvision's has 4.1e9."""
    assert count_flops(build_model("resnet50"), 224) == pytest.approx(2 * 4.09e9, rel=0.01)
    small, large = (count_flops(build_model("vgg16_bn"), size) for size in (32, 64))
    assert large > small
    model = build_model("linformer", **SMALL["linformer"]).train()
    count_flops(model, 32)
    assert model.training


def test_any_network_of_timm_by_its_name():
    model = build_model("timm/vit_tiny_patch16_224", image_size=32)
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 8)
    with pytest.raises(Gz2vitError, match="timm has no network 'convnex_atto'; did you mean"):
        build_model("timm/convnex_atto")
    with pytest.raises(Gz2vitError, match="must be named timm/NAME or transformers/NAME"):
        build_model("backbone", name="convnext_atto")


def test_num_classes():
    for architecture, hyperparameters in SMALL.items():
        network = build_model(architecture, **hyperparameters, num_classes=3)
        assert network(torch.randn(2, 3, 32, 32)).shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "hyperparameters", "words"),
    [
        ("vit", {"patch_size": 30}, "patch_size 30 does not divide image_size 224"),
        ("vit", {"heads": 7}, "heads 7 does not divide dim 256; these do: 1, 2, 4, 8"),
        ("vit", {"mlp_dim": 0}, "mlp_dim is 0; it must be a whole number from 1 on"),
        ("vit", {"emb_dropout": 1.0}, "emb_dropout is 1.0; it must lie between 0 and 1"),
        ("hf_vit", {"heads": 7}, "heads 7 does not divide dim 768; these do: 1, 2, 3, 4, 6"),
        ("hf_vit", {"patch_size": 15}, "patch_size 15 does not divide image_size 224"),
        ("hf_vit", {"depth": 0}, "depth is 0"),
        ("vgg16_bn", {"num_classes": 0}, "num_classes is 0"),
        ("resnet50", {"dropout": 0.1}, "no hyperparameter 'dropout'; it has num_classes"),
    ],
)
def test_what_does_not_fit_another_network_is_told(name: str, hyperparameters: dict, words: str):
    with pytest.raises(Gz2vitError, match=words):
        build_model(name, **hyperparameters)


@pytest.mark.parametrize(
    ("hyperparameters", "words"),
    [
        ({"patch_size": 30}, "patch_size 30 does not divide image_size 224; these do: 4, 7, 8, 14"),
        ({"heads": 7}, "heads 7 does not divide dim 128; these do: 1, 2, 4, 8"),
        ({"k_dim": 66}, "k_dim 66 must lie between 1 and the 65 tokens"),
        ({"k_dim": 0}, "k_dim 0 must lie between"),
        ({"width": 3}, "no hyperparameter 'width'; it has image_size, patch_size"),
    ],
)
def test_what_does_not_fit_is_told(hyperparameters: dict, words: str):
    with pytest.raises(Gz2vitError, match=words):
        build_model("linformer", **hyperparameters)


def test_unknown_model_lists_the_known():
    with pytest.raises(Gz2vitError, match="no model 'alexnet'; the architectures are linformer"):
        build_model("alexnet")
    assert architecture_of("linformer_weighted") == "linformer"
