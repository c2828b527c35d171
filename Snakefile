"""The steps of the road, in one place: each is a notebook, what it reads and what it writes.

`run_all.sh` starts it with a configuration file (profile, data, results, only, overrides, threads,
executor); all paths below are relative to the results folder. A step runs again when a file that
it reads, its parameters, or the code behind it (its notebook's, and that of the modules it uses)
has changed.
Snakemake tells numerical libraries to use as many threads as a rule asks for (OMP_NUM_THREADS).
"""

import json
import shlex
import sys
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError

ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT))

from gz2vit.io import Gz2vitError
from gz2vit.votes import MAPPING_FILE, VOTES_FILE
from gz2vit.workflow import named_backbones, notebook_parameters, resolve
from gz2vit.workflow import step_resources
from gz2vit.io import MODEL_FILES, trained_checkpoint, write_text
from gz2vit.workflow import further_steps, named_seeds, run_folder
from gz2vit.workflow import code_signature

NOTEBOOKS = {
    "simulate": "data_preprocess/00_simulate_galaxies.ipynb",
    "select": "data_preprocess/01_select_galaxies.ipynb",
    "pack": "data_preprocess/02_pack_images.ipynb",
    "linformer": "notebooks/03_train_linformer.ipynb",
    "linformer_weighted": "notebooks/03_train_linformer.ipynb",
    "vit": "notebooks/04_train_vit.ipynb",
    "resnet50": "notebooks/05_train_resnet50.ipynb",
    "vgg16_bn": "notebooks/06_train_vgg16_bn.ipynb",
    "hf_vit": "notebooks/07_train_hf_vit.ipynb",
    "hf_vit_weighted": "notebooks/07_train_hf_vit.ipynb",
    "attention": "notebooks/09_map_attention.ipynb",
    "features": "notebooks/10_extract_features.ipynb",
    "fig1": "figures/11_draw_fig1_architecture.ipynb",
    "fig2": "figures/12_draw_fig2_examples.ipynb",
    "fig3": "figures/13_draw_fig3_confusion.ipynb",
    "fig4": "figures/14_draw_fig4_size_brightness.ipynb",
    "fig5": "figures/15_draw_fig5_attention.ipynb",
    "table": "figures/16_make_results_table.ipynb",
    "report": "figures/17_make_report.ipynb",
    "labels": "data_preprocess/18_derive_labels.ipynb",
    "recover": "data_preprocess/19_recover_rule.ipynb",
    "evidence": "figures/20_weigh_evidence.ipynb",
    "realism": "data_preprocess/21_compare_simulation.ipynb",
    "transfer": "notebooks/22_transfer_simulated.ipynb",
}
SPLITS = ("train", "valid", "test")
PAPER_KEYS = (
    "linformer", "linformer_weighted", "vit", "resnet50", "vgg16_bn", "hf_vit", "hf_vit_weighted",
)
BACKBONE_NOTEBOOK = "notebooks/08_train_backbone.ipynb"
SIMULATED = config["data"] is None
DATA_DIR = Path("data") if SIMULATED else Path(config["data"])
TABLES = [f"gz2_{split}.csv" for split in SPLITS]
NAMED_STEPS = ("transfer",)  # too long to be run unless --only names them
VOTES_STEPS = ("labels", "recover")  # they need votes: simulated, downloaded or named by VOTES


def votes(step):
    """The catalogue of votes (and the file map) that a step reads, where there is one."""
    named = json.loads(PARAMETERS[step]).get("VOTES")
    files = [named] if named else [DATA_DIR / VOTES_FILE, DATA_DIR / MAPPING_FILE]
    return [file for file in files if not SIMULATED and Path(file).exists()]


def properties():
    """The table of sizes and magnitudes, where there is one; without it Fig. 4 says so."""
    path = DATA_DIR / "galaxy_properties.csv"
    return [path] if SIMULATED or path.exists() else []


