"""The figures of a run: name of the files, step, section of the report, title and caption.

One table for the Snakefile (which files a step writes), the report (what it expects, and what it
says of it) and the notebooks. It imports nothing heavy.
"""

from typing import NamedTuple

# Sections of the report.
PAPER, DATA, EVIDENCE, SIMULATED, INSIDE = "paper", "data", "evidence", "simulated", "inside"

# The notebooks that draw, by step.
NOTEBOOKS = {
    "select": "data_preprocess/01_select_galaxies.ipynb",
    "labels": "data_preprocess/18_derive_labels.ipynb",
    "recover": "data_preprocess/19_recover_rule.ipynb",
    "realism": "data_preprocess/21_compare_simulation.ipynb",
    "attention": "notebooks/09_map_attention.ipynb",
    "features": "notebooks/10_extract_features.ipynb",
    "transfer": "notebooks/22_transfer_simulated.ipynb",
    "fig1": "figures/11_draw_fig1_architecture.ipynb",
    "fig2": "figures/12_draw_fig2_examples.ipynb",
    "fig3": "figures/13_draw_fig3_confusion.ipynb",
    "fig4": "figures/14_draw_fig4_size_brightness.ipynb",
    "fig5": "figures/15_draw_fig5_attention.ipynb",
    "evidence": "figures/20_weigh_evidence.ipynb",
}


class FigureEntry(NamedTuple):
    """One figure: `name` of its files in `figures/` without ending, the `step` that draws it, its
    `section` in the report, `title` and `caption`.

    `expected`: where it is missing, the report says in its place how to make it; `always`: its
    step writes it on every run.
    """

    name: str
    step: str
    section: str
    title: str
    caption: str
    expected: bool = False
    always: bool = True


