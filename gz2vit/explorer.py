"""One galaxy at a time: what the models of a results folder see in it, with menus for Jupyter.

`Viewer` computes maps when they are asked for and writes nothing; `Explorer` is its widgets.
"""

import html
from functools import cache, partial
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
import torch
from IPython.display import display
from torch import nn

from gz2vit import attention as look
from gz2vit.attention_maps import NO_MAP, open_model, trained_keys
from gz2vit.evaluation import PROBABILITY_COLUMNS, read_predictions
from gz2vit.features import features_path, nearest_galaxies, read_features
from gz2vit.images import open_split
from gz2vit.io import Gz2vitError, command_for
from gz2vit.paper import CLASS_NAMES, CLASS_SHORT_NAMES, SPLIT_FRACTIONS
from gz2vit.plots.extra_figures import draw_explored
from gz2vit.plots.style import png_bytes

EVERY, MISTAKES = "all test galaxies", "mistakes, most certain first"
GROUPS = (EVERY, MISTAKES, *CLASS_NAMES)
ROLLOUT, EVIDENCE, GRAD_CAM = "all layers (rollout)", "evidence for its class", "Grad-CAM"
AVERAGE = "average"
NEAREST = 7  # neighbours shown
LISTED = 500  # galaxies of a group in the menu; any other can be named


class Viewer:
    """The galaxies and trained models of a results folder."""

    def __init__(self, results_dir: Path | str) -> None:
        self.results_dir = root = Path(results_dir).resolve()
        self.keys = trained_keys(root)
        self.splits = {split: open_split(root, split) for split in SPLIT_FRACTIONS}
        self.places = {  # of each galaxy: its split, and its row there
            galaxy_id: (split, row)
            for split, galaxies in self.splits.items()
            for row, galaxy_id in enumerate(galaxies.cache.galaxy_ids)
        }
        self.model = cache(lambda key: open_model(root, key))
        self.maps = cache(self._find_maps)
        self.features = cache(lambda key, split: read_features(features_path(root, key)).of(split))

    def members(self, key: str, group: str) -> list[str]:
        """Ids of test galaxies of one of `GROUPS`, `LISTED` at most; mistakes are the model's."""
        table = read_predictions(self.results_dir / "models" / key / "predictions.csv")
        if group == MISTAKES:
            table = table[table["pred"] != table["class"]]
            certainty = table[list(PROBABILITY_COLUMNS)].max(axis=1)
            table = table.loc[certainty.sort_values(ascending=False, kind="stable").index]
        elif group != EVERY:
            table = table[table["class"] == CLASS_NAMES.index(group)]
        return table["GalaxyID"].head(LISTED).tolist()

    def galaxy(self, galaxy_id: str) -> tuple[np.ndarray, int]:
        """A galaxy's image, uint8 (H, W, 3), and class; `Gz2vitError` for an unknown one."""
        if galaxy_id not in self.places:
            raise Gz2vitError(f"galaxy {galaxy_id} is not among this run's {len(self.places):,}")
        split, row = self.places[galaxy_id]
        galaxies = self.splits[split]
        return galaxies.cache.read(np.array([row]))[0], int(galaxies.class_index[row])

    def _find_maps(self, key: str) -> dict[str, list[str]]:
        """The maps of a model, each with its heads: tried on the first galaxy."""
        network, prepared = self._prepare(key, next(iter(self.places)))
        try:
            maps = look.attribution_maps(network, prepared)
        except Gz2vitError:
            return {NO_MAP: [AVERAGE]}
        if "heads" not in maps:
            return {GRAD_CAM: [AVERAGE]}
        heads = [AVERAGE, *(f"head {n + 1}" for n in range(maps["heads"].shape[1]))]
        count = len(look.collect_attention(network, prepared))
        layers = {f"layer {n + 1}": heads for n in range(count)}
        return {ROLLOUT: heads, EVIDENCE: [AVERAGE], **layers}

    def _prepare(self, key: str, galaxy_id: str) -> tuple[nn.Module, torch.Tensor]:
        """A network, and a galaxy's image as it takes it, (1, 3, h, w)."""
        model = self.model(key)
        return model.network, model.prepare(self.galaxy(galaxy_id)[0][None])

    def map_of(self, key: str, galaxy_id: str, layer: str, head: str = AVERAGE) -> np.ndarray:
        """The map (g, g), 0 to 1, that `layer` and `head` name."""
        known = self.maps(key)
        if head not in known.get(layer, ()):
            raise Gz2vitError(f"{key} has no '{layer}', '{head}'; it has {', '.join(known)}")
        if layer == NO_MAP:
            return np.zeros((1, 1), dtype=np.float32)
        network, prepared = self._prepare(key, galaxy_id)
        if layer in (GRAD_CAM, EVIDENCE):
            return look.attribution_maps(network, prepared)["class"][0].numpy()
        attentions = look.collect_attention(network, prepared)
        if layer != ROLLOUT:  # the rollout of one layer is the class token's row of it
            attentions = [attentions[int(layer.split()[1]) - 1]]
        maps = look.attention_rollout(attentions, each_head=head != AVERAGE)[0].cpu().numpy()
        return maps if head == AVERAGE else maps[int(head.split()[1]) - 1]

    def neighbours(self, key: str, galaxy_id: str) -> tuple[list[str], str]:
        """The nearest galaxies of the same split by the model's last layer, and a note on them."""
        if not features_path(self.results_dir, key).exists():
            command = command_for(self.results_dir / "features", "features")
            return [], f"neighbours need features; run {command}"
        split = self.places[galaxy_id][0]
        features = self.features(key, split)
        if galaxy_id not in features.galaxy_ids:
            return [], "no features were extracted of this galaxy"
        near = nearest_galaxies(features, galaxy_id, NEAREST)
        return near, f"nearest by {features.layer} of {key}, {split} galaxies"

    def picture(self, key: str, galaxy_id: str, layer: str, head: str = AVERAGE) -> bytes:
        """A PNG: the galaxy, the map that `layer` and `head` name, probabilities, neighbours."""
        image, true = self.galaxy(galaxy_id)
        near, note = self.neighbours(key, galaxy_id)
        name = f"{key}: {layer}" + (f", {head}" if head != AVERAGE else "")
        titles = f"{galaxy_id} ({self.places[galaxy_id][0]}): {CLASS_NAMES[true]}", name
        drawn = self.map_of(key, galaxy_id, layer, head)
        probability = look.predict_probabilities(*self._prepare(key, galaxy_id))[0]
        beside = [(own, CLASS_SHORT_NAMES[index]) for own, index in map(self.galaxy, near)]
        figure = draw_explored(image, drawn, probability, titles, true, beside, note)
        return png_bytes(figure, dpi=100)


