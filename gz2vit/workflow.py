"""The pipeline: the parameters of every step, which steps are stale and why, and one step's run.

`./run_all.sh` calls `run`, which starts Snakemake on the `Snakefile`; its rules register the steps
with a `Pipeline`. The pipeline compares each step with the record that it left when it finished
(`logs/steps/<step>.json`: parameters, code, galaxies) and lets Snakemake schedule those that are
stale, here or on a cluster. A training is stale only for other parameters, other galaxies (ids,
labels, pixels) or `--retrain`; every other step also for changed code and for what it reads.
"""

import ast
import contextlib
import ctypes
import difflib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, TextIO

import yaml
from pydantic import TypeAdapter, ValidationError

from gz2vit.catalog import data_signature, follow_folder, read_data_folder
from gz2vit.io import (
    MODEL_FILES,
    ROOT,
    SETTINGS,
    Gz2vitError,
    available_cores,
    code_hash,
    files_hash,
    git_commit,
    read_json,
    sole_user,
    trained_checkpoint,
    write_json,
    write_text,
)
from gz2vit.plots.captions import figures_of
from gz2vit.surroundings import isolate

PROFILES_DIR = ROOT / "profiles"
# What the pipeline decides for every notebook; profiles and --set may not.
RESERVED = (
    *("RESULTS_DIR", "DATA_DIR", "PROFILE", "MODEL_KEY", "MODEL_KEYS", "BACKBONE"),
    *("RUN", "SEEDS"),
)
# Parameters that name a file, relative to where the command is given; WEIGHTS has words as well.
PATHS = ("VOTES", "LABELS", "RULE", "WEIGHTS", "CATALOGUE")
WORDS = ("none", "imagenet", "bundled", "default")
PLAN = "logs/plan.json"  # in the results folder: the steps to run, for the processes that run them
BAR_SECONDS = 5.0  # between two lines of a progress bar in a log file
INTERRUPT_SECONDS = 60  # for a step to end after Ctrl-C
VOTES_STEPS = ("labels", "recover")  # they need votes: simulated, downloaded or named by VOTES
NAMED_STEPS = ("transfer",)  # too long to be run unless --only names them


# ---- Parameters: the notebook's own, then the profile's, then --set --------------------------


@dataclass(frozen=True)
class Parameter:
    """A notebook's parameter: its value in the notebook and the type that it may take."""

    default: Any
    kind: Any

    def read(self, value: Any, source: str) -> Any:
        """`value` as this type; raises `Gz2vitError` naming `source` for another one."""
        try:
            return TypeAdapter(self.kind).validate_python(value, strict=True)
        except ValidationError:
            kind = getattr(self.kind, "__name__", str(self.kind))
            kind = str(self.kind) if "|" in str(self.kind) else kind
            raise Gz2vitError(
                f"{source} is {value!r} ({type(value).__name__}), but it must be {kind}"
            ) from None

    def parse(self, text: str, source: str) -> Any:
        """A value as typed at the terminal, where 3e-4 is a number and 007 may be a text."""
        takes = getattr(self.kind, "__args__", (self.kind,))
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = text
        if float in takes and isinstance(value, str):
            with contextlib.suppress(ValueError):
                value = float(value)
        if str in takes and type(value) in (int, float, bool):
            value = text
        return self.read(value, source)


@cache
def notebook_parameters(notebook: Path) -> dict[str, Parameter]:
    """The parameters of a notebook: the literals of its cell tagged `parameters`.

    `NAME = 1` takes the value's type, `NAME: int | None = 1` the annotated one (papermill's own
    inspection does not know `|`). Raises `Gz2vitError` for anything but such assignments.
    """
    cells = [cell for cell in code_cells(notebook) if "parameters" in cell[1]]
    if len(cells) != 1:
        raise Gz2vitError(f"{notebook} has {len(cells)} cells tagged 'parameters' instead of one")
    found = {}
    try:
        for node in ast.parse(cells[0][0]).body:
            default = ast.literal_eval(node.value)
            if isinstance(node, ast.AnnAssign):
                found[node.target.id] = Parameter(default, eval(ast.unparse(node.annotation), {}))
            else:
                found[node.targets[0].id] = Parameter(default, type(default))
    except (SyntaxError, ValueError, AttributeError, NameError) as error:
        raise Gz2vitError(
            f"{notebook}: its parameter cell may hold only NAME = literal ({error})"
        ) from error
    return found


def code_cells(notebook: Path) -> list[tuple[str, list[str]]]:
    """Source and tags of each code cell; raises `Gz2vitError` where the file is no notebook."""
    content = read_json(notebook)
    try:
        return [
            ("".join(cell["source"]), cell["metadata"].get("tags", []))
            for cell in content["cells"]
            if cell["cell_type"] == "code"
        ]
    except (KeyError, TypeError) as error:
        raise Gz2vitError(f"{notebook} is not a Jupyter notebook of format 4") from error


