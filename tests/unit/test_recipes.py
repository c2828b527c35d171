"""Each network's recipe is the paper's, and the profile `paper` and the notebooks follow it."""

from pathlib import Path

import pytest

from gz2vit.io import ROOT
from gz2vit.models import ARCHITECTURES
from gz2vit.paper import PUBLISHED_RESULTS
from gz2vit.training import RECIPES
from gz2vit.workflow import load_profile, notebook_parameters

NOTEBOOKS = {
    "linformer": "03_train_linformer",
    "vit": "04_train_vit",
    "resnet50": "05_train_resnet50",
    "vgg16_bn": "06_train_vgg16_bn",
    "hf_vit": "07_train_hf_vit",
    "backbone": "08_train_backbone",
}


def values_at_paper(architecture: str, key: str) -> dict:
    """What the step `key` is run with at the profile `paper`."""
    book = Path(ROOT) / "notebooks" / f"{NOTEBOOKS[architecture]}.ipynb"
    defaults = {name: one.default for name, one in notebook_parameters(book).items()}
    return defaults | load_profile("paper").get(key, {})


def test_every_architecture_has_a_recipe():
    assert set(RECIPES) == set(ARCHITECTURES)


@pytest.mark.parametrize(
    ("architecture", "lr", "step_size", "gamma", "mean"),
    [
        ("linformer", 3e-4, 5, 0.9, 0.094),
        ("vit", 3e-4, 5, 0.9, 0.094),
        ("resnet50", 5e-5, 10, 0.1, 0.485),
        ("vgg16_bn", 5e-5, 10, 0.1, 0.485),
        ("hf_vit", 5e-5, 5, 0.1, 0.5),
    ],
)
def test_the_papers_numbers(
    architecture: str, lr: float, step_size: int, gamma: float, mean: float
):
    recipe = RECIPES[architecture]
    assert (recipe.lr, recipe.step_size, recipe.gamma) == (lr, step_size, gamma)
    assert recipe.normalization[0][0] == mean
    assert (recipe.optimizer, recipe.early_stopping_epochs) == ("Adam", 10)


@pytest.mark.parametrize("key", [*PUBLISHED_RESULTS, "backbone"])
def test_the_profile_paper_follows_the_recipe(key: str):
    architecture = key.removesuffix("_weighted")
    values, recipe = values_at_paper(architecture, key), RECIPES[architecture]
    assert (values["LR"], values["STEP_SIZE"]) == (recipe.lr, recipe.step_size)
    assert values["GAMMA"] == recipe.gamma
    assert values["EARLY_STOPPING_EPOCHS"] == recipe.early_stopping_epochs
    assert (values["BATCH_SIZE"], values["MAX_EPOCH"], values["IMAGE_SIZE"]) == (64, 200, 224)
    assert values["CLASS_WEIGHTS"] == ("tuned" if key.endswith("_weighted") else "uniform")
    pretrained = architecture in ("resnet50", "vgg16_bn", "hf_vit", "backbone")
    assert values.get("WEIGHTS", "none") == ("imagenet" if pretrained else "none")


NETWORK_PARAMETERS = {
    "linformer": ("PATCH_SIZE", "DEPTH", "HIDDEN_DIM", "K_DIM", "NUM_HEADS", "LIN_DROPOUT"),
    "vit": ("PATCH_SIZE", "DEPTH", "HIDDEN_DIM", "MLP_DIM", "NUM_HEADS", "DROPOUT", "EMB_DROPOUT"),
    "hf_vit": ("PATCH_SIZE", "DEPTH", "HIDDEN_DIM", "MLP_DIM", "NUM_HEADS", "DROPOUT"),
}
PUBLISHED_SIZES = {
    "linformer": (28, 12, 128, 64, 8, 0.1),
    "vit": (16, 8, 256, 64, 8, 0.1, 0.1),
    "hf_vit": (16, 12, 768, 3072, 12, 0.0),
}


@pytest.mark.parametrize("architecture", NETWORK_PARAMETERS)
def test_the_profile_paper_builds_the_papers_network(architecture: str):
    values = values_at_paper(architecture, architecture)
    sizes = tuple(values[name] for name in NETWORK_PARAMETERS[architecture])
    assert sizes == PUBLISHED_SIZES[architecture]
