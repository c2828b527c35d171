"""Does a network need what its map shows? Patches are taken away, or given back, one by one.

Source: deletion and insertion of Petsiuk et al. 2018, arXiv:1806.07421. A map that shows what the
network needs makes the predicted class's probability fall faster in deletion, and rise faster in
insertion, than patches at random do. Since galaxies stand in the middle of their images, any map
with a bright middle beats random patches; the order `centre` is the rival that tells more.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata
from torch import nn
from torch.nn import functional

from gz2vit.attention import (
    BATCH_SIZE,
    CLASS_ACTIVATION,
    gaze,
    method_for,
    predict_probabilities,
    resize_maps,
)
from gz2vit.attention_maps import MAPS_BATCH_SIZE, TrainedModel
from gz2vit.evaluation import Interval, bootstrap_interval
from gz2vit.images import segment_galaxy
from gz2vit.io import Gz2vitError

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


# ------------------------------------------------------------------------------------------
# Does a map depend on what the network has learnt? The same map of a network that knows nothing.
#
# Source: Adebayo et al. 2018, "Sanity Checks for Saliency Maps", arXiv:1810.03292. A map that stays
# when the weights are drawn anew shows the architecture and the image, not what was learnt.


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


# ------------------------------------------------------------------------------------------
# How much of a map lies on the galaxy, whose own light decides which pixels those are.


@dataclass(frozen=True)
class LightFraction:
    """Of each galaxy's map, the part on the galaxy; float64 (B,), 0 to 1, NaN where there is none.

    `fraction`: of its map; `uniform`: of a map that is the same everywhere, which is the galaxy's
    share of the area; `others`: the mean over the other galaxies' maps laid on this galaxy, which
    is what a map of "the middle" gets without looking.
    """

    fraction: np.ndarray
    uniform: np.ndarray
    others: np.ndarray


def light_fraction(maps: torch.Tensor, images: torch.Tensor) -> LightFraction:
    """How much of `maps` (B, h, w), not negative, lies on the galaxies in `images` (B, 3, H, W).

    Images at any positive scale: 0 to 255, or normalised channel by channel. A cell of a map
    counts with the share of its pixels that `segment_galaxy` finds. A galaxy that is not found,
    and a map that is 0 throughout, have NaN. Raises `Gz2vitError` for maps that do not fit.
    """
    if maps.ndim != 3 or len(maps) != len(images) or not torch.isfinite(maps).all():
        raise Gz2vitError(
            f"maps of shape {tuple(maps.shape)} do not fit {len(images)} images; give one finite "
            "map (B, h, w) for each"
        )
    if maps.min() < 0:
        raise Gz2vitError(f"a map holds {maps.min().item():.3g}; weights cannot be negative")
    masks = np.stack([segment_galaxy(image) for image in images.float().mean(dim=1).cpu().numpy()])
    cover = functional.adaptive_avg_pool2d(torch.from_numpy(masks).double(), tuple(maps.shape[1:]))
    cover = np.where(masks.any(axis=(1, 2))[:, None], cover.flatten(1).numpy(), np.nan)
    weights = maps.flatten(1).double().cpu().numpy()
    with np.errstate(invalid="ignore"):
        weights = weights / weights.sum(axis=1, keepdims=True)  # (B, h w), each row's sum 1
    own = (cover * weights).sum(axis=1)
    return LightFraction(own, cover.mean(axis=1), _of_other_maps(cover, weights))


def _of_other_maps(cover: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The mean part on each galaxy (B,) of the others' maps; `cover`, `weights` (B, h w)."""
    whole = np.isfinite(weights).all(axis=1)  # a map that is 0 throughout says nothing
    weights = np.where(whole[:, None], weights, 0.0)
    total = cover @ weights.sum(axis=0) - (cover * weights).sum(axis=1)
    count = whole.sum() - whole  # without the galaxy's own map
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)


# ------------------------------------------------------------------------------------------
# Do the maps mean anything? Three checks of each model's maps, with intervals, as tables.
#
# For transformers two kinds of maps are checked: `attention`, rollout, which knows no class, and
# `class`, attention weighted with the predicted class's gradient; for CNNs Grad-CAM, which is of the
# second kind. What each check does, and by whom it was proposed, stands in `gz2vit.attention`.

# Coarser maps are laid on a grid of 8 x 8, the paper's Linformer's, so that what is deleted in one
# step is of like size for all models.
LEAST_GRID = 8
ATTENTION, CLASS = "attention", "class"  # the kinds of maps
# For each kind of curve: what makes it, whether a smaller area is better (1) or a larger (-1), and
# the orders beside the map's, which ask no map.
KINDS = {
    "deletion": (deletion_curve, 1, ("random", "centre")),
    "insertion": (insertion_curve, -1, ("random",)),
}
CURVE_RESAMPLES = 2_000  # of a mean curve, at each of its points

Curves = Mapping[tuple[str, str], Curve]  # by (deletion or insertion, order)


