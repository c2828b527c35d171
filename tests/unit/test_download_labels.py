"""The published label tables: their counts, their merged labels, and an image for each galaxy."""

from pathlib import Path

import pytest

from gz2vit.download import check_images_cover, check_published_split, download
from gz2vit.io import Gz2vitError
from tests.unit.file_server import CLASS_COUNTS, IMAGES, LABELS
from tests.unit.folders import needs_shared


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in LABELS.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def spoil(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))


def test_the_right_tables(folder: Path):
    check_published_split(folder, CLASS_COUNTS)


def test_another_number_names_table_class_and_count(folder: Path):
    spoil(folder / "gz2_valid.csv", b"110,2,0,0,0", b"110,1,0,0,0")
    told = "gz2_valid.csv holds 2 galaxies of class 1 In-between Elliptical, the published table 1"
    with pytest.raises(Gz2vitError, match=told):
        check_published_split(folder, CLASS_COUNTS)
    with pytest.raises(Gz2vitError, match="holds 1 galaxies of class 0 .* published table 21,683"):
        check_published_split(folder)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (b"113,7,4,3,2", b"113,7,3,3,2", "galaxy 113 of class 7 has label2 3 instead of 4"),
        (b"113,7,4,3,2", b"113,7,4,2,2", "galaxy 113 of class 7 has label3 2 instead of 3"),
        (b"113,7,4,3,2", b"113,7,4,3,1", "galaxy 113 of class 7 has label4 1 instead of 2"),
        (b"label4", b"label5", "gz2_test.csv has no column label4"),
        (b"113,7", b"100,7", "galaxy 100 stands in both gz2_train.csv and gz2_test.csv"),
    ],
)
def test_other_tables(folder: Path, old: bytes, new: bytes, told: str):
    spoil(folder / "gz2_test.csv", old, new)
    with pytest.raises(Gz2vitError, match=told):
        check_published_split(folder, CLASS_COUNTS)


def test_every_galaxy_has_an_image(folder: Path):
    check_images_cover(folder, IMAGES.keys(), Path("pictures"))
    some = IMAGES.keys() - {"104.jpg", "112.jpg"}
    told = "pictures has no image of 2 of the 14 galaxies .*, the first is 104.jpg; name other"
    with pytest.raises(Gz2vitError, match=told):
        check_images_cover(folder, some, Path("pictures"))
    (folder / "gz2_train.csv").unlink()
    with pytest.raises(Gz2vitError, match="1 of the 6 galaxies"):
        check_images_cover(folder, some, Path("pictures"))


def test_the_published_tables_are_the_papers(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    mirror = needs_shared("data/published/gz2_test.csv").parent
    download(tmp_path / "gz2", ["labels"], mirror=str(mirror))
    told = capsys.readouterr().out
    assert told.count("verified (sha256 ") == 3
    check_published_split(tmp_path / "gz2")
    download(tmp_path / "gz2", ["labels"], mirror=str(mirror))
    assert capsys.readouterr().out.count("already there") == 3
