"""The report: one HTML page of all that a run has, and of what is missing and how to make it.

The page needs no other file, no network and no JavaScript: style and pictures are part of it. Links
lead to the executed notebooks, figures and tables beside it.
"""

import base64
import html
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mistune
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image, UnidentifiedImageError

from gz2vit import __version__
from gz2vit.catalog import SPLITS, Selection, class_composition, read_selection
from gz2vit.io import Gz2vitError, command_for, read_json, run_folders, run_record, write_text
from gz2vit.paper import ARXIV, PUBLISHED_RESULTS, TITLE
from gz2vit.plots import captions
from gz2vit.plots.extra_figures import draw_learning_curves
from gz2vit.plots.style import NOT_DRAWN, description, png_bytes
from gz2vit.results_table import (
    MISSING,
    introduction,
    ours,
    percent,
    printed_tables,
    published_history,
    read_record,
    results_table,
)

STEP = "report"  # whose own executed notebook is not linked
PROPERTIES_FILE = "galaxy_properties.csv"
WIDEST_PX = 1600  # of an embedded picture: 220 dots an inch on paper; the file itself is linked
CURVES_IN, CURVES_DPI = 4.6, 160  # two side by side on a desk, one on a phone
SHOWN_VERDICTS = 8  # a family of more is folded away under its sum
SHOWN_ROWS = 40  # of a table on simulated galaxies; the file itself is linked
SIMULATED_TABLES = {
    "realism.csv": "Simulated and real galaxies in numbers",
    "transfer.csv": "Networks that learned from simulated galaxies, tested on real ones",
}
SPLIT_NAMES = {"train": "to learn from", "valid": "to choose the best epoch", "test": "to test on"}

Terms = list[tuple[str, str]]  # what a value is called, and the value


class Link(NamedTuple):
    """A file of the run: `address` relative to the report, and what it is called."""

    address: str
    title: str


class Picture(NamedTuple):
    """One picture of the page, or, without `source`, the words in its place (`missing`).

    `source`: a data address with all of the PNG; `alt`: what it shows, in words; `links`: files
    in the results folder; `notebook`: which drew it, without an address where it is not there;
    `width`, `height` [px].
    """

    name: str
    title: str
    caption: str = ""
    alt: str = ""
    source: str = ""
    width: int = 0
    height: int = 0
    links: Sequence[str] = ()
    notebook: Link | None = None
    missing: str = ""


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
    folder, seeds = Path(results_dir), seeds or {}
    selection, verdicts = read_selection(folder), read_verdicts(folder)
    table = results_table(folder, model_keys, seeds)
    tables = printed_tables(table)
    by_class = tables.pop("Accuracy by class")
    classes = by_class.iloc[:, :2].copy()  # then a column for each model, cells (ours, paper's)
    for key in table.attrs["runs"]:
        cells = by_class[f"{key}: ours [95 %]"], by_class[f"{key}: paper"]
        classes[key] = list(zip(*cells, strict=True))
    outcomes = {
        name: Counter(one["outcome"] for one in own).most_common() for name, own in verdicts.items()
    }
    runs = [(key, run) for key in model_keys for run in run_folders(seeds.get(key, ()))]
    records = [read_record(folder / "models" / key / run) for key, run in runs]
    verdict = folder / "tables" / "verdict.md"
    words = verdict.read_text(encoding="utf-8") if verdict.exists() else ""
    composition = class_composition(selection.tables).map("{:,}".format)
    content = {
        "title": f"{selection.data['name']}, profile {selection.data['profile']}",
        "paper": TITLE,
        "arxiv": ARXIV,
        "version": __version__,
        "simulated": selection.data["simulated"],
        "verdict": Markup(mistune.create_markdown(escape=True)(words)),
        "short": in_short(table),
        "weighed": {
            name: ", ".join(f"{number} {outcome}" for outcome, number in counts)
            for name, counts in outcomes.items()
        },
        "about": describe_run(folder, selection, table),
        "composition": composition.reset_index(names="class"),
        "introduction": introduction(table),
        "tables": tables,
        "classes": classes,
        "notes": table.attrs["notes"],
        "pictures": find_pictures(folder) if pictures is None else pictures,
        "simulated_tables": read_simulated_tables(folder),
        "curves": [_draw_curves(folder, key, run) for key, run in runs],
        "verdicts": verdicts,
        "shown_verdicts": SHOWN_VERDICTS,
        "evidence_command": command_for(verdict.resolve(), "evidence"),
        "notebooks": find_notebooks(folder, but=STEP),
        "files": find_files(folder),
        "environment": describe_environment(records),
    }
    options = {"trim_blocks": True, "lstrip_blocks": True, "undefined": StrictUndefined}
    environment = Environment(loader=PackageLoader("gz2vit"), autoescape=True, **options)
    environment.filters |= {"code": mark_code, "breaks": mark_breaks}
    page = environment.get_template("report.html.j2").render(**content)
    write_text(folder / "report.html", page)
    return folder / "report.html"


