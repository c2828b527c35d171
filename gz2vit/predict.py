"""What a trained network makes of galaxies: of a split, and of any number of images on disk.

Beside a table `OUT` there is, while it is made, the folder `OUT.parts`: `run.json`, what the run
is; `images.txt`, its images; and a Parquet file for each part, written whole or not at all. The
same command keeps the parts and continues. Memory holds one part, and the names of one folder.
"""

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import chain, islice, tee
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from PIL import Image
from PIL.Image import Resampling
from pyarrow import dataset, parquet
from torch import nn
from torchvision.io import ImageReadMode, decode_jpeg
from tqdm import tqdm

from gz2vit import images as galaxy_images
from gz2vit import io, training
from gz2vit.batches import Batches, run_ahead, shrink
from gz2vit.calibration import apply_temperature, expected_calibration_error
from gz2vit.catalog import read_selection
from gz2vit.evaluation import PROBABILITY_COLUMNS, classification_metrics
from gz2vit.images import ImageFault, LabelledImages
from gz2vit.io import CHECKPOINT, Gz2vitError
from gz2vit.models import count_parameters
from gz2vit.paper import CLASS_NAMES, IMAGE_PX
from gz2vit.training import GalaxyClassifier, load_classifier, local_device
from gz2vit.weights import file_sha256

ENDINGS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif")
GPU_BATCH, OTHER_BATCH = 512, 64  # images at once
PRECISIONS = ("auto", "float32")
PART_IMAGES = 2048  # what an interruption may cost: some half a minute of the paper's network
PIECE = 8  # images that a thread decodes at once: some 4 ms
AHEAD = 3  # batches that are being decoded ahead of the network
SECONDS = {True: 0.5, False: 30.0}  # between states of the bar on a terminal; each a line in a log
COLUMNS = ("path", "GalaxyID", "pred", "class_name", *PROBABILITY_COLUMNS)
KINDS = {"pred": pa.int64(), **dict.fromkeys(PROBABILITY_COLUMNS, pa.float64())}
# `fault`: None, or what is wrong with the image
SCHEMA = pa.schema([(name, KINDS.get(name, pa.string())) for name in (*COLUMNS, "fault")])


class Logits:
    """A network ready to predict on a device: images (B, 3, H, W) to logits (S, B, 8), S views.

    With "float32" the same numbers wherever it runs, whatever a training has set. With "auto" what
    is faster on the device and changes no probability by 0.01 (`benchmarks/prediction.py`): float16
    on a GPU, bfloat16 for transformers on a processor that multiplies it (in CNNs it costs 0.03),
    the channels together for CNNs. Not compiled: a minute, in which it has predicted thousands.
    """

    def __init__(
        self, classifier: GalaxyClassifier, device: torch.device, precision: str = "float32"
    ) -> None:
        if precision not in PRECISIONS:
            raise Gz2vitError(f"precision is {precision!r}; it must be {' or '.join(PRECISIONS)}")
        self.classifier, self.device, self.dtype = classifier.to(device).eval(), device, None
        convolutional = classifier.settings.network in training.CONVOLUTIONAL
        if precision == "auto":
            chosen = training.choose_acceleration("auto", "", device).precision
            if chosen != "32-true" and (device.type == "cuda" or not convolutional):
                self.dtype = torch.float16 if device.type == "cuda" else torch.bfloat16
        together = precision == "auto" and convolutional
        self.classifier.use(training.Acceleration(channels_last=together))

    @torch.inference_mode()
    def __call__(self, images: torch.Tensor, average: bool = False) -> torch.Tensor:
        """Logits in float32, on the device."""
        images = images.to(self.device, non_blocking=True)
        views = symmetries(images) if average or self.classifier.temperature else [images]
        before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
        try:
            torch.set_float32_matmul_precision("highest")
            torch.backends.cudnn.allow_tf32 = False
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
                return torch.stack([self.classifier(view).float() for view in views])
        finally:
            torch.set_float32_matmul_precision(before[0])
            torch.backends.cudnn.allow_tf32 = before[1]


