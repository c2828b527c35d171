"""The rule that turns volunteers' votes into the eight classes: the one table of it.

The paper says only that its selection follows Willett et al. 2013 and Zhu et al. 2019; the authors'
own step is in no public copy. `DEFAULT_RULE` is what those two papers give, with this suite's
choices where they are silent: each threshold stands in `THRESHOLDS` with its source. A rule can be
written to a YAML file and read from one, so that another selection needs no code.
"""

import hashlib
import os
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from sklearn.model_selection import cross_val_predict
from sklearn.tree import DecisionTreeClassifier, export_text

from gz2vit.catalog import PROPERTY_COLUMNS, SIMULATION_RECORD, SPLITS, read_label_table
from gz2vit.io import Gz2vitError, atomic_path, write_json, write_text
from gz2vit.paper import (
    CLASS_COUNT,
    CLASS_COUNTS,
    CLASS_NAMES,
    LABEL1_TO_LABEL2,
    LABEL1_TO_LABEL3,
    LABEL1_TO_LABEL4,
    SPLIT_FRACTIONS,
    WILLETT_MIN_FRACTION,
    WILLETT_MIN_VOTES,
    ZHU_MIN_ROUNDNESS,
)

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


# ------------------------------------------------------------------------------------------
# Volunteers' votes: a catalogue of Galaxy Zoo 2 (Willett et al. 2013; Hart et al. 2016), read.
#
# One row for each galaxy; for each answer of the decision tree its `_count` (volunteers) and vote
# fractions between 0 and 1: `_fraction`, `_weighted_fraction` and `_debiased`. The galaxy's key is
# `dr7objid` in the main catalogue and `objid` in the others, a 64-bit number that is kept as text.

KEYS = ("dr7objid", "objid")
KINDS = ("count", *COLUMNS)


def read_votes(path: Path | str, answers: Iterable[str] = ANSWERS) -> pd.DataFrame:
    """The votes on `answers` (short names), float64, indexed by galaxy id (text).

    Columns keep the catalogue's names, such as `t03_bar_a06_bar_debiased`; a column
    `total_classifications` (volunteers) comes along where the catalogue has it. Raises
    `Gz2vitError` for a file that cannot be read, a missing column, a galaxy that stands there
    twice, or a vote fraction that is not between 0 and 1.
    """
    header = _read(path, nrows=0).columns
    key = next((name for name in KEYS if name in header), None)
    if key is None:
        raise Gz2vitError(f"{path} has neither a column dr7objid nor objid; is it votes of GZ2?")
    wanted = [f"{ANSWERS[answer]}_{kind}" for answer in answers for kind in KINDS]
    missing = [name for name in wanted if name not in header]
    if missing:
        raise Gz2vitError(f"{path} has no column {missing[0]}; it is not a catalogue of GZ2 votes")
    extra = [name for name in ("total_classifications",) if name in header]
    types = {key: str} | dict.fromkeys([*wanted, *extra], np.float64)
    votes = _read(path, usecols=[key, *wanted, *extra], dtype=types).set_index(key)
    votes.index.name = "galaxy_id"
    _check(votes, wanted, path)
    return votes


def _read(path: Path | str, **options: object) -> pd.DataFrame:
    """`pandas.read_csv`, with one sentence for each way in which it can fail."""
    try:
        return pd.read_csv(path, **options)
    except FileNotFoundError:
        raise Gz2vitError(
            f"there is no catalogue of votes {path}; `python -m gz2vit download votes --to DIR` "
            "fetches the main one"
        ) from None
    except (OSError, EOFError, zlib.error, ValueError, UnicodeDecodeError) as error:
        raise Gz2vitError(f"{path} cannot be read as a table of votes: {error}") from error


def _check(votes: pd.DataFrame, columns: list[str], path: Path | str) -> None:
    """Refuse repeated galaxies and impossible fractions."""
    if votes.empty:
        raise Gz2vitError(f"{path} holds no galaxies")
    twice = votes.index[votes.index.duplicated()]
    if len(twice):
        raise Gz2vitError(f"{path}: galaxy {twice[0]} stands there more than once")
    for name in columns:
        values = votes[name].to_numpy()
        wrong = ~(values >= 0) if name.endswith("_count") else ~((values >= 0) & (values <= 1))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise Gz2vitError(
                f"{path}: galaxy {votes.index[row]} has {name} = {values[row]}, which is no "
                f"{'number of votes' if name.endswith('_count') else 'vote fraction'}"
            )


