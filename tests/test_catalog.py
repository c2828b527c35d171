"""Tables that people hand in, data folders and what identifies them, selections, class weights."""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gz2vit import catalog
from gz2vit.catalog import DataFolder, class_weights, data_signature, read_data_folder, read_table
from gz2vit.io import Gz2vitError
from gz2vit.paper import CLASS_COUNTS, CLASS_NAMES, FIG2_GALAXY_IDS, SPLIT_CLASS_COUNTS
from tests.folders import make_folder


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    return read_data_folder(make_folder(tmp_path / "mine"))


# ---- read_table

PLAIN = "galaxyID,label1,label2\n587722981741363294,5,2\nNA,3,\n"


@pytest.mark.parametrize("content", [
    PLAIN, "\ufeff" + PLAIN, PLAIN.replace("\n", "\r\n"), PLAIN.replace(",", ";"),
    "sep=;\n" + PLAIN.replace(",", ";"), PLAIN.replace(",", "\t"), PLAIN.replace("\n", ",\n"),
    "galaxyID,label1,label2\n587722981741363294,5,2,\nNA,3,,\n", "#Table1\n\n" + PLAIN,
    "# " + PLAIN, PLAIN + "# the end, of it, all\n\n,,\n", PLAIN.replace("galaxyID", "GalaxyID"),
    PLAIN.replace("galaxyID", "Galaxy_id").replace("label1", '"Label 1"'),
    PLAIN.replace("galaxyID", "number,galaxyID").replace("\n", "\n7,", 2),
    PLAIN.replace("294,", "294.0,"), PLAIN.replace("294,", "294.JPG,"),
    PLAIN.replace("587722981741363294", '="587722981741363294"'),
    PLAIN.replace("587722981741363294", "'587722981741363294"),
])  # fmt: skip
def test_tables_of_many_writers_are_read_alike(tmp_path: Path, content: str):
    path = tmp_path / "t.csv"
    path.write_bytes(content.encode())
    table = read_table(path, ["label1"], optional=["label2", "label3"])
    assert list(table.columns) == ["galaxyID", "label1", "label2"]
    assert table.to_numpy().tolist() == [["587722981741363294", "5", "2"], ["NA", "3", ""]]
    path.write_bytes(content.lstrip("\ufeff").encode("utf-16"))
    pd.testing.assert_frame_equal(read_table(path, ["label1"], optional=["label2"]), table)


@pytest.mark.parametrize(("content", "rows"), [
    ("# objid  petroR90_r\n  007   5.25\n1.000e+00 6\n", [["007", "5.25"], ["1", "6"]]),
    ("objid petroR90_r\n2e12 5\n", [["2e12", "5"]]),  # a name, as nothing writes a number
    ("objid;petroR90_r\nnull;5,25\n", [["null", "5.25"]]),
    ('objid name petroR90_r\n1 "a b"\t5\n 2 c  6 \n', [["1", "5"], ["2", "6"]]),
    ('objid,name,petroR90_r\n1,"a, ""b""\nc",5\n', [["1", "5"]]),
    ("objid,OBJID.,petroR90_r\nx,1,1\n", [["x", "1"]]),  # written exactly so, beside another
])  # fmt: skip
def test_columns_between_spaces_quotes_and_decimal_commas(tmp_path: Path, content: str, rows: list):
    path = tmp_path / "t.csv"
    path.write_text(content)
    assert read_table(path, ["petroR90_r"], ids=["objid"]).to_numpy().tolist() == rows


@pytest.mark.parametrize(("content", "culprit"), [
    ("", "t.csv is empty"), ("name,label1\nx,1\n", "name, label1"), ("1,5\n2,3\n", "1, 5"),
    ("galaxyID,galaxyID,label1\nx,y,1\n", "'galaxyID'"),
    ("galaxyID,label1\nx,1\nx,1,2\n", "line 3"), ("#\ngalaxyID,label1\nx,1\ny\n", "line 4"),
    ("galaxyID,label1\n,1\n", "line 2"), ('galaxyID,label1\nx,"1\ny,1\n', "unexpected end"),
    ("galaxyID,label1\n5.87720E+17,1\n", "5.87720E.17"),
    ("galaxyID,label1\n1,1\n1.23457E+11,1\n", "1.23457E.11"),
    ("galaxyID,label1\n" + "".join(f"58772298{n}41363000,1\n" for n in range(3)), "413630"),
    ("galaxyID,label1\n" + "".join(f"{n * 2**51},1\n" for n in range(300, 303)), "6755"),
    ("galaxyID,label1\ncaf\udce9,1\n", "t.csv"),
])  # fmt: skip
def test_tables_that_cannot_be_read_are_refused(tmp_path: Path, content: str, culprit: str):
    path = tmp_path / "t.csv"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(Gz2vitError, match=culprit) as caught:
        read_table(path, ["label1"])
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


# ---- data folders


