"""JPEG files: broken ones are found before any work; crops are torchvision's."""

import errno
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torchvision.transforms import CenterCrop

from gz2vit import images as decoding
from gz2vit import images as images_module
from gz2vit.catalog import folder_signature, read_data_folder
from gz2vit.images import (
    add_broken,
    broken_table,
    check_folder,
    check_images,
    list_path,
    read_broken,
    read_image,
)
from gz2vit.io import Gz2vitError
from tests.unit.folders import make_folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("data") / "mine") / "images"


def break_file(images: Path, tmp_path: Path, how: str) -> Path:
    """A copy of one image, broken in one way."""
    path = tmp_path / "broken.jpg"
    whole = (images / "train-000.jpg").read_bytes()
    if how == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "text":
        path.write_text("this is not a galaxy")
    elif how == "empty":
        path.touch()
    elif how == "small":
        small = make_folder(tmp_path / "small", image_px=200) / "images" / "train-000.jpg"
        shutil.copy(small, path)
    return path


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("missing", "broken.jpg is missing"),
        ("truncated", "broken.jpg is broken or truncated"),
        ("text", "broken.jpg is not an image"),
        ("empty", "broken.jpg is not an image"),
        ("small", "broken.jpg is 200 x 200 px instead of 424 x 424"),
    ],
)
def test_a_broken_image_is_named(images: Path, tmp_path: Path, how: str, words: str):
    good = sorted(images.glob("*.jpg"))[:3]
    check_images(good)
    with pytest.raises(Gz2vitError, match=words):
        check_images([*good, break_file(images, tmp_path, how)])


def test_several_broken_images_are_counted(images: Path, tmp_path: Path):
    absent = [tmp_path / f"{name}.jpg" for name in "abc"]
    told = "a.jpg is missing .and 2 more files have faults: b.jpg, c.jpg.; mend the data folder"
    with pytest.raises(Gz2vitError, match=told):
        check_images([*images.glob("*.jpg"), *absent])


def test_a_padded_file_is_whole(images: Path, tmp_path: Path):
    path = tmp_path / "padded.jpg"
    path.write_bytes((images / "train-000.jpg").read_bytes() + b"\0" * 200)
    check_images([path])


def spoil(path: Path) -> None:
    """Spoil an image's Huffman tables: its header and end are in order, its pixels are lost."""
    content = bytearray(path.read_bytes())
    tables = content.find(b"\xff\xc4") + 5
    content[tables : tables + 16] = b"\xff" * 16
    path.write_bytes(content)


def remember_checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are looked at from now on, as a list that grows."""
    read: list[str] = []
    original = images_module.check
    monkeypatch.setattr(
        images_module, "check", lambda path, *a: read.append(path.name) or original(path, *a)
    )
    return read


def test_a_state_found_in_order_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = read_data_folder(make_folder(tmp_path / "mine"))
    signature = check_folder(folder, tmp_path / "out")
    read = remember_checks(monkeypatch)
    assert check_folder(folder, tmp_path / "out") == signature
    assert read == []
    assert check_folder(folder) == signature  # nobody remembers: all 32 are read
    assert len(read) == 32
    with folder.image_path("train-000").open("ab") as stream:
        stream.write(b"0")
    assert check_folder(folder, tmp_path / "out") != signature
    assert len(read) == 64


def test_broken_images_are_listed_and_only_they_are_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder, out = read_data_folder(make_folder(tmp_path / "mine")), tmp_path / "out"
    folder.image_path("valid-002").unlink()
    folder.image_path("test-001").write_bytes(b"no galaxy")
    told = (
        f"{folder.image_path('valid-002')} is missing (and 1 more file has faults: test-001.jpg);"
        f" the whole list is {list_path(out)}; mend the data folder and run again, or leave such"
        " galaxies out with --set LEAVE_OUT_BROKEN=true"
    )
    with pytest.raises(Gz2vitError, match=re.escape(told)):
        check_folder(folder, out)
    listed = pd.read_csv(list_path(out))
    assert list(listed.columns) == ["galaxyID", "split", "path", "fault"]
    assert listed.galaxyID.tolist() == ["valid-002", "test-001"]
    assert listed.split.tolist() == ["valid", "test"]

    read = remember_checks(monkeypatch)
    with pytest.raises(Gz2vitError, match=re.escape(told)):
        check_folder(folder, out)
    assert read == ["valid-002.jpg", "test-001.jpg"]
    state = check_folder(folder, out, leave_out_broken=True)
    assert state.startswith(f"{folder_signature(folder.path)}-")
    # What packing finds joins the list, and changes the state of what is to be left out.
    path = folder.image_path("train-003")
    path.chmod(0)
    more = broken_table([("train-003", "train", path, "image x is broken")])
    add_broken(out, folder.path, folder_signature(folder.path), more)
    assert len(read_broken(out, folder.path)) == 3
    # It is decoded when looked at again: it is whole, so that it is in order after all.
    path.chmod(0o644)
    assert check_folder(folder, out, leave_out_broken=True) == state
    assert len(read_broken(out, folder.path)) == 2


def test_a_mended_folder_has_no_list(tmp_path: Path):
    folder, out = read_data_folder(make_folder(tmp_path / "mine")), tmp_path / "out"
    path = folder.image_path("train-001")
    whole = path.read_bytes()
    path.write_bytes(whole[:2000])
    with pytest.raises(Gz2vitError, match="train-001.jpg is broken or truncated"):
        check_folder(folder, out)
    path.write_bytes(whole)
    assert read_broken(out, folder.path) is None, "another state of the folder"
    assert check_folder(folder, out) == folder_signature(folder.path)
    assert not list_path(out).exists()


def test_the_machines_trouble_is_not_the_images(images: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(path: Path) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(decoding.Image, "open", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        check_images([images / "train-000.jpg"])


def test_an_image_whose_stream_is_bad_is_found_by_decoding(images: Path, tmp_path: Path):
    path = tmp_path / "bad.jpg"
    shutil.copy(images / "train-000.jpg", path)
    spoil(path)
    check_images([path])  # its header and its end are in order
    with pytest.raises(Gz2vitError, match="bad.jpg is broken or truncated"):
        read_image(path)
    assert "broken or truncated" in decoding.check(path, 424, whole=True)


@pytest.mark.parametrize("size_px", [424, 423, 225])
def test_crop_is_torchvisions(tmp_path: Path, size_px: int):
    pixels = np.random.default_rng(0).integers(0, 255, (size_px, size_px, 3), dtype=np.uint8)
    theirs = CenterCrop(224)(torch.from_numpy(pixels).permute(2, 0, 1)).permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(tmp_path / "exact.png")
    assert np.array_equal(read_image(tmp_path / "exact.png", 224), theirs)


def test_read_image_refuses_what_it_cannot_read(images: Path, tmp_path: Path):
    assert read_image(images / "train-000.jpg", 224).shape == (224, 224, 3)
    with pytest.raises(Gz2vitError, match="smaller than 500 px"):
        read_image(images / "train-000.jpg", 500)
    with pytest.raises(Gz2vitError, match="broken.jpg"):
        read_image(break_file(images, tmp_path, "truncated"))
