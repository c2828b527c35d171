"""One galaxy at a time: what a results folder's models make of it, on request.

What the explorer (`gz2vit.inspection.explorer`) shows, without its buttons. Maps are computed when
they are asked for; nothing is written.
"""

from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from gz2vit.attention import (
    attention_rollout,
    collect_attention,
    gaze,
    layer_attention,
    why_no_map,
)
from gz2vit.attention.maps import CLASS_ACTIVATION, method_for
from gz2vit.data import LabelledImages, open_split
from gz2vit.errors import Gz2vitError
from gz2vit.evaluation import PROBABILITY_COLUMNS, read_predictions
from gz2vit.figures import draw_explored, png_bytes
from gz2vit.inspection.features import Features, features_path, read_features
from gz2vit.inspection.knowledge import nearest_galaxies
from gz2vit.inspection.maps import NO_MAP
from gz2vit.inspection.models import TrainedModel, open_model, trained_models
from gz2vit.paper import CLASS_NAMES, CLASS_SHORT_NAMES, SPLIT_FRACTIONS
from gz2vit.results import command_for
from gz2vit.training.classifier import CHECKPOINT

EVERY, MISTAKES = "all test galaxies", "mistakes, most certain first"
GROUPS = (EVERY, MISTAKES, *CLASS_NAMES)
ROLLOUT, EVIDENCE, GRAD_CAM = "all layers (rollout)", "evidence for its class", "Grad-CAM"
AVERAGE = "average"
NEAREST = 7  # neighbours shown
LISTED = 500  # galaxies of a group that are offered; any other can be named


