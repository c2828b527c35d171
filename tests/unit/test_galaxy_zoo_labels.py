"""From votes to classes, merged labels and splits; real rows, checked by hand."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from gz2vit.catalog import read_label_table
from gz2vit.io import Gz2vitError
from gz2vit.votes import (
    DEFAULT_RULE,
    NO_CLASS,
    class_counts,
    derive_classes,
    fulfilled,
    label_table,
    read_votes,
    split_galaxies,
    write_label_tables,
)
from tests.unit.folders import needs_shared
from tests.unit.vote_catalogues import galaxy, random_votes

SPIRAL = {"features_or_disk": 0.43, "not_edgeon": 0.715, "spiral": 0.619}


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ({"smooth": 0.469, "completely_round": 0.67}, 0),
        ({"smooth": 0.468, "completely_round": 1.0}, NO_CLASS),
        ({"smooth": 0.9, "in_between": 0.67, "cigar_shaped": 0.33}, 1),
        ({"smooth": 0.9, "cigar_shaped": 0.7}, 2),
        ({"smooth": 0.9, "completely_round": 0.4, "in_between": 0.4}, NO_CLASS),
        ({"features_or_disk": 0.43, "edgeon": 0.7}, 3),
        ({"features_or_disk": 0.42, "edgeon": 0.7}, NO_CLASS),
        (SPIRAL | {"bar": 0.5, "no_bar": 0.5}, 4),
        (SPIRAL | {"bar": 0.4, "no_bar": 0.6}, 5),
        (SPIRAL | {"spiral": 0.6, "no_bar": 0.7}, NO_CLASS),
        (SPIRAL | {"not_edgeon": 0.7, "no_bar": 0.7}, NO_CLASS),
        ({"odd": 0.42, "disturbed": 0.3, "irregular": 0.4}, 6),
        ({"odd": 0.42, "merger": 0.7}, 7),
        ({"odd": 0.41, "merger": 0.9}, NO_CLASS),
        # Order of precedence: what is odd comes before disks, disks before smooth galaxies.
        ({"odd": 0.6, "merger": 0.7, "smooth": 1.0, "completely_round": 1.0}, 7),
        (SPIRAL | {"bar": 0.9, "odd": 0.6, "irregular": 0.8}, 6),
        ({"smooth": 0.5, "completely_round": 0.7, "features_or_disk": 0.5, "edgeon": 0.7}, 3),
    ],
)
def test_one_galaxy_at_a_time(votes: dict, expected: int):
    row = pd.DataFrame([galaxy(votes)], index=["1"])
    assert derive_classes(row, DEFAULT_RULE).tolist() == [expected]


def test_too_few_votes_on_its_own_question_are_no_class():
    """0.6 of 30 volunteers is 18, below Willett's 20; with 0.67 it is 20."""
    rows = pd.DataFrame(
        [galaxy({"smooth": 1.0, "completely_round": share}) for share in (0.6, 0.67)],
        index=["few", "enough"],
    )
    assert derive_classes(rows, DEFAULT_RULE).tolist() == [NO_CLASS, 0]
    assert derive_classes(rows, replace(DEFAULT_RULE, min_votes=18)).tolist() == [0, 0]


# Read off the catalogue's raw columns by hand: object id, class, and why. All with at least 10
# votes on the question, debiased fractions.
STRIPE_82 = [
    ("8647474690312308880", 0, "smooth 1.000; of 16 round 0.500, in-between 0.438, cigar 0.062"),
    ("8647474690312307877", 1, "smooth 0.810; round 0.235, in-between 0.765"),
    ("8647474690340553187", 1, "in-between 0.560 and cigar 0.542: the first of the two"),
    ("8647474690313159627", 2, "smooth 0.753; 18 of 22 cigar-shaped, 0.813; odd only 0.190"),
    ("8647474690313683717", 3, "features 0.903, edge-on 0.771; odd 0.455, but no merger in it"),
    ("8647474690315912418", 3, "smooth 0.515 and cigar 0.771, yet features 0.485, edge-on 1"),
    ("8647474690313225323", 4, "features 0.840, not edge-on 0.947, spiral 1, bar 0.722"),
    ("8647474690312438284", 5, "features, not edge-on and spiral all 1; none of 11 saw a bar"),
    ("8647474690315714665", 6, "odd 0.824; disturbed 0.133 + irregular 0.667 = 0.800"),
    ("8647474690317026130", 6, "edge-on as well (0.609, 0.929), but odd 0.455, irregular 0.8"),
    ("8647474690312308318", 7, "smooth and in-between, but odd 0.591 and merger 0.538"),
    ("8647474690312307154", NO_CLASS, "features 0.775, not edge-on 0.962, but spiral 0.295"),
    ("8647474690313224839", NO_CLASS, "round 0.791, but smooth only 0.411 of the votes"),
]


