"""A network that goes on from one that this suite has trained: its `best.ckpt`, the last layer too.

Other weights (`models.pretrained`) are of other classes and lose their last layer; here both
networks tell the same eight apart, so that nothing is thrown away.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gz2vit.errors import Gz2vitError
from gz2vit.training.classifier import GalaxyClassifier
from gz2vit.training.settings import TrainingSettings

NETWORK = "network."  # how the names of a network's tensors begin in a checkpoint


def load_trained(classifier: GalaxyClassifier, path: Path) -> None:
    """Give `classifier` the weights of a `best.ckpt`, those of its last layer included.

    Learning rate, class weights, epochs and dropout stay those of `classifier`. Only tensors and
    plain values are read (`weights_only`), so that a foreign file cannot run code. Raises
    `Gz2vitError` for what is no checkpoint of this suite, and for one of another network; it then
    names what differs.
    """
    settings, state = read_checkpoint(path)
    told = _differences(classifier, settings, state)
    if told:
        raise Gz2vitError(
            f"weights '{path}' do not fit the {classifier.settings.network} that is trained here: "
            f"{'; '.join(told)}"
        )
    classifier.network.load_state_dict(state)


def read_checkpoint(path: Path) -> tuple[TrainingSettings, dict[str, torch.Tensor]]:
    """The settings of a checkpoint of this suite, and its network's tensors by name, on the CPU."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        settings = TrainingSettings(**content["hyper_parameters"]["settings"])
        tensors = {
            name.removeprefix(NETWORK): tensor
            for name, tensor in content["state_dict"].items()
            if name.startswith(NETWORK)
        }
    except Exception as error:  # a damaged or foreign file can make the reader fail in any way
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise Gz2vitError(f"{path} is not a checkpoint of this suite ({reason})") from error
    return settings, tensors


def _differences(
    classifier: GalaxyClassifier, theirs: TrainingSettings, state: Mapping[str, torch.Tensor]
) -> list[str]:
    """Why `state` cannot be taken, in words; nothing where it can."""
    ours = classifier.settings
    if theirs.network != ours.network:
        return [f"they are of a {theirs.network}"]
    # Networks of a library share an architecture's name here, and may share their shapes.
    names = [one.hyperparameters.get("name") for one in (theirs, ours)]
    if names[0] != names[1]:
        return [f"they are of {names[0]}, not of {names[1]}"]
    own = classifier.network.state_dict()
    wrong = own.keys() ^ state.keys()
    wrong |= {name for name in own.keys() & state.keys() if own[name].shape != state[name].shape}
    if not wrong:
        return []
    first = sorted(wrong)[0]
    shapes = [_shape(tensors.get(first)) for tensors in (state, own)]
    return [
        *_sizes(theirs.hyperparameters, ours.hyperparameters),
        f"{first} is {shapes[0]} there and {shapes[1]} here",
    ]


def _sizes(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """The hyperparameters that both networks have, with other values."""
    return [
        f"{name} is {theirs[name]} there and {ours[name]} here"
        for name in ours
        if name in theirs and theirs[name] != ours[name] and "dropout" not in name
    ]


def _shape(tensor: torch.Tensor | None) -> str:
    """A tensor's shape in words."""
    return "missing" if tensor is None else "x".join(map(str, tensor.shape)) or "one number"