def vote_fraction(votes: pd.DataFrame, answers: Iterable[str], column: str) -> np.ndarray:
    """The fractions of `answers` (short names) added up, float64 (galaxies,)."""
    total = votes[[f"{ANSWERS[name]}_{column}" for name in answers]].to_numpy().sum(axis=1)
    return total.round(9)  # 0.1 + 0.2 reaches 0.3


def vote_count(votes: pd.DataFrame, answers: Iterable[str]) -> np.ndarray:
    """The votes on `answers` (short names) added up, float64 (galaxies,)."""
    return vote_fraction(votes, answers, "count")


# ------------------------------------------------------------------------------------------
# From votes to label tables: the classes of a rule, the merged labels, and the three splits.

NO_CLASS = -1  # a galaxy that fulfils the conditions of no class


def fulfilled(votes: pd.DataFrame, rule: Rule) -> np.ndarray:
    """Which galaxies fulfil which class: bool (classes in the rule's order, galaxies)."""
    passes = {
        one: vote_fraction(votes, one.answers, one.column) >= one.at_least
        for one in rule.conditions().values()
    }
    rows = []
    for one in rule.classes:
        row = vote_count(votes, one.question) >= rule.min_votes
        for condition in one.conditions:
            row = row & passes[condition]
        rows.append(row)
    return np.array(rows)


def first_fulfilled(matches: np.ndarray, rule: Rule) -> np.ndarray:
    """The class that each galaxy gets, int64 (galaxies,), from `fulfilled`'s matrix."""
    indices = np.array([one.class_index for one in rule.classes])
    return np.where(matches.any(axis=0), indices[matches.argmax(axis=0)], NO_CLASS)


def derive_classes(votes: pd.DataFrame, rule: Rule) -> pd.Series:
    """The class of every galaxy (0 to 7, or NO_CLASS), indexed by galaxy id."""
    return pd.Series(first_fulfilled(fulfilled(votes, rule), rule), votes.index, name="label1")


def label_table(classes: pd.Series) -> pd.DataFrame:
    """`galaxyID,label1,label2,label3,label4` of all galaxies that have a class."""
    chosen = classes[classes != NO_CLASS]
    table = pd.DataFrame({"galaxyID": chosen.index, "label1": chosen.to_numpy()})
    merged = (LABEL1_TO_LABEL2, LABEL1_TO_LABEL3, LABEL1_TO_LABEL4)
    for number, mapping in enumerate(merged, start=2):
        table[f"label{number}"] = np.array(mapping)[table.label1]
    return table


def split_galaxies(table: pd.DataFrame, seed: int) -> dict[str, pd.DataFrame]:
    """The paper's 64 % train, 16 % valid and 20 % test, drawn with `seed`.

    Drawn as the published sizes tell: a fifth for testing, then a fifth of the rest for validation,
    each rounded up, without regard to class. 155,951 galaxies give 99,808, 24,952 and 31,191.
    Raises `Gz2vitError` where a split would be empty.
    """
    if len(table) < 5:  # a fifth of less leaves a split empty
        raise Gz2vitError(f"{len(table)} galaxies got a class; three splits need at least 5")
    from sklearn.model_selection import train_test_split  # slow to import, and seldom wanted

    rest, test = train_test_split(
        table, test_size=SPLIT_FRACTIONS["test"], random_state=seed, shuffle=True
    )
    share = SPLIT_FRACTIONS["valid"] / (1 - SPLIT_FRACTIONS["test"])
    train, valid = train_test_split(rest, test_size=round(share, 9), random_state=seed)
    parts = {"train": train, "valid": valid, "test": test}
    return {split: parts[split].reset_index(drop=True) for split in SPLITS}


def write_label_tables(directory: Path | str, tables: Mapping[str, pd.DataFrame]) -> list[Path]:
    """Write `gz2_<split>.csv` into `directory`; the paths."""
    paths = []
    for split, table in tables.items():
        path = Path(directory) / f"gz2_{split}.csv"
        with atomic_path(path) as temporary:
            table.to_csv(temporary, index=False)
        paths.append(path)
    return paths


