"""Volunteers' votes: a catalogue of Galaxy Zoo 2 (Willett et al. 2013; Hart et al. 2016), read.

One row for each galaxy; for each answer of the decision tree its `_count` (volunteers) and vote
fractions between 0 and 1: `_fraction`, `_weighted_fraction` and `_debiased`. The galaxy's key is
`dr7objid` in the main catalogue and `objid` in the others, a 64-bit number that is kept as text.
"""

import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from gz2vit.errors import Gz2vitError
from gz2vit.galaxy_zoo.rules import ANSWERS, COLUMNS

KEYS = ("dr7objid", "objid")
KINDS = ("count", *COLUMNS)


def read_votes(path: Path | str, answers: Iterable[str] = ANSWERS) -> pd.DataFrame:
    """The votes on `answers` (short names), float64, indexed by galaxy id (text).

    Columns keep the catalogue's names, such as `t03_bar_a06_bar_debiased`; a column
    `total_classifications` (volunteers) comes along where the catalogue has it. Raises
    `Gz2vitError` for a file that cannot be read, a missing column, a galaxy that stands there
    twice, or a vote fraction that is not between 0 and 1.
    """
    header = _read(path, nrows=0).columns
    key = next((name for name in KEYS if name in header), None)
    if key is None:
        raise Gz2vitError(f"{path} has neither a column dr7objid nor objid; is it votes of GZ2?")
    wanted = [f"{ANSWERS[answer]}_{kind}" for answer in answers for kind in KINDS]
    missing = [name for name in wanted if name not in header]
    if missing:
        raise Gz2vitError(f"{path} has no column {missing[0]}; it is not a catalogue of GZ2 votes")
    extra = [name for name in ("total_classifications",) if name in header]
    types = {key: str} | dict.fromkeys([*wanted, *extra], np.float64)
    votes = _read(path, usecols=[key, *wanted, *extra], dtype=types).set_index(key)
    votes.index.name = "galaxy_id"
    _check(votes, wanted, path)
    return votes


def _read(path: Path | str, **options: object) -> pd.DataFrame:
    """`pandas.read_csv`, with one sentence for each way in which it can fail."""
    try:
        return pd.read_csv(path, **options)
    except FileNotFoundError:
        raise Gz2vitError(
            f"there is no catalogue of votes {path}; `python -m gz2vit download votes --to DIR` "
            "fetches the main one"
        ) from None
    except (OSError, EOFError, zlib.error, ValueError, UnicodeDecodeError) as error:
        raise Gz2vitError(f"{path} cannot be read as a table of votes: {error}") from error


def _check(votes: pd.DataFrame, columns: list[str], path: Path | str) -> None:
    """Refuse repeated galaxies and impossible fractions."""
    if votes.empty:
        raise Gz2vitError(f"{path} holds no galaxies")
    twice = votes.index[votes.index.duplicated()]
    if len(twice):
        raise Gz2vitError(f"{path}: galaxy {twice[0]} stands there more than once")
    for name in columns:
        values = votes[name].to_numpy()
        wrong = ~(values >= 0) if name.endswith("_count") else ~((values >= 0) & (values <= 1))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise Gz2vitError(
                f"{path}: galaxy {votes.index[row]} has {name} = {values[row]}, which is no "
                f"{'number of votes' if name.endswith('_count') else 'vote fraction'}"
            )


def vote_fraction(votes: pd.DataFrame, answers: Iterable[str], column: str) -> np.ndarray:
    """The fractions of `answers` (short names) added up, float64 (galaxies,)."""
    total = votes[[f"{ANSWERS[name]}_{column}" for name in answers]].to_numpy().sum(axis=1)
    return total.round(9)  # 0.1 + 0.2 reaches 0.3


def vote_count(votes: pd.DataFrame, answers: Iterable[str]) -> np.ndarray:
    """The votes on `answers` (short names) added up, float64 (galaxies,)."""
    return vote_fraction(votes, answers, "count")
