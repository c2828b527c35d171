"""Dropout with a cheaper source of masks on a CPU: the same distribution, seeded as all else.

torch draws a dropout mask element by element (`bernoulli_`), which is most of what dropout costs:
on two cores a step of the paper's Linformer is 1.5 times as fast without it (`benchmarks/`). One
64-bit number holds four of 16 bits, and a threshold on each makes four elements of the mask. The
64-bit numbers are SFC64's (Doty-Humphrey's small fast counting generator, as NumPy has it), which
takes half as long for them as torch's Mersenne twister; its seed is drawn from torch's generator,
so that seeding or restoring that one serves the masks too.

DEVIATION: the drop probability is rounded to a multiple of 2^-16; 0.1 becomes 0.100006.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

LEVELS = 1 << 16  # values of a 16-bit number: the drop probability is met to 1 / (2 LEVELS), 8e-6


class MaskDropout(nn.Dropout):
    """`torch.nn.Dropout`, faster on a CPU; elsewhere torch's own."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Values of any shape; in training, each is 0 with probability p, else times 1/(1-p)."""
        if not self.training or self.p in (0.0, 1.0) or values.device.type != "cpu":
            return functional.dropout(values, self.p, self.training)
        numbers = draw_numbers(values.numel()).view(values.shape)
        kept = numbers >= round(self.p * LEVELS) - LEVELS // 2  # 16-bit numbers begin at -32768
        scale = 1.0 / (1.0 - self.p)
        if values.dtype == torch.float32:
            return values * kept.to(values.dtype).mul_(scale)  # one pass less, back and forth
        # The factor apart from the mask: in bfloat16 it would be rounded, by up to 0.4 %.
        return (values * kept.to(values.dtype)) * scale


def draw_numbers(count: int) -> torch.Tensor:
    """Random numbers int16 (count,), all values equally probable, that follow torch's seed."""
    seed = int(torch.empty((), dtype=torch.int64).random_())
    generator = np.random.Generator(np.random.SFC64(seed))
    numbers = generator.integers(0, 1 << 64, (count + 3) // 4, dtype=np.uint64)
    return torch.from_numpy(numbers.view(np.int16))[:count]


def use_mask_dropout(network: nn.Module) -> nn.Module:
    """Put a `MaskDropout` in the place of every `nn.Dropout` of a network, and return it."""
    for name, child in network.named_children():
        if type(child) is nn.Dropout:
            setattr(network, name, MaskDropout(child.p))
        else:
            use_mask_dropout(child)
    return network
