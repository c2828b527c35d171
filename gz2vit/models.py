"""The paper's networks, and any other by name: images in, class scores out.

A network takes normalised images, float32 (B, 3, H, W), and returns class scores (logits), float32
(B, num_classes). Without hyperparameters each is the paper's own, with random weights.

Sources: the Linformer, Wang et al. 2020, arXiv:2006.04768; the Vision Transformer, Dosovitskiy et
al. 2021, arXiv:2010.11929; both in the form that the authors used, linformer and vit-pytorch.
ResNet-50, He et al. 2016; VGG16, Simonyan & Zisserman 2015; both torchvision's.
"""

import difflib
import inspect
import warnings
from collections.abc import Callable, Mapping
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
import timm
import torch
import vit_pytorch
import vit_pytorch.efficient
from linformer import Linformer
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)
from transformers.utils import logging

from gz2vit.io import WEIGHTED, Gz2vitError
from gz2vit.weights import hub_folder, read_tensors, timm_architecture

LIBRARIES = TIMM, TRANSFORMERS = "timm/", "transformers/"  # networks of these are named so
# How the names of the last layer's parameters begin: pretrained ones are of other classes.
HEADS = {
    "linformer": ("mlp_head.",),
    "vit": ("mlp_head.",),
    "resnet50": ("fc.",),
    "vgg16_bn": ("classifier.6.",),
    "hf_vit": ("model.classifier.",),
}

logging.set_verbosity_error()  # transformers' report on the new last layer would look like a fault


def architecture_of(model_key: str) -> str:
    """The architecture behind a model key: `linformer_weighted` is a `linformer`."""
    for name in (model_key, model_key.removesuffix(WEIGHTED)):
        if name.startswith(LIBRARIES):
            return "backbone"
        if name in BUILDERS:
            return name
    raise Gz2vitError(
        f"there is no model '{model_key}'; the architectures are {', '.join(BUILDERS)}, and any "
        "network named timm/NAME or transformers/NAME"
    )


def build_model(name: str, /, **hyperparameters: Any) -> nn.Module:
    """The network `name`: a model key, an architecture, timm/NAME or transformers/NAME.

    Raises `Gz2vitError` for an unknown name or hyperparameter, and values that do not fit together.
    """
    builder = BUILDERS[architecture_of(name)]
    if name.startswith(LIBRARIES):
        hyperparameters = {"name": name, **hyperparameters}
    known = inspect.signature(builder).parameters
    if not any(one.kind is one.VAR_KEYWORD for one in known.values()):
        for unknown in hyperparameters.keys() - known.keys():
            raise Gz2vitError(
                f"model '{name}' has no hyperparameter '{unknown}'; it has {', '.join(known)}"
            )
    return use_mask_dropout(builder(**hyperparameters))


def register_model(name: str, builder: Callable[..., nn.Module]) -> None:
    """Let `build_model(name, ...)` call `builder` with the recorded hyperparameters.

    Needed in every notebook or script that loads a checkpoint of a network of one's own. `name` may
    be one of the paper's; `builder` itself may then build that one and change it.
    """
    replaced = BUILDERS.get(name)

    @wraps(builder)
    def build(**hyperparameters: Any) -> nn.Module:
        BUILDERS[name] = replaced
        try:
            return builder(**hyperparameters)
        finally:
            BUILDERS[name] = build

    BUILDERS[name] = build
    REGISTERED.add(name)