@dataclass(frozen=True)
class Checks:
    """What the checks of one model found.

    `table`: one row for each quantity: `model`, `map`, `quantity`, `value`, `low`, `high`,
    `galaxies`; `curves`: the mean probability of the predicted class: `model`, `map`, `kind`,
    `order`, `changed` (share of patches), `probability`, `low`, `high`.
    """

    table: pd.DataFrame
    curves: pd.DataFrame


def check_maps(model: TrainedModel, images: np.ndarray, steps: int = 8, seed: int = 0) -> Checks:
    """Check the maps of `model` on galaxies: uint8 (N, H, W, 3), as the store holds them.

    Quantities, each a mean over galaxies with its 95 % bootstrap interval: `deletion_most`,
    `deletion_random`, `deletion_centre`: area under the predicted class's probability while
    patches are deleted in that order, in `steps` steps; `deletion_gain`: random minus most,
    positive where the map finds what the network needs; `deletion_gain_centre`: centre minus most;
    `insertion_most`, `insertion_random`, `insertion_gain`: the same for patches given back, the
    gain most minus random; `light`: the part of the map on the galaxy; `light_gain`,
    `light_gain_others`: the same minus that of an even map, and of other galaxies' maps;
    `randomised_similarity`: rank correlation with the map of the network with random weights;
    `other_galaxy_similarity`: with the same model's map of another galaxy. A quantity that no
    galaxy has is NaN, with 0 galaxies.

    Raises `Gz2vitError` for fewer than two galaxies.
    """
    if len(images) < 2:
        raise Gz2vitError(f"the checks compare galaxies; give two or more, not {len(images)}")
    prepared = model.prepare(images)
    maps = {kind: _maps(model.network, prepared, kind) for kind in _kinds(model)}
    fine = {kind: _fine(one) for kind, one in maps.items()}
    controls = _curves(model, prepared, next(iter(fine.values())), False, steps, seed)
    predicted = torch.from_numpy(controls["deletion", "random"].predicted)
    random = randomise_weights(model.network, seed)
    tables, means = [], []
    for kind in maps:
        curves = controls | _curves(model, prepared, fine[kind], True, steps, seed)
        guessed = _maps(random, prepared, kind, predicted)
        values = areas_and_gains(curves) | _light(fine[kind], images)
        values["randomised_similarity"] = rank_correlation(maps[kind], guessed)
        values["other_galaxy_similarity"] = rank_correlation(maps[kind], maps[kind].roll(1, 0))
        tables.append(_as_rows(values, seed).assign(map=kind))
        means.append(_mean_curves(curves, seed).assign(map=kind))
    table, mean = (pd.concat(parts, ignore_index=True) for parts in (tables, means))
    for one in (table, mean):
        one.insert(0, "map", one.pop("map"))
        one.insert(0, "model", model.key)
    return Checks(table, mean)


def _kinds(model: TrainedModel) -> tuple[str, ...]:
    """The kinds of maps that a model has."""
    return (CLASS,) if method_for(model.network) == CLASS_ACTIVATION else (ATTENTION, CLASS)


def _maps(
    network: torch.nn.Module,
    prepared: torch.Tensor,
    kind: str,
    classes: torch.Tensor | None = None,
) -> torch.Tensor:
    """The maps of a kind, (N, g, g), for `classes`, by default the predicted ones."""
    return gaze(network, prepared, classes, kind == CLASS, MAPS_BATCH_SIZE).maps


def _fine(maps: torch.Tensor) -> torch.Tensor:
    """Maps (N, g, g) with g at least `LEAST_GRID`."""
    return maps if maps.shape[1] >= LEAST_GRID - 1 else resize_maps(maps, LEAST_GRID)


def _curves(
    model: TrainedModel,
    prepared: torch.Tensor,
    maps: torch.Tensor,
    by_map: bool,
    steps: int,
    seed: int,
) -> dict[tuple[str, str], Curve]:
    """Deletion and insertion in the map's order, or in the orders beside it."""
    words = {"steps": steps, "seed": seed, "batch_size": MAPS_BATCH_SIZE}
    return {
        (kind, order): make(model.network, prepared, maps, order, **words)
        for kind, (make, _, controls) in KINDS.items()
        for order in (("most",) if by_map else controls)
    }


def areas_and_gains(curves: Curves) -> dict[str, np.ndarray]:
    """Areas under curves, and what the map's order gains on the others; (N,) each."""
    found = {}
    for kind, (_, sign, controls) in KINDS.items():
        areas = {order: curves[kind, order].area for order in ("most", *controls)}
        found |= {f"{kind}_{order}": area for order, area in areas.items()}
        found[f"{kind}_gain"] = sign * (areas["random"] - areas["most"])
    centre = curves["deletion", "centre"].area
    return found | {"deletion_gain_centre": centre - curves["deletion", "most"].area}


def _light(maps: torch.Tensor, images: np.ndarray) -> dict[str, np.ndarray]:
    """The part of each map on its galaxy, (N,), and how much more that is than expected."""
    planes = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)
    found = light_fraction(maps, planes)
    return {
        "light": found.fraction,
        "light_gain": found.fraction - found.uniform,
        "light_gain_others": found.fraction - found.others,
    }


