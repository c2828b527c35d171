"""The results table as Markdown for reading, CSV with all digits, and LaTeX for a paper."""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from gz2vit.report.cells import all_tables, introduction
from gz2vit.results import write_text

LATEX_ESCAPES = {mark: f"\\{mark}" for mark in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def write_tables(results_dir: Path | str, table: pd.DataFrame) -> list[Path]:
    """Write `tables/results.md`, `.csv` and `.tex` into the results folder; their paths."""
    folder = Path(results_dir) / "tables"
    texts = {"md": to_markdown(table), "csv": to_csv(table), "tex": to_latex(table)}
    for ending, text in texts.items():
        write_text(folder / f"results.{ending}", text)
    return [folder / f"results.{ending}" for ending in texts]


def to_csv(table: pd.DataFrame) -> str:
    """Every row with all digits, the model's device and note; empty where there is no value."""
    devices = {
        key: " or ".join(dict.fromkeys(run["device"] for run in runs))
        for key, runs in table.attrs["runs"].items()
    }
    notes = table.model.map(table.attrs["notes"])
    return table.assign(device=table.model.map(devices), note=notes).to_csv(index=False)


def to_markdown(table: pd.DataFrame) -> str:
    """The test galaxies model by model and class by class, the runs, and what to make of them."""
    parts = ["# Results beside the paper's", *introduction(table)]
    for title, heading, rows in all_tables(table):
        parts += [f"## {title}", _markdown(heading, rows)]
    notes = table.attrs["notes"].items()
    parts += ["## What may be compared", "\n".join(f"- **{key}**: {note}" for key, note in notes)]
    return "\n\n".join(parts) + "\n"


def to_latex(table: pd.DataFrame) -> str:
    """The tables as LaTeX (package booktabs), the notes as comments above them."""
    notes = "\n".join(f"% {key}: {note}" for key, note in table.attrs["notes"].items())
    tables = [_latex(heading, rows) for _, heading, rows in all_tables(table)]
    return "\n\n".join([notes, *tables]) + "\n"


def _markdown(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    heading, *rows = ([cell.replace("|", r"\|") for cell in line] for line in (heading, *rows))
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
    lines = []
    for cells in (heading, ["-" * width for width in widths], *rows):
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        lines.append("| " + " | ".join(padded) + " |")
    return "\n".join(lines)


def _latex(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A LaTeX tabular with booktabs' rules."""
    lines = [" & ".join(map(_escape, cells)) + r" \\" for cells in (heading, *rows)]
    columns = "l" + "r" * (len(heading) - 1)
    parts = [f"\\begin{{tabular}}{{{columns}}}", r"\toprule", lines[0], r"\midrule"]
    return "\n".join([*parts, *lines[1:], r"\bottomrule", r"\end{tabular}"])


def _escape(text: str) -> str:
    """A text that LaTeX prints as it stands; the number of seeds has a column of its own."""
    text = "".join(LATEX_ESCAPES.get(mark, mark) for mark in text)
    maths = {"Δ": r"$\Delta$", "−": "$-$", "–": "--"}
    text = "".join(maths.get(mark, mark) for mark in text)
    return re.sub(r"(\S+) ± (\S+) \(\d+ seeds\)", r"$\1 \\pm \2$", text)
