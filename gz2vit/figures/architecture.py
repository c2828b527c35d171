"""Fig. 1: the Linformer Vision Transformer, and its attention, with a network's own numbers.

Sources: the paper, arXiv:2110.01024; Dosovitskiy et al. 2021, arXiv:2010.11929, for the Vision
Transformer; Wang et al. 2020, arXiv:2006.04768, for the attention, softmax(Q (EK)^T / sqrt(d)) FV.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gz2vit.figures.description import describe
from gz2vit.figures.shapes import arrow, box, inch_axes, label, matrix
from gz2vit.figures.style import GREY, PALE, TEXT_WIDTH_IN, write_below
from gz2vit.paper import CLASS_COUNT, CLASS_SHORT_NAMES

HEIGHT_IN = 5.0
# Paler Okabe-Ito colours, under black words: tokens and what is made of them, what is learned to
# project, the class token, the table of attention.
TOKEN, LEARNED, CLASS, TABLE = "#BFDCEC", "#F9E4B8", "#F2C4A0", "#BFE6D9"
MLP_FACTOR = 4  # linformer.FeedForward: its inner layer is so many times as wide as a token
CHANNELS = 3


@dataclass(frozen=True)
class Sizes:
    """The sizes of a Linformer Vision Transformer, by the names of its hyperparameters."""

    image_size: int
    patch_size: int
    depth: int
    dim: int
    k_dim: int
    heads: int

    @classmethod
    def of(cls, network: Mapping[str, Any]) -> "Sizes":
        """The sizes among a network's hyperparameters; KeyError where one is missing."""
        return cls(**{name: network[name] for name in cls.__dataclass_fields__})

    @property
    def side(self) -> int:
        """Patches on a side of the image."""
        return self.image_size // self.patch_size

    @property
    def tokens(self) -> int:
        """N: the patches and the class token."""
        return self.side**2 + 1

    @property
    def head_dim(self) -> int:
        """d: the width of a head."""
        return self.dim // self.heads


def draw_architecture(
    network: Mapping[str, Any], parameters: int, source: str, image: np.ndarray | None = None
) -> Figure:
    """Fig. 1: (a) the way of an image through the network, (b) what happens in its attention.

    `network`: the Linformer's hyperparameters, as `models.build_linformer` takes them;
    `parameters`: how many numbers it learns; `source`: where those are from, for the footer;
    `image`: uint8 (H, W, 3), what it sees, or none. Raises KeyError for a missing hyperparameter.
    """
    sizes = Sizes.of(network)
    figure = plt.figure(figsize=(TEXT_WIDTH_IN, HEIGHT_IN))
    axes = inch_axes(figure)
    label(axes, (0.05, 4.88), f"(a) The network: {parameters:,} parameters", ha="left", fontsize=8)
    _draw_image(axes, sizes, image)
    _draw_tokens(axes, sizes)
    _draw_layers(axes, sizes)
    _draw_head(axes, sizes)
    _draw_attention(axes, sizes, bool(network.get("share_kv")))
    write_below(figure, source)
    return describe(figure, _words(sizes, parameters))


def _draw_image(axes: Axes, sizes: Sizes, image: np.ndarray | None) -> None:
    """The image with the cuts between its patches, and the first and last patch."""
    left, low, side_in = 0.08, 3.0, 1.25
    edges = np.linspace(0, side_in, sizes.side + 1)
    if image is not None:
        axes.imshow(image, extent=(left, left + side_in, low, low + side_in), zorder=0)
        axes.set_xlim(0, TEXT_WIDTH_IN)
        axes.set_ylim(0, HEIGHT_IN)
        axes.set_aspect("auto")
    colour = GREY if image is None else "white"
    for edge in edges:
        style = {"color": colour, "linewidth": 0.4}
        axes.plot([left + edge] * 2, [low, low + side_in], **style)
        axes.plot([left, left + side_in], [low + edge] * 2, **style)
    words = f"{sizes.image_size} × {sizes.image_size} px, cut into\n{sizes.side} × {sizes.side} "
    label(axes, (left + side_in / 2, low - 0.2), f"{words}patches of {sizes.patch_size} px")
    arrow(axes, (1.38, 3.63), (1.55, 3.63))


