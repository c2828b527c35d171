"""Training: it learns, repeats itself, keeps the best epoch, and says what went wrong."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from gz2vit.catalog import read_data_folder
from gz2vit.data import LabelledImages, open_split, pack_images
from gz2vit.errors import Gz2vitError
from gz2vit.evaluation import PROBABILITY_COLUMNS
from gz2vit.results import MODEL_FILES
from gz2vit.selection import write_selection
from gz2vit.training import (
    TrainingSettings,
    evaluate_model,
    load_classifier,
    predict,
    train_model,
)
from gz2vit.training.run import HISTORY_COLUMNS, make_classifier
from tests.unit.folders import make_folder

NETWORK = {"image_size": 32, "patch_size": 8, "depth": 1, "dim": 16, "k_dim": 4, "heads": 2}
SETTINGS = TrainingSettings(
    "linformer",
    lr=3e-3,
    step_size=2,
    gamma=0.5,
    hyperparameters=NETWORK,
    image_size=32,
    batch_size=16,
    max_epoch=3,
)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with a selection and packed stores of a small data folder."""
    root = tmp_path_factory.mktemp("road")
    folder = read_data_folder(make_folder(root / "mine", per_class=3))
    selection = write_selection(root, folder, folder.tables, "smoke")
    for split, table in selection.tables.items():
        paths = [folder.image_path(name) for name in table.galaxyID]
        ids = table.galaxyID.tolist()
        pack_images(paths, ids, root / "store" / f"{split}.npy", 64, selection.data["signature"])
    return root


@pytest.fixture
def splits(results: Path) -> Iterator[tuple[LabelledImages, ...]]:
    yield tuple(open_split(results, split) for split in ("train", "valid", "test"))


def test_writes_the_files_of_a_run(results: Path, splits: tuple, capsys: pytest.CaptureFixture):
    train, valid, test = splits
    folder = results / "models" / "linformer"
    history = train_model(SETTINGS, train, valid, folder)
    metrics = evaluate_model(results, "linformer", test)
    assert sorted(path.name for path in folder.iterdir()) == sorted(MODEL_FILES)
    assert history.epoch.tolist() == [1, 2, 3]
    assert history.lr.tolist() == pytest.approx([3e-3, 3e-3, 1.5e-3])
    saved = pd.read_csv(folder / "history.csv")
    assert tuple(saved.columns) == HISTORY_COLUMNS
    pd.testing.assert_frame_equal(saved, history)
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    assert metrics["best_epoch"] == int(history.valid_acc.idxmax()) + 1
    assert metrics["test_galaxies"] == len(test.store) == 24
    assert metrics["class_test_galaxies"] == [3] * 8
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert len(lines) == 3
    assert lines[0].startswith("epoch   1/3  train loss ")


def test_predictions_have_the_contracts_columns(results: Path):
    table = pd.read_csv(results / "models" / "linformer" / "predictions.csv")
    probabilities = [f"p{index}" for index in range(8)]
    assert table.columns.tolist() == ["GalaxyID", "class", "pred", *probabilities]
    assert table[probabilities].sum(axis=1).to_numpy() == pytest.approx(1)
    assert (table[probabilities].to_numpy().argmax(axis=1) == table.pred).all()
    assert table.GalaxyID.tolist() == [f"test-{row:03d}" for row in range(24)]


def test_params_record_the_run(results: Path):
    record = json.loads((results / "models" / "linformer" / "params.json").read_text())
    assert record["parameters"]["hyperparameters"] == NETWORK
    assert record["seed"] == 0
    assert record["device"] == "cpu" or torch.cuda.is_available()
    assert {"torch", "lightning", "linformer", "vit-pytorch", "gz2vit"} <= record["versions"].keys()
    assert record["git_commit"]


def test_learns_what_can_be_learnt(splits: tuple, tmp_path: Path):
    """The test folder's classes differ in colour; a working loop finds that out."""
    train, valid, _ = splits
    settings = replace(SETTINGS, max_epoch=30, early_stopping_epochs=30, step_size=30)
    history = train_model(settings, train, valid, tmp_path / "m")
    assert history.train_loss.iloc[-1] < 0.8 * history.train_loss.iloc[0]
    assert history.valid_acc.max() > 0.8  # chance: 0.125


def run_twice(splits: tuple, tmp_path: Path, *settings: TrainingSettings) -> list[tuple]:
    """History and final predictions of a run for each of `settings`."""
    train, valid, test = splits
    outcomes = []
    for number, one in enumerate(settings):
        history = train_model(one, train, valid, tmp_path / str(number))
        probabilities = predict(load_classifier(tmp_path / str(number)), test)
        outcomes.append((history.drop(columns="seconds"), probabilities))
    return outcomes


def test_one_seed_gives_one_result(splits: tuple, tmp_path: Path):
    (first, p_first), (second, p_second) = run_twice(splits, tmp_path, SETTINGS, SETTINGS)
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    pd.testing.assert_frame_equal(p_first, p_second, check_exact=True)


