"""The image store: exact, picky about what it holds, and safe against interruption."""

import errno
import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL
import pytest

from gz2vit import images as packing
from gz2vit import images as partial_module
from gz2vit.images import (
    ArrayFile,
    StoreOrder,
    fill_rows,
    open_store,
    pack_images,
    pack_stores,
    read_image,
)
from gz2vit.io import Gz2vitError
from tests.unit.folders import training_images

ROOT = Path(__file__).resolve().parents[2]
CROP_PX = 64


@pytest.fixture
def galaxies(tmp_path: Path) -> tuple[list[Path], list[str]]:
    return training_images(tmp_path / "mine")


def test_holds_the_cropped_pixels_in_order(tmp_path: Path, galaxies: tuple):
    paths, ids = galaxies
    store = pack_images(paths, ids, tmp_path / "store" / "train.npy", CROP_PX, "state")
    assert store.images.dtype == np.uint8
    assert store.images.shape == (len(ids), CROP_PX, CROP_PX, 3)
    assert isinstance(store.images, np.memmap)
    for path, row in zip(paths, store.images, strict=True):
        assert np.array_equal(row, read_image(path, CROP_PX))
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == [
        "train.json",
        "train.npy",
    ]


def test_refuses_other_galaxies_or_another_crop(tmp_path: Path, galaxies: tuple):
    paths, ids = galaxies
    target = tmp_path / "train.npy"
    pack_images(paths, ids, target, CROP_PX, "state")
    for wrong in (ids[::-1], ids[:-1]):
        with pytest.raises(Gz2vitError, match="packed from other data"):
            open_store(target, wrong, CROP_PX)
    assert len(open_store(target, ids)) == len(open_store(target, ids, CROP_PX, "state", 424))
    for words, told in (((32,), "crop_px"), ((None, "x"), "source"), ((None, None, 9), "image_px")):
        with pytest.raises(Gz2vitError, match=f"{told} differ.; delete it and run .*--only pack"):
            open_store(target, ids, *words)
    target.write_bytes(b"no array")
    with pytest.raises(Gz2vitError, match="shape differ"):
        open_store(target, ids)


def test_the_note_says_what_the_store_holds(tmp_path: Path, galaxies: tuple):
    paths, ids = galaxies
    order = StoreOrder(tmp_path / "t.npy", paths, ids, CROP_PX, "state", left_out=("lost",))
    pack_stores([order])
    note = json.loads((tmp_path / "t.json").read_text())
    assert (note["crop_px"], note["image_px"], note["source"]) == (CROP_PX, 424, "state")
    assert note["images"] == str(paths[0].parent)
    assert note["left_out"] == ["lost"]
    assert note["pillow"] == PIL.__version__


def test_a_worker_carries_no_heavy_library():
    heavy = ("numpy", "pandas", "torch", "cv2")
    code = f"import sys, gz2vit.data.packing; print([m for m in {heavy} if m in sys.modules])"
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert outcome.stdout.strip() == "[]"


def test_missing_store_names_the_step(tmp_path: Path):
    with pytest.raises(Gz2vitError, match="'pack' makes it; run `./run_all.sh demo --only pack`"):
        open_store(tmp_path / "results" / "demo" / "store" / "test.npy", ["a"])


def test_identical_bytes_from_threads_and_processes(
    tmp_path: Path, galaxies: tuple, monkeypatch: pytest.MonkeyPatch
):
    paths, ids = galaxies
    paths, ids = paths * 3 + paths[:5], [str(row) for row in range(3 * len(ids) + 5)]
    order = StoreOrder(tmp_path / "one.npy", paths, ids, CROP_PX, "state")
    pack_stores([order], workers=1)
    monkeypatch.setattr(packing, "PROCESSES_FROM", 1)
    several = replace(order, target=tmp_path / "two.npy")
    pack_stores([several], workers=2)
    assert order.target.read_bytes() == several.target.read_bytes()


@pytest.mark.parametrize("crop_px", [CROP_PX, 63])
def test_written_past_the_cache_or_not_the_bytes_are_the_same(
    tmp_path: Path, galaxies: tuple, crop_px: int, monkeypatch: pytest.MonkeyPatch
):
    paths = [*galaxies[0], *galaxies[0][::-1], *galaxies[0]]
    rows = [(row, str(path)) for row, path in enumerate(paths)]
    rows[5] = (5, str(tmp_path / "absent.jpg"))
    original = packing._write
    # A slow disk: the next block must not be decoded over one that is still being written.
    monkeypatch.setattr(packing, "_write", lambda *a: time.sleep(0.002) or original(*a))
    held = []
    for direct in (False, True):
        file = array_file(tmp_path / f"{direct}.bin", crop_px, direct)
        faults = fill_rows(file, rows)
        assert faults == [(5, f"image {tmp_path / 'absent.jpg'} is missing")]
        held.append(Path(file.path).read_bytes())
    assert held[0] == held[1]
    assert len(held[0]) == file.start(len(rows))
    assert file.takes_direct(rows) == (crop_px == CROP_PX)
    assert not file.takes_direct(rows[:5]), "a part of a block"
    assert not file.takes_direct([*rows[:15], rows[20]]), "not one after the other"


