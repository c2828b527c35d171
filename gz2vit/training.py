"""How each network is trained: normalisation, optimiser, schedule and early stopping, in one place.

Source of every number: the authors' notebooks, as `gz2vit.paper` has them. Networks that the paper
does not have are trained as its CNNs are.
"""

import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import lightning
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import nn
from torch.nn import functional

from gz2vit.batches import Batch, Batches, DeviceBatches, fits_on_device, load_images
from gz2vit.catalog import ClassWeights, class_weights
from gz2vit.images import LabelledImages, open_split
from gz2vit.io import (
    CHECKPOINT,
    CHECKPOINT_SUFFIX,
    Gz2vitError,
    atomic_path,
    files_hash,
    read_json,
    require,
    run_record,
    trained_checkpoint,
    write_json,
    write_text,
)
from gz2vit.models import architecture_of, build_model, head_prefixes
from gz2vit.paper import (
    BATCH_SIZE,
    CROP_PX,
    EARLY_STOPPING_EPOCHS,
    MAX_EPOCH,
    NORMALIZATION,
    SCHEDULES,
    SEED,
)
from gz2vit.weights import fetch_weights, file_sha256, pretrained_state

Normalization = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Recipe:
    """The paper's training of one network.

    `normalization`: mean and standard deviation of (R, G, B), of 0 to 1, or None where the
    network's own library knows them; `optimizer`: a name in `torch.optim`; `lr` is multiplied by
    `gamma` every `step_size` epochs; training ends after `early_stopping_epochs` epochs without a
    better validation accuracy.
    """

    normalization: Normalization | None
    lr: float
    step_size: int
    gamma: float
    optimizer: str = "Adam"
    early_stopping_epochs: int = EARLY_STOPPING_EPOCHS


RECIPES: MappingProxyType[str, Recipe] = MappingProxyType(
    {name: Recipe(NORMALIZATION[name], **SCHEDULES[name]) for name in NORMALIZATION}
    | {"backbone": Recipe(None, **SCHEDULES["resnet50"])}
)


def normalization_of(architecture: str, network: nn.Module) -> Normalization:
    """Mean and standard deviation (R, G, B) of the images that `network` takes."""
    fixed = RECIPES[architecture].normalization
    if fixed is not None:
        return fixed
    if hasattr(network, "pretrained_cfg"):  # timm's
        from gz2vit.models import normalization_of as of_timm

        return of_timm(network)
    return NORMALIZATION["resnet50"]  # ImageNet's, which most networks on the hub were made for


# ------------------------------------------------------------------------------------------
# Everything that decides a training run, in one frozen record, checked when it is made.