def test_another_seed_gives_another_result(splits: tuple, tmp_path: Path):
    (first, _), (second, _) = run_twice(splits, tmp_path, SETTINGS, replace(SETTINGS, seed=1))
    assert not np.allclose(first.train_loss, second.train_loss)


def test_stops_early(splits: tuple, tmp_path: Path):
    train, valid, _ = splits
    settings = replace(SETTINGS, lr=1e-12, max_epoch=9, early_stopping_epochs=2)
    assert len(train_model(settings, train, valid, tmp_path / "m")) == 3


def test_a_loss_that_is_not_finite_ends_the_run(splits: tuple, tmp_path: Path):
    train, valid, _ = splits
    settings = replace(SETTINGS, lr=1e30)
    with pytest.raises(Gz2vitError, match="loss of linformer became .* in epoch 1, batch .*1e.30"):
        train_model(settings, train, valid, tmp_path / "m")


def test_class_weights_reach_the_loss(splits: tuple):
    classifier, _ = make_classifier(replace(SETTINGS, class_weights="tuned"), splits[0])
    assert classifier.loss_weights[7] == pytest.approx(3.23, abs=0.005)


def test_normalisation_is_the_models_own(splits: tuple):
    linformer, _ = make_classifier(SETTINGS, splits[0])
    resnet, _ = make_classifier(
        replace(SETTINGS, model_key="resnet50", hyperparameters={}), splits[0]
    )
    assert linformer.mean.flatten().tolist() == pytest.approx([0.094, 0.0815, 0.063])
    assert resnet.std.flatten().tolist() == pytest.approx([0.229, 0.224, 0.225])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"max_epoch": 2.5}, "max_epoch is 2.5"),
        ({"lr": -1.0}, "lr is -1.0"),
        ({"gamma": float("inf")}, "gamma is inf"),
        ({"model_key": "alexnet"}, "no model 'alexnet'"),
    ],
)
def test_settings_are_checked(change: dict, words: str):
    with pytest.raises(Gz2vitError, match=words):
        replace(SETTINGS, **change)


def test_foreign_checkpoint_is_refused_and_runs_nothing(tmp_path: Path):
    class Bomb:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "exploded",))

    torch.save({"hyper_parameters": Bomb(), "state_dict": {}}, tmp_path / "best.ckpt")
    with pytest.raises(Gz2vitError, match="best.ckpt is not a checkpoint of this suite"):
        load_classifier(tmp_path)
    assert not (tmp_path / "exploded").exists()
    (tmp_path / "best.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(Gz2vitError, match="best.ckpt is not a checkpoint"):
        load_classifier(tmp_path)


def test_missing_checkpoint_names_the_step(tmp_path: Path):
    with pytest.raises(Gz2vitError, match="the step 'resnet50' makes it"):
        load_classifier(tmp_path / "results" / "demo" / "models" / "resnet50")


def test_local_imagenet_weights_are_taken_and_recorded(splits: tuple, tmp_path: Path):
    from gz2vit.models import build_model

    torch.manual_seed(7)
    donor = build_model("resnet50", num_classes=1000)
    torch.save(donor.state_dict(), tmp_path / "donor.pth")
    settings = TrainingSettings(
        "resnet50", lr=1e-4, step_size=1, gamma=1.0, weights=str(tmp_path / "donor.pth")
    )
    classifier, record = make_classifier(settings, splits[0])
    assert torch.equal(classifier.network.conv1.weight, donor.conv1.weight)
    assert classifier.network.fc.out_features == 8
    assert record["source"] == settings.weights
    assert len(record["sha256"]) == 64


def test_weights_that_do_not_fit_or_are_missing_are_told(splits: tuple, tmp_path: Path):
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    settings = TrainingSettings("resnet50", lr=1e-4, step_size=1, gamma=1.0)
    with pytest.raises(Gz2vitError, match="do not fit resnet50"):
        make_classifier(replace(settings, weights=str(tmp_path / "other.pth")), splits[0])
    with pytest.raises(Gz2vitError, match="no weights file .*absent.pth"):
        make_classifier(replace(settings, weights=str(tmp_path / "absent.pth")), splits[0])


SMALL = {
    "linformer": NETWORK,
    "vit": {"image_size": 32, "patch_size": 8, "depth": 1, "dim": 16, "mlp_dim": 8, "heads": 2},
    "resnet50": {},
    "vgg16_bn": {},
    "hf_vit": {"image_size": 32, "patch_size": 8, "depth": 1, "dim": 16, "mlp_dim": 8, "heads": 2},
    "backbone": {"name": "timm/convnext_atto", "image_size": 32},
}
RELOAD = """
import sys
import numpy as np
from gz2vit.data import open_split
from gz2vit.evaluation import PROBABILITY_COLUMNS
from gz2vit.training import load_classifier, predict
table = predict(load_classifier(sys.argv[1]), open_split(sys.argv[2], "test"))
np.save(sys.argv[3], table[list(PROBABILITY_COLUMNS)].to_numpy())
"""


@pytest.mark.parametrize("architecture", SMALL)
def test_a_checkpoint_predicts_the_same_bits_in_a_new_process(
    results: Path, splits: tuple, tmp_path: Path, architecture: str
):
    """Trained for an epoch, so that running means and all else that is stored have moved."""
    train, valid, test = splits
    settings = replace(
        SETTINGS,
        model_key=architecture,
        hyperparameters=SMALL[architecture],
        max_epoch=1,
        lr=1e-4,
    )
    train_model(settings, train, valid, tmp_path / "m")
    ours = predict(load_classifier(tmp_path / "m"), test)[list(PROBABILITY_COLUMNS)].to_numpy()
    command = [sys.executable, "-c", RELOAD, tmp_path / "m", results, tmp_path / "p.npy"]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    subprocess.run([*map(str, command)], check=True, env=os.environ | threads)
    assert np.array_equal(ours, np.load(tmp_path / "p.npy"))


def test_a_checkpoint_of_another_network_is_refused(splits: tuple, tmp_path: Path):
    train, valid, _ = splits
    train_model(replace(SETTINGS, max_epoch=1), train, valid, tmp_path / "m")
    state = torch.load(tmp_path / "m" / "best.ckpt", weights_only=True)
    state["hyper_parameters"]["settings"]["hyperparameters"]["depth"] = 2
    torch.save(state, tmp_path / "m" / "best.ckpt")
    with pytest.raises(Gz2vitError, match="best.ckpt is not a checkpoint of this suite"):
        load_classifier(tmp_path / "m")


def test_a_damaged_checkpoint_is_refused(splits: tuple, tmp_path: Path):
    train, valid, _ = splits
    train_model(replace(SETTINGS, max_epoch=1), train, valid, tmp_path / "m")
    path = tmp_path / "m" / "best.ckpt"
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:100] + b"\0" * 400 + whole[500:]):
        path.write_bytes(damaged)
        with pytest.raises(Gz2vitError, match="best.ckpt is not a checkpoint"):
            load_classifier(tmp_path / "m")


