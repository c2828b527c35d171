"""Names, colours and markers of models that share a panel."""

from collections.abc import Sequence
from typing import Any

from gz2vit.figures.style import model_name
from gz2vit.results import WEIGHTED

# Okabe & Ito 2008; the yellow darkened to be seen on white. Marker and line tell them apart too.
LOOKS = (
    {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    {"color": "#D55E00", "marker": "s", "linestyle": "-"},
    {"color": "#009E73", "marker": "^", "linestyle": "-"},
    {"color": "#CC79A7", "marker": "D", "linestyle": "-"},
    {"color": "#000000", "marker": "v", "linestyle": "-"},
    {"color": "#56B4E9", "marker": "P", "linestyle": "--"},
    {"color": "#E69F00", "marker": "X", "linestyle": "--"},
    {"color": "#8C7A00", "marker": "*", "linestyle": "--"},
)


def full_name(model_key: str) -> str:
    """A model's name for people, which tells class weights: `Linformer, class weights`."""
    name = model_name(model_key)
    weighted = model_key.endswith(WEIGHTED) and name != model_key
    return f"{name}, class weights" if weighted else name


def looks(model_keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour, marker and line of each model, by its place; they begin again after eight."""
    return {key: dict(LOOKS[place % len(LOOKS)]) for place, key in enumerate(model_keys)}
