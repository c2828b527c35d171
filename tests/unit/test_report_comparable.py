"""What may be compared with the paper's numbers, and why the rest may not."""

import json
from pathlib import Path

import numpy as np
import pytest

from gz2vit.evaluation import wilson_interval
from gz2vit.io import Gz2vitError
from gz2vit.paper import CLASS_NAMES, PUBLISHED_RESULTS, SPLIT_CLASS_COUNTS
from gz2vit.results_table import origin, results_table, to_markdown, training_words
from tests.unit.saved_runs import CUT_SHORT, GALAXIES, LINFORMER, RESNET, metrics_of, save_run


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
