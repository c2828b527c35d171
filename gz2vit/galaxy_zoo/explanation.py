"""Why a galaxy got its class: its votes, held against every condition of the rule."""

import pandas as pd

from gz2vit.errors import Gz2vitError
from gz2vit.galaxy_zoo.labels import NO_CLASS, first_fulfilled, fulfilled
from gz2vit.galaxy_zoo.rules import ClassRule, Condition, Rule
from gz2vit.galaxy_zoo.votes import vote_count, vote_fraction
from gz2vit.paper import CLASS_NAMES


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
