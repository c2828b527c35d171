"""A rule that was lost or hidden is found again, from votes and labels alone."""

import json

import pandas as pd
import pytest

from gz2vit import votes as v
from gz2vit.io import Gz2vitError
from gz2vit.recover_rule import recover_rule
from gz2vit.votes import NO_CLASS, ClassRule, Condition, Rule, derive_classes
from tests.folders import needs_shared


def old_rule(column: str) -> Rule:
    """A rule of another kind: an order of precedence, and odd features that are added up."""
    least = {
        "odd": 0.383, "merger": 0.452, "disturbed irregular": 0.557, "features_or_disk": 0.461,
        "edgeon": 0.58, "not_edgeon": 0.688, "spiral": 0.633, "bar": 0.533, "no_bar": 0.491,
        "smooth": 0.502, "completely_round": 0.471, "in_between": 0.482, "cigar_shaped": 0.443,
    }  # fmt: skip
    paths = {
        7: "odd, merger", 6: "odd, disturbed irregular", 3: "features_or_disk, edgeon",
        4: "features_or_disk, not_edgeon, spiral, bar", 2: "smooth, cigar_shaped",
        5: "features_or_disk, not_edgeon, spiral, no_bar", 0: "smooth, completely_round",
        1: "smooth, in_between",
    }  # fmt: skip
    classes = (
        ClassRule(i, tuple(Condition(tuple(w.split()), least[w], column) for w in path.split(", ")))
        for i, path in paths.items()
    )
    return Rule("old", 8, tuple(classes))


def test_the_papers_rule_is_found_without_being_told():
    """From 700 real galaxies: every threshold within the interval that 1,000 of them allow."""
    facts = json.loads(needs_shared("paper/facts.json").read_text())["selection"]["recovered_rule"]
    allowed = facts["intervals_in_which_each_threshold_still_gives_all_1000"]
    votes = v.read_votes(needs_shared("data/votes/main_survey_sample.csv"))
    tables = v.label_tables(needs_shared("data/published")).values()
    found = recover_rule(votes, pd.concat(tables).set_index("galaxyID").label1)
    assert found.agreement == 1.0 > found.agreement_other and found.rule.exactly_one
    assert (found.several, found.several_labelled) == (64, 0)
    rows = found.thresholds.rename(index=lambda name: name.removeprefix("... "))
    for name, (low, high) in allowed.items():
        assert low <= rows.threshold[name] <= high, name
        assert rows.above[name] < rows.threshold[name] <= rows["up to"][name]
        assert rows.above[name] < low + 0.002 and rows["up to"][name] > high - 0.002, name
    single = [name for name in found.thresholds.index if name.startswith("... ")]
    assert {name[4:] for name in single} == {"disturbed", "irregular", "other", "dust_lane"}
    asks_not_odd = {one.class_index for one in found.rule.classes if len(one.conditions) == 3}
    assert asks_not_odd == {0, 1, 2, 3}
    # the galaxies next to a threshold are on either side of it
    smooth = votes.t01_smooth_or_features_a01_smooth_debiased
    below, above = (rows[f"nearest {side}"]["smooth"] for side in ("below", "above"))
    assert smooth[below] < 0.469 <= smooth[above]


def test_a_hidden_rule_of_the_old_kind_is_found():
    votes = v.read_votes(needs_shared("data/votes/stripe82_coadd_votes.csv.gz"))
    hidden = old_rule("weighted_fraction")
    classes = derive_classes(votes, hidden)
    found = recover_rule(votes, classes[classes != NO_CLASS])
    assert found.agreement == 1.0 > found.agreement_other
    assert (derive_classes(votes, found.rule) == classes).all()
    assert (found.rule.exactly_one, found.rule.min_votes) == (False, 8)
    for name, one in hidden.conditions().items():
        row = found.thresholds.loc[" + ".join(name)]
        assert row.column == "weighted_fraction"
        assert row.above < one.at_least <= row["up to"], name
    with pytest.raises(Gz2vitError, match="Merger|In-between"):  # a class without galaxies
        recover_rule(votes, pd.Series(0, votes.index[:50]))
