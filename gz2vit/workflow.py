"""The pipeline: the parameters of every step, which steps are stale and why, and one step's run.

`run` (of `./run_all.sh`) starts Snakemake on the `Snakefile` twice: to compare every step with the
record that it left (`logs/steps/<step>.json`) and plan, then to run the plan, here or on a cluster.
A training is stale only for other parameters, other galaxies (ids, labels, pixels) or `--retrain`;
every other step also for changed code and for what it reads.
"""

import ast
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
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import yaml
from pydantic import TypeAdapter, ValidationError
from tqdm import tqdm

from gz2vit import io
from gz2vit.io import ROOT, Gz2vitError, read_json, write_json, write_text

PROFILES_DIR = ROOT / "profiles"
PAPER_MODELS = ("linformer", "linformer_weighted", "vit", "resnet50", "vgg16_bn", "hf_vit")
PAPER_MODELS += ("hf_vit_weighted",)
# Parameters that name a file, relative to where the command is given; WEIGHTS has words as well.
PATHS = ("VOTES", "LABELS", "RULE", "WEIGHTS", "CATALOGUE")
WORDS = ("none", "imagenet", "bundled", "default")
# In the results folder: the plan, and how Snakemake knows that a step of this run has finished.
PLAN, PLAN_TEXT, DONE = "logs/plan.json", "logs/plan.txt", "logs/done/{}"
BAR_SECONDS = "5"  # between two lines of a progress bar in a log file
VOTES_STEPS = ("labels", "recover")  # they need votes: simulated, downloaded or named by VOTES
# They need neither images nor weights: the steps after `--from`, and of the profile PUBLISHED.
DRAWN_STEPS = ("fig1", "fig2", "fig3", "fig4", "fig5", "evidence", "table", "report")
PUBLISHED = "published"  # the authors' own predictions: the profile, and the step that gets them
NAMED_STEPS = ("transfer",)  # too long to be run unless --only names them
# Profiles hold the `seconds` of their steps on a machine that learns so many batches a second.
WHOLE = ("attention", "features")  # steps that take all cores, whatever --jobs
REFERENCE_SPEED = 175.0
LONG_SECONDS = 90  # a shorter run starts at once, without measuring this machine's speed


# ---- Parameters: the notebook's own, then the profile's, then --set --------------------------


class Parameter(NamedTuple):
    """A notebook's parameter: its value in the notebook and the type that it may take."""

    default: Any
    kind: Any

    def read(self, value: Any, source: str, typed: bool = False) -> Any:
        """`value` (or a text `typed` at the terminal) as this type; errors name `source`."""
        read = TypeAdapter(self.kind).validate_python
        with suppress(ValidationError, yaml.YAMLError):
            return read(yaml.safe_load(value) if typed else value, strict=True)
        if typed:  # not as YAML, but as the type reads it: 3e-4 is a number, and 007 may be a text
            with suppress(ValidationError):
                return read(value, strict=False)
        kind = self.kind.__name__ if isinstance(self.kind, type) else self.kind
        raise Gz2vitError(f"{source} is {value!r}, but it must be {kind}")


def code_cells(notebook: Path) -> list[tuple[str, list[str]]]:
    """Source and tags of each code cell."""
    cells = [one for one in read_json(notebook).get("cells", ()) if one["cell_type"] == "code"]
    return [("".join(cell["source"]), cell["metadata"].get("tags", [])) for cell in cells]


@cache
def notebook_parameters(notebook: Path) -> dict[str, Parameter]:
    """The parameters of a notebook: the literals of its cell tagged `parameters`, nothing else.

    `NAME = 1` takes the value's type, `NAME: int | None = 1` its own, which papermill cannot read.
    """
    cells = [source for source, tags in code_cells(notebook) if "parameters" in tags]
    if len(cells) != 1:
        raise Gz2vitError(f"{notebook} has {len(cells)} cells tagged 'parameters' instead of one")
    found = {}
    try:
        for node in ast.parse(cells[0]).body:
            default = ast.literal_eval(node.value)
            if isinstance(node, ast.AnnAssign):
                found[node.target.id] = Parameter(default, eval(ast.unparse(node.annotation), {}))
            else:
                found[node.targets[0].id] = Parameter(default, type(default))
    except (SyntaxError, ValueError, AttributeError, NameError) as error:
        raise Gz2vitError(f"{notebook}: write NAME = literal as parameters ({error})") from error
    return found


