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
from collections.abc import Callable, Mapping, Sequence
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
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning.pytorch.plugins.io import TorchCheckpointIO
from safetensors import safe_open
from torch import multiprocessing, nn
from torch.nn import functional

from gz2vit import io, models, paper
from gz2vit.batches import Batch, Batches, fits_on_device, load_images, warp_on_device
from gz2vit.catalog import ClassWeights, class_weights
from gz2vit.images import LabelledImages, open_split
from gz2vit.io import CHECKPOINT, MODEL_FILES, Gz2vitError, read_json, write_json
from gz2vit.weights import fetch_weights, file_sha256

CHOICES = ("auto", "none")  # of ACCELERATION
CONVOLUTIONAL = ("resnet50", "vgg16_bn", "backbone")
WARM_UP = 3  # steps before one is captured
COMPILE_FROM = 2_000_000  # images of all epochs, from which on a minute of compiling pays
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


# How a network is computed while it is trained: `precision` as Lightning names it; whether a step
# is compiled; whether images and weights lie with the channels together; `models.fuse_attention`.
Acceleration = namedtuple(
    "Acceleration", "precision compiled channels_last fused", defaults=("32-true", *[False] * 3)
)
HALF = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def choose_acceleration(
    choice: str, architecture: str, device: torch.device, images: float = 0
) -> Acceleration:
    """What pays on `device` for so many `images` in all with "auto"; nothing with "none"."""
    # DEVIATION: the authors train in float32; `benchmarks/precision.py` measures the difference.
    if choice not in CHOICES:
        raise Gz2vitError(f"acceleration is {choice!r}; it must be one of {', '.join(CHOICES)}")
    if choice == "none" or device.type not in ("cpu", "cuda"):
        return Acceleration()
    if device.type == "cpu":
        # On a processor that multiplies bfloat16 itself (Intel's from 2020, AMD's from 2022): 2.1
        # times the Linformer's images per second, 2.7 the ViT's, 1.4 the CNNs' (benchmarks/)
        able = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
        return Acceleration("bf16-mixed" if able else "32-true")
    capability, together = torch.cuda.get_device_capability(device), architecture in CONVOLUTIONAL
    if capability < (7, 0):  # no tensor cores; torch's compiler needs their generation as well
        return Acceleration(channels_last=together)
    # bfloat16 is as fast as float16 from NVIDIA Ampere on
    half = "bf16-mixed" if capability >= (8, 0) else "16-mixed"
    return Acceleration(half, images >= COMPILE_FROM, together, True)


class Replayed:
    """A GPU's step on batches of one shape as a single CUDA graph.

    A step of the Linformer is some 1,000 small kernels, whose launching one by one takes longer
    than the GPU needs for them. The first calls run as they are; whatever compiles does so there.
    """

    def __init__(self, step: Callable[..., torch.Tensor]) -> None:
        self.step, self.calls, self.graph = step, 0, None
        self.side = torch.cuda.Stream()  # CUDA captures any but the default one

    def __call__(self, *batch: torch.Tensor) -> torch.Tensor:
        if self.calls < WARM_UP:
            self.calls += 1
            self.side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.side):
                figures = self.step(*batch)
            torch.cuda.current_stream().wait_stream(self.side)
            return figures
        if self.graph is None:
            self.batch, self.graph = [one.clone() for one in batch], torch.cuda.CUDAGraph()
            # Other threads may go on: they read galaxies into pinned memory.
            options = {"stream": self.side, "capture_error_mode": "thread_local"}
            with torch.cuda.graph(self.graph, **options):  # nothing is computed yet
                self.figures = self.step(*self.batch)
        for own, given in zip(self.batch, batch, strict=True):
            own.copy_(given)
        self.graph.replay()
        return self.figures


