"""Do a network's maps mean anything? Three checks of them, with intervals, as tables.

1. Deletion and insertion (Petsiuk et al. 2018, arXiv:1806.07421): if a map shows what the network
   needs, the predicted class's probability falls (rises) faster when its highest patches are
   removed (given back) first than in random order, or, the harder rival, from the centre outwards.
2. Light: how much of a map lies on the galaxy, whose own light decides which pixels those are.
3. Random weights (Adebayo et al. 2018, arXiv:1810.03292): a map that stays when all weights are
   drawn anew shows the architecture and the image, not what was learnt.

Transformers have two kinds of maps: `attention`, rollout, which knows no class, and `class`,
attention weighted with the predicted class's gradient; CNNs have Grad-CAM, of the second kind.
"""

import copy
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import ConstantInputWarning, pearsonr, rankdata
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from gz2vit.attention import (
    CLASS_ACTIVATION,
    attribution_maps,
    method_for,
    predict_probabilities,
)
from gz2vit.attention_maps import TrainedModel
from gz2vit.evaluation import bootstrap, bootstrap_interval, percentile_bounds
from gz2vit.images import segment_galaxy
from gz2vit.io import Gz2vitError

# What a patch is replaced by: in insertion blurred images are the usual start, as single patches in
# a plane of one colour have edges that no galaxy has.
FILLS = {"deletion": "mean", "insertion": "blur"}
# Of the patches; those but `most` need no map: against them the map's order is held.
ORDERS = (
    ("deletion", "random"),
    ("deletion", "centre"),
    ("insertion", "random"),
    ("deletion", "most"),
    ("insertion", "most"),
)
AREAS_AND_GAINS = (
    *("deletion_most", "deletion_random", "deletion_centre", "deletion_gain"),
    *("insertion_most", "insertion_random", "insertion_gain", "deletion_gain_centre"),
)
BLUR_CELLS = 6  # of the grid on which a blurred image is computed, in a standard deviation
BLUR_FRACTION = 1 / 5  # standard deviation, of the side: 45 px of 224, where R90 spans 50
# Coarser maps are laid on a grid of 8 x 8, the paper's Linformer's, so that what is deleted in one
# step is of like size for all models.
LEAST_GRID = 8
CURVE_RESAMPLES = 2_000  # of a mean curve, at each of its points
MAP_WORDS = {"attention": "attention", "class": "the predicted class's evidence"}


@dataclass(frozen=True)
class Curve:
    """The predicted class's probability while patches change.

    `changed` (S,): the fraction of patches deleted or inserted so far, from 0 to 1; `probability`
    float64 (B, S).
    """

    changed: np.ndarray
    probability: np.ndarray

    @property
    def area(self) -> np.ndarray:
        """The area under each galaxy's curve, (B,), 0 to 1, by trapezoids."""
        return np.trapezoid(self.probability, self.changed, axis=1)


class Masking:
    """Images, what replaces their patches, and the network's predictions of both.

    `images`: normalised floats (B, 3, H, W); `fills`: for deletion and insertion `mean`, the
    images' mean colour, `blur`, the image itself blurred, or a colour (3,) in the network's units.
    `predicted` (B,): the class predicted of the whole image, whose probability curves follow.
    """

    def __init__(
        self,
        network: nn.Module,
        images: torch.Tensor,
        fills: Mapping[str, str | torch.Tensor] = FILLS,
    ) -> None:
        self.network, self.images = network, images
        self.whole = predict_probabilities(network, images)
        self.predicted = self.whole.argmax(axis=1)
        self.filled = {kind: _fill(images, fill) for kind, fill in fills.items()}
        # A plane of one colour is the same for all galaxies (a view of one image): predicted once.
        self.empty = {
            kind: predict_probabilities(network, one if one.stride(0) else one[:1])
            for kind, one in self.filled.items()
        }

    def curve(
        self,
        kind: str,
        maps: torch.Tensor,
        order: str = "most",
        steps: int = 8,
        seed: int = 0,
        bar: tqdm | None = None,
    ) -> Curve:
        """`deletion`: from the whole image to none of it; `insertion`: the other way round.

        `maps` (B, h, w): their cells are the patches, changed in `order` as of `rank_patches`, in
        `steps` + 1 states, fewer where there are fewer patches; `bar` advances by one at each.
        """
        _check_maps(maps, self.images)
        if steps < 1:
            raise Gz2vitError(f"steps is {steps}; set 1 or more")
        ranks = torch.from_numpy(rank_patches(maps.cpu().numpy(), order, seed))
        patches = ranks[0].numel()
        counts = np.unique(np.linspace(0, patches, steps + 1).round().astype(np.int64))
        ends = [self.whole, np.broadcast_to(self.empty[kind], self.whole.shape)]
        pair = [self.images, self.filled[kind]]
        if kind == "insertion":
            ends, pair = ends[::-1], pair[::-1]
        size, states = tuple(self.images.shape[2:]), ends[:1]
        for count in counts[1:-1]:
            changed = (ranks < int(count)).unsqueeze(1).float()  # (B, 1, h, w)
            mask = functional.interpolate(changed, size, mode="nearest-exact") > 0.5
            mixed = torch.where(mask.to(self.images.device), pair[1], pair[0])
            states.append(predict_probabilities(self.network, mixed))
            if bar is not None:
                bar.update()
        rows = np.arange(len(self.images))
        probability = [one[rows, self.predicted] for one in (*states, ends[1])]
        return Curve(counts / patches, np.stack(probability, axis=1))