@dataclass(frozen=True)
class TrainingSettings:
    """One training run.

    `hyperparameters` go to `build_model`; `image_size` [px] is what the network sees; `lr` is
    Adam's learning rate, multiplied by `gamma` every `step_size` epochs; training ends after
    `max_epoch` epochs or after `early_stopping_epochs` without a better validation accuracy;
    `weights` is "none" (from scratch), "imagenet" (the paper's start; for a network of a library,
    its published weights), a local file or folder of such, or what this suite has trained (a
    `best.ckpt`, or a model's folder), whose last layer is taken too. `architecture` is told by the
    key unless it is given: a row of the results table may have any name.
    """

    model_key: str
    lr: float
    step_size: int
    gamma: float
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    image_size: int = CROP_PX
    batch_size: int = BATCH_SIZE
    max_epoch: int = MAX_EPOCH
    early_stopping_epochs: int = EARLY_STOPPING_EPOCHS
    class_weights: ClassWeights = "uniform"
    weights: str = "none"
    seed: int = SEED
    architecture: str = ""

    def __post_init__(self) -> None:
        architecture_of(self.architecture or self.model_key)
        counted = ("image_size", "batch_size", "max_epoch", "step_size", "early_stopping_epochs")
        for name in counted:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise Gz2vitError(f"{name} is {value!r}; it must be a whole number from 1 on")
        for name in ("lr", "gamma"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise Gz2vitError(f"{name} is {value!r}; it must be a positive number")

    @property
    def network(self) -> str:
        """The architecture that is trained."""
        return architecture_of(self.architecture or self.model_key)

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain values, for run records and checkpoints."""
        return asdict(self)


# ------------------------------------------------------------------------------------------
# What makes training faster on a device, chosen by what the device is.
#
# On a CPU: mixed precision where the processor multiplies bfloat16 itself. On a GPU: mixed
# precision (bfloat16 where the GPU has it, else float16 with loss scaling), compiled networks, and
# channels-last memory for networks of convolutions. Weights, loss and reported metrics are float32;
# predictions are made without any of this.
#
# DEVIATION: the authors train in float32. With `benchmarks/precision.py` the difference is measured
# against that between seeds.

CHOICES = ("auto", "none")
CONVOLUTIONAL = ("resnet50", "vgg16_bn", "backbone")
BFLOAT16_FROM = (8, 0)  # compute capability (NVIDIA Ampere) from which bfloat16 is as fast
FLOAT16_FROM = (7, 0)  # the first with tensor cores


@dataclass(frozen=True)
class Acceleration:
    """How a network is computed while it is trained.

    `precision`: as Lightning names it; `compiled`: by torch.compile; `channels_last`: images and
    weights lie with the channels together.
    """

    precision: str = "32-true"
    compiled: bool = False
    channels_last: bool = False

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for run records."""
        return asdict(self)


def choose_acceleration(
    choice: str, architecture: str, device: torch.device, capability: tuple[int, int] | None = None
) -> Acceleration:
    """What pays on `device`; nothing with `choice` "none". `capability`: by default the GPU's own.

    Raises `Gz2vitError` for another choice than "auto" and "none".
    """
    if choice not in CHOICES:
        raise Gz2vitError(f"acceleration is {choice!r}; it must be one of {', '.join(CHOICES)}")
    if device.type == "cpu" and choice == "auto" and multiplies_bfloat16():
        # 2.1 times the Linformer's images a second, 2.7 the ViT's, 1.4 the CNNs' (benchmarks/)
        return Acceleration("bf16-mixed")
    if choice == "none" or device.type != "cuda":
        return Acceleration()
    capability = capability or torch.cuda.get_device_capability(device)
    precision = "32-true"
    if capability >= FLOAT16_FROM:
        precision = "bf16-mixed" if capability >= BFLOAT16_FROM else "16-mixed"
    # torch's compiler writes Triton code, which needs tensor cores' generation as well.
    return Acceleration(precision, capability >= FLOAT16_FROM, architecture in CONVOLUTIONAL)


def multiplies_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 itself (Intel's from 2020, AMD's from 2022)."""
    known = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # torch's own name for it
    return bool(known and known())


def apply_acceleration(network: torch.nn.Module, chosen: Acceleration) -> None:
    """Make `network` compute as `chosen`; its parameters keep names, shapes and values."""
    if chosen.precision != "32-true" and torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")  # what stays float32 multiplies in TF32
    if chosen.channels_last:
        network.to(memory_format=torch.channels_last)
    if chosen.compiled:
        # reduce-overhead: CUDA graphs. A step of the Linformer is some 1,000 small kernels, whose
        # launching alone would take longer than the GPU needs for them.
        network.compile(mode="reduce-overhead", dynamic=False)


# ------------------------------------------------------------------------------------------
# A network with its normalisation, loss and schedule, as Lightning trains it.

CHECK_EVERY = 100  # batches after which the losses on a GPU are looked at
DIVERGED = 1e4  # a mean loss beyond all bounds: pure guessing among 8 classes has ln 8 = 2.1


class GalaxyClassifier(lightning.LightningModule):
    """Takes images (B, 3, H, W), 0 to 255, as the store holds them; returns logits (B, 8).

    Each architecture has its own normalisation (`recipes`). The loss is cross-entropy
    with `loss_weights` (8,), in training and validation alike, as in the authors' notebooks.
    """

    def __init__(self, settings: dict, loss_weights: Sequence[float]) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.settings = TrainingSettings(**settings)
        name = self.settings.network
        self.network = build_model(name, **self.settings.hyperparameters)
        self.channels_last = False
        known = normalization_of(name, self.network)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in known)
        # (x / 255 - mean) / std of grey levels x, as one product and one sum
        self.register_buffer("scale", 1.0 / (255.0 * std), persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)
        weights = torch.tensor(loss_weights, dtype=torch.float32)
        self.register_buffer("loss_weights", weights, persistent=False)
        self.sums: dict[str, torch.Tensor] = {}
        self.losses: list[torch.Tensor] = []

    def use(self, chosen: Acceleration) -> None:
        """Compute as `chosen` from now on, for training; parameters keep names and values."""
        self.channels_last = chosen.channels_last
        apply_acceleration(self.network, chosen)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, H, W), 0 to 255, uint8 or float, to logits (B, 8)."""
        scaled = torch.addcmul(self.shift, images.float(), self.scale)
        if self.channels_last:
            scaled = scaled.contiguous(memory_format=torch.channels_last)
        return self.network(scaled)

    def on_train_epoch_start(self) -> None:
        """Start the epoch's sums, and its dropout from (seed, epoch) alone, as its data."""
        # Sums of many losses keep more digits in float64, which Apple's GPUs do not have.
        kind = torch.float32 if self.device.type == "mps" else torch.float64
        self.sums = {part: self.shift.new_zeros(3, dtype=kind) for part in ("train", "valid")}
        self.losses = []
        seed = epoch_seed(self.settings.seed, self.current_epoch, self.global_rank)
        torch.manual_seed(seed)
        for part in self.network.modules():
            learns = [parameter.requires_grad for parameter in part.parameters()]
            if learns and not any(learns):
                part.eval()  # a frozen part is left alone: no dropout, no running means

    def training_step(self, batch: Batch, batch_index: int) -> torch.Tensor:
        """The loss of one training batch."""
        loss = self._step(batch, "train")
        self.losses.append(loss.detach())
        # Looking at a loss makes the CPU wait for a GPU: there, not after every batch.
        if self.device.type == "cpu" or len(self.losses) % CHECK_EVERY == 0:
            self._check_losses("train", batch_index)
        # Several devices average their gradients: their shares of the loss must add up.
        return loss * self.trainer.world_size

    def on_validation_epoch_start(self) -> None:
        """Before the best weights can be chosen: look at the losses not yet looked at."""
        self._check_losses("train", self.trainer.num_training_batches - 1)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Sum up loss and hits of one validation batch."""
        self.losses.append(self._step(batch, "valid"))

    def _step(self, batch: Batch, part: str) -> torch.Tensor:
        """This device's share of a batch's mean loss, added to the epoch's sums with the hits."""
        logits = self(batch.images)
        losses = functional.cross_entropy(
            logits.float(), batch.class_index, weight=self.loss_weights, reduction="none"
        )  # (B,), 0 for an image that only fills up
        loss = losses.sum() / self.loss_weights[batch.whole].sum()
        hits = (logits.argmax(dim=1) == batch.class_index).sum()
        count = (batch.class_index >= 0).sum()
        self.sums[part] += torch.stack([loss.detach() * len(batch.whole), hits, count])
        return loss

    def _check_losses(self, part: str, last: int) -> None:
        """End the run at a loss that is not finite or beyond all bounds; `last` is its batch."""
        values = torch.stack(self.losses).tolist() if self.losses else []
        first, self.losses = last - len(values) + 1, []
        for batch, value in enumerate(values, first + 1):
            if not value <= DIVERGED:  # not true for NaN
                rate = self.trainer.optimizers[0].param_groups[0]["lr"]
                raise Gz2vitError(
                    f"the {part} loss of {self.settings.model_key} became {value:.4g} in epoch "
                    f"{self.current_epoch + 1}, batch {batch}, at learning rate {rate:g}; try a "
                    f"smaller LR (the best weights of the whole epochs before, if any, are kept in "
                    f"{self.trainer.default_root_dir})"
                )

    def total(self, part: str) -> list[float]:
        """Of the epoch so far, over all devices: sum of losses, hits, number of galaxies."""
        return self.trainer.strategy.reduce(self.sums[part].clone(), reduce_op="sum").tolist()

    def on_validation_epoch_end(self) -> None:
        """Tell Lightning the figure that checkpoints and early stopping watch."""
        self._check_losses("valid", len(self.losses) - 1)
        _, hits, count = self.total("valid")
        self.log("valid_acc", hits / count)

    def load_pretrained(self, state: Mapping[str, torch.Tensor], source: str) -> None:
        """Take all weights of `state` but those of its last layer, whose classes are others.

        Raises `Gz2vitError` if anything else is missing, left over or of another shape.
        """
        architecture = self.settings.network
        own = self.network.state_dict()
        prefixes = head_prefixes(architecture, self.network)
        head = {name for name in own if name.startswith(prefixes)}
        body = {name: tensor for name, tensor in state.items() if name not in head}
        wrong = (own.keys() - head) ^ body.keys()
        wrong |= {name for name in body.keys() & own.keys() if body[name].shape != own[name].shape}
        if wrong:
            first = sorted(wrong)[0]
            raise Gz2vitError(f"weights '{source}' do not fit {architecture}: {first} differs")
        self.network.load_state_dict(body, strict=False)

    def configure_optimizers(self) -> dict:
        """Adam, its learning rate times gamma every `step_size` epochs, as in the paper."""
        learning = [parameter for parameter in self.parameters() if parameter.requires_grad]
        kind = getattr(torch.optim, RECIPES[self.settings.network].optimizer)
        # fused: the same arithmetic in one pass over memory, which is what a VGG16's step on a CPU
        # mostly waits for
        optimizer = kind(learning, lr=self.settings.lr, fused=True)
        schedule = torch.optim.lr_scheduler.StepLR(
            optimizer, self.settings.step_size, self.settings.gamma
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule}}