def predict(
    classifier: GalaxyClassifier, galaxies: LabelledImages, precision: str = "float32"
) -> pd.DataFrame:
    """Of a split: `GalaxyID`, `class` (true index), `pred`, and probabilities `p0` to `p7`."""
    logits_of, settings = Logits(classifier, local_device(), precision), classifier.settings
    place = logits_of.device if logits_of.device.type == "cuda" else None
    sizes = settings.image_size, settings.batch_size
    batches = Batches(galaxies.cache, galaxies.class_index, *sizes, device=place)
    logits = [logits_of(batch.images).cpu() for batch in batches]
    table = {"GalaxyID": galaxies.cache.galaxy_ids, "class": galaxies.class_index}
    return _with_probabilities(pd.DataFrame(table), mean_probabilities(classifier, logits))


def mean_probabilities(classifier: GalaxyClassifier, logits: list[torch.Tensor]) -> torch.Tensor:
    """The mean probabilities over views, float64 (N, 8), of what `Logits` gave."""
    # float32 logits, softmax in float64, which Apple's GPUs lack
    probabilities = torch.cat(logits, dim=1).cpu().double().softmax(dim=2).mean(dim=0)
    if classifier.temperature:
        return torch.from_numpy(apply_temperature(probabilities.numpy(), classifier.temperature))
    return probabilities


def _with_probabilities(table: pd.DataFrame, probabilities: torch.Tensor) -> pd.DataFrame:
    """`table` with the columns `pred` and `p0` to `p7` for probabilities (B, 8)."""
    columns = dict(zip(PROBABILITY_COLUMNS, probabilities.numpy().T, strict=True))
    return table.assign(pred=probabilities.numpy().argmax(axis=1), **columns)


def evaluate_model(
    results_dir: Path | str, model_key: str, test: LabelledImages, run: str = "",
    network: nn.Module | None = None,
) -> dict:  # fmt: skip
    """Predict the test galaxies with the best weights, finish the training, return `metrics.json`.

    `run`: the folder of a further seed, such as "seed1"; `network`: the trained one, if not what
    `build_model` makes. Writes `predictions.csv`, and `validation_predictions.csv` to calibrate by.
    """
    model_dir = Path(results_dir) / "models" / model_key / run
    trained = training.is_trained(model_dir)
    folder = io.require(model_dir / training.UNFINISHED if trained else model_dir, model_key)
    classifier = load_classifier(folder, network)
    if classifier.settings.weights == "bundled":
        warn_of_learnt(test.cache.galaxy_ids)
    splits = {"": test, "validation_": galaxy_images.open_split(results_dir, "valid")}
    tables = {name: predict(classifier, galaxies) for name, galaxies in splits.items()}
    for name, table in tables.items():
        with io.atomic_path(folder / f"{name}predictions.csv") as temporary:
            table.to_csv(temporary, index=False)
    history = pd.read_csv(io.require(folder / "history.csv", model_key))
    best = history.loc[history.valid_acc.idxmax()]
    settings, counts, network = classifier.settings, test.class_counts(), classifier.network
    data = read_selection(results_dir).data
    measured = classification_metrics(tables[""]["class"], tables[""]["pred"])
    metrics = {"model": settings.model_key} | measured | {
        # the accuracy of a class without galaxies cannot be measured
        "class_acc": [None if np.isnan(value) else value for value in measured["class_acc"]],
        "class_test_galaxies": counts.tolist(), "test_galaxies": int(counts.sum()),
        "largest_class_fraction": float(counts.max() / counts.sum()),
        "train_acc": float(best.train_acc), "valid_acc": float(best.valid_acc),
        "best_epoch": int(best.epoch), "epochs": len(history),
        "train_seconds": float(history.seconds.sum()), "parameters": count_parameters(network),
        "trainable_parameters": count_parameters(network, trainable=True),
        "network": settings.hyperparameters.get("name", settings.network),
        "weights": settings.weights, "class_weights": classifier.loss_weights.tolist(),
        "device": io.read_json(folder / "params.json")["device"],
        "data": data["name"], "profile": data["profile"],
    }  # fmt: skip
    io.write_json(folder / "metrics.json", metrics)
    training.finish_training(model_dir)
    return metrics


