"""One galaxy at a time: what a results folder's models make of it, on request.

What the explorer (`gz2vit.explorer`) shows, without its buttons. Maps are computed when
they are asked for; nothing is written.
"""

import html
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
import pandas as pd
from IPython.display import display

from gz2vit.attention import (
    CLASS_ACTIVATION,
    attention_rollout,
    collect_attention,
    gaze,
    layer_attention,
    method_for,
    why_no_map,
)
from gz2vit.attention_maps import NO_MAP, TrainedModel, open_model, trained_models
from gz2vit.evaluation import PROBABILITY_COLUMNS, read_predictions
from gz2vit.features import Features, features_path, nearest_galaxies, read_features
from gz2vit.images import LabelledImages, open_split
from gz2vit.io import CHECKPOINT, Gz2vitError, command_for
from gz2vit.paper import CLASS_NAMES, CLASS_SHORT_NAMES, SPLIT_FRACTIONS
from gz2vit.plots.extra_figures import draw_explored
from gz2vit.plots.style import png_bytes

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


# ------------------------------------------------------------------------------------------
# Galaxies to play with in Jupyter: menus, and the picture that they ask for.
#
# The pictures are `gz2vit.explorer`'s; here are only the widgets.

WIDTH = {"description_width": "70px"}


class Explorer:
    """Menus for network, group, galaxy, layer and head above a picture; shown by a notebook's cell.

    A galaxy is picked from a group of test galaxies (all, the network's mistakes, a class), or
    named by its id, of any split. Raises `Gz2vitError` as `Viewer`.
    """

    def __init__(self, results_dir: Path | str, model_key: str = "", galaxy_id: str = "") -> None:
        self.viewer = Viewer(results_dir)
        models = self.viewer.models
        start = model_key if model_key in models else models[0]
        self.network = _menu("network", models, start)
        self.group = _menu("show", GROUPS, EVERY)
        self.galaxy = _menu("galaxy", [])
        self.named = widgets.Text(description="or its id", continuous_update=False, style=WIDTH)
        self.layer, self.head = _menu("map", []), _menu("head", [])
        self.previous, self.next = (
            widgets.Button(description=words, layout={"width": "95px"})
            for words in ("← previous", "next →")
        )
        self.image = widgets.Image(format="png", layout={"max_width": "1000px"})
        self.message = widgets.HTML()
        self._quiet = False
        self._fill_layers()
        self._fill_galaxies()
        self._connect()
        if galaxy_id:
            self.named.value = galaxy_id
        else:
            self.draw()

    @property
    def shown(self) -> str:
        """The id of the galaxy that is asked for."""
        return self.named.value.strip() or self.galaxy.value or ""

    def draw(self) -> None:
        """Make the picture that the menus ask for, or say why there is none."""
        if not self.shown:
            self.message.value = "there is no such galaxy: this group is empty"
            return
        words = (self.network.value, self.shown, self.layer.value, self.head.value)
        try:
            self.image.value = self.viewer.picture(*words)
            self.message.value = ""
        except Gz2vitError as error:
            self.message.value = f"<b>{html.escape(str(error))}</b>"

    def _ipython_display_(self) -> None:
        rows = [
            widgets.HBox([self.network, self.layer, self.head]),
            widgets.HBox([self.group, self.galaxy, self.named]),
            widgets.HBox([self.previous, self.next, self.message]),
        ]
        display(widgets.VBox([*rows, self.image]))

    def _connect(self) -> None:
        """Let each widget say what it changes."""
        self.network.observe(self._on_network, "value")
        self.layer.observe(self._on_layer, "value")
        self.group.observe(self._on_group, "value")
        self.galaxy.observe(self._on_galaxy, "value")
        for one in (self.head, self.named):
            one.observe(self._on_other, "value")
        self.previous.on_click(lambda _: self._step(-1))
        self.next.on_click(lambda _: self._step(1))

    def _on_network(self, _change: Any) -> None:
        """Another network: other layers, and other mistakes."""
        with self._one_picture():
            self._fill_layers()
            kept = self.galaxy.value
            self._fill_galaxies()
            if kept in self.galaxy.options:
                self.galaxy.value = kept

    def _on_layer(self, _change: Any) -> None:
        with self._one_picture():
            self._fill_heads()

    def _on_group(self, _change: Any) -> None:
        with self._one_picture():
            self.named.value = ""
            self._fill_galaxies()

    def _on_galaxy(self, _change: Any) -> None:
        with self._one_picture():
            self.named.value = ""

    def _on_other(self, _change: Any) -> None:
        with self._one_picture():
            pass

    def _step(self, by: int) -> None:
        """The next or previous galaxy of the group, round the end."""
        ids = self.galaxy.options
        if ids:
            self.galaxy.value = ids[(ids.index(self.galaxy.value) + by) % len(ids)]

    @contextmanager
    def _one_picture(self) -> Iterator[None]:
        """For what one choice changes in other menus too, draw one picture, at the end."""
        if self._quiet:  # the change is a consequence, and whoever made it draws
            yield
            return
        self._quiet = True
        try:
            yield
        finally:
            self._quiet = False
        self.draw()

    def _fill_layers(self) -> None:
        """The maps of the network; the one that was shown, where it has it."""
        _refill(self.layer, self.viewer.layers(self.network.value))
        self._fill_heads()

    def _fill_heads(self) -> None:
        heads = self.viewer.heads(self.network.value, self.layer.value)
        _refill(self.head, heads)
        self.head.disabled = len(heads) == 1

    def _fill_galaxies(self) -> None:
        ids = self.viewer.members(self.network.value, self.group.value)
        self.galaxy.options = ids
        self.galaxy.value = ids[0] if ids else None


def _menu(words: str, options: Any, value: str | None = None) -> widgets.Dropdown:
    """A menu with its name beside it."""
    return widgets.Dropdown(description=words, options=options, value=value, style=WIDTH)


def _refill(menu: widgets.Dropdown, options: list[str]) -> None:
    """Other options; the chosen one stays where it is among them, else the first is chosen."""
    kept = menu.value if menu.value in options else options[0]
    menu.options = options
    menu.value = kept
