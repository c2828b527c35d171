"""What there is to weigh in a results folder: predictions of its models, sizes and magnitudes.

A model that was not trained, or a data folder without sizes and magnitudes, is no error here: what
is missing is told in a sentence that says how to make it, and the rest is weighed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from gz2vit.catalog import read_properties
from gz2vit.errors import Gz2vitError
from gz2vit.evaluation import read_predictions
from gz2vit.evidence.claims import FIG4_PROPERTIES
from gz2vit.evidence.regions import join_predictions, right_table, with_properties
from gz2vit.results import command_for
from gz2vit.selection import read_selection

TEST_FILE, VALID_FILE = "predictions.csv", "validation_predictions.csv"
PROPERTIES_FILE = "galaxy_properties.csv"
FIG4_COLUMNS = tuple(what.column for what in FIG4_PROPERTIES)


@dataclass(frozen=True)
class Gathered:
    """Predictions by model: `test` of all that are trained, `valid` of those that have them;
    `missing`: for the others, by model, a sentence that says how to train it."""

    test: Mapping[str, pd.DataFrame]
    valid: Mapping[str, pd.DataFrame]
    missing: Mapping[str, str]


@dataclass(frozen=True)
class GalaxyTable:
    """`table`: test galaxies and who is right, with sizes and magnitudes unless `missing` says in
    a sentence why not, and what to do; None where a model is not trained."""

    table: pd.DataFrame | None
    missing: str = ""


def gather_predictions(results_dir: Path | str, model_keys: Sequence[str]) -> Gathered:
    """The predictions of `model_keys` (of a model with several seeds its first seed's).

    Raises `Gz2vitError` for a damaged file.
    """
    test, valid, missing = {}, {}, {}
    for key in model_keys:
        path = Path(results_dir).resolve() / "models" / key / TEST_FILE
        if not path.exists():
            missing[key] = f"{key} is not trained: {command_for(path, key)}"
            continue
        test[key] = read_predictions(path)
        if (other := path.with_name(VALID_FILE)).exists():
            valid[key] = read_predictions(other)
    return Gathered(test, valid, missing)


def gather_pair(results_dir: Path | str, first: str, second: str) -> GalaxyTable:
    """Two models' predictions joined, with sizes and magnitudes: what Fig. 4 is drawn from.

    The table is that of `regions.join_predictions` with the columns of `FIG4_PROPERTIES`. Raises
    `Gz2vitError` for damaged files and different test sets.
    """
    found = gather_predictions(results_dir, (first, second))
    if found.missing:
        return GalaxyTable(None, "; ".join(found.missing.values()))
    joined = join_predictions(found.test[first], found.test[second], (first, second))
    return _with_properties(joined, results_dir)


def gather_answers(results_dir: Path | str, found: Gathered) -> GalaxyTable:
    """Which of the models has which galaxy right, with sizes and magnitudes.

    The table is that of `regions.right_table` with the columns of `FIG4_PROPERTIES`. Raises as
    `gather_pair`.
    """
    if not found.test:
        return GalaxyTable(None, "; ".join(found.missing.values()) or "there are no models")
    return _with_properties(right_table(found.test), results_dir)


def _with_properties(table: pd.DataFrame, results_dir: Path | str) -> GalaxyTable:
    """`table` with sizes and magnitudes of the run's data folder, or why it has none."""
    path = Path(read_selection(results_dir).data["folder"]) / PROPERTIES_FILE
    properties = read_properties(path)
    if properties is not None:
        try:
            return GalaxyTable(with_properties(table, properties, FIG4_COLUMNS).table)
        except Gz2vitError as error:
            return GalaxyTable(table, str(error))
    why = (
        f"the galaxies' sizes and magnitudes are not known, because {path} does not exist; put a "
        "table there with the columns galaxyID, petroR90_r (arcsec), dered_r and dered_g_r (mag); "
        "for Galaxy Zoo 2 `python -m gz2vit download` makes it"
    )
    return GalaxyTable(table, why)