# --- Pictures


def find_pictures(results_dir: Path | str) -> dict[str, list[Picture]]:
    """All pictures of `figures/` by section, in the order of FIGURES, then others by name.

    In the place of an expected one that is missing, what to run. Raises `Gz2vitError` for a file
    that is not a picture.
    """
    results_dir, known = Path(results_dir), captions.FIGURES
    order = [one.name for one in known]
    found = {path.stem: path for path in results_dir.glob("figures/[!.]*.png")}
    record = results_dir / "selection" / "data.json"
    data_folder = Path(read_json(record)["folder"]) if record.exists() else None

    def rank(name: str) -> tuple:
        begun = [place for place, known in enumerate(order) if name.startswith(known)]
        digits = [(text, int(part or 0)) for text, part in re.findall(r"(\D*)(\d*)", name)]
        return (order.index(name), []) if name in order else (max(begun, default=999), digits)

    sections: dict[str, list[Picture]] = {name: [] for name in captions.SECTIONS}
    for name in sorted({one.name for one in known if one.expected} | found.keys(), key=rank):
        entry = captions.entry_of(name)
        notebook = _notebook_of(results_dir, entry.step)
        picture = Picture(name, entry.title, entry.caption, notebook=notebook)
        if name in found:
            sections[entry.section].append(_read_picture(found[name], picture))
            continue
        command = command_for((results_dir / "figures" / f"{name}.png").resolve(), entry.step)
        words = f"Not there yet: the step '{entry.step}' makes it; run {command}."
        if entry.step == "fig4" and data_folder and not (data_folder / PROPERTIES_FILE).exists():
            words = (
                f"Not there: the data folder has no {PROPERTIES_FILE} (galaxyID,petroR90_r,"
                f"dered_r, in arcsec and mag); put one there, then run {command}."
            )
        sections[entry.section].append(picture._replace(missing=words))
    return sections


def _notebook_of(results_dir: Path, step: str) -> Link | None:
    """The notebook that draws the figures of `step`: as executed, or the project's own."""
    for path in results_dir.glob(f"notebooks/[0-9][0-9]_{step or '?'}.ipynb"):
        return Link(f"notebooks/{path.name}", path.name)
    return Link("", captions.NOTEBOOKS[step]) if step in captions.NOTEBOOKS else None


def _read_picture(path: Path, picture: Picture) -> Picture:
    """`picture` with its file embedded and described in the file's words, or else the caption.

    Of a frame that only says why something is not drawn the words alone.
    """
    try:
        with Image.open(path) as image:
            words, size, png = image.info.get("Description", ""), image.size, path.read_bytes()
            if image.width > WIDEST_PX:  # where that is shorter: the page stays light on a phone
                shape = (WIDEST_PX, round(image.height * WIDEST_PX / image.width))
                stream = io.BytesIO()
                image.convert("RGB").resize(shape, Image.Resampling.LANCZOS).save(stream, "PNG")
                png = min(png, stream.getvalue(), key=len)
    except (OSError, UnidentifiedImageError) as error:
        raise Gz2vitError(f"{path} is not a picture ({error}); delete it and run again") from error
    files = [file for file in (path, path.with_suffix(".pdf")) if file.exists()]
    picture = picture._replace(links=[f"figures/{file.name}" for file in files])
    if NOT_DRAWN in words:  # words are easier to read than their picture
        return picture._replace(missing=words)
    alt = words or picture.caption or f"The figure {path.stem}."
    return picture._replace(alt=alt, source=_embed(png), width=size[0], height=size[1])


def _draw_curves(results_dir: Path, key: str, run: str) -> Picture:
    """One run's learning curves, which exist from its first whole epoch, or what to run."""
    path = results_dir / "models" / key / run / "history.csv"
    title = f"{key}, seed {run.removeprefix('seed')}" if run else key
    notebook = _notebook_of(results_dir, f"{key}_{run}" if run else key)
    picture, command = Picture(f"curves-{key}{run}", title), command_for(path.resolve(), key)
    if not path.exists():
        predicted = path.with_name("predictions.csv").exists()
        words = "There are predictions, but no history of epochs."
        return picture._replace(missing=words if predicted else f"Not trained yet; run {command}.")
    try:
        figure = draw_learning_curves(pd.read_csv(path), CURVES_IN, published_history(key))
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise Gz2vitError(f"{path} is not whole ({error}); delete it and run {command}") from error
    alt = f"Learning curves of {title}. {description(figure)}"
    width, height = (round(inches * CURVES_DPI) for inches in figure.get_size_inches())
    source = _embed(png_bytes(figure, CURVES_DPI))
    return picture._replace(alt=alt, source=source, width=width, height=height, notebook=notebook)


