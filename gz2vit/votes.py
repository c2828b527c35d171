"""From the votes of Galaxy Zoo 2's volunteers to the eight classes, and to label tables.

The authors never published their selection, only that it follows Willett et al. 2013 (MNRAS 435,
2835) and Zhu et al. 2019 (Ap&SS 364, 55). `DEFAULT_RULE` is the rule read back off their label
tables (`gz2vit.recover_rule`); another one is read from a YAML file.

A catalogue of votes (Willett et al. 2013; Hart et al. 2016, MNRAS 461, 3663) has one row per galaxy
and, for each answer of the decision tree, vote fractions from 0 to 1 (`_debiased`,
`_weighted_fraction`, `_fraction`) and mostly the number of volunteers (`_count`).
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import pandas as pd
import pooch
import yaml
from pydantic import BeforeValidator, Field, PlainSerializer, TypeAdapter, ValidationError

from gz2sim.volunteers import KINDS, QUESTIONS, simulate_votes
from gz2vit import catalog, paper
from gz2vit.catalog import IMAGE_SUFFIXES, SPLITS, read_table
from gz2vit.io import ROOT, Gz2vitError, write_json, write_text
from gz2vit.paper import CLASS_COUNT, CLASS_NAMES

YES_NO = {"a04_yes": "edgeon", "a05_no": "not_edgeon", "a14_yes": "odd", "a15_no": "not_odd"}
ANSWERS = {  # the stem of an answer's columns, by its short name
    YES_NO.get(answer, answer[4:]): f"{question}_{answer}"
    for question, answers in QUESTIONS.items()
    for answer in answers
}
COLUMNS = KINDS[1:]  # what a vote fraction may be read from: debiased, weighted_fraction, fraction
NO_CLASS = -1  # the class of a galaxy that is not selected
LABELS = tuple(f"{index} {name}" for index, name in enumerate(CLASS_NAMES))
DR8_ID = r"1237\d{15}"
KEYS = ("asset_id", "dr7objid", "objid")  # a galaxy's name: its image's, or its SDSS DR7 object
VOTES_FILE = "downloads/gz2_hart16.csv.gz"  # in a data folder
MAPPING_FILE = "downloads/gz2_filename_mapping.csv"
SAMPLE_FILE = "downloads/gz2sample.csv.gz"
# The real Galaxy Zoo 2 is kept in the project, unless the environment names another folder.
GALAXY_ZOO_DIR = Path(os.environ.get("GZ2VIT_DATA") or ROOT / "gz2_data").expanduser()

# ---- rules ----

_Flag = Annotated[bool, Field(strict=True)]
_AtLeastOne = Field(min_length=1)
_BY_NAME = (BeforeValidator(CLASS_NAMES.index), PlainSerializer(CLASS_NAMES.__getitem__))


@dataclass(frozen=True)
class Condition:
    """The votes for `answers` (short names) in `column`, their sum or any, are `at_least`."""

    answers: Annotated[tuple[Literal[*ANSWERS], ...], _AtLeastOne]
    at_least: float
    column: Literal[*COLUMNS, "count"] = COLUMNS[0]
    any_of: _Flag = False

    def value(self, votes: pd.DataFrame) -> np.ndarray:
        """What must reach `at_least`, float64 (galaxies,)."""
        fractions = vote_fractions(votes, self.answers, self.column)
        # rounded, so that 0.1 + 0.2 reaches 0.3; a missing fraction does not hide another
        return (np.fmax if self.any_of else np.add).reduce(fractions, axis=1).round(9)

    def describe(self) -> str:
        """The condition in words, such as `disturbed + irregular >= 0.5`."""
        words = f"any of {', '.join(self.answers)}" if self.any_of else " + ".join(self.answers)
        words = "votes on its question" if self.column == "count" else words
        return f"{words} >= {self.at_least:.6g}"


@dataclass(frozen=True)
class ClassRule:
    """A class (in YAML by name) and its conditions, the last about the class's own question."""

    class_index: Annotated[int, Field(alias="class"), *_BY_NAME]
    conditions: Annotated[tuple[Condition, ...], _AtLeastOne]

    def asked(self, min_votes: int) -> tuple[Condition, ...]:
        """All conditions: with `min_votes`, also that so many answered the class's question."""
        if not min_votes:
            return self.conditions
        question = ANSWERS[self.conditions[-1].answers[0]].split("_")[0]
        answers = tuple(name for name, stem in ANSWERS.items() if stem.startswith(question))
        return (*self.conditions, Condition(answers, min_votes, "count"))


