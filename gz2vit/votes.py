"""From the votes of Galaxy Zoo 2's volunteers to the eight classes, and to label tables.

The authors never published their selection, only that it follows Willett et al. 2013 (MNRAS 435,
2835) and Zhu et al. 2019 (Ap&SS 364, 55). `DEFAULT_RULE` is the rule read back off their label
tables (`gz2vit.recover_rule`). Another rule needs no code: it is read from a YAML file.

A catalogue of votes (Willett et al. 2013; Hart et al. 2016, MNRAS 461, 3663) has one row per galaxy
and, for each answer of the decision tree, vote fractions from 0 to 1 (`_debiased`,
`_weighted_fraction`, `_fraction`) and mostly the number of volunteers (`_count`).
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import pooch
import yaml
from annotated_types import Ge, MinLen
from pydantic import StrictBool, TypeAdapter, ValidationError

from gz2vit.catalog import (
    IMAGE_SUFFIXES,
    MISSING,
    PROPERTY_COLUMNS,
    SIMULATION_RECORD,
    SPLITS,
    read_header,
    read_ids,
    read_label_table,
    read_table,
)
from gz2vit.io import Gz2vitError, atomic_path, write_json, write_text
from gz2vit.paper import (
    CLASS_COUNT,
    CLASS_COUNTS,
    CLASS_NAMES,
    LABEL1_TO_LABEL2,
    LABEL1_TO_LABEL3,
    LABEL1_TO_LABEL4,
    SELECTION_MIN_FRACTION,
    SPLIT_FRACTIONS,
)

# The answers that matter, by short name: the stem of their columns in the catalogues.
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
KINDS = ("count", *COLUMNS)
NO_CLASS = -1  # the class of a galaxy that is not selected
LABELS = tuple(f"{index} {name}" for index, name in enumerate(CLASS_NAMES))

# ---- rules ----


@dataclass(frozen=True)
class Condition:
    """The vote fractions of `answers` (short names), added up, reach `at_least` (0 to 1).

    With `any_of`, one of them alone does.
    """

    answers: Annotated[tuple[Literal[*ANSWERS], ...], MinLen(1)]
    at_least: float
    column: Literal[*COLUMNS] = COLUMNS[0]
    any_of: StrictBool = False

    def value(self, votes: pd.DataFrame) -> np.ndarray:
        """What must reach `at_least`, float64 (galaxies,)."""
        fractions = vote_fractions(votes, self.answers, self.column)
        # rounded, so that 0.1 + 0.2 reaches 0.3; a missing fraction does not hide another
        combine = np.fmax if self.any_of else np.add
        return combine.reduce(fractions, axis=1).round(9)

    def describe(self) -> str:
        """The condition in words, such as `disturbed + irregular >= 0.5`."""
        words = (", " if self.any_of else " + ").join(self.answers)
        return f"{'any of ' if self.any_of else ''}{words} >= {self.at_least:.6g}"


@dataclass(frozen=True)
class ClassRule:
    """A class and all conditions that its galaxies fulfil; the last is its own question's."""

    class_index: int
    conditions: Annotated[tuple[Condition, ...], MinLen(1)]

    @property
    def class_name(self) -> str:
        """The class's name in the paper."""
        return CLASS_NAMES[self.class_index]

    @property
    def question(self) -> tuple[str, ...]:
        """The answers (short names) of the class's own question, whose votes `min_votes` counts."""
        task = ANSWERS[self.conditions[-1].answers[0]].split("_")[0]
        return tuple(name for name, stem in ANSWERS.items() if stem.startswith(f"{task}_"))

    def stages(self, votes: pd.DataFrame, min_votes: int) -> list[tuple[str, np.ndarray]]:
        """Each condition in words, and which galaxies fulfil it, bool (galaxies,)."""
        stages = [(one.describe(), one.value(votes) >= one.at_least) for one in self.conditions]
        if min_votes and has_counts(votes):
            enough = vote_count(votes, self.question) >= min_votes
            stages.append((f"votes on its question >= {min_votes}", enough))
        return stages


