"""Whether a run may be compared with the paper's, and if not, every reason why.

The paper's side is in `gz2vit.paper`: data, weights, network and recipe; ours is what a run left in
`metrics.json`, of its recipe in `params.json`, and of its galaxies in `selection/data.json`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gz2vit.class_weights import class_weights
from gz2vit.paper import (
    BATCH_SIZE,
    CROP_PX,
    EARLY_STOPPING_EPOCHS,
    MAX_EPOCH,
    NETWORKS,
    PUBLISHED_RESULTS,
    SCHEDULES,
    SEED,
    SPLIT_CLASS_COUNTS,
)
from gz2vit.report.origins import origin, span
from gz2vit.results import WEIGHTED

# A `metrics.json`, with what `params.json` has of its `recipe` (the parameters), of the weights
# that it `started` from, and of its `sessions`.
Run = Mapping[str, Any]

PRETRAINED = ("resnet50", "vgg16_bn", "hf_vit")  # the paper starts these from ImageNet weights
FLOAT32 = "32-true"  # Lightning's name for it
SPLIT_WORDS = {"train": "to learn from", "valid": "to choose the epoch by", "test": "to test on"}
# AUTHORS (gz2vit/paper.py), outputs of their notebook.
PAPER_REMARKS = {"linformer": "the paper's own training was cut short when its session ended"}
# What a recipe's values are called, in the order in which differences are told; others as they are.
RECIPE_NAMES = {
    "image_size": "images of {} px",
    "patch_size": "patches of {} px",
    "depth": "{} layers",
    "dim": "tokens {} wide",
    "mlp_dim": "layers {} wide inside",
    "k_dim": "projection to {}",
    "heads": "{} attention heads",
    "lr": "learning rate {:g}",
    "step_size": "learning rate reduced every {} epochs",
    "gamma": "learning rate reduced by a factor {:g}",
    "batch_size": "batches of {}",
    "max_epoch": "{} epochs at most",
    "early_stopping_epochs": "early stopping after {} epochs",
}


def comparability(key: str, runs: Sequence[Run], galaxies: Mapping[str, int] | None = None) -> str:
    """One sentence on the `runs` of model `key` (its seeds): "comparable", or why they are not.

    `galaxies`: how many there were in each split, None where that is not known. What a reader must
    know of comparable runs (other seeds, other precision) follows after a semicolon.
    """
    if key not in PUBLISHED_RESULTS:
        return f"not comparable: the paper has no such model ({runs[0].get('network', key)})"
    reasons = [*_weights_reasons(key, runs[0]), *_network_reasons(key, runs[0])]
    reasons += dict.fromkeys(reason for run in runs for reason in recipe_reasons(key, run))
    reasons += _data_reasons(runs, galaxies)
    if reasons:
        return f"not comparable: {'; '.join(reasons)}"
    return "; ".join(["comparable", *_remarks(key, runs)])


def paper_recipe(key: str) -> dict[str, Any]:
    """The paper's recipe for model `key`, by the names of a run's settings and hyperparameters."""
    architecture = key.removesuffix(WEIGHTED)
    recipe = {"image_size": CROP_PX, **SCHEDULES[architecture], "batch_size": BATCH_SIZE}
    recipe |= {"max_epoch": MAX_EPOCH, "early_stopping_epochs": EARLY_STOPPING_EPOCHS}
    return recipe | NETWORKS[architecture]


def recipe_reasons(key: str, run: Run) -> list[str]:
    """Everything in the recipe of `run` that is not the paper's, in words.

    A value that the run did not record is one that may have been another.
    """
    recipe = run.get("recipe")
    if not recipe:
        return ["its recipe is not known (params.json is missing)"]
    ours = {**recipe, **recipe.get("hyperparameters", {})}
    reasons = []
    for name, theirs in paper_recipe(key).items():
        if name not in ours:
            reasons.append(f"{name} is not recorded, the paper's {theirs}")
        elif not _same(ours[name], theirs):
            words = RECIPE_NAMES.get(name, f"{name} {{}}")
            reasons.append(f"{words.format(ours[name])}, the paper's {theirs}")
    return reasons


def _same(ours: Any, theirs: Any) -> bool:
    """Whether two values of a recipe are equal; numbers but for the last digits."""
    if isinstance(ours, float) or isinstance(theirs, float):
        return math.isclose(ours, theirs, rel_tol=1e-9)
    return ours == theirs


def _weights_reasons(key: str, run: Run) -> list[str]:
    """What differs from the paper in what the training started from and what it trained."""
    reasons = []
    theirs = "imagenet" if key.removesuffix(WEIGHTED) in PRETRAINED else "none"
    if run["weights"] != theirs:
        reasons.append(f"trained {origin(run)}, the paper's {origin({'weights': theirs})}")
    if run.get("trainable_parameters", run["parameters"]) != run["parameters"]:
        reasons.append("only the last layer was trained, in the paper all of them")
    return reasons


def _network_reasons(key: str, run: Run) -> list[str]:
    """What differs from the paper in the network's size and the loss."""
    reasons = []
    if run["parameters"] != PUBLISHED_RESULTS[key]["parameters"]:
        reasons.append(f"another network, of {run['parameters']:,} parameters")
    choice = "tuned" if key.endswith(WEIGHTED) else "uniform"
    theirs = class_weights(choice, SPLIT_CLASS_COUNTS["train"])
    # The paper prints two digits of these: weights given so are the paper's.
    pairs = zip(run["class_weights"], theirs, strict=True)
    if any(abs(weight - their) > 0.01 for weight, their in pairs):
        reasons.append("other class weights than the paper's")
    return reasons


def _data_reasons(runs: Sequence[Run], galaxies: Mapping[str, int] | None) -> list[str]:
    """What differs from the paper in the galaxies and the profile."""
    reasons, run = [], runs[0]
    if run["profile"] != "paper":
        reasons.append(f"profile {run['profile']} ({span([one['epochs'] for one in runs])} epochs)")
    same = tuple(run["class_test_galaxies"]) == tuple(SPLIT_CLASS_COUNTS["test"])
    if galaxies is None:
        reasons.append("how many galaxies it learned from is not known (selection/ is missing)")
        ours = {"test": run["test_galaxies"]}
    else:
        ours = {**galaxies, "test": run["test_galaxies"]}
        same &= all(ours[split] == sum(SPLIT_CLASS_COUNTS[split]) for split in SPLIT_WORDS)
    if not same or "simulated" in run["data"]:
        known = {split: words for split, words in SPLIT_WORDS.items() if split in ours}
        parts = [f"{ours[split]:,} {words}" for split, words in known.items()]
        theirs = [f"{sum(SPLIT_CLASS_COUNTS[split]):,}" for split in known]
        reasons.append(f"{run['data']}, {', '.join(parts)} (the paper's {', '.join(theirs)})")
    return reasons


def _remarks(key: str, runs: Sequence[Run]) -> list[str]:
    """What is no other recipe, but must be known of runs that are comparable."""
    remarks = []
    seeds = [run["recipe"].get("seed") for run in runs]
    if seeds != [SEED]:
        told = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
        remarks.append(f"{told}, the paper's {SEED}")
    precisions = {one["precision"] for run in runs for one in run.get("sessions", ())}
    if others := sorted(precisions - {FLOAT32}):
        remarks.append(f"precision {', '.join(others)}, the paper's {FLOAT32}")
    return remarks + ([PAPER_REMARKS[key]] if key in PAPER_REMARKS else [])