@dataclass(frozen=True)
class Rule:
    """All classes; a galaxy that fulfils several is left out (`exactly_one`) or gets the first."""

    name: str
    min_votes: Annotated[int, Field(ge=0)]  # of volunteers who answered the class's own question
    classes: Annotated[tuple[ClassRule, ...], _AtLeastOne]
    exactly_one: _Flag = False

    def conditions(self) -> dict[tuple[str, ...], Condition]:
        """Every condition once, by its answers: what several classes share is one condition."""
        return {one.answers: one for each in self.classes for one in each.conditions}

    def with_conditions(self, changed: Mapping[tuple[str, ...], Condition | None]) -> Self:
        """The rule with some conditions exchanged, or dropped, in every class that has them."""
        classes = []
        for each in self.classes:
            new = (changed.get(one.answers, one) for one in each.conditions)
            classes.append(replace(each, conditions=tuple(one for one in new if one is not None)))
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

    def applied_to(self, votes: pd.DataFrame) -> Self:
        """The rule as far as `votes` allow: without counts, no least number of votes is asked."""
        if not self.min_votes or has_counts(votes):
            return self
        print(f"no vote counts in this table: the least number of {self.min_votes} is not asked")
        return replace(self, min_votes=0)


def _chosen(class_index: int, words: str) -> ClassRule:
    least, answers = paper.SELECTION_MIN_FRACTION, [word.split("|") for word in words.split()]
    conditions = (Condition(tuple(a), least[a[0]], any_of=len(a) > 1) for a in answers)
    return ClassRule(class_index, tuple(conditions))


# The recovered rule: it gives the authors' decision for 1,000 of 1,000 galaxies of the main survey.
_CLASSES = (
    _chosen(0, "smooth not_odd completely_round"),
    _chosen(1, "smooth not_odd in_between"),
    _chosen(2, "smooth not_odd cigar_shaped"),
    _chosen(3, "features_or_disk not_odd edgeon"),
    _chosen(4, "features_or_disk not_edgeon spiral bar"),
    _chosen(5, "features_or_disk not_edgeon spiral no_bar"),
    _chosen(6, "odd disturbed|irregular|other|dust_lane"),
    _chosen(7, "odd merger"),
)
DEFAULT_RULE = Rule("recovered from the published labels", 0, _CLASSES, exactly_one=True)


def write_rule(path: Path | str, rule: Rule) -> None:
    """Write a rule as YAML, for people and for `read_rule`."""
    content = TypeAdapter(Rule).dump_python(rule, mode="json", by_alias=True)
    write_text(path, yaml.safe_dump(content, sort_keys=False, width=100))


def read_rule(path: Path | str) -> Rule:
    """A rule from a YAML file; without `exactly_one`, in order of precedence. `Gz2vitError`."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        return TypeAdapter(Rule).validate_python(content)
    except OSError as error:
        raise Gz2vitError(f"cannot read the rule {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))} is {first['input']!r}: {first['msg']}"
        if first["loc"][-1:] == ("class",):
            reason += f"; the classes are {', '.join(CLASS_NAMES)}"
    raise Gz2vitError(f"{path} is not a rule (name, min_votes, classes): {reason}")


# ---- published tables: votes, and which image shows which galaxy ----


def read_votes(path: Path | str) -> pd.DataFrame:
    """The vote columns of a catalogue, float64, by galaxy id: the first of KEYS that there is.

    `total_classifications`, and `dr7objid` beside `asset_id`, come along. Raises `Gz2vitError` for
    what cannot be read, spoiled or repeated ids, and impossible values.
    """
    wanted = [f"{stem}_{kind}" for stem in ANSWERS.values() for kind in KINDS]
    table = _read_published(path, "votes", (), KEYS, [*wanted, "total_classifications"])
    key, *others = [name for name in KEYS if name in table]
    votes = table.set_index(key).drop(columns=others)
    if votes.empty or not any(name.endswith(COLUMNS) for name in votes):
        raise Gz2vitError(f"{path} holds no votes ({wanted[1]}); name a catalogue of Galaxy Zoo 2")
    numbers = votes.apply(pd.to_numeric, errors="coerce").replace(catalog.MISSING, np.nan)
    most = np.where([name.endswith(COLUMNS) for name in votes], 1.0, np.inf)
    unread = numbers.isna() & ~votes.isin(["", "nan", "NaN", "NA", "null", "-9999", "-9999.0"])
    for row, column in np.argwhere(((numbers < 0) | (numbers > most) | unread).to_numpy()):
        words = f"has {votes.columns[column]} = {votes.iat[row, column]}, which is not possible"
        raise Gz2vitError(f"{path}: galaxy {votes.index[row]} {words}; correct or remove it")
    numbers = numbers.astype(np.float64)
    return numbers.assign(dr7objid=table.dr7objid.to_numpy()) if "dr7objid" in others else numbers


def read_mapping(path: Path | str) -> pd.DataFrame:
    """The file map by asset_id: text columns objid, sample; the main survey's images come first."""
    mapping = _read_published(path, "mapping", ("objid", "sample"), ("asset_id", "objid"))
    # an object can have several images, one for each sample
    order = ["original", "extra", "stripe82", "stripe82_coadd_1", "stripe82_coadd_2"]
    mapping["sample"] = pd.Categorical(mapping["sample"], order)
    return mapping.sort_values("sample", kind="stable").set_index("asset_id")


