"""The report: one HTML page of all that a run has, and of what is missing and how to make it.

The page needs no other file and no network: style and pictures are part of it. Links lead to the
executed notebooks, figures and tables beside it. It works without JavaScript.
"""

import html
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gz2vit import __version__
from gz2vit.errors import Gz2vitError
from gz2vit.figures import description, draw_learning_curves, png_bytes
from gz2vit.paper import ARXIV, PUBLISHED_RESULTS, TITLE
from gz2vit.report.cells import (
    Cells,
    by_class,
    fit,
    introduction,
    ours,
    percent,
    summary,
    training,
)
from gz2vit.report.contents import (
    Verdict,
    find_files,
    find_notebooks,
    read_simulated_tables,
    read_verdicts,
)
from gz2vit.report.pictures import Picture, embed, find_pictures
from gz2vit.report.provenance import (
    composition,
    describe_environment,
    describe_run,
    read_records,
)
from gz2vit.report.table import results_table
from gz2vit.results import command_for, write_text
from gz2vit.seeds import run_folders
from gz2vit.selection import read_selection

REPORT_FILE = "report.html"
STEP = "report"
SHOWN_VERDICTS = 8  # a family of more is folded away under its sum
CURVES_IN, CURVES_DPI = 4.6, 160  # two side by side on a desk, one on a phone


def write_report(
    results_dir: Path | str,
    model_keys: Sequence[str],
    seeds: Mapping[str, Sequence[int]] | None = None,
    pictures: Mapping[str, Sequence[Picture]] | None = None,
) -> Path:
    """Write `report.html` into the results folder, from whatever is there; its path.

    `model_keys`, `seeds`: as `results_table` takes them; `pictures`: as `find_pictures` finds them,
    which takes seconds, so that they need not be read twice. Raises `Gz2vitError` where not even
    the galaxies are selected, and for files that are damaged.
    """
    folder = Path(results_dir)
    shown = find_pictures(folder) if pictures is None else pictures
    page = render(gather(folder, model_keys, seeds or {}, shown))
    write_text(folder / REPORT_FILE, page)
    return folder / REPORT_FILE


def gather(
    results_dir: Path,
    model_keys: Sequence[str],
    seeds: Mapping[str, Sequence[int]],
    pictures: Mapping[str, Sequence[Picture]],
) -> dict[str, Any]:
    """Everything that the template shows, by the names that it uses."""
    selection = read_selection(results_dir)
    table = results_table(results_dir, model_keys, seeds)
    verdicts = read_verdicts(results_dir)
    evidence = command_for(results_dir.resolve() / "tables" / "verdicts.csv", "evidence")
    return {
        "title": f"{selection.data['name']}, profile {selection.data['profile']}",
        "paper": TITLE,
        "arxiv": ARXIV,
        "version": __version__,
        "simulated": selection.data["simulated"],
        "about": describe_run(selection, table),
        "composition": composition(selection),
        "short": in_short(table),
        "weighed": weighed(verdicts),
        "introduction": introduction(table),
        "tables": [summary(table), fit(table), training(table)],
        "classes": class_table(table),
        "notes": table.attrs["notes"],
        "pictures": pictures,
        "simulated_tables": read_simulated_tables(results_dir),
        "curves": learning_curves(results_dir, model_keys, seeds),
        "verdicts": verdicts,
        "shown_verdicts": SHOWN_VERDICTS,
        "evidence_command": evidence,
        "notebooks": find_notebooks(results_dir, but=STEP),
        "files": find_files(results_dir),
        "environment": describe_environment(read_records(results_dir, model_keys, seeds)),
    }