def epoch_seed(seed: int, epoch: int, rank: int = 0) -> int:
    """A seed for torch's generator in one epoch, unrelated between epochs, seeds and devices."""
    place = [seed, epoch, rank] if rank else [seed, epoch]
    return int(np.random.SeedSequence(place).generate_state(1)[0])


def load_classifier(model_dir: Path | str) -> GalaxyClassifier:
    """The trained classifier of a model folder, in evaluation mode, on the CPU.

    Only tensors and plain values are read (`weights_only`), so that a foreign file cannot run
    code. Raises `Gz2vitError` for a missing or foreign checkpoint.
    """
    path = require(Path(model_dir) / CHECKPOINT, Path(model_dir).name)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        classifier = GalaxyClassifier(**state["hyper_parameters"])
        classifier.load_state_dict(state["state_dict"])
    except Exception as error:  # a damaged or foreign file can make the reader fail in any way
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise Gz2vitError(f"{path} is not a checkpoint of this suite ({reason})") from error
    return classifier.eval()


# ------------------------------------------------------------------------------------------
# The history of a training run: one row an epoch, in a file and at the terminal.

HISTORY_COLUMNS = ("epoch", "train_loss", "train_acc", "valid_loss", "valid_acc", "lr", "seconds")


class History(Callback):
    """Prints a line for each epoch and keeps `history.csv` up to date.

    Its rows travel with the checkpoint, so that a run that continues has them all.
    """

    def __init__(self, path: Path, max_epoch: int) -> None:
        self.path, self.max_epoch, self.rows = path, max_epoch, []

    def state_dict(self) -> dict[str, Any]:
        """The rows so far, for the checkpoint."""
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the rows of a checkpoint."""
        self.rows = list(state["rows"])

    def table(self) -> pd.DataFrame:
        """One row an epoch, `HISTORY_COLUMNS`: losses and shares of hits, lr, time [s]."""
        return pd.DataFrame(self.rows, columns=HISTORY_COLUMNS)

    def on_train_epoch_start(self, trainer: lightning.Trainer, module: GalaxyClassifier) -> None:
        """Note the time and the learning rate of the epoch."""
        self.start = time.perf_counter()
        self.lr = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: GalaxyClassifier) -> None:
        """Add the epoch's row to the file and print it; one device of several does both."""
        row = {"epoch": trainer.current_epoch + 1, "lr": self.lr}
        totals = {part: module.total(part) for part in ("train", "valid")}
        for part, (loss_sum, hits, count) in totals.items():
            row |= {f"{part}_loss": loss_sum / count, f"{part}_acc": hits / count}
        row["seconds"] = time.perf_counter() - self.start
        self.rows.append(row)
        if trainer.is_global_zero:
            self.write(self.path)
            print(self._line(row, totals["train"][2] / row["seconds"]), flush=True)

    def write(self, path: Path) -> None:
        """Write the table to `path`."""
        with atomic_path(path) as temporary:
            self.table().to_csv(temporary, index=False)

    def _line(self, row: dict, rate: float) -> str:
        return (
            f"epoch {row['epoch']:>3}/{self.max_epoch}"
            f"  train loss {row['train_loss']:.3f} acc {row['train_acc']:.3f}"
            f"  valid loss {row['valid_loss']:.3f} acc {row['valid_acc']:.3f}"
            f"  {row['seconds']:.1f} s ({rate:.0f} images/s)"
        )


