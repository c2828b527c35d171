"""The report: one HTML page of all that a run has, and of what is missing and how to make it.

The page needs no other file, no network and no JavaScript: style and pictures are part of it. Links
lead to the executed notebooks, figures and tables beside it.
"""

import base64
import html
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import mistune
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from gz2vit import __version__
from gz2vit import results_table as results
from gz2vit.catalog import class_composition, read_selection
from gz2vit.io import Gz2vitError, command_for, never_there, run_folders, run_record, write_text
from gz2vit.paper import ARXIV, PUBLISHED_RESULTS, SPLIT_CLASS_COUNTS, TITLE
from gz2vit.plots import captions
from gz2vit.plots.extra_figures import draw_learning_curves
from gz2vit.plots.style import NOT_DRAWN, description, png_bytes
from gz2vit.results_table import MISSING, Seeds, ours, percent, published_history, results_table

STEP = "report"  # whose own executed notebook is not linked
WIDEST_PX = 1600  # of an embedded picture: 220 dots an inch on paper; the file itself is linked
CURVES_IN, CURVES_DPI = 4.6, 160  # two side by side on a desk, one on a phone
SHOWN_ROWS = 40  # of a table on simulated galaxies; the file itself is linked
SIMULATED_TABLES = {
    "realism": "Simulated and real galaxies in numbers",
    "transfer": "Networks that learned from simulated galaxies, tested on real ones",
}
SPLIT_NAMES = {"train": "to learn from", "valid": "to choose the best epoch", "test": "to test on"}


class Link(NamedTuple):
    """A file of the run: `address` relative to the report, and what it is called."""

    address: str
    title: str


class Picture(NamedTuple):
    """One picture of the page, or, without `source`, the words in its place (`missing`)."""

    name: str
    title: str
    caption: str = ""
    alt: str = ""
    source: str = ""  # a data address with all of the PNG
    width: int = 0  # px, as the height
    height: int = 0
    links: Sequence[str] = ()  # files in the results folder
    notebook: Link | None = None  # that drew it, with the cell's number
    missing: str = ""


