"""The pictures that the report knows: their titles and captions, by the names of their files."""

import base64
import html
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image, UnidentifiedImageError

from gz2vit import __version__
from gz2vit.catalog import SPLITS, Selection, read_selection
from gz2vit.io import Gz2vitError, command_for, read_json, run_folders, run_record, write_text
from gz2vit.paper import ARXIV, CLASS_NAMES, PUBLISHED_RESULTS, TITLE
from gz2vit.plots.extra_figures import draw_learning_curves
from gz2vit.plots.style import NOT_DRAWN, description, png_bytes
from gz2vit.results_table import (
    MINUTE_S,
    MISSING,
    Cells,
    by_class,
    fit,
    introduction,
    ours,
    percent,
    read_record,
    results_table,
    started_from,
    summary,
    training,
)

# The report's sections.
PAPER, DATA, EVIDENCE, SIMULATED, INSIDE = "paper", "data", "evidence", "simulated", "inside"


@dataclass(frozen=True)
class Known:
    """A picture that the report expects.

    `pattern` fits the whole name of its file, without the ending; a group in it holds the part of
    a figure in several files, and is added to the title;
    `step` makes it; with `required` its place says so where no file fits;
    `needs_properties`: it cannot be drawn without the galaxies' sizes and magnitudes.
    """

    pattern: str
    section: str
    title: str
    caption: str
    step: str = ""
    required: bool = False
    needs_properties: bool = False


KNOWN = (
    Known(
        r"fig1(\D.*)?",
        PAPER,
        "Fig. 1: the architecture",
        "The Linformer Vision Transformer, with the numbers of the network that was trained here.",
        "fig1",
        True,
    ),
    Known(
        r"fig2(\D.*)?",
        PAPER,
        "Fig. 2: two galaxies of each class",
        "The paper's own galaxies where the data have all of them, others where not; the footer "
        "says which.",
        "fig2",
        True,
    ),
    Known(
        "fig3",
        PAPER,
        "Fig. 3: what is taken for what",
        "The Linformer's confusion matrices, with uniform (left) and with tuned class weights "
        "(right), in percent of the true class.",
        "fig3",
        True,
    ),
    Known(
        "fig3_paper",
        PAPER,
        "Fig. 3 from the paper's numbers",
        "The published matrices, drawn by the same code, to lay beside ours.",
        "fig3",
        True,
    ),
    Known(
        "fig4",
        PAPER,
        "Fig. 4: size and brightness",
        "Sizes and magnitudes of the test galaxies: all of them, and those that only one of the "
        "two networks recognised.",
        "fig4",
        True,
        True,
    ),
    Known(
        "fig4_paper",
        PAPER,
        "Fig. 4 from the paper's counts",
        "What the paper published of it, drawn by the same code, to lay beside ours.",
    ),
    Known(
        "fig4_.*",
        PAPER,
        "Beyond Fig. 4: who leads where",
        "What the histograms show by eye, measured.",
    ),
    Known(
        r"fig5(\D.*)?",
        PAPER,
        "Fig. 5: where the network looks",
        "Attention maps of galaxies, of all heads together and of each.",
        "fig5",
        True,
    ),
    Known(
        "class_composition",
        DATA,
        "The galaxies of this run",
        "How many there are of each class, and in which split.",
        "select",
        True,
    ),
    Known(
        "decision_path",
        DATA,
        "From votes to classes",
        "Which answers of the volunteers make a class, and how many galaxies meet each condition.",
    ),
    Known(
        "label_agreement",
        DATA,
        "Derived and given classes",
        "The classes derived from votes (columns) beside those of the label tables (rows).",
    ),
    Known(
        "realism_gallery",
        SIMULATED,
        "Simulated beside real galaxies",
        "Galaxies of each class at the same scale, real above simulated ones where there are both.",
    ),
    Known(
        "realism_distributions",
        SIMULATED,
        "How simulated and real galaxies differ in numbers",
        "Distributions of colour, concentration, asymmetry, axis ratio, sky noise and saturation.",
    ),
    Known(
        "(?:realism|transfer).*",
        SIMULATED,
        "From simulated to real galaxies",
        "What networks that learned from simulated galaxies make of real ones.",
    ),
    Known(
        "attention_checks",
        INSIDE,
        "Do the maps mean anything?",
        "Deleting and giving back what a map shows, against random order; the map's share on the "
        "galaxy; its likeness to the map of a network with random weights.",
    ),
    Known(
        "attention_models",
        INSIDE,
        "Where the networks look, side by side",
        "Attention rollout of the transformers, Grad-CAM of the CNNs, for a galaxy of each class.",
    ),
    Known(
        "attention_evidence",
        INSIDE,
        "What speaks for the predicted class, side by side",
        "Attention weighted with the class's gradient, Grad-CAM of the CNNs, for these galaxies.",
    ),
    Known(
        "attention_mistakes",
        INSIDE,
        "What misled the networks",
        "The same for the mistakes of which all networks together were most certain.",
    ),
    Known(
        "attention_linformer",
        INSIDE,
        "The Linformer's heads",
        "As in Fig. 5, of the paper's main network, whose attention the paper does not show.",
    ),
    Known(
        "attention.*",
        INSIDE,
        "What the networks look at",
        "Attention maps of the networks side by side.",
    ),
    Known(
        "(?:features|embedding|umap|probe|neighbour).*",
        INSIDE,
        "What the networks make of an image",
        "The networks' features of the galaxies, layer by layer.",
    ),
    Known(
        ".*(?:reliab|calibrat).*",
        EVIDENCE,
        "Is a network as certain as it is right?",
        "Calibration: the share that was right against the certainty, in bins.",
    ),
    Known(
        ".*(?:precision|recall).*",
        EVIDENCE,
        "Precision and recall, class by class",
        "What a stricter threshold buys in purity and costs in completeness.",
    ),
    Known(
        ".*(?:accuracy|size|magnitude|trend).*",
        EVIDENCE,
        "Accuracy against size and brightness",
        "The share of galaxies that was recognised, in bins, with intervals.",
    ),
)
OTHER = Known(".*", INSIDE, "", "")