def render(content: Mapping[str, Any]) -> str:
    """The page; jinja2's UndefinedError where `content` lacks a name that the template uses."""
    environment = Environment(
        loader=PackageLoader("gz2vit.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"code": mark_code, "breaks": mark_breaks}
    return environment.get_template("report.html.j2").render(**content)


def mark_code(text: str) -> Markup:
    """Text with what stands between backticks as code; everything in it is escaped."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text)))


def mark_breaks(text: str) -> Markup:
    """Text of a table that breaks after an underscore, and never inside an interval."""
    kept = re.sub(r"\[[^\]]*\]", r'<span class="whole">\g<0></span>', html.escape(text))
    return Markup(kept.replace("_", "_<wbr>"))


def in_short(table: pd.DataFrame) -> list[str]:
    """The page's first sentences: the best model, the paper's own, and a caution."""
    runs = table.attrs["runs"]
    accuracy = table[(table.quantity == "accuracy") & table.ours.notna()].set_index("model")
    if accuracy.empty:
        return ["No model is trained yet; the tables below say how to train each."]
    best = accuracy.loc[accuracy.ours.idxmax()]
    first = [f"`{key}`" for key in accuracy.index[accuracy.ours == best.ours]]
    are = "is" if len(first) == 1 else "are, equally,"
    largest = percent(runs[best.name][0]["largest_class_fraction"])
    told = [
        f"The best of {len(accuracy)} models {are} {' and '.join(first)}: {ours(best)} % of "
        f"{best.n:,} test galaxies are recognised; always guessing the largest class would be "
        f"right for {largest} %."
    ]
    if "linformer" in accuracy.index:
        own, theirs = accuracy.loc["linformer"], PUBLISHED_RESULTS["linformer"]["test_acc"]
        told.append(f"`linformer`: {ours(own)} % here, {percent(theirs, 2)} % in the paper.")
    told.append(_caution([table.attrs["notes"][key] for key in accuracy.index]))
    return told


def weighed(families: Mapping[str, Sequence[Verdict]]) -> dict[str, str]:
    """How the claims of each family fared, in words: `4 supported, 1 not decided`."""
    counts = {name: Counter(one.outcome for one in own) for name, own in families.items()}
    return {
        name: ", ".join(f"{number} {outcome}" for outcome, number in count.most_common())
        for name, count in counts.items()
    }


def _caution(notes: Sequence[str]) -> str:
    """How many of the trained models may be compared with the paper's."""
    same = sum(note.startswith("comparable") for note in notes)
    if same == len(notes):
        return "All of them were trained as in the paper, so that the differences mean something."
    kept = f"Only {same} of {len(notes)} are" if same else "None of them is"
    return f"{kept} comparable with the paper's; the reasons stand below the tables."


def class_table(table: pd.DataFrame) -> Cells:
    """Accuracies by class with one column for each model, whose cells are (ours, the paper's)."""
    title, heading, rows = by_class(table)
    keys = list(table.attrs["runs"])
    paired = [
        [name, galaxies, *zip(cells[1::2], cells[::2], strict=True)]
        for name, galaxies, *cells in rows
    ]
    return Cells(title, [*heading[:2], *keys], paired)


def learning_curves(
    results_dir: Path, model_keys: Sequence[str], seeds: Mapping[str, Sequence[int]]
) -> list[Picture]:
    """The learning curves of every run of every model, or what to run for them."""
    return [
        _curves(results_dir / "models" / key / one / "history.csv", key, one)
        for key in model_keys
        for one in run_folders(seeds.get(key, ()))
    ]


def _curves(path: Path, key: str, run: str) -> Picture:
    """One run's learning curves; they exist from its first whole epoch on."""
    title = f"{key}, seed {Path(run).name}" if run else key
    command = command_for(path.resolve(), key)
    if not path.exists():
        return Picture(key, title, "", missing=f"Not trained yet; run {command}.")
    try:
        history = pd.read_csv(path)
        figure = draw_learning_curves(history, CURVES_IN)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise Gz2vitError(f"{path} is not whole ({error}); delete it and run {command}") from error
    alt = f"Learning curves of {title}. {description(figure)}"
    width, height = (round(inches * CURVES_DPI) for inches in figure.get_size_inches())
    name = f"curves-{key}{run.replace('/', '-')}"
    return Picture(name, title, "", alt, embed(png_bytes(figure, CURVES_DPI)), width, height)
