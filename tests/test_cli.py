"""The command line: the single commands, and errors as one line."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gz2vit.catalog import class_composition, read_data_folder
from gz2vit.cli import main
from tests.folders import make_folder, needs_shared

ROOT = Path(__file__).resolve().parents[1]
VOTES = "data/votes/stripe82_coadd_votes.csv.gz"


def gz2vit(*words: object, **options) -> subprocess.CompletedProcess:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "gz2vit", *map(str, words)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False, **options)


def test_simulate_makes_a_data_folder_that_check_accepts(tmp_path: Path, capsys):
    words = ["simulate", str(tmp_path / "sky"), "--galaxies", "24", "--seed", "3"]
    assert main([*words, "--processes", "1"]) == 0
    assert class_composition(read_data_folder(tmp_path / "sky").tables)["all"].sum() == 24
    assert main(["check", str(tmp_path / "sky")]) == 0
    assert "every table and image is in order" in capsys.readouterr().out


def test_an_error_is_one_line(tmp_path: Path, capsys):
    folder = make_folder(tmp_path / "mine")
    (folder / "images" / "train-004.jpg").unlink()
    assert main(["check", str(folder)]) == 1
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert "train-004.jpg" in line
    assert line.count("\n") == 1


def test_help_and_version():
    assert "simulate" in gz2vit("--help").stdout
    assert gz2vit("--version").stdout.startswith("gz2vit 0.")
    for word in ("--data", "--results", "--only", "--jobs", "--set", "--retrain", "--plan"):
        assert word in gz2vit("run", "--help").stdout


def test_a_reader_that_has_enough_is_no_error():
    """`gz2vit explain-label ... | head -1`"""
    votes = needs_shared(VOTES)
    command = f"{sys.executable} -m gz2vit explain-label 8647474690312308318 --votes {votes}"
    outcome = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | head -0"],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert outcome.stderr == ""


def test_a_terminal_that_lacks_letters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stderr", stream)
    assert main(["check", str(tmp_path / "Größe-\N{GREEK SMALL LETTER ALPHA}")]) == 1
    stream.flush()
    assert stream.buffer.getvalue().startswith(b"error: ")
