"""Derived label tables as a data folder, and the question why a galaxy has its class."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from gz2vit.catalog import read_data_folder
from gz2vit.io import Gz2vitError
from gz2vit.votes import (
    DEFAULT_RULE,
    NO_CLASS,
    Condition,
    derive_classes,
    derive_folder,
    explain_galaxy,
)
from tests.unit.vote_catalogues import make_votes_home, random_votes

GALAXIES = 300


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder as a download leaves it: votes, file map, an image of all galaxies but two."""
    votes = random_votes(GALAXIES, seed=11)
    make_votes_home(tmp_path / "gz2", votes, DEFAULT_RULE)
    (tmp_path / "gz2" / "images").mkdir()
    selected = derive_classes(votes, DEFAULT_RULE).to_numpy() != NO_CLASS
    lost = [row for row in range(GALAXIES) if selected[row]][:2]
    for row in range(GALAXIES):
        if row not in lost:
            (tmp_path / "gz2" / "images" / f"{1000 + row}.jpg").touch()
    return tmp_path / "gz2"


def derive(home: Path, to: Path, **options: object) -> object:
    downloads = home / "downloads"
    return derive_folder(
        downloads / "gz2_hart16.csv.gz",
        to,
        options.get("rule", DEFAULT_RULE),
        options.get("seed", 0),
        downloads / "gz2_filename_mapping.csv",
        home / "images",
    )


def test_a_data_folder_comes_out(home: Path, tmp_path: Path):
    done = derive(home, tmp_path / "derived")
    folder = read_data_folder(tmp_path / "derived")
    names = pd.concat(folder.tables.values())
    assert len(names) == sum(done.galaxies.values()) == GALAXIES - done.classes["no class"] - 2
    assert done.without_image == 2
    assert all(folder.image_path(name).is_file() for name in names.galaxyID)
    votes = random_votes(GALAXIES, seed=11)
    classes = derive_classes(votes, DEFAULT_RULE)
    assert all(
        classes.iloc[int(name) - 1000] == label
        for name, label in zip(names.galaxyID, names.label1, strict=True)
    )


def test_the_record_says_how(home: Path, tmp_path: Path):
    derive(home, tmp_path / "derived", seed=5)
    record = json.loads((tmp_path / "derived" / "derivation.json").read_text())
    assert record["seed"] == 5
    assert record["votes"] == "gz2_hart16.csv.gz"
    assert len(record["votes_sha256"]) == 64
    assert record["rule"]["min_votes"] == 20


def test_again_with_another_rule(home: Path, tmp_path: Path):
    first = derive(home, tmp_path / "derived")
    easier = Condition(("smooth",), 0.2)
    again = derive(
        home, tmp_path / "derived", rule=DEFAULT_RULE.with_conditions({("smooth",): easier})
    )
    assert sum(again.galaxies.values()) > sum(first.galaxies.values())
    with pytest.raises(Gz2vitError, match="0 galaxies got a class"):
        derive(home, tmp_path / "none", rule=replace(DEFAULT_RULE, min_votes=31))


def test_object_ids_where_no_file_map_is_given(home: Path, tmp_path: Path):
    derive_folder(home / "downloads" / "gz2_hart16.csv.gz", tmp_path / "b", DEFAULT_RULE, 0)
    table = pd.read_csv(tmp_path / "b" / "gz2_train.csv", dtype=str)
    assert table.galaxyID.str.startswith("58772298").all()
    assert not (tmp_path / "b" / "images").exists()


def test_published_tables_are_not_written_over(home: Path, tmp_path: Path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "gz2_train.csv").write_text("galaxyID,label1\n1,1\n")
    with pytest.raises(Gz2vitError, match="gz2_train.csv is there already"):
        derive(home, tmp_path / "b")
    assert (tmp_path / "b" / "gz2_train.csv").read_text() == "galaxyID,label1\n1,1\n"


def test_images_of_others_are_not_linked_over(home: Path, tmp_path: Path):
    (tmp_path / "b" / "images").mkdir(parents=True)
    with pytest.raises(Gz2vitError, match="images is there already and is not"):
        derive(home, tmp_path / "b")
    (home / "images").rename(home / "elsewhere")
    (home / "images").mkdir()
    with pytest.raises(Gz2vitError, match="holds no image <galaxyID>.jpg"):
        derive(home, tmp_path / "c")


def test_a_galaxy_by_either_name(home: Path):
    votes_path = home / "downloads" / "gz2_hart16.csv.gz"
    table = pd.read_csv(home / "gz2_test.csv", dtype=str)
    name, label = table.galaxyID[0], table.label1[0]
    objid = random_votes(GALAXIES, seed=11).index[int(name) - 1000]
    for asked in (name, objid):
        told = explain_galaxy(asked, votes_path, DEFAULT_RULE, home)
        assert f"galaxy {objid}" in told
        assert f"=> {label} " in told
        assert f"published class: {label} " in told
        assert f"(image {name}, test)" in told
    assert f"image {name}.jpg shows SDSS object {objid}" in explain_galaxy(
        name, votes_path, DEFAULT_RULE, home
    )
    with pytest.raises(Gz2vitError, match="galaxy 77 is not in this catalogue"):
        explain_galaxy("77", votes_path, DEFAULT_RULE, home)