def _check_maps(maps: torch.Tensor, images: torch.Tensor | np.ndarray) -> None:
    if maps.ndim != 3 or len(maps) != len(images) or not torch.isfinite(maps).all():
        raise Gz2vitError(
            f"maps of shape {tuple(maps.shape)} do not fit {len(images)} images; pass one finite "
            "map (B, h, w) for each"
        )


def rank_patches(maps: np.ndarray, order: str, seed: int = 0) -> np.ndarray:
    """The turn of each patch, int64 (B, h, w), 0 first; equal patches at random, from `seed`.

    `order`: `most` (the map's largest first), `random`, or `centre` (nearest to it first).
    """
    count, height, width = maps.shape
    y, x = np.mgrid[:height, :width]
    keys = {
        "most": -maps.reshape(count, -1),
        "random": np.zeros((count, height * width)),
        "centre": np.tile(np.hypot(y - (height - 1) / 2, x - (width - 1) / 2).ravel(), (count, 1)),
    }
    if order not in keys:
        raise Gz2vitError(f"order '{order}' does not exist; use one of {', '.join(keys)}")
    key = keys[order]
    ties = np.random.default_rng(seed).random(key.shape)
    turns = np.lexsort((ties, key), axis=-1)  # the last key is the first to decide
    return turns.argsort(axis=-1).reshape(maps.shape)


