"""Images on their way into a network: the image store, the augmentation, the batches.

Its names are loaded when they are asked for: a process that packs images must not carry PyTorch,
and checking a data folder must not wait for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gz2vit.data.augmentation import affine_matrices, draw, shrink, warp
    from gz2vit.data.batches import Batches
    from gz2vit.data.broken import read_broken
    from gz2vit.data.galaxies import LabelledImages, open_split, pack_selection
    from gz2vit.data.images import check_folder, read_image
    from gz2vit.data.store import ImageStore, open_store, pack_images

_HOMES = {
    "augmentation": ("affine_matrices", "draw", "shrink", "warp"),
    "batches": ("Batches",),
    "broken": ("read_broken",),
    "galaxies": ("LabelledImages", "open_split", "pack_selection"),
    "images": ("check_folder", "read_image"),
    "store": ("ImageStore", "open_store", "pack_images"),
}

__all__ = [
    "Batches",
    "ImageStore",
    "LabelledImages",
    "affine_matrices",
    "check_folder",
    "draw",
    "open_split",
    "open_store",
    "pack_images",
    "pack_selection",
    "read_broken",
    "read_image",
    "shrink",
    "warp",
]


def __getattr__(name: str) -> Any:
    """One of `__all__`, from the module that holds it."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
