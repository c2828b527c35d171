"""How the road takes what goes wrong: one clear line, and nothing lost."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.road import ROOT, last_line, run_all, steps_started
from tests.unit.folders import make_folder


def test_a_failing_notebook_names_cell_error_and_notebook(tmp_path: Path):
    data = make_folder(tmp_path / "mine")
    words = ("--data", data, "--results", tmp_path / "out", "--only", "linformer")
    outcome = run_all("smoke", *words, "--set", "PATCH_SIZE=30")
    assert outcome.returncode == 1
    line = last_line(outcome)
    failed = tmp_path / "out" / "notebooks" / "03_linformer.failed.ipynb"
    assert line.startswith("error: step 'linformer' failed in cell [")
    assert "under 'The network': patch_size 30 does not divide image_size 112" in line
    assert line.endswith(f"see {failed}")
    assert failed.exists()
    mended = run_all("smoke", *words)
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert steps_started(mended) == ["linformer"]
    assert not failed.exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("smok",), "no profile 'smok'"),
        (("smoke", "--only", "fig9"), "--only fig9: there is no such step; there are simulate, "),
        (("smoke", "--set", "MAX_EPOCHS=3"), "did you mean 'MAX_EPOCH'?"),
        (("smoke", "--set", "MAX_EPOCH=3.5"), "MAX_EPOCH is 3.5 (float), but it must be int"),
        (("smoke", "--jobs", "0"), "--jobs 0"),
        (("smoke", "--data", "/nowhere"), "the data folder /nowhere does not exist"),
    ],
)
def test_a_slip_on_the_command_line_is_one_line(tmp_path: Path, words: tuple, told: str):
    outcome = run_all(*words, "--results", tmp_path / "out")
    assert outcome.returncode == 1
    assert told in last_line(outcome)
    assert steps_started(outcome) == []


def test_paper_without_a_source_of_the_data_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "mirror").mkdir()
    monkeypatch.setenv("GZ2VIT_DATA", str(tmp_path / "gz2"))
    monkeypatch.setenv("GZ2VIT_MIRROR", str(tmp_path / "mirror"))
    outcome = run_all("paper", "--results", tmp_path / "out")
    assert outcome.returncode == 1
    place = tmp_path / "gz2" / "gz2_train.csv"
    assert last_line(outcome) == (
        f"error: the mirror has no file {tmp_path / 'mirror' / 'gz2_train.csv'}; try again later, "
        f"name another source with --mirror, or put a copy at {place}"
    )


def lose(folder: Path) -> None:
    (folder / "images" / "test-001.jpg").unlink()


def truncate(folder: Path) -> None:
    path = folder / "images" / "test-001.jpg"
    path.write_bytes(path.read_bytes()[:3000])


def mislabel(folder: Path) -> None:
    path = folder / "gz2_test.csv"
    path.write_text(path.read_text().replace("test-001,1", "test-001,9"))


def repeat(folder: Path) -> None:
    with (folder / "gz2_valid.csv").open("a") as stream:
        stream.write("test-001,1\n")


def empty(folder: Path) -> None:
    (folder / "gz2_test.csv").write_text("galaxyID,label1\n")


@pytest.fixture(scope="module")
def whole_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("data") / "mine")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lose, "image {folder}/images/test-001.jpg is missing"),
        (truncate, "image {folder}/images/test-001.jpg is broken or truncated"),
        (mislabel, "{folder}/gz2_test.csv: galaxy test-001 has label1 '9'"),
        (repeat, "galaxy test-001 stands in both gz2_valid.csv and gz2_test.csv"),
        (empty, "{folder}/gz2_test.csv holds no galaxies"),
    ],
)
def test_a_bad_data_folder_stops_at_the_start_with_one_line(
    tmp_path: Path, whole_folder: Path, damage: Callable[[Path], None], told: str
):
    folder = tmp_path / "mine"
    shutil.copytree(whole_folder, folder)
    damage(folder)
    outcome = run_all("smoke", "--data", folder, "--results", tmp_path / "out")
    assert outcome.returncode == 1
    assert told.format(folder=folder) in last_line(outcome)
    assert steps_started(outcome) == []


def test_an_image_lost_after_a_run_is_noticed(tmp_path: Path, whole_folder: Path):
    folder, results = tmp_path / "mine", tmp_path / "out"
    shutil.copytree(whole_folder, folder)
    words = ("smoke", "--data", folder, "--results", results, "--only", "select")
    assert run_all(*words).returncode == 0
    lose(folder)
    outcome = run_all(*words)
    assert outcome.returncode == 1
    assert "test-001.jpg is missing" in last_line(outcome)


def test_two_runs_in_one_folder_do_not_meet(tmp_path: Path):
    import fcntl

    results = tmp_path / "out"
    results.mkdir()
    with (results / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        outcome = run_all("smoke", "--results", results)
    assert outcome.returncode == 1
    assert "another run is working in" in last_line(outcome)


def test_help_lists_the_options():
    outcome = run_all("--help")
    assert outcome.returncode == 0
    for word in ("--data", "--results", "--only", "--jobs", "--set"):
        assert word in outcome.stdout
    assert os.access(ROOT / "run_all.sh", os.X_OK)
