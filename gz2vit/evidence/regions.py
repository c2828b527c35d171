"""Two models on one test set: which galaxies both, one or neither of them classify rightly.

The paper's Fig. 4 compares the galaxies that only its ViT has right with those that only its CNN
has right. Models are joined by galaxy id, whatever the order of their files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from gz2vit.catalog import PROPERTY_COLUMNS
from gz2vit.errors import Gz2vitError

REGIONS = ("both right", "only first", "only second", "both wrong")


@dataclass(frozen=True)
class WithProperties:
    """`table`: galaxies with their properties as further columns, NaN where unknown; `missing`:
    how many galaxies have none, by column. Each test leaves these out and counts them."""

    table: pd.DataFrame
    missing: Mapping[str, int]


def right_table(predictions: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Which model has which galaxy right: `true` (class index) and a bool column for each model.

    `predictions`: tables as `evaluation.read_predictions` returns them, by the model's name. The
    rows are indexed by galaxy id (`galaxy_id`), in the first table's order. Raises `Gz2vitError`
    where the tables are not of the same galaxies, or give one of them another class.
    """
    if not predictions:
        raise Gz2vitError("there are no predictions to compare; give at least one model's")
    tables = {name: _by_id(table) for name, table in predictions.items()}
    first_name, first = next(iter(tables.items()))
    joined = pd.DataFrame({"true": first["class"]})
    for name, table in tables.items():
        _check_same(first, table, f"'{first_name}' and '{name}'")
        joined[name] = (table["pred"] == table["class"]).reindex(joined.index)
    return joined


def join_predictions(
    first: pd.DataFrame, second: pd.DataFrame, names: tuple[str, str] = ("first", "second")
) -> pd.DataFrame:
    """Two models' predictions side by side, indexed by galaxy id, in the order of `first`.

    Columns: `true`, `first_pred`, `second_pred` (class indices), `first_right`, `second_right`
    (bool), `region` (one of `REGIONS`). Raises `Gz2vitError`, with the models' `names`, where the
    test sets differ.
    """
    first, second = _by_id(first), _by_id(second)
    _check_same(first, second, f"'{names[0]}' and '{names[1]}'")
    joined = pd.DataFrame({"true": first["class"], "first_pred": first["pred"]})
    joined["second_pred"] = second["pred"].reindex(joined.index)
    joined["first_right"] = joined.first_pred == joined.true
    joined["second_right"] = joined.second_pred == joined.true
    # REGIONS counts in twos: is the first wrong, and the second?
    number = 2 * ~joined.first_right + ~joined.second_right
    joined["region"] = number.map(dict(enumerate(REGIONS)))
    return joined


def region_counts(joined: pd.DataFrame) -> dict[str, int]:
    """Galaxies in each of `REGIONS`, of a table of `join_predictions`."""
    counts = joined["region"].value_counts()
    return {name: int(counts.get(name, 0)) for name in REGIONS}


def with_properties(
    joined: pd.DataFrame,
    properties: pd.DataFrame,
    columns: Sequence[str] = PROPERTY_COLUMNS,
) -> WithProperties:
    """Add `columns` of `properties` (as `catalog.read_properties` returns it) to `joined`.

    Raises `Gz2vitError` where a galaxy stands there twice, or none of them has a value.
    """
    repeated = properties.galaxyID[properties.galaxyID.duplicated()]
    if len(repeated):
        raise Gz2vitError(
            f"galaxy {repeated.iloc[0]} stands more than once in galaxy_properties.csv; leave one "
            "row of it"
        )
    known = properties.set_index("galaxyID")[list(columns)].reindex(joined.index)
    missing = {name: int(known[name].isna().sum()) for name in columns}
    for name, count in missing.items():
        if count == len(joined):
            raise Gz2vitError(
                f"no test galaxy has a {name} in galaxy_properties.csv; are its galaxyIDs those of "
                "the test set?"
            )
    return WithProperties(joined.assign(**known), missing)


def _by_id(table: pd.DataFrame) -> pd.DataFrame:
    """Predictions indexed by galaxy id."""
    return table.set_index("GalaxyID").rename_axis("galaxy_id")


def _check_same(first: pd.DataFrame, second: pd.DataFrame, whose: str) -> None:
    """Raise `Gz2vitError` where two models were not tested on the same galaxies and classes."""
    alone = first.index.symmetric_difference(second.index)
    if len(alone):
        raise Gz2vitError(
            f"the predictions of {whose} are of different test sets: galaxy {alone[0]} stands in "
            f"one of them only ({len(alone)} such galaxies); test both on the same split"
        )
    differs = first["class"] != second["class"].reindex(first.index)
    if differs.any():
        raise Gz2vitError(
            f"the predictions of {whose} give galaxy {first.index[differs][0]} different true "
            f"classes ({differs.sum()} such galaxies); test both with the same labels"
        )
