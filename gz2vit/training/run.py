"""Training from the image store to the best checkpoint, one printed line for each epoch.

A run that was interrupted continues after its last whole epoch when it is given again
(`unfinished`), on a CPU to the same bits as if nothing had happened.
"""

import logging
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping
from lightning.pytorch.plugins.environments import LightningEnvironment

from gz2vit.class_weights import class_weights
from gz2vit.data.galaxies import LabelledImages
from gz2vit.downloads.weights import fetch_weights
from gz2vit.errors import Gz2vitError
from gz2vit.models.pretrained import pretrained_state
from gz2vit.results import CHECKPOINT_SUFFIX, run_record, write_json
from gz2vit.training.acceleration import (
    Acceleration,
    choose_acceleration,
)
from gz2vit.training.classifier import GalaxyClassifier
from gz2vit.training.galaxy_data import GalaxyData
from gz2vit.training.history import History, is_complete
from gz2vit.training.processes import train_in_processes
from gz2vit.training.settings import TrainingSettings
from gz2vit.training.starting_weights import load_trained
from gz2vit.training.unfinished import AtomicCheckpointIO, Unfinished, identity


class SaveEpoch(Checkpoint):
    """Saves, at the end of each epoch, the weights if they are the best, and all the next needs.

    A `Checkpoint`, because Lightning calls those last: early stopping has seen the epoch then.
    """

    def __init__(self, unfinished: Unfinished, history: History) -> None:
        self.unfinished, self.history = unfinished, history

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: GalaxyClassifier) -> None:
        """Write `best.ckpt` (the first of equally good epochs) and `last.ckpt`."""
        *before, now = (row["valid_acc"] for row in self.history.rows)
        if now > max(before, default=-1.0):
            trainer.save_checkpoint(self.unfinished.best, weights_only=True)
        trainer.save_checkpoint(self.unfinished.last)


def train_model(
    settings: TrainingSettings,
    train: LabelledImages,
    valid: LabelledImages,
    model_dir: Path,
    devices: int = 1,
    acceleration: str = "auto",
) -> pd.DataFrame:
    """Train one network and return its history (one row an epoch, `history.HISTORY_COLUMNS`).

    Writes `best.ckpt` (the epoch with the best validation accuracy, the first of equals),
    `history.csv` and `params.json` into `model_dir`, and `unfinished/` while it works. `devices`:
    GPUs (or, without any, CPU processes) that train together, each on its share of every batch, so
    that batch size and learning rate mean the same; the splits must then be a results folder's.
    `acceleration`: "auto" for what pays on the device, "none" for plain float32. Raises
    `Gz2vitError` where the loss is not finite, pretrained weights cannot be had, devices are
    missing, or the disk is full.
    """
    check_devices(devices)
    model_dir.mkdir(parents=True, exist_ok=True)
    unfinished = Unfinished(model_dir)
    unfinished.begin(identity(settings, train, valid))
    rows = unfinished.rows()
    if rows:
        print(f"continuing after epoch {len(rows)}, the last whole one", flush=True)
    if not is_complete(rows, settings.max_epoch, settings.early_stopping_epochs):
        if devices > 1:
            train_in_processes(settings, train, model_dir, devices, acceleration)
        else:
            fit(settings, train, valid, model_dir, devices, acceleration)
    history = History(model_dir / "history.csv", settings.max_epoch)
    history.rows = unfinished.rows()
    history.write(history.path)
    unfinished.publish()
    return history.table()


def fit(
    settings: TrainingSettings,
    train: LabelledImages,
    valid: LabelledImages,
    model_dir: Path,
    devices: int,
    acceleration: str,
    callbacks: Sequence[Callback] = (),
) -> None:
    """Train in this process, alone or as one of `devices`, after the last whole epoch if any.

    `callbacks`: further ones of Lightning's, for measurements.
    """
    unfinished = Unfinished(model_dir)
    history = History(model_dir / "history.csv", settings.max_epoch)
    device = local_device()
    chosen = choose_acceleration(acceleration, settings.network, device)
    classifier, weights_record = make_classifier(settings, train)
    classifier.use(chosen)
    trainer = _trainer(settings, unfinished, history, callbacks, devices, chosen)
    if trainer.is_global_zero:
        hardware = {"device": device_name(device), "devices": devices, **chosen.as_dict()}
        sessions = unfinished.add_session(hardware)
        record = run_record(settings.as_dict(), settings.seed, hardware["device"])
        record |= {"class_weights": classifier.loss_weights.tolist(), "weights": weights_record}
        record |= {"threads": torch.get_num_threads(), "sessions": sessions}
        write_json(model_dir / "params.json", record)
    data = GalaxyData(settings, train, valid, device)
    last = unfinished.last if unfinished.last.exists() else None
    trainer.fit(classifier, datamodule=data, ckpt_path=last, weights_only=True)


def make_classifier(
    settings: TrainingSettings, train: LabelledImages
) -> tuple[GalaxyClassifier, dict]:
    """The classifier of a run before its training, and the record of its weights.

    Untrained; or with published weights but for the last layer; or with all weights of a network
    that this suite has trained. Raises `Gz2vitError` where weights cannot be had or do not fit.
    """
    torch.manual_seed(settings.seed)
    loss_weights = class_weights(settings.class_weights, train.class_counts())
    classifier = GalaxyClassifier(settings.as_dict(), loss_weights.tolist())
    if settings.weights == "none":
        return classifier, {"source": "none"}
    sizes = settings.hyperparameters
    path, record = fetch_weights(settings.network, settings.weights, sizes.get("name", ""))
    if path.suffix == CHECKPOINT_SUFFIX:
        load_trained(classifier, path)
    else:
        state = pretrained_state(settings.network, sizes, path)
        classifier.load_pretrained(state, settings.weights)
    return classifier, record


def _trainer(
    settings: TrainingSettings,
    unfinished: Unfinished,
    history: History,
    callbacks: Sequence[Callback],
    devices: int,
    chosen: Acceleration,
) -> lightning.Trainer:
    """Lightning's trainer, quiet but for our own line an epoch."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")
    # DEVIATION: the authors stop after 10 epochs without improvement, but do not say of what; we
    # watch the figure that also selects the weights.
    patience = EarlyStopping("valid_acc", mode="max", patience=settings.early_stopping_epochs)
    together: dict[str, Any] = {"strategy": "auto"}
    if devices > 1:
        # Batch norm over the whole batch, as on one device; Lightning has it for GPUs only.
        together = {"strategy": "ddp", "sync_batchnorm": torch.cuda.is_available()}
    return lightning.Trainer(
        max_epochs=settings.max_epoch,
        accelerator="auto",
        devices=devices,
        **together,
        precision=chosen.precision,
        # The cluster's scheduler starts the step, not each of its processes.
        plugins=[AtomicCheckpointIO(), LightningEnvironment()],
        callbacks=[history, *callbacks, patience, SaveEpoch(unfinished, history)],
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=unfinished.folder,
    )


def check_devices(devices: int) -> None:
    """Refuse a number of devices that this machine does not have."""
    kind = "GPU" if torch.cuda.is_available() else "processor core"
    there = torch.cuda.device_count() if torch.cuda.is_available() else os.cpu_count() or 1
    if not 1 <= devices <= there:
        raise Gz2vitError(f"DEVICES is {devices}, but this machine has {there} {kind}(s)")


def local_device() -> torch.device:
    """The device of this process: the GPU of its number, Apple's GPU, or the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """A device in words: the GPU's product name, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
