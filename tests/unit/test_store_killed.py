"""Packing that is killed, whole or in part: what is done stays, and nothing is left running."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gz2vit.images import StoreOrder, open_store, pack_stores, read_image
from tests.unit.folders import training_images
from tests.unit.test_store import ROOT, remember_reading


@pytest.fixture
def galaxies(tmp_path: Path) -> tuple[list[Path], list[str]]:
    return training_images(tmp_path / "mine")


PACK_SLOWLY = """
import sys, time
from pathlib import Path
from gz2vit.data import packing, partial
from gz2vit.images import read_image
from gz2vit.images import StoreOrder, open_store, pack_stores

packing.CHUNK, partial.NOTE_SECONDS, packing.PROCESSES_FROM = 16, 0.0, int(sys.argv[3])
decode = packing.decode


def slowly(*order):
    time.sleep(0.005)  # 1,600 images take at least 4 s, longer than a busy machine is late
    return decode(*order)


packing.decode = slowly
images, target = sorted(Path(sys.argv[1]).glob("train-*.jpg")), Path(sys.argv[2])
if __name__ == "__main__":
    ids = [str(row) for row in range(len(images) * 100)]
    print(pack_stores([StoreOrder(target, images * 100, ids, 224, "state")], workers=2))
"""


def start_packing(tmp_path: Path, galaxies: tuple, threshold: int) -> subprocess.Popen:
    """A process that packs 1,600 images, once it has noted some of them."""
    script = tmp_path / "pack.py"
    script.write_text(PACK_SLOWLY)
    command = [sys.executable, script, galaxies[0][0].parent, tmp_path / "train.npy", threshold]
    out = (tmp_path / "told").open("w")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        list(map(str, command)), stdout=out, stderr=out, env=environment, start_new_session=True
    )
    deadline = time.monotonic() + 30
    while noted(tmp_path) < 100 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return process


def noted(tmp_path: Path) -> int:
    """Images that are done, by the note of progress."""
    progress = tmp_path / ".train.partial.json"
    return json.loads(progress.read_text())["done"] if progress.exists() else 0


def workers_of(process: subprocess.Popen) -> list[int]:
    """Its packing processes."""
    found = []
    for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"spawn_main" in command:
            found.append(int(pid))
    return found


def gone(pids: list[int]) -> bool:
    """Whether these processes end within ten seconds."""
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at processes as Linux does")
def test_packing_killed_half_way_continues_and_leaves_no_workers(
    tmp_path: Path, galaxies: tuple, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    process = start_packing(tmp_path, galaxies, threshold=1)
    workers = workers_of(process)
    process.kill()
    process.wait()
    assert len(workers) == 2
    assert gone(workers)
    done = noted(tmp_path)
    assert 100 <= done < 1600
    images = galaxies[0] * 100
    read = remember_reading(monkeypatch)
    order = StoreOrder(
        tmp_path / "train.npy", images, [str(row) for row in range(1600)], 224, "state"
    )
    assert pack_stores([order]) == [[]]
    assert f"train: continued from image {done:,} of 1,600" in capsys.readouterr().out
    assert sorted(read) == sorted(map(str, images[done:]))
    store = open_store(order.target, order.galaxy_ids).images
    for row in (0, done - 1, done, 1599):
        assert np.array_equal(store[row], read_image(images[row], 224))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at processes as Linux does")
@pytest.mark.parametrize(("whom", "told"), [("worker", "was killed (out of"), ("all", "Keyboard")])
def test_a_dead_worker_and_ctrl_c_end_it_soon(
    tmp_path: Path, galaxies: tuple, whom: str, told: str
):
    process = start_packing(tmp_path, galaxies, threshold=1)
    workers = workers_of(process)
    if whom == "worker":
        os.kill(workers[0], signal.SIGKILL)
    else:
        os.killpg(process.pid, signal.SIGINT)
    assert process.wait(20) != 0
    assert gone(workers)
    last = (tmp_path / "told").read_text().strip().splitlines()[-1]
    assert told in last
    assert not (tmp_path / "train.npy").exists()