def class_counts(classes: pd.Series) -> pd.Series:
    """Galaxies for each class name, and under `no class` those that got none."""
    counts = np.bincount(classes[classes != NO_CLASS], minlength=len(CLASS_NAMES))
    names = [f"{index} {name}" for index, name in enumerate(CLASS_NAMES)]
    counted = dict(zip(names, counts.tolist(), strict=True))
    return pd.Series(counted | {"no class": int((classes == NO_CLASS).sum())}, name="galaxies")


# ------------------------------------------------------------------------------------------
# A free decision tree beside the rule: how much of the labels do the votes explain at all?
#
# The tree may split on any answer's fraction in any order, so that it shows whether the form of a
# rule (thresholds along the questions' path) misses something that the votes do tell.

FOLDS = 5


def tree_agreement(votes: pd.DataFrame, labels: pd.Series, column: str, depth: int) -> float:
    """Share of galaxies whose label a decision tree of `depth` tells right, cross-validated.

    `labels`: class by galaxy id; galaxies of `votes` without one count as not selected.
    """
    fractions, truth = _features(votes, column), _truth(votes, labels)
    return float((cross_val_predict(_tree(depth), fractions, truth, cv=FOLDS) == truth).mean())


def tree_text(votes: pd.DataFrame, labels: pd.Series, column: str, depth: int) -> str:
    """The tree fitted to all galaxies, as text; -1 is a galaxy that is not selected."""
    tree = _tree(depth).fit(_features(votes, column), _truth(votes, labels))
    return export_text(tree, feature_names=list(ANSWERS), decimals=3)


def _tree(depth: int) -> DecisionTreeClassifier:
    """The same tree in every run."""
    return DecisionTreeClassifier(max_depth=depth, random_state=0)


def _features(votes: pd.DataFrame, column: str) -> np.ndarray:
    """The vote fraction of every answer, float64 (galaxies, answers)."""
    return np.column_stack([vote_fraction(votes, (name,), column) for name in ANSWERS])


def _truth(votes: pd.DataFrame, labels: pd.Series) -> np.ndarray:
    """The class of every galaxy of `votes`, NO_CLASS where it has none."""
    return labels.reindex(votes.index, fill_value=NO_CLASS).to_numpy()


# ------------------------------------------------------------------------------------------
# Why a galaxy got its class: its votes, held against every condition of the rule.


def explain_class(votes: pd.DataFrame, galaxy_id: str, rule: Rule) -> str:
    """The path from the votes of `galaxy_id` to its class, as text of several lines.

    Raises `Gz2vitError` for a galaxy that has no votes in the catalogue.
    """
    if galaxy_id not in votes.index:
        raise Gz2vitError(
            f"galaxy {galaxy_id} is not in this catalogue of {len(votes):,} galaxies; give its "
            "SDSS object id as it stands there"
        )
    row = votes.loc[[galaxy_id]]
    matches = fulfilled(row, rule)
    lines = [_headline(row, galaxy_id), f"rule: {rule.name}; the first class that fits is taken"]
    for one, fits in zip(rule.classes, matches[:, 0], strict=True):
        lines += _class_lines(row, one, rule.min_votes, bool(fits))
    return "\n".join([*lines, *_verdict(row, rule)])


def _headline(row: pd.DataFrame, galaxy_id: str) -> str:
    """The galaxy and how many volunteers saw it."""
    if "total_classifications" not in row:
        return f"galaxy {galaxy_id}"
    return f"galaxy {galaxy_id}, {row.total_classifications.iloc[0]:.0f} volunteers"


def _class_lines(row: pd.DataFrame, one: ClassRule, min_votes: int, fits: bool) -> list[str]:
    """A class and its conditions, with what was found for each."""
    lines = [f"{'yes' if fits else ' no'}  {one.class_index} {one.class_name}"]
    lines += [_condition_line(row, condition) for condition in one.conditions]
    votes = vote_count(row, one.question)[0]
    if min_votes:
        mark = "yes" if votes >= min_votes else " no"
        lines.append(f"       {mark}  votes on its question >= {min_votes}: {votes:.0f}")
    return lines


