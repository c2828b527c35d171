"""Fig. 4: sizes and magnitudes of all test galaxies, and of those that one model alone has right.

As the paper draws it, in its bins; the red and orange of the paper are blue and orange here, which
are told apart by all kinds of colour vision.
"""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gz2vit.evidence import FIG4_PROPERTIES, MAGNITUDE, SIZE, Property, published_edges
from gz2vit.evidence.published import PUBLISHED_NAMES, published_galaxies
from gz2vit.figures.description import describe
from gz2vit.figures.model_styles import full_name
from gz2vit.figures.style import BLUE, ORANGE, TEXT_WIDTH_IN, footer, write_below
from gz2vit.paper import ARXIV, FIG4_COUNTS

FULL_GREY = "#D3D3D3"  # the paper's
TITLES = {SIZE.column: "galaxy size", MAGNITUDE.column: "galaxy brightness"}
AXIS_NAMES = {
    SIZE.column: "90% light radius (arcsec)",
    MAGNITUDE.column: "(brighter) ←  r-band magnitude (mag)  → (fainter)",
}
DENSITY_NAMES = {SIZE.column: "pdf (1/arcsec)", MAGNITUDE.column: "pdf (1/mag)"}
TICK_STEPS = {SIZE.column: 5, MAGNITUDE.column: 1}  # arcsec, mag
LEGEND_PLACES = {SIZE.column: "upper right", MAGNITUDE.column: "upper left"}
PER_BIN = 5  # galaxies that the smaller group should have in a bin, on average
INSIDE = 0.95  # share of the galaxies that the paper's bins must hold to be used


def draw_size_brightness(
    table: pd.DataFrame, names: tuple[str, str], data: Mapping[str, Any]
) -> Figure:
    """Fig. 4 of two models: size on the left, magnitude on the right.

    `table`: as `evidence.gather_pair` gives it, with `region` and the two properties; `names`: the
    models' keys; `data`: the record of the selection. NaN is left out and counted in the footer.
    """
    figure, axes = plt.subplots(1, 2, figsize=(TEXT_WIDTH_IN, 2.9), layout="constrained")
    told, beyond = [], []
    for panel, what in zip(axes, FIG4_PROPERTIES, strict=True):
        values = _by_group(table, what)
        edges = histogram_edges(what, values)
        told.append(draw_histograms(panel, what, values, edges, tuple(map(full_name, names))))
        beyond.append(_left_out(table[what.column], edges, what))
    footer(figure, data, "; ".join(filter(None, beyond)))
    return describe(figure, f"Histograms of the test galaxies. {' '.join(told)}")


def draw_published_size_brightness() -> Figure:
    """Fig. 4 from the paper's own counts, to stand beside ours."""
    totals = {**FIG4_COUNTS, "all": sum(FIG4_COUNTS.values())}
    figure, axes = plt.subplots(1, 2, figsize=(TEXT_WIDTH_IN, 2.9), layout="constrained")
    told = []
    for panel, what in zip(axes, FIG4_PROPERTIES, strict=True):
        values = _by_group(published_galaxies(what.column), what)
        edges = published_edges(what.column)
        names = tuple(name.removeprefix("the paper's ") for name in PUBLISHED_NAMES)
        told.append(draw_histograms(panel, what, values, edges, names, totals))
    write_below(
        figure, f"drawn from counts read off the published Fig. 4 of arXiv:{ARXIV}; none is ours"
    )
    return describe(figure, f"The paper's histograms, from its counts. {' '.join(told)}")


def _by_group(table: pd.DataFrame, what: Property) -> dict[str, np.ndarray]:
    """The known values of all galaxies, of those only the first has right, only the second."""
    known = table[table[what.column].notna()]
    regions = ("only first", "only second")
    parts = {one: known[what.column][known.region == one].to_numpy() for one in regions}
    return {"all": known[what.column].to_numpy()} | parts


def histogram_edges(what: Property, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """The paper's bins where they hold most galaxies, else as many between the extreme percent.

    Where the smaller group would have fewer than PER_BIN galaxies in a bin, pairs are joined.
    """
    edges = published_edges(what.column)
    everything = values["all"]
    if np.mean((everything >= edges[0]) & (everything <= edges[-1])) < INSIDE:
        low, high = np.quantile(everything, [0.005, 0.995])
        edges = np.linspace(low, high if high > low else low + 1, len(edges))
    smaller = min(len(values["only first"]), len(values["only second"]))
    step = 1 if smaller >= PER_BIN * (len(edges) - 1) else 2
    return np.append(edges[:-1:step], edges[-1])


def draw_histograms(
    axes: Axes,
    what: Property,
    values: Mapping[str, np.ndarray],
    edges: np.ndarray,
    names: tuple[str, str],
    totals: Mapping[str, int] | None = None,
) -> str:
    """One panel: the three histograms, each of area 1, and their words.

    `values`: of `all`, `only first` and `only second`; `totals`: how many galaxies the legend says
    there are of each, by default those with a value.
    """
    first, second = names
    totals = totals or {name: len(group) for name, group in values.items()}
    labels = {
        "all": f"full test set ({totals['all']:,})",
        "only first": f"{first} right, {second} wrong ({totals['only first']:,})",
        "only second": f"{first} wrong, {second} right ({totals['only second']:,})",
    }
    line = {"histtype": "step", "linewidth": 1.5}
    looks = {
        "all": {"color": FULL_GREY},
        "only first": {**line, "color": BLUE},
        "only second": {**line, "color": ORANGE, "linestyle": (0, (4, 1.6))},
    }
    for name, label in labels.items():
        inside = values[name][(values[name] >= edges[0]) & (values[name] <= edges[-1])]
        # Nothing has no density: its line stands in the legend all the same.
        options = {"density": len(inside) > 0, "label": label, **looks[name]}
        axes.hist(inside, edges, **options)
    _set_axes(axes, what, edges)
    return _words(what, values, labels)


def _set_axes(axes: Axes, what: Property, edges: np.ndarray) -> None:
    """Title, axes with units, and the legend in the empty corner."""
    axes.set_title(TITLES[what.column])
    axes.set_xlabel(AXIS_NAMES[what.column])
    axes.set_ylabel(DENSITY_NAMES[what.column])
    axes.xaxis.set_major_locator(plt.MultipleLocator(TICK_STEPS[what.column]))
    axes.set_xlim(edges[0] - 0.02 * np.ptp(edges), edges[-1])
    axes.set_ylim(0, 1.32 * axes.get_ylim()[1])  # room for the legend
    axes.legend(loc=LEGEND_PLACES[what.column], handlelength=2.2)


def _words(what: Property, values: Mapping[str, np.ndarray], labels: Mapping[str, str]) -> str:
    """What a panel shows."""
    medians = [
        f"{label}, median {np.median(values[name]):.3g} {what.unit}"
        for name, label in labels.items()
        if len(values[name])
    ]
    return f"{TITLES[what.column].capitalize()}: {'; '.join(medians)}."


def _left_out(values: pd.Series, edges: np.ndarray, what: Property) -> str:
    """How many galaxies a panel does not show, in words; nothing where there are none."""
    unknown = int(values.isna().sum())
    beyond = int(((values < edges[0]) | (values > edges[-1])).sum())
    parts = [f"{unknown:,} without a {what.name}"] if unknown else []
    parts += [f"{beyond:,} beyond the axis of {what.name}"] if beyond else []
    return ", ".join(parts)