def _as_rows(values: Mapping[str, np.ndarray], seed: int) -> pd.DataFrame:
    """The mean of each quantity with its interval, in the columns of `Checks.table`."""
    rows = []
    for name, numbers in values.items():
        one = Interval(np.nan, np.nan, np.nan, 0)
        if not np.isnan(numbers).all():
            one = bootstrap_interval(numbers, seed=seed)
        rows.append((name, one.value, one.low, one.high, one.galaxies))
    return pd.DataFrame(rows, columns=["quantity", "value", "low", "high", "galaxies"])


def _mean_curves(curves: Curves, seed: int) -> pd.DataFrame:
    """The mean over galaxies of each curve, with its interval at each point."""
    rows = []
    for (kind, order), curve in curves.items():
        for changed, column in zip(curve.changed, curve.probability.T, strict=True):
            one = bootstrap_interval(column, resamples=CURVE_RESAMPLES, seed=seed)
            rows.append((kind, order, changed, one.value, one.low, one.high))
    columns = ["kind", "order", "changed", "probability", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


# ------------------------------------------------------------------------------------------
# What the checks of attention maps found, in words made from the numbers.

MAP_WORDS = {"attention": "attention", "class": "the predicted class's evidence"}

WANTED = (
    *("deletion_gain", "deletion_gain_centre", "light_gain"),
    *("randomised_similarity", "other_galaxy_similarity"),
)


def describe_checks(table: pd.DataFrame) -> str:
    """A list in Markdown: for each model and kind of map what deletion, light and weights say.

    `table`: as of `Checks.table`, of any models. Each verdict rests on a 95 % interval: an
    interval that holds 0 shows nothing. Raises `Gz2vitError` for a table without the quantities.
    """
    lines = []
    for (model, kind), rows in table.groupby(["model", "map"], sort=False):
        known = rows.set_index("quantity")
        lost = [name for name in WANTED if name not in known.index]
        if lost:
            raise Gz2vitError(f"the checks of {model} have no {lost[0]}; run 'attention' again")
        told = [_deletion(known), _centre(known), _light_words(known), _weights(known)]
        lines.append(f"- **{model}**, {MAP_WORDS[kind]}: " + " ".join(told))
    return "\n".join(lines)


def describe_failures(table: pd.DataFrame) -> str:
    """One sentence: for which maps deletion does not hurt measurably more than random order."""
    gains = table[table["quantity"] == "deletion_gain"]
    weak = gains[~(gains["low"] > 0)]
    if weak.empty:
        return f"For all {len(gains)} maps, deleting by the map hurts more than random order."
    pairs = zip(weak["model"], weak["map"], strict=True)
    names = "; ".join(f"{model}, {MAP_WORDS[kind]}" for model, kind in pairs)
    return (
        f"For {len(weak)} of {len(gains)} maps, deleting by the map does **not** hurt measurably "
        f"more than random order: {names}. Such a map does not show what its network relies on."
    )


def _deletion(known: pd.DataFrame) -> str:
    """Does deleting by the map hurt more than deleting at random?"""
    gain = known.loc["deletion_gain"]
    areas = (
        f"area {known.value['deletion_most']:.3f} against {known.value['deletion_random']:.3f}, "
        f"difference {_interval(gain)}"
    )
    if gain.low > 0:
        return f"deleting its highest patches first **hurts more** than random order ({areas})."
    if gain.high < 0:
        return f"deleting its highest patches first **hurts less** than random order ({areas})."
    return (
        f"deleting its highest patches first **does not hurt measurably more** than random order "
        f"({areas})."
    )


def _centre(known: pd.DataFrame) -> str:
    """Does the map know more than that galaxies stand in the middle?"""
    gain = known.loc["deletion_gain_centre"]
    verdict = "no better or worse than"
    if gain.low > 0:
        verdict = "better than"
    if gain.high < 0:
        verdict = "worse than"
    return f"It is {verdict} going from the centre outwards ({_interval(gain)})."


def _light_words(known: pd.DataFrame) -> str:
    """Does the map lie on the galaxy?"""
    light, gain = known.loc["light"], known.loc["light_gain"]
    if not light.galaxies:
        return "No galaxy stood out from its sky, so that light says nothing."
    share = f"{100 * light.value:.0f} % of it lies on the galaxy"
    even = f"{100 * (light.value - gain.value):.0f} %"
    if gain.low > 0:
        return f"{share}, more than the {even} of an even map."
    if gain.high < 0:
        return f"{share}, less than the {even} of an even map."
    return f"{share}, as of an even map ({even})."


def _weights(known: pd.DataFrame) -> str:
    """Is the map another one when the network knows nothing?"""
    one, other = known.loc["randomised_similarity"], known.loc["other_galaxy_similarity"]
    if not one.galaxies:
        return "With random weights it is flat."
    words = f"Its rank correlation with that of random weights is {_interval(one)}"
    if not other.galaxies:
        return f"{words}."
    return f"{words}, with that of another galaxy {_interval(other)}."


def _interval(row: pd.Series) -> str:
    """A value with its interval."""
    return f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]"