def _condition_line(row: pd.DataFrame, condition: Condition) -> str:
    """One condition and the galaxy's own vote fraction."""
    found = vote_fraction(row, condition.answers, condition.column)[0]
    mark = "yes" if found >= condition.at_least else " no"
    votes = vote_count(row, condition.answers)[0]
    source = condition.column.replace("_", " ")
    return f"       {mark}  {condition.describe()}: {found:.3f} ({source}; {votes:.0f} votes)"


def _verdict(row: pd.DataFrame, rule: Rule) -> list[str]:
    """The class, and the other classes that fit as well."""
    matches = fulfilled(row, rule)
    index = int(first_fulfilled(matches, rule)[0])
    if index == NO_CLASS:
        return ["=> no class: the galaxy is not selected"]
    lines = [f"=> {index} {CLASS_NAMES[index]}"]
    later = [one for one, fits in zip(rule.classes, matches[:, 0], strict=True) if fits][1:]
    if later:
        names = ", ".join(one.class_name for one in later)
        lines.append(f"   (fits as well, but stands later in the order: {names})")
    return lines


# ------------------------------------------------------------------------------------------
# Image names and SDSS object ids: Galaxy Zoo 2's file map (`gz2_filename_mapping.csv`).
#
# An image is `<asset_id>.jpg`; votes and properties go by the SDSS DR7 object id. Hart, R. E., et al.
# 2016 and Willett et al. 2013 describe the samples; the map is at https://doi.org/10.5281/zenodo.3565489.

# A galaxy can have several images, one for each sample: that of the main survey comes first.
SAMPLE_ORDER = ("original", "extra", "stripe82", "stripe82_coadd_1", "stripe82_coadd_2")
COLUMNS_IDENTIFIERS = ("objid", "sample", "asset_id")


def read_mapping(path: Path | str) -> pd.DataFrame:
    """The file map: text columns objid, sample, asset_id, a row for each image.

    Raises `Gz2vitError` for a file that cannot be read, a missing column, or an image that stands
    there twice.
    """
    try:
        mapping = pd.read_csv(path, usecols=list(COLUMNS_IDENTIFIERS), dtype=str)
    except FileNotFoundError:
        raise Gz2vitError(
            f"there is no file map {path}; `python -m gz2vit download mapping --to DIR` fetches it"
        ) from None
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise Gz2vitError(f"{path} cannot be read as the file map of GZ2: {error}") from error
    twice = mapping.asset_id[mapping.asset_id.duplicated()]
    if len(twice):
        raise Gz2vitError(f"{path}: image {twice.iloc[0]} stands there more than once")
    return mapping


def object_ids(mapping: pd.DataFrame) -> pd.Series:
    """The SDSS object id of each image, indexed by asset id."""
    return mapping.set_index("asset_id").objid


def asset_ids(mapping: pd.DataFrame) -> pd.Series:
    """One image for each SDSS object, the main survey's first, indexed by object id."""
    ranks = {name: rank for rank, name in enumerate(SAMPLE_ORDER)}
    order = mapping["sample"].map(ranks).fillna(len(ranks))
    first = mapping.assign(rank=order).sort_values("rank", kind="stable")
    return first.drop_duplicates("objid").set_index("objid").asset_id


def rename_to_assets(classes: pd.Series, mapping: pd.DataFrame) -> tuple[pd.Series, int]:
    """`classes` indexed by image name instead of object id, and how many have no image."""
    assets = asset_ids(mapping).reindex(classes.index)
    known = assets.notna().to_numpy()
    renamed = pd.Series(classes[known].to_numpy(), assets[known].to_numpy(), name=classes.name)
    return renamed, int((~known).sum())


def rename_to_objects(labels: pd.Series, mapping: pd.DataFrame) -> pd.Series:
    """`labels` indexed by object id instead of image name.

    Where two images of one object were labelled, the first stays. Raises `Gz2vitError` for labels
    of images that the file map does not hold at all.
    """
    objects = object_ids(mapping).reindex(labels.index)
    if objects.isna().all() and len(labels):
        raise Gz2vitError("none of the labelled galaxies is in the file map; is it GZ2's?")
    renamed = pd.Series(labels.to_numpy(), objects.to_numpy(), name=labels.name)
    renamed = renamed[renamed.index.notna()]
    return renamed[~renamed.index.duplicated()]


