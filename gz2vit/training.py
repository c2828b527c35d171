"""Training, from the image cache to the best checkpoint; one printed line per epoch.

`train_model` works in `model_dir/unfinished/`; `finish_training` puts the files in place once all
are there, and moves an older model to `model_dir/replaced/<date>/`. Killed at any moment, the same
call continues after the last whole epoch: order, augmentation and dropout of an epoch follow from
the seed and the epoch's number alone, so that on a CPU the result is the same bit for bit.

Learning rates, schedules and normalisation are the authors' (`gz2vit.paper`) unless the settings
say otherwise; networks that the paper does not have are trained as its ResNet-50 is.
"""

import copy
import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cloudpickle
import lightning
import numpy as np
import pandas as pd
import timm
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import nn
from torch.nn import functional

from gz2vit.batches import Batch, Batches, DeviceBatches, fits_on_device, load_images
from gz2vit.catalog import ClassWeights, class_weights
from gz2vit.images import LabelledImages, open_split
from gz2vit.io import (
    CHECKPOINT,
    CHECKPOINT_SUFFIX,
    MODEL_FILES,
    Gz2vitError,
    atomic_path,
    available_cores,
    files_hash,
    read_json,
    require,
    run_record,
    trained_checkpoint,
    write_json,
    write_text,
)
from gz2vit.models import (
    REGISTERED,
    architecture_of,
    build_model,
    count_parameters,
    describe_layers,
    differing_layers,
    head_prefixes,
    pretrained_state,
    use_mask_dropout,
)
from gz2vit.paper import (
    BATCH_SIZE,
    CROP_PX,
    EARLY_STOPPING_EPOCHS,
    MAX_EPOCH,
    NORMALIZATION,
    SCHEDULES,
    SEED,
)
from gz2vit.weights import fetch_weights, file_sha256

CHOICES = ("auto", "none")  # of ACCELERATION
CONVOLUTIONAL = ("resnet50", "vgg16_bn", "backbone")
CHECK_EVERY = 100  # batches after which the losses on a GPU are looked at
DIVERGED = 1e4  # a mean loss beyond all bounds: pure guessing among 8 classes has ln 8 = 2.1
HISTORY_COLUMNS = ("epoch", "train_loss", "train_acc", "valid_loss", "valid_acc", "lr", "seconds")
UNFINISHED, REPLACED, RETRAIN = "unfinished", "replaced", "retrain"
STOP_SECONDS = 30  # for processes to end by themselves
LAST, RUN, PUBLISHING = "last.ckpt", "run.json", "publishing.json"  # in `unfinished/`
# The code that decides what a training ends with.
DECIDING = [f"gz2vit/{n}.py" for n in ("training", "models", "batches", "images", "paper")]


