"""JPEG files: broken ones are found before any work; crops are torchvision's."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms import CenterCrop

from gz2vit.catalog import read_data_folder
from gz2vit.data.images import centre_crop, check_folder, check_images, read_image
from gz2vit.errors import Gz2vitError
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
    with pytest.raises(Gz2vitError, match="a.jpg is missing .and 2 more files have faults"):
        check_images([*images.glob("*.jpg"), *absent])


def test_a_padded_file_is_whole(images: Path, tmp_path: Path):
    path = tmp_path / "padded.jpg"
    path.write_bytes((images / "train-000.jpg").read_bytes() + b"\0" * 200)
    check_images([path])


def test_a_state_found_in_order_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = read_data_folder(make_folder(tmp_path / "mine"))
    signature = check_folder(folder, tmp_path / "out")
    read: list = []
    monkeypatch.setattr("gz2vit.data.images.check_images", read.extend)
    assert check_folder(folder, tmp_path / "out") == signature
    assert read == []
    assert check_folder(folder) == signature  # nobody remembers: all 32 are read
    assert len(read) == 32
    folder.image_path("train-000").write_bytes(b"changed")
    assert check_folder(folder, tmp_path / "out") != signature
    assert len(read) == 64


def test_a_folder_that_is_not_in_order_is_not_remembered(tmp_path: Path):
    folder = read_data_folder(make_folder(tmp_path / "mine"))
    folder.image_path("valid-002").unlink()
    for _ in range(2):
        with pytest.raises(Gz2vitError, match="valid-002.jpg is missing"):
            check_folder(folder, tmp_path / "out")


@pytest.mark.parametrize("size_px", [424, 423, 225])
def test_crop_is_torchvisions(size_px: int):
    pixels = np.random.default_rng(0).integers(0, 255, (size_px, size_px, 3), dtype=np.uint8)
    theirs = CenterCrop(224)(torch.from_numpy(pixels).permute(2, 0, 1)).permute(1, 2, 0).numpy()
    assert np.array_equal(centre_crop(pixels, 224), theirs)


def test_read_image_refuses_what_it_cannot_read(images: Path, tmp_path: Path):
    assert read_image(images / "train-000.jpg", 224).shape == (224, 224, 3)
    with pytest.raises(Gz2vitError, match="smaller than 500 px"):
        read_image(images / "train-000.jpg", 500)
    with pytest.raises(Gz2vitError, match="broken.jpg"):
        read_image(break_file(images, tmp_path, "truncated"))
