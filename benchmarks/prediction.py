"""`gz2vit predict` end to end, against the bare network and against a plain loop.

    python benchmarks/prediction.py [--images DIR] [--model KEY|FOLDER|bundled ...] [--rounds N]

Images a second, in one process, by turns, so that what else the machine does falls on all of them;
the fastest turn of each counts:

- predict, float32: `gz2vit predict` by default and with `--precision float32`, from JPEG files to
  the table; the time for one image is taken off, which is that of loading the network;
- bare: the same network, equally prepared, on one ready batch again and again;
- plain: PIL, torchvision's transforms and the network in float32, 64 images at a time.

A KEY is one of the paper's networks at its own size with random weights; a FOLDER a trained
model's; "bundled" the network in the box, whose numbers are of eight views each. Also: the largest
difference of a probability from float32, which means something for trained weights alone.
"""

import argparse
import platform
import time
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch
from PIL import Image
from torchvision import transforms

from gz2sim.folder import simulate
from gz2vit.evaluation import PROBABILITY_COLUMNS
from gz2vit.paper import CROP_PX
from gz2vit.predict import (
    InferenceOptions,
    Logits,
    choose_device,
    predict_images,
    symmetries,
)
from gz2vit.training import GalaxyClassifier, TrainingSettings, build_network, load_classifier

# Images in a turn on a CPU, so that all takes some five minutes on two cores; 16 times on a GPU.
COUNTS = {"linformer": 960, "vit": 128, "resnet50": 64, "vgg16_bn": 32, "hf_vit": 32, "bundled": 64}


def make_model(key: str, folder: Path) -> Path:
    """A model folder with random weights."""
    settings = TrainingSettings(key)
    classifier = GalaxyClassifier(build_network(settings), asdict(settings), [1.0] * 8)
    content = {"hyper_parameters": dict(classifier.hparams), "state_dict": classifier.state_dict()}
    folder.mkdir()
    torch.save(content, folder / "best.ckpt")
    return folder


@torch.inference_mode()
def plain_loop(paths: list[Path], model: Path | str, device: torch.device) -> float:
    """The time [s] of what a notebook does, one image after the other, float32."""
    classifier = load_classifier(model)
    network, size = classifier.network.to(device).eval(), classifier.settings.image_size
    steps = [transforms.CenterCrop(CROP_PX), transforms.Resize(size), transforms.ToTensor()]
    norm = transforms.Normalize(classifier.hparams["mean"], classifier.hparams["std"])
    transform, start = transforms.Compose([*steps, norm]), time.perf_counter()
    for first in range(0, len(paths), 64):
        images = [transform(Image.open(path).convert("RGB")) for path in paths[first : first + 64]]
        batch = torch.stack(images).to(device)
        for view in symmetries(batch) if classifier.temperature else [batch]:
            network(view).softmax(dim=1).cpu()
    return time.perf_counter() - start


def bare(count: int, model: Path | str, device: torch.device) -> float:
    """The time [s] of the network alone for `count` images."""
    logits_of = Logits(load_classifier(model), device, "auto")
    size, px = min(count, logits_of.batch_size), CROP_PX
    images = torch.randint(0, 255, (size, px, px, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    images = images.to(device)
    logits_of(images).cpu()
    start = time.perf_counter()
    for _ in range(count // size):
        found = logits_of(images)
    found.cpu()
    return (time.perf_counter() - start) * count / (count // size * size)


def measure(name: str, paths: list[Path], scratch: Path, rounds: int) -> dict:
    """Take turns; a row of the table."""
    model = make_model(name, scratch / name) if name in COUNTS and name != "bundled" else name
    device, tables, times = choose_device("auto"), {}, {}

    def predict(precision: str, images: list[Path]) -> float:
        out, start = scratch / f"{precision}.csv", time.perf_counter()
        predict_images(model, images, out, InferenceOptions(precision=precision), overwrite=True)
        tables[precision] = pd.read_csv(out)[list(PROBABILITY_COLUMNS)].to_numpy()
        return time.perf_counter() - start

    for _ in range(rounds):
        for precision in ("auto", "float32"):
            for kind, images in ((f"{precision} start", paths[:1]), (precision, paths)):
                times.setdefault(kind, []).append(predict(precision, images))
        times.setdefault("bare", []).append(bare(len(paths), model, device))
        times.setdefault("plain", []).append(plain_loop(paths, model, device))
    best, count = {kind: min(found) for kind, found in times.items()}, len(paths)
    rates = {kind: count / best[kind] for kind in ("bare", "plain")}
    for kind in ("auto", "float32"):
        rates[kind] = (count - 1) / (best[kind] - best[f"{kind} start"])
    ratios = {f"/ {kind}": rates["auto"] / rates[kind] for kind in ("float32", "bare", "plain")}
    row = {"network": name, "images": count, "predict": rates.pop("auto")} | rates | ratios
    return row | {"difference": abs(tables["auto"] - tables["float32"]).max()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="folder of 424 px JPEG files (simulated ones)")
    parser.add_argument("--model", nargs="+", default=list(COUNTS), help="keys or folders")
    parser.add_argument("--count", type=int, help="images in a turn (by network)")
    parser.add_argument("--rounds", type=int, default=3, help="turns")
    options = parser.parse_args()
    on_gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if on_gpu else platform.machine()
    print(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    with TemporaryDirectory() as scratch:
        if options.images is None:
            simulate(Path(scratch) / "data", 200, seed=1)
        folder = options.images or Path(scratch) / "data" / "images"
        found, rows = sorted(folder.glob("*.jpg")), []
        for name in options.model:
            count = options.count or COUNTS.get(name, 128) * (16 if on_gpu else 1)
            many = (found * -(-count // len(found)))[:count]
            rows.append(measure(name, many, Path(scratch), options.rounds))
            print(f"{name}: done", flush=True)
    print(pd.DataFrame(rows).to_markdown(index=False, floatfmt=(*("",) * 2, *(".1f",) * 4,
                                                                *(".2f",) * 3, ".4f")))  # fmt: skip


if __name__ == "__main__":
    main()