class GalaxyClassifier(lightning.LightningModule):
    """A network with its normalisation, loss and schedule: grey levels in, logits out.

    Loss: cross-entropy with `loss_weights` (8,), in training and validation alike, as the authors'.
    `mean`, `std`: of (R, G, B), 0 to 1. `crop_px`: of the square that was learned from. `differs`:
    layers that are not those of `build_model`. `temperature`: calibrates the mean probabilities
    over eight views. To Lightning an epoch is one step: around a step it does what takes longer
    than a GPU needs for a batch of the Linformer.
    """

    automatic_optimization = False

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
        self.network, self.crop_px, self.devices = network, crop_px, 1
        self.use(Acceleration())
        self.batches: dict[str, Batches] = {}  # "train" and "valid"
        self.figures: dict[str, torch.Tensor] = {}  # of each batch of an epoch, as of `loss_of`
        self.graphs: dict[str, Replayed] = {}  # a GPU's, by part
        self.rows: list[dict[str, Any]] = []  # of the history
        mean, std = (torch.tensor(list(values)).view(3, 1, 1) for values in (mean, std))
        # (x / 255 - mean) / std of grey levels x, as one product and one sum
        self.register_buffer("scale", 1.0 / (255.0 * std), persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)
        weights = torch.tensor(loss_weights, dtype=torch.float32)
        self.register_buffer("loss_weights", weights, persistent=False)

    def use(self, chosen: Acceleration, **options: Any) -> None:
        """Compute as `chosen` from now on, with `options` of `torch.compile`; weights stay."""
        self.half, self.channels_last = HALF.get(chosen.precision), chosen.channels_last
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.half is torch.float16)
        if chosen.channels_last:
            self.network.to(memory_format=torch.channels_last)
        if chosen.fused:
            models.fuse_attention(self.network)
        if not options and self.settings.network == "linformer":
            options = {"options": {"combo_kernels": True}}  # small kernels joined: 1.07 times
        step = torch.compile(self.loss_of, dynamic=False, **options) if chosen.compiled else None
        self.compiled, self.graphs = step, {}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, H, W), 0 to 255, uint8 or float, to logits (B, 8)."""
        scaled = torch.addcmul(self.shift, images.float(), self.scale)
        if self.channels_last:
            scaled = scaled.contiguous(memory_format=torch.channels_last)
        return self.network(scaled)

    def loss_of(
        self, images: torch.Tensor, class_index: torch.Tensor, whole: torch.Tensor,
        matrices: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """What is minimised; (4,): the mean loss (a share), that times the size, hits, galaxies."""
        logits = self(images if matrices is None else warp_on_device(images, matrices))
        losses = functional.cross_entropy(
            logits.float(), class_index, weight=self.loss_weights, reduction="none"
        )  # (B,), 0 for an image that only fills up
        loss = losses.sum() / self.loss_weights[whole].sum()
        hits, count = (logits.argmax(dim=1) == class_index).sum(), (class_index >= 0).sum()
        share = loss.detach()
        # Several devices average their gradients: their shares of the loss must add up.
        return loss * self.devices, torch.stack([share, share * len(whole), hits, count])

    def compute(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """`loss_of` a batch, in the precision in use; the last, smaller one is never compiled."""
        full = len(batch.whole) == self.settings.batch_size
        # No cache of rounded weights: in the next step they are others.
        options = {"enabled": self.half is not None, "cache_enabled": False}
        with torch.autocast(self.device.type, self.half, **options):
            return (full and self.compiled or self.loss_of)(*batch)

    def learn(self, *batch: torch.Tensor) -> torch.Tensor:
        """A step: the loss of a batch, its gradient, and Adam's step; the batch's figures."""
        loss, figures = self.compute(Batch(*batch))
        # Lightning's way to several devices' mean gradient costs 100 calls more.
        backward = torch.Tensor.backward if self.devices == 1 else self.manual_backward
        backward(self.scaler.scale(loss))
        self.scaler.step(self.adam)
        self.scaler.update()
        self.adam.zero_grad()
        return figures

    def judge(self, *batch: torch.Tensor) -> torch.Tensor:
        """The figures of a batch, from which nothing is learned."""
        return self.compute(Batch(*batch))[1]

    def run_epoch(self, part: str) -> None:
        """`learn` ("train") or `judge` ("valid") all batches of an epoch; keeps their figures."""
        batches, kept = self.batches[part], self.shift.new_zeros(len(self.batches[part]), 4)
        batches.epoch, self.figures[part] = self.current_epoch, kept
        step = replayed = self.learn if part == "train" else self.judge
        if self.device.type == "cuda" and self.devices == 1:
            replayed = self.graphs.setdefault(part, Replayed(step))
        for row, batch in zip(kept, batches, strict=True):
            full = len(batch.images) == self.settings.batch_size  # the last may not be
            row.copy_((replayed if full else step)(*filter(lambda one: one is not None, batch)))
            # Looking at a loss makes the CPU wait for a GPU: there, once an epoch.
            if self.device.type == "cpu" and not row[0] <= DIVERGED:
                self.check_losses()

    def on_train_epoch_start(self) -> None:
        """Start the epoch's dropout from (seed, epoch, device) alone."""
        self.start, (self.lr,) = time.perf_counter(), self.lr_schedulers().get_last_lr()
        place = [self.settings.seed, self.current_epoch, *filter(None, [self.global_rank])]
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))
        for part in self.network.modules():
            if {one.requires_grad for one in part.parameters()} == {False}:
                part.eval()  # a frozen part is left alone: no dropout, no running means

    def training_step(self, *_: int) -> None:
        """An epoch."""
        self.adam = self.optimizers(use_pl_optimizer=False)
        (group,), lr, on_gpu = self.adam.param_groups, self.lr, self.device.type == "cuda"
        # A graph reads the rate of each epoch there; a checkpoint may be of another device.
        group |= {"lr": self.rate.fill_(lr) if on_gpu else lr, "capturable": on_gpu}
        self.run_epoch("train")
        group["lr"] = lr
        self.optimizers().step()  # without gradients: nothing moves, but Lightning counts a step
        self.lr_schedulers().step()

    def validation_step(self, *_: int) -> None:
        """All validation galaxies, and the row of the history; one device of several prints it."""
        self.run_epoch("valid")
        self.check_losses()
        row = {"epoch": (epoch := self.current_epoch + 1), "lr": self.lr}
        line = f"epoch {epoch:>3}/{self.trainer.max_epochs}"
        for part, figures in self.figures.items():
            shares = self.trainer.strategy.reduce(figures[:, 1:].clone(), reduce_op="sum")
            # One by one, not pairwise; in float64, which Apple's GPUs do not have.
            loss, hits, count = shares.cpu().double().cumsum(0)[-1].tolist()
            row |= {f"{part}_loss": loss / count, f"{part}_acc": hits / count}
            line += f"  {part} loss {loss / count:.3f} acc {hits / count:.3f}"
        row["seconds"] = time.perf_counter() - self.start
        self.rows.append(row)
        self.log("valid_acc", row["valid_acc"], batch_size=1)  # which callbacks watch
        if self.trainer.is_global_zero:
            write_history(Path(self.trainer.default_root_dir), self.rows)
            rate = len(self.batches["train"].cache) / row["seconds"]
            print(f"{line}  {row['seconds']:.1f} s ({rate:.0f} images/s)", flush=True)

    def check_losses(self) -> None:
        """End the run at a loss that is not finite or beyond all bounds."""
        for part, figures in self.figures.items():
            for batch, value in enumerate(figures[:, 0].tolist(), 1):
                if not value <= DIVERGED:  # not true for NaN
                    words = f"epoch {self.current_epoch + 1}, batch {batch}, at learning rate "
                    words += f"{self.lr:g}; try a smaller LR (the best weights of the epochs "
                    words += f"before, if any, are kept in {self.trainer.default_root_dir})"
                    name = self.settings.model_key
                    raise Gz2vitError(f"the {part} loss of {name} became {value:.4g} in {words}")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The history travels with the checkpoint, so that a run that resumes has all of it."""
        checkpoint["history"] = self.rows

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the history of a checkpoint."""
        self.rows = list(checkpoint["history"])

    def configure_optimizers(self) -> tuple[list, list]:
        """Adam, its learning rate times gamma every `step_size` epochs, as in the paper."""
        learning, own = [one for one in self.parameters() if one.requires_grad], self.settings
        # fused: in one pass over memory, for which a VGG16's step on a CPU mostly waits
        options = {"fused": True, "capturable": self.device.type == "cuda"}
        adam, self.rate = torch.optim.Adam(learning, lr=own.lr, **options), self.shift.new_empty(())
        return [adam], [torch.optim.lr_scheduler.StepLR(adam, own.step_size, own.gamma)]


