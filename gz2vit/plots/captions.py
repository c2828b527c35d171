"""The figures of a run, from `captions.csv`: what the Snakefile, the report and notebooks share.

One row per figure: `name` of its files in `figures/` without ending, the `step` that draws it, its
`section` in the report, `title`, `caption`, and when it is `written`: `expected` (on every run; the
report says how to make it), `always`, `sometimes`, or `others` (figures whose names begin so).
"""

import csv
from pathlib import Path
from typing import NamedTuple

SECTIONS = ("paper", "data", "evidence", "simulated", "inside")  # of the report


class FigureEntry(NamedTuple):
    """A row of `captions.csv`."""

    name: str
    step: str
    section: str
    written: str
    title: str
    caption: str


with Path(__file__).with_suffix(".csv").open(encoding="utf-8", newline="") as _file:
    _ENTRIES = {row["name"]: FigureEntry(**row) for row in csv.DictReader(_file)}
FIGURES = [one for one in _ENTRIES.values() if one.written != "others"]


def figures_of(step: str) -> list[str]:
    """The names of the figures that `step` writes on every run."""
    return [one.name for one in FIGURES if one.step == step and one.written != "sometimes"]


def entry_of(name: str) -> FigureEntry:
    """The entry for the figure `name`; `fig2_mine` is a part of `fig2`, another of no step."""
    if name in _ENTRIES:
        return _ENTRIES[name]
    if begun := [key for key in _ENTRIES if name.startswith(f"{key}_")]:
        entry = _ENTRIES[max(begun, key=len)]
        part = name.removeprefix(f"{entry.name}_").replace("_", " ")
        return entry._replace(name=name, title=f"{entry.title} ({part})", written="sometimes")
    return FigureEntry(name, "", SECTIONS[-1], "sometimes", name.replace("_", " ").capitalize(), "")
