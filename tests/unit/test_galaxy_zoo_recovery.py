"""A rule that was hidden is found again, from votes and labels alone."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from gz2vit.io import Gz2vitError
from gz2vit.recover_rule import Threshold, hide_rule, recover_rule, rule_forms
from gz2vit.votes import (
    DEFAULT_RULE,
    NO_CLASS,
    Condition,
    Rule,
    derive_classes,
    read_votes,
    tree_agreement,
    tree_text,
    vote_fraction,
)
from tests.unit.folders import needs_shared
from tests.unit.vote_catalogues import random_votes


@pytest.mark.parametrize("seed", range(4))
def test_a_hidden_rule_is_found_in_real_votes(seed: int):
    """Every threshold to the nearest vote fraction: no galaxy that it decides about is between."""
    votes = read_votes(needs_shared("data/votes/stripe82_coadd_votes.csv.gz"))
    hidden = hide_rule(DEFAULT_RULE, seed)
    classes = derive_classes(votes, hidden)
    found = recover_rule(votes, classes[classes != NO_CLASS], DEFAULT_RULE)
    assert found.agreement == found.agreement_labelled == 1.0
    assert (derive_classes(votes, found.rule) == classes).all()
    assert found.rule.min_votes == hidden.min_votes
    truth = hidden.conditions()
    for one in found.thresholds:
        sought = truth[one.answers].at_least
        assert one.low < sought <= one.high, one
        assert not between_the_two(votes, one, sought, classes, hidden), one


def between_the_two(
    votes: pd.DataFrame, one: Threshold, sought: float, classes: pd.Series, hidden: Rule
) -> int:
    """Galaxies between the hidden threshold and the one found that would get another class."""
    if not one.binding:
        return 0
    values = vote_fraction(votes, one.answers, one.column)
    moved = hidden.with_conditions({one.answers: Condition(one.answers, one.value, one.column)})
    inside = (values >= min(sought, one.value)) & (values < max(sought, one.value))
    return int((inside & (derive_classes(votes, moved) != classes)).sum())


def test_a_hidden_rule_is_found_in_drawn_votes():
    votes = random_votes(20_000, seed=8)
    classes = derive_classes(votes, hide_rule(DEFAULT_RULE, 0))
    found = recover_rule(votes, classes[classes != NO_CLASS], DEFAULT_RULE)
    assert found.agreement == 1.0
    truth = hide_rule(DEFAULT_RULE, 0).conditions()
    assert all(one.low < truth[one.answers].at_least <= one.high for one in found.thresholds)


def test_forms_differ_in_what_is_irregular():
    forms = rule_forms(DEFAULT_RULE)
    found = [next(one for one in form.conditions() if "irregular" in one) for form in forms]
    assert found == [
        ("irregular",),
        ("disturbed", "irregular"),
        ("disturbed", "irregular", "other"),
    ]


def test_labels_with_errors_still_give_the_rule():
    """4 % of the labels exchanged: nothing fits all of them, the thresholds stay."""
    votes = read_votes(needs_shared("data/votes/stripe82_coadd_votes.csv.gz"))
    rule = replace(DEFAULT_RULE, min_votes=0)
    clean = derive_classes(votes, rule)
    rng = np.random.default_rng(0)
    noisy = clean.copy()
    wrong = rng.random(len(noisy)) < 0.04
    noisy[wrong] = rng.permutation(noisy[wrong].to_numpy())
    found = recover_rule(votes, noisy[noisy != NO_CLASS], DEFAULT_RULE)
    assert found.agreement >= (clean == noisy).mean()
    for one in found.thresholds:
        if one.binding:
            assert one.value == pytest.approx(rule.conditions()[one.answers].at_least, abs=0.01)


def test_thresholds_are_told_as_far_as_they_are_known():
    assert Threshold(("bar",), "debiased", 0.4951, 0.5003).rounded == 0.5
    assert Threshold(("bar",), "debiased", 0.4681, 0.4694).rounded == 0.469
    assert Threshold(("bar",), "debiased", 0.46881, 0.46884).rounded == 0.46884
    assert not Threshold(("bar",), "debiased", 0.0, 0.4).binding


def test_a_class_without_galaxies_cannot_be_fitted():
    votes = random_votes(300, seed=9)
    labels = pd.Series(0, votes.index[:50])
    with pytest.raises(Gz2vitError, match="no galaxy with votes is labelled Merger"):
        recover_rule(votes, labels, DEFAULT_RULE)


def test_a_free_tree_finds_no_more_than_the_rule():
    votes = random_votes(6000, seed=10)
    classes = derive_classes(votes, replace(DEFAULT_RULE, min_votes=0))
    labels = classes[classes != NO_CLASS]
    deep, shallow = (tree_agreement(votes, labels, "debiased", depth) for depth in (8, 1))
    assert shallow < 0.8 < deep <= 1.0
    assert tree_agreement(votes, labels, "fraction", 8) < deep  # the labels are from the other
    assert "features_or_disk" in tree_text(votes, labels, "debiased", 3)
