"""The report: what is on the page, what is missing and said so, and that it needs no one."""

import base64
import io
import json
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from gz2vit import report as page
from gz2vit.io import Gz2vitError
from gz2vit.plots.captions import FIGURES
from gz2vit.plots.style import describe, draw_missing, save_figure
from gz2vit.results_table import results_table
from tests.browser import DESKTOP, PHONE, open_browser
from tests.saved_runs import metrics_of, save_run

MODELS = ["linformer", "linformer_weighted", "resnet50", "vit"]  # the last is not trained
RECORD = {
    "git_commit": "0123456789abcdef+changes",
    "versions": {"gz2vit": "0.1.0", "python": "3.11.7", "torch": "2.10.0"},
    "machine": {"system": "Linux", "cpu_cores": 2},
    "device": "cpu",
}


VERDICTS = """family,claim,outcome,sentence
Fig. 4,x,supported,The claim that a < b is supported; p = 0.01.
Fig. 4,y,not decided,The claim that `b` is not decided by this data.
Accuracy,z,contradicted,The claim that c is contradicted.
"""


def write_notebook(results: Path, name: str, heading: str) -> None:
    """An executed notebook with two cells."""
    cells = [{"cell_type": "markdown", "source": [f"{heading}\n", "\n", "text"]}]
    cells.append({"cell_type": "code", "source": "", "execution_count": 5, "id": "abc123"})
    path = results / "notebooks" / f"{name}.ipynb"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"cells": cells, "nbformat": 4}))


def make_results(root: Path) -> Path:
    """`results/demo` below `root`: a selection, three models, figures, tables, notebooks."""
    results, counts = root / "results" / "demo", {"train": 32, "valid": 16, "test": 16}
    (results / "selection").mkdir(parents=True)
    for split, count in counts.items():
        rows = "".join(f"{split}-{row},{row % 8}\n" for row in range(count))
        (results / "selection" / f"gz2_{split}.csv").write_text(f"galaxyID,label1\n{rows}")
    record = {"profile": "demo", "folder": str(root), "simulated": False, "galaxies": counts}
    record |= {"name": "64 galaxies of mine", "signature": "", "left_out": {}, "gone_classes": {}}
    (results / "selection" / "data.json").write_text(json.dumps(record))
    losses = {"train_loss": [2.0, 1.5, 1.25], "valid_loss": [2.1, 1.7, 1.9]}
    shares = {"train_acc": [0.2, 0.4, 0.5], "valid_acc": [0.2, 0.45, 0.4]}
    history, classes = pd.DataFrame({"epoch": [1, 2, 3]} | losses | shares), np.arange(16) % 8
    table = pd.DataFrame({"GalaxyID": range(16), "class": classes, "pred": np.roll(classes, 1)})
    for key in MODELS[:3]:
        run = metrics_of(key, profile="demo", data=record["name"], epochs=3, best_epoch=2)
        run |= {"test_galaxies": 16, "class_test_galaxies": [2] * 8}
        folder = save_run(results, run, max_epoch=3).parent
        params = json.loads((folder / "params.json").read_text()) | RECORD
        (folder / "params.json").write_text(json.dumps(params))
        table.to_csv(folder / "predictions.csv", index=False)
        history.to_csv(folder / "history.csv", index=False)
    notes = PngInfo()
    notes.add_text("Source", "[5]")  # as a notebook's fifth cell leaves it
    for name in ("fig2", "fig3", "fig10_other", "class_composition", "reliability"):
        figure, axes = plt.subplots(figsize=(4, 2))
        axes.plot([0, 1])
        describe(figure, f"A line, drawn for <{name}> & tests.")
        png = save_figure(figure, results / "figures" / name)[1]
        plt.close(figure)
        with Image.open(png) as image:
            notes.add_text("Description", image.info["Description"])
            image.save(png, pnginfo=notes)
    (results / "tables").mkdir()
    (results / "tables" / "verdicts.csv").write_text(VERDICTS)
    write_notebook(results, "07_linformer", "# Train the Linformer")
    write_notebook(results, "17_fig3", "# Fig. 3")
    return results