def load_profile(name: str) -> dict[str, dict[str, Any]]:
    """A profile as {step: {parameter: value}}; raises `Gz2vitError` for a missing or odd file."""
    path = PROFILES_DIR / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in PROFILES_DIR.glob("*.yaml")))
        raise Gz2vitError(f"there is no profile '{name}'; the profiles are {known}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        return TypeAdapter(dict[str, dict[str, Any]]).validate_python(content)
    except (yaml.YAMLError, ValidationError) as error:
        what = f"{path} must hold, in YAML, steps with their parameters NAME: value"
        raise Gz2vitError(f"{what} ({' '.join(str(error).split())})") from error


def parse_set(text: str, results: Path | None = None) -> tuple[str, str, str]:
    """`[STEP.]NAME=VALUE` as step ("" for every one), name and value; a named file as full path.

    A file must exist, unless it is a model that a run in the folder `results` will make.
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


def merge_settings(
    results: Path, profile: str | None, data: str | None, overrides: Sequence[str]
) -> dict[str, Any]:
    """The settings of a results folder: those that it remembers, changed by those of this call.

    `NAME=default` in `overrides` takes a setting back, and a later one replaces an earlier one.
    """
    path = results / io.SETTINGS
    kept = yaml.safe_load(path.read_text(encoding="utf-8")) or {} if path.is_file() else {}
    profile = profile or kept.get("profile", "demo")
    if kept.get("profile", profile) != profile:
        raise Gz2vitError(f"{results} is of profile {kept['profile']}; name another --results DIR")
    texts = dict(text.split("=", 1) for text in kept.get("set", []))
    for step, name, value in (parse_set(text, results) for text in overrides):
        key = f"{step}.{name}" if step else name
        texts = {k: v for k, v in texts.items() if k != key and (step or k.split(".")[-1] != name)}
        texts |= {} if value == "default" else {key: value}
    data = data or kept.get("data")
    data = None if data in ("default", "simulated") else data
    return {"profile": profile, "data": data, "set": [f"{k}={v}" for k, v in texts.items()]}


def meant(name: str, known: Iterable[str]) -> str:
    """What there is, and a guess at what was meant."""
    close = difflib.get_close_matches(name, known := list(known), n=1)
    return f" (there are: {', '.join(known)})" + (f"; did you mean '{close[0]}'?" if close else "")


# ---- The steps, and which of them are stale ----------------------------------------------------


@dataclass
class Step:
    """One notebook of the pipeline: what it needs, reads, makes, and the code that decides it."""

    name: str
    notebook: str
    needs: list[str]
    code: list[str]  # patterns of files
    makes: list[str]
    reads: list[str]
    model: str | None  # the model that it trains
    parameters: dict[str, Any]


class Pipeline:
    """What the Snakefile knows of one run: its steps, their parameters, and the plan."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config, self.results = config, Path(config["results"])
        self.archived = (self.results / io.ARCHIVE_RECORD).exists()
        self.published = config["profile"] == PUBLISHED and not self.archived
        self.drawn = self.archived or self.published  # from results that are there
        self.simulated = config["data"] is None and not self.drawn
        self.data = Path(config["data"] or self.results / "data")
        profile = load_profile(config["profile"])
        self.seconds, _ = profile.pop("seconds", {}), profile.pop("run", {})  # which is for `run`
        overrides = [parse_set(text, self.results) for text in config["set"]]
        rows = dict(profile.pop("backbones", {}))
        rows |= {name: value for step, name, value in overrides if step == "backbones"}
        for row, network in rows.items():
            named = re.fullmatch(r"(?!backbones?$)[a-z][a-z0-9_]*", row)
            if not named or not isinstance(network, str | None):
                raise Gz2vitError(f"backbones.{row}={network}: write [a-z][a-z0-9_]*=timm/NETWORK")
        # Networks that the paper does not have: {row of the results table: network}.
        self.backbones = {row: one for row, one in rows.items() if one not in (None, "", "null")}
        self.models = [*PAPER_MODELS, *self.backbones]
        if not self.simulated:
            profile.pop("simulate", None)
        # What is given: (step, "" for every one; name; value; source), the later the stronger.
        sections = dict.fromkeys(self.backbones, profile.pop("backbone", {}))
        self.given = [
            (step, name, value, f"profiles/{config['profile']}.yaml: {step}.{name}")
            for step, section in [*sections.items(), *profile.items()]
            for name, value in section.items()
        ]
        typed = [one for one in overrides if one[0] != "backbones"]
        self.given += [(*one, f"--set {'.'.join(filter(None, one[:2]))}") for one in typed]
        self.steps: dict[str, Step] = {}
        self.free: dict[str, list[str]] = {}  # what may be given, step by step
        self.seeds: dict[str, list[int]] = {}
        self.plan = {} if config["planning"] else read_json(self.results / PLAN)

    def step(
        self, name: str, notebook: str, needs: Sequence[str] = (), code: str = "",
        makes: Sequence[str] = (), reads: Sequence[str | Path] = (),
    ) -> None:  # fmt: skip
        """Register a step and its further seeds; raises `Gz2vitError` for wrong parameters.

        `needs`: steps, or parameters that name a model; `code`: modules that decide its numbers,
        as `plots/style` or `gz2sim/*`; `makes`: its files; `reads`: files of the data folder.
        """
        if name in self.steps:
            raise Gz2vitError(f"backbones.{name}: there is a step of that name already")
        model = name if name in self.models else None
        # The pipeline's own parameters, which profiles and --set may not give.
        own = {"RESULTS_DIR": str(self.results), "DATA_DIR": str(self.data), "RUN": ""}
        own |= {"PROFILE": self.config["profile"], "MODEL_KEYS": self.models, "SEEDS": self.seeds}
        own |= {"MODEL_KEY": name, "BACKBONE": self.backbones.get(name)}
        known = notebook_parameters(ROOT / notebook)
        free = {key: one for key, one in known.items() if key not in own}
        free |= {"SEEDS": Parameter(None, list[int] | None)} if model else {}
        # Or its results are there, or never will be: then only its seeds matter.
        made = not self.drawn or name in (*DRAWN_STEPS, PUBLISHED)
        free = {key: one for key, one in free.items() if made or key == "SEEDS"}
        self.free[name] = sorted(free)
        chosen = {
            key: free[key].read(value, source, typed=source.startswith("--set"))
            for step, key, value, source in self.given
            if step in ("", name) and key in free
        }
        seeds = chosen.pop("SEEDS", None)
        parameters = {key: own.get(key, one.default) for key, one in known.items()} | chosen
        for need in filter(known.get, needs):
            if (key := parameters[need]) not in self.models:
                which = f"'{key}'{meant(key, self.models)}"
                raise Gz2vitError(f"{name}.{need}: there is no model {which}")
        needs = [parameters.get(need, need) for need in needs]
        if self.drawn:
            needs = [need for need in needs if need in DRAWN_STEPS]
            needs += [PUBLISHED] if self.published and name != PUBLISHED else []
        modules = [one if "gz2sim" in one else f"gz2vit/{one}" for one in code.split()]
        patterns = [one if Path(one).suffix else f"{one}.py" for one in modules]
        files = [str(self.data / one) for one in reads]
        source, home = Path(parameters.get("WEIGHTS") or "none"), self.results.resolve() / "models"
        if model and source.is_absolute() and source.resolve().is_relative_to(home):
            start = source.resolve().relative_to(home).parts[0]  # a model of this run
            if start == model:
                place = "copy it to another folder, or set other --results"
                raise Gz2vitError(f"{name}.WEIGHTS is {source}, which it would replace: {place}")
            needs += [start] if start in self.models else []
        if not model:
            named = [parameters.get(key) or "none" for key in PATHS]
            files += [file for file in named if Path(file).is_file()]
        step = Step(name, notebook, needs, patterns, list(makes), files, model, parameters)
        self.steps |= {name: step} if made else {}
        if seeds is not None:  # the first is the step itself
            if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds) or "SEED" in chosen:
                how = "give distinct numbers, as [0,1,2], and no SEED beside them"
                raise Gz2vitError(f"{name}.SEEDS is {seeds}: {how}")
            self.seeds[name], parameters["SEED"] = seeds, seeds[0]
            for seed in seeds[1:] if made else ():
                run, further = f"seed{seed}", f"{name}_seed{seed}"
                files = [f"models/{name}/{run}/{file}" for file in io.MODEL_FILES]
                changed = parameters | {"SEED": seed, "RUN": run}
                self.steps[further] = replace(step, name=further, makes=files, parameters=changed)

    def inputs(self, name: str) -> list[str]:
        """What tells Snakemake that the steps have finished that this one waits for in this run."""
        return [DONE.format(need) for need in self.plan[name]["needs"] if need in self.plan]

    def order(self) -> list[str]:
        """The steps asked for (by default all that the data allow) after all that they need."""
        for step, name, _, source in self.given:
            if self.archived and source.startswith("profiles/"):
                continue  # of what has been computed
            if step and step not in self.free:
                raise Gz2vitError(f"{source}: there is no step '{step}'{meant(step, self.free)}")
            free = self.free[step] if step else sorted(set().union(*self.free.values()))
            if name not in free:
                who = f"step '{step}' has no" if step else "no step has a"
                raise Gz2vitError(f"{source}: {who} parameter '{name}'{meant(name, free)}")
        only = self.config["only"]
        for name in (*only, *(self.config["retrain"] or [])):
            if name not in self.steps:
                raise Gz2vitError(f"there is no step '{name}'{meant(name, self.steps)}")
        able = [name for name in self.steps if name not in NAMED_STEPS + VOTES_STEPS]
        if self.drawn and not (self.results / "attention").is_dir():
            able.remove("fig5")
        for name in filter(self.steps.get, VOTES_STEPS):
            votes = self.steps[name].parameters.get("VOTES")
            found = votes or os.path.exists(self.steps[name].reads[0])
            able += [name] if self.simulated or found else []
        if "table" in self.steps:  # the last ones, which show what the others made
            further = [name for name, step in self.steps.items() if step.model not in (None, name)]
            self.steps["table"].needs += further
            self.steps["report"].needs = [name for name in able if name != "report"]
        graph = {name: step.needs for name, step in self.steps.items()}
        order = list(TopologicalSorter(graph).static_order())
        asked = set(only or able)
        wanted = {name for name, step in self.steps.items() if {name, step.model} & asked}
        for name in reversed(order):
            wanted |= set(graph[name]) if name in wanted else set()
        return [name for name in order if name in wanted]

    def make_plan(self) -> None:
        """Decide which steps run and why, and write the plan; raises for broken galaxies."""
        from gz2vit import catalog, images  # here: a step's own process needs no pandas to start

        signature, records, older = None, {}, {}
        for name in (order := self.order()):
            step = self.steps[name]
            if name == "select" and "simulate" not in self.plan:
                folder = catalog.read_data_folder(self.data)
                if not self.simulated:
                    images.check_folder(folder, self.results, step.parameters["LEAVE_OUT_BROKEN"])
                signature = catalog.data_signature(folder, self.results / "logs" / "images.json")
                catalog.follow_folder(self.results, folder)
            path = self.results / "logs" / "steps" / f"{name}.json"
            record = records[name] = read_json(path) if path.exists() else {}
            now = self.state(step, signature)
            if why := self.why(step, now, records):
                self.plan[name] = vars(step) | {"why": why, "record": now}
            elif step.model and record["code"] != now["code"]:
                older.setdefault(record.get("commit", "unknown")[:7], []).append(name)
            (self.results / DONE.format(name)).unlink(missing_ok=True)
        took = {name: records[name]["seconds"] for name in self.plan if records[name]}
        seconds = {
            name: took[name] * records[name].get("speed", 1.0)  # at the reference speed
            if name in took
            else self.seconds.get(name, self.seconds.get(one["model"], 0.0))
            for name, one in self.plan.items()
        }
        long = sum(seconds.values()) > LONG_SECONDS
        speed = measure_speed(self.config["threads"]) / REFERENCE_SPEED if long else 1.0
        share = 0 if self.config["executor"] else 1 / (self.config["jobs"] or 1)
        for name, one in self.plan.items():  # expected: by which it lengthens the run; 0: unknown
            part = 1 if share and name in WHOLE else share
            one |= {"speed": speed, "expected": seconds[name] / speed * part}
        write_json(self.results / PLAN, self.plan)
        write_text(self.results / PLAN_TEXT, self.describe(len(order), older, list(took.values())))

    def state(self, step: Step, signature: Mapping[str, str] | None) -> dict[str, Any]:
        """What decides a step's results now, as its record will keep it."""
        places = ("RESULTS_DIR", "DATA_DIR", "DEVICES", "PROFILE")  # they decide nothing
        deciding = {
            name: {k: v for k, v in self.steps[name].parameters.items() if k not in places}
            for name in (step.name, *(("select", "pack") if step.model else ()))
        }
        own = step.name in ("simulate", *VOTES_STEPS) or self.drawn
        code = "\n".join(source for source, _ in code_cells(ROOT / step.notebook))
        code = io.code_hash(code) + io.files_hash(step.code, ROOT)
        return {
            "parameters": deciding.pop(step.name),
            # and how a training's galaxies are selected and cropped
            "galaxies": ({} if own else {"signature": signature}) | deciding,
            "code": hashlib.sha256(code.encode()).hexdigest()[:16],
            "reads": _digests(step.reads),
        }

    def why(self, step: Step, now: Mapping[str, Any], records: Mapping[str, dict]) -> list[str]:
        """The reasons why a step must run; none where its results are what they would be."""
        record, retrain = records[step.name], self.config["retrain"]
        if step.model and retrain is not None and (not retrain or step.model in retrain):
            return ["--retrain"]
        if not record:
            folder = self.results / "models" / (step.model or "") / step.parameters.get("RUN", "")
            unfinished = step.model and (folder / "unfinished").exists()
            return ["continues an unfinished training" if unfinished else "new"]
        old, new = record["parameters"], now["parameters"]
        why = [f"{key}: {old.get(key)} -> {new[key]}" for key in new if old.get(key) != new[key]]
        why += [f"{key} is not a parameter any more" for key in sorted(set(old) - set(new))]
        why += ["other galaxies"] if record["galaxies"] != now["galaxies"] else []
        why += [f"{one} is missing" for one in step.makes if not (self.results / one).exists()][:1]
        if step.model:
            starts = [one for one in step.needs if one in self.plan and one in self.models]
            return why + [f"starts from {one}" for one in starts]
        why += ["code"] if record["code"] != now["code"] else []
        changed = sorted({name for name, _ in record["reads"].items() ^ now["reads"].items()})
        why += [f"other {', '.join(changed)}"] if changed else []
        at = record["finished"]
        newer = [n for n in step.needs if n in self.plan or records[n]["finished"] > at]
        return why + ([f"follows {', '.join(newer)}"] if newer else [])

    def describe(self, total: int, older: Mapping[str, list], took: Sequence[float]) -> str:
        """The plan as text: what runs and why, what is replaced, how long, and last time."""
        galaxies = "simulated galaxies" if self.simulated else f"galaxies of {self.data}"
        galaxies = "the authors' predictions" if self.published else galaxies
        if self.archived:
            galaxies = f"results of {read_json(self.results / io.ARCHIVE_RECORD)['file']}"
        settings = f"{galaxies}, --set: {', '.join(self.config['set']) or 'none'}"
        lines = [f"{self.results}: profile {self.config['profile']}, {settings}"]
        for name, one in self.plan.items():
            words = "; ".join(one["why"])
            if one["model"] and (self.results / self.steps[name].makes[-1]).exists():
                words += f"; the model there moves to models/{one['model']}/replaced/"
            lines.append(f"  {name:<20}{words}")
        expected = [one["expected"] for one in self.plan.values()]
        here = f", about {roughly(sum(expected))} here" if any(expected) else ""
        here += f" without {expected.count(0)} of unknown length" if here and 0 in expected else ""
        who = "they" if len(took) == len(self.plan) else f"{len(took)} of them"
        here += f"; {who} took {roughly(sum(took))} last time" if took else ""
        nothing = f"nothing to do: {self.results} is up to date ({total} steps)"
        lines.append(f"{len(self.plan)} of {total} steps to run{here}" if self.plan else nothing)
        for commit, models in sorted(older.items()):
            renew = f"commit {commit}: --retrain {' '.join(models)} renews it"
            lines.append(f"{' '.join(models)}: trained with older code, {renew}")
        return "\n".join(lines) + "\n"


