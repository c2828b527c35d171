"""Galaxies to play with in Jupyter: menus, and the picture that they ask for.

The pictures are `gz2vit.inspection.viewer`'s; here are only the widgets.
"""

import html
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ipywidgets as widgets
from IPython.display import display

from gz2vit.errors import Gz2vitError
from gz2vit.inspection.viewer import EVERY, GROUPS, Viewer

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
