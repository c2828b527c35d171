"""Recovering a lost selection rule from votes and the labels that it gave.

What is given is the rule's form: which answers each class depends on. What is looked for is all
that decides: the least vote fraction of every condition, the column that it is read from, the
least number of votes, and the order of precedence. The fit maximises the number of galaxies of the
catalogue whose derived class equals the published one, those without a class included.

Each condition is a decision tree of one split, fitted with the others held fixed: along the sorted
vote fractions, every galaxy that would get the right class by passing counts +1, every one that
would lose it -1, and the best split is where their running sum is highest. That is exact for one
condition; rounds over all of them repeat until nothing is gained. A threshold is known only up to
the interval between two neighbouring galaxies that it tells apart; the interval is reported, and
its upper end, the nearest vote fraction that was observed, is the threshold.
"""

import itertools
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from tqdm import tqdm

from gz2vit.io import Gz2vitError
from gz2vit.votes import (
    COLUMNS,
    NO_CLASS,
    ClassRule,
    Condition,
    Rule,
    first_fulfilled,
    fulfilled,
    vote_count,
    vote_fraction,
)

MAX_ROUNDS = 20
# The first guess of a threshold: the fraction that all but this share of a class's galaxies reach.
STARTS = (0.0, 0.01, 0.05)


@dataclass(frozen=True)
class Threshold:
    """One recovered condition: any threshold above `low` and up to `high` gives the same labels.

    `low` is 0 where the condition excludes no galaxy that the others let through: then the votes
    do not tell it, and it could as well be absent.
    """

    answers: tuple[str, ...]
    column: str
    low: float
    high: float

    @property
    def value(self) -> float:
        """The nearest vote fraction that was observed: the least one that still passes."""
        return self.high

    @property
    def binding(self) -> bool:
        """Whether the condition decides about any galaxy."""
        return self.low > 0

    @property
    def rounded(self) -> float:
        """The shortest decimal, of three digits at most, inside the interval; else the value."""
        for digits in (1, 2, 3):
            step = 10**-digits
            candidate = round(np.floor(self.high / step + 1e-9) * step, digits)
            if self.low < candidate <= self.high:
                return float(candidate)
        return self.high


@dataclass(frozen=True)
class Recovery:
    """The rule found, the interval of each threshold, and how well it agrees.

    `agreement`: share of the catalogue's galaxies with the right class (or rightly none);
    `agreement_labelled`: the same among the galaxies that have a published class.
    """

    rule: Rule
    thresholds: tuple[Threshold, ...]
    agreement: float
    agreement_labelled: float

    def table(self) -> pd.DataFrame:
        """A row for each condition: column, threshold, its interval, and its shortest decimal."""
        rows = [
            {
                "condition": " + ".join(one.answers),
                "column": one.column,
                "threshold": one.value,
                "above": one.low,
                "shortest decimal": one.rounded if one.binding else float("nan"),
            }
            for one in self.thresholds
        ]
        return pd.DataFrame(rows).set_index("condition")


def recover_rule(votes: pd.DataFrame, labels: pd.Series, form: Rule) -> Recovery:
    """The rule of the form of `form` that best explains `labels` (class by galaxy id).

    Galaxies of `votes` without a label count as not selected. The thresholds, columns, least votes
    and order of `form` are not used. Raises `Gz2vitError` where no labelled galaxy has votes, or
    a class of the form has none.
    """
    truth = labels.reindex(votes.index, fill_value=NO_CLASS).to_numpy()
    for one in form.classes:
        if not (truth == one.class_index).any():
            raise Gz2vitError(f"no galaxy with votes is labelled {one.class_name}; nothing to fit")
    starts = tqdm(list(itertools.product(COLUMNS, STARTS)), desc="fit rule", unit=" starts")
    fits = [
        _Fit(votes, truth, _first_guess(votes, truth, form, column, share)).improve()
        for column, share in starts
    ]
    best = max(fits, key=lambda fit: fit.right).unify_columns()  # the first of equals
    thresholds = tuple(best.interval(one) for one in best.rule.conditions().values())
    rule = best.rule.with_conditions(
        {one.answers: Condition(one.answers, one.value, one.column) for one in thresholds}
    )
    derived = first_fulfilled(fulfilled(votes, rule), rule)
    labelled = truth != NO_CLASS
    return Recovery(
        replace(rule, name="recovered from votes and labels"),
        thresholds,
        float((derived == truth).mean()),
        float((derived == truth)[labelled].mean()),
    )


def rule_forms(form: Rule) -> list[Rule]:
    """`form`, and the same with other answers that may have made a galaxy irregular."""
    versions = (("irregular",), ("disturbed", "irregular"), ("disturbed", "irregular", "other"))
    forms = []
    for answers in versions:
        changed = {
            one.answers: replace(one, answers=answers)
            for one in form.conditions().values()
            if "irregular" in one.answers
        }
        forms.append(form.with_conditions(changed))
    return forms


def hide_rule(form: Rule, seed: int) -> Rule:
    """A rule of the form of `form`, drawn to be found again.

    Thresholds are moved by 0.08 (rms) and have three decimals; the column, the order of precedence
    and the least number of votes (0, 5 or 10) are drawn.
    """
    rng = np.random.default_rng(seed)
    column = COLUMNS[rng.integers(len(COLUMNS))]
    changed = {}
    for answers, one in form.conditions().items():
        moved = round(float(np.clip(one.at_least + rng.normal(0, 0.08), 0.1, 0.9)), 3)
        changed[answers] = Condition(answers, moved, column)
    classes = tuple(form.classes[place] for place in rng.permutation(len(form.classes)))
    hidden = replace(form, name="hidden", classes=classes, min_votes=int(rng.choice([0, 5, 10])))
    return hidden.with_conditions(changed)