class Reader(HTMLParser):
    """Collects a page's words, links, pictures and tags; complains of tags left open."""

    EMPTY = ("meta", "link", "img", "wbr", "br", "hr")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.words = ""
        self.feed(path.read_text())
        assert not self.open, self.open
        self.text = " ".join(self.words.split())

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))
        self.words += " " if tag in ("dt", "dd", "td", "th") else ""
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data if "style" not in self.open else ""

    def all(self, tag: str) -> list[dict]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_results(tmp_path_factory.mktemp("report"))


@pytest.fixture
def results(made: Path, tmp_path: Path) -> Path:
    """A copy to change; the data folder stays where it is."""
    return shutil.copytree(made, tmp_path / "results" / "demo")


@pytest.fixture(scope="module")
def reader(made: Path) -> Reader:
    """The page of all that the folder has."""
    return Reader(page.write_report(made, MODELS))


def read(results: Path, **seeds: list[int]) -> Reader:
    return Reader(page.write_report(results, MODELS, seeds))


def test_it_says_what_was_run_on_what_beside_the_papers_values(reader: Reader, tmp_path: Path):
    for words in (
        *("64 galaxies of mine, profile demo", "3 of 4 trained: linformer, linformer_weighted, "),
        "32 to learn from, 16 to choose the best epoch, 16 to test on",
        *("30.0 minutes in all", "torch 2.10.0", "Code 0123456789abcdef+changes"),  # 3 x 600 s
        *("80.55", "72.33", "2,785,416", "672 (Tesla T4)", "paper 93.5"),
        "not comparable: max_epoch 3, the paper's 200",
    ):
        assert words in reader.text, words
    assert len(reader.all("table")) == 5
    short = reader.text.rpartition("In short")[2].partition("What was run")[0]
    assert "The best of 3 models is resnet50: 85.6 [" in short
    assert "% here, 80.55 % in the paper" in short and "None of them is comparable" in short
    assert "Fig. 4: 1 supported, 1 not decided. Accuracy: 1 contradicted." in short
    for key in ("linformer", "resnet50", "vgg16_bn"):
        save_run(tmp_path, metrics_of(key, accuracy=0.5 if key == "vgg16_bn" else 0.75))
    first, *_ = page.in_short(results_table(tmp_path, ["linformer", "resnet50", "vgg16_bn"]))
    assert "are, equally, `linformer` and `resnet50`: 75.0" in first


def test_every_picture_is_described_and_leads_to_the_cell_that_drew_it(reader: Reader):
    pictures = reader.all("img")
    assert len(pictures) == 5 + 3  # figures and learning curves
    for one in pictures:
        assert one["src"].startswith("data:image/png;base64,iVBOR")
        assert len(one["alt"]) > 20 and min(int(one["width"]), int(one["height"])) > 100
    alts = " ".join(one["alt"] for one in pictures)
    assert "A line, drawn for <fig3> & tests." in alts
    assert "Learning curves of linformer. Two panels with loss and accuracy over 3" in alts
    links = [one["href"] for one in reader.all("a")]
    assert links.count("notebooks/17_fig3.ipynb") == 2  # fig3_paper, which is missing; the list
    assert links.count("notebooks/17_fig3.ipynb#cell-id=abc123") == 1
    assert "Drawn by 17_fig3.ipynb, cell [5]." in reader.text
    assert links.count("notebooks/07_linformer.ipynb") == 2  # its curves, the list


def test_predictions_alone_are_enough(results: Path):
    for path in results.glob("models/*/*"):
        if path.name != "predictions.csv":
            path.unlink()
    record = json.loads((results / "selection" / "data.json").read_text())
    record |= {"profile": "published"}
    (results / "selection" / "data.json").write_text(json.dumps(record))
    reader = read(results)
    assert "predictions are the authors' own" in reader.text
    assert reader.text.count("no history of epochs") == 1  # linformer_weighted
    assert "linformer, the authors' training" in reader.text
    assert "All of them are comparable" in reader.text


