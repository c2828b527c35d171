"""A network with its normalisation, loss and schedule, as Lightning trains it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import lightning
import numpy as np
import torch
from torch.nn import functional

from gz2vit.errors import Gz2vitError
from gz2vit.models import build_model, head_prefixes
from gz2vit.results import require
from gz2vit.training.recipes import RECIPES, normalization_of
from gz2vit.training.settings import TrainingSettings

CHECKPOINT = "best.ckpt"


class GalaxyClassifier(lightning.LightningModule):
    """Takes uint8 images (B, 3, H, W) as the store holds them; returns logits (B, 8).

    Each architecture has its own normalisation (`recipes`). The loss is cross-entropy
    with `loss_weights` (8,), in training and validation alike, as in the authors' notebooks.
    """

    def __init__(self, settings: dict, loss_weights: Sequence[float]) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.settings = TrainingSettings(**settings)
        name = self.settings.network
        self.network = build_model(name, **self.settings.hyperparameters)
        known = normalization_of(name, self.network)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in known)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        weights = torch.tensor(loss_weights, dtype=torch.float32)
        self.register_buffer("loss_weights", weights, persistent=False)
        self.epoch_sums: dict[str, np.ndarray] = {}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 images (B, 3, H, W) to logits (B, 8)."""
        scaled = images.float() / 255.0
        return self.network((scaled - self.mean) / self.std)

    def on_train_epoch_start(self) -> None:
        """Start the epoch's sums, and its dropout from (seed, epoch) alone, as its data."""
        self.epoch_sums = {"train": np.zeros(3), "valid": np.zeros(3)}
        torch.manual_seed(epoch_seed(self.settings.seed, self.current_epoch))
        for part in self.network.modules():
            if not any(parameter.requires_grad for parameter in part.parameters()):
                part.eval()  # a frozen part is left alone: no dropout, no running means

    def training_step(self, batch: tuple, batch_index: int) -> torch.Tensor:
        """The loss of one training batch."""
        return self._step(batch, batch_index, "train")

    def validation_step(self, batch: tuple, batch_index: int) -> None:
        """Sum up loss and hits of one validation batch."""
        self._step(batch, batch_index, "valid")

    def _step(self, batch: tuple, batch_index: int, part: str) -> torch.Tensor:
        """Loss of a batch, added to the epoch's sums; a loss that is not finite ends the run."""
        images, class_index = batch
        logits = self(images)
        loss = functional.cross_entropy(logits, class_index, weight=self.loss_weights)
        value = loss.item()
        if not np.isfinite(value):
            rate = self.trainer.optimizers[0].param_groups[0]["lr"]
            raise Gz2vitError(
                f"the {part} loss of {self.settings.model_key} became {value} in epoch "
                f"{self.current_epoch + 1}, batch {batch_index + 1}, at learning rate {rate:g}; "
                "try a smaller LR (the best weights so far are kept)"
            )
        hits = (logits.argmax(dim=1) == class_index).sum().item()
        self.epoch_sums[part] += np.array([value * len(images), hits, len(images)])
        return loss

    def on_validation_epoch_end(self) -> None:
        """Tell Lightning the figure that checkpoints and early stopping watch."""
        _, hits, count = self.epoch_sums["valid"]
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


def epoch_seed(seed: int, epoch: int) -> int:
    """A seed for torch's generator in one epoch, unrelated between epochs and seeds."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


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
