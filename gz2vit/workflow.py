"""Notebooks as files, read without a wait for what no notebook needs."""

import ast
import contextlib
import difflib
import hashlib
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import yaml

from gz2vit.catalog import read_data_folder
from gz2vit.download import fetch_galaxy_zoo
from gz2vit.images import check_folder
from gz2vit.io import ROAD_RECORD, ROOT, Gz2vitError, sole_user, write_json, write_text
from gz2vit.votes import GALAXY_ZOO_DIR

if TYPE_CHECKING:
    from nbformat import NotebookNode
    from papermill.exceptions import PapermillExecutionError


ADDRESSES = "rfc3987_syntax"  # checks addresses of the web with letters of any script


@contextmanager
def without_addresses() -> Iterator[None]:
    """Inside it, what imports jsonschema (nbformat, papermill) is imported a second sooner.

    jsonschema takes in an optional package, where there is one, that compiles 38 grammars while it
    is imported; they check addresses, of which the schema of a notebook has none.
    """
    if ADDRESSES in sys.modules:
        yield
        return
    sys.modules[ADDRESSES] = None  # "there is no such package", in Python's words
    try:
        yield
    finally:
        del sys.modules[ADDRESSES]


def read_notebook(path: Path) -> "NotebookNode":
    """The notebook in the file `path`, in format 4; nbformat's errors for anything else."""
    with without_addresses():
        import nbformat
    return nbformat.read(path, as_version=4)


# ------------------------------------------------------------------------------------------
# The code behind a step: when it changes, the step is stale.
#
# What counts is a notebook's code cells and every module of the package that they use, directly or
# through one another, as Python understands them: prose, comments and docstrings may change freely.
# Modules that only draw count for the notebooks in `figures/` alone, so that a new colour does not
# train a network again.

DRAWING = ("gz2vit/plots", "gz2vit/report", "gz2vit/results_table")