def write_report(
    results_dir: Path | str, model_keys: Sequence[str], seeds: Seeds = None,
    pictures: Mapping[str, Sequence[Picture]] | None = None,
) -> Path:  # fmt: skip
    """Write `report.html` into the results folder, from whatever is there; its path.

    `pictures`: what `find_pictures` found, if it has been asked. Raises `Gz2vitError` where not
    even the galaxies are selected, and for files that are damaged.
    """
    folder, selection = Path(results_dir), read_selection(results_dir)
    data, table = selection.data, results_table(folder, model_keys, seeds)
    tables = results.printed_tables(table)
    by_class = tables.pop("Accuracy by class")
    classes = by_class.iloc[:, :2].copy()  # then a column for each model, cells (ours, paper's)
    for key in model_keys:
        cells = by_class[f"{key}: ours [95 %]"], by_class[f"{key}: paper"]
        classes[key] = list(zip(*cells, strict=True))
    runs = [(key, run) for key in model_keys for run in run_folders((seeds or {}).get(key, ()))]
    params = [folder / "models" / key / run / "params.json" for key, run in runs]
    verdict, verdicts = folder / "tables" / "verdict.md", read_verdicts(folder)
    words = verdict.read_text(encoding="utf-8") if verdict.exists() else ""
    composition = class_composition(selection.tables)
    if data["profile"] == "published":  # whose tables may be missing
        composition = pd.DataFrame(dict(SPLIT_CLASS_COUNTS), index=composition.index)
        composition = composition.assign(all=composition.sum(axis=1))
    content = {
        **{"paper": TITLE, "arxiv": ARXIV, "version": __version__, "short": in_short(table)},
        **{"title": f"{data['name']}, profile {data['profile']}", "simulated": data["simulated"]},
        **{"verdict": Markup(mistune.create_markdown(escape=True)(words)), "verdicts": verdicts},
        "weighed": {
            family: ", ".join(f"{n} {outcome}" for outcome, n in own.outcome.value_counts().items())
            for family, own in verdicts.items()
        },
        "evidence_command": command_for(verdict.resolve(), "evidence"),
        "about": describe_run(folder, data, table),
        "composition": composition.map("{:,}".format).reset_index(names="class"),
        "introduction": results.introduction(table),
        **{"tables": tables, "classes": classes, "notes": table.attrs["notes"]},
        "pictures": pictures or find_pictures(folder),
        "simulated_tables": read_simulated_tables(folder),
        "curves": [_draw_curves(folder, key, run, selection.data["profile"]) for key, run in runs],
        "notebooks": find_notebooks(folder, but=STEP),
        "files": find_files(folder),
        "environment": describe_environment([*map(results.read_record, params)]),
    }
    options = {"trim_blocks": True, "lstrip_blocks": True, "undefined": StrictUndefined}
    environment = Environment(loader=PackageLoader("gz2vit"), autoescape=True, **options)
    environment.filters |= {"code": mark_code, "breaks": mark_breaks}
    write_text(folder / "report.html", environment.get_template("report.html.j2").render(content))
    return folder / "report.html"


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Name a file that is not what it should be."""
    try:
        yield
    except (OSError, ValueError, LookupError, AttributeError) as error:
        raise Gz2vitError(f"{path} is not whole ({error}); delete it and run again") from error


# --- Pictures


def find_pictures(results_dir: Path | str) -> dict[str, list[Picture]]:
    """All pictures of `figures/` by section, in the order of FIGURES, then others by name.

    What to run is in the place of an expected one that is missing. Raises for a damaged file.
    """
    folder, order = Path(results_dir), [one.name for one in captions.FIGURES]
    found = {path.stem: path for path in folder.glob("figures/[!.]*.png")}

    def rank(name: str) -> tuple:
        begun = [place for place, known in enumerate(order) if name.startswith(known)]
        digits = [(text, int(part or 0)) for text, part in re.findall(r"(\D*)(\d*)", name)]
        return (order.index(name), []) if name in order else (max(begun, default=999), digits)

    sections: dict[str, list[Picture]] = {name: [] for name in captions.SECTIONS}
    expected = {one.name for one in captions.FIGURES if one.written == "expected"}
    for name in sorted(expected | found.keys(), key=rank):
        entry, path = captions.entry_of(name), (folder / "figures" / name).resolve()
        picture = Picture(name, entry.title, entry.caption)
        if name in found:
            picture = _read_picture(found[name], picture, entry.step)
        else:
            words = f"the step '{entry.step}' makes it; run {command_for(path, entry.step)}"
            words = f"Not there: {never_there(path) or words}."
            picture = picture._replace(missing=words, notebook=_notebook_of(folder, entry.step))
        sections[entry.section].append(picture)
    return sections


def _read_cells(path: Path) -> list[dict]:
    """The cells of an executed notebook."""
    with _reading(path):
        return json.loads(path.read_text(encoding="utf-8"))["cells"]


def _notebook_of(results_dir: Path, step: str, cell: str = "") -> Link | None:
    """The executed notebook of `step`, and the `cell` in it, if it is there."""
    for path in results_dir.glob(f"notebooks/[0-9][0-9]_{step or '?'}.ipynb"):
        for one in _read_cells(path):
            if cell and f"[{one.get('execution_count')}]" == cell and "id" in one:
                address = f"notebooks/{path.name}#cell-id={one['id']}"
                return Link(address, f"{path.name}, cell {cell}")
        return Link(f"notebooks/{path.name}", path.name)
    return None


def _read_picture(path: Path, picture: Picture, step: str) -> Picture:
    """`picture` with its file embedded and described; words alone where nothing is drawn."""
    with _reading(path), Image.open(path) as image:
        notes, (width, height), png = image.info, image.size, path.read_bytes()
        if width > WIDEST_PX:  # where that is shorter: the page stays light on a phone
            small, stream = (WIDEST_PX, round(height * WIDEST_PX / width)), io.BytesIO()
            image.convert("RGB").resize(small, Image.Resampling.LANCZOS).save(stream, "PNG")
            png = min(png, stream.getvalue(), key=len)
    links = [f"figures/{one.name}" for one in (path, path.with_suffix(".pdf")) if one.exists()]
    notebook = _notebook_of(path.parents[1], step, notes.get("Source", ""))
    words = notes.get("Description", "")  # in the file
    picture = picture._replace(links=links, notebook=notebook)
    if NOT_DRAWN in words:  # words are easier to read than their picture
        return picture._replace(missing=words)
    alt = words or picture.caption or f"The figure {path.stem}."
    return picture._replace(alt=alt, source=_embed(png), width=width, height=height)


def _draw_curves(results_dir: Path, key: str, run: str, profile: str) -> Picture:
    """One run's learning curves (the authors' with profile `published`), or what to run."""
    path = results_dir / "models" / key / run / "history.csv"
    authors, trained = published_history(key), path.exists()
    theirs = profile == "published" and authors is not None and not trained
    title = f"{key}, seed {run.removeprefix('seed')}" if run else key
    title += ", the authors' training" if theirs else ""
    if not theirs and not trained:
        words = f"Not trained yet; run {command_for(path.resolve(), key)}."
        words = f"Not there: {why}." if (why := never_there(path.resolve())) else words
        if path.with_name("predictions.csv").exists():
            words = "There are predictions, but no history of epochs."
        return Picture(f"curves-{key}{run}", title, missing=words)
    with _reading(path):
        curves = (authors, CURVES_IN) if theirs else (pd.read_csv(path), CURVES_IN, authors)
        figure = draw_learning_curves(*curves)
    alt = f"Learning curves of {title}. {description(figure)}"
    width, height = (round(inches * CURVES_DPI) for inches in figure.get_size_inches())
    links = [], _notebook_of(results_dir, f"{key}_{run}" if run else key)
    source = _embed(png_bytes(figure, CURVES_DPI))
    return Picture(f"curves-{key}{run}", title, "", alt, source, width, height, *links)


def _embed(png: bytes) -> str:
    """PNG bytes as a data address, so that the page needs no other file."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