def test_what_is_missing_is_said_in_its_place(reader: Reader, results: Path):
    for step in ("fig1", "fig5"):
        assert f"the step '{step}' makes it; run ./run_all.sh" in reader.text
    for name in ("models", "figures", "tables", "notebooks"):
        shutil.rmtree(results / name)
    bare = read(results)
    assert "No model is trained yet" in bare.text and not bare.all("img")
    assert bare.text.count("Not trained yet; run ./run_all.sh") == len(MODELS)
    assert "No verdicts yet" in bare.text and "claims that were weighed" not in bare.text
    shutil.rmtree(results / "selection")
    with pytest.raises(Gz2vitError, match="--only select"):
        page.write_report(results, MODELS)


def test_what_only_some_runs_have(results: Path, reader: Reader):
    assert "Simulated and real galaxies" not in reader.text
    for name in ("linformer/replaced/2026-01-02", "vit/seed3/replaced/2026-01-03"):
        (results / "models" / name).mkdir(parents=True)
    line = "vit: trained with older code, commit 0123456: --retrain vit renews it"
    (results / "logs").mkdir()
    (results / "logs" / "plan.txt").write_text(f"nothing to do\n{line}\n")
    model, tables = results / "models" / "resnet50", results / "tables"
    shutil.copytree(model, results / "seed7")
    shutil.move(results / "seed7", model / "seed7")
    table = "model,test_accuracy,galaxies,note\nlinformer,0.51234,12345,\nvit,,3.0,a<b\n"
    (tables / "transfer.csv").write_text(table)
    (tables / "realism.csv").write_text("x\n" + "".join(f"{row}\n" for row in range(50)))
    words = "**The claim** is _not_ supported by <b>its own</b> predictions.\n\nMore.\n"
    (tables / "verdict.md").write_text(words)
    rows = "".join(f"Pairs,c{row},not decided,The claim {row}.\n" for row in range(9))
    verdicts = f"family,claim,outcome,sentence\n{rows}One,c,supported,a <script> & `b<c`\n"
    (tables / "verdicts.csv").write_text(verdicts)
    write_notebook(results, "12_mine", "# <b>Mine</b> & yours")
    found = read(results, resnet50=[0, 7])
    assert "models/linformer/replaced/2026-01-02" in found.text
    assert "models/vit/seed3/replaced/2026-01-03" in found.text and line in found.text
    assert "resnet50, seed 7" in found.text and "(2 seeds)" in found.text
    simulated = found.text.rpartition("Simulated and real galaxies")[2]
    assert "test accuracy" in simulated and "(the first 40 of 50 rows)" in simulated
    assert "linformer 0.512 12,345 – vit – 3 a<b" in simulated
    short = found.text.rpartition("In short")[2].strip()  # the verdict in plain words comes first
    assert short.startswith("The claim is not supported by <b>its own</b> predictions.")
    # A long list of verdicts is folded under its sum.
    assert found.all("details") == [{}, {"open": None}]
    assert "9 not decided" in found.text and "The claim 8." in found.text
    assert "<b>Mine</b> & yours" in found.text and "a <script> & b<c" in found.text
    assert not found.all("script") and not found.all("b")