FIGURES = (
    FigureEntry("fig1", "fig1", PAPER, "Fig. 1: the architecture",
        "The Linformer Vision Transformer, with the numbers of the network that was trained here.",
        expected=True),
    FigureEntry("fig2", "fig2", PAPER, "Fig. 2: two galaxies of each class",
        "The paper's own galaxies where the data have all of them, others where not; the footer "
        "says which.", expected=True),
    FigureEntry("fig3", "fig3", PAPER, "Fig. 3: what is taken for what",
        "The Linformer's confusion matrices, with uniform (left) and with tuned class weights "
        "(right), in percent of the true class.", expected=True),
    FigureEntry("fig3_paper", "fig3", PAPER, "Fig. 3 from the paper's numbers",
        "The published matrices, drawn by the same code, to lay beside ours.", expected=True),
    FigureEntry("fig4", "fig4", PAPER, "Fig. 4: size and brightness",
        "Sizes and magnitudes of the test galaxies: all of them, and those that only one of the "
        "two networks recognised.", expected=True),
    FigureEntry("fig4_paper", "fig4", PAPER, "Fig. 4 from the paper's counts",
        "What the paper published of it, drawn by the same code, to lay beside ours."),
    FigureEntry("fig4_lead", "fig4", PAPER, "Beyond Fig. 4: who leads where",
        "What the histograms show by eye, measured."),
    FigureEntry("fig5_A", "fig5", PAPER, "Fig. 5: where the network looks (A)",
        "Attention maps of round and spiral galaxies, of all heads together and of each.",
        expected=True),
    FigureEntry("fig5_B", "fig5", PAPER, "Fig. 5: where the network looks (B)",
        "Attention maps of mergers, of all heads together and of each."),
    FigureEntry("fig5_one_galaxy", "fig5", PAPER, "Fig. 5: one galaxy",
        "The first galaxy of (A), large, as the authors' notebooks print it."),
    FigureEntry("class_composition", "select", DATA, "The galaxies of this run",
        "How many there are of each class, and in which split.", expected=True),
    FigureEntry("decision_path", "labels", DATA, "From votes to classes",
        "Which answers of the volunteers make a class, and how many galaxies meet each condition."),
    FigureEntry("label_agreement", "labels", DATA, "Derived and given classes",
        "The classes derived from votes (columns) beside those of the label tables (rows).",
        always=False),
    FigureEntry("reliability", "evidence", EVIDENCE, "Is a network as certain as it is right?",
        "Calibration: the share that was right against the certainty, in bins."),
    FigureEntry("precision_recall", "evidence", EVIDENCE, "Precision and recall, class by class",
        "What a stricter threshold buys in purity and costs in completeness."),
    FigureEntry("accuracy_trends", "evidence", EVIDENCE, "Accuracy against size and brightness",
        "The share of galaxies that was recognised, in bins, with intervals."),
    FigureEntry("realism_gallery", "realism", SIMULATED, "Simulated beside real galaxies",
        "Galaxies of each class at the same scale, real above simulated ones where there are "
        "both."),
    FigureEntry("realism_distributions", "realism", SIMULATED,
        "How simulated and real galaxies differ in numbers",
        "Distributions of colour, concentration, asymmetry, axis ratio, sky noise and "
        "saturation."),
    FigureEntry("realism_distances", "realism", SIMULATED, "How far apart they are",
        "The distance of each feature's distributions, class by class."),
    FigureEntry("attention_checks", "attention", INSIDE, "Do the maps mean anything?",
        "Deleting and giving back what a map shows, against random order; the map's share on the "
        "galaxy; its likeness to the map of a network with random weights."),
    FigureEntry("attention_models", "fig5", INSIDE, "Where the networks look, side by side",
        "Attention rollout of the transformers, Grad-CAM of the CNNs, for a galaxy of each "
        "class."),
    FigureEntry("attention_evidence", "fig5", INSIDE,
        "What speaks for the predicted class, side by side",
        "Attention weighted with the class's gradient, Grad-CAM of the CNNs, for these galaxies."),
    FigureEntry("attention_mistakes", "fig5", INSIDE, "What misled the networks",
        "The same for the mistakes of which all networks together were most certain."),
    FigureEntry("attention_linformer", "fig5", INSIDE, "The Linformer's heads",
        "As in Fig. 5, of the paper's main network, whose attention the paper does not show."),
    FigureEntry("features_probes", "features", INSIDE, "What each layer knows",
        "The accuracy of a logistic regression on the features of each layer."),
    FigureEntry("features_umap", "features", INSIDE, "Maps of the galaxies",
        "The features of the last layer in two dimensions, coloured by class."),
    FigureEntry("features_properties", "features", INSIDE, "A map and the galaxies' properties",
        "One network's map, coloured by class, size and magnitude."),
    FigureEntry("features_neighbours", "features", INSIDE, "What a network takes for alike",
        "A galaxy of each class and its nearest neighbours in the network's features."),
)  # fmt: skip

# A figure of another name belongs where its name begins like one of these or of FIGURES.
_OTHERS = {
    "fig5": FigureEntry("fig5", "fig5", PAPER, "Fig. 5: where the network looks", ""),
    "realism": FigureEntry("realism", "realism", SIMULATED, "From simulated to real galaxies", ""),
    "transfer": FigureEntry("transfer", "transfer", SIMULATED, "From simulated to real galaxies",
        "What networks that learned from simulated galaxies make of real ones."),
    "attention": FigureEntry("attention", "fig5", INSIDE, "What the networks look at",
        "Attention maps of the networks."),
    "features": FigureEntry("features", "features", INSIDE, "What the networks make of an image",
        "The networks' features of the galaxies, layer by layer."),
}  # fmt: skip


def figures_of(step: str) -> list[str]:
    """The names of the figures that `step` writes on every run."""
    return [one.name for one in FIGURES if one.step == step and one.always]


def entry_of(name: str) -> FigureEntry:
    """The entry for the figure file `name` (without ending).

    `fig2_mine` is listed as a part of `fig2`; a name that is not known has a title and no step.
    """
    known = _OTHERS | {one.name: one for one in FIGURES}
    if name in known:
        return known[name]._replace(name=name)
    begun = [key for key in known if name.startswith(f"{key}_")]
    if not begun:
        return FigureEntry(name, "", INSIDE, name.replace("_", " ").capitalize(), "", always=False)
    entry = known[max(begun, key=len)]
    part = name.removeprefix(f"{max(begun, key=len)}_").replace("_", " ")
    return entry._replace(name=name, title=f"{entry.title} ({part})", expected=False, always=False)
