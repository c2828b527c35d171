"""The figures: from arrays and tables in memory to matplotlib figures, and to PDF and PNG.

No function here reads a file of a run or trains anything. A drawing function returns a figure
that pyplot knows, so that a notebook shows it once, at the end of its cell.
"""

from gz2vit.figures.composition import draw_class_composition
from gz2vit.figures.confusion import draw_confusion, draw_confusion_pair
from gz2vit.figures.curves import draw_learning_curves
from gz2vit.figures.galaxies import draw_examples, draw_galaxies, draw_mistakes
from gz2vit.figures.style import save_figure
from gz2vit.figures.votes import draw_agreement, draw_decision_path

__all__ = [
    "draw_agreement",
    "draw_class_composition",
    "draw_confusion",
    "draw_confusion_pair",
    "draw_decision_path",
    "draw_examples",
    "draw_galaxies",
    "draw_learning_curves",
    "draw_mistakes",
    "save_figure",
]
