"""What training is compared with: images decoded, transformed and fed one by one, from JPEG files.

The transforms, in the paper's order, are torchvision's; the loop is the usual one of a notebook.
Written for this comparison.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from gz2vit.paper import CROP_PX, CROP_RATIO, CROP_SCALE, NORMALIZATION, ROTATION_DEG


class JpegGalaxies(Dataset):
    """(image, class_index), each image read from its file, one at a time."""

    def __init__(self, paths: list[Path], class_index: list[int], architecture: str) -> None:
        self.paths, self.class_index = paths, class_index
        self.transform = transforms.Compose(
            [
                transforms.CenterCrop(CROP_PX),
                transforms.RandomRotation(ROTATION_DEG),
                transforms.RandomHorizontalFlip(),
                transforms.RandomVerticalFlip(),
                transforms.RandomResizedCrop(CROP_PX, scale=CROP_SCALE, ratio=CROP_RATIO),
                transforms.ToTensor(),
                transforms.Normalize(*NORMALIZATION[architecture]),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        with Image.open(self.paths[row]) as image:
            return self.transform(image.convert("RGB")), self.class_index[row]


def plain_training(
    network: nn.Module, galaxies: JpegGalaxies, batch_size: int, device: torch.device
) -> Iterator[int]:
    """Train for ever; yields the number of images after each step."""
    network.to(device).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-4)
    loader = DataLoader(galaxies, batch_size=batch_size, shuffle=True, drop_last=True)
    while True:
        for images, class_index in loader:
            images, class_index = images.to(device), class_index.to(device)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(images), class_index)
            loss.backward()
            optimizer.step()
            loss.item()
            yield len(images)