def start(step):
    """The local file of weights that a training starts from, where WEIGHTS names one."""
    named = Path(json.loads(PARAMETERS[step]).get("WEIGHTS", "none"))
    if not named.is_absolute():
        return []  # none, imagenet; --set has made the paths of files absolute
    file = trained_checkpoint(str(named)) or named
    if not file.is_file():
        return []  # a folder of the Hugging Face hub's files; or a slip, told by the notebook
    home = Path(config["results"]).resolve()
    # What a step of this run makes stands by the name that its rule has, so that it is made first.
    known = file.resolve().relative_to(home) if file.resolve().is_relative_to(home) else file
    key, seed = FURTHER.get(step, (step, None))
    if known.is_relative_to(f"models/{key}"):
        raise Gz2vitError(
            f"{step}.WEIGHTS is {file}, which this training would replace; copy it to a place "
            "outside the results, or give other results with --results DIR"
        )
    return [known]


def transfer_table():
    """The state of the transfer table, which `realism` shows where there is one."""
    path = Path(config["results"]) / "tables" / "transfer.csv"
    return path.read_text(encoding="utf-8") if path.exists() else ""


def compared_models():
    """The two models of Fig. 4."""
    known, given = notebook_parameters(ROOT / NOTEBOOKS["fig4"]), json.loads(PARAMETERS["fig4"])
    pair = {name: given.get(name, known[name].default) for name in ("MODEL_A", "MODEL_B")}
    for name, key in pair.items():
        if key not in MODEL_KEYS:
            there = ", ".join(MODEL_KEYS)
            raise Gz2vitError(f"fig4.{name} is '{key}', which is no model; there are {there}")
    return list(pair.values())


def possible_steps():
    """The steps that there are."""
    return [step for step in NOTEBOOKS if SIMULATED or step != "simulate"]


def able_steps():
    """Those that the data allow, but for those that must be named."""
    allowed = [s for s in possible_steps() if SIMULATED or s not in VOTES_STEPS or votes(s)]
    return [step for step in allowed if step not in NAMED_STEPS]


def chosen_steps():
    """The steps that were asked for; by default all that the data allow."""
    possible = possible_steps()
    for step in config["only"]:
        if step not in possible:
            known = ", ".join(possible)
            raise Gz2vitError(f"--only {step}: there is no such step; there are {known}")
    chosen = config["only"] or able_steps()
    return [*chosen, *(step for step, (key, _) in FURTHER.items() if key in chosen)]


def backbones():
    """Networks that the paper does not have, which the profile or --set adds; now steps as well."""
    added = named_backbones(config["profile"], config["overrides"])
    for row in added:
        if row in NOTEBOOKS:
            raise Gz2vitError(f"--set backbones.{row}: there is a step of that name already")
    NOTEBOOKS.update(dict.fromkeys(added, BACKBONE_NOTEBOOK))
    return added


def further_seeds():
    """Models' further seeds as {step: (model, seed)}; now steps as well."""
    further = further_steps(SEEDS, taken=NOTEBOOKS)
    NOTEBOOKS.update({step: NOTEBOOKS[key] for step, (key, _) in further.items()})
    return further


def parameters():
    """For each step all that its notebook is run with, as JSON text."""
    books = {step: ROOT / book for step, book in NOTEBOOKS.items() if step not in FURTHER}
    given = resolve(config["profile"], books, config["overrides"], backbones=list(BACKBONES))
    road = {
        "RESULTS_DIR": config["results"],
        "DATA_DIR": str(Path(config["results"]) / DATA_DIR),
        "PROFILE": config["profile"],
        "MODEL_KEYS": MODEL_KEYS,
        "SEEDS": SEEDS,
    }
    found = {}
    for step, book in books.items():
        known = notebook_parameters(book)
        fixed = {**road, "MODEL_KEY": step, "BACKBONE": BACKBONES.get(step)}
        found[step] = {name: value for name, value in fixed.items() if name in known} | given[step]
        # A model trained with the notebook's own seed is not trained again for being named.
        if step in SEEDS and SEEDS[step][0] != known["SEED"].default:
            found[step]["SEED"] = SEEDS[step][0]
    for step, (key, seed) in FURTHER.items():
        found[step] = found[key] | {"SEED": seed, "RUN": run_folder(seed)}
    return {step: json.dumps(values, sort_keys=True) for step, values in found.items()}