def load_profile(name: str, folder: Path = PROFILES_DIR) -> dict[str, dict[str, Any]]:
    """A profile as {step: {parameter: value}}; raises `Gz2vitError` for a missing or odd file."""
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
        raise Gz2vitError(f"there is no profile '{name}'; the profiles are {known}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise Gz2vitError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not all(isinstance(one, dict) for one in content.values()):
        raise Gz2vitError(f"{path} must hold steps, each with its parameters NAME: value")
    return content


def parse_set(text: str, results: Path | None = None) -> tuple[str, str, str]:
    """`[STEP.]NAME=VALUE` as step ("" for every one), name and value; a named file as full path.

    Raises `Gz2vitError` for another form, and for a path that does not exist and that no run in
    the folder `results` will make.
    """
    path, equals, value = text.partition("=")
    step, _, name = path.strip().rpartition(".")
    if not equals or not name:
        raise Gz2vitError(f"--set {text}: write [STEP.]NAME=VALUE, such as linformer.MAX_EPOCH=30")
    if name in PATHS and value not in WORDS and value:
        file = Path(value).expanduser().absolute()
        if not file.exists() and not (results and file.is_relative_to(results / "models")):
            raise Gz2vitError(f"--set {text}: there is no file {file}")
        value = str(file)
    return step, name, value


def meant(name: str, known: Iterable[str]) -> str:
    """What there is, and a guess at what was meant."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    guess = f"; did you mean '{close[0]}'?" if close else ""
    return f" (there are: {', '.join(known)}){guess}"


# ---- The steps, and which of them are stale ----------------------------------------------------


@dataclass
class Step:
    """One notebook of the pipeline: what it needs, reads, makes, and the code that decides it."""

    name: str
    notebook: str
    needs: list[str]
    code: tuple[str, ...]
    makes: list[str]
    reads: list[Path]
    model: str | None = None  # the model that it trains
    parameters: dict[str, Any] = field(default_factory=dict)

    def code_hash(self) -> str:
        """A hash of its notebook's code and of its deciding modules."""
        cells = "\n".join(source for source, tags in code_cells(ROOT / self.notebook))
        own = code_hash(cells)
        return hashlib.sha256((own + files_hash(self.code)).encode()).hexdigest()[:16]

    @property
    def output(self) -> str:
        """Where its executed notebook goes: `notebooks/07_linformer_weighted.ipynb`."""
        return f"notebooks/{Path(self.notebook).name[:2]}_{self.name}.ipynb"


class Pipeline:
    """What the Snakefile knows of one run: its steps, their parameters, and the plan."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.results = Path(config["results"])
        self.simulated = config["data"] is None
        self.data = self.results / "data" if self.simulated else Path(config["data"])
        self.profile = load_profile(config["profile"])
        self.overrides = [parse_set(text, self.results) for text in config["overrides"]]
        self.steps: dict[str, Step] = {}
        self.backbones = self._backbones()
        self.models = [
            *("linformer", "linformer_weighted", "vit", "resnet50", "vgg16_bn"),
            *("hf_vit", "hf_vit_weighted", *self.backbones),
        ]
        self.seeds: dict[str, list[int]] = {}
        self.plan: dict[str, dict] = {}

    def _backbones(self) -> dict[str, str]:
        """Networks that the paper does not have: {row of the results table: network}."""
        found = dict(self.profile.get("backbones", {}))
        found |= {name: value for step, name, value in self.overrides if step == "backbones"}
        for row, network in found.items():
            if not re.fullmatch(r"[a-z][a-z0-9_]*", row) or row in ("backbones", "backbone"):
                raise Gz2vitError(f"backbones.{row}: use small letters, digits and _ for the name")
            if not isinstance(network, str | None):
                raise Gz2vitError(f"backbones.{row} is {network!r}: name a network, as timm/NAME")
        return {row: name for row, name in found.items() if name not in (None, "", "null")}

    def step(
        self,
        name: str,
        notebook: str,
        needs: Sequence[str] = (),
        code: str = "",
        makes: Sequence[str] = (),
        reads: Sequence[Path] = (),
    ):
        """Register a step and return its inputs for Snakemake, as a function.

        `code`: modules that decide its numbers, from the package's folder (`plots/style`) or with
        the folder's name (`gz2sim/*`); `makes`: its files; `reads`: files outside the results.
        """
        if name in self.steps:
            raise Gz2vitError(f"backbones.{name}: there is a step of that name already")
        patterns = (f"{one}.py" if "gz2sim" in one else f"gz2vit/{one}.py" for one in code.split())
        model = name if name in self.models else None
        self.steps[name] = Step(
            name, notebook, list(needs), tuple(patterns), list(makes), list(reads), model
        )
        return lambda wildcards: self.inputs(name + getattr(wildcards, "seed", ""))

    def figures(self, step: str) -> list[str]:
        """The figures that a step draws, in their two forms."""
        return [f"figures/{name}.{kind}" for name in figures_of(step) for kind in ("pdf", "png")]

    def done(self, name: str) -> str:
        """The file by which Snakemake knows that a step of this run has finished."""
        return f"logs/done/{name}"

    def inputs(self, name: str) -> list[str]:
        """What a step waits for: those of its needs that this run runs as well."""
        plan = self.plan or read_json(self.results / PLAN)
        return [self.done(need) for need in plan[name]["needs"] if need in plan]

    def votes(self) -> dict[str, list[Path]]:
        """For each step that reads votes, the catalogue and the file map where there are any."""
        from gz2vit.votes import MAPPING_FILE, VOTES_FILE

        notebook = ROOT / "data_preprocess" / "02_derive_labels.ipynb"
        named = {step: self.value(step, "VOTES", notebook) for step in VOTES_STEPS}
        own = [] if self.simulated else [self.data / VOTES_FILE, self.data / MAPPING_FILE]
        return {step: [Path(file)] if file else own for step, file in named.items()}

    def pair(self, step: str, notebook: str) -> list[str]:
        """The two models that a step compares, MODEL_A and MODEL_B."""
        models = [self.value(step, name, ROOT / notebook) for name in ("MODEL_A", "MODEL_B")]
        for name in models:
            if name not in self.models:
                raise Gz2vitError(f"{step}: there is no model '{name}'{meant(name, self.models)}")
        return models

    def _layers(self) -> list[tuple[str, str, Any, str]]:
        """What the profile and --set say: (step, "" for every one; name; value; source)."""
        shared = [(row, self.profile.get("backbone", {})) for row in self.backbones]
        other = ("backbone", "backbones", *(() if self.simulated else ("simulate",)))
        own = [(k, v) for k, v in self.profile.items() if k not in other]
        given = [
            (step, name, value, f"profiles/{self.config['profile']}.yaml: {step}.{name}")
            for step, section in [*shared, *own]
            for name, value in section.items()
        ]
        overrides = [one for one in self.overrides if one[0] != "backbones"]
        return given + [(*one, f"--set {'.'.join(filter(None, one[:2]))}") for one in overrides]

    def value(self, step: str, name: str, notebook: Path | None = None) -> Any:
        """The value of a parameter: the notebook's own, the profile's, or that of --set."""
        parameter = Parameter(None, list[int] | None)
        if name != "SEEDS":
            parameter = notebook_parameters(notebook or ROOT / self.steps[step].notebook)[name]
        found = parameter.default
        for key, other, value, source in self._layers():
            if other == name and key in ("", step):
                read = parameter.parse if source.startswith("--set") else parameter.read
                found = read(value, source)
        return found

    def resolve(self) -> None:
        """Fill in each step's parameters, and add the steps of further seeds.

        Raises `Gz2vitError` for unknown steps and parameters and for values of a wrong type.
        """
        known = {name: notebook_parameters(ROOT / s.notebook) for name, s in self.steps.items()}
        for step, name, _, source in self._layers():
            if step and step not in known:
                raise Gz2vitError(f"{source}: there is no step '{step}'{meant(step, known)}")
            places = [step] if step else list(known)
            free = {n for place in places for n in known[place]} - set(RESERVED)
            free |= {"SEEDS"} if not step or step in self.models else set()
            if name not in free:
                who = f"step '{step}'" if step else "no step"
                have = "no parameter" if step else "a parameter"
                raise Gz2vitError(f"{source}: {who} has {have} '{name}'{meant(name, sorted(free))}")
        for model in self.models:
            if (seeds := self.value(model, "SEEDS")) is None:
                continue
            if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
                raise Gz2vitError(f"{model}.SEEDS is {seeds}: give distinct numbers, as [0,1,2]")
            if any(name == "SEED" and step in ("", model) for step, name, *_ in self._layers()):
                raise Gz2vitError(f"{model}: SEED and SEEDS both give its seed; give one of them")
            self.seeds[model] = seeds
        fixed = {
            "RESULTS_DIR": str(self.results),
            "DATA_DIR": str(self.data),
            "PROFILE": self.config["profile"],
            "MODEL_KEYS": self.models,
            "SEEDS": self.seeds,
        }
        for name, step in list(self.steps.items()):
            own = fixed | {"MODEL_KEY": name, "BACKBONE": self.backbones.get(name), "RUN": ""}
            step.parameters = {
                key: own[key] if key in own else self.value(name, key) for key in known[name]
            }
            for seed in self.seeds.get(name, []):
                if seed == self.seeds[name][0]:
                    step.parameters["SEED"] = seed
                else:
                    self._add_seed(step, seed)

    def _add_seed(self, step: Step, seed: int) -> None:
        """The step of a model's further seed, with its files in `models/<key>/seed<N>/`."""
        name, folder = f"{step.name}_seed{seed}", f"models/{step.name}/seed{seed}"
        if name in self.steps:
            raise Gz2vitError(f"backbones.{name}: the seeds of '{step.name}' need that name")
        parameters = step.parameters | {"SEED": seed, "RUN": f"seed{seed}"}
        makes = [f"{folder}/{file}" for file in MODEL_FILES]
        self.steps[name] = Step(
            name, step.notebook, step.needs, step.code, makes, step.reads, step.model, parameters
        )

    def start(self, name: str) -> list[str]:
        """The model of this run whose weights a training starts from; none for other sources.

        Raises `Gz2vitError` where a training would start from what it replaces.
        """
        source = Path(self.steps[name].parameters.get("WEIGHTS", "none"))
        if not source.is_absolute():
            return []
        file = trained_checkpoint(str(source)) if source.exists() else source
        file, home = (file or source).resolve(), self.results.resolve() / "models"
        if not file.is_relative_to(home):
            return []
        model = file.relative_to(home).parts[0]
        if model == self.steps[name].model:
            raise Gz2vitError(
                f"{name}.WEIGHTS is {source}, which this training would replace; copy it to "
                "another folder, or give other results with --results DIR"
            )
        return [model]

    def chosen(self) -> list[str]:
        """The steps that were asked for; by default all that the data allow."""
        for name in (*self.config["only"], *(self.config["retrain"] or [])):
            if name not in self.steps:
                raise Gz2vitError(f"there is no step '{name}'{meant(name, self.steps)}")
        only = self.config["only"]
        return [
            name
            for name, step in self.steps.items()
            if (name in only or step.model in only)
            or (not only and name not in NAMED_STEPS and self.is_able(name))
        ]

    def is_able(self, name: str) -> bool:
        """Whether the data allow a step: votes must exist for those that read them."""
        return (
            name not in VOTES_STEPS
            or self.simulated
            or any(path.exists() for path in self.steps[name].reads)
        )

    def make_plan(self) -> None:
        """Decide which steps run and why, and write it to `logs/plan.json` for them and for `run`.

        Raises `Gz2vitError` for parameters that no step has, and for what cannot be run.
        """
        self.resolve()
        for name, step in self.steps.items():
            if step.model:
                step.needs = [*step.needs, *self.start(name)]
        able = [one for one in self.steps if self.is_able(one) and one not in NAMED_STEPS]
        seeds = [name for name, step in self.steps.items() if step.model not in (None, name)]
        if "table" in self.steps:
            self.steps["table"].needs += seeds
            self.steps["report"].needs = [name for name in able if name != "report"]
        try:
            order = list(
                TopologicalSorter({n: s.needs for n, s in self.steps.items()}).static_order()
            )
        except CycleError as error:
            raise Gz2vitError(
                f"WEIGHTS of {' and '.join(error.args[1])} wait for each other"
            ) from None
        wanted = set(self.chosen())
        for name in reversed(order):
            wanted |= set(self.steps[name].needs) if name in wanted else set()
        self.signature, records, older = None, {}, []
        for name in (name for name in order if name in wanted):
            step = self.steps[name]
            if name == "select" and not (self.simulated and "simulate" in self.plan):
                folder = read_data_folder(self.data)
                self.signature = data_signature(folder, self.results / "logs" / "images.json")
                follow_folder(self.results, folder)
            record_path = self.results / "logs" / "steps" / f"{name}.json"
            record = read_json(record_path) if record_path.exists() else None
            state = self.state(step, records)
            why = self.why(step, state, record)
            if why:
                self.plan[name] = state | {
                    "why": why,
                    "notebook": step.notebook,
                    "output": step.output,
                    "needs": step.needs,
                    "data": str(self.data),
                    "seconds": (record or {}).get("seconds"),
                }
            else:
                records[name] = record
                if step.model and record["code"] != state["code"]:
                    older.append((name, record.get("commit", "unknown")[:7]))
            (self.results / self.done(name)).unlink(missing_ok=True)
        write_json(self.results / PLAN, self.plan)
        write_text(self.results / "logs" / "plan.txt", self.describe(len(wanted), older))

    def state(self, step: Step, records: Mapping[str, dict]) -> dict[str, Any]:
        """What decides a step's results now, as its record will keep it."""
        galaxies: dict[str, Any] = {"signature": self.signature}
        if step.model:  # how they are selected and cropped
            galaxies |= {
                one: self._deciding(one) for one in ("select", "pack") if one in self.steps
            }
        needs = {} if step.model else {
            need: records[need]["finished"] for need in step.needs if need in records
        }  # fmt: skip
        return {
            "parameters": self._deciding(step.name),
            "all_parameters": step.parameters,
            "galaxies": galaxies,
            "code": step.code_hash(),
            "made_after": needs,
            "reads": _digests(step.reads),
            "files": [str(path) for path in step.reads],
            "model": step.model,
        }

    def _deciding(self, name: str) -> dict[str, Any]:
        """The parameters of a step that decide its results: not places, nor how many GPUs."""
        places = ("RESULTS_DIR", "DATA_DIR", "DEVICES", "PROFILE")
        return {k: v for k, v in self.steps[name].parameters.items() if k not in places}

    def why(self, step: Step, state: Mapping[str, Any], record: Mapping | None) -> list[str]:
        """The reasons why a step must run; none where its results are what they would be."""
        retrain = self.config["retrain"]
        folder = self.results / "models" / (step.model or "") / step.parameters.get("RUN", "")
        unfinished = step.model and (folder / "unfinished").exists()
        missing = [file for file in step.makes if not (self.results / file).exists()]
        if step.model and retrain is not None and (not retrain or step.model in retrain):
            if not self.config["check"]:
                write_text(folder / "retrain", "--retrain asked for it\n")
            return ["--retrain"]
        if record is None:
            return ["continues an unfinished training" if unfinished else "new"]
        why = [
            f"{key}: {record['parameters'].get(key)} -> {value}"
            for key, value in state["parameters"].items()
            if record["parameters"].get(key) != value
        ]
        gone = set(record["parameters"]) - set(state["parameters"])
        why += [f"{key} is not a parameter any more" for key in sorted(gone)]
        if step.name != "simulate":
            why += ["other galaxies"] if record["galaxies"] != state["galaxies"] else []
        if missing:
            why.append(f"{missing[0]} is missing")
        if step.model:
            return why + [f"starts from {one}" for one in self.start(step.name) if one in self.plan]
        if record["code"] != state["code"]:
            why.append("code")
        if record["reads"] != state["reads"]:
            why.append(f"other {', '.join(state['reads']) or ', '.join(record['reads'])}")
        running = [need for need in step.needs if need in self.plan]
        newer = [n for n, at in state["made_after"].items() if record["made_after"].get(n) != at]
        if running or newer:
            why.append(f"follows {', '.join(running + newer)}")
        return why

    def describe(self, total: int, older: Sequence[tuple[str, str]]) -> str:
        """The plan as text: what runs and why, what is replaced, how long it took last time."""
        settings = ", ".join(self.config["overrides"]) or "none"
        galaxies = "simulated galaxies" if self.simulated else f"galaxies of {self.data}"
        lines = [f"{self.results}: profile {self.config['profile']}, {galaxies}, --set: {settings}"]
        for name, one in self.plan.items():
            words = "; ".join(one["why"])
            if one["model"] and (self.results / self.steps[name].makes[-1]).exists():
                words += f"; the model there moves to models/{one['model']}/replaced/"
            lines.append(f"  {name:<20}{words}")
        known = [one["seconds"] for one in self.plan.values()]
        if self.plan:
            took = sum(known) if all(known) else None
            last = f", {timedelta(seconds=round(took))} last time" if took else ""
            lines.append(f"{len(self.plan)} of {total} steps to run{last}")
        else:
            lines.append(f"nothing to do: {self.results} is up to date ({total} steps)")
        for commit in sorted({commit for _, commit in older}):
            names = " ".join(name for name, other in older if other == commit)
            lines.append(
                f"{names}: trained with older code, commit {commit}: --retrain {names} renews it"
            )
        return "\n".join(lines) + "\n"


def _digests(paths: Iterable[Path]) -> dict[str, str]:
    """Names and hashes of those files that exist."""
    found = {}
    for path in paths:
        if path.exists():
            with path.open("rb") as file:
                found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


# ---- One step: a notebook through papermill ----------------------------------------------------


class StepWriter:
    """Writes a notebook's output to the step's log, each line headed by `[step]`; bars thinned."""

    def __init__(self, step: str, stream: TextIO) -> None:
        self.head, self.stream = f"[{step}] ", stream
        self.pending, self.last_bar = "", 0.0

    def write(self, text: str) -> None:
        """Take some output; write the lines that are complete."""
        *complete, self.pending = re.split(r"(?<=[\n\r])", self.pending + text)
        for line in complete:
            due = time.monotonic() - self.last_bar >= BAR_SECONDS
            if line.strip() and (line.endswith("\n") or due):
                self.last_bar = self.last_bar if line.endswith("\n") else time.monotonic()
                self.stream.write(f"{self.head}{line.rstrip()}\n")
        self.stream.flush()

    def flush(self) -> None:
        """papermill asks for it; lines are flushed as they are written."""


def execute(name: str, results: Path) -> None:
    """Run a planned step: its notebook with its parameters, then the record that it is done.

    The notebook runs under a temporary name; when it fails it stays as `<name>.failed.ipynb`.
    Raises `Gz2vitError` with one line that names the step, the cell and the error; the same line
    is left in `logs/<step>.error`.
    """
    parent = os.getppid()

    def watch() -> None:  # a killed run leaves no step behind
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    # A SLURM job's one task would make Lightning start no processes of its own.
    os.environ.pop("SLURM_NTASKS", None)
    one, logs = read_json(results / PLAN)[name], results / "logs"
    notebook, output = ROOT / one["notebook"], results / one["output"]
    running = output.with_name(f".{output.stem}.running.ipynb")
    failed = output.with_name(f"{output.stem}.failed.ipynb")
    running.parent.mkdir(parents=True, exist_ok=True)
    message = f"step '{name}' still runs in {results} from an earlier call; wait for it, or stop it"
    start = time.time()
    try:
        with sole_user(logs / f"{name}.lock", message), (logs / f"{name}.log").open("w") as log:
            log.write(f"[{name}] {one['notebook']} starts\n")
            log.flush()
            try:
                _run_notebook(notebook, running, one["all_parameters"], StepWriter(name, log))
            except Gz2vitError as error:
                if running.exists():
                    running.replace(failed)
                raise Gz2vitError(f"step '{name}' failed {error}; see {failed}") from error
            failed.unlink(missing_ok=True)
            running.replace(output)
            seconds = time.time() - start
            _record(name, one, results, seconds)
            log.write(f"[{name}] done in {seconds:.0f} s\n")
    except Gz2vitError as error:
        write_text(logs / f"{name}.error", f"{error}\n")
        raise


def _record(name: str, one: Mapping[str, Any], results: Path, seconds: float) -> None:
    """Leave what a step was made of, by which the next run knows whether it is stale."""
    kept = ("parameters", "galaxies", "code", "made_after", "reads")
    record = {key: one[key] for key in kept}
    record["reads"] = _digests(map(Path, one["files"]))  # some are made in this run
    steps = results / "logs" / "steps"
    has_images = name not in VOTES_STEPS or (Path(one["data"]) / "images").is_dir()
    if name != "simulate" and has_images and record["galaxies"]["signature"] is None:
        # simulated in this run
        folder = read_data_folder(Path(one["data"]))
        record["galaxies"]["signature"] = data_signature(folder, results / "logs" / "images.json")
    for need in one["needs"] if not one["model"] else ():
        record["made_after"][need] = read_json(steps / f"{need}.json")["finished"]
    record |= {"seconds": seconds, "finished": time.time(), "commit": git_commit()}
    write_json(steps / f"{name}.json", record)


def _run_notebook(
    notebook: Path, running: Path, parameters: Mapping[str, Any], writer: StepWriter
) -> None:
    """papermill's run, its errors turned into one line."""
    # jsonschema would compile 38 grammars of web addresses, which no notebook has: a second less.
    sys.modules.setdefault("rfc3987_syntax", None)
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    try:
        papermill.execute_notebook(
            notebook,
            running,
            parameters=dict(parameters),
            progress_bar=False,
            stdout_file=writer,
            stderr_file=writer,
            cwd=notebook.parent,
            kernel_name="python3",  # this environment's, whatever kernel saved the notebook
            language="python",
        )
    except PapermillExecutionError as error:
        text = " ".join(str(error.evalue).split())
        text = text if error.ename == Gz2vitError.__name__ else f"{error.ename}: {text}"
        raise Gz2vitError(f"in {_cell(running, error.exec_count)}: {text}") from error
    except DeadKernelError as error:
        raise Gz2vitError(
            "because its kernel died, most often for want of memory: try fewer --jobs or a "
            "smaller BATCH_SIZE"
        ) from error
    except OSError as error:
        raise Gz2vitError(f"because {error}") from error


def _cell(running: Path, count: int) -> str:
    """The failed cell in words: its execution number and the heading above it."""
    heading = ""
    for cell in read_json(running)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            heading = ([""] + re.findall(r"^## (.*)$", source, re.MULTILINE))[-1] or heading
        if cell.get("execution_count") == count:
            break
    return f"cell [{count}]" + (f" under '{heading}'" if heading else "")


# ---- The whole run -----------------------------------------------------------------------------


def merge_settings(results: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a results folder: those that it remembers, changed by those of this call.

    `given`: `profile` and `data` (None where the command names none) and `set`, a list of texts;
    `NAME=default` takes a setting back, and a later one replaces an earlier one. Raises
    `Gz2vitError` where the folder was made with another profile.
    """
    path = results / SETTINGS
    kept = yaml.safe_load(path.read_text(encoding="utf-8")) or {} if path.is_file() else {}
    profile = given["profile"] or kept.get("profile", "demo")
    if kept.get("profile", profile) != profile:
        raise Gz2vitError(
            f"{results} holds results of profile {kept['profile']}; name another --results DIR"
        )
    data = given["data"] or kept.get("data")
    texts = dict(text.split("=", 1) for text in kept.get("set", []))
    for text in given["set"]:
        step, name, value = parse_set(text, results)
        key = f"{step}.{name}" if step else name
        for old in [old for old in texts if old == key or (not step and old.endswith(f".{name}"))]:
            del texts[old]
        if value != "default":
            texts[key] = value
    data = None if data in ("default", "simulated") else data
    return {"profile": profile, "data": data, "set": [f"{k}={v}" for k, v in texts.items()]}


def run(
    profile: str | None = None,
    data: str | None = None,
    results: str | None = None,
    only: Sequence[str] = (),
    jobs: int | None = None,
    overrides: Sequence[str] = (),
    retrain: Sequence[str] | None = None,
    plan_only: bool = False,
    executor: str | None = None,
    options: Sequence[str] = (),
) -> None:
    """Run every step that is stale; raises `Gz2vitError` with the one line that matters.

    `retrain`: models to train again (an empty list for all); `executor`: a cluster's folder in
    `profiles/`, such as slurm; `options`: for Snakemake, as they are.
    """
    if jobs is not None and jobs < 1:
        raise Gz2vitError(f"--jobs {jobs}: give at least 1")
    folder = Path(results).expanduser().resolve() if results else None
    folder = folder or ROOT / "results" / (profile or "demo")
    if folder.exists() and not folder.is_dir():
        raise Gz2vitError(f"--results {folder} is a file; name a folder")
    data = str(Path(data).expanduser().resolve()) if data not in (None, "default") else data
    settings = merge_settings(folder, {"profile": profile, "data": data, "set": overrides})
    load_profile(settings["profile"])
    at_once = [] if jobs is None or not executor else ["--jobs", str(jobs)]
    jobs = jobs or 1
    config = {
        "profile": settings["profile"],
        "data": settings["data"],
        "results": str(folder),
        "only": list(only),
        "overrides": settings["set"],
        "jobs": jobs,
        "threads": max(1, available_cores() // jobs),
        "retrain": retrain if retrain is None else list(retrain),
        "check": plan_only,
        "executor": executor,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Gz2vitError(f"cannot write {folder}: {error.strerror}") from error
    start, message = time.time(), f"another run is working in {folder}; wait for it"
    with sole_user(folder / ".lock", message) as lock:
        if config["data"] is None and config["profile"] == "paper":
            config["data"] = _fetch(config, lock)
        if config["data"]:
            _check_data(config)
        _snakemake(config, lock, ["--list-rules"])  # parameters and plan, before anything runs
        print((folder / "logs" / "plan.txt").read_text(encoding="utf-8"), end="", flush=True)
        if plan_only or not read_json(folder / PLAN):
            return
        write_text(folder / SETTINGS, yaml.safe_dump(settings, sort_keys=False))
        _snakemake(config, lock, [*at_once, *options])
        _summary(folder, start)


def _fetch(config: dict[str, Any], lock: int) -> str:
    """The real Galaxy Zoo 2, as far as the chosen steps need it; its folder."""
    from gz2vit.download import fetch_galaxy_zoo
    from gz2vit.votes import GALAXY_ZOO_DIR

    # An unknown step or parameter is reported before 3.4 GB are fetched.
    _snakemake(config | {"check": True, "data": None}, lock, ["--list-rules"])
    if config["check"] and not (GALAXY_ZOO_DIR / "gz2_train.csv").exists():
        raise Gz2vitError(f"--plan needs the galaxies: run `gz2vit download` into {GALAXY_ZOO_DIR}")
    tables = set(config["only"]) and set(config["only"]) <= set(VOTES_STEPS)
    named = {(step, name) for step, name, _ in map(parse_set, config["overrides"])}
    own = all({("", "VOTES"), (step, "VOTES")} & named for step in config["only"])
    kinds = ["labels"] if own else ["labels", "mapping", "votes"]
    fetch_galaxy_zoo(GALAXY_ZOO_DIR, kinds if tables else [])
    return str(GALAXY_ZOO_DIR)


def _check_data(config: Mapping[str, Any]) -> None:
    """Check tables and images of the data folder; broken images are listed in the results."""
    from gz2vit.images import check_folder

    if set(config["only"]) and set(config["only"]) <= set(VOTES_STEPS):
        return
    pipeline = Pipeline(config)
    notebook = ROOT / "data_preprocess" / "05_select_galaxies.ipynb"
    leave_out = pipeline.value("select", "LEAVE_OUT_BROKEN", notebook)
    check_folder(read_data_folder(pipeline.data), pipeline.results, leave_out)


def _snakemake(config: Mapping[str, Any], lock: int, options: Sequence[str]) -> None:
    """Run Snakemake in the results folder, passing on what the steps write to their logs.

    Its own messages go to `logs/snakemake.log`. It inherits `lock`, so that it keeps the folder
    even where this process is killed first. Raises `Gz2vitError` where it fails.
    """
    results = Path(config["results"])
    logs = results / "logs"
    for old in [*logs.glob("*.error"), *logs.glob("*.log")]:
        old.unlink()
    write_json(logs / "run.json", config)
    command = [sys.executable, "-P", "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--directory", str(results), "--configfile", str(logs / "run.json")]
    command += ["--nocolor", "--nolock", "--keep-incomplete", "--drop-metadata"]
    command += ["--rerun-triggers", "mtime", "--workflow-profile", "none"]
    if config["executor"]:
        command += ["--profile", str(cluster_profile(config["executor"]))]
        # Without SLURM's accounts Snakemake would ask sacct, hear of no job, and wait for ever.
        sacct = ["sacct", "--noheader", "--allocations"]
        known = shutil.which("sacct") and not subprocess.run(sacct, capture_output=True).returncode
        if shutil.which("squeue") and not known:
            command += ["--slurm-status-command", "squeue"]
    else:
        command += ["--profile", "none", "--cores", str(config["threads"] * config["jobs"])]
    isolate()
    with (logs / "snakemake.log").open("w") as log:
        process = subprocess.Popen(
            [*command, *options],
            stdout=log, stderr=log, pass_fds=[lock], start_new_session=True,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )  # fmt: skip
        previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
        follower = Follower(logs)
        try:
            while process.poll() is None:
                time.sleep(0.2)
                follower.pass_on()
        except KeyboardInterrupt:
            _stop(process, logs)
            raise
        finally:
            signal.signal(signal.SIGTERM, previous)
        follower.pass_on()
    if process.returncode:
        raise Gz2vitError(_failure(logs))


def cluster_profile(name: str) -> Path:
    """Snakemake's profile for a cluster; raises `Gz2vitError` where there is none of that name."""
    folder = PROFILES_DIR / name
    if not (folder / "config.yaml").is_file():
        known = ", ".join(sorted(path.parent.name for path in PROFILES_DIR.glob("*/config.yaml")))
        raise Gz2vitError(f"--executor {name}: there is no {folder}/config.yaml; there is {known}")
    from importlib.util import find_spec

    executor = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["executor"]
    if find_spec(f"snakemake_executor_plugin_{executor.replace('-', '_')}") is None:
        raise Gz2vitError(
            f"--executor {name} needs a package: install it with "
            f"`{sys.executable} -m pip install snakemake-executor-plugin-{executor}`"
        )
    return folder


def _end_with_parent() -> None:
    """Linux: end this process when its parent does, even by kill -9."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Follower:
    """Passes on at the terminal what the steps write to their logs, here or on other machines."""

    def __init__(self, logs: Path) -> None:
        self.logs, self.read = logs, {}

    def pass_on(self) -> None:
        """Print the whole lines that have been added."""
        for path in sorted(self.logs.glob("*.log"), key=lambda path: path.stat().st_mtime):
            if path.name == "snakemake.log":
                continue
            with path.open("rb") as file:
                file.seek(self.read.get(path, 0))
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self.read[path] = self.read.get(path, 0) + len(whole)
            print(whole.decode(errors="replace"), end="", flush=True)


def _stop(process: subprocess.Popen, logs: Path) -> None:
    """After Ctrl-C: pass it on to Snakemake and its steps, and see them end."""
    os.killpg(process.pid, signal.SIGINT)
    log = (logs / "snakemake.log").read_text(encoding="utf-8", errors="replace")
    if run_id := re.search(r"^SLURM run ID: (\S+)", log, re.MULTILINE):
        subprocess.run(["scancel", f"--name={run_id[1]}"], capture_output=True, timeout=60)
    try:
        process.wait(INTERRUPT_SECONDS)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _failure(logs: Path) -> str:
    """The line that says why a run ended early."""
    errors = sorted(logs.glob("*.error"), key=lambda path: path.stat().st_mtime)
    if errors:
        return errors[0].read_text(encoding="utf-8").strip()
    log = (logs / "snakemake.log").read_text(encoding="utf-8", errors="replace")
    if found := re.search(r"^Error in rule (\w+):\s+message: (.+)", log, re.MULTILINE):
        return (
            f"step '{found[1]}' ended without an error of its own: {found[2].rstrip()} "
            f"(see {logs / 'snakemake.log'}); the same command continues"
        )
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return f"Snakemake stopped: {lines[-1] if lines else 'no message'} (see {logs})"


def _summary(results: Path, start: float) -> None:
    """Print what was made and where it is."""
    steps = len(read_json(results / PLAN))
    print(f"{steps} steps run in {(time.time() - start) / 60:.1f} min, into {results}:")
    for name, kind in (("notebooks", "ipynb"), ("figures", "png"), ("tables", "md")):
        files = [path.name for path in sorted((results / name).glob(f"[!.]*.{kind}"))]
        if files:
            print(f"  {name}/: {', '.join(files)}")
    if (results / "report.html").exists():
        print("  report.html: all of it on one page, for any browser")
