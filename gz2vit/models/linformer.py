"""The paper's main network: a Vision Transformer whose attention costs O(N k), not O(N^2).

Sources: the paper, arXiv:2110.01024; Linformer: Wang et al. 2020, arXiv:2006.04768. The parts are
those that the authors used: `vit_pytorch.efficient.ViT` around `linformer.Linformer`.
"""

from importlib.metadata import version

from linformer import Linformer
from torch import nn
from vit_pytorch.efficient import ViT

from gz2vit.errors import Gz2vitError
from gz2vit.models.sizes import check_dropout, check_heads, check_positive, count_tokens


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
    return ViT(dim=dim, transformer=layers, **sizes)


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
