"""The report: what stands on the page, what is missing and said so, and that it needs no one."""

import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from gz2vit import report as page
from gz2vit.io import Gz2vitError
from gz2vit.results_table import results_table
from tests.unit.saved_runs import metrics_of, save_run
from tests.unit.small_report import MODELS, make_report_folder, write_notebook


class Reader(HTMLParser):
    """Collects a page's words, links, pictures and tags; complains of tags left open."""

    EMPTY = ("meta", "link", "img", "wbr", "br", "hr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.words = ""
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))
        self.words += " " if tag in ("dt", "dd", "td", "th") else ""
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words += data

    def all(self, tag: str) -> list[dict]:
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join(self.words.split())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_report_folder(tmp_path_factory.mktemp("report"))


@pytest.fixture
def results(made: Path, tmp_path: Path) -> Path:
    """A copy to change; the data folder stays where it is."""
    return shutil.copytree(made, tmp_path / "results" / "demo")


@pytest.fixture(scope="module")
def reader(made: Path) -> Reader:
    """The page of all that the folder has."""
    return read(made)


def read(results: Path, models: list[str] = MODELS, **seeds: list[int]) -> Reader:
    path = page.write_report(results, models, seeds)
    assert path == results / "report.html"
    return Reader(path.read_text())


def test_it_says_what_was_run_on_what(reader: Reader):
    text = reader.text
    assert "64 galaxies of mine, profile demo" in text
    assert "32 to learn from, 16 to choose the best epoch, 16 to test on" in text
    assert "3 of 4 trained: linformer, linformer_weighted, resnet50" in text
    assert "30.0 minutes in all, on cpu" in text  # three runs of 600 s
    assert "torch 2.10.0" in text
    assert "Code 0123456789ab with changes" in text


def test_it_has_the_tables_with_the_papers_values(reader: Reader):
    text = reader.text
    for words in ("80.55", "72.33", "2,785,416", "672 (Tesla T4)", "paper 93.5"):
        assert words in text
    assert "not comparable: 3 epochs at most, the paper's 200" in text
    assert len(reader.all("table")) == 5
    assert "not trained: ./run_all.sh demo --only vit" in text


def test_the_best_model_stands_first(reader: Reader):
    short = reader.text.partition("In short")[2].partition("What was run")[0]
    assert "The best of 3 models is resnet50: 85.6 [" in short
    assert "linformer: 80.5 [" in short and "% here, 80.55 % in the paper" in short
    assert "None of them is comparable" in short
    assert "Fig. 4: 1 supported, 1 not decided. Accuracy: 1 contradicted." in short


def test_models_that_are_equally_good_are_all_named(tmp_path: Path):
    for key in ("linformer", "resnet50", "vgg16_bn"):
        save_run(tmp_path, metrics_of(key, accuracy=0.5 if key == "vgg16_bn" else 0.75))
    told = page.in_short(results_table(tmp_path, ["linformer", "resnet50", "vgg16_bn"]))
    assert told[0].startswith("The best of 3 models are, equally, `linformer` and `resnet50`: 75.0")


def test_every_picture_is_in_the_file_and_told_in_words(reader: Reader):
    pictures = reader.all("img")
    assert len(pictures) == 5 + 3  # figures and learning curves
    for one in pictures:
        assert one["src"].startswith("data:image/png;base64,iVBOR")
        assert len(one["alt"]) > 20
        assert int(one["width"]) > 100 and int(one["height"]) > 100
    alts = [one["alt"] for one in pictures]
    assert "A line, drawn for <fig3> & tests." in alts
    assert any(
        alt.startswith("Learning curves of linformer. Two panels with loss and accuracy over 3")
        and "training loss from 2 to 1.25" in alt
        and "Best epoch: 2, validation accuracy 0.450." in alt
        for alt in alts
    )


def test_what_is_missing_is_said_in_its_place(reader: Reader):
    text = reader.text
    assert "makes it; run ./run_all.sh demo --only fig1" in text
    assert "the data folder has no galaxy_properties.csv" in text
    assert "makes it; run ./run_all.sh demo --only fig5" in text
    assert "Not trained yet; run ./run_all.sh demo --only vit" in text


def test_simulated_beside_real_galaxies_have_a_section_where_there_is_something(results: Path):
    assert "Simulated and real galaxies" not in read(results).text
    (results / "tables" / "transfer.csv").write_text("model,accuracy\nlinformer,0.51234\n")
    shutil.copy(results / "figures" / "fig2.png", results / "figures" / "realism_gallery.png")
    reader = read(results)
    shown = reader.text.rpartition("Simulated and real galaxies")[2].partition("Learning curves")[0]
    assert "Simulated beside real galaxies" in shown
    assert "linformer 0.512" in shown
    assert "#simulated" in [one["href"] for one in reader.all("a")]


