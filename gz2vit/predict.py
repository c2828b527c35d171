"""What a trained network makes of galaxies: of a split, and of any number of images on disk.

While a table `OUT` is made, the folder `OUT.parts` holds `run.json` (what the run is), `images.txt`
and a Parquet file for each part: the same command continues. Memory holds one part.
"""

import copy
import hashlib
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import islice, tee
from pathlib import Path
from threading import Lock

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import torch
import torchvision
from PIL import Image
from pyarrow import dataset, parquet
from torch import nn
from tqdm import tqdm

from gz2vit import images as galaxy_images
from gz2vit import io, training
from gz2vit.batches import Batches, run_ahead, shrink
from gz2vit.calibration import apply_temperature, expected_calibration_error
from gz2vit.catalog import read_selection
from gz2vit.evaluation import PROBABILITY_COLUMNS, classification_metrics
from gz2vit.images import ImageFault
from gz2vit.io import CHECKPOINT, Gz2vitError
from gz2vit.models import count_parameters, use_onednn
from gz2vit.paper import CLASS_NAMES, IMAGE_PX
from gz2vit.training import GalaxyClassifier, load_classifier, local_device
from gz2vit.weights import file_sha256

try:  # which torchvision wants to leave to another library
    from torchvision.io import decode_jpeg
except ImportError:
    decode_jpeg = None  # Pillow decodes all, to the same pixels

ENDINGS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif")
# Images at once; on a processor what fits in its cache, of the Linformer's few tokens more
GPU_BATCH, OTHER_BATCH, LINFORMER_BATCH = 512, {torch.bfloat16: 8, torch.float32: 16}, 32
FEEDERS = 8
PART_IMAGES = 2048  # what an interruption may cost: some seconds of the paper's network
SECONDS = {True: 0.5, False: 30.0}  # between states of the bar on a terminal; each a line in a log
COLUMNS = ("path", "GalaxyID", "pred", "class_name", *PROBABILITY_COLUMNS)
KINDS = {"pred": pa.int64(), **dict.fromkeys(PROBABILITY_COLUMNS, pa.float64())}
SCHEMA = pa.schema([(name, KINDS.get(name, pa.string())) for name in (*COLUMNS, "fault")])


class Logits:
    """A classifier ready to predict: images uint8 (B, 3, H, W) to float32 logits (views, B, 8).

    Precision "auto": what is faster and changes no probability by 0.01: a float16 copy on a GPU, a
    bfloat16 copy on a processor that multiplies it, but of CNNs (where it costs 0.03) the channels
    together; float32 layers by oneDNN, in half of MKL's time on AMD's. Not compiled: that takes
    80 s, for 1.2 times the Linformer's images/s.
    """

    def __init__(
        self, classifier: GalaxyClassifier, device: torch.device, precision: str = "float32"
    ) -> None:
        if precision not in ("auto", "float32"):
            raise Gz2vitError(f"precision is {precision!r}; it must be auto or float32")
        self.classifier, self.device = classifier.to(device).eval(), device
        self.network, self.dtype = classifier.network, torch.float32
        if precision == "auto":
            convolutional = classifier.settings.network in training.CONVOLUTIONAL
            fast = training.choose_acceleration("auto", "", device).precision != "32-true"
            if fast and (device.type == "cuda" or not convolutional):
                # once for all: autocast would convert the weights again for each batch
                self.dtype = torch.float16 if device.type == "cuda" else torch.bfloat16
            self.network = copy.deepcopy(self.network).to(self.dtype)
            if convolutional:
                self.network.to(memory_format=torch.channels_last)
            use_onednn(self.network)
        few = self.dtype is torch.bfloat16 and classifier.settings.network == "linformer"
        other = LINFORMER_BATCH if few else OTHER_BATCH[self.dtype]
        self.batch_size = GPU_BATCH if device.type == "cuda" else other
        levels = torch.arange(256.0, device=device)[:, None, None, None]
        table = torch.addcmul(classifier.shift, levels, classifier.scale)[..., 0]
        self.table = table.to(self.dtype).permute(2, 0, 1).contiguous().cpu()  # (1, 256, 3)

    @torch.inference_mode()
    def __call__(self, images: torch.Tensor, average: bool = False) -> torch.Tensor:
        if self.dtype is torch.bfloat16:  # by a table: in float32 it would take a tenth of the time
            rows = images.permute(0, 2, 3, 1).flatten(0, 1).numpy()
            found = torch.from_numpy(cv2.LUT(rows, self.table.view(torch.int16).numpy()))
            images = found.view(self.dtype).unflatten(0, (len(images), -1)).permute(0, 3, 1, 2)
        else:
            images = images.to(self.device, non_blocking=True).float()
            images = torch.addcmul(self.classifier.shift, images, self.classifier.scale)
        views = symmetries(images) if average or self.classifier.temperature else [images]
        return torch.stack([self.network(view.to(self.dtype)).float() for view in views])


