"""The images that a long prediction is asked for: folders searched, in the same order each time.

A folder may hold a million files. Their names are sorted in runs of `RUN`, which wait in temporary
files and are merged, so that the search takes the same memory for any number.
"""

import hashlib
import heapq
import os
import pickle
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from PIL import Image
from pyarrow import parquet
from tqdm import tqdm

from gz2vit.batches import Batches, DeviceBatches, shrink
from gz2vit.catalog import read_selection
from gz2vit.download import file_checksum
from gz2vit.evaluation import PROBABILITY_COLUMNS, classification_metrics
from gz2vit.images import (
    ImageFault,
    LabelledImages,
    available_workers,
    decode,
    decoder_versions,
    open_split,
)
from gz2vit.io import (
    CHECKPOINT,
    Gz2vitError,
    atomic_path,
    read_json,
    require,
    sole_user,
    write_json,
)
from gz2vit.models import count_parameters
from gz2vit.paper import CLASS_COUNT, CLASS_NAMES, CROP_PX, IMAGE_PX
from gz2vit.training import GalaxyClassifier, forget, load_classifier

ENDINGS = (".jpg", ".jpeg", ".png")
RUN = 50_000  # names sorted in memory at once: some 5 MB
CHUNK = 1000  # names of a run that are read back at once

Entry = tuple[bool, str]  # (is a folder, name): files come first, then folders


def find_images(words: Iterable[str]) -> Iterator[str]:
    """The paths of all images that `words` name, in an order that does not change.

    A word is an image; a folder, searched with all folders in it for `ENDINGS` (large or small
    letters; hidden files are passed over); `@FILE`, a list of images, one a line; or `-`, the same
    from the standard input. Paths begin as they were given. Raises `Gz2vitError` for a word that is
    not there.
    """
    for word in words:
        if word == "-" or word.startswith("@"):
            yield from _listed(word)
        elif os.path.isdir(word):
            yield from _search(word, ())
        elif os.path.lexists(word):
            yield word
        else:
            raise Gz2vitError(f"{word} does not exist; name images, folders of images or @LIST")


def write_list(words: Iterable[str], path: Path) -> tuple[int, str]:
    """Write the paths of all images to `path`, one a line; how many they are, and the sha256.

    Raises `Gz2vitError` as `find_images`, for a path that is no line of UTF-8 text, and where there
    is no image at all.
    """
    words, count, digest = list(words), 0, hashlib.sha256()
    with path.open("wb") as stream:
        for image in find_images(words):
            line = _line(image)
            digest.update(line)
            stream.write(line)
            count += 1
    if count == 0:
        told = " ".join(words)
        raise Gz2vitError(f"there is no image ({', '.join(ENDINGS)}) in {told}")
    return count, digest.hexdigest()


def read_list(path: Path, start: int = 0) -> Iterator[str]:
    """The paths in a list that `write_list` has written, from number `start` (0 the first) on."""
    with path.open(encoding="utf-8", newline="\n") as stream:
        for line in islice(stream, start, None):
            yield line[:-1]


def _line(image: str) -> bytes:
    """A path as a line of a list, and later of a table."""
    try:
        line = image.encode("utf-8")
    except UnicodeEncodeError:
        line = b"\n"
    if b"\n" in line or b"\r" in line:
        raise Gz2vitError(f"the image {image!r} has no name that fits into a table; rename it")
    return line + b"\n"


def _listed(word: str) -> Iterator[str]:
    """The lines, if not empty, of the list `@FILE`, or of the standard input."""
    try:
        with nullcontext(sys.stdin) if word == "-" else open(word[1:], encoding="utf-8") as stream:
            for line in stream:
                if line.strip():
                    yield line.rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Gz2vitError(f"cannot read the list of images {word}: {error}") from error


