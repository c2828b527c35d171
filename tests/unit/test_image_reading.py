"""Reading images ahead of a network: the store's pixels, in order, faults noted, memory bounded."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gz2vit.batches import shrink
from gz2vit.images import read_image
from gz2vit.predict import PIECE, ImageReader
from tests.unit.folders import make_folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = make_folder(tmp_path_factory.mktemp("sky") / "mine", per_class=2) / "images"
    return sorted(map(str, folder.iterdir()))


def test_pixels_are_those_that_the_store_and_the_batches_make(images: list[str]):
    batch = ImageReader(image_size=64).read(images[:3])
    stored = np.stack([read_image(Path(path), crop_px=224) for path in images[:3]])
    assert np.array_equal(batch.pixels, shrink(stored, 64))
    assert batch.faults == [None] * 3
    assert batch.paths == images[:3]


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_come_in_order_and_not_too_far_ahead(images: list[str], workers: int):
    reader = ImageReader(32, workers=workers)
    asked = []
    batches = [images[start : start + 10] for start in range(0, len(images), 10)]
    for number, batch in enumerate(reader.read_ahead(asked.append(b) or b for b in batches)):
        assert batch.paths == batches[number]
        assert np.array_equal(batch.pixels, reader.read(batches[number]).pixels)
        # At most the pieces (two a batch) of one batch more than the bound that keeps all busy.
        assert (len(asked) - number) * 2 <= max(4, 2 * workers) + 2
    assert number == len(batches) - 1 == 6
    assert PIECE == 8


def test_broken_images_are_black_and_named(images: list[str], tmp_path: Path):
    cut, text, small = tmp_path / "cut.jpg", tmp_path / "text.jpg", tmp_path / "small.jpg"
    cut.write_bytes(Path(images[0]).read_bytes()[:2000])
    text.write_text("no image")
    Image.new("RGB", (300, 424), "white").save(small)
    paths = [str(cut), images[0], str(text), str(small), str(tmp_path / "none.jpg")]
    batch = next(ImageReader(32).read_ahead([paths]))
    assert batch.faults[1] is None
    words = ("broken or truncated", "", "not an image", "300 x 424 px instead of 424", "is missing")
    for path, fault, word in zip(paths, batch.faults, words, strict=True):
        assert word in (fault or "")
        assert fault is None or path in fault
    assert batch.pixels[1].any()
    assert not batch.pixels[[0, 2, 3, 4]].any()


def test_resizing_takes_the_central_square_as_a_whole_image(images: list[str], tmp_path: Path):
    image = Image.open(images[5])
    wide = Image.new("RGB", (848 + 100, 848), "white")
    wide.paste(image.resize((848, 848), Image.Resampling.BICUBIC), (50, 0))
    wide.save(tmp_path / "wide.png")
    Image.new("RGB", (3, 1), "red").save(tmp_path / "tiny.png")
    grey = image.convert("L")
    grey.save(tmp_path / "grey.png")
    paths = [images[5], str(tmp_path / "wide.png"), str(tmp_path / "tiny.png")]
    batch = ImageReader(224, resize=True).read([*paths, str(tmp_path / "grey.png")])
    plain = ImageReader(224).read(paths[:1]).pixels[0]
    assert batch.faults == [None] * 4
    assert np.array_equal(batch.pixels[0], plain)
    assert np.abs(batch.pixels[1] - plain.astype(float)).mean() < 1.0
    assert (batch.pixels[2] == [255, 0, 0]).all()
    assert np.array_equal(batch.pixels[3][..., 0], np.asarray(grey)[100:324, 100:324])
