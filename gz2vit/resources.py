"""What each step asks of a cluster: processor cores, GPUs, memory, time.

A profile's section `resources` says it for every step (`default`), for those that train a model
(`training`) and for single steps, of which the most special counts. Last comes `--set
resources.[STEP.]NAME=VALUE`, where STEP may be such a group as well. Where the steps run on this
machine, nothing of it counts.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from gz2vit.errors import Gz2vitError
from gz2vit.profiles import PROFILES_DIR, RESOURCES, load_profile

# Names as Snakemake's executor for SLURM has them: numbers from the least that makes sense, texts.
NUMBERS = {"threads": 1, "gpu": 0, "mem_mb": 1, "runtime": 1}  # [cores], -, [MB], [min]
TEXTS = ("gpu_model", "slurm_partition", "slurm_account", "constraint", "qos")
EVERY, TRAINING = "default", "training"

Request = dict[str, int | str]
Given = tuple[str, str, Any, str]  # whom it is for, name, value, source


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
    written = sorted(_from_profile(profile, folder), key=lambda one: _rank(one[0]))
    for whom, name, value, source in [*written, *_from_overrides(overrides)]:
        if whom not in groups:
            raise Gz2vitError(f"{source}: there is no step '{whom}'{_meant(whom, list(groups))}")
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


def _from_profile(profile: str, folder: Path) -> Iterator[Given]:
    """What a profile says."""
    path = folder / f"{profile}.yaml"
    for whom, values in load_profile(profile, folder).get(RESOURCES, {}).items():
        source = f"{path}, {RESOURCES}.{whom}"
        if not isinstance(values, dict):
            raise Gz2vitError(f"{source} must hold requests, such as gpu: 1")
        for name, value in values.items():
            yield whom, name, value, source


def _from_overrides(overrides: Sequence[str]) -> Iterator[Given]:
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
            yield whom or EVERY, name, _read(name, written), f"--set {text}"


def _read(name: str, written: str) -> Any:
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
        raise Gz2vitError(f"{source}: no step can ask for '{name}'{_meant(name, known)}")
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


def _meant(name: str, known: Sequence[str]) -> str:
    """A guess at what was meant, and what there is."""
    close = difflib.get_close_matches(name, known, n=1)
    guess = f"; did you mean '{close[0]}'?" if close else ""
    return f" (there are: {', '.join(known)}){guess}"
