"""The networks: the paper's to the last parameter, and errors that say what would fit."""

from importlib.metadata import version

import pytest
import torch

from gz2vit.errors import Gz2vitError
from gz2vit.models import architecture_of, build_model, count_parameters
from gz2vit.paper import PUBLISHED_RESULTS


@pytest.mark.parametrize("key", ["linformer", "linformer_weighted", "resnet50"])
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


def test_vit_pytorch_is_below_1():
    """From 1.0 on its patch embedding has two more LayerNorms: another network than the paper's."""
    assert int(version("vit-pytorch").split(".")[0]) < 1, (
        "vit-pytorch 1.0 and later add two LayerNorms to the patch embedding; the paper's "
        "Linformer would have 2,790,376 parameters instead of 2,785,416"
    )


def test_vit_pytorch_1_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gz2vit.models.linformer.version", lambda name: "1.0.0")
    with pytest.raises(Gz2vitError, match="install vit-pytorch below 1.0"):
        build_model("linformer")


@pytest.mark.parametrize(
    ("key", "hyperparameters", "size"),
    [
        ("linformer", {"image_size": 56, "patch_size": 14, "depth": 2, "dim": 16, "k_dim": 4}, 56),
        ("linformer", {"image_size": 56, "depth": 1, "k_dim": 4, "one_kv_head": True}, 56),
        ("resnet50", {}, 64),
    ],
)
def test_images_become_eight_scores_and_gradients_reach_every_parameter(
    key: str, hyperparameters: dict, size: int
):
    torch.manual_seed(0)
    model = build_model(key, **hyperparameters)
    scores = model(torch.randn(2, 3, size, size))
    assert scores.shape == (2, 8)
    assert scores.dtype == torch.float32
    scores.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model(torch.randn(2, 3, size, size)).isfinite().all()


def test_num_classes():
    assert build_model("resnet50", num_classes=3).fc.out_features == 3


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