def kind_of(stem: str) -> Known:
    """What kind of picture a file's name without ending tells of."""
    return next((one for one in KNOWN if re.fullmatch(one.pattern, stem)), OTHER)


def title_of(stem: str, known: Known) -> str:
    """The title of a file: that of its kind and which part of it, or the file's own name."""
    part = re.fullmatch(known.pattern, stem)
    named = (part[1] or "").strip("_") if part and part.re.groups else ""
    title = known.title or stem.replace("_", " ").capitalize()
    return f"{title} ({named.replace('_', ' ')})" if named else title


# ------------------------------------------------------------------------------------------
# What else a run left for the report: verdicts, tables of evidence, executed notebooks, files.

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


# ------------------------------------------------------------------------------------------
# The report's pictures: those that are there, and what to say in the place of one that is not.
#
# A picture is a PNG in a run's `figures/`. Those of the catalogue have a title and a caption, and a
# place that says how to make them; any other is shown as well, under its file's name.

PROPERTIES_FILE = "galaxy_properties.csv"
WIDEST_PX = 1600  # of an embedded picture: 220 dots an inch on paper; the file itself is linked


@dataclass(frozen=True)
class Picture:
    """One picture as the page shows it, or, without `source`, the words that stand in its place.

    `source`: a data address with all of the PNG; `alt`: what it shows, in words; `links`: files
    in the results folder, relative; `width`, `height` [px].
    """

    name: str
    title: str
    caption: str
    alt: str = ""
    source: str = ""
    width: int = 0
    height: int = 0
    links: tuple[str, ...] = ()
    missing: str = ""


