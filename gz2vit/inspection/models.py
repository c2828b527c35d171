"""The trained models of a results folder, as looking inside them needs them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gz2vit.attention import predict_probabilities
from gz2vit.data import shrink
from gz2vit.paper import PUBLISHED_RESULTS
from gz2vit.results import command_for, require
from gz2vit.training import GalaxyClassifier, load_classifier
from gz2vit.training.classifier import CHECKPOINT

BATCH_SIZE = 32  # images at once: the attention of a ViT-Base at 224 px is 22 MB an image


@dataclass(frozen=True)
class TrainedModel:
    """A trained network and how its images are made; `key` is the name of its folder."""

    key: str
    classifier: GalaxyClassifier

    @property
    def network(self) -> nn.Module:
        """The network itself, in evaluation mode, on the GPU where there is one."""
        return self.classifier.network

    def prepare(self, images: np.ndarray) -> torch.Tensor:
        """Images as the store holds them, uint8 (B, H, W, 3), as the network takes them.

        Float32 (B, 3, h, w) on the network's device: shrunk to what the network sees, normalised
        as in its training.
        """
        own = self.classifier
        small = np.ascontiguousarray(shrink(images, own.settings.image_size))
        pixels = torch.from_numpy(small).to(own.device).permute(0, 3, 1, 2)
        return torch.addcmul(own.shift, pixels.float(), own.scale)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Class probabilities float64 (B, 8) of images as the store holds them."""
        return predict_probabilities(self.network, self.prepare(images), BATCH_SIZE)


def trained_models(
    results_dir: Path | str, keys: Sequence[str] = ()
) -> tuple[list[str], list[str]]:
    """The models that are trained, and those that are not, of `keys`.

    Without `keys`: the paper's seven, and whatever else stands in `models/`. Raises `Gz2vitError`,
    with the step to run, where none is trained.
    """
    folder = Path(results_dir) / "models"
    there = sorted(path.parent.name for path in folder.glob(f"*/{CHECKPOINT}"))
    wanted = list(keys) or list(dict.fromkeys([*PUBLISHED_RESULTS, *there]))
    found = [key for key in wanted if key in there]
    if not found:
        require(folder / wanted[0] / CHECKPOINT, wanted[0])
    return found, [key for key in wanted if key not in there]


def describe_models(results_dir: Path | str, found: Sequence[str], missing: Sequence[str]) -> str:
    """Which models take part, and how those are trained that cannot."""
    folder = Path(results_dir).resolve() / "models"
    lines = [f"{len(found)} models: {', '.join(found)}"]
    lines += [
        f"{key} is not trained yet and left out; run {command_for(folder / key, key)}"
        for key in missing
    ]
    return "\n".join(lines)


def open_model(results_dir: Path | str, key: str) -> TrainedModel:
    """The trained model of that key, on the GPU where there is one.

    Raises `Gz2vitError`, with the step to run, where it is not trained.
    """
    classifier = load_classifier(Path(results_dir) / "models" / key)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return TrainedModel(key, classifier.to(device).eval())