def _read_published(
    path: Path | str, kind: str, names: Sequence[str], keys: Sequence[str], more: Sequence[str] = ()
) -> pd.DataFrame:
    """Columns of a downloaded table, whose ids `keys` are unique and those of SDSS DR7."""
    path = Path(path).expanduser()
    if not path.exists():
        raise Gz2vitError(f"there is no {path}; run `gz2vit download {kind}` to fetch it")
    table = read_table(path, names, keys, more)
    ids = table.filter(keys)
    for repeated in ids.iloc[:, 0][ids.iloc[:, 0].duplicated()]:
        raise Gz2vitError(f"{path} holds {repeated} more than once; remove one of its rows")
    for dr8 in ids.stack()[lambda names: names.str.fullmatch(DR8_ID)]:
        raise Gz2vitError(f"{path}: {dr8} is an SDSS DR8 id; use DR7 ids (587..., 588...)")
    return table


def has_counts(votes: pd.DataFrame) -> bool:
    """Whether the catalogue says how many volunteers gave each answer."""
    return any(name.endswith("_count") for name in votes.columns)


def vote_fractions(votes: pd.DataFrame, answers: Sequence[str], column: str) -> np.ndarray:
    """The `column` of `answers` (short names), float64 (galaxies, answers)."""
    names = [f"{ANSWERS[name]}_{column}" for name in answers]
    for name in names:
        if name not in votes:
            raise Gz2vitError(f"the votes have no column {name}; name a table or rule without it")
    return votes[names].to_numpy(dtype=np.float64)


def vote_kinds(votes: pd.DataFrame, answers: Iterable[str]) -> list[str]:
    """Those of COLUMNS that `votes` have of all `answers`; `Gz2vitError` where there is none."""
    found = [c for c in COLUMNS if all(f"{ANSWERS[name]}_{c}" in votes for name in answers)]
    if not found:
        raise Gz2vitError(f"the votes lack answers in each of {', '.join(COLUMNS)}; add columns")
    return found


# ---- classes and label tables ----


def choose_class(matches: np.ndarray, rule: Rule) -> np.ndarray:
    """The class of each galaxy, int64, by what they match, bool (the rule's classes, galaxies)."""
    indices = np.array([one.class_index for one in rule.classes])
    found = matches.sum(axis=0)
    chosen = found == 1 if rule.exactly_one else found > 0
    return np.where(chosen, indices[matches.argmax(axis=0)], NO_CLASS)


def derive_classes(votes: pd.DataFrame, rule: Rule = DEFAULT_RULE) -> pd.Series:
    """The class of every galaxy (0 to 7, or NO_CLASS), indexed as `votes`."""
    matches = [
        np.all([one.value(votes) >= one.at_least for one in each.asked(rule.min_votes)], axis=0)
        for each in rule.classes
    ]
    return pd.Series(choose_class(np.array(matches), rule), votes.index, name="label1")


