"""Everything that decides a training run, in one frozen record, checked when it is made."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from gz2vit.class_weights import ClassWeights
from gz2vit.errors import Gz2vitError
from gz2vit.models import architecture_of
from gz2vit.paper import BATCH_SIZE, CROP_PX, EARLY_STOPPING_EPOCHS, MAX_EPOCH, SEED


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
