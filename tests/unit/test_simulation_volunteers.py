"""Simulated volunteers: votes in the form of the real ones, reproducible, and telling."""

from pathlib import Path

import numpy as np

from gz2sim.volunteers import simulate_votes
from gz2vit.votes import (
    DEFAULT_RULE,
    NO_CLASS,
    derive_classes,
    read_votes,
    vote_count,
    vote_fraction,
)
from tests.unit.vote_catalogues import write_votes

CLASSES = np.tile(np.arange(8), 250)
IDS = [f"g{row}" for row in range(len(CLASSES))]


def test_the_form_is_that_of_the_catalogues(tmp_path: Path):
    votes = simulate_votes(IDS[:40], CLASSES[:40], seed=1)
    read = read_votes(write_votes(tmp_path / "votes.csv", votes))
    assert np.array_equal(read[votes.columns], votes)


def test_each_question_is_put_to_those_who_are_led_to_it():
    votes = simulate_votes(IDS, CLASSES, seed=2)
    first = vote_count(votes, ("smooth", "features_or_disk", "star_or_artifact"))
    assert np.array_equal(first, votes.total_classifications)
    for question, leading in (
        (("edgeon", "not_edgeon"), ("features_or_disk",)),
        (("bar", "no_bar"), ("not_edgeon",)),
        (("odd", "not_odd"), ("smooth", "features_or_disk")),
        (("completely_round", "in_between", "cigar_shaped"), ("smooth",)),
    ):
        assert np.array_equal(vote_count(votes, question), vote_count(votes, leading))
    total = vote_fraction(votes, ("edgeon", "not_edgeon"), "fraction")
    asked = vote_count(votes, ("features_or_disk",)) > 0
    assert np.allclose(total[asked], 1, atol=0.002)
    assert (total[~asked] == 0).all()


def test_one_seed_gives_one_catalogue():
    first, again, other = (simulate_votes(IDS, CLASSES, seed) for seed in (3, 3, 4))
    assert first.equals(again)
    assert not first.equals(other)


def test_most_galaxies_are_called_what_they_are_and_some_are_not():
    derived = derive_classes(simulate_votes(IDS, CLASSES, seed=5), DEFAULT_RULE)
    selected = derived != NO_CLASS
    right = (derived == CLASSES)[selected].mean()
    assert 0.8 < right < 0.99
    assert set(derived[selected]) == set(range(8))
    assert 0.6 < selected.mean() < 0.98
