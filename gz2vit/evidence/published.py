"""The paper's own Fig. 4: its counts of galaxies, as data that can be drawn and judged.

Source: `paper.FIG4_COUNTS` and `paper.FIG4_HISTOGRAMS`. A galaxy's size or magnitude is known to
the width of a bin only, and no galaxy's size together with its magnitude.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from gz2vit.evidence.claims import (
    END_SHARE,
    FIG4_PROPERTIES,
    Property,
    anderson_darling_words,
    claim_apart,
    claim_growing_lead,
    claim_more_accurate,
)
from gz2vit.evidence.comparison import Comparison, compare_counts
from gz2vit.evidence.distributions import PERMUTATIONS, separation
from gz2vit.evidence.lead import lead_trend
from gz2vit.evidence.verdicts import Finding
from gz2vit.paper import FIG4_COUNTS, FIG4_HISTOGRAMS

PUBLISHED_NAMES = ("the paper's Linformer", "the paper's ResNet-50")


def published_edges(column: str) -> np.ndarray:
    """The edges of the published histogram's bins, float64 (bins + 1): arcsec or mag."""
    histogram = FIG4_HISTOGRAMS[column]
    return histogram["low_edge"] + histogram["width"] * np.arange(len(histogram["all"]) + 1)


def published_galaxies(column: str) -> pd.DataFrame:
    """The paper's test galaxies, a row each, with the property `column`, the middle of its bin.

    Columns as of `regions.join_predictions`: `first_right`, `second_right`, `region`. Of the
    galaxies that both models have right or both wrong the figure does not say which they are:
    they stand as `both right`; no comparison of two models depends on it.
    """
    histogram, edges = FIG4_HISTOGRAMS[column], published_edges(column)
    middles = (edges[:-1] + edges[1:]) / 2
    first, second = (np.array(histogram[one]) for one in ("only first", "only second"))
    rest = np.array(histogram["all"]) - first - second
    parts = []
    for region, counts in (("only first", first), ("only second", second), ("both right", rest)):
        parts.append(pd.DataFrame({column: np.repeat(middles, counts), "region": region}))
    table = pd.concat(parts, ignore_index=True)
    return table.assign(
        first_right=table.region != "only second", second_right=table.region != "only first"
    )


def claim_published_fig4(permutations: int = PERMUTATIONS, seed: int = 0) -> list[Finding]:
    """The claims of `claims.claim_fig4` as the published numbers bear them, to be judged together.

    First, which network is the better one at all; then for size and for magnitude whether the
    groups are apart, the lead grows, and the Linformer is ahead at the end that the paper speaks
    of. The claim within one class needs the galaxies' classes, which were not published.
    """
    findings = [claim_more_accurate(*PUBLISHED_NAMES, compare_counts(*FIG4_COUNTS.values()))]
    for what in FIG4_PROPERTIES:
        table = published_galaxies(what.column)
        values = table[what.column]
        groups = (values[table.region == one] for one in ("only first", "only second"))
        found = separation(*groups, permutations=permutations, seed=seed)
        apart = claim_apart(*PUBLISHED_NAMES, what, found)
        # The medians say nothing: they can only be whole bins apart.
        note = f"{anderson_darling_words(found)}, in bins of {_width(what)}"
        findings.append(replace(apart, note=note))
        answers = (table.first_right, table.second_right)
        trend = lead_trend(*answers, what.scaled(values))
        findings.append(claim_growing_lead(*PUBLISHED_NAMES, what, trend))
        found_there, where = _compare_at_end(what)
        findings.append(claim_more_accurate(*PUBLISHED_NAMES, found_there, where))
    return findings


def _width(what: Property) -> str:
    """How exactly a property is known."""
    return f"{FIG4_HISTOGRAMS[what.column]['width']:.2g} {what.unit}"


def _compare_at_end(what: Property) -> tuple[Comparison, str]:
    """McNemar's test in the outermost whole bins, about `END_SHARE` of all galaxies; and which."""
    histogram, edges = FIG4_HISTOGRAMS[what.column], published_edges(what.column)
    order = slice(None, None, -what.towards)  # from the end that the claim is about
    shares = np.cumsum(histogram["all"][order]) / sum(histogram["all"])
    bins = int(np.abs(shares - END_SHARE).argmin()) + 1
    total, first, second = (
        sum(histogram[name][order][:bins]) for name in ("all", "only first", "only second")
    )
    edge = edges[order][bins]
    where = (
        f" among the {what.superlative} {100 * shares[bins - 1]:.0f} % of them "
        f"({'below' if what.towards < 0 else 'above'} {edge:.1f} {what.unit})"
    )
    return compare_counts(total - first - second, first, second, 0), where
