"""Dropout with a cheaper source of masks on a CPU; the same distribution, the same generator.

torch draws a dropout mask element by element (`bernoulli_`), which is most of what dropout costs:
on two cores a step of the paper's Linformer is 1.5 times as fast without it (`benchmarks/`). One
64-bit draw holds four 16-bit numbers, and a threshold on each makes four elements of the mask.

DEVIATION: the drop probability is rounded to a multiple of 2^-16; 0.1 becomes 0.100006.
"""

import torch
from torch import nn
from torch.nn import functional

LEVELS = 1 << 16  # values of a 16-bit number: the drop probability is met to 1 / (2 LEVELS), 8e-6


class MaskDropout(nn.Dropout):
    """`torch.nn.Dropout`, faster on a CPU; elsewhere torch's own.

    Masks come from torch's default generator, so that seeding and restoring it serves them too.
    """

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Values of any shape; in training, each is 0 with probability p, else times 1/(1-p)."""
        if not self.training or self.p in (0.0, 1.0) or values.device.type != "cpu":
            return functional.dropout(values, self.p, self.training)
        draws = torch.empty((values.numel() + 3) // 4, dtype=torch.int64)
        draws.random_(-(1 << 63), None)  # all 64 bits
        numbers = draws.view(torch.int16)[: values.numel()].view(values.shape)
        kept = numbers >= round(self.p * LEVELS) - LEVELS // 2  # 16-bit numbers begin at -32768
        return values * kept.to(values.dtype).mul_(1.0 / (1.0 - self.p))


def use_mask_dropout(network: nn.Module) -> nn.Module:
    """Put a `MaskDropout` in the place of every `nn.Dropout` of a network, and return it."""
    for name, child in network.named_children():
        if type(child) is nn.Dropout:
            setattr(network, name, MaskDropout(child.p))
        else:
            use_mask_dropout(child)
    return network
