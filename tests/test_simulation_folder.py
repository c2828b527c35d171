"""The simulated data folder: its files, resuming, refusing, and the workers that fill it."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from gz2sim import SimulationError, folder
from gz2sim.folder import simulate
from gz2sim.population import MIN_GALAXIES
from gz2vit.catalog import read_data_folder
from gz2vit.cli import main

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete folder: the smallest one, made in this process."""
    directory = tmp_path_factory.mktemp("simulated") / "galaxies"
    simulate(directory, MIN_GALAXIES, seed=5, processes=1)
    return directory


@pytest.fixture
def copy(simulated: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(simulated, tmp_path / "copy"))


def all_bytes(directory: Path) -> dict[str, bytes]:
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def test_a_data_folder_of_the_same_bytes_with_two_processes(simulated, tmp_path, monkeypatch):
    tables = read_data_folder(simulated).tables
    ids = [int(galaxy_id) for table in tables.values() for galaxy_id in table.galaxyID]
    assert sorted(ids) == list(range(1, MIN_GALAXIES + 1))
    for table in tables.values():
        assert sorted(table.label1) == list(range(8))
        assert table.set_index("label1").label4.sort_index().tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    lines = (simulated / "galaxy_properties.csv").read_text().splitlines()
    assert lines[0] == "galaxyID,petroR90_r,dered_r,dered_g_r"
    with Image.open(simulated / "images" / "1.jpg") as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (424, 424))
    monkeypatch.setattr(folder, "CHUNK_GALAXIES", 5)
    simulate(tmp_path / "two", MIN_GALAXIES, seed=5, processes=2)
    assert all_bytes(tmp_path / "two") == all_bytes(simulated)


def test_interrupted_run_is_continued(simulated: Path, copy: Path, monkeypatch):
    kept, cut_short = copy / "images/7.jpg", copy / "images/11.jpg"
    before = kept.stat().st_mtime_ns
    for name in ("gz2_train.csv", "galaxy_properties.csv", "images/3.jpg", "images/24.jpg"):
        (copy / name).unlink()
    cut_short.write_bytes(cut_short.read_bytes()[:5000])
    (copy / "images/.9.4711.tmp.jpg").write_bytes(b"half")
    simulate(copy, MIN_GALAXIES, seed=5, processes=1)
    assert all_bytes(copy) == all_bytes(simulated)
    assert kept.stat().st_mtime_ns == before
    monkeypatch.setattr(folder, "expose", None)
    simulate(copy, MIN_GALAXIES, seed=5, processes=1)  # a complete folder is left alone


def test_what_is_not_this_simulation_is_refused_and_kept(simulated: Path, tmp_path: Path):
    before = all_bytes(simulated)
    for galaxies, seed, named in ((24, 6, '"seed": 5'), (25, 5, '"galaxies": 24')):
        with pytest.raises(SimulationError, match=f"{simulated}.*{named}"):
            simulate(simulated, galaxies, seed)
    assert all_bytes(simulated) == before
    for name in ("photo.jpg", "gz2_train.csv"):
        (mine := tmp_path / name / name).parent.mkdir()
        mine.write_text("mine")
        with pytest.raises(SimulationError, match=str(mine.parent)):
            simulate(mine.parent, MIN_GALAXIES, seed=0, replace=True)
        assert all_bytes(mine.parent) == {name: b"mine"}


def test_changed_code_draws_every_image_anew_and_keeps_what_others_made(copy: Path, monkeypatch):
    monkeypatch.setattr(folder, "code_signature", lambda: "other code")
    with pytest.raises(SimulationError, match="code"):
        simulate(copy, MIN_GALAXIES, seed=5, processes=1)
    before = (copy / "images/1.jpg").stat().st_mtime_ns
    Image.new("RGB", (424, 424)).save(copy / "images/mine.jpg")
    for name in ("images/list.txt", "gz2_extra.csv"):
        (copy / name).write_text("mine")
    mine = {name: own for name, own in all_bytes(copy).items() if own == b"mine" or "mine" in name}
    simulate(copy, 25, seed=5, processes=1, replace=True)
    assert (copy / "images/1.jpg").stat().st_mtime_ns > before
    assert len(mine) == 3 and mine.items() <= all_bytes(copy).items()
    assert len(list((copy / "images").glob("[0-9]*.jpg"))) == 25


@pytest.mark.parametrize(
    "words", ["new --seed -1", "new --galaxies 23", "new --processes -2", "file", "other"]
)
def test_bad_arguments_are_one_line_of_the_command(words: str, tmp_path: Path, capsys):
    (tmp_path / "file").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / folder.RECORD_NAME).write_text("[torn")
    name, *options = words.split()
    assert main(["simulate", str(tmp_path / name), *options]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ") and words.removeprefix("new ") in line
    assert not (tmp_path / "new").exists()


def test_disk_that_gets_full_names_the_file(tmp_path: Path, monkeypatch):
    def full(path: Path, target: Path) -> None:
        if target.suffix == ".jpg":
            raise OSError(errno.ENOSPC, "No space left on device")
        Path(path).rename(target)

    monkeypatch.setattr(folder.os, "replace", full)
    with pytest.raises(SimulationError, match=r"/1.jpg: No space left"):
        simulate(tmp_path / "full", MIN_GALAXIES, seed=0, processes=1)
    assert sorted(all_bytes(tmp_path / "full")) == [folder.RECORD_NAME]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_workers_end_when_the_run_is_killed(tmp_path: Path):
    def wait_until(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.05)

    words = ["simulate", str(tmp_path / "it"), "--galaxies", "5000", "--processes", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.Popen([sys.executable, "-m", "gz2vit", *words], cwd=ROOT, env=environment)
    wait_until(lambda: any((tmp_path / "it").glob("images/[0-9]*.jpg")))
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert len(children) >= 2
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))