def _search(folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """The images of a folder, then those of the folders in it; `above`: who is searched already."""
    status = os.stat(folder)
    here = (status.st_dev, status.st_ino)
    if here in above:
        return  # a link to a folder that it stands in
    for is_folder, name in _sorted_entries(folder):
        path = os.path.join(folder, name)
        if is_folder:
            yield from _search(path, (*above, here))
        else:
            yield path


def _sorted_entries(folder: str) -> Iterator[Entry]:
    """Images and folders in `folder`, sorted; from memory where one run holds them all."""
    with ExitStack() as stack:
        entries, runs = _entries(folder), []
        run = sorted(islice(entries, RUN))
        while following := sorted(islice(entries, RUN)):
            runs.append(_put_aside(run, stack.enter_context(tempfile.TemporaryFile())))
            run = following
        yield from heapq.merge(run, *map(_take_back, runs))


def _entries(folder: str) -> Iterator[Entry]:
    """Images and folders in `folder`, as the system lists them."""
    try:
        with os.scandir(folder) as found:
            for entry in found:
                if entry.name.startswith("."):
                    continue
                if entry.name.lower().endswith(ENDINGS) and not entry.is_dir():
                    yield False, entry.name
                elif entry.is_dir():
                    yield True, entry.name
    except OSError as error:
        raise Gz2vitError(f"cannot search {folder}: {error.strerror or error}") from error


def _put_aside(run: list[Entry], file: IO[bytes]) -> IO[bytes]:
    """Write a sorted run to a temporary file."""
    for start in range(0, len(run), CHUNK):
        pickle.dump(run[start : start + CHUNK], file)
    return file


def _take_back(file: IO[bytes]) -> Iterator[Entry]:
    """The entries of a run that was put aside."""
    end = file.tell()
    file.seek(0)
    while file.tell() < end:
        yield from pickle.load(file)


# ------------------------------------------------------------------------------------------
# Images from their files into batches, decoded by threads ahead of the network.
#
# The steps are those of the image store: decoding, the central `crop_px` x `crop_px`, averaging to
# the network's size. Threads do it, because decompressing a JPEG, four fifths of the time that an
# image takes, does not hold the interpreter's lock; what is in hand is bounded.

PIECE = 8  # images that a thread decodes at once: some 4 ms


class ImageBatch(NamedTuple):
    """Images of a batch: `paths`, `pixels` uint8 (B, H, W, 3), and what is wrong with each.

    `faults` holds None or a sentence; an image with a fault is black.
    """

    paths: list[str]
    pixels: np.ndarray
    faults: list[str | None]


@dataclass(frozen=True)
class ImageReader:
    """How files become the `image_size` x `image_size` pixels that a network sees.

    Files must be `IMAGE_PX` x `IMAGE_PX`; with `resize` they may have any size, and the largest
    central square is taken for the field of view of such an image. Their central `crop_px` x
    `crop_px` is used. `workers` threads decode.
    """

    image_size: int
    crop_px: int = CROP_PX
    resize: bool = False
    workers: int = 1

    def read(self, paths: Sequence[str]) -> ImageBatch:
        """Decode a few images, one after the other."""
        pixels = np.zeros((len(paths), self.image_size, self.image_size, 3), dtype=np.uint8)
        faults: list[str | None] = [None] * len(paths)
        for row, path in enumerate(paths):
            try:
                pixels[row] = self._pixels(path)
            except ImageFault as fault:
                faults[row] = str(fault)
        return ImageBatch(list(paths), pixels, faults)

    def _pixels(self, path: str) -> np.ndarray:
        """One image, uint8 (H, W, 3)."""
        if self.resize:
            image = decode_resized(path, self.crop_px)
        else:
            image = decode(path, self.crop_px, IMAGE_PX)
        return shrink(np.asarray(image)[None], self.image_size)[0]

    def read_ahead(self, batches: Iterable[Sequence[str]]) -> Iterator[ImageBatch]:
        """Decode batches by threads, some ahead; yield them in their order."""
        waiting: deque[list[Future[ImageBatch]]] = deque()
        pool = ThreadPoolExecutor(self.workers)
        try:
            for paths in batches:
                starts = range(0, len(paths), PIECE)
                pieces = [paths[start : start + PIECE] for start in starts]
                waiting.append([pool.submit(self.read, piece) for piece in pieces])
                # One batch for the network while another is decoded, and work for each thread.
                if sum(map(len, waiting)) > max(2 * len(pieces), 2 * self.workers):
                    yield _joined(waiting.popleft())
            while waiting:
                yield _joined(waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)


def _joined(pieces: list[Future[ImageBatch]]) -> ImageBatch:
    """The pieces of a batch as one."""
    paths, pixels, faults = zip(*(piece.result() for piece in pieces), strict=True)
    return ImageBatch(sum(paths, []), np.concatenate(pixels), sum(faults, []))


def decode_resized(path: str, crop_px: int) -> Image.Image:
    """The centre, `crop_px` wide, of an image whose central square is resampled to `IMAGE_PX`.

    Cropping and resampling (bicubic, with a wider filter where the image shrinks) are one step. An
    image of `IMAGE_PX` comes out as `decode` crops it. Raises `ImageFault`.
    """
    image = decode(path)
    side = min(image.size) * crop_px / IMAGE_PX
    left, upper = (image.width - side) / 2, (image.height - side) / 2
    box = (left, upper, left + side, upper + side)
    return image.resize((crop_px, crop_px), Image.Resampling.BICUBIC, box)


# ------------------------------------------------------------------------------------------
# The table of a long prediction, written in parts, so that an interrupted run continues.
#
# Beside a table `OUT` stands, while it is made, the folder `OUT.parts`: `run.json`, what the run is;
# `images.txt`, its images; and one file for each part, in the table's own format, written whole or
# not at all. Given again, the same run keeps its whole parts. At the end they are joined, one at a
# time, and the folder goes.

PART_IMAGES = 2048  # what an interruption may cost: some half a minute of the paper's network
GROUP = 32  # parts in one row group of a Parquet file: 65,536 rows
COLUMNS = ("path", "GalaxyID", "pred", "class_name", *PROBABILITY_COLUMNS)
BROKEN_COLUMNS = ("path", "fault")
SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("GalaxyID", pa.string()),
        ("pred", pa.int64()),
        ("class_name", pa.string()),
        *((name, pa.float64()) for name in PROBABILITY_COLUMNS),
    ]
)
FORMATS = (".csv", ".parquet")


