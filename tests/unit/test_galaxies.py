"""The splits of a run: packed of its selection, refused where they are of another state."""

import json
from pathlib import Path

import pandas as pd
import pytest

from gz2vit.catalog import DataFolder, leave_out, read_data_folder, read_selection, write_selection
from gz2vit.images import check_folder, open_split, pack_selection, read_broken
from gz2vit.io import Gz2vitError
from tests.unit.folders import make_folder
from tests.unit.test_images import spoil

CROP_PX = 64


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    return read_data_folder(make_folder(tmp_path / "mine"))


def select(results: Path, folder: DataFolder, leave_out_broken: bool = False) -> str:
    """What the notebook of the step `select` does; the state that `check_folder` returns."""
    state = check_folder(folder, results, leave_out_broken)
    tables, left_out = folder.tables, None
    if leave_out_broken:
        tables, left_out = leave_out(tables, read_broken(results, folder.path))
    write_selection(results, folder, tables, "smoke", left_out)
    return state


def test_packed_splits_are_opened(tmp_path: Path, folder: DataFolder):
    results = tmp_path / "out"
    select(results, folder)
    pack_selection(results, CROP_PX)
    for split, table in folder.tables.items():
        part = open_split(results, split)
        assert part.store.galaxy_ids == tuple(table.galaxyID)
        assert part.class_index.tolist() == table.label1.tolist()
        assert part.class_counts().sum() == len(part.store)


def test_a_store_of_another_state_of_the_folder_is_refused(tmp_path: Path, folder: DataFolder):
    results = tmp_path / "out"
    (results / "logs").mkdir(parents=True)
    select(results, folder)
    pack_selection(results, CROP_PX)
    with folder.image_path("train-000").open("ab") as stream:
        stream.write(b"0")
    with pytest.raises(Gz2vitError, match="has changed since galaxies were .* --only select`"):
        pack_selection(results, CROP_PX)
    select(results, folder)
    with pytest.raises(Gz2vitError, match=r"\(source differ\); delete it and run .* --only pack`"):
        open_split(results, "train")
    pack_selection(results, CROP_PX)
    assert len(open_split(results, "train").store) == 16


def test_undecodable_images_are_listed_and_then_left_out(tmp_path: Path, folder: DataFolder):
    results = tmp_path / "out"
    for name in ("train-005", "valid-001", "test-000", "test-007"):
        spoil(folder.image_path(name))
    select(results, folder)
    told = (
        r"train-005.jpg is broken or truncated \(.*\) \(and 3 more files have faults: "
        r"valid-001.jpg, test-000.jpg, ...\); the whole list is .*broken_images.csv; .*"
        "--set LEAVE_OUT_BROKEN=true"
    )
    for _ in range(2):
        with pytest.raises(Gz2vitError, match=told):
            pack_selection(results, CROP_PX)
    listed = pd.read_csv(results / "logs" / "broken_images.csv")
    assert listed.galaxyID.tolist() == ["train-005", "valid-001", "test-000", "test-007"]
    with pytest.raises(Gz2vitError, match="train-005.jpg"):
        check_folder(folder, results)  # packing's finds stop the next run before its work

    select(results, folder, leave_out_broken=True)
    data = read_selection(results).data
    assert data["name"] == "28 galaxies of mine, 4 left out: images that cannot be read"
    pack_selection(results, CROP_PX)
    assert len(open_split(results, "test").store) == 6
    note = json.loads((results / "store" / "test.json").read_text())
    assert note["left_out"] == ["test-000", "test-007"]


def test_what_is_found_later_is_left_out_by_the_same_command(tmp_path: Path, folder: DataFolder):
    results = tmp_path / "out"
    folder.image_path("test-001").unlink()
    spoil(folder.image_path("test-002"))
    first = select(results, folder, leave_out_broken=True)
    with pytest.raises(Gz2vitError, match="test-002.jpg .*; run the same command again"):
        pack_selection(results, CROP_PX)
    assert select(results, folder, leave_out_broken=True) != first, "so that the step runs again"
    pack_selection(results, CROP_PX)
    assert read_selection(results).left_out.galaxyID.tolist() == ["test-001", "test-002"]
    assert len(open_split(results, "test").store) == 6