@contextmanager
def _computing(threads: int) -> Iterator[None]:
    """Products in full float32, whatever a training has set, by so many threads each."""
    cudnn, before = torch.backends.cudnn, torch.get_float32_matmul_precision()
    own, tf32 = torch.get_num_threads(), cudnn.allow_tf32
    try:
        torch.set_float32_matmul_precision("highest")
        cudnn.allow_tf32 = False
        torch.set_num_threads(threads)  # also of threads that begin from now on
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        cudnn.allow_tf32 = tf32
        torch.set_num_threads(own)


def predict(
    classifier: GalaxyClassifier, galaxies: galaxy_images.LabelledImages, precision: str = "float32"
) -> pd.DataFrame:
    """Of a split: `GalaxyID`, `class` (true index), `pred`, and probabilities `p0` to `p7`."""
    logits_of, settings = Logits(classifier, local_device(), precision), classifier.settings
    place = logits_of.device if logits_of.device.type == "cuda" else None
    sizes = settings.image_size, settings.batch_size
    batches = Batches(galaxies.cache, galaxies.class_index, *sizes, device=place)
    with _computing(torch.get_num_threads()):
        logits = [logits_of(batch.images).cpu() for batch in batches]
    found = mean_probabilities(classifier, logits)
    table = {"GalaxyID": galaxies.cache.galaxy_ids, "class": galaxies.class_index}
    table |= {"pred": found.argmax(axis=1)} | dict(zip(PROBABILITY_COLUMNS, found.T, strict=True))
    return pd.DataFrame(table)


def mean_probabilities(classifier: GalaxyClassifier, logits: list[torch.Tensor]) -> np.ndarray:
    """The mean probabilities over views of what `Logits` gave: float64 (N, 8), on the CPU."""
    mean = torch.cat(logits, dim=1).cpu().double().softmax(dim=2).mean(dim=0).numpy()
    return apply_temperature(mean, classifier.temperature) if classifier.temperature else mean


