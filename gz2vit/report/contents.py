"""What else a run left for the report: verdicts, tables of evidence, executed notebooks, files."""

import json
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from gz2vit.errors import Gz2vitError
from gz2vit.report.cells import MISSING, Cells
from gz2vit.results import command_for

SIMULATED_TABLES = {
    "realism.csv": "Simulated and real galaxies in numbers",
    "transfer.csv": "Networks that learned from simulated galaxies, tested on real ones",
}
SHOWN_ROWS = 40  # of such a table; the file itself is linked
VERDICT_FILES = ("verdicts.csv", "fig4_verdicts.csv")  # the first holds the second as well


class Verdict(NamedTuple):
    """A verdict as the page shows it.

    `family`: which question of the paper it belongs to; `outcome`: supported, contradicted or not
    decided; `sentence`: the verdict in words, with its numbers.
    """

    family: str
    outcome: str
    sentence: str


class Link(NamedTuple):
    """A file of the run: `address` relative to the report, and what it is called."""

    address: str
    title: str


def read_verdicts(results_dir: Path | str) -> dict[str, list[Verdict]]:
    """The verdicts of `tables/` by their family, in order; none where there is no such table.

    Raises `Gz2vitError` for a file that cannot be read or lacks a column.
    """
    folder = Path(results_dir) / "tables"
    path = next((folder / name for name in VERDICT_FILES if (folder / name).exists()), None)
    families: dict[str, list[Verdict]] = {}
    for verdict in _read_verdicts(path) if path else []:
        families.setdefault(verdict.family, []).append(verdict)
    return families


def _read_verdicts(path: Path) -> list[Verdict]:
    """The rows of a table of verdicts."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        return [Verdict(*row) for row in table[list(Verdict._fields)].itertuples(index=False)]
    except (OSError, ValueError, KeyError) as error:
        step = "fig4" if path.name.startswith("fig4") else "evidence"
        command = command_for(path.resolve(), step)
        raise Gz2vitError(
            f"{path} is no table of verdicts ({error}); delete it and run {command}"
        ) from error


def read_simulated_tables(results_dir: Path | str) -> list[Cells]:
    """What `tables/` has on simulated beside real galaxies, printed; none where there is none.

    Raises `Gz2vitError` for a file that is no table.
    """
    folder = Path(results_dir) / "tables"
    found = {name: folder / name for name in SIMULATED_TABLES if (folder / name).exists()}
    return [_read_cells(path, SIMULATED_TABLES[name]) for name, path in found.items()]


def _read_cells(path: Path, title: str) -> Cells:
    """A CSV as a printed table: its columns' names in words, numbers with three digits."""
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise Gz2vitError(f"{path} is no table ({error}); delete it and run again") from error
    rows = [
        [_print(value) for value in row] for row in table.head(SHOWN_ROWS).astype(object).values
    ]
    if len(table) > SHOWN_ROWS:
        title += f" (the first {SHOWN_ROWS} of {len(table):,} rows)"
    return Cells(title, [str(name).replace("_", " ") for name in table], rows)


def _print(value: object) -> str:
    """A value for reading; what is missing as a dash."""
    if pd.isna(value):
        return MISSING
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def find_notebooks(results_dir: Path | str, but: str = "") -> list[Link]:
    """The executed notebooks in the order of the steps; not those that failed, nor step `but`."""
    folder = Path(results_dir) / "notebooks"
    paths = [path for path in sorted(folder.glob("[!.]*.ipynb")) if ".failed" not in path.name]
    own = f"_{but}.ipynb"
    return [
        Link(f"notebooks/{path.name}", _title(path))
        for path in paths
        if not (but and path.name.endswith(own))
    ]


def _title(path: Path) -> str:
    """The first heading of a notebook, or its file's name."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        text = "".join(cells[0]["source"])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return path.name
    return text.splitlines()[0].lstrip("# ") if text.startswith("#") else path.name


def find_files(results_dir: Path | str) -> list[Link]:
    """The tables of the run, and the predictions of its models."""
    folder = Path(results_dir)
    paths = [*folder.glob("tables/[!.]*"), *folder.glob("models/**/predictions.csv")]
    names = sorted(path.relative_to(folder).as_posix() for path in paths)
    return [Link(name, name) for name in names]
