"""The rule that turns volunteers' votes into the eight classes: the one table of it.

The paper says only that its selection follows Willett et al. 2013 and Zhu et al. 2019; the authors'
own step is in no public copy. `DEFAULT_RULE` is what those two papers give, with this suite's
choices where they are silent: each threshold stands in `THRESHOLDS` with its source. A rule can be
written to a YAML file and read from one, so that another selection needs no code.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from gz2vit.errors import Gz2vitError
from gz2vit.paper import (
    CLASS_NAMES,
    WILLETT_MIN_FRACTION,
    WILLETT_MIN_VOTES,
    ZHU_MIN_ROUNDNESS,
)
from gz2vit.results import write_text

# The answers that matter, by short name: the stem of their columns in the catalogues of votes.
ANSWERS = {
    "smooth": "t01_smooth_or_features_a01_smooth",
    "features_or_disk": "t01_smooth_or_features_a02_features_or_disk",
    "star_or_artifact": "t01_smooth_or_features_a03_star_or_artifact",
    "edgeon": "t02_edgeon_a04_yes",
    "not_edgeon": "t02_edgeon_a05_no",
    "bar": "t03_bar_a06_bar",
    "no_bar": "t03_bar_a07_no_bar",
    "spiral": "t04_spiral_a08_spiral",
    "no_spiral": "t04_spiral_a09_no_spiral",
    "odd": "t06_odd_a14_yes",
    "not_odd": "t06_odd_a15_no",
    "completely_round": "t07_rounded_a16_completely_round",
    "in_between": "t07_rounded_a17_in_between",
    "cigar_shaped": "t07_rounded_a18_cigar_shaped",
    "ring": "t08_odd_feature_a19_ring",
    "lens_or_arc": "t08_odd_feature_a20_lens_or_arc",
    "disturbed": "t08_odd_feature_a21_disturbed",
    "irregular": "t08_odd_feature_a22_irregular",
    "other": "t08_odd_feature_a23_other",
    "merger": "t08_odd_feature_a24_merger",
    "dust_lane": "t08_odd_feature_a38_dust_lane",
}
COLUMNS = ("debiased", "weighted_fraction", "fraction")  # what a vote fraction may be read from

# Least vote fractions. The suite's own choices are majorities: a class needs half of the votes.
_WILLETT, _ZHU = "Willett et al. 2013, Table 3", "Zhu et al. 2019"
_OURS = "this suite: a majority of the votes"
THRESHOLDS: dict[tuple[str, ...], tuple[float, str]] = {
    **{(answer,): (least, _WILLETT) for answer, least in WILLETT_MIN_FRACTION.items()},
    ("completely_round",): (ZHU_MIN_ROUNDNESS, _ZHU),
    ("in_between",): (ZHU_MIN_ROUNDNESS, _ZHU),
    ("cigar_shaped",): (ZHU_MIN_ROUNDNESS, _ZHU),
    ("bar",): (0.5, _OURS),
    ("no_bar",): (0.5, _OURS),
    ("disturbed", "irregular"): (0.5, _OURS),
    ("merger",): (0.5, _OURS),
}


@dataclass(frozen=True)
class Condition:
    """The vote fractions of `answers` (short names), added up, reach `at_least` (0 to 1)."""

    answers: tuple[str, ...]
    at_least: float
    column: str = COLUMNS[0]

    def describe(self) -> str:
        """The condition in words: `disturbed + irregular >= 0.5`."""
        return f"{' + '.join(self.answers)} >= {self.at_least:.6g}"


@dataclass(frozen=True)
class ClassRule:
    """A class and all conditions that its galaxies fulfil; the last one is its own question's."""

    class_index: int
    conditions: tuple[Condition, ...]

    @property
    def class_name(self) -> str:
        """The class's name in the paper."""
        return CLASS_NAMES[self.class_index]

    @property
    def question(self) -> tuple[str, ...]:
        """The answers (short names) of the class's own question, whose votes `min_votes` counts."""
        task = ANSWERS[self.conditions[-1].answers[0]].split("_")[0]
        return tuple(name for name, stem in ANSWERS.items() if stem.startswith(f"{task}_"))