def _digests(paths: Iterable[str]) -> dict[str, str]:
    """Names and hashes of those files that exist."""
    files = filter(Path.exists, map(Path, paths))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def measure_speed(threads: int) -> float:
    """Batches per second that a small transformer learns with one thread or `threads`, at best."""
    import torch

    network, times = torch.nn.TransformerEncoderLayer(128, 8, 512), []
    batch = torch.rand(65, 8, 128)  # tokens, galaxies, width
    half = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()  # as trainings use it
    for count in (1, threads):
        torch.set_num_threads(count)
        start = end = time.perf_counter()
        while end < start + 0.6:
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                network(batch).square().mean().backward()
            before, end = end, time.perf_counter()
            times.append(end - before)
    return 1 / min(times)  # what else the machine does for a moment does not count


def roughly(seconds: float) -> str:
    """A duration as one says it: 40 s, 6 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


# ---- One step: a notebook through papermill ----------------------------------------------------


class StepWriter:
    """Writes a notebook's output to the step's log, each line headed by `[step]`."""

    def __init__(self, step: str, stream: TextIO) -> None:
        self.head, self.stream, self.pending, self.flush = f"[{step}] ", stream, "", stream.flush

    def write(self, text: str) -> None:
        """Take some output; write the lines that are complete."""
        *complete, self.pending = re.split(r"[\n\r]", self.pending + text)
        lines = filter(None, map(str.rstrip, complete))
        self.stream.writelines(f"{self.head}{line}\n" for line in lines)
        self.stream.flush()


def execute(name: str, results: Path) -> None:
    """Run a planned step and leave its record; one that fails leaves `<name>.failed.ipynb`."""

    def watch(parent: int) -> None:  # a killed run leaves no step behind
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, args=[os.getppid()], daemon=True).start()
    # A SLURM job's one task would make Lightning start no processes of its own.
    os.environ.pop("SLURM_NTASKS", None)
    os.environ["TQDM_MININTERVAL"] = BAR_SECONDS
    one, logs, start = read_json(results / PLAN)[name], results / "logs", time.time()
    output = results / "notebooks" / f"{Path(one['notebook']).name[:2]}_{name}.ipynb"
    running = output.with_name(f".{output.stem}.running.ipynb")
    failed = output.with_suffix(".failed.ipynb")
    output.parent.mkdir(parents=True, exist_ok=True)
    message = f"step '{name}' still runs in {results} from an earlier call; wait for it, or stop it"
    try:
        with io.sole_user(logs / f"{name}.lock", message), (logs / f"{name}.log").open("w") as log:
            print(f"[{name}] {one['notebook']} starts", file=log, flush=True)
            if "--retrain" in one["why"]:
                folder = results / "models" / one["model"] / one["parameters"]["RUN"]
                write_text(folder / "retrain", "")
            try:
                run_notebook(one, running, StepWriter(name, log))
            except Gz2vitError as error:
                if running.exists():
                    running.replace(failed)
                raise Gz2vitError(f"step '{name}' failed {error}; see {failed}") from error
            failed.unlink(missing_ok=True)
            running.replace(output)
            took = {"seconds": time.time() - start, "speed": one.get("speed")}
            write_json(logs / "steps" / f"{name}.json", record(one, results) | took)
            log.write(f"[{name}] done in {took['seconds']:.0f} s\n")
    except Gz2vitError as error:
        write_text(logs / f"{name}.error", f"{error}\n")
        raise


def record(one: Mapping[str, Any], results: Path) -> dict[str, Any]:
    """What a planned step was made of, for the next plan; what is made in this run as well."""
    galaxies = dict(one["record"]["galaxies"])
    if galaxies.get("signature", "") is None:  # simulated in this run
        from gz2vit.catalog import data_signature, read_data_folder

        folder = read_data_folder(results / "data")
        galaxies["signature"] = data_signature(folder, results / "logs" / "images.json")
    new = {"galaxies": galaxies, "reads": _digests(one["reads"])}
    return one["record"] | new | {"finished": time.time(), "commit": io.git_commit()}


def run_notebook(one: Mapping[str, Any], running: Path, writer: StepWriter) -> None:
    """papermill's run, its errors turned into one line."""
    # jsonschema would compile 38 grammars of web addresses, which no notebook has: a second less.
    sys.modules.setdefault("rfc3987_syntax", None)
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    notebook = ROOT / one["notebook"]
    # This environment's kernel, whichever saved the notebook.
    options = {"progress_bar": False, "kernel_name": "python3", "language": "python"}
    options |= {"stdout_file": writer, "stderr_file": writer, "cwd": notebook.parent}
    # torch has a million objects: looking for garbage at every 700th takes a second of a kernel's
    # start, and taking them apart one by one delays its end by two more.
    options["extra_arguments"] = ["--IPKernelApp.exec_lines=import gc; gc.set_threshold(100_000)"]
    options["shutdown_kernel"] = "immediate"
    try:
        papermill.execute_notebook(notebook, running, parameters=one["parameters"], **options)
    except PapermillExecutionError as error:
        text = " ".join(str(error.evalue).split())
        text = text if error.ename == "Gz2vitError" else f"{error.ename}: {text}"
        before = read_json(running)["cells"][: error.cell_index + 2]  # papermill has added two
        texts = ["".join(one["source"]) for one in before if one["cell_type"] == "markdown"]
        headings = re.findall(r"^## (.*)$", "\n".join(texts), re.MULTILINE)
        heading = f" under '{headings[-1]}'" if headings else ""
        raise Gz2vitError(f"in cell [{error.exec_count}]{heading}: {text}") from error
    except (DeadKernelError, OSError) as error:
        died = "its kernel died, most often for want of memory: try fewer --jobs or a smaller "
        dead = isinstance(error, DeadKernelError)
        raise Gz2vitError(f"because {died + 'BATCH_SIZE' if dead else error}") from error


