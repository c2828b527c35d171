"""Interrupted training: it continues to the same bits, and nothing is lost or half-written."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from gz2vit.images import LabelledImages
from gz2vit.io import Gz2vitError
from gz2vit.predict import evaluate_model, predict
from gz2vit.training import (
    AtomicCheckpointIO,
    TrainingSettings,
    Unfinished,
    fit,
    identity,
    is_complete,
    load_classifier,
    train_model,
)
from tests.unit.small_training import SETTINGS, make_results, open_splits

LONG = replace(SETTINGS, max_epoch=8, early_stopping_epochs=8, lr=1e-3)
TRAIN = """
import json, sys
from pathlib import Path
from gz2vit.data import open_split
from gz2vit.training import TrainingSettings, train_model
settings = TrainingSettings(**json.loads(sys.argv[1]))
train, valid = (open_split(sys.argv[2], split) for split in ("train", "valid"))
print("ready", flush=True)
train_model(settings, train, valid, Path(sys.argv[3]))
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_results(tmp_path_factory.mktemp("road"))


@pytest.fixture(scope="module")
def splits(results: Path) -> tuple[LabelledImages, ...]:
    return open_splits(results)


@pytest.fixture(scope="module")
def undisturbed(splits: tuple, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model folder of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed") / "m"
    train_model(LONG, *splits[:2], folder)
    return folder


def start_training(settings: TrainingSettings, results: Path, folder: Path) -> subprocess.Popen:
    """The same training in a process of its own, which may be killed."""
    words = [json.dumps(settings.as_dict()), str(results), str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-c", TRAIN, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def assert_same_run(folder: Path, other: Path, test: LabelledImages) -> None:
    """History, weights and predictions are equal bit for bit."""
    ours, theirs = (
        pd.read_csv(one / "history.csv").drop(columns="seconds") for one in (folder, other)
    )
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    models = [load_classifier(one) for one in (folder, other)]
    states = [model.state_dict() for model in models]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    predictions = [predict(model, test) for model in models]
    pd.testing.assert_frame_equal(*predictions, check_exact=True)


def test_killed_at_three_random_moments_it_ends_the_same(
    results: Path, splits: tuple, undisturbed: Path, tmp_path: Path
):
    folder, seed = tmp_path / "m", random.SystemRandom().randrange(1 << 32)
    chance, kills = random.Random(seed), 0
    print(f"moments drawn with seed {seed}")
    while kills < 3:
        process = start_training(LONG, results, folder)
        assert process.stdout.readline() == "ready\n"
        # The first moments of a session, in which it makes the network, and some of its epochs.
        time.sleep(chance.uniform(0, 2.0))
        process.kill()
        assert process.wait() in (-signal.SIGKILL, 0), process.stdout.read()
        kills += 1
    history = train_model(LONG, *splits[:2], folder)
    assert len(history) == 8
    assert_same_run(folder, undisturbed, splits[2])


class Snapshots(Callback):
    """Copies the unfinished state as each epoch begins: what a kill in that epoch would leave."""

    def __init__(self, model_dir: Path, target: Path) -> None:
        self.model_dir, self.target = model_dir, target

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        place = self.target / str(trainer.current_epoch)
        shutil.copytree(self.model_dir / "unfinished", place / "unfinished")


def test_continued_after_any_epoch_it_ends_the_same(
    splits: tuple, undisturbed: Path, tmp_path: Path
):
    train, valid, test = splits
    Unfinished(tmp_path / "m").begin(identity(LONG, train, valid))
    snapshots = Snapshots(tmp_path / "m", tmp_path / "after")
    fit(LONG, train, valid, tmp_path / "m", 1, "auto", [snapshots])
    for epochs in range(8):
        folder = tmp_path / "after" / str(epochs)
        assert len(rows_saved(folder / "unfinished" / "last.ckpt")) == epochs
        assert len(train_model(LONG, train, valid, folder)) == 8
        assert_same_run(folder, undisturbed, test)


def rows_saved(last: Path) -> list:
    """The history in a checkpoint, where there is one."""
    if not last.exists():
        return []
    return torch.load(last, weights_only=True)["callbacks"]["History"]["rows"]


def test_nothing_unfinished_is_left_when_the_predictions_are_written(results: Path, splits: tuple):
    folder = results / "models" / "linformer"
    train_model(replace(SETTINGS, max_epoch=1), *splits[:2], folder)
    assert (folder / "unfinished" / "last.ckpt").exists()
    evaluate_model(results, "linformer", splits[2])
    assert not (folder / "unfinished").exists()


def test_killed_between_training_and_predicting_it_does_not_train_again(
    splits: tuple, undisturbed: Path, capsys: pytest.CaptureFixture
):
    for name in ("best.ckpt", "history.csv"):  # the workflow deletes what a killed step wrote
        (undisturbed / name).unlink()
    history = train_model(LONG, *splits[:2], undisturbed)
    assert len(history) == 8
    assert (undisturbed / "best.ckpt").exists()
    assert "epoch   " not in capsys.readouterr().out


def test_early_stopping_is_remembered(splits: tuple, tmp_path: Path):
    settings = replace(LONG, lr=1e-12, max_epoch=9, early_stopping_epochs=2)
    assert len(train_model(settings, *splits[:2], tmp_path / "m")) == 3
    assert len(train_model(settings, *splits[:2], tmp_path / "m")) == 3


@pytest.mark.parametrize(
    ("accuracies", "complete"),
    [([], False), ([0.1], False), ([0.5, 0.5], False), ([0.5, 0.5, 0.5], True),
     ([0.1, 0.2, 0.3], False), ([0.3, 0.2, 0.1, 0.2], True), ([0.1, 0.2, 0.3, 0.4, 0.5], True)],
)  # fmt: skip
def test_a_run_is_complete_as_early_stopping_says(accuracies: list, complete: bool):
    rows = [{"valid_acc": value} for value in accuracies]
    assert is_complete(rows, max_epoch=5, patience=2) is complete


def test_another_run_starts_anew_and_sets_the_old_one_aside(
    splits: tuple, tmp_path: Path, capsys: pytest.CaptureFixture
):
    folder = tmp_path / "m"
    train_model(replace(SETTINGS, max_epoch=1), *splits[:2], folder)
    train_model(replace(SETTINGS, max_epoch=1, lr=1e-4), *splits[:2], folder)
    assert "an unfinished run with other settings is set aside in" in capsys.readouterr().out
    assert (folder / "given_up" / "last.ckpt").exists()
    assert json.loads((folder / "unfinished" / "run.json").read_text())["settings"]["lr"] == 1e-4


def test_other_galaxies_or_other_code_make_another_run(
    splits: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    train, valid, _ = splits
    one = replace(SETTINGS, max_epoch=1)
    train_model(one, train, valid, tmp_path / "m")
    train_model(one, train, replace(valid, class_index=valid.class_index[::-1].copy()),
                tmp_path / "m")  # fmt: skip
    assert "with other valid is set aside" in capsys.readouterr().out
    monkeypatch.setattr("gz2vit.training.files_signature", lambda patterns: "another")
    train_model(one, train, valid, tmp_path / "m")
    assert "with other valid and code is set aside" in capsys.readouterr().out


def test_the_record_tells_where_a_run_was_continued(splits: tuple, tmp_path: Path):
    folder = tmp_path / "m"
    process = start_training(LONG, splits[0].store.path.parents[1], folder)
    while not process.stdout.readline().startswith("epoch"):
        pass
    process.kill()
    process.wait()
    saved = len(rows_saved(folder / "unfinished" / "last.ckpt"))
    train_model(LONG, *splits[:2], folder)
    sessions = json.loads((folder / "params.json").read_text())["sessions"]
    assert [one["after_epoch"] for one in sessions] == [0, saved]


def test_a_full_disk_is_one_error_and_loses_no_epoch(
    splits: tuple, tmp_path: Path, undisturbed: Path
):
    """A limit on the size of files stands in for the disk: writing fails in the same place."""
    folder = tmp_path / "m"
    train_model(LONG, *splits[:2], folder)  # to know how large a checkpoint is
    size = (folder / "unfinished" / "last.ckpt").stat().st_size
    evaluated = (folder / "unfinished" / "last.ckpt").read_bytes()
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, hard))
    try:
        with pytest.raises(Gz2vitError, match=r"cannot write .*m/last.ckpt: .*same command again"):
            AtomicCheckpointIO().save_checkpoint({"much": torch.zeros(size)}, folder / "last.ckpt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert not list(folder.glob(".last*"))
    assert (folder / "unfinished" / "last.ckpt").read_bytes() == evaluated


def test_a_damaged_state_is_refused_by_name(splits: tuple, tmp_path: Path):
    folder = tmp_path / "m"
    train_model(replace(SETTINGS, max_epoch=1), *splits[:2], folder)
    last = folder / "unfinished" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(Gz2vitError, match="last.ckpt cannot be read; delete .*unfinished"):
        train_model(replace(SETTINGS, max_epoch=1), *splits[:2], folder)


def test_a_diverging_loss_keeps_the_best_weights(splits: tuple, tmp_path: Path):
    """A weight that is spoilt after two epochs: epoch, batch, rate and place are named."""
    folder = tmp_path / "m"
    train_model(replace(LONG, max_epoch=2), *splits[:2], folder)
    unfinished = folder / "unfinished"
    best = (unfinished / "best.ckpt").read_bytes()
    state = torch.load(unfinished / "last.ckpt", weights_only=True)
    name = "network.mlp_head.1.weight"
    state["state_dict"][name] *= 1e9
    torch.save(state, unfinished / "last.ckpt")
    run = json.loads((unfinished / "run.json").read_text())
    run["settings"]["max_epoch"] = LONG.max_epoch
    (unfinished / "run.json").write_text(json.dumps(run))
    told = r"train loss of linformer became .* in epoch 3, batch 1, at learning rate 0.0005; .*kept"
    with pytest.raises(Gz2vitError, match=told):
        train_model(LONG, *splits[:2], folder)
    assert (unfinished / "best.ckpt").read_bytes() == best
