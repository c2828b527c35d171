"""What a trained network makes of galaxies: of a split, and of any number of images on disk.

Beside a table `OUT` there is, while it is made, the folder `OUT.parts`: `run.json`, what the run
is; `images.txt`, its images; and a Parquet file for each part, written whole or not at all. The
same command keeps the parts and continues. Memory holds one part, and the names of one folder.
"""

import hashlib
import os
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from PIL.Image import Resampling
from pyarrow import dataset, parquet
from torch import nn
from tqdm import tqdm

from gz2vit.batches import Batches, DeviceBatches, shrink
from gz2vit.catalog import read_selection
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
from gz2vit.paper import CLASS_NAMES, IMAGE_PX
from gz2vit.training import (
    UNFINISHED,
    GalaxyClassifier,
    finish_training,
    is_trained,
    load_classifier,
)
from gz2vit.weights import file_sha256

ENDINGS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif")
GPU_BATCH, OTHER_BATCH = 256, 64  # images at once
PART_IMAGES = 2048  # what an interruption may cost: some half a minute of the paper's network
PIECE = 8  # images that a thread decodes at once: some 4 ms
AHEAD = 3  # batches that are being decoded
TERMINAL_SECONDS, LOG_SECONDS = 0.5, 30.0  # between two states of the bar: in a log each is a line
COLUMNS = ("path", "GalaxyID", "pred", "class_name", *PROBABILITY_COLUMNS)
KINDS = {"pred": pa.int64(), **dict.fromkeys(PROBABILITY_COLUMNS, pa.float64())}
# `fault`: None, or what is wrong with the image
SCHEMA = pa.schema([(name, KINDS.get(name, pa.string())) for name in (*COLUMNS, "fault")])


def predict(classifier: GalaxyClassifier, galaxies: LabelledImages) -> pd.DataFrame:
    """Class probabilities for a split, on the GPU where there is one.

    Columns `GalaxyID`, `class` (true index), `pred` (the most probable), `p0` to `p7` (sum 1).
    """
    device = choose_device("auto")
    classifier = classifier.to(device).eval()
    settings = classifier.settings
    sizes = settings.image_size, settings.batch_size
    batches = Batches(galaxies.cache, galaxies.class_index, *sizes)
    made = DeviceBatches(batches, device) if device.type == "cuda" else batches
    with torch.inference_mode():
        logits = torch.cat([classifier(batch.images).cpu() for batch in made])
    probabilities = logits.double().softmax(dim=1).numpy()
    table = pd.DataFrame({"GalaxyID": galaxies.cache.galaxy_ids, "class": galaxies.class_index})
    table["pred"] = probabilities.argmax(axis=1)
    return table.assign(**dict(zip(PROBABILITY_COLUMNS, probabilities.T, strict=True)))


def evaluate_model(
    results_dir: Path | str, model_key: str, test: LabelledImages, run: str = "",
    network: nn.Module | None = None,
) -> dict:  # fmt: skip
    """Predict the test galaxies with the best weights, finish the training, return `metrics.json`.

    `run`: the folder of a further seed, such as "seed1"; `network`: the trained one, if not what
    `build_model` makes. Also writes `predictions.csv` and `validation_predictions.csv` (to which
    a temperature is fitted: the test galaxies may have no influence on it).
    """
    model_dir = Path(results_dir) / "models" / model_key / run
    folder = model_dir / UNFINISHED if is_trained(model_dir) else model_dir
    require(folder, model_key)
    classifier = load_classifier(folder, network)
    predictions = predict(classifier, test)
    validation = predict(classifier, open_split(results_dir, "valid"))
    for name, table in (("predictions", predictions), ("validation_predictions", validation)):
        with atomic_path(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)
    history = pd.read_csv(require(folder / "history.csv", model_key))
    best = history.loc[history.valid_acc.idxmax()]
    settings, counts = classifier.settings, test.class_counts()
    data = read_selection(results_dir).data
    metrics = {"model": settings.model_key}
    metrics |= classification_metrics(predictions["class"], predictions["pred"])
    metrics |= {
        # the accuracy of a class without galaxies cannot be measured
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
        "network": settings.hyperparameters.get("name", settings.network),
        "weights": settings.weights,
        "class_weights": classifier.loss_weights.tolist(),
        "device": read_json(folder / "params.json")["device"],
        "data": data["name"],
        "profile": data["profile"],
    }
    write_json(folder / "metrics.json", metrics)
    finish_training(model_dir)
    return metrics


# ---- Image files -------------------------------------------------------------------------------


