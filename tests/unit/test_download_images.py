"""The folder of images: unpacked, or a link to images at hand."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from gz2vit.download import ImageFolder, download, find_own_images
from gz2vit.io import Gz2vitError
from tests.unit.file_server import (
    CLASS_COUNTS,
    FILES,
    IMAGES,
    LABELS,
    ZIP,
    ZIP_FILE,
    hurry,
    zip_of,
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A data folder that has its label tables and nothing else."""
    (tmp_path / "home" / "downloads").mkdir(parents=True)
    for name, content in LABELS.items():
        (tmp_path / "home" / name).write_bytes(content)
    return tmp_path / "home"


def pictures(folder: Path, without: set[str] | None = None) -> Path:
    """A folder of the small Galaxy Zoo's images."""
    folder.mkdir(parents=True)
    for name in IMAGES.keys() - (without or set()):
        (folder / name).write_bytes(IMAGES[name])
    return folder


def bring(home: Path, images: Path) -> None:
    """What `--images` does; nothing can be downloaded."""
    download(home, ["images"], images=images, files=FILES, class_counts=CLASS_COUNTS)


def assert_whole(home: Path) -> None:
    for name, content in IMAGES.items():
        assert (home / "images" / name).read_bytes() == content


@pytest.mark.parametrize("inside", [".", "images", "images_gz2/images"])
def test_a_folder_is_linked(
    home: Path, tmp_path: Path, inside: str, capsys: pytest.CaptureFixture[str]
):
    mine = pictures(tmp_path / "mine" / inside).resolve()
    bring(home, tmp_path / "mine")
    assert os.readlink(home / "images") == str(mine)
    assert_whole(home)
    assert f"16 in {mine}, {home / 'images'} is a link to it" in capsys.readouterr().out
    record = json.loads((home / "downloads" / "images.record.json").read_text())
    assert record == {"source": str(mine), "images": 16}
    bring(home, tmp_path / "mine")
    download(home, ["images"], files=FILES)
    assert "16 already there" in capsys.readouterr().out


def test_an_empty_folder_gives_way_to_the_link(home: Path, tmp_path: Path):
    (home / "images").mkdir()
    bring(home, pictures(tmp_path / "mine"))
    assert (home / "images").is_symlink()


def test_images_that_are_in_place_stay(home: Path):
    pictures(home / "images")
    for named in (home / "images", home):
        bring(home, named)
        assert not (home / "images").is_symlink()
        assert_whole(home)


def test_other_images_are_not_replaced(home: Path, tmp_path: Path):
    mine, other = pictures(tmp_path / "mine"), pictures(tmp_path / "other")
    (home / "images").mkdir()
    (home / "images" / "note.txt").touch()
    with pytest.raises(Gz2vitError, match="images is there already and is not empty"):
        bring(home, mine)
    (home / "images" / "note.txt").unlink()
    bring(home, mine)
    with pytest.raises(Gz2vitError, match=f"images is a link to {mine}, which holds 16 images"):
        bring(home, other)
    assert os.readlink(home / "images") == str(mine)


def test_nothing_is_unpacked_through_a_link(home: Path, tmp_path: Path):
    mine = pictures(tmp_path / "mine")
    bring(home, mine)
    (mine / "115.jpg").unlink()
    with pytest.raises(Gz2vitError, match="is a link to .*, which holds 15 images; remove the"):
        download(home, ["images"], files=FILES)
    (tmp_path / "a.zip").write_bytes(ZIP)
    with pytest.raises(Gz2vitError, match="is a link to"):
        bring(home, tmp_path / "a.zip")
    assert len(list(mine.iterdir())) == 15


def test_a_folder_must_have_every_labelled_galaxy(home: Path, tmp_path: Path):
    mine = pictures(tmp_path / "mine", without={"104.jpg", "112.jpg"})
    with pytest.raises(Gz2vitError, match="no image of 2 of the 14 .*first is 104.jpg"):
        bring(home, mine)
    assert not (home / "images").is_symlink()


def test_a_zip_of_another_layout(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    other = zip_of({f"images_gz2/images/{name}": data for name, data in IMAGES.items()})
    other_path = tmp_path / "kaggle.zip"
    other_path.write_bytes(other + b"")
    bring(home, other_path)
    assert_whole(home)
    record = json.loads((home / "downloads" / "images.record.json").read_text())
    assert record["md5"] == hashlib.md5(other).hexdigest() != ZIP_FILE.checksum
    assert (record["source"], record["images"]) == (str(other_path), 16)
    assert "16 unpacked into" in capsys.readouterr().out
    bring(home, other_path)
    assert "16 already there" in capsys.readouterr().out


def test_a_zip_with_too_few_images(home: Path, tmp_path: Path):
    few = {name: data for name, data in IMAGES.items() if name != "115.jpg"}
    (tmp_path / "few.zip").write_bytes(zip_of(few))
    with pytest.raises(Gz2vitError, match="few.zip holds 15 images <digits>.jpg instead of 16"):
        bring(home, tmp_path / "few.zip")
    other = few | {"9.jpg": b"not labelled"}
    del other["104.jpg"]
    other["8.jpg"] = b"not labelled either"
    (tmp_path / "other.zip").write_bytes(zip_of(other))
    with pytest.raises(Gz2vitError, match="no image of 1 of the 14 .*first is 104.jpg"):
        bring(home, tmp_path / "other.zip")
    assert not (home / "images").exists()


def test_images_that_are_there_must_suit_too(home: Path, tmp_path: Path):
    (tmp_path / "a.zip").write_bytes(ZIP)
    pictures(home / "images", without={"104.jpg"})
    (home / "images" / "9.jpg").write_bytes(b"not labelled")
    with pytest.raises(Gz2vitError, match=f"{home / 'images'} has no image of 1 of the 14"):
        bring(home, tmp_path / "a.zip")


def test_a_zip_that_would_burst_is_refused(home: Path, tmp_path: Path):
    (tmp_path / "a.zip").write_bytes(zip_of(IMAGES | {"99.jpg": bytes(400_001)}))
    with pytest.raises(Gz2vitError, match="more than the 0.0004 GB"):
        bring(home, tmp_path / "a.zip")


def test_what_is_no_source_of_images(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.zip").write_bytes(ZIP[:-40])
    for name in ("empty", "cut.zip", "missing"):
        with pytest.raises(Gz2vitError, match=f"{tmp_path / name} is neither a zip nor a folder"):
            find_own_images(tmp_path / name)


def test_ready_goes_by_the_record_or_the_published_number(home: Path):
    pictures(home / "images", without={"100.jpg"})
    folder = ImageFolder(home, ZIP_FILE)
    assert not folder.is_ready()
    assert ImageFolder(home, replace(ZIP_FILE, entries=15)).is_ready()
    folder.record_path.write_text('{"images": 15}')
    assert folder.is_ready()
    folder.record_path.write_text('{"images": "many"}')
    with pytest.raises(Gz2vitError, match="images.record.json does not say how many"):
        folder.is_ready()
