"""Sizes of transformers that fit together; errors that say what would."""

import difflib
import inspect
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
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


def count_tokens(image_size: int, patch_size: int) -> int:
    """Tokens of an image of `image_size` px in patches of `patch_size` px, and the class token.

    Raises `Gz2vitError` if the patches do not tile the image.
    """
    if not 1 <= patch_size <= image_size or image_size % patch_size:
        fits = [size for size in range(4, image_size + 1) if image_size % size == 0]
        raise Gz2vitError(
            f"patch_size {patch_size} does not divide image_size {image_size}; "
            f"these do: {', '.join(map(str, fits))}"
        )
    return (image_size // patch_size) ** 2 + 1


def check_heads(dim: int, heads: int) -> None:
    """Raise `Gz2vitError` if `heads` attention heads cannot share a width of `dim`."""
    if not 1 <= heads <= dim or dim % heads:
        fits = [number for number in range(1, dim + 1) if dim % number == 0]
        raise Gz2vitError(
            f"heads {heads} does not divide dim {dim}; these do: {', '.join(map(str, fits))}"
        )


def check_positive(**numbers: int) -> None:
    """Raise `Gz2vitError` for a size that is not a whole number from 1 on."""
    for name, number in numbers.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise Gz2vitError(f"{name} is {number!r}; it must be a whole number from 1 on")


def check_dropout(**shares: float) -> None:
    """Raise `Gz2vitError` for a drop probability outside 0 to 1, or of 1, which drops all."""
    for name, share in shares.items():
        if not isinstance(share, int | float) or not 0 <= share < 1:
            raise Gz2vitError(f"{name} is {share!r}; it must lie between 0 and 1, below 1")


# ------------------------------------------------------------------------------------------
# Dropout with a cheaper source of masks on a CPU: the same distribution, seeded as all else.
#
# torch draws a dropout mask element by element (`bernoulli_`), which is most of what dropout costs:
# on two cores a step of the paper's Linformer is 1.5 times as fast without it (`benchmarks/`). One
# 64-bit number holds four of 16 bits, and a threshold on each makes four elements of the mask. The
# 64-bit numbers are SFC64's (Doty-Humphrey's small fast counting generator, as NumPy has it), which
# takes half as long for them as torch's Mersenne twister; its seed is drawn from torch's generator,
# so that seeding or restoring that one serves the masks too.
#
# DEVIATION: the drop probability is rounded to a multiple of 2^-16; 0.1 becomes 0.100006.

LEVELS = 1 << 16  # values of a 16-bit number: the drop probability is met to 1 / (2 LEVELS), 8e-6


class MaskDropout(nn.Dropout):
    """`torch.nn.Dropout`, faster on a CPU; elsewhere torch's own."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Values of any shape; in training, each is 0 with probability p, else times 1/(1-p)."""
        if not self.training or self.p in (0.0, 1.0) or values.device.type != "cpu":
            return functional.dropout(values, self.p, self.training)
        numbers = draw_numbers(values.numel()).view(values.shape)
        kept = numbers >= round(self.p * LEVELS) - LEVELS // 2  # 16-bit numbers begin at -32768
        scale = 1.0 / (1.0 - self.p)
        if values.dtype == torch.float32:
            return values * kept.to(values.dtype).mul_(scale)  # one pass less, back and forth
        # The factor apart from the mask: in bfloat16 it would be rounded, by up to 0.4 %.
        return (values * kept.to(values.dtype)) * scale


def draw_numbers(count: int) -> torch.Tensor:
    """Random numbers int16 (count,), all values equally probable, that follow torch's seed."""
    seed = int(torch.empty((), dtype=torch.int64).random_())
    generator = np.random.Generator(np.random.SFC64(seed))
    numbers = generator.integers(0, 1 << 64, (count + 3) // 4, dtype=np.uint64)
    return torch.from_numpy(numbers.view(np.int16))[:count]


def use_mask_dropout(network: nn.Module) -> nn.Module:
    """Put a `MaskDropout` in the place of every `nn.Dropout` of a network, and return it."""
    for name, child in network.named_children():
        if type(child) is nn.Dropout:
            setattr(network, name, MaskDropout(child.p))
        else:
            use_mask_dropout(child)
    return network


# ------------------------------------------------------------------------------------------
# The paper's networks, and any other by name: tensors in, tensors out.
#
# `build_model("linformer", depth=12, dim=128)` returns a `torch.nn.Module` that takes normalised
# images, float32 (B, 3, H, W), and returns class scores (logits), float32 (B, num_classes).
# Without hyperparameters each is the paper's own, with random weights from torch's generator.
# `build_model("timm/convnext_atto")` builds a network that the paper does not have.

ARCHITECTURES = ("linformer", "vit", "resnet50", "vgg16_bn", "hf_vit", "backbone")
LIBRARIES = ("timm/", "transformers/")  # where a network that is named so comes from
# Parameters of the last layer, by the beginning of their names: pretrained ones cannot serve.
HEADS = {
    "linformer": ("mlp_head.",),
    "vit": ("mlp_head.",),
    "resnet50": ("fc.",),
    "vgg16_bn": ("classifier.6.",),
    "hf_vit": ("model.classifier.",),
}


def architecture_of(model_key: str) -> str:
    """The architecture behind a model key: `linformer_weighted` is a `linformer`."""
    name = model_key.removesuffix(WEIGHTED)
    if name.startswith(LIBRARIES):
        return "backbone"
    if name not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise Gz2vitError(
            f"there is no model '{model_key}'; the architectures are {known}, and any network "
            "named timm/NAME or transformers/NAME"
        )
    return name


def build_model(name: str, /, **hyperparameters: Any) -> nn.Module:
    """The network `name` (a model key or an architecture), the paper's unless told otherwise.

    Raises `Gz2vitError` for an unknown name, a hyperparameter that this network does not have,
    and values that do not fit together.
    """
    builder = _builder(architecture_of(name))
    if name.startswith(LIBRARIES):
        hyperparameters = {"name": name, **hyperparameters}
    known = inspect.signature(builder).parameters
    for unknown in hyperparameters.keys() - known.keys():
        raise Gz2vitError(
            f"model '{name}' has no hyperparameter '{unknown}'; it has {', '.join(known)}"
        )
    return use_mask_dropout(builder(**hyperparameters))


def _builder(architecture: str) -> Callable[..., nn.Module]:
    """The function behind an architecture, imported when it is wanted: some libraries are slow."""
    match architecture:
        case "linformer":
            builder = build_linformer
        case "vit":
            builder = build_vit
        case "resnet50":
            builder = build_resnet50
        case "vgg16_bn":
            builder = build_vgg16_bn
        case "hf_vit":
            builder = build_hf_vit
        case _:
            builder = build_backbone
    return builder


def head_prefixes(architecture: str, network: nn.Module) -> tuple[str, ...]:
    """How the names of the last layer's parameters begin."""
    if architecture in HEADS:
        return HEADS[architecture]
    return head_prefixes_backbone(network)


def count_parameters(model: nn.Module, trainable: bool = False) -> int:
    """Parameters of a network; with `trainable`, only those that training changes."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)


def count_flops(model: nn.Module, image_size: int) -> int:
    """Floating-point operations for one image of `image_size` px, forward only.

    Products and sums of matrix products, convolutions and attention, counted by torch; a
    multiplication and the addition after it are two.
    """
    first = next(model.parameters())
    image = torch.zeros(1, 3, image_size, image_size, device=first.device)
    was_training = model.training
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model.eval()(image)
    model.train(was_training)
    return counter.get_total_flops()


# ------------------------------------------------------------------------------------------
# The paper's main network: a Vision Transformer whose attention costs O(N k), not O(N^2).
#
# Sources: the paper, arXiv:2110.01024; Linformer: Wang et al. 2020, arXiv:2006.04768. The parts are
# those that the authors used: `vit_pytorch.efficient.ViT` around `linformer.Linformer`.


def build_linformer(
    *,
    image_size: int = 224,
    patch_size: int = 28,
    depth: int = 12,
    dim: int = 128,
    k_dim: int = 64,
    heads: int = 8,
    dropout: float = 0.1,
    share_kv: bool = False,
    one_kv_head: bool = False,
    num_classes: int = 8,
) -> nn.Module:
    """A ViT with Linformer attention; the defaults are the paper's, 2,785,416 parameters.

    Shapes on the way through, with g = image_size / patch_size and N = g^2 + 1 tokens:
    images (B, 3, H, W) -> patches (B, g^2, 3 patch_size^2) -> embedded, with the class token
    (B, N, dim) -> `depth` layers, in each of which keys and values (B, N, dim) are projected to
    (B, k_dim, dim) by learned (N, k_dim) matrices -> class token (B, dim) -> (B, num_classes).

    Raises `Gz2vitError` where the sizes do not fit together.
    """
    check_vit_pytorch()
    check_positive(depth=depth, dim=dim, num_classes=num_classes)
    check_dropout(dropout=dropout)
    tokens = count_tokens(image_size, patch_size)
    check_heads(dim, heads)
    _check_projection(k_dim, tokens, image_size, patch_size)
    layers = Linformer(
        dim=dim, seq_len=tokens, depth=depth, k=k_dim, heads=heads, dropout=dropout,
        share_kv=share_kv, one_kv_head=one_kv_head,
    )  # fmt: skip
    sizes = {"image_size": image_size, "patch_size": patch_size, "num_classes": num_classes}
    return vit_pytorch.efficient.ViT(dim=dim, transformer=layers, **sizes)


def check_vit_pytorch() -> None:
    """Raise `Gz2vitError` where vit-pytorch would build another network than the paper's."""
    if int(version("vit-pytorch").split(".")[0]) >= 1:
        raise Gz2vitError(
            f"vit-pytorch {version('vit-pytorch')} builds another network than the paper's (two "
            "more LayerNorms in the patch embedding); install vit-pytorch below 1.0"
        )


def _check_projection(k_dim: int, tokens: int, image_size: int, patch_size: int) -> None:
    """Refuse a projection that does not shorten the sequence."""
    if not 1 <= k_dim <= tokens:
        raise Gz2vitError(
            f"k_dim {k_dim} must lie between 1 and the {tokens} tokens of a {image_size} px image "
            f"in patches of {patch_size} px: the projection is meant to shorten the sequence"
        )


# ------------------------------------------------------------------------------------------
# The paper's Vision Transformer with ordinary attention, against which the Linformer is held.
#
# Source: Dosovitskiy et al. 2021, arXiv:2010.11929, in the form that the authors used: `vit_pytorch`.


def build_vit(
    *,
    image_size: int = 224,
    patch_size: int = 16,
    depth: int = 8,
    dim: int = 256,
    mlp_dim: int = 64,
    heads: int = 8,
    dropout: float = 0.1,
    emb_dropout: float = 0.1,
    num_classes: int = 8,
) -> nn.Module:
    """A Vision Transformer; the defaults are the paper's, 4,719,368 parameters.

    Shapes on the way through, with g = image_size / patch_size and N = g^2 + 1 tokens:
    images (B, 3, H, W) -> patches (B, g^2, 3 patch_size^2) -> embedded, with the class token
    (B, N, dim) -> `depth` layers, in each of which `heads` heads of width 64 (whatever `dim` is)
    compare all tokens, (B, heads, N, N) -> class token (B, dim) -> (B, num_classes).

    Raises `Gz2vitError` where the sizes do not fit together.
    """
    check_vit_pytorch()
    check_positive(depth=depth, dim=dim, mlp_dim=mlp_dim, heads=heads, num_classes=num_classes)
    check_dropout(dropout=dropout, emb_dropout=emb_dropout)
    count_tokens(image_size, patch_size)
    # vit_pytorch would take any number of heads, each 64 wide; one that does not divide the width,
    # as in no published run, is a slip (Vaswani et al. 2017 share the width among the heads).
    check_heads(dim, heads)
    return vit_pytorch.ViT(
        image_size=image_size, patch_size=patch_size, num_classes=num_classes, dim=dim,
        depth=depth, heads=heads, mlp_dim=mlp_dim, dropout=dropout, emb_dropout=emb_dropout,
    )  # fmt: skip


# ------------------------------------------------------------------------------------------
# The paper's first CNN: torchvision's ResNet-50 with a new last layer (He et al. 2016).


def build_resnet50(*, num_classes: int = 8) -> nn.Module:
    """ResNet-50 with random weights; with 8 classes, 23,524,424 parameters as in the paper.

    Images (B, 3, H, W) of any size from 32 px -> features (B, 2048, H/32, W/32) -> their mean
    over the plane (B, 2048) -> (B, num_classes).
    """
    check_positive(num_classes=num_classes)
    network = models.resnet50(weights=None)
    network.fc = nn.Linear(network.fc.in_features, num_classes)
    return network


# ------------------------------------------------------------------------------------------
# The paper's second CNN: torchvision's VGG16 with batch normalisation, and a new last layer.
#
# Source: Simonyan & Zisserman 2015, arXiv:1409.1556.


def build_vgg16_bn(*, num_classes: int = 8) -> nn.Module:
    """VGG16-bn with random weights; with 8 classes, 134,301,768 parameters as in the paper.

    Images (B, 3, H, W) of any size from 32 px -> features (B, 512, H/32, W/32) -> averaged to
    (B, 512, 7, 7) -> two hidden layers (B, 4096) -> (B, num_classes).
    """
    check_positive(num_classes=num_classes)
    network = models.vgg16_bn(weights=None)
    network.classifier[6] = nn.Linear(network.classifier[6].in_features, num_classes)
    return network


# ------------------------------------------------------------------------------------------
# The paper's pretrained network: Hugging Face's ViT-Base, its last layer replaced.
#
# Sources: Dosovitskiy et al. 2021, arXiv:2010.11929; the authors' start, the weights
# `google/vit-base-patch16-224` (ImageNet-21k, fine-tuned on ImageNet-1k).

logging.set_verbosity_error()  # its report on the last layer would look like a fault


class HuggingFaceClassifier(nn.Module):
    """A network of the transformers library that takes images and returns bare logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images (B, 3, H, W) to logits (B, num_classes)."""
        return self.model(pixel_values=images).logits


def build_hf_vit(
    *,
    image_size: int = 224,
    patch_size: int = 16,
    depth: int = 12,
    dim: int = 768,
    mlp_dim: int = 3072,
    heads: int = 12,
    dropout: float = 0.0,
    freeze_backbone: bool = False,
    pretrained: str | None = None,
    num_classes: int = 8,
) -> nn.Module:
    """Hugging Face's ViT; the defaults are the paper's, 85,804,808 parameters.

    With `freeze_backbone` only the last layer learns (6,152). `pretrained`: a model of the hub, or
    a folder with `config.json` and `model.safetensors`, which then decides all sizes. Images
    (B, 3, H, W) -> tokens (B, (image_size / patch_size)^2 + 1, dim), through `depth` layers ->
    class token (B, dim) -> (B, num_classes). Raises `Gz2vitError` where sizes do not fit together
    or the pretrained model cannot be had.
    """
    if pretrained is not None:
        from gz2vit.weights import hub_folder

        model = load_folder(hub_folder(pretrained)[0], num_classes)
    else:
        check_positive(depth=depth, dim=dim, mlp_dim=mlp_dim, heads=heads, num_classes=num_classes)
        count_tokens(image_size, patch_size)
        check_heads(dim, heads)
        check_dropout(dropout=dropout)
        config = ViTConfig(
            image_size=image_size, patch_size=patch_size, hidden_size=dim,
            num_hidden_layers=depth, num_attention_heads=heads, intermediate_size=mlp_dim,
            hidden_dropout_prob=dropout, num_labels=num_classes,
        )  # fmt: skip
        model = ViTForImageClassification(config)
    if freeze_backbone:
        model.vit.requires_grad_(False)
    return HuggingFaceClassifier(model)


def load_folder(folder: Path, num_classes: int) -> ViTForImageClassification:
    """The ViT saved in a local folder, with a new last layer of `num_classes`.

    Reads tensors and the configuration only; no code comes with them. Raises `Gz2vitError` for a
    folder that does not hold a whole ViT.
    """
    try:
        config = ViTConfig.from_pretrained(folder, local_files_only=True, num_labels=num_classes)
        model, told = ViTForImageClassification.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:160]
        raise Gz2vitError(f"{folder} does not hold a ViT that can be read: {reason}") from error
    wrong = [*told["missing_keys"], *told["unexpected_keys"]]
    wrong += [name for name, *_ in told["mismatched_keys"]]
    foreign = sorted(name for name in wrong if not name.startswith("classifier."))
    if foreign:
        raise Gz2vitError(f"{folder} does not fit a ViT of its configuration: {foreign[0]} differs")
    return model


# ------------------------------------------------------------------------------------------
# Any other network by name, so that a row is added to the results table without code.
#
# `timm/NAME` is a network of timm (https://github.com/huggingface/pytorch-image-models), such as
# `timm/convnext_atto` (Liu et al. 2022, arXiv:2201.03545); `transformers/NAME` is a classifier on
# the Hugging Face hub or in a local folder. Built here with random weights.

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
            parameter.requires_grad = key.startswith(head_prefixes_backbone(network))
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
    from gz2vit.weights import hub_folder

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


def head_prefixes_backbone(network: nn.Module) -> tuple[str, ...]:
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
    heads = head_prefixes_backbone(first)
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
