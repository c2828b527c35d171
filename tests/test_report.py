"""The report: what is on the page, what is missing and said so, and that it needs no one."""

import base64
import io
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import Mock, patch

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from gz2vit import report as page
from gz2vit.io import Gz2vitError, read_json, write_json, write_text
from gz2vit.plots.captions import FIGURES
from gz2vit.plots.style import describe, draw_missing, save_figure
from gz2vit.results_table import results_table
from tests.browser import DESKTOP, PHONE, open_browser
from tests.saved_runs import metrics_of, save_run

MODELS = ["linformer", "linformer_weighted", "resnet50", "vit"]  # the last is not trained
RECORD = {"git_commit": "0123456789abcdef+changes", "device": "cpu"}
RECORD |= {"versions": {"gz2vit": "0.1.0", "python": "3.11.7", "torch": "2.10.0"}}
RECORD |= {"machine": {"system": "Linux", "cpu_cores": 2}}
HISTORY = "epoch,train_loss,valid_loss,train_acc,valid_acc\n"
HISTORY += "1,2.0,2.1,0.2,0.2\n2,1.5,1.7,0.4,0.45\n3,1.25,1.9,0.5,0.4\n"
VERDICTS = """family,claim,outcome,sentence
Fig. 4,x,supported,The claim that a < b is supported; p = 0.01.
Fig. 4,y,not decided,The claim that `b` is not decided by this data.
Accuracy,z,contradicted,The claim that c is contradicted."""


