"""The steps of the road, in one place: each is a notebook, what it reads and what it writes.

`run_all.sh` starts it with a configuration file (profile, data, results, only, overrides); all
paths below are relative to the results folder. A step runs again when a file that it reads, its
parameters, or the code behind it (its notebook's, and that of the modules it uses) has changed.
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

from gz2vit.errors import Gz2vitError
from gz2vit.galaxy_zoo.folder import MAPPING_FILE, VOTES_FILE
from gz2vit.profiles import named_backbones, notebook_parameters, resolve
from gz2vit.results import MODEL_FILES, write_text
from gz2vit.seeds import further_steps, named_seeds, run_folder
from gz2vit.sources import code_signature

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
    "fig2": "figures/12_draw_fig2_examples.ipynb",
    "fig3": "figures/13_draw_fig3_confusion.ipynb",
    "table": "figures/16_make_results_table.ipynb",
    "labels": "data_preprocess/18_derive_labels.ipynb",
    "recover": "data_preprocess/19_recover_rule.ipynb",
}
SPLITS = ("train", "valid", "test")
PAPER_KEYS = (
    "linformer", "linformer_weighted", "vit", "resnet50", "vgg16_bn", "hf_vit", "hf_vit_weighted",
)
BACKBONE_NOTEBOOK = "notebooks/08_train_backbone.ipynb"
SIMULATED = config["data"] is None
DATA_DIR = Path("data") if SIMULATED else Path(config["data"])
TABLES = [f"gz2_{split}.csv" for split in SPLITS]
VOTES_STEPS = ("labels", "recover")  # they need votes: simulated, downloaded or named by VOTES


def votes(step):
    """The catalogue of votes (and the file map) that a step reads, where there is one."""
    named = json.loads(PARAMETERS[step]).get("VOTES")
    files = [named] if named else [DATA_DIR / VOTES_FILE, DATA_DIR / MAPPING_FILE]
    return [file for file in files if not SIMULATED and Path(file).exists()]


def chosen_steps():
    """The steps that were asked for; by default all that the data allow."""
    possible = [step for step in NOTEBOOKS if SIMULATED or step != "simulate"]
    for step in config["only"]:
        if step not in possible:
            known = ", ".join(possible)
            raise Gz2vitError(f"--only {step}: there is no such step; there are {known}")
    able = [s for s in possible if SIMULATED or s not in VOTES_STEPS or votes(s)]
    chosen = config["only"] or able
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


try:
    BACKBONES = backbones()
    MODEL_KEYS = [*PAPER_KEYS, *BACKBONES]
    SEEDS = named_seeds(config["profile"], config["overrides"], MODEL_KEYS, list(BACKBONES))
    FURTHER = further_seeds()
    TRAININGS = [*MODEL_KEYS, *FURTHER]
    PARAMETERS = parameters()
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


SELECTION = [f"selection/{name}" for name in (*TABLES, "data.json")]
STORE = [f"store/{split}.{ending}" for split in SPLITS for ending in ("npy", "json")]
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
        threads: config["threads"]
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
    threads: config["threads"]
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
    threads: config["threads"]
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
            notebook=notebook(step),
        output:
            model(step),
            executed=executed(step),
        threads: config["threads"]
        params:
            parameters=PARAMETERS[step],
            code=code(step),
        shell:
            EXECUTE


rule fig2:
    input:
        SELECTION,
        notebook=notebook("fig2"),
    output:
        figure("fig2"),
        executed=executed("fig2"),
    threads: config["threads"]
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
        executed=executed("fig3"),
    threads: config["threads"]
    params:
        parameters=PARAMETERS["fig3"],
        code=code("fig3"),
    shell:
        EXECUTE


rule table:
    input:
        [model(step) for step in TRAININGS],
        notebook=notebook("table"),
    output:
        [f"tables/results.{ending}" for ending in ("md", "csv", "tex")],
        executed=executed("table"),
    threads: config["threads"]
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
    threads: config["threads"]
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
    threads: config["threads"]
    params:
        parameters=PARAMETERS["recover"],
        code=code("recover"),
    shell:
        EXECUTE


rule all:
    default_target: True
    input:
        [file for step in STEPS for file in getattr(rules, step).output],