def _fill(images: torch.Tensor, fill: str | torch.Tensor) -> torch.Tensor:
    """What is left where all of an image is replaced, (B, 3, H, W)."""
    if isinstance(fill, torch.Tensor) and fill.shape == (3,):
        return fill.to(images).view(1, 3, 1, 1).expand_as(images)
    match fill:
        case "mean":
            return images.mean(dim=(0, 2, 3)).view(1, 3, 1, 1).expand_as(images)
        case "blur":
            # On a coarse grid: finer detail it would remove anyway, and the work grows with the
            # third power of the side. scipy's is one pass per axis, torchvision's one per kernel
            # pixel.
            size = tuple(images.shape[2:])
            sigma = BLUR_FRACTION * size[1]
            factor = max(1, int(sigma / BLUR_CELLS))
            coarse = functional.adaptive_avg_pool2d(images, [-(-one // factor) for one in size])
            own = sigma * coarse.shape[-1] / size[1]
            blurred = torch.from_numpy(gaussian_filter(coarse.cpu().numpy(), (0, 0, own, own)))
            return functional.interpolate(blurred.to(images.device), size, mode="bilinear")
    raise Gz2vitError(f"fill {fill!r} is neither 'mean' nor 'blur' nor a colour (3,)")


def randomise_weights(network: nn.Module, seed: int = 0) -> nn.Module:
    """A copy of `network` that has learnt nothing; the network and torch's generator stay.

    Layers are reset as torch first sets them; parameters outside such layers (class token,
    positions, a Linformer's projections) have no known start: their own values are shuffled.
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
    """Spearman's rank correlation of each pair of maps (B, h, w): float64 (B,), NaN for flat."""
    ranks = [rankdata(one.flatten(1).cpu().numpy(), axis=1) for one in (first, second)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        return pearsonr(*ranks, axis=1).statistic


def galaxy_masks(images: np.ndarray) -> np.ndarray:
    """The pixels of each galaxy in `images`, uint8 (B, H, W, 3) or any positive scale: bool."""
    light = np.asarray(images, dtype=np.float32).mean(axis=3)
    return np.stack([segment_galaxy(image) for image in light])


def light_fraction(maps: torch.Tensor, masks: np.ndarray) -> pd.DataFrame:
    """How much of `maps` (B, h, w), not negative, lies on the galaxies of `masks` (B, H, W).

    One row per galaxy, 0 to 1. `light`: the fraction of its map; `uniform`: of an even map;
    `others`: the mean over the other galaxies' maps laid on this galaxy, which a map of "the
    middle" gets without looking. A cell counts with the fraction of its pixels on the galaxy. NaN
    for an empty mask and a map that is 0 throughout.
    """
    _check_maps(maps, masks)
    if maps.min() < 0:
        raise Gz2vitError(f"a map holds {maps.min().item():.3g}; weights must not be negative")
    cover = functional.adaptive_avg_pool2d(torch.from_numpy(masks).double(), tuple(maps.shape[1:]))
    cover = np.where(masks.any(axis=(1, 2))[:, None], cover.flatten(1).numpy(), np.nan)
    weights = maps.flatten(1).double().cpu().numpy()
    with np.errstate(invalid="ignore"):
        weights = weights / weights.sum(axis=1, keepdims=True)  # (B, h w), each row's sum 1
    known = np.isfinite(weights).all(axis=1)
    filled = np.where(known[:, None], weights, 0.0)
    # The sum over all maps laid on each galaxy, without its own.
    total = cover @ filled.sum(axis=0) - (cover * filled).sum(axis=1)
    count = known.sum() - known
    others = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
    columns = {"light": (cover * weights).sum(axis=1), "uniform": cover.mean(axis=1)}
    return pd.DataFrame(columns | {"others": others})


def check_maps(
    models: Iterable[TrainedModel], images: np.ndarray, steps: int = 8, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Check the maps of `models` on galaxies: uint8 (N, H, W, 3), as the image cache holds them.

    The first table has one row per `model`, `map` (`attention` or `class`) and `galaxy` (its row):
    - `deletion_most`, `deletion_random`, `deletion_centre`, `insertion_most`, `insertion_random`:
      area under the predicted class's probability while patches are changed in that order, in
      `steps` steps; `deletion_gain` (random minus most), `deletion_gain_centre` (centre minus most)
      and `insertion_gain` (most minus random): positive where the map finds what is needed;
    - `light`: the fraction of the map on the galaxy; `light_gain`, `light_gain_others`: the same
      minus that of an even map, and of other galaxies' maps;
    - `randomised_similarity`: rank correlation with the map of the network with random weights;
      `other_galaxy_similarity`: with the same model's map of another galaxy.
    The second has the mean curves with 95 % intervals: `model`, `map`, `kind`, `order`, `changed`
    (fraction of patches), `probability`, `low`, `high`. Shows a progress bar for each model.
    """
    if len(images) < 2:
        raise Gz2vitError(f"the checks compare galaxies; pass two or more, not {len(images)}")
    masks = galaxy_masks(images)
    tables, means = [], []
    for model in models:
        prepared = model.prepare(images)
        cnn = method_for(model.network) == CLASS_ACTIVATION
        kinds = ("class",) if cnn else ("attention", "class")
        passes = (3 + 2 * len(kinds)) * (steps - 1) + 6 * len(kinds)  # three orders need no map
        look = {"desc": f"check {model.key}", "unit": " passes"}
        # A map takes about three passes: forward and backward.
        with tqdm(total=passes, **look) as bar:
            masking = Masking(model.network, prepared)
            classes = torch.from_numpy(masking.predicted)
            random = randomise_weights(model.network, seed)
            curves_of: dict[tuple[str, str], Curve] = {}
            for name in kinds:
                maps, guessed = (
                    attribution_maps(network, prepared, classes, name == "class")
                    for network in (model.network, random)
                )
                bar.update(6)
                fine = maps
                if maps.shape[1] < LEAST_GRID - 1:
                    size = (LEAST_GRID, LEAST_GRID)
                    fine = functional.interpolate(maps[:, None], size, mode="bilinear")[:, 0]
                for kind, order in ORDERS:
                    if order == "most" or (kind, order) not in curves_of:  # others need no map
                        curve = masking.curve(kind, fine, order, steps, seed, bar)
                        curves_of[kind, order] = curve
                light = light_fraction(fine, masks)
                table = areas_and_gains(curves_of).assign(
                    light=light["light"],
                    light_gain=light["light"] - light["uniform"],
                    light_gain_others=light["light"] - light["others"],
                    randomised_similarity=rank_correlation(maps, guessed),
                    other_galaxy_similarity=rank_correlation(maps, maps.roll(1, 0)),
                )
                table.insert(0, "model", model.key)
                table.insert(1, "map", name)
                table.insert(2, "galaxy", range(len(table)))
                tables.append(table)
                for (kind, order), curve in curves_of.items():
                    draws = bootstrap(
                        lambda rows, curve=curve: np.stack(
                            [values[rows].mean(axis=1) for values in curve.probability.T], axis=1
                        ),
                        len(images), resamples=CURVE_RESAMPLES, seed=seed,
                    )  # fmt: skip
                    low, high = percentile_bounds(draws)
                    mean = curve.probability.mean(axis=0)
                    line = {"model": model.key, "map": name, "kind": kind, "order": order}
                    line |= {"changed": curve.changed, "probability": mean}
                    means.append(pd.DataFrame(line | {"low": low, "high": high}))
            bar.update(bar.total - bar.n)  # maps with fewer patches than steps have fewer states
    return pd.concat(tables, ignore_index=True), pd.concat(means, ignore_index=True)


def areas_and_gains(curves: Mapping[tuple[str, str], Curve]) -> pd.DataFrame:
    """Areas under curves by (kind, order), and what the map's order gains on the others."""
    table = pd.DataFrame({"_".join(key): curve.area for key, curve in curves.items()})
    table["deletion_gain"] = table.deletion_random - table.deletion_most
    table["insertion_gain"] = table.insertion_most - table.insertion_random
    table["deletion_gain_centre"] = table.deletion_centre - table.deletion_most
    return table[list(AREAS_AND_GAINS)]


def summarise_checks(galaxies: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """The mean of each quantity of `check_maps` over galaxies, with its 95 % bootstrap interval.

    Columns: `model`, `map`, `quantity`, `value`, `low`, `high`, `galaxies`; a quantity that no
    galaxy has is NaN, with 0 galaxies.
    """
    rows = []
    for (model, name), own in galaxies.groupby(["model", "map"], sort=False):
        for quantity, values in own.drop(columns=["model", "map", "galaxy"]).items():
            found = (np.nan, np.nan, np.nan, 0)
            if values.notna().any():
                one = bootstrap_interval(values.to_numpy(), seed=seed)
                found = (one.value, one.low, one.high, one.galaxies)
            rows.append((model, name, quantity, *found))
    columns = ["model", "map", "quantity", "value", "low", "high", "galaxies"]
    return pd.DataFrame(rows, columns=columns)


def judge_checks(table: pd.DataFrame) -> pd.DataFrame:
    """What each map's 95 % intervals decide: one row per model and map, `yes`, `no` or `undecided`.

    `table`: of `summarise_checks`. Each answer stands beside its numbers; an interval that holds 0
    decides nothing.
    """
    claims = {
        "deletion_gain": "beats random order",
        "deletion_gain_centre": "beats the centre",
        "light_gain": "lies on the galaxy",
    }
    rows = table[table["quantity"].isin(claims)]
    words = [
        f"{'yes' if row.low > 0 else 'no' if row.high < 0 else 'undecided'}: "
        f"{row.value:+.3f} [{row.low:+.3f}, {row.high:+.3f}]"
        if row.galaxies
        else "undecided: no galaxy"
        for row in rows.itertuples()
    ]
    rows = rows.assign(claim=rows["quantity"].map(claims), answer=words)
    table = rows.set_index(["model", "map", "claim"])["answer"].unstack(sort=False)
    return table[[*claims.values()]]


def describe_failures(table: pd.DataFrame) -> str:
    """One sentence: for which maps deletion does not hurt measurably more than random order."""
    gains = table[table["quantity"] == "deletion_gain"]
    weak = gains[~(gains["low"] > 0)]
    if weak.empty:
        return f"For all {len(gains)} maps, deleting by the map hurts more than random order."
    names = "; ".join(f"{row.model}, {MAP_WORDS[row.map]}" for row in weak.itertuples())
    return (
        f"For {len(weak)} of {len(gains)} maps, deleting by the map does **not** hurt measurably "
        f"more than random order: {names}. Such a map does not show what its network relies on."
    )
