"""Images: decoded as a viewer shows them or refused; broken ones listed; the image cache."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from torchvision.transforms import CenterCrop

from gz2vit import catalog
from gz2vit import images as module
from gz2vit.catalog import DataFolder, read_data_folder
from gz2vit.images import fill_cache, find_fault, open_cache, open_split, pack_images, read_image
from gz2vit.io import Gz2vitError
from tests.folders import make_folder, training_images

ROOT = Path(__file__).resolve().parents[1]
CROP_PX, KEYS = 64, ("crop_px", "source", "image_px")


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    return read_data_folder(make_folder(tmp_path / "mine"))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    paths, original = [], module.decode
    monkeypatch.setattr(module, "decode", lambda path, *a: paths.append(path) or original(path, *a))
    return paths


@pytest.fixture
def galaxies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Path], list[str]]:
    monkeypatch.setattr(module, "SHARD_IMAGES", 6)
    return training_images(tmp_path / "mine")


def spoil(path: Path) -> None:
    """Spoil an image's Huffman tables: its header and end are in order, its pixels are lost."""
    content = bytearray(path.read_bytes())
    tables = content.find(b"\xff\xc4") + 5
    content[tables : tables + 16] = b"\xff" * 16
    path.write_bytes(content)


# A picture in which every side and every level differs, in the ways in which people save it.
GREY = (4 * np.arange(48)[:, None] + np.arange(64)).astype(np.uint8)
COLOUR, WIDE = np.stack([GREY] * 3, axis=-1), GREY.astype(np.uint16)
SAVED = {
    **dict.fromkeys(["8.png", "8.bmp", "8.webp"], Image.fromarray(COLOUR)),
    "palette.png": Image.fromarray(GREY).convert("P"), "palette.gif": Image.fromarray(GREY),
    **dict.fromkeys(["16.png", "16.pgm"], Image.fromarray(WIDE * 257)),
    "shifted.tif": Image.fromarray(WIDE * 256),
    "alpha.png": Image.fromarray(np.dstack([COLOUR, np.full_like(GREY, 255)])),
    "cmyk.tif": Image.fromarray(COLOUR).convert("CMYK"),
    "colour16.png": np.stack([WIDE * 257] * 3, axis=-1),  # which Pillow does not write
}  # fmt: skip


@pytest.mark.parametrize("name", SAVED)
def test_the_same_picture_gives_the_same_pixels(tmp_path: Path, name: str):
    path, image = tmp_path / name, SAVED[name]
    cv2.imwrite(str(path), image) if name == "colour16.png" else image.save(path, lossless=True)
    assert "64 x 48 px instead of 64 x 64" in find_fault(path, 64)
    assert np.array_equal(read_image(path), COLOUR)
    assert np.array_equal(read_image(path, 32), COLOUR[8:40, 16:48])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_black_sky(tmp_path: Path, mode: str):
    image = Image.new("RGBA", (32, 32), (200, 200, 200, 255))
    image.paste((255, 255, 255, 0), (0, 0, 16, 32))
    image.convert(mode).save(tmp_path / "t.png")
    pixels = read_image(tmp_path / "t.png")
    assert (pixels[:, :16] == 0).all() and (pixels[:, 16:] == 200).all()


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_exif_turns_are_applied(tmp_path: Path, suffix: str):
    upright, exif = Image.fromarray(COLOUR), Image.Exif()
    for turn, undo in enumerate((None, 0, 3, 1, 5, 2, 6, 4), 1):  # numbers of Image.Transpose
        stored, exif[0x0112] = upright if undo is None else upright.transpose(undo), turn
        stored.save(tmp_path / f"t.{suffix}", exif=exif, quality=100)
        difference = read_image(tmp_path / f"t.{suffix}") - np.asarray(upright, dtype=float)
        assert np.abs(difference).max() < 8


