"""The pictures that the report knows: their titles and captions, by the names of their files."""

import re
from dataclasses import dataclass

# The report's sections.
PAPER, DATA, EVIDENCE, SIMULATED, INSIDE = "paper", "data", "evidence", "simulated", "inside"


@dataclass(frozen=True)
class Known:
    """A picture that the report expects.

    `pattern` fits the whole name of its file, without the ending; a group in it holds the part of
    a figure in several files, and is added to the title;
    `step` makes it; with `required` its place says so where no file fits;
    `needs_properties`: it cannot be drawn without the galaxies' sizes and magnitudes.
    """

    pattern: str
    section: str
    title: str
    caption: str
    step: str = ""
    required: bool = False
    needs_properties: bool = False


KNOWN = (
    Known(
        r"fig1(\D.*)?",
        PAPER,
        "Fig. 1: the architecture",
        "The Linformer Vision Transformer, with the numbers of the network that was trained here.",
        "fig1",
        True,
    ),
    Known(
        r"fig2(\D.*)?",
        PAPER,
        "Fig. 2: two galaxies of each class",
        "The paper's own galaxies where the data have all of them, others where not; the footer "
        "says which.",
        "fig2",
        True,
    ),
    Known(
        "fig3",
        PAPER,
        "Fig. 3: what is taken for what",
        "The Linformer's confusion matrices, with uniform (left) and with tuned class weights "
        "(right), in percent of the true class.",
        "fig3",
        True,
    ),
    Known(
        "fig3_paper",
        PAPER,
        "Fig. 3 from the paper's numbers",
        "The published matrices, drawn by the same code, to lay beside ours.",
        "fig3",
        True,
    ),
    Known(
        "fig4",
        PAPER,
        "Fig. 4: size and brightness",
        "Sizes and magnitudes of the test galaxies: all of them, and those that only one of the "
        "two networks recognised.",
        "fig4",
        True,
        True,
    ),
    Known(
        "fig4_paper",
        PAPER,
        "Fig. 4 from the paper's counts",
        "What the paper published of it, drawn by the same code, to lay beside ours.",
    ),
    Known(
        "fig4_.*",
        PAPER,
        "Beyond Fig. 4: who leads where",
        "What the histograms show by eye, measured.",
    ),
    Known(
        r"fig5(\D.*)?",
        PAPER,
        "Fig. 5: where the network looks",
        "Attention maps of galaxies, of all heads together and of each.",
        "fig5",
        True,
    ),
    Known(
        "class_composition",
        DATA,
        "The galaxies of this run",
        "How many there are of each class, and in which split.",
        "select",
        True,
    ),
    Known(
        "decision_path",
        DATA,
        "From votes to classes",
        "Which answers of the volunteers make a class, and how many galaxies meet each condition.",
    ),
    Known(
        "label_agreement",
        DATA,
        "Derived and given classes",
        "The classes derived from votes (columns) beside those of the label tables (rows).",
    ),
    Known(
        "realism_gallery",
        SIMULATED,
        "Simulated beside real galaxies",
        "Galaxies of each class at the same scale, real above simulated ones where there are both.",
    ),
    Known(
        "realism_distributions",
        SIMULATED,
        "How simulated and real galaxies differ in numbers",
        "Distributions of colour, concentration, asymmetry, axis ratio, sky noise and saturation.",
    ),
    Known(
        "(?:realism|transfer).*",
        SIMULATED,
        "From simulated to real galaxies",
        "What networks that learned from simulated galaxies make of real ones.",
    ),
    Known(
        "attention_checks",
        INSIDE,
        "Do the maps mean anything?",
        "Deleting and giving back what a map shows, against random order; the map's share on the "
        "galaxy; its likeness to the map of a network with random weights.",
    ),
    Known(
        "attention_models",
        INSIDE,
        "Where the networks look, side by side",
        "Attention rollout of the transformers, Grad-CAM of the CNNs, for a galaxy of each class.",
    ),
    Known(
        "attention_evidence",
        INSIDE,
        "What speaks for the predicted class, side by side",
        "Attention weighted with the class's gradient, Grad-CAM of the CNNs, for these galaxies.",
    ),
    Known(
        "attention_mistakes",
        INSIDE,
        "What misled the networks",
        "The same for the mistakes of which all networks together were most certain.",
    ),
    Known(
        "attention_linformer",
        INSIDE,
        "The Linformer's heads",
        "As in Fig. 5, of the paper's main network, whose attention the paper does not show.",
    ),
    Known(
        "attention.*",
        INSIDE,
        "What the networks look at",
        "Attention maps of the networks side by side.",
    ),
    Known(
        "(?:features|embedding|umap|probe|neighbour).*",
        INSIDE,
        "What the networks make of an image",
        "The networks' features of the galaxies, layer by layer.",
    ),
    Known(
        ".*(?:reliab|calibrat).*",
        EVIDENCE,
        "Is a network as certain as it is right?",
        "Calibration: the share that was right against the certainty, in bins.",
    ),
    Known(
        ".*(?:precision|recall).*",
        EVIDENCE,
        "Precision and recall, class by class",
        "What a stricter threshold buys in purity and costs in completeness.",
    ),
    Known(
        ".*(?:accuracy|size|magnitude|trend).*",
        EVIDENCE,
        "Accuracy against size and brightness",
        "The share of galaxies that was recognised, in bins, with intervals.",
    ),
)
OTHER = Known(".*", INSIDE, "", "")


def kind_of(stem: str) -> Known:
    """What kind of picture a file's name without ending tells of."""
    return next((one for one in KNOWN if re.fullmatch(one.pattern, stem)), OTHER)


def title_of(stem: str, known: Known) -> str:
    """The title of a file: that of its kind and which part of it, or the file's own name."""
    part = re.fullmatch(known.pattern, stem)
    named = (part[1] or "").strip("_") if part and part.re.groups else ""
    title = known.title or stem.replace("_", " ").capitalize()
    return f"{title} ({named.replace('_', ' ')})" if named else title
