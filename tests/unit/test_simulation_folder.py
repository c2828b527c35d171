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

from gz2sim import folder
from gz2sim.folder import simulate
from gz2sim.population import MIN_GALAXIES
from gz2vit import paper
from gz2vit.catalog import read_data_folder
from gz2vit.io import Gz2vitError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete folder: the smallest one, made in this process."""
    directory = tmp_path_factory.mktemp("simulated") / "galaxies"
    simulate(directory, MIN_GALAXIES, seed=5, processes=1)
    return directory


@pytest.fixture
def copy(simulated: Path, tmp_path: Path) -> Path:
    """A copy of the complete folder, to be damaged."""
    return Path(shutil.copytree(simulated, tmp_path / "copy"))


def all_bytes(directory: Path) -> dict[str, bytes]:
    """Every file of a folder by its relative name."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def test_folder_is_a_data_folder(simulated: Path):
    data = read_data_folder(simulated)
    tables = data.tables
    ids = [galaxy_id for table in tables.values() for galaxy_id in table.galaxyID]
    assert sorted(int(galaxy_id) for galaxy_id in ids) == list(range(1, MIN_GALAXIES + 1))
    for table in tables.values():
        assert sorted(table.label1) == list(range(paper.CLASS_COUNT))
        assert table.label2.tolist() == [paper.LABEL1_TO_LABEL2[k] for k in table.label1]
        assert table.label3.tolist() == [paper.LABEL1_TO_LABEL3[k] for k in table.label1]
        assert table.label4.tolist() == [paper.LABEL1_TO_LABEL4[k] for k in table.label1]
    lines = (simulated / "galaxy_properties.csv").read_text().splitlines()
    assert lines[0] == "galaxyID,petroR90_r,dered_r,dered_g_r"
    assert len(lines) == MIN_GALAXIES + 1
    with Image.open(simulated / "images" / "1.jpg") as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (424, 424))


def test_same_bytes_with_two_processes(simulated: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(folder, "CHUNK_GALAXIES", 5)
    simulate(tmp_path / "two", MIN_GALAXIES, seed=5, processes=2)
    assert all_bytes(tmp_path / "two") == all_bytes(simulated)


def test_interrupted_run_is_continued(simulated: Path, copy: Path):
    kept = copy / "images" / "7.jpg"
    before = kept.stat().st_mtime_ns
    for name in ("gz2_train.csv", "galaxy_properties.csv", "images/3.jpg", "images/24.jpg"):
        (copy / name).unlink()
    cut_short = copy / "images" / "11.jpg"
    cut_short.write_bytes(cut_short.read_bytes()[:5000])
    (copy / "images" / ".9.4711.tmp.jpg").write_bytes(b"half")
    simulate(copy, MIN_GALAXIES, seed=5, processes=1)
    assert all_bytes(copy) == all_bytes(simulated)
    assert kept.stat().st_mtime_ns == before


def test_complete_folder_is_left_alone(copy: Path, monkeypatch):
    monkeypatch.setattr(folder, "expose", None)
    simulate(copy, MIN_GALAXIES, seed=5, processes=1)


@pytest.mark.parametrize(("galaxies", "seed"), [(MIN_GALAXIES, 6), (MIN_GALAXIES + 1, 5)])
def test_another_simulation_is_refused(copy: Path, galaxies: int, seed: int):
    before = all_bytes(copy)
    with pytest.raises(Gz2vitError, match=f"{copy} holds another simulation"):
        simulate(copy, galaxies, seed)
    assert all_bytes(copy) == before


def test_replace_makes_way_for_another_simulation_only(copy: Path, tmp_path: Path):
    before = all_bytes(copy)
    simulate(copy, MIN_GALAXIES, seed=5, processes=1, replace=True)
    assert all_bytes(copy) == before
    simulate(copy, MIN_GALAXIES + 1, seed=6, processes=1, replace=True)
    assert len(list((copy / "images").iterdir())) == MIN_GALAXIES + 1
    assert (copy / "images" / "1.jpg").read_bytes() != before["images/1.jpg"]
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "photo.jpg").touch()
    with pytest.raises(Gz2vitError, match="something else than simulated galaxies"):
        simulate(mine, MIN_GALAXIES, seed=5, replace=True)
    assert (mine / "photo.jpg").exists()


def test_real_data_is_refused(tmp_path: Path):
    (tmp_path / "gz2_train.csv").write_text("galaxyID,label1\n")
    with pytest.raises(Gz2vitError, match=f"{tmp_path} already holds something else"):
        simulate(tmp_path, MIN_GALAXIES, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["gz2_train.csv"]


def test_bad_arguments_are_named(tmp_path: Path):
    with pytest.raises(Gz2vitError, match="--seed -1"):
        simulate(tmp_path, MIN_GALAXIES, seed=-1)
    with pytest.raises(Gz2vitError, match="--processes 0"):
        simulate(tmp_path, MIN_GALAXIES, seed=0, processes=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(Gz2vitError, match=str(tmp_path / "file")):
        simulate(tmp_path / "file", MIN_GALAXIES, seed=0)


def test_disk_without_room_is_refused_before_the_start(tmp_path: Path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=100_000)
    monkeypatch.setattr(folder.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(Gz2vitError, match=r"24 galaxies need about 0.00 GB.*make room"):
        simulate(tmp_path / "full", MIN_GALAXIES, seed=0)
    assert not (tmp_path / "full" / "images").exists()


def test_disk_that_gets_full_names_the_file(tmp_path: Path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(Gz2vitError, match=r"cannot write .*/1.jpg: No space left"):
        simulate(tmp_path / "full", MIN_GALAXIES, seed=0, processes=1)
    assert not list((tmp_path / "full").glob("*.csv"))


def children_of(pid: int) -> list[int]:
    """Process ids of the children of a Linux process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_workers_end_when_the_run_is_killed(tmp_path: Path):
    script = tmp_path / "run.py"
    script.write_text(
        "from pathlib import Path\nfrom gz2vit.simulation import simulate\n"
        f"if __name__ == '__main__':\n    simulate(Path({str(tmp_path / 'it')!r}), 5000, 0, 2)\n"
    )
    run = subprocess.Popen([sys.executable, script], cwd=tmp_path, env=_environment())
    images = tmp_path / "it" / "images"
    wait_until(lambda: images.exists() and any(images.glob("[0-9]*.jpg")))
    workers = children_of(run.pid)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert len(workers) >= 2
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


def _environment() -> dict[str, str]:
    """This environment, with the project on the path of a script that lies elsewhere."""
    return os.environ | {"PYTHONPATH": str(ROOT)}


def wait_until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Wait until `condition()` holds; fail after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
