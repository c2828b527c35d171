"""Does a network need what its map shows? Patches are taken away, or given back, one by one.

Source: deletion and insertion of Petsiuk et al. 2018, arXiv:1806.07421. A map that shows what the
network needs makes the predicted class's probability fall faster in deletion, and rise faster in
insertion, than patches at random do. Since galaxies stand in the middle of their images, any map
with a bright middle beats random patches; the order `centre` is the rival that tells more.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.nn import functional

from gz2vit.attention.networks import BATCH_SIZE, predict_probabilities
from gz2vit.errors import Gz2vitError

ORDERS = ("most", "random", "centre")
FILLS = ("mean", "blur")
BLUR_CELLS = 6  # of the grid on which a blurred image is computed, in a standard deviation
BLUR_SHARE = 1 / 5  # standard deviation, of the side: 45 px of 224, where R90 spans 50 (see light)


@dataclass(frozen=True)
class Curve:
    """The predicted class's probability while patches change.

    `changed` (S,): the share of patches deleted or inserted so far, from 0 to 1; `probability`
    float64 (B, S); `predicted` (B,): the class predicted of the whole image, whose it is.
    """

    changed: np.ndarray
    probability: np.ndarray
    predicted: np.ndarray

    @property
    def area(self) -> np.ndarray:
        """The area under each galaxy's curve, (B,), 0 to 1, by trapezoids."""
        return np.trapezoid(self.probability, self.changed, axis=1)


def deletion_curve(
    network: nn.Module,
    images: torch.Tensor,
    maps: torch.Tensor,
    order: str = "most",
    steps: int = 16,
    fill: str | torch.Tensor = "mean",
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
) -> Curve:
    """From the whole image to none of it: patches are replaced by `fill`, first in `order` first.

    `images`: normalised floats (B, 3, H, W); `maps` (B, h, w), whose cells are the patches. In S =
    `steps` + 1 states (fewer where there are fewer patches). `order`: `most` (the map's largest
    first), `random` (another order for each galaxy, from `seed`), `centre` (nearest to the centre
    first); equal patches at random. `fill`: `mean`, the images' mean colour; `blur`, the image
    itself blurred; or a colour (3,) in the network's units. Raises `Gz2vitError` for other values.
    """
    turns = _turns(images, maps, order, steps, seed)
    return _curve(network, images, _filled(images, fill), True, turns, batch_size)


def insertion_curve(
    network: nn.Module,
    images: torch.Tensor,
    maps: torch.Tensor,
    order: str = "most",
    steps: int = 16,
    fill: str | torch.Tensor = "blur",
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
) -> Curve:
    """From `fill` alone to the whole image, patches given back first in `order` first.

    Arguments, result and errors as of `deletion_curve`; blurred images are the usual start here,
    as single patches in a plane of one colour have edges that no galaxy has.
    """
    turns = _turns(images, maps, order, steps, seed)
    return _curve(network, images, _filled(images, fill), False, turns, batch_size)


def _curve(
    network: nn.Module,
    images: torch.Tensor,
    filled: torch.Tensor,
    deleted: bool,
    turns: tuple[torch.Tensor, np.ndarray],
    batch_size: int,
) -> Curve:
    """Probabilities while `filled` takes the place of `images`, or the other way round."""
    whole = predict_probabilities(network, images, batch_size)
    # A plane of one colour is the same for all galaxies (a view of one image): asked for once.
    empty = predict_probabilities(network, filled if filled.stride(0) else filled[:1], batch_size)
    ends = (whole, empty) if deleted else (empty, whole)
    before, after = (images, filled) if deleted else (filled, images)
    rows, predicted = np.arange(len(images)), whole.argmax(axis=1)
    ranks, counts = turns
    columns = []
    for count in counts[1:-1]:
        patches = (ranks < int(count)).unsqueeze(1).float()  # (B, 1, h, w)
        mask = functional.interpolate(patches, tuple(images.shape[2:]), mode="nearest-exact") > 0.5
        mixed = torch.where(mask, after, before)
        columns.append(predict_probabilities(network, mixed, batch_size))
    states = [np.broadcast_to(one, whole.shape) for one in (ends[0], *columns, ends[1])]
    probability = np.stack([one[rows, predicted] for one in states], axis=1)
    return Curve(counts / ranks[0].numel(), probability, predicted)


def _turns(
    images: torch.Tensor, maps: torch.Tensor, order: str, steps: int, seed: int
) -> tuple[torch.Tensor, np.ndarray]:
    """Each patch's turn, int64 (B, h, w), and how many have changed in each state, (S,)."""
    if maps.ndim != 3 or len(maps) != len(images) or not torch.isfinite(maps).all():
        raise Gz2vitError(
            f"maps of shape {tuple(maps.shape)} do not fit {len(images)} images; give one finite "
            "map (B, h, w) for each"
        )
    if steps < 1:
        raise Gz2vitError(f"steps is {steps}; it must be 1 or more")
    ranks = torch.from_numpy(rank_patches(maps.detach().cpu().numpy(), order, seed)).to(
        images.device
    )
    patches = ranks[0].numel()
    return ranks, np.unique(np.linspace(0, patches, steps + 1).round().astype(np.int64))


def rank_patches(maps: np.ndarray, order: str, seed: int = 0) -> np.ndarray:
    """When each patch's turn comes, int64 (B, h, w), 0 first; equal patches at random."""
    count, height, width = maps.shape
    match order:
        case "most":
            key = -maps.reshape(count, -1)
        case "random":
            key = np.zeros((count, height * width))
        case "centre":
            y, x = np.mgrid[:height, :width]
            distance = np.hypot(y - (height - 1) / 2, x - (width - 1) / 2)
            key = np.broadcast_to(distance.ravel(), (count, height * width))
        case _:
            raise Gz2vitError(f"there is no order '{order}'; there are {', '.join(ORDERS)}")
    ties = np.random.default_rng(seed).random(key.shape)
    turns = np.lexsort((ties, key), axis=-1)  # the last key is the first to decide
    return turns.argsort(axis=-1).reshape(maps.shape)


def _filled(images: torch.Tensor, fill: str | torch.Tensor) -> torch.Tensor:
    """What stands where nothing of an image is left, (B, 3, H, W)."""
    if isinstance(fill, str) and fill == "blur":
        return _blur(images)
    if isinstance(fill, str) and fill == "mean":
        fill = images.mean(dim=(0, 2, 3))
    if isinstance(fill, str) or fill.shape != (3,):
        known = ", ".join(FILLS)
        raise Gz2vitError(f"fill {fill!r} is neither one of {known} nor a colour (3,)")
    colour = fill.to(device=images.device, dtype=images.dtype)
    return colour.view(1, 3, 1, 1).expand_as(images)


def _blur(images: torch.Tensor) -> torch.Tensor:
    """Images (B, 3, H, W) without their details: a Gaussian of `BLUR_SHARE` of the side.

    On a grid of a sixth of its width: finer detail it would remove anyway, and the work goes with
    the third power of the grid's side.
    """
    size = tuple(images.shape[2:])
    sigma = BLUR_SHARE * size[1]
    factor = max(1, int(sigma / BLUR_CELLS))
    coarse = functional.adaptive_avg_pool2d(images.detach(), [-(-one // factor) for one in size])
    own = sigma * coarse.shape[-1] / size[1]
    # scipy's is one pass for each axis, torchvision's one for each pixel of the kernel
    blurred = torch.from_numpy(gaussian_filter(coarse.cpu().numpy(), (0, 0, own, own)))
    return functional.interpolate(
        blurred.to(images.device), size, mode="bilinear", align_corners=False
    )