def requests():
    """For each step what it asks of a cluster: cores, GPUs, memory, time."""
    trained = {key: key for key in MODEL_KEYS} | {step: key for step, (key, _) in FURTHER.items()}
    devices = {}
    for step in trained:
        known = notebook_parameters(ROOT / NOTEBOOKS[step])
        devices[step] = json.loads(PARAMETERS[step]).get("DEVICES", known["DEVICES"].default)
    words = (config["profile"], config["overrides"], list(NOTEBOOKS))
    return step_resources(*words, trained, devices)


try:
    BACKBONES = backbones()
    MODEL_KEYS = [*PAPER_KEYS, *BACKBONES]
    SEEDS = named_seeds(config["profile"], config["overrides"], MODEL_KEYS, list(BACKBONES))
    FURTHER = further_seeds()
    TRAININGS = [*MODEL_KEYS, *FURTHER]
    PARAMETERS = parameters()
    REQUESTS = requests()
    STARTS = {step: start(step) for step in TRAININGS}
    COMPARED = compared_models()
    STEPS = chosen_steps()
except Gz2vitError as error:
    write_text("logs/road.error", f"{error}\n")
    raise WorkflowError(str(error))


def notebook(step):
    """The notebook of a step; what counts of it is its code, which stands in `code`."""
    return ancient(ROOT / NOTEBOOKS[step])


cached_signature = cache(code_signature)  # read once for all seeds of a model


def code(step):
    """The state of all code behind a step."""
    return cached_signature(ROOT / NOTEBOOKS[step])


def executed(step):
    """Where the executed notebook of a step goes: `notebooks/03_linformer_weighted.ipynb`."""
    return f"notebooks/{Path(NOTEBOOKS[step]).name[:2]}_{step}.ipynb"


def model(step):
    """The files of a trained model, or of a further seed of one."""
    key, seed = FURTHER.get(step, (step, None))
    folder = f"models/{key}" if seed is None else f"models/{key}/{run_folder(seed)}"
    return [f"{folder}/{name}" for name in MODEL_FILES]


def figure(name):
    """A figure in its two forms."""
    return [f"figures/{name}.pdf", f"figures/{name}.png"]


def cores(step):
    """How many processor cores a step may use: on a cluster as many as it asks for."""
    asked = REQUESTS[step].get("threads") if config["executor"] else None
    return asked or config["threads"]


def request(step):
    """What else a step asks of a cluster."""
    return {name: value for name, value in REQUESTS[step].items() if name != "threads"}


SELECTION = [f"selection/{name}" for name in (*TABLES, "data.json")]
STORE = [f"store/{split}.{ending}" for split in SPLITS for ending in ("npy", "json")]
REPORT_TEMPLATES = sorted(ROOT.glob("gz2vit/templates/*"))
EVIDENCE_FIGURES = ("accuracy_trends", "reliability", "precision_recall")
FEATURE_FIGURES = ("probes", "umap", "properties", "neighbours")
FIG5_FIGURES = (
    *("fig5_A", "fig5_B", "fig5_one_galaxy"),
    *(f"attention_{name}" for name in ("linformer", "models", "evidence", "mistakes")),
)
MAPS = [f"attention/{name}" for name in ("galaxies.npz", "galaxies.csv", "checks.csv")]
MAPS += [f"attention/{key}.npz" for key in MODEL_KEYS]
REALISM_FIGURES = ("realism_gallery", "realism_distributions", "realism_distances")
REALISM_TABLES = ("realism", "realism_classifier", "realism_features", "realism_galaxies")
EXECUTE = (
    f"{shlex.quote(sys.executable)} -m gz2vit execute {{rule}} {{input.notebook:q}} "
    "{output.executed} --parameters {params.parameters:q}"
)