def write_notebook(results: Path, name: str, heading: str) -> None:
    cells = [{"cell_type": "markdown", "source": [f"{heading}\n", "\n", "text"]}]
    cells.append({"cell_type": "code", "source": "", "execution_count": 5, "id": "abc123"})
    write_json(results / "notebooks" / f"{name}.ipynb", {"cells": cells, "nbformat": 4})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`results/demo`: a selection, three models, figures, tables, notebooks."""
    results = tmp_path_factory.mktemp("report") / "results" / "demo"
    counts = {"train": 32, "valid": 16, "test": 16}
    for split, count in counts.items():
        rows = "".join(f"{split}-{row},{row % 8}\n" for row in range(count))
        write_text(results / "selection" / f"gz2_{split}.csv", f"galaxyID,label1\n{rows}")
    record = {"profile": "demo", "folder": str(results), "simulated": False, "galaxies": counts}
    record |= {"name": "64 galaxies of mine", "signature": "", "left_out": {}, "gone_classes": {}}
    write_json(results / "selection" / "data.json", record)
    rows = "".join(f"{row},{row % 8},{(row - 1) % 8}\n" for row in range(16))
    for key in MODELS[:3]:
        run = metrics_of(key, profile="demo", data=record["name"], epochs=3, best_epoch=2)
        run |= {"test_galaxies": 16, "class_test_galaxies": [2] * 8}
        folder = save_run(results, run, max_epoch=3).parent
        write_json(folder / "params.json", read_json(folder / "params.json") | RECORD)
        write_text(folder / "predictions.csv", f"GalaxyID,class,pred\n{rows}")
        write_text(folder / "history.csv", HISTORY)
    kernel = Mock(user_ns={"In": [""] * 6})  # in a notebook's fifth cell
    for name in ("fig2", "fig3", "fig10_other", "class_composition", "reliability"):
        figure = Figure((4, 2))
        figure.subplots().plot([0, 1])
        describe(figure, f"A line, drawn for <{name}> & tests.")
        with patch("gz2vit.plots.style.get_ipython", return_value=kernel):
            save_figure(figure, results / "figures" / name)
    write_text(results / "tables" / "verdicts.csv", VERDICTS)
    write_notebook(results, "07_linformer", "# Train the Linformer")
    write_notebook(results, "17_fig3", "# Fig. 3")
    return results


class Reader(HTMLParser):
    """Collects a page's words, links, pictures and tags; complains of tags left open."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open, self.tags, self.words = [], [], ""
        self.feed(path.read_text())
        assert not self.open, self.open
        self.text = " ".join(self.words.split())

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))
        self.words += " " if tag in ("dt", "dd", "td", "th") else ""
        if tag not in ("meta", "link", "img", "wbr", "br", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data if "style" not in self.open else ""

    def all(self, tag: str) -> list[dict]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture
def results(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "results" / "demo")


def read(results: Path, **seeds: list[int]) -> Reader:
    return Reader(page.write_report(results, MODELS, seeds))


@pytest.fixture(scope="module")
def reader(made: Path) -> Reader:
    return read(made)


def test_it_says_what_was_run_on_what_beside_the_papers_values(reader: Reader, tmp_path: Path):
    for words in (
        "64 galaxies of mine, profile demo", "3 of 4 trained: linformer, linformer_weighted, ",
        "32 to learn from, 16 to choose the best epoch, 16 to test on", "30.0 minutes in all",
        "torch 2.10.0", "Code 0123456789abcdef+changes", "80.55", "72.33", "2,785,416",
        "672 (Tesla T4)", "paper 93.5", "not comparable: max_epoch 3, the paper's 200",
    ):  # fmt: skip
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


def test_pictures_are_described_and_links_lead_somewhere(made: Path, reader: Reader):
    pictures, links = reader.all("img"), [one["href"] for one in reader.all("a")]
    assert len(pictures) == 5 + 3  # figures and learning curves
    for one in pictures:
        assert one["src"].startswith("data:image/png;base64,iVBOR")
        assert len(one["alt"]) > 20 and min(int(one["width"]), int(one["height"])) > 100
    alts = " ".join(one["alt"] for one in pictures)
    assert "A line, drawn for <fig3> & tests." in alts
    assert "Learning curves of linformer. Two panels with loss and accuracy over 3" in alts
    assert links.count("notebooks/17_fig3.ipynb") == 2  # fig3_paper, which is missing; the list
    assert links.count("notebooks/17_fig3.ipynb#cell-id=abc123") == 1
    assert "Drawn by 17_fig3.ipynb, cell [5]." in reader.text
    assert links.count("notebooks/07_linformer.ipynb") == 2  # its curves, the list
    assert "figures/fig3.pdf" in links and "models/vit/predictions.csv" not in links
    ids = [attrs["id"] for _, attrs in reader.tags if "id" in attrs]
    assert len(ids) == len(set(ids)) and {link[1:] for link in links if link[0] == "#"} <= {*ids}
    for link in (link for link in links if not link.startswith(("#", "https://"))):
        assert (made / link.partition("#")[0]).is_file(), link
    text = (made / "report.html").read_text()
    assert not reader.all("script") and "@import" not in text and "url(" not in text
    assert len(text) < 3e6 and page.write_report(made, MODELS).read_text() == text


def test_predictions_alone_are_enough_with_the_authors_own_epochs(results: Path):
    for path in results.glob("models/*/*"):
        path.unlink() if path.name != "predictions.csv" else None
    path = results / "selection" / "data.json"
    write_json(path, read_json(path) | {"profile": "published"})
    reader = read(results)
    assert "predictions are the authors' own" in reader.text
    assert "All of them are comparable" in reader.text
    assert reader.text.count("no history of epochs") == 1  # linformer_weighted
    alts = [one["alt"] for one in reader.all("img")]
    (own,) = [one for one in alts if one.startswith("Learning curves of linformer,")]
    assert "the authors' training" in own and "over 54 epochs" in own
    assert "epoch 51, validation accuracy 0.803" in own
    assert sum(one.startswith("Learning curves of ") for one in alts) == 2  # and of resnet50


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
    # the report's own, failed and unfinished files are not linked
    for name in ("24_report", "09_resnet50.failed", ".08_vit.running"):
        write_notebook(results, name, "# x")
    write_notebook(results, "02_b", "no heading")
    titles = [link.title for link in page.find_notebooks(results, but="report")]
    assert titles == ["02_b.ipynb", "Train the Linformer", "Fig. 3"]
    for name in ("tables/.a.1.tmp.csv", "models/vit/unfinished/predictions.csv"):
        write_text(results / name, "")
    expected = [f"models/{key}/predictions.csv" for key in MODELS[:3]]
    assert page.find_files(results) == [*expected, "tables/verdicts.csv"]
    assert "Simulated and real galaxies" not in reader.text
    replaced = ["models/linformer/replaced/2026-01-02", "models/vit/seed3/replaced/2026-01-03"]
    for name in replaced:
        (results / name).mkdir(parents=True)
    line = "vit: trained with older code, commit 0123456: --retrain vit renews it"
    shutil.copytree(model := results / "models" / "resnet50", model / "seed7")
    rows = "".join(f"Pairs,c{row},not decided,The claim {row}.\n" for row in range(9))
    verdicts = f"family,claim,outcome,sentence\n{rows}One,c,supported,a <script> & `b<c`\n"
    words = "**The claim** is _not_ supported by <b>its own</b> predictions.\n\nMore.\n"
    table = "model,test_accuracy,galaxies,note\nlinformer,0.51234,12345,\nvit,,3.0,a<b\n"
    texts = {"logs/plan.txt": f"nothing to do\n{line}\n", "tables/transfer.csv": table}
    texts |= {"tables/verdict.md": words, "tables/verdicts.csv": verdicts}
    texts |= {"tables/realism.csv": "x\n" + "".join(f"{row}\n" for row in range(50))}
    for name, text in texts.items():
        write_text(results / name, text)
    write_notebook(results, "12_mine", "# <b>Mine</b> & yours")
    found = read(results, resnet50=[0, 7])
    for words in (*replaced, line, "resnet50, seed 7", "(2 seeds)", "9 not decided",
                  "The claim 8.", "<b>Mine</b> & yours", "a <script> & b<c"):  # fmt: skip
        assert words in found.text, words
    simulated = found.text.rpartition("Simulated and real galaxies")[2]
    assert "test accuracy" in simulated and "(the first 40 of 50 rows)" in simulated
    assert "linformer 0.512 12,345 – vit – 3 a<b" in simulated
    short = found.text.rpartition("In short")[2].strip()  # the verdict in plain words comes first
    assert short.startswith("The claim is not supported by <b>its own</b> predictions.")
    assert found.all("details") == [{}, {"open": None}]  # a long list is folded under its sum
    assert not found.all("script") and not found.all("b")


DAMAGE = {"models/linformer/history.csv": "epoch\n", "figures/fig3.png": "not a picture"}
DAMAGE |= {"tables/verdicts.csv": "outcome,sentence\na,b\n", "tables/transfer.csv": ""}
DAMAGE |= {"notebooks/17_fig3.ipynb": "{"}


@pytest.mark.parametrize(("name", "text"), DAMAGE.items())
def test_damaged_files_are_named(results: Path, name: str, text: str):
    (results / name).write_text(text)
    with pytest.raises(Gz2vitError, match=f"{name} .*delete it"):
        page.write_report(results, MODELS)


def test_pictures_come_in_order_and_others_under_their_names(tmp_path: Path):
    missing = [one for own in page.find_pictures(tmp_path).values() for one in own]
    expected = [one.name for one in FIGURES if one.written == "expected"]
    assert [one.name for one in missing] == expected
    assert all("--only " in one.missing and not one.source for one in missing)
    names = ("zebra_crossing", "fig5_b10", "fig5_b2", "fig2", ".fig1.123.tmp", "fig5_A")
    noise = np.random.default_rng(0).integers(0, 255, (100, 2400, 3), dtype=np.uint8)
    pixels = dict.fromkeys(names, noise[:20, :40]) | {"fig1": 0 * noise, "fig3": noise}
    write_text(tmp_path / "figures" / "fig2.pdf", "")
    for name, own in pixels.items():
        Image.fromarray(own).save(tmp_path / "figures" / f"{name}.png")
    sections = page.find_pictures(tmp_path)
    there = {one.name: one for one in sections["paper"] if one.source}
    assert [*there] == ["fig1", "fig2", "fig3", "fig5_A", "fig5_b2", "fig5_b10"]
    two = there["fig2"]
    assert (two.width, two.height, two.alt) == (40, 20, two.caption)
    assert two.links == ["figures/fig2.png", "figures/fig2.pdf"]
    for name in ("fig1", "fig3"):  # embedded smaller where that is shorter
        png = base64.b64decode(there[name].source.partition(",")[2])
        assert len(png) <= (tmp_path / "figures" / f"{name}.png").stat().st_size
        assert (there[name].width, there[name].height) == (2400, 100)
    assert Image.open(io.BytesIO(png)).size == (1600, 67)
    (other,) = sections["inside"]
    assert (other.title, other.alt) == ("Zebra crossing", "The figure zebra_crossing.")
    assert [one.name for one in sections["data"]] == ["class_composition"]
    # a frame that says why nothing is drawn becomes words
    data = {"profile": "demo", "name": "5 galaxies of mine", "simulated": False}
    figure = draw_missing("Fig. 4", "there are no sizes; run `./run_all.sh`", data)
    save_figure(figure, tmp_path / "figures" / "fig4")
    (found,) = [one for one in page.find_pictures(tmp_path)["paper"] if one.name == "fig4"]
    assert found.missing == "Fig. 4 is not drawn: there are no sizes; run `./run_all.sh`."
    assert not found.source and found.links == ["figures/fig4.png", "figures/fig4.pdf"]


# So many models, not trained, that the tables are wider than any window.
MANY = [*MODELS, *(f"convnext{number}" for number in range(20))]
SIZES = "Array.from(document.images, i => [i.naturalWidth, i.naturalHeight, i.width, i.height])"
RIGHTMOST = """Math.max(...Array.from(document.querySelectorAll('body *'))
    .filter(one => !one.closest('.wide, .picture') && getComputedStyle(one).position !== 'absolute')
    .map(one => one.getBoundingClientRect().right))"""
GAPS = """Array.from(document.querySelectorAll('.cards td .whole'), one => {
    const range = document.createRange();
    range.selectNode(one.previousSibling);
    const [value, interval] = [range, one].map(each => each.getBoundingClientRect());
    return value.top < interval.top - 2 ? 0 : interval.left - value.right; })"""
EMPTY = "Array.from(document.querySelectorAll('.cards td.none'), one => one.offsetHeight)"
FONTS = """Array.from(document.querySelectorAll('p, td, th, dd, li, figcaption'),
    one => parseFloat(getComputedStyle(one).fontSize))"""


@pytest.fixture(scope="module")
def browser(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple]:
    with open_browser() as opened:
        results = shutil.copytree(made, tmp_path_factory.mktemp("wide") / "results" / "demo")
        yield opened, page.write_report(results, MANY).as_uri()


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_in_a_browser_and_on_paper_it_fits_and_asks_no_one(browser: tuple, viewport: dict):
    options = {"offline": True, "java_script_enabled": viewport == DESKTOP}
    opened, address = browser[0].new_context(viewport=viewport, **options).new_page(), browser[1]
    asked, complaints = [], []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("console", lambda message: complaints.append(message.text))
    opened.goto(address)
    assert [url for url in asked if not url.startswith("data:")] == [address] and not complaints
    assert opened.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    assert opened.evaluate(RIGHTMOST) <= viewport["width"] + 0.5
    assert len(sizes := opened.evaluate(SIZES)) == 8
    for *natural_px, width_px, height_px in sizes:
        # On a phone a wide picture slides sideways in its frame, no wider than 40 rem.
        assert natural_px[0] > 100 and 100 < width_px <= max(viewport["width"], 640)
        assert width_px / height_px == pytest.approx(natural_px[0] / natural_px[1], rel=0.02)
    gaps, empty = opened.evaluate(GAPS), opened.evaluate(EMPTY)
    assert gaps and max(gaps) < 12  # a value is beside its interval
    assert empty and (max(empty) == 0) == (viewport == PHONE)
    assert min(opened.evaluate(FONTS)) >= 12
    assert "How to cite" in opened.inner_text("main")
    assert opened.pdf(format="A4").startswith(b"%PDF")
    opened.emulate_media(media="print")
    assert not opened.locator("nav").is_visible()
    assert opened.locator("#figure-fig3 img").is_visible()
