"""The file map: image names to object ids and back."""

from pathlib import Path

import pandas as pd
import pytest

from gz2vit.io import Gz2vitError
from gz2vit.votes import asset_ids, object_ids, read_mapping, rename_to_assets, rename_to_objects

ROWS = """objid,sample,asset_id
587722981736120347,original,1
587722981736579107,original,2
588015508213989555,stripe82_coadd_1,30
588015508213989555,original,4
588015508213989999,extra,5
"""


@pytest.fixture
def mapping(tmp_path: Path) -> pd.DataFrame:
    (tmp_path / "map.csv").write_text(ROWS)
    return read_mapping(tmp_path / "map.csv")


def test_ids_keep_every_digit(mapping: pd.DataFrame):
    assert object_ids(mapping)["1"] == "587722981736120347"
    assert object_ids(mapping)["30"] == object_ids(mapping)["4"] == "588015508213989555"


def test_the_main_surveys_image_comes_first(mapping: pd.DataFrame):
    assert asset_ids(mapping)["588015508213989555"] == "4"
    assert len(asset_ids(mapping)) == 4


def test_renaming_both_ways(mapping: pd.DataFrame):
    classes = pd.Series([3, 4, 5], ["587722981736120347", "588015508213989555", "111"])
    named, lost = rename_to_assets(classes, mapping)
    assert named.to_dict() == {"1": 3, "4": 4}
    assert lost == 1
    labels = pd.Series([3, 4, 4, 6], ["1", "30", "4", "absent"])
    assert rename_to_objects(labels, mapping).to_dict() == {
        "587722981736120347": 3,
        "588015508213989555": 4,
    }


def test_foreign_labels_are_refused(mapping: pd.DataFrame):
    with pytest.raises(Gz2vitError, match="none of the labelled galaxies is in the file map"):
        rename_to_objects(pd.Series([1], ["x"]), mapping)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("objid,sample\n1,original\n", "cannot be read as the file map"),
        ("objid,sample,asset_id\n1,original,7\n2,original,7\n", "image 7 stands there more than"),
        ("", "cannot be read as the file map"),
    ],
)
def test_a_wrong_file_map_is_named(tmp_path: Path, text: str, words: str):
    (tmp_path / "map.csv").write_text(text)
    with pytest.raises(Gz2vitError, match=words) as caught:
        read_mapping(tmp_path / "map.csv")
    assert "map.csv" in str(caught.value)


def test_no_file_map(tmp_path: Path):
    with pytest.raises(Gz2vitError, match="download mapping --to DIR"):
        read_mapping(tmp_path / "map.csv")
