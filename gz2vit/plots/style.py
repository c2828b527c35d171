"""What a figure shows, in words: for those who cannot see it, and where it cannot be shown.

A drawing function may say it best (`describe`); otherwise the words are taken from the figure's
own panels: titles, axes, curves and texts. `save_figure` leaves them in the PNG and the PDF.
"""

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from gz2vit.io import WEIGHTED, atomic_path

LONGEST = 900  # characters: beyond, a description no longer helps a listener
FEW_TEXTS = 24  # texts of a panel up to which they are all told


def describe(figure: Figure, words: str) -> Figure:
    """Say what `figure` shows, and return it."""
    figure.set_label(" ".join(words.split()))
    return figure


def description(figure: Figure) -> str:
    """What `figure` shows: the words it was given, otherwise those of its panels."""
    words = str(figure.get_label() or "")
    return _shorten(words or _describe_panels(figure))


def _describe_panels(figure: Figure) -> str:
    """The panels in order, or all their texts where there are too many of them to tell."""
    panels = [axes for axes in figure.axes if axes.get_visible()]
    told = [words for words in map(_describe_panel, panels) if words]
    if len(panels) == 1:
        return f"A figure: {told[0]}" if told else "A figure."
    numbered = (f"panel {number}: {words}" for number, words in enumerate(told, start=1))
    return f"A figure of {len(panels)} panels; " + "; ".join(numbered)


def _describe_panel(axes: Axes) -> str:
    """One panel: its title, its axes with their ranges, its curves, its texts if they are few."""
    parts = [_plain(axes.get_title())]
    if axes.axison:
        parts += [_describe_axis(axes, name) for name in ("x", "y")]
    names = axes.get_legend_handles_labels()[1]
    parts += [f"showing {', '.join(map(_plain, dict.fromkeys(names)))}"] if names else []
    texts = [_plain(text.get_text()) for text in axes.texts if text.get_text().strip()]
    parts += [", ".join(texts)] if 0 < len(texts) <= FEW_TEXTS else []
    return ", ".join(part for part in parts if part)


def _describe_axis(axes: Axes, name: str) -> str:
    """The `x` or `y` axis: its label, and its range or what its ticks are called."""
    axis = {"x": axes.xaxis, "y": axes.yaxis}[name]
    label = _plain(axis.get_label_text())
    ticks = [_plain(tick.get_text()) for tick in axis.get_ticklabels()]
    named = [tick for tick in ticks if any(letter.isalpha() for letter in tick)]
    if named:
        return f"{name} axis {label} ({', '.join(named)})"
    low, high = axis.get_view_interval()
    return f"{name} axis {label} from {low:.3g} to {high:.3g}" if label else ""


def _plain(text: str) -> str:
    """A text on one line."""
    return " ".join(text.split())


def _shorten(text: str) -> str:
    """At most LONGEST characters, cut between words."""
    if len(text) <= LONGEST:
        return text
    return text[: LONGEST - 2].rsplit(" ", 1)[0].rstrip(",;:") + " …"


# ------------------------------------------------------------------------------------------
# The common look of all figures, the line that says where one comes from, and saving.
#
# Importing this module sets matplotlib's defaults: ticks are made as late as when a figure is saved,
# so that a style which is only set while drawing would not reach all of them.

TEXT_WIDTH_IN = 7.0  # \textwidth of a two-column journal page: a figure is printed as it is made
NOTEBOOK_WIDTH_IN = 10.0  # figures that only a notebook shows
SMALL_PT = 6.5  # the smallest print
FIGURE_DPI = 300  # of the PNG, and of the images inside the PDF

# Okabe & Ito 2008, https://jfly.uni-koeln.de/color: distinct for all kinds of colour vision, and
# these three also in grey.
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
GREY, PALE = "#666666", "#EEEEEE"
SPLIT_COLOURS = {"train": BLUE, "valid": ORANGE, "test": GREEN}

STYLE = {
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.labelsize": 8.0,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "legend.fontsize": 7.0,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "figure.dpi": 110.0,  # on the screen
    "savefig.dpi": FIGURE_DPI,
    "pdf.fonttype": 42,  # TrueType: text stays text, as journals ask
    "text.parse_math": False,  # a dollar sign in a folder's name is a dollar sign
}
matplotlib.rcParams.update(STYLE)

