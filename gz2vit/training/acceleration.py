"""What makes training faster on a device, chosen by what the device is.

On a CPU: mixed precision where the processor multiplies bfloat16 itself. On a GPU: mixed
precision (bfloat16 where the GPU has it, else float16 with loss scaling), compiled networks, and
channels-last memory for networks of convolutions. Weights, loss and reported metrics are float32;
predictions are made without any of this.

DEVIATION: the authors train in float32. With `benchmarks/precision.py` the difference is measured
against that between seeds.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch

from gz2vit.errors import Gz2vitError

CHOICES = ("auto", "none")
CONVOLUTIONAL = ("resnet50", "vgg16_bn", "backbone")
BFLOAT16_FROM = (8, 0)  # compute capability (NVIDIA Ampere) from which bfloat16 is as fast
FLOAT16_FROM = (7, 0)  # the first with tensor cores


@dataclass(frozen=True)
class Acceleration:
    """How a network is computed while it is trained.

    `precision`: as Lightning names it; `compiled`: by torch.compile; `channels_last`: images and
    weights lie with the channels together.
    """

    precision: str = "32-true"
    compiled: bool = False
    channels_last: bool = False

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for run records."""
        return asdict(self)


def choose_acceleration(
    choice: str, architecture: str, device: torch.device, capability: tuple[int, int] | None = None
) -> Acceleration:
    """What pays on `device`; nothing with `choice` "none". `capability`: by default the GPU's own.

    Raises `Gz2vitError` for another choice than "auto" and "none".
    """
    if choice not in CHOICES:
        raise Gz2vitError(f"acceleration is {choice!r}; it must be one of {', '.join(CHOICES)}")
    if device.type == "cpu" and choice == "auto" and multiplies_bfloat16():
        # 2.1 times the Linformer's images a second, 2.7 the ViT's, 1.4 the CNNs' (benchmarks/)
        return Acceleration("bf16-mixed")
    if choice == "none" or device.type != "cuda":
        return Acceleration()
    capability = capability or torch.cuda.get_device_capability(device)
    precision = "32-true"
    if capability >= FLOAT16_FROM:
        precision = "bf16-mixed" if capability >= BFLOAT16_FROM else "16-mixed"
    # torch's compiler writes Triton code, which needs tensor cores' generation as well.
    return Acceleration(precision, capability >= FLOAT16_FROM, architecture in CONVOLUTIONAL)


def multiplies_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 itself (Intel's from 2020, AMD's from 2022)."""
    known = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # torch's own name for it
    return bool(known and known())


def apply_acceleration(network: torch.nn.Module, chosen: Acceleration) -> None:
    """Make `network` compute as `chosen`; its parameters keep names, shapes and values."""
    if chosen.precision != "32-true" and torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")  # what stays float32 multiplies in TF32
    if chosen.channels_last:
        network.to(memory_format=torch.channels_last)
    if chosen.compiled:
        # reduce-overhead: CUDA graphs. A step of the Linformer is some 1,000 small kernels, whose
        # launching alone would take longer than the GPU needs for them.
        network.compile(mode="reduce-overhead", dynamic=False)
