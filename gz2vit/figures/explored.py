"""One galaxy for the eye: image, map, probabilities and neighbours in one picture."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gz2vit.figures.attention import COLOUR_MAP, show_map
from gz2vit.figures.style import BLUE, GREY, NOTEBOOK_WIDTH_IN, ORANGE
from gz2vit.paper import CLASS_NAMES
from gz2vit.segmentation import segment_galaxy

ABOVE_IN = 3.3  # height of galaxy, map and probabilities
NOTE_IN, NEIGHBOURS_IN = 0.3, 1.8  # of the line below them alone, and of the neighbours with it


def draw_explored(
    image: np.ndarray,
    attention: np.ndarray,
    probability: np.ndarray,
    titles: tuple[str, str],
    true: int,
    neighbours: Sequence[np.ndarray] = (),
    captions: Sequence[str] = (),
    note: str = "",
) -> Figure:
    """A galaxy, where a network looks in it, what it takes it for, and the galaxies nearest to it.

    `image`: uint8 (H, W, 3); `attention`: (g, g), 0 to 1; `probability` (8,), whose bar of the
    class `true` is orange; `titles`: of image and map; `neighbours`: images, uint8 (H, W, 3), over
    their `captions`; `note`: what stands above them, or why there are none.
    """
    heights = (ABOVE_IN, NEIGHBOURS_IN if len(neighbours) else NOTE_IN)
    figure = plt.figure(figsize=(NOTEBOOK_WIDTH_IN, sum(heights)), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=heights)
    axes = above.subplots(1, 3)
    _show(axes[0], image, titles[0])
    outline = segment_galaxy(image.astype(np.float32).mean(axis=2))
    show_map(axes[1], attention, COLOUR_MAP, outline)
    axes[1].set_title(titles[1])
    axes[1].set_box_aspect(1)
    axes[1].set_xlabel("blue: 0, red: its maximum; white: the outline")
    _bars(axes[2], probability, true)
    below.suptitle(note, fontsize=8, color=GREY)
    if len(neighbours):
        panels = below.subplots(1, len(neighbours), squeeze=False)[0]
        for panel, one, words in zip(panels, neighbours, captions, strict=True):
            _show(panel, one, words)
    return figure


def _show(axes: Axes, image: np.ndarray, title: str) -> None:
    """An image without axes."""
    axes.imshow(image)
    axes.set_title(title)
    axes.set_axis_off()


def _bars(axes: Axes, probability: np.ndarray, true: int) -> None:
    """Class probabilities in percent; the true class's is orange."""
    colours = [ORANGE if index == true else BLUE for index in range(len(probability))]
    bars = axes.barh(CLASS_NAMES, 100 * probability, color=colours)
    axes.bar_label(bars, fmt="%.0f", padding=2, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlim(0, 112)
    axes.set_xlabel("probability [%]; orange: its class")
    axes.set_box_aspect(1)
