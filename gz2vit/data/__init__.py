"""Images on their way into a network: the image store, the augmentation, the batches."""

from gz2vit.data.augmentation import affine_matrices, draw, shrink, warp
from gz2vit.data.batches import Batches
from gz2vit.data.galaxies import LabelledImages, open_split
from gz2vit.data.images import check_folder, read_image
from gz2vit.data.store import ImageStore, open_store, pack_images

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
    "read_image",
    "shrink",
    "warp",
]
