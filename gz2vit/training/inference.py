"""What a trained network says of any number of images on disk, written to a table.

Images take the steps of training's data, so that those of a test split get the probabilities of its
`predictions.csv`. Memory does not grow with their number, and an interrupted run continues
(`output_parts`). A broken image is listed and does not stop the others.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from gz2vit.data.packing import available_workers
from gz2vit.data.store import decoder_versions
from gz2vit.downloads.verify import file_checksum
from gz2vit.errors import Gz2vitError
from gz2vit.evaluation import PROBABILITY_COLUMNS
from gz2vit.paper import CLASS_NAMES, CROP_PX, IMAGE_PX
from gz2vit.results import read_json
from gz2vit.training.classifier import CHECKPOINT, GalaxyClassifier, load_classifier
from gz2vit.training.image_reading import ImageReader
from gz2vit.training.output_parts import BROKEN_COLUMNS, OutputParts
from gz2vit.training.predictor import Predicted, Predictor

GPU_BATCH, OTHER_BATCH = 256, 64  # images at once
TERMINAL_SECONDS, LOG_SECONDS = 0.5, 30.0  # between two states of the bar: in a log each is a line


@dataclass(frozen=True)
class InferenceOptions:
    """How images are predicted; checked when it is made.

    `average`: the mean of the probabilities over the eight flips and quarter turns; `resize`:
    images of any size, their central square taken for a whole image; `strict`: end at the first
    broken image; `crop_px`: side of the central square that is used, 0 for the model's own;
    `batch_size`: images at once, 0 for the device's own; `workers`: threads that decode, 0 for as
    many as there are cores; `device`: torch's name of one, "auto" for a CUDA GPU where there is
    one.
    """

    average: bool = False
    resize: bool = False
    strict: bool = False
    crop_px: int = 0
    batch_size: int = 0
    workers: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("crop_px", "batch_size", "workers"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 0:
                raise Gz2vitError(f"{name} is {value!r}; it must be a whole number, 0 for its own")
        if self.crop_px > IMAGE_PX:
            raise Gz2vitError(f"crop_px {self.crop_px} does not fit in {IMAGE_PX} px")


class Outcome(NamedTuple):
    """How many images a table was asked for, and how many of them are broken and listed."""

    images: int
    broken: int


def predict_images(
    model: Path | str,
    images: Sequence[Path | str],
    out: Path | str,
    options: InferenceOptions | None = None,
    overwrite: bool = False,
    restart: bool = False,
) -> Outcome:
    """Predict `images` (words as `image_list.find_images` takes them) and write the table `out`.

    `model`: a model's folder or its checkpoint. `out`: CSV or Parquet by its ending, one row an
    image, with `output_parts.COLUMNS`: path; GalaxyID, the file's name without its ending; pred,
    the most probable class's index; class_name; p0 to p7. Broken images go to `OUT.broken.csv`. The
    same call continues after an interruption. `overwrite` replaces a table that is there; `restart`
    drops what an interrupted run has left. Raises `Gz2vitError` for what is not there or does not
    fit, and where not one image of the first part can be used.
    """
    options = options or InferenceOptions()
    options = replace(options, crop_px=options.crop_px or crop_px_of(model))
    parts = OutputParts(Path(out), overwrite)
    predictor = make_predictor(load_model(model), options)
    with parts.locked():
        parts.begin(identity(model, options), [str(word) for word in images], restart)
        _fill(parts, predictor)
        return Outcome(parts.count, parts.join())


def identity(model: Path | str, options: InferenceOptions) -> dict[str, Any]:
    """What makes two runs the same; batch, device and torch change the last digits at most."""
    return {
        "format": 1,
        "model_sha256": file_checksum(checkpoint_of(model), "sha256"),
        "average": options.average,
        "resize": options.resize,
        "crop_px": options.crop_px,
        **decoder_versions(),
    }


def _fill(parts: OutputParts, predictor: Predictor) -> None:
    """Make the missing parts, under a progress bar."""
    done, size = parts.done(), parts.part_images
    bar = tqdm(
        desc="predict",
        unit=" images",
        total=parts.count,
        initial=min(done * size, parts.count),
        mininterval=TERMINAL_SECONDS if sys.stderr.isatty() else LOG_SECONDS,
    )
    with bar, closing(predictor.predict(parts.missing_images(), size)) as batches:
        for number in count(done):
            batch = list(_take_part(batches, size, bar))
            if not batch:
                return
            table, broken = _tables(batch)
            if number == 0 and table.empty:
                raise Gz2vitError(
                    f"{broken.fault.iloc[0]}, and none of the first {len(broken):,} images can be "
                    "used; images of another size need --resize"
                )
            parts.write(number, table, broken)


def _take_part(batches: Iterator[Predicted], size: int, bar: tqdm) -> Iterator[Predicted]:
    """The batches of the next part, of `size` images (the last may have less)."""
    images = 0
    while images < size and (batch := next(batches, None)) is not None:
        images += len(batch.paths)
        bar.update(len(batch.paths))
        yield batch


def _tables(batches: Iterable[Predicted]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A part's predictions and its broken images."""
    paths, faults, probabilities = zip(*batches, strict=True)
    told = pd.DataFrame({"path": sum(paths, []), "fault": sum(faults, [])})
    values = pd.DataFrame(np.concatenate(probabilities), columns=list(PROBABILITY_COLUMNS))
    whole = told.fault.isna()
    pred = values.to_numpy().argmax(axis=1)
    table = pd.DataFrame(
        {
            "path": told.path,
            "GalaxyID": [Path(path).stem for path in told.path],
            "pred": pred,
            "class_name": np.array(CLASS_NAMES, dtype=object)[pred],
        }
    )
    return table.join(values)[whole], told.loc[~whole, list(BROKEN_COLUMNS)]


