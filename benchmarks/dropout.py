"""Training steps of the paper's Linformer with torch's dropout, with ours, and without any.

    python benchmarks/dropout.py

One ready batch of 64 images again and again; the three take turns in one process, so that what
else the machine does falls on all of them.
"""

import platform
import time

import torch
from torch import nn

from gz2vit.models import build_linformer, build_model

BATCH, ROUNDS, STEPS = 64, 5, 2


class Trainer:
    """A network and the time that its training steps took."""

    def __init__(self, network: nn.Module) -> None:
        self.network, self.seconds = network, []
        self.optimizer = torch.optim.Adam(network.parameters(), lr=3e-4)

    def steps(self, images: torch.Tensor, class_index: torch.Tensor) -> None:
        """Train for `STEPS` steps and note their time."""
        start = time.perf_counter()
        for _ in range(STEPS):
            self.optimizer.zero_grad()
            nn.functional.cross_entropy(self.network(images), class_index).backward()
            self.optimizer.step()
        self.seconds.append((time.perf_counter() - start) / STEPS)


def main() -> None:
    """Run and print images per second, and the ratios."""
    torch.manual_seed(0)
    images, class_index = torch.randn(BATCH, 3, 224, 224), torch.randint(0, 8, (BATCH,))
    trainers = {
        "torch's dropout": Trainer(build_linformer()),
        "16-bit masks": Trainer(build_model("linformer")),
        "no dropout": Trainer(build_linformer(dropout=0.0)),
    }
    for _ in range(ROUNDS + 1):
        for trainer in trainers.values():
            trainer.steps(images, class_index)
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    rates = {name: BATCH / min(one.seconds[1:]) for name, one in trainers.items()}
    base = rates["torch's dropout"]
    for name, rate in rates.items():
        print(f"{name:16} {rate:6.1f} images/s  {rate / base:.2f}")


if __name__ == "__main__":
    main()