class Explorer:
    """Menus for run, network, group, galaxy, layer and head above a picture; shown by its cell.

    A galaxy is picked from a group of test galaxies (all, the network's mistakes, a class), or
    named by its id, of any split. Offered are `results_dir` and the results folders beside it that
    have trained models; `Gz2vitError`, with the command that makes one, where there are none.
    """

    def __init__(self, results_dir: Path | str, model_key: str = "", galaxy_id: str = "") -> None:
        asked = Path(results_dir).resolve()
        beside = sorted(asked.parent.iterdir()) if asked.parent.is_dir() else []
        runs = {one.name: one for one in dict.fromkeys((asked, *beside)) if trained_keys(one)}
        if not runs:
            command = command_for(asked / "models", "").replace(" --only ", "")
            words = f"{asked} has no trained model yet; run {command} in the project's folder"
            raise Gz2vitError(f"{words} (a quarter of an hour for the demo), then this notebook")

        def menu(words: str, kind: type = widgets.Dropdown, **more: Any) -> Any:
            return kind(description=words, style={"description_width": "70px"}, **more)

        self.run, self.network = menu("run", options=list(runs.items())), menu("network")
        self.group, self.galaxy = menu("show", options=GROUPS), menu("galaxy")
        self.layer, self.head = menu("map"), menu("head")
        self.named = menu("or its id", widgets.Text, continuous_update=False)
        button = partial(widgets.Button, layout={"width": "95px"})
        self.previous, self.next = button(description="← previous"), button(description="next →")
        self.image = widgets.Image(format="png", layout={"max_width": "1000px"})
        self.message = widgets.HTML()
        self._quiet = False
        self._fill(self.run, model_key, galaxy_id)
        for one in (self.run, self.network, self.group, self.galaxy, self.layer, self.head):
            one.observe(lambda change: self._fill(change.owner), "value")
        self.named.observe(lambda _: self._quiet or self.draw(), "value")
        self.previous.on_click(lambda _: self._step(-1))
        self.next.on_click(lambda _: self._step(1))

    @property
    def shown(self) -> str:
        """The id of the galaxy that is asked for."""
        return self.named.value.strip() or self.galaxy.value or ""

    def draw(self) -> None:
        """Make the picture that the menus ask for, or write why there is none."""
        if not self.shown:
            self.message.value = "no galaxy to show: this group is empty"
            return
        asked = (self.network.value, self.shown, self.layer.value, self.head.value)
        try:
            self.image.value = self.viewer.picture(*asked)
            self.message.value = ""
        except Gz2vitError as error:
            self.message.value = f"<b>{html.escape(str(error))}</b>"

    def _ipython_display_(self) -> None:
        rows = (
            (self.run, self.network, self.layer, self.head),
            (self.group, self.galaxy, self.named),
            (self.previous, self.next, self.message),
        )
        display(widgets.VBox([*map(widgets.HBox, rows), self.image]))

    def _fill(self, chosen: Any, model_key: str = "", galaxy_id: str = "") -> None:
        """Fill the menus that a choice changes; then draw one picture, not one per menu."""
        if self._quiet:  # the choice is a consequence of another
            return
        self._quiet = True
        try:
            if chosen is self.run:
                self.viewer = Viewer(self.run.value)
                _refill(self.network, self.viewer.keys, model_key)
            maps = self.viewer.maps(self.network.value)
            if chosen in (self.run, self.network):
                _refill(self.layer, list(maps))
            _refill(self.head, maps[self.layer.value])
            self.head.disabled = len(self.head.options) == 1
            if chosen in (self.run, self.network, self.group):
                ids = self.viewer.members(self.network.value, self.group.value)
                _refill(self.galaxy, ids, ids[0] if ids and chosen is self.group else "")
            if chosen in (self.run, self.group, self.galaxy):
                self.named.value = galaxy_id
        finally:
            self._quiet = False
        self.draw()

    def _step(self, by: int) -> None:
        """The next or previous galaxy of the group, round the end."""
        if ids := self.galaxy.options:
            self.galaxy.value = ids[(ids.index(self.galaxy.value) + by) % len(ids)]


def _refill(menu: widgets.Dropdown, options: list[str], value: str = "") -> None:
    """Other options; `value` is chosen, or what was, where it is among them, else the first."""
    kept = next((one for one in (value, menu.value, *options) if one in options), None)
    menu.options, menu.value = options, kept
