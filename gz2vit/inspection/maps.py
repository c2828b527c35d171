"""Where each trained model looks in chosen galaxies, on disk, for the figures."""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch

from gz2vit.attention import attention_rollout, collect_attention, gaze, why_no_map
from gz2vit.attention.maps import CLASS_ACTIVATION
from gz2vit.inspection.models import BATCH_SIZE, TrainedModel
from gz2vit.results import atomic_path, require

NO_MAP = "no map"


@dataclass(frozen=True)
class GalaxyMaps:
    """Where one model looks in N galaxies; every map float32, its maximum 1 (or 0 throughout).

    `average` (N, g, g): attention rollout with all heads averaged, of a CNN its class activation;
    `heads` (N, H, g, g): rollout of each head alone, H = 0 for a CNN; `of_class` (N, g, g): what
    speaks for the predicted class; `probability` float64 (N, 8); `method`, `class_method`: how
    `average` and `of_class` were made, in words. Of a network that cannot be looked into all maps
    are one cell of 0, and `method` says why.
    """

    average: np.ndarray
    heads: np.ndarray
    of_class: np.ndarray
    probability: np.ndarray
    method: str
    class_method: str

    @property
    def predicted(self) -> np.ndarray:
        """The most probable class of each galaxy, int64 (N,)."""
        return self.probability.argmax(axis=1)

    @property
    def seen(self) -> bool:
        """Whether the network can be looked into."""
        return not self.method.startswith(NO_MAP)


def map_galaxies(model: TrainedModel, images: np.ndarray) -> GalaxyMaps:
    """The maps of `model` for images as the store holds them, uint8 (N, H, W, 3), N from 1 on."""
    prepared = model.prepare(images)
    if why := why_no_map(model.network, prepared):
        empty = np.zeros((len(images), 1, 1), dtype=np.float32)
        words = (f"{NO_MAP}: {why}",) * 2
        return GalaxyMaps(empty, empty[:, :0, None], empty, model.probabilities(images), *words)
    general = gaze(model.network, prepared, batch_size=BATCH_SIZE)
    of_class = gaze(model.network, prepared, of_class=True, batch_size=BATCH_SIZE)
    side = general.maps.shape[1]
    heads = torch.zeros(len(images), 0, side, side)
    if general.method != CLASS_ACTIVATION:
        heads = torch.cat([_by_head(model, part) for part in prepared.split(BATCH_SIZE)])
    arrays = (general.maps.numpy(), heads.numpy(), of_class.maps.numpy())
    return GalaxyMaps(*arrays, model.probabilities(images), general.method, of_class.method)


def _by_head(model: TrainedModel, prepared: torch.Tensor) -> torch.Tensor:
    """Attention rollout of each head alone, (B, H, g, g), on the CPU."""
    attentions = collect_attention(model.network, prepared)
    heads = range(attentions[0].shape[1])
    return torch.stack([attention_rollout(attentions, head).cpu() for head in heads], dim=1)


def write_maps(folder: Path | str, key: str, maps: GalaxyMaps) -> Path:
    """Write the maps of a model to `<folder>/<key>.npz` and return the path."""
    path = Path(folder) / f"{key}.npz"
    with atomic_path(path) as temporary:
        np.savez_compressed(
            temporary, **{one.name: getattr(maps, one.name) for one in fields(maps)}
        )
    return path


def read_maps(folder: Path | str, key: str) -> GalaxyMaps:
    """What `write_maps` wrote; `Gz2vitError`, with the step to run, where it is missing."""
    with np.load(require(Path(folder) / f"{key}.npz", "attention"), allow_pickle=False) as arrays:
        values = {one.name: arrays[one.name] for one in fields(GalaxyMaps)}
    texts = {name: str(values[name]) for name in ("method", "class_method")}
    return GalaxyMaps(**values | texts)
