"""The explanation of a class says what the rule did, for any galaxy."""

from dataclasses import replace

import pandas as pd
import pytest

from gz2vit.io import Gz2vitError
from gz2vit.paper import CLASS_NAMES
from gz2vit.votes import DEFAULT_RULE, NO_CLASS, derive_classes, explain_class, read_votes
from tests.unit.folders import needs_shared
from tests.unit.vote_catalogues import galaxy, random_votes


def test_a_barred_spiral_step_by_step():
    votes = {"features_or_disk": 0.8, "not_edgeon": 0.9, "spiral": 0.7, "bar": 0.7, "no_bar": 0.3}
    row = pd.DataFrame([galaxy(votes)], index=["12"]).assign(total_classifications=40)
    lines = explain_class(row, "12", DEFAULT_RULE).splitlines()
    assert lines[0] == "galaxy 12, 40 volunteers"
    assert "yes  4 Barred Spiral" in lines
    assert "       yes  bar >= 0.5: 0.700 (debiased; 21 votes)" in lines
    assert "        no  odd >= 0.42: 0.000 (debiased; 0 votes)" in lines
    assert "       yes  votes on its question >= 20: 30" in lines
    assert lines[-1] == "=> 4 Barred Spiral"


def test_what_fits_as_well_is_told():
    votes = {"odd": 0.8, "merger": 0.7, "smooth": 0.9, "completely_round": 0.7}
    row = pd.DataFrame([galaxy(votes)], index=["12"])
    text = explain_class(row, "12", DEFAULT_RULE)
    assert text.endswith(
        "=> 7 Merger\n   (fits as well, but stands later in the order: Round Elliptical)"
    )
    assert "later" not in explain_class(random_votes(1, 0).iloc[:1], "587722981736120347", _never())


def _never() -> object:
    return replace(DEFAULT_RULE, min_votes=1000)


def test_every_galaxy_is_explained_with_the_class_that_it_gets():
    rule = replace(DEFAULT_RULE, min_votes=5)
    votes = random_votes(300, seed=7)
    for galaxy_id, index in derive_classes(votes, rule).items():
        told = explain_class(votes, galaxy_id, rule)
        verdict = "no class" if index == NO_CLASS else f"{index} {CLASS_NAMES[index]}"
        assert f"\n=> {verdict}" in told


def test_every_class_of_stripe_82_is_explained():
    votes = read_votes(needs_shared("data/votes/stripe82_coadd_votes.csv.gz"))
    classes = derive_classes(votes, DEFAULT_RULE)
    for index in range(8):
        galaxy_id = classes.index[classes == index][0]
        assert f"=> {index} {CLASS_NAMES[index]}" in explain_class(votes, galaxy_id, DEFAULT_RULE)


def test_an_unknown_galaxy():
    with pytest.raises(Gz2vitError, match="galaxy 99 is not in this catalogue of 5 galaxies"):
        explain_class(random_votes(5, seed=0), "99", DEFAULT_RULE)
