"""Several seeds for one model: which ones, and what their steps and folders are called.

`SEEDS: [0, 1, 2]` in a model's section of a profile, or `--set [STEP.]SEEDS=[0,1,2]`, trains a
model once for each seed. The first seed is the step itself, with its files in the model's own
folder; every further one is a step of its own (`linformer_seed1`), with its files in `seeds/1/`
inside that folder.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from gz2vit.errors import Gz2vitError
from gz2vit.profiles import PROFILES_DIR, SEEDS, load_sections

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
