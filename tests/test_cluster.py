"""Steps as jobs of a real SLURM: one node on this machine, made by tests/slurm/single_node.sh."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.folders import make_folder

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "tests" / "slurm" / "single_node.sh"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
# Where SLURM looks for its settings: a SLURM that is there already stays untouched.
SETTINGS = (Path("/etc/slurm/slurm.conf"), Path("/run/slurm/conf/slurm.conf"))
EXECUTOR = "snakemake_executor_plugin_slurm"
PATIENCE_SECONDS = 600  # for what takes 20 s on an idle machine
# One row of `squeue` for each job: its step, state, GPUs, memory, time and processor cores.
COLUMNS = "comment:40,state:12,tres-per-job:20,minmemory:12,timelimit:12,numcpus:6"
# What the jobs ask for, instead of what profiles/slurm asks for.
ASKED = (
    *("--default-resources", "mem_mb=1000", "runtime=30"),
    *("--set-resources", "vit:gpu=1", "vit:runtime=20", "resnet50:gpu=1"),
    *("--set-threads", "vit=2", "resnet50=2", "--slurm-init-seconds-before-status-checks", "1"),
)


@pytest.fixture(scope="module")
def slurm() -> Iterator[None]:
    """A SLURM with 4 cores and 2 GPUs, as long as the tests of this file last."""
    packages = "slurmctld slurmd munge slurm-client"
    reasons = {
        "SLURM's programs must be started by root": os.geteuid() != 0,
        f"not installed: apt-get install -y {packages}": not all(map(shutil.which, PROGRAMS)),
        "there is a SLURM on this machine already": any(path.exists() for path in SETTINGS),
        "no package snakemake-executor-plugin-slurm": not find_spec(EXECUTOR),
    }
    for reason in (reason for reason, holds in reasons.items() if holds):
        pytest.skip(reason)
    # Not pytest's folder, which nobody else may enter: munge asks for one that is open to all.
    folder = Path(tempfile.gettempdir()) / f"gz2vit-slurm-{os.getpid()}"
    subprocess.run([SCRIPT, "start", folder], check=True)
    yield
    subprocess.run([SCRIPT, "stop", folder], check=True)
    assert not folder.exists()


class Call:
    """`./run_all.sh smoke --executor slurm ...`, at work in a session of its own."""

    def __init__(self, results: Path, *words: object) -> None:
        self.output = results.with_suffix(".txt")
        command = [ROOT / "run_all.sh", "smoke", "--executor", "slurm", "--results", results]
        with self.output.open("w") as stream:
            self.process = subprocess.Popen(
                [*map(str, (*command, *words, "--", *ASKED))],
                stdout=stream, stderr=stream, start_new_session=True,
            )  # fmt: skip

    def said(self) -> str:
        """All that stands at the terminal by now."""
        return self.output.read_text()

    def epochs(self) -> list[int]:
        """The epochs of the ViT that have ended."""
        return [*map(int, re.findall(r"\[vit\] epoch +(\d+)/", self.said()))]

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Wait until something holds, while the command runs."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < end, self.said()
            time.sleep(0.2)

    def end(self) -> tuple[int, list[str]]:
        """The exit code and the lines of errors; no job is left."""
        code = self.process.wait(PATIENCE_SECONDS)
        assert not [step for step, (state, *_) in jobs().items() if state != "COMPLETING"]
        return code, [line for line in self.said().splitlines() if line.startswith("error")]


@pytest.fixture
def start() -> Iterator[Callable[..., Call]]:
    """Makes a `Call`; none outlives its test."""
    calls: list[Call] = []
    yield lambda *words: calls.append(Call(*words)) or calls[-1]
    for call in calls:
        if call.process.poll() is None:
            os.killpg(call.process.pid, signal.SIGKILL)


def jobs() -> dict[str, list[str]]:
    """SLURM's jobs that wait or run, by their step."""
    command = ["squeue", "--noheader", f"--Format={COLUMNS}"]
    rows = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return {step.removeprefix("rule_"): asked for step, *asked in map(str.split, rows)}


@pytest.fixture(scope="module")
def words(slurm: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """Results folder, data and options, after the steps before the models have run as jobs."""
    folder = tmp_path_factory.mktemp("cluster")
    words = (folder / "out", "--data", make_folder(folder / "data"))
    call = Call(*words, "--only", "pack")
    assert call.end() == (0, []), call.said()
    for step in ("select", "pack"):
        assert list((folder / "out").rglob(f"slurm_logs/rule_{step}/*.log"))
        assert call.said().count(f" of 2] {step} done in ") == 1
    # Models that go on until they are stopped.
    words += ("--set", "MAX_EPOCH=100000", "EARLY_STOPPING_EPOCHS=100000")
    return (*words, "--only", "vit", "resnet50")


def test_models_run_side_by_side_until_control_c(words: tuple[object, ...], start: Callable):
    """SLURM knows what each model asks for, and forgets both when the command is interrupted."""
    call = start(*words)
    both = {
        "vit": ["RUNNING", "gres:gpu:1", "1000M", "20:00", "2"],
        "resnet50": ["RUNNING", "gres:gpu:1", "1000M", "30:00", "2"],
    }
    call.wait_for(lambda: jobs() == both)
    call.wait_for(lambda: 2 in call.epochs())  # so that the first one is kept
    os.killpg(call.process.pid, signal.SIGINT)  # what Ctrl-C does
    assert call.end() == (130, ["error: stopped from the keyboard; the same command continues"])


def test_the_same_command_continues_and_a_failing_step_has_one_line(words, start: Callable):
    call = start(*words, "--set", "resnet50.BATCH_SIZE=-1")
    call.wait_for((words[0] / "logs" / "resnet50.error").exists)
    call.wait_for(call.epochs)
    assert call.epochs()[0] > 1
    subprocess.run(["scancel", "--user=root"], check=True)
    code, (line,) = call.end()
    assert code == 1
    assert line.startswith("error: step 'resnet50' failed in cell [")
