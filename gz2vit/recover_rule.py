"""Reading a lost selection rule back off votes and the labels that it gave.

Known is which question leads to which class (`PATHS`). Looked for are the threshold of every
condition and the column it is read from, the least number of votes, whether odd galaxies are kept
out of a class, which odd features make a galaxy irregular and whether each counts alone or their
sum, and whether a galaxy must fulfil exactly one class or gets the first in an order of precedence.
The fit maximises the number of galaxies with the right class, those left out included.

Each condition is a decision tree of one split, fitted with the others held fixed: along the sorted
vote fractions every galaxy that gets its right class by passing counts +1, every one that loses it
-1, and the best split is where their running sum is highest. Rounds over all conditions repeat
until nothing is gained, and again from thresholds moved a little at random. Between the two
galaxies next to a threshold the data cannot tell; the rule takes the number that the two papers
print where it lies between them, else the shortest decimal.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd
from tqdm import tqdm

from gz2vit.io import Gz2vitError
from gz2vit.paper import CLASS_NAMES, WILLETT_MIN_FRACTION, ZHU_MIN_FRACTION
from gz2vit.votes import NO_CLASS, ClassRule, Condition, Rule, choose_class, has_counts, vote_kinds

# The answers that lead to each class; the last one is its own question's (class 6 has many).
PATHS = (
    ("smooth", "completely_round"), ("smooth", "in_between"), ("smooth", "cigar_shaped"),
    ("features_or_disk", "edgeon"), ("features_or_disk", "not_edgeon", "spiral", "bar"),
    ("features_or_disk", "not_edgeon", "spiral", "no_bar"), ("odd", "irregular"), ("odd", "merger"),
)  # fmt: skip
ASKED = {*itertools.chain(*PATHS), "not_odd"}
IRREGULAR, NOT_ODD = 6, ("not_odd",)
ODD_FEATURES = ("disturbed", "irregular", "other", "dust_lane", "ring", "lens_or_arc")
MAX_ROUNDS = 20
# First guesses: half of the votes, or (for labels without errors) what all of a class's have.
STARTS = ("majority", "all")
START_GALAXIES = 5_000  # starts are compared on so many, the best one goes on with all
KICK = 0.03  # how far a restart moves the thresholds, rms
ORDERS = np.array(list(itertools.permutations(range(len(PATHS)))))  # of the classes
NEVER = 2.0  # a threshold that no vote fraction reaches
PUBLISHED = {**WILLETT_MIN_FRACTION, **ZHU_MIN_FRACTION}


@dataclass(frozen=True)
class Recovery:
    """The rule found, and how well it agrees.

    `thresholds`: by condition, and by single answer of "any of": the interval `above` < `threshold`
    <= `up to` that gives the same labels (0 or NEVER: unbounded), how many galaxies `decide` it,
    the nearest ones, how many it alone `removes` from a class or `adds`. `agreement`: share of all
    galaxies that come out right; `agreement_other`: of the best rule that chooses in the other way;
    `several`: galaxies that fulfil several classes, `several_labelled` with a label.
    """

    rule: Rule
    thresholds: pd.DataFrame
    agreement: float
    agreement_other: float
    several: int
    several_labelled: int


def recover_rule(votes: pd.DataFrame, labels: pd.Series) -> Recovery:
    """The rule that best explains `labels` (class by galaxy id); galaxies without one are left out.

    Raises `Gz2vitError` where a class has no labelled galaxy with votes.
    """
    truth = labels.reindex(votes.index, fill_value=NO_CLASS).to_numpy()
    for index in set(range(len(PATHS))) - set(truth):
        name = CLASS_NAMES[index]
        raise Gz2vitError(f"no galaxy with votes is labelled {name}; give more labels")
    few = np.arange(len(truth))
    if len(few) > START_GALAXIES:
        few = np.sort(np.random.default_rng(0).choice(few, START_GALAXIES, replace=False))
    kinds = vote_kinds(votes, ASKED.union(ODD_FEATURES))
    starts = list(itertools.product((True, False), kinds, STARTS))
    best: dict[bool, _Fit] = {}
    for exactly_one, column, guess in tqdm(starts, desc="fit rule", unit=" starts"):
        fit = _Fit(votes.iloc[few], truth[few], column)
        fit.start(exactly_one, guess)
        if exactly_one not in best or fit.right > best[exactly_one].right:  # the first of equals
            best[exactly_one] = fit
    for exactly_one, fit in best.items():
        fit.kick(patience=20)
        if len(few) < len(truth):
            best[exactly_one] = _Fit(votes, truth, fit.column)
            best[exactly_one].improve(fit.rule)
            best[exactly_one].kick(patience=2)
    exactly_one = best[True].right >= best[False].right
    fit, other = best[exactly_one], best[not exactly_one]
    thresholds = fit.settle()
    several = fit.matches(fit.rule).sum(axis=0) > 1
    counts = int(several.sum()), int((truth[several] != NO_CLASS).sum())
    return Recovery(fit.rule, thresholds, fit.right / len(truth), other.right / len(truth), *counts)


def hide_rule(seed: int, votes: pd.DataFrame) -> Rule:
    """A rule drawn to be found again: of either kind of choice, sums or single answers.

    Thresholds scatter by 0.08 (rms); column, order and least number of votes are drawn, too.
    """
    rng = np.random.default_rng(seed)
    exactly_one, any_of, asks_not_odd = (bool(drawn) for drawn in rng.integers(2, size=3))
    columns = vote_kinds(votes, ASKED.union(ODD_FEATURES))
    column = columns[rng.integers(len(columns))]
    features = ODD_FEATURES[: rng.integers(1, 5)]
    drawn: dict[tuple[str, ...], Condition] = {}
    for path in PATHS:
        for answers in (*((one,) for one in path), NOT_ODD, features):
            # a galaxy that is barred and unbarred at once would hide both thresholds
            usual = PUBLISHED.get(answers[0], 0.65 if answers[0] in ("bar", "no_bar") else 0.5)
            least = round(float(np.clip(usual + rng.normal(0, 0.08), 0.1, 0.9)), 3)
            single = any_of and len(answers) > 1
            drawn.setdefault(answers, Condition(answers, least, column, single))
    classes = []
    for index in map(int, rng.permutation(len(PATHS))):
        answers = [(one,) for one in PATHS[index]]
        if index == IRREGULAR:
            answers[-1] = features
        elif index < 4 and asks_not_odd:
            answers.insert(1, NOT_ODD)
        classes.append(ClassRule(index, tuple(drawn[one] for one in answers)))
    min_votes = int(rng.choice([0, 5, 10])) if has_counts(votes) else 0
    return Rule("hidden", min_votes, tuple(classes), exactly_one)


class _Fit:
    """A rule on its way to the best agreement with the labels `truth` (galaxies,)."""

    def __init__(self, votes: pd.DataFrame, truth: np.ndarray, column: str) -> None:
        self.votes, self.truth, self.column = votes, truth, column
        self._value = cache(lambda *words: Condition(words[0], 0.0, *words[1:]).value(votes))

    def value(self, one: Condition) -> np.ndarray:
        """What a condition compares with its threshold, float64 (galaxies,)."""
        return self._value(one.answers, one.column, one.any_of)

    def matches(self, rule: Rule, forced: Mapping[tuple[str, ...], bool] = {}) -> np.ndarray:
        """Which galaxies fulfil which class, with some conditions `forced` for all of them."""
        rows = np.ones((len(rule.classes), len(self.truth)), dtype=bool)
        for row, each in zip(rows, rule.classes, strict=True):
            for one in each.asked(rule.min_votes):
                row &= forced.get(one.answers, self.value(one) >= one.at_least)
        return rows

    def is_right(self, rule: Rule, forced: Mapping[tuple[str, ...], bool] = {}) -> np.ndarray:
        """To which galaxies `rule` gives their class, with some conditions `forced`."""
        return choose_class(self.matches(rule, forced), rule) == self.truth

    def gain(self, answers: tuple[str, ...]) -> np.ndarray:
        """What passing a condition does to each galaxy: +1 gains, -1 loses its right class."""
        failed, passed = (self.is_right(self.rule, {answers: passes}) for passes in (False, True))
        return passed.astype(np.int64) - failed

    def start(self, exactly_one: bool, guess: str) -> None:
        """Fit from a first guess of `STARTS`."""
        least = dict.fromkeys(ASKED, 0.5)
        if guess == "all":
            for name in ASKED:
                concerned = [index for index, path in enumerate(PATHS) if name in path]
                values = self.value(Condition((name,), 0.0, self.column))
                chosen = values[np.isin(self.truth, concerned)]
                least[name] = float(np.nanmin(chosen, initial=1.0)) if concerned else 0.0
        paths = [path if "odd" in path else (path[0], "not_odd", *path[1:]) for path in PATHS]
        conditions = {name: Condition((name,), value, self.column) for name, value in least.items()}
        classes = (ClassRule(n, tuple(map(conditions.get, path))) for n, path in enumerate(paths))
        self.improve(Rule("recovered from votes and labels", 0, tuple(classes), exactly_one))

    def improve(self, rule: Rule) -> None:
        """Take every change that brings more galaxies right, in rounds, until none does."""
        self.rule, self.right = rule, self.is_right(rule).sum()
        for _ in range(MAX_ROUNDS):
            before = self.right
            for changed in self._changes():
                right = self.is_right(changed).sum()
                if right > self.right:
                    self.rule, self.right = changed, right
            if self.right == before:
                return

    def _changes(self) -> Iterator[Rule]:
        """Rules to try, each from the best one so far."""
        if not self.rule.exactly_one:  # the order in which most pairs of overlapping classes fit
            matches, classes = self.matches(self.rule), self.rule.classes
            rightly = matches & (self.truth == [[one.class_index] for one in classes])
            wins = rightly.astype(np.int64) @ matches.T
            first, second = np.triu_indices(len(classes), 1)
            best = ORDERS[wins[ORDERS[:, first], ORDERS[:, second]].sum(axis=1).argmax()]
            yield replace(self.rule, classes=tuple(classes[place] for place in best))
        for answers, one in self.rule.conditions().items():
            _, high = _best_split(self.value(one), self.gain(answers))
            yield self.rule.with_conditions({answers: replace(one, at_least=high)})
        rule = self.rule  # every set of odd features, as a sum or each alone
        old = next(c for c in rule.classes if c.class_index == IRREGULAR).conditions[-1].answers
        gain = self.gain(old)
        for size in range(1, len(ODD_FEATURES) + 1):
            for answers in itertools.combinations(ODD_FEATURES, size):
                for any_of in (True, False)[size == 1 :]:
                    new = Condition(answers, 0.0, self.column, any_of)
                    _, high = _best_split(self.value(new), gain)
                    yield rule.with_conditions({old: replace(new, at_least=high)})
        # each class that asks for galaxies that are not odd without that, and the reverse
        asked = self.rule.conditions().get(NOT_ODD, Condition(NOT_ODD, 0.5, self.column))
        for place, each in enumerate(self.rule.classes):
            if "odd" not in PATHS[each.class_index]:
                rest = tuple(one for one in each.conditions if one.answers != NOT_ODD)
                if rest == each.conditions:
                    rest = (rest[0], asked, *rest[1:])
                new, classes = replace(each, conditions=rest), self.rule.classes
                yield replace(self.rule, classes=(*classes[:place], new, *classes[place + 1 :]))
        for least in range(61 if has_counts(self.votes) else 0):
            yield replace(self.rule, min_votes=least)

    def kick(self, patience: int) -> None:
        """Improve again from thresholds moved at random, until `patience` times bring nothing."""
        rng, without_gain = np.random.default_rng(0), 0
        while without_gain < patience and self.right < len(self.truth):
            before, right = self.rule, self.right
            moved = {
                answers: replace(one, at_least=max(0.0, one.at_least + rng.normal(0, KICK)))
                for answers, one in before.conditions().items()
            }
            rule = before.with_conditions(moved)
            if not rule.exactly_one:
                classes = list(rule.classes)
                one, other = rng.choice(len(classes), 2, replace=False)
                classes[one], classes[other] = classes[other], classes[one]
                rule = replace(rule, classes=tuple(classes))
            self.improve(rule)
            without_gain = 0 if self.right > right else without_gain + 1
            if self.right < right:
                self.rule, self.right = before, right

    def settle(self) -> pd.DataFrame:
        """Set the thresholds to plain numbers where that costs nothing; `Recovery.thresholds`."""
        asked = self.rule.conditions().get(NOT_ODD)
        if asked and _best_split(self.value(asked), self.gain(NOT_ODD))[0] == 0:  # excludes nobody
            self.rule = self.rule.with_conditions({NOT_ODD: None})
        # One galaxy can tie two thresholds to each other: they move together or not at all.
        for size in (1, 2):
            for group in itertools.combinations(self.rule.conditions().values(), size):
                plain = {one.answers: replace(one, at_least=_nearest_plain(one)) for one in group}
                self._settle_on(plain)
        for answers, one in self.rule.conditions().items():
            if one.at_least != _nearest_plain(one):
                shortest = _shortest(*_best_split(self.value(one), self.gain(answers)))
                self._settle_on({answers: replace(one, at_least=shortest)})
        rows, matches = [], self.matches(self.rule)
        for answers, one in self.rule.conditions().items():
            gain = self.gain(answers)
            removed = self.matches(self.rule, {answers: True}) & ~matches
            rows.append(self._row(one, gain) | {"removes": int(removed.any(axis=0).sum())})
            for name in answers if one.any_of else ():
                others = tuple(other for other in answers if other != name)
                single = replace(one, answers=(name,), any_of=False)
                counted = gain * (self.value(replace(one, answers=others)) < one.at_least)
                adds = int(((self.value(single) >= one.at_least) & (counted != 0)).sum())
                rows.append(self._row(single, counted) | {"condition": f"... {name}", "adds": adds})
        return pd.DataFrame(rows).set_index("condition")

    def _settle_on(self, changed: Mapping[tuple[str, ...], Condition]) -> None:
        rule = self.rule.with_conditions(changed)
        self.rule = rule if self.is_right(rule).sum() >= self.right else self.rule

    def _row(self, one: Condition, gain: np.ndarray) -> dict[str, object]:
        """What is known of a threshold from the galaxies with `gain`."""
        low, high = _best_split(self.value(one), gain)
        telling = pd.Series(self.value(one), self.votes.index)[gain != 0]
        below, above = telling[telling < one.at_least], telling[telling >= one.at_least]
        row = {"condition": one.describe().rsplit(" >=", 1)[0], "threshold": one.at_least}
        row |= {"above": low, "up to": high, "column": one.column, "decide": len(telling)}
        row["nearest below"] = below.idxmax() if len(below) else ""
        return row | {"nearest above": above.idxmin() if len(above) else ""}


def _best_split(values: np.ndarray, gain: np.ndarray) -> tuple[float, float]:
    """Above which and up to which value a threshold gains most; a missing value never passes.

    (0, 0) where nothing depends on it, and up to NEVER where it is best passed by none.
    """
    telling = (gain != 0) & ~np.isnan(values)
    if not telling.any():
        return 0.0, 0.0
    levels, where = np.unique(-values[telling], return_inverse=True)  # falling values
    totals = np.cumsum(np.bincount(where, weights=gain[telling]))
    best = int(totals.argmax())
    if totals[best] <= 0:
        return float(-levels[0]), NEVER
    return float(-levels[best + 1]) if best + 1 < len(levels) else 0.0, float(-levels[best])


def _nearest_plain(one: Condition) -> float:
    """The published threshold or the tenth that is nearest, if it is within 0.05."""
    published = PUBLISHED.get(one.answers[0], NEVER)
    return published if abs(published - one.at_least) <= 0.05 else round(one.at_least, 1)


def _shortest(low: float, high: float) -> float:
    """The shortest decimal, of three digits at most, above `low` and up to `high`; else `high`."""
    for digits in (1, 2, 3):
        step = 10**-digits
        number = round(float(np.floor(high / step + 1e-9) * step), digits)
        if low < number <= high:
            return number
    return high
