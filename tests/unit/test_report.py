"""The results table: numbers, intervals, and what may be compared with the paper."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gz2vit.errors import Gz2vitError
from gz2vit.evaluation import wilson_interval
from gz2vit.paper import (
    CLASS_NAMES,
    PUBLISHED_RESULTS,
    SPLIT_CLASS_COUNTS,
    TUNED_CLASS_WEIGHTS,
)
from gz2vit.report import (
    results_table,
    to_csv,
    to_latex,
    to_markdown,
    training_words,
    write_tables,
)
from gz2vit.report.origins import origin


def metrics_of(key: str, **changes: object) -> dict:
    """A run that gave exactly the paper's figures, but for `changes`."""
    published = PUBLISHED_RESULTS[key]
    names = ("parameters", "train_acc", "valid_acc", "recall_macro", "f1_macro", "class_acc")
    run = {name: published.get(name, 0.5) for name in names}
    run |= {"model": key, "accuracy": published["test_acc"], "epochs": 30, "best_epoch": 20}
    run |= {"weights": "imagenet" if key == "resnet50" else "none", "train_seconds": 600.0}
    run |= {"test_galaxies": 31191, "class_test_galaxies": list(SPLIT_CLASS_COUNTS["test"])}
    tuned = [8 * weight / sum(TUNED_CLASS_WEIGHTS) for weight in TUNED_CLASS_WEIGHTS]
    run |= {"class_weights": tuned if key.endswith("_weighted") else [1.0] * 8}
    run |= {"largest_class_fraction": 0.2515, "device": "cpu", "profile": "paper"}
    return run | {"data": "155,951 galaxies of gz2"} | changes


# The recipes of the authors' notebooks, as a run's `params.json` has them.
LINFORMER = {
    **{"lr": 3e-4, "step_size": 5, "gamma": 0.9, "image_size": 224, "batch_size": 64},
    **{"max_epoch": 200, "early_stopping_epochs": 10, "seed": 0},
    "hyperparameters": {
        **{"image_size": 224, "patch_size": 28, "depth": 12, "dim": 128, "k_dim": 64},
        **{"heads": 8, "dropout": 0.1, "share_kv": False},
    },
}
GALAXIES = {"train": 99_808, "valid": 24_952, "test": 31_191}  # the paper's
RESNET = LINFORMER | {"lr": 5e-5, "step_size": 10, "gamma": 0.1, "hyperparameters": {}}


def save_run(results: Path, run: dict, folder: str = "", **recipe: object) -> Path:
    """A run's `metrics.json` and `params.json`: the paper's recipe and galaxies, but for `recipe`.

    A selection that is there already stays.
    """
    path = results / "models" / run["model"] / folder / "metrics.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(run))
    parameters = (RESNET if run["model"] == "resnet50" else LINFORMER) | recipe
    path.with_name("params.json").write_text(json.dumps({"parameters": parameters}))
    selection = results / "selection" / "data.json"
    if not selection.exists():
        selection.parent.mkdir()
        selection.write_text(json.dumps({"galaxies": GALAXIES}))
    return path


CUT_SHORT = "the paper's own training was cut short when its session ended"


def test_a_run_like_the_papers_is_comparable_and_differs_by_nothing(tmp_path: Path):
    keys = ["linformer", "linformer_weighted", "resnet50"]
    for key in keys:
        save_run(tmp_path, metrics_of(key, class_acc=list(PUBLISHED_RESULTS[key]["class_acc"])))
    table = results_table(tmp_path, keys)
    notes = table.attrs["notes"]
    assert notes.pop("linformer") == f"comparable; {CUT_SHORT}"
    assert set(notes.values()) == {"comparable"}
    assert np.abs(table.difference.dropna()).max() == 0
    assert len(table) == 3 * (8 + 8)
    accuracy = table[(table.model == "linformer") & (table.quantity == "accuracy")].iloc[0]
    assert (accuracy.low, accuracy.high) == wilson_interval(round(0.8055 * 31191), 31191)
    classes = table[(table.model == "resnet50") & (table.quantity == "class_acc")]
    assert classes.class_name.tolist() == list(CLASS_NAMES)
    assert classes.n.tolist() == list(SPLIT_CLASS_COUNTS["test"])


