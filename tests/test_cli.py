"""The command line: the single commands, and errors as one line."""

import inspect
import io
import subprocess
import sys
from importlib import import_module
from pathlib import Path

from gz2vit import cli
from gz2vit.catalog import class_composition, read_data_folder
from gz2vit.cli import main
from tests.folders import make_folder, needs_shared

ROOT = Path(__file__).resolve().parents[1]
GZ2VIT = f"PYTHONPATH='{ROOT}' '{sys.executable}' -m gz2vit"


def shell(command: str) -> subprocess.CompletedProcess:
    """A command in a shell of its own."""
    words = ["bash", "-c", f"set -o pipefail; {command}"]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_every_command_has_a_function_that_takes_its_options():
    (commands,) = [action.choices for action in cli._parser()._actions if action.choices]
    for parser in commands.values():
        module, _, function = parser.get_default("command").rpartition(".")
        options = [one.dest for one in parser._actions if one.dest != "help"]
        found = getattr(import_module(module), function)
        inspect.signature(found).bind(**dict.fromkeys(options))


def test_simulate_makes_a_data_folder_that_check_accepts(tmp_path: Path, capsys):
    words = ["simulate", str(tmp_path / "sky"), "--galaxies", "24", "--seed", "3"]
    assert main([*words, "--processes", "1"]) == 0
    assert class_composition(read_data_folder(tmp_path / "sky").tables)["all"].sum() == 24
    assert main(["check", str(tmp_path / "sky")]) == 0
    assert "every table and image is in order" in capsys.readouterr().out


def test_an_error_is_one_line_whatever_letters_a_terminal_lacks(tmp_path: Path, monkeypatch):
    folder = make_folder(tmp_path / "Größe-\N{GREEK SMALL LETTER ALPHA}")
    (folder / "images" / "train-004.jpg").unlink()
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stderr", stream)
    assert main(["check", str(folder)]) == 1
    stream.flush()
    line = stream.buffer.getvalue()
    assert line.startswith(b"error: ") and b"train-004.jpg" in line
    assert line.count(b"\n") == 1


def test_help_and_version():
    outcome = shell(f"{GZ2VIT} --help && {GZ2VIT} --version && {GZ2VIT} run --help")
    for word in ("simulate", "gz2vit 0.", "--data", "--results", "--only", "--jobs", "--set"):
        assert word in outcome.stdout


def test_a_reader_that_has_enough_is_no_error():
    """`gz2vit explain-label ... | head -1`"""
    votes = needs_shared("data/votes/stripe82_coadd_votes.csv.gz")
    outcome = shell(f"{GZ2VIT} explain-label 8647474690312308318 --votes {votes} | head -0")
    assert outcome.stderr == ""
