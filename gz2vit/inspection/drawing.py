"""From samples of galaxies and saved maps to figures (`gz2vit.figures` draws them)."""

from collections.abc import Mapping
from typing import Any

from gz2vit.figures import draw_fig5, draw_side_by_side
from gz2vit.figures.attention import COLOUR_MAP, caption_of
from gz2vit.figures.style import Figure
from gz2vit.inspection.galaxies import Sample
from gz2vit.inspection.maps import GalaxyMaps
from gz2vit.paper import CLASS_SHORT_NAMES

KINDS = {
    "average": "transformers: attention rollout (of a Linformer's absolute effective attention)",
    "of_class": "transformers: attention weighted with the gradient of the predicted class",
}
REST = (
    "CNNs: Grad-CAM for the predicted class; below each map that class and its probability; "
    "white: the galaxy's outline from its own light"
)


def draw_list(
    sample: Sample,
    name: str,
    maps: Mapping[str, GalaxyMaps],
    data: Mapping[str, Any],
    kind: str = "average",
) -> Figure:
    """The maps of all models for the galaxies of the list `name`, side by side.

    `kind`: `average` or `of_class`, as in `GalaxyMaps`; `data`: the record of the selection.
    Raises `Gz2vitError` for a list without galaxies.
    """
    rows = sample.rows(name)
    captions = [caption_of(sample.galaxy_ids[row], sample.class_index[row]) for row in rows]
    shown = {key: getattr(own, kind)[rows] for key, own in maps.items()}
    below = {
        key: [
            f"{CLASS_SHORT_NAMES[own.predicted[row]]} {100 * own.probability[row].max():.0f}%"
            for row in rows
        ]
        for key, own in maps.items()
    }
    words = f"{KINDS[kind]}; {REST}"
    return draw_side_by_side(sample.images[rows], shown, captions, below, data, words)


def draw_heads(
    sample: Sample,
    name: str,
    maps: GalaxyMaps,
    data: Mapping[str, Any],
    extra: str,
    colour_map: str = COLOUR_MAP,
) -> Figure:
    """The average and every head's map of one model for the galaxies of a list, as in Fig. 5."""
    rows = sample.rows(name)
    captions = [
        caption_of(sample.galaxy_ids[row], sample.class_index[row], maps.predicted[row])
        for row in rows
    ]
    arrays = (sample.images[rows], maps.average[rows], maps.heads[rows])
    return draw_fig5(*arrays, captions, data, extra, colour_map)
