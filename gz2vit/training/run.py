"""Training from the image store to the best checkpoint, one printed line for each epoch."""

import logging
import time
import warnings
from pathlib import Path

import lightning
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

from gz2vit.class_weights import class_weights
from gz2vit.data import Batches
from gz2vit.data.galaxies import LabelledImages
from gz2vit.downloads.weights import fetch_weights
from gz2vit.models.pretrained import pretrained_state
from gz2vit.results import atomic_path, run_record, write_json
from gz2vit.training.classifier import CHECKPOINT, GalaxyClassifier
from gz2vit.training.settings import TrainingSettings

HISTORY_COLUMNS = ("epoch", "train_loss", "train_acc", "valid_loss", "valid_acc", "lr", "seconds")


class GalaxyData(lightning.LightningDataModule):
    """The two splits that training sees; each epoch's batches are drawn anew."""

    def __init__(
        self, settings: TrainingSettings, train: LabelledImages, valid: LabelledImages
    ) -> None:
        super().__init__()
        self.settings, self.train, self.valid = settings, train, valid

    def train_dataloader(self) -> Batches:
        """Augmented batches of the current epoch."""
        return self._batches(self.train, augment=True, epoch=self.trainer.current_epoch)

    def val_dataloader(self) -> Batches:
        """The validation galaxies in order, not augmented."""
        return self._batches(self.valid)

    def _batches(self, galaxies: LabelledImages, **options: bool | int) -> Batches:
        sizes = {"image_size": self.settings.image_size, "batch_size": self.settings.batch_size}
        seed = self.settings.seed
        return Batches(galaxies.store, galaxies.class_index, **sizes, seed=seed, **options)


class History(Callback):
    """Prints a line for each epoch and keeps `history.csv` up to date."""

    def __init__(self, path: Path, max_epoch: int) -> None:
        self.path, self.max_epoch, self.rows = path, max_epoch, []

    def on_train_epoch_start(self, trainer: lightning.Trainer, module: GalaxyClassifier) -> None:
        """Note the time and the learning rate of the epoch."""
        self.start = time.perf_counter()
        self.lr = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: GalaxyClassifier) -> None:
        """Add the epoch's row to the file and print it."""
        row = {"epoch": trainer.current_epoch + 1, "lr": self.lr}
        for part, (loss_sum, hits, count) in module.epoch_sums.items():
            row |= {f"{part}_loss": loss_sum / count, f"{part}_acc": hits / count}
        row["seconds"] = time.perf_counter() - self.start
        self.rows.append(row)
        with atomic_path(self.path) as temporary:
            pd.DataFrame(self.rows, columns=HISTORY_COLUMNS).to_csv(temporary, index=False)
        print(self._line(row, module.epoch_sums["train"][2] / row["seconds"]), flush=True)

    def _line(self, row: dict, rate: float) -> str:
        return (
            f"epoch {row['epoch']:>3}/{self.max_epoch}"
            f"  train loss {row['train_loss']:.3f} acc {row['train_acc']:.3f}"
            f"  valid loss {row['valid_loss']:.3f} acc {row['valid_acc']:.3f}"
            f"  {row['seconds']:.1f} s ({rate:.0f} images/s)"
        )


def train_model(
    settings: TrainingSettings, train: LabelledImages, valid: LabelledImages, model_dir: Path
) -> pd.DataFrame:
    """Train one network and return its history (one row an epoch, `HISTORY_COLUMNS`).

    Writes `best.ckpt` (the epoch with the best validation accuracy, the first of equals),
    `history.csv` and `params.json` into `model_dir`. Raises `Gz2vitError` where the loss is not
    finite or pretrained weights cannot be had.
    """
    model_dir.mkdir(parents=True, exist_ok=True)
    classifier, weights_record = make_classifier(settings, train)
    history = History(model_dir / "history.csv", settings.max_epoch)
    trainer = _trainer(settings, model_dir, history)
    device = device_name(trainer.strategy.root_device)
    record = run_record(settings.as_dict(), settings.seed, device)
    record |= {"class_weights": classifier.loss_weights.tolist(), "weights": weights_record}
    record["threads"] = torch.get_num_threads()
    write_json(model_dir / "params.json", record)
    trainer.fit(classifier, datamodule=GalaxyData(settings, train, valid))
    return pd.DataFrame(history.rows, columns=HISTORY_COLUMNS)


def make_classifier(
    settings: TrainingSettings, train: LabelledImages
) -> tuple[GalaxyClassifier, dict]:
    """The untrained (or pretrained) classifier of a run, and the record of its weights."""
    torch.manual_seed(settings.seed)
    loss_weights = class_weights(settings.class_weights, train.class_counts())
    classifier = GalaxyClassifier(settings.as_dict(), loss_weights.tolist())
    if settings.weights == "none":
        return classifier, {"source": "none"}
    sizes = settings.hyperparameters
    path, record = fetch_weights(settings.network, settings.weights, sizes.get("name", ""))
    state = pretrained_state(settings.network, sizes, path)
    classifier.load_pretrained(state, settings.weights)
    return classifier, record


def _trainer(settings: TrainingSettings, model_dir: Path, history: History) -> lightning.Trainer:
    """Lightning's trainer, quiet but for our own line an epoch."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")
    best = ModelCheckpoint(
        dirpath=model_dir,
        filename=Path(CHECKPOINT).stem,
        monitor="valid_acc",
        mode="max",
        save_weights_only=True,
        enable_version_counter=False,
    )
    # DEVIATION: the authors stop after 10 epochs without improvement, but do not say of what; we
    # watch the figure that also selects the weights.
    patience = EarlyStopping("valid_acc", mode="max", patience=settings.early_stopping_epochs)
    return lightning.Trainer(
        max_epochs=settings.max_epoch,
        accelerator="auto",
        devices=1,
        callbacks=[history, patience, best],
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=model_dir,
    )


def device_name(device: torch.device) -> str:
    """A device in words: the GPU's product name, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
