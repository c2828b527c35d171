"""The whole road at `smoke`, by the command of the README, and what a second command changes."""

import json
import re
import shutil
import statistics
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from gz2vit.io import MODEL_FILES
from tests.road import last_line, run_all, steps_started

MODELS = (
    *("linformer", "linformer_weighted", "vit", "resnet50", "vgg16_bn", "hf_vit"),
    *("hf_vit_weighted", "convnext"),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder after the whole road, side by side where steps allow it."""
    results = tmp_path_factory.mktemp("road") / "results" / "smoke"
    outcome = run_all("smoke", "--results", results, "--jobs", 2)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    told = ["simulate", "select", "pack", *MODELS, "fig2", "fig3", "table", "labels", "recover"]
    told += ["fig1", "fig4", "evidence", "report", "attention", "features", "fig5", "realism"]
    assert steps_started(outcome) == sorted(told)
    assert "[linformer] epoch   2/2  train loss " in outcome.stdout
    assert re.search(r"^\[linformer\] done in \d+ s$", outcome.stdout, re.MULTILINE)
    return results


def test_every_file_of_the_contract_is_there(finished: Path):
    for key in MODELS:
        for name in MODEL_FILES:
            assert (finished / "models" / key / name).stat().st_size > 0
    for name in (
        "fig1",
        "fig2",
        "fig3",
        "fig3_paper",
        "class_composition",
        "decision_path",
        "label_agreement",
        "fig5_A",
        "fig5_B",
        "attention_checks",
        "attention_models",
        "features_umap",
        "realism_gallery",
        "realism_distributions",
        "realism_distances",
    ):
        assert (finished / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        with Image.open(finished / "figures" / f"{name}.png") as image:
            assert image.width > 1000
    assert {path.suffix for path in (finished / "tables").iterdir()} == {".md", ".csv", ".tex"}
    for name in ("fig4", "fig4_verdicts", "evidence", "verdicts", "realism", "realism_galaxies"):
        assert len(pd.read_csv(finished / "tables" / f"{name}.csv"))
    books = sorted(path.name for path in (finished / "notebooks").glob("*.ipynb"))
    assert books[0] == "00_simulate.ipynb"
    assert "03_linformer_weighted.ipynb" in books
    assert not [path for path in finished.rglob(".*tmp*")]


def test_the_two_linformers_differ_in_their_class_weights_only(finished: Path):
    uniform, tuned = (
        json.loads((finished / "models" / key / "params.json").read_text())
        for key in ("linformer", "linformer_weighted")
    )
    assert uniform["class_weights"] == [1.0] * 8
    assert tuned["class_weights"][7] == pytest.approx(3.23, abs=0.01)
    changed = {
        name for name, value in uniform["parameters"].items() if tuned["parameters"][name] != value
    }
    assert changed == {"model_key", "class_weights"}


def test_a_second_run_does_nothing_and_says_so(finished: Path):
    before = {path: path.stat().st_mtime_ns for path in finished.glob("models/*/*")}
    outcome = run_all("smoke", "--results", finished)
    assert outcome.returncode == 0
    assert outcome.stdout.strip() == f"nothing to do: {finished} is up to date (24 steps)"
    assert before == {path: path.stat().st_mtime_ns for path in finished.glob("models/*/*")}


def test_a_deleted_file_is_made_again(finished: Path):
    for name in ("figures/fig2.png", "tables/results.md"):
        (finished / name).unlink()
    outcome = run_all("smoke", "--results", finished)
    assert steps_started(outcome) == ["fig2", "report", "table"]
    assert (finished / "figures" / "fig2.png").exists()


def test_a_further_seed_is_a_step_and_the_table_has_mean_and_spread(finished: Path):
    """The first seed is the notebook's own, so that what is trained already is not trained anew."""
    outcome = run_all(
        "smoke", "--results", finished, "--jobs", 2, "--set", "resnet50.SEEDS=[0,1]"
    )
    assert steps_started(outcome) == ["report", "resnet50_seed1", "table"], (
        outcome.stdout + outcome.stderr
    )
    first = finished / "models" / "resnet50"
    second = first / "seeds" / "1"
    assert {path.name for path in second.iterdir()} >= set(MODEL_FILES)
    assert (finished / "notebooks" / "05_resnet50_seed1.ipynb").exists()
    records, metrics = (
        [json.loads((folder / name).read_text()) for folder in (first, second)]
        for name in ("params.json", "metrics.json")
    )
    assert [record["seed"] for record in records] == [0, 1]
    losses = [pd.read_csv(folder / "history.csv").train_loss.tolist() for folder in (first, second)]
    assert losses[0] != losses[1]
    table = pd.read_csv(finished / "tables" / "results.csv")
    for name in ("accuracy", "train_acc", "f1_macro"):
        row = table[(table.model == "resnet50") & (table.quantity == name)].iloc[0]
        values = [metric[name] for metric in metrics]
        assert row.ours == pytest.approx(statistics.mean(values))
        assert (row.spread, row.seeds) == (pytest.approx(statistics.stdev(values)), 2)
    assert set(table[table.model != "resnet50"].seeds) == {1}


def test_one_changed_parameter_runs_that_model_and_what_draws_from_it(finished: Path):
    change = ("--set", "linformer_weighted.GAMMA=0.8")
    outcome = run_all("smoke", "--results", finished, "--jobs", 2, *change)
    looks = ["attention", "features", "fig5"]  # of every model
    told = ["evidence", "fig3", "linformer_weighted", "report", "table"]
    assert steps_started(outcome) == sorted(looks + told)
    again = run_all("smoke", "--results", finished, *change)
    assert "nothing to do" in again.stdout


def test_transfer_from_simulated_galaxies_needs_real_ones(finished: Path):
    outcome = run_all("smoke", "--results", finished, "--only", "transfer")
    assert outcome.returncode == 1
    line = last_line(outcome)
    assert line.startswith("error: step 'transfer' failed in cell [")
    assert "give a folder of real galaxies with --data DIR" in line
    (finished / "notebooks" / "22_transfer.failed.ipynb").unlink()


def test_a_training_does_not_start_from_what_it_replaces(finished: Path):
    kept = finished / "models" / "linformer" / "best.ckpt"
    outcome = run_all("smoke", "--results", finished, "--set", f"linformer.WEIGHTS={kept}")
    assert outcome.returncode == 1
    assert "linformer.WEIGHTS is" in last_line(outcome)
    assert "which this training would replace" in last_line(outcome)
    assert kept.exists()


def test_fine_tuning_comes_after_what_it_starts_from(finished: Path, tmp_path: Path):
    """A model of the same run is a step that the training waits for, another one a file."""
    other = tmp_path / "linformer"
    shutil.copytree(finished / "models" / "linformer", other)
    outcome = run_all(
        *("smoke", "--results", finished, "--only", "linformer_weighted"),
        *("--set", f"linformer_weighted.WEIGHTS={other}"),
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert steps_started(outcome) == ["linformer_weighted"]
    record = json.loads((finished / "models" / "linformer_weighted" / "params.json").read_text())
    assert record["weights"]["source"] == str(other)
    own = finished / "models" / "linformer"
    outcome = run_all(
        *("smoke", "--results", finished, "--only", "linformer_weighted"),
        *("--set", f"linformer_weighted.WEIGHTS={own}", "linformer.GAMMA=0.7"),
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert re.findall(r"^\[(\w+)\] \S+\.ipynb starts$", outcome.stdout, re.MULTILINE) == [
        "linformer",
        "linformer_weighted",
    ]
