"""`./run_all.sh` as the tests of the road give it, and how they read what it says."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run_all(*words: object) -> subprocess.CompletedProcess:
    """`./run_all.sh ...`, given in another folder than the project's."""
    command = [str(ROOT / "run_all.sh"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT.parent, check=False)


def steps_started(outcome: subprocess.CompletedProcess) -> list[str]:
    return sorted(re.findall(r"^\[(\w+)\] \S+\.ipynb starts$", outcome.stdout, re.MULTILINE))


def last_line(outcome: subprocess.CompletedProcess) -> str:
    """The one line of an error: nothing else may stand on the error stream."""
    lines = outcome.stderr.strip().splitlines()
    assert len(lines) == 1, outcome.stderr
    return lines[0]
