"""Whether a run may be compared with the paper's, and if not, every reason why.

The paper's side is in `gz2vit.paper`: data, weights, network and recipe; ours is what a run left in
`metrics.json` and, of its recipe, in `params.json`.
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
    SPLIT_CLASS_COUNTS,
)

Run = Mapping[str, Any]  # a `metrics.json`, with `recipe`: the parameters of `params.json`, if any

PRETRAINED = ("resnet50", "vgg16_bn", "hf_vit")  # the paper starts these from ImageNet weights
WEIGHTED = "_weighted"
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


def comparability(key: str, runs: Sequence[Run]) -> str:
    """One sentence on the `runs` of model `key` (its seeds): "comparable", or why they are not."""
    if key not in PUBLISHED_RESULTS:
        return f"not comparable: the paper has no such model ({runs[0].get('network', key)})"
    reasons = [*_weights_reasons(key, runs[0]), *_network_reasons(key, runs[0])]
    reasons += dict.fromkeys(reason for run in runs for reason in recipe_reasons(key, run))
    reasons += _data_reasons(runs)
    return f"not comparable: {'; '.join(reasons)}" if reasons else "comparable"


def paper_recipe(key: str) -> dict[str, Any]:
    """The paper's recipe for model `key`, by the names of a run's settings and hyperparameters."""
    architecture = key.removesuffix(WEIGHTED)
    recipe = {"image_size": CROP_PX, **SCHEDULES[architecture], "batch_size": BATCH_SIZE}
    recipe |= {"max_epoch": MAX_EPOCH, "early_stopping_epochs": EARLY_STOPPING_EPOCHS}
    return recipe | NETWORKS[architecture]


def recipe_reasons(key: str, run: Run) -> list[str]:
    """Everything in the recipe of `run` that is not the paper's, in words.

    A value that the run does not have (a ResNet-50 has no width) is no difference.
    """
    recipe = run.get("recipe")
    if not recipe:
        return ["its recipe is not known (params.json is missing)"]
    ours = {**recipe, **recipe.get("hyperparameters", {})}
    reasons = []
    for name, theirs in paper_recipe(key).items():
        if name in ours and not _same(ours[name], theirs):
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
    pretrained = key.removesuffix(WEIGHTED) in PRETRAINED
    if pretrained and run["weights"] == "none":
        reasons.append("trained from scratch, the paper's from ImageNet weights")
    elif run["weights"] != ("imagenet" if pretrained else "none"):
        theirs = "ImageNet weights" if pretrained else "scratch"
        reasons.append(f"trained from the weights {run['weights']}, the paper's from {theirs}")
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


def _data_reasons(runs: Sequence[Run]) -> list[str]:
    """What differs from the paper in the galaxies and the profile."""
    reasons, run = [], runs[0]
    if run["profile"] != "paper":
        reasons.append(f"profile {run['profile']} ({span([one['epochs'] for one in runs])} epochs)")
    same = tuple(run["class_test_galaxies"]) == tuple(SPLIT_CLASS_COUNTS["test"])
    if not same or "simulated" in run["data"]:
        reasons.append(f"{run['data']}, of them {run['test_galaxies']:,} to test on")
    return reasons


def span(values: Sequence[int]) -> str:
    """The range of some whole numbers in words: `7`, or `5 to 7`."""
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"
