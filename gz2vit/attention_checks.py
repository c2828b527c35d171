"""Do a network's maps mean anything? Three checks of them, with intervals, as tables.

1. Deletion and insertion (Petsiuk et al. 2018, arXiv:1806.07421): if a map shows what the network
   needs, the predicted class's probability falls (rises) faster when its highest patches are
   removed (given back) first than in random order, or, the harder rival, from the centre outwards.
2. Light: how much of a map lies on the galaxy, whose own light decides which pixels those are.
3. Random weights (Adebayo et al. 2018, arXiv:1810.03292): a map that stays when all weights are
   drawn anew shows the architecture and the image, not what was learnt.
"""

import copy
import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from threading import local

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import ConstantInputWarning, pearsonr, rankdata
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from gz2vit import attention
from gz2vit.attention_maps import TrainedModel
from gz2vit.evaluation import Interval, bootstrap, bootstrap_interval, percentile_bounds
from gz2vit.images import segment_galaxy
from gz2vit.io import Gz2vitError

# Orders of patches; those but `most` need no map: against them the map's order is held.
ORDERS = (
    ("deletion", "random"), ("deletion", "centre"), ("insertion", "random"),
    ("deletion", "most"), ("insertion", "most"),
)  # fmt: skip
# Which images become which: single patches in a plane of one colour have edges that no galaxy has.
ENDS = {"deletion": ("whole", "plane"), "insertion": ("blurred", "whole")}
BLUR_CELLS = 6  # of the grid on which a blurred image is computed, in a standard deviation
BLUR_FRACTION = 1 / 5  # standard deviation, of the side: 45 px of 224, where R90 spans 50
# Coarser maps are laid on a grid of 8 x 8, the paper's Linformer's, so that what is deleted in one
# step is of like size for all models.
LEAST_GRID = 8
CURVE_RESAMPLES = 2_000  # of a mean curve, at each of its points
MAP_WORDS = {"attention": "attention", "class": "the predicted class's evidence"}
EMBEDDINGS = ("to_patch_embedding", "patch_embeddings", "patch_embed")  # libraries' names


