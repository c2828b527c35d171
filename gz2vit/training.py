"""Training, from the image cache to the best checkpoint; one printed line per epoch.

`train_model` works in `model_dir/unfinished/`; `finish_training` puts the files in place once all
are there, and moves an older model to `model_dir/replaced/<date>/`. Killed at any moment, the same
call continues after the last whole epoch: order, augmentation and dropout of an epoch follow from
the seed and the epoch's number alone, so that on a CPU the result is the same bit for bit.
"""

import copy
import errno
import hashlib
import json
import logging
import os
import re
import signal
import time
import warnings
from collections import namedtuple
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from textwrap import shorten
from typing import Any

import cloudpickle
import lightning
import numpy as np
import pandas as pd
import torch
from lightning.fabric.plugins.environments.lightning import find_free_network_port
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning.pytorch.plugins.io import TorchCheckpointIO
from safetensors import safe_open
from torch import multiprocessing, nn
from torch.nn import functional

from gz2vit import io, models, paper
from gz2vit.batches import Batch, Batches, fits_on_device, load_images
from gz2vit.catalog import ClassWeights, class_weights
from gz2vit.images import LabelledImages, open_split
from gz2vit.io import CHECKPOINT, MODEL_FILES, Gz2vitError, read_json, write_json
from gz2vit.weights import fetch_weights, file_sha256

CHOICES = ("auto", "none")  # of ACCELERATION
CONVOLUTIONAL = ("resnet50", "vgg16_bn", "backbone")
DIVERGED = 1e4  # a mean loss beyond all bounds: pure guessing among 8 classes has ln 8 = 2.1
HISTORY_COLUMNS = ("epoch", "train_loss", "train_acc", "valid_loss", "valid_acc", "lr", "seconds")
UNFINISHED, REPLACED, RETRAIN = "unfinished", "replaced", "retrain"
LAST, RUN = "last.ckpt", "run.json"  # in `unfinished/`
STAMP = "%Y-%m-%d_%H%M%S_%f"  # of a folder in `replaced/`
# The code that decides what a training ends with.
DECIDING = [f"gz2vit/{n}.py" for n in ("training", "models", "batches", "images", "paper")]


@dataclass(frozen=True)
class TrainingSettings:
    """One training; what is not given is the paper's, for other networks that of its ResNet-50.

    `weights`: "none", "imagenet" (for a network of a library, its published weights), a local file
    or folder of weights, or what this suite has trained (`best.ckpt` or a model's folder), whose
    last layer is taken too.
    """

    model_key: str
    lr: float | None = None  # Adam's
    step_size: int | None = None  # epochs after which it is multiplied by gamma
    gamma: float | None = None
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    image_size: int = paper.CROP_PX  # what the network sees [px]
    batch_size: int = paper.BATCH_SIZE
    max_epoch: int = paper.MAX_EPOCH
    early_stopping_epochs: int = paper.EARLY_STOPPING_EPOCHS  # without a better validation accuracy
    class_weights: ClassWeights = "uniform"
    weights: str = "none"
    seed: int = paper.SEED
    architecture: str = ""  # follows from the key unless given

    def __post_init__(self) -> None:
        for name, value in paper.SCHEDULES.get(self.network, paper.SCHEDULES["resnet50"]).items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        whole = ("image_size", "batch_size", "max_epoch", "step_size", "early_stopping_epochs")
        for name in (*whole, "lr", "gamma"):
            value, kind = getattr(self, name), int if name in whole else int | float
            if not isinstance(value, kind) or not 0 < value < float("inf"):
                kind = "whole number of at least 1" if name in whole else "positive number"
                raise Gz2vitError(f"{name} is {value!r}; it must be a {kind}")

    @property
    def network(self) -> str:
        """The architecture that is trained."""
        return models.architecture_of(self.architecture or self.model_key)