@dataclass(frozen=True)
class InferenceOptions:
    """How images are predicted."""

    average: bool = False  # the mean probabilities over the eight flips and quarter turns
    resize: bool = False  # images of any size, the central square of each taken for a whole image
    pixel_scale: float = 0.0  # pixels of an image for one of Galaxy Zoo 2's, 0 for images of theirs
    strict: bool = False  # end at the first broken image
    crop_px: int = 0  # side of the central square used, 0 for the model's own
    batch_size: int = 0  # 0 for the device's own
    workers: int = 0  # decoding threads, 0 for one per core
    device: str = "auto"  # torch's name
    precision: str = "auto"  # what pays on the device; or float32, as a training's own test
    gpu_decode: bool = False  # JPEG files by the GPU, whose pixels may differ by some grey levels

    def __post_init__(self) -> None:
        for name in ("crop_px", "batch_size", "workers"):
            if not isinstance(value := getattr(self, name), int) or value < 0:
                raise Gz2vitError(f"{name} is {value!r}; it must be a whole number of at least 0")
        if self.pixel_scale < 0 or (self.resize and self.pixel_scale):
            raise Gz2vitError(f"pixel_scale {self.pixel_scale} must be positive, without resize")
        if self.crop_px > IMAGE_PX:
            raise Gz2vitError(f"crop_px {self.crop_px} does not fit in {IMAGE_PX} px")


