"""`./run_all.sh smoke`, whole, and what users do to a finished results folder afterwards."""

import json
import os
import re
import shutil
import statistics
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from gz2vit.archive import write_archive
from gz2vit.catalog import SIMULATION_RECORD
from gz2vit.io import MODEL_FILES
from tests.run_all import error_line, run_all, steps_started
from tests.test_notebooks import EXPLORER, copy_notebooks, run

MODELS = (
    *("linformer", "linformer_weighted", "vit", "resnet50", "vgg16_bn", "hf_vit"),
    *("hf_vit_weighted", "convnext"),
)
OTHERS = (
    *("simulate", "select", "pack", "labels", "recover", "attention", "features"),
    *("fig1", "fig2", "fig3", "fig4", "fig5", "evidence", "table", "report", "realism"),
)
LATIN = {"PYTHONIOENCODING": "latin-1", "SNAKEMAKE_PROFILE": "/nowhere", "PYTHONPATH": "/nowhere"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder after every step, run with a terminal and settings that get in the way."""
    results = tmp_path_factory.mktemp("run") / "results" / "smoke"
    outcome = run_all("smoke", "--results", results, "--jobs", 2, **LATIN)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert steps_started(outcome) == sorted((*MODELS, *OTHERS))
    assert "[linformer] epoch   2/2  train loss " in outcome.stdout
    assert re.search(r"24 of 24 steps to run, about \d+ (s|min) here\n", outcome.stdout)
    counted = re.findall(r"^\[(\d+) of 24\] \w+ done in \d+ s(, about)?", outcome.stdout, re.M)
    assert [int(number) for number, _ in counted] == list(range(1, 25))
    assert [bool(left) for _, left in counted] == [True] * 23 + [False]
    return results


def test_every_file_of_the_contract_is_there(finished: Path):
    for key in MODELS:
        assert {path.name for path in (finished / "models" / key).iterdir()} == set(MODEL_FILES)
    figures = {path.stem for path in (finished / "figures").glob("*.png")}
    assert figures >= {
        *("fig1", "fig2", "fig3", "fig3_paper", "fig4_paper", "fig5_A", "fig5_B"),
        *("class_composition", "decision_path", "attention_checks", "features_umap"),
        *("realism_gallery", "realism_distributions", "realism_distances"),
    }
    for name in figures:
        assert (finished / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        with Image.open(finished / "figures" / f"{name}.png") as image:
            assert image.width > 1000
    for name in ("fig4", "fig4_verdicts", "evidence", "verdicts", "realism", "realism_galaxies"):
        assert len(pd.read_csv(finished / "tables" / f"{name}.csv"))
    for name in ("tables/results.md", "report.html", "notebooks/07_linformer_weighted.ipynb"):
        assert (finished / name).stat().st_size > 1000
    for name in ("07_linformer", "17_fig3", "19_fig5"):
        assert '"image/png"' in (finished / "notebooks" / f"{name}.ipynb").read_text(), name
    assert not [path for path in finished.rglob(".*tmp*")]
    # The two Linformers differ in their class weights only.
    uniform, tuned = (
        json.loads((finished / "models" / key / "params.json").read_text())
        for key in ("linformer", "linformer_weighted")
    )
    assert uniform["class_weights"] == [1.0] * 8
    assert tuned["class_weights"][7] == pytest.approx(3.23, abs=0.01)
    parameters = uniform["parameters"].items()
    changed = {name for name, value in parameters if tuned["parameters"][name] != value}
    assert changed == {"model_key", "class_weights"}


def test_the_notebooks_run_in_order_by_themselves(finished: Path, tmp_path: Path):
    """With their own parameters, which are those of the run: what is trained is not trained again.

    A copy beside copied notebooks; the Linformer is trained, and later some models are missing.
    """
    results = tmp_path / "results" / "smoke"
    shutil.copytree(finished, results, copy_function=os.link)
    for name in ("models/linformer", "selection", "attention", "features", "figures", "tables"):
        shutil.rmtree(results / name)
    kept = results / "models" / "resnet50" / "best.ckpt"
    before = kept.stat().st_mtime_ns
    options = ("-p", "no:cacheprovider", "-q", f"--rootdir={tmp_path}")
    books = copy_notebooks(tmp_path)
    training = [book for book in books if "_train_" in book.name or book.name[:2] < "07"]
    run("pytest", "--nbmake", *options, *training)
    assert kept.stat().st_mtime_ns == before
    for key in ("vit", "vgg16_bn", "hf_vit_weighted", "convnext"):
        shutil.rmtree(results / "models" / key)
    run("pytest", "--nbmake", *options, *[book for book in books if book not in training])
    explored = results / "notebooks" / "explored.ipynb"
    run("papermill", EXPLORER, explored, "-p", "RESULTS_DIR", results, "--cwd", EXPLORER.parent)
    assert "4 networks" in explored.read_text()
    for name in (
        "fig3",
        "fig5_A",
        "fig5_B",
        "attention_models",
        "attention_checks",
        "features_umap",
    ):
        assert (results / "figures" / f"{name}.pdf").stat().st_size > 0
    assert "not comparable" in (results / "tables" / "results.md").read_text()


def test_an_archive_draws_the_same_and_trains_nothing(finished: Path, tmp_path: Path):
    write_archive(finished, tmp_path / "smoke.zip")
    results = tmp_path / "results" / "smoke"
    outcome = run_all("smoke", "--from", tmp_path / "smoke.zip", "--results", results, "--jobs", 2)
    drawn = ["evidence", *(f"fig{number}" for number in range(1, 6)), "report", "table"]
    assert steps_started(outcome) == drawn, outcome.stdout + outcome.stderr
    for path in (finished / "tables").iterdir():
        assert (results / "tables" / path.name).read_bytes() == path.read_bytes(), path.name
    for path in (finished / "figures").glob("*.png"):
        with Image.open(path) as first, Image.open(results / "figures" / path.name) as second:
            assert first.tobytes() == second.tobytes(), path.name
    assert not (results / "models" / "linformer" / "best.ckpt").exists()
    again = run_all("--results", results, "--set", "linformer.LR=1e-3")
    assert "linformer" in error_line(again)


def test_a_second_run_a_moved_folder_and_stray_files_change_nothing(finished: Path, tmp_path: Path):
    before = {path: path.stat().st_mtime_ns for path in finished.glob("models/*/*")}
    (finished / "data" / ".DS_Store").write_text("x")
    outcome = run_all("smoke", "--results", finished)
    assert "nothing to do" in outcome.stdout, outcome.stdout + outcome.stderr
    assert before == {path: path.stat().st_mtime_ns for path in finished.glob("models/*/*")}
    moved = shutil.copytree(finished, tmp_path / "X")  # as `cp -r`
    assert "nothing to do" in run_all("--results", moved).stdout


def test_a_further_seed_is_a_step_and_the_table_has_mean_and_spread(finished: Path):
    """What is trained already is not trained again, and the setting is remembered."""
    outcome = run_all("smoke", "--results", finished, "--jobs", 2, "--set", "resnet50.SEEDS=[0,1]")
    assert steps_started(outcome) == ["report", "resnet50_seed1", "table"], outcome.stdout
    runs = [finished / "models" / "resnet50" / run for run in ("", "seed1")]
    values = [json.loads((run / "metrics.json").read_text())["accuracy"] for run in runs]
    losses = [pd.read_csv(run / "history.csv").train_loss[0] for run in runs]
    assert losses[0] != losses[1]
    table = pd.read_csv(finished / "tables" / "results.csv")
    row = table[(table.model == "resnet50") & (table.quantity == "accuracy")].iloc[0]
    expected = [statistics.mean(values), statistics.stdev(values), 2]
    assert [row.ours, row.spread, row.seeds] == pytest.approx(expected)
    assert "nothing to do" in run_all("smoke", "--results", finished).stdout


def test_one_parameter_trains_that_model_and_keeps_the_old_one(finished: Path):
    best = finished / "models" / "linformer_weighted" / "best.ckpt"
    old = best.read_bytes()
    words = ("smoke", "--results", finished, "--only", "fig3")
    outcome = run_all(*words, "--set", "linformer_weighted.GAMMA=0.8")
    assert steps_started(outcome) == ["fig3", "linformer_weighted"], outcome.stderr
    (kept,) = (best.parent / "replaced").iterdir()
    assert (kept / "best.ckpt").read_bytes() == old
    # Forgotten, the option stays; a failing successor costs nothing and can be taken back.
    assert "nothing to do" in run_all(*words).stdout
    new = best.read_bytes()
    error_line(run_all(*words, "--set", "linformer_weighted.LR=1e30"))
    assert best.read_bytes() == new
    for more in (["--set", "linformer_weighted.LR=default"], []):
        assert "linformer_weighted" not in steps_started(run_all(*words, *more))
    assert best.read_bytes() == new
    # Another seed trains on the same galaxies.
    words = ("smoke", "--results", finished, "--plan", "--only", "vit", "--set", "SEED=1")
    outcome = run_all(*words, "resnet50.SEEDS=default")
    assert [line.split()[0] for line in outcome.stdout.splitlines()[1:-1]] == ["vit"]
    assert steps_started(outcome) == []


def test_transfer_needs_real_galaxies_and_is_measured_with_them(finished: Path, tmp_path: Path):
    assert "--data" in error_line(run_all("smoke", "--results", finished, "--only", "transfer"))
    data = shutil.copytree(finished / "data", tmp_path / "mine")
    (data / SIMULATION_RECORD).unlink()  # so that they stand for real ones
    words = ("smoke", "--data", data, "--results", tmp_path / "out", "--only")
    outcome = run_all(*words, "transfer", "realism", "--set", "transfer.SIMULATED_GALAXIES=24")
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    table = pd.read_csv(tmp_path / "out" / "tables" / "transfer.csv", keep_default_na=False)
    assert set(table.arm) == {"largest_class", "simulated", "real", "fine_tuned"}
    assert pd.read_csv(tmp_path / "out" / "tables" / "realism.csv").real.min() > 0
    # The second call remembers the data.
    assert "nothing to do" in run_all("smoke", "--results", words[4], "--only", "realism").stdout