def is_complete(rows: list[dict[str, Any]], max_epoch: int, patience: int) -> bool:
    """Whether a run with these rows has ended: all epochs, or `patience` without a better one."""
    if len(rows) >= max_epoch:
        return True
    accuracies = [row["valid_acc"] for row in rows]
    return bool(rows) and len(rows) - 1 - accuracies.index(max(accuracies)) >= patience


# ------------------------------------------------------------------------------------------
# The two splits that training sees, as Lightning asks for them.


class GalaxyData(lightning.LightningDataModule):
    """Batches of the splits, each epoch's drawn anew, made where the network is.

    On a GPU whose memory holds both splits they are loaded once and stay there.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        train: LabelledImages,
        valid: LabelledImages,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.settings, self.train, self.valid, self.device = settings, train, valid, device
        self.images: dict[str, torch.Tensor] = {}

    def setup(self, stage: str) -> None:
        """Load the splits onto a GPU that holds them."""
        splits = (self.train, self.valid)
        size = self.settings.image_size
        if fits_on_device([len(split.store) for split in splits], size, self.device):
            self.images = {s.split: load_images(s.store, size, self.device) for s in splits}

    def train_dataloader(self) -> Batches | DeviceBatches:
        """Augmented batches of the current epoch."""
        return self._batches(self.train, augment=True, epoch=self.trainer.current_epoch)

    def val_dataloader(self) -> Batches | DeviceBatches:
        """The validation galaxies in order, not augmented."""
        return self._batches(self.valid)

    def _batches(self, galaxies: LabelledImages, **options: bool | int) -> Batches | DeviceBatches:
        """Batches of this process's share."""
        batches = Batches(
            galaxies.store,
            galaxies.class_index,
            image_size=self.settings.image_size,
            batch_size=self.settings.batch_size,
            seed=self.settings.seed,
            share=(self.trainer.global_rank, self.trainer.world_size),
            **options,
        )
        if self.device.type != "cuda":
            return batches
        return DeviceBatches(batches, self.device, self.images.get(galaxies.split))


