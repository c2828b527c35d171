"""From samples of galaxies and saved maps to figures (`gz2vit.figures` draws them)."""

from collections.abc import Mapping, Sequence
from typing import Any

from gz2vit.figures import draw_fig5, draw_missing, draw_one_galaxy, draw_side_by_side
from gz2vit.figures.attention import COLOUR_MAP, caption_of
from gz2vit.figures.style import Figure, model_name
from gz2vit.inspection.galaxies import Sample, is_papers_list
from gz2vit.inspection.maps import GalaxyMaps
from gz2vit.paper import CLASS_SHORT_NAMES, FIG5_GALAXY_IDS

KINDS = {
    "average": "transformers: attention rollout (of a Linformer's absolute effective attention)",
    "of_class": "transformers: attention weighted with the gradient of the predicted class",
}
REST = (
    "CNNs: Grad-CAM for the predicted class, no map where nothing speaks for it; below each map "
    "that class and its probability; white: the galaxy's outline from its own light"
)
NO_GALAXIES = "the test galaxies have none of this kind"


def draw_list(
    sample: Sample,
    name: str,
    maps: Mapping[str, GalaxyMaps],
    data: Mapping[str, Any],
    kind: str = "average",
    colour_map: str = COLOUR_MAP,
) -> Figure:
    """The maps of all models for the galaxies of the list `name`, side by side.

    `kind`: `average` or `of_class`, as in `GalaxyMaps`; `data`: the record of the selection. For a
    list without galaxies a frame that says so.
    """
    rows = sample.rows(name)
    if not len(rows):
        return draw_missing(f"The list '{name}'", NO_GALAXIES, data)
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
    arrays = (sample.images[rows], shown, captions, below)
    return draw_side_by_side(*arrays, data, words, colour_map)


def draw_heads(
    sample: Sample,
    name: str,
    maps: Mapping[str, GalaxyMaps],
    key: str,
    data: Mapping[str, Any],
    colour_map: str = COLOUR_MAP,
) -> Figure:
    """The average and every head's map of the model `key` for the galaxies of a list: Fig. 5.

    Where the model has no heads or no maps, or the list no galaxies, a frame that says so.
    """
    rows = sample.rows(name)
    what = f"Every head of {key} for the list '{name}'"
    if why := _why_not(maps, key, rows):
        return draw_missing(what, why, data)
    own = maps[key]
    captions = [_caption(sample, own, row) for row in rows]
    arrays = (sample.images[rows], own.average[rows], own.heads[rows])
    return draw_fig5(*arrays, captions, data, _origin(sample, name, key, own), colour_map)


def draw_first(
    sample: Sample,
    name: str,
    maps: Mapping[str, GalaxyMaps],
    key: str,
    data: Mapping[str, Any],
    colour_map: str = COLOUR_MAP,
) -> Figure:
    """The first galaxy of a list alone, as the authors print it; else as `draw_heads`."""
    rows = sample.rows(name)
    if why := _why_not(maps, key, rows):
        return draw_missing(f"A galaxy's heads of {key}", why, data)
    row, own = rows[0], maps[key]
    arrays = (sample.images[row], own.average[row], own.heads[row])
    words = _origin(sample, name, key, own)
    return draw_one_galaxy(*arrays, _caption(sample, own, row), data, words, colour_map)


def _why_not(maps: Mapping[str, GalaxyMaps], key: str, rows: Sequence[int]) -> str:
    """Why the heads of a model cannot be drawn; nothing where they can."""
    if key not in maps:
        return f"{key} is not among the mapped models, {', '.join(maps)}; train it, or name another"
    if not maps[key].heads.shape[1]:
        return f"{key} is a CNN and has no attention heads; name a transformer"
    return "" if len(rows) else NO_GALAXIES


def _caption(sample: Sample, maps: GalaxyMaps, row: int) -> str:
    """What stands beside a galaxy: id, true class, predicted class."""
    return caption_of(sample.galaxy_ids[row], sample.class_index[row], maps.predicted[row])


def _origin(sample: Sample, name: str, key: str, maps: GalaxyMaps) -> str:
    """Whose heads these are, how they were followed, and whether the galaxies are the paper's."""
    words = f"{model_name(key)} ({key}), {maps.method}"
    if name not in FIG5_GALAXY_IDS:
        return words
    if is_papers_list(name, sample.lists[name]):
        return f"{words}; the paper's galaxies, as far as this run has them"
    return f"{words}; stand-ins: the paper's galaxies are not in this run"