def build_network(settings: TrainingSettings) -> nn.Module:
    """The network of the settings, with its random first weights."""
    torch.manual_seed(settings.seed)
    return models.build_model(settings.network, **settings.hyperparameters)


# How a network is computed while it is trained: `precision` as Lightning names it; whether
# torch.compile is used; whether images and weights lie with the channels together.
FIELDS = ("precision", "compiled", "channels_last")
Acceleration = namedtuple("Acceleration", FIELDS, defaults=("32-true", False, False))


def choose_acceleration(choice: str, architecture: str, device: torch.device) -> Acceleration:
    """What pays on `device` with "auto", nothing with "none"."""
    # DEVIATION: the authors train in float32; `benchmarks/precision.py` measures the difference.
    if choice not in CHOICES:
        raise Gz2vitError(f"acceleration is {choice!r}; it must be one of {', '.join(CHOICES)}")
    if choice == "auto" and device.type == "cpu":
        # On a processor that multiplies bfloat16 itself (Intel's from 2020, AMD's from 2022): 2.1
        # times the Linformer's images per second, 2.7 the ViT's, 1.4 the CNNs' (benchmarks/)
        able = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
        return Acceleration("bf16-mixed" if able else "32-true")
    if choice == "none" or device.type != "cuda":
        return Acceleration()
    capability = torch.cuda.get_device_capability(device)
    cores = capability >= (7, 0)  # tensor cores, whose generation torch's compiler needs as well
    # bfloat16 is as fast as float16 from NVIDIA Ampere on
    half = "bf16-mixed" if capability >= (8, 0) else "16-mixed"
    return Acceleration(half if cores else "32-true", cores, architecture in CONVOLUTIONAL)