@pytest.mark.parametrize(("object_id", "expected", "why"), STRIPE_82)
def test_real_galaxies_checked_by_hand(object_id: str, expected: int, why: str):
    votes = read_votes(needs_shared("data/votes/stripe82_coadd_votes.csv.gz"))
    rule = replace(DEFAULT_RULE, min_votes=10)
    assert derive_classes(votes.loc[[object_id]], rule).tolist() == [expected], why


@pytest.mark.parametrize(("min_votes", "least"), [(20, 2), (10, 201), (0, 382)])
def test_all_eight_classes_come_out_of_stripe_82(min_votes: int, least: int):
    votes = read_votes(needs_shared("data/votes/stripe82_coadd_votes.csv.gz"))
    rule = replace(DEFAULT_RULE, min_votes=min_votes)
    counts = class_counts(derive_classes(votes, rule))
    assert counts.sum() == 19_761
    assert counts.drop("no class").min() == least == counts["6 Irregular"]


def test_every_galaxy_gets_the_first_class_that_it_fulfils():
    votes = random_votes(500, seed=5)
    matches = fulfilled(votes, replace(DEFAULT_RULE, min_votes=5))
    classes = derive_classes(votes, replace(DEFAULT_RULE, min_votes=5))
    assert set(classes) == {NO_CLASS, *range(8)}
    for column, index in zip(matches.T, classes, strict=True):
        fits = [
            one.class_index for one, yes in zip(DEFAULT_RULE.classes, column, strict=True) if yes
        ]
        assert index == (fits[0] if fits else NO_CLASS)


def test_label_table_merges_as_the_published_ones():
    published = pd.concat(
        read_label_table(needs_shared(f"data/published/gz2_{split}.csv"))
        for split in ("train", "valid", "test")
    )
    ours = label_table(published.set_index("galaxyID").label1)
    assert ours.equals(published.reset_index(drop=True))


def test_galaxies_without_a_class_are_not_in_the_table():
    table = label_table(pd.Series([3, NO_CLASS, 7], ["a", "b", "c"]))
    assert table.to_dict("list") == {
        "galaxyID": ["a", "c"],
        "label1": [3, 7],
        "label2": [1, 4],
        "label3": [1, 3],
        "label4": [1, 2],
    }


def test_splits_have_the_published_sizes_and_share_no_galaxy():
    table = pd.DataFrame({"galaxyID": range(155_951), "label1": 0})
    parts = split_galaxies(table, seed=3)
    assert {split: len(part) for split, part in parts.items()} == {
        "train": 99_808,
        "valid": 24_952,
        "test": 31_191,
    }
    everything = pd.concat(parts.values()).galaxyID
    assert sorted(everything) == list(range(155_951))


def test_one_seed_gives_one_split():
    table = pd.DataFrame({"galaxyID": range(200), "label1": 0})
    first, again, other = (split_galaxies(table, seed) for seed in (1, 1, 2))
    assert all(first[split].equals(again[split]) for split in first)
    assert not first["test"].equals(other["test"])


def test_too_few_galaxies_for_three_splits():
    with pytest.raises(Gz2vitError, match="4 galaxies got a class"):
        split_galaxies(pd.DataFrame({"galaxyID": range(4)}), seed=0)


def test_written_tables_are_label_tables(tmp_path: Path):
    votes = random_votes(400, seed=6)
    tables = split_galaxies(label_table(derive_classes(votes, DEFAULT_RULE)), seed=0)
    for path in write_label_tables(tmp_path, tables):
        split = path.stem.removeprefix("gz2_")
        assert read_label_table(path).equals(tables[split])
