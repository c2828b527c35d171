"""Which votes a notebook works with: simulated, downloaded, or named; and whose labels."""

from pathlib import Path

import pytest

from gz2vit.io import Gz2vitError
from gz2vit.votes import DEFAULT_RULE, NO_CLASS, derive_classes, votes_at_hand
from tests.unit.folders import make_folder
from tests.unit.vote_catalogues import make_votes_home, random_votes, write_votes


def test_simulated_galaxies_have_simulated_volunteers(tmp_path: Path):
    folder = make_folder(tmp_path / "mine")
    (folder / "simulation.json").write_text("{}")
    at_hand = votes_at_hand(folder, None, seed=1)
    assert at_hand.simulated
    assert list(at_hand.votes.index) == list(at_hand.labels.index)
    assert len(at_hand.votes) == 32
    assert at_hand.record("demo") == {
        "profile": "demo",
        "name": "simulated votes on 32 galaxies",
        "simulated": True,
    }
    more = votes_at_hand(folder, None, seed=1, simulated_galaxies=3000)
    assert len(more.votes) == 3000
    assert more.labels.value_counts().idxmax() == 1  # the paper's mix: mostly in-between


def test_downloaded_votes_with_labels_by_way_of_the_file_map(tmp_path: Path):
    votes = random_votes(300, seed=11)
    home = make_votes_home(tmp_path / "gz2", votes, DEFAULT_RULE)
    at_hand = votes_at_hand(home, None, seed=0)
    classes = derive_classes(votes, DEFAULT_RULE)
    assert not at_hand.simulated
    assert at_hand.labels.sort_index().equals(classes[classes != NO_CLASS].sort_index())


def test_votes_named_by_their_path(tmp_path: Path):
    folder = make_folder(tmp_path / "mine")
    (folder / "simulation.json").write_text("{}")
    path = write_votes(tmp_path / "others.csv.gz", random_votes(30, seed=2))
    at_hand = votes_at_hand(folder, path, seed=0)
    assert at_hand.name == "votes on 30 galaxies of others.csv.gz"
    assert at_hand.labels is None  # no galaxy in common
    assert not at_hand.simulated


def test_no_votes(tmp_path: Path):
    folder = make_folder(tmp_path / "mine")
    with pytest.raises(Gz2vitError, match="download votes mapping --to .*; or name a catalogue"):
        votes_at_hand(folder, None, seed=0)
