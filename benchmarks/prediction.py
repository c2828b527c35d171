"""`gz2vit predict` end to end, against the bare network and against a plain loop.

    python benchmarks/prediction.py [--images DIR] [--model KEY|FOLDER...] [--count N] [--rounds N]

Images a second, in one process, by turns, so that what else the machine does falls on all of them;
the fastest turn of each counts:

- auto and float32: `gz2vit predict --precision ...`, from JPEG files to the table;
- bare: the same network, equally prepared, on one ready batch again and again;
- plain: PIL, torchvision's transforms and the network in float32, in one thread's loop.

A KEY is one of the paper's networks, at its own size, with random weights; a FOLDER a trained
model's. Also printed: the largest difference of a probability from that of float32, which means
something for trained weights alone.
"""

import argparse
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch
from galaxies import galaxies_at_hand
from PIL import Image
from torchvision import transforms

from gz2vit.evaluation import PROBABILITY_COLUMNS
from gz2vit.paper import CROP_PX
from gz2vit.predict import PRECISIONS, InferenceOptions, Logits, choose_device, predict_images
from gz2vit.training import GalaxyClassifier, TrainingSettings, build_network, load_classifier

NETWORKS = ("linformer", "vit", "resnet50", "vgg16_bn", "hf_vit")


def make_model(key: str, folder: Path) -> None:
    """A model folder with random weights."""
    settings = TrainingSettings(key)
    classifier = GalaxyClassifier(build_network(settings), asdict(settings), [1.0] * 8)
    state = classifier.state_dict()
    content = {"hyper_parameters": dict(classifier.hparams), "state_dict": state}
    torch.save(content, folder / "best.ckpt")


@torch.inference_mode()
def plain_loop(paths: list[Path], folder: Path, device: torch.device) -> None:
    """What a notebook does: one image after the other, 64 to a batch, float32."""
    classifier = load_classifier(folder)
    network, size = classifier.network.to(device).eval(), classifier.settings.image_size
    steps = [transforms.CenterCrop(CROP_PX), transforms.Resize(size), transforms.ToTensor()]
    norm = transforms.Normalize(classifier.hparams["mean"], classifier.hparams["std"])
    transform = transforms.Compose([*steps, norm])
    for start in range(0, len(paths), 64):
        images = [transform(Image.open(path).convert("RGB")) for path in paths[start : start + 64]]
        network(torch.stack(images).to(device)).softmax(dim=1).cpu()


def bare(folder: Path, device: torch.device, precision: str, count: int) -> Callable[[], None]:
    """The network alone on one ready batch, until `count` images are done."""
    logits_of = Logits(load_classifier(folder), device, precision)
    size, px = 512 if device.type == "cuda" else 64, logits_of.classifier.settings.image_size
    images = torch.randint(0, 255, (size, 3, px, px), dtype=torch.uint8).to(device)

    def work() -> None:
        for _ in range(max(1, count // size)):
            logits_of(images)
        logits_of(images[:1]).cpu()

    return work


def measure(name: str, paths: list[Path], scratch: Path, rounds: int) -> None:
    """Take turns, and print a line of the network."""
    folder = Path(name)
    if name in NETWORKS:
        folder = scratch / name
        folder.mkdir()
        make_model(name, folder)
    device, tables, times = choose_device("auto"), {}, {}

    def end_to_end(precision: str) -> None:
        out = scratch / f"{precision}.csv"
        how = InferenceOptions(precision=precision)
        predict_images(folder, paths, out, how, overwrite=True)
        tables[precision] = pd.read_csv(out)[list(PROBABILITY_COLUMNS)].to_numpy()

    ways = {name: lambda name=name: end_to_end(name) for name in PRECISIONS}
    ways |= {f"bare {name}": bare(folder, device, name, len(paths)) for name in PRECISIONS}
    ways["plain"] = lambda: plain_loop(paths, folder, device)
    for _ in range(rounds):
        for way, work in ways.items():
            start = time.perf_counter()
            work()
            times.setdefault(way, []).append(time.perf_counter() - start)
    rate = {way: len(paths) / min(found) for way, found in times.items()}
    off = abs(tables["auto"] - tables["float32"]).max()
    print(f"{name}: " + ", ".join(f"{way} {one:.1f}" for way, one in rate.items()) + " images/s; "
          f"auto / float32 {rate['auto'] / rate['float32']:.2f}, / plain "
          f"{rate['auto'] / rate['plain']:.2f}, / its bare network "
          f"{rate['auto'] / rate['bare auto']:.2f}; largest difference of a probability {off:.4f}",
          flush=True)  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="folder of 424 px JPEG files (simulated ones)")
    parser.add_argument("--model", nargs="+", default=list(NETWORKS), help="keys or folders")
    parser.add_argument("--count", type=int, default=256, help="images in a turn")
    parser.add_argument("--rounds", type=int, default=3, help="turns")
    options = parser.parse_args()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    print(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    with TemporaryDirectory() as scratch:
        if options.images is None:
            with galaxies_at_hand(None) as (data, _):
                found = sorted((data / "images").glob("*.jpg"))[: options.count]
                paths = [Path(scratch) / path.name for path in found]
                for path, place in zip(found, paths, strict=True):
                    place.write_bytes(path.read_bytes())
        else:
            paths = sorted(options.images.glob("*.jpg"))[: options.count]
        if not paths:
            sys.exit(f"{options.images} holds no .jpg files")
        for name in options.model:
            measure(name, paths, Path(scratch), options.rounds)


if __name__ == "__main__":
    main()