if SIMULATED:

    rule simulate:
        input:
            notebook=notebook("simulate"),
        output:
            [DATA_DIR / name for name in (*TABLES, "galaxy_properties.csv")],
            executed=executed("simulate"),
        threads: cores("simulate")
        resources:
            **request("simulate"),
        params:
            parameters=PARAMETERS["simulate"],
            code=code("simulate"),
        shell:
            EXECUTE


rule select:
    input:
        [DATA_DIR / name for name in TABLES],
        notebook=notebook("select"),
    output:
        SELECTION,
        figure("class_composition"),
        executed=executed("select"),
    threads: cores("select")
    resources:
        **request("select"),
    params:
        parameters=PARAMETERS["select"],
        code=code("select"),
        signature=config["signature"],
    shell:
        EXECUTE


rule pack:
    input:
        SELECTION,
        notebook=notebook("pack"),
    output:
        STORE,
        executed=executed("pack"),
    threads: cores("pack")
    resources:
        **request("pack"),
    params:
        parameters=PARAMETERS["pack"],
        code=code("pack"),
    shell:
        EXECUTE


for step in TRAININGS:

    rule:
        name:
            step
        input:
            SELECTION,
            STORE,
            STARTS[step],
            notebook=notebook(step),
        output:
            model(step),
            executed=executed(step),
        threads: cores(step)
        resources:
            **request(step),
        params:
            parameters=PARAMETERS[step],
            code=code(step),
        shell:
            EXECUTE


rule fig1:
    input:
        SELECTION,
        model("linformer"),
        notebook=notebook("fig1"),
    output:
        figure("fig1"),
        executed=executed("fig1"),
    threads: cores("fig1")
    resources:
        **request("fig1"),
    params:
        parameters=PARAMETERS["fig1"],
        code=code("fig1"),
    shell:
        EXECUTE


rule fig2:
    input:
        SELECTION,
        notebook=notebook("fig2"),
    output:
        figure("fig2"),
        executed=executed("fig2"),
    threads: cores("fig2")
    resources:
        **request("fig2"),
    params:
        parameters=PARAMETERS["fig2"],
        code=code("fig2"),
    shell:
        EXECUTE


rule fig3:
    input:
        SELECTION,
        model("linformer"),
        model("linformer_weighted"),
        notebook=notebook("fig3"),
    output:
        figure("fig3"),
        figure("fig3_paper"),
        executed=executed("fig3"),
    threads: cores("fig3")
    resources:
        **request("fig3"),
    params:
        parameters=PARAMETERS["fig3"],
        code=code("fig3"),
    shell:
        EXECUTE


rule fig4:
    input:
        SELECTION,
        properties(),
        [model(key) for key in COMPARED],
        notebook=notebook("fig4"),
    output:
        [file for name in ("fig4", "fig4_lead", "fig4_paper") for file in figure(name)],
        ["tables/fig4.csv", "tables/fig4_verdicts.csv"],
        executed=executed("fig4"),
    threads: cores("fig4")
    resources:
        **request("fig4"),
    params:
        parameters=PARAMETERS["fig4"],
        code=code("fig4"),
    shell:
        EXECUTE


rule attention:
    input:
        SELECTION,
        STORE,
        [model(key) for key in MODEL_KEYS],
        notebook=notebook("attention"),
    output:
        MAPS,
        "attention/curves.csv",
        figure("attention_checks"),
        executed=executed("attention"),
    threads: cores("attention")
    resources:
        **request("attention"),
    params:
        parameters=PARAMETERS["attention"],
        code=code("attention"),
    shell:
        EXECUTE


rule features:
    input:
        SELECTION,
        STORE,
        properties(),
        [model(key) for key in MODEL_KEYS],
        notebook=notebook("features"),
    output:
        [f"features/{key}.parquet" for key in MODEL_KEYS],
        ["features/probes.csv", "features/umap.csv"],
        [file for name in FEATURE_FIGURES for file in figure(f"features_{name}")],
        executed=executed("features"),
    threads: cores("features")
    resources:
        **request("features"),
    params:
        parameters=PARAMETERS["features"],
        code=code("features"),
    shell:
        EXECUTE


