"""The whole road at `smoke`, by the command of the README, and how it takes what goes wrong."""

import json
import os
import re
import shutil
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from gz2vit.catalog import SIMULATION_RECORD
from gz2vit.results import MODEL_FILES
from gz2vit.simulation import simulate
from tests.unit.folders import make_folder

ROOT = Path(__file__).resolve().parents[1]
MODELS = (
    *("linformer", "linformer_weighted", "vit", "resnet50", "vgg16_bn", "hf_vit"),
    *("hf_vit_weighted", "convnext"),
)


def run_all(*words: object) -> subprocess.CompletedProcess:
    """`./run_all.sh ...`, given in another folder than the project's."""
    command = [str(ROOT / "run_all.sh"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT.parent, check=False)


def steps_started(outcome: subprocess.CompletedProcess) -> list[str]:
    return sorted(re.findall(r"^\[(\w+)\] \S+\.ipynb starts$", outcome.stdout, re.MULTILINE))


def last_line(outcome: subprocess.CompletedProcess) -> str:
    """The one line of an error: nothing else may stand on the error stream."""
    lines = outcome.stderr.strip().splitlines()
    assert len(lines) == 1, outcome.stderr
    return lines[0]


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
    outcome = run_all("smoke", "--results", finished, "--set", "resnet50.SEEDS=[0,1]")
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
    outcome = run_all("smoke", "--results", finished, *change)
    looks = ["attention", "features", "fig5"]  # of every model
    told = ["evidence", "fig3", "linformer_weighted", "report", "table"]
    assert steps_started(outcome) == sorted(looks + told)
    again = run_all("smoke", "--results", finished, *change)
    assert "nothing to do" in again.stdout


def test_only_runs_what_a_step_needs(tmp_path: Path):
    data = make_folder(tmp_path / "mine")
    outcome = run_all("smoke", "--data", data, "--results", tmp_path / "out", "--only", "pack")
    assert steps_started(outcome) == ["pack", "select"]
    assert not (tmp_path / "out" / "models").exists()


def test_what_simulated_galaxies_teach_is_measured_where_it_is_named(tmp_path: Path):
    """`transfer` needs real galaxies and runs when it is named; `realism` then shows its table."""
    data = tmp_path / "mine"
    simulate(data, 96, seed=5)
    (data / SIMULATION_RECORD).unlink()  # so that they stand for real ones
    words = ("smoke", "--data", data, "--results", tmp_path / "out", "--only")
    assert run_all(*words, "realism").returncode == 0
    outcome = run_all(*words, "transfer", "--set", "transfer.SIMULATED_GALAXIES=24")
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert steps_started(outcome) == ["pack", "transfer"]
    table = pd.read_csv(tmp_path / "out" / "tables" / "transfer.csv", keep_default_na=False)
    assert set(table.arm) == {"largest_class", "simulated", "real", "fine_tuned"}
    outcome = run_all(*words, "realism")
    assert steps_started(outcome) == ["realism"]
    shown = (tmp_path / "out" / "notebooks" / "21_realism.ipynb").read_text()
    assert "fine_tuned" in shown
    distances = pd.read_csv(tmp_path / "out" / "tables" / "realism.csv")
    assert distances.real.min() > 0
    assert distances.simulated.min() > 0


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


def test_a_failing_notebook_names_cell_error_and_notebook(tmp_path: Path):
    data = make_folder(tmp_path / "mine")
    words = ("--data", data, "--results", tmp_path / "out", "--only", "linformer")
    outcome = run_all("smoke", *words, "--set", "PATCH_SIZE=30")
    assert outcome.returncode == 1
    line = last_line(outcome)
    failed = tmp_path / "out" / "notebooks" / "03_linformer.failed.ipynb"
    assert line.startswith("error: step 'linformer' failed in cell [")
    assert "under 'The network': patch_size 30 does not divide image_size 112" in line
    assert line.endswith(f"see {failed}")
    assert failed.exists()
    mended = run_all("smoke", *words)
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert steps_started(mended) == ["linformer"]
    assert not failed.exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("smok",), "no profile 'smok'"),
        (("smoke", "--only", "fig9"), "--only fig9: there is no such step; there are simulate, "),
        (("smoke", "--set", "MAX_EPOCHS=3"), "did you mean 'MAX_EPOCH'?"),
        (("smoke", "--set", "MAX_EPOCH=3.5"), "MAX_EPOCH is 3.5 (float), but it must be int"),
        (("smoke", "--jobs", "0"), "--jobs 0"),
        (("smoke", "--data", "/nowhere"), "the data folder /nowhere does not exist"),
    ],
)
def test_a_slip_on_the_command_line_is_one_line(tmp_path: Path, words: tuple, told: str):
    outcome = run_all(*words, "--results", tmp_path / "out")
    assert outcome.returncode == 1
    assert told in last_line(outcome)
    assert steps_started(outcome) == []


