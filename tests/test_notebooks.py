"""Every notebook as a reader runs it: with its own parameters, in order, on a tiny subset.

The notebooks are copied into an empty folder, so that their relative paths (`../results/smoke`)
stay clear of the project's own results.
"""

import copy
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pytest
import torch
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from gz2vit.images import open_split
from gz2vit.lab import make_lab
from gz2vit.plots import training_figures
from gz2vit.recover_rule import hide_rule
from gz2vit.training import build_network, train_model
from gz2vit.votes import derive_classes, read_rule
from tests.trained_run import SETTINGS
from tests.vote_catalogues import make_votes_home, random_votes

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("data_preprocess", "notebooks", "figures")
EXPLORER = ROOT / "notebooks" / "explore_galaxies.ipynb"  # no step: it shows a finished run
NOTEBOOKS = sorted(
    (path for folder in FOLDERS for path in (ROOT / folder).glob("[0-9]*.ipynb")),
    key=lambda path: path.name,
)
# The first asks the network (test_published.py runs it); the second's own parameters' galaxies are
# simulated (test_run_all.py runs it).
NEEDS_MORE = ("04", "23")
# The step that makes what a notebook misses when it is opened first of all.
FIRST_MISSING = {"05": "simulate", "06": "select", "07": "select", "17": "linformer"}


def copy_notebooks(target: Path) -> list[Path]:
    """All notebooks in their folders below `target`; those that a test runs there, in order."""
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, target / folder, ignore=shutil.ignore_patterns(".*"))
    books = [path for path in NOTEBOOKS if not path.name.startswith(NEEDS_MORE)]
    return [target / path.relative_to(ROOT) for path in books]


def run(*words: object) -> None:
    """Run `python -m ...`; its output is the failure's message."""
    command = [sys.executable, "-m", *map(str, words)]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stdout[-4000:] + outcome.stderr[-4000:]


def test_a_published_selection_is_compared_and_its_rule_found(tmp_path: Path):
    """Votes, file map and label tables as a download leaves them, with a rule nobody knows."""
    votes = random_votes(4000, seed=12)
    lost = hide_rule(2, votes)
    home = make_votes_home(tmp_path / "gz2", votes, lost)
    results = tmp_path / "results" / "paper"
    (results / "notebooks").mkdir(parents=True)
    places = ("-p", "DATA_DIR", home, "-p", "RESULTS_DIR", results)
    for step, name in (("labels", "02_derive_labels"), ("recover", "03_recover_rule")):
        book = ROOT / "data_preprocess" / f"{name}.ipynb"
        output = results / "notebooks" / f"{name[:2]}_{step}.ipynb"
        run("papermill", book, output, *places, "--cwd", book.parent)
    assert (results / "figures" / "label_agreement.pdf").stat().st_size > 0
    found = read_rule(results / "labels" / "recovered_rule.yaml")
    assert (derive_classes(votes, found) == derive_classes(votes, lost)).all()


@pytest.mark.parametrize("number", FIRST_MISSING)
def test_opened_too_early_it_says_which_step_is_missing(number: str, tmp_path: Path):
    (path,) = [path for path in NOTEBOOKS if path.name.startswith(number)]
    (tmp_path / path.parent.name).mkdir()
    book = nbformat.read(path, as_version=4)
    client = NotebookClient(book, resources={"metadata": {"path": tmp_path / path.parent.name}})
    with pytest.raises(CellExecutionError) as caught:
        client.execute()
    assert caught.value.ename == "Gz2vitError"
    assert f"`./run_all.sh smoke --only {FIRST_MISSING[number]}`" in caught.value.evalue
    failed = [cell for cell in book.cells if cell.get("outputs") and cell.outputs[-1].get("ename")]
    assert len(failed[0].outputs[-1].traceback) == 1, "one line, no traceback"


