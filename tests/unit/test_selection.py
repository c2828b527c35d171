"""The galaxies of a run, and those shown in Fig. 2."""

from pathlib import Path

import pandas as pd
import pytest

from gz2vit.catalog import (
    choose_examples,
    leave_out,
    read_data_folder,
    read_selection,
    write_selection,
)
from gz2vit.io import Gz2vitError
from gz2vit.paper import CLASS_NAMES, FIG2_GALAXY_IDS
from tests.unit.folders import make_folder


def test_round_trip(tmp_path: Path):
    folder = read_data_folder(make_folder(tmp_path / "mine"))
    written = write_selection(tmp_path / "results" / "demo", folder, folder.tables, "demo")
    read = read_selection(tmp_path / "results" / "demo")
    assert read.data == written.data
    assert read.data["name"] == "32 galaxies of mine"
    assert read.data["profile"] == "demo"
    assert read.data["simulated"] is False
    assert read.data["galaxies"] == {"train": 16, "valid": 8, "test": 8}
    for split in folder.tables:
        pd.testing.assert_frame_equal(read.tables[split], folder.tables[split])


def broken(*galaxy_ids: str) -> pd.DataFrame:
    return pd.DataFrame({"galaxyID": galaxy_ids, "fault": "image is missing"})


def test_galaxies_left_out_are_told_everywhere(tmp_path: Path):
    folder = read_data_folder(make_folder(tmp_path / "mine"))
    tables, left_out = leave_out(folder.tables, broken("train-003", "train-011", "valid-006"))
    assert "train-003" not in set(tables["train"].galaxyID)
    assert tables["train"].index.tolist() == list(range(14))
    written = write_selection(tmp_path / "out", folder, tables, "demo", left_out)
    assert written.data["name"] == "29 galaxies of mine, 3 left out: images that cannot be read"
    assert written.data["left_out"] == {"train": 2, "valid": 1, "test": 0}
    both = [["Edge-on Spiral"], ["Irregular"], []]
    assert list(written.data["gone_classes"].values()) == both
    read = read_selection(tmp_path / "out")
    assert read.data == written.data
    assert list(read.left_out.columns) == ["galaxyID", "split", "class_index", "fault"]
    assert read.left_out.to_numpy().tolist()[2] == ["valid-006", "valid", 6, "image is missing"]
    write_selection(tmp_path / "out", folder, folder.tables, "demo")
    assert read_selection(tmp_path / "out").left_out is None


def test_nothing_to_leave_out_is_told_too(tmp_path: Path):
    folder = read_data_folder(make_folder(tmp_path / "mine"))
    tables, left_out = leave_out(folder.tables, broken())
    written = write_selection(tmp_path / "out", folder, tables, "demo", left_out)
    assert written.data["name"] == "32 galaxies of mine"
    assert written.data["left_out"] == {"train": 0, "valid": 0, "test": 0}
    assert len(read_selection(tmp_path / "out").left_out) == 0


def test_a_split_must_not_be_emptied(tmp_path: Path):
    tables = read_data_folder(make_folder(tmp_path / "mine")).tables
    with pytest.raises(Gz2vitError, match="no image of the 8 galaxies of the split 'valid'"):
        leave_out(tables, broken(*tables["valid"].galaxyID))


def test_missing_selection_names_the_step(tmp_path: Path):
    with pytest.raises(Gz2vitError, match="run `./run_all.sh demo --only select`"):
        read_selection(tmp_path / "results" / "demo")


def papers_tables(wrong: str = "") -> dict[str, pd.DataFrame]:
    """Tables with the paper's sixteen galaxies, and a few more in the test split."""
    rows = [
        (str(name), index if str(name) != wrong else 0)
        for index, ids in enumerate(FIG2_GALAXY_IDS)
        for name in ids
    ]
    others = [(f"other-{row}", row % 8) for row in range(40)]
    columns = ["galaxyID", "label1"]
    return {
        "train": pd.DataFrame(rows, columns=columns),
        "test": pd.DataFrame(others, columns=columns),
    }


def test_the_papers_own_examples_where_they_are():
    chosen = choose_examples(papers_tables(), per_class=2, seed=0)
    assert list(chosen) == list(CLASS_NAMES)
    assert chosen["Merger"] == ["270497", "221654"]


def test_same_ids_with_another_class_are_other_galaxies():
    """Ids of another catalogue can be the same numbers; then the paper's classes give it away."""
    tables = papers_tables(wrong="221654")
    chosen = choose_examples(tables, per_class=2, seed=0)
    classes = tables["test"].set_index("galaxyID").label1
    for index, ids in enumerate(chosen.values()):
        assert [classes[name] for name in ids] == [index, index]
    assert chosen == choose_examples(tables, per_class=2, seed=0)
    assert chosen != choose_examples(tables, per_class=2, seed=1)


def test_a_class_may_have_too_few():
    table = pd.DataFrame({"galaxyID": ["a", "b"], "label1": [0, 3]})
    chosen = choose_examples({"test": table}, per_class=2, seed=0)
    assert chosen["Round Elliptical"] == ["a"]
    assert chosen["Merger"] == []