# ------------------------------------------------------------------------------------------
# A network that goes on from one that this suite has trained: its `best.ckpt`, the last layer too.
#
# Other weights (`models.pretrained`) are of other classes and lose their last layer; here both
# networks tell the same eight apart, so that nothing is thrown away.

NETWORK = "network."  # how the names of a network's tensors begin in a checkpoint


def load_trained(classifier: GalaxyClassifier, path: Path) -> None:
    """Give `classifier` the weights of a `best.ckpt`, those of its last layer included.

    Learning rate, class weights, epochs and dropout stay those of `classifier`. Only tensors and
    plain values are read (`weights_only`), so that a foreign file cannot run code. Raises
    `Gz2vitError` for what is no checkpoint of this suite, and for one of another network; it then
    names what differs.
    """
    settings, state = read_checkpoint(path)
    told = _differences(classifier, settings, state)
    if told:
        raise Gz2vitError(
            f"weights '{path}' do not fit the {classifier.settings.network} that is trained here: "
            f"{'; '.join(told)}"
        )
    classifier.network.load_state_dict(state)


def read_checkpoint(path: Path) -> tuple[TrainingSettings, dict[str, torch.Tensor]]:
    """The settings of a checkpoint of this suite, and its network's tensors by name, on the CPU."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        settings = TrainingSettings(**content["hyper_parameters"]["settings"])
        tensors = {
            name.removeprefix(NETWORK): tensor
            for name, tensor in content["state_dict"].items()
            if name.startswith(NETWORK)
        }
    except Exception as error:  # a damaged or foreign file can make the reader fail in any way
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise Gz2vitError(f"{path} is not a checkpoint of this suite ({reason})") from error
    return settings, tensors


def _differences(
    classifier: GalaxyClassifier, theirs: TrainingSettings, state: Mapping[str, torch.Tensor]
) -> list[str]:
    """Why `state` cannot be taken, in words; nothing where it can."""
    ours = classifier.settings
    if theirs.network != ours.network:
        return [f"they are of a {theirs.network}"]
    # Networks of a library share an architecture's name here, and may share their shapes.
    names = [one.hyperparameters.get("name") for one in (theirs, ours)]
    if names[0] != names[1]:
        return [f"they are of {names[0]}, not of {names[1]}"]
    own = classifier.network.state_dict()
    wrong = own.keys() ^ state.keys()
    wrong |= {name for name in own.keys() & state.keys() if own[name].shape != state[name].shape}
    if not wrong:
        return []
    first = sorted(wrong)[0]
    shapes = [_shape(tensors.get(first)) for tensors in (state, own)]
    return [
        *_sizes(theirs.hyperparameters, ours.hyperparameters),
        f"{first} is {shapes[0]} there and {shapes[1]} here",
    ]


def _sizes(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """The hyperparameters that both networks have, with other values."""
    return [
        f"{name} is {theirs[name]} there and {ours[name]} here"
        for name in ours
        if name in theirs and theirs[name] != ours[name] and "dropout" not in name
    ]


def _shape(tensor: torch.Tensor | None) -> str:
    """A tensor's shape in words."""
    return "missing" if tensor is None else "x".join(map(str, tensor.shape)) or "one number"


