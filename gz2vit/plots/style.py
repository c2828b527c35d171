"""The look that all figures share, the line below them, their description in words, and saving.

To restyle all figures, change STYLE; one, the figure that is returned.
"""

import io
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from IPython import get_ipython
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gz2vit.io import WEIGHTED, atomic_path

TEXT_WIDTH_IN = 7.0  # \textwidth of a two-column journal page: a figure is printed as it is made
NOTEBOOK_WIDTH_IN = 10.0  # figures that only a notebook shows
SMALL_PT = 6.5  # the smallest print
FIGURE_DPI = 300  # of the PNG, and of the images inside the PDF
# Okabe & Ito 2008, https://jfly.uni-koeln.de/color: distinct for all kinds of colour vision, and
# these three also in grey.
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
GREY, PALE = "#666666", "#EEEEEE"
SPLIT_COLOURS = {"train": BLUE, "valid": ORANGE, "test": GREEN}
_RED, _PINK, _SKY, _BLACK = "#D55E00", "#CC79A7", "#56B4E9", "#000000"
CLASS_COLOURS = (BLUE, _SKY, GREEN, _BLACK, _RED, ORANGE, _PINK, "#B8A800")  # one for each class
# Colour, marker and line of models that share a panel.
LOOKS = (
    *((BLUE, "o", "-"), (_RED, "s", "-"), (GREEN, "^", "-"), (_PINK, "D", "-")),
    *((_BLACK, "v", "-"), (_SKY, "P", "--"), (ORANGE, "X", "--"), ("#8C7A00", "*", "--")),
)
STYLE = {
    **dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize"), 8.0),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 7.0),
    **dict.fromkeys(("legend.frameon", "axes.spines.top", "axes.spines.right"), False),
    **dict.fromkeys(("axes.linewidth", "xtick.major.width", "ytick.major.width"), 0.6),
    **{"lines.linewidth": 1.2, "savefig.dpi": FIGURE_DPI, "figure.dpi": 110.0},  # on the screen
    "pdf.fonttype": 42,  # TrueType: text stays text, as journals ask
    "text.parse_math": False,  # a dollar sign in a folder's name is a dollar sign
}
MODEL_NAMES = {"linformer": "Linformer", "vit": "ViT", "hf_vit": "Hugging Face ViT",
               "resnet50": "ResNet-50", "vgg16_bn": "VGG-16"}  # fmt: skip
NOT_DRAWN = " is not drawn: "  # in the description of a frame that replaces a figure
LONGEST = 900  # characters of a description: beyond, it no longer helps a listener


@contextmanager
def house_style() -> Iterator[None]:
    """Draw in our STYLE in a block or function, whatever the user's settings, which are kept."""
    with plt.style.context(STYLE, after_reset=True):
        yield
        # The first figure loads the notebook's backend, which then shows figures cell by cell.
        interactive = plt.isinteractive()
    matplotlib.interactive(interactive)


def model_name(model_key: str) -> str:
    """A model's name for people: `linformer_weighted` is a Linformer; an unknown key stays."""
    return MODEL_NAMES.get(model_key.removesuffix(WEIGHTED), model_key)


def full_name(model_key: str) -> str:
    """A model's name with its class weights: `Linformer, class weights`."""
    weighted = model_key.endswith(WEIGHTED) and model_name(model_key) != model_key
    return model_name(model_key) + ", class weights" * weighted


