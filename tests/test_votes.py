"""Votes to classes: the recovered rule, rules in files, spoiled tables, data folders."""

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from gz2vit import votes as v
from gz2vit.catalog import read_data_folder, read_label_table, read_properties
from gz2vit.io import Gz2vitError
from gz2vit.votes import DEFAULT_RULE, NO_CLASS, Condition, derive_classes, read_votes
from tests.folders import make_folder, needs_shared
from tests.vote_catalogues import galaxy, make_votes_home, random_votes, write_votes

SAMPLE = "data/votes/main_survey_sample.csv"
DISK = {"features_or_disk": 0.43, "not_edgeon": 0.715, "spiral": 0.619}
BARRED_AND_IRREGULAR = DISK | {"bar": 0.9, "odd": 0.6, "other": 0.8}
PRECEDENCE = replace(DEFAULT_RULE, exactly_one=False, classes=DEFAULT_RULE.classes[::-1])
GALAXIES = 300


def published_labels() -> pd.Series:
    tables = v.label_tables(needs_shared("data/published")).values()
    return pd.concat(tables).set_index("galaxyID").label1


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder as a download leaves it: votes, file map, an image of all galaxies but two."""
    votes = random_votes(GALAXIES, seed=11)
    home = make_votes_home(tmp_path / "gz2", votes, DEFAULT_RULE)
    (home / "images").mkdir()
    lost = np.flatnonzero(derive_classes(votes) != NO_CLASS)[:2]
    for row in set(range(GALAXIES)) - set(lost):
        (home / "images" / f"{1000 + row}.jpg").touch()
    return home


# ---- rules


def test_the_published_decision_for_700_of_700_real_galaxies():
    votes = read_votes(needs_shared(SAMPLE))
    published = published_labels().reindex(votes.index, fill_value=NO_CLASS)
    assert (derive_classes(votes) == published).sum() == 700
    # neither an order of precedence nor sums of odd features give them
    assert (derive_classes(votes, PRECEDENCE) == published).sum() < 650
    odd = DEFAULT_RULE.classes[6].conditions[1]
    summed = DEFAULT_RULE.with_conditions({odd.answers: replace(odd, any_of=False)})
    assert (derive_classes(votes, summed) == published).sum() < 700


@pytest.mark.parametrize(("votes", "expected"), [
    ({"smooth": 0.469, "not_odd": 0.5, "completely_round": 0.5}, 0),
    ({"smooth": 0.468, "not_odd": 1.0, "completely_round": 1.0}, NO_CLASS),
    ({"smooth": 0.9, "not_odd": 0.49, "completely_round": 1.0}, NO_CLASS),
    ({"smooth": 0.9, "not_odd": 1.0, "in_between": 0.6, "cigar_shaped": 0.4}, 1),
    ({"smooth": 0.9, "not_odd": 1.0, "in_between": 0.5, "cigar_shaped": 0.5}, NO_CLASS),
    ({"features_or_disk": 0.43, "not_odd": 0.5, "edgeon": 0.602}, 3),
    (DISK | {"bar": 0.7, "no_bar": 0.3}, 4), (DISK | {"bar": 0.69, "no_bar": 0.31}, NO_CLASS),
    (DISK | {"no_bar": 0.7, "odd": 0.6}, 5),  # odd for a reason that no class has
    ({"odd": 0.42, "disturbed": 0.4, "irregular": 0.4}, NO_CLASS),  # they are not added up
    ({"odd": 0.9, "other": 0.9, "disturbed": np.nan, "bar": -9999}, 6),  # missing hides nothing
    ({"odd": 0.42, "dust_lane": 0.5}, 6), ({"odd": 0.42, "merger": 0.5}, 7),
    (BARRED_AND_IRREGULAR, NO_CLASS),
])  # fmt: skip
def test_one_galaxy_at_a_time(votes: dict, expected: int):
    known = {name: value for name, value in votes.items() if abs(value) <= 1}
    row = galaxy(known) | {f"{v.ANSWERS[name]}_debiased": value for name, value in votes.items()}
    assert derive_classes(pd.DataFrame([row], ["1"])).tolist() == [expected]


def test_precedence_takes_the_first_of_several_and_an_explanation_names_them():
    row = pd.DataFrame([galaxy(BARRED_AND_IRREGULAR)], ["7"])
    assert derive_classes(row, PRECEDENCE).tolist() == [6]
    assert derive_classes(row, replace(DEFAULT_RULE, exactly_one=False)).tolist() == [4]
    lines = v.explain_class(row, "7", DEFAULT_RULE).splitlines()
    assert "Barred Spiral, Irregular" in lines[-1] and "left out" in lines[-1]
    assert any("bar >= 0.7: 0.9 (debiased; 27 votes)" in line for line in lines)
    last = v.explain_class(row, "7", PRECEDENCE).splitlines()[-1]
    assert "=> 6 Irregular" in last and "Barred Spiral" in last
    none = pd.DataFrame([galaxy({"smooth": 0.4})], ["7"])
    assert v.explain_class(none, "7", DEFAULT_RULE).splitlines()[-1].startswith("=> no class")


def test_a_least_number_of_votes_is_asked_where_there_are_counts(capsys: pytest.CaptureFixture):
    shares = (0.6, 0.67)  # of 30 volunteers: 18 and 20
    rows = [galaxy({"smooth": 1, "not_odd": 1, "completely_round": share}) for share in shares]
    votes = pd.DataFrame(rows, ["few", "enough"])
    rule = replace(DEFAULT_RULE, min_votes=20)
    assert derive_classes(votes, rule.applied_to(votes)).tolist() == [NO_CLASS, 0]
    fractions = votes.filter(regex="debiased$")
    assert derive_classes(fractions, rule.applied_to(fractions)).tolist() == [0, 0]
    assert "20 is not asked" in capsys.readouterr().out


FAULTS = [
    ({"class": "Blob"}, "'Blob'"), ({"conditions": []}, "conditions"),
    ({"conditions": [{"answers": ["oval"], "at_least": 0.5}]}, "'oval'"),
    ({"conditions": [{"answers": ["bar"], "at_least": "much"}]}, "'much'"),
    ({"conditions": [{"answers": ["bar"], "at_least": 0.5, "column": "votes"}]}, "'votes'"),
    ({"conditions": [{"answers": ["bar"], "at_least": 0.5, "any_of": "all"}]}, "'all'"),
]  # fmt: skip


def test_a_rule_survives_its_file_and_a_wrong_one_is_named(tmp_path: Path):
    path, changed = tmp_path / "rule.yaml", Condition(("bar",), 0.3, "fraction")
    for rule in (replace(PRECEDENCE.with_conditions({("bar",): changed}), name="x"), DEFAULT_RULE):
        v.write_rule(path, rule)
        assert v.read_rule(path) == rule
    texts, written = ["", "[1, 2]", "name: a\nmin_votes: 3\n", "a: [b\n"], path.read_text()
    for change, _ in FAULTS:
        content = yaml.safe_load(written)
        content["classes"][0] |= change
        texts.append(yaml.safe_dump(content))
    for text, offending in zip(texts, [""] * 4 + [one for _, one in FAULTS], strict=True):
        path.write_text(text)
        with pytest.raises(Gz2vitError, match=rf"rule\.yaml.*{offending}"):
            v.read_rule(path)


# ---- published tables


@pytest.mark.parametrize("name", ["votes.csv", "votes.csv.gz"])
@pytest.mark.parametrize("key", ["dr7objid", "asset_id", "DR7OBJID"])
def test_a_catalogue_is_read(tmp_path: Path, name: str, key: str):
    votes = random_votes(9, seed=3)
    votes.iloc[0, 5] = -9999
    read = read_votes(write_votes(tmp_path / name, votes, key))
    assert (read.index.tolist(), read.index.name) == (votes.index.tolist(), key.lower())
    assert np.allclose(read[votes.columns], votes.replace(-9999, np.nan), equal_nan=True)
    with pytest.raises(Gz2vitError, match="t02_edgeon"):
        derive_classes(votes.drop(columns=votes.columns[17:20]))


def with_value(column: str, value: object) -> pd.DataFrame:
    votes = random_votes(9, seed=3).astype(object)
    votes.loc[votes.index[5], f"{v.ANSWERS['bar']}_{column}"] = value
    return votes


FAULTY = {
    "impossible fraction": (with_value("debiased", 1.2), "120352 has t03_bar_a06_bar_debiased"),
    "impossible count": (with_value("count", -1), "120352 has t03_bar_a06_bar_count"),
    "no number": (with_value("debiased", "x"), "120352 has t03_bar_a06_bar_debiased"),
    "twice": (random_votes(9, seed=3).iloc[[*range(9), 3]], "120350"),
    "no galaxies": (random_votes(9, seed=3).iloc[:0], "holds no votes"),
    "DR8": (random_votes(9, 3).set_axis([f"123765{n:013d}" for n in range(9)]), "1237.*DR8"),
    "other key": (random_votes(9, seed=3), r"no column 'asset_id'.*dr8objid"),
    "absent": (None, "gz2vit download votes"),
    "half": (random_votes(200, seed=4), "not a readable"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTY)
def test_faulty_catalogues_are_named(tmp_path: Path, fault: str):
    votes, offending = FAULTY[fault]
    path = tmp_path / "votes.csv.gz"
    if votes is not None:
        write_votes(path, votes, "dr8objid" if fault == "other key" else "dr7objid")
    if fault == "half":
        path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(Gz2vitError, match=rf"votes\.csv\.gz.*{offending}"):
        read_votes(path)


MAP = """objid,sample,asset_id
587722981736120347,original,1
587722981736579107,original,2
588015508213989555,stripe82_coadd_1,30
588015508213989555,original,4
"""


def test_the_file_map_prefers_the_main_surveys_image(tmp_path: Path):
    (tmp_path / "map.csv").write_text(MAP)
    mapping = v.read_mapping(tmp_path / "map.csv")
    assert mapping.index.tolist() == ["1", "2", "4", "30"]
    assert mapping.objid[["30", "4"]].tolist() == ["588015508213989555"] * 2
    (tmp_path / "map.csv").write_text(MAP + "1,original,4\n")
    with pytest.raises(Gz2vitError, match=r"map\.csv.* 4 more than once"):
        v.read_mapping(tmp_path / "map.csv")


# ---- label tables and data folders


def test_label_table_and_split_are_as_published():
    table = v.label_table(published_labels())
    paths = [needs_shared(f"data/published/gz2_{s}.csv") for s in ("train", "valid", "test")]
    assert table.equals(pd.concat(map(read_label_table, paths), ignore_index=True))
    parts = v.split_galaxies(table, seed=3)
    assert [len(part) for part in parts.values()] == [99_808, 24_952, 31_191]
    assert pd.concat(parts.values()).galaxyID.is_unique
    assert parts["test"].equals(v.split_galaxies(table, seed=3)["test"])
    assert not parts["test"].equals(v.split_galaxies(table, seed=4)["test"])
    with pytest.raises(Gz2vitError, match="4 galaxies"):
        v.split_galaxies(table[:4], seed=0)


def derive(home: Path, to: Path, rule: v.Rule = DEFAULT_RULE, seed: int = 0) -> dict:
    paths = home / v.MAPPING_FILE, home / "images"
    return v.derive_folder(home / v.VOTES_FILE, to, rule, seed, *paths)


def test_a_data_folder_comes_out(home: Path, tmp_path: Path):
    done = derive(home, tmp_path / "derived", seed=5)
    folder = read_data_folder(tmp_path / "derived")
    table = pd.concat(folder.tables.values())
    expected = GALAXIES - done["classes"]["no class"] - 2
    assert len(table) == sum(done["galaxies"].values()) == expected
    assert done["without_image"] == 2
    classes = derive_classes(random_votes(GALAXIES, seed=11))
    for name, label in zip(table.galaxyID, table.label1, strict=True):
        assert folder.image_path(name).is_file()
        assert classes.iloc[int(name) - 1000] == label
    record = json.loads((tmp_path / "derived" / "derivation.json").read_text())
    assert (record["seed"], record["rule"]["exactly_one"]) == (5, True)
    easier = DEFAULT_RULE.with_conditions({("smooth",): Condition(("smooth",), 0.2)})
    again = derive(home, tmp_path / "derived", easier)
    assert sum(again["galaxies"].values()) > sum(done["galaxies"].values())


def test_what_does_not_fit_is_refused(home: Path, tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "gz2_train.csv").write_text("galaxyID,label1\n1,1\n")
    (tmp_path / "b" / "images").mkdir(parents=True)
    for folder, offending in (("a", r"gz2_train\.csv"), ("b", "b/images")):
        with pytest.raises(Gz2vitError, match=offending):
            derive(home, tmp_path / folder)
    assert (tmp_path / "a" / "gz2_train.csv").read_text() == "galaxyID,label1\n1,1\n"
    shutil.rmtree(home / "images")
    (home / "images").mkdir()
    with pytest.raises(Gz2vitError, match="gz2/images"):
        derive(home, tmp_path / "c")
    (home / v.MAPPING_FILE).write_text(MAP.replace("120347", "1"))
    with pytest.raises(Gz2vitError, match=r"gz2_filename_mapping\.csv"):
        derive(home, tmp_path / "d")


def test_a_galaxy_by_either_name(home: Path):
    table = read_label_table(home / "gz2_test.csv")
    name, label = table.galaxyID[0], table.label1[0]
    object_id = random_votes(GALAXIES, seed=11).index[int(name) - 1000]
    for asked in (name, object_id, f"{name}.jpg", f"{object_id}.0"):
        told = v.explain_galaxy(asked, home / v.VOTES_FILE, DEFAULT_RULE, home)
        assert f"=> {label} " in told and object_id in told
        assert f"published class: {label} " in told and f"(image {name}, test)" in told
    path, published = needs_shared(SAMPLE), needs_shared("data/published")
    asked = ("46459", read_votes(path).dr7objid["46459"])
    one, other = (v.explain_galaxy(name, path, DEFAULT_RULE, published) for name in asked)
    assert "Round Elliptical, Barred Spiral); left out" in one
    assert "published class: none" in one and other.endswith(one.partition("\n")[2])


def test_an_unknown_galaxy_gets_the_true_reason(home: Path):
    with (home / v.MAPPING_FILE).open("a") as stream:
        stream.write("588015508213989555,stripe82,2000\n")
    reasons = {
        "1237668296598749280": "DR8", "5.87E+17": "all of its digits", "77": "77 has no votes",
        "2000": "object is 588015508213989555", "588015508213989555": "catalogue with --votes",
    }  # fmt: skip
    for asked, reason in reasons.items():
        with pytest.raises(Gz2vitError, match=reason):
            v.explain_galaxy(asked, home / v.VOTES_FILE, DEFAULT_RULE, home)


def test_labels_join_by_file_map_or_by_asset_id(home: Path, tmp_path: Path):
    _, labels, _ = v.load_votes(home)
    classes = derive_classes(random_votes(GALAXIES, seed=11))
    assert labels.sort_index().equals(classes[classes != NO_CLASS].sort_index())
    empty = make_folder(tmp_path / "mine")
    with pytest.raises(Gz2vitError, match="download votes mapping"):
        v.load_votes(empty)
    path, published = needs_shared(SAMPLE), needs_shared("data/published")
    votes, labels, _ = v.load_votes(empty, path, labels_dir=published)
    assert labels.reindex(votes.index).notna().sum() == 504
    with pytest.raises(Gz2vitError, match="downloads"):
        v.load_votes(empty, path, labels_dir=home / "downloads")
    # where galaxies are simulated, so are volunteers, unless votes are named: here of others
    (empty / "simulation.json").write_text("{}")
    votes, labels, data = v.load_votes(empty, seed=1, simulated_galaxies=3000)
    assert data["simulated"] and votes.index.equals(labels.index) and len(votes) == 3000
    assert labels.value_counts().idxmax() == 1  # the paper's mix: mostly in-between
    votes, labels, data = v.load_votes(empty, home / v.VOTES_FILE)
    assert (len(votes), labels, data["simulated"]) == (GALAXIES, None, False)


@pytest.mark.parametrize(("columns", "values", "extinction_g"), [
    (",PETROMAG_G", ",17.0", 0.2 * 3.793 / 2.751), (",PETROMAG_G,EXTINCTION_G", ",17,0.3", 0.3),
])  # fmt: skip
def test_size_magnitude_and_colour(tmp_path: Path, columns: str, values: str, extinction_g: float):
    """Unknown galaxies and what SDSS did not measure (-9999) stay empty."""
    rows = [
        f"OBJID,PETROR50_R,PETROR90_R,PETROMAG_R,EXTINCTION_R,REDSHIFT{columns}",
        f"587722981736120347,2.1,6.5,16.2,0.2,0.05{values}",
        f"587722981736120347,9,9,9,9,9{values}",  # a repeated object counts once
        f"587722981736579107,2.1,-9999,-9999,0.2,0.05{values}",
    ]
    names = {"train": "1", "valid": "2", "test": "4"}
    tables = {split: pd.DataFrame({"galaxyID": [one], "label1": 0}) for split, one in names.items()}
    v.write_label_tables(tmp_path, tables)
    (tmp_path / "downloads").mkdir()
    (tmp_path / v.MAPPING_FILE).write_text(MAP)
    (tmp_path / v.SAMPLE_FILE).write_bytes(gzip.compress("\n".join(rows).encode()))
    v.write_properties(tmp_path)
    path = tmp_path / "galaxy_properties.csv"
    read = read_properties(path).set_index("galaxyID")
    assert read.loc["1"].tolist() == pytest.approx([6.5, 16.0, 17 - extinction_g - 16], abs=1e-4)
    assert read.loc[["2", "4"]].isna().all(axis=None)
    path.unlink()
    (tmp_path / v.SAMPLE_FILE).write_bytes(gzip.compress(b"OBJID,PETROMAG_R\n1,2\n"))
    with pytest.raises(Gz2vitError, match=r"gz2sample\.csv.*PETROR90_R"):
        v.write_properties(tmp_path)