@dataclass(frozen=True)
class TrainingSettings:
    """One training; what is not given is the paper's.

    `image_size` [px] is what the network sees; Adam's learning rate `lr` is multiplied by `gamma`
    every `step_size` epochs; `early_stopping_epochs` without a better validation accuracy end the
    training. `weights`: "none", "imagenet" (for a network of a library, its published weights), a
    local file or folder of weights, or what this suite has trained (`best.ckpt` or a model's
    folder), whose last layer is taken too. `architecture` follows from the key unless given.
    """

    model_key: str
    lr: float | None = None
    step_size: int | None = None
    gamma: float | None = None
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
        for name, value in SCHEDULES.get(self.network, SCHEDULES["resnet50"]).items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        for name in ("image_size", "batch_size", "max_epoch", "step_size", "early_stopping_epochs"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise Gz2vitError(f"{name} is {value!r}; it must be a whole number of at least 1")
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


def build_network(settings: TrainingSettings) -> nn.Module:
    """The network of the settings, with its random first weights."""
    torch.manual_seed(settings.seed)
    return build_model(settings.network, **settings.hyperparameters)


@dataclass(frozen=True)
class Acceleration:
    """How a network is computed while it is trained; weights, loss and metrics are float32.

    `precision`: as Lightning names it; `compiled`: by torch.compile; `channels_last`: images and
    weights lie with the channels together.
    """

    precision: str = "32-true"
    compiled: bool = False
    channels_last: bool = False


def choose_acceleration(
    choice: str, architecture: str, device: torch.device, capability: tuple[int, int] | None = None
) -> Acceleration:
    """What pays on `device` with "auto", nothing with "none". `capability`: the GPU's own.

    DEVIATION: the authors train in float32; `benchmarks/precision.py` measures the difference.
    """
    if choice not in CHOICES:
        raise Gz2vitError(f"acceleration is {choice!r}; it must be one of {', '.join(CHOICES)}")
    if choice == "auto" and device.type == "cpu":
        # On a processor that multiplies bfloat16 itself (Intel's from 2020, AMD's from 2022): 2.1
        # times the Linformer's images per second, 2.7 the ViT's, 1.4 the CNNs' (benchmarks/)
        able = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
        return Acceleration("bf16-mixed" if able else "32-true")
    if choice == "none" or device.type != "cuda":
        return Acceleration()
    capability = capability or torch.cuda.get_device_capability(device)
    cores = capability >= (7, 0)  # tensor cores, whose generation torch's compiler needs as well
    # bfloat16 is as fast as float16 from NVIDIA Ampere on
    half = "bf16-mixed" if capability >= (8, 0) else "16-mixed"
    return Acceleration(half if cores else "32-true", cores, architecture in CONVOLUTIONAL)


class GalaxyClassifier(lightning.LightningModule):
    """A network with its normalisation, loss and schedule: grey levels in, logits out.

    Loss: cross-entropy with `loss_weights` (8,), in training and validation alike, as in the
    authors' notebooks. `mean`, `std`: of (R, G, B), 0 to 1, by default those of the architecture.
    `crop_px`: side of the square of a 424 px image that was learned from. `differs`: layers that
    are not those of `build_model`. All but the network is saved as plain values in checkpoints.
    """

    def __init__(
        self, network: nn.Module, settings: dict, loss_weights: Sequence[float],
        mean: Sequence[float] = (), std: Sequence[float] = (), crop_px: int = CROP_PX,
        differs: Sequence[str] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        self.settings = TrainingSettings(**settings)
        if not mean:
            # ImageNet's by default, which most networks on the hub were made for
            known = self.settings.network if self.settings.network in NORMALIZATION else "resnet50"
            mean, std = NORMALIZATION[known]
            if known != self.settings.network and hasattr(network, "pretrained_cfg"):
                data = timm.data.resolve_model_data_config(network)
                mean, std = data["mean"], data["std"]
        self.save_hyperparameters(
            {"settings": settings, "loss_weights": list(loss_weights), "mean": list(mean),
             "std": list(std), "crop_px": crop_px, "differs": list(differs)}
        )  # fmt: skip
        self.network, self.crop_px, self.channels_last = network, crop_px, False
        mean, std = (torch.tensor(list(values)).view(3, 1, 1) for values in (mean, std))
        # (x / 255 - mean) / std of grey levels x, as one product and one sum
        self.register_buffer("scale", 1.0 / (255.0 * std), persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)
        weights = torch.tensor(loss_weights, dtype=torch.float32)
        self.register_buffer("loss_weights", weights, persistent=False)

    def use(self, chosen: Acceleration) -> None:
        """Compute as `chosen` from now on; parameters keep names, shapes and values."""
        if chosen.precision != "32-true" and torch.cuda.is_available():
            torch.set_float32_matmul_precision("high")  # what stays float32 multiplies in TF32
        self.channels_last = chosen.channels_last
        if chosen.channels_last:
            self.network.to(memory_format=torch.channels_last)
        if chosen.compiled:
            # reduce-overhead: CUDA graphs. A step of the Linformer is some 1,000 small kernels,
            # whose launching alone would take longer than the GPU needs for them.
            self.network.compile(mode="reduce-overhead", dynamic=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, H, W), 0 to 255, uint8 or float, to logits (B, 8)."""
        scaled = torch.addcmul(self.shift, images.float(), self.scale)
        if self.channels_last:
            scaled = scaled.contiguous(memory_format=torch.channels_last)
        return self.network(scaled)

    def on_train_epoch_start(self) -> None:
        """Start the epoch's sums, and its dropout from (seed, epoch, device) alone, as its data."""
        # Sums of many losses keep more digits in float64, which Apple's GPUs do not have.
        kind = torch.float32 if self.device.type == "mps" else torch.float64
        self.sums = {part: self.shift.new_zeros(3, dtype=kind) for part in ("train", "valid")}
        self.losses = []
        place = [self.settings.seed, self.current_epoch, *filter(None, [self.global_rank])]
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))
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

    def on_validation_epoch_start(self) -> None:
        """Before the best weights can be chosen: look at the losses not yet looked at."""
        self._check_losses("train", self.trainer.num_training_batches - 1)

    def on_validation_epoch_end(self) -> None:
        """Log the figure that checkpoints and early stopping watch."""
        self._check_losses("valid", len(self.losses) - 1)
        _, hits, count = self.total("valid")
        self.log("valid_acc", hits / count)

    def configure_optimizers(self) -> dict:
        """Adam, its learning rate times gamma every `step_size` epochs, as in the paper."""
        learning = [parameter for parameter in self.parameters() if parameter.requires_grad]
        # fused: the same arithmetic in one pass over memory, which is what a VGG16's step on a CPU
        # mostly waits for
        optimizer = torch.optim.Adam(learning, lr=self.settings.lr, fused=True)
        schedule = torch.optim.lr_scheduler.StepLR(
            optimizer, self.settings.step_size, self.settings.gamma
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule}}


