"""What is chosen for which device, and that it changes no parameter and hardly a prediction."""

import pytest
import torch

from gz2vit.io import Gz2vitError
from gz2vit.models import build_model
from gz2vit.training import Acceleration, apply_acceleration, choose_acceleration

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")


@pytest.mark.parametrize(("able", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_a_cpu_takes_bfloat16_where_it_multiplies_it(
    able: bool, precision: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: able)
    assert choose_acceleration("auto", "resnet50", CPU) == Acceleration(precision, False, False)
    assert choose_acceleration("none", "resnet50", CPU) == Acceleration()


def test_a_cpu_of_which_torch_cannot_tell_stays_in_float32(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert choose_acceleration("auto", "resnet50", CPU) == Acceleration()


@pytest.mark.parametrize(
    ("capability", "precision", "compiled"),
    [((9, 0), "bf16-mixed", True), ((8, 0), "bf16-mixed", True), ((7, 5), "16-mixed", True),
     ((6, 1), "32-true", False)],
)  # fmt: skip
def test_a_gpu_gets_what_its_generation_has(capability: tuple, precision: str, compiled: bool):
    chosen = choose_acceleration("auto", "linformer", GPU, capability)
    assert (chosen.precision, chosen.compiled) == (precision, compiled)


def test_channels_lie_together_for_convolutions_only():
    for name, last in (("resnet50", True), ("vgg16_bn", True), ("vit", False), ("hf_vit", False)):
        assert choose_acceleration("auto", name, GPU, (9, 0)).channels_last is last


def test_none_means_none_and_a_slip_is_refused():
    assert choose_acceleration("none", "resnet50", GPU, (9, 0)) == Acceleration()
    with pytest.raises(Gz2vitError, match="acceleration is 'fast'; it must be one of auto, none"):
        choose_acceleration("fast", "resnet50", CPU)


def test_channels_last_keeps_names_values_and_predictions():
    torch.manual_seed(0)
    network = build_model("resnet50").eval()
    images = torch.randn(2, 3, 32, 32)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with torch.inference_mode():
        plain = network(images)
    apply_acceleration(network, Acceleration(channels_last=True))
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    with torch.inference_mode():
        again = network(images.contiguous(memory_format=torch.channels_last))
    assert torch.allclose(plain, again, atol=1e-4)