# ------------------------------------------------------------------------------------------
# Derived against published labels: who agrees, and who is missing on either side.


@dataclass(frozen=True)
class Agreement:
    """How two labellings of the same catalogue compare.

    `counts`: int64 (8, 8), rows published, columns derived, of galaxies that both have;
    `only_published`, `only_derived`: galaxies for each class (8,) that the other side lacks;
    `neither`: galaxies of the catalogue that are in no class of either; `unknown`: published
    galaxies that the catalogue of votes does not hold.
    """

    counts: np.ndarray
    only_published: np.ndarray
    only_derived: np.ndarray
    neither: int
    unknown: int

    @property
    def share(self) -> float:
        """Of the galaxies that both have, the share with the same class; NaN without any."""
        both = self.counts.sum()
        return float(self.counts.trace() / both) if both else float("nan")

    def table(self) -> pd.DataFrame:
        """Counts with the missing ones as a last row and column `not selected`."""
        names = [f"{index} {name}" for index, name in enumerate(CLASS_NAMES)]
        rows = np.vstack([self.counts, self.only_derived])
        last = np.append(self.only_published, self.neither)
        frame = pd.DataFrame(rows, [*names, "not selected"], names)
        frame["not selected"] = last
        return frame.rename_axis(index="published", columns="derived")


def compare_labels(derived: pd.Series, published: pd.Series) -> Agreement:
    """Compare `derived` (NO_CLASS where none) with `published`, both class by galaxy id.

    `derived` covers the whole catalogue of votes; `published` only the galaxies of its tables.
    """
    theirs = published.reindex(derived.index, fill_value=NO_CLASS).to_numpy()
    ours = derived.to_numpy()
    counts = np.zeros((CLASS_COUNT + 1, CLASS_COUNT + 1), dtype=np.int64)
    np.add.at(counts, (theirs, ours), 1)  # NO_CLASS, -1, is the last row and column
    return Agreement(
        counts=counts[:-1, :-1],
        only_published=counts[:-1, -1],
        only_derived=counts[-1, :-1],
        neither=int(counts[-1, -1]),
        unknown=int((~published.index.isin(derived.index)).sum()),
    )


# ------------------------------------------------------------------------------------------
# Label tables derived from votes, as a data folder of their own, and questions about one galaxy.
#
# A folder that `python -m gz2vit download` filled holds the raw files in `downloads/`.

VOTES_FILE = "downloads/gz2_hart16.csv.gz"
MAPPING_FILE = "downloads/gz2_filename_mapping.csv"
SAMPLE_FILE = "downloads/gz2sample.csv.gz"
DERIVATION_RECORD = "derivation.json"
# The real Galaxy Zoo 2 lives in the project, unless the environment names another folder.
_IN_THE_PROJECT = Path(__file__).resolve().parents[1] / "gz2_data"
GALAXY_ZOO_DIR = Path(os.environ.get("GZ2VIT_DATA") or _IN_THE_PROJECT)


@dataclass(frozen=True)
class Derivation:
    """What `derive_folder` did: galaxies by class name, by split, and those left out.

    `without_image`: galaxies with a class but without an image (or without a name in the file
    map); `classes`: galaxies for each class before those were left out, and without a class.
    """

    galaxies: Mapping[str, int]
    classes: Mapping[str, int]
    without_image: int