def predict_images(
    model: Path | str, images: Sequence[Path | str], out: Path | str,
    options: InferenceOptions | None = None, overwrite: bool = False, restart: bool = False,
) -> tuple[int, int]:  # fmt: skip
    """Predict `images` (words as `find_images` takes them); how many, and how many are broken.

    `model`: "bundled", a folder or checkpoint. `out`: CSV or Parquet, with `COLUMNS`; broken images
    go to `OUT.broken.csv`. The same call continues after an interruption. `overwrite` replaces an
    existing table; `restart` drops what an interrupted run has left.
    """
    out, options = Path(out), options or InferenceOptions()
    if out.suffix not in (".csv", ".parquet") or out.is_dir():
        raise Gz2vitError(f"--out {out} must be a file that ends in .csv or .parquet")
    if out.exists() and not overwrite:
        raise Gz2vitError(f"{out} exists already; give --overwrite or another --out")
    checkpoint = Path(model) / CHECKPOINT if Path(model).is_dir() else Path(model)
    if str(model) == "bundled":
        checkpoint = io.BUNDLED
    elif not checkpoint.is_file() or checkpoint.name != CHECKPOINT:
        fault = "must be called so" if checkpoint.is_file() else "does not exist"
        raise Gz2vitError(f"{checkpoint} {fault}; --model takes a model's folder or {CHECKPOINT}")
    place = model if checkpoint == io.BUNDLED else checkpoint.parent
    classifier, device = load_classifier(place), choose_device(options.device)
    if options.gpu_decode and device.type != "cuda":
        raise Gz2vitError(f"a {device.type} cannot decode JPEG files; leave --gpu-decode away")
    logits_of = Logits(classifier, device, options.precision)
    options = replace(options, crop_px=options.crop_px or classifier.crop_px)
    run = {"format": 3, "model_sha256": file_sha256(checkpoint), "part_images": PART_IMAGES}
    names = ("average", "resize", "pixel_scale", "crop_px", "precision", "gpu_decode")
    run |= {name: getattr(options, name) for name in names} | {"dtype": str(logits_of.dtype)}
    run |= galaxy_images.decoder_versions()
    folder = out.with_name(f"{out.name}.parts")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Gz2vitError(f"cannot write {folder}: {error.strerror or error}") from error
    with io.sole_user(folder / "lock", f"another run is writing {out}; wait for it"):
        try:
            if restart:
                _drop(folder)
            count = _list_images(folder, run, [str(word) for word in images])
            parts = [folder / f"part-{n:06d}.parquet" for n in range(-(-count // PART_IMAGES))]
            _make_parts(parts, count, logits_of, options)
            broken = _join(parts, count, out)
            _drop(folder)
        finally:
            if not (folder / "run.json").exists():  # nothing has begun, or all is done
                (folder / "lock").unlink(missing_ok=True)
                with suppress(OSError):  # somebody has put something there
                    folder.rmdir()
    return count, broken


def compare_labels(out: Path | str, labels: Path | str, bundled: bool = True) -> str:
    """How well a table of predictions agrees with label1 of a label table, in a line.

    Warns of galaxies that the bundled network has learnt from.
    """
    out = Path(out)
    table = pd.read_parquet(out) if out.suffix == ".parquet" else pd.read_csv(out)
    known = pd.read_csv(labels, dtype={"galaxyID": str})
    if not {"galaxyID", "label1"} <= set(known):
        raise Gz2vitError(f"{labels} has no columns galaxyID and label1; name a label table")
    both = table.assign(galaxyID=table.GalaxyID.astype(str)).merge(known, on="galaxyID")
    if both.empty:
        raise Gz2vitError(f"no image of {out} is in {labels}; name the images by galaxyID")
    if bundled:
        warn_of_learnt(both.galaxyID)
    metrics = classification_metrics(both.label1, both.pred)
    error, *_ = expected_calibration_error(both.label1, both[[*PROBABILITY_COLUMNS]].to_numpy())
    words = f"accuracy {metrics['accuracy']:.3f}, macro recall {metrics['recall_macro']:.3f}"
    return f"{len(both):,} of {labels}: {words}, calibration error {error:.3f}"


def warn_of_learnt(galaxy_ids: Iterable[str]) -> None:
    """Say on the standard error how many galaxies the bundled network may have learnt from."""
    learnt = set(pd.read_csv(io.LEARNT, dtype=str).galaxyID) & set(map(str, galaxy_ids))
    if learnt:
        words = f"{len(learnt):,} of these ids, such as {min(learnt)}, are of galaxies that the "
        words += f"bundled network has learnt from ({io.LEARNT}); do not test it on them"
        print(f"warning: {words}", file=sys.stderr)


def _list_images(folder: Path, run: dict, words: Sequence[str]) -> int:
    """Write `images.txt` and `run.json`; the number of images. Parts of another run are refused."""
    count, digest = 0, hashlib.sha256()
    with io.atomic_path(folder / "images.txt") as temporary, temporary.open("wb") as stream:
        for image in find_images(words):
            line = image.encode("utf-8", "replace") + b"\n"
            if "\n" in image or "\r" in image or line.decode() != f"{image}\n":
                raise Gz2vitError(f"the name of {image!r} does not fit into a table; rename it")
            digest.update(line)
            count += bool(stream.write(line))
        if not count:
            raise Gz2vitError(f"there is no image ({', '.join(ENDINGS)}) in {' '.join(words)}")
        run = run | {"images": count, "images_sha256": digest.hexdigest()}
        known = io.read_json(note) if (note := folder / "run.json").exists() else run
        if differing := [key for key in run if known.get(key) != run[key]]:
            kind = f"an unfinished run of another kind ({', '.join(differing)} differ)"
            raise Gz2vitError(f"{folder} holds {kind}; give --restart to start anew")
    io.write_json(note, run)
    return count


def _make_parts(
    parts: list[Path], count: int, logits_of: Logits, options: InferenceOptions
) -> None:
    """Make the missing parts, under a progress bar; threads decode ahead of the network."""
    done = next((number for number, part in enumerate(parts) if not part.exists()), len(parts))
    size, on_gpu = logits_of.classifier.settings.image_size, logits_of.device.type == "cuda"
    batch_size = options.batch_size or (GPU_BATCH if on_gpu else OTHER_BATCH)
    threads = options.workers or galaxy_images.available_workers()
    look = {"desc": "predict", "unit": " images", "mininterval": SECONDS[sys.stderr.isatty()]}
    bar = tqdm(total=count, initial=min(done * PART_IMAGES, count), **look)
    listed = (parts[0].parent / "images.txt").open(encoding="utf-8", newline="\n")
    with listed, bar:
        missing, ahead = tee(line[:-1] for line in islice(listed, done * PART_IMAGES, None))
        pieces = iter(lambda: list(islice(ahead, PIECE)), [])
        work, deep = (lambda one: read_images(one, size, options)), 1 + AHEAD * batch_size // PIECE
        read = chain.from_iterable(run_ahead(work, pieces, threads, deep))
        for part in parts[done:]:
            paths = list(islice(missing, PART_IMAGES))
            table = _predict_part(paths, read, batch_size, logits_of, options, bar)
            if part == parts[0] and table.fault.notna().all():
                words = f"{table.fault.iloc[0]}, and none of the first {len(table):,} images fits"
                advice = "images of another size need --resize or --pixel-scale"
                raise Gz2vitError(f"{words}; {advice}")
            with io.atomic_path(part) as temporary:
                rows = pa.Table.from_pandas(table, schema=SCHEMA, preserve_index=False)
                parquet.write_table(rows, temporary)


@torch.inference_mode()
def _predict_part(
    paths: list[str], read: Iterator[tuple[np.ndarray, str | None]], batch_size: int,
    logits_of: Logits, options: InferenceOptions, bar: tqdm,
) -> pd.DataFrame:  # fmt: skip
    """A part's table, with the columns of `SCHEMA`; a broken image has a fault and no class."""
    logits, faults = [], []
    for start in range(0, len(paths), batch_size):
        pixels, found = zip(*islice(read, len(paths[start : start + batch_size])), strict=True)
        found = list(found)
        images = _stack(pixels, found, paths[start:], logits_of.device, options)
        if options.strict and (first := next(filter(None, found), None)):
            raise Gz2vitError(f"{first}; fix or remove it, or leave --strict away")
        try:  # a GPU may go on with this while the next batch is read
            logits.append(logits_of(images, options.average))
        except torch.OutOfMemoryError as error:
            advice = "give a smaller --batch-size, with which the same command continues"
            raise Gz2vitError(f"no memory for {batch_size} images at once; {advice}") from error
        faults += found
        bar.update(len(found))
    probabilities = mean_probabilities(logits_of.classifier, logits)
    if len(wrong := np.flatnonzero(~probabilities.isfinite().all(dim=1))):
        name = f"the network gives no numbers for image {paths[wrong[0]]}"
        raise Gz2vitError(f"{name}; its weights are damaged, train it again")
    table = pd.DataFrame({"path": paths, "GalaxyID": [Path(path).stem for path in paths]})
    table = _with_probabilities(table.assign(fault=faults), probabilities)
    return table.assign(class_name=np.array(CLASS_NAMES)[table.pred])


def _stack(
    pixels: Sequence[np.ndarray], faults: list[str | None], paths: Sequence[str],
    device: torch.device, options: InferenceOptions,
) -> torch.Tensor:  # fmt: skip
    """A batch (B, 3, H, W) on the device, on which those are decoded that are still JPEG files."""
    files = [row for row, found in enumerate(pixels) if found.ndim == 1]
    side, off, pixels = options.crop_px, round((IMAGE_PX - options.crop_px) / 2.0), list(pixels)
    try:
        encoded = [torch.from_numpy(pixels[row]) for row in files]
        decoded = decode_jpeg(encoded, ImageReadMode.RGB, device=device) if files else []
    except RuntimeError:  # one that this decoder does not know: the CPU knows all
        slow = replace(options, gpu_decode=False)
        for row in files:
            pixels[row], faults[row] = read_images([paths[row]], side, slow)[0]
        files, decoded = [], []
    for row in files:
        pixels[row] = np.zeros((side, side, 3), np.uint8)  # until it is decoded
    batch = torch.from_numpy(np.stack(pixels))
    batch = (batch.pin_memory() if device.type == "cuda" else batch).to(device, non_blocking=True)
    for row, image in zip(files, decoded, strict=True):
        batch[row] = image[:, off : off + side, off : off + side].permute(1, 2, 0)
    return batch.permute(0, 3, 1, 2)


def _plain_jpeg(path: str) -> np.ndarray | None:
    """The bytes of a JPEG file that is whole, in colour, `IMAGE_PX` wide and not turned, if so."""
    data = np.fromfile(path, dtype=np.uint8)
    with Image.open(BytesIO(data.tobytes())) as image:
        kind = image.format, image.mode, image.size, "exif" in image.info
    whole = galaxy_images.JPEG_END in data[-galaxy_images.TAIL_BYTES :].tobytes()
    return data if whole and kind == ("JPEG", "RGB", (IMAGE_PX, IMAGE_PX), False) else None


def symmetries(images: torch.Tensor) -> Iterator[torch.Tensor]:
    """The eight views (B, C, H, W) of square images: quarter turns, as they are and mirrored."""
    return (one.rot90(turns, (2, 3)) for one in (images, images.flip(3)) for turns in range(4))


def read_images(
    paths: Sequence[str], image_size: int, options: InferenceOptions
) -> list[tuple[np.ndarray, str | None]]:
    """Images as a network sees them, uint8 (H, W, 3), and what is wrong with each, then black.

    The image cache's steps: decoding, the central `crop_px` px, averaging to `image_size` px. With
    `resize` or `pixel_scale` the central square is resampled (bicubic) in one step with the crop.
    """
    found, crop_px, resized = [], options.crop_px, options.resize or options.pixel_scale
    for path in paths:
        if options.gpu_decode and crop_px == image_size and not resized:
            with suppress(Exception):  # what is wrong with it is found below
                if (data := _plain_jpeg(path)) is not None:
                    found.append((data, None))
                    continue
        try:
            if resized:
                image = galaxy_images.decode(path)
                side = crop_px * (options.pixel_scale or min(image.size) / IMAGE_PX)
                if side > min(image.size):
                    raise ImageFault(f"image {path} is smaller than {side:.0f} px at this scale")
                left, upper = (image.width - side) / 2, (image.height - side) / 2
                box = (left, upper, left + side, upper + side)
                image = image.resize((crop_px, crop_px), Resampling.BICUBIC, box)
            else:
                image = galaxy_images.decode(path, crop_px, IMAGE_PX)
            found.append((shrink(np.asarray(image)[None], image_size)[0], None))
        except ImageFault as fault:
            found.append((np.zeros((image_size, image_size, 3), dtype=np.uint8), str(fault)))
    return found


def _join(parts: list[Path], count: int, out: Path) -> int:
    """Make the table of all parts, and list the broken images; how many there are."""
    whole = dataset.dataset([str(part) for part in parts], schema=SCHEMA, format="parquet")
    if (rows := whole.count_rows()) != count:
        place = f"the parts in {parts[0].parent} hold {rows} images"
        raise Gz2vitError(f"{place} instead of {count}; give --restart to start anew")
    usable = dataset.field("fault").is_null()
    broken, listed = whole.to_table(["path", "fault"], filter=~usable), Path(f"{out}.broken.csv")
    listed.unlink(missing_ok=True)
    if broken.num_rows:
        with io.atomic_path(listed) as temporary:
            broken.to_pandas().to_csv(temporary, index=False)
    tables = whole.scanner(columns=list(COLUMNS), filter=usable, use_threads=False).to_batches()
    with io.atomic_path(out) as temporary:
        if out.suffix == ".csv":
            for number, table in enumerate(tables):
                table.to_pandas().to_csv(temporary, index=False, mode="a", header=number == 0)
        else:
            with parquet.ParquetWriter(temporary, SCHEMA.remove(len(COLUMNS))) as stream:
                for table in tables:
                    stream.write_batch(table)
    return broken.num_rows


def _drop(folder: Path) -> None:
    """Remove what a run leaves in `OUT.parts`, and nothing else; its note last."""
    for path in (*folder.glob("part-*.parquet"), folder / "images.txt", folder / "run.json"):
        path.unlink(missing_ok=True)


def find_images(words: Iterable[str]) -> Iterator[str]:
    """The paths of all images that `words` name, in an order that does not change.

    A word is an image; a folder, searched with all folders in it for `ENDINGS` (other files are
    counted in a line on the standard error, hidden ones passed over); `@FILE`, a list of images,
    one per line; or `-`, the same from the standard input.
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
            if kinds := ", ".join(f"{count:,} {kind}" for kind, count in others.most_common()):
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

    seen = {os.path.realpath(top)}  # each folder is searched once, however many links lead there
    for folder, inside, names in os.walk(top, onerror=refuse, followlinks=True):
        places = {name: os.path.realpath(os.path.join(folder, name)) for name in sorted(inside)}
        inside[:] = [n for n, real in places.items() if n[0] != "." and real not in seen]
        seen.update(places[name] for name in inside)
        yield from (os.path.join(folder, name) for name in sorted(names) if name[0] != ".")


def choose_device(name: str) -> torch.device:
    """The device of that name; `Gz2vitError` where this machine does not have it."""
    try:
        device = local_device() if name == "auto" else torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise Gz2vitError(f"this machine has no device '{name}'; leave --device away") from error
    return device
