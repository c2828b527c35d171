"""Files from elsewhere: pretrained weights, fetched once, verified, never replaced in silence.

Weights come from torchvision's own addresses into torch's cache (`torch.hub.get_dir()`), with the
hash in the file's name checked; or from a local file. Only tensors are read from them
(`weights_only`), so that no file can run code.
"""

import hashlib
import pickle
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch.hub import get_dir, load_state_dict_from_url
from torchvision import models

from gz2vit.errors import Gz2vitError

# The authors called torchvision's models with pretrained=True, which meant these weights.
IMAGENET_WEIGHTS = {"resnet50": models.ResNet50_Weights.IMAGENET1K_V1}


def imagenet_weights(name: str, source: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Weights of architecture `name` and the record of where they are from.

    `source`: "imagenet" (torchvision's, downloaded once) or the path of a local file. Returns the
    state dict and {"source", "sha256"}. Raises `Gz2vitError` where they cannot be had; it names
    the file that is needed and where to put it.
    """
    if source == "imagenet":
        path = _download(name)
    else:
        path = Path(source)
        if not path.is_file():
            raise Gz2vitError(f"there is no weights file {path}; give 'none', 'imagenet' or a file")
    return _read_tensors(path), {"source": source, "sha256": _sha256(path)}


def _download(name: str) -> Path:
    """torchvision's ImageNet weights for `name`, from the cache or the network."""
    if name not in IMAGENET_WEIGHTS:
        raise Gz2vitError(f"the paper has no ImageNet weights for '{name}'; give 'none' or a file")
    url = IMAGENET_WEIGHTS[name].url
    path = Path(get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if not path.is_file():
        try:
            load_state_dict_from_url(url, check_hash=True, weights_only=True)
        except (URLError, OSError, RuntimeError) as error:
            raise Gz2vitError(
                f"cannot download the ImageNet weights of {name} ({error}); put {url} at {path}, "
                "or train from scratch with WEIGHTS=none"
            ) from error
    expected = path.stem.rsplit("-", 1)[-1]
    if not _sha256(path).startswith(expected):
        raise Gz2vitError(f"{path} is not what its name says (checksum differs); delete it")
    return path


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """A state dict from a file, tensors only."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise Gz2vitError(f"{path} is not a file of weights: {str(error)[:120]}") from error


def _sha256(path: Path) -> str:
    """The checksum of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