def array_file(path: Path, crop_px: int, direct: bool) -> ArrayFile:
    """A file with nothing but room for a header."""
    path.write_bytes(b"x" * 4096)
    return ArrayFile(str(path), 4096, crop_px, 424, direct)


def test_a_file_system_without_direct_writing_is_written_the_plain_way(
    tmp_path: Path, galaxies: tuple, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*words: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(packing, "_fill_direct", refuse)
    file = array_file(tmp_path / "t.bin", CROP_PX, direct=True)
    assert fill_rows(file, [(row, str(path)) for row, path in enumerate(galaxies[0])]) == []
    assert Path(file.path).stat().st_size == file.start(16)


def test_pieces_of_work_are_whole_blocks_and_enough_for_all():
    assert packing.chunk_size(155_951, 2) == packing.CHUNK
    assert packing.chunk_size(25_000, 64) == 48
    assert packing.chunk_size(10, 4) == packing.BLOCK
    assert packing.CHUNK % packing.BLOCK == 0


def test_packing_goes_on_over_images_that_cannot_be_decoded(
    tmp_path: Path, galaxies: tuple, monkeypatch: pytest.MonkeyPatch
):
    paths, ids = galaxies
    mended = list(paths)
    paths = [*paths[:5], tmp_path / "a.jpg", *paths[6:10], tmp_path / "b.jpg", *paths[11:]]
    other = StoreOrder(tmp_path / "valid.npy", mended, ids, CROP_PX, "state")
    order = StoreOrder(tmp_path / "train.npy", paths, ids, CROP_PX, "state")
    good, faults = pack_stores([other, order])
    assert good == []
    assert [row for row, _ in faults] == [5, 10]
    assert list(tmp_path.glob("[!.]*.npy")) == [], "no store gets its name while one has faults"

    read = remember_reading(monkeypatch)
    shutil.copy(mended[5], tmp_path / "a.jpg")
    assert [row for row, _ in pack_stores([other, order])[1]] == [10]
    assert read == [str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg")]
    shutil.copy(mended[10], tmp_path / "b.jpg")
    assert pack_stores([other, order]) == [[], []]
    for row, path in zip(open_store(order.target, ids).images, mended, strict=True):
        assert np.array_equal(row, read_image(path, CROP_PX))
    read.clear()
    pack_stores([other, order])
    assert read == [], "finished stores are kept"
    with pytest.raises(Gz2vitError, match="none.jpg is missing; mend the images"):
        pack_images([tmp_path / "none.jpg"], ["x"], tmp_path / "x.npy", CROP_PX, "state")


def remember_reading(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that are decoded from now on, as a list that grows."""
    read: list[str] = []
    original = packing.decode
    monkeypatch.setattr(packing, "decode", lambda path, *a: read.append(path) or original(path, *a))
    return read


def test_half_made_store_of_another_state_is_begun_anew(
    tmp_path: Path, galaxies: tuple, capsys: pytest.CaptureFixture
):
    paths, ids = galaxies
    broken = [*paths[:-1], tmp_path / "no.jpg"]
    for state in ("old", "new"):
        with pytest.raises(Gz2vitError):
            pack_images(broken, ids, tmp_path / "t.npy", CROP_PX, state)
    assert "continued" not in capsys.readouterr().out
    (tmp_path / ".t.partial.json").write_text("")  # as a power cut may leave it
    store = pack_images(paths, ids, tmp_path / "t.npy", CROP_PX, "new")
    assert np.array_equal(store.images[0], read_image(paths[0], CROP_PX))


def test_images_of_another_size_are_faults(tmp_path: Path, galaxies: tuple):
    with pytest.raises(Gz2vitError, match="is 424 x 424 px instead of 300 x 300"):
        pack_images(*galaxies, tmp_path / "t.npy", CROP_PX, "state", image_px=300)
    with pytest.raises(Gz2vitError, match="CROP_PX 500 does not fit in 424 px"):
        pack_images(*galaxies, tmp_path / "t.npy", 500, "state")


def test_full_disk_is_told_before_work(
    tmp_path: Path, galaxies: tuple, monkeypatch: pytest.MonkeyPatch
):
    paths, ids = galaxies
    usage = partial_module.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(partial_module.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(Gz2vitError, match="needs 0.00 GB, but its disk has 0.00 GB free"):
        pack_images(paths, ids, tmp_path / "t.npy", CROP_PX, "state")
    assert list(tmp_path.glob("*.npy")) == []
