"""The paper's pretrained network: Hugging Face's ViT-Base, its last layer replaced.

Sources: Dosovitskiy et al. 2021, arXiv:2010.11929; the authors' start, the weights
`google/vit-base-patch16-224` (ImageNet-21k, fine-tuned on ImageNet-1k).
"""

from pathlib import Path

import torch
from torch import nn
from transformers import ViTConfig, ViTForImageClassification
from transformers.utils import logging

from gz2vit.errors import Gz2vitError
from gz2vit.models.sizes import check_dropout, check_heads, check_positive, count_tokens

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
        from gz2vit.downloads.weights import hub_folder  # a network without it needs no hub

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
