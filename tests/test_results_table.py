"""The results table: its numbers, intervals and forms, what may be compared, damaged files."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gz2vit import results_table as results
from gz2vit.evaluation import wilson_interval
from gz2vit.io import Gz2vitError
from gz2vit.paper import CLASS_NAMES, SPLIT_CLASS_COUNTS
from gz2vit.results_table import results_table, to_latex, to_markdown, training_words
from tests.saved_runs import CUT_SHORT, GALAXIES, LINFORMER, RESNET, metrics_of, save_run


def note_of(root: Path, key: str) -> str:
    return results_table(root, [key]).attrs["notes"][key]


def value_of(table: pd.DataFrame, name: str, class_name: str = "") -> pd.Series:
    return table[(table.quantity == name) & (table.class_name == class_name)].iloc[0]


def rows_of(text: str, start: str) -> list[list[str]]:
    """The cells of the Markdown rows that start so."""
    lines = [line for line in text.splitlines() if line.startswith(f"| {start} ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_a_run_like_the_papers_is_comparable_and_differs_by_nothing(tmp_path: Path):
    keys = ["linformer", "linformer_weighted", "resnet50"]
    for key in keys:
        save_run(tmp_path, metrics_of(key))
    table = results_table(tmp_path, keys)
    notes = [f"comparable; {CUT_SHORT}", "comparable", "comparable"]
    assert table.attrs["notes"] == dict(zip(keys, notes, strict=True))
    assert np.abs(table.difference.dropna()).max() == 0
    assert len(table) == 3 * (8 + 8)
    accuracy = value_of(table, "accuracy")
    assert [accuracy.low, accuracy.high] == [*wilson_interval(round(0.8055 * 31191), 31191)]
    classes = table[(table.model == "resnet50") & (table.quantity == "class_acc")]
    assert classes.class_name.tolist() == list(CLASS_NAMES)
    assert classes.n.tolist() == list(SPLIT_CLASS_COUNTS["test"])
    assert table.spread.isna().all() and set(table.seeds) == {1}


SMALL = {"test_galaxies": 529, "class_test_galaxies": [179, 160, 11, 83, 14, 57, 7, 18]}
SHARED_KV = {"hyperparameters": LINFORMER["hyperparameters"] | {"k_dim": 32, "share_kv": True}}


@pytest.mark.parametrize(
    ("key", "run", "recipe", "reason"),
    [
        ("resnet50", {"weights": "none"}, {}, "trained from scratch, the paper's from ImageNet"),
        ("linformer", {"weights": "a.pth"}, {}, "trained from the file a.pth, the paper's from"),
        ("linformer", {"class_weights": [2.0] * 8}, {}, "class_weights [2.0, "),
        ("linformer_weighted", {"class_weights": [1.0] * 8}, {}, "class_weights [1.0, "),
        ("linformer", {"data": "9 simulated galaxies"}, {}, "test galaxies 31,191 of 9 simulated"),
        ("linformer", {"parameters": 101960}, {}, "parameters 101960, the paper's 2785416"),
        ("linformer", {"trainable_parameters": 9}, {}, "trainable_parameters 9, the paper's 27"),
        ("linformer", SMALL, {}, "test galaxies 529 of 155,951 galaxies of gz2, the paper's 31"),
        ("linformer", {}, {"max_epoch": 30}, "max_epoch 30, the paper's 200"),
        ("linformer", {}, {"lr": 1e-3}, "lr 0.001, the paper's 0.0003"),
        ("resnet50", {}, {"image_size": 64}, "image_size 64, the paper's 224"),
        ("linformer_weighted", {}, SHARED_KV, "k_dim 32, the paper's 64; share_kv True, the "),
    ],
)
def test_what_is_not_the_papers_is_not_comparable(tmp_path, key, run, recipe, reason):
    save_run(tmp_path, metrics_of(key, **run), **recipe)
    note = note_of(tmp_path, key)
    assert note.startswith(f"not comparable: {reason}")
    assert note.count("; ") == reason.count("; ")  # nothing else differs


def test_what_is_not_known_may_have_been_another(tmp_path: Path):
    path = save_run(tmp_path, metrics_of("resnet50")).with_name("params.json")
    selected = tmp_path / "selection" / "data.json"
    selected.write_text(json.dumps({"galaxies": GALAXIES | {"valid": 1}}))
    assert note_of(tmp_path, "resnet50").endswith(": valid galaxies 1, the paper's 24,952")
    selected.unlink()
    assert "train galaxies not recorded, the paper's 99,808" in note_of(tmp_path, "resnet50")
    recipe = {key: value for key, value in RESNET.items() if key != "lr"}
    path.write_text(json.dumps({"parameters": recipe}))
    assert note_of(tmp_path, "resnet50").startswith("not comparable: lr not recorded")
    path.unlink()
    assert "params.json is missing" in note_of(tmp_path, "resnet50")
    selected.write_text(json.dumps({"galaxies": GALAXIES}))
    # Another seed or precision is still the paper's recipe, but mentioned.
    path = save_run(tmp_path, metrics_of("resnet50"), seed=7).with_name("params.json")
    assert note_of(tmp_path, "resnet50") == "comparable; seed 7, the paper's 0"
    record = {"parameters": RESNET, "sessions": [{"precision": "bf16-mixed"}]}
    path.write_text(json.dumps(record))
    assert "comparable; precision bf16-mixed, the paper's 32" in note_of(tmp_path, "resnet50")


def test_what_networks_started_from_is_named(tmp_path: Path):
    assert training_words(tmp_path, ["vit"]) == ""
    for key, epochs in (("linformer", 5), ("vit", 9), ("resnet50", 7)):
        save_run(tmp_path, metrics_of(key, epochs=epochs))
    words = training_words(tmp_path, ["linformer", "vit"])
    assert words == "trained from scratch for 5 to 9 epochs"
    assert training_words(tmp_path, ["linformer", "resnet50", "vit"]) == (
        "linformer, vit trained from scratch; resnet50 trained from ImageNet weights"
    )
    run = {"weights": "imagenet", "network": "timm/convnext_atto"}
    assert results.origin(run) == "from its published weights"
    source = "/data/results/demo/models/linformer/best.ckpt"
    path = save_run(tmp_path, metrics_of("linformer", weights=source)).with_name("params.json")
    record = json.loads(path.read_text())
    record["weights"] = {"source": source, "file": "best.ckpt", "sha256": "0123456789abcdef"}
    path.write_text(json.dumps(record))
    words = "from the file linformer/best.ckpt (SHA-256 0123456789ab…)"
    assert f"trained {words}, the paper's from scratch" in note_of(tmp_path, "linformer")
    assert rows_of(to_markdown(results_table(tmp_path, ["linformer"])), "linformer")[2][2] == words
    assert training_words(tmp_path, ["linformer"]) == f"trained {words} for 30 epochs"


def test_macro_averages_have_the_bootstraps_interval_where_there_are_predictions(tmp_path: Path):
    rng = np.random.default_rng(0)
    true, guess = rng.integers(0, 8, (2, 4000))
    pred = np.where(rng.random(4000) < 0.7, true, guess)
    path = save_run(tmp_path, metrics_of("linformer")).with_name("predictions.csv")
    assert np.isnan(value_of(results_table(tmp_path, ["linformer"]), "f1_macro").low)
    table = pd.DataFrame({"GalaxyID": range(4000), "class": true, "pred": pred})
    table.to_csv(path, index=False)
    found, right = results_table(tmp_path, ["linformer"]), (true == pred).mean()
    # Eight classes of about 500: the error of their mean is about that of a share of all 4000.
    half = 1.96 * np.sqrt(right * (1 - right) / 4000)
    for row in (value_of(found, name) for name in ("recall_macro", "f1_macro")):
        assert (row.low, row.high) == pytest.approx((right - half, right + half), abs=0.004)


# --- Several seeds

SEEDS = {"linformer": [4, 0, 12]}
SHARES = (0.70, 0.73, 0.74)  # their test accuracies
FOLDERS = ("", "seed0", "seed12")


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    """Three seeds of the Linformer and, from an earlier call, a fourth."""
    for folder, share, seed in zip(FOLDERS, SHARES, SEEDS["linformer"], strict=True):
        run = metrics_of("linformer", accuracy=share, class_acc=[share] * 7 + [share / 2])
        run |= {"train_seconds": 6000 * share, "best_epoch": int(100 * share), "f1_macro": share}
        save_run(tmp_path, run, folder, seed=seed)
    save_run(tmp_path, metrics_of("linformer", accuracy=0.1), "seed3")
    return tmp_path


def test_several_seeds_give_mean_and_sample_spread(seeds: Path):
    table = results_table(seeds, ["linformer"], SEEDS)
    mean, spread = np.mean(SHARES), np.std(SHARES, ddof=1)
    accuracy, merger = value_of(table, "accuracy"), value_of(table, "class_acc", "Merger")
    assert (accuracy.ours, accuracy.spread) == pytest.approx((mean, spread), abs=1e-12)
    assert accuracy.seeds == 3
    assert [accuracy.low, accuracy.high] == [*wilson_interval(round(mean * 31191), 31191)]
    assert (merger.ours, merger.spread) == pytest.approx((mean / 2, spread / 2))
    note = table.attrs["notes"]["linformer"]
    assert note == f"comparable; seeds 4, 0, 12, the paper's 0; {CUT_SHORT}"
    summary, _, trained = rows_of(to_markdown(table), "linformer")
    shown = "72.3 ± 2.1 (3 seeds)"
    assert (summary[2], summary[8]) == (f"{shown} [71.8, 72.8]", shown)
    assert trained[1:4] == ["3", "from scratch", "70 to 74 of 30"]
    assert trained[6] == "72.3"  # mean of 4200, 4380 and 4440 s in minutes
    latex = to_latex(table)
    assert r"$72.3 \pm 2.1$ [71.8, 72.8]" in latex and "seeds)" not in latex
    for other in ({}, {"linformer": [4]}, {"vit": [4, 0, 12]}):
        accuracy = value_of(results_table(seeds, ["linformer"], other), "accuracy")
        assert (accuracy.ours, accuracy.seeds) == (0.70, 1)


@pytest.mark.parametrize("missing", FOLDERS)
def test_a_seed_without_metrics_is_not_trained(seeds: Path, missing: str):
    (seeds / "models" / "linformer" / missing / "metrics.json").unlink()
    table = results_table(seeds, ["linformer"], SEEDS)
    assert table.attrs["notes"]["linformer"].endswith("; 2 of 3 seeds trained")
    left = sum(SHARES) - SHARES[FOLDERS.index(missing)]
    accuracy = value_of(table, "accuracy")
    assert (accuracy.ours, accuracy.seeds) == (pytest.approx(left / 2), 2)


def test_a_seed_of_another_network_or_data_is_named(seeds: Path):
    for name, other in (("data", "few"), ("parameters", 3), ("class_weights", [2.0] * 8)):
        save_run(seeds, metrics_of("linformer", **{name: other}), "seed12")
        with pytest.raises(Gz2vitError, match=f"seed12 .*'{name}'"):
            results_table(seeds, ["linformer"], SEEDS)


# --- Forms, gaps, damaged files


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    save_run(tmp_path, metrics_of("linformer", accuracy=0.7, f1_macro=0.75), lr=1.0)
    weights = "~/a^b|c&d.pth"
    save_run(tmp_path, metrics_of("linformer_weighted", test_galaxies=100, weights=weights))
    return results_table(tmp_path, ["linformer", "linformer_weighted", "vit"])


def test_markdown_has_paper_ours_and_difference(table: pd.DataFrame):
    text = to_markdown(table)
    summary, _, trained = rows_of(text, "linformer")
    assert summary[1:4] == ["80.55", "70.0 [69.5, 70.5]", "−10.6"]
    assert summary[7:] == ["73.23", "75.0", "+1.8", "no"]
    assert trained[-4:] == ["10.0", "20.0", "672 (Tesla T4)", "cpu"]
    vit, *_ = rows_of(text, "vit")
    assert vit[1:4] == ["81.66", "–", "–"] and vit[-1] == "–"
    assert r"~/a^b\|c&d.pth" in text
    epoch = value_of(table, "epoch_seconds")
    assert (epoch.ours, epoch.paper) == (20.0, 672) and np.isnan(epoch.difference)


def test_csv_keeps_all_digits_and_latex_is_well_formed(table: pd.DataFrame, tmp_path: Path):
    paths = results.write_tables(tmp_path, table)
    assert [path.name for path in paths] == ["results.md", "results.csv", "results.tex"]
    again = pd.read_csv(paths[1])
    assert again.difference.tolist()[:2] == table.difference.tolist()[:2]
    assert again.note[0].startswith("not comparable: lr 1.0")
    text = paths[2].read_text()
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 4
    assert text.count("{") == text.count("}")
    body = [line for line in text.splitlines() if not line.startswith("%")]
    assert r"linformer\_weighted" in text and r"c\&d.pth" in text
    assert not any(mark in "".join(body) for mark in "Δ−–")
    assert not any("%" in line.replace(r"\%", "") for line in body)
    for block in "\n".join(body).split(r"\begin{tabular}")[1:]:
        columns = len(block.split("}")[0].strip("{"))
        rows = [line.replace(r"\&", "") for line in block.splitlines() if line.endswith(r"\\")]
        assert {row.count("&") for row in rows} == {columns - 1}


def test_models_of_other_data_not_trained_or_the_users_own_have_their_rows(tmp_path: Path):
    few = {"test_galaxies": 80, "class_acc": [0.5] * 7 + [None], "data": "400 galaxies of few"}
    few |= {"class_test_galaxies": [4] * 7 + [0], "device": "cuda"}
    save_run(tmp_path, metrics_of("resnet50", **few))
    save_run(tmp_path, metrics_of("linformer"))
    save_run(tmp_path, metrics_of("linformer", model="mine"))
    table = results_table(tmp_path, ["resnet50", "linformer", "hf_vit", "mine"])
    merger = value_of(table, "class_acc", "Merger")
    assert np.isnan([merger.ours, merger.low, merger.difference]).all()
    text = to_markdown(table)
    assert rows_of(text, "Merger")[0][1:4] == ["0 or 407", "66.6", "–"]
    assert "155,951 galaxies of gz2, of which 31,191 to test on, on cpu." in text
    assert "400 galaxies of few, of which 80 to test on, on cuda." in text
    own, other = table[table.model == "mine"], table[table.model == "hf_vit"]
    assert own.paper.isna().all() and own.ours.notna().all()
    assert "the paper has no such model" in table.attrs["notes"]["mine"]
    assert other.ours.isna().all() and value_of(other, "accuracy").paper == 0.85
    assert table.attrs["notes"]["hf_vit"].startswith("not trained: `./run_all.sh")


@pytest.mark.parametrize("text", ['{"mod', "[]", "null", "short", "accuracy", "class_acc"])
def test_a_damaged_file_is_named_with_what_to_run(tmp_path: Path, text: str):
    run = metrics_of("linformer")
    path = save_run(tmp_path, run)
    less = {"short": run | {"class_acc": [0.5] * 3}}
    less |= {name: {key: run[key] for key in run if key != name} for name in run}
    path.write_text(json.dumps(less[text]) if text in less else text)
    with pytest.raises(Gz2vitError, match="metrics.json .*--only linformer"):
        results_table(tmp_path, ["linformer"])
    path.write_text(json.dumps(run))
    path.with_name("params.json").write_text("{")
    with pytest.raises(Gz2vitError, match="params.json: .*--only linformer"):
        results_table(tmp_path, ["linformer"])


def test_predictions_alone_are_enough(tmp_path: Path):
    folder, data = tmp_path / "models" / "linformer", tmp_path / "selection" / "data.json"
    folder.mkdir(parents=True)
    rows = "".join(f"NA{row},{row % 7},{row % 6}\n" for row in range(42))
    (folder / "predictions.csv").write_text(f"GalaxyID,class,pred\n{rows}")
    data.parent.mkdir()
    record = {"profile": "published", "name": "the authors' galaxies", "galaxies": {"test": 42}}
    data.write_text(json.dumps(record))
    table = results_table(tmp_path, ["linformer"])
    assert table.attrs["notes"]["linformer"].startswith("comparable")
    assert value_of(table, "accuracy").ours == pytest.approx(6 / 42)
    assert value_of(table, "recall_macro").low > 0
    assert np.isnan(value_of(table, "train_seconds").ours)
    text = to_markdown(table)
    summary, _, trained = rows_of(text, "linformer")
    assert summary[-1] == "yes" and trained[2:5] == ["–", "–", "–"]
    assert "profile `published`, the authors' galaxies, of which 42 to test on." in text
    assert "72.33" in to_latex(table) and training_words(tmp_path, ["linformer"]) == ""
    data.write_text(json.dumps(record | {"profile": "demo"}))
    assert "how it was trained is not known" in note_of(tmp_path, "linformer")


def test_the_authors_own_epochs_are_known():
    own = results.published_history("linformer")
    assert own.epoch.tolist() == list(range(1, 55))
    assert own.valid_acc[0] == 0.6174
    assert (own.valid_acc.max(), own.epoch[own.valid_acc.idxmax()]) == (0.8035, 51)
    assert results.published_history("vit") is None
