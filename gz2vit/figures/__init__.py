"""The figures: from arrays and tables in memory to matplotlib figures, and to PDF and PNG.

No function here reads a file of a run or trains anything. A drawing function returns a figure
that pyplot knows, so that a notebook shows it once, at the end of its cell.
"""

from gz2vit.figures.accuracy_trends import draw_accuracy_trends, draw_lead
from gz2vit.figures.architecture import draw_architecture
from gz2vit.figures.attention import draw_fig5, draw_one_galaxy, draw_side_by_side
from gz2vit.figures.checks import draw_check_curves, draw_checks
from gz2vit.figures.composition import draw_class_composition
from gz2vit.figures.confusion import (
    draw_confusion,
    draw_confusion_pair,
    draw_published_pair,
)
from gz2vit.figures.curves import draw_learning_curves
from gz2vit.figures.description import description
from gz2vit.figures.explored import draw_explored
from gz2vit.figures.features import (
    draw_maps_of_galaxies,
    draw_neighbours,
    draw_probes,
    draw_properties,
)
from gz2vit.figures.galaxies import draw_examples, draw_galaxies, draw_mistakes
from gz2vit.figures.missing import draw_missing
from gz2vit.figures.precision_recall import draw_precision_recall
from gz2vit.figures.realism import (
    draw_realism_distances,
    draw_realism_distributions,
    draw_realism_gallery,
)
from gz2vit.figures.reliability import draw_reliability
from gz2vit.figures.size_brightness import draw_published_size_brightness, draw_size_brightness
from gz2vit.figures.style import png_bytes, save_figure
from gz2vit.figures.votes import draw_agreement, draw_decision_path

__all__ = [
    "description",
    "draw_accuracy_trends",
    "draw_agreement",
    "draw_architecture",
    "draw_check_curves",
    "draw_checks",
    "draw_class_composition",
    "draw_confusion",
    "draw_confusion_pair",
    "draw_decision_path",
    "draw_examples",
    "draw_explored",
    "draw_fig5",
    "draw_galaxies",
    "draw_lead",
    "draw_learning_curves",
    "draw_maps_of_galaxies",
    "draw_missing",
    "draw_mistakes",
    "draw_neighbours",
    "draw_one_galaxy",
    "draw_precision_recall",
    "draw_probes",
    "draw_properties",
    "draw_published_pair",
    "draw_published_size_brightness",
    "draw_realism_distances",
    "draw_realism_distributions",
    "draw_realism_gallery",
    "draw_reliability",
    "draw_side_by_side",
    "draw_size_brightness",
    "png_bytes",
    "save_figure",
]
