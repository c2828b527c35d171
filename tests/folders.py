"""Small data folders for tests: real JPEG files, all eight classes in every split.

The class shows in the colour: each of its three bits is a channel, dark or bright, under noise."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PER_SPLIT = {"train": 2, "valid": 1, "test": 1}


def make_folder(path: Path, per_class: int = 1, image_px: int = 424) -> Path:
    """A data folder with 2 + 1 + 1 times `per_class` galaxies of each class; its path."""
    (path / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, factor in PER_SPLIT.items():
        classes = list(range(8)) * factor * per_class
        rows = [f"{split}-{row:03d},{label}" for row, label in enumerate(classes)]
        (path / f"gz2_{split}.csv").write_text("\n".join(["galaxyID,label1", *rows]) + "\n")
        for row, label in enumerate(classes):
            levels = [170 if label >> channel & 1 else 20 for channel in range(3)]
            small = np.uint8(levels) + rng.integers(0, 60, (8, 8, 3), dtype=np.uint8)
            image = Image.fromarray(small).resize((image_px, image_px))
            image.save(path / "images" / f"{split}-{row:03d}.jpg", quality=80)
    return path


def training_images(path: Path) -> tuple[list[Path], list[str]]:
    """The training images of a new folder at `path`, and their galaxies' ids."""
    images = sorted((make_folder(path) / "images").glob("train-*.jpg"))
    return images, [image.stem for image in images]


def needs_shared(name: str) -> Path:
    """A file of the folder `../shared` beside the project; the test skips where it is missing."""
    path = Path(__file__).resolve().parents[2] / "shared" / name
    if not path.exists():
        pytest.skip(f"needs ../shared/{name}, which is not part of the project")
    return path