@pytest.mark.parametrize(("make", "culprit"), [
    (lambda path: None, "missing"),
    (lambda path: path.touch(), "not an image"),
    (lambda path: path.write_text("this is not a galaxy"), "not an image"),
    (lambda path: path.mkdir(), "directory"),
    (lambda path: path.symlink_to(path), "symbolic links"),
    (lambda path: Image.new("F", (424, 424)).save(path, "TIFF"), "floats"),
    (lambda path: Image.new("I", (424, 424)).save(path, "TIFF"), "32-bit"),
    (lambda path: path.write_bytes(b"SIMPLE  =                    T".ljust(2880)), "FITS file"),
    (lambda path: Image.new("RGB", (200, 200)).save(path), "200 x 200"),
])  # fmt: skip
def test_what_is_no_picture_is_refused_by_name(tmp_path: Path, make, culprit: str):
    path = tmp_path / "galaxy.jpg"
    make(path)
    fault = find_fault(path)
    assert culprit in fault and str(path) in fault and "\n" not in fault
    with pytest.raises(module.ImageFault, match=culprit):
        module.decode(path, 300 if culprit != "200 x 200" else 224)


def test_damage_is_found(galaxies: tuple, monkeypatch: pytest.MonkeyPatch):
    whole, cut, bad, padded = galaxies[0][:4]
    cut.write_bytes(cut.read_bytes()[:2000])
    spoil(bad)
    padded.write_bytes(padded.read_bytes() + b"\0" * 200)
    assert [find_fault(path) for path in (whole, bad, padded)] == [None] * 3
    assert cut.name in find_fault(cut)
    for path in (cut, bad):
        assert path.name in find_fault(path, whole=True)
        with pytest.raises(module.ImageFault, match=path.name):
            read_image(path)
    monkeypatch.setattr(module.Image, "open", Mock(side_effect=OSError(errno.EMFILE, "too many")))
    with pytest.raises(OSError, match="too many"):  # the machine's trouble, not the image's
        find_fault(whole)