# ------------------------------------------------------------------------------------------
# What an unfinished training run leaves, from which the same command continues it.
#
# A model's folder holds `unfinished/` until its predictions are written: `last.ckpt`, the state after
# the last whole epoch (weights, optimiser, schedule, history); `best.ckpt`, the best weights;
# `run.json`, what the run is. Order, augmentation and dropout of an epoch follow from the seed and
# the epoch's number alone, so that no state of a random generator is needed to repeat them. A run
# that is another one (settings, galaxies or code) does not continue it but starts anew, and keeps the
# old state in `given_up/` until it has ended.

FOLDER, GIVEN_UP = "unfinished", "given_up"
LAST, BEST = "last.ckpt", "best.ckpt"
# The code that decides what a training run ends with.
DECIDING = (
    "gz2vit/models/*.py",
    "gz2vit/catalog.py",
    "gz2vit/batches.py",
    "gz2vit/batches.py",
    "gz2vit/batches.py",
    *(
        f"gz2vit/training/{name}.py"
        for name in ("classifier", "recipes", "run", "acceleration", "starting_weights")
    ),
)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's way of writing checkpoints, but whole or not at all."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Path | str, storage_options: Any = None
    ) -> None:
        """Write `checkpoint` to `path`; `Gz2vitError` that names it where the disk is full."""
        with atomic_path(path) as temporary:
            try:
                torch.save(checkpoint, temporary)
            except RuntimeError as error:  # torch's writer knows no OSError
                reason = str(error).splitlines()[0]
                raise Gz2vitError(
                    f"cannot write {path}: is the disk full? ({reason}); make room and give the "
                    "same command again, which continues after the last whole epoch"
                ) from error


