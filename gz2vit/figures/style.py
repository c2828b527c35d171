"""The common look of all figures, the line that says where one comes from, and saving.

Importing this module sets matplotlib's defaults: ticks are made as late as when a figure is saved,
so that a style which is only set while drawing would not reach all of them.
"""

import io
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from gz2vit.figures.description import description
from gz2vit.results import WEIGHTED, atomic_path

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
