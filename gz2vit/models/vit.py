"""The paper's Vision Transformer with ordinary attention, against which the Linformer is held.

Source: Dosovitskiy et al. 2021, arXiv:2010.11929, in the form that the authors used: `vit_pytorch`.
"""

from torch import nn
from vit_pytorch import ViT

from gz2vit.models.linformer import check_vit_pytorch
from gz2vit.models.sizes import check_dropout, check_heads, check_positive, count_tokens


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
    return ViT(
        image_size=image_size, patch_size=patch_size, num_classes=num_classes, dim=dim,
        depth=depth, heads=heads, mlp_dim=mlp_dim, dropout=dropout, emb_dropout=emb_dropout,
    )  # fmt: skip
