"""The image store: exact, picky about what it holds, and safe against interruption."""

import json
from pathlib import Path

import numpy as np
import pytest

from gz2vit.data import store as store_module
from gz2vit.data.images import read_image
from gz2vit.data.store import open_store, pack_images
from gz2vit.errors import Gz2vitError
from tests.unit.folders import make_folder

CROP_PX = 64


@pytest.fixture
def galaxies(tmp_path: Path) -> tuple[list[Path], list[str]]:
    paths = sorted((make_folder(tmp_path / "mine") / "images").glob("train-*.jpg"))
    return paths, [path.stem for path in paths]


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
    with pytest.raises(Gz2vitError, match="crop_px differ"):
        open_store(target, ids, 32)


def test_missing_store_names_the_step(tmp_path: Path):
    with pytest.raises(Gz2vitError, match="'pack' makes it; run `./run_all.sh demo --only pack`"):
        open_store(tmp_path / "results" / "demo" / "store" / "test.npy", ["a"])


def test_interrupted_packing_continues(
    tmp_path: Path, galaxies: tuple, monkeypatch: pytest.MonkeyPatch
):
    paths, ids = galaxies
    target = tmp_path / "train.npy"
    monkeypatch.setattr(store_module, "CHUNK", 4)
    broken = [*paths[:10], tmp_path / "absent.jpg", *paths[11:]]
    with pytest.raises(Gz2vitError, match="absent.jpg"):
        pack_images(broken, ids, target, CROP_PX, "state")
    assert not target.exists()
    assert json.loads((tmp_path / ".train.partial.json").read_text())["done"] == 8

    read = []
    original = store_module.read_image
    monkeypatch.setattr(
        store_module, "read_image", lambda path, px: read.append(path) or original(path, px)
    )
    store = pack_images(paths, ids, target, CROP_PX, "state")
    assert sorted(read) == paths[8:]
    assert np.array_equal(store.images[3], original(paths[3], CROP_PX))
    assert np.array_equal(store.images[12], original(paths[12], CROP_PX))


def test_half_made_store_of_another_state_is_begun_anew(
    tmp_path: Path, galaxies: tuple, monkeypatch: pytest.MonkeyPatch
):
    paths, ids = galaxies
    monkeypatch.setattr(store_module, "CHUNK", 4)
    with pytest.raises(Gz2vitError):
        pack_images([*paths[:-1], tmp_path / "no.jpg"], ids, tmp_path / "t.npy", CROP_PX, "old")
    store = pack_images(paths, ids, tmp_path / "t.npy", CROP_PX, "new")
    assert np.array_equal(store.images[0], read_image(paths[0], CROP_PX))


def test_full_disk_is_told_before_work(
    tmp_path: Path, galaxies: tuple, monkeypatch: pytest.MonkeyPatch
):
    paths, ids = galaxies
    usage = store_module.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(store_module.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(Gz2vitError, match="needs 0.00 GB, but its disk has 0.00 GB free"):
        pack_images(paths, ids, tmp_path / "t.npy", CROP_PX, "state")
    assert list(tmp_path.glob("*.npy")) == []
