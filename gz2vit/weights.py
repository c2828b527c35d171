"""Pretrained weights from elsewhere: fetched once, verified, never replaced unnoticed.

The CNNs' come from torchvision's own addresses into torch's cache (`torch.hub.get_dir()`), all
others from the Hugging Face hub into its cache (`HF_HOME`), or everything from local files, those
that this suite's own trainings leave among them. Only tensors and configurations are read
(`weights_only`, safetensors), so that no file can run code.
"""

import pickle
from pathlib import Path
from textwrap import shorten
from typing import Any

import pooch
import timm
import torch
from huggingface_hub import hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.hub import get_dir

from gz2vit.download import fetch
from gz2vit.io import CHECKPOINT, Gz2vitError, read_json, trained_checkpoint

# The authors called torchvision's models with pretrained=True, which meant these weights
# (IMAGENET1K_V1); the file's name holds the beginning of its sha256.
TORCHVISION_URLS = {
    "resnet50": "https://download.pytorch.org/models/resnet50-0676ba61.pth",
    "vgg16_bn": "https://download.pytorch.org/models/vgg16_bn-6c64b313.pth",
}
HF_VIT_NAME = "google/vit-base-patch16-224"  # AUTHORS, notebooks: the start of the fine-tuned ViT
HUB_FILES = ("config.json", "model.safetensors")
HUB, LOCAL = ("hf_hub", "hf-hub"), "local-dir"  # timm's words for models of the hub and of folders
SCRATCH = "or train from scratch with WEIGHTS=none"


def fetch_weights(architecture: str, source: str, name: str = "") -> tuple[Path, dict[str, Any]]:
    """Where the weights of a network are on this machine, and the record of where they are from.

    `source`: "imagenet" (what the paper starts from, or what is published for the network `name`,
    such as `timm/convnext_atto` or `timm/hf_hub:OWNER/MODEL`), a local file or folder, or a model
    that this suite has trained. Returns the path (a file; a folder for networks of transformers)
    and {"source", "file", "sha256"[, "revision"]}. Raises `Gz2vitError`, with what to put where.
    """
    published = source == "imagenet"  # whatever files of that name there are
    path = None if published else trained_checkpoint(source)
    library, _, place = name.partition("/")
    if path is None and (architecture == "hf_vit" or library == "transformers"):
        local = bool(place) or not published
        return hub_folder((place or HF_VIT_NAME) if published else source, local)
    if path is None and library == "timm" and (published or Path(source).is_dir()):
        kind, _, place = place.partition(":")
        if published and not place:
            settings = timm.get_pretrained_cfg(kind)
            if settings is None or not settings.hf_hub_id:
                raise Gz2vitError(f"timm publishes no weights for {name}; give a file, {SCRATCH}")
            place = settings.hf_hub_id
        folder, record = hub_folder(*((place, kind == LOCAL) if published else (source,)))
        return folder / record["file"], record
    path = path or (_torchvision_file(architecture) if published else Path(source).expanduser())
    if not path.is_file():
        words = "give 'none', 'imagenet' or a file: weights, or a trained model's"
        raise Gz2vitError(f"there is no weights file {path}; {words} {CHECKPOINT} (or its folder)")
    return path, {"source": source, "file": path.name, "sha256": file_sha256(path)}


def _torchvision_file(architecture: str) -> Path:
    """torchvision's ImageNet weights, from the cache or the network."""
    if (url := TORCHVISION_URLS.get(architecture)) is None:
        raise Gz2vitError(f"there are no ImageNet weights for '{architecture}'; give 'none'")
    path = Path(get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]

    def find_fault(file: Path) -> str:
        fits = file_sha256(file).startswith(path.stem.rsplit("-", 1)[-1])
        return "" if fits else "its checksum is not the one in its name"

    if not path.is_file():
        fetch(url, path, find_fault, f"try again, put it at {path}, {SCRATCH}")
    elif fault := find_fault(path):
        raise Gz2vitError(f"{path} is damaged ({fault}); delete it")
    return path


def hub_folder(name: str, local: bool = True) -> tuple[Path, dict[str, Any]]:
    """A folder with `HUB_FILES` (no code) from the hub or, if `local`, one's own; its record."""
    folder, record = Path(name).expanduser(), {"source": name}
    if not (local and folder.is_dir()):
        folder = [_hub_file(name, file) for file in HUB_FILES][0].parent
        record["revision"] = folder.name
    for path in (folder / file for file in HUB_FILES):
        if not path.is_file():
            raise Gz2vitError(f"{folder} has no {path.name}; put it there, {SCRATCH}")
    return folder, record | {"file": path.name, "sha256": file_sha256(path)}


def _hub_file(name: str, file: str) -> Path:
    """A file of a model of the hub, from its cache or the network."""
    try:
        return Path(hf_hub_download(name, file))
    except Exception as error:  # the client raises many kinds, by the state of the network
        reason = shorten(str(error), 200, placeholder=" ...") or "no answer"
        raise Gz2vitError(
            f"cannot fetch {file} of {name} from the Hugging Face hub ({reason}); put its "
            f"{' and '.join(HUB_FILES)} into a folder and give WEIGHTS=FOLDER, {SCRATCH}"
        ) from error


def timm_architecture(name: str) -> str:
    """timm's name of the network `name`, which may be `hf_hub:OWNER/MODEL` or `local-dir:FOLDER`.

    The model's own name may end in it (`zoobot-encoder-convnext_nano`): then no network connection
    is needed. Else it is the "architecture" of config.json.
    """
    kind, _, place = name.partition(":")
    if kind not in (*HUB, LOCAL):
        return name
    last = place.rsplit("/", 1)[-1].rsplit("-", 1)[-1]
    if kind in HUB and timm.is_model(last):
        return last
    own = Path(place).expanduser() / HUB_FILES[0]
    config = own if kind == LOCAL else _hub_file(place, HUB_FILES[0])
    found = read_json(config)
    if not isinstance(found, dict) or not timm.is_model(str(found.get("architecture"))):
        raise Gz2vitError(f"{config} does not name a network of timm as its architecture")
    return found["architecture"]


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """A state dict from a file, tensors only; `Gz2vitError` for anything else."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, OSError) as error:
        raise Gz2vitError(f"{path} is not a file of weights: {str(error)[:120]}") from error


def file_sha256(path: Path) -> str:
    """The checksum of a file."""
    return pooch.file_hash(str(path), alg="sha256")