def make_classifier(
    network: nn.Module, settings: TrainingSettings, train: LabelledImages,
    differs: Sequence[str] = (),
) -> GalaxyClassifier:  # fmt: skip
    """The classifier of a training, around `network` itself, before its first step."""
    weights = class_weights(settings.class_weights, train.class_counts()).tolist()
    return GalaxyClassifier(
        network, settings.as_dict(), weights, crop_px=train.cache.crop_px, differs=differs
    )


def take_weights(
    network: nn.Module, settings: TrainingSettings, differs: Sequence[str] = ()
) -> dict[str, Any]:
    """Give `network` the weights that the settings start from; the record of where they are from.

    All but the last layer of published ones; layers of one's own (`differs`) keep their first
    weights. Raises `Gz2vitError` where weights cannot be had or do not fit.
    """
    if settings.weights == "none":
        return {"source": "none"}
    architecture, sizes = settings.network, settings.hyperparameters
    path, record = fetch_weights(architecture, settings.weights, sizes.get("name", ""))
    spared, kinds = tuple(differs), [sizes.get("name", architecture)]
    if path.suffix == CHECKPOINT_SUFFIX:
        recorded, state = read_checkpoint(path)
        theirs = TrainingSettings(**recorded["settings"])
        kinds.append(theirs.hyperparameters.get("name", theirs.network))
    else:
        state = pretrained_state(architecture, sizes, path)
        spared += head_prefixes(architecture, network)
    body = {name: tensor for name, tensor in state.items() if not name.startswith(spared)}
    wrong = _misfits(network, state, spared)
    if wrong or kinds[0] != kinds[-1]:
        reason = f"they are of {kinds[-1]}, not of {kinds[0]}"
        if kinds[0] == kinds[-1]:
            name, (here, there) = next(iter(wrong.items()))
            reason = f"{name} is {there} there and {here} here"
        raise Gz2vitError(
            f"weights '{path}' do not fit the {architecture} that is trained here: {reason}"
        )
    network.load_state_dict(body, strict=False)
    return record