def make_predictor(classifier: GalaxyClassifier, options: InferenceOptions) -> Predictor:
    """The classifier on the device of `options`, in evaluation mode, and how it reads images."""
    device = choose_device(options.device)
    workers = options.workers or available_workers()
    own = GPU_BATCH if device.type == "cuda" else OTHER_BATCH
    return Predictor(
        classifier.to(device).eval(),
        ImageReader(
            classifier.settings.image_size, options.crop_px or CROP_PX, options.resize, workers
        ),
        options.batch_size or own,
        options.average,
        options.strict,
    )


def choose_device(name: str) -> torch.device:
    """The device of that name; `Gz2vitError` where this machine does not have it."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise Gz2vitError(f"this machine has no device '{name}'; leave --device away") from error
    return device


def checkpoint_of(model: Path | str) -> Path:
    """The checkpoint of a model's folder, or the checkpoint itself; `Gz2vitError` for neither."""
    path = Path(model)
    path = path / CHECKPOINT if path.is_dir() else path
    if path.is_file():
        return path
    raise Gz2vitError(
        f"{path} does not exist; --model takes a trained model's folder, such as "
        f"results/demo/models/linformer, or its {CHECKPOINT}"
    )


def crop_px_of(model: Path | str) -> int:
    """Side of the central square that a model has learned from, in pixels of the images.

    The store of the model's results folder knows; a model without one has the paper's `CROP_PX`.
    """
    for folder in checkpoint_of(model).resolve().parents:
        note = folder.parent / "store" / "train.json"
        if folder.name == "models" and note.exists():
            return int(read_json(note)["crop_px"])
    return CROP_PX


def load_model(model: Path | str) -> GalaxyClassifier:
    """The trained classifier of a model's folder or checkpoint, in evaluation mode, on the CPU.

    Raises `Gz2vitError` for a missing or foreign file.
    """
    path = checkpoint_of(model)
    if path.name != CHECKPOINT:
        raise Gz2vitError(f"{path} must be called {CHECKPOINT}; rename it or name its folder")
    return load_classifier(path.parent)
