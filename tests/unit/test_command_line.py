"""`python -m gz2vit`: the single commands, and errors as one line."""

import subprocess
import sys
from pathlib import Path

import pytest

from gz2vit.catalog import class_composition, read_data_folder
from gz2vit.cli import main
from gz2vit.votes import DEFAULT_RULE
from tests.unit.folders import make_folder
from tests.unit.vote_catalogues import make_votes_home, random_votes


def test_simulate_makes_a_data_folder_that_check_accepts(
    tmp_path: Path, capsys: pytest.CaptureFixture
):
    words = ["simulate", str(tmp_path / "sky"), "--galaxies", "24", "--seed", "3"]
    assert main([*words, "--processes", "1"]) == 0
    assert class_composition(read_data_folder(tmp_path / "sky").tables)["all"].sum() == 24
    assert main(["check", str(tmp_path / "sky")]) == 0
    assert "every table and image is in order" in capsys.readouterr().out


def test_an_error_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture):
    folder = make_folder(tmp_path / "mine")
    (folder / "images" / "train-004.jpg").unlink()
    assert main(["check", str(folder)]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: image ")
    assert "train-004.jpg is missing" in told
    assert told.count("\n") == 1


def test_help_and_version_as_a_module():
    for word, told in (("--help", "simulate"), ("--version", "gz2vit 0.")):
        command = [sys.executable, "-m", "gz2vit", word]
        outcome = subprocess.run(command, capture_output=True, text=True, check=True)
        assert told in outcome.stdout


def test_labels_from_votes_and_the_reason_for_one(tmp_path: Path, capsys: pytest.CaptureFixture):
    votes = random_votes(300, seed=11)
    home = make_votes_home(tmp_path / "gz2", votes, DEFAULT_RULE)
    catalogue = home / "downloads" / "gz2_hart16.csv.gz"
    assert main(["derive-labels", str(catalogue), "--to", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "no class" in told
    assert f"{tmp_path / 'out'}: label tables by 'Willett et al. 2013 and Zhu et al. 2019'" in told
    assert main(["explain-label", votes.index[0], "--data", str(home)]) == 0
    assert "=> " in capsys.readouterr().out
    words = ["explain-label", votes.index[0], "--votes", str(catalogue), "--min-votes", "31"]
    assert main(words) == 0
    assert "=> no class" in capsys.readouterr().out
    assert main(["explain-label", "5", "--data", str(home)]) == 1
    assert "galaxy 5 is not in this catalogue" in capsys.readouterr().err