@pytest.mark.parametrize(("file", "content", "culprit"), [
    ("gz2_test.csv", "galaxyID,label1\nx,8\n", "'8'"),
    ("gz2_test.csv", "galaxyID,label1\nx,spiral\n", "'spiral'"),
    ("gz2_test.csv", "galaxyID,label1\nx,1.5\n", "'1.5'"),
    ("gz2_test.csv", "galaxyID,label1\nx,\n", "''"),
    ("gz2_test.csv", "galaxyID,label1\nx,1\nx,1\n", "galaxy x"),
    ("gz2_test.csv", "galaxyID,label1\ntrain-003,3\n", "train-003 .*gz2_train.csv"),
    ("gz2_valid.csv", "galaxyID,label1\n", "gz2_valid.csv"),
    ("galaxy_properties.csv", "galaxyID,petroR90_r\nx,1\n", "dered_r"),
    ("galaxy_properties.csv", "galaxyID,petroR90_r,dered_r,dered_g_r\nx,big,1,1\n", "'big'"),
    ("gz2_train.csv", None, "gz2_train.csv"), ("images", None, "images"),
])  # fmt: skip
def test_what_is_wrong_in_a_folder_is_named(folder: DataFolder, file: str, content, culprit: str):
    path = folder.path / file
    if content is None:
        path.rename(folder.path / "elsewhere")
    else:
        path.write_text(content)
    with pytest.raises(Gz2vitError, match=culprit):
        read_data_folder(folder.path)


def test_no_folder_is_named_and_missing_properties_are_nan(folder: DataFolder, tmp_path: Path):
    (tmp_path / "loop").symlink_to("loop")
    for name in ("nowhere", "loop", "mine/gz2_test.csv"):
        with pytest.raises(Gz2vitError, match=name):
            read_data_folder(tmp_path / name)
    path = tmp_path / "p.csv"
    path.write_text("galaxyID,petroR90_r,dered_r,dered_g_r\na,5.5,-9999,\nb,nan,-9999.0,0.5,\n")
    table = catalog.read_properties(path)
    assert table.dered_r.isna().all()
    assert table.dered_g_r.tolist()[1] == 0.5 and table.petroR90_r.tolist()[0] == 5.5


def test_images_are_found_by_their_stem(folder: DataFolder):
    images = folder.path / "images"
    (images / "train-002.jpg").rename(images / "train-002.fits")
    for name in ("train-003.fits", "train-004.PNG", os.fsdecode(b"caf\xe9.txt")):
        (images / name).touch()
    folder = read_data_folder(folder.path)
    names = [folder.image_path(name).name for name in ("train-002", "train-003", "nobody")]
    assert names == ["train-002.fits", "train-003.jpg", "nobody.jpg"]
    with pytest.raises(Gz2vitError, match=r"train-004.PNG, train-004.jpg"):
        folder.image_path("train-004")


# ---- what identifies a data folder


def test_signature_knows_the_galaxies_and_nothing_else(folder: DataFolder, tmp_path: Path):
    first = data_signature(folder)
    (folder.path / ".DS_Store").touch()
    (folder.path / "images" / "other.jpg").write_bytes(b"no galaxy of these")
    properties = "galaxyID,petroR90_r,dered_r,dered_g_r\ntrain-000,1,1,1\n"
    (folder.path / "galaxy_properties.csv").write_text(properties)
    shutil.copytree(folder.path, tmp_path / "copy", copy_function=shutil.copy)
    for path in (folder.path, tmp_path / "copy"):
        assert data_signature(read_data_folder(path)) == first

    table = (tmp_path / "copy" / "gz2_test.csv").read_text()
    (tmp_path / "copy" / "gz2_test.csv").write_text(table.replace("test-003,3", "test-003,4"))
    relabelled = data_signature(read_data_folder(tmp_path / "copy"))
    assert relabelled["pixels"] == first["pixels"]
    assert relabelled["galaxies"] != first["galaxies"]
    image = folder.image_path("valid-001")
    image.write_bytes(image.read_bytes()[:-10] + b"otherwise.")
    assert data_signature(folder)["pixels"] != first["pixels"]


def test_an_unchanged_folder_is_not_read_again(folder: DataFolder, tmp_path: Path, monkeypatch):
    cache = tmp_path / "logs" / "digests.json"
    first = data_signature(folder, cache)
    os.utime(folder.image_path("train-000"), ns=(1, 1))
    assert data_signature(folder, cache) == first  # read again, the same bytes
    monkeypatch.setattr("hashlib.file_digest", None)
    assert data_signature(folder, cache) == first
    monkeypatch.undo()
    cache.write_text("{")
    assert data_signature(folder, cache) == first
    image = folder.image_path("train-001")
    image.write_bytes(image.read_bytes()[:-1] + b"x")
    assert data_signature(folder, cache)["pixels"] != first["pixels"]


# ---- selections