def label_table(classes: pd.Series) -> pd.DataFrame:
    """`galaxyID,label1,label2,label3,label4` of all galaxies that have a class."""
    chosen = classes[classes != NO_CLASS]
    table = pd.DataFrame({"galaxyID": chosen.index, "label1": chosen.to_numpy()})
    return table.assign(**{n: np.array(m)[table.label1] for n, m in paper.MERGED_LABELS.items()})


def split_galaxies(table: pd.DataFrame, seed: int) -> dict[str, pd.DataFrame]:
    """A fifth for testing, then a fifth of the rest for validation, as the published sizes tell."""
    from sklearn.model_selection import train_test_split  # slow to import

    if len(table) < 5:
        raise Gz2vitError(f"{len(table)} galaxies got a class; three splits need at least 5")
    rest, test = train_test_split(table, test_size=0.2, random_state=seed)
    parts = (*train_test_split(rest, test_size=0.2, random_state=seed), test)
    return {split: one.reset_index(drop=True) for split, one in zip(SPLITS, parts, strict=True)}


def write_label_tables(directory: Path | str, tables: Mapping[str, pd.DataFrame]) -> list[Path]:
    """Write `gz2_<split>.csv` into `directory`; the paths."""
    for split, table in tables.items():
        write_text(Path(directory) / f"gz2_{split}.csv", table.to_csv(index=False))
    return [Path(directory) / f"gz2_{split}.csv" for split in tables]


def label_tables(directory: Path) -> dict[str, pd.DataFrame]:
    """The label tables that are in `directory`, by split."""
    paths = {split: directory / f"gz2_{split}.csv" for split in SPLITS}
    return {split: catalog.read_label_table(p) for split, p in paths.items() if p.exists()}


def class_counts(classes: pd.Series) -> pd.Series:
    """Galaxies per class name, and under `no class` those that got none."""
    counts = classes.value_counts().reindex([*range(CLASS_COUNT), NO_CLASS], fill_value=0)
    return counts.set_axis([*LABELS, "no class"]).rename("galaxies")


def explain_class(votes: pd.DataFrame, galaxy_id: str, rule: Rule) -> str:
    """Why the galaxy at `galaxy_id` of the index got its class, as text of several lines."""
    row, fits = votes.loc[[galaxy_id]], []
    how = "exactly one class must fit" if rule.exactly_one else "the first class that fits is taken"
    lines = [f"galaxy {galaxy_id}", f"rule: {rule.name}; {how}"]
    if "total_classifications" in row:
        lines[0] += f", {row.total_classifications.iloc[0]:.0f} volunteers"
    for each in rule.classes:
        place, passed = len(lines), []
        for one in each.asked(rule.min_votes):
            value = one.value(row)[0]
            passed.append(value >= one.at_least)
            found = f"{value:.3g} ({one.column.replace('_', ' ')}"
            if has_counts(row) and one.column != "count":
                found += f"; {vote_fractions(row, one.answers, 'count').sum():.0f} votes"
            lines.append(f"       {'yes' if passed[-1] else ' no'}  {one.describe()}: {found})")
        fits += [each.class_index] if all(passed) else []
        lines.insert(place, f"{'yes' if all(passed) else ' no'}  {LABELS[each.class_index]}")
    names, end = ", ".join(CLASS_NAMES[index] for index in fits), "no class: the galaxy fits none"
    if rule.exactly_one and len(fits) > 1:
        end = f"no class: the galaxy fits {len(fits)} ({names}); left out"
    elif fits:
        end = LABELS[fits[0]] + f", the first of {names}" * (len(fits) > 1)
    return "\n".join([*lines, f"=> {end}"])


# ---- the data folder ----


