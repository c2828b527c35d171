"""Catalogues of votes: read as they are, refused by name where they are wrong."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gz2vit.io import Gz2vitError
from gz2vit.votes import ANSWERS, KINDS, read_votes, vote_count, vote_fraction
from tests.unit.folders import needs_shared
from tests.unit.vote_catalogues import random_votes, write_votes


@pytest.mark.parametrize("key", ["dr7objid", "objid"])
@pytest.mark.parametrize("name", ["votes.csv", "votes.csv.gz"])
def test_reads_what_was_written(tmp_path: Path, key: str, name: str):
    votes = random_votes(20, seed=1)
    read = read_votes(write_votes(tmp_path / name, votes.assign(total_classifications=40.0), key))
    assert list(read.index) == list(votes.index)  # 64-bit ids, to the last digit
    assert np.array_equal(read[votes.columns], votes)
    assert (read.total_classifications == 40).all()


def test_fractions_and_counts_add_up():
    votes = random_votes(50, seed=2)
    both = vote_fraction(votes, ("disturbed", "irregular"), "fraction")
    stems = [ANSWERS["disturbed"], ANSWERS["irregular"]]
    assert np.allclose(both, votes[f"{stems[0]}_fraction"] + votes[f"{stems[1]}_fraction"])
    assert (vote_count(votes, ("bar", "no_bar")) == 30).all()
    votes[[f"{ANSWERS[name]}_fraction" for name in ("smooth", "bar")]] = (0.1, 0.2)
    assert (vote_fraction(votes, ("smooth", "bar"), "fraction") >= 0.3).all()


def spoil(votes: pd.DataFrame, how: str) -> pd.DataFrame:
    """A catalogue with one fault."""
    spoiled = votes.copy()
    bar = f"{ANSWERS['bar']}_debiased"
    if how == "twice":
        return pd.concat([spoiled, spoiled.iloc[[3]]])
    if how == "no column":
        return spoiled.drop(columns=bar)
    if how == "empty":
        return spoiled.iloc[:0]
    column = f"{ANSWERS['bar']}_count" if how == "negative" else bar
    spoiled.loc[spoiled.index[5], column] = {"nan": np.nan, "above": 1.2, "negative": -1}[how]
    return spoiled


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("twice", "galaxy 587722981736120350 stands there more than once"),
        ("no column", "no column t03_bar_a06_bar_debiased"),
        ("empty", "holds no galaxies"),
        ("nan", "galaxy 587722981736120352 has t03_bar_a06_bar_debiased = nan"),
        ("above", "= 1.2, which is no vote fraction"),
        ("negative", "= -1.0, which is no number of votes"),
    ],
)
def test_a_fault_is_named(tmp_path: Path, how: str, words: str):
    path = write_votes(tmp_path / "votes.csv", spoil(random_votes(9, seed=3), how))
    with pytest.raises(Gz2vitError, match=words) as caught:
        read_votes(path)
    assert "votes.csv" in str(caught.value)


def test_what_is_no_catalogue_is_said(tmp_path: Path):
    with pytest.raises(Gz2vitError, match="download votes --to DIR"):
        read_votes(tmp_path / "absent.csv.gz")
    (tmp_path / "a.csv.gz").write_bytes(b"this is not compressed")
    with pytest.raises(Gz2vitError, match="a.csv.gz cannot be read as a table of votes"):
        read_votes(tmp_path / "a.csv.gz")
    whole = write_votes(tmp_path / "b.csv.gz", random_votes(200, seed=4)).read_bytes()
    (tmp_path / "b.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Gz2vitError, match="b.csv.gz cannot be read"):
        read_votes(tmp_path / "b.csv.gz")
    (tmp_path / "c.csv").write_text("id,votes\n1,2\n")
    with pytest.raises(Gz2vitError, match="neither a column dr7objid nor objid"):
        read_votes(tmp_path / "c.csv")


def test_the_real_catalogue_of_stripe_82():
    votes = read_votes(needs_shared("data/votes/stripe82_coadd_votes.csv.gz"))
    assert len(votes) == 19_761
    assert votes.index[0] == "8647474690312307154"
    assert len(votes.columns) == len(ANSWERS) * len(KINDS) + 1
    row = votes.iloc[0]
    assert row["t01_smooth_or_features_a01_smooth_count"] == 10
    assert row["t01_smooth_or_features_a01_smooth_debiased"] == 0.21770866
    assert row["total_classifications"] == 16
