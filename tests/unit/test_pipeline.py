"""gz2vit.pipeline: how a command becomes Snakemake's, and what is made of Snakemake's end.

The road itself is walked in tests/test_road.py and tests/test_cluster.py.
"""

import os
from pathlib import Path

import pytest

from gz2vit import cli as __main__
from gz2vit import workflow as pipeline
from gz2vit.io import Gz2vitError


def make(tmp_path: Path, **changes: object) -> pipeline.Road:
    words = {"profile": "smoke", "data": None, "results": str(tmp_path / "out"), "only": []}
    return pipeline.make_road(**{**words, "jobs": None, "overrides": [], **changes})


def value_of(command: list[str], option: str) -> str | None:
    return command[command.index(option) + 1] if option in command else None


def test_here_steps_share_the_cores_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    road = make(tmp_path)
    assert (road.jobs, road.threads) == (1, 8)
    road = make(tmp_path, jobs=3)
    assert (road.jobs, road.threads) == (3, 2)
    command = pipeline.snakemake_command(road)
    assert value_of(command, "--cores") == "6"
    assert not {"--executor", "--jobs"} & set(command)


def test_on_a_cluster_jobs_are_counted_and_cores_are_the_rules_affair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    road = make(tmp_path, executor="slurm")
    command = pipeline.snakemake_command(road)
    assert value_of(command, "--executor") == "slurm"
    assert value_of(command, "--jobs") == "16"
    assert "--cores" not in command
    assert road.threads == 2
    assert value_of(pipeline.snakemake_command(make(tmp_path, executor="slurm", jobs=5)),
                    "--jobs") == "5"  # fmt: skip


def test_all_after_the_dashes_goes_to_snakemake_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    roads = []
    monkeypatch.setattr(pipeline, "run_road", roads.append)
    words = ["run", "smoke", "--only", "vit", "--executor", "slurm", "--jobs", "2"]
    assert __main__.main([*words, "--", "--default-resources", "slurm_account=me", "--", "-n"]) == 0
    assert __main__.main(["run", "smoke", "--only", "vit"]) == 0
    assert roads[0].options == ("--default-resources", "slurm_account=me", "--", "-n")
    assert (roads[0].only, roads[0].executor, roads[0].jobs) == (("vit",), "slurm", 2)
    assert (roads[1].options, roads[1].executor, roads[1].jobs) == ((), None, 1)


def end_with(road: pipeline.Road, log: str) -> str:
    """The line for a road of which Snakemake left this log."""
    road.logs.mkdir(parents=True, exist_ok=True)
    (road.logs / "snakemake.log").write_text(log)
    return pipeline._failure(road)


TIMEOUT = """\
Error in rule vit:
    message: SLURM-job '7' failed, SLURM status is: 'TIMEOUT'. Detailed failure reason unavailable
    jobid: 0
Exiting because a job execution failed.
"""


def test_a_job_that_slurm_ends_is_named_with_what_to_do(tmp_path: Path):
    road = make(tmp_path, executor="slurm")
    assert end_with(road, TIMEOUT) == (
        "step 'vit' ended as SLURM job 7, TIMEOUT: its time was up: the same command continues "
        "with it, a training after its last whole epoch; --set resources.vit.runtime=MINUTES asks "
        "for more"
    )
    other = end_with(road, TIMEOUT.replace("TIMEOUT", "BOOT_FAIL"))
    assert other.endswith("BOOT_FAIL: its output is in logs/slurm/rule_vit/7.log")


def test_the_steps_own_word_comes_first(tmp_path: Path):
    road = make(tmp_path, executor="slurm")
    road.logs.mkdir(parents=True)
    (road.logs / "vit.error").write_text("step 'vit' failed in cell [4]\n")
    assert end_with(road, TIMEOUT) == "step 'vit' failed in cell [4]"


def test_without_a_cluster_the_last_line_of_snakemake_counts(tmp_path: Path):
    assert end_with(make(tmp_path), TIMEOUT).startswith("Snakemake stopped: Exiting because a job")


def test_a_missing_executor_is_told_before_anything_is_done(tmp_path: Path):
    road = make(tmp_path, executor="no-such")
    with pytest.raises(Gz2vitError, match="needs the package snakemake-executor-plugin-no-such"):
        pipeline.run_road(road)
    assert not road.results_dir.exists()
