"""What a figure shows, in words: for those who cannot see it, and where it cannot be shown.

A drawing function may say it best (`describe`); otherwise the words are taken from the figure's
own panels: titles, axes, curves and texts. `save_figure` leaves them in the PNG and the PDF.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
