"""The questions that a run's models are asked, and the claims that answer each.

What is claimed stands before any number is seen, and is the paper's: of two networks the one with
the higher published accuracy is the more accurate; tuned class weights raise the macro-averaged
recall. A network that the paper does not have comes after those that it has. (The tests are
two-sided: the claim that turns out contradicted is as well tested as one that is supported.)
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import pandas as pd

from gz2vit.evidence.claims import (
    claim_better_metric,
    claim_fig4,
    claim_more_accurate,
    claim_overconfident,
    claim_scaling_helps,
)
from gz2vit.evidence.comparison import compare_right, metric_differences
from gz2vit.evidence.distributions import compare_groups
from gz2vit.evidence.gathering import FIG4_COLUMNS, GalaxyTable
from gz2vit.evidence.published import claim_published_fig4
from gz2vit.evidence.regions import join_predictions, right_table
from gz2vit.evidence.tables import judge_families, undecided, verdicts_table
from gz2vit.evidence.temperature import Calibration
from gz2vit.evidence.verdicts import Finding
from gz2vit.paper import PUBLISHED_RESULTS
from gz2vit.results import WEIGHTED

# The names of the questions, as the report shows them.
PAPER_FIG4 = "The paper's Fig. 4, by its own numbers"
OUR_FIG4 = "Fig. 4: is the ViT better on small and faint galaxies?"
ACCURACY = "Which network is the more accurate?"
WEIGHTS = "Do tuned class weights help the rare classes?"
CALIBRATION = "Are the networks as sure as they are right?"


def ranked(models: Sequence[str]) -> list[str]:
    """Models by published test accuracy, the highest first; then those without one, in order."""
    published = {name: found["test_acc"] for name, found in PUBLISHED_RESULTS.items()}
    return sorted(models, key=lambda name: -published.get(name, 0.0))


def judge_fig4(found: GalaxyTable, first: str, second: str) -> pd.DataFrame:
    """The verdicts on Fig. 4, a table as `tables.verdicts_table`: the paper's, then this run's.

    `found`: of `gather_pair`; where something is missing, nothing can be decided.
    """
    published = verdicts_table(judge_families({PAPER_FIG4: claim_published_fig4()}))
    if found.missing:
        claim = f"{first} is better than {second} on smaller and fainter galaxies"
        return pd.concat([published, undecided(OUR_FIG4, claim, found.missing)])
    ours = judge_families({OUR_FIG4: claim_fig4(found.table, first, second)})
    return pd.concat([published, verdicts_table(ours)], ignore_index=True)


def separate_fig4(found: GalaxyTable) -> pd.DataFrame:
    """The tests and effect sizes of `distributions.compare_groups`, or an empty table."""
    if found.missing:
        return pd.DataFrame(columns=["property", "comparison"])
    return compare_groups(found.table, FIG4_COLUMNS)


def ask_accuracy(predictions: Mapping[str, pd.DataFrame]) -> list[Finding]:
    """Of every pair of models, that the one with the higher published accuracy is the better.

    Raises `Gz2vitError` where the test sets differ.
    """
    if len(predictions) < 2:
        return []
    right = right_table(predictions)
    return [
        claim_more_accurate(first, second, compare_right(right[first], right[second]))
        for first, second in combinations(ranked(list(predictions)), 2)
    ]


def ask_class_weights(predictions: Mapping[str, pd.DataFrame]) -> list[Finding]:
    """Of each network that was trained with and without, that class weights raise the recall."""
    findings = []
    for name in predictions:
        plain = name.removesuffix(WEIGHTED)
        if name == plain or plain not in predictions:
            continue
        joined = join_predictions(predictions[name], predictions[plain], (name, plain))
        table = metric_differences(joined.true, joined.first_pred, joined.second_pred)
        row = table[table.quantity == "recall_macro"].iloc[0]
        findings.append(claim_better_metric(name, plain, row))
    return findings


def ask_calibration(calibrations: Mapping[str, Calibration]) -> list[Finding]:
    """Of each model, that it is too sure of its classes, and that scaling mends it."""
    claims = (claim_overconfident, claim_scaling_helps)
    return [claim(name, found) for name, found in calibrations.items() for claim in claims]