def write_history(folder: Path, rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Write `history.csv`, one row per epoch: losses, fractions of hits, lr, time [s]."""
    history = pd.DataFrame(rows, columns=HISTORY_COLUMNS)
    with io.atomic_path(folder / "history.csv") as temporary:
        history.to_csv(temporary, index=False)
    return history


def take_weights(
    network: nn.Module, settings: TrainingSettings, differs: Sequence[str] = ()
) -> dict[str, Any]:
    """Give `network` what it starts from, but published last layers and `differs`; its record."""
    if settings.weights == "none":
        return {"source": "none"}
    architecture, sizes, spared = settings.network, settings.hyperparameters, tuple(differs)
    ours = theirs = sizes.get("name", architecture)
    path, record = fetch_weights(architecture, settings.weights, sizes.get("name", ""))
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
        recorded, state = content["hyper_parameters"], content["state_dict"].items()
        TrainingSettings(**recorded["settings"])
        return recorded, {name[8:]: tensor for name, tensor in state if name[:8] == "network."}
    except Exception as error:  # a damaged or foreign file can make the reader fail in any way
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise Gz2vitError(f"{path} is not a checkpoint of this suite ({reason})") from error


def load_classifier(model_dir: Path | str, network: nn.Module | None = None) -> GalaxyClassifier:
    """The classifier of a model folder or "bundled", in evaluation mode; `network`: one's own."""
    path = Path(model_dir) / CHECKPOINT
    path = io.BUNDLED if str(model_dir) == "bundled" else io.require(path, path.parent.name)
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
        # A check sum of a VGG16's 1.6 GB, for one epoch, would take 3 s; nothing reads it.
        torch.serialization.set_crc32_options(Path(path).name != LAST)
        with io.atomic_path(path) as temporary:
            try:
                torch.save(checkpoint, temporary)
            except RuntimeError as error:  # torch's writer raises no OSError
                raise OSError(errno.ENOSPC, "is the disk full?") from error


def make_batches(
    settings: TrainingSettings, train: LabelledImages, valid: LabelledImages,
    device: torch.device, share: tuple[int, int] = (0, 1),
) -> dict[str, Batches]:  # fmt: skip
    """What to train on and to validate with; a GPU that has room for both splits keeps them."""
    size, splits = settings.image_size, {"train": train, "valid": valid}
    fits = fits_on_device([len(one.cache) for one in splits.values()], size, device)
    return {
        part: Batches(
            one.cache, one.class_index, size, settings.batch_size, part == "train", settings.seed,
            share=share, device=device if device.type == "cuda" else None,
            images=load_images(one.cache, size, device) if fits else None,
        )
        for part, one in splits.items()
    }  # fmt: skip


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
    take a share of every batch; the splits must then be a results folder's. `acceleration`: of
    `CHOICES`. `callbacks`: of Lightning's, on one device (`module.rows`: the history so far).
    Raises `Gz2vitError`: the loss is not finite, weights or devices are missing, the disk is full.
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
    planned = len(train.cache) * settings.max_epoch
    chosen = choose_acceleration(acceleration, settings.network, device, planned)
    source = take_weights(models.use_mask_dropout(network), settings, differs)
    weights = class_weights(settings.class_weights, train.class_counts()).tolist()
    options = {"crop_px": train.cache.crop_px, "differs": differs}
    classifier = GalaxyClassifier(network, asdict(settings), weights, **options)
    classifier.use(chosen)
    if chosen.compiled:  # an earlier training's graphs go; after eight none would be compiled
        torch.compiler.reset()
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
    silent = dict(logger=False, enable_progress_bar=False, enable_model_summary=False)
    trainer = lightning.Trainer(
        max_epochs=settings.max_epoch, devices=devices, strategy="ddp" if devices > 1 else "auto",
        # Batch norm over the whole batch, as on one device; Lightning has it for GPUs only.
        sync_batchnorm=devices > 1 and device.type == "cuda", num_sanity_val_steps=0,
        plugins=[AtomicCheckpointIO(), environment], default_root_dir=folder, **silent,
        callbacks=[*callbacks, patience, best, ModelCheckpoint(**kept, filename="last")],
    )  # fmt: skip
    if trainer.is_global_zero:
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        sessions = read_json(path)["sessions"] if (path := folder / "params.json").exists() else []
        session = {"after_epoch": len(_rows(folder)), "device": name, "devices": devices}
        counts = [models.count_parameters(network, trainable=one) for one in (False, True)]
        built = {"parameters": counts[0], "trainable_parameters": counts[1], "differs": differs}
        record = io.run_record(asdict(settings), settings.seed, name) | _run(folder)
        record |= {"class_weights": weights, "weights": source, "network": built}
        record |= {"threads": torch.get_num_threads()}
        write_json(path, record | {"sessions": [*sessions, session | chosen._asdict()]})
    share = classifier.devices = trainer.world_size
    classifier.batches = make_batches(settings, train, valid, device, (trainer.global_rank, share))
    on_interrupt, products = signal.getsignal(signal.SIGINT), torch.get_float32_matmul_precision()
    last = folder / LAST if (folder / LAST).exists() else None
    try:
        if chosen.precision != "32-true" and device.type == "cuda":
            torch.set_float32_matmul_precision("high")  # what stays float32 multiplies in TF32
        trainer.fit(classifier, range(1), range(1), ckpt_path=last, weights_only=True)
    except SystemExit as end:  # Lightning's at Ctrl-C, to which it is deaf from then on
        if type(end) is not SystemExit:  # at SIGTERM
            raise
        signal.signal(signal.SIGINT, on_interrupt)
        raise KeyboardInterrupt from None
    finally:
        torch.set_float32_matmul_precision(products)


def _rows(folder: Path) -> list[dict[str, Any]]:
    """The history of the whole epochs so far; `Gz2vitError` for a damaged checkpoint."""
    try:
        return torch.load(folder / LAST, map_location="cpu", weights_only=True)["history"]
    except FileNotFoundError:
        return []
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
    moves = [(folder, model_dir)]
    # The history is the first to come into place: while it is not, what is in place is older.
    if (folder / MODEL_FILES[0]).exists():
        moves.insert(0, (model_dir, model_dir / REPLACED / run["replaced"]))
    for source, target in moves:
        for path in (source / name for name in MODEL_FILES):
            if path.exists():
                target.mkdir(parents=True, exist_ok=True)
                path.replace(target / path.name)
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
    port = LightningEnvironment().main_port
    started = multiprocessing.spawn(_be_one, (order, devices, threads, port), devices, join=False)
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
    os.environ |= {f"{place}RANK": str(rank) for place in ("", "LOCAL_")}
    os.environ |= {f"{place}WORLD_SIZE": str(devices) for place in ("", "LOCAL_")}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(threads)
    network, results_dir, settings, *options = cloudpickle.loads(order)
    train, valid = (open_split(results_dir, split) for split in ("train", "valid"))
    fit(network, settings, train, valid, *options)


def local_device() -> torch.device:
    """The device of this process: the GPU of its number, Apple's GPU, or the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
