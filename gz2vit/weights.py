"""Pretrained weights from elsewhere: fetched once, verified, never replaced in silence.

The CNNs' come from torchvision's own addresses into torch's cache (`torch.hub.get_dir()`), with
the hash in the file's name checked; all others from the Hugging Face hub into its cache
(`HF_HOME`), where a checksum guards each file; or everything from local files, those that this
suite's own trainings leave among them. Only tensors and configurations are read (`weights_only`,
safetensors), so that no file can run code.
"""

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.hub import get_dir

from gz2vit.download import ResumingDownloader
from gz2vit.io import CHECKPOINT, Gz2vitError, trained_checkpoint

# The authors called torchvision's models with pretrained=True, which meant these weights
# (IMAGENET1K_V1); the file's name holds the beginning of its sha256.
TORCHVISION_URLS = {
    "resnet50": "https://download.pytorch.org/models/resnet50-0676ba61.pth",
    "vgg16_bn": "https://download.pytorch.org/models/vgg16_bn-6c64b313.pth",
}
# AUTHORS, notebooks: the start of the fine-tuned ViT.
HF_VIT_NAME = "google/vit-base-patch16-224"
HUB_FILES = ("config.json", "model.safetensors")
SCRATCH = "or train from scratch with WEIGHTS=none"


def fetch_weights(architecture: str, source: str, name: str = "") -> tuple[Path, dict[str, Any]]:
    """Where the weights of a network are on this machine, and the record of where they are from.

    `source`: "imagenet" (the weights that the paper starts from, or those that a library publishes
    for its network `name`, such as `timm/convnext_atto`), a local file or folder, or a model that
    this suite has trained (its `best.ckpt`, or the folder that holds one). Returns the path (a
    file; a folder for networks of the transformers library) and {"source", "file", "sha256"}, with
    the hub's "revision" where there is one. Raises `Gz2vitError` where they cannot be had; it names
    the file that is needed and where to put it.
    """
    trained = trained_checkpoint(source)
    if trained is not None:
        return trained, {"source": source, "file": trained.name, "sha256": file_sha256(trained)}
    of_hub = architecture == "hf_vit" or name.startswith("transformers/")
    if of_hub:
        published = HF_VIT_NAME if architecture == "hf_vit" else name.partition("/")[2]
        return hub_folder(published if source == "imagenet" else source)
    if source != "imagenet":
        path = Path(source)
        if not path.is_file():
            raise Gz2vitError(
                f"there is no weights file {path}; give 'none', 'imagenet' or a file: weights, or "
                f"a trained model's {CHECKPOINT} (or its folder)"
            )
    elif name.startswith("timm/"):
        return _timm_file(name)
    else:
        path = _torchvision_file(architecture)
    return path, {"source": source, "file": path.name, "sha256": file_sha256(path)}


def _torchvision_file(architecture: str) -> Path:
    """torchvision's ImageNet weights, from the cache or the network."""
    if architecture not in TORCHVISION_URLS:
        raise Gz2vitError(f"there are no ImageNet weights for '{architecture}'; give 'none'")
    url = TORCHVISION_URLS[architecture]
    path = Path(get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    expected = path.stem.rsplit("-", 1)[-1]
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        download = ResumingDownloader(path.name, path.parent, f"put it at {path}, {SCRATCH}", True)
        arrived = path.with_name(f".{path.name}.arrived")
        download(url, str(arrived))
        download.discard()
        if not file_sha256(arrived).startswith(expected):
            arrived.unlink()
            raise Gz2vitError(
                f"{url} gave another file than its name says (checksum differs), which was not "
                f"kept; try again, put it at {path}, {SCRATCH}"
            )
        arrived.replace(path)
    if not file_sha256(path).startswith(expected):
        raise Gz2vitError(f"{path} is not what its name says (checksum differs); delete it")
    return path


def hub_folder(name: str) -> tuple[Path, dict[str, Any]]:
    """A folder with `config.json` and `model.safetensors`: a local one, or a model of the hub.

    Returns the folder and {"source", "file", "sha256"[, "revision"]}. Code that a model brings is
    not fetched. Raises `Gz2vitError` where it cannot be had.
    """
    folder, record = Path(name), {"source": name}
    if not folder.is_dir():
        from huggingface_hub import hf_hub_download

        try:
            folder = [Path(hf_hub_download(name, file)).parent for file in HUB_FILES][0]
        except (
            Exception
        ) as error:  # the hub's client raises many kinds, by the state of the network
            reason = shorten(str(error), 200, placeholder=" ...") or "no answer"
            raise Gz2vitError(
                f"cannot fetch {name} from the Hugging Face hub ({reason}); put its config.json "
                f"and model.safetensors into a folder and give WEIGHTS=FOLDER, {SCRATCH}"
            ) from error
        record["revision"] = folder.name
    for file in HUB_FILES:
        if not (folder / file).is_file():
            raise Gz2vitError(f"{folder} has no {file}; put it there, {SCRATCH}")
    path = folder / "model.safetensors"
    return folder, record | {"file": path.name, "sha256": file_sha256(path)}


def _timm_file(name: str) -> tuple[Path, dict[str, Any]]:
    """The published weights of a network of timm, from the hub."""
    import timm

    repository = timm.get_pretrained_cfg(name.removeprefix("timm/"))
    if repository is None or not repository.hf_hub_id:
        raise Gz2vitError(f"timm publishes no weights for {name}; give a file, {SCRATCH}")
    folder, record = hub_folder(repository.hf_hub_id)
    return folder / record["file"], record


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """A state dict from a file, tensors only; `Gz2vitError` for anything else."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, OSError) as error:
        raise Gz2vitError(f"{path} is not a file of weights: {str(error)[:120]}") from error


def file_sha256(path: Path) -> str:
    """The checksum of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# ------------------------------------------------------------------------------------------
# Pretrained weights in the names and shapes of a network that is built here.


def pretrained_state(
    architecture: str, hyperparameters: Mapping[str, Any], path: Path
) -> dict[str, torch.Tensor]:
    """The state dict of `build_model(architecture, **hyperparameters)` with weights from `path`.

    `path` is what `downloads.weights.fetch_weights` returns. The last layer is of no use. Raises
    `Gz2vitError` where the weights are of another network.
    """
    num_classes = hyperparameters.get("num_classes", 8)
    if architecture == "hf_vit":
        from gz2vit.models import HuggingFaceClassifier, load_folder

        return HuggingFaceClassifier(load_folder(path, num_classes)).state_dict()
    if architecture != "backbone":
        return read_tensors(path)
    from gz2vit import models as backbone

    name = hyperparameters["name"]
    if name.startswith(backbone.TIMM):
        image_size = hyperparameters.get("image_size", 224)
        return backbone.timm_state(name, read_tensors(path), image_size, num_classes)
    return _transformers_state(name, path, num_classes)


def _transformers_state(name: str, folder: Path, num_classes: int) -> dict[str, torch.Tensor]:
    """The classifier saved in a folder, with a new last layer."""
    from transformers import AutoModelForImageClassification

    from gz2vit.models import HuggingFaceClassifier

    try:
        model = AutoModelForImageClassification.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            num_labels=num_classes,
            ignore_mismatched_sizes=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:160]
        raise Gz2vitError(f"the weights in {folder} do not fit {name}: {reason}") from error
    return HuggingFaceClassifier(model).state_dict()
