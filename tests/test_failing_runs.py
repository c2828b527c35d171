"""What goes wrong with `./run_all.sh`: slips, damaged data, a second run, kills, Ctrl-C."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from gz2vit.io import MODEL_FILES, sole_user
from tests.folders import make_folder
from tests.run_all import ROOT, error_line, run_all, steps_started

EPOCHS = 60  # of a fraction of a second


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (("smok",), "smok"),
        (("smoke", "--set", "MAX_EPOCHS=3"), "MAX_EPOCH'"),
        (("smoke", "--jobs", "0"), "--jobs 0"),
        (("smoke", "--data", "/nowhere"), "/nowhere"),
        (("smoke", "--executor", "lsf"), "lsf"),
    ],
)
def test_a_slip_on_the_command_line_is_one_line(tmp_path: Path, words: tuple, word: str):
    outcome = run_all(*words, "--results", tmp_path / "out")
    assert word in error_line(outcome)
    assert steps_started(outcome) == []


def test_paper_without_a_source_of_the_data_says_where_to_put_a_copy(tmp_path: Path):
    (tmp_path / "mirror").mkdir()
    places = {"GZ2VIT_DATA": str(tmp_path / "gz2"), "GZ2VIT_MIRROR": str(tmp_path / "mirror")}
    outcome = run_all("paper", "--results", tmp_path / "out", **places)
    assert str(tmp_path / "gz2" / "gz2_train.csv") in error_line(outcome)


def test_a_bad_data_folder_stops_at_the_start_with_one_line(tmp_path: Path):
    folder = make_folder(tmp_path / "mine")
    os.truncate(folder / "images" / "test-001.jpg", 3000)
    outcome = run_all("smoke", "--data", folder, "--results", tmp_path / "out")
    assert "test-001" in error_line(outcome)
    assert steps_started(outcome) == []


def test_two_runs_in_one_folder_do_not_meet(tmp_path: Path):
    with sole_user(tmp_path / ".lock", "taken"):
        assert str(tmp_path) in error_line(run_all("smoke", "--results", tmp_path))


def killed(words: list[str], line_to_wait_for: str) -> None:
    """Start, and `kill -9` the command once a line appears; what it started ends with it."""
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    for line in process.stdout:
        if line_to_wait_for in line:
            break
    else:
        raise AssertionError(f"no line with {line_to_wait_for}")
    process.kill()
    process.wait()


def test_a_killed_training_continues_and_ends_as_if_nothing_had_happened(tmp_path: Path):
    """Killed in the middle, and after the last epoch, before its step has ended."""
    data, results = make_folder(tmp_path / "mine", per_class=3), tmp_path / "out"
    words = [str(ROOT / "run_all.sh"), "smoke", "--data", str(data), "--results", str(results)]
    words += ["--only", "hf_vit", "--set", f"hf_vit.MAX_EPOCH={EPOCHS}"]
    words += ["hf_vit.EARLY_STOPPING_EPOCHS=1000"]
    killed(words, f"epoch   4/{EPOCHS}")
    assert not (results / "models" / "hf_vit" / "predictions.csv").exists()
    killed(words, f"epoch  {EPOCHS}/{EPOCHS}")
    again = subprocess.run(words, check=False, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "epoch   1/" not in again.stdout
    folder = results / "models" / "hf_vit"
    assert {path.name for path in folder.iterdir()} == set(MODEL_FILES)
    resumed = [(folder / name).read_bytes() for name in ("predictions.csv", "metrics.json")]
    history = pd.read_csv(folder / "history.csv").drop(columns="seconds")
    shutil.rmtree(results)
    subprocess.run(words, check=True, capture_output=True)
    assert resumed[0] == (folder / "predictions.csv").read_bytes()
    whole = pd.read_csv(folder / "history.csv").drop(columns="seconds")
    pd.testing.assert_frame_equal(history, whole, check_exact=True)


def test_control_c_ends_with_one_line(tmp_path: Path):
    words = ("run_all.sh", "smoke", "--data", make_folder(tmp_path / "mine", per_class=3))
    words += ("--results", tmp_path / "out", "--only", "vit", "--set", "vit.MAX_EPOCH=100000")
    process = subprocess.Popen(
        [str(ROOT / words[0]), *map(str, words[1:]), "vit.EARLY_STOPPING_EPOCHS=100000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert any("[vit] epoch   2/" in line for line in process.stdout)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 130
    assert errors == "error: stopped from the keyboard; the same command continues\n"