def _misfits(
    network: nn.Module, state: dict[str, torch.Tensor], spared: tuple[str, ...] = ()
) -> dict[str, tuple[str, str]]:
    """Tensors whose shapes in `network` and `state` differ: both in words, by name."""
    shapes = [
        {name: "x".join(map(str, one.shape)) or "one number" for name, one in tensors.items()}
        for tensors in (network.state_dict(), state)
    ]
    both = {
        name: tuple(one.get(name, "missing") for one in shapes) for one in shapes for name in one
    }
    return {n: (a, b) for n, (a, b) in both.items() if a != b and not n.startswith(spared)}


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The hyperparameters of a checkpoint of this suite, and its network's tensors by name.

    Only tensors and plain values are read (`weights_only`), so that a foreign file cannot run
    code. Raises `Gz2vitError` for a damaged or foreign one.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        hyperparameters, state = content["hyper_parameters"], content["state_dict"]
        TrainingSettings(**hyperparameters["settings"])
        network = {n.removeprefix("network."): t for n, t in state.items() if n[:8] == "network."}
    except Exception as error:  # a damaged or foreign file can make the reader fail in any way
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise Gz2vitError(f"{path} is not a checkpoint of this suite ({reason})") from error
    return hyperparameters, network


def load_classifier(model_dir: Path | str, network: nn.Module | None = None) -> GalaxyClassifier:
    """The trained classifier of a model folder, in evaluation mode, on the CPU.

    `network`: what to load the weights into, if not what `build_model` makes. Raises `Gz2vitError`
    for a missing or foreign checkpoint, and where the trained network cannot be built.
    """
    path = require(Path(model_dir) / CHECKPOINT, Path(model_dir).name)
    recorded, state = read_checkpoint(path)
    settings = TrainingSettings(**recorded["settings"])
    differs = recorded.get("differs", ())
    if network is None:
        network = build_model(settings.network, **settings.hyperparameters)
        wrong = _misfits(network, state)
        if wrong or (differs and settings.network not in REGISTERED):
            names = [*differs, *(n for n in wrong if n not in differs)]
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise Gz2vitError(
                f"{path} holds another network than build_model('{settings.network}') makes: "
                f"{', '.join(names[:3])}{more} differ; first call "
                f"gz2vit.models.register_model('{settings.network}', YOUR_BUILDER)"
            )
    network.load_state_dict(state)
    return GalaxyClassifier(network, **recorded).eval()


class History(Callback):
    """Prints a line for each epoch and keeps `history.csv` in `folder` up to date.

    Its rows travel with the checkpoint, so that a run that resumes has them all.
    """

    def __init__(self, folder: Path, max_epoch: int) -> None:
        self.folder, self.max_epoch, self.rows = folder, max_epoch, []

    def state_dict(self) -> dict[str, Any]:
        """The rows so far, for the checkpoint."""
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the rows of a checkpoint."""
        self.rows = list(state["rows"])

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
            write_history(self.folder, self.rows)
            print(
                f"epoch {row['epoch']:>3}/{self.max_epoch}"
                f"  train loss {row['train_loss']:.3f} acc {row['train_acc']:.3f}"
                f"  valid loss {row['valid_loss']:.3f} acc {row['valid_acc']:.3f}"
                f"  {row['seconds']:.1f} s ({totals['train'][2] / row['seconds']:.0f} images/s)",
                flush=True,
            )


def write_history(folder: Path, rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Write `history.csv`, one row per epoch: losses, fractions of hits, lr, time [s]."""
    table = pd.DataFrame(rows, columns=HISTORY_COLUMNS)
    with atomic_path(folder / "history.csv") as temporary:
        table.to_csv(temporary, index=False)
    return table


class BestWeights(ModelCheckpoint):
    """Lightning's, but it also resumes in a folder that was moved."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the best accuracy so far, and this folder as the place of its weights."""
        path, score = str(Path(self.dirpath) / CHECKPOINT), state["best_model_score"]
        places = {"dirpath": self.dirpath, "best_model_path": path, "kth_best_model_path": path}
        super().load_state_dict(state | places | {"best_k_models": {path: score}})


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's way of writing checkpoints, but whole or not at all."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Path | str, storage_options: Any = None
    ) -> None:
        """Write `checkpoint` to `path`; `Gz2vitError` that names it where the disk is full."""
        with atomic_path(path) as temporary:
            try:
                torch.save(checkpoint, temporary)
            except RuntimeError as error:  # torch's writer raises no OSError
                reason = str(error).splitlines()[0]
                raise Gz2vitError(
                    f"cannot write {path}: is the disk full? ({reason}); make room and run the "
                    "same command again, which resumes after the last whole epoch"
                ) from error