@dataclass(frozen=True)
class Rule:
    """All classes, and how one is chosen.

    `exactly_one`: a galaxy that fulfils several classes is left out; otherwise it gets the first
    of them, `classes` being in order of precedence. `min_votes`: volunteers, at least, who
    answered the class's own question (its last condition).
    """

    name: str
    min_votes: Annotated[int, Ge(0)]
    classes: Annotated[tuple[ClassRule, ...], MinLen(1)]
    exactly_one: StrictBool = False

    def conditions(self) -> dict[tuple[str, ...], Condition]:
        """Every condition once, by its answers: what several classes share is one condition."""
        return {one.answers: one for each in self.classes for one in each.conditions}

    def with_conditions(self, changed: Mapping[tuple[str, ...], Condition]) -> "Rule":
        """The rule with some conditions exchanged, in every class that has them."""
        classes = []
        for each in self.classes:
            conditions = tuple(changed.get(one.answers, one) for one in each.conditions)
            classes.append(replace(each, conditions=conditions))
        return replace(self, classes=tuple(classes))

    def table(self) -> pd.DataFrame:
        """One row per class, in order of precedence."""
        rows = {
            LABELS[each.class_index]: {
                "conditions": " and ".join(one.describe() for one in each.conditions),
                "column": ", ".join(sorted({one.column for one in each.conditions})),
                "min_votes": self.min_votes,
            }
            for each in self.classes
        }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("class")

    def applied_to(self, votes: pd.DataFrame) -> "Rule":
        """The rule as far as `votes` allow: without counts, no least number of votes is asked."""
        if not self.min_votes or has_counts(votes):
            return self
        print(f"no vote counts in this table: the least number of {self.min_votes} is not asked")
        return replace(self, min_votes=0)


# The recovered rule: it gives the authors' decision for 1,000 of 1,000 galaxies of the main survey.
_PATHS = (
    (("smooth",), ("not_odd",), ("completely_round",)),
    (("smooth",), ("not_odd",), ("in_between",)),
    (("smooth",), ("not_odd",), ("cigar_shaped",)),
    (("features_or_disk",), ("not_odd",), ("edgeon",)),
    (("features_or_disk",), ("not_edgeon",), ("spiral",), ("bar",)),
    (("features_or_disk",), ("not_edgeon",), ("spiral",), ("no_bar",)),
    (("odd",), ("disturbed", "irregular", "other", "dust_lane")),
    (("odd",), ("merger",)),
)


def _condition(answers: tuple[str, ...]) -> Condition:
    return Condition(answers, SELECTION_MIN_FRACTION[answers[0]], any_of=len(answers) > 1)


DEFAULT_RULE = Rule(
    name="recovered from the published labels",
    min_votes=0,
    classes=tuple(
        ClassRule(index, tuple(map(_condition, path))) for index, path in enumerate(_PATHS)
    ),
    exactly_one=True,
)


def write_rule(path: Path | str, rule: Rule) -> None:
    """Write a rule as YAML, for people and for `read_rule`."""
    content = TypeAdapter(Rule).dump_python(rule, mode="json")
    content["classes"] = [
        {"class": CLASS_NAMES[one["class_index"]], "conditions": one["conditions"]}
        for one in content["classes"]
    ]
    write_text(path, yaml.safe_dump(content, sort_keys=False, width=100))


