"""Training: it learns, repeats itself, keeps the best epoch, and says what went wrong."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback

from gz2vit.images import LabelledImages
from gz2vit.io import MODEL_FILES, Gz2vitError
from gz2vit.predict import evaluate_model, predict
from gz2vit.training import (
    HISTORY_COLUMNS,
    GalaxyClassifier,
    TrainingSettings,
    fit,
    load_classifier,
    make_classifier,
    train_model,
)
from tests.unit.small_training import NETWORK, SETTINGS, make_results, open_splits


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_results(tmp_path_factory.mktemp("road"))


@pytest.fixture
def splits(results: Path) -> tuple[LabelledImages, ...]:
    return open_splits(results)


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


def test_validation_galaxies_are_predicted_too(results: Path, splits: tuple):
    """By the same weights: their accuracy is the one that chose the epoch."""
    table = pd.read_csv(results / "models" / "linformer" / "validation_predictions.csv")
    assert table.GalaxyID.tolist() == [f"valid-{row:03d}" for row in range(24)]
    assert table["class"].tolist() == splits[1].class_index.tolist()
    metrics = json.loads((results / "models" / "linformer" / "metrics.json").read_text())
    assert (table["class"] == table.pred).mean() == pytest.approx(metrics["valid_acc"])


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


class Modes(Callback):
    """Notes which parts of the network are in training mode while a batch is learnt from."""

    def __init__(self) -> None:
        self.training: dict[str, bool] = {}

    def on_train_batch_start(self, trainer: Trainer, module: GalaxyClassifier, *_: object) -> None:
        self.training |= {name: part.training for name, part in module.network.named_modules()}


def test_every_part_trains_with_its_dropout(splits: tuple, tmp_path: Path):
    """A part without parameters, as dropout is, is not a frozen one."""
    modes = Modes()
    fit(SETTINGS, *splits[:2], tmp_path / "m", 1, "none", [modes])
    assert len(modes.training) > 10
    assert all(modes.training.values())


def test_dropout_makes_a_difference_to_what_is_learnt(splits: tuple, tmp_path: Path):
    strong = replace(SETTINGS, hyperparameters=NETWORK | {"dropout": 0.5})
    (first, _), (second, _) = run_twice(splits, tmp_path, SETTINGS, strong)
    assert not np.allclose(first.train_loss, second.train_loss, rtol=1e-3)


def test_normalisation_is_the_models_own(splits: tuple):
    linformer, _ = make_classifier(SETTINGS, splits[0])
    resnet, _ = make_classifier(
        replace(SETTINGS, model_key="resnet50", hyperparameters={}), splits[0]
    )
    # What a classifier does to grey levels: (x / 255 - mean) / std.
    mean, std = torch.tensor([0.094, 0.0815, 0.063]), torch.tensor([0.1303, 0.11, 0.0913])
    for classifier in (linformer, resnet):
        seen = []
        classifier.network.forward = lambda images, seen=seen: seen.append(images)
        classifier(torch.full((1, 3, 2, 2), 51, dtype=torch.uint8))
        assert torch.allclose(seen[0][0, :, 0, 0], (0.2 - mean) / std, atol=1e-5)
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


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
