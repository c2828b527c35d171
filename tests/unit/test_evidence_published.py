"""The paper's Fig. 4 as data: its counts agree with its accuracies, and what they prove."""

import json

import numpy as np
import pytest

from gz2vit.evidence import (
    FIG4_PROPERTIES,
    claim_published_fig4,
    judge,
    published_edges,
    published_galaxies,
)
from gz2vit.paper import FIG4_COUNTS, FIG4_HISTOGRAMS, FIG4_MODELS, PUBLISHED_RESULTS
from tests.unit.folders import needs_shared

pytestmark = pytest.mark.usefixtures("quick_collection")

COLUMNS = [what.column for what in FIG4_PROPERTIES]


def test_the_counts_give_the_published_accuracies():
    total = sum(FIG4_COUNTS.values())
    assert total == 31_191
    for key, alone in zip(FIG4_MODELS, ("only first", "only second"), strict=True):
        accuracy = (FIG4_COUNTS["both right"] + FIG4_COUNTS[alone]) / total
        assert accuracy == pytest.approx(PUBLISHED_RESULTS[key]["test_acc"], abs=5e-5)


def test_the_counts_are_the_published_ones_cell_by_cell():
    facts = json.loads(needs_shared("paper/facts.json").read_text())["figures"]["fig4"]["counts"]
    names = [f"vit_{vit}_cnn_{cnn}" for vit in ("true", "false") for cnn in ("true", "false")]
    assert dict(zip(FIG4_COUNTS, (facts[name] for name in names), strict=True)) == FIG4_COUNTS
    assert facts["test"] == sum(FIG4_COUNTS.values())


@pytest.mark.parametrize("column", COLUMNS)
def test_the_histograms_hold_the_counted_galaxies(column: str):
    histogram = FIG4_HISTOGRAMS[column]
    for name in ("only first", "only second"):
        assert sum(histogram[name]) == pytest.approx(FIG4_COUNTS[name], rel=0.004)
    assert sum(histogram["all"]) == pytest.approx(31_191, rel=0.004)
    alone = np.add(histogram["only first"], histogram["only second"])
    assert (alone <= histogram["all"]).all()


@pytest.mark.parametrize("column", COLUMNS)
def test_a_row_for_each_galaxy_in_its_bin(column: str):
    table = published_galaxies(column)
    for name in ("only first", "only second"):
        values = table[column][table.region == name]
        counts, _ = np.histogram(values, published_edges(column))
        assert counts.tolist() == list(FIG4_HISTOGRAMS[column][name])
    assert (table.first_right & ~table.second_right).sum() == (table.region == "only first").sum()
    assert len(table) == sum(FIG4_HISTOGRAMS[column]["all"])


def test_the_paper_loses_less_on_small_galaxies_and_is_not_ahead_there():
    verdicts = judge(claim_published_fig4(permutations=19))
    assert [one.outcome for one in verdicts] == [
        "contradicted",  # that the Linformer is the better one
        *("supported", "supported", "contradicted"),  # apart, growing, ahead: size
        *("supported", "supported", "contradicted"),  # the same: magnitude
    ]
    # 356 and 672 of the 9,348 galaxies in the first three bins
    assert verdicts[3].effect.value == pytest.approx((356 - 672) / 9348)
    assert "among the smallest 30 % of them (below 6.3 arcsec)" in verdicts[3].claim
    assert "among the faintest 15 % of them (above 16.8 mag)" in verdicts[6].claim
    assert "medians" not in verdicts[1].sentence
