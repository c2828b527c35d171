"""Do the maps mean anything? Three checks of each model's maps, with intervals, as tables.

For transformers two kinds of maps are checked: `attention`, rollout, which knows no class, and
`class`, attention weighted with the predicted class's gradient; for CNNs Grad-CAM, which is of the
second kind. What each check does, and by whom it was proposed, stands in `gz2vit.attention`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from gz2vit.attention import (
    Curve,
    Interval,
    bootstrap_interval,
    deletion_curve,
    gaze,
    insertion_curve,
    light_fraction,
    randomise_weights,
    rank_correlation,
    resize_maps,
)
from gz2vit.attention.maps import CLASS_ACTIVATION, method_for
from gz2vit.errors import Gz2vitError
from gz2vit.inspection.models import BATCH_SIZE, TrainedModel

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
RESAMPLES = 2_000  # of a mean curve, at each of its points

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
    return gaze(network, prepared, classes, kind == CLASS, BATCH_SIZE).maps


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
    words = {"steps": steps, "seed": seed, "batch_size": BATCH_SIZE}
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
            one = bootstrap_interval(column, resamples=RESAMPLES, seed=seed)
            rows.append((kind, order, changed, one.value, one.low, one.high))
    columns = ["kind", "order", "changed", "probability", "low", "high"]
    return pd.DataFrame(rows, columns=columns)
