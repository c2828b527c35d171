"""End-to-end training against bare compute, the device's peak, and a plain loop over JPEG files.

    python benchmarks/training.py [--data DIR] [--models KEY...] [--batch N...] [--copies N]
                                  [--rounds N] [--acceleration CHOICE]

For each network and batch size four rates, images a second, on the same device in one process, by
turns, so that what else the machine does falls on all of them:

- end to end: `gz2vit.training.fit`, from the image cache to the optimiser's step, without the
  validation;
- bare: the same classifier and optimiser on one ready batch again and again;
- plain: images decoded, transformed and fed one by one (`plain_loop.py`), with torch's dropout;
- feeding alone, on one core: the image cache's reader with the batch augmentation, and the plain
  loop's data set.

Beside them the model FLOPs utilisation: the operations of the network, forward and backward (three
times those of the forward pass), a second, as a share of the device's peak (`PEAKS`; for a
processor, and for other GPUs, what a product of two large matrices reaches here). On a GPU the
first two run as the suite trains there (mixed precision, compiled), the plain loop in float32.
`--copies` repeats the training galaxies, so that an epoch is long enough to measure there.
`--acceleration none` has all in float32, as on a processor without bfloat16.
"""

import argparse
import itertools
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import lightning
import torch
from galaxies import galaxies_at_hand, open_galaxies
from lightning.pytorch.callbacks import Callback
from plain_loop import JpegGalaxies, plain_training
from torch import nn

from gz2vit import training as run
from gz2vit.batches import Batches
from gz2vit.catalog import read_data_folder
from gz2vit.images import LabelledImages
from gz2vit.models import build_model, count_flops
from gz2vit.paper import BATCH_SIZE, CROP_PX
from gz2vit.training import CHOICES, HALF, GalaxyClassifier, TrainingSettings, choose_acceleration

# Dense products of bfloat16, or of float16 where there is no bfloat16 [1e12 operations / s], of
# NVIDIA's data sheets, by what the device's name holds.
PEAKS = {
    "B200": 2250, "H200": 989, "H100 PCIe": 756, "H100": 989, "GH200": 989, "A100": 312, "A40": 150,
    "A30": 165, "A10": 125, "L40S": 362, "L40": 181, "L4": 121, "RTX 4090": 165, "RTX 3090": 71,
    "V100": 125, "T4": 65,
}  # fmt: skip


@dataclass
class Rate:
    """Images and seconds of each turn."""

    images: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(self, images: int, seconds: float) -> None:
        """Note a turn."""
        self.images.append(images)
        self.seconds.append(seconds)

    @property
    def best(self) -> float:
        """Images a second in the fastest turn: whatever else the machine does only slows."""
        return max(n / time for n, time in zip(self.images, self.seconds, strict=True))


class TrainingTime(Callback):
    """Notes how long the training part of each epoch takes, the validation left out."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate

    def on_train_epoch_start(self, trainer: lightning.Trainer, module: nn.Module) -> None:
        """An epoch begins."""
        self.start = time.perf_counter()

    def on_validation_start(self, trainer: lightning.Trainer, module: nn.Module) -> None:
        """Its training ends."""
        wait_for_device()
        self.rate.add(len(module.batches["train"].cache), time.perf_counter() - self.start)


class Turns(Callback):
    """Between two epochs of the end-to-end run, lets the others have their turn."""

    def __init__(self, others: list[Iterator[None]]) -> None:
        self.others = others

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: nn.Module) -> None:
        """A turn of each."""
        for other in self.others:
            next(other)


def wait_for_device() -> None:
    """Let a GPU finish what it has been given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_flops(device: torch.device, half: torch.dtype | None) -> tuple[float, str]:
    """The most operations a second that the device multiplies with, and where that is from."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    known = [peak for part, peak in PEAKS.items() if part in name and half is not None]
    if known:
        return known[0] * 1e12, "data sheet"
    left, right = torch.randn(2, 2048, 2048, dtype=half or torch.float32, device=device)
    best = float("inf")
    for _ in range(8):
        start = time.perf_counter()
        left @ right
        wait_for_device()
        best = min(best, time.perf_counter() - start)
    return 2 * 2048**3 / best, "measured product of two matrices"


def bare_turns(
    settings: TrainingSettings, train: LabelledImages, acceleration: str, rate: Rate, images: int
) -> Iterator[None]:
    """The classifier's own step on one ready batch, `images` images a turn."""
    device = run.local_device()
    classifier = GalaxyClassifier(run.build_network(settings), asdict(settings), [1.0] * 8)
    classifier.to(device).train()
    chosen = choose_acceleration(acceleration, settings.network, device, run.COMPILE_FROM)
    classifier.use(chosen)
    (classifier.adam,), _ = classifier.configure_optimizers()
    batch = next(iter(run.make_batches(settings, train, train, device)["train"]))
    tensors = [one for one in batch if one is not None]
    step = run.Replayed(classifier.learn) if device.type == "cuda" else classifier.learn
    while True:
        start, done = time.perf_counter(), 0
        while done < images:
            step(*tensors)
            done += len(batch.images)
        wait_for_device()
        rate.add(done, time.perf_counter() - start)
        yield