@dataclass(frozen=True)
class Rule:
    """Classes in their order of precedence: a galaxy gets the first one that it fulfils.

    `min_votes`: volunteers, at least, who answered the class's own question (its last condition).
    """

    name: str
    min_votes: int
    classes: tuple[ClassRule, ...]

    def conditions(self) -> dict[tuple[str, ...], Condition]:
        """Every condition once, by its answers: what several classes share is one condition."""
        return {one.answers: one for rule in self.classes for one in rule.conditions}

    def with_conditions(self, changed: Mapping[tuple[str, ...], Condition]) -> "Rule":
        """The rule with some conditions exchanged, wherever they stand."""
        classes = tuple(
            replace(
                rule, conditions=tuple(changed.get(one.answers, one) for one in rule.conditions)
            )
            for rule in self.classes
        )
        return replace(self, classes=classes)

    def table(self) -> pd.DataFrame:
        """The rule as a table: a row for each class, in the order of precedence."""
        rows = [
            {
                "class": f"{rule.class_index} {rule.class_name}",
                "conditions": " and ".join(one.describe() for one in rule.conditions),
                "column": ", ".join(sorted({one.column for one in rule.conditions})),
                "min_votes": self.min_votes,
            }
            for rule in self.classes
        ]
        return pd.DataFrame(rows).set_index("class")


# DEVIATION: the order of precedence is not published. The rarest comes first, because what makes a
# galaxy odd is asked of every galaxy, smooth or not; then disks, then smooth galaxies.
_PATHS = (
    (7, ("odd",), ("merger",)),
    (6, ("odd",), ("disturbed", "irregular")),
    (3, ("features_or_disk",), ("edgeon",)),
    (4, ("features_or_disk",), ("not_edgeon",), ("spiral",), ("bar",)),
    (5, ("features_or_disk",), ("not_edgeon",), ("spiral",), ("no_bar",)),
    (0, ("smooth",), ("completely_round",)),
    (1, ("smooth",), ("in_between",)),
    (2, ("smooth",), ("cigar_shaped",)),
)
DEFAULT_RULE = Rule(
    name="Willett et al. 2013 and Zhu et al. 2019",
    min_votes=WILLETT_MIN_VOTES,
    classes=tuple(
        ClassRule(index, tuple(Condition(answers, THRESHOLDS[answers][0]) for answers in path))
        for index, *path in _PATHS
    ),
)


def write_rule(path: Path | str, rule: Rule) -> None:
    """Write a rule as YAML, readable by people and by `read_rule`."""
    classes = [
        {
            "class": one.class_name,
            "conditions": [
                {"answers": list(c.answers), "at_least": c.at_least, "column": c.column}
                for c in one.conditions
            ],
        }
        for one in rule.classes
    ]
    content = {"name": rule.name, "min_votes": rule.min_votes, "classes": classes}
    write_text(path, yaml.safe_dump(content, sort_keys=False, width=100))


def read_rule(path: Path | str) -> Rule:
    """A rule from a YAML file; `Gz2vitError` names the file and what is wrong in it."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        classes = tuple(_class_rule(entry) for entry in content["classes"])
        rule = Rule(str(content["name"]), int(content["min_votes"]), classes)
        if not classes or rule.min_votes < 0:
            raise ValueError("it needs classes, and min_votes from 0 on")
        return rule
    except OSError as error:
        raise Gz2vitError(f"cannot read the rule {path}: {error.strerror}") from error
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise Gz2vitError(f"{path} is not a rule (name, min_votes, classes): {said}") from error


def _class_rule(entry: Mapping[str, Any]) -> ClassRule:
    """One class of a rule file, checked."""
    if entry["class"] not in CLASS_NAMES:
        raise ValueError(f"unknown class '{entry['class']}'; there are {', '.join(CLASS_NAMES)}")
    conditions = tuple(
        Condition(tuple(one["answers"]), float(one["at_least"]), one.get("column", COLUMNS[0]))
        for one in entry["conditions"]
    )
    for one in conditions:
        unknown = [name for name in one.answers if name not in ANSWERS]
        if unknown or not one.answers:
            raise ValueError(f"unknown answer '{', '.join(unknown)}'; see galaxy_zoo/rules.py")
        if one.column not in COLUMNS:
            raise ValueError(f"unknown column '{one.column}'; there are {', '.join(COLUMNS)}")
    if not conditions:
        raise ValueError(f"class '{entry['class']}' has no conditions")
    return ClassRule(CLASS_NAMES.index(entry["class"]), conditions)
