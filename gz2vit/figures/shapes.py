"""Boxes, arrows and matrices of which drawings are made; all places and sizes in inches."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from gz2vit.figures.style import GREY, SMALL_PT

Place = tuple[float, float]  # x, y


def inch_axes(figure: Figure) -> Axes:
    """Axes over the whole figure, without a frame, whose unit is an inch."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    axes.set_axis_off()
    return axes


def box(
    axes: Axes, centre: Place, size: Place, words: str, colour: str, turned: bool = False
) -> None:
    """A round-cornered box of `size` (width, height) with words in it."""
    (x, y), (width, height) = centre, size
    patch = FancyBboxPatch(
        (x - width / 2, y - height / 2),
        width,
        height,
        boxstyle="round,pad=0,rounding_size=0.05",
        facecolor=colour,
        edgecolor=GREY,
        linewidth=0.6,
    )
    axes.add_patch(patch)
    label(axes, centre, words, rotation=90 if turned else 0)


def label(axes: Axes, place: Place, words: str, **options: object) -> None:
    """Small words, centred unless `options` (of matplotlib's text) say otherwise."""
    style = {"fontsize": SMALL_PT, "ha": "center", "va": "center", "linespacing": 1.3}
    axes.text(*place, words, **(style | options))


def arrow(axes: Axes, *stops: Place) -> None:
    """A thin line through `stops`, with a head at the last."""
    xs, ys = zip(*stops[:-1], strict=True)
    axes.plot(xs, ys, color=GREY, linewidth=0.8, solid_capstyle="butt")
    style = {"arrowstyle": "-|>", "color": GREY, "linewidth": 0.8, "mutation_scale": 7}
    style |= {"shrinkA": 0, "shrinkB": 0}
    axes.annotate("", stops[-1], stops[-2], arrowprops=style)


def matrix(
    axes: Axes, left: float, y: float, shape: Sequence[int], unit: float, words: str, colour: str
) -> float:
    """A matrix as a rectangle to scale, its left edge at `left`, its middle at `y`.

    `shape`: (rows, columns), written below it; `unit`: inches for one row or column. Returns its
    right edge.
    """
    rows, columns = shape
    width, height = columns * unit, rows * unit
    style = {"facecolor": colour, "edgecolor": GREY, "linewidth": 0.6}
    axes.add_patch(Rectangle((left, y - height / 2), width, height, **style))
    middle = left + width / 2
    label(axes, (middle, y), words, weight="bold")
    below = y - height / 2 - 0.085
    label(axes, (middle, below), f"{rows} × {columns}", fontsize=SMALL_PT - 1, color=GREY)
    return left + width