def derive_folder(
    votes_path: Path,
    directory: Path,
    rule: Rule,
    seed: int,
    mapping_path: Path | None = None,
    images: Path | None = None,
) -> Derivation:
    """Write `gz2_<split>.csv` with the classes that `rule` gives, and a record, into `directory`.

    Galaxies are named by their images where `mapping_path` is given, else by their object id. With
    `images` (a folder of `<galaxyID>.jpg`), galaxies without an image are left out and counted,
    and `directory/images` becomes a link to it, so that the result is a data folder. Raises
    `Gz2vitError` as the readers do, where no galaxy is left, and where `directory` holds label
    tables of other origin.
    """
    _check_target(directory)
    classes = derive_classes(read_votes(votes_path), rule)
    named, lost = classes[classes != NO_CLASS], 0
    if mapping_path is not None:
        named, lost = rename_to_assets(named, read_mapping(mapping_path))
    if images is not None:
        present = named.index.isin({path.stem for path in Path(images).glob("*.jpg")})
        named, lost = named[present], lost + int((~present).sum())
        if len(present) and named.empty:
            raise Gz2vitError(f"{images} holds no image <galaxyID>.jpg of any selected galaxy")
    tables = split_galaxies(label_table(named), seed)
    derivation = Derivation(
        {split: len(tables[split]) for split in SPLITS}, class_counts(classes).to_dict(), lost
    )
    if images is not None:
        _link(directory, images)
    write_label_tables(directory, tables)
    write_json(directory / DERIVATION_RECORD, _record(votes_path, rule, seed, derivation))
    return derivation


def _check_target(directory: Path) -> None:
    """Refuse to write over label tables that were not derived here, such as the published ones."""
    tables = [directory / f"gz2_{split}.csv" for split in SPLITS]
    foreign = [path for path in tables if path.exists()]
    if foreign and not (directory / DERIVATION_RECORD).exists():
        raise Gz2vitError(f"{foreign[0]} is there already; give another folder with --to")


def _link(directory: Path, images: Path) -> None:
    """`directory/images`, a link to the folder of images."""
    link, target = directory / "images", Path(images).resolve()
    if link.exists() and link.resolve() == target:
        return
    if link.is_symlink() or link.exists():
        raise Gz2vitError(f"{link} is there already and is not {target}; give another --to")
    directory.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target, target_is_directory=True)


def _record(votes_path: Path, rule: Rule, seed: int, derivation: Derivation) -> dict[str, Any]:
    """Where the label tables are from: the votes, the rule, the seed, the counts."""
    with Path(votes_path).open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {
        "votes": Path(votes_path).name,
        "votes_sha256": digest,
        "rule": asdict(rule),
        "seed": seed,
        **asdict(derivation),
    }


def explain_galaxy(
    galaxy_id: str, votes_path: Path, rule: Rule, data_dir: Path | None = None
) -> str:
    """Why `galaxy_id` (an SDSS object id, or an image's name) got its class, as text.

    In a downloaded `data_dir` image names are looked up in its file map, and the published class
    is told. Raises `Gz2vitError` for a galaxy without votes.
    """
    votes = read_votes(votes_path)
    mapping_path = data_dir / MAPPING_FILE if data_dir is not None else None
    objects = pd.Series(dtype=str)
    if mapping_path is not None and mapping_path.exists():
        objects = object_ids(read_mapping(mapping_path))
    object_id = objects.get(galaxy_id, galaxy_id) if galaxy_id not in votes.index else galaxy_id
    lines = [explain_class(votes, object_id, rule)]
    if object_id != galaxy_id:
        lines.insert(0, f"image {galaxy_id}.jpg shows SDSS object {object_id}")
    if data_dir is not None:
        names = {galaxy_id, *objects.index[objects == object_id]}
        lines += [f"published class: {told}" for told in _published(data_dir, names)]
    return "\n".join(lines)


def _published(data_dir: Path, names: set[str]) -> list[str]:
    """The classes that the label tables of `data_dir` give to the images `names`."""
    found = []
    paths = {split: data_dir / f"gz2_{split}.csv" for split in SPLITS}
    if not any(path.exists() for path in paths.values()):
        return []
    for split, path in paths.items():
        if path.exists():
            table = read_label_table(path)
            for row in table[table.galaxyID.isin(names)].itertuples():
                found.append(
                    f"{row.label1} {CLASS_NAMES[row.label1]} (image {row.galaxyID}, {split})"
                )
    return found or ["none; it is not in the label tables"]


