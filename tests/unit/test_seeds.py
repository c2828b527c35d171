"""Several seeds: which ones are taken, and what their steps and folders are called."""

from pathlib import Path

import pytest

from gz2vit.io import Gz2vitError
from gz2vit.workflow import further_steps, named_seeds, run_folder, run_folders

MODELS = ["linformer", "resnet50", "convnext"]


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    """A folder with the profile `demo`, in which the Linformer has three seeds."""
    (tmp_path / "demo.yaml").write_text("linformer: {SEEDS: [0, 1, 2], MAX_EPOCH: 3}\n")
    return tmp_path


def seeds_of(folder: Path, *overrides: str, backbones: tuple = ()) -> dict[str, list[int]]:
    return named_seeds("demo", overrides, MODELS, backbones, folder)


def test_a_profile_then_set_the_last_one_counts(profile: Path):
    assert seeds_of(profile) == {"linformer": [0, 1, 2]}
    assert seeds_of(profile, "linformer.SEEDS=[7]") == {"linformer": [7]}
    everywhere = seeds_of(profile, "linformer.SEEDS=[7]", "SEEDS=[3,4]", "resnet50.SEEDS=[5]")
    assert everywhere == {"linformer": [3, 4], "resnet50": [5], "convnext": [3, 4]}
    assert seeds_of(profile, "MAX_EPOCH=3", "backbones.mine=timm/resnet18") == seeds_of(profile)


def test_further_networks_have_their_sections(profile: Path):
    text = "backbones: {convnext: timm/a}\nbackbone: {SEEDS: [1, 2]}\n"
    (profile / "demo.yaml").write_text(text)
    assert seeds_of(profile, backbones=("convnext",)) == {"convnext": [1, 2]}
    (profile / "demo.yaml").write_text(f"{text}convnext: {{SEEDS: [5, 6]}}\n")
    assert seeds_of(profile, backbones=("convnext",)) == {"convnext": [5, 6]}


@pytest.mark.parametrize(
    "written",
    ["[]", "", "3", "0,1", "[0, 0]", "[0, -1]", "[0, 1.0]", "[true]", "[one]", "[[1]]", "[1", "{}"],
)
def test_what_is_no_list_of_seeds_is_told(profile: Path, written: str):
    with pytest.raises(Gz2vitError, match="list of distinct whole numbers from 0 on") as caught:
        seeds_of(profile, f"linformer.SEEDS={written}")
    assert str(caught.value).startswith(f"--set linformer.SEEDS={written}: SEEDS must be")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("written", ["[]", "3", "[0, 0]", "null", '"0, 1"'])
def test_a_slip_in_a_profile_names_the_file(profile: Path, written: str):
    (profile / "demo.yaml").write_text(f"linformer: {{SEEDS: {written}}}\n")
    with pytest.raises(Gz2vitError, match="demo.yaml, linformer.SEEDS = .*: SEEDS must be a list"):
        seeds_of(profile)


def test_only_models_have_seeds(profile: Path):
    told = "SEEDS is for the steps that train a model: linformer, resnet50, convnext"
    for step in ("pack", "linformr", "table", "backbone"):
        with pytest.raises(Gz2vitError, match=f"--set {step}.SEEDS=.0,1.: {told}"):
            seeds_of(profile, f"{step}.SEEDS=[0,1]")
    (profile / "demo.yaml").write_text("simulate: {SEEDS: [0, 1]}\n")
    with pytest.raises(Gz2vitError, match=f"demo.yaml, simulate.SEEDS = .0, 1.: {told}"):
        seeds_of(profile)


@pytest.mark.parametrize("one", ["SEED=3", "linformer.SEED=3"])
def test_seed_and_seeds_of_one_step_do_not_go_together(profile: Path, one: str):
    with pytest.raises(Gz2vitError, match=f"--set {one} and .*demo.yaml, linformer.SEEDS = "):
        seeds_of(profile, one)
    with pytest.raises(Gz2vitError, match=f"--set {one} and --set SEEDS=.* both give the seed of"):
        seeds_of(profile, one, "SEEDS=[0,1]")
    (profile / "demo.yaml").write_text("linformer: {SEED: 3}\n")
    with pytest.raises(Gz2vitError, match="linformer.SEED = 3 and --set SEEDS=.0,1. both give"):
        seeds_of(profile, "SEEDS=[0,1]")


def test_the_seed_of_another_step_may_stand_beside_seeds(profile: Path):
    given = ("simulate.SEED=1", "resnet50.SEED=2")
    assert seeds_of(profile, *given) == {"linformer": [0, 1, 2]}


def test_every_seed_but_the_first_is_a_step_and_a_folder():
    assert further_steps({"linformer": [4, 0, 12], "resnet50": [3]}) == {
        "linformer_seed0": ("linformer", 0),
        "linformer_seed12": ("linformer", 12),
    }
    assert run_folder(12) == "seeds/12"
    assert run_folders([4, 0, 12]) == ["", "seeds/0", "seeds/12"]
    assert run_folders([3]) == run_folders([]) == [""]


def test_a_step_name_that_is_taken_is_told():
    taken = ["linformer", "linformer_seed1"]
    with pytest.raises(Gz2vitError, match="the seeds of 'linformer' need .* 'linformer_seed1'"):
        further_steps({"linformer": [0, 1]}, taken)
