"""The decision path and the agreement of labels, as drawn."""

from collections.abc import Iterator
from dataclasses import replace

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from gz2vit.plots.extra_figures import draw_agreement, draw_decision_path
from gz2vit.votes import DEFAULT_RULE, class_counts, compare_labels, derive_classes
from tests.vote_catalogues import galaxy, random_votes

DATA = {"profile": "demo", "name": "votes on 4 galaxies of a.csv", "simulated": False}


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def test_the_path_counts_who_is_left_after_each_condition():
    rows = [
        galaxy({"smooth": 0.9, "not_odd": 1, "completely_round": 0.9}),
        galaxy({"smooth": 0.9, "not_odd": 1, "completely_round": 0.6}),  # 18 votes
        galaxy({"smooth": 0.9, "not_odd": 1, "completely_round": 0.2}),
        galaxy({"smooth": 0.9, "not_odd": 0.5, "completely_round": 0.9, "odd": 0.5, "merger": 0.9}),
    ]
    votes = pd.DataFrame(rows, index=list("abcd"))
    figure = draw_decision_path(votes, replace(DEFAULT_RULE, min_votes=20), DATA)
    shown = [" ".join(text.get_text().split()) for text in figure.axes[0].texts]
    assert shown[:3] == ["smooth ≥ 0.469 4", "not odd ≥ 0.5 4", "completely round ≥ 0.5 3"]
    # Two fulfil all of it, but one of them is a merger as well.
    assert shown[3:5] == ["votes on its question ≥ 20 2", "Round Elliptical 1"]
    assert "any of disturbed, irregular, other, dust lane ≥ 0.5 0" in shown
    assert "1 are selected" in figure.axes[0].get_title()
    assert "profile demo" in figure.get_supxlabel()


def test_the_last_boxes_are_the_class_counts():
    votes = random_votes(400, seed=13)
    rule = replace(DEFAULT_RULE, min_votes=5)
    told = [text.get_text() for text in draw_decision_path(votes, rule, DATA).axes[0].texts]
    for name, count in class_counts(derive_classes(votes, rule)).drop("no class").items():
        assert f"{name[2:]}\n{count:,}" in told


def test_agreement_shows_both_sides_and_who_is_missing():
    derived = pd.Series([0, 0, 1, -1, 7], list("abcde"))
    agreement = compare_labels(derived, pd.Series([0, 1, 3], ["a", "b", "d"]))
    figure = draw_agreement(agreement, DATA)
    axes = figure.axes[0]
    cells = [text.get_text() for text in axes.texts]
    assert len(cells) == 81
    assert cells[0] == "1"  # a
    assert cells[9] == "1"  # b: in the tables 1, derived 0
    assert cells[3 * 9 + 8] == "1"  # d: derived none
    assert cells[8 * 9 + 1] == cells[8 * 9 + 7] == "1"  # c and e: in no table
    assert cells.count("·") == 76
    assert axes.get_title() == "2 galaxies in both, 50.0% in the same class"
    assert axes.get_yticklabels()[8].get_text() == "not selected"