class GalaxyData(lightning.LightningDataModule):
    """Batches of the splits, each epoch's drawn anew, made where the network is.

    On a GPU whose memory holds both splits they are loaded once and stay there.
    """

    def __init__(
        self, settings: TrainingSettings, train: LabelledImages, valid: LabelledImages,
        device: torch.device,
    ) -> None:  # fmt: skip
        super().__init__()
        self.settings, self.train, self.valid, self.device = settings, train, valid, device
        counts, size = [len(train.cache), len(valid.cache)], settings.image_size
        fits = fits_on_device(counts, size, device)
        splits = (train, valid) if fits else ()
        self.images = {one.split: load_images(one.cache, size, device) for one in splits}

    def train_dataloader(self) -> Batches | DeviceBatches:
        """Augmented batches of the current epoch."""
        return self._batches(self.train, augment=True, epoch=self.trainer.current_epoch)

    def val_dataloader(self) -> Batches | DeviceBatches:
        """The validation galaxies in order, not augmented."""
        return self._batches(self.valid)

    def _batches(self, galaxies: LabelledImages, **options: bool | int) -> Batches | DeviceBatches:
        settings, share = self.settings, (self.trainer.global_rank, self.trainer.world_size)
        batches = Batches(
            galaxies.cache, galaxies.class_index, settings.image_size, settings.batch_size,
            seed=settings.seed, share=share, **options,
        )  # fmt: skip
        if self.device.type != "cuda":
            return batches
        return DeviceBatches(batches, self.device, self.images.get(galaxies.split))


def train_model(
    network: nn.Module, settings: TrainingSettings, train: LabelledImages, valid: LabelledImages,
    model_dir: Path, devices: int = 1, acceleration: str = "auto",
    callbacks: Sequence[Callback] = (),
) -> pd.DataFrame:  # fmt: skip
    """Train `network`; it has the best weights afterwards. One row per epoch, `HISTORY_COLUMNS`.

    Leaves `best.ckpt` (of the best validation accuracy, the first of equals), `history.csv` and
    `params.json` in `model_dir/unfinished/`, for `evaluate_model` or `finish_training`. Trains
    nothing where `model_dir` holds the model of this network, these settings and galaxies, unless
    there is a file `model_dir/retrain`. `devices`: GPUs (or, without any, CPU processes) that each
    take a share of every batch; the splits must then be a results folder's. `acceleration`: "auto"
    for what pays on the device, "none" for plain float32. `callbacks`: further ones of Lightning's,
    on one device (a module's `total("train")` and `total("valid")` are the epoch's sums). Raises `Gz2vitError` where the loss is
    not finite, pretrained weights cannot be had, devices are missing, or the disk is full.
    """
    cuda = torch.cuda.is_available()
    there = torch.cuda.device_count() if cuda else available_cores()
    if not 1 <= devices <= there:
        kind = "GPU" if cuda else "processor core"
        raise Gz2vitError(f"DEVICES is {devices}, but this machine has {there} {kind}(s)")
    choose_acceleration(acceleration, settings.network, torch.device("cpu"))
    folder = model_dir / UNFINISHED
    if (folder / PUBLISHING).exists():  # killed while it put the files in place
        finish_training(model_dir)
    differs, page = compare_network(network, settings)
    known = identity(settings, train, valid, page)
    files = [model_dir / name for name in ("params.json", "history.csv", CHECKPOINT)]
    whole = all(path.exists() for path in files) and not (model_dir / RETRAIN).exists()
    if whole and read_json(files[0]).get("identity") == known:
        print(f"{model_dir} is trained already, with these settings and galaxies", flush=True)
        _set_aside(model_dir, "of other settings")
        network.load_state_dict(read_checkpoint(files[2])[1])
        return pd.read_csv(files[1])
    run = {"identity": known, "code": files_hash(DECIDING)}
    begun = read_json(folder / RUN) if (folder / RUN).exists() else {"identity": {}}
    ours, theirs = ({**one, **one["identity"]} for one in (run, begun))
    differing = [name for name in ours if theirs.get(name) != ours[name] and name != "identity"]
    if differing:
        _set_aside(model_dir, f"with other {' and '.join(differing)}")
        write_json(folder / RUN, run)
    rows = _rows(folder)
    if not is_complete(rows, settings.max_epoch, settings.early_stopping_epochs):
        if rows:
            print(f"resumes after epoch {len(rows)}, the last whole one", flush=True)
        trained = copy.deepcopy(network)  # so that nothing of the acceleration stays with the page
        options = (settings, train, valid, folder, devices, acceleration)
        if devices == 1:
            fit(trained, *options, callbacks, differs)
        else:
            _fit_in_processes(trained, *options, differs=differs)
    history = write_history(folder, _rows(folder))
    write_json(folder / RUN, read_json(folder / RUN) | {"trained": True})
    network.load_state_dict(read_checkpoint(folder / CHECKPOINT)[1])
    return history


