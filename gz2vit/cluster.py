"""The road on a cluster: Snakemake hands every step to an executor, such as SLURM's.

The command stays where it was given, watches the jobs and passes on what their notebooks say; the
steps themselves are `gz2vit execute` on the cluster's machines, which see the same folders. The
messages that are read here are those of Snakemake 9 and of its executor for SLURM 2.
"""

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO

from gz2vit.errors import Gz2vitError

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