def test_without_verdicts_it_says_how_to_have_them(results: Path):
    (results / "tables" / "verdicts.csv").unlink()
    text = read(results).text
    assert "No verdicts yet" in text
    assert "run ./run_all.sh demo --only evidence" in text
    assert "claims that were weighed" not in text
    assert page.weighed({}) == {}


def test_a_long_list_of_verdicts_is_folded_under_its_sum(results: Path):
    rows = "".join(f"Pairs,c{row},not decided,The claim {row}.\n" for row in range(9))
    table = f"family,claim,outcome,sentence\n{rows}One,c,supported,The claim is.\n"
    (results / "tables" / "verdicts.csv").write_text(table)
    reader = read(results)
    assert reader.all("details") == [{}, {"open": None}]
    assert "9 not decided" in reader.text
    assert "The claim 8." in reader.text


def test_with_nothing_but_a_selection_there_is_still_a_report(results: Path):
    for name in ("models", "figures", "tables", "notebooks"):
        shutil.rmtree(results / name)
    reader = read(results)
    assert "No model is trained yet" in reader.text
    assert reader.text.count("Not trained yet; run") == len(MODELS)
    assert not reader.all("img")
    assert "run ./run_all.sh demo --only fig2" in reader.text


def test_without_a_selection_it_says_which_step_to_run(tmp_path: Path):
    with pytest.raises(Gz2vitError, match="--only select"):
        page.write_report(tmp_path / "results" / "demo", MODELS)


def test_it_asks_no_one_for_anything(made: Path, reader: Reader):
    assert not reader.all("script")
    assert all(one["href"] == "data:," for one in reader.all("link"))
    text = (made / "report.html").read_text()
    assert "@import" not in text and "url(" not in text
    assert (made / "report.html").stat().st_size < 3e6


def test_every_link_leads_somewhere(made: Path, reader: Reader):
    targets = {attrs["id"] for _, attrs in reader.tags if "id" in attrs}
    links = [one["href"] for one in reader.all("a")]
    for link in links:
        if link.startswith("#"):
            assert link[1:] in targets
        elif not link.startswith("https://"):
            assert (made / link).is_file(), link
    assert "notebooks/03_linformer.ipynb" in links
    assert "figures/fig3.pdf" in links
    assert len([attrs for _, attrs in reader.tags if "id" in attrs]) == len(targets)


def test_its_own_and_failed_notebooks_are_not_linked(results: Path):
    write_notebook(results, "17_report", "# The report")
    write_notebook(results, "05_resnet50.failed", "# Train")
    write_notebook(results, ".04_vit.running", "# Train")
    links = [one["href"] for one in read(results).all("a")]
    assert [link for link in links if link.startswith("notebooks/")] == [
        "notebooks/03_linformer.ipynb"
    ]


def test_further_seeds_have_curves_of_their_own(results: Path):
    model = results / "models" / "resnet50"
    shutil.copytree(model, results / "models" / "new" / "7")
    shutil.move(results / "models" / "new" / "7", model / "seeds" / "7")
    text = read(results, resnet50=[0, 7]).text
    assert "resnet50, seed 7" in text
    assert "(2 seeds)" in text


def test_damaged_files_are_named_with_what_to_do(results: Path):
    history = results / "models" / "linformer" / "history.csv"
    kept = history.read_text()
    for text in ("", "epoch\n", "epoch,valid_acc\nx,y\n"):
        history.write_text(text)
        with pytest.raises(Gz2vitError, match="history.csv is not whole .*; delete it and run"):
            page.write_report(results, MODELS)
    history.write_text(kept)
    (results / "figures" / "fig3.png").write_text("no picture")
    with pytest.raises(Gz2vitError, match="fig3.png is no picture .*; delete it"):
        page.write_report(results, MODELS)


def test_names_from_files_are_shown_as_they_are(results: Path):
    write_notebook(results, "08_mine", "# <b>Mine</b> & yours")
    path = results / "tables" / "verdicts.csv"
    path.write_text("family,claim,outcome,sentence\nF,c,supported,a <script> & `b<c`\n")
    reader = read(results)
    assert "<b>Mine</b> & yours" in reader.text
    assert "a <script> & b<c" in reader.text
    assert not reader.all("script") and not reader.all("b")


def test_the_same_run_gives_the_same_report(made: Path):
    page.write_report(made, MODELS)
    first = (made / "report.html").read_bytes()
    page.write_report(made, MODELS)
    assert (made / "report.html").read_bytes() == first