def _draw_tokens(axes: Axes, sizes: Sizes) -> None:
    """The projection of the patches, and the tokens that come out."""
    inner = CHANNELS * sizes.patch_size**2
    words = f"linear projection, {inner:,} to {sizes.dim}"
    box(axes, (1.72, 3.63), (0.3, 1.98), words, LEARNED, turned=True)
    arrow(axes, (1.89, 3.63), (2.1, 3.63))
    middle, step = 2.3, 0.22
    names = ["class", "1", "2", "⋮", f"{sizes.tokens - 1}"]
    for row, name in enumerate(names):
        place = (middle, 4.07 - row * step)
        if name == "⋮":
            label(axes, place, name, fontsize=8)
        else:
            box(axes, place, (0.34, 0.18), name, CLASS if row == 0 else TOKEN)
    label(axes, (middle, 4.32), "+ position", color=GREY)
    label(axes, (middle, 2.7), f"N = {sizes.tokens} tokens,\n{sizes.dim} wide")
    arrow(axes, (2.52, 3.63), (2.78, 3.63))


def _draw_layers(axes: Axes, sizes: Sizes) -> None:
    """One layer, from its input on the left below to its output above; how often it is repeated."""
    left, right, low, high = 2.8, 4.72, 2.62, 4.6
    box(axes, ((left + right) / 2, (low + high) / 2), (right - left, high - low), "", "white")
    label(axes, (right - 0.06, high - 0.1), f"× {sizes.depth} layers", ha="right", weight="bold")
    middle, inner = 3.85, MLP_FACTOR * sizes.dim
    heads = f"Linformer attention,\n{sizes.heads} heads, {sizes.head_dim} wide"
    parts = (
        (2.86, "LayerNorm", PALE, 0.17),
        (3.17, heads, TABLE, 0.28),
        (3.46, "+", "white", 0.16),
        (3.72, "LayerNorm", PALE, 0.17),
        (4.02, f"MLP, {sizes.dim} – {inner} – {sizes.dim}", LEARNED, 0.2),
        (4.28, "+", "white", 0.16),
    )
    arrow(
        axes, (left, 3.63), (left + 0.12, 3.63), (left + 0.12, 2.7), (middle, 2.7), (middle, 2.77)
    )
    for (y, words, colour, height), after in zip(parts, [*parts[1:], None], strict=True):
        box(axes, (middle, y), (0.18 if words == "+" else 1.3, height), words, colour)
        if after:
            arrow(axes, (middle, y + height / 2), (middle, after[0] - after[3] / 2))
    for start, end in ((2.7, 3.46), (3.575, 4.28)):  # what a layer adds to, past it
        skip = left + 0.26
        arrow(axes, (middle, start), (skip, start), (skip, end), (middle - 0.09, end))
    arrow(
        axes, (middle, 4.36), (middle, 4.44), (right - 0.1, 4.44), (right - 0.1, 3.63), (4.92, 3.63)
    )


def _draw_head(axes: Axes, sizes: Sizes) -> None:
    """From the class token of the last layer to the eight classes."""
    words = f"class token,\nLayerNorm,\nlinear\n{sizes.dim} to {CLASS_COUNT}"
    box(axes, (5.27, 3.63), (0.68, 0.8), words, LEARNED)
    arrow(axes, (5.62, 3.63), (5.82, 3.63))
    for row, name in enumerate(CLASS_SHORT_NAMES):
        box(axes, (6.36, 4.4 - row * 0.22), (1.0, 0.18), name, PALE)


