"""The data folder: what is read, and what is refused, with a line that names the culprit."""

from pathlib import Path

import pytest

from gz2vit.catalog import class_composition, folder_signature, read_data_folder, take_subset
from gz2vit.io import Gz2vitError
from tests.unit.folders import make_folder


def test_reads_tables_as_they_are(tmp_path: Path):
    folder = read_data_folder(make_folder(tmp_path / "mine"))
    assert {split: len(table) for split, table in folder.tables.items()} == {
        "train": 16,
        "valid": 8,
        "test": 8,
    }
    assert folder.tables["train"].galaxyID.iloc[0] == "train-000"
    assert folder.tables["train"].label1.tolist() == [0, 1, 2, 3, 4, 5, 6, 7] * 2
    assert folder.properties is None
    assert folder.image_path("train-000").is_file()


def test_long_ids_and_leading_zeros_survive(tmp_path: Path):
    path = make_folder(tmp_path / "mine")
    (path / "gz2_test.csv").write_text("galaxyID,label1\n587742594156920921,7\n007,1\n")
    assert read_data_folder(path).tables["test"].galaxyID.tolist() == ["587742594156920921", "007"]


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("gz2_test.csv", "galaxyID,label1\nx,8\n", "galaxy x has label1 '8'"),
        ("gz2_test.csv", "galaxyID,label1\nx,spiral\n", "galaxy x has label1 'spiral'"),
        ("gz2_test.csv", "galaxyID,label1\nx,1.5\n", "galaxy x has label1 '1.5'"),
        ("gz2_test.csv", "galaxyID,label1\nx,\n", "galaxy x has label1 ''"),
        ("gz2_test.csv", "galaxyID,label1\nx,1\nx,1\n", "galaxy x stands there more than once"),
        (
            "gz2_test.csv",
            "galaxyID,label1\ntrain-003,3\n",
            "train-003 stands in both gz2_train.csv",
        ),
        ("gz2_valid.csv", "galaxyID,label1\n", "gz2_valid.csv holds no galaxies"),
        ("gz2_valid.csv", "", "gz2_valid.csv is not a readable CSV"),
        ("gz2_valid.csv", "galaxyID,class\nx,1\n", "has no column label1"),
        ("galaxy_properties.csv", "galaxyID,petroR90_r\nx,1\n", "has no column dered_r"),
    ],
)
def test_bad_tables_are_named(tmp_path: Path, file: str, content: str, words: str):
    path = make_folder(tmp_path / "mine")
    (path / file).write_text(content)
    with pytest.raises(Gz2vitError, match=words) as caught:
        read_data_folder(path)
    assert file in str(caught.value) or "gz2_test.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_property_is_named(tmp_path: Path):
    path = make_folder(tmp_path / "mine")
    header = "galaxyID,petroR90_r,dered_r,dered_g_r\n"
    (path / "galaxy_properties.csv").write_text(header + "train-000,5.5,16.1,\n")
    properties = read_data_folder(path).properties
    assert properties.petroR90_r.tolist() == [5.5]
    assert properties.dered_g_r.isna().all()
    (path / "galaxy_properties.csv").write_text(header + "train-000,large,16.1,0.8\n")
    with pytest.raises(Gz2vitError, match="petroR90_r of galaxy train-000 is 'large'"):
        read_data_folder(path)


def test_missing_folder_and_files(tmp_path: Path):
    with pytest.raises(Gz2vitError, match="nowhere does not exist"):
        read_data_folder(tmp_path / "nowhere")
    path = make_folder(tmp_path / "mine")
    (path / "gz2_train.csv").unlink()
    with pytest.raises(Gz2vitError, match="gz2_train.csv does not exist"):
        read_data_folder(path)


def test_composition_counts_every_galaxy(tmp_path: Path):
    composition = class_composition(read_data_folder(make_folder(tmp_path / "mine")).tables)
    assert composition["all"].tolist() == [4] * 8
    assert composition.loc["Merger"].tolist() == [2, 1, 1, 4]


def test_subset_keeps_shares_and_every_class(tmp_path: Path):
    tables = read_data_folder(make_folder(tmp_path / "mine", per_class=8)).tables
    subset = take_subset(tables, 32)
    before, after = class_composition(tables), class_composition(subset)
    assert (after == before // 8).all(axis=None)
    tiny = class_composition(take_subset(tables, 1))
    assert (tiny[["train", "valid", "test"]] == 1).all(axis=None)
    everything = take_subset(tables, 10_000)
    assert all(everything[split].equals(tables[split]) for split in tables)


def test_signature_changes_with_the_files(tmp_path: Path):
    path = make_folder(tmp_path / "mine")
    before = folder_signature(path)
    assert folder_signature(path) == before
    image = path / "images" / "train-000.jpg"
    image.write_bytes(image.read_bytes()[:-10])
    assert folder_signature(path) != before