def build_linformer(
    *, image_size: int = 224, patch_size: int = 28, depth: int = 12, dim: int = 128,
    k_dim: int = 64, heads: int = 8, dropout: float = 0.1, share_kv: bool = False,
    one_kv_head: bool = False, num_classes: int = 8,
) -> nn.Module:  # fmt: skip
    """The paper's main network, a Vision Transformer whose attention costs O(N k), not O(N^2).

    With g = image_size / patch_size and N = g^2 + 1 tokens: images (B, 3, H, W) -> patches
    (B, g^2, 3 patch_size^2) -> embedded, with the class token (B, N, dim) -> `depth` layers, in
    each of which keys and values are projected to (B, k_dim, dim) by learned (N, k_dim) matrices
    -> class token (B, dim) -> (B, num_classes). By default 2,785,416 parameters, as in the paper.
    """
    _check_vit_pytorch()
    _check(depth=depth, dim=dim, k_dim=k_dim, heads=heads, dropout=dropout, num_classes=num_classes)
    tokens = count_tokens(image_size, patch_size)
    if k_dim > tokens:  # the authors published such a run, 512 for 65 tokens
        warnings.warn(
            f"k_dim {k_dim} is more than the {tokens} tokens of a {image_size} px image in patches "
            f"of {patch_size} px: the projection makes the sequence longer, not shorter",
            stacklevel=3,
        )
    layers = Linformer(
        dim=dim, seq_len=tokens, depth=depth, k=k_dim, heads=heads, dropout=dropout,
        share_kv=share_kv, one_kv_head=one_kv_head,
    )  # fmt: skip
    return vit_pytorch.efficient.ViT(
        image_size=image_size, patch_size=patch_size, num_classes=num_classes, dim=dim,
        transformer=layers,
    )  # fmt: skip


def build_vit(
    *, image_size: int = 224, patch_size: int = 16, depth: int = 8, dim: int = 256,
    mlp_dim: int = 64, heads: int = 8, dropout: float = 0.1, emb_dropout: float = 0.1,
    num_classes: int = 8,
) -> nn.Module:  # fmt: skip
    """The paper's Vision Transformer with ordinary attention; by default 4,719,368 parameters.

    Shapes as in `build_linformer`, but in each layer `heads` heads of width 64 (whatever `dim` is)
    compare all tokens, (B, heads, N, N).
    """
    _check_vit_pytorch()
    # vit_pytorch takes any number of heads, each 64 wide; one that does not divide the width, as in
    # no published run, is a slip (Vaswani et al. 2017 share the width among the heads).
    _check(
        depth=depth, dim=dim, mlp_dim=mlp_dim, heads=heads, dropout=dropout,
        emb_dropout=emb_dropout, num_classes=num_classes,
    )  # fmt: skip
    count_tokens(image_size, patch_size)
    return vit_pytorch.ViT(
        image_size=image_size, patch_size=patch_size, num_classes=num_classes, dim=dim,
        depth=depth, heads=heads, mlp_dim=mlp_dim, dropout=dropout, emb_dropout=emb_dropout,
    )  # fmt: skip


def build_resnet50(*, num_classes: int = 8) -> nn.Module:
    """ResNet-50 with a new last layer, for images of 32 px or more; 23,524,424 parameters."""
    _check(num_classes=num_classes)
    network = models.resnet50(weights=None)
    network.fc = nn.Linear(network.fc.in_features, num_classes)
    return network


def build_vgg16_bn(*, num_classes: int = 8) -> nn.Module:
    """VGG16 with batch norm and a new last layer, for 32 px or more; 134,301,768 parameters."""
    _check(num_classes=num_classes)
    network = models.vgg16_bn(weights=None)
    network.classifier[6] = nn.Linear(network.classifier[6].in_features, num_classes)
    return network


class HuggingFaceClassifier(nn.Module):
    """A network of the transformers library that takes images and returns bare logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images (B, 3, H, W) to logits (B, num_classes)."""
        return self.model(pixel_values=images).logits