def identity(
    settings: TrainingSettings, train: LabelledImages, valid: LabelledImages
) -> dict[str, Any]:
    """What makes two runs the same: settings, a trained network they start from, galaxies, code."""
    start = trained_checkpoint(settings.weights)
    run = {
        "settings": settings.as_dict(),
        "start": None if start is None else file_sha256(start),
        "train": train.signature(),
        "valid": valid.signature(),
        "code": files_hash(DECIDING),
    }
    return json.loads(json.dumps(run))  # as it reads when it comes back: tuples are lists


class Unfinished:
    """The folder `unfinished/` of one model."""

    def __init__(self, model_dir: Path) -> None:
        self.model_dir = model_dir
        self.folder = model_dir / FOLDER

    @property
    def last(self) -> Path:
        """The state after the last whole epoch."""
        return self.folder / LAST

    @property
    def best(self) -> Path:
        """The weights of the best epoch so far."""
        return self.folder / BEST

    def begin(self, run: dict[str, Any]) -> None:
        """Make the folder ready for `run`: what another run has left there is given up."""
        note = self.folder / "run.json"
        known = read_json(note) if note.exists() else None
        if known == run:
            return
        given_up = self.model_dir / GIVEN_UP
        if self.last.exists():
            differing = [key for key in run if known is None or known.get(key) != run[key]]
            print(
                f"an unfinished run with other {' and '.join(differing)} is set aside in "
                f"{given_up}; training starts anew",
                flush=True,
            )
            shutil.rmtree(given_up, ignore_errors=True)
            self.folder.replace(given_up)
        shutil.rmtree(self.folder, ignore_errors=True)
        write_json(note, run)

    def rows(self) -> list[dict[str, Any]]:
        """The history of the whole epochs so far; `Gz2vitError` for a damaged checkpoint."""
        if not self.last.exists():
            return []
        try:
            state = torch.load(self.last, map_location="cpu", weights_only=True, mmap=True)
            return state["callbacks"]["History"]["rows"]
        except Exception as error:  # a damaged file can make the reader fail in any way
            raise Gz2vitError(
                f"{self.last} cannot be read; delete {self.folder} to train from the start"
            ) from error

    def add_session(self, hardware: dict[str, Any]) -> list[dict[str, Any]]:
        """Note on what the run goes on now, and after which epoch; all notes so far."""
        path = self.folder / "sessions.json"
        known = read_json(path) if path.exists() else []
        known.append({"after_epoch": len(self.rows()), **hardware})
        write_json(path, known)
        return known

    def publish(self) -> None:
        """Put the best weights into the model's folder, where the run's results belong."""
        with atomic_path(self.model_dir / BEST) as temporary:
            try:
                os.link(self.best, temporary)
            except OSError:  # a file system without hard links
                shutil.copyfile(self.best, temporary)