def find_pictures(results_dir: Path | str) -> dict[str, list[Picture]]:
    """All pictures by section, in the order of KNOWN; missing ones say what to run.

    Raises `Gz2vitError` for a file that is no picture.
    """
    folder = Path(results_dir) / "figures"
    paths = sorted(folder.glob("[!.]*.png"), key=lambda path: _natural(path.stem))
    kinds = {path: kind_of(path.stem) for path in paths}
    names = (PAPER, DATA, EVIDENCE, SIMULATED, INSIDE)
    sections: dict[str, list[Picture]] = {name: [] for name in names}
    for known in (*KNOWN, OTHER):
        found = [_read(path, known) for path in paths if kinds[path] is known]
        if not found and known.required:
            found = [_missing(Path(results_dir), known)]
        sections[known.section] += found
    return sections


def embed(png: bytes) -> str:
    """PNG bytes as a data address, so that the page needs no other file."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that puts `a2` before `a10`."""
    return [(int(part or 0), text) for text, part in re.findall(r"(\D*)(\d*)", name)]


def _read(path: Path, known: Known) -> Picture:
    """A picture's file, embedded; its words are the file's own, or else the caption.

    Of a frame that only says why something is not drawn the words alone.
    """
    try:
        with Image.open(path) as image:
            words, size = image.info.get("Description", ""), image.size
            png = _shrink(image, path.read_bytes())
    except (OSError, UnidentifiedImageError) as error:
        raise Gz2vitError(f"{path} is no picture ({error}); delete it and run again") from error
    title, caption = title_of(path.stem, known), known.caption
    files = [file.name for file in (path, path.with_suffix(".pdf")) if file.exists()]
    links = tuple(f"figures/{file}" for file in files)
    if NOT_DRAWN in words:  # words are easier to read than their picture
        return Picture(path.stem, title, caption, missing=words, links=links)
    return Picture(
        path.stem,
        title,
        caption,
        words or caption or f"The figure {path.stem}.",
        embed(png),
        *size,
        links,
    )


def _shrink(image: Image.Image, png: bytes) -> bytes:
    """The picture in at most WIDEST_PX, where that is shorter: the page stays light on a phone."""
    if image.width <= WIDEST_PX:
        return png
    height = round(image.height * WIDEST_PX / image.width)
    stream = io.BytesIO()
    smaller = image.convert("RGB").resize((WIDEST_PX, height), Image.Resampling.LANCZOS)
    smaller.save(stream, format="PNG")  # zlib's best level would save 2 % in 3 times the time
    return min(png, stream.getvalue(), key=len)


def _missing(results_dir: Path, known: Known) -> Picture:
    """The place of a picture that is not there: why, and how to make it."""
    command = command_for(results_dir.resolve() / "figures" / f"{known.step}.png", known.step)
    words = f"Not there yet: the step '{known.step}' makes it; run {command}."
    if known.needs_properties and _lacks_properties(results_dir):
        words = (
            f"Not there: the data folder has no {PROPERTIES_FILE} (galaxyID,petroR90_r,dered_r, in "
            f"arcsec and mag); put one there, then run {command}."
        )
    return Picture(known.step, known.title, known.caption, missing=words)


def _lacks_properties(results_dir: Path) -> bool:
    """Whether the run's data folder has no table of sizes and magnitudes."""
    record = results_dir / "selection" / "data.json"
    return record.exists() and not (Path(read_json(record)["folder"]) / PROPERTIES_FILE).exists()


# ------------------------------------------------------------------------------------------
# What was run on what: data, models, code, versions, machine, from the records of the runs.

Terms = list[tuple[str, str]]  # what a value is called, and the value, both text
SPLIT_NAMES = {"train": "to learn from", "valid": "to choose the best epoch", "test": "to test on"}
COMMIT_LETTERS = 12