def fit(
    network: nn.Module, settings: TrainingSettings, train: LabelledImages, valid: LabelledImages,
    folder: Path, devices: int = 1, acceleration: str = "auto",
    callbacks: Sequence[Callback] = (), differs: Sequence[str] = (),
) -> None:  # fmt: skip
    """Train in this process, alone or as one of `devices`, after the last whole epoch if any.

    `folder`: where checkpoints, history and `params.json` go; `callbacks`: further ones of
    Lightning's, for measurements.
    """
    device = local_device()
    torch.set_num_threads(min(torch.get_num_threads(), available_cores()))
    chosen = choose_acceleration(acceleration, settings.network, device)
    source = take_weights(use_mask_dropout(network), settings, differs)
    classifier = make_classifier(network, settings, train, differs)
    classifier.use(chosen)
    last = folder / LAST
    history = History(folder, settings.max_epoch)
    # DEVIATION: the authors stop after 10 epochs without improvement, but do not say of what; we
    # watch the figure that also selects the weights.
    patience = EarlyStopping("valid_acc", mode="max", patience=settings.early_stopping_epochs)
    kept = {"dirpath": folder, "enable_version_counter": False, "save_on_train_epoch_end": True}
    best = BestWeights(
        **kept, filename="best", monitor="valid_acc", mode="max", save_weights_only=True
    )
    environment = LightningEnvironment() if devices == 1 else TorchElasticEnvironment()
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")
    trainer = lightning.Trainer(
        max_epochs=settings.max_epoch,
        accelerator="auto",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        # Batch norm over the whole batch, as on one device; Lightning has it for GPUs only.
        sync_batchnorm=devices > 1 and device.type == "cuda",
        precision=chosen.precision,
        # The cluster's scheduler starts the step, not each of its processes.
        plugins=[AtomicCheckpointIO(), environment],
        callbacks=[history, *callbacks, patience, best, ModelCheckpoint(**kept, filename="last")],
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    if trainer.is_global_zero:
        hardware = {"device": device_name(device), "devices": devices, **asdict(chosen)}
        write_record(folder, classifier, source, hardware)
    data = GalaxyData(settings, train, valid, device)
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        resumed = last if last.exists() else None
        trainer.fit(classifier, datamodule=data, ckpt_path=resumed, weights_only=True)
    except SystemExit as end:  # Lightning's at Ctrl-C, to which it is deaf from then on
        if type(end) is not SystemExit:  # at SIGTERM
            raise
        signal.signal(signal.SIGINT, on_interrupt)
        raise KeyboardInterrupt from None


def write_record(
    folder: Path, classifier: GalaxyClassifier, source: dict, hardware: dict[str, Any]
) -> None:
    """Write `params.json`: what this run is, and after which epoch it continued on what device."""
    settings, path = classifier.settings, folder / "params.json"
    sessions = read_json(path)["sessions"] if path.exists() else []
    sessions.append({"after_epoch": len(_rows(folder)), **hardware})
    record = run_record(settings.as_dict(), settings.seed, hardware["device"])
    record |= {
        "class_weights": classifier.loss_weights.tolist(),
        "weights": source,
        "network": {
            "parameters": count_parameters(classifier.network),
            "trainable_parameters": count_parameters(classifier.network, trainable=True),
            "differs": classifier.hparams["differs"],
        },
        "threads": torch.get_num_threads(),
        "sessions": sessions,
    }
    record |= read_json(folder / RUN) if (folder / RUN).exists() else {}
    write_json(path, record)


def is_complete(rows: list[dict[str, Any]], max_epoch: int, patience: int) -> bool:
    """Whether a run with these rows has ended: all epochs, or `patience` without a better one."""
    if len(rows) >= max_epoch:
        return True
    accuracies = [row["valid_acc"] for row in rows]
    return bool(rows) and len(rows) - 1 - accuracies.index(max(accuracies)) >= patience


def _rows(folder: Path) -> list[dict[str, Any]]:
    """The history of the whole epochs so far; `Gz2vitError` for a damaged checkpoint."""
    if not (folder / LAST).exists():
        return []
    try:
        state = torch.load(folder / LAST, map_location="cpu", weights_only=True, mmap=True)
        return state["callbacks"]["History"]["rows"]
    except Exception as error:  # a damaged file can make the reader fail in any way
        raise Gz2vitError(
            f"{folder / LAST} cannot be read; delete {folder} to train from the start"
        ) from error


def identity(
    settings: TrainingSettings, train: LabelledImages, valid: LabelledImages, network: str = ""
) -> dict[str, Any]:
    """What makes two trainings the same: settings, a start from a file, galaxies, network.

    Not the code: a finished model is not trained again because a line of this suite has changed.
    """
    start = trained_checkpoint(settings.weights) or Path(settings.weights)
    named = file_sha256(start) if start.is_file() else settings.weights
    run = {
        "settings": settings.as_dict() | {"weights": named},
        "train": train.signature(),
        "valid": valid.signature(),
        "network": network,
    }
    return json.loads(json.dumps(run))  # as it reads when it comes back: tuples are lists


def compare_network(network: nn.Module, settings: TrainingSettings) -> tuple[list[str], str]:
    """The layers in which `network` is not `build_network(settings)`, and a short hash of it.

    None and "" where it is the same, first weights included.
    """
    with torch.random.fork_rng():
        built = build_network(settings)
    differs = differing_layers(network, built)
    own, theirs = ({n: p.requires_grad for n, p in one.named_parameters()}
                   for one in (network, built))  # fmt: skip
    state, other = network.state_dict(), built.state_dict()
    if differs or own != theirs:
        words = [repr((describe_layers(network), own)).encode()]
    elif all(torch.equal(one, other[name]) for name, one in state.items()):
        return [], ""
    else:
        print(f"the network's first weights are not those of seed {settings.seed}", flush=True)
        words = [one.cpu().contiguous().numpy().tobytes() for one in state.values()]
    return differs, hashlib.sha256(b"".join(words)).hexdigest()[:16]


def _set_aside(model_dir: Path, which: str) -> None:
    """Move an unfinished training that has whole epochs to `replaced/`."""
    folder = model_dir / UNFINISHED
    if (folder / LAST).exists():
        aside = _replaced(model_dir, "_unfinished")
        print(f"an unfinished training {which} is set aside in {aside}", flush=True)
        aside.parent.mkdir(exist_ok=True)
        folder.replace(aside)
    _clear(folder)


def _replaced(model_dir: Path, ending: str = "") -> Path:
    """A new folder's path below `replaced/`, named by the time."""
    while (path := model_dir / REPLACED / f"{datetime.now():%Y-%m-%d_%H%M%S}{ending}").exists():
        time.sleep(0.1)
    return path


def is_trained(model_dir: Path) -> bool:
    """Whether `unfinished/` holds a training that has ended and is not yet in place."""
    note = model_dir / UNFINISHED / RUN
    return note.exists() and read_json(note).get("trained", False)


def finish_training(model_dir: Path) -> None:
    """Put the files of `unfinished/` in place, and those of an older model in `replaced/<date>/`.

    Killed at any moment it ends the same when it is called again.
    """
    folder = model_dir / UNFINISHED
    mark = folder / PUBLISHING
    if not mark.exists():
        if not is_trained(model_dir):
            return
        files = [name for name in MODEL_FILES if (folder / name).exists()]
        write_json(mark, {"files": files, "replaced": _replaced(model_dir).name})
    plan = read_json(mark)
    old = model_dir / REPLACED / plan["replaced"]
    for name in MODEL_FILES:  # a new file that has left `unfinished/` is in place already
        if (model_dir / name).exists() and (name not in plan["files"] or (folder / name).exists()):
            old.mkdir(parents=True, exist_ok=True)
            (model_dir / name).replace(old / name)
    for name in plan["files"]:
        if (folder / name).exists():
            (folder / name).replace(model_dir / name)
    (model_dir / RETRAIN).unlink(missing_ok=True)
    _clear(folder)


def _clear(folder: Path) -> None:
    """Remove `unfinished/` but for what others have put there; the mark of publishing last."""
    for name in (*MODEL_FILES, "processes.log", LAST, RUN, PUBLISHING):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # not empty, or not there
        folder.rmdir()


def _fit_in_processes(
    network: nn.Module, settings: TrainingSettings, train: LabelledImages, valid: LabelledImages,
    folder: Path, devices: int, acceleration: str, differs: Sequence[str],
) -> None:  # fmt: skip
    """`fit` on `devices` devices of this machine, in processes that torchrun starts.

    A notebook cannot be started again for each device, as Lightning starts a script. The processes
    end when the pipe to this one does.
    """
    with TemporaryDirectory() as place, (folder / "processes.log").open("w") as log:
        order, failure = Path(place) / "order.pkl", Path(place) / "failure.txt"
        results_dir = str(train.cache.path.resolve().parents[1])
        options = (settings, folder.resolve(), devices, acceleration, differs)
        order.write_bytes(cloudpickle.dumps((network, results_dir, *options)))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(devices), "-m", "gz2vit.training", str(order)]
        threads = {"OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // devices))}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
        process = subprocess.Popen(command, **pipes, text=True, env=os.environ | threads)
        try:
            for line in process.stdout:
                print(line, end="", flush=True)
            code = process.wait()
        finally:
            process.stdin.close()  # the processes end now, if they have not
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        if failure.exists():
            raise Gz2vitError(failure.read_text(encoding="utf-8").strip())
        if code:
            raise Gz2vitError(f"training on {devices} devices ended early; see {log.name}")


def main(order: Path) -> int:
    """Be one of the processes of `_fit_in_processes`; the exit code."""
    threading.Thread(target=lambda: sys.stdin.buffer.read() + os._exit(1), daemon=True).start()
    try:
        network, results_dir, settings, *options, differs = cloudpickle.loads(order.read_bytes())
        train, valid = (open_split(results_dir, split) for split in ("train", "valid"))
        fit(network, settings, train, valid, *options, differs=differs)
    except Exception as error:
        failure = order.with_name("failure.txt")
        if not failure.exists():  # else another was first, and this error follows from that
            kind = "" if isinstance(error, Gz2vitError) else f"{type(error).__name__}: "
            write_text(failure, f"{kind}{' '.join(str(error).split())}\n")
        traceback.print_exc()
        return 1
    return 0


def local_device() -> torch.device:
    """The device of this process: the GPU of its number, Apple's GPU, or the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """A device in words: the GPU's product name, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stdout.flush()
    # Without waiting for threads of a process group whose other members may be gone.
    os._exit(code)