def build_hf_vit(
    *, image_size: int = 224, patch_size: int = 16, depth: int = 12, dim: int = 768,
    mlp_dim: int = 3072, heads: int = 12, dropout: float = 0.0, freeze_backbone: bool = False,
    num_classes: int = 8,
) -> nn.Module:  # fmt: skip
    """Hugging Face's ViT; the defaults are the paper's, 85,804,808 parameters.

    With `freeze_backbone` only the last layer learns (6,152).
    """
    _check(
        depth=depth, dim=dim, mlp_dim=mlp_dim, heads=heads, dropout=dropout,
        num_classes=num_classes,
    )  # fmt: skip
    count_tokens(image_size, patch_size)
    config = ViTConfig(
        image_size=image_size, patch_size=patch_size, hidden_size=dim, num_hidden_layers=depth,
        num_attention_heads=heads, intermediate_size=mlp_dim, hidden_dropout_prob=dropout,
        num_labels=num_classes,
    )  # fmt: skip
    model = ViTForImageClassification(config)
    if freeze_backbone:
        model.vit.requires_grad_(False)
    return HuggingFaceClassifier(model)


def build_backbone(
    *, name: str = "timm/convnext_atto", image_size: int = 224, freeze_backbone: bool = False,
    num_classes: int = 8,
) -> nn.Module:  # fmt: skip
    """`timm/NAME` or `transformers/NAME` (of the hub, or a local folder), with a new last layer.

    With `freeze_backbone` only the last layer learns.
    """
    _check(image_size=image_size, num_classes=num_classes)
    if name.startswith(TIMM):
        network = _build_timm(name.removeprefix(TIMM), image_size, num_classes)
    elif name.startswith(TRANSFORMERS):
        network = _build_transformers(name.removeprefix(TRANSFORMERS), num_classes)
    else:
        raise Gz2vitError(f"the network '{name}' must be named timm/NAME or transformers/NAME")
    if freeze_backbone:
        for key, parameter in network.named_parameters():
            parameter.requires_grad = key.startswith(head_prefixes("backbone", network))
    return network


def _build_timm(name: str, image_size: int, num_classes: int) -> nn.Module:
    name = timm_architecture(name)
    if not timm.is_model(name):
        close = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=3)
        meant = f"; did you mean {' or '.join(close)}?" if close else ""
        raise Gz2vitError(f"timm has no network '{name}'{meant}")
    try:
        return timm.create_model(name, num_classes=num_classes, **_size_option(name, image_size))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise Gz2vitError(
            f"timm/{name} cannot take images of {image_size} px: {_short(error)}"
        ) from error


def _size_option(name: str, image_size: int) -> dict[str, int]:
    """The option that sets the size of the images, for timm's networks of a fixed size."""
    try:
        with torch.device("meta"):  # nothing is computed, only the arguments are tried
            timm.create_model(name, img_size=image_size)
    except TypeError:
        return {}
    except (AssertionError, RuntimeError, ValueError):
        pass  # the size does not fit: building raises
    return {"img_size": image_size}


def _build_transformers(name: str, num_classes: int) -> nn.Module:
    folder, _ = hub_folder(name)
    try:
        config = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, num_labels=num_classes
        )
        model = AutoModelForImageClassification.from_config(config, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise Gz2vitError(
            f"{name} is not a classifier that can be built: {_short(error)}"
        ) from error
    return HuggingFaceClassifier(model)


BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "linformer": build_linformer,
    "vit": build_vit,
    "resnet50": build_resnet50,
    "vgg16_bn": build_vgg16_bn,
    "hf_vit": build_hf_vit,
    "backbone": build_backbone,
}
ARCHITECTURES = tuple(BUILDERS)
REGISTERED: set[str] = set()  # names that `register_model` has added or replaced


def head_prefixes(architecture: str, network: nn.Module) -> tuple[str, ...]:
    """How the names of the last layer's parameters begin."""
    if architecture in HEADS:
        return HEADS[architecture]
    if isinstance(network, HuggingFaceClassifier):
        return ("model.classifier.",)
    named = getattr(network, "pretrained_cfg", {}).get("classifier", ())
    return tuple(f"{one}." for one in ([named] if isinstance(named, str) else named))


