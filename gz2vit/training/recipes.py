"""How each network is trained: normalisation, optimiser, schedule and early stopping, in one place.

Source of every number: the authors' notebooks, as `gz2vit.paper` has them. Networks that the paper
does not have are trained as its CNNs are.
"""

from dataclasses import dataclass
from types import MappingProxyType

from torch import nn

from gz2vit.paper import EARLY_STOPPING_EPOCHS, NORMALIZATION, SCHEDULES

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
        from gz2vit.models.backbone import normalization_of as of_timm

        return of_timm(network)
    return NORMALIZATION["resnet50"]  # ImageNet's, which most networks on the hub were made for