@dataclass(frozen=True)
class InferenceOptions:
    """How images are predicted.

    `average`: the mean probabilities over the eight flips and quarter turns; `resize`: images of
    any size, the central square of each taken for a whole image; `strict`: end at the first broken
    image; `crop_px`: side of the central square used, 0 for the model's own; `batch_size`: 0 for
    the device's own; `workers`: decoding threads, 0 for one per core; `device`: torch's name.
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
                raise Gz2vitError(f"{name} is {value!r}; it must be a whole number of at least 0")
        if self.crop_px > IMAGE_PX:
            raise Gz2vitError(f"crop_px {self.crop_px} does not fit in {IMAGE_PX} px")


def predict_images(
    model: Path | str, images: Sequence[Path | str], out: Path | str,
    options: InferenceOptions | None = None, overwrite: bool = False, restart: bool = False,
) -> tuple[int, int]:  # fmt: skip
    """Predict `images` (words as `find_images` takes them); how many, and how many are broken.

    `model`: a model's folder or its checkpoint. `out`: CSV or Parquet by its ending, with
    `COLUMNS`; broken images go to `OUT.broken.csv`. The same call continues after an interruption.
    `overwrite` replaces an existing table; `restart` drops what an interrupted run has left. Raises
    `Gz2vitError` for what is missing or does not fit, and where no image of the first part is
    usable.
    """
    out, options = Path(out), options or InferenceOptions()
    if out.suffix not in (".csv", ".parquet"):
        raise Gz2vitError(f"--out {out} must end in .csv or .parquet")
    if out.is_dir():
        raise Gz2vitError(f"--out {out} is a folder; name a file")
    if out.exists() and not overwrite:
        raise Gz2vitError(f"{out} exists already; give --overwrite or another --out")
    checkpoint = Path(model) / CHECKPOINT if Path(model).is_dir() else Path(model)
    if not checkpoint.is_file():
        raise Gz2vitError(
            f"{checkpoint} does not exist; --model takes a trained model's folder, such as "
            f"results/demo/models/linformer, or its {CHECKPOINT}"
        )
    if checkpoint.name != CHECKPOINT:
        raise Gz2vitError(f"{checkpoint} must be called {CHECKPOINT}; rename it or name its folder")
    classifier = load_classifier(checkpoint.parent).to(choose_device(options.device)).eval()
    options = replace(options, crop_px=options.crop_px or classifier.crop_px)
    run = {"format": 2, "model_sha256": file_sha256(checkpoint), "part_images": PART_IMAGES}
    run |= {name: getattr(options, name) for name in ("average", "resize", "crop_px")}
    run |= decoder_versions()
    folder = out.with_name(f"{out.name}.parts")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Gz2vitError(f"cannot write {folder}: {error.strerror or error}") from error
    with sole_user(folder / "lock", f"another run is writing {out}; wait for it"):
        try:
            if restart:
                _drop(folder)
            count = _list_images(folder, run, [str(word) for word in images])
            last = (count - 1) // PART_IMAGES
            parts = [folder / f"part-{number:06d}.parquet" for number in range(last + 1)]
            _make_parts(parts, count, classifier, options)
            broken = _join(parts, count, out)
            _drop(folder)
        finally:
            if not (folder / "run.json").exists():  # nothing has begun, or all is done
                (folder / "lock").unlink(missing_ok=True)
                with suppress(OSError):  # somebody has put something there
                    folder.rmdir()
    return count, broken


def _list_images(folder: Path, run: dict, words: Sequence[str]) -> int:
    """Write `images.txt` and `run.json`; the number of images.

    Raises `Gz2vitError` where `folder` holds parts of another run, or of other images.
    """
    note = folder / "run.json"
    known = read_json(note) if note.exists() else None
    count, digest = 0, hashlib.sha256()
    with atomic_path(folder / "images.txt") as temporary:
        with temporary.open("wb") as stream:
            for image in find_images(words):
                line = image.encode("utf-8", "replace") + b"\n"
                if "\n" in image or "\r" in image or line.decode() != f"{image}\n":
                    raise Gz2vitError(f"the name of {image!r} does not fit into a table; rename it")
                digest.update(line)
                stream.write(line)
                count += 1
        if not count:
            raise Gz2vitError(f"there is no image ({', '.join(ENDINGS)}) in {' '.join(words)}")
        run = run | {"images": count, "images_sha256": digest.hexdigest()}
        differing = [key for key in run if known is not None and known.get(key) != run[key]]
        if differing:
            raise Gz2vitError(
                f"{folder} holds an unfinished run of another kind ({', '.join(differing)} "
                "differ); give --restart to start anew"
            )
    write_json(note, run)
    return count


def _make_parts(
    parts: list[Path], count: int, classifier: GalaxyClassifier, options: InferenceOptions
) -> None:
    """Make the missing parts, under a progress bar."""
    done = next((number for number, part in enumerate(parts) if not part.exists()), len(parts))
    bar = tqdm(
        desc="predict",
        unit=" images",
        total=count,
        initial=min(done * PART_IMAGES, count),
        mininterval=TERMINAL_SECONDS if sys.stderr.isatty() else LOG_SECONDS,
    )
    listed = (parts[0].parent / "images.txt").open(encoding="utf-8", newline="\n")
    with listed, bar, ThreadPoolExecutor(options.workers or available_workers()) as pool:
        missing = (line[:-1] for line in islice(listed, done * PART_IMAGES, None))
        for part in parts[done:]:
            paths = list(islice(missing, PART_IMAGES))
            table = _predict_part(paths, classifier, options, pool, bar)
            if part == parts[0] and table.fault.notna().all():
                raise Gz2vitError(
                    f"{table.fault.iloc[0]}, and none of the first {len(table):,} images can be "
                    "used; images of another size need --resize"
                )
            with atomic_path(part) as temporary:
                rows = pa.Table.from_pandas(table, schema=SCHEMA, preserve_index=False)
                parquet.write_table(rows, temporary)


@torch.inference_mode()
def _predict_part(
    paths: list[str], classifier: GalaxyClassifier, options: InferenceOptions,
    pool: ThreadPoolExecutor, bar: tqdm,
) -> pd.DataFrame:  # fmt: skip
    """A part's table, with the columns of `SCHEMA`; a broken image has a fault and no class."""
    device, size = classifier.device, classifier.settings.image_size
    logits, faults = [], []
    batch_size = options.batch_size or (GPU_BATCH if device.type == "cuda" else OTHER_BATCH)
    for pixels, found in _read_ahead(paths, batch_size, size, options, pool):
        first = next(filter(None, found), None)
        if first and options.strict:
            raise Gz2vitError(f"{first}; fix or remove it, or leave --strict away")
        images = torch.from_numpy(pixels)
        if device.type == "cuda":
            images = images.pin_memory()
        images = images.to(device, non_blocking=True).permute(0, 3, 1, 2)  # -> (B, 3, H, W)
        views = symmetries(images) if options.average else [images]
        try:  # a GPU may go on with this while the next batch is read
            logits.append(torch.stack([classifier(view) for view in views]))
        except torch.OutOfMemoryError as error:
            raise Gz2vitError(
                f"{batch_size} images at once are too many for the memory of {device}; give a "
                "smaller --batch-size, with which the same command continues"
            ) from error
        faults += found
        bar.update(len(found))
    # (S, B, 8) for S = 1 or 8 views. As in `predict`: float32 logits, softmax in float64, which
    # Apple's GPUs do not have.
    probabilities = torch.cat(logits, dim=1).cpu().double().softmax(dim=2).mean(dim=0).numpy()
    wrong = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
    if len(wrong):
        raise Gz2vitError(
            f"the network gives no numbers for image {paths[wrong[0]]}; its weights are damaged, "
            "train it again"
        )
    pred = probabilities.argmax(axis=1)
    table = pd.DataFrame({"path": paths, "GalaxyID": [Path(path).stem for path in paths]})
    table = table.assign(pred=pred, class_name=np.array(CLASS_NAMES)[pred], fault=faults)
    return table.assign(**dict(zip(PROBABILITY_COLUMNS, probabilities.T, strict=True)))


