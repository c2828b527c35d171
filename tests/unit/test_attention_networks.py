"""gz2vit.attention.networks: families, evaluation mode, batches, and what is no input."""

import pytest
import torch
from torch import nn

from gz2vit.attention import (
    check_class,
    family_of,
    has_class_token,
    in_batches,
    in_evaluation,
    on_device,
    predict_probabilities,
)
from gz2vit.io import Gz2vitError
from gz2vit.models import build_model
from tests.unit.test_models import SMALL

FAMILIES = {
    "linformer": ("linformer", True),
    "vit": ("vit", True),
    "resnet50": ("resnet", False),
    "vgg16_bn": ("vgg", False),
    "hf_vit": ("hugging_face", True),
    "backbone": ("timm", False),
}


@pytest.mark.parametrize("architecture", FAMILIES)
def test_every_architecture_has_its_family(architecture: str):
    with torch.device("meta"):
        network = build_model(architecture, **SMALL[architecture])
    assert (family_of(network), has_class_token(network)) == FAMILIES[architecture]


def test_a_foreign_network_is_refused():
    with pytest.raises(Gz2vitError, match="type Linear cannot be looked into; give one of"):
        family_of(nn.Linear(1, 1))


def test_every_part_is_back_in_its_mode():
    network = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout(), nn.Dropout()))
    network[1][0].eval()
    with pytest.raises(ZeroDivisionError), in_evaluation(network):
        assert not any(part.training for part in network.modules())
        raise ZeroDivisionError
    assert [part.training for part in network.modules()] == [True, True, True, False, True]


@pytest.mark.parametrize(
    "images",
    [torch.zeros(3, 8, 8), torch.zeros(0, 3, 8, 8), torch.zeros(1, 1, 8, 8),
     torch.zeros(1, 3, 8, 8, dtype=torch.uint8)],
)  # fmt: skip
def test_what_is_no_input_is_refused(images: torch.Tensor):
    with pytest.raises(Gz2vitError, match=r"give normalised floats \(B, 3, H, W\)"):
        on_device(nn.Linear(1, 1), images)


def test_batches_are_whole_and_in_order():
    parts = in_batches(torch.arange(5), 2)
    assert [part.tolist() for part in parts] == [[0, 1], [2, 3], [4]]
    with pytest.raises(Gz2vitError, match="batch_size is 0; it must be 1 or more"):
        in_batches(torch.arange(5), 0)


def test_probabilities_are_the_networks_whatever_the_batch_size():
    torch.manual_seed(0)
    network = build_model("vit", **SMALL["vit"]).train()
    images = torch.randn(3, 3, 32, 32)
    found = predict_probabilities(network, images, batch_size=2)
    assert network.training
    with torch.no_grad():
        expected = network.eval()(images).double().softmax(dim=1)
    assert found == pytest.approx(expected.numpy(), abs=1e-6)


def test_classes_are_checked():
    logits = torch.tensor([[0.0, 2.0], [3.0, 1.0]])
    assert check_class(None, logits).tolist() == [1, 0]
    assert check_class(1, logits).tolist() == [1, 1]
    assert check_class(torch.tensor([0, 1]), logits).tolist() == [0, 1]
    with pytest.raises(Gz2vitError, match="there is no class 2; the classes are 0 to 1"):
        check_class(2, logits)
    for wrong in (torch.tensor([0, 1, 0]), torch.tensor(0.5)):
        with pytest.raises(Gz2vitError, match="does not fit 2 images"):
            check_class(wrong, logits)
