"""gz2vit.cluster without a cluster: options, errors, and what is read of Snakemake's messages.

tests/test_cluster.py sees it at work.
"""

import io
import os
from pathlib import Path

import pytest

from gz2vit import workflow as cluster
from gz2vit.io import Gz2vitError


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for programs that stand in for SLURM's; none other is found."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_a_missing_executor_says_what_to_install():
    told = "needs the package snakemake-executor-plugin-no-such: install it with `.*/python"
    with pytest.raises(Gz2vitError, match=told):
        cluster.check_executor("no-such")


@pytest.mark.parametrize(
    ("name", "told"),
    [("local", "leave it out"), ("dryrun", "leave it out"), ("a.b", "is like slurm")],
)
def test_what_is_no_cluster_is_refused(name: str, told: str):
    with pytest.raises(Gz2vitError, match=f"--executor {name}.*{told}"):
        cluster.check_executor(name)


def test_a_machine_without_slurm_is_named(bin_folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: name)
    with pytest.raises(Gz2vitError, match="no command sbatch here"):
        cluster.check_executor("slurm")
    program(bin_folder, "sbatch", "true")
    cluster.check_executor("slurm")


@pytest.mark.parametrize(
    ("sacct", "asks_squeue"), [("exit 0", False), ("exit 1", True), (None, True)]
)
def test_slurm_without_accounts_is_asked_by_squeue(
    bin_folder: Path, sacct: str | None, asks_squeue: bool
):
    if sacct:
        program(bin_folder, "sacct", sacct)
    options = cluster.executor_options("slurm", 3, Path("/results/logs"))
    assert options[:4] == ["--executor", "slurm", "--jobs", "3"]
    assert options[options.index("--slurm-logdir") + 1] == "/results/logs/slurm"
    assert ("squeue" in options) is asks_squeue


def test_another_executor_gets_no_options_of_slurm():
    options = cluster.executor_options("lsf", 3, Path("logs"))
    assert not [word for word in options if "slurm" in word]


def test_jobs_are_cancelled_by_the_name_of_the_run(bin_folder: Path, tmp_path: Path):
    program(bin_folder, "scancel", f'echo "$@" >> {tmp_path}/told')
    cluster.cancel_jobs("Building DAG of jobs...\n")
    assert not (tmp_path / "told").exists()
    cluster.cancel_jobs("Building DAG of jobs...\nSLURM run ID: ab-12\nmore\n")
    assert (tmp_path / "told").read_text() == "--name=ab-12\n"


def test_one_task_of_a_job_does_not_count_as_one_process(monkeypatch: pytest.MonkeyPatch):
    """Lightning asks for SLURM's tasks before it starts processes of its own."""
    from lightning.fabric.plugins.environments import SLURMEnvironment

    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.setenv("SLURM_JOB_NAME", "a-run")
    assert SLURMEnvironment.detect()
    cluster.leave_task_launcher()
    assert "SLURM_NTASKS" not in os.environ
    assert not SLURMEnvironment.detect()


STEP_LOG = "[vit] notebooks/04_train_vit.ipynb starts\nJob stats:\n[vit] epoch   1/2  train"


def test_the_follower_passes_on_what_notebooks_say_as_it_comes(tmp_path: Path):
    log, told = tmp_path / "snakemake.log", io.StringIO()
    output = tmp_path / "logs" / "slurm" / "rule_vit" / "7.log"
    output.parent.mkdir(parents=True)
    log.write_text(
        "SLURM run ID: ab\n"
        f"Job 3 has been submitted with SLURM jobid 7 (log: {output}).\nFinished jobid: 2 (Ru"
    )
    follower = cluster.Follower(log, told)
    follower.tell()
    first = f"[vit] is SLURM job 7, with its output in {output}\n"
    assert told.getvalue() == first
    output.write_text(STEP_LOG)
    follower.tell()
    starts = "[vit] notebooks/04_train_vit.ipynb starts\n"
    assert told.getvalue() == first + starts
    output.write_text(f"{STEP_LOG} loss\n[vit] done in 9 s\n")
    with log.open("a") as stream:
        stream.write("le: pack)\nFinished jobid: 3 (Rule: vit)\nFinished jobid: 0 (Rule: all)\n")
    follower.tell()
    follower.tell()
    rest = "[pack] done\n[vit] epoch   1/2  train loss\n[vit] done in 9 s\n"
    assert told.getvalue() == first + starts + rest


def test_output_from_before_is_another_jobs_with_the_same_number(tmp_path: Path):
    log, told = tmp_path / "snakemake.log", io.StringIO()
    output = tmp_path / "rule_vit" / "7.log"
    output.parent.mkdir()
    output.write_text("[vit] of last year\n")
    os.utime(output, (1.7e9, 1.7e9))
    log.write_text(f"Job 3 has been submitted with SLURM jobid 7 (log: {output}).\n")
    follower = cluster.Follower(log, told)
    follower.tell()
    output.write_text("[vit] of now\n")
    follower.tell()
    assert told.getvalue().splitlines()[1:] == ["[vit] of now"]