@pytest.mark.parametrize("name", ["07_train_linformer", "09_train_resnet50", "11_train_hf_vit"])
def test_what_a_page_shows_of_training_leaves_the_training_alone(name: str, trained_run: Path):
    """Its batch, its step and what is special: the network's bits and torch's numbers stay."""
    cells = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells
    page: dict = {"display": print}
    for cell in (cell for cell in cells if cell.cell_type == "code"):
        if cell.source.startswith("authors = published_history"):
            break
        before = copy.deepcopy(page["network"]) if "network" in page else None
        numbers = torch.get_rng_state()
        exec(cell.source, page)
        plt.close("all")
        if "RESULTS_DIR =" in cell.source:
            page["RESULTS_DIR"] = str(trained_run)
        if before and "summary(" not in cell.source:  # which draws an image
            assert torch.equal(numbers, torch.get_rng_state()), cell.source
            after = page["network"].state_dict()
            assert all(torch.equal(one, after[key]) for key, one in before.state_dict().items())
    assert page["table"].shape[0] >= 2


def test_curves_grow_where_somebody_watches(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class FrontEnd:
        """A kernel, and the display of the page that sends it cells to run."""

        drawn: list = []

        def get_parent(self, channel: str) -> dict:
            return {"content": {"allow_stdin": True}}

        def show(self, picture: object, display_id: bool = False) -> "FrontEnd":
            self.drawn.append(picture.data)
            return self

        update, kernel = show, property(lambda self: self)

    front_end = FrontEnd()
    monkeypatch.setattr(training_figures, "display", front_end.show)
    for watched in (None, front_end):
        assert not front_end.drawn
        monkeypatch.setattr(training_figures, "get_ipython", lambda watched=watched: watched)
        splits = [open_split(trained_run, split) for split in ("train", "valid")]
        model_dir = tmp_path / str(bool(watched))
        callbacks = [training_figures.LiveCurve()]
        train_model(build_network(SETTINGS), SETTINGS, *splits, model_dir, callbacks=callbacks)
    assert len(set(front_end.drawn)) == len(front_end.drawn) == SETTINGS.max_epoch


def test_the_lab_has_the_parameters_of_the_run_and_keeps_what_a_user_edits(tmp_path: Path):
    source = ROOT / "notebooks" / "07_train_linformer.ipynb"
    executed = tmp_path / "notebooks" / "07_linformer_weighted.ipynb"
    executed.parent.mkdir()

    def parameters_of(name: str) -> str:
        cells = nbformat.read(tmp_path / "lab" / name, as_version=4).cells
        return next(cell.source for cell in cells if cell.metadata.get("tags") == ["parameters"])

    def made_with(**parameters: object) -> list[str]:
        book = nbformat.read(source, as_version=4)
        book.metadata["papermill"] = {"input_path": str(source), "parameters": parameters}
        nbformat.write(book, executed)
        return make_lab(tmp_path)[1]

    assert made_with(RESULTS_DIR="/elsewhere", DEPTH=5, CLASS_WEIGHTS="tuned") == []
    page = parameters_of("07_linformer_weighted.ipynb")
    assert f"RESULTS_DIR = {str(tmp_path)!r}  # where" in page, "a folder that was moved"
    assert "DEPTH = 5  # layers" in page
    assert "CLASS_WEIGHTS: str | list = 'tuned'  # uniform" in page
    assert f"RESULTS_DIR = {str(tmp_path)!r}" in parameters_of("00_start_here.ipynb")
    assert made_with(DEPTH=6) == []
    assert "DEPTH = 6  # layers" in parameters_of("07_linformer_weighted.ipynb")
    mine = tmp_path / "lab" / "07_linformer_weighted.ipynb"
    book = nbformat.read(mine, as_version=4)
    book.cells[-1].source += "  # mine"
    nbformat.write(book, mine)
    before = mine.read_bytes()
    assert made_with(DEPTH=7) == ["07_linformer_weighted.ipynb"]
    assert mine.read_bytes() == before