# --- Verdicts, tables, notebooks, files


def read_verdicts(results_dir: Path | str) -> dict[str, pd.DataFrame]:
    """The verdicts of `tables/` (`outcome`, `sentence`) by their family, in order; or none."""
    for name in ("verdicts.csv", "fig4_verdicts.csv"):  # the first holds the second as well
        if (path := Path(results_dir) / "tables" / name).exists():
            with _reading(path):
                table = pd.read_csv(path, dtype=str, keep_default_na=False)
                table = table[["family", "outcome", "sentence"]]
                return dict(iter(table.groupby("family", sort=False)))
    return {}


def read_simulated_tables(results_dir: Path | str) -> dict[str, pd.DataFrame]:
    """What `tables/` has on simulated beside real galaxies, as text, by title."""

    def shown(value: object) -> str:
        if isinstance(value, str) or pd.isna(value):
            return MISSING if pd.isna(value) else value
        return f"{value:,.0f}" if float(value).is_integer() else f"{value:.3g}"

    tables = {}
    for name, title in SIMULATED_TABLES.items():
        if (path := Path(results_dir) / "tables" / f"{name}.csv").exists():
            with _reading(path):
                table = pd.read_csv(path).rename(columns=lambda column: column.replace("_", " "))
            more = len(table) > SHOWN_ROWS
            title += f" (the first {SHOWN_ROWS} of {len(table):,} rows)" if more else ""
            tables[title] = table.head(SHOWN_ROWS).astype(object).map(shown)
    return tables


def find_notebooks(results_dir: Path | str, but: str = "") -> list[Link]:
    """The executed notebooks with their first heading, or file name; no failed ones, nor `but`."""
    links = []
    for path in sorted(Path(results_dir).glob("notebooks/[!.]*.ipynb")):
        if ".failed" not in path.name and not (but and path.stem.endswith(f"_{but}")):
            heading = "".join(_read_cells(path)[0]["source"]).partition("\n")[0]
            title = heading.lstrip("# ") if heading.startswith("#") else path.name
            links.append(Link(f"notebooks/{path.name}", title))
    return links


def find_files(results_dir: Path | str) -> list[str]:
    """The tables of the run, and the predictions of its models."""
    folder = Path(results_dir)
    paths = [*folder.glob("tables/[!.]*"), *folder.glob("models/**/predictions.csv")]
    kept = [path.relative_to(folder) for path in paths if "unfinished" not in path.parts]
    return sorted(map(Path.as_posix, kept))