# ------------------------------------------------------------------------------------------
# Sizes and magnitudes of a data folder's galaxies, joined by SDSS DR7 object id.
#
# From Galaxy Zoo 2's sample table (`gz2sample.csv.gz`): petroR90_r [arcsec] is PETROR90_R; dered_r
# [mag] is PETROMAG_R - EXTINCTION_R; dered_g_r [mag] the same for g, less that for r.
#
# DEVIATION: the paper's Fig. 4 used SDSS's dered_r, a model magnitude; the sample table holds only
# Petrosian ones. For galaxies this bright the two differ by hundredths of a magnitude as a rule.

SAMPLE_KEY = "OBJID"
REQUIRED = (SAMPLE_KEY, "PETROR90_R", "PETROMAG_R", "EXTINCTION_R")
OPTIONAL = ("PETROMAG_G", "EXTINCTION_G")
# Extinction in g over that in r, for any amount of dust: 3.793 / 2.751 (Stoughton et al. 2002,
# AJ 123, 485, Table 22). Used where the table has no EXTINCTION_G.
EXTINCTION_G_OVER_R = 3.793 / 2.751
MAGNITUDE_RANGE = (0.0, 30.0)  # SDSS writes -9999 for "not measured"


@dataclass(frozen=True)
class JoinedProperties:
    """`table`: galaxyID (text), petroR90_r, dered_r, dered_g_r, NaN where unknown, one row for
    each galaxy asked for; `missing`: how many of them have no value, by column; `unmatched`: how
    many are not in the sample table at all."""

    table: pd.DataFrame
    missing: Mapping[str, int]
    unmatched: int


def read_sample(path: Path | str) -> pd.DataFrame:
    """The sample table as petroR90_r, dered_r, dered_g_r (float64), indexed by object id (text).

    Impossible values become NaN. Raises `Gz2vitError` for a file that cannot be read or lacks a
    column. An object that stands there twice is taken once, its first row.
    """
    try:
        header = pd.read_csv(path, nrows=0).columns
        missing = [name for name in REQUIRED if name not in header]
        if missing:
            raise Gz2vitError(f"{path} has no column {missing[0]}; it is not GZ2's sample table")
        columns = [*REQUIRED, *(name for name in OPTIONAL if name in header)]
        types = dict.fromkeys(columns[1:], np.float64) | {SAMPLE_KEY: str}
        table = pd.read_csv(path, usecols=columns, dtype=types)
    except FileNotFoundError:
        raise Gz2vitError(
            f"there is no sample table {path}; `python -m gz2vit download properties --to DIR` "
            "fetches it"
        ) from None
    except (OSError, EOFError, ValueError, UnicodeDecodeError) as error:
        raise Gz2vitError(f"{path} cannot be read as GZ2's sample table: {error}") from error
    return _physical(table.drop_duplicates(SAMPLE_KEY).set_index(SAMPLE_KEY))


def _physical(table: pd.DataFrame) -> pd.DataFrame:
    """The three properties, from the columns of the sample table."""
    radius_arcsec = table.PETROR90_R.where(table.PETROR90_R > 0)
    extinction_r = table.EXTINCTION_R.where(table.EXTINCTION_R >= 0)
    dered_r = _magnitude(table.PETROMAG_R) - extinction_r
    dered_g_r = pd.Series(np.nan, table.index)
    if "PETROMAG_G" in table:
        extinction_g = extinction_r * EXTINCTION_G_OVER_R
        if "EXTINCTION_G" in table:
            extinction_g = table.EXTINCTION_G.where(table.EXTINCTION_G >= 0)
        dered_g_r = _magnitude(table.PETROMAG_G) - extinction_g - dered_r
    columns = dict(zip(PROPERTY_COLUMNS, (radius_arcsec, dered_r, dered_g_r), strict=True))
    return pd.DataFrame(columns)


def _magnitude(values: pd.Series) -> pd.Series:
    """Magnitudes, NaN where they are not ones."""
    low, high = MAGNITUDE_RANGE
    return values.where((values > low) & (values < high))


def join_properties(
    galaxy_ids: pd.Series, mapping: pd.DataFrame, sample: pd.DataFrame
) -> JoinedProperties:
    """Properties of `galaxy_ids` (image names), by way of the file map's object ids."""
    objects = object_ids(mapping).reindex(galaxy_ids).to_numpy()
    table = sample.reindex(objects).reset_index(drop=True)
    table.insert(0, "galaxyID", galaxy_ids.to_numpy())
    missing = {name: int(table[name].isna().sum()) for name in PROPERTY_COLUMNS}
    return JoinedProperties(table, missing, int((~pd.Index(objects).isin(sample.index)).sum()))


