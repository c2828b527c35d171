"""The results table in pieces: headings and rows of text, for whatever form they are printed in."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from gz2vit.paper import ARXIV, CLASS_NAMES, EPOCH_SECONDS, TITLE
from gz2vit.report.comparability import Run
from gz2vit.report.origins import origin, span
from gz2vit.results import WEIGHTED

MISSING = "–"
MINUTE_S = 60.0
ANSWERS = {"comparable": "yes", "not comparable": "no"}  # by how a note of comparability begins


class Cells(NamedTuple):
    """One printed table: a title, the heading and the rows, all text."""

    title: str
    heading: list[str]
    rows: list[list[str]]


def all_tables(table: pd.DataFrame) -> list[Cells]:
    """The printed tables of a `results_table`: test galaxies, fit, classes, runs."""
    return [summary(table), fit(table), by_class(table), training(table)]


def introduction(table: pd.DataFrame) -> list[str]:
    """What a reader must know before the tables, one paragraph each."""
    return [
        f"The paper: {TITLE}, arXiv:{ARXIV}.",
        *_data_sentences(table),
        "All in percent; in brackets the 95 % interval for the test galaxies (Wilson's of an "
        "accuracy, the bootstrap's of a macro average); Δ is ours minus the paper's, in percentage "
        f"points.{_seeds(table)}",
        *_empty_classes(table),
    ]


def _empty_classes(table: pd.DataFrame) -> list[str]:
    """Which classes have no test galaxies, and what to do, in a sentence; none where all have."""
    runs = [run for runs in table.attrs["runs"].values() for run in runs]
    counts = [run["class_test_galaxies"] for run in runs]
    names = [name for name, *own in zip(CLASS_NAMES, *counts, strict=True) if 0 in own]
    if not names:
        return []
    return [
        f"There are no test galaxies of: {', '.join(names)}. What is measured on them stays empty, "
        "and the macro averages are of the other classes; for more, add some to the data folder's "
        "`gz2_test.csv` and run again."
    ]


def _seeds(table: pd.DataFrame) -> str:
    """What is shown where a model was trained with several seeds."""
    if table.seeds.max() < 2:
        return ""
    return (
        " Of several seeds the mean is shown, and after ± their sample standard deviation; the "
        "interval is that of the mean, for the test galaxies alone."
    )


def _data_sentences(table: pd.DataFrame) -> list[str]:
    """Data, profile and baseline of the runs, in a sentence or two."""
    runs = [run for runs in table.attrs["runs"].values() for run in runs]
    if not runs:
        return ["No model has been trained yet."]
    # One sentence as a rule; more where models of one folder differ in data or device.
    sentences = dict.fromkeys(
        f"Ours: profile `{run['profile']}`, {run['data']}, of which {run['test_galaxies']:,} "
        f"to test on, on {run['device']}. Always guessing the largest class would be right for "
        f"{100 * run['largest_class_fraction']:.1f} % of them."
        for run in runs
    )
    return list(sentences)


def summary(table: pd.DataFrame) -> Cells:
    """The paper's figures of merit on the test galaxies: theirs, ours, the difference.

    The last column says whether that difference may be quoted.
    """
    names = {"accuracy": "accuracy", "recall_macro": "macro recall", "f1_macro": "macro F1"}
    heading, rows = _beside(table, names, " [95 %]")
    notes = table.attrs["notes"]
    rows = [[*row, _comparable(notes[row[0]])] for row in rows]
    return Cells("On the test galaxies", [*heading, "comparable"], rows)


def _comparable(note: str) -> str:
    """`yes`, `no`, or nothing of a model that is not trained."""
    return next((word for words, word in ANSWERS.items() if note.startswith(words)), MISSING)


def fit(table: pd.DataFrame) -> Cells:
    """The accuracies on the galaxies that the networks learned from and were chosen by."""
    names = {"train_acc": "training", "valid_acc": "validation"}
    return Cells("On the training and validation galaxies", *_beside(table, names))


def _beside(
    table: pd.DataFrame, names: dict[str, str], interval: str = ""
) -> tuple[list[str], list[list[str]]]:
    """Heading and rows with three columns for each quantity: theirs, ours, the difference."""
    heading = ["model"]
    for name in names.values():
        heading += [f"{name}: paper", f"{name}: ours{interval}", f"{name}: Δ"]
    rows = []
    for key in table.attrs["runs"]:
        values, row = values_of(table, key), [key]
        for name in names:
            one = values.loc[name]
            row += [percent(one.paper, 2), ours(one), points(one.difference)]
        rows.append(row)
    return heading, rows


def by_class(table: pd.DataFrame) -> Cells:
    """Accuracies class by class, two columns for each model."""
    keys = list(table.attrs["runs"])
    classes = table[table.quantity == "class_acc"].set_index(["class_name", "model"])
    rows = []
    for name in CLASS_NAMES:
        cells = [classes.loc[(name, key)] for key in keys]
        counts = sorted({cell.n for cell in cells if table.attrs["runs"][cell.name[1]]})
        row = [name, " or ".join(map(_count, counts)) or MISSING]
        rows.append(row + [text for one in cells for text in (percent(one.paper), ours(one))])
    pairs = [text for key in keys for text in (f"{key}: paper", f"{key}: ours [95 %]")]
    return Cells("Accuracy by class", ["class", "test galaxies", *pairs], rows)


def training(table: pd.DataFrame) -> Cells:
    """How each model was trained: from what, how large, how long, on what."""
    heading = ["model", "seeds", "trained", "epoch kept", "parameters", "parameters: paper"]
    heading += ["minutes", "seconds an epoch", "seconds: paper", "device"]
    rows = []
    for key, runs in table.attrs["runs"].items():
        values = values_of(table, key)
        sizes = values.loc["parameters"]
        row = [key, *(_origin(runs) if runs else [MISSING] * 3)]
        row += [_count(sizes.ours), _count(sizes.paper), *_times(key, values)]
        rows.append([*row, " or ".join(dict.fromkeys(run["device"] for run in runs)) or MISSING])
    return Cells("The runs", heading, rows)


def _origin(runs: Sequence[Run]) -> list[str]:
    """Number, weights and epochs of a model's runs."""
    kept, all_epochs = ([run[name] for run in runs] for name in ("best_epoch", "epochs"))
    return [f"{len(runs)}", origin(runs[0]), f"{span(kept)} of {span(all_epochs)}"]


