"""The transfer table: values, spread and paired differences that can be worked out by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gz2vit.io import Gz2vitError
from gz2vit.paper import CLASS_NAMES
from gz2vit.sim2real import (
    COLUMNS_TRANSFER as COLUMNS,
)
from gz2vit.sim2real import (
    FINE_TUNED,
    LARGEST,
    REAL_ALONE,
    SIMULATED_ALONE,
    transfer_table,
    write_transfer,
)

TRUE = np.repeat([0, 0, 0, 1, 5], 20)  # 60, 20 and 20 galaxies of three classes
DATA = {"profile": "smoke", "name": "100 galaxies of mine", "simulated": False}


def predicted(right: dict[int, int]) -> pd.DataFrame:
    """Predictions that have the first `right[c]` galaxies of class c right, the others wrong."""
    pred = np.full(len(TRUE), 7)
    for index, count in right.items():
        pred[np.flatnonzero(index == TRUE)[:count]] = index
    ids = [f"g{number}" for number in range(len(TRUE))]
    return pd.DataFrame({"GalaxyID": ids, "class": TRUE, "pred": pred})


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return transfer_table(
        {
            SIMULATED_ALONE: [predicted({0: 30, 1: 10, 5: 10})],
            REAL_ALONE: [predicted({0: 60, 1: 0, 5: 0}), predicted({0: 50, 1: 10, 5: 0})],
            FINE_TUNED: [predicted({0: 60, 1: 10, 5: 10}), predicted({0: 50, 1: 20, 5: 10})],
        },
        resamples=500,
    )


def cell(table: pd.DataFrame, arm: str, quantity: str, less: str = "", name: str = "") -> pd.Series:
    keys = {"arm": arm, "quantity": quantity, "less": less, "class_name": name}
    rows = table[np.logical_and.reduce([table[key] == value for key, value in keys.items()])]
    assert len(rows) == 1
    return rows.iloc[0]


def test_means_and_spreads_are_those_of_the_seeds(table: pd.DataFrame):
    assert tuple(table.columns) == COLUMNS
    assert cell(table, SIMULATED_ALONE, "accuracy").value == pytest.approx(0.5)
    assert np.isnan(cell(table, SIMULATED_ALONE, "accuracy").spread)
    row = cell(table, REAL_ALONE, "recall_macro")  # 1/3 and (5/6 + 1/2 + 0) / 3
    assert row.value == pytest.approx((1 / 3 + 4 / 9) / 2)
    assert row.spread == pytest.approx(np.std([1 / 3, 4 / 9], ddof=1))
    assert (row.seeds, row.galaxies) == (2, 100)
    assert cell(table, FINE_TUNED, "recall", name=CLASS_NAMES[1]).value == pytest.approx(0.75)
    assert np.isnan(cell(table, FINE_TUNED, "recall", name=CLASS_NAMES[2]).value)


def test_the_largest_class_is_the_baseline(table: pd.DataFrame):
    assert cell(table, LARGEST, "accuracy").value == pytest.approx(0.6)
    assert cell(table, LARGEST, "recall_macro").value == pytest.approx(1 / 3)


def test_intervals_hold_their_values_and_are_as_wide_as_a_share_is(table: pd.DataFrame):
    plain = table[(table.less == "") & table.value.notna() & (table.quantity != "recall")]
    assert ((plain.low <= plain.value) & (plain.value <= plain.high)).all()
    row = cell(table, SIMULATED_ALONE, "accuracy")
    # 50 of 100: 1.96 sqrt(0.25 / 100) to either side.
    assert row.high - row.low == pytest.approx(2 * 0.098, abs=0.03)


def test_differences_are_paired(table: pd.DataFrame):
    row = cell(table, FINE_TUNED, "accuracy", REAL_ALONE)
    assert row.value == pytest.approx(0.2)
    assert row.spread == pytest.approx(0.0, abs=1e-12)
    # Nothing that fine-tuning has wrong is right without: the interval lies above 0.
    assert 0 < row.low < 0.2 < row.high
    row = cell(table, SIMULATED_ALONE, "accuracy", REAL_ALONE)
    assert row.value == pytest.approx(-0.1)
    same = transfer_table({REAL_ALONE: [predicted({0: 9})], FINE_TUNED: [predicted({0: 9})]})
    row = cell(same, FINE_TUNED, "accuracy", REAL_ALONE)
    assert (row.value, row.low, row.high) == (0, 0, 0)


def test_other_test_galaxies_are_refused():
    other = predicted({0: 5}).assign(GalaxyID=lambda table: table.GalaxyID + "x")
    with pytest.raises(Gz2vitError, match="different galaxies"):
        transfer_table({REAL_ALONE: [predicted({0: 5})], FINE_TUNED: [other]})
    with pytest.raises(Gz2vitError, match="no predictions"):
        transfer_table({})


def test_the_written_tables_say_what_they_are(table: pd.DataFrame, tmp_path: Path):
    row = {"arm": REAL_ALONE, "seed": 0, "galaxies": 300, "lr": 3e-4, "epochs": 9, "best_epoch": 4}
    arms = pd.DataFrame([{**row, "valid_acc": 0.5}])
    csv, text = write_transfer(tmp_path, table, arms, DATA)
    assert pd.read_csv(csv, keep_default_na=True).shape == table.shape
    words = text.read_text()
    assert "Tested on 100 of 100 galaxies of mine, profile smoke" in words
    assert "always the largest class" in words
    assert "| real galaxies alone " in words
    assert "+20.0 ± 0.0 [+" in words
    assert "nan" not in words
