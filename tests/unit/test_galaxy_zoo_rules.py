"""The rule table: what the literature says, and rules in files."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from gz2vit.io import Gz2vitError
from gz2vit.votes import ANSWERS, DEFAULT_RULE, THRESHOLDS, Condition, read_rule, write_rule


def conditions_of(index: int) -> dict[str, float]:
    rule = next(one for one in DEFAULT_RULE.classes if one.class_index == index)
    return {" + ".join(one.answers): one.at_least for one in rule.conditions}


def test_thresholds_are_those_of_the_two_papers():
    """Zhu et al. 2019 for classes 0 to 3, Willett et al. 2013 for the path to the others."""
    assert conditions_of(0) == {"smooth": 0.469, "completely_round": 0.5}
    assert conditions_of(1) == {"smooth": 0.469, "in_between": 0.5}
    assert conditions_of(2) == {"smooth": 0.469, "cigar_shaped": 0.5}
    assert conditions_of(3) == {"features_or_disk": 0.430, "edgeon": 0.602}
    path = {"features_or_disk": 0.430, "not_edgeon": 0.715, "spiral": 0.619}
    assert conditions_of(4) == path | {"bar": 0.5}
    assert conditions_of(5) == path | {"no_bar": 0.5}
    assert conditions_of(6) == {"odd": 0.420, "disturbed + irregular": 0.5}
    assert conditions_of(7) == {"odd": 0.420, "merger": 0.5}
    assert DEFAULT_RULE.min_votes == 20


def test_each_class_stands_once_and_each_threshold_has_a_source():
    assert sorted(one.class_index for one in DEFAULT_RULE.classes) == list(range(8))
    assert set(DEFAULT_RULE.conditions()) == set(THRESHOLDS)
    assert all(source for _, source in THRESHOLDS.values())


def test_a_class_knows_its_own_question():
    by_index = {one.class_index: one for one in DEFAULT_RULE.classes}
    assert by_index[4].question == ("bar", "no_bar")
    assert by_index[0].question == ("completely_round", "in_between", "cigar_shaped")
    assert len(by_index[7].question) == 7


def test_a_shared_condition_changes_in_every_class():
    changed = DEFAULT_RULE.with_conditions({("smooth",): Condition(("smooth",), 0.8, "fraction")})
    smooth = [one for rule in changed.classes for one in rule.conditions if "smooth" in one.answers]
    assert [(one.at_least, one.column) for one in smooth] == [(0.8, "fraction")] * 3


def test_a_rule_survives_its_file(tmp_path: Path):
    rule = replace(DEFAULT_RULE, name="mine", min_votes=7, classes=DEFAULT_RULE.classes[::-1])
    rule = rule.with_conditions({("bar",): Condition(("bar",), 0.3, "fraction")})
    write_rule(tmp_path / "rule.yaml", rule)
    assert read_rule(tmp_path / "rule.yaml") == rule


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"class": "Blob"}, "unknown class 'Blob'"),
        ({"conditions": []}, "has no conditions"),
        ({"conditions": [{"answers": ["oval"], "at_least": 0.5}]}, "unknown answer 'oval'"),
        ({"conditions": [{"answers": ["bar"], "at_least": "much"}]}, "could not convert"),
        (
            {"conditions": [{"answers": ["bar"], "at_least": 0.5, "column": "votes"}]},
            "unknown column 'votes'",
        ),
    ],
)
def test_a_wrong_rule_is_named(tmp_path: Path, change: dict, words: str):
    path = tmp_path / "rule.yaml"
    write_rule(path, DEFAULT_RULE)
    content = yaml.safe_load(path.read_text())
    content["classes"][0] |= change
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(Gz2vitError, match=words) as caught:
        read_rule(path)
    assert "rule.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[1, 2]", "name: a\nmin_votes: 3\n", "a: [b\n"])
def test_what_is_no_rule_is_said(tmp_path: Path, text: str):
    (tmp_path / "rule.yaml").write_text(text)
    with pytest.raises(Gz2vitError, match="rule.yaml is not a rule"):
        read_rule(tmp_path / "rule.yaml")
    with pytest.raises(Gz2vitError, match="cannot read the rule"):
        read_rule(tmp_path / "absent.yaml")


def test_answers_are_columns_of_different_names():
    assert len(set(ANSWERS.values())) == len(ANSWERS)