def read_records(
    results_dir: Path | str, model_keys: Sequence[str], seeds: Mapping[str, Sequence[int]]
) -> list[Mapping[str, Any]]:
    """The `params.json` of every run that has one."""
    models = Path(results_dir) / "models"
    folders = [models / key / one for key in model_keys for one in run_folders(seeds.get(key, ()))]
    return [record for record in map(read_record, folders) if record]


def describe_run(selection: Selection, table: pd.DataFrame) -> Terms:
    """Profile, data, models and time, for the head of the report."""
    data, runs = selection.data, table.attrs["runs"]
    galaxies = ", ".join(f"{data['galaxies'][split]:,} {SPLIT_NAMES[split]}" for split in SPLITS)
    trained = [key for key, own in runs.items() if own]
    seconds = sum(run["train_seconds"] for own in runs.values() for run in own)
    devices = dict.fromkeys(run["device"] for own in runs.values() for run in own)
    terms = [
        ("Profile", str(data["profile"])),
        ("Data", data["name"] + (" (simulated, not observed)" if data["simulated"] else "")),
        ("Galaxies", galaxies),
        ("Models", f"{len(trained)} of {len(runs)} trained: {', '.join(trained) or 'none'}"),
    ]
    if trained:
        terms.append(("Training", f"{seconds / MINUTE_S:,.1f} minutes in all, on {_join(devices)}"))
    return terms + _faults(data)


def _faults(data: Mapping[str, Any]) -> Terms:
    """Galaxies and classes that the run does without."""
    terms = []
    lost = sum(data.get("left_out", {}).values())
    if lost:
        terms.append(("Left out", f"{lost:,} galaxies, whose images cannot be read"))
    gone = [
        f"{name} ({split})"
        for split, names in data.get("gone_classes", {}).items()
        for name in names
    ]
    if gone:
        terms.append(("Without galaxies", ", ".join(gone)))
    return terms


def composition(selection: Selection) -> Cells:
    """How many galaxies of each class there are in each split."""
    counts = {
        split: table.label1.value_counts().reindex(range(len(CLASS_NAMES)), fill_value=0)
        for split, table in selection.tables.items()
    }
    rows = []
    for index, name in enumerate(CLASS_NAMES):
        own = [int(counts[split][index]) for split in SPLITS]
        rows.append([name, *(f"{count:,}" for count in (*own, sum(own)))])
    return Cells("Galaxies by class", ["class", *SPLITS, "all"], rows)


def describe_environment(records: Sequence[Mapping[str, Any]]) -> Terms:
    """Versions, code and machines of all runs; of this report where nothing is trained."""
    records = records or [run_record({}, 0, "none")]
    names = dict.fromkeys(name for record in records for name in record["versions"])
    terms = [(name, _join(record["versions"].get(name) for record in records)) for name in names]
    terms.append(("Code", _join(_short(record["git_commit"]) for record in records)))
    systems = (record["machine"]["system"] for record in records)
    cores = (str(record["machine"]["cpu_cores"]) for record in records)
    terms += [("System", _join(systems)), ("Processor cores", _join(cores))]
    terms.append(("Device", _join(record["device"] for record in records)))
    started = dict.fromkeys(filter(None, map(started_from, records)))
    return terms + [("Started from", words) for words in started]


def _short(commit: str) -> str:
    """A commit's first letters, and whether the code was changed after it."""
    name, plus, changes = commit.partition("+")
    return name[:COMMIT_LETTERS] + (f" with {changes}" if plus else "")


def _join(values: Iterable[str | None]) -> str:
    """Different values, each once: `2.10` or `2.10 or 2.11`."""
    return " or ".join(dict.fromkeys(value for value in values if value)) or "unknown"


# ------------------------------------------------------------------------------------------
# The report: one HTML page of all that a run has, and of what is missing and how to make it.
#
# The page needs no other file and no network: style and pictures are part of it. Links lead to the
# executed notebooks, figures and tables beside it. It works without JavaScript.

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
        loader=PackageLoader("gz2vit"),
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