def derive_folder(
    votes_path: Path, directory: Path, rule: Rule, seed: int, mapping_path: Path | None = None,
    images: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write `gz2_<split>.csv` with the classes that `rule` gives, and a record, to `directory`.

    Galaxies are named by their images where `mapping_path` is given (or the votes name them so),
    else by their object id. With `images`, a folder, those without an image are left out, and
    `directory/images` becomes a link to it. Returns counts: {"galaxies": by split, "classes": by
    class name, "without_image"}. Raises `Gz2vitError`, also where tables of others are there.
    """
    link, record = directory / "images", directory / "derivation.json"
    foreign = [] if record.exists() else sorted(directory.glob("gz2_t*.csv"))
    if images and os.path.lexists(link) and link.resolve() != Path(images).resolve():
        foreign.append(link)
    for path in foreign:
        raise Gz2vitError(f"{path} is there already; give another folder with --to")
    votes = read_votes(votes_path)
    classes = derive_classes(votes, rule.applied_to(votes))
    chosen = named = classes[classes != NO_CLASS]
    if mapping_path and votes.index.name != "asset_id":
        objects = read_mapping(mapping_path).reset_index().drop_duplicates("objid")
        named = named.set_axis(objects.set_index("objid").asset_id.reindex(named.index))
        named, source = named[named.index.notna()], mapping_path
    if images and (len(named) or not mapping_path):
        stems = {p.stem for p in Path(images).iterdir() if p.name.lower().endswith(IMAGE_SUFFIXES)}
        named, source = named[named.index.isin(stems)], images
    if len(chosen) and named.empty:
        words = f"none of the {len(chosen):,} galaxies that got a class, such as {chosen.index[0]}"
        raise Gz2vitError(f"{source} has {words}; give the one that belongs to the votes")
    tables = split_galaxies(label_table(named), seed)
    directory.mkdir(parents=True, exist_ok=True)
    if images and not link.exists():
        link.symlink_to(Path(images).resolve(), target_is_directory=True)
    derived = {"galaxies": {split: len(table) for split, table in tables.items()}}
    derived["classes"] = class_counts(classes).to_dict()
    derived["without_image"] = len(chosen) - len(named)
    digest = pooch.file_hash(str(votes_path), alg="sha256")
    origin = {"votes": Path(votes_path).name, "votes_sha256": digest, "rule": asdict(rule)}
    # the record first: tables without one are taken for somebody else's
    write_json(record, origin | {"seed": seed} | derived)
    write_label_tables(directory, tables)
    return derived


def explain_galaxy(galaxy_id: str, votes_path: Path, rule: Rule, data_dir: Path) -> str:
    """Why `galaxy_id` (object's or image's) got its class; `data_dir` has file map and labels."""
    votes, objects = read_votes(votes_path), pd.Series(dtype=str)  # object ids by image name
    if "dr7objid" in votes:
        objects = votes.dr7objid
    elif (data_dir / MAPPING_FILE).exists():
        objects = read_mapping(data_dir / MAPPING_FILE).objid
    galaxy_id = galaxy_id.removesuffix(".jpg").removesuffix(".0")
    object_id = objects.get(galaxy_id, galaxy_id)
    names = [galaxy_id, object_id, *objects.index[objects == object_id]]
    found = [name for name in names if name in votes.index]
    if not found:
        why = "give a DR7 object id with all of its digits, or an image's name"
        if re.fullmatch(DR8_ID, galaxy_id):
            why = "that is an SDSS DR8 id; give its DR7 id"
        elif len(names) > 2:
            why = f"its object is {object_id}: name its sample's catalogue with --votes"
        elif objects.empty:
            why += "; for an image's name, run `gz2vit download mapping` first"
        about = f"{votes_path} ({len(votes):,} galaxies by {votes.index.name})"
        raise Gz2vitError(f"{galaxy_id} has no votes in {about}: {why}")
    lines = [explain_class(votes, found[0], rule.applied_to(votes))]
    if object_id != galaxy_id:
        lines.insert(0, f"image {galaxy_id}.jpg shows SDSS object {object_id}")
    tables = label_tables(data_dir)
    for split, table in tables.items():
        for row in table[table.galaxyID.isin(names)].itertuples():
            lines.append(f"published class: {LABELS[row.label1]} (image {row.galaxyID}, {split})")
    if tables and not lines[-1].startswith("published"):
        lines.append("published class: none; it is not in the label tables")
    return "\n".join(lines)


def load_votes(
    data_dir: Path | str, votes_path: Path | str | None = None, seed: int = 0,
    simulated_galaxies: int = 0, labels_dir: Path | str | None = None,
) -> tuple[pd.DataFrame, pd.Series | None, dict[str, Any]]:  # fmt: skip
    """Votes, label tables' classes by the same ids (None: of others), and {"name", "simulated"}.

    Votes are those in `votes_path`, tables those in `labels_dir`, or else the data folder's; where
    its galaxies are simulated, so are volunteers: on these, or on `simulated_galaxies` others.
    """
    data_dir, labels = Path(data_dir), pd.Series(dtype=np.int64, name="label1")
    if tables := label_tables(Path(labels_dir or data_dir).expanduser()):
        labels = pd.concat(tables.values()).set_index("galaxyID").label1
    elif labels_dir is not None:
        raise Gz2vitError(f"{labels_dir} holds no gz2_train.csv; give a folder of label tables")
    if votes_path is None and (data_dir / catalog.SIMULATION_RECORD).exists():
        if simulated_galaxies:
            mix = np.array(paper.CLASS_COUNTS) / sum(paper.CLASS_COUNTS)
            drawn = np.random.default_rng(seed).choice(len(mix), simulated_galaxies, p=mix)
            labels = pd.Series(drawn, [f"drawn{row}" for row in range(len(drawn))], name="label1")
        votes = simulate_votes(labels.index, labels.to_numpy(), seed)
        name = f"simulated votes on {len(votes):,} galaxies"
        return votes, labels, {"name": name, "simulated": True}
    path = Path(votes_path or data_dir / VOTES_FILE).expanduser()
    if votes_path is None and not path.exists():
        command = f"`gz2vit download votes mapping --to {data_dir.resolve()}`"
        raise Gz2vitError(f"no votes in {data_dir}: run {command}, or name a file: VOTES=FILE")
    votes = read_votes(path)
    if len(labels) and votes.index.name != "asset_id" and (data_dir / MAPPING_FILE).exists():
        # an object whose images were labelled twice counts once, by the first
        objects = read_mapping(data_dir / MAPPING_FILE).objid.reindex(labels.index)
        labels = labels.set_axis(objects)[objects.notna().to_numpy()]
        labels = labels[~labels.index.duplicated()]
    known = labels if labels.index.isin(votes.index).any() else None
    name = f"votes on {len(votes):,} galaxies of {path.name}"
    return votes, known, {"name": name, "simulated": False}


def write_properties(directory: Path) -> None:
    """Write `galaxy_properties.csv` where labels, file map and sample table are there and newer.

    petroR90_r [arcsec], dered_r and dered_g_r [mag], empty where unknown. DEVIATION: the paper's
    Fig. 4 used SDSS's model magnitudes; the sample table holds only Petrosian ones, which for
    galaxies this bright differ by hundredths of a magnitude as a rule.
    """
    target, labels = directory / "galaxy_properties.csv", label_tables(directory)
    sources = [directory / MAPPING_FILE, directory / SAMPLE_FILE]
    paths = [*sources, *(directory / f"gz2_{split}.csv" for split in SPLITS)]
    if not all(path.exists() for path in paths):
        return
    if target.exists() and target.stat().st_mtime >= max(path.stat().st_mtime for path in paths):
        return
    names, more = ["PETROR90_R", "PETROMAG_R", "EXTINCTION_R"], ["PETROMAG_G", "EXTINCTION_G"]
    sample = read_table(sources[1], names, ("OBJID",), more).drop_duplicates("OBJID")
    sample = sample.set_index("OBJID").apply(pd.to_numeric, errors="coerce")
    sample = sample.reindex(columns=names + more).where(lambda values: values >= 0)  # not -9999
    radius_arcsec, r, extinction_r, g, extinction_g = (sample[name] for name in sample)
    if extinction_g.isna().all():
        # in g over r, for any amount of dust: Stoughton et al. 2002 (AJ 123, 485), Table 22
        extinction_g = extinction_r * (3.793 / 2.751)
    r, g = (one.where(one.between(0, 30, "neither")) for one in (r, g))
    dered_r, dered_g = r - extinction_r, g - extinction_g
    values = (radius_arcsec.where(radius_arcsec > 0), dered_r, dered_g - dered_r)
    sample = pd.DataFrame(dict(zip(catalog.PROPERTY_COLUMNS, values, strict=True)))
    galaxy_ids = pd.concat(labels.values()).galaxyID
    objects = read_mapping(sources[0]).objid.reindex(galaxy_ids)
    table = sample.reindex(objects).set_axis(galaxy_ids)
    write_text(target, table.to_csv(float_format="%.4f"))
    missing = ", ".join(f"{count:,} without {name}" for name, count in table.isna().sum().items())
    unmatched = (~objects.isin(sample.index)).sum()
    words = f"{len(table):,} galaxies; {missing}; {unmatched:,} of them are not in the sample table"
    print(f"{target.name}: {words}", flush=True)