def _draw_attention(axes: Axes, sizes: Sizes, shared: bool) -> None:
    """(b): keys and values shortened to k rows, then a table of N times k, not N times N."""
    tokens, k, d = sizes.tokens, sizes.k_dim, sizes.head_dim
    unit = 0.66 / max(tokens, k, d)
    title = f"(b) Attention in one head of a layer: N = {tokens} tokens, k = {k}, d = {d}"
    label(axes, (0.05, 2.28), title, ha="left", fontsize=8)
    upper, lower = 1.79, 0.95
    x = 0.15
    values = ("E", "K", "values: the keys") if shared else ("F", "V", "values")
    for learned, whole, kind in (("E", "K", "keys"), values):
        right = matrix(axes, x, upper, (k, tokens), unit, learned, LEARNED)
        right = matrix(axes, right + 0.08, upper, (tokens, d), unit, whole, TOKEN)
        label(axes, (right + 0.14, upper), "=", fontsize=9)
        short = learned + whole
        right = matrix(axes, right + 0.3, upper, (k, d), unit, short, TOKEN)
        label(axes, (right + 0.12, upper), f"{kind},\n{tokens} rows\nmixed to {k}", ha="left")
        x = 3.6
    _draw_equation(axes, sizes, unit, lower, values[0] + values[1])
    ours, ordinary = tokens * k, tokens**2
    words = (
        f"{'E is' if shared else 'E and F are'} learned, one for all heads of a layer. A head "
        f"compares N k = {ours:,} pairs;\nordinary attention compares N² = {ordinary:,}, which "
        f"grows with the square of the number of tokens."
    )
    label(axes, (0.15, 0.33), words, ha="left", color=GREY)


def _draw_equation(axes: Axes, sizes: Sizes, unit: float, y: float, short: str) -> None:
    """softmax(Q (EK)^T / sqrt(d)) FV, factor by factor; `short`: what FV is called."""
    tokens, k, d = sizes.tokens, sizes.k_dim, sizes.head_dim
    large = {"fontsize": 9, "ha": "left"}
    label(axes, (0.15, y), "softmax(", **large)
    right = matrix(axes, 0.76, y, (tokens, d), unit, "Q", TOKEN)
    right = matrix(axes, right + 0.16, y, (d, k), unit, "(EK)ᵀ", TOKEN)
    label(axes, (right + 0.06, y), f"/ √{d} ) =", **large)
    right = matrix(axes, right + 0.76, y, (tokens, k), unit, "P", TABLE)
    words = "how much each token\ntakes from each of\nthe k summaries"
    label(axes, (right + 0.1, y), words, ha="left")
    right = matrix(axes, right + 1.18, y, (tokens, k), unit, "P", TABLE)
    right = matrix(axes, right + 0.12, y, (k, d), unit, short, TOKEN)
    label(axes, (right + 0.14, y), "=", fontsize=9)
    right = matrix(axes, right + 0.3, y, (tokens, d), unit, "O", TOKEN)
    label(axes, (right + 0.12, y), "heads side by side,\nthen a linear layer", ha="left")


def _words(sizes: Sizes, parameters: int) -> str:
    """The figure in words."""
    return (
        f"Two drawings. (a) The network, {parameters:,} parameters: an image of {sizes.image_size} "
        f"px is cut into {sizes.side} by {sizes.side} patches of {sizes.patch_size} px; each is "
        f"projected to {sizes.dim} numbers; with a class token and positions they are "
        f"{sizes.tokens} tokens, which pass {sizes.depth} layers of LayerNorm, Linformer attention "
        f"with {sizes.heads} heads, LayerNorm and an MLP, each added to its input; the class token "
        f"then gives the scores of {CLASS_COUNT} classes. (b) The attention: matrices E and F mix "
        f"the {sizes.tokens} keys and values into {sizes.k_dim}, so that softmax(Q (E K)^T / "
        f"sqrt(d)) F V compares {sizes.tokens} times {sizes.k_dim} pairs, not {sizes.tokens} "
        f"squared."
    )