def test_paper_without_a_source_of_the_data_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "mirror").mkdir()
    monkeypatch.setenv("GZ2VIT_DATA", str(tmp_path / "gz2"))
    monkeypatch.setenv("GZ2VIT_MIRROR", str(tmp_path / "mirror"))
    outcome = run_all("paper", "--results", tmp_path / "out")
    assert outcome.returncode == 1
    place = tmp_path / "gz2" / "gz2_train.csv"
    assert last_line(outcome) == (
        f"error: the mirror has no file {tmp_path / 'mirror' / 'gz2_train.csv'}; try again later, "
        f"name another source with --mirror, or put a copy at {place}"
    )


def lose(folder: Path) -> None:
    (folder / "images" / "test-001.jpg").unlink()


def truncate(folder: Path) -> None:
    path = folder / "images" / "test-001.jpg"
    path.write_bytes(path.read_bytes()[:3000])


def mislabel(folder: Path) -> None:
    path = folder / "gz2_test.csv"
    path.write_text(path.read_text().replace("test-001,1", "test-001,9"))


def repeat(folder: Path) -> None:
    with (folder / "gz2_valid.csv").open("a") as stream:
        stream.write("test-001,1\n")


def empty(folder: Path) -> None:
    (folder / "gz2_test.csv").write_text("galaxyID,label1\n")


@pytest.fixture(scope="module")
def whole_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("data") / "mine")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lose, "image {folder}/images/test-001.jpg is missing"),
        (truncate, "image {folder}/images/test-001.jpg is broken or truncated"),
        (mislabel, "{folder}/gz2_test.csv: galaxy test-001 has label1 '9'"),
        (repeat, "galaxy test-001 stands in both gz2_valid.csv and gz2_test.csv"),
        (empty, "{folder}/gz2_test.csv holds no galaxies"),
    ],
)
def test_a_bad_data_folder_stops_at_the_start_with_one_line(
    tmp_path: Path, whole_folder: Path, damage: Callable[[Path], None], told: str
):
    folder = tmp_path / "mine"
    shutil.copytree(whole_folder, folder)
    damage(folder)
    outcome = run_all("smoke", "--data", folder, "--results", tmp_path / "out")
    assert outcome.returncode == 1
    assert told.format(folder=folder) in last_line(outcome)
    assert steps_started(outcome) == []


def test_an_image_lost_after_a_run_is_noticed(tmp_path: Path, whole_folder: Path):
    folder, results = tmp_path / "mine", tmp_path / "out"
    shutil.copytree(whole_folder, folder)
    words = ("smoke", "--data", folder, "--results", results, "--only", "select")
    assert run_all(*words).returncode == 0
    lose(folder)
    outcome = run_all(*words)
    assert outcome.returncode == 1
    assert "test-001.jpg is missing" in last_line(outcome)


def test_two_runs_in_one_folder_do_not_meet(tmp_path: Path):
    import fcntl

    results = tmp_path / "out"
    results.mkdir()
    with (results / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        outcome = run_all("smoke", "--results", results)
    assert outcome.returncode == 1
    assert "another run is working in" in last_line(outcome)


def test_help_lists_the_options():
    outcome = run_all("--help")
    assert outcome.returncode == 0
    for word in ("--data", "--results", "--only", "--jobs", "--set"):
        assert word in outcome.stdout
    assert os.access(ROOT / "run_all.sh", os.X_OK)