def timm_state(
    name: str, state: dict[str, torch.Tensor], image_size: int, num_classes: int
) -> dict[str, torch.Tensor]:
    """Published weights `state` of `timm/NAME`, in the names and shapes of the network built here.

    timm adapts what differs between its versions and between image sizes. Raises `Gz2vitError`
    for weights of another network.
    """
    short = timm_architecture(name.removeprefix(TIMM))
    options = {"num_classes": num_classes, **_size_option(short, image_size)}
    made = []
    try:
        with torch.random.fork_rng():
            for seed in (0, 1):
                torch.manual_seed(seed)
                source = {"state_dict": dict(state), "url": "", "hf_hub_id": None}
                options |= {"pretrained": True, "pretrained_cfg_overlay": source}
                made.append(timm.create_model(short, **options))
    except (RuntimeError, KeyError, AttributeError) as error:
        raise Gz2vitError(f"these weights do not fit {name}: {_short(error)}") from error
    own, other = (network.state_dict() for network in made)
    heads = head_prefixes("backbone", made[0])
    for key, tensor in own.items():
        # timm passes over what does not fit: what is left random differs between two seeds
        if not key.startswith(heads) and not torch.equal(tensor, other[key]):
            raise Gz2vitError(f"these weights do not fit {name}: they have no {key}")
    return own


def differing_layers(first: nn.Module, second: nn.Module) -> list[str]:
    """Names of layers and tensors of which two networks have not the same; none for equal ones."""
    ours, theirs = describe_layers(first), describe_layers(second)
    names = dict.fromkeys([*ours, *theirs])
    return [name or "network" for name in names if ours.get(name) != theirs.get(name)]


def describe_layers(network: nn.Module) -> dict[str, str]:
    """What a network is made of: by name the kind of each layer and the shape of each tensor."""
    found = {}
    for name, layer in network.named_modules():
        kind = type(layer)
        found[name] = kind.__name__ if next(layer.children(), None) else repr(layer)
        if kind.__module__ == "__main__":  # written in the notebook: its code is what it is
            functions = (getattr(value, "__code__", None) for value in vars(kind).values())
            found[name] += repr([_meaning(code) for code in functions if code])
    return found | {name: str(tuple(one.shape)) for name, one in network.state_dict().items()}