def test_it_asks_no_one_and_every_link_leads_somewhere(made: Path, reader: Reader):
    text = (made / "report.html").read_text()
    assert not reader.all("script") and "@import" not in text and "url(" not in text
    assert len(text) < 3e6
    ids = [attrs["id"] for _, attrs in reader.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = [one["href"] for one in reader.all("a")]
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    for link in (link for link in links if not link.startswith(("#", "https://"))):
        assert (made / link.partition("#")[0]).is_file(), link
    assert "figures/fig3.pdf" in links and "models/vit/predictions.csv" not in links
    assert page.write_report(made, MODELS).read_text() == text


def test_its_own_failed_and_unfinished_files_are_not_linked(results: Path):
    for name in ("24_report", "09_resnet50.failed", ".08_vit.running"):
        write_notebook(results, name, "# x")
    write_notebook(results, "02_b", "no heading")
    titles = [link.title for link in page.find_notebooks(results, but="report")]
    assert titles == ["02_b.ipynb", "Train the Linformer", "Fig. 3"]
    for name in ("tables/.a.1.tmp.csv", "models/vit/unfinished/predictions.csv"):
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        (results / name).write_text("")
    expected = [f"models/{key}/predictions.csv" for key in MODELS[:3]]
    assert page.find_files(results) == [*expected, "tables/verdicts.csv"]


DAMAGE = {"models/linformer/history.csv": "epoch\n", "figures/fig3.png": "not a picture"}
DAMAGE |= {"tables/verdicts.csv": "outcome,sentence\na,b\n", "tables/transfer.csv": ""}
DAMAGE |= {"notebooks/17_fig3.ipynb": "{"}


@pytest.mark.parametrize(("name", "text"), DAMAGE.items())
def test_damaged_files_are_named(results: Path, name: str, text: str):
    (results / name).write_text(text)
    with pytest.raises(Gz2vitError, match=f"{name} .*delete it"):
        page.write_report(results, MODELS)


# --- Pictures


def save_png(folder: Path, name: str, pixels: np.ndarray | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shown = np.zeros((20, 40, 3), np.uint8) if pixels is None else pixels
    Image.fromarray(shown).save(folder / f"{name}.png")


def test_a_run_of_published_predictions_shows_the_authors_own_epochs(results: Path):
    path = results / "selection" / "data.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"profile": "published"}))
    for key in MODELS[:3]:
        (results / "models" / key / "history.csv").unlink()
    alts = [one["alt"] for one in read(results).all("img")]
    (own,) = [one for one in alts if one.startswith("Learning curves of linformer,")]
    assert "the authors' training" in own and "over 54 epochs" in own
    assert "epoch 51, validation accuracy 0.803" in own
    assert sum(one.startswith("Learning curves of ") for one in alts) == 2  # and of resnet50


def test_pictures_come_in_order_and_others_under_their_names(tmp_path: Path):
    missing = [one for own in page.find_pictures(tmp_path).values() for one in own]
    assert [one.name for one in missing] == [
        one.name for one in FIGURES if one.written == "expected"
    ]
    assert all("--only " in one.missing and not one.source for one in missing)
    for name in ("zebra_crossing", "fig5_b10", "fig5_b2", "fig2", ".fig1.123.tmp", "fig5_A"):
        save_png(tmp_path / "figures", name)
    (tmp_path / "figures" / "fig2.pdf").write_text("")
    sections = page.find_pictures(tmp_path)
    there = [one for one in sections["paper"] if one.source]
    assert [one.name for one in there] == ["fig2", "fig5_A", "fig5_b2", "fig5_b10"]
    assert there[0].links == ["figures/fig2.png", "figures/fig2.pdf"]
    assert (there[0].width, there[0].height, there[0].alt) == (40, 20, there[0].caption)
    (other,) = sections["inside"]
    assert (other.title, other.alt) == ("Zebra crossing", "The figure zebra_crossing.")
    assert [one.name for one in sections["data"]] == ["class_composition"]


def test_a_frame_that_says_why_nothing_is_drawn_becomes_words(tmp_path: Path):
    data = {"profile": "demo", "name": "5 galaxies of mine", "simulated": False}
    figure = draw_missing("Fig. 4", "there are no sizes; run `./run_all.sh`", data)
    save_figure(figure, tmp_path / "figures" / "fig4")
    (found,) = [one for one in page.find_pictures(tmp_path)["paper"] if one.name == "fig4"]
    assert found.missing == "Fig. 4 is not drawn: there are no sizes; run `./run_all.sh`."
    assert not found.source and found.links == ["figures/fig4.png", "figures/fig4.pdf"]


def test_large_pictures_are_embedded_smaller_where_that_is_shorter(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 255, (100, 2400, 3), dtype=np.uint8)
    for name, pixels in (("fig1", np.zeros_like(noise)), ("fig2", noise)):
        save_png(tmp_path / "figures", name, pixels)
    whole, smaller = [one for one in page.find_pictures(tmp_path)["paper"] if one.source]
    assert (smaller.width, smaller.height) == (whole.width, whole.height) == (2400, 100)
    sizes = []
    for one in (whole, smaller):
        png = base64.b64decode(one.source.partition(",")[2])
        assert len(png) <= (tmp_path / "figures" / f"{one.name}.png").stat().st_size
        sizes.append(Image.open(io.BytesIO(png)).size)
    assert sizes[1] == (1600, 67)


# --- In a browser, as wide as a desk and as a phone

# So many models, not trained, that the tables are wider than any window.
MANY = [*MODELS, *(f"convnext{number}" for number in range(20))]
IMAGES = "Array.from(document.images)"
RIGHTMOST = """Math.max(...Array.from(document.querySelectorAll('body *'))
    .filter(one => !one.closest('.wide, .picture') && getComputedStyle(one).position !== 'absolute')
    .map(one => one.getBoundingClientRect().right))"""
GAPS = """Array.from(document.querySelectorAll('.cards td .whole')).map(one => {
    const range = document.createRange();
    range.selectNode(one.previousSibling);
    const value = range.getBoundingClientRect(), interval = one.getBoundingClientRect();
    return value.top < interval.top - 2 ? 0 : interval.left - value.right;
})"""
EMPTY = "Array.from(document.querySelectorAll('.cards td.none')).map(one => one.offsetHeight)"
FONTS = """Array.from(document.querySelectorAll('p, td, th, dd, li, figcaption'))
    .map(one => parseFloat(getComputedStyle(one).fontSize))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page.write_report(make_results(tmp_path_factory.mktemp("wide")), MANY)


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_in_a_browser_it_fits_reads_well_and_asks_no_one(browser, report: Path, viewport: dict):
    opened = browser.new_context(viewport=viewport, offline=True).new_page()
    asked, complaints = [], []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("console", lambda message: complaints.append(message.text))
    opened.goto(report.as_uri())
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
    assert complaints == []
    assert opened.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    assert opened.evaluate(RIGHTMOST) <= viewport["width"] + 0.5
    sizes = opened.evaluate(f"{IMAGES}.map(one => [one.naturalWidth, one.width])")
    assert len(sizes) == 8
    for natural_px, shown_px in sizes:
        # On a phone a wide picture slides sideways in its frame, no wider than 40 rem.
        assert natural_px > 100 and 100 < shown_px <= max(viewport["width"], 640)
    kept = f"{IMAGES}.map(one => one.width / one.height * one.naturalHeight / one.naturalWidth)"
    assert opened.evaluate(kept) == pytest.approx([1.0] * 8, abs=0.02)
    gaps = opened.evaluate(GAPS)  # a value is beside its interval
    assert gaps and max(gaps) < 12
    empty = opened.evaluate(EMPTY)
    assert empty and (max(empty) == 0) == (viewport == PHONE)
    assert min(opened.evaluate(FONTS)) >= 12
    opened.context.close()


def test_without_javascript_and_on_paper_all_is_there(browser, report: Path, tmp_path: Path):
    opened = browser.new_context(viewport=PHONE, java_script_enabled=False).new_page()
    opened.goto(report.as_uri())
    assert "How to cite" in opened.inner_text("main")
    opened.pdf(path=tmp_path / "report.pdf", format="A4")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    opened.emulate_media(media="print")
    assert not opened.locator("nav").is_visible()
    assert opened.locator("#figure-fig3 img").is_visible()
    opened.context.close()