def test_a_frozen_backbone_stays_as_it_was(splits: tuple, tmp_path: Path):
    train, valid, _ = splits
    network = SMALL["backbone"] | {"freeze_backbone": True}
    settings = replace(
        SETTINGS, model_key="mine", architecture="backbone", hyperparameters=network, max_epoch=1
    )
    before, _ = make_classifier(settings, train)
    train_model(settings, train, valid, tmp_path / "m")
    after = load_classifier(tmp_path / "m").network.state_dict()
    changed = {
        name
        for name, tensor in before.network.state_dict().items()
        if not torch.equal(tensor, after[name])
    }
    assert changed == {"head.fc.weight", "head.fc.bias"}


def test_a_local_hugging_face_model_is_the_start(splits: tuple, tmp_path: Path):
    from transformers import ViTConfig, ViTForImageClassification

    sizes = SMALL["hf_vit"]
    donor = ViTForImageClassification(
        ViTConfig(
            image_size=32, patch_size=8, hidden_size=16, num_hidden_layers=1,
            num_attention_heads=2, intermediate_size=8, num_labels=1000,
        )
    )  # fmt: skip
    donor.save_pretrained(tmp_path / "donor")
    settings = replace(
        SETTINGS, model_key="hf_vit", hyperparameters=sizes, weights=str(tmp_path / "donor")
    )
    classifier, record = make_classifier(settings, splits[0])
    own = classifier.network.model.vit.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in donor.vit.state_dict().items())
    assert record["file"] == "model.safetensors"
    with pytest.raises(Gz2vitError, match="do not fit hf_vit"):
        make_classifier(replace(settings, hyperparameters=sizes | {"depth": 2}), splits[0])


def test_a_local_file_is_the_start_of_a_network_of_timm(splits: tuple, tmp_path: Path):
    import timm
    from safetensors.torch import save_file

    donor = timm.create_model("convnext_atto", num_classes=1000)
    save_file(donor.state_dict(), tmp_path / "donor.safetensors")
    settings = replace(
        SETTINGS,
        model_key="mine",
        architecture="backbone",
        hyperparameters=SMALL["backbone"],
        weights=str(tmp_path / "donor.safetensors"),
    )
    classifier, _ = make_classifier(settings, splits[0])
    assert torch.equal(classifier.network.stem[0].weight, donor.stem[0].weight)
    assert classifier.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    save_file({"foreign": torch.zeros(2)}, tmp_path / "donor.safetensors")
    with pytest.raises(Gz2vitError, match="do not fit timm/convnext_atto"):
        make_classifier(settings, splits[0])