MODEL_NAMES = {
    "linformer": "Linformer",
    "vit": "ViT",
    "resnet50": "ResNet-50",
    "vgg16_bn": "VGG-16",
    "hf_vit": "Hugging Face ViT",
}


def model_name(model_key: str) -> str:
    """A model's name for people: `linformer_weighted` is a Linformer; an unknown key stays."""
    return MODEL_NAMES.get(model_key.removesuffix(WEIGHTED), model_key)


def footer(figure: Figure, data: Mapping[str, Any], extra: str = "") -> None:
    """Write where a figure comes from below it, in small grey print.

    `data` is the record of the selection (`profile`, `name`, `simulated`), and `training` in it, if
    there, says how the models came to be; `extra` says what else a reader must know.
    """
    parts = ["gz2vit", f"profile {data['profile']}", data["name"]]
    if data["simulated"] and "simulated" not in data["name"]:
        parts.append("simulated")
    told = [", ".join(parts), data.get("training", ""), extra]
    write_below(figure, "; ".join(filter(None, told)))


def write_below(figure: Figure, line: str) -> None:
    """Write a line of small grey print below a figure, in as many lines as it needs."""
    # The font's letters are 0.55 of its size wide or less, on average; 72 points are an inch.
    letters = int(figure.get_figwidth() * 72 / (0.55 * SMALL_PT))
    # A number stays with its %.
    text = textwrap.fill(line.replace(" %", "\N{NO-BREAK SPACE}%"), letters)
    # A label of the whole figure, because the layout keeps room for it.
    figure.supxlabel(text, x=0.01, ha="left", fontsize=SMALL_PT, color=GREY, linespacing=1.3)


def png_bytes(figure: Figure, dpi: int = 150) -> bytes:
    """The figure as the bytes of a PNG, the same each time; the figure is closed."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
    plt.close(figure)
    return stream.getvalue()


def save_figure(figure: Figure, stem: Path | str) -> list[Path]:
    """Write `<stem>.pdf` and `<stem>.png` (300 dpi) and return the two paths.

    The files hold no date: the same figure gives the same bytes. They hold what the figure shows
    in words (the PNG as `Description`). The figure stays open, so that the notebook's cell still
    shows it. Raises `Gz2vitError` where a file cannot be written.
    """
    stem, words = Path(stem), description(figure)
    metadata = {
        "pdf": {"CreationDate": None, "Subject": words},
        "png": {"Software": None, "Description": words},
    }
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in metadata]
    for path, (kind, notes) in zip(paths, metadata.items(), strict=True):
        with atomic_path(path) as temporary:
            figure.savefig(
                temporary,
                format=kind,
                dpi=FIGURE_DPI,
                metadata=notes,
                bbox_inches="tight",
                pad_inches=0.03,
            )
    return paths


# ------------------------------------------------------------------------------------------
# Names, colours and markers of models that share a panel.

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


# ------------------------------------------------------------------------------------------
# Boxes, arrows and matrices of which drawings are made; all places and sizes in inches.

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


# ------------------------------------------------------------------------------------------
# The place of a figure that cannot be drawn: what is missing, and how to make it.

LINE_LETTERS = 96
NOT_DRAWN = " is not drawn: "  # in the words of such a frame, by which the report knows it


def draw_missing(what: str, why: str, data: Mapping[str, Any]) -> Figure | None:
    """A frame that says that `what` is not drawn, and `why` (a sentence without its full stop).

    None where there is no reason why not, so that `draw_missing(...) or draw_...(...)` draws what
    can be drawn.
    """
    if not why:
        return None
    words = f"{what}{NOT_DRAWN}{why}."
    text = textwrap.fill(words, LINE_LETTERS, break_long_words=True, break_on_hyphens=False)
    height_in = 0.8 + 0.16 * (text.count("\n") + 1)
    figure, axes = plt.subplots(figsize=(TEXT_WIDTH_IN, height_in), layout="constrained")
    axes.set(xticks=[], yticks=[], facecolor=PALE)
    axes.spines[:].set_visible(False)
    place = {"transform": axes.transAxes, "ha": "center", "va": "center"}
    axes.text(0.5, 0.5, text, color=GREY, linespacing=1.5, **place)
    footer(figure, data)
    return describe(figure, words)
