"""Where networks look: the paper's Fig. 5, and the maps of many networks side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import BboxImage
from matplotlib.transforms import Bbox, TransformedBbox
from scipy.ndimage import gaussian_filter

from gz2vit.errors import Gz2vitError
from gz2vit.figures.description import describe
from gz2vit.figures.style import GREY, PALE, SMALL_PT, TEXT_WIDTH_IN, footer
from gz2vit.paper import CLASS_SHORT_NAMES
from gz2vit.results import WEIGHTED
from gz2vit.segmentation import segment_galaxy

# DEVIATION: the paper's Fig. 5 has jet, whose bands show edges that the maps do not have; turbo has
# its hues, but brightness without steps.
COLOUR_MAP = "turbo"
# Smooth, through the values, and nowhere beyond them: "bicubic" passes below the peaks, so that no
# map would be red, and "catrom" adds dark rings.
INTERPOLATION = "hermite"
GAP_IN, LABEL_IN, TITLE_IN, FOOTER_IN = 0.03, 0.72, 0.2, 0.2
OUTLINE_SHARE = 1 / 75  # of the side: an outline is smoothed over 3 px of 224
LINE_IN = 0.13  # a further line below the figure
LARGEST_IN = 1.1  # side of a panel, where there are few
SCALE_IN = (0.3, 0.06)  # the strip of colours in an upper corner, width and height
NOTHING = "no map"  # in a panel without one


def draw_fig5(
    images: np.ndarray,
    average: np.ndarray,
    heads: np.ndarray,
    captions: Sequence[str],
    data: Mapping[str, Any],
    extra: str = "",
    colour_map: str = COLOUR_MAP,
) -> Figure:
    """Fig. 5: a row for each galaxy: its image, the average over heads, and every head's map.

    `images`: uint8 (N, H, W, 3); `average`: (N, g, g), `heads`: (N, heads, g, g), 0 to 1;
    `captions`: beside each row; `data`: the record of the selection; `extra`: what else the line
    below says. Raises `Gz2vitError` without galaxies.
    """
    titles = ["image", "average", *(f"head {number}" for number in range(1, heads.shape[1] + 1))]
    rows = [[average[row], *heads[row]] for row in range(len(images))]
    figure, axes = panels(len(images), len(titles))
    for panel, title in zip(axes[0], titles, strict=True):
        panel.set_title(title, fontsize=SMALL_PT, pad=2.5)
    for line, image, maps, caption in zip(axes, images, rows, captions, strict=True):
        show_image(line[0], image, caption)
        for panel, one in zip(line[1:], maps, strict=True):
            show_map(panel, one, colour_map)
    _foot(figure, data, extra)
    show_scale(figure, colour_map)
    words = f"Attention maps of {len(images)} galaxies: image, average, {heads.shape[1]} heads."
    return describe(figure, f"{words} {'; '.join(_line(one) for one in captions)}.")


def draw_one_galaxy(
    image: np.ndarray,
    average: np.ndarray,
    heads: np.ndarray,
    caption: str,
    data: Mapping[str, Any],
    extra: str = "",
    colour_map: str = COLOUR_MAP,
) -> Figure:
    """One galaxy as the authors print it: image and average above, the heads' maps below in sixes.

    `image`: uint8 (H, W, 3); `average`: (g, g); `heads`: (heads, g, g); others as `draw_fig5`.
    """
    columns = max(2, min(6, len(heads)))
    rows = 1 + -(-len(heads) // columns)
    side = min(LARGEST_IN, TEXT_WIDTH_IN / columns)
    figure = plt.figure(figsize=(columns * side, rows * (side + TITLE_IN) + 3 * TITLE_IN))
    axes = figure.subplots(rows, columns, squeeze=False)
    high = figure.get_figheight()
    edges = {"bottom": FOOTER_IN / high, "top": 1 - 2.5 * TITLE_IN / high, "left": 0, "right": 1}
    figure.subplots_adjust(**edges, wspace=GAP_IN / side, hspace=TITLE_IN / side)
    for panel in axes.flat:
        panel.set_axis_off()
    axes[0, 0].imshow(image, aspect="auto")
    axes[0, 0].set_title(caption, fontsize=SMALL_PT, pad=2.5)
    titles = ["average", *(f"head {number}" for number in range(1, len(heads) + 1))]
    panels = [axes[0, 1], *axes[1:].flat]
    for panel, title, one in zip(panels, titles, [average, *heads], strict=False):
        show_map(panel, one, colour_map)
        panel.set_title(title, fontsize=SMALL_PT, pad=2.5)
    _foot(figure, data, extra)
    show_scale(figure, colour_map, right=True)
    return describe(figure, f"Attention maps of one galaxy, {_line(caption)}: average and heads.")


def draw_side_by_side(
    images: np.ndarray,
    maps: Mapping[str, np.ndarray],
    captions: Sequence[str],
    below: Mapping[str, Sequence[str]],
    data: Mapping[str, Any],
    extra: str = "",
    colour_map: str = COLOUR_MAP,
) -> Figure:
    """The maps of many models for the same galaxies: a row for each galaxy, a column each model.

    `images`: uint8 (N, H, W, 3); `maps`: (N, g, g), 0 to 1, by the column's title; `captions`:
    beside each row; `below`: what stands under each map, by title; the galaxy's outline, from its
    own light, is drawn over every map. Raises `Gz2vitError` without galaxies.
    """
    figure, axes = panels(len(images), 1 + len(maps), below_in=0.11, title_in=1.6 * TITLE_IN)
    for panel, title in zip(axes[0], ["image", *maps], strict=True):
        words = title.replace(WEIGHTED, f"\n{WEIGHTED.strip('_')}")
        panel.set_title(words, fontsize=SMALL_PT, pad=2.5, linespacing=1.05)
    for row, (line, image) in enumerate(zip(axes, images, strict=True)):
        show_image(line[0], image, captions[row])
        outline = segment_galaxy(image.astype(np.float32).mean(axis=2))
        for panel, (title, own) in zip(line[1:], maps.items(), strict=True):
            show_map(panel, own[row], colour_map, outline)
            panel.set_xlabel(below[title][row], fontsize=SMALL_PT - 0.8, labelpad=1.2, color=GREY)
    _foot(figure, data, extra)
    show_scale(figure, colour_map)
    words = f"Maps of where {len(maps)} models look, {', '.join(map(_line, maps))}, for galaxies "
    return describe(figure, words + "; ".join(map(_line, captions)) + ".")


def caption_of(galaxy_id: str, true: int, predicted: int | None = None) -> str:
    """What stands beside a galaxy: its id (long ones in two lines), class, and what it was taken
    for, where that is given."""
    name = galaxy_id if len(galaxy_id) <= 10 else f"{galaxy_id[:9]}\n{galaxy_id[9:]}"
    words = f"{name}\n{CLASS_SHORT_NAMES[true]}"
    if predicted is None:
        return words
    return f"{words}\n→ {CLASS_SHORT_NAMES[predicted]}"


def panels(
    rows: int, columns: int, below_in: float = 0.0, title_in: float = TITLE_IN
) -> tuple[Figure, np.ndarray]:
    """Square panels in rows, with room for captions on the left and titles above.

    The figure and its axes (rows, columns). Raises `Gz2vitError` for no rows.
    """
    if rows < 1:
        raise Gz2vitError("there are no galaxies to draw; choose others")
    side = min(LARGEST_IN, (TEXT_WIDTH_IN - LABEL_IN - (columns - 1) * GAP_IN) / columns)
    wide = LABEL_IN + columns * side + (columns - 1) * GAP_IN
    step = side + GAP_IN + below_in
    high = title_in + rows * step + FOOTER_IN
    figure = plt.figure(figsize=(wide, high))
    edges = {"left": LABEL_IN / wide, "right": 1.0}
    edges |= {"top": 1 - title_in / high, "bottom": (FOOTER_IN + GAP_IN + below_in) / high}
    gaps = {"wspace": GAP_IN / side, "hspace": (GAP_IN + below_in) / side}
    return figure, figure.subplots(rows, columns, squeeze=False, gridspec_kw=edges | gaps)


def _foot(figure: Figure, data: Mapping[str, Any], extra: str) -> None:
    """The line below a figure of `panels`, which becomes higher where it takes several lines."""
    footer(figure, data, extra)
    old = figure.get_figheight()
    # matplotlib puts the line at 1 % of the height, which counts in a high figure
    more = LINE_IN * figure.get_supxlabel().count("\n") + 0.01 * old
    grid = figure.axes[0].get_gridspec()
    now = grid.get_subplot_params(figure)
    figure.set_figheight(old + more)
    ends = {"bottom": now.bottom, "top": now.top}
    grid.update(**{name: (old * end + more) / (old + more) for name, end in ends.items()})


def show_image(axes: Axes, image: np.ndarray, caption: str) -> None:
    """A galaxy, uint8 (H, W, 3), with its caption on the left."""
    _bare(axes)
    axes.imshow(image, aspect="auto")
    words = {"ha": "left", "va": "center", "fontsize": SMALL_PT, "linespacing": 1.15}
    place = (-LABEL_IN * 72, 0)
    axes.annotate(caption, (0, 0.5), place, "axes fraction", "offset points", **words)


def show_map(
    axes: Axes, values: np.ndarray, colour_map: str, outline: np.ndarray | None = None
) -> None:
    """A map (g, g), smoothed, with the galaxy's outline (H, W), or words where it is 0."""
    _bare(axes)
    if not values.max() > 0:
        axes.set_facecolor(PALE)
        place = {"transform": axes.transAxes, "ha": "center", "va": "center"}
        axes.text(0.5, 0.5, NOTHING, fontsize=SMALL_PT, color=GREY, **place)
        return
    size = 1.0 if outline is None else float(len(outline))
    look = {"cmap": colour_map, "vmin": 0, "vmax": 1, "interpolation": INTERPOLATION}
    axes.imshow(values, extent=(0, size, size, 0), aspect="auto", **look)
    if outline is not None and outline.any() and not outline.all():
        smooth = gaussian_filter(outline.astype(np.float32), OUTLINE_SHARE * size)
        axes.contour(smooth, [0.5], colors="white", linewidths=0.6)


def show_scale(figure: Figure, colour_map: str, right: bool = False) -> None:
    """What the colours mean, 0 to each map's maximum, in the upper left or right corner."""
    wide, high = figure.get_size_inches()
    width, height = SCALE_IN
    start = wide - LABEL_IN + 0.08 if right else 0.08
    x0, x1, y = start / wide, (start + width) / wide, 1 - 0.12 / high
    strip = Bbox.from_extents(x0, y - height / 2 / high, x1, y + height / 2 / high)
    colours = BboxImage(TransformedBbox(strip, figure.transFigure), cmap=colour_map)
    colours.set_data(np.linspace(0, 1, 256)[None])
    figure.add_artist(colours)
    look = {"fontsize": SMALL_PT - 0.8, "va": "center_baseline", "color": GREY}
    figure.text(x0 - 0.02 / wide, y, "0", ha="right", **look)
    figure.text(x1 + 0.02 / wide, y, "max.", ha="left", **look)


def _bare(axes: Axes) -> None:
    """No ticks, no frame."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _line(text: str) -> str:
    """A caption on one line."""
    return " ".join(text.split())