def symmetries(images: torch.Tensor) -> Iterator[torch.Tensor]:
    """The eight views (B, C, H, W) of square images: quarter turns, as they are and mirrored."""
    for mirrored in (images, images.flip(3)):
        for turns in range(4):
            yield mirrored.rot90(turns, (2, 3))


def _read_ahead(
    paths: list[str], batch_size: int, image_size: int, options: InferenceOptions,
    pool: ThreadPoolExecutor,
) -> Iterator[tuple[np.ndarray, list[str | None]]]:  # fmt: skip
    """Batches, uint8 (B, H, W, 3), and what is wrong with each image; such an image is black.

    Threads decode ahead of the network: decompressing a JPEG does not hold the interpreter's lock.
    """
    starts, waiting = iter(range(0, len(paths), batch_size)), deque()
    while True:
        for start in islice(starts, AHEAD - len(waiting)):
            batch = paths[start : start + batch_size]
            pieces = [batch[at : at + PIECE] for at in range(0, len(batch), PIECE)]
            waiting.append([pool.submit(read_images, one, image_size, options) for one in pieces])
        if not waiting:
            return
        read = [piece.result() for piece in waiting.popleft()]
        yield np.concatenate([one[0] for one in read]), sum((one[1] for one in read), [])


def read_images(
    paths: Sequence[str], image_size: int, options: InferenceOptions
) -> tuple[np.ndarray, list[str | None]]:
    """Images as a network sees them, uint8 (B, H, W, 3), and what is wrong with each.

    The image cache's steps: decoding, the central `crop_px` px, averaging to `image_size` px. With
    `resize` the central square is first resampled (bicubic, with a wider filter where it shrinks)
    to `IMAGE_PX`, in one step with cropping; an image of `IMAGE_PX` comes out the same.
    """
    pixels = np.zeros((len(paths), image_size, image_size, 3), dtype=np.uint8)
    faults: list[str | None] = [None] * len(paths)
    crop_px = options.crop_px
    for row, path in enumerate(paths):
        try:
            if options.resize:
                image = decode(path)
                side = min(image.size) * crop_px / IMAGE_PX
                left, upper = (image.width - side) / 2, (image.height - side) / 2
                box = (left, upper, left + side, upper + side)
                image = image.resize((crop_px, crop_px), Resampling.BICUBIC, box)
            else:
                image = decode(path, crop_px, IMAGE_PX)
            pixels[row] = shrink(np.asarray(image)[None], image_size)[0]
        except ImageFault as fault:
            faults[row] = str(fault)
    return pixels, faults