def evaluate_model(
    results_dir: Path | str, model_key: str, test: galaxy_images.LabelledImages, run: str = "",
    network: nn.Module | None = None,
) -> dict:  # fmt: skip
    """Predict the test galaxies with the best weights, finish the training, return `metrics.json`.

    `run`: the folder of a further seed, such as "seed1"; `network`: the trained one, if not what
    `build_model` makes. Writes `predictions.csv`, and `validation_predictions.csv` to calibrate by.
    """
    model_dir = Path(results_dir) / "models" / model_key / run
    folder = model_dir / training.UNFINISHED if training.is_trained(model_dir) else model_dir
    classifier = load_classifier(io.require(folder, model_key), network)
    settings, network = classifier.settings, classifier.network
    if settings.weights == "bundled":
        warn_of_learnt(test.cache.galaxy_ids)
    splits, tables = {"": test, "validation_": galaxy_images.open_split(results_dir, "valid")}, {}
    for name, galaxies in splits.items():
        tables[name] = predict(classifier, galaxies)
        io.write_text(folder / f"{name}predictions.csv", tables[name].to_csv(index=False))
    history = pd.read_csv(io.require(folder / "history.csv", model_key))
    best, counts = history.loc[history.valid_acc.idxmax()], test.class_counts()
    data = read_selection(results_dir).data
    measured = classification_metrics(tables[""]["class"], tables[""]["pred"])
    metrics = {"model": settings.model_key} | measured | {
        "class_acc": [None if np.isnan(x) else x for x in measured["class_acc"]],  # no galaxies
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
    workers: int = 0  # threads that decode and compute, 0 for one per core
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
    go to `OUT.broken.csv`. The same call continues after an interruption; `overwrite` replaces an
    existing table, `restart` drops what an interrupted run has left.
    """
    out, options = Path(out), options or InferenceOptions()
    if out.suffix not in (".csv", ".parquet") or out.is_dir():
        raise Gz2vitError(f"--out {out} must be a file that ends in .csv or .parquet")
    if out.exists() and not overwrite:
        raise Gz2vitError(f"{out} exists already; give --overwrite or another --out")
    checkpoint = io.trained_checkpoint(str(model))
    if checkpoint is None or checkpoint.name not in (CHECKPOINT, io.BUNDLED.name):
        raise Gz2vitError(f"there is no {CHECKPOINT} in {model}; --model takes a model's folder")
    classifier = load_classifier(model if checkpoint == io.BUNDLED else checkpoint.parent)
    device = choose_device(options.device)
    if options.gpu_decode and (device.type != "cuda" or not decode_jpeg):
        raise Gz2vitError(f"a {device.type} cannot decode JPEG files; leave --gpu-decode away")
    logits_of = Logits(classifier, device, options.precision)
    options = replace(options, crop_px=options.crop_px or classifier.crop_px)
    run = {"format": 4, "model_sha256": file_sha256(checkpoint), "part_images": PART_IMAGES}
    names = ("average", "resize", "pixel_scale", "crop_px", "precision", "gpu_decode")
    run |= {name: getattr(options, name) for name in names} | {"dtype": str(logits_of.dtype)}
    run |= galaxy_images.decoder_versions() | {"torchvision": torchvision.__version__}
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
            with _computing(threads=1):
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
    """A line on how a table of predictions agrees with label1 of a label table; warns as below."""
    table = pd.read_parquet(out) if str(out).endswith(".parquet") else pd.read_csv(out)
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
    """Make the missing parts, under a progress bar; each thread decodes and computes batches."""
    image_size, device = logits_of.classifier.settings.image_size, logits_of.device
    on_cpu, usual = device.type == "cpu", logits_of.batch_size
    # Beside a GPU, 16 threads that decode would wait for each other: 0.7 times what 8 do.
    most = galaxy_images.available_workers()
    most = most if on_cpu or options.gpu_decode else min(most, FEEDERS)
    threads = options.workers or most
    usual = min(usual, -(-count // threads)) if on_cpu else usual
    batch_size, sole = options.batch_size or usual, nullcontext() if on_cpu else Lock()

    def work(paths: list[str]) -> tuple[torch.Tensor, list[str | None]]:
        """The logits of a batch (S, B, 8), and what is wrong with each image."""
        images, faults = _read_batch(paths, image_size, device, options)
        if options.strict and any(faults):
            raise Gz2vitError(f"{next(filter(None, faults))}; fix or remove it, or omit --strict")
        try:
            with sole:  # a GPU may go on with this while the next batch is read
                return logits_of(images, options.average), faults
        except torch.OutOfMemoryError as error:
            words = f"no memory for {batch_size} images at once; give a smaller --batch-size, with "
            raise Gz2vitError(f"{words}which the same command continues") from error

    done = next((number for number, part in enumerate(parts) if not part.exists()), len(parts))
    look = {"desc": "predict", "unit": " images", "mininterval": SECONDS[sys.stderr.isatty()]}
    bar = tqdm(total=count, initial=min(done * PART_IMAGES, count), **look)
    listed = (parts[0].parent / "images.txt").open(encoding="utf-8", newline="\n")
    with listed, bar:
        names = (line[:-1] for line in islice(listed, done * PART_IMAGES, None))
        missing, ahead = tee(iter(lambda: list(islice(names, PART_IMAGES)), []))
        batches = (one[n : n + batch_size] for one in ahead for n in range(0, len(one), batch_size))
        results = run_ahead(work, batches, threads, threads + 1)
        for part, paths in zip(parts[done:], missing, strict=True):
            logits, faults = [], []
            while len(faults) < len(paths):
                found, wrong = next(results)
                logits.append(found)
                faults += wrong
                bar.update(len(wrong))
            if part == parts[0] and all(faults):
                words = f"{faults[0]}, and none of the first {len(faults):,} images fits; images "
                raise Gz2vitError(f"{words}of another size need --resize or --pixel-scale")
            probabilities = mean_probabilities(logits_of.classifier, logits)
            if len(wrong := np.flatnonzero(~np.isfinite(probabilities).all(axis=1))):
                words = f"the network gives no numbers for image {paths[wrong[0]]}; its weights "
                raise Gz2vitError(f"{words}are damaged, train it again")
            pred, ids = probabilities.argmax(axis=1), [Path(path).stem for path in paths]
            columns = (paths, ids, pred, np.array(CLASS_NAMES)[pred], *probabilities.T, faults)
            table = pa.table(dict(zip(SCHEMA.names, columns, strict=True)), schema=SCHEMA)
            with io.atomic_path(part) as temporary:
                parquet.write_table(table, temporary)


def _read_batch(
    paths: list[str], image_size: int, device: torch.device, options: InferenceOptions
) -> tuple[torch.Tensor, list[str | None]]:
    """Images (B, 3, H, W) on a device, which decodes the JPEG files if asked, and their faults.

    Of usual files torchvision gives Pillow's pixels, sooner, and refuses all that Pillow refuses.
    """
    side, files, decoded = options.crop_px, {}, []
    usual = decode_jpeg and not (options.resize or options.pixel_scale)
    for row, path in enumerate(paths if usual else []):
        with suppress(Exception):  # what is wrong with it is found by Pillow
            data = bytearray(Path(path).read_bytes())
            with Image.open(BytesIO(data)) as image:
                kind = image.format, image.mode, image.size, "exif" in image.info
            whole = galaxy_images.JPEG_END in data[-galaxy_images.TAIL_BYTES :]
            if whole and kind == ("JPEG", "RGB", (IMAGE_PX, IMAGE_PX), False):
                files[row] = torch.frombuffer(data, dtype=torch.uint8)
    centre, faults = slice(off := round((IMAGE_PX - side) / 2.0), off + side), [None] * len(paths)
    if files and options.gpu_decode and side == image_size:
        with suppress(RuntimeError):  # one that this decoder does not know: the CPU knows all
            found = decode_jpeg([*files.values()], "RGB", device=device)
            decoded = [*files]
            images = torch.stack(found)[:, :, centre, centre]
            if len(decoded) == len(paths):
                return images, faults
    pixels = np.empty((len(paths), image_size, image_size, 3), np.uint8)
    for row in set(range(len(paths))) - set(decoded):
        try:
            image = decode_jpeg(files[row], "RGB").permute(1, 2, 0)[centre, centre].numpy()
            pixels[row] = shrink(image[None], image_size)[0]
        except (KeyError, RuntimeError):  # of another kind, or it is refused
            [(pixels[row], faults[row])] = read_images([paths[row]], image_size, options)
    batch = torch.from_numpy(pixels)
    batch = (batch.pin_memory() if device.type == "cuda" else batch).to(device, non_blocking=True)
    batch = batch.permute(0, 3, 1, 2)
    if decoded:
        batch[decoded] = images
    return batch, faults


def symmetries(images: torch.Tensor) -> Iterator[torch.Tensor]:
    """The eight views (B, C, H, W) of square images: quarter turns, as they are and mirrored."""
    return (one.rot90(turns, (2, 3)) for one in (images, images.flip(3)) for turns in range(4))


def read_images(
    paths: Sequence[str], image_size: int, options: InferenceOptions
) -> list[tuple[np.ndarray, str | None]]:
    """Images as a network sees them, uint8 (H, W, 3), and what is wrong with each, then black.

    Decoded, cut to `crop_px`, averaged to `image_size` px, as in the image cache. With `resize` or
    `pixel_scale` the central square is resampled (bicubic) in one step with the crop.
    """
    found, crop_px = [], options.crop_px
    for path in paths:
        try:
            if options.resize or options.pixel_scale:
                image = galaxy_images.decode(path)
                side = crop_px * (options.pixel_scale or min(image.size) / IMAGE_PX)
                if side > min(image.size):
                    raise ImageFault(f"image {path} is smaller than {side:.0f} px at this scale")
                left, upper = (image.width - side) / 2, (image.height - side) / 2
                box = (left, upper, left + side, upper + side)
                image = image.resize((crop_px, crop_px), Image.Resampling.BICUBIC, box)
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
        io.write_text(listed, broken.to_pandas().to_csv(index=False))
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
    counted on the standard error, hidden ones passed over); `@FILE`, a list; `-`, one on the input.
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