class OutputParts:
    """The parts of the table `out` (`.csv` or `.parquet`).

    Raises `Gz2vitError` for another ending, and where `out` exists and is not to be overwritten.
    """

    def __init__(self, out: Path, overwrite: bool = False) -> None:
        if out.suffix not in FORMATS:
            raise Gz2vitError(f"--out {out} must end in {' or '.join(FORMATS)}")
        if out.is_dir():
            raise Gz2vitError(f"--out {out} is a folder; name a file")
        if out.exists() and not overwrite:
            raise Gz2vitError(f"{out} exists already; give --overwrite or another --out")
        self.out = out
        self.folder = out.with_name(f"{out.name}.parts")
        self.broken_out = out.with_name(f"{out.name}.broken.csv")
        self.part_images = PART_IMAGES
        self.count = 0  # of images, once `begin` has counted them

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the parts for one run; `Gz2vitError` where another has them, or nothing may."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "lock").touch()
        except OSError as error:
            raise Gz2vitError(f"cannot write {self.folder}: {error.strerror or error}") from error
        with sole_user(self.folder / "lock", f"another run is writing {self.out}; wait for it"):
            try:
                yield
            finally:
                if not (self.folder / "run.json").exists():
                    shutil.rmtree(self.folder, ignore_errors=True)  # nothing has begun

    def begin(self, run: dict[str, Any], words: Sequence[str], restart: bool) -> None:
        """List the images and make the folder ready for `run`; `restart` drops what is there.

        Raises `Gz2vitError` where parts of another run, or of other images, are there.
        """
        if restart:
            self._drop()
        note = self.folder / "run.json"
        known = read_json(note) if note.exists() else None
        with atomic_path(self.folder / "images.txt") as listed:
            self.count, digest = write_list(words, listed)
            run = {**run, "part_images": self.part_images}
            run |= {"images": self.count, "images_sha256": digest}
            differing = [key for key in run if known is not None and known.get(key) != run[key]]
            if differing:
                raise Gz2vitError(
                    f"{self.folder} holds an unfinished run of another kind "
                    f"({', '.join(differing)} differ); give --restart to begin anew"
                )
        write_json(note, run)

    def _drop(self) -> None:
        """Remove all but the lock."""
        for path in self.folder.iterdir():
            if path.name != "lock":
                path.unlink()

    def done(self) -> int:
        """How many parts are whole: those before the first that is missing."""
        number = 0
        while self._path(number).exists():
            number += 1
        return number

    def missing_images(self) -> Iterator[str]:
        """The paths of the images from the first missing part on."""
        return read_list(self.folder / "images.txt", self.done() * self.part_images)

    def write(self, number: int, table: pd.DataFrame, broken: pd.DataFrame) -> None:
        """Write part `number` (0 the first): `COLUMNS`, and of broken images `BROKEN_COLUMNS`."""
        with atomic_path(self._path(number, "broken", ".csv")) as temporary:
            broken.to_csv(temporary, index=False, header=False)
        with atomic_path(self._path(number)) as temporary:
            if self.out.suffix == ".csv":
                table.to_csv(temporary, index=False, header=False)
            else:
                rows = pa.Table.from_pandas(table, schema=SCHEMA, preserve_index=False)
                parquet.write_table(rows, temporary)

    def _path(self, number: int, kind: str = "part", ending: str | None = None) -> Path:
        """Where the part `number` stands."""
        return self.folder / f"{kind}-{number:06d}{ending or self.out.suffix}"

    def join(self) -> int:
        """Make the table of all parts, list what is broken, remove the parts; how many are broken.

        Raises `Gz2vitError` where the parts do not hold each image once.
        """
        numbers = range(-(-self.count // self.part_images))
        parts = [self._path(number) for number in numbers]
        lists = [self._path(number, "broken", ".csv") for number in numbers]
        join = _join_text if self.out.suffix == ".csv" else _join_parquet
        with atomic_path(self.broken_out) as listed, atomic_path(self.out) as temporary:
            broken = _join_text(lists, listed, BROKEN_COLUMNS)
            rows = join(parts, temporary, COLUMNS)
            if rows + broken != self.count:
                raise Gz2vitError(
                    f"the parts in {self.folder} hold {rows + broken} images instead of "
                    f"{self.count}; give --restart to begin anew"
                )
        if not broken:
            self.broken_out.unlink()
        shutil.rmtree(self.folder)
        return broken


def _join_text(parts: Sequence[Path], target: Path, columns: Sequence[str]) -> int:
    """Join CSV files without headers under one; how many rows they have."""
    rows = 0
    with target.open("wb") as whole:
        whole.write((",".join(columns) + "\n").encode())
        for part in parts:
            text = part.read_bytes()
            rows += text.count(b"\n")  # no name in a table has a line break (`image_list`)
            whole.write(text)
    return rows


def _join_parquet(parts: Sequence[Path], target: Path, columns: Sequence[str]) -> int:
    """Join Parquet files, `GROUP` to a row group; how many rows they have."""
    rows = 0
    with parquet.ParquetWriter(target, SCHEMA) as whole:
        for start in range(0, len(parts), GROUP):
            group = [parquet.read_table(part) for part in parts[start : start + GROUP]]
            table = pa.concat_tables(group).select(list(columns))
            rows += table.num_rows
            whole.write_table(table)
    return rows


# ------------------------------------------------------------------------------------------
# A trained network at work on image files: batches in, class probabilities out, in order.
#
# The arithmetic is that of `predict`, in float32, so that a galaxy gets the same probabilities here
# and there. On a GPU the next batch is started before the last one is taken back.


class Predicted(NamedTuple):
    """What came out of a batch: `probabilities` float64 (B, 8), without meaning at a fault."""

    paths: list[str]
    faults: list[str | None]
    probabilities: np.ndarray


@dataclass(frozen=True)
class Predictor:
    """A classifier on its device, and how it is used.

    `average`: the mean of the probabilities over the eight symmetries of a square; `strict`: the
    first broken image is a `Gz2vitError`.
    """

    classifier: GalaxyClassifier
    reader: ImageReader
    batch_size: int
    average: bool = False
    strict: bool = False

    def predict(self, images: Iterator[str], part_images: int) -> Iterator[Predicted]:
        """Predict images, in batches that never reach from one part into the next.

        So a part is the same whether or not the parts before it were made in the same run.
        """
        pending: tuple[ImageBatch, torch.Tensor] | None = None
        batches = cut(images, part_images, self.batch_size)
        for batch in self.reader.read_ahead(batches):
            self._check_faults(batch)
            started = batch, self._start(batch)
            if pending is not None:
                yield _finish(*pending)
            pending = started
        if pending is not None:
            yield _finish(*pending)

    def _check_faults(self, batch: ImageBatch) -> None:
        """Raise `Gz2vitError` for the first broken image, where that was asked for."""
        first = next(filter(None, batch.faults), None)
        if self.strict and first:
            raise Gz2vitError(f"{first}; mend or remove it, or leave --strict away")

    @torch.inference_mode()
    def _start(self, batch: ImageBatch) -> torch.Tensor:
        """Logits (S, B, 8) of S = 1 or 8 views of each image; a GPU may still be at work."""
        device = self.classifier.device
        if all(batch.faults):
            return torch.zeros(1, len(batch.paths), CLASS_COUNT)
        pixels = torch.from_numpy(batch.pixels)
        if device.type == "cuda":
            pixels = pixels.pin_memory()
        images = pixels.to(device, non_blocking=True).permute(0, 3, 1, 2)  # -> (B, 3, H, W)
        views = symmetries(images) if self.average else [images]
        try:
            return torch.stack([self.classifier(view) for view in views])
        except torch.OutOfMemoryError as error:
            raise Gz2vitError(
                f"{self.batch_size} images at once are too many for the memory of {device}; give a "
                "smaller --batch-size, with which the same command continues"
            ) from error


def _finish(batch: ImageBatch, logits: torch.Tensor) -> Predicted:
    """The mean probabilities over the views; `Gz2vitError` where they are not numbers."""
    # As in `predict`: float32 logits, softmax in float64, which Apple's GPUs do not have.
    probabilities = logits.cpu().double().softmax(dim=2).mean(dim=0).numpy()
    wrong = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
    if len(wrong):
        raise Gz2vitError(
            f"the network gives no numbers for image {batch.paths[wrong[0]]}; "
            "its weights are damaged, train it again"
        )
    return Predicted(batch.paths, batch.faults, probabilities)


def symmetries(images: torch.Tensor) -> Iterator[torch.Tensor]:
    """The eight views (B, C, H, W) of square images: quarter turns, as they are and mirrored."""
    for mirrored in (images, images.flip(3)):
        for turns in range(4):
            yield mirrored.rot90(turns, (2, 3))


def cut(images: Iterable[str], part_images: int, batch_size: int) -> Iterator[Sequence[str]]:
    """Batches of at most `batch_size` paths; every `part_images` paths a new one begins."""
    images = iter(images)
    while part := list(islice(images, part_images)):
        for start in range(0, len(part), batch_size):
            yield part[start : start + batch_size]


# ------------------------------------------------------------------------------------------
# What a trained network says of any number of images on disk, written to a table.
#
# Images take the steps of training's data, so that those of a test split get the probabilities of its
# `predictions.csv`. Memory does not grow with their number, and an interrupted run continues
# (`output_parts`). A broken image is listed and does not stop the others.

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


# ------------------------------------------------------------------------------------------
# Predictions of a trained network, and the metrics that follow from them.


def predict(classifier: GalaxyClassifier, galaxies: LabelledImages) -> pd.DataFrame:
    """Class probabilities for a split, on the GPU where there is one.

    Columns `GalaxyID`, `class` (true index), `pred` (the most probable), `p0` to `p7` (sum 1).
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    classifier = classifier.to(device).eval()
    settings = classifier.settings
    sizes = {"image_size": settings.image_size, "batch_size": settings.batch_size}
    batches = Batches(galaxies.store, galaxies.class_index, **sizes)
    made = DeviceBatches(batches, device) if device.type == "cuda" else batches
    with torch.inference_mode():
        logits = torch.cat([classifier(batch.images).cpu() for batch in made])
    probabilities = logits.double().softmax(dim=1).numpy()
    table = pd.DataFrame({"GalaxyID": galaxies.store.galaxy_ids, "class": galaxies.class_index})
    table["pred"] = probabilities.argmax(axis=1)
    return table.assign(**dict(zip(PROBABILITY_COLUMNS, probabilities.T, strict=True)))


def evaluate_model(
    results_dir: Path | str, model_key: str, test: LabelledImages, run: str = ""
) -> dict:
    """Predict the test galaxies with the best weights and write what came out.

    `run`: the folder of a further seed inside the model's folder, such as "seeds/1". Writes
    `predictions.csv`, `validation_predictions.csv` (a temperature is fitted to them: the test
    galaxies may have no say in it) and `metrics.json` into the run's folder and returns the
    metrics: those of `classification_metrics`, training figures of the best epoch, size, time and
    device.
    """
    folder = require(Path(results_dir) / "models" / model_key / run, model_key)
    require(folder / CHECKPOINT, model_key)
    classifier = load_classifier(folder)
    predictions = predict(classifier, test)
    validation = predict(classifier, open_split(results_dir, "valid"))
    for name, table in (("predictions", predictions), ("validation_predictions", validation)):
        with atomic_path(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)
    metrics = _metrics(results_dir, folder, classifier, predictions, test)
    write_json(folder / "metrics.json", metrics)
    forget(folder)
    return metrics


def _metrics(
    results_dir: Path | str,
    folder: Path,
    classifier: GalaxyClassifier,
    predictions: pd.DataFrame,
    test: LabelledImages,
) -> dict:
    """All figures of one run, as plain values; an accuracy that cannot be measured is null."""
    history = pd.read_csv(require(folder / "history.csv", classifier.settings.model_key))
    best = history.loc[history.valid_acc.idxmax()]
    record = read_json(folder / "params.json")
    selection = read_selection(results_dir)
    metrics = classification_metrics(predictions["class"], predictions["pred"])
    counts = test.class_counts()
    return {
        "model": classifier.settings.model_key,
        **metrics,
        "class_acc": [None if np.isnan(value) else value for value in metrics["class_acc"]],
        "class_test_galaxies": counts.tolist(),
        "test_galaxies": int(counts.sum()),
        "largest_class_fraction": float(counts.max() / counts.sum()),
        "train_acc": float(best.train_acc),
        "valid_acc": float(best.valid_acc),
        "best_epoch": int(best.epoch),
        "epochs": len(history),
        "train_seconds": float(history.seconds.sum()),
        "parameters": count_parameters(classifier.network),
        "trainable_parameters": count_parameters(classifier.network, trainable=True),
        "network": classifier.settings.hyperparameters.get("name", classifier.settings.network),
        "weights": classifier.settings.weights,
        "class_weights": classifier.loss_weights.tolist(),
        "device": record["device"],
        "data": selection.data["name"],
        "profile": selection.data["profile"],
    }
