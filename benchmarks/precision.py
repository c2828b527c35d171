"""Whether what makes training faster changes what comes out of it: accuracies over several seeds.

    python benchmarks/precision.py [--data DIR] [--model KEY...] [--profile NAME] [--seeds N]

Trains each model with the sizes and recipe of the profile once for each seed and each of two
settings, ACCELERATION "auto" (here: what the machine's processor or GPU allows) and "none"
(float32), and prints the test accuracy and macro recall of each run, the spread between seeds
(sample standard deviation), and the mean of the paired differences with its standard error.
A difference within the spread between seeds is what the suite promises.
"""

import argparse
import inspect
import math
import statistics
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from galaxies import galaxies_at_hand, open_galaxies

from gz2vit.evaluation import classification_metrics
from gz2vit.images import LabelledImages, open_split
from gz2vit.io import ROOT
from gz2vit.models import BUILDERS, architecture_of
from gz2vit.predict import predict
from gz2vit.training import CHOICES, GalaxyClassifier, TrainingSettings, build_network, train_model
from gz2vit.workflow import load_profile, notebook_parameters

METRICS = ("accuracy", "recall_macro")
# Names of a notebook's parameters for the arguments of `build_model`.
ARGUMENTS = {
    "IMAGE_SIZE": "image_size",
    "PATCH_SIZE": "patch_size",
    "DEPTH": "depth",
    "HIDDEN_DIM": "dim",
    "K_DIM": "k_dim",
    "NUM_HEADS": "heads",
    "MLP_DIM": "mlp_dim",
}


def settings_of(key: str, profile: str, seed: int) -> TrainingSettings:
    """A profile's settings of a model key, with another seed; the notebook's where it has none."""
    architecture = architecture_of(key)
    (notebook,) = (ROOT / "notebooks").glob(f"*_train_{architecture}.ipynb")
    values = {name: found.default for name, found in notebook_parameters(notebook).items()}
    values |= load_profile(profile).get(key, {})
    known = inspect.signature(BUILDERS[architecture]).parameters
    sizes = {ours: values[name] for name, ours in ARGUMENTS.items() if ours in known}
    same = ("lr", "step_size", "gamma", "image_size", "batch_size", "max_epoch", "class_weights")
    settings = {name: values[name.upper()] for name in same}
    return TrainingSettings(key, hyperparameters=sizes, seed=seed, **settings)


def trained(
    settings: TrainingSettings, splits: dict[str, LabelledImages], acceleration: str
) -> dict[str, float]:
    """Train once; the metrics on the test galaxies."""
    network, train = build_network(settings), splits["train"]
    with TemporaryDirectory() as folder:
        train_model(network, settings, train, splits["valid"], Path(folder), 1, acceleration)
    predictions = predict(GalaxyClassifier(network, asdict(settings), [1.0] * 8), splits["test"])
    metrics = classification_metrics(predictions["class"], predictions["pred"])
    return {name: metrics[name] for name in METRICS}


def compare(key: str, results: dict[str, list[dict[str, float]]]) -> None:
    """Print the runs, the spread and the difference."""
    for metric in METRICS:
        columns = {name: [100 * run[metric] for run in runs] for name, runs in results.items()}
        for name, values in columns.items():
            runs = ", ".join(f"{value:.1f}" for value in values)
            print(f"{key} {metric}, {name}: {runs}; mean {statistics.mean(values):.2f}, "
                  f"spread between seeds {statistics.stdev(values):.2f}")  # fmt: skip
        pairs = [auto - none for auto, none in zip(*columns.values(), strict=True)]
        error = statistics.stdev(pairs) / math.sqrt(len(pairs))
        print(f"{key} {metric}, auto - none: {statistics.mean(pairs):+.2f} +- {error:.2f}")


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a data folder; by default one is simulated")
    parser.add_argument("--model", nargs="+", default=["linformer"], help="model keys")
    parser.add_argument("--profile", default="demo")
    parser.add_argument("--seeds", type=int, default=3, help="how many: 0, 1, ...")
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error("--seeds must be 2 or more: one seed has no spread")
    with galaxies_at_hand(options.data) as (_, results):
        train, valid = open_galaxies(results)
        splits = {"train": train, "valid": valid, "test": open_split(results, "test")}
        for key in options.model:
            found = {name: [] for name in CHOICES}
            for seed in range(options.seeds):
                for name in CHOICES:
                    print(f"{key}, seed {seed}, acceleration {name}", flush=True)
                    settings = settings_of(key, options.profile, seed)
                    found[name].append(trained(settings, splits, name))
            compare(key, found)


if __name__ == "__main__":
    main()