# ---- The whole run -----------------------------------------------------------------------------


def run(
    profile: str | None = None, data: str | None = None, results: str | None = None,
    only: Sequence[str] = (), jobs: int | None = None, overrides: Sequence[str] = (),
    retrain: Sequence[str] | None = None, plan_only: bool = False, executor: str | None = None,
    options: Sequence[str] = (), archive: str | None = None, mirror: str | None = None,
) -> None:  # fmt: skip
    """Run every step that is stale; raises `Gz2vitError` with the one line that matters.

    `retrain`: models (an empty list: all); `executor`: a folder in `profiles/`, such as slurm;
    `archive`: a file or address of `gz2vit archive` to begin with; `mirror`: a copy of downloads.
    """
    if jobs is not None and jobs < 1:
        raise Gz2vitError(f"--jobs {jobs}: give at least 1")
    start = time.time()
    folder = Path(results or ROOT / "results" / (profile or "demo")).expanduser().resolve()
    if mirror:
        os.environ["GZ2VIT_MIRROR"] = mirror  # which `gz2vit.download` reads, in the steps too
    if archive:
        from gz2vit.archive import open_archive

        open_archive(archive, folder, DRAWN_STEPS, profile or (None if results else "demo"))
    archived = (folder / io.ARCHIVE_RECORD).exists()
    data = str(Path(data).expanduser().resolve()) if data not in (None, "default") else data
    settings = merge_settings(folder, profile, data, overrides)
    usual, cores = load_profile(settings["profile"]).get("run", {}), io.available_cores()
    if not (jobs or executor or only or overrides or retrain is not None):  # the whole
        jobs = min(cores, usual.get("jobs", 1))
    config = settings | {"results": str(folder), "only": only, "retrain": retrain, "jobs": jobs}
    config |= {"executor": executor, "threads": max(1, cores // (jobs or 1))}
    config["cores"] = config["threads"] * (1 if executor else jobs or 1)
    if data and (archived or settings["profile"] == PUBLISHED):
        raise Gz2vitError(f"--data {data}: {folder} has galaxies of its own; name other --results")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Gz2vitError(f"cannot write {folder}, set by --results: {error.strerror}") from error
    with io.sole_user(folder / ".lock", f"another run is working in {folder}; wait for it") as lock:
        if config["data"] is None and config["profile"] == "paper" and not archived:
            from gz2vit.download import fetch_galaxy_zoo
            from gz2vit.votes import GALAXY_ZOO_DIR

            _snakemake(config, lock)  # an unknown step is reported before 3.4 GB are fetched
            if plan_only and not (GALAXY_ZOO_DIR / "gz2_train.csv").exists():
                how = f"run `gz2vit download` into {GALAXY_ZOO_DIR}"
                raise Gz2vitError(f"--plan needs the galaxies: {how}")
            named = {(step, name) for step, name, _ in map(parse_set, config["set"])}
            own = all({("", "VOTES"), (step, "VOTES")} & named for step in only)
            kinds = ["labels"] if own else ["labels", "mapping", "votes"]
            fetch_galaxy_zoo(GALAXY_ZOO_DIR, kinds if only and {*only} <= {*VOTES_STEPS} else [])
            config["data"] = str(GALAXY_ZOO_DIR)
        _snakemake(config, lock)
        print((folder / PLAN_TEXT).read_text(encoding="utf-8"), end="", flush=True)
        if plan_only:
            return
        write_text(folder / io.SETTINGS, yaml.safe_dump(settings, sort_keys=False))
        if not (plan := read_json(folder / PLAN)):
            return
        _snakemake(config, lock, plan, options)
    print(f"{len(plan)} steps run in {(time.time() - start) / 60:.1f} min, into {folder}")
    if (folder / "report.html").exists():
        print("report.html shows all of it on one page, in any browser")


def _snakemake(
    config: Mapping[str, Any], lock: int, plan: Mapping[str, Any] | None = None,
    options: Sequence[str] = (),
) -> None:  # fmt: skip
    """Let Snakemake plan, or run `plan`; it inherits `lock`, and so keeps it if we are killed."""
    logs, executor = Path(config["results"]) / "logs", config["executor"]
    own_log = logs / "snakemake.log"
    for old in (*logs.glob("*.error"), *logs.glob("*.log")):
        old.unlink()
    write_json(logs / "run.json", {**config, "planning": plan is None})
    command = [sys.executable, "-P", "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--directory", config["results"], "--configfile", str(logs / "run.json")]
    command += ["--nocolor", "--nolock", "--keep-incomplete", "--drop-metadata"]
    command += ["--rerun-triggers", "mtime", "--workflow-profile", "none"]
    if executor:
        if not (profile := PROFILES_DIR / executor / "config.yaml").is_file():
            raise Gz2vitError(f"--executor {executor}: there is no {profile}; there is slurm")
        command += ["--profile", str(profile.parent)]
        command += ["--jobs", str(config["jobs"])] if config["jobs"] else []
        # Without SLURM's accounts Snakemake would ask sacct, hear of no job, and wait for ever.
        sacct = ["sacct", "--noheader", "--allocations"]
        known = shutil.which("sacct") and not subprocess.run(sacct, capture_output=True).returncode
        if shutil.which("squeue") and not known:
            command += ["--slurm-status-command", "squeue"]
    else:
        command += ["--profile", "none", "--cores", str(config["cores"])]
    command += ["--list-rules"] if plan is None else options
    # Linux: end with this process even where that is killed with -9 (PR_SET_PDEATHSIG).
    die = partial(ctypes.CDLL(None).prctl, 1, signal.SIGKILL) if sys.platform == "linux" else None
    with own_log.open("w") as log, Follower(logs, plan or {}) as follower:
        own = {"pass_fds": [lock], "start_new_session": True, "preexec_fn": die}
        process = subprocess.Popen(command, stdout=log, stderr=log, **own)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            while process.poll() is None:
                time.sleep(0.2)
                follower.follow()
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGINT)
            if run_id := re.search(r"^SLURM run ID: (\S+)", own_log.read_text(), re.MULTILINE):
                subprocess.run(["scancel", f"--name={run_id[1]}"], capture_output=True, timeout=60)
            try:
                process.wait(60)  # for the steps to end
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            raise
        follower.follow()
    if not process.returncode:
        return
    if errors := sorted(logs.glob("*.error"), key=lambda path: path.stat().st_mtime):
        raise Gz2vitError(errors[0].read_text(encoding="utf-8").strip())
    text = own_log.read_text(encoding="utf-8", errors="replace")
    if found := re.search(r"^Error in rule (\w+):\s+message: (.+)", text, re.MULTILINE):
        what = f"step '{found[1]}' ended without an error of its own: {found[2].rstrip()}"
        raise Gz2vitError(f"{what} (see {own_log}); the same command continues")
    last = text.strip().rpartition("\n")[2].strip() or "no message"
    raise Gz2vitError(f"Snakemake stopped: {last} (see {logs})")


class Follower(tqdm):
    """Prints what steps add to their logs, and how many are done; on a terminal also as a bar."""

    def __init__(self, logs: Path, plan: Mapping[str, Any]) -> None:
        shape = "{n_fmt} of {total_fmt} steps |{bar}|{postfix}"
        options = {"disable": None if plan else True, "leave": False, "bar_format": shape}
        super().__init__(total=len(plan), file=sys.stdout, **options)
        self.logs, self.read, self.begun = logs, {}, time.monotonic()  # read: bytes of each log
        self.waiting = {name: one["expected"] for name, one in plan.items()}
        self.seconds = sum(self.waiting.values())

    def follow(self) -> None:
        """Print the lines that steps have added since the last call."""
        for path in sorted(self.logs.glob("*.log"), key=lambda path: path.stat().st_mtime):
            if path.name != "snakemake.log":
                with path.open("rb") as file:
                    file.seek(self.read.get(path, 0))
                    whole, end, _ = file.read().rpartition(b"\n")
                self.read[path] = self.read.get(path, 0) + len(whole + end)
                for line in whole.decode(errors="replace").splitlines():
                    found = re.fullmatch(r"\[(\w+)\] (done in \d+ s)", line)
                    with self.external_write_mode():
                        print(self.finish(*found.groups()) if found else line, flush=True)

    def finish(self, step: str, words: str) -> str:
        """Count a step as done; its line. The time left follows the pace, the more the later."""
        self.waiting.pop(step, None)
        share = sum(self.waiting.values()) / (self.seconds or 1)
        left = share * (time.monotonic() - self.begun + share * self.seconds)
        self.postfix = f"about {roughly(left)} left" if left else ""
        self.update()
        words = f"[{self.total - len(self.waiting)} of {self.total}] {step} {words}"
        return f"{words}, {self.postfix}" if left else words
