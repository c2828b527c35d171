"""A network with its normalisation, loss and schedule, as Lightning trains it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import lightning
import numpy as np
import torch
from torch.nn import functional

from gz2vit.data.batches import Batch
from gz2vit.errors import Gz2vitError
from gz2vit.models import build_model, head_prefixes
from gz2vit.results import CHECKPOINT, require
from gz2vit.training.acceleration import Acceleration, apply_acceleration
from gz2vit.training.recipes import RECIPES, normalization_of
from gz2vit.training.settings import TrainingSettings

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