def read_rule(path: Path | str) -> Rule:
    """A rule from a YAML file; `Gz2vitError` names the file and what is wrong in it.

    A file without `exactly_one` lists its classes in order of precedence.
    """
    indices = {name: index for index, name in enumerate(CLASS_NAMES)}
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        content["classes"] = [
            {"class_index": indices[one["class"]], "conditions": one["conditions"]}
            for one in content["classes"]
        ]
        return TypeAdapter(Rule).validate_python(content)
    except OSError as error:
        raise Gz2vitError(f"cannot read the rule {path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        reason = f"{where} is {first['input']!r}: {first['msg']}"
    except KeyError as error:
        reason = f"there is no class or key {error}; the classes are {', '.join(CLASS_NAMES)}"
    except (yaml.YAMLError, TypeError) as error:
        reason = " ".join(str(error).split())
    raise Gz2vitError(f"{path} is not a rule (name, min_votes, classes): {reason}")


# ---- the catalogue of votes ----

KEYS = ("asset_id", "dr7objid", "objid")  # the galaxy's name: its image's, or its SDSS DR7 object
DR8_ID = r"1237\d{15}"


def read_votes(path: Path | str) -> pd.DataFrame:
    """The vote columns of a catalogue, float64, indexed by galaxy id (text).

    The index is named after its column: `asset_id` (image names) where there is one, else
    `dr7objid` or `objid`. Columns keep the catalogue's names; `total_classifications`, and
    `dr7objid` beside `asset_id`, come along. Raises `Gz2vitError` for a file that cannot be read,
    one without votes or ids, ids that are spoiled or repeated, and impossible values.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise Gz2vitError(f"there is no catalogue {path}; run `gz2vit download votes` to fetch it")
    header = {name.lower() for name in read_header(path, KEYS)}
    keys = [name for name in KEYS if name in header]
    if not keys:
        dr8 = " (dr8objid holds DR8 ids; DR7 ids are needed)" if "dr8objid" in header else ""
        raise Gz2vitError(f"{path} has no column {', '.join(KEYS)}{dr8}; add one of them")
    wanted = [f"{stem}_{kind}" for stem in ANSWERS.values() for kind in KINDS]
    table = read_table(path, (), keys[0], [*keys[1:2], *wanted, "total_classifications"])
    for key in keys[:2]:
        table[key] = read_object_ids(table[key], path)
    votes = table.set_index(keys[0]).drop(columns=keys[1:2])
    if not any(name.endswith(COLUMNS) for name in votes):
        raise Gz2vitError(f"{path} has no column {wanted[1]}; name a catalogue of Galaxy Zoo 2")
    if votes.empty:
        raise Gz2vitError(f"{path} holds no galaxies; name another catalogue")
    if votes.index.has_duplicates:
        repeated = votes.index[votes.index.duplicated()][0]
        raise Gz2vitError(f"{path} holds galaxy {repeated} more than once; remove one of its rows")
    numbers = votes.apply(pd.to_numeric, errors="coerce").replace(MISSING, np.nan)
    most = np.where([name.endswith(COLUMNS) for name in votes], 1.0, np.inf)
    unread = numbers.isna() & ~votes.isin(["", "nan", "NaN", "NA", "null", "-9999", "-9999.0"])
    wrong = ((numbers < 0) | (numbers > most) | unread).to_numpy()
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise Gz2vitError(
            f"{path}: galaxy {votes.index[row]} has {votes.columns[column]} = "
            f"{votes.iat[row, column]}, which is not possible; correct or remove it"
        )
    numbers = numbers.astype(np.float64)
    return numbers.assign(**{key: table[key].to_numpy() for key in keys[1:2]})


def read_object_ids(ids: pd.Series, path: Path) -> pd.Series:
    """Ids as `catalog.read_ids` gives them; `Gz2vitError` also for those of SDSS DR8 and later."""
    ids = read_ids(ids, path)
    dr8 = ids[ids.str.fullmatch(DR8_ID)]
    if len(dr8):
        raise Gz2vitError(
            f"{path}: {dr8.iloc[0]} is an SDSS DR8 id ({len(dr8):,} such rows), but Galaxy Zoo 2 "
            "goes by DR7 ids (587..., 588...); use the table's DR7 ids"
        )
    return ids


def has_counts(votes: pd.DataFrame) -> bool:
    """Whether the catalogue says how many volunteers gave each answer."""
    return any(name.endswith("_count") for name in votes.columns)


def vote_fractions(votes: pd.DataFrame, answers: Sequence[str], column: str) -> np.ndarray:
    """The `column` of `answers` (short names), float64 (galaxies, answers)."""
    names = [f"{ANSWERS[name]}_{column}" for name in answers]
    missing = [name for name in names if name not in votes]
    if missing:
        raise Gz2vitError(f"the votes have no column {missing[0]}; name a table or rule without it")
    return votes[names].to_numpy(dtype=np.float64)


def vote_count(votes: pd.DataFrame, answers: Sequence[str]) -> np.ndarray:
    """The votes on `answers` (short names) added up, float64 (galaxies,)."""
    return vote_fractions(votes, answers, "count").sum(axis=1)


# ---- classes and label tables ----


def choose_class(matches: np.ndarray, rule: Rule) -> np.ndarray:
    """The class that each galaxy gets, int64 (galaxies,).

    `matches`: which galaxies fulfil which class, bool (classes in the rule's order, galaxies).
    """
    indices = np.array([one.class_index for one in rule.classes])
    found = matches.sum(axis=0)
    chosen = found == 1 if rule.exactly_one else found > 0
    return np.where(chosen, indices[matches.argmax(axis=0)], NO_CLASS)


def derive_classes(votes: pd.DataFrame, rule: Rule = DEFAULT_RULE) -> pd.Series:
    """The class of every galaxy (0 to 7, or NO_CLASS), indexed as `votes`."""
    matches = [
        np.all([passes for _, passes in one.stages(votes, rule.min_votes)], axis=0)
        for one in rule.classes
    ]
    return pd.Series(choose_class(np.array(matches), rule), votes.index, name="label1")


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

    The published sizes tell how: a fifth for testing, then a fifth of the rest for validation,
    each rounded up, regardless of class; 155,951 galaxies give 99,808, 24,952 and 31,191. Raises
    `Gz2vitError` where a split would be empty.
    """
    if len(table) < 5:
        raise Gz2vitError(f"{len(table)} galaxies got a class; three splits need at least 5")
    from sklearn.model_selection import train_test_split  # slow to import

    rest, test = train_test_split(table, test_size=SPLIT_FRACTIONS["test"], random_state=seed)
    share = SPLIT_FRACTIONS["valid"] / (1 - SPLIT_FRACTIONS["test"])
    train, valid = train_test_split(rest, test_size=round(share, 9), random_state=seed)
    parts = {"train": train, "valid": valid, "test": test}
    return {split: parts[split].reset_index(drop=True) for split in SPLITS}


def write_label_tables(directory: Path | str, tables: Mapping[str, pd.DataFrame]) -> list[Path]:
    """Write `gz2_<split>.csv` into `directory`; the paths."""
    paths = [Path(directory) / f"gz2_{split}.csv" for split in tables]
    for path, table in zip(paths, tables.values(), strict=True):
        with atomic_path(path) as temporary:
            table.to_csv(temporary, index=False)
    return paths


def class_counts(classes: pd.Series) -> pd.Series:
    """Galaxies per class name, and under `no class` those that got none."""
    counts = classes.value_counts().reindex([*range(CLASS_COUNT), NO_CLASS], fill_value=0)
    return counts.set_axis([*LABELS, "no class"]).rename("galaxies")


def compare_labels(derived: pd.Series, published: pd.Series) -> pd.DataFrame:
    """Galaxies by published (rows) and derived class (columns), the last `not selected`.

    `derived`, of the whole catalogue, and `published` are classes by galaxy id.
    """
    counts = np.zeros((CLASS_COUNT + 1, CLASS_COUNT + 1), dtype=np.int64)
    theirs = published.reindex(derived.index, fill_value=NO_CLASS)
    np.add.at(counts, (theirs.to_numpy(), derived.to_numpy()), 1)  # NO_CLASS, -1, is the last
    names = [*LABELS, "not selected"]
    return pd.DataFrame(counts, names, names).rename_axis(index="published", columns="derived")


def agreement_of(table: pd.DataFrame) -> tuple[int, float]:
    """Of `compare_labels`' table: galaxies that both sides selected, and the share alike."""
    both = table.to_numpy()[:-1, :-1]
    return int(both.sum()), float(both.trace() / both.sum()) if both.any() else float("nan")


def explain_class(votes: pd.DataFrame, galaxy_id: str, rule: Rule) -> str:
    """Why the galaxy at `galaxy_id` of the index got its class, as text of several lines."""
    row = votes.loc[[galaxy_id]]
    how = "exactly one class must fit" if rule.exactly_one else "the first class that fits is taken"
    lines = [f"galaxy {galaxy_id}", f"rule: {rule.name}; {how}"]
    if "total_classifications" in row:
        lines[0] += f", {row.total_classifications.iloc[0]:.0f} volunteers"
    fits = []
    for each in rule.classes:
        stages = each.stages(row, rule.min_votes)
        fits += [each] if all(passes[0] for _, passes in stages) else []
        lines.append(f"{'yes' if each in fits else ' no'}  {LABELS[each.class_index]}")
        asked = [*((one.value(row)[0], one) for one in each.conditions), (None, None)]
        for (words, passes), (value, one) in zip(stages, asked, strict=False):
            if one is None:  # the least number of votes
                found = f"{vote_count(row, each.question)[0]:.0f}"
            else:
                count = f"; {vote_count(row, one.answers)[0]:.0f} votes" if has_counts(row) else ""
                found = f"{value:.3f} ({one.column.replace('_', ' ')}{count})"
            lines.append(f"       {'yes' if passes[0] else ' no'}  {words}: {found}")
    names = [each.class_name for each in fits]
    if not fits:
        lines.append("=> no class: the galaxy fits none, and is not selected")
    elif rule.exactly_one and len(fits) > 1:
        lines.append(f"=> no class: the galaxy fits {len(fits)} ({', '.join(names)}); left out")
    else:
        lines.append(f"=> {LABELS[fits[0].class_index]}")
        if len(fits) > 1:
            lines.append(f"   (fits as well, but comes later in the order: {', '.join(names[1:])})")
    return "\n".join(lines)


# ---- image names and SDSS objects: the file map, gz2_filename_mapping.csv ----

# An object can have several images, one for each sample: that of the main survey comes first.
SAMPLE_ORDER = ("original", "extra", "stripe82", "stripe82_coadd_1", "stripe82_coadd_2")


def read_mapping(path: Path | str) -> pd.DataFrame:
    """The file map by asset_id: text columns objid, sample; the main survey's images come first."""
    path = Path(path).expanduser()
    if not path.exists():
        raise Gz2vitError(f"there is no file map {path}; run `gz2vit download mapping` to fetch it")
    mapping = read_table(path, ("objid", "sample"), "asset_id")
    mapping["objid"] = read_object_ids(mapping.objid, path)
    if mapping.asset_id.duplicated().any():
        repeated = mapping.asset_id[mapping.asset_id.duplicated()].iloc[0]
        raise Gz2vitError(f"{path} holds image {repeated} more than once; download it again")
    rank = mapping["sample"].map({name: rank for rank, name in enumerate(SAMPLE_ORDER)})
    order = np.argsort(rank.fillna(len(SAMPLE_ORDER)), kind="stable")
    return mapping.iloc[order].set_index("asset_id")


# ---- the data folder ----

VOTES_FILE = "downloads/gz2_hart16.csv.gz"
MAPPING_FILE = "downloads/gz2_filename_mapping.csv"
SAMPLE_FILE = "downloads/gz2sample.csv.gz"
DERIVATION_RECORD = "derivation.json"
# The real Galaxy Zoo 2 is kept in the project, unless the environment names another folder.
GALAXY_ZOO_DIR = Path(
    os.environ.get("GZ2VIT_DATA") or Path(__file__).resolve().parents[1] / "gz2_data"
).expanduser()


def derive_folder(
    votes_path: Path,
    directory: Path,
    rule: Rule,
    seed: int,
    mapping_path: Path | None = None,
    images: Path | None = None,
) -> dict[str, Any]:
    """Write `gz2_<split>.csv` with the classes that `rule` gives, and a record, to `directory`.

    Galaxies are named by their images where `mapping_path` is given (or the votes name them so),
    else by their object id. With `images` (a folder of `<galaxyID>.jpg`) those without an image
    are left out, and `directory/images` becomes a link to it: a data folder to train on. Returns
    {"galaxies": by split, "classes": by class name, "without_image"}. Raises `Gz2vitError` where
    no galaxy is left, and where `directory` holds label tables of other origin.
    """
    foreign = [path for split in SPLITS if (path := directory / f"gz2_{split}.csv").exists()]
    if foreign and not (directory / DERIVATION_RECORD).exists():
        raise Gz2vitError(f"{foreign[0]} is there already; give another folder with --to")
    votes = read_votes(votes_path)
    rule = rule.applied_to(votes)
    classes = derive_classes(votes, rule)
    named = classes[classes != NO_CLASS]
    selected = len(named)
    if mapping_path is not None and votes.index.name != "asset_id":
        images_of = read_mapping(mapping_path).reset_index().drop_duplicates("objid")
        assets = images_of.set_index("objid").asset_id.reindex(named.index)
        if selected and assets.isna().all():
            raise Gz2vitError(
                f"{mapping_path} knows none of the {selected:,} selected galaxies, such as "
                f"{named.index[0]}; give the file map that belongs to {votes_path}"
            )
        named = named.set_axis(assets)[assets.notna().to_numpy()]
    if images is not None and len(named):
        stems = {p.stem for p in Path(images).iterdir() if p.name.lower().endswith(IMAGE_SUFFIXES)}
        named = named[named.index.isin(stems)]
        if named.empty:
            raise Gz2vitError(f"{images} holds no image <galaxyID>.jpg of any selected galaxy")
    tables = split_galaxies(label_table(named), seed)
    if images is not None:
        link, target = directory / "images", Path(images).resolve()
        if (link.is_symlink() or link.exists()) and link.resolve() != target:
            raise Gz2vitError(f"{link} is there already and is not {target}; give another --to")
        directory.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(target, target_is_directory=True)
    derived = {
        "galaxies": {split: len(tables[split]) for split in SPLITS},
        "classes": class_counts(classes).to_dict(),
        "without_image": selected - len(named),
    }
    digest = pooch.file_hash(str(votes_path), alg="sha256")
    origin = {"votes": Path(votes_path).name, "votes_sha256": digest, "rule": asdict(rule)}
    # the record first: tables without one are taken for somebody else's
    write_json(directory / DERIVATION_RECORD, origin | {"seed": seed} | derived)
    write_label_tables(directory, tables)
    return derived


def explain_galaxy(
    galaxy_id: str, votes_path: Path, rule: Rule, data_dir: Path | None = None
) -> str:
    """Why `galaxy_id` (an SDSS object id or an image's name) got its class, as text.

    In a downloaded `data_dir` image names are looked up in its file map, and its label tables'
    class is added. Raises `Gz2vitError`, with the reason, for a galaxy without votes.
    """
    votes = read_votes(votes_path)
    rule = rule.applied_to(votes)
    galaxy_id = galaxy_id.removesuffix(".jpg").removesuffix(".0")
    objects = pd.Series(dtype=str)  # object ids by image name
    if data_dir is not None and (data_dir / MAPPING_FILE).exists():
        objects = read_mapping(data_dir / MAPPING_FILE).objid
    if "dr7objid" in votes:
        objects = votes.dr7objid
    elif votes.index.name != "asset_id":
        votes = votes.assign(dr7objid=votes.index)
    found = votes.index[votes.index == galaxy_id]
    if found.empty and "dr7objid" in votes:
        found = votes.index[votes.dr7objid == objects.get(galaxy_id, galaxy_id)]
    if found.empty:
        about = f"{votes_path} ({len(votes):,} galaxies by {votes.index.name})"
        unlisted = f"has no votes in {about}; name its sample's catalogue with --votes"
        if re.fullmatch(DR8_ID, galaxy_id):
            why = f"{galaxy_id} is an SDSS DR8 id, and {about} knows DR7 ids; give its DR7 id"
        elif re.fullmatch(r"[0-9.]+[eE]\+?[0-9]+", galaxy_id):
            why = f"{galaxy_id} is an id that a spreadsheet rounded; give all of its digits"
        elif galaxy_id in objects.index:
            why = f"image {galaxy_id}.jpg shows SDSS object {objects[galaxy_id]}, which {unlisted}"
        elif (objects == galaxy_id).any():
            why = f"{galaxy_id} is in the file map but {unlisted}"
        else:
            why = f"galaxy {galaxy_id} is not in {about}; give a DR7 object id or an image's name"
            if objects.empty:
                why += "; for an image's name, run `gz2vit download mapping` first"
        raise Gz2vitError(why)
    lines = [explain_class(votes, found[0], rule)]
    object_id = votes.dr7objid[found[0]] if "dr7objid" in votes else found[0]
    if object_id != galaxy_id:
        lines.insert(0, f"image {galaxy_id}.jpg shows SDSS object {object_id}")
    tables = label_tables(data_dir) if data_dir is not None else {}
    names = {galaxy_id, found[0], *objects.index[objects == object_id]}
    published = [
        f"{LABELS[row.label1]} (image {row.galaxyID}, {split})"
        for split, table in tables.items()
        for row in table[table.galaxyID.isin(names)].itertuples()
    ]
    if tables and not published:
        published = ["none; it is not in the label tables"]
    return "\n".join([*lines, *(f"published class: {found}" for found in published)])


def label_tables(directory: Path) -> dict[str, pd.DataFrame]:
    """The label tables that are in `directory`, by split."""
    paths = {split: directory / f"gz2_{split}.csv" for split in SPLITS}
    return {split: read_label_table(path) for split, path in paths.items() if path.exists()}


@dataclass(frozen=True)
class LabelledVotes:
    """Votes (as `read_votes` gives them) with the label tables' class by the same ids.

    `labels` is None where no label table knows these galaxies; `name` describes the votes.
    """

    votes: pd.DataFrame
    labels: pd.Series | None
    name: str
    simulated: bool

    def record(self, profile: str) -> dict[str, Any]:
        """What the footer of a figure states."""
        return {"profile": profile, "name": self.name, "simulated": self.simulated}


def load_votes(
    data_dir: Path | str,
    votes_path: Path | str | None = None,
    seed: int = 0,
    simulated_galaxies: int = 0,
    labels_dir: Path | str | None = None,
) -> LabelledVotes:
    """The votes in `votes_path`, or else those of the data folder, with labels.

    Labels come from the tables in `labels_dir`, or else the data folder. Where the folder's
    galaxies are simulated, so are volunteers (with `seed`): on these galaxies, or on
    `simulated_galaxies` others in the paper's class mix. Raises `Gz2vitError` without votes.
    """
    data_dir = Path(data_dir)
    tables = label_tables(Path(labels_dir or data_dir).expanduser())
    labels = pd.Series(dtype=np.int64, name="label1")
    if tables:
        labels = pd.concat(tables.values()).set_index("galaxyID").label1
    elif labels_dir is not None:
        raise Gz2vitError(f"{labels_dir} holds no gz2_train.csv; give a folder of label tables")
    if votes_path is None and (data_dir / SIMULATION_RECORD).exists():
        from gz2sim.volunteers import simulate_votes

        if simulated_galaxies:
            mix = np.array(CLASS_COUNTS) / sum(CLASS_COUNTS)
            drawn = np.random.default_rng(seed).choice(len(mix), simulated_galaxies, p=mix)
            labels = pd.Series(drawn, [f"drawn{row}" for row in range(len(drawn))], name="label1")
        votes = simulate_votes(labels.index, labels.to_numpy(), seed)
        name = f"simulated votes on {len(votes):,} galaxies"
        return LabelledVotes(votes, labels, name, simulated=True)
    path = Path(votes_path).expanduser() if votes_path is not None else data_dir / VOTES_FILE
    if votes_path is None and not path.exists():
        raise Gz2vitError(
            f"there are no votes in {data_dir.resolve()}; run `gz2vit download votes mapping --to "
            f"{data_dir.resolve()}`, or name a catalogue with --set VOTES=FILE"
        )
    votes = read_votes(path)
    if len(labels) and votes.index.name != "asset_id" and (data_dir / MAPPING_FILE).exists():
        # an object whose images were labelled twice counts once, by the first
        objects = read_mapping(data_dir / MAPPING_FILE).objid.reindex(labels.index)
        if objects.isna().all():
            raise Gz2vitError(f"{data_dir / MAPPING_FILE} knows no galaxy of the label tables")
        labels = labels.set_axis(objects)[objects.notna().to_numpy()]
        labels = labels[~labels.index.duplicated()]
    known = labels if labels.index.isin(votes.index).any() else None
    return LabelledVotes(votes, known, f"votes on {len(votes):,} galaxies of {path.name}", False)


# ---- sizes and magnitudes: Galaxy Zoo 2's sample table, gz2sample.csv.gz ----

# Extinction in g over that in r, for any amount of dust: 3.793 / 2.751 (Stoughton et al. 2002,
# AJ 123, 485, Table 22). Used where the table has no EXTINCTION_G.
EXTINCTION_G_OVER_R = 3.793 / 2.751


def read_sample(path: Path | str) -> pd.DataFrame:
    """petroR90_r [arcsec], dered_r and dered_g_r [mag], float64, indexed by object id (text).

    Values that SDSS could not measure (-9999) become NaN; of a repeated object the first row is
    taken. Raises `Gz2vitError` for a file that cannot be read or lacks a column.

    DEVIATION: the paper's Fig. 4 used SDSS's model magnitudes; the sample table holds only
    Petrosian ones, which for galaxies this bright differ by hundredths of a magnitude as a rule.
    """
    names = ("PETROR90_R", "PETROMAG_R", "EXTINCTION_R")
    table = read_table(path, names, "OBJID", ("PETROMAG_G", "EXTINCTION_G"))
    table["OBJID"] = read_object_ids(table.OBJID, Path(path))
    table = table.drop_duplicates("OBJID").set_index("OBJID").apply(pd.to_numeric, errors="coerce")

    def magnitude(name: str) -> pd.Series:
        return table[name].where((table[name] > 0) & (table[name] < 30))

    extinction_r = table.EXTINCTION_R.where(table.EXTINCTION_R >= 0)
    dered_r = magnitude("PETROMAG_R") - extinction_r
    dered_g_r = pd.Series(np.nan, table.index)
    if "PETROMAG_G" in table:
        extinction_g = extinction_r * EXTINCTION_G_OVER_R
        if "EXTINCTION_G" in table:
            extinction_g = table.EXTINCTION_G.where(table.EXTINCTION_G >= 0)
        dered_g_r = magnitude("PETROMAG_G") - extinction_g - dered_r
    radius_arcsec = table.PETROR90_R.where(table.PETROR90_R > 0)
    columns = dict(zip(PROPERTY_COLUMNS, (radius_arcsec, dered_r, dered_g_r), strict=True))
    return pd.DataFrame(columns)


def write_properties(
    directory: Path | str, galaxy_ids: pd.Series, mapping_path: Path, sample_path: Path
) -> tuple[pd.DataFrame, int]:
    """Write `galaxy_properties.csv` for `galaxy_ids` (image names), by way of the file map.

    Returns the table (galaxyID and the three properties, NaN where unknown) and how many galaxies
    the sample table does not hold.
    """
    objects = read_mapping(mapping_path).objid.reindex(galaxy_ids)
    sample = read_sample(sample_path)
    table = sample.reindex(objects).reset_index(drop=True)
    table.insert(0, "galaxyID", galaxy_ids.to_numpy())
    with atomic_path(Path(directory) / "galaxy_properties.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.4f")
    return table, int((~objects.isin(sample.index)).sum())