def change_patches(
    network: nn.Module, images: Mapping[str, torch.Tensor],
    changes: Sequence[tuple[str, str, np.ndarray]], steps: int = 8, bar: tqdm | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Class probabilities while patches of some images become those of others, in `steps` steps.

    `images`: (N, 3, H, W) each, one of them "whole"; `changes`: from which, to which, and each
    patch's turn, int64 (N, h, w), as of `rank_patches`. Returns the fraction of patches changed,
    (S,), from 0 to 1, and the states between (fewer where there are fewer patches), float64
    (changes, N, S - 2, classes).
    """
    whole, patches = images["whole"], changes[0][2][0].size
    counts = np.unique(np.linspace(0, patches, steps + 1).round().astype(np.int64))
    size, shape, here = attention.batch_size(whole), tuple(whole.shape[1:]), local()
    known, embed = images, None
    if attention.has_class_token(network.eval()):
        parts = {name.rpartition(".")[2]: part for name, part in network.named_modules()}
        embed = next((parts[name] for name in EMBEDDINGS if name in parts), None)
    if embed is not None:
        with torch.inference_mode():
            known = {n: torch.cat([*map(embed, x.split(size))]) for n, x in images.items()}
    # A transformer embeds each patch once; of images it then needs the shape alone.
    if not (tokens := known["whole"].shape[1:-1] == (patches,)):
        known = images

    def logits_between(own: nn.Module, state: tuple) -> torch.Tensor:
        (start, end, turns), count, rows = state
        mask = torch.from_numpy(turns[rows] < count).to(whole.device)
        first, last = known[start][rows], known[end][rows]
        if tokens:
            here.tokens = torch.where(mask.flatten(1)[..., None], last, first)
            return own(whole[:1].expand(len(mask), *shape))
        mask = functional.interpolate(mask[:, None].float(), shape[1:], mode="nearest-exact") > 0.5
        return own(torch.where(mask, last, first))

    batches = [slice(start, start + size) for start in range(0, len(whole), size)]
    states = product(changes, counts[1:-1], batches)
    if tokens:
        embed.forward = lambda *_, **__: here.tokens
    try:
        found = attention.predict_batches(logits_between, network, states, bar)
    finally:
        if tokens:
            del embed.forward
    found = found.reshape(len(changes), len(counts) - 2, len(whole), -1)
    return counts / patches, found.swapaxes(1, 2)


def rank_patches(maps: np.ndarray, order: str, seed: int = 0) -> np.ndarray:
    """The turn of each patch, int64 (B, h, w), 0 first; equal patches at random, from `seed`.

    `order`: `most` (the map's largest first), `random`, or `centre` (nearest to it first).
    """
    count, height, width = maps.shape
    y, x = np.mgrid[:height, :width]
    from_centre = np.hypot(y - (height - 1) / 2, x - (width - 1) / 2)
    even = np.zeros(maps.shape)
    key = {"most": -maps, "random": even, "centre": even + from_centre}[order]
    ties = np.random.default_rng(seed).random((count, height * width))
    turns = np.lexsort((ties, key.reshape(count, -1)), axis=-1)  # the last key decides first
    return turns.argsort(axis=-1).reshape(maps.shape)


def blur(images: torch.Tensor) -> torch.Tensor:
    """Images (B, 3, H, W) of which only the largest features are left.

    On a coarse grid: finer detail it would remove anyway, and the work grows with the third power
    of the side.
    """
    size = tuple(images.shape[2:])
    sigma = BLUR_FRACTION * size[1]
    factor = max(1, int(sigma / BLUR_CELLS))
    coarse = functional.adaptive_avg_pool2d(images, [-(-one // factor) for one in size])
    own = sigma * coarse.shape[-1] / size[1]
    blurred = torch.from_numpy(gaussian_filter(coarse.cpu().numpy(), (0, 0, own, own)))
    return functional.interpolate(blurred.to(images.device), size, mode="bilinear")


def randomise_weights(network: nn.Module, seed: int = 0) -> nn.Module:
    """A copy of `network` that has learnt nothing; the network and torch's generator stay.

    Layers are reset as torch first sets them; other parameters (class token, positions, a
    Linformer's projections) have no known start: their own values are shuffled.
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


def refine(maps: torch.Tensor) -> torch.Tensor:
    """Maps (B, h, w) on a grid of about `LEAST_GRID` cells on a side at least."""
    if maps.shape[1] >= LEAST_GRID - 1:
        return maps
    return functional.interpolate(maps[:, None], 2 * (LEAST_GRID,), mode="bilinear")[:, 0]


def check_maps(
    models: Iterable[TrainedModel], images: np.ndarray, steps: int = 8, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Check the maps of `models` on galaxies: uint8 (N, H, W, 3), as the image cache holds them.

    The first table has one row per `model`, `map` (`attention`: rollout, of transformers; `class`)
    and `galaxy` (its row):
    - `deletion_most`, `deletion_random`, `deletion_centre`, `insertion_most`, `insertion_random`:
      area under the predicted class's probability while patches are changed in that order, in
      `steps` steps, towards the images' mean colour or from the blurred image; `deletion_gain`
      (random minus most), `deletion_gain_centre` (centre minus most) and `insertion_gain` (most
      minus random): positive where the map finds what is needed;
    - `light`: the fraction of the map on the galaxy; `light_gain`, `light_gain_others`: the same
      minus that of an even map, and of other galaxies' maps;
    - `randomised_similarity`, `other_galaxy_similarity`: rank correlation with the map of the
      network with random weights, and with the same model's map of another galaxy.
    The second has the mean curves with 95 % intervals: `model`, `map`, `kind`, `order`, `changed`
    (fraction of patches), `probability`, `low`, `high`. Shows a progress bar for each model.
    """
    if len(images) < 2 or steps < 2:
        raise Gz2vitError(f"{len(images)} galaxies in {steps} steps: pass 2 or more of both")
    count, masks = len(images), galaxy_masks(images)
    rows, tables, means = np.arange(count), [], []
    drawn = {"resamples": CURVE_RESAMPLES, "seed": seed}
    for model in models:
        network, prepared = model.network, model.prepare(images)
        kinds = list(attention.methods_of(network))
        # Three orders need no map; maps of two networks take about three passes each.
        passes = 2 + 6 + (3 + 2 * len(kinds)) * (steps - 1)
        with tqdm(total=passes * count, desc=f"check {model.key}", unit=" images") as bar:
            mean = prepared.mean(dim=(0, 2, 3)).view(1, 3, 1, 1)
            ends = {"whole": prepared, "blurred": blur(prepared), "plane": mean.expand_as(prepared)}
            # A plane of one colour is the same for all galaxies: predicted once.
            given = {name: one[:1] if name == "plane" else one for name, one in ends.items()}
            known = {n: attention.predict_probabilities(network, x) for n, x in given.items()}
            predicted, shape = known["whole"].argmax(axis=1), known["whole"].shape
            known = {n: np.broadcast_to(x, shape)[rows, predicted] for n, x in known.items()}
            maps, guessed = (
                attention.attribution_maps(one, prepared, torch.from_numpy(predicted))
                for one in (network, randomise_weights(network, seed))
            )
            bar.update(8 * count)
            fine = {name: refine(maps[name]) for name in kinds}
            keys = [
                (k, o, name) for k, o in ORDERS for name in (kinds if o == "most" else kinds[:1])
            ]
            ranks = [rank_patches(fine[name].numpy(), order, seed) for _, order, name in keys]
            changes = [(*ENDS[key[0]], turns) for key, turns in zip(keys, ranks, strict=True)]
            changed, between = change_patches(network, ends, changes, steps, bar)
            bar.update(bar.total - bar.n)  # maps with fewer patches than steps have fewer states
        curves = {
            key: np.column_stack([known[start], states[rows, :, predicted], known[end]])  # (N, S)
            for key, (start, end, _), states in zip(keys, changes, between, strict=True)
        }
        for name in kinds:
            own = {key: curves.get((*key, name), curves.get((*key, kinds[0]))) for key in ORDERS}
            area = {"_".join(key): np.trapezoid(own[key], changed, axis=1) for key in ORDERS}
            light = light_fraction(fine[name], masks)
            columns = {
                "model": model.key, "map": name, "galaxy": rows,
                **{o: area[o] for o in ("deletion_most", "deletion_random", "deletion_centre")},
                "deletion_gain": area["deletion_random"] - area["deletion_most"],
                **{o: area[o] for o in ("insertion_most", "insertion_random")},
                "insertion_gain": area["insertion_most"] - area["insertion_random"],
                "deletion_gain_centre": area["deletion_centre"] - area["deletion_most"],
                "light": light["light"],
                "light_gain": light["light"] - light["uniform"],
                "light_gain_others": light["light"] - light["others"],
                "randomised_similarity": rank_correlation(maps[name], guessed[name]),
                "other_galaxy_similarity": rank_correlation(maps[name], maps[name].roll(1, 0)),
            }  # fmt: skip
            tables.append(pd.DataFrame(columns))
            for (kind, order), one in own.items():
                draws = bootstrap(lambda i, one=one: one[i].mean(axis=1), count, **drawn)
                low, high = percentile_bounds(draws)
                line = {"model": model.key, "map": name, "kind": kind, "order": order}
                line |= {"changed": changed, "probability": one.mean(axis=0)}
                means.append(pd.DataFrame(line | {"low": low, "high": high}))
    return pd.concat(tables, ignore_index=True), pd.concat(means, ignore_index=True)


def summarise_checks(galaxies: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """The mean of each quantity of `check_maps` over galaxies, with its 95 % bootstrap interval.

    `model`, `map`, `quantity`, `value`, `low`, `high`, `galaxies`; NaN where no galaxy has it.
    """
    rows, missing = [], Interval(np.nan, np.nan, np.nan, 0)
    for (model, name), own in galaxies.groupby(["model", "map"], sort=False):
        for quantity, values in own.drop(columns=["model", "map", "galaxy"]).items():
            found = bootstrap_interval(values, seed=seed) if values.notna().any() else missing
            rows.append((model, name, quantity, *found))
    return pd.DataFrame(rows, columns=["model", "map", "quantity", *Interval._fields])


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