def _times(key: str, values: pd.DataFrame) -> list[str]:
    """Minutes of a training, seconds of an epoch, and the authors' with their device."""
    minutes, epoch = values.ours["train_seconds"] / MINUTE_S, values.ours["epoch_seconds"]
    theirs, device = EPOCH_SECONDS.get(key.removesuffix(WEIGHTED), (None, ""))
    return [
        MISSING if pd.isna(minutes) else f"{minutes:.1f}",
        MISSING if pd.isna(epoch) else f"{epoch:,.1f}",
        f"{theirs:,} ({device})" if theirs else MISSING,
    ]


def values_of(table: pd.DataFrame, key: str) -> pd.DataFrame:
    """One model's rows but for the classes, by quantity."""
    return table[(table.model == key) & (table.class_name == "")].set_index("quantity")


def ours(row: pd.Series) -> str:
    """Our value in percent: `68.6`, with its interval where it has one `68.6 [64.5, 72.4]`.

    Of several seeds: `68.6 ± 1.2 (3 seeds) [64.5, 72.4]`.
    """
    text = percent(row.ours)
    if not pd.isna(row.spread):
        text += f" ± {percent(row.spread)} ({row.seeds} seeds)"
    if pd.isna(row.ours) or pd.isna(row.low):
        return text
    return f"{text} [{percent(row.low)}, {percent(row.high)}]"


def percent(share: float, digits: int = 1) -> str:
    """A share in percent, without the sign."""
    return MISSING if pd.isna(share) else f"{100 * share:.{digits}f}"


def points(difference: float) -> str:
    """A difference in percentage points, with its sign."""
    return MISSING if pd.isna(difference) else f"{100 * difference:+.1f}".replace("-", "−")


def _count(value: float) -> str:
    """A whole number with thousands set apart."""
    return MISSING if pd.isna(value) else f"{int(value):,}"
