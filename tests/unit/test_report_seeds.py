"""The results table of models that were trained with several seeds."""

import json
import statistics
from pathlib import Path

import pandas as pd
import pytest

from gz2vit.evaluation import wilson_interval
from gz2vit.io import Gz2vitError
from gz2vit.paper import PUBLISHED_RESULTS
from gz2vit.results_table import results_table, to_csv, to_latex, to_markdown
from tests.unit.saved_runs import CUT_SHORT, metrics_of, save_run

SEEDS = {"linformer": [4, 0, 12]}
SHARES = (0.70, 0.73, 0.74)  # their test accuracies


def save_seeds(results: Path) -> None:
    """Three seeds of the Linformer and, from an earlier call, a fourth."""
    folders = ("", "seeds/0", "seeds/12")
    for folder, share, seed in zip(folders, SHARES, SEEDS["linformer"], strict=True):
        run = metrics_of("linformer", accuracy=share, class_acc=[share] * 7 + [share / 2])
        run |= {"train_seconds": 6000 * share, "best_epoch": int(100 * share), "f1_macro": share}
        save_run(results, run, folder, seed=seed)
    save_run(results, metrics_of("linformer", accuracy=0.1), "seeds/3")


def values_of(table: pd.DataFrame, name: str, class_name: str = "") -> pd.Series:
    return table[(table.quantity == name) & (table.class_name == class_name)].iloc[0]


def test_several_seeds_give_mean_and_sample_spread(tmp_path: Path):
    save_seeds(tmp_path)
    table = results_table(tmp_path, ["linformer"], SEEDS)
    mean, spread = sum(SHARES) / 3, statistics.stdev(SHARES)
    accuracy = values_of(table, "accuracy")
    assert (accuracy.ours, accuracy.spread) == pytest.approx((mean, spread), abs=1e-12)
    assert spread == pytest.approx(0.020817, abs=1e-6)  # with n - 1: sqrt(0.000866667 / 2)
    assert accuracy.seeds == 3
    assert (accuracy.low, accuracy.high) == wilson_interval(round(mean * 31191), 31191)
    assert accuracy.difference == pytest.approx(mean - 0.8055)
    merger = values_of(table, "class_acc", "Merger")
    assert (merger.ours, merger.spread) == pytest.approx((mean / 2, spread / 2))
    assert values_of(table, "parameters").ours == PUBLISHED_RESULTS["linformer"]["parameters"]
    note = table.attrs["notes"]["linformer"]
    assert note == f"comparable; seeds 4, 0, 12, the paper's 0; {CUT_SHORT}"


def test_seeds_that_are_not_named_do_not_count(tmp_path: Path):
    save_seeds(tmp_path)
    for seeds in ({}, {"linformer": [4]}, {"vit": [4, 0, 12]}):
        accuracy = values_of(results_table(tmp_path, ["linformer"], seeds), "accuracy")
        assert (accuracy.ours, accuracy.seeds) == (0.70, 1)


@pytest.mark.parametrize("missing", ["", "seeds/0", "seeds/12"])
def test_a_seed_without_metrics_is_not_trained(tmp_path: Path, missing: str):
    save_seeds(tmp_path)
    (tmp_path / "models" / "linformer" / missing / "metrics.json").unlink()
    table = results_table(tmp_path, ["linformer"], SEEDS)
    note = table.attrs["notes"]["linformer"]
    assert note.startswith("comparable; seeds ") and note.endswith("; 2 of 3 seeds trained")
    left = [share for share, folder in zip(SHARES, ("", "seeds/0", "seeds/12"), strict=True)
            if folder != missing]  # fmt: skip
    accuracy = values_of(table, "accuracy")
    assert (accuracy.ours, accuracy.seeds) == (pytest.approx(sum(left) / 2), 2)
    none = results_table(tmp_path / "results" / "demo", ["vit"], {"vit": [0, 1]})
    assert none.attrs["notes"]["vit"] == "not trained: `./run_all.sh demo --only vit`"
    assert set(none.seeds) == {0}


def test_several_seeds_are_written_in_all_three_forms(tmp_path: Path):
    save_seeds(tmp_path)
    save_run(tmp_path, metrics_of("linformer_weighted"))
    table = results_table(tmp_path, ["linformer", "linformer_weighted"], SEEDS)
    lines = [line for line in to_markdown(table).splitlines() if line.startswith("| linformer ")]
    summary, _, runs = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    assert summary[2] == "72.3 ± 2.1 (3 seeds) [71.8, 72.8]"
    assert summary[8] == "72.3 ± 2.1 (3 seeds)"
    assert runs[1:4] == ["3", "from scratch", "70 to 74 of 30"]
    assert runs[6] == "72.3"  # mean of 4200, 4380 and 4440 s in minutes
    assert "after ± their sample standard deviation" in to_markdown(table)
    latex = to_latex(table)
    assert r" & $72.3 \pm 2.1$ [71.8, 72.8] & " in latex
    assert "seeds)" not in latex
    (tmp_path / "t.csv").write_text(to_csv(table))
    again = pd.read_csv(tmp_path / "t.csv")
    assert again.spread[1] == table.spread[1] == pytest.approx(statistics.stdev(SHARES))
    assert again.seeds.tolist() == [3] * 16 + [1] * 16


def test_epochs_of_several_seeds_are_told_as_a_range(tmp_path: Path):
    save_run(tmp_path, metrics_of("linformer", profile="demo", epochs=9))
    save_run(tmp_path, metrics_of("linformer", profile="demo", epochs=14), "seeds/1")
    table = results_table(tmp_path, ["linformer"], {"linformer": [0, 1]})
    assert table.attrs["notes"]["linformer"] == "not comparable: profile demo (9 to 14 epochs)"


def test_a_damaged_or_foreign_seed_is_named(tmp_path: Path):
    save_seeds(tmp_path)
    path = save_run(tmp_path, metrics_of("linformer", class_acc=[0.5] * 3), "seeds/12")
    with pytest.raises(Gz2vitError, match="seeds/12/metrics.json is not whole .*; delete it"):
        results_table(tmp_path, ["linformer"], SEEDS)
    for name, other in (("data", "few"), ("parameters", 3), ("class_weights", [2.0] * 8)):
        path.write_text(json.dumps(metrics_of("linformer", **{name: other})))
        with pytest.raises(Gz2vitError, match=f"seeds/12/.* other seeds .'{name}' differs.; del"):
            results_table(tmp_path, ["linformer"], SEEDS)
