"""Steps of the road that are named: what they need runs as well, and nothing else."""

from pathlib import Path

import pandas as pd

from gz2sim.folder import simulate
from gz2vit.catalog import SIMULATION_RECORD
from tests.road import run_all, steps_started
from tests.unit.folders import make_folder


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