@pytest.mark.parametrize(
    ("key", "changes", "reason"),
    [
        (
            "resnet50",
            {"weights": "none"},
            "trained from scratch, the paper's from ImageNet weights",
        ),
        (
            "linformer",
            {"weights": "a.pth"},
            "trained from the file a.pth, the paper's from scratch",
        ),
        (
            "resnet50",
            {"weights": "a.pth"},
            "trained from the file a.pth, the paper's from ImageNet weights",
        ),
        ("linformer", {"class_weights": [2.0] * 8}, "other class weights than the paper's"),
        (
            "linformer_weighted",
            {"class_weights": [1.0] * 8},
            "other class weights than the paper's",
        ),
        (
            "linformer",
            {"data": "155,951 simulated galaxies"},
            "155,951 simulated galaxies, 99,808 to learn from, 24,952 to choose the epoch by, "
            "31,191 to test on (the paper's 99,808, 24,952, 31,191)",
        ),
        ("linformer", {"parameters": 101960}, "another network, of 101,960 parameters"),
        ("linformer", {"profile": "demo"}, "profile demo (30 epochs)"),
        (
            "linformer",
            {
                "test_galaxies": 529,
                "class_test_galaxies": [179, 160, 11, 83, 14, 57, 7, 18],
                "data": "2,640 galaxies of real_gz2",
            },
            "2,640 galaxies of real_gz2, 99,808 to learn from, 24,952 to choose the epoch by, "
            "529 to test on (the paper's 99,808, 24,952, 31,191)",
        ),
    ],
)
def test_what_is_not_the_papers_is_not_comparable(
    tmp_path: Path, key: str, changes: dict, reason: str
):
    save_run(tmp_path, metrics_of(key, **changes))
    note = results_table(tmp_path, [key]).attrs["notes"][key]
    assert note == f"not comparable: {reason}"


@pytest.mark.parametrize(
    ("key", "recipe", "reason"),
    [
        ("linformer", {"max_epoch": 30}, "30 epochs at most, the paper's 200"),
        ("linformer", {"lr": 1e-3}, "learning rate 0.001, the paper's 0.0003"),
        ("resnet50", {"lr": 1e-3}, "learning rate 0.001, the paper's 5e-05"),
        ("linformer", {"batch_size": 16}, "batches of 16, the paper's 64"),
        ("resnet50", {"image_size": 64}, "images of 64 px, the paper's 224"),
        ("linformer", {"gamma": 0.8}, "learning rate reduced by a factor 0.8, the paper's 0.9"),
        ("resnet50", {"step_size": 5}, "learning rate reduced every 5 epochs, the paper's 10"),
        (
            "linformer",
            {"early_stopping_epochs": 3},
            "early stopping after 3 epochs, the paper's 10",
        ),
        (
            "linformer_weighted",
            {"hyperparameters": LINFORMER["hyperparameters"] | {"k_dim": 32, "share_kv": True}},
            "projection to 32, the paper's 64; share_kv True, the paper's False",
        ),
    ],
)
def test_another_recipe_than_the_papers_is_not_comparable(
    tmp_path: Path, key: str, recipe: dict, reason: str
):
    save_run(tmp_path, metrics_of(key), **recipe)
    note = results_table(tmp_path, [key]).attrs["notes"][key]
    assert note == f"not comparable: {reason}"


@pytest.mark.parametrize(
    "name", ["lr", "step_size", "gamma", "image_size", "batch_size", "max_epoch"]
)
def test_what_was_not_recorded_may_have_been_another(tmp_path: Path, name: str):
    path = save_run(tmp_path, metrics_of("resnet50")).with_name("params.json")
    recipe = {key: value for key, value in RESNET.items() if key != name}
    path.write_text(json.dumps({"parameters": recipe}))
    note = results_table(tmp_path, ["resnet50"]).attrs["notes"]["resnet50"]
    assert note.startswith(f"not comparable: {name} is not recorded, the paper's ")


