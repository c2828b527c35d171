"""The results table: its numbers, intervals and forms, and files that are damaged."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gz2vit.io import Gz2vitError
from gz2vit.results_table import results_table, to_csv, to_latex, to_markdown, write_tables
from tests.unit.saved_runs import metrics_of, save_run


def test_macro_averages_have_the_bootstraps_interval_where_there_are_predictions(tmp_path: Path):
    rng = np.random.default_rng(0)
    true = rng.integers(0, 8, 4000)
    pred = np.where(rng.random(4000) < 0.7, true, rng.integers(0, 8, 4000))
    ids = [f"g{row}" for row in range(4000)]
    table = pd.DataFrame({"GalaxyID": ids, "class": true, "pred": pred})
    path = save_run(tmp_path, metrics_of("linformer"))
    table.to_csv(path.with_name("predictions.csv"), index=False)
    found = results_table(tmp_path, ["linformer"]).set_index("quantity")
    right = (true == pred).mean()
    # Eight classes of about 500: the error of their mean is about that of a share of all 4000.
    half = 1.96 * np.sqrt(right * (1 - right) / 4000)
    for name in ("recall_macro", "f1_macro"):
        assert found.low[name] == pytest.approx(right - half, abs=0.004)
        assert found.high[name] == pytest.approx(right + half, abs=0.004)
    path.with_name("predictions.csv").write_text("GalaxyID,class\n")
    with pytest.raises(Gz2vitError, match="predictions.csv has no column pred.*; delete it and"):
        results_table(tmp_path, ["linformer"])


def test_times_stand_beside_the_papers_with_both_devices(tmp_path: Path):
    save_run(tmp_path, metrics_of("linformer", device="cpu", train_seconds=600.0, epochs=30))
    table = results_table(tmp_path, ["linformer", "vit"])
    epoch = table[table.quantity == "epoch_seconds"].iloc[0]
    assert (epoch.ours, epoch.paper) == (20.0, 672)
    assert np.isnan(epoch.difference)
    lines = to_markdown(table).splitlines()
    answers = [
        line.split("|")[-2].strip() for line in lines if line.startswith(("| linf", "| vit"))
    ]
    assert answers[:2] == ["yes", "–"]
    rows = [line for line in lines if line.startswith("| linformer ")]
    cells = [cell.strip() for cell in rows[-1].split("|")]
    assert cells[-5:-1] == ["10.0", "20.0", "672 (Tesla T4)", "cpu"]


def test_a_model_of_the_users_own_has_a_row(tmp_path: Path):
    save_run(tmp_path, metrics_of("linformer", model="mine"))
    table = results_table(tmp_path, ["mine"])
    assert table.paper.isna().all()
    assert table.ours.notna().all()
    assert "the paper has no such model" in table.attrs["notes"]["mine"]


def test_a_model_that_was_not_trained_says_how_to_train_it(tmp_path: Path):
    table = results_table(tmp_path / "results" / "demo", ["resnet50"])
    assert table.ours.isna().all()
    assert table[table.quantity == "accuracy"].paper.tolist() == [0.8558]
    assert "not trained: `./run_all.sh demo --only resnet50`" in to_markdown(table)


def test_a_class_without_test_galaxies_has_no_accuracy(tmp_path: Path):
    changes = {"class_acc": [0.5] * 7 + [None], "class_test_galaxies": [4] * 7 + [0]}
    save_run(tmp_path, metrics_of("linformer", **changes))
    table = results_table(tmp_path, ["linformer", "vit"])
    assert "There are no test galaxies of: Merger. What is measured" in to_markdown(table)
    assert "`gz2_test.csv` and run again" in to_markdown(table)
    merger = table[table.class_name == "Merger"].iloc[0]
    assert np.isnan([merger.ours, merger.low, merger.difference]).all()
    line = next(line for line in to_markdown(table).splitlines() if line.startswith("| Merger"))
    assert line.split("|")[2:5] == [" 0             ", " 53.1             ", line.split("|")[4]]
    assert line.split("|")[4].strip() == "–"


def test_a_damaged_file_is_named(tmp_path: Path):
    path = save_run(tmp_path, metrics_of("linformer"))
    path.write_text('{"model": "linformer"}')
    with pytest.raises(Gz2vitError, match="metrics.json is not whole .*; delete it and run"):
        results_table(tmp_path, ["linformer"])
    path.write_text(json.dumps(metrics_of("linformer", class_acc=[0.5] * 3)))
    with pytest.raises(Gz2vitError, match="metrics.json is not whole .*; delete it and run"):
        results_table(tmp_path, ["linformer"])


@pytest.mark.parametrize("text", ['{"mod', "{}", "[]", "null", "[1]", ""])
def test_a_file_without_an_object_is_named_with_what_to_do(tmp_path: Path, text: str):
    save_run(tmp_path, metrics_of("linformer")).write_text(text)
    with pytest.raises(Gz2vitError, match="metrics.json is not whole .*; delete it and run"):
        results_table(tmp_path, ["linformer"])


def needed_figures() -> list[str]:
    return sorted(metrics_of("linformer").keys() - {"model"})


@pytest.mark.parametrize("name", needed_figures())
def test_a_file_that_lacks_a_figure_is_named(tmp_path: Path, name: str):
    run = metrics_of("linformer")
    path = save_run(tmp_path, run)
    path.write_text(json.dumps({key: value for key, value in run.items() if key != name}))
    with pytest.raises(Gz2vitError, match=f"not whole .*{name}.*; delete it and run"):
        results_table(tmp_path, ["linformer"])


def test_runs_on_other_data_are_told_apart(tmp_path: Path):
    save_run(tmp_path, metrics_of("linformer"))
    assert "no test galaxies of" not in to_markdown(results_table(tmp_path, ["linformer"]))
    few = {"test_galaxies": 80, "class_test_galaxies": [10] * 8, "class_acc": [0.5] * 8}
    save_run(tmp_path, metrics_of("resnet50", device="cuda", data="400 galaxies of few", **few))
    text = to_markdown(results_table(tmp_path, ["linformer", "resnet50", "hf_vit"]))
    assert "155,951 galaxies of gz2, of which 31,191 to test on, on cpu." in text
    assert "400 galaxies of few, of which 80 to test on, on cuda." in text
    assert text.count("Always guessing the largest class would be right for 25.1 %") == 2
    merger = next(line for line in text.splitlines() if line.startswith("| Merger"))
    assert merger.split("|")[2].strip() == "10 or 407"


def test_marks_of_markdown_and_latex_are_escaped(tmp_path: Path):
    save_run(tmp_path, metrics_of("linformer", weights="~/a^b|c&d.pth"))
    table = results_table(tmp_path, ["linformer"])
    rows = [line for line in to_markdown(table).splitlines() if line.startswith("| linformer")]
    assert r"~/a^b\|c&d.pth" in rows[2]
    latex = to_latex(table)
    assert r"\textasciitilde{}/a\textasciicircum{}b|c\&d.pth" in latex
    assert latex.count(r"\bottomrule") == latex.count(r"\toprule") == 4


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    save_run(tmp_path, metrics_of("linformer", accuracy=0.7, f1_macro=0.75, profile="demo"))
    save_run(tmp_path, metrics_of("linformer_weighted", test_galaxies=100))
    return results_table(tmp_path, ["linformer", "linformer_weighted"])


def test_markdown_shows_paper_ours_and_difference(table: pd.DataFrame):
    lines = to_markdown(table).splitlines()
    row = next(line for line in lines if line.startswith("| linformer "))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:4] == ["80.55", "70.0 [69.5, 70.5]", "−10.6"]
    assert cells[7:] == ["73.23", "75.0", "+1.8", "no"]
    for part in ("".join(lines), to_latex(table)):
        assert "linformer" in part
    tables = [line for line in lines if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)


def test_csv_keeps_all_digits(table: pd.DataFrame, tmp_path: Path):
    path = tmp_path / "t.csv"
    path.write_text(to_csv(table))
    again = pd.read_csv(path, keep_default_na=True)
    assert again.difference.tolist()[:2] == table.difference.tolist()[:2]
    assert again.note[0].startswith("not comparable: profile demo")


def test_latex_is_well_formed(table: pd.DataFrame):
    text = to_latex(table)
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 4
    assert text.count("{") == text.count("}")
    body = [line for line in text.splitlines() if not line.startswith("%")]
    assert r"linformer\_weighted" in text
    assert not any("%" in line.replace(r"\%", "") for line in body)
    for block in "\n".join(body).split(r"\begin{tabular}")[1:]:
        columns = len(block.split("}")[0].strip("{"))
        rows = [line for line in block.splitlines() if line.endswith(r"\\")]
        assert {row.count("&") for row in rows} == {columns - 1}


def test_all_three_are_written(table: pd.DataFrame, tmp_path: Path):
    paths = write_tables(tmp_path, table)
    assert [path.name for path in paths] == ["results.md", "results.csv", "results.tex"]
    assert paths[0].read_text() == to_markdown(table)
    assert sorted((tmp_path / "tables").iterdir()) == sorted(paths)


def test_one_seed_has_no_spread(table: pd.DataFrame):
    assert table.spread.isna().all()
    assert set(table.seeds) == {1}
    assert "±" not in to_markdown(table)
    assert "several seeds" not in to_markdown(table)
    assert r"\pm" not in to_latex(table)
