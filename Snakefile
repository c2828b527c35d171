"""The steps of the pipeline: one rule each, with its notebook, what it needs and what it makes.

`run_all.sh` starts it with a configuration file (profile, data, results, only, settings), first to
plan, then to run; all paths below are relative to the results folder. `gz2vit/workflow.py` decides
which steps are stale; Snakemake runs those, here or on a cluster, in an order that their needs
allow, and tells numerical libraries to use as many threads as a rule asks for (OMP_NUM_THREADS).

`code` names the modules that decide a step's numbers: when they change, the step is stale (a
training is not: see `--retrain`).
"""

import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT))

from gz2vit.io import MODEL_FILES, Gz2vitError, write_text
from gz2vit.plots.captions import figures_of
from gz2vit.votes import MAPPING_FILE, VOTES_FILE
from gz2vit.workflow import DONE, Pipeline

THREADS = config["threads"]
RUN = f"exec {shlex.quote(sys.executable)} -P -m gz2vit execute"  # and the name of a step

TRAINING_NOTEBOOKS = {
    "linformer": "notebooks/07_train_linformer.ipynb",
    "linformer_weighted": "notebooks/07_train_linformer.ipynb",
    "vit": "notebooks/08_train_vit.ipynb",
    "resnet50": "notebooks/09_train_resnet50.ipynb",
    "vgg16_bn": "notebooks/10_train_vgg16_bn.ipynb",
    "hf_vit": "notebooks/11_train_hf_vit.ipynb",
    "hf_vit_weighted": "notebooks/11_train_hf_vit.ipynb",
}
BACKBONE_NOTEBOOK = "notebooks/12_train_backbone.ipynb"
PREDICTED = ("linformer", "vit", "resnet50", "hf_vit")  # by the authors, galaxy by galaxy
TABLES = [f"gz2_{split}.csv" for split in ("train", "valid", "test")]
PROPERTIES = "galaxy_properties.csv"
VOTES = [VOTES_FILE, MAPPING_FILE, *TABLES]


def reported(function, *words, **options):
    """What `function` returns; an error of the user's goes where `run_all.sh` looks for it."""
    try:
        return function(*words, **options)
    except Gz2vitError as error:
        write_text("logs/plan.error", f"{error}\n")
        raise WorkflowError(str(error))


def step(name, *words, **options):
    """Register a step; the inputs of its rule."""
    reported(pipeline.step, name, *words, **options)
    return lambda wildcards: pipeline.inputs(name + getattr(wildcards, "seed", ""))


def figures(name):
    """The figures that a step draws, in their two forms."""
    return [f"figures/{figure}.{kind}" for figure in figures_of(name) for kind in ("pdf", "png")]


pipeline = reported(Pipeline, config)
done = DONE.format
SIMULATE = ["simulate"] if pipeline.simulated else []


rule notebook:  # what all rules below have in common; a training takes all cores
    threads: THREADS
    shell: f"{RUN} {{rule}}"


use rule notebook as quick with:  # side by side, even where trainings run one after another
    threads: 1


use rule notebook as whole with:  # `workflow.WHOLE`: long ones that wait for all models
    threads: config["cores"]


if pipeline.published:

    use rule notebook as published with:
        input:
            step(
                "published", "data_preprocess/04_fetch_published.ipynb", code="published",
                makes=[
                    *(f"models/{key}/predictions.csv" for key in PREDICTED),
                    *("selection/data.json", f"data/{PROPERTIES}"),
                ],
            ),
        output: touch(done("published"))


if pipeline.simulated:

    use rule notebook as simulate with:
        input:
            step(
                "simulate", "data_preprocess/01_simulate_galaxies.ipynb", code="gz2sim/*",
                makes=[f"data/{name}" for name in (*TABLES, PROPERTIES)],
            ),
        output: touch(done("simulate"))


use rule quick as select with:
    input:
        step(
            "select", "data_preprocess/05_select_galaxies.ipynb", needs=SIMULATE,
            code="catalog images",
            makes=[*(f"selection/{name}" for name in (*TABLES, "data.json")), *figures("select")],
        ),
    output: touch(done("select"))


use rule notebook as pack with:
    input:
        step(
            "pack", "data_preprocess/06_pack_images.ipynb", needs=["select"], code="images",
            makes=["store"],
        ),
    output: touch(done("pack"))


# Each model, and as {seed} its further seeds: "" and "_seed1", "_seed2", ...
for key in pipeline.models:

    rule:
        name: key
        input:
            step(
                key, TRAINING_NOTEBOOKS.get(key, BACKBONE_NOTEBOOK), needs=["select", "pack"],
                code="training models batches images paper predict",
                makes=[f"models/{key}/{name}" for name in MODEL_FILES],
            ),
        output: touch(done(key + "{seed}"))
        wildcard_constraints: seed=r"|_seed\d+"
        threads: THREADS
        priority: round(pipeline.seconds.get(key, 0))  # the longest first: none is alone at the end
        shell: f"{RUN} {{rule}}{{wildcards.seed}}"


