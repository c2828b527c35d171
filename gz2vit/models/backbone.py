"""Any other network by name, so that a row is added to the results table without code.

`timm/NAME` is a network of timm (https://github.com/huggingface/pytorch-image-models), such as
`timm/convnext_atto` (Liu et al. 2022, arXiv:2201.03545); `transformers/NAME` is a classifier on
the Hugging Face hub or in a local folder. Built here with random weights.
"""

import difflib
from pathlib import Path

import timm
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageClassification

from gz2vit.errors import Gz2vitError
from gz2vit.models.hugging_face import HuggingFaceClassifier
from gz2vit.models.sizes import check_positive

TIMM, TRANSFORMERS = "timm/", "transformers/"


def build_backbone(
    *, name: str = "timm/convnext_atto", image_size: int = 224, freeze_backbone: bool = False,
    num_classes: int = 8,
) -> nn.Module:  # fmt: skip
    """The network `name` with random weights and a last layer of `num_classes`.

    Images (B, 3, H, W) of `image_size` px to logits (B, num_classes). With `freeze_backbone` only
    the last layer learns. Raises `Gz2vitError` for a name that neither library knows, or a size
    that the network cannot take.
    """
    check_positive(image_size=image_size, num_classes=num_classes)
    if name.startswith(TIMM):
        network = _build_timm(name.removeprefix(TIMM), image_size, num_classes)
    elif name.startswith(TRANSFORMERS):
        network = _build_transformers(name.removeprefix(TRANSFORMERS), num_classes)
    else:
        raise Gz2vitError(f"the network '{name}' must be named timm/NAME or transformers/NAME")
    if freeze_backbone:
        for key, parameter in network.named_parameters():
            parameter.requires_grad = key.startswith(head_prefixes(network))
    return network


def _build_timm(name: str, image_size: int, num_classes: int) -> nn.Module:
    """A network of timm; those that depend on it are told the size of the images."""
    if not timm.is_model(name):
        close = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=3)
        meant = f"; did you mean {' or '.join(close)}?" if close else ""
        raise Gz2vitError(f"timm has no network '{name}'{meant}")
    try:
        return timm.create_model(name, num_classes=num_classes, **_size_option(name, image_size))
    except (AssertionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise Gz2vitError(f"timm/{name} cannot take images of {image_size} px: {reason}") from error


def _size_option(name: str, image_size: int) -> dict[str, int]:
    """What tells a network of timm the size of the images, where its kind has a fixed one."""
    try:
        with torch.device("meta"):  # nothing is computed, only the arguments are tried
            timm.create_model(name, img_size=image_size)
    except TypeError:
        return {}
    except (AssertionError, RuntimeError, ValueError):
        pass  # the size does not fit: building says so
    return {"img_size": image_size}


def _build_transformers(name: str, num_classes: int) -> nn.Module:
    """A classifier of the transformers library, from its configuration alone."""
    from gz2vit.downloads.weights import hub_folder

    folder = Path(hub_folder(name)[0])
    try:
        config = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, num_labels=num_classes
        )
        model = AutoModelForImageClassification.from_config(config, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:160]
        raise Gz2vitError(f"{name} is not a classifier that can be built: {reason}") from error
    return HuggingFaceClassifier(model)


def head_prefixes(network: nn.Module) -> tuple[str, ...]:
    """How the names of the last layer's parameters begin."""
    if isinstance(network, HuggingFaceClassifier):
        return ("model.classifier.",)
    named = network.pretrained_cfg["classifier"]
    return tuple(f"{one}." for one in ([named] if isinstance(named, str) else named))


def normalization_of(network: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation (R, G, B; of 0 to 1) that a network of timm was made for."""
    settings = timm.data.resolve_model_data_config(network)
    return tuple(settings["mean"]), tuple(settings["std"])


def timm_state(
    name: str, state: dict[str, torch.Tensor], image_size: int, num_classes: int
) -> dict[str, torch.Tensor]:
    """Published weights `state` of `timm/NAME`, in the names and shapes of the network built here.

    timm adapts what differs between its versions and between image sizes. Raises `Gz2vitError`
    for weights of another network.
    """
    first, second = (_load_timm(name, state, image_size, num_classes, seed) for seed in (0, 1))
    heads = head_prefixes(first)
    own, other = first.state_dict(), second.state_dict()
    for key, tensor in own.items():
        # timm passes over what does not fit: what is left random differs between two seeds
        if not key.startswith(heads) and not torch.equal(tensor, other[key]):
            raise Gz2vitError(f"these weights do not fit {name}: they have no {key}")
    return own


def _load_timm(
    name: str, state: dict[str, torch.Tensor], image_size: int, num_classes: int, seed: int
) -> nn.Module:
    """A network of timm with `state`, the rest drawn with `seed`; torch's generator stays as is."""
    short = name.removeprefix(TIMM)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return timm.create_model(
                short,
                pretrained=True,
                pretrained_cfg_overlay={"state_dict": dict(state), "url": "", "hf_hub_id": None},
                num_classes=num_classes,
                **_size_option(short, image_size),
            )
    except (RuntimeError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise Gz2vitError(f"these weights do not fit {name}: {reason}") from error
