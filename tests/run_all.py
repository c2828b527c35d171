"""`./run_all.sh` as a user types it, and how the tests read what it prints."""

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run_all(*words: object, **environment: str) -> subprocess.CompletedProcess:
    """`./run_all.sh ...`, typed in another folder than the project's."""
    command = [str(ROOT / "run_all.sh"), *map(str, words)]
    env = os.environ | environment
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT.parent, env=env, check=False
    )


def steps_started(outcome: subprocess.CompletedProcess) -> list[str]:
    return sorted(re.findall(r"^\[(\w+)\] \S+\.ipynb starts$", outcome.stdout, re.MULTILINE))


def error_line(outcome: subprocess.CompletedProcess) -> str:
    """The one line of an error: nothing else may be on the error stream."""
    assert outcome.returncode != 0, outcome.stdout
    lines = outcome.stderr.strip().splitlines()
    assert len(lines) == 1, outcome.stderr
    return lines[0]