def _first_guess(
    votes: pd.DataFrame, truth: np.ndarray, form: Rule, column: str, share: float
) -> Rule:
    """Thresholds that all but `share` of the galaxies concerned reach, in `column`."""
    changed = {}
    for answers in form.conditions():
        concerned = [
            one.class_index
            for one in form.classes
            if answers in [condition.answers for condition in one.conditions]
        ]
        fractions = vote_fraction(votes, answers, column)[np.isin(truth, concerned)]
        # "lower": an observed value, not one between two of them
        least = float(np.quantile(fractions, share, method="lower"))
        changed[answers] = Condition(answers, least, column)
    return replace(form.with_conditions(changed), min_votes=0)


class _Fit:
    """A rule on its way to the best agreement with the labels `truth` (galaxies,)."""

    def __init__(self, votes: pd.DataFrame, truth: np.ndarray, rule: Rule) -> None:
        self.votes, self.truth, self.rule = votes, truth, rule
        self.values = {
            (answers, column): vote_fraction(votes, answers, column)
            for answers in rule.conditions()
            for column in COLUMNS
        }
        self.question_votes = {one: vote_count(votes, one.question) for one in rule.classes}
        self.right = self._count_right(rule)

    def improve(self) -> "_Fit":
        """Rounds over order, thresholds, columns and least votes, until nothing is gained."""
        for _ in range(MAX_ROUNDS):
            before = self.right
            self._order()
            for answers in self.rule.conditions():
                self._split(answers)
            self._least_votes()
            if self.right == before:
                break
        return self

    def unify_columns(self) -> "_Fit":
        """Read every condition from the rule's commonest column where that is as good."""
        columns = [one.column for one in self.rule.conditions().values()]
        commonest = max(COLUMNS, key=columns.count)
        for answers in self.rule.conditions():
            _, high = self._best_interval(answers, commonest)
            changed = {answers: Condition(answers, high, commonest)}
            rule = self.rule.with_conditions(changed)
            if self._count_right(rule) >= self.right:
                self.rule = rule
        return self

    def _classes(self, rule: Rule, forced: dict[tuple[str, ...], bool] | None = None) -> np.ndarray:
        """The class of each galaxy, with some conditions taken as passed or failed by all."""
        return first_fulfilled(self._matches(rule, forced or {}), rule)

    def _matches(self, rule: Rule, forced: dict[tuple[str, ...], bool]) -> np.ndarray:
        """As `labels.fulfilled`, from the values at hand."""
        passes = {
            answers: self.values[answers, one.column] >= one.at_least
            for answers, one in rule.conditions().items()
        }
        passes |= {answers: np.full(len(self.truth), passed) for answers, passed in forced.items()}
        rows = []
        for one in rule.classes:
            row = self._votes_on(one) >= rule.min_votes
            for condition in one.conditions:
                row = row & passes[condition.answers]
            rows.append(row)
        return np.array(rows)

    def _votes_on(self, one: ClassRule) -> np.ndarray:
        """Votes on a class's own question; conditions may have changed since they were counted."""
        by_class = {rule.class_index: votes for rule, votes in self.question_votes.items()}
        return by_class[one.class_index]

    def _count_right(self, rule: Rule) -> int:
        return int((self._classes(rule) == self.truth).sum())

    def _take(self, rule: Rule) -> None:
        """Go on with `rule` if it is better."""
        right = self._count_right(rule)
        if right > self.right:
            self.rule, self.right = rule, right

    def _order(self) -> None:
        """The order of precedence in which most pairs of overlapping classes stand right."""
        matches = self._matches(self.rule, {})
        classes = self.rule.classes
        wins = np.array(
            [
                [(a & b & (self.truth == one.class_index)).sum() for b in matches]
                for one, a in zip(classes, matches, strict=True)
            ]
        )
        orders = np.array(list(itertools.permutations(range(len(classes)))))
        first, second = np.triu_indices(len(classes), 1)
        scores = wins[orders[:, first], orders[:, second]].sum(axis=1)
        best = orders[scores.argmax()]
        self._take(replace(self.rule, classes=tuple(classes[place] for place in best)))

    def _split(self, answers: tuple[str, ...]) -> None:
        """The best threshold and column of one condition, the others held fixed."""
        for column in COLUMNS:
            _, high = self._best_interval(answers, column)
            self._take(self.rule.with_conditions({answers: Condition(answers, high, column)}))

    def _best_interval(self, answers: tuple[str, ...], column: str) -> tuple[float, float]:
        """Where a threshold does best: above the first vote fraction, up to the second."""
        passed = self._classes(self.rule, {answers: True}) == self.truth
        failed = self._classes(self.rule, {answers: False}) == self.truth
        gain = passed.astype(np.int64) - failed
        telling = gain != 0
        values, sums = self.values[answers, column][telling], gain[telling]
        if not len(values):
            return 0.0, 0.0
        levels, where = np.unique(-values, return_inverse=True)  # falling vote fractions
        totals = np.cumsum(np.bincount(where, weights=sums))
        best = int(totals.argmax())
        if totals[best] <= 0:
            return float(-levels[0]), 1.0
        low = float(-levels[best + 1]) if best + 1 < len(levels) else 0.0
        return low, float(-levels[best])

    def _least_votes(self) -> None:
        """The best least number of votes, tried one by one."""
        highest = int(min(60, max(votes.max() for votes in self.question_votes.values())))
        for votes in range(highest + 1):
            self._take(replace(self.rule, min_votes=votes))

    def interval(self, condition: Condition) -> Threshold:
        """What is known of a condition's threshold, the others held fixed."""
        low, high = self._best_interval(condition.answers, condition.column)
        return Threshold(condition.answers, condition.column, low, high)