class Viewer:
    """The galaxies and trained models of a results folder.

    Raises `Gz2vitError`, with the command that makes them, where the folder has no trained model.
    """

    def __init__(self, results_dir: Path | str) -> None:
        self.results_dir = Path(results_dir).resolve()
        if not list(self.results_dir.glob(f"models/*/{CHECKPOINT}")):
            command = command_for(self.results_dir / "models", "")
            raise Gz2vitError(
                f"{self.results_dir} holds no trained model yet; run "
                f"{command.replace(' --only ', '')} in the project's folder (a quarter of an hour "
                "for the demo), then this notebook again"
            )
        self.models = trained_models(self.results_dir)[0]
        self.model = cache(self._open_model)
        self.shape = cache(self._count)
        self.predictions = cache(self._read_predictions)
        self.features = cache(self._read_features)

    @cached_property
    def splits(self) -> dict[str, LabelledImages]:
        """The image stores and classes of all splits."""
        return {split: open_split(self.results_dir, split) for split in SPLIT_FRACTIONS}

    @cached_property
    def places(self) -> dict[str, tuple[str, int]]:
        """Where each galaxy stands: its split, and its row there."""
        return {
            galaxy_id: (split, row)
            for split, galaxies in self.splits.items()
            for row, galaxy_id in enumerate(galaxies.store.galaxy_ids)
        }

    def members(self, key: str, group: str) -> list[str]:
        """Ids of test galaxies of one of `GROUPS`, `LISTED` at most; mistakes are the model's."""
        table = self.predictions(key)
        if group == MISTAKES:
            wrong = table[table["pred"] != table["class"]]
            certainty = wrong[list(PROBABILITY_COLUMNS)].max(axis=1)
            table = wrong.loc[certainty.sort_values(ascending=False, kind="stable").index]
        elif group != EVERY:
            table = table[table["class"] == CLASS_NAMES.index(group)]
        return table.index[:LISTED].tolist()

    def layers(self, key: str) -> list[str]:
        """What can be asked of a model: rollout, evidence and each layer, or Grad-CAM of a CNN.

        `NO_MAP` alone of a network that cannot be looked into.
        """
        if not self.shape(key)[0]:
            return [NO_MAP]
        if method_for(self.model(key).network) == CLASS_ACTIVATION:
            return [GRAD_CAM]
        layers = range(1, self.shape(key)[0] + 1)
        return [ROLLOUT, EVIDENCE, *(f"layer {number}" for number in layers)]

    def heads(self, key: str, layer: str) -> list[str]:
        """The heads of a layer; their average alone where the map has no heads."""
        if layer in (GRAD_CAM, EVIDENCE, NO_MAP):
            return [AVERAGE]
        return [AVERAGE, *(f"head {number}" for number in range(1, self.shape(key)[1] + 1))]

    def picture(self, key: str, galaxy_id: str, layer: str, head: str = AVERAGE) -> bytes:
        """A PNG: the galaxy, the map, the probabilities, its nearest neighbours.

        `layer`, `head`: of `layers` and `heads`. Raises `Gz2vitError` for an unknown galaxy.
        """
        image, true = self.galaxy(galaxy_id)
        model, split = self.model(key), self.places[galaxy_id][0]
        probability = model.probabilities(image[None])[0]
        near, note = self.neighbours(key, galaxy_id)
        words = layer if head == AVERAGE else f"{layer}, {head}"
        figure = draw_explored(
            image,
            self.map_of(key, galaxy_id, layer, head),
            probability,
            (f"{galaxy_id} ({split}): {CLASS_NAMES[true]}", f"{key}: {words}"),
            true,
            [self.galaxy(one)[0] for one in near],
            [CLASS_SHORT_NAMES[self.galaxy(one)[1]] for one in near],
            note,
        )
        return png_bytes(figure, dpi=100)

    def galaxy(self, galaxy_id: str) -> tuple[np.ndarray, int]:
        """A galaxy's image, uint8 (H, W, 3), and class; `Gz2vitError` for an unknown one."""
        if galaxy_id not in self.places:
            raise Gz2vitError(f"galaxy {galaxy_id} is not among this run's {len(self.places):,}")
        split, row = self.places[galaxy_id]
        galaxies = self.splits[split]
        return galaxies.store.read(np.array([row]))[0], int(galaxies.class_index[row])

    def map_of(self, key: str, galaxy_id: str, layer: str, head: str = AVERAGE) -> np.ndarray:
        """The map (g, g), 0 to 1, that `layer` and `head` name; `Gz2vitError` for other names."""
        known = self.layers(key)
        if layer not in known or head not in self.heads(key, layer):
            raise Gz2vitError(f"{key} has no '{layer}', '{head}'; there are {', '.join(known)}")
        if layer == NO_MAP:
            return np.zeros((1, 1), dtype=np.float32)
        model = self.model(key)
        prepared = model.prepare(self.galaxy(galaxy_id)[0][None])
        if layer in (GRAD_CAM, EVIDENCE):
            return gaze(model.network, prepared, of_class=True).maps[0].numpy()
        number = None if head == AVERAGE else int(head.split()[1]) - 1
        attentions = collect_attention(model.network, prepared)
        if layer == ROLLOUT:
            return attention_rollout(attentions, number)[0].cpu().numpy()
        return layer_attention(attentions, int(layer.split()[1]) - 1, number)[0].cpu().numpy()

    def neighbours(self, key: str, galaxy_id: str) -> tuple[list[str], str]:
        """The nearest galaxies of the same split by the model's last layer, and words on them."""
        if not features_path(self.results_dir, key).exists():
            command = command_for(self.results_dir / "features", "features")
            return [], f"neighbours need features; run {command}"
        split = self.places[galaxy_id][0]
        features = self.features(key, split)
        if galaxy_id not in set(features.galaxy_ids):
            return [], "no features were extracted of this galaxy"
        near = nearest_galaxies(features, galaxy_id, NEAREST)
        return near, f"nearest by {features.layer} of {key}, {split} galaxies"

    def _count(self, key: str) -> tuple[int, int]:
        """How many attention layers, and heads in each; of a CNN (1, 0), without maps (0, 0)."""
        first = next(iter(self.places))
        prepared = self.model(key).prepare(self.galaxy(first)[0][None])
        if why_no_map(self.model(key).network, prepared):
            return 0, 0
        if method_for(self.model(key).network) == CLASS_ACTIVATION:
            return 1, 0
        attentions = collect_attention(self.model(key).network, prepared)
        return len(attentions), attentions[0].shape[1]

    def _open_model(self, key: str) -> TrainedModel:
        return open_model(self.results_dir, key)

    def _read_predictions(self, key: str) -> pd.DataFrame:
        path = self.results_dir / "models" / key / "predictions.csv"
        return read_predictions(path).set_index("GalaxyID")

    def _read_features(self, key: str, split: str) -> Features:
        return read_features(features_path(self.results_dir, key)).of(split)
