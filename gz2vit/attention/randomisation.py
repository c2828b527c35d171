"""Does a map depend on what the network has learnt? The same map of a network that knows nothing.

Source: Adebayo et al. 2018, "Sanity Checks for Saliency Maps", arXiv:1810.03292. A map that stays
when the weights are drawn anew shows the architecture and the image, not what was learnt.
"""

import copy

import numpy as np
import torch
from scipy.stats import rankdata
from torch import nn

from gz2vit.attention.maps import gaze
from gz2vit.attention.networks import BATCH_SIZE, predict_probabilities
from gz2vit.errors import Gz2vitError


def randomised_similarity(
    network: nn.Module,
    images: torch.Tensor,
    seed: int = 0,
    of_class: bool = False,
    batch_size: int = BATCH_SIZE,
) -> np.ndarray:
    """How alike each galaxy's map stays when all weights are drawn anew: float64 (B,), -1 to 1.

    Spearman's rank correlation between the maps of `gaze` (`of_class` as there) by `network` and
    by `randomise_weights(network, seed)`, for `images` (B, 3, H, W), both for the class that
    `network` predicts: near 0 where the map shows what was learnt. NaN for a map without contrast.
    """
    predicted = predict_probabilities(network, images, batch_size).argmax(axis=1)
    classes = torch.from_numpy(predicted)
    learnt, random = (
        gaze(one, images, classes, of_class, batch_size).maps
        for one in (network, randomise_weights(network, seed))
    )
    return rank_correlation(learnt, random)


def randomise_weights(network: nn.Module, seed: int = 0) -> nn.Module:
    """A copy of `network` that has learnt nothing; the network and torch's generator stay.

    Layers are reset as torch first sets them, batch statistics included. Parameters that belong
    to no such layer (class token, positions, a Linformer's projections) have no known start once
    the network is built: their own values are shuffled, which keeps their scale.
    """
    fresh = copy.deepcopy(network)
    devices = sorted({one.device.index for one in fresh.parameters() if one.device.type == "cuda"})
    with torch.no_grad(), torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        for part in fresh.modules():
            if hasattr(part, "reset_parameters"):
                part.reset_parameters()
                continue
            for values in part.parameters(recurse=False):
                order = torch.randperm(values.numel()).to(values.device)
                values.copy_(values.flatten()[order].view_as(values))
    return fresh


def rank_correlation(first: torch.Tensor, second: torch.Tensor) -> np.ndarray:
    """Spearman's rank correlation of each pair of maps (B, h, w): float64 (B,), NaN for flat ones.

    Raises `Gz2vitError` for maps of different shapes.
    """
    if first.ndim != 3 or first.shape != second.shape:
        raise Gz2vitError(
            f"maps of shape {tuple(first.shape)} and {tuple(second.shape)} cannot be compared; "
            "bring them to one size with resize_maps"
        )
    ranks = (rankdata(one.flatten(1).cpu().numpy(), axis=1) for one in (first, second))
    one, other = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
    with np.errstate(invalid="ignore"):
        return (one * other).sum(axis=1) / np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