def test_subset_keeps_shares_and_every_class(tmp_path: Path):
    tables = read_data_folder(make_folder(tmp_path / "mine", per_class=8)).tables
    subsets = (catalog.take_subset(tables, galaxies) for galaxies in (256, 32, 1))
    before, after, tiny = map(catalog.class_composition, subsets)
    assert (after == before // 8).all(axis=None)
    assert (tiny[["train", "valid", "test"]] == 1).all(axis=None)
    assert catalog.take_subset(tables, 10_000)["train"].equals(tables["train"])
    assert before.loc["Merger"].tolist() == [16, 8, 8, 32]


def broken(*galaxy_ids: str) -> pd.DataFrame:
    return pd.DataFrame({"galaxyID": galaxy_ids, "fault": "image is missing"})


def test_selections_are_read_as_written(folder: DataFolder, tmp_path: Path):
    faulty = broken("train-003", "train-011", "valid-006")
    tables, left_out = catalog.leave_out(folder.tables, faulty)
    assert tables["train"].index.tolist() == list(range(14))
    assert left_out.to_numpy().tolist()[2] == ["valid-006", "valid", 6, "image is missing"]
    written = catalog.write_selection(tmp_path / "out", folder, tables, "demo", left_out)
    assert written.data["name"].startswith("29 galaxies of mine, 3 left out")
    assert written.data["galaxies"] == {"train": 14, "valid": 7, "test": 8}
    assert written.data["left_out"] == {"train": 2, "valid": 1, "test": 0}
    assert list(written.data["gone_classes"].values()) == [["Edge-on Spiral"], ["Irregular"], []]
    read = catalog.read_selection(tmp_path / "out")
    assert read.data == written.data
    assert len(pd.read_csv(tmp_path / "out" / "selection" / "left_out.csv")) == 3
    for split in tables:
        pd.testing.assert_frame_equal(read.tables[split], tables[split])
    catalog.write_selection(tmp_path / "out", folder, folder.tables, "demo")
    data = catalog.read_selection(tmp_path / "out").data
    assert (data["name"], data["simulated"]) == ("32 galaxies of mine", False)
    assert not (tmp_path / "out" / "selection" / "left_out.csv").exists()
    with pytest.raises(Gz2vitError, match="'valid'"):
        catalog.leave_out(folder.tables, broken(*folder.tables["valid"].galaxyID))
    with pytest.raises(Gz2vitError, match="select"):
        catalog.read_selection(tmp_path / "results" / "demo")


def test_examples_are_the_papers_or_drawn():
    papers = {str(name): index for index, ids in enumerate(FIG2_GALAXY_IDS) for name in ids}
    rows = {"train": papers, "test": {f"other-{row}": row % 8 for row in range(40)}}

    def choose(seed: int) -> dict[str, list[str]]:
        """From the paper's sixteen galaxies, and a few more in the test split."""
        names = ["galaxyID", "label1"]
        tables = {split: pd.DataFrame(one.items(), columns=names) for split, one in rows.items()}
        return catalog.choose_examples(tables, per_class=2, seed=seed)

    assert list(choose(0)) == list(CLASS_NAMES) and choose(0)["Merger"] == ["270497", "221654"]
    papers["221654"] = 0  # the same id with another class is another catalogue's galaxy
    for index, ids in enumerate(choose(0).values()):
        assert [rows["test"][name] for name in ids] == [index, index]
    assert choose(0) == choose(0) != choose(1)
    few = catalog.choose_examples({"test": pd.DataFrame({"galaxyID": ["a"], "label1": [0]})}, 2, 0)
    assert few["Round Elliptical"] == ["a"] and few["Merger"] == []


# ---- class weights


def test_class_weights():
    assert class_weights("uniform", CLASS_COUNTS).tolist() == [1] * 8
    tuned = class_weights("tuned", CLASS_COUNTS)
    assert tuned.sum() == pytest.approx(8)
    assert tuned.round(2).tolist() == [0.19, 0.21, 0.98, 0.38, 0.53, 0.66, 1.81, 3.23]
    authors = [4.6, 4.0, 20.9, 9.6, 7.7, 5.1, 26.5, 73.3]
    assert class_weights("reciprocal", SPLIT_CLASS_COUNTS["train"]).round(1).tolist() == authors
    given = [1, 2, 3, 4, 5, 6, 7, 8.5]
    assert np.array_equal(class_weights(given, CLASS_COUNTS), given)
    refused = {
        "heavy": "heavy", (1, 2, 3): r"\(1, 2, 3\)", (1, 1, 1, 1, 1, 1, 1, 0): "0",
        (1, 1, 1, 1, 1, 1, 1, float("nan")): "nan", ("a",) * 8: "'a'", "reciprocal": "Merger",
    }  # fmt: skip
    for choice, culprit in refused.items():
        with pytest.raises(Gz2vitError, match=culprit):
            class_weights(choice, [5, 5, 5, 5, 5, 5, 5, 0])