use rule quick as fig1 with:
    input:
        step(
            "fig1", "figures/15_draw_fig1_architecture.ipynb", needs=["select", "linformer"],
            code="plots/paper_figures plots/style", makes=figures("fig1"),
        ),
    output: touch(done("fig1"))


use rule quick as fig2 with:
    input:
        step(
            "fig2", "figures/16_draw_fig2_examples.ipynb", needs=["select"],
            code="plots/paper_figures plots/style images", makes=figures("fig2"),
        ),
    output: touch(done("fig2"))


use rule quick as fig3 with:
    input:
        step(
            "fig3", "figures/17_draw_fig3_confusion.ipynb",
            needs=["select", "linformer", "linformer_weighted"],
            code="plots/paper_figures plots/style evaluation", makes=figures("fig3"),
        ),
    output: touch(done("fig3"))


use rule quick as fig4 with:
    input:
        step(
            "fig4", "figures/18_draw_fig4_size_brightness.ipynb",
            needs=["select", "MODEL_A", "MODEL_B"],
            code="plots/paper_figures plots/style plots/extra_figures evaluation comparisons evidence",
            makes=[
                *figures("fig4"),
                *("tables/fig4.csv", "tables/fig4_verdicts.csv", "tables/verdict.md"),
            ],
            reads=[PROPERTIES],
        ),
    output: touch(done("fig4"))


use rule whole as attention with:
    input:
        step(
            "attention", "notebooks/13_map_attention.ipynb",
            needs=["select", "pack", *pipeline.models],
            code="attention attention_maps attention_checks models images plots/paper_figures",
            makes=[
                *(f"attention/{name}" for name in ("galaxies.npz", "checks.csv", "curves.csv")),
                *figures("attention"),
            ],
        ),
    output: touch(done("attention"))


use rule whole as features with:
    input:
        step(
            "features", "notebooks/14_extract_features.ipynb",
            needs=["select", "pack", *pipeline.models],
            code="features models images plots/extra_figures",
            makes=["features/probes.csv", "features/umap.csv", *figures("features")],
            reads=[PROPERTIES],
        ),
    output: touch(done("features"))


use rule quick as fig5 with:
    input:
        step(
            "fig5", "figures/19_draw_fig5_attention.ipynb", needs=["select", "attention"],
            code="plots/paper_figures plots/style attention_maps", makes=figures("fig5"),
        ),
    output: touch(done("fig5"))


use rule quick as evidence with:
    input:
        step(
            "evidence", "figures/21_weigh_evidence.ipynb",
            needs=["select", "fig4", *pipeline.models],
            code="evidence comparisons calibration evaluation plots/extra_figures",
            makes=["tables/evidence.csv", "tables/verdicts.csv", *figures("evidence")],
            reads=[PROPERTIES],
        ),
    output: touch(done("evidence"))


use rule quick as table with:
    input:
        step(
            "table", "figures/20_make_results_table.ipynb", needs=pipeline.models,
            code="results_table evaluation paper",
            makes=[f"tables/results.{kind}" for kind in ("md", "csv", "tex")],
        ),
    output: touch(done("table"))


use rule quick as labels with:
    input:
        step(
            "labels", "data_preprocess/02_derive_labels.ipynb", needs=SIMULATE,
            code="votes plots/extra_figures",
            makes=[*(f"labels/{name}" for name in (*TABLES, "classes.csv")), *figures("labels")],
            reads=VOTES,
        ),
    output: touch(done("labels"))


use rule quick as recover with:
    input:
        step(
            "recover", "data_preprocess/03_recover_rule.ipynb", needs=SIMULATE,
            code="votes recover_rule", makes=["labels/hidden_rule.csv"], reads=VOTES,
        ),
    output: touch(done("recover"))


use rule notebook as transfer with:
    input:
        step(
            "transfer", "notebooks/23_transfer_simulated.ipynb", needs=["select", "pack"],
            code="sim2real gz2sim/* training models",
            makes=["tables/transfer.csv", "tables/transfer.md"],
        ),
    output: touch(done("transfer"))


use rule notebook as realism with:
    input:
        step(
            "realism", "data_preprocess/22_compare_simulation.ipynb",
            needs=["select", *(["transfer"] if "transfer" in config["only"] else [])],
            code="sim2real gz2sim/* plots/extra_figures",
            makes=[
                *(f"tables/realism{name}.csv" for name in ("", "_classifier", "_features", "_galaxies")),
                *figures("realism"),
            ],
            reads=[pipeline.results / "tables" / "transfer.csv"],
        ),
    output: touch(done("realism"))
    threads: 1 if pipeline.simulated else THREADS  # beside real galaxies it simulates some


# The last step: it shows what all others made.
use rule notebook as report with:
    input:
        step(
            "report", "figures/24_make_report.ipynb",
            code="report results_table plots/style templates/*.*", makes=["report.html"],
        ),
    output: touch(done("report"))


if config["planning"]:
    reported(pipeline.make_plan)


rule all:
    default_target: True
    input: [*map(done, pipeline.plan)]