def plain_turns(
    settings: TrainingSettings, galaxies: JpegGalaxies, rate: Rate, images: int
) -> Iterator[None]:
    """The plain loop, `images` images a turn."""
    network = without_our_dropout(build_model(settings.network))
    steps = plain_training(network, galaxies, settings.batch_size, run.local_device())
    while True:
        start, done = time.perf_counter(), 0
        while done < images:
            done += next(steps)
        wait_for_device()
        rate.add(done, time.perf_counter() - start)
        yield


def without_our_dropout(network: nn.Module) -> nn.Module:
    """The network with torch's own dropout, as the libraries build it."""
    for name, child in network.named_children():
        if isinstance(child, nn.Dropout):
            setattr(network, name, nn.Dropout(child.p))
        else:
            without_our_dropout(child)
    return network


def feeding_turns(
    train: LabelledImages, galaxies: JpegGalaxies, ours: Rate, theirs: Rate, images: int
) -> Iterator[None]:
    """Both ways to make batches, on one core, without a network."""
    while True:
        threads = torch.get_num_threads(), cv2.getNumThreads()
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        batches = Batches(train.cache, train.class_index, CROP_PX, BATCH_SIZE, augment=True)
        start, done = time.perf_counter(), 0
        for batch in itertools.islice(batches, images // BATCH_SIZE):
            done += len(batch.images)
        ours.add(done, time.perf_counter() - start)
        start = time.perf_counter()
        for row in range(min(images // 4, len(galaxies))):
            galaxies[row]
        theirs.add(row + 1, time.perf_counter() - start)
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])
        yield


def measure(
    data: Path, results: Path, settings: TrainingSettings, options: argparse.Namespace
) -> dict[str, Rate]:
    """All rates of a network at a batch size."""
    train, valid = open_galaxies(results, options.copies)
    folder = read_data_folder(data)
    table = folder.tables["train"]
    paths = [folder.image_path(name) for name in table.galaxyID]
    galaxies = JpegGalaxies(paths, table.label1.tolist(), settings.network)
    rates = {name: Rate() for name in ("end to end", "bare", "plain", "our feed", "plain feed")}
    turn = len(train.cache) if options.copies == 1 else len(train.cache) // 4
    others = [
        plain_turns(settings, galaxies, rates["plain"], min(turn, len(galaxies))),
        bare_turns(settings, train, options.acceleration, rates["bare"], turn),
    ]
    callbacks = [TrainingTime(rates["end to end"]), Turns(others)]
    with TemporaryDirectory() as scratch:
        network = run.build_network(settings)
        words = (settings, train, valid, Path(scratch), 1, options.acceleration)
        run.fit(network, *words, callbacks=callbacks)
    feeding = feeding_turns(train, galaxies, rates["our feed"], rates["plain feed"], 512)
    for _ in range(options.rounds + 1):
        next(feeding)
    return rates


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a data folder; by default one is simulated")
    parser.add_argument("--models", nargs="+", default=["linformer"], help="model keys")
    parser.add_argument("--batch", type=int, nargs="+", default=[BATCH_SIZE], help="batch sizes")
    parser.add_argument("--copies", type=int, default=1, help="repeat the training galaxies")
    parser.add_argument("--rounds", type=int, default=6, help="turns that count")
    parser.add_argument("--acceleration", choices=CHOICES, default="auto", help="none: in float32")
    options = parser.parse_args()
    device = run.local_device()
    name = torch.cuda.get_device_name() if device.type == "cuda" else device.type
    print(f"acceleration {options.acceleration}, on {name}, {platform.machine()}, "
          f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, "
          f"torch {torch.__version__}")  # fmt: skip
    run.COMPILE_FROM, epochs = 0, options.rounds + 1  # compiled, as on the paper's many galaxies
    with galaxies_at_hand(options.data, options.copies) as (data, results):
        for key, batch_size in itertools.product(options.models, options.batch):
            limits = {"max_epoch": epochs, "early_stopping_epochs": epochs}
            settings = TrainingSettings(key, batch_size=batch_size, **limits)
            rates = measure(data, results, settings, options)
            best = {name: rate.best for name, rate in rates.items()}
            chosen = choose_acceleration(options.acceleration, settings.network, device)
            peak, source = peak_flops(device, HALF.get(chosen.precision))
            flops = 3 * count_flops(run.build_network(settings), settings.image_size)
            ours, bare = best["end to end"], best["bare"]
            print(f"{key}, batches of {batch_size}: {ours:,.1f} images/s end to end, "
                  f"{bare:,.1f} bare, {best['plain']:,.1f} plain; {ours / bare:.3f} of bare, "
                  f"{ours / best['plain']:.2f} times plain; {flops * ours / peak:.1%} of the peak "
                  f"of {peak / 1e12:,.2f} TFLOP/s ({source}); feeding "
                  f"{best['our feed']:,.1f} and {best['plain feed']:,.1f} images/s a core",
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