def _meaning(code: CodeType) -> tuple:
    """A function's code without the place where it is written."""
    constants = [_meaning(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return code.co_code, code.co_names, constants


def count_parameters(model: nn.Module, trainable: bool = False) -> int:
    """Parameters of a network; with `trainable`, only those that training changes."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)


def count_flops(model: nn.Module, image_size: int) -> int:
    """Floating-point operations for one image of `image_size` px, forward only.

    Those of matrix products, convolutions and attention; a multiply-add is two.
    """
    first = next(model.parameters())
    image = torch.zeros(1, 3, image_size, image_size, device=first.device)
    was_training = model.training
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model.eval()(image)
    model.train(was_training)
    return counter.get_total_flops()


# torch draws a mask element by element, which is most of what dropout costs on a CPU: a step of the
# paper's Linformer is 1.5 times as fast without it (`benchmarks/dropout.py`). Here one 64-bit
# number of NumPy's SFC64, twice as fast as torch's Mersenne twister, serves four elements.
# DEVIATION: the drop probability is rounded to a multiple of 2^-16; 0.1 becomes 0.100006.
LEVELS = 1 << 16


class MaskDropout(nn.Dropout):
    """`torch.nn.Dropout`, faster on a CPU; elsewhere torch's own. Seeded by torch's generator."""

    def _get_name(self) -> str:
        return "Dropout"  # as which it is shown

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Values of any shape; in training, each is 0 with probability p, else times 1/(1-p)."""
        if not self.training or self.p in (0.0, 1.0) or values.device.type != "cpu":
            return functional.dropout(values, self.p, self.training)
        seed = int(torch.empty((), dtype=torch.int64).random_())
        generator = np.random.Generator(np.random.SFC64(seed))
        drawn = generator.integers(0, 1 << 64, (values.numel() + 3) // 4, dtype=np.uint64)
        numbers = torch.from_numpy(drawn.view(np.int16))[: values.numel()].view(values.shape)
        kept = numbers >= round(self.p * LEVELS) - LEVELS // 2  # 16-bit numbers begin at -32768
        scale = 1.0 / (1.0 - self.p)
        if values.dtype == torch.float32:
            return values * kept.to(values.dtype).mul_(scale)  # one pass less, back and forth
        # The factor apart from the mask: in bfloat16 it would be rounded, by up to 0.4 %.
        return (values * kept.to(values.dtype)) * scale


def use_mask_dropout(network: nn.Module) -> nn.Module:
    """Put a `MaskDropout` in the place of every `nn.Dropout` of a network, and return it."""
    for name, child in network.named_children():
        if type(child) is nn.Dropout:
            setattr(network, name, MaskDropout(child.p))
        else:
            use_mask_dropout(child)
    return network


def count_tokens(image_size: int, patch_size: int) -> int:
    """Tokens of an image of `image_size` px in patches of `patch_size` px, and the class token.

    Raises `Gz2vitError` if the patches do not tile the image.
    """
    if not 1 <= patch_size <= image_size or image_size % patch_size:
        fits = [str(size) for size in range(4, image_size + 1) if image_size % size == 0]
        raise Gz2vitError(
            f"patch_size {patch_size} does not divide image_size {image_size}; "
            f"these do: {', '.join(fits)}"
        )
    return (image_size // patch_size) ** 2 + 1


def _check(**values: float) -> None:
    """Raise `Gz2vitError` for numbers that no network can have, and heads that do not share dim."""
    for name, value in values.items():
        if "dropout" in name:
            if not isinstance(value, int | float) or not 0 <= value < 1:
                raise Gz2vitError(f"{name} is {value!r}; it must be at least 0 and less than 1")
        elif type(value) is not int or value < 1:
            raise Gz2vitError(f"{name} is {value!r}; it must be a whole number of at least 1")
    dim, heads = values.get("dim", 1), values.get("heads", 1)
    if dim % heads:
        fits = [str(number) for number in range(1, dim + 1) if dim % number == 0]
        raise Gz2vitError(f"heads {heads} does not divide dim {dim}; these do: {', '.join(fits)}")


def _check_vit_pytorch() -> None:
    if int(version("vit-pytorch").split(".")[0]) >= 1:
        raise Gz2vitError(
            f"vit-pytorch {version('vit-pytorch')} builds another network than the paper's (two "
            "more LayerNorms in the patch embedding); install vit-pytorch below 1.0"
        )


def _short(error: Exception) -> str:
    """An error's first words on one line."""
    return " ".join(str(error).split())[:160]


def pretrained_state(
    architecture: str, hyperparameters: Mapping[str, Any], path: Path
) -> dict[str, torch.Tensor]:
    """The state dict of `build_model(architecture, **hyperparameters)` with weights from `path`.

    `path` is what `fetch_weights` returns. The last layer is of no use. Raises `Gz2vitError` where
    the weights are of another network.
    """
    if architecture not in ("hf_vit", "backbone"):
        return read_tensors(path)
    num_classes, name = hyperparameters.get("num_classes", 8), hyperparameters.get("name", "")
    if name.startswith(TIMM):
        image_size = hyperparameters.get("image_size", 224)
        return timm_state(name, read_tensors(path), image_size, num_classes)
    is_vit = architecture == "hf_vit"
    try:
        kind = ViTForImageClassification if is_vit else AutoModelForImageClassification
        model, found = kind.from_pretrained(
            path,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            num_labels=num_classes,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = f"the weights in {path} do not fit {name or architecture}: {_short(error)}"
        raise Gz2vitError(reason) from error
    wrong = [*found["missing_keys"], *found["unexpected_keys"]]
    wrong += [key for key, *_ in found["mismatched_keys"]]
    foreign = sorted(key for key in wrong if not key.startswith("classifier."))
    if is_vit and foreign:
        raise Gz2vitError(f"{path} does not fit a ViT of its configuration: {foreign[0]} differs")
    return HuggingFaceClassifier(model).state_dict()