def code_signature(notebook: Path, root: Path = ROOT) -> str:
    """A short hash of all code that decides what `notebook` makes."""
    digest = hashlib.sha256(_meaning(notebook_code(notebook)).encode())
    for path in source_files(notebook, root):
        digest.update(_meaning(path.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()[:16]


def files_signature(patterns: Sequence[str], root: Path = ROOT) -> str:
    """A short hash of what the package's files that fit `patterns` (from the root) mean."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in patterns for path in root.glob(pattern)}):
        digest.update(_meaning(path.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()[:16]


def source_files(notebook: Path, root: Path = ROOT) -> list[Path]:
    """The package's files that count for `notebook`, sorted."""
    draws = notebook.resolve().parent.name == "figures"
    waiting, found = _imported(notebook_code(notebook), root), set()
    while waiting:
        path = waiting.pop()
        inside = path.relative_to(root).as_posix()
        if path not in found and (draws or not inside.startswith(DRAWING)):
            found.add(path)
            waiting |= _imported(path.read_text(encoding="utf-8"), root)
    return sorted(found)


def notebook_code(notebook: Path) -> str:
    """All code cells of a notebook as one text."""
    cells = read_notebook(notebook).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "code")


@cache  # the steps share most of their files
def _meaning(code: str) -> str:
    """The code without comments and docstrings, in one form."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(node, ast.Module | ast.stmt):
            first = body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                body[0] = ast.Pass()
    return ast.dump(tree)


def _imported(code: str, root: Path) -> set[Path]:
    """Files of the package that a piece of Python imports by name."""
    return {path for name in _imported_names(code) for path in _files(name, root)}


@cache
def _imported_names(code: str) -> frozenset[str]:
    """All of the package that a piece of Python imports, as dotted names."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(name for name in names if name.split(".")[0] == "gz2vit")


def _files(module: str, root: Path) -> list[Path]:
    """The file of a module and the `__init__` files above it; nothing for a plain name in one."""
    parts = module.split(".")
    base = root.joinpath(*parts)
    parents = [root.joinpath(*parts[:length], "__init__.py") for length in range(1, len(parts))]
    candidates = [base.with_suffix(".py"), base / "__init__.py", *parents]
    return [path for path in candidates if path.is_file()]


# ------------------------------------------------------------------------------------------
# Profiles and parameters: what each notebook is run with, and where the value is from.
#
# A notebook's parameter cell (tagged `parameters`) holds the smoke values; a profile
# (`profiles/<name>.yaml`) lists, step by step, only what differs from them; `--set` comes last.
# A name that a notebook does not have, or a value of another type, is an error that names the file
# and the key.

PROFILES_DIR = ROOT / "profiles"
# What the road itself decides for every notebook; profiles and --set may not.
RESERVED = (
    *("RESULTS_DIR", "DATA_DIR", "PROFILE", "MODEL_KEY", "MODEL_KEYS", "BACKBONE"),
    *("RUN", "SEEDS"),
)
# The section of a profile that names further networks (row of the table: network), and the one
# with the parameters that all of them share.
BACKBONES, SHARED = "backbones", "backbone"
# The section of what steps ask of a cluster (gz2vit/workflow.py).
RESOURCES = "resources"
# Stands among a model's parameters, but is none: it makes steps (gz2vit/workflow.py).
SEEDS = "SEEDS"
# Parameters that may name a file: relative to where the command is given, not to where a step runs.
PATHS = ("VOTES", "RULE", "WEIGHTS")
TYPES = {kind.__name__: kind for kind in (int, float, str, bool, list, dict)}
TYPES |= {"None": type(None)}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a notebook: its smoke value and the types that it may take."""

    default: Any
    types: tuple[type, ...]

    def accepts(self, value: Any) -> bool:
        """Whether `value` is of a right type; a whole number may stand for a float."""
        if float in self.types and type(value) is int:
            return True
        return type(value) in self.types

    def describe(self) -> str:
        """The types in words."""
        return " or ".join("null" if kind is type(None) else kind.__name__ for kind in self.types)


def notebook_parameters(notebook: Path) -> dict[str, Parameter]:
    """The parameters of a notebook, read from the literals of its parameter cell.

    `NAME = 1` takes the value's type, `NAME: int | None = 1` the annotated ones. Raises
    `Gz2vitError` for a notebook without exactly one such cell, or with anything but literals.
    """
    cells = read_notebook(notebook).cells
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise Gz2vitError(f"{notebook} has {len(tagged)} cells tagged 'parameters' instead of one")
    found = {}
    for node in ast.parse(tagged[0].source).body:
        try:
            name, default, kinds = _read_assignment(node)
        except (ValueError, AttributeError, KeyError) as error:
            raise Gz2vitError(f"{notebook}: parameter cell, line {node.lineno}: {error}") from error
        found[name] = Parameter(default, kinds)
    return found


def _read_assignment(node: ast.stmt) -> tuple[str, Any, tuple[type, ...]]:
    """Name, value and types of one line of a parameter cell."""
    if isinstance(node, ast.AnnAssign):
        names = [part.strip() for part in ast.unparse(node.annotation).split("|")]
        return node.target.id, ast.literal_eval(node.value), tuple(TYPES[name] for name in names)
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        value = ast.literal_eval(node.value)
        return node.targets[0].id, value, (type(value),)
    raise ValueError("only assignments of literals may stand there")


def load_profile(name: str, folder: Path = PROFILES_DIR) -> dict[str, dict[str, Any]]:
    """A profile as {step: {parameter: value}}; `Gz2vitError` for a missing or odd file."""
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
        raise Gz2vitError(f"there is no profile '{name}' ({path}); the profiles are {known}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise Gz2vitError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise Gz2vitError(f"{path} must hold steps with their parameters")
    for step, values in content.items():
        if not isinstance(values, dict):
            raise Gz2vitError(f"{path}: '{step}' must hold parameters, NAME: value")
    return content


def load_sections(
    profile: str, backbones: Sequence[str] = (), folder: Path = PROFILES_DIR
) -> dict[str, dict[str, Any]]:
    """A profile's steps with their parameters; `backbones` share the section `backbone`.

    Raises `Gz2vitError` as `load_profile` does.
    """
    content = load_profile(profile, folder)
    for section in (BACKBONES, RESOURCES):
        content.pop(section, None)
    shared = content.pop(SHARED, {})
    return {step: shared | content.get(step, {}) for step in backbones} | {
        step: values for step, values in content.items() if step not in backbones
    }


def named_backbones(
    profile: str, overrides: Sequence[str] = (), folder: Path = PROFILES_DIR
) -> dict[str, str]:
    """Further networks of a run: rows of the results table (step names) and their networks.

    From the profile's section `backbones` and `--set backbones.ROW=timm/NAME`; `null` takes a row
    away. Raises `Gz2vitError` for a row that cannot be a step's name.
    """
    source = str(folder / f"{profile}.yaml")
    found = {row: (name, source) for row, name in load_profile(profile, folder)
             .get(BACKBONES, {}).items()}  # fmt: skip
    for text in overrides:
        path, _, written = text.partition("=")
        if path.startswith(f"{BACKBONES}."):
            found[path.removeprefix(f"{BACKBONES}.")] = (written, f"--set {text}")
    for row, (name, where) in found.items():
        if not re.fullmatch(r"[a-z][a-z0-9_]*", row) or row in (BACKBONES, SHARED, RESOURCES):
            raise Gz2vitError(f"{where}: '{row}' must be small letters, digits and _")
        if not isinstance(name, str | None):
            raise Gz2vitError(f"{where}: the network of '{row}' must be named, as timm/NAME")
    return {row: name for row, (name, _) in found.items() if name not in (None, "", "null")}


def resolve(
    profile: str,
    notebooks: Mapping[str, Path],
    overrides: Sequence[str] = (),
    folder: Path = PROFILES_DIR,
    backbones: Sequence[str] = (),
) -> dict[str, dict[str, Any]]:
    """For every step, what its notebook is run with besides its own defaults.

    `notebooks`: the steps and their notebooks; `overrides`: `--set` texts `[STEP.]NAME=VALUE`;
    `backbones`: the steps that share the section `backbone`. `SEEDS` is left to
    `seeds.named_seeds`. Raises `Gz2vitError` for unknown steps and parameters and for values of a
    wrong type.
    """
    known = {step: notebook_parameters(path) for step, path in notebooks.items()}
    resolved: dict[str, dict[str, Any]] = {step: {} for step in notebooks}
    source = str(folder / f"{profile}.yaml")
    for step, values in load_sections(profile, backbones, folder).items():
        _check_step(step, known, source)
        for name, value in values.items():
            if name != SEEDS:
                _check_value(known[step], step, name, value, source)
                resolved[step][name] = value
    for text in overrides:
        name = text.partition("=")[0].rpartition(".")[2]
        if not text.startswith((f"{BACKBONES}.", f"{RESOURCES}.")) and name != SEEDS:
            for step, name, value in _read_override(text, known):
                resolved[step][name] = value
    return resolved


def anchor_override(text: str) -> str:
    """A `--set` text whose value may name a file, with the file's absolute path."""
    path, _, value = text.partition("=")
    if path.rpartition(".")[2] in PATHS and value and Path(value).exists():
        return f"{path}={Path(value).resolve()}"
    return text


def _check_step(step: str, known: Mapping[str, Any], source: str) -> None:
    """Refuse a step that does not exist."""
    if step not in known:
        raise Gz2vitError(f"{source}: there is no step '{step}'{_meant(step, known)}")


def _check_value(
    parameters: Mapping[str, Parameter], step: str, name: str, value: Any, source: str
) -> None:
    """Refuse a parameter that the step's notebook does not have, or a value of another type."""
    settable = [key for key in parameters if key not in RESERVED]
    if name not in settable:
        raise Gz2vitError(
            f"{source}: step '{step}' has no parameter '{name}'{_meant(name, settable)}"
        )
    if not parameters[name].accepts(value):
        hint = ""
        if isinstance(value, str) and float in parameters[name].types:
            hint = "; YAML reads 3e-4 as text, write 3.0e-4"
        raise Gz2vitError(
            f"{source}: {step}.{name} is {value!r} ({type(value).__name__}), "
            f"but it must be {parameters[name].describe()}{hint}"
        )


def _read_override(
    text: str, known: Mapping[str, Mapping[str, Parameter]]
) -> list[tuple[str, str, Any]]:
    """One `--set` text as (step, name, value), for each step that it concerns."""
    source = f"--set {text}"
    path, equals, written = text.partition("=")
    step, dot, name = path.rpartition(".")
    if not equals or not name:
        raise Gz2vitError(f"{source}: write [STEP.]NAME=VALUE, such as linformer.MAX_EPOCH=30")
    if dot:
        _check_step(step, known, source)
        steps = [step]
    else:
        steps = [key for key, parameters in known.items() if name in parameters]
        names = {key for parameters in known.values() for key in parameters}
        every = sorted(names - set(RESERVED))
        if not steps:
            raise Gz2vitError(f"{source}: no step has a parameter '{name}'{_meant(name, every)}")
    return [(key, name, _read_value(written, known[key], key, name, source)) for key in steps]


def _read_value(
    written: str, parameters: Mapping[str, Parameter], step: str, name: str, source: str
) -> Any:
    """A value as typed at the terminal, checked; there, 3e-4 is a number."""
    try:
        value = yaml.safe_load(written)
    except yaml.YAMLError as error:
        raise Gz2vitError(f"{source}: cannot read the value '{written}'") from error
    if name in parameters and float in parameters[name].types and isinstance(value, str):
        with contextlib.suppress(ValueError):  # the check below says what is wrong with it
            value = float(value)
    if name in parameters and str in parameters[name].types and type(value) in (int, float, bool):
        value = written
    _check_value(parameters, step, name, value, source)
    return value


def _meant(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """A guess at what was meant, and what there is."""
    close = difflib.get_close_matches(name, list(known), n=1)
    guess = f"; did you mean '{close[0]}'?" if close else ""
    return f" (there are: {', '.join(known)}){guess}"


# ------------------------------------------------------------------------------------------
# Several seeds for one model: which ones, and what their steps and folders are called.
#
# `SEEDS: [0, 1, 2]` in a model's section of a profile, or `--set [STEP.]SEEDS=[0,1,2]`, trains a
# model once for each seed. The first seed is the step itself, with its files in the model's own
# folder; every further one is a step of its own (`linformer_seed1`), with its files in `seeds/1/`
# inside that folder.

SEED = "SEED"


def named_seeds(
    profile: str,
    overrides: Sequence[str],
    models: Sequence[str],
    backbones: Sequence[str] = (),
    folder: Path = PROFILES_DIR,
) -> dict[str, list[int]]:
    """The seeds of every model for which `SEEDS` is given; a later `--set` replaces earlier ones.

    `models`: the steps that train; `backbones`: those of them that share the section `backbone`.
    Raises `Gz2vitError` for what is no list of distinct whole numbers from 0 on, for a step that
    trains no model, and where `SEED` is given for the same step as well.
    """
    found: dict[str, dict[str, tuple[list[int], str]]] = {SEED: {}, SEEDS: {}}
    given = [*_from_profile(profile, backbones, folder), *_from_overrides(overrides, models)]
    for step, name, value, source in given:
        if name == SEEDS and step not in models:
            known = ", ".join(models)
            raise Gz2vitError(f"{source}: SEEDS is for the steps that train a model: {known}")
        found[name][step] = (_check_seeds(value, source) if name == SEEDS else value, source)
    for step in found[SEEDS]:
        if step in found[SEED]:
            one, several = found[SEED][step][1], found[SEEDS][step][1]
            raise Gz2vitError(
                f"{one} and {several} both give the seed of '{step}'; give one of the two, or name "
                "the step that each is for, such as simulate.SEED=1"
            )
    return {step: seeds for step, (seeds, _) in found[SEEDS].items()}


def further_steps(
    seeds: Mapping[str, Sequence[int]], taken: Collection[str] = ()
) -> dict[str, tuple[str, int]]:
    """The step of every seed but a model's first, as {step: (model's step, seed)}.

    `seeds`: as `named_seeds` returns them. Raises `Gz2vitError` where a name is `taken`.
    """
    steps = {f"{key}_seed{seed}": (key, seed) for key, own in seeds.items() for seed in own[1:]}
    for step, (key, _) in steps.items():
        if step in taken:
            raise Gz2vitError(
                f"the seeds of '{key}' need the step name '{step}', which a network has already; "
                "give that network another name"
            )
    return steps


def run_folder(seed: int) -> str:
    """Where a further seed's files go, inside the model's folder."""
    return f"seeds/{seed}"


def run_folders(seeds: Sequence[int]) -> list[str]:
    """The folders of all runs of a model, the first of which is the model's own, ""."""
    return ["", *(run_folder(seed) for seed in seeds[1:])]


Given = tuple[str, str, Any, str]  # step, SEED or SEEDS, value, where it is from


def _from_profile(profile: str, backbones: Sequence[str], folder: Path) -> Iterator[Given]:
    """What a profile says of seeds."""
    path = folder / f"{profile}.yaml"
    for step, values in load_sections(profile, backbones, folder).items():
        for name in (SEED, SEEDS):
            if name in values:
                yield step, name, values[name], f"{path}, {step}.{name} = {values[name]}"


def _from_overrides(overrides: Sequence[str], models: Sequence[str]) -> Iterator[Given]:
    """What `--set` says of seeds, for each step that it concerns."""
    for text in overrides:
        path, _, written = text.partition("=")
        step, _, name = path.rpartition(".")
        if name in (SEED, SEEDS):
            for one in [step] if step else models:
                yield one, name, _read(written), f"--set {text}"


def _read(written: str) -> Any:
    """A value as typed at the terminal; nothing where it cannot be read."""
    try:
        return yaml.safe_load(written)
    except yaml.YAMLError:
        return None


def _check_seeds(seeds: Any, source: str) -> list[int]:
    """The seeds, checked."""
    whole = isinstance(seeds, list) and all(type(seed) is int and seed >= 0 for seed in seeds)
    if not whole or not seeds or len(set(seeds)) < len(seeds):
        raise Gz2vitError(
            f"{source}: SEEDS must be a list of distinct whole numbers from 0 on, such as [0,1,2]"
        )
    return seeds


# ------------------------------------------------------------------------------------------
# What each step asks of a cluster: processor cores, GPUs, memory, time.
#
# A profile's section `resources` says it for every step (`default`), for those that train a model
# (`training`) and for single steps, of which the most special counts. Last comes `--set
# resources.[STEP.]NAME=VALUE`, where STEP may be such a group as well. Where the steps run on this
# machine, nothing of it counts.

# Names as Snakemake's executor for SLURM has them: numbers from the least that makes sense, texts.
NUMBERS = {"threads": 1, "gpu": 0, "mem_mb": 1, "runtime": 1}  # [cores], -, [MB], [min]
TEXTS = ("gpu_model", "slurm_partition", "slurm_account", "constraint", "qos")
EVERY, TRAINING = "default", "training"

Request = dict[str, int | str]


def step_resources(
    profile: str,
    overrides: Sequence[str],
    steps: Sequence[str],
    models: Mapping[str, str],
    devices: Mapping[str, int],
    folder: Path = PROFILES_DIR,
) -> dict[str, Request]:
    """What every one of `steps` asks for: `{step: {"gpu": 1, "mem_mb": 48000, ...}}`.

    `models`: the steps that train, each with the model whose requests it shares (a further seed
    that of the first); `devices`: on how many GPUs those train that use several. Raises
    `Gz2vitError` for an unknown step or name and for a value that makes no sense.
    """
    groups = {EVERY: list(steps), TRAINING: list(models)}
    groups |= {step: [step, *(s for s, key in models.items() if key == step != s)]
               for step in steps}  # fmt: skip
    found: dict[str, dict[str, Any]] = {step: {} for step in steps}
    # In the profile the general stands below the special, in whatever order they are written.
    written = sorted(_from_profile_resources(profile, folder), key=lambda one: _rank(one[0]))
    for whom, name, value, source in [*written, *_from_overrides_resources(overrides)]:
        if whom not in groups:
            raise Gz2vitError(f"{source}: there is no step '{whom}'{_meant_resources(whom, list(groups))}")
        for step in groups[whom]:
            found[step][name] = _check(name, value, source)
    for step, number in devices.items():
        if found[step].get("gpu"):
            found[step]["gpu"] *= number
    return {
        step: {name: value for name, value in values.items() if value is not None}
        for step, values in found.items()
    }


def _rank(whom: str) -> int:
    """How special a section is: for every step, for those that train, for one."""
    return (EVERY, TRAINING).index(whom) if whom in (EVERY, TRAINING) else 2


def _from_profile_resources(profile: str, folder: Path) -> Iterator[Given]:
    """What a profile says."""
    path = folder / f"{profile}.yaml"
    for whom, values in load_profile(profile, folder).get(RESOURCES, {}).items():
        source = f"{path}, {RESOURCES}.{whom}"
        if not isinstance(values, dict):
            raise Gz2vitError(f"{source} must hold requests, such as gpu: 1")
        for name, value in values.items():
            yield whom, name, value, source


def _from_overrides_resources(overrides: Sequence[str]) -> Iterator[Given]:
    """What `--set` says; a name alone is for every step."""
    for text in overrides:
        path, equals, written = text.partition("=")
        if path.startswith(f"{RESOURCES}."):
            whom, _, name = path.removeprefix(f"{RESOURCES}.").rpartition(".")
            if not equals or not name:
                raise Gz2vitError(
                    f"--set {text}: write {RESOURCES}.[STEP.]NAME=VALUE, such as "
                    f"{RESOURCES}.{TRAINING}.runtime=600"
                )
            yield whom or EVERY, name, _read_resources(name, written), f"--set {text}"


def _read_resources(name: str, written: str) -> Any:
    """A value as typed at the terminal; an account may be called 1234."""
    try:
        value = yaml.safe_load(written)
    except yaml.YAMLError:
        return written
    return written if name in TEXTS and value is not None else value


def _check(name: str, value: Any, source: str) -> int | str | None:
    """A request, checked; `null` takes away what a more general one says."""
    if name not in NUMBERS and name not in TEXTS:
        known = [*NUMBERS, *TEXTS]
        raise Gz2vitError(f"{source}: no step can ask for '{name}'{_meant_resources(name, known)}")
    if value is None:
        return None
    if name in NUMBERS and (type(value) is not int or value < NUMBERS[name]):
        least = NUMBERS[name]
        raise Gz2vitError(
            f"{source}: {name} is {value!r}, but it must be a whole number from {least} on"
        )
    if name in TEXTS and (not isinstance(value, str) or not value):
        raise Gz2vitError(f"{source}: {name} is {value!r}, but it must be a text")
    return value


def _meant_resources(name: str, known: Sequence[str]) -> str:
    """A guess at what was meant, and what there is."""
    close = difflib.get_close_matches(name, known, n=1)
    guess = f"; did you mean '{close[0]}'?" if close else ""
    return f" (there are: {', '.join(known)}){guess}"


# ------------------------------------------------------------------------------------------
# The road on a cluster: Snakemake hands every step to an executor, such as SLURM's.
#
# The command stays where it was given, watches the jobs and passes on what their notebooks say; the
# steps themselves are `gz2vit execute` on the cluster's machines, which see the same folders. The
# messages that are read here are those of Snakemake 9 and of its executor for SLURM 2.

SLURM = "slurm"
JOBS = 16  # at most, waiting or running: more than the paper has models with one seed
THREADS = 2  # processor cores of a step of which no profile says another number
# Until a file that another machine has written must be seen: NFS asks again after 60 s at most.
LATENCY_SECONDS = 60
COMMAND_SECONDS = 60  # for SLURM to answer

SUBMITTED = re.compile(r"submitted with SLURM jobid (\w+) \(log: (.*/rule_(\w+)/\w+\.log)\)")
FINISHED = re.compile(r"^Finished jobid: \d+ \(Rule: (\w+)\)")
RUN_ID = re.compile(r"^SLURM run ID: (\S+)", re.MULTILINE)
FAILED = re.compile(r"^Error in rule (\w+):\s+message: (.+)", re.MULTILINE)
STATUS = re.compile(r"SLURM-job '(\w+)' failed.*?status is: '(\w+)'")
REFUSED = re.compile(r"sbatch failed. The error message was '(?:sbatch: error: )?([^\n]*)")
ADVICE = {
    "TIMEOUT": "its time was up: the same command continues with it, a training after its last "
    "whole epoch; --set resources.{step}.runtime=MINUTES asks for more",
    "OUT_OF_MEMORY": "it needs more memory: --set resources.{step}.mem_mb=MEGABYTES asks for it",
    "CANCELLED": "somebody cancelled it; the same command continues",
}


def check_executor(name: str) -> None:
    """Raise `Gz2vitError`, saying what to do, where jobs cannot be handed to the executor."""
    if name in ("local", "dryrun", "touch"):
        raise Gz2vitError(f"--executor {name}: leave it out, or name a cluster's, such as {SLURM}")
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise Gz2vitError(f"--executor {name}: an executor's name is like {SLURM}")
    if find_spec(f"snakemake_executor_plugin_{name.replace('-', '_')}") is None:
        package = f"snakemake-executor-plugin-{name}"
        raise Gz2vitError(
            f"--executor {name} needs the package {package}: install it with "
            f"`{sys.executable} -m pip install {package}`"
        )
    if name == SLURM and shutil.which("sbatch") is None:
        raise Gz2vitError(
            "--executor slurm: there is no command sbatch here; give the command on a machine "
            "that hands jobs to SLURM, such as the cluster's login node"
        )


def executor_options(name: str, jobs: int, logs: Path) -> list[str]:
    """Snakemake's options for at most `jobs` jobs at a time; SLURM's output goes into `logs`."""
    options = ["--executor", name, "--jobs", str(jobs), "--latency-wait", str(LATENCY_SECONDS)]
    if name == SLURM:
        options += ["--slurm-logdir", str(logs / SLURM), "--slurm-keep-successful-logs"]
        if not _has_accounting():
            # Snakemake would ask sacct, hear of no job, and wait for ever.
            options += ["--slurm-status-command", "squeue"]
    return options


def _has_accounting() -> bool:
    """Whether SLURM keeps accounts here, which tell the state of jobs that have ended."""
    try:
        return _ask("sacct", "--noheader", "--allocations") is not None
    except FileNotFoundError:
        return False


def _ask(*command: str) -> str | None:
    """What a command of SLURM's prints; None where it fails."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        return None
    return answer.stdout if answer.returncode == 0 else None


def cancel_jobs(log: str) -> None:
    """Cancel all jobs of a run, found in Snakemake's messages.

    Snakemake cancels those that it knows of; one that it was just asking about it would forget.
    """
    if run := RUN_ID.search(log):
        _ask("scancel", f"--name={run[1]}")


def leave_task_launcher() -> None:
    """Hide from the notebook that SLURM started it as one task of a job.

    Lightning would take the number of tasks, one, for the number of training processes, and start
    none itself where a model is trained on several GPUs.
    """
    os.environ.pop("SLURM_NTASKS", None)


def failure(log: str) -> str | None:
    """The line for a step that ended without a word of its own; None where Snakemake names none."""
    for step, message in FAILED.findall(log):
        if ended := STATUS.search(message):
            job, status = ended.groups()
            advice = ADVICE.get(status, f"its output is in logs/{SLURM}/rule_{step}/{job}.log")
            return f"step '{step}' ended as SLURM job {job}, {status}: {advice.format(step=step)}"
        if refused := REFUSED.search(message):
            why = refused[1].removesuffix("'.")
            return f"SLURM does not take step '{step}' ({why}): see profiles/README.md"
    return None


class Follower:
    """Passes on at the terminal what the steps say on other machines, from their output files."""

    def __init__(self, log: Path, stream: TextIO) -> None:
        self.log, self.stream = log, stream
        self.read: dict[Path, int] = {log: 0}  # bytes of each file that have been passed on
        self.steps: dict[Path, str] = {}
        # The file server's time, by which older output is another job's with the same number.
        self.begun = log.stat().st_mtime

    def tell(self) -> None:
        """Print what has become new."""
        for line in self._new_lines(self.log):
            if submitted := SUBMITTED.search(line):
                job, path, step = submitted.groups()
                self.steps[Path(path)] = step
                self._say(f"[{step}] is SLURM job {job}, with its output in {path}")
            elif finished := FINISHED.match(line):
                self._finish(finished[1])
        for path in list(self.steps):
            self._pass_on(path)
        self.stream.flush()

    def _pass_on(self, path: Path) -> None:
        """Print a job's new lines, as far as they are its notebook's."""
        for line in self._new_lines(path):
            if line.startswith(f"[{self.steps[path]}] "):
                self._say(line)

    def _finish(self, step: str) -> None:
        """The rest of a step's output; one line at least."""
        for path in [path for path, name in self.steps.items() if name == step]:
            self._pass_on(path)
            del self.steps[path]
            return
        if step != "all":
            self._say(f"[{step}] done")

    def _new_lines(self, path: Path) -> list[str]:
        """The whole lines that a file has got since the last time."""
        if not path.exists() or path.stat().st_mtime < self.begun:
            return []
        with path.open("rb") as file:
            file.seek(self.read.get(path, 0))
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self.read[path] = self.read.get(path, 0) + len(whole)
        return whole.decode(errors="replace").splitlines()

    def _say(self, line: str) -> None:
        self.stream.write(f"{line}\n")


# ------------------------------------------------------------------------------------------
# One step of the road: a notebook run through papermill, with what happens told at the terminal.
#
# The notebook is executed under a temporary name. When it succeeds it gets the name that the
# workflow expects; when it fails it stays as `<name>.failed.ipynb`, and `logs/<step>.error` holds
# the one line that says which cell failed and why.

BAR_SECONDS = 5.0  # between two lines of a progress bar, where the terminal cannot redraw one


class StepWriter:
    """Passes a notebook's output on, each line headed by `[step]`; progress bars are thinned."""

    def __init__(self, step: str, stream: TextIO) -> None:
        self.head, self.stream = f"[{step}] ", stream
        self.pending, self.last_bar = "", 0.0

    def write(self, text: str) -> None:
        """Take some output; print the lines that are complete."""
        self.pending += text
        while "\n" in self.pending or "\r" in self.pending:
            ends = [i for i in (self.pending.find("\n"), self.pending.find("\r")) if i >= 0]
            line, end = self.pending[: min(ends)], self.pending[min(ends)]
            self.pending = self.pending[min(ends) + 1 :]
            if line.strip() and (end == "\n" or self._bar_is_due()):
                self.stream.write(f"{self.head}{line.rstrip()}\n")
        self.stream.flush()

    def _bar_is_due(self) -> bool:
        due = time.monotonic() - self.last_bar >= BAR_SECONDS
        if due:
            self.last_bar = time.monotonic()
        return due

    def flush(self) -> None:
        """papermill asks for it; lines are flushed as they are written."""


def execute_step(
    step: str, notebook: Path, output: Path, parameters: Mapping[str, Any], logs: Path
) -> None:
    """Run `notebook` with `parameters` into `output`, telling the terminal about it.

    Raises `Gz2vitError` with one line that names the step, the cell, the error and the executed
    notebook; the same line is left in `logs/<step>.error`.
    """
    logging.getLogger("papermill").setLevel(logging.ERROR)
    told = f"step '{step}' still runs in {logs.parent} from an earlier call; wait for it, or end it"
    try:
        with sole_user(logs / f"{step}.lock", told):
            (logs / f"{step}.error").unlink(missing_ok=True)
            _execute(step, notebook, output, parameters)
    except Gz2vitError as error:
        write_text(logs / f"{step}.error", f"{error}\n")
        raise


def _execute(step: str, notebook: Path, output: Path, parameters: Mapping[str, Any]) -> None:
    """`execute_step` once the step is ours."""
    running = output.with_name(f".{output.stem}.running.ipynb")
    failed = output.with_name(f"{output.stem}.failed.ipynb")
    running.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    print(f"[{step}] {notebook.parent.name}/{notebook.name} starts", flush=True)
    try:
        _run(step, notebook, running, parameters)
    except Gz2vitError as error:
        if running.exists():
            running.replace(failed)
        raise Gz2vitError(f"step '{step}' failed {error}; see {failed}") from error
    failed.unlink(missing_ok=True)
    running.replace(output)
    print(f"[{step}] done in {time.perf_counter() - start:.0f} s", flush=True)


def _run(step: str, notebook: Path, running: Path, parameters: Mapping[str, Any]) -> None:
    """papermill's run, its errors turned into one line."""
    with without_addresses():
        import papermill
        from nbclient.exceptions import DeadKernelError
        from papermill.exceptions import PapermillExecutionError

    try:
        papermill.execute_notebook(
            notebook,
            running,
            parameters=dict(parameters),
            progress_bar=False,
            stdout_file=StepWriter(step, sys.stdout),
            stderr_file=StepWriter(step, sys.stdout),
            cwd=notebook.parent,
        )
    except PapermillExecutionError as error:
        raise Gz2vitError(f"in {_cell(running, error)}: {_reason(error)}") from error
    except DeadKernelError as error:
        raise Gz2vitError(
            "because its kernel died, most often for want of memory: try fewer --jobs or a "
            "smaller BATCH_SIZE"
        ) from error
    except OSError as error:
        raise Gz2vitError(f"because {error}") from error


def _reason(error: "PapermillExecutionError") -> str:
    """The notebook's own error as one line; ours are sentences already, others keep their name."""
    text = " ".join(str(error.evalue).split())
    return text if error.ename == Gz2vitError.__name__ else f"{error.ename}: {text}"


def _cell(running: Path, error: "PapermillExecutionError") -> str:
    """The failed cell in words: its execution number and the heading that it stands under."""
    heading = ""
    for cell in read_notebook(running).cells:
        if cell.cell_type == "markdown":
            titles = [line for line in cell.source.splitlines() if line.startswith("## ")]
            heading = titles[-1][3:] if titles else heading
        if cell.cell_type == "code" and cell.execution_count == error.exec_count:
            break
    return f"cell [{error.exec_count}]" + (f" under '{heading}'" if heading else "")


# ------------------------------------------------------------------------------------------
# The whole road: checks, then Snakemake over the notebooks, then one line that says how it went.
#
# `Snakefile` is the only list of steps. This module hands it the profile, the data and the
# overrides, keeps Snakemake's own messages in `logs/snakemake.log`, and lets the steps speak. They
# run on this machine, or with an executor on those of a cluster (gz2vit/workflow.py).

REAL_PROFILE = "paper"  # without --data it is run on the real Galaxy Zoo 2, fetched at first use
INTERRUPT_SECONDS = 60  # for a step to end, after Ctrl-C
FOLLOW_SECONDS = 1.0  # between two looks at what the steps on a cluster say


@dataclass(frozen=True)
class Road:
    """One call of `run_all.sh`: profile, data folder, results folder, options.

    Without a data folder galaxies are simulated, or, at `paper`, the real ones fetched.
    """

    profile: str
    data_dir: Path | None
    results_dir: Path
    only: tuple[str, ...]
    jobs: int
    overrides: tuple[str, ...]
    executor: str | None = None  # Snakemake's name for a cluster, such as slurm
    options: tuple[str, ...] = ()  # for Snakemake, as they are

    @property
    def threads(self) -> int:
        """Processor cores for a step: its share of this machine's; on a cluster the least."""
        return THREADS if self.executor else max(1, (os.cpu_count() or 1) // self.jobs)

    @property
    def logs(self) -> Path:
        """Where Snakemake's messages and the failures go."""
        return self.results_dir / "logs"


def run_road(road: Road) -> None:
    """Run every step that is stale; raises `Gz2vitError` with the one line that matters."""
    load_profile(road.profile)
    if road.jobs < 1:
        raise Gz2vitError(f"--jobs {road.jobs}: give a whole number from 1 on")
    if road.executor:
        check_executor(road.executor)
    start = time.perf_counter()
    told = f"another run is working in {road.results_dir}; wait for it"
    with sole_user(road.results_dir / ".lock", told) as lock:
        for old in road.logs.glob("*.error"):
            old.unlink()
        if road.data_dir is None and road.profile == REAL_PROFILE:
            road = replace(road, data_dir=GALAXY_ZOO_DIR)
            _run_snakemake(road, None, lock, "--list-rules")  # a slip is told before 3.4 GB come
            fetch_galaxy_zoo(GALAXY_ZOO_DIR)
        signature = _check_data(road)
        _run_snakemake(road, signature, lock)
        _report(road, time.perf_counter() - start)


def _check_data(road: Road) -> str | None:
    """Check the data folder, where there is one; its signature."""
    if road.data_dir is None:
        return None
    folder = read_data_folder(road.data_dir)
    return check_folder(folder, road.results_dir, _leaves_out_broken(road))


def _leaves_out_broken(road: Road) -> bool:
    """Whether the step `select` will be told to leave out galaxies without a readable image."""
    name = "LEAVE_OUT_BROKEN"
    asked = load_profile(road.profile).get("select", {}).get(name, False)
    for text in road.overrides:
        path, _, written = text.partition("=")
        if path in (name, f"select.{name}"):
            asked = yaml.safe_load(written)
    return asked is True  # anything but true or false is refused with the other parameters


def _config(road: Road, signature: str | None) -> dict[str, Any]:
    """What the Snakefile needs to know, as its configuration file."""
    return {
        "profile": road.profile,
        "data": str(road.data_dir) if road.data_dir else None,
        "signature": signature,
        "results": str(road.results_dir),
        "only": list(road.only),
        "overrides": list(road.overrides),
        "threads": road.threads,
        "executor": road.executor,
    }


def _run_snakemake(road: Road, signature: str | None, lock: int, *options: str) -> None:
    """Run Snakemake; `Gz2vitError` with the one line that matters where it fails."""
    write_json(road.results_dir / ROAD_RECORD, _config(road, signature))
    if _snakemake(road, lock, options):
        raise Gz2vitError(_failure(road))


def snakemake_command(road: Road) -> list[str]:
    """Snakemake's command line, all but what the user adds."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    record = road.results_dir / ROAD_RECORD
    command += ["--directory", str(road.results_dir), "--configfile", str(record)]
    if road.executor:
        command += executor_options(road.executor, road.jobs, road.logs)
    else:
        command += ["--cores", str(road.jobs * road.threads)]
    # Our own lock dies with its holders; Snakemake's would survive a kill and block the next run.
    return [*command, "--rerun-incomplete", "--nocolor", "--nolock"]


def _snakemake(road: Road, lock: int, options: Sequence[str]) -> int:
    """Run Snakemake in the results folder; its exit code. With options it only tells, unheard.

    It inherits `lock`, so that it keeps the folder even where this process is killed first.
    """
    command = [*snakemake_command(road), *options, *road.options]
    told = subprocess.DEVNULL if options else None
    path = road.logs / "snakemake.log"
    with path.open("w") as log:
        process = subprocess.Popen(command, stdout=told, stderr=log, pass_fds=[lock])
        try:
            return _follow(process, path) if road.executor else process.wait()
        except KeyboardInterrupt:
            _stop(process, road)
            raise


def _follow(process: subprocess.Popen, log: Path) -> int:
    """Tell what the steps on a cluster say until Snakemake ends; its exit code."""
    follower = Follower(log, sys.stdout)
    while True:
        try:
            code = process.wait(FOLLOW_SECONDS)
        except subprocess.TimeoutExpired:
            follower.tell()
        else:
            follower.tell()
            return code


def _stop(process: subprocess.Popen, road: Road) -> None:
    """After Ctrl-C, of which the terminal told Snakemake and the step as well: see them end."""
    if not road.executor:
        process.wait(INTERRUPT_SECONDS)
        return
    cancel_jobs((road.logs / "snakemake.log").read_text(encoding="utf-8", errors="replace"))
    try:
        process.wait(INTERRUPT_SECONDS)
    except subprocess.TimeoutExpired:
        # It sleeps between two looks at the jobs, up to 3 minutes, and has nothing left to do.
        process.kill()
        process.wait()


def _failure(road: Road) -> str:
    """The line that says why the road ended early."""
    told = sorted(road.logs.glob("*.error"), key=lambda path: path.stat().st_mtime)
    if told:
        return told[0].read_text(encoding="utf-8").strip()
    log = (road.logs / "snakemake.log").read_text(encoding="utf-8", errors="replace")
    if road.executor and (line := failure(log)):
        return line
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return f"Snakemake stopped: {lines[-1] if lines else 'no message'} (see {road.logs})"


def _report(road: Road, seconds: float) -> None:
    """Say what was done and where it is."""
    # A file's time, because a file server's clock may differ from ours.
    begun = (road.results_dir / ROAD_RECORD).stat().st_mtime
    books = sorted((road.results_dir / "notebooks").glob("[!.]*.ipynb"))
    fresh = [book for book in books if book.stat().st_mtime >= begun]
    if not fresh:
        print(f"nothing to do: {road.results_dir} is up to date ({len(books)} steps)", flush=True)
        return
    print(f"{len(fresh)} steps run in {seconds / 60:.1f} min, into {road.results_dir}:")
    for name, what in (("notebooks", "ipynb"), ("figures", "png"), ("tables", "md")):
        files = [path.name for path in sorted((road.results_dir / name).glob(f"[!.]*.{what}"))]
        if files:
            print(f"  {name}/: {', '.join(files)}")
    if (road.results_dir / "report.html").exists():
        print("  report.html: all of it on one page, for any browser")


def make_road(
    profile: str,
    data: str | None,
    results: str | None,
    only: Sequence[str],
    jobs: int | None,
    overrides: Sequence[str],
    executor: str | None = None,
    options: Sequence[str] = (),
) -> Road:
    """A `Road` from the command line's words; `options`: those after `--`, for Snakemake."""
    data_dir = Path(data).resolve() if data else None
    folder = Path(results).resolve() if results else ROOT / "results" / profile
    anchored = tuple(anchor_override(text) for text in overrides)
    if jobs is None:
        jobs = JOBS if executor else 1
    words = (tuple(only), jobs, anchored, executor, tuple(options))
    return Road(profile, data_dir, folder, *words)