@pytest.mark.parametrize("size_px", [424, 423, 225])
def test_crop_is_torchvisions(tmp_path: Path, size_px: int):
    pixels = np.random.default_rng(0).integers(0, 255, (size_px, size_px, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.save(tmp_path / "exact.png")
    assert np.array_equal(read_image(tmp_path / "exact.png", 224), CenterCrop(224)(image))


def test_only_broken_images_are_read_again(folder: DataFolder, tmp_path: Path, monkeypatch):
    out, read = tmp_path / "out", Mock(wraps=module.find_fault)
    listed = out / module.BROKEN_LIST
    monkeypatch.setattr(module, "find_fault", read)
    module.check_folder(folder, out)
    (folder.path / ".DS_Store").touch()
    module.check_folder(folder, out)
    assert read.call_count == 32 and module.read_broken(out).empty
    missing, text = folder.image_path("valid-002"), folder.image_path("test-001")
    whole = missing.read_bytes()
    missing.unlink()
    text.write_bytes(b"no galaxy")
    for expected in (64, 66):
        with pytest.raises(Gz2vitError, match=rf"{missing}.*test-001.jpg.*{listed}"):
            module.check_folder(folder, out)
        assert read.call_count == expected
    module.check_folder(folder, out, leave_out_broken=True)
    broken = pd.read_csv(listed)
    assert list(broken.columns) == ["galaxyID", "split", "path", "fault"]
    assert broken.to_numpy()[:, :2].tolist() == [["valid-002", "valid"], ["test-001", "test"]]
    missing.write_bytes(whole)
    with pytest.raises(Gz2vitError, match="test-001"):
        module.check_folder(folder, out)
    assert module.read_broken(out).galaxyID.tolist() == ["test-001"]
    text.write_bytes(whole)
    module.check_folder(folder, out)
    assert not listed.exists()
    listed.write_text("galaxyID,split,path,fault\n")
    module.check_folder(folder)  # without results


def test_the_cache_holds_the_cropped_pixels_in_order(tmp_path: Path, galaxies: tuple):
    paths, ids = galaxies
    assert fill_cache(paths, ids, tmp_path / "store" / "t", CROP_PX, "state", workers=2) == []
    cache = open_cache(tmp_path / "store" / "t", ids)
    wanted = np.stack([read_image(path, CROP_PX) for path in paths])
    assert ([*map(len, cache.shards)], len(cache), cache.galaxy_ids) == ([6, 6, 4], 16, tuple(ids))
    assert np.array_equal(cache[:], wanted)
    rows = np.random.default_rng(0).permutation(16).repeat(2)
    assert np.array_equal(cache.read(rows), wanted[rows])
    for rows in (5, -1, slice(4, 9), [15, 0, 7]):
        assert np.array_equal(cache[rows], wanted[rows])
    found = {path.name for path in (tmp_path / "store").rglob("*")}
    assert found == {"t", "t.json", *(f"shard_0000{number}.npy" for number in range(3))}
    with pytest.raises(Gz2vitError, match="shard_00001.npy"):
        os.truncate(tmp_path / "store" / "t" / "shard_00001.npy", 1000)
        cache.read(np.arange(16))


def test_a_cache_of_other_data_is_refused_and_made_again(tmp_path: Path, galaxies: tuple):
    (paths, ids), target = galaxies, tmp_path / "t"
    pack_images(paths, ids, target, CROP_PX)
    for wrong, how in ((ids[::-1], {}), (ids[:-1], {}), *((ids, {key: 32}) for key in KEYS)):
        with pytest.raises(Gz2vitError, match=next(iter(how), str(target))):
            open_cache(target, wrong, **how)
    stamps = [path.stat().st_mtime_ns for path in sorted(target.iterdir())]
    pack_images(paths, ids, target, CROP_PX)
    assert [path.stat().st_mtime_ns for path in sorted(target.iterdir())] == stamps
    assert pack_images(paths, ids, target, 32)[:].shape == (16, 32, 32, 3)
    shutil.copy(paths[0], paths[1])
    assert np.array_equal(*pack_images(paths, ids, target, 32).read([0, 1]))
    assert len(pack_images(paths[:7], ids[:7], target, 32)) == 7
    assert sorted(path.name for path in target.iterdir()) == ["shard_00000.npy", "shard_00001.npy"]
    (target / "shard_00001.npy").write_bytes(b"no array")
    with pytest.raises(Gz2vitError, match="shard_00001.npy"):
        open_cache(target, ids[:7])
    assert np.array_equal(pack_images(paths[:7], ids[:7], target, 32)[6], read_image(paths[6], 32))
    with pytest.raises(Gz2vitError, match="--only pack"):
        open_cache(tmp_path / "results" / "demo" / "store" / "test", ["a"])


def test_packing_goes_on_over_broken_images(tmp_path: Path, galaxies: tuple, decoded: list[Path]):
    (paths, ids), target = galaxies, tmp_path / "t"
    broken = [*paths[:7], tmp_path / "a.jpg", *paths[8:15], tmp_path / "b.jpg"]
    assert [row for row, _ in fill_cache(broken, ids, target, CROP_PX, "s")] == [7, 15]
    assert sorted(path.name for path in target.iterdir()) == ["shard_00000.npy"]
    decoded.clear()
    assert fill_cache(paths, ids, target, CROP_PX, "s") == []
    assert sorted(decoded) == paths[6:]
    with pytest.raises(Gz2vitError, match="none.jpg"):
        pack_images([tmp_path / "none.jpg"], ["x"], tmp_path / "x", CROP_PX)


def test_what_cannot_be_packed_is_refused(tmp_path: Path, galaxies: tuple, monkeypatch):
    Image.new("RGB", (300, 300)).save(tmp_path / "small.png")
    with pytest.raises(Gz2vitError, match="300 x 300"):
        pack_images([tmp_path / "small.png"], ["x"], tmp_path / "t", CROP_PX)
    with pytest.raises(Gz2vitError, match="500"):
        pack_images(*galaxies, tmp_path / "t", 500)
    (tmp_path / "file").touch()
    with pytest.raises(Gz2vitError, match="file"):
        pack_images(*galaxies, tmp_path / "file" / "t", CROP_PX)
    monkeypatch.setattr(module.os, "posix_fallocate", Mock(side_effect=OSError(28, "full")))
    with pytest.raises(Gz2vitError, match="full"):
        pack_images(*galaxies, tmp_path / "t", CROP_PX)
    assert not list((tmp_path / "t").iterdir())


PACK_SLOWLY = """
import sys, time
from pathlib import Path
from gz2vit import images

decode, images.SHARD_IMAGES = images.decode, 80
# 800 images take at least 4 s, longer than a busy machine is late
images.decode = lambda *words: time.sleep(0.01) or decode(*words)
paths = sorted(Path(sys.argv[1]).glob("train-*.jpg")) * 50
images.fill_cache(paths, [*map(str, range(800))], Path(sys.argv[2]), 224, "state", workers=2)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_packing_resumes(tmp_path: Path, galaxies, how: int, monkeypatch, decoded):
    target = tmp_path / "train"
    command = [sys.executable, "-c", PACK_SLOWLY, str(galaxies[0][0].parent), str(target)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    deadline = time.monotonic() + 60
    while len(list(target.glob("shard_*"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(how)
    said = process.communicate(timeout=20)[1]
    assert process.returncode != 0 and ("KeyboardInterrupt" in said) == (how == signal.SIGINT)
    done = len(list(target.glob("shard_*")))
    assert 2 <= done < 10
    monkeypatch.setattr(module, "SHARD_IMAGES", 80)
    paths, ids = galaxies[0] * 50, [str(row) for row in range(800)]
    assert fill_cache(paths, ids, target, 224, "state") == []
    assert len(decoded) == 800 - 80 * done
    cache = open_cache(target, ids)
    for row in (0, 79, 80, 160, 799):
        assert np.array_equal(cache[row], read_image(paths[row], 224))
    assert not list(target.glob(".*"))


def select(results: Path, folder: DataFolder, leave_out_broken: bool = False) -> None:
    """What the notebook of the step `select` does."""
    module.check_folder(folder, results, leave_out_broken)
    tables, left_out = folder.tables, None
    if leave_out_broken:
        tables, left_out = catalog.leave_out(tables, module.read_broken(results))
    catalog.write_selection(results, folder, tables, "smoke", left_out)


def test_packed_splits_are_opened_until_their_images_change(tmp_path: Path, folder: DataFolder):
    results, images = tmp_path / "out", folder.path / "images"
    (images / "train-000.jpg").rename(images / "train-000.JPEG")
    folder = read_data_folder(folder.path)
    select(results, folder)
    module.pack_selection(results, CROP_PX)
    signatures = []
    for split, table in folder.tables.items():
        part = open_split(results, split)
        assert part.cache.galaxy_ids == tuple(table.galaxyID)
        assert part.class_index.tolist() == table.label1.tolist()
        signatures.append(part.signature())
    assert len(set(signatures)) == 3 and part.class_counts().sum() == len(part.cache)
    record = json.loads((results / "store" / "train.json").read_text())
    assert (record["crop_px"], record["image_px"]) == (CROP_PX, module.IMAGE_PX)
    os.utime(images / "train-000.JPEG", ns=(1, 1))
    module.pack_selection(results, CROP_PX)
    assert open_split(results, "train").signature() == signatures[0]
    module.pack_selection(results, 32)
    assert open_split(results, "train").signature() != signatures[0]
    folder.image_path("train-000").write_bytes(folder.image_path("train-001").read_bytes())
    with pytest.raises(Gz2vitError, match="--only select"):  # the images have changed
        module.pack_selection(results, CROP_PX)
    select(results, folder)
    with pytest.raises(Gz2vitError, match="source.*--only pack"):
        open_split(results, "train")
    assert len(open_split(results, "test").cache) == 8
    module.pack_selection(results, CROP_PX)
    assert np.array_equal(*open_split(results, "train").cache[[0, 1]])


@pytest.mark.parametrize("leaves_out", [False, True])
def test_undecodable_images_are_left_out(tmp_path: Path, folder: DataFolder, leaves_out: bool):
    results, names = tmp_path / "out", ["train-005", "valid-001", "test-000", "test-007"]
    folder.image_path("test-001").unlink() if leaves_out else None
    for name in names:
        spoil(folder.image_path(name))
    select(results, folder, leaves_out)
    advice = "same command again" if leaves_out else "LEAVE_OUT_BROKEN=true"
    with pytest.raises(Gz2vitError, match=f"train-005.*{advice}"):
        module.pack_selection(results, CROP_PX)
    if leaves_out:
        with pytest.raises(Gz2vitError, match="select"):
            catalog.read_selection(results)  # the step is to run again
    with pytest.raises(Gz2vitError, match="train-005"):
        module.check_folder(folder, results)  # packing's finds stop the next run before its work
    select(results, folder, leave_out_broken=True)
    lost = pd.read_csv(results / "selection" / "left_out.csv").galaxyID
    assert set(lost) == {*names, *["test-001"] * leaves_out}
    module.pack_selection(results, CROP_PX)
    assert len(open_split(results, "test").cache) == 6 - leaves_out