def forget(model_dir: Path) -> None:
    """Remove the unfinished state of a model whose results are all written."""
    for folder in (FOLDER, GIVEN_UP):
        shutil.rmtree(model_dir / folder, ignore_errors=True)


# ------------------------------------------------------------------------------------------
# Training on several devices: as many processes, started by Lightning, outside the notebook.
#
# A notebook cannot be started twice, as Lightning's distributed strategies start a script. So the
# run is written down in `unfinished/order.json` and done by `gz2vit.training`, which Lightning
# starts once for each device; what it prints appears in the notebook. When the notebook ends in
# whatever way, the processes see the end of the pipe between them and end as well.

STOP_SECONDS = 30  # for the processes to end by themselves


def train_in_processes(
    settings: TrainingSettings,
    train: LabelledImages,
    model_dir: Path,
    devices: int,
    acceleration: str,
) -> None:
    """Train on `devices` devices of this machine, until the run has ended.

    The galaxies are those of the results folder to which the store of `train` belongs. Raises
    `Gz2vitError` with what the process that failed says.
    """
    folder = Unfinished(model_dir).folder.resolve()
    failure = folder / "failure.txt"
    failure.unlink(missing_ok=True)
    order = {
        "settings": settings.as_dict(),
        "results_dir": str(train.store.path.resolve().parents[1]),
        "model_dir": str(model_dir.resolve()),
        "devices": devices,
        "acceleration": acceleration,
    }
    write_json(folder / "order.json", order)
    command = [sys.executable, "-m", "gz2vit.training", str(folder / "order.json")]
    last = _run(command, devices)
    if failure.exists():
        raise Gz2vitError(failure.read_text(encoding="utf-8").strip())
    if last is not None:
        raise Gz2vitError(f"training on {devices} devices ended early: {last}")


def _run(command: list[str], devices: int) -> str | None:
    """Run the command and print what it prints; the last line that it printed if it failed."""
    threads = str(max(1, torch.get_num_threads() // devices))
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": threads},
    )
    # When the first process ends, so must the others, which may be waiting for it for ever.
    threading.Thread(target=_stop_with, args=[process], daemon=True).start()
    last = "no message"
    try:
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line.strip() or last
        return last if process.wait() else None
    finally:
        process.stdin.close()  # tells the processes to end, if they have not
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def _stop_with(process: subprocess.Popen) -> None:
    """Close the pipe that all processes watch when the first of them has ended."""
    process.wait()
    process.stdin.close()


# ------------------------------------------------------------------------------------------
# Training from the image store to the best checkpoint, one printed line for each epoch.
#
# A run that was interrupted continues after its last whole epoch when it is given again
# (`unfinished`), on a CPU to the same bits as if nothing had happened.


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


# ------------------------------------------------------------------------------------------
# One of several processes that train together: `python -m gz2vit.training ORDER`.


def main(order_path: Path) -> int:
    """Do what the order says; the exit code. What went wrong is written beside the order."""
    threading.Thread(target=_end_with_the_notebook, daemon=True).start()
    order = read_json(order_path)
    failure = order_path.with_name("failure.txt")
    try:
        settings = TrainingSettings(**order["settings"])
        splits = (open_split(order["results_dir"], split) for split in ("train", "valid"))
        model_dir = Path(order["model_dir"])
        fit(settings, *splits, model_dir, order["devices"], order["acceleration"])
    except Gz2vitError as error:
        write_text(failure, f"{error}\n")
        return 1
    except Exception as error:  # the others wait for this process: tell them by ending
        if not failure.exists():  # else another was first, and this error follows from that
            reason = " ".join(str(error).split())
            write_text(failure, f"{type(error).__name__}: {reason}\n")
        traceback.print_exc()
        return 1
    return 0


def _end_with_the_notebook() -> None:
    """Wait for the end of the pipe to the process that started all, and end."""
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stdout.flush()
    # Without waiting for threads of a process group whose other members may be gone.
    os._exit(code)