def _embed(png: bytes) -> str:
    """PNG bytes as a data address, so that the page needs no other file."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


# --- Verdicts, tables, notebooks, files


def read_verdicts(results_dir: Path | str) -> dict[str, list[dict[str, str]]]:
    """The verdicts of `tables/` by their family, in order; none where there is no such table.

    Raises `Gz2vitError` for a file that cannot be read or lacks a column.
    """
    families: dict[str, list[dict[str, str]]] = {}
    # The first holds the second as well.
    for name, step in (("verdicts.csv", "evidence"), ("fig4_verdicts.csv", "fig4")):
        path = Path(results_dir) / "tables" / name
        if not path.exists():
            continue
        try:
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
            rows = table[["family", "outcome", "sentence"]].to_dict("records")
        except (OSError, ValueError, KeyError) as error:
            raise Gz2vitError(
                f"{path} is not a table of verdicts ({error}); delete it and run "
                f"{command_for(path.resolve(), step)}"
            ) from error
        for row in rows:
            families.setdefault(row["family"], []).append(row)
        break
    return families


def read_simulated_tables(results_dir: Path | str) -> dict[str, pd.DataFrame]:
    """What `tables/` has on simulated beside real galaxies, as text, by title.

    Raises `Gz2vitError` for a file that is not a table.
    """

    def shown(value: object) -> str:
        if pd.isna(value):
            return MISSING
        if isinstance(value, float):
            return f"{value:,.0f}" if value.is_integer() else f"{value:.3g}"
        whole = isinstance(value, int) and not isinstance(value, bool)
        return f"{value:,}" if whole else str(value)

    tables = {}
    for name, title in SIMULATED_TABLES.items():
        path = Path(results_dir) / "tables" / name
        if not path.exists():
            continue
        try:
            table = pd.read_csv(path)
        except (OSError, ValueError) as error:
            raise Gz2vitError(f"{path} is not a table ({error}); delete it, run again") from error
        if len(table) > SHOWN_ROWS:
            title += f" (the first {SHOWN_ROWS} of {len(table):,} rows)"
        cells = table.head(SHOWN_ROWS).astype(object).map(shown)
        tables[title] = cells.rename(columns=lambda column: column.replace("_", " "))
    return tables


def find_notebooks(results_dir: Path | str, but: str = "") -> list[Link]:
    """The executed notebooks in the order of the steps; not those that failed, nor step `but`.

    Each has the title of its first heading, or its file's name.
    """
    links = []
    for path in sorted(Path(results_dir).glob("notebooks/[!.]*.ipynb")):
        if ".failed" in path.name or (but and path.name.endswith(f"_{but}.ipynb")):
            continue
        try:
            text = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
        except (OSError, ValueError, KeyError, IndexError, TypeError):
            text = ""
        title = text.splitlines()[0].lstrip("# ") if text.startswith("#") else path.name
        links.append(Link(f"notebooks/{path.name}", title))
    return links


def find_files(results_dir: Path | str) -> list[Link]:
    """The tables of the run, and the predictions of its models."""
    folder = Path(results_dir)
    paths = [*folder.glob("tables/[!.]*"), *folder.glob("models/**/predictions.csv")]
    kept = [path.relative_to(folder) for path in paths if "unfinished" not in path.parts]
    return [Link(name, name) for name in sorted(map(Path.as_posix, kept))]


# --- What was run on what


def in_short(table: pd.DataFrame) -> list[str]:
    """The page's first sentences: the best model, the paper's own, and a caution."""
    runs, notes = table.attrs["runs"], table.attrs["notes"]
    accuracy = table[(table.quantity == "accuracy") & table.ours.notna()].set_index("model")
    if accuracy.empty:
        return ["No model is trained yet; the tables below say how to train each."]
    best = accuracy.loc[accuracy.ours.idxmax()]
    first = [f"`{key}`" for key in accuracy.index[accuracy.ours == best.ours]]
    are = "is" if len(first) == 1 else "are, equally,"
    counts = runs[best.name][0]["class_test_galaxies"]
    largest = runs[best.name][0].get("largest_class_fraction", max(counts) / sum(counts))
    sentences = [
        f"The best of {len(accuracy)} models {are} {' and '.join(first)}: {ours(best)} % of "
        f"{best.n:,} test galaxies are recognised; always guessing the largest class would be "
        f"right for {percent(largest)} %."
    ]
    if "linformer" in accuracy.index:
        own, theirs = accuracy.loc["linformer"], PUBLISHED_RESULTS["linformer"]["test_acc"]
        sentences.append(f"`linformer`: {ours(own)} % here, {percent(theirs, 2)} % in the paper.")
    same = sum(notes[key].startswith("comparable") for key in accuracy.index)
    if same == len(accuracy):
        words = "All of them were trained as in the paper, so that the differences mean something."
        return [*sentences, words]
    kept = f"Only {same} of {len(accuracy)} are" if same else "None of them is"
    words = f"{kept} comparable with the paper's; the reasons stand below the tables."
    return [*sentences, words]


def describe_run(results_dir: Path, selection: Selection, table: pd.DataFrame) -> Terms:
    """Profile, data, models and time, for the head of the report."""
    data, runs = selection.data, table.attrs["runs"]
    counts = data["galaxies"]
    galaxies = [f"{counts[one]:,} {SPLIT_NAMES[one]}" for one in SPLITS if counts.get(one)]
    trained = [key for key, own in runs.items() if own]
    terms = [
        ("Profile", str(data["profile"])),
        ("Data", data["name"] + (" (simulated, not observed)" if data["simulated"] else "")),
        ("Galaxies", ", ".join(galaxies)),
        ("Models", f"{len(trained)} of {len(runs)} trained: {', '.join(trained) or 'none'}"),
    ]
    timed = [run for own in runs.values() for run in own if "train_seconds" in run]
    if timed:
        minutes = sum(run["train_seconds"] for run in timed) / 60
        devices = _join(run.get("device") for run in timed)
        terms.append(("Training", f"{minutes:,.1f} minutes in all, on {devices}"))
    if lost := sum(data.get("left_out", {}).values()):
        terms.append(("Left out", f"{lost:,} galaxies, whose images cannot be read"))
    gone = data.get("gone_classes", {}).items()
    if missing := [f"{name} ({split})" for split, names in gone for name in names]:
        terms.append(("Without galaxies", ", ".join(missing)))
    replaced = sorted(results_dir.glob("models/*/replaced/*/"))
    for path in (*replaced, *sorted(results_dir.glob("models/*/seed*/replaced/*/"))):
        terms.append(("Replaced training", path.relative_to(results_dir).as_posix()))
    plan = results_dir / "logs" / "plan.txt"  # where the pipeline compares the trainings' code
    lines = plan.read_text(encoding="utf-8").splitlines() if plan.exists() else []
    return terms + [("Older code", line) for line in lines if "trained with older code" in line]


def describe_environment(records: Sequence[Mapping[str, Any]]) -> Terms:
    """Versions, code and machines of all runs; of this report where nothing is trained."""
    records = [one for one in records if "versions" in one] or [run_record({}, 0, "none")]
    names = dict.fromkeys(name for record in records for name in record["versions"])
    terms = [(name, _join(record["versions"].get(name) for record in records)) for name in names]
    commits = (record["git_commit"].partition("+") for record in records)
    code = (f"{name[:12]}{' with changes' if changed else ''}" for name, changed, _ in commits)
    machines = [record["machine"] for record in records]
    terms += [
        ("Code", _join(code)),
        ("System", _join(machine["system"] for machine in machines)),
        ("Processor cores", _join(str(machine["cpu_cores"]) for machine in machines)),
        ("Device", _join(record["device"] for record in records)),
    ]
    for record in records:
        weights = record.get("weights", {})
        if "file" in weights:
            key = record["parameters"]["model_key"]
            parts = [f"{key}: {weights['file']} of {weights['source']}"]
            named = [name for name in ("revision", "sha256") if name in weights]
            parts += [f"{name} {weights[name]}" for name in named]
            terms.append(("Started from", ", ".join(parts)))
    return list(dict.fromkeys(terms))


def _join(values: Iterable[str | None]) -> str:
    """Different values, each once: `2.10` or `2.10 or 2.11`."""
    return " or ".join(dict.fromkeys(value for value in values if value)) or "unknown"


def mark_code(text: str) -> Markup:
    """Text with what is between backticks as code; everything in it is escaped."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text)))


def mark_breaks(text: str) -> Markup:
    """Text of a table that breaks after an underscore, and never inside an interval."""
    kept = re.sub(r"\[[^\]]*\]", r'<span class="whole">\g<0></span>', html.escape(text))
    return Markup(kept.replace("_", "_<wbr>"))