# --- What was run on what


def in_short(table: pd.DataFrame) -> list[str]:
    """The page's first sentences: the best model, the paper's own, and a caution."""
    accuracy = table[(table.quantity == "accuracy") & table.ours.notna()].set_index("model")
    if accuracy.empty:
        return ["No model is trained yet; the tables below say for each how to have it."]
    best = accuracy.loc[accuracy.ours.idxmax()]
    first = [f"`{key}`" for key in accuracy.index[accuracy.ours == best.ours]]
    largest = percent(results.largest_class(table.attrs["runs"][best.name][0]))
    verb = "is" if len(first) == 1 else "are, equally,"
    sentences = [
        f"The best of {len(accuracy)} models {verb} {' and '.join(first)}: {ours(best)} % of "
        f"{best.n:,} test galaxies are recognised; always guessing the largest class would be "
        f"right for {largest} %."
    ]
    if "linformer" in accuracy.index:
        own, theirs = accuracy.loc["linformer"], PUBLISHED_RESULTS["linformer"]["test_acc"]
        sentences.append(f"`linformer`: {ours(own)} % here, {percent(theirs, 2)} % in the paper.")
    same = sum(table.attrs["notes"][key].startswith("comparable") for key in accuracy.index)
    kept = {0: "None of them is", len(accuracy): "All of them are"}
    words = kept.get(same, f"Only {same} of {len(accuracy)} are")
    return [*sentences, f"{words} comparable with the paper's; see below the tables."]


def describe_run(folder: Path, data: Mapping[str, Any], table: pd.DataFrame) -> list[tuple]:
    """Profile, data, models and time, for the head of the report."""
    runs = table.attrs["runs"]
    trained = [key for key, own in runs.items() if own]
    seconds = sum(run.get("train_seconds", 0) for own in runs.values() for run in own)
    galaxies = [f"{n:,} {SPLIT_NAMES[split]}" for split, n in data["galaxies"].items() if n]
    lost = sum(data.get("left_out", {}).values())
    plan = folder / "logs" / "plan.txt"  # where the pipeline compares the trainings' code
    lines = plan.read_text(encoding="utf-8").splitlines() if plan.exists() else []
    replaced = sorted(folder.glob("models/**/replaced/*/"))
    terms = [
        ("Profile", str(data["profile"])),
        ("Data", data["name"] + (" (simulated, not observed)" if data["simulated"] else "")),
        ("Galaxies", ", ".join(galaxies)),
        ("Missing", data.get("missing", "")),
        ("Models", f"{len(trained)} of {len(runs)} trained: {', '.join(trained) or 'none'}"),
        ("Training", f"{seconds / 60:,.1f} minutes in all" if seconds else ""),
        ("Left out", f"{lost:,} galaxies, whose images cannot be read" if lost else ""),
        *(("Replaced training", path.relative_to(folder).as_posix()) for path in replaced),
        *(("Older code", line) for line in lines if "trained with older code" in line),
    ]
    return [(name, value) for name, value in terms if value]


def describe_environment(records: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Versions, code and machines of all runs; of this report where nothing is trained."""
    records = [one for one in records if "versions" in one] or [run_record({}, 0, "none")]
    table = pd.DataFrame(
        {
            **{**one["versions"], "Code": one["git_commit"], "System": one["machine"]["system"]},
            **{"Processor cores": str(one["machine"]["cpu_cores"]), "Device": one["device"]},
        }
        for one in records
    )
    terms = [(name, " or ".join(table[name].dropna().unique())) for name in table]
    names = ("file", "source", "revision", "sha256")
    for weights in (one["weights"] for one in records if "file" in one.get("weights", {})):
        words = [f"{name} {weights[name]}" for name in names if name in weights]
        terms.append(("Started from", ", ".join(words)))
    return list(dict.fromkeys(terms))


def mark_code(text: str) -> Markup:
    """Text with what is between backticks as code; everything in it is escaped."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text)))


def mark_breaks(text: str) -> Markup:
    """Text of a table that breaks after an underscore, and never inside an interval."""
    kept = re.sub(r"\[[^\]]*\]", r'<span class="whole">\g<0></span>', html.escape(text))
    return Markup(kept.replace("_", "_<wbr>"))