def write_properties(
    directory: Path | str, galaxy_ids: pd.Series, mapping_path: Path, sample_path: Path
) -> JoinedProperties:
    """Write `galaxy_properties.csv` of a data folder for `galaxy_ids`; what was joined."""
    joined = join_properties(galaxy_ids, read_mapping(mapping_path), read_sample(sample_path))
    with atomic_path(Path(directory) / "galaxy_properties.csv") as temporary:
        joined.table.to_csv(temporary, index=False, float_format="%.4f")
    return joined


# ------------------------------------------------------------------------------------------
# The votes at hand: the catalogue of a downloaded data folder, one named by its path, or, for
# simulated galaxies, simulated volunteers; and the labels that they can be held against.


@dataclass(frozen=True)
class VotesAtHand:
    """`votes`: as `galaxy_zoo.read_votes` gives them; `labels`: the class of galaxies in the label
    tables, by the same ids, or None where nothing connects the two; `name`: for people."""

    votes: pd.DataFrame
    labels: pd.Series | None
    name: str
    simulated: bool

    def record(self, profile: str) -> Mapping[str, Any]:
        """What the footer of a figure tells."""
        return {"profile": profile, "name": self.name, "simulated": self.simulated}


def votes_at_hand(
    data_dir: Path | str, votes_path: Path | str | None, seed: int, simulated_galaxies: int = 0
) -> VotesAtHand:
    """The votes in `votes_path` if given, else those of the data folder.

    Where the folder's galaxies are simulated, volunteers are (with `seed`): on these galaxies, or
    on `simulated_galaxies` others in the paper's mix of classes. Raises `Gz2vitError` where there
    are no votes, and says how to get them.
    """
    data_dir = Path(data_dir)
    if votes_path is None and (data_dir / SIMULATION_RECORD).exists():
        return _simulated(data_dir, seed, simulated_galaxies)
    path = Path(votes_path) if votes_path is not None else data_dir / VOTES_FILE
    if votes_path is None and not path.exists():
        raise Gz2vitError(
            f"there are no votes in {data_dir.resolve()}: `python -m gz2vit download votes mapping "
            f"--to {data_dir.resolve()}` fetches them; or name a catalogue with --set VOTES=FILE"
        )
    votes = read_votes(path)
    labels = _labels(data_dir, votes)
    return VotesAtHand(votes, labels, f"votes on {len(votes):,} galaxies of {path.name}", False)


def _simulated(data_dir: Path, seed: int, galaxies: int) -> VotesAtHand:
    """Simulated volunteers on simulated galaxies, whose classes are known."""
    from gz2sim.volunteers import simulate_votes

    if galaxies:
        mix = np.array(CLASS_COUNTS) / sum(CLASS_COUNTS)
        classes = np.random.default_rng(seed).choice(len(mix), galaxies, p=mix)
        labels = pd.Series(classes, [f"drawn{row}" for row in range(galaxies)], name="label1")
    else:
        labels = _all_labels(data_dir)
    votes = simulate_votes(labels.index, labels.to_numpy(), seed)
    return VotesAtHand(votes, labels, f"simulated votes on {len(votes):,} galaxies", True)


def _all_labels(data_dir: Path) -> pd.Series:
    """The classes of all label tables that are there, by galaxy id."""
    paths = [data_dir / f"gz2_{split}.csv" for split in SPLITS]
    tables = [read_label_table(path) for path in paths if path.exists()]
    if not tables:
        return pd.Series(dtype=np.int64, name="label1")
    return pd.concat(tables).set_index("galaxyID").label1


def _labels(data_dir: Path, votes: pd.DataFrame) -> pd.Series | None:
    """The label tables' classes by the votes' ids; None where they share no galaxy."""
    labels = _all_labels(data_dir)
    mapping = data_dir / MAPPING_FILE
    if mapping.exists() and len(labels):
        labels = rename_to_objects(labels, read_mapping(mapping))
    return labels if labels.index.isin(votes.index).any() else None
