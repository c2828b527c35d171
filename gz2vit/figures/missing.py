"""The place of a figure that cannot be drawn: what is missing, and how to make it."""

import textwrap
from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from gz2vit.figures.description import describe
from gz2vit.figures.style import GREY, PALE, TEXT_WIDTH_IN, footer

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