rule fig5:
    input:
        SELECTION,
        MAPS,
        notebook=notebook("fig5"),
    output:
        [file for name in FIG5_FIGURES for file in figure(name)],
        executed=executed("fig5"),
    threads: cores("fig5")
    resources:
        **request("fig5"),
    params:
        parameters=PARAMETERS["fig5"],
        code=code("fig5"),
    shell:
        EXECUTE


rule evidence:
    input:
        SELECTION,
        properties(),
        [model(key) for key in MODEL_KEYS],
        "tables/fig4_verdicts.csv",
        notebook=notebook("evidence"),
    output:
        [file for name in EVIDENCE_FIGURES for file in figure(name)],
        ["tables/evidence.csv", "tables/verdicts.csv"],
        executed=executed("evidence"),
    threads: cores("evidence")
    resources:
        **request("evidence"),
    params:
        parameters=PARAMETERS["evidence"],
        code=code("evidence"),
    shell:
        EXECUTE


rule table:
    input:
        [model(step) for step in TRAININGS],
        notebook=notebook("table"),
    output:
        [f"tables/results.{ending}" for ending in ("md", "csv", "tex")],
        executed=executed("table"),
    threads: cores("table")
    resources:
        **request("table"),
    params:
        parameters=PARAMETERS["table"],
        code=code("table"),
    shell:
        EXECUTE


rule labels:
    input:
        [DATA_DIR / name for name in TABLES],
        votes("labels"),
        notebook=notebook("labels"),
    output:
        [f"labels/{name}" for name in (*TABLES, "classes.csv")],
        figure("decision_path"),
        executed=executed("labels"),
    threads: cores("labels")
    resources:
        **request("labels"),
    params:
        parameters=PARAMETERS["labels"],
        code=code("labels"),
    shell:
        EXECUTE


rule recover:
    input:
        [DATA_DIR / name for name in TABLES],
        votes("recover"),
        notebook=notebook("recover"),
    output:
        "labels/hidden_rule.csv",
        executed=executed("recover"),
    threads: cores("recover")
    resources:
        **request("recover"),
    params:
        parameters=PARAMETERS["recover"],
        code=code("recover"),
    shell:
        EXECUTE


rule realism:
    input:
        SELECTION,
        ["tables/transfer.csv"] if "transfer" in STEPS else [],
        notebook=notebook("realism"),
    output:
        [file for name in REALISM_FIGURES for file in figure(name)],
        [f"tables/{name}.csv" for name in REALISM_TABLES],
        executed=executed("realism"),
    threads: cores("realism")
    resources:
        **request("realism"),
    params:
        parameters=PARAMETERS["realism"],
        code=code("realism"),
        transfer=transfer_table(),
    shell:
        EXECUTE


rule transfer:
    input:
        SELECTION,
        STORE,
        notebook=notebook("transfer"),
    output:
        [f"tables/transfer.{ending}" for ending in ("csv", "md")],
        executed=executed("transfer"),
    threads: cores("transfer")
    resources:
        **request("transfer"),
    params:
        parameters=PARAMETERS["transfer"],
        code=code("transfer"),
    shell:
        EXECUTE


# The last step: it shows what all others made, those added above this line as well.
rule report:
    input:
        [file for s in able_steps() if s != "report" for file in getattr(rules, s).output],
        REPORT_TEMPLATES,
        notebook=notebook("report"),
    output:
        "report.html",
        executed=executed("report"),
    threads: cores("report")
    resources:
        **request("report"),
    params:
        parameters=PARAMETERS["report"],
        code=code("report"),
    shell:
        EXECUTE


rule all:
    default_target: True
    input:
        [file for step in STEPS for file in getattr(rules, step).output],