class GalaxyClassifier(lightning.LightningModule):
    """A network with its normalisation, loss and schedule: grey levels in, logits out.

    Loss: cross-entropy with `loss_weights` (8,), in training and validation alike, as the authors'.
    `mean`, `std`: of (R, G, B), 0 to 1, by default the architecture's. `crop_px`: of the square
    that was learned from. `differs`: layers that are not those of `build_model`. `temperature`: of
    a network whose probabilities are to be the mean over eight views, calibrated with it.
    """

    def __init__(
        self, network: nn.Module, settings: dict, loss_weights: Sequence[float],
        mean: Sequence[float] = (), std: Sequence[float] = (), crop_px: int = paper.CROP_PX,
        differs: Sequence[str] = (), temperature: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.settings, self.temperature = TrainingSettings(**settings), temperature
        if not mean:  # ImageNet's unless a library says otherwise
            mean, std = paper.NORMALIZATION["resnet50"]
            config = getattr(network, "pretrained_cfg", {})
            published = config.get("mean", mean), config.get("std", std)
            mean, std = paper.NORMALIZATION.get(self.settings.network, published)
        self.save_hyperparameters(
            {"settings": settings, "loss_weights": list(loss_weights), "mean": list(mean),
             "std": list(std), "crop_px": crop_px, "differs": list(differs)}
        )  # fmt: skip
        self.network, self.crop_px, self.channels_last = network, crop_px, False
        self.rows: list[dict[str, Any]] = []  # of the history
        mean, std = (torch.tensor(list(values)).view(3, 1, 1) for values in (mean, std))
        # (x / 255 - mean) / std of grey levels x, as one product and one sum
        self.register_buffer("scale", 1.0 / (255.0 * std), persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)
        weights = torch.tensor(loss_weights, dtype=torch.float32)
        self.register_buffer("loss_weights", weights, persistent=False)

    def use(self, chosen: Acceleration) -> None:
        """Compute as `chosen` from now on; parameters keep names, shapes and values."""
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
        """Start the epoch's sums, its order, and its dropout, from (seed, epoch, device) alone."""
        # Sums of many losses keep more digits in float64, which Apple's GPUs do not have.
        kind = torch.float32 if self.device.type == "mps" else torch.float64
        self.sums = {part: self.shift.new_zeros(3, dtype=kind) for part in ("train", "valid")}
        self.losses = {part: [] for part in self.sums}
        self.start, self.lr = time.perf_counter(), self.trainer.optimizers[0].param_groups[0]["lr"]
        self.trainer.train_dataloader.epoch = self.current_epoch
        place = [self.settings.seed, self.current_epoch, *filter(None, [self.global_rank])]
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))
        for part in self.network.modules():
            learns = [parameter.requires_grad for parameter in part.parameters()]
            if learns and not any(learns):
                part.eval()  # a frozen part is left alone: no dropout, no running means

    def training_step(self, batch: Batch, batch_index: int) -> torch.Tensor:
        """The loss of one training batch."""
        loss = self._step(batch, "train")
        # Looking at a loss makes the CPU wait for a GPU: there, once an epoch.
        if self.device.type == "cpu" and not loss <= DIVERGED:
            self.check_losses()
        # Several devices average their gradients: their shares of the loss must add up.
        return loss * self.trainer.world_size

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Sum up loss and hits of one validation batch."""
        self._step(batch, "valid")

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
        self.losses[part].append(loss.detach())
        return loss

    def check_losses(self) -> None:
        """End the run at a loss that is not finite or beyond all bounds."""
        for part, losses in self.losses.items():
            for batch, value in enumerate(torch.stack(losses).tolist() if losses else [], 1):
                if not value <= DIVERGED:  # not true for NaN
                    raise Gz2vitError(
                        f"the {part} loss of {self.settings.model_key} became {value:.4g} in epoch "
                        f"{self.current_epoch + 1}, batch {batch}, at learning rate {self.lr:g}; "
                        "try a smaller LR (the best weights of the whole epochs before, if any, "
                        f"are kept in {self.trainer.default_root_dir})"
                    )

    def total(self, part: str) -> list[float]:
        """Of the epoch so far, over all devices: sum of losses, hits, number of galaxies."""
        return self.trainer.strategy.reduce(self.sums[part].clone(), reduce_op="sum").tolist()

    def on_validation_epoch_end(self) -> None:
        """Log the figure that checkpoints and early stopping watch."""
        self.check_losses()
        _, hits, count = self.total("valid")
        self.log("valid_acc", hits / count)

    def on_train_epoch_end(self) -> None:
        """Add the epoch's row to the history and print it; one device of several does both."""
        row = {"epoch": self.current_epoch + 1, "lr": self.lr}
        line = f"epoch {row['epoch']:>3}/{self.trainer.max_epochs}"
        for part in ("valid", "train"):
            loss_sum, hits, count = self.total(part)
            row |= {f"{part}_loss": loss_sum / count, f"{part}_acc": hits / count}
        for part in ("train", "valid"):
            line += f"  {part} loss {row[f'{part}_loss']:.3f} acc {row[f'{part}_acc']:.3f}"
        row["seconds"] = time.perf_counter() - self.start
        self.rows.append(row)
        if self.trainer.is_global_zero:
            write_history(Path(self.trainer.default_root_dir), self.rows)
            rate = count / row["seconds"]
            print(f"{line}  {row['seconds']:.1f} s ({rate:.0f} images/s)", flush=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The history travels with the checkpoint, so that a run that resumes has all of it."""
        checkpoint["history"] = self.rows

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the history of a checkpoint."""
        self.rows = list(checkpoint["history"])

    def configure_optimizers(self) -> tuple[list, list]:
        """Adam, its learning rate times gamma every `step_size` epochs, as in the paper."""
        learning = [parameter for parameter in self.parameters() if parameter.requires_grad]
        # fused: the same arithmetic in one pass over memory, which is what a VGG16's step on a CPU
        # mostly waits for
        adam = torch.optim.Adam(learning, lr=self.settings.lr, fused=True)
        schedule = self.settings.step_size, self.settings.gamma
        return [adam], [torch.optim.lr_scheduler.StepLR(adam, *schedule)]


def take_weights(
    network: nn.Module, settings: TrainingSettings, differs: Sequence[str] = ()
) -> dict[str, Any]:
    """Give `network` the weights that the settings start from; the record of where they are from.

    Not the last layer of published ones, nor layers of one's own (`differs`). Raises `Gz2vitError`.
    """
    if settings.weights == "none":
        return {"source": "none"}
    architecture, sizes = settings.network, settings.hyperparameters
    ours = theirs = sizes.get("name", architecture)
    path, record = fetch_weights(architecture, settings.weights, sizes.get("name", ""))
    spared = tuple(differs)
    if path.suffix == io.CHECKPOINT_SUFFIX or path == io.BUNDLED:
        recorded, state = read_checkpoint(path)
        donor = TrainingSettings(**recorded["settings"])
        theirs = donor.hyperparameters.get("name", donor.network)
    else:
        state = models.pretrained_state(architecture, sizes, path)
        spared += models.head_prefixes(network)
    state = {name: tensor for name, tensor in state.items() if not name.startswith(spared)}
    state |= {n: tensor for n, tensor in network.state_dict().items() if n.startswith(spared)}
    try:
        if ours != theirs:
            raise RuntimeError(f"they are of {theirs}, not of {ours}")
        network.load_state_dict(state)
    except RuntimeError as error:
        words = f"weights '{path}' do not fit the {ours} that is trained here: "
        raise Gz2vitError(words + str(error).splitlines()[-1].strip()[:300]) from error
    return record


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """A checkpoint's hyperparameters, and its network's tensors by name; nothing is executed."""
    try:
        if path == io.BUNDLED:
            with safe_open(path, "pt") as file:
                recorded = json.loads(file.metadata()["hyper_parameters"])
                return recorded, {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        content = torch.load(path, map_location="cpu", weights_only=True)
        hyperparameters, state = content["hyper_parameters"], content["state_dict"]
        TrainingSettings(**hyperparameters["settings"])
        network = {n.removeprefix("network."): t for n, t in state.items() if n[:8] == "network."}
    except Exception as error:  # a damaged or foreign file can make the reader fail in any way
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise Gz2vitError(f"{path} is not a checkpoint of this suite ({reason})") from error
    return hyperparameters, network


def load_classifier(model_dir: Path | str, network: nn.Module | None = None) -> GalaxyClassifier:
    """The trained classifier of a model folder or of "bundled", in evaluation mode, on the CPU.

    `network`: what to load the weights into, if not what `build_model` makes.
    """
    path = io.BUNDLED
    if str(model_dir) != "bundled":
        path = io.require(Path(model_dir) / CHECKPOINT, Path(model_dir).name)
    recorded, state = read_checkpoint(path)
    settings = TrainingSettings(**recorded["settings"])
    differs, name = recorded.get("differs", ()), settings.network
    try:
        if network is None and differs and name not in models.REGISTERED:
            raise RuntimeError(", ".join(differs))
        network = network or models.build_model(name, **settings.hyperparameters)
        network.load_state_dict(state)
    except RuntimeError as error:
        advice = f"first call gz2vit.models.register_model('{name}', YOUR_BUILDER)"
        words = f"{path} holds another network than build_model('{name}') makes: "
        raise Gz2vitError(f"{words}{shorten(str(error), 200)}; {advice}") from error
    return GalaxyClassifier(network, **recorded).eval()


def write_history(folder: Path, rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Write `history.csv`, one row per epoch: losses, fractions of hits, lr, time [s]."""
    table = pd.DataFrame(rows, columns=HISTORY_COLUMNS)
    with io.atomic_path(folder / "history.csv") as temporary:
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

    def save_checkpoint(self, checkpoint: dict, path: Path | str, storage_options=None) -> None:
        """Write `checkpoint` to `path`; `Gz2vitError` that names it where the disk is full."""
        with io.atomic_path(path) as temporary:
            try:
                torch.save(checkpoint, temporary)
            except RuntimeError as error:  # torch's writer raises no OSError
                raise OSError(errno.ENOSPC, "is the disk full?") from error


def make_batches(
    settings: TrainingSettings, train: LabelledImages, valid: LabelledImages,
    device: torch.device, share: tuple[int, int] = (0, 1),
) -> list[Batches]:  # fmt: skip
    """Batches to train on and to validate with; a GPU that has room for both splits keeps them."""
    size, splits = settings.image_size, (train, valid)
    fits = fits_on_device([len(one.cache) for one in splits], size, device)
    return [
        Batches(
            one.cache, one.class_index, size, settings.batch_size, one is train, settings.seed,
            share=share, device=device if device.type == "cuda" else None,
            images=load_images(one.cache, size, device) if fits else None,
        )
        for one in splits
    ]  # fmt: skip


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
    on one device (the module's `rows` are the history so far). Raises `Gz2vitError` where the loss
    is not finite, weights cannot be had, devices are missing, or the disk is full.
    """
    gpus = torch.cuda.device_count()
    if not 1 <= devices <= (gpus or io.available_cores()):
        there = f"{gpus} GPU(s)" if gpus else f"{io.available_cores()} processor core(s)"
        raise Gz2vitError(f"DEVICES is {devices}, but this machine has {there}")
    folder = model_dir / UNFINISHED
    if "replaced" in _run(folder):  # killed while it put the files in place
        finish_training(model_dir)
    differs, page = compare_network(network, settings)
    run = identity(settings, train, valid, page)
    files = [model_dir / name for name in ("params.json", "history.csv", CHECKPOINT)]
    whole = all(path.exists() for path in files) and not (model_dir / RETRAIN).exists()
    if whole and read_json(files[0]).get("identity") == run:
        print(f"{model_dir} is trained already, with these settings and galaxies", flush=True)
        _set_aside(model_dir, "of other settings")
        network.load_state_dict(read_checkpoint(files[2])[1])
        return pd.read_csv(files[1])
    code, begun = io.files_hash(DECIDING), _run(folder)
    theirs = {"code": begun.get("code"), **begun.get("identity", {})}
    if differing := [k for k, value in {**run, "code": code}.items() if theirs.get(k) != value]:
        _set_aside(model_dir, f"with other {' and '.join(differing)}")
        write_json(folder / RUN, {"identity": run, "code": code})
    rows = _rows(folder)
    waited = len(rows) - 1 - int(np.argmax([row["valid_acc"] for row in rows])) if rows else 0
    if len(rows) < settings.max_epoch and waited < settings.early_stopping_epochs:
        if rows:
            print(f"resumes after epoch {len(rows)}, the last whole one", flush=True)
        trained = copy.deepcopy(network)  # so that nothing of the acceleration stays with the page
        options = (settings, train, valid, folder, devices, acceleration, differs)
        fit(trained, *options, callbacks) if devices == 1 else _fit_in_processes(trained, *options)
    history = write_history(folder, _rows(folder))
    write_json(folder / RUN, _run(folder) | {"trained": True})
    network.load_state_dict(read_checkpoint(folder / CHECKPOINT)[1])
    return history


def fit(
    network: nn.Module, settings: TrainingSettings, train: LabelledImages, valid: LabelledImages,
    folder: Path, devices: int, acceleration: str, differs: Sequence[str] = (),
    callbacks: Sequence[Callback] = (),
) -> None:  # fmt: skip
    """Train in this process, alone or as one of `devices`, after the last whole epoch if any."""
    device = local_device()
    torch.set_num_threads(min(torch.get_num_threads(), io.available_cores()))
    chosen = choose_acceleration(acceleration, settings.network, device)
    source = take_weights(models.use_mask_dropout(network), settings, differs)
    weights = class_weights(settings.class_weights, train.class_counts()).tolist()
    options = {"crop_px": train.cache.crop_px, "differs": differs}
    classifier = GalaxyClassifier(network, asdict(settings), weights, **options)
    classifier.use(chosen)
    # DEVIATION: the authors stop after 10 epochs without improvement, but do not say of what; we
    # watch the figure that also selects the weights.
    watched = {"monitor": "valid_acc", "mode": "max"}
    patience = EarlyStopping(**watched, patience=settings.early_stopping_epochs)
    kept = {"dirpath": folder, "enable_version_counter": False, "save_on_train_epoch_end": True}
    best = BestWeights(**kept, **watched, filename="best", save_weights_only=True)
    # The cluster's scheduler starts the step, not each of its processes.
    environment = LightningEnvironment() if devices == 1 else TorchElasticEnvironment()
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")
    trainer = lightning.Trainer(
        max_epochs=settings.max_epoch, accelerator="auto", devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        # Batch norm over the whole batch, as on one device; Lightning has it for GPUs only.
        sync_batchnorm=devices > 1 and device.type == "cuda",
        precision=chosen.precision, plugins=[AtomicCheckpointIO(), environment],
        callbacks=[*callbacks, patience, best, ModelCheckpoint(**kept, filename="last")],
        num_sanity_val_steps=0, logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder,
    )  # fmt: skip
    if trainer.is_global_zero:
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        sessions = read_json(path)["sessions"] if (path := folder / "params.json").exists() else []
        session = {"after_epoch": len(_rows(folder)), "device": name, "devices": devices}
        counts = [models.count_parameters(network, trainable=one) for one in (False, True)]
        names = "parameters", "trainable_parameters", "differs"
        record = io.run_record(asdict(settings), settings.seed, name) | _run(folder) | {
            "class_weights": weights, "weights": source, "threads": torch.get_num_threads(),
            "network": dict(zip(names, (*counts, list(differs)), strict=True)),
            "sessions": [*sessions, session | chosen._asdict()],
        }  # fmt: skip
        write_json(path, record)
    place = device, (trainer.global_rank, trainer.world_size)
    splits = make_batches(settings, train, valid, *place)
    on_interrupt, products = signal.getsignal(signal.SIGINT), torch.get_float32_matmul_precision()
    try:
        if chosen.precision != "32-true" and device.type == "cuda":
            torch.set_float32_matmul_precision("high")  # what stays float32 multiplies in TF32
        last = folder / LAST if (folder / LAST).exists() else None
        trainer.fit(classifier, *splits, ckpt_path=last, weights_only=True)
    except SystemExit as end:  # Lightning's at Ctrl-C, to which it is deaf from then on
        if type(end) is not SystemExit:  # at SIGTERM
            raise
        signal.signal(signal.SIGINT, on_interrupt)
        raise KeyboardInterrupt from None
    finally:
        torch.set_float32_matmul_precision(products)


def _rows(folder: Path) -> list[dict[str, Any]]:
    """The history of the whole epochs so far; `Gz2vitError` for a damaged checkpoint."""
    if not (folder / LAST).exists():
        return []
    try:
        return torch.load(folder / LAST, map_location="cpu", weights_only=True)["history"]
    except Exception as error:  # a damaged file can make the reader fail in any way
        words = f"{folder / LAST} cannot be read; delete {folder} to train from the start"
        raise Gz2vitError(words) from error


def _run(folder: Path) -> dict[str, Any]:
    """What the training in an `unfinished/` is: identity, code, whether it has ended."""
    return read_json(folder / RUN) if (folder / RUN).exists() else {}


def identity(
    settings: TrainingSettings, train: LabelledImages, valid: LabelledImages, network: str = ""
) -> dict[str, Any]:
    """What makes two trainings the same: settings, a start from a file, galaxies, network."""
    start = io.trained_checkpoint(settings.weights) or Path(settings.weights)
    named = file_sha256(start) if start.is_file() else settings.weights
    run = {"settings": asdict(settings) | {"weights": named}, "network": network}
    run |= {"train": train.signature(), "valid": valid.signature()}
    return json.loads(json.dumps(run))  # as it reads when it comes back: tuples are lists


def compare_network(network: nn.Module, settings: TrainingSettings) -> tuple[list[str], str]:
    """Layers in which `network` is not `build_network(settings)`, its hash; [], "" for the same."""
    with torch.random.fork_rng():
        built = build_network(settings)
    differs = models.differing_layers(network, built)
    learns = [{n: p.requires_grad for n, p in one.named_parameters()} for one in (network, built)]
    state, other = network.state_dict(), built.state_dict()
    if differs or learns[0] != learns[1]:
        words = [repr((models.describe_layers(network), learns[0])).encode()]
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
        aside = model_dir / REPLACED / f"{datetime.now():{STAMP}}_unfinished"
        print(f"an unfinished training {which} is set aside in {aside}", flush=True)
        aside.parent.mkdir(exist_ok=True)
        folder.replace(aside)
    _clear(folder)


def is_trained(model_dir: Path) -> bool:
    """Whether `unfinished/` holds a training that has ended and is not yet in place."""
    return _run(model_dir / UNFINISHED).get("trained", False)


def finish_training(model_dir: Path) -> None:
    """Put the files of `unfinished/` in place, and an older model's in `replaced/<date>/`."""
    folder = model_dir / UNFINISHED
    if not is_trained(model_dir):
        return
    run = {"replaced": f"{datetime.now():{STAMP}}"} | _run(folder)
    write_json(folder / RUN, run)
    old = model_dir / REPLACED / run["replaced"]
    # The history is the first to come into place: while it is not, what is in place is older.
    if (folder / MODEL_FILES[0]).exists():
        for path in (model_dir / name for name in MODEL_FILES):
            if path.exists():
                old.mkdir(parents=True, exist_ok=True)
                path.replace(old / path.name)
    for path in (folder / name for name in MODEL_FILES):
        if path.exists():
            path.replace(model_dir / path.name)
    (model_dir / RETRAIN).unlink(missing_ok=True)
    _clear(folder)


def _clear(folder: Path) -> None:
    """Remove `unfinished/` but for what others have put there; what says that it ended last."""
    for name in (*MODEL_FILES, LAST, RUN):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # not empty, or not there
        folder.rmdir()


def _fit_in_processes(
    network: nn.Module, settings: TrainingSettings, train: LabelledImages, valid: LabelledImages,
    folder: Path, devices: int, *options: Any,
) -> None:  # fmt: skip
    """`fit` in one process per device: a notebook cannot be started again, as Lightning would."""
    results_dir = str(train.cache.path.resolve().parents[1])
    order = cloudpickle.dumps((network, results_dir, settings, folder, devices, *options))
    threads = max(1, torch.get_num_threads() // devices)
    started = multiprocessing.spawn(
        _be_one, (order, devices, threads, find_free_network_port()), devices, join=False
    )
    try:
        while not started.join():
            pass
    except multiprocessing.ProcessRaisedException as error:
        found = re.search(r"Gz2vitError: (.+)", str(error))
        reason = found[1] if found else f"training on {devices} devices ended early: {error}"
        raise Gz2vitError(reason) from error
    finally:
        for process in started.processes:
            process.kill()


def _be_one(rank: int, order: bytes, devices: int, threads: int, port: int) -> None:
    """Be one of the processes of `_fit_in_processes`."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": devices, "LOCAL_WORLD_SIZE": devices}
    place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in place.items()}
    torch.set_num_threads(threads)
    network, results_dir, settings, *options = cloudpickle.loads(order)
    train, valid = (open_split(results_dir, split) for split in ("train", "valid"))
    fit(network, settings, train, valid, *options)


def local_device() -> torch.device:
    """The device of this process: the GPU of its number, Apple's GPU, or the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