@pytest.mark.parametrize(
    ("galaxies", "words"),
    [
        (GALAXIES | {"train": 49_904}, "49,904 to learn from, 24,952 to choose"),
        (GALAXIES | {"valid": 1}, "99,808 to learn from, 1 to choose"),
    ],
)
def test_fewer_galaxies_to_learn_from_are_not_comparable(
    tmp_path: Path, galaxies: dict, words: str
):
    save_run(tmp_path, metrics_of("resnet50"))
    path = tmp_path / "selection" / "data.json"
    path.write_text(json.dumps({"galaxies": galaxies}))
    note = results_table(tmp_path, ["resnet50"]).attrs["notes"]["resnet50"]
    assert note.startswith("not comparable: 155,951 galaxies of gz2, ") and words in note
    path.unlink()
    note = results_table(tmp_path, ["resnet50"]).attrs["notes"]["resnet50"]
    assert note.startswith("not comparable: how many galaxies it learned from is not known")


def test_another_seed_and_precision_are_still_the_papers_recipe_but_told(tmp_path: Path):
    path = save_run(tmp_path, metrics_of("resnet50"), seed=7).with_name("params.json")
    assert results_table(tmp_path, ["resnet50"]).attrs["notes"]["resnet50"] == (
        "comparable; seed 7, the paper's 0"
    )
    record = {"parameters": RESNET, "sessions": [{"precision": "bf16-mixed"}]}
    path.write_text(json.dumps(record))
    assert results_table(tmp_path, ["resnet50"]).attrs["notes"]["resnet50"] == (
        "comparable; precision bf16-mixed, the paper's 32-true"
    )


def test_weights_from_a_file_are_told_everywhere_with_their_checksum(tmp_path: Path):
    source = "/data/results/demo/models/linformer/best.ckpt"
    path = save_run(tmp_path, metrics_of("linformer", weights=source)).with_name("params.json")
    record = json.loads(path.read_text())
    record["weights"] = {"source": source, "file": "best.ckpt", "sha256": "0123456789abcdef"}
    path.write_text(json.dumps(record))
    table = results_table(tmp_path, ["linformer"])
    words = "from the file linformer/best.ckpt (SHA-256 0123456789ab…)"
    note = table.attrs["notes"]["linformer"]
    assert note == f"not comparable: trained {words}, the paper's from scratch"
    rows = [line for line in to_markdown(table).splitlines() if line.startswith("| linformer")]
    assert words in rows[2]
    assert training_words(tmp_path, ["linformer", "vit"]) == f"trained {words} for 30 epochs"


def test_a_figures_models_are_told_by_what_they_started_from(tmp_path: Path):
    assert training_words(tmp_path, ["vit"]) == ""
    for key, epochs in (("linformer", 5), ("vit", 9), ("resnet50", 7)):
        save_run(tmp_path, metrics_of(key, epochs=epochs))
    assert training_words(tmp_path, ["linformer", "vit"]) == (
        "trained from scratch for 5 to 9 epochs"
    )
    assert training_words(tmp_path, ["linformer", "resnet50", "vit"]) == (
        "linformer, vit trained from scratch; resnet50 trained from ImageNet weights"
    )
    run = {"weights": "imagenet", "network": "timm/convnext_atto"}
    assert origin(run) == "from its published weights"


def test_a_run_without_its_recipe_is_not_comparable(tmp_path: Path):
    save_run(tmp_path, metrics_of("linformer")).with_name("params.json").unlink()
    note = results_table(tmp_path, ["linformer"]).attrs["notes"]["linformer"]
    assert note == "not comparable: its recipe is not known (params.json is missing)"


@pytest.mark.parametrize("text", ["", "[]", '{"par'])
def test_a_damaged_record_is_named_with_what_to_do(tmp_path: Path, text: str):
    save_run(tmp_path, metrics_of("linformer")).with_name("params.json").write_text(text)
    with pytest.raises(Gz2vitError, match="params.json.*; delete it and run"):
        results_table(tmp_path, ["linformer"])


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
