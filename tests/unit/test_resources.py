"""What steps ask of a cluster: which of several words counts, and how a slip is told."""

from pathlib import Path

import pytest

from gz2vit.io import Gz2vitError
from gz2vit.workflow import step_resources

PROFILE = """\
resources:
  vit: {runtime: 60}
  training: {gpu: 1, runtime: 1440, slurm_partition: gpu}
  default: {threads: 4, runtime: 240}
"""
STEPS = ["pack", "vit", "resnet50", "vit_seed1"]
MODELS = {"vit": "vit", "resnet50": "resnet50", "vit_seed1": "vit"}


def ask(folder: Path, *overrides: str, text: str = PROFILE, **devices: int) -> dict:
    (folder / "paper.yaml").write_text(text)
    return step_resources("paper", overrides, STEPS, MODELS, devices, folder)


def test_the_most_special_section_counts_in_any_order(tmp_path: Path):
    asked = ask(tmp_path)
    assert asked["pack"] == {"threads": 4, "runtime": 240}
    assert asked["resnet50"] == {
        "threads": 4,
        "runtime": 1440,
        "gpu": 1,
        "slurm_partition": "gpu",
    }
    assert asked["vit"] == {**asked["resnet50"], "runtime": 60}


def test_a_further_seed_asks_for_what_its_model_does(tmp_path: Path):
    asked = ask(tmp_path, "resources.vit.mem_mb=100")
    assert asked["vit_seed1"] == asked["vit"]
    assert asked["vit_seed1"]["mem_mb"] == 100
    assert ask(tmp_path, "resources.vit_seed1.runtime=5")["vit"]["runtime"] == 60


def test_set_comes_last_and_a_name_alone_is_for_every_step(tmp_path: Path):
    asked = ask(tmp_path, "resources.runtime=30", "resources.training.gpu=2", "MAX_EPOCH=3")
    assert [asked[step]["runtime"] for step in STEPS] == [30] * 4
    assert [asked[step].get("gpu") for step in STEPS] == [None, 2, 2, 2]


def test_null_takes_away_and_an_account_may_be_a_number(tmp_path: Path):
    asked = ask(tmp_path, "resources.training.gpu=null", "resources.slurm_account=1234")
    assert "gpu" not in asked["vit"]
    assert asked["pack"]["slurm_account"] == "1234"


def test_several_devices_are_as_many_gpus(tmp_path: Path):
    asked = ask(tmp_path, vit=4, resnet50=1)
    assert (asked["vit"]["gpu"], asked["resnet50"]["gpu"]) == (4, 1)
    assert "gpu" not in ask(tmp_path, text="vit: {}", vit=4)["vit"]


def test_a_profile_without_the_section_asks_for_nothing(tmp_path: Path):
    assert ask(tmp_path, text="vit: {MAX_EPOCH: 3}") == {step: {} for step in STEPS}


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("resources.vitt.gpu=1", "there is no step 'vitt'.*did you mean 'vit'"),
        ("resources.vit.gpus=1", "can ask for 'gpus'.*did you mean 'gpu'"),
        ("resources.vit.gpu=-1", "gpu is -1, but it must be a whole number from 0 on"),
        ("resources.vit.gpu=true", "gpu is True, but"),
        ("resources.vit.runtime=2h", "runtime is '2h', but it must be a whole number from 1"),
        ("resources.mem_mb=1.5", "mem_mb is 1.5"),
        ("resources.qos=", None),
        ("resources.runtime", "write resources"),
        ("resources.=3", "write resources"),
    ],
)
def test_a_slip_at_the_terminal_is_named(tmp_path: Path, override: str, told: str | None):
    if told is None:
        assert "qos" not in ask(tmp_path, override)["vit"]
        return
    with pytest.raises(Gz2vitError, match=f"^--set {override.partition('=')[0]}.*{told}"):
        ask(tmp_path, override)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("resources: {gpu: 1}", r"paper.yaml, resources.gpu must hold requests"),
        ("resources: {nobody: {gpu: 1}}", "paper.yaml, resources.nobody: there is no step"),
        ("resources: {vit: {qos: 3}}", "qos is 3, but it must be a text"),
    ],
)
def test_a_slip_in_a_profile_names_the_file(tmp_path: Path, text: str, told: str):
    with pytest.raises(Gz2vitError, match=told):
        ask(tmp_path, text=text)


def test_the_profile_paper_gives_gpus_to_trainings_and_to_what_looks_inside():
    steps = [*STEPS, "attention", "features", "transfer"]
    asked = step_resources("paper", [], steps, MODELS, {"vit": 2})
    assert {step: values.get("gpu") for step, values in asked.items()} == {
        "pack": None,
        "vit": 2,
        "resnet50": 1,
        "vit_seed1": 1,
        "attention": 1,
        "features": 1,
        "transfer": 1,
    }
    for values in asked.values():
        assert {"threads", "mem_mb", "runtime"} <= set(values)