def _join(parts: list[Path], count: int, out: Path) -> int:
    """Make the table of all parts, and list the broken images; how many there are.

    Raises `Gz2vitError` where the parts do not hold each image once.
    """
    whole = dataset.dataset([str(part) for part in parts], schema=SCHEMA, format="parquet")
    if (rows := whole.count_rows()) != count:
        raise Gz2vitError(
            f"the parts in {parts[0].parent} hold {rows} images instead of {count}; give --restart "
            "to start anew"
        )
    usable = dataset.field("fault").is_null()
    broken, listed = whole.to_table(["path", "fault"], filter=~usable), f"{out}.broken.csv"
    if broken.num_rows:
        with atomic_path(listed) as temporary:
            broken.to_pandas().to_csv(temporary, index=False)
    else:
        Path(listed).unlink(missing_ok=True)
    batches = whole.scanner(columns=list(COLUMNS), filter=usable, use_threads=False).to_batches()
    with atomic_path(out) as temporary:
        if out.suffix == ".csv":
            with temporary.open("w", encoding="utf-8", newline="") as stream:
                stream.write(",".join(COLUMNS) + "\n")
                for batch in batches:
                    batch.to_pandas().to_csv(stream, index=False, header=False)
        else:
            with parquet.ParquetWriter(temporary, SCHEMA.remove(len(COLUMNS))) as stream:
                for batch in batches:
                    stream.write_batch(batch)
    return broken.num_rows


def _drop(folder: Path) -> None:
    """Remove what a run leaves in `OUT.parts`, and nothing else; its note last."""
    for path in (*folder.glob("part-*.parquet"), folder / "images.txt", folder / "run.json"):
        path.unlink(missing_ok=True)


def find_images(words: Iterable[str]) -> Iterator[str]:
    """The paths of all images that `words` name, in an order that does not change.

    A word is an image; a folder, searched with all folders in it for `ENDINGS` (other files are
    counted in a line on the standard error, hidden ones passed over); `@FILE`, a list of images,
    one per line; or `-`, the same from the standard input. Raises `Gz2vitError` for what cannot
    be read.
    """
    for word in words:
        if word == "-" or word.startswith("@"):
            try:
                with sys.stdin if word == "-" else open(word[1:], encoding="utf-8") as stream:
                    yield from (line.rstrip("\r\n") for line in stream if line.strip())
            except (OSError, UnicodeDecodeError) as error:
                raise Gz2vitError(f"cannot read the list of images {word}: {error}") from error
        elif os.path.isdir(word):
            others: Counter[str] = Counter()
            for path in _walk(word):
                if path.lower().endswith(ENDINGS):
                    yield path
                else:
                    others[os.path.splitext(path)[1].lower() or "without ending"] += 1
            if others:
                kinds = ", ".join(f"{count:,} {kind}" for kind, count in others.most_common())
                read = ", ".join(ENDINGS)
                print(f"{word}: passed over {kinds} (images are {read})", file=sys.stderr)
        elif os.path.lexists(word):
            yield word
        else:
            raise Gz2vitError(f"{word} does not exist; name images, folders of images or @LIST")


def _walk(top: str) -> Iterator[str]:
    """The files in a folder by name, then those of the folders in it; hidden ones are left out."""

    def refuse(error: OSError) -> None:
        raise Gz2vitError(f"cannot search {error.filename}: {error.strerror}") from error

    above = {top: {os.path.realpath(top)}}  # of each folder still to be searched, and itself
    for folder, inside, names in os.walk(top, onerror=refuse, followlinks=True):
        here, found = above.pop(folder), sorted(inside)
        inside.clear()
        for name in found:
            real = os.path.realpath(path := os.path.join(folder, name))
            if not name.startswith(".") and real not in here:  # else a link to a folder above it
                inside.append(name)
                above[path] = here | {real}
        yield from (os.path.join(folder, name) for name in sorted(names) if name[0] != ".")


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
