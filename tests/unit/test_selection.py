"""The galaxies of a run, and those shown in Fig. 2."""

from pathlib import Path

import pandas as pd
import pytest

from gz2vit.catalog import read_data_folder
from gz2vit.errors import Gz2vitError
from gz2vit.paper import CLASS_NAMES, FIG2_GALAXY_IDS
from gz2vit.selection import choose_examples, read_selection, write_selection
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
