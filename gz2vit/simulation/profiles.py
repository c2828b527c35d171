"""Which builder draws which class.

A builder takes a random generator, a canvas and the radius that should hold 90 % of the light
(arcsec); it returns components whose shares of the r-band flux sum to 1.
"""

from collections.abc import Callable

import numpy as np

from gz2vit.simulation import disks, disturbed, edge_on, mergers, spheroids
from gz2vit.simulation.canvas import Canvas, Component

Builder = Callable[[np.random.Generator, Canvas, float], list[Component]]

# In the order of `paper.CLASS_NAMES`.
BUILDERS: tuple[Builder, ...] = (
    spheroids.round_elliptical,
    spheroids.in_between,
    spheroids.cigar_shaped,
    edge_on.edge_on,
    disks.barred_spiral,
    disks.unbarred_spiral,
    disturbed.irregular,
    mergers.merger,
)


def draw_components(
    class_index: int, rng: np.random.Generator, canvas: Canvas, r90_arcsec: float
) -> list[Component]:
    """The components of one galaxy of a class, each through the seeing on `canvas`."""
    components = BUILDERS[class_index](rng, canvas, r90_arcsec)
    return [component for component in components if component.share != 0]
