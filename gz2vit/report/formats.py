"""The results table as Markdown for reading, CSV with all digits, and LaTeX for a paper."""

import re
import statistics
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from gz2vit.paper import ARXIV, CLASS_NAMES, TITLE
from gz2vit.report.table import Run, span
from gz2vit.results import write_text

MISSING = "–"
Cells = tuple[list[str], list[list[str]]]  # heading and rows of a table
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
    """Every row with all digits, and the model's note; empty where there is no value."""
    notes = table.model.map(table.attrs["notes"])
    return table.assign(note=notes).to_csv(index=False)


def to_markdown(table: pd.DataFrame) -> str:
    """The test galaxies model by model and class by class, the runs, and what to make of them."""
    parts = [
        f"# Results beside the paper's\n\nThe paper: {TITLE}, arXiv:{ARXIV}.{_runs(table)}",
        "All in percent; in brackets the 95 % Wilson interval; Δ is ours minus the paper's, in "
        f"percentage points.{_seeds(table)}",
        "## On the test galaxies\n\n" + _markdown(*_summary(table)),
        "## Accuracy by class\n\n" + _markdown(*_classes(table)),
        "## The runs\n\n" + _markdown(*_runs_table(table)),
        "## What may be compared\n\n"
        + "\n".join(f"- **{key}**: {note}" for key, note in table.attrs["notes"].items()),
    ]
    return "\n\n".join(parts) + "\n"


def to_latex(table: pd.DataFrame) -> str:
    """The tables as LaTeX (package booktabs), the notes as comments above them."""
    notes = "\n".join(f"% {key}: {note}" for key, note in table.attrs["notes"].items())
    tables = (_summary(table), _classes(table), _runs_table(table))
    return "\n\n".join([notes, *(_latex(*cells) for cells in tables)]) + "\n"


def _seeds(table: pd.DataFrame) -> str:
    """What is shown where a model was trained with several seeds."""
    if table.seeds.max() < 2:
        return ""
    return (
        " Of several seeds the mean is shown, and after ± their sample standard deviation; the "
        "interval is that of the mean share, for the test galaxies alone."
    )


def _runs(table: pd.DataFrame) -> str:
    """Data, profile and baseline of the runs, in a sentence or two."""
    runs = [run for runs in table.attrs["runs"].values() for run in runs]
    if not runs:
        return "\n\nNo model has been trained yet."
    # One sentence as a rule; more where models of one folder differ in data or device.
    sentences = dict.fromkeys(
        f"Ours: profile `{run['profile']}`, {run['data']}, of which {run['test_galaxies']:,} "
        f"to test on, on {run['device']}. Always guessing the largest class would be right for "
        f"{100 * run['largest_class_fraction']:.1f} % of them."
        for run in runs
    )
    return "".join(f"\n\n{sentence}" for sentence in sentences)


def _runs_table(table: pd.DataFrame) -> Cells:
    """How each model was trained."""
    heading = ["model", "seeds", "weights", "epoch kept", "parameters", "paper's"]
    rows = []
    for key, runs in table.attrs["runs"].items():
        values = _values(table, key)
        weights, epochs, minutes = _training(runs) if runs else [MISSING] * 3
        sizes = values.loc["parameters"]
        row = [key, f"{len(runs)}" if runs else MISSING, weights, epochs]
        row += [_count(sizes.ours), _count(sizes.paper)]
        row += [_ours(values.loc[name]) for name in ("train_acc", "valid_acc")]
        rows.append([*row, minutes])
    return [*heading, "training", "validation", "minutes"], rows


def _training(runs: Sequence[Run]) -> list[str]:
    """Weights, epochs and minutes (the mean) of a model's runs."""
    weights = {"none": "from scratch"}.get(runs[0]["weights"], runs[0]["weights"])
    kept, all_epochs = ([run[name] for run in runs] for name in ("best_epoch", "epochs"))
    seconds = statistics.fmean(run["train_seconds"] for run in runs)
    return [weights, f"{span(kept)} of {span(all_epochs)}", f"{seconds / 60:.1f}"]


def _summary(table: pd.DataFrame) -> Cells:
    """The paper's figures of merit on the test galaxies: theirs, ours, the difference."""
    heading = ["model"]
    for name, interval in (("accuracy", " [95 %]"), ("macro recall", ""), ("macro F1", "")):
        heading += [f"{name}: paper", f"ours{interval}", "Δ"]
    rows = []
    for key in table.attrs["runs"]:
        values, row = _values(table, key), [key]
        for name in ("accuracy", "recall_macro", "f1_macro"):
            one = values.loc[name]
            row += [_percent(one.paper, 2), _ours(one), _points(one.difference)]
        rows.append(row)
    return heading, rows


def _classes(table: pd.DataFrame) -> Cells:
    """Accuracies class by class, two columns for each model."""
    keys = list(table.attrs["runs"])
    classes = table[table.quantity == "class_acc"].set_index(["class_name", "model"])
    rows = []
    for name in CLASS_NAMES:
        cells = [classes.loc[(name, key)] for key in keys]
        counts = sorted({cell.n for cell in cells if table.attrs["runs"][cell.name[1]]})
        row = [name, " or ".join(map(_count, counts)) or MISSING]
        rows.append(row + [text for one in cells for text in (_percent(one.paper), _ours(one))])
    pairs = [text for key in keys for text in (f"{key}: paper", "ours [95 %]")]
    return ["class", "test galaxies", *pairs], rows


def _values(table: pd.DataFrame, key: str) -> pd.DataFrame:
    """One model's rows but for the classes, by quantity."""
    return table[(table.model == key) & (table.class_name == "")].set_index("quantity")


def _ours(row: pd.Series) -> str:
    """Our value in percent: `68.6`, with its interval where it has one `68.6 [64.5, 72.4]`.

    Of several seeds: `68.6 ± 1.2 (3 seeds) [64.5, 72.4]`.
    """
    text = _percent(row.ours)
    if not pd.isna(row.spread):
        text += f" ± {_percent(row.spread)} ({row.seeds} seeds)"
    if pd.isna(row.ours) or pd.isna(row.low):
        return text
    return f"{text} [{_percent(row.low)}, {_percent(row.high)}]"


def _percent(share: float, digits: int = 1) -> str:
    """A share in percent, without the sign."""
    return MISSING if pd.isna(share) else f"{100 * share:.{digits}f}"


def _points(difference: float) -> str:
    """A difference in percentage points, with its sign."""
    return MISSING if pd.isna(difference) else f"{100 * difference:+.1f}".replace("-", "−")


def _count(value: float) -> str:
    """A whole number with thousands set apart."""
    return MISSING if pd.isna(value) else f"{int(value):,}"


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