def looks(model_keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour, marker and line of each model, by its place; they begin again after eight."""
    names = ("color", "marker", "linestyle")
    return {key: dict(zip(names, look, strict=True)) for key, look in zip(model_keys, cycle(LOOKS))}


def footer(figure: Figure, data: Mapping[str, Any] | str, extra: str = "") -> None:
    """Write where a figure comes from below it, in small grey print.

    `data`: words, or the record of the selection (`profile`, `name`, `simulated`, perhaps
    `training`: how the models were trained); `extra`: what else a reader must know.
    """
    line = data
    if not isinstance(data, str):
        named = not data["simulated"] or "simulated" in data["name"]
        line = f"gz2vit, profile {data['profile']}, {data['name']}{'' if named else ', simulated'}"
        line = "; ".join(filter(None, [line, data.get("training", ""), extra]))
    # The font's letters are 0.55 of its size wide or less, on average; 72 points are an inch.
    letters = int(figure.get_figwidth() * 72 / (0.55 * SMALL_PT))
    text = textwrap.fill(line.replace(" %", "\N{NO-BREAK SPACE}%"), letters)
    # A label of the whole figure, because the layout keeps room for it.
    figure.supxlabel(text, x=0.01, ha="left", fontsize=SMALL_PT, color=GREY, linespacing=1.3)


def rows_of_panels(
    count: int, extra_in: float, height_in: float, columns: int = 0, **options: Any
) -> tuple[Figure, np.ndarray, int]:
    """`count` panels in rows of four (or `columns`), those left over switched off; and a row's."""
    columns = columns or min(4, count)
    lines = -(-count // columns)
    size = (TEXT_WIDTH_IN, lines * height_in + extra_in)
    options |= {"squeeze": False, "layout": "constrained", "figsize": size}
    figure, axes = plt.subplots(lines, columns, **options)
    for panel in axes.flat[count:]:
        panel.set_axis_off()
    return figure, axes.ravel(), columns


def say(axes: Axes, words: str, **options: Any) -> None:
    """Write `words` in the middle of a panel, in grey, instead of a drawing."""
    place = {"transform": axes.transAxes, "ha": "center", "va": "center", "color": GREY}
    axes.text(0.5, 0.5, words, **place | options)


@house_style()
def draw_missing(what: str, why: str, data: Mapping[str, Any]) -> Figure | None:
    """A frame that says that `what` is not drawn, and `why`; None where there is no reason."""
    if not why:
        return None
    words = f"{what}{NOT_DRAWN}{why}."
    text = textwrap.fill(words, 96, break_on_hyphens=False)
    size = (TEXT_WIDTH_IN, 0.96 + 0.16 * text.count("\n"))
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    axes.set(xticks=[], yticks=[], facecolor=PALE)
    axes.spines[:].set_visible(False)
    say(axes, text, linespacing=1.5)
    footer(figure, data)
    return describe(figure, words)


def describe(figure: Figure, words: str) -> Figure:
    """Record what `figure` shows, for those who cannot see it, and return it."""
    figure.set_label(" ".join(words.split()))
    return figure


def description(figure: Figure) -> str:
    """What `figure` shows: the words of `describe`, or else its panels' titles, axes and curves."""
    words, panels = figure.get_label(), [axes for axes in figure.axes if axes.get_visible()]
    if not words:
        words = f"A figure of {len(panels)} panels"
        for number, axes in enumerate(panels, 1):
            labels = (f"x axis {axes.get_xlabel()}", f"y axis {axes.get_ylabel()}")
            shown = [axes.get_title(), *(one for one in labels if len(one) > 7 and axes.axison)]
            shown += dict.fromkeys(axes.get_legend_handles_labels()[1])
            words += f"; panel {number}: {', '.join(filter(None, shown))}"
    return textwrap.shorten(str(words), LONGEST, placeholder=" …")


def png_bytes(figure: Figure, dpi: int = 150) -> bytes:
    """The figure as the bytes of a PNG, the same each time; the figure is closed."""
    stream = io.BytesIO()
    with plt.style.context(STYLE, after_reset=True):
        figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
    plt.close(figure)
    return stream.getvalue()


def save_figure(figure: Figure, stem: Path | str) -> list[Path]:
    """Write `<stem>.pdf` and `<stem>.png` (300 dpi), described, the same each time; their paths."""
    stem, words, paths = Path(stem), description(figure), []
    kernel = get_ipython()  # the report links the cell that drew a picture
    cell = {"Source": f"[{len(kernel.user_ns['In']) - 1}]"} if kernel else {}
    pdf, png = {"CreationDate": None, "Subject": words}, {"Software": None, "Description": words}
    options = {"dpi": FIGURE_DPI, "bbox_inches": "tight", "pad_inches": 0.03}
    for kind, metadata in {"pdf": pdf, "png": png | cell}.items():
        paths.append(stem.with_name(f"{stem.name}.{kind}"))
        with atomic_path(paths[-1]) as temporary, plt.style.context(STYLE, after_reset=True):
            figure.savefig(temporary, format=kind, metadata=metadata, **options)
    return paths
