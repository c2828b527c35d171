"""Profiles and parameters: what each notebook is run with, and where the value is from.

A notebook's parameter cell (tagged `parameters`) holds the smoke values; a profile
(`profiles/<name>.yaml`) lists, step by step, only what differs from them; `--set` comes last.
A name that a notebook does not have, or a value of another type, is an error that names the file
and the key.
"""

import ast
import contextlib
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gz2vit.errors import Gz2vitError
from gz2vit.notebook_files import read_notebook
from gz2vit.results import ROOT

PROFILES_DIR = ROOT / "profiles"
# What the road itself decides for every notebook; profiles and --set may not.
RESERVED = (
    *("RESULTS_DIR", "DATA_DIR", "PROFILE", "MODEL_KEY", "MODEL_KEYS", "BACKBONE"),
    *("RUN", "SEEDS"),
)
# The section of a profile that names further networks (row of the table: network), and the one
# with the parameters that all of them share.
BACKBONES, SHARED = "backbones", "backbone"
# The section of what steps ask of a cluster (gz2vit/resources.py).
RESOURCES = "resources"
# Stands among a model's parameters, but is none: it makes steps (gz2vit/seeds.py).
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
