"""Training: it learns, repeats itself bit for bit, resumes, and never loses a finished model."""

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import psutil
import pytest
import timm
import torch
from lightning.pytorch.callbacks import LambdaCallback
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from transformers import ViTConfig, ViTForImageClassification

from gz2vit import batches, models, training
from gz2vit.catalog import read_data_folder, write_selection
from gz2vit.evaluation import PROBABILITY_COLUMNS
from gz2vit.images import LabelledImages, pack_selection
from gz2vit.io import MODEL_FILES, ROOT, Gz2vitError, read_json, write_json
from gz2vit.models import BUILDERS, build_model, register_model
from gz2vit.paper import CLASS_NAMES, PUBLISHED_RESULTS, SCHEDULES
from gz2vit.predict import evaluate_model, predict, predict_images
from gz2vit.training import (
    HISTORY_COLUMNS,
    Acceleration,
    AtomicCheckpointIO,
    GalaxyClassifier,
    TrainingSettings,
    build_network,
    choose_acceleration,
    finish_training,
    identity,
    load_classifier,
    take_weights,
    train_model,
)
from gz2vit.workflow import load_profile, notebook_parameters
from tests.folders import make_folder
from tests.trained_run import NETWORK, SETTINGS, make_results, open_splits

ONCE = replace(SETTINGS, max_epoch=1)
LONG = replace(SETTINGS, max_epoch=6, early_stopping_epochs=6, lr=1e-3)
# Without dropout, whose masks differ between processes, two must do what one does. 24 galaxies in
# batches of 5: the last batch has an odd number, and one process then an image more.
PLAIN = replace(SETTINGS, hyperparameters=NETWORK | {"dropout": 0.0}, batch_size=5, lr=1e-3,
                class_weights="tuned")  # fmt: skip
VIT = {"image_size": 32, "patch_size": 8, "depth": 1, "dim": 16, "mlp_dim": 8, "heads": 2}
CONVNEXT = {"name": "timm/convnext_atto", "image_size": 32}
SMALL = {"linformer": NETWORK, "vit": VIT, "hf_vit": VIT, "backbone": CONVNEXT}
NO_DROPOUT = {"linformer": {"dropout": 0.0}, "vit": {"dropout": 0.0, "emb_dropout": 0.0}}
GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
P = list(PROBABILITY_COLUMNS)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_results(tmp_path_factory.mktemp("training"))


@pytest.fixture(scope="module")
def splits(results: Path) -> tuple[LabelledImages, ...]:
    return open_splits(results)


def train(settings: TrainingSettings, splits: tuple, folder: Path, *more: object) -> pd.DataFrame:
    """Train the network of the settings and put it in place."""
    history = train_model(build_network(settings), settings, *splits[:2], folder, *more)
    finish_training(folder)
    return history


def small(architecture: str) -> TrainingSettings:
    """One epoch of a small network of this architecture."""
    sizes = SMALL.get(architecture, {})
    words = {"model_key": "any", "architecture": architecture, "hyperparameters": sizes}
    return replace(ONCE, lr=1e-4, **words)


def start(settings: TrainingSettings, results: Path, folder: Path, *more: object):
    """The same in a process of its own, which may be killed."""
    code = """
import json, sys
from pathlib import Path
from gz2vit.images import open_split
from gz2vit.training import TrainingSettings, build_network, finish_training, train_model
settings = TrainingSettings(**json.loads(sys.argv[1]))
splits = [open_split(sys.argv[2], split) for split in ("train", "valid")]
print("ready", flush=True)
more = map(int, sys.argv[4:])
train_model(build_network(settings), settings, *splits, Path(sys.argv[3]), *more)
finish_training(Path(sys.argv[3]))
"""
    words = [json.dumps(asdict(settings)), *map(str, (results, folder, *more))]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-c", code, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT)


def assert_same_run(folder: Path, other: Path, test: LabelledImages) -> None:
    """History, weights and predictions are equal bit for bit."""
    tables = [pd.read_csv(one / "history.csv") for one in (folder, other)]
    histories = [table.drop(columns="seconds") for table in tables]
    pd.testing.assert_frame_equal(*histories, check_exact=True)
    predictions = [predict(load_classifier(one), test) for one in (folder, other)]
    pd.testing.assert_frame_equal(*predictions, check_exact=True)


@pytest.fixture(scope="module")
def undisturbed(splits: tuple, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model folder of a run that nothing happened to; tests only read it."""
    folder = tmp_path_factory.mktemp("undisturbed") / "m"
    train(LONG, splits, folder)
    return folder


# ---- What a run leaves


def test_a_run_leaves_its_files_and_records(results: Path, splits: tuple, capsys):
    folder = results / "models" / "linformer"
    network = build_network(SETTINGS)
    history = train_model(network, SETTINGS, *splits[:2], folder)
    assert not (folder / "best.ckpt").exists(), "nothing is in place before all is done"
    metrics = evaluate_model(results, "linformer", splits[2], network=network)
    assert sorted(path.name for path in folder.iterdir()) == sorted(MODEL_FILES)
    assert history.epoch.tolist() == [1, 2, 3]
    assert history.lr.tolist() == pytest.approx([3e-3, 3e-3, 1.5e-3])
    saved = pd.read_csv(folder / "history.csv")
    assert tuple(saved.columns) == HISTORY_COLUMNS
    pd.testing.assert_frame_equal(saved, history)
    assert read_json(folder / "metrics.json") == metrics
    assert metrics["best_epoch"] == int(history.valid_acc.idxmax()) + 1
    assert metrics["class_test_galaxies"] == [3] * 8
    assert capsys.readouterr().out.count("\nepoch ") + 1 == 3
    for split, name in (("test", "predictions"), ("valid", "validation_predictions")):
        table = pd.read_csv(folder / f"{name}.csv")
        assert table.columns.tolist() == ["GalaxyID", "class", "pred", *P]
        assert table[P].sum(axis=1).to_numpy() == pytest.approx(1)
        assert table.GalaxyID.tolist() == [f"{split}-{row:03d}" for row in range(24)]
    assert (table["class"] == table.pred).mean() == pytest.approx(metrics["valid_acc"])
    record = read_json(folder / "params.json")
    assert record["parameters"]["hyperparameters"] == NETWORK
    assert {"git_commit", "code", "identity", "versions", "sessions"} <= record.keys()
    assert record["network"]["parameters"] == metrics["parameters"]
    stored = torch.load(folder / "best.ckpt", weights_only=True)["hyper_parameters"]
    assert stored["crop_px"] == 64
    assert stored["mean"] == [0.094, 0.0815, 0.063]


@pytest.mark.parametrize("key", [*PUBLISHED_RESULTS, "backbone"])
def test_the_profile_paper_is_the_papers_training(key: str):
    architecture = key.removesuffix("_weighted")
    (book,) = (ROOT / "notebooks").glob(f"*_train_{architecture}.ipynb")
    values = {name: one.default for name, one in notebook_parameters(book).items()}
    values |= load_profile("paper").get(key, {})
    recipe = SCHEDULES.get(architecture, SCHEDULES["resnet50"])
    assert {name: values[name.upper()] for name in recipe} == dict(recipe)
    plain = TrainingSettings(key)  # what is not given is the paper's, too
    assert {name: getattr(plain, name) for name in recipe} == dict(recipe)
    same = {"batch_size": 64, "max_epoch": 200, "image_size": 224, "early_stopping_epochs": 10}
    for name, value in same.items():
        assert values[name.upper()] == getattr(plain, name) == value
    assert values["CLASS_WEIGHTS"] == ("tuned" if key.endswith("_weighted") else "uniform")
    scratch = architecture in ("linformer", "vit")
    assert values["WEIGHTS"] == ("none" if scratch else "imagenet")


BAD = {"batch_size": 0, "max_epoch": 2.5, "lr": -1.0, "gamma": float("inf")}


@pytest.mark.parametrize(("name", "value"), BAD.items())
def test_settings_are_checked(name: str, value: float):
    with pytest.raises(Gz2vitError, match=f"{name} is {value}"):
        replace(SETTINGS, **{name: value})


# ---- Learning


FAINT = TrainingSettings(
    "linformer", lr=1e-3, step_size=100, gamma=1.0, image_size=32, batch_size=8, max_epoch=8,
    hyperparameters=NETWORK | {"dim": 32, "dropout": 0.0},
)  # fmt: skip


@pytest.fixture(scope="module")
def faint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder of galaxies whose class shows in the central 64 px alone, and faintly.

    Around them is, brightly, the colour of a random class. So a network learns in eight epochs
    only with the right crop and normalisation, and is right only with the right order of classes.
    """
    results, rng = tmp_path_factory.mktemp("faint"), np.random.default_rng(1)
    folder = read_data_folder(make_folder(results / "mine", per_class=6))
    for table in folder.tables.values():
        for name, label in zip(table.galaxyID, table.label1, strict=True):
            pixels = np.empty((424, 424, 3))
            pixels[:] = [200 if rng.integers(8) >> band & 1 else 30 for band in range(3)]
            pixels[180:244, 180:244] = [24 + 10 * (label >> band & 1) for band in range(3)]
            noisy = np.clip(pixels + rng.normal(0, 4, pixels.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder.image_path(name), quality=95)
    write_selection(results, folder, folder.tables, "smoke")
    pack_selection(results, crop_px=64)
    return results


def reach_known_accuracy(faint: Path, key: str) -> None:
    settings, folder = replace(FAINT, model_key=key), faint / "models" / key
    splits = open_splits(faint)
    train_model(build_network(settings), settings, *splits[:2], folder)
    assert evaluate_model(faint, key, splits[2])["accuracy"] > 0.85  # chance: 0.125
    images = sorted((faint / "mine" / "images").glob("test-*.jpg"))
    predict_images(folder, images, folder / "table.csv", overwrite=True)
    table, saved = (pd.read_csv(folder / f"{name}.csv") for name in ("table", "predictions"))
    assert np.abs(table[P].to_numpy() - saved[P].to_numpy()).max() < 0.01  # whatever the precision
    labels = pd.read_csv(faint / "mine" / "gz2_test.csv").set_index("galaxyID").label1
    names = [CLASS_NAMES[label] for label in labels[table.GalaxyID]]
    assert (table.class_name == names).mean() > 0.85


def test_a_known_accuracy_is_reached(faint: Path):
    reach_known_accuracy(faint, "linformer")


@pytest.mark.parametrize(
    ("key", "mean", "std"),
    [("linformer", (0.094, 0.0815, 0.063), (0.1303, 0.11, 0.0913)),
     ("resnet50", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
     ("hf_vit", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), ("timm/test", (0.4, 0.3, 0.2), (0.3, 0.2, 0.1))],
)  # fmt: skip
def test_grey_levels_are_normalised_as_the_network_expects(key: str, mean: tuple, std: tuple):
    network = nn.Identity()
    network.pretrained_cfg = {"mean": mean, "std": std}
    classifier = GalaxyClassifier(network, asdict(TrainingSettings(key)), [1.0] * 8)
    seen = classifier(torch.full((1, 3, 2, 2), 51, dtype=torch.uint8))
    expected = (0.2 - torch.tensor(mean)) / torch.tensor(std)
    assert torch.allclose(seen[0, :, 0, 0], expected, atol=1e-5)


def test_every_part_trains_with_its_dropout_but_for_frozen_ones(splits: tuple, tmp_path: Path):
    modes, network = {}, build_network(ONCE)

    def note(trainer: object, module: GalaxyClassifier, *_: object) -> None:
        modes.update({name: part.training for name, part in module.network.named_modules()})

    watch = LambdaCallback(on_train_batch_start=note)
    train_model(network, ONCE, *splits[:2], tmp_path, callbacks=[watch])
    assert len(modes) > 10
    assert all(modes.values())
    frozen = small("backbone")
    frozen = replace(frozen, hyperparameters=CONVNEXT | {"freeze_backbone": True})
    network = build_network(frozen)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    train_model(network, frozen, *splits[:2], tmp_path / "m")
    changed = [n for n, t in network.state_dict().items() if not torch.equal(t, before[n])]
    assert changed == ["head.fc.weight", "head.fc.bias"]


def test_early_stopping_ends_a_run_once(splits: tuple, tmp_path: Path):
    settings = replace(LONG, lr=1e-12, max_epoch=9, early_stopping_epochs=2)
    for _ in range(2):
        network = build_network(settings)
        assert len(train_model(network, settings, *splits[:2], tmp_path)) == 3


def test_a_diverging_loss_keeps_the_best_weights(splits: tuple, tmp_path: Path):
    """A weight that is spoilt after two epochs: epoch, batch and rate are named."""
    with pytest.raises(Gz2vitError, match="epoch 1, batch .* 1e.30"):
        train(replace(SETTINGS, lr=1e30), splits, tmp_path / "at once")
    two, unfinished = replace(LONG, max_epoch=2), tmp_path / "unfinished"
    train_model(build_network(two), two, *splits[:2], tmp_path)
    best = (unfinished / "best.ckpt").read_bytes()
    state = torch.load(unfinished / "last.ckpt", weights_only=True)
    state["state_dict"]["network.mlp_head.1.weight"] *= 1e9
    torch.save(state, unfinished / "last.ckpt")
    continue_with(LONG, unfinished)
    with pytest.raises(Gz2vitError, match="epoch 3, batch 1, at learning rate 0.0005"):
        train(LONG, splits, tmp_path)
    assert (unfinished / "best.ckpt").read_bytes() == best


def continue_with(settings: TrainingSettings, unfinished: Path) -> None:
    """Let the unfinished run be one of other settings."""
    run = read_json(unfinished / "run.json")
    run["identity"]["settings"] = json.loads(json.dumps(asdict(settings)))
    write_json(unfinished / "run.json", run)


# ---- Interrupted and resumed


def test_killed_at_random_moments_it_ends_the_same(
    results: Path, splits: tuple, undisturbed: Path, tmp_path: Path
):
    folder, seed = tmp_path / "m", random.SystemRandom().randrange(1 << 32)
    print(f"moments drawn with seed {seed}")
    chance = random.Random(seed)
    for _ in range(2):
        process = start(LONG, results, folder)
        assert process.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0, 2.0))  # it makes the network, and some of its epochs
        process.kill()
        assert process.wait() in (-signal.SIGKILL, 0), process.stdout.read()
    assert len(train(LONG, splits, folder)) == 6
    assert_same_run(folder, undisturbed, splits[2])


def test_twenty_killed_runs_of_changing_settings_lose_no_finished_model(
    splits: tuple, tmp_path: Path
):
    """Every checkpoint once finished is still there, in its place or among the replaced."""
    folder, chance = tmp_path / "m", random.Random(random.SystemRandom().randrange(1 << 32))
    train(ONCE, splits, folder)
    finished = {(folder / "best.ckpt").read_bytes()}
    for _ in range(20):
        settings = replace(ONCE, lr=chance.choice([1e-4, 5e-4]), max_epoch=chance.choice([1, 2]))
        if not (child := os.fork()):
            with contextlib.suppress(BaseException):
                train(settings, splits, folder)
            os._exit(0)
        time.sleep(chance.uniform(0.05, 1.5))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        kept = {path.read_bytes() for path in folder.glob("replaced/*/best.ckpt")}
        if (folder / "best.ckpt").exists():
            kept.add((folder / "best.ckpt").read_bytes())
        assert finished <= kept
        finished |= kept
    train(settings, splits, folder)
    assert load_classifier(folder).settings.lr == settings.lr


def test_resumed_after_any_epoch_it_ends_the_same_in_another_place(
    splits: tuple, undisturbed: Path, tmp_path: Path
):
    folder = tmp_path / "m"

    def copy(trainer: object, module: GalaxyClassifier) -> None:  # what a kill in it would leave
        place = tmp_path / "after" / str(module.current_epoch) / "unfinished"
        shutil.copytree(folder / "unfinished", place)

    watch = LambdaCallback(on_train_epoch_start=copy)
    train_model(build_network(LONG), LONG, *splits[:2], folder, callbacks=[watch])
    for epochs in range(6):
        place = tmp_path / "after" / str(epochs)
        assert (place / "unfinished" / "last.ckpt").exists() == (epochs > 0)
        assert len(train(LONG, splits, place)) == 6
        assert_same_run(place, undisturbed, splits[2])
        sessions = read_json(place / "params.json")["sessions"]
        assert sessions[-1]["after_epoch"] == epochs


def test_an_unfinished_run_of_another_kind_is_set_aside(
    splits: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    def unfinished(settings: TrainingSettings, *galaxies: LabelledImages) -> str:
        train_model(build_network(settings), settings, *galaxies, tmp_path)
        return capsys.readouterr().out

    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "notes.txt").write_text("mine")
    first, valid, _ = splits
    unfinished(ONCE, first, valid)
    slower = replace(ONCE, lr=1e-4)
    assert "with other settings" in unfinished(slower, first, valid)
    turned = replace(valid, class_index=valid.class_index[::-1].copy())
    assert "with other valid" in unfinished(slower, first, turned)
    monkeypatch.setattr(training.io, "files_hash", lambda patterns: "another")
    assert "with other code" in unfinished(slower, first, turned)
    assert len(list((tmp_path / "replaced").glob("*_unfinished/last.ckpt"))) == 3
    assert len(list(tmp_path.rglob("notes.txt"))) == 1


def test_a_full_disk_is_one_error_and_loses_no_epoch(splits: tuple, tmp_path: Path):
    """A limit on the size of files stands in for the disk: writing fails in the same place."""
    train_model(build_network(ONCE), ONCE, *splits[:2], tmp_path)
    last = tmp_path / "unfinished" / "last.ckpt"
    before, hard = last.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        with pytest.raises(Gz2vitError, match=f"cannot write {last}.* disk full"):
            AtomicCheckpointIO().save_checkpoint({"much": torch.zeros(len(before))}, last)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert last.read_bytes() == before
    assert not list(last.parent.glob(".last*"))
    last.write_bytes(before[:1000])
    with pytest.raises(Gz2vitError, match="last.ckpt cannot be read"):
        train(ONCE, splits, tmp_path)


def test_ctrl_c_leaves_the_notebook_alive(splits: tuple, tmp_path: Path):
    press = LambdaCallback(on_train_epoch_start=lambda *_: os.kill(os.getpid(), signal.SIGINT))
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train_model(build_network(ONCE), ONCE, *splits[:2], tmp_path, callbacks=[press])
    assert signal.getsignal(signal.SIGINT) == handler


# ---- Finished models


def test_a_finished_model_is_trained_again_only_on_request(
    splits: tuple, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    def trains(settings: TrainingSettings = ONCE, galaxies: tuple = splits) -> bool:
        network = build_network(settings)
        train_model(network, settings, *galaxies[:2], tmp_path)
        finish_training(tmp_path)
        state = load_classifier(tmp_path).network.state_dict()
        assert all(torch.equal(one, state[name]) for name, one in network.state_dict().items())
        return "epoch " in capsys.readouterr().out

    def older() -> int:
        return len(list((tmp_path / "replaced").glob("*/best.ckpt")))

    slower = replace(ONCE, lr=1e-4)
    assert trains()
    assert not trains()
    monkeypatch.setattr(training.io, "files_hash", lambda patterns: "another")
    assert not trains(), "changed code trains nothing again"
    assert older() == 0
    assert trains(slower)
    assert older() == 1
    (tmp_path / "retrain").touch()
    assert trains(slower)
    assert not (tmp_path / "retrain").exists()
    assert not trains(slower)
    with pytest.raises(Gz2vitError):
        trains(replace(ONCE, lr=1e30))
    assert not trains(slower), "a failing successor replaces nothing"
    record = splits[0].cache.record | {"source": "other pixels"}
    other = replace(splits[0], cache=replace(splits[0].cache, record=record))
    assert trains(slower, (other, *splits[1:]))
    assert older() == 3


@pytest.mark.parametrize("changed", [False, True])
def test_publishing_killed_at_any_file_loses_nothing(
    splits: tuple, tmp_path: Path, monkeypatch, changed: bool
):
    """Whether the same training comes next or one of other settings."""
    train(ONCE, splits, tmp_path / "m")
    (tmp_path / "m" / "metrics.json").write_text("{}")  # of which the new one has none
    other = replace(ONCE, lr=1e-4)
    train_model(build_network(other), other, *splits[:2], tmp_path / "m")
    old, new = ((tmp_path / "m" / f / "best.ckpt").read_bytes() for f in ("", "unfinished"))
    real = {name: getattr(Path, name) for name in ("replace", "unlink")}
    for allowed in range(30):
        folder = shutil.copytree(tmp_path / "m", tmp_path / str(allowed))
        left = iter(range(allowed))

        def limited(name: str, left=left):
            def act(path: Path, *words: object, **options: object) -> Path | None:
                if next(left, None) is None:
                    raise KeyboardInterrupt
                return real[name](path, *words, **options)

            return act

        with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            for name in real:
                patch.setattr(Path, name, limited(name))
            finish_training(folder)
        train(ONCE if changed else other, splits, folder)
        place, *replaced = [folder, *sorted(folder.glob("replaced/*"))]
        kept = [(one / "best.ckpt").read_bytes() for one in replaced]
        if not changed:
            assert kept == [old]
            assert (replaced[0] / "metrics.json").exists()
            assert (place / "best.ckpt").read_bytes() == new
        assert {old, new} <= {*kept, (place / "best.ckpt").read_bytes()}
        assert not (folder / "unfinished").exists()
        if next(left, None) is not None:
            break
    assert 5 < allowed < 29


# ---- The network on the page


@pytest.mark.parametrize("number", ["07", "08", "09", "10", "11", "12"])
def test_the_network_on_the_page_is_the_one_that_is_built(number: str):
    (book,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
    cells = [c.source for c in nbformat.read(book, as_version=4).cells if c.cell_type == "code"]
    imports, parameters, settings, _, network, *_ = cells
    page: dict = {}
    exec("\n".join([imports, parameters, settings, network]), page)
    assert training.compare_network(page["network"], page["settings"]) == ([], "")


def test_a_network_of_the_users_own_is_trained_tested_and_named(
    results: Path, splits: tuple, builders: None
):
    def build(**sizes: object) -> nn.Module:
        network = build_model("vit", **sizes)
        network.mlp_head.append(nn.Linear(8, 8))
        return network

    settings = replace(ONCE, model_key="linformer", architecture="vit", hyperparameters=VIT)
    torch.manual_seed(0)
    network, folder = build(**VIT), results / "models" / "own"
    train_model(network, settings, *splits[:2], folder)
    evaluate_model(results, "own", splits[2], network=network)
    record = read_json(folder / "params.json")["network"]
    assert record["parameters"] == models.count_parameters(build_model("vit", **VIT)) + 72
    assert record["differs"] == ["mlp_head.2", "mlp_head.2.weight", "mlp_head.2.bias"]
    with pytest.raises(Gz2vitError, match=r"mlp_head\.2.*register_model") as caught:
        load_classifier(folder)
    assert "\n" not in str(caught.value)
    register_model("vit", build)
    saved = pd.read_csv(folder / "predictions.csv")
    table = predict(load_classifier(folder), splits[2])
    assert np.abs(table[P] - saved[P]).max().max() < 1e-12


def test_another_network_is_another_training(splits: tuple):
    network = build_network(SETTINGS)
    assert training.compare_network(network, SETTINGS)[1] == ""
    network.mlp_head[1].bias.requires_grad = False
    differs, frozen = training.compare_network(network, SETTINGS)
    assert differs == []
    other = training.compare_network(build_network(replace(SETTINGS, seed=3)), SETTINGS)[1]
    assert len({"", frozen, other}) == 3
    assert identity(SETTINGS, *splits[:2], frozen) != identity(SETTINGS, *splits[:2])


# ---- Checkpoints and starting weights


@pytest.mark.parametrize("architecture", [one for one in BUILDERS if one != "vgg16_bn"])
def test_a_checkpoint_predicts_the_bits_of_the_network_that_was_trained(
    splits: tuple, tmp_path: Path, architecture: str
):
    """Trained for an epoch, so that running means and all else that is stored have moved."""
    settings = small(architecture)
    network = build_network(settings)
    train_model(network, settings, *splits[:2], tmp_path)
    finish_training(tmp_path)
    ours = predict(GalaxyClassifier(network, asdict(settings), [1.0] * 8), splits[2])
    again = predict(load_classifier(tmp_path), splits[2])
    pd.testing.assert_frame_equal(ours, again, check_exact=True)


def test_a_foreign_or_damaged_checkpoint_is_refused_and_runs_nothing(splits: tuple, tmp_path: Path):
    class Bomb:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "exploded",))

    path = tmp_path / "best.ckpt"
    start_there = replace(SETTINGS, weights=str(path))
    with pytest.raises(Gz2vitError, match="best.ckpt"):
        take_weights(build_network(start_there), start_there)
    contents = [{"hyper_parameters": Bomb(), "state_dict": {}}, {"state_dict": {}}, [1, 2]]
    for content in [*contents, b"not a checkpoint"]:
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
        for use in (load_classifier, lambda _: take_weights(build_network(SETTINGS), start_there)):
            with pytest.raises(Gz2vitError, match="best.ckpt is not a checkpoint of this suite"):
                use(tmp_path)
    assert not (tmp_path / "exploded").exists()
    with pytest.raises(Gz2vitError, match="--only resnet50"):
        load_classifier(tmp_path / "results" / "demo" / "models" / "resnet50")


def test_published_weights_are_taken_but_for_the_last_layer(tmp_path: Path):
    settings = TrainingSettings("resnet50", weights=str(tmp_path / "donor.pth"))
    torch.manual_seed(7)
    donor = build_model("resnet50", num_classes=1000)
    torch.save(donor.state_dict(), tmp_path / "donor.pth")
    network = build_network(settings)
    last = network.fc.weight.clone()
    record = take_weights(network, settings)
    assert torch.equal(network.conv1.weight, donor.conv1.weight)
    assert torch.equal(network.fc.weight, last)
    assert (record["source"], len(record["sha256"])) == (settings.weights, 64)
    network.extra = nn.Linear(2, 2)
    take_weights(network, settings, ["extra"])
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "donor.pth")
    with pytest.raises(Gz2vitError, match="do not fit the resnet50.*conv1.weight"):
        take_weights(build_network(settings), settings)


def test_local_weights_of_the_libraries_are_a_start(tmp_path: Path):
    sizes = dict(image_size=32, patch_size=8, hidden_size=16, num_hidden_layers=1)
    sizes |= dict(num_attention_heads=2, intermediate_size=8, num_labels=1000)
    donor = ViTForImageClassification(ViTConfig(**sizes))
    donor.save_pretrained(tmp_path / "donor")
    settings = TrainingSettings("hf_vit", hyperparameters=VIT, weights=str(tmp_path / "donor"))
    network = build_network(settings)
    take_weights(network, settings)
    own = network.model.vit.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in donor.vit.state_dict().items())
    deeper = replace(settings, hyperparameters=VIT | {"depth": 2})
    with pytest.raises(Gz2vitError, match="hf_vit"):
        take_weights(build_network(deeper), deeper)

    path = tmp_path / "donor.safetensors"
    other = timm.create_model("convnext_atto", num_classes=1000)
    save_file(other.state_dict(), path)
    settings = replace(small("backbone"), weights=str(path))
    network = build_network(settings)
    take_weights(network, settings)
    assert torch.equal(network.stem[0].weight, other.stem[0].weight)
    save_file({"foreign": torch.zeros(2)}, path)
    with pytest.raises(Gz2vitError, match="timm/convnext_atto"):
        take_weights(network, settings)


@pytest.mark.parametrize("name", ["", "best.ckpt"])
def test_a_trained_network_is_the_start_with_its_last_layer(splits: tuple, tmp_path, name: str):
    """With next to no learning rate, what comes out is what went in; its dropout may differ."""
    train(replace(ONCE, hyperparameters=NETWORK | {"dropout": 0.5}), splits, tmp_path / "donor")
    settings = replace(ONCE, seed=5, lr=1e-12, weights=str(tmp_path / "donor" / name))
    train(settings, splits, tmp_path / "tuned")
    donor, tuned = (load_classifier(tmp_path / n).network.state_dict() for n in ("donor", "tuned"))
    assert all(torch.allclose(tuned[key], donor[key], atol=1e-7) for key in donor)
    record = read_json(tmp_path / "tuned" / "params.json")
    assert record["weights"]["source"] == settings.weights
    known = identity(settings, *splits[:2])
    moved = shutil.copytree(tmp_path / "donor", tmp_path / "moved") / name
    assert identity(replace(settings, weights=str(moved)), *splits[:2]) == known
    path = tmp_path / "donor" / "best.ckpt"
    path.write_bytes(path.read_bytes() + b"more")
    assert identity(settings, *splits[:2]) != known


def test_a_trained_network_that_does_not_fit_is_named(splits: tuple, tmp_path: Path):
    train(replace(ONCE, hyperparameters=NETWORK | {"dim": 32, "depth": 2}), splits, tmp_path)
    for settings, words in (
        (SETTINGS, r"\[8, 32\].*\[8, 16\]"),
        (TrainingSettings("resnet50"), "of linformer, not of resnet50"),
    ):
        with pytest.raises(Gz2vitError, match=words):
            take_weights(build_network(settings), replace(settings, weights=str(tmp_path)))


# ---- Devices and acceleration

needs_two = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two processor cores")


@needs_two
def test_two_processes_do_what_one_does_and_continue_it(splits: tuple, tmp_path: Path, capfd):
    alone = train(PLAIN, splits, tmp_path / "one", 1, "none")
    first = replace(PLAIN, max_epoch=1)
    train_model(build_network(first), first, *splits[:2], tmp_path / "two", acceleration="none")
    continue_with(PLAIN, tmp_path / "two" / "unfinished")
    capfd.readouterr()
    together = train(PLAIN, splits, tmp_path / "two", 2, "none")
    assert capfd.readouterr().out.count("epoch ") == 3  # one of it is the line about resuming
    for column in ("train_loss", "train_acc", "valid_loss", "valid_acc", "lr"):
        assert together[column].to_numpy() == pytest.approx(alone[column].to_numpy(), rel=1e-4)
    one, two = (load_classifier(tmp_path / name).state_dict() for name in ("one", "two"))
    assert all(torch.allclose(value, two[name], atol=1e-5) for name, value in one.items())
    sessions = read_json(tmp_path / "two" / "params.json")["sessions"]
    assert [(one["after_epoch"], one["devices"]) for one in sessions] == [(0, 1), (1, 2)]


@needs_two
def test_a_failure_of_a_process_is_the_error(splits: tuple, tmp_path: Path):
    with pytest.raises(Gz2vitError, match="epoch 1, batch .* at learning rate 1e.30"):
        train(replace(PLAIN, lr=1e30), splits, tmp_path, 2)


@pytest.mark.parametrize("devices", [0, -1, 10_000])
def test_devices_that_do_not_exist_are_refused(splits: tuple, tmp_path: Path, devices: int):
    with pytest.raises(Gz2vitError, match=f"DEVICES is {devices}"):
        train(PLAIN, splits, tmp_path, devices)


@needs_two
def test_the_processes_end_with_the_notebook(results: Path, tmp_path: Path):
    notebook = start(replace(PLAIN, max_epoch=10_000), results, tmp_path / "m", 2)
    while not notebook.stdout.readline().startswith("epoch"):
        assert notebook.poll() is None
    begun = psutil.Process(notebook.pid).children(recursive=True)
    assert len(begun) >= 2
    notebook.kill()
    notebook.wait(60)
    psutil.wait_procs(begun, timeout=30)
    ended = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    assert all(not one.is_running() or one.status() in ended for one in begun)


def test_shares_of_a_batch_add_up():
    """The loss of a batch is the sum of its shares' losses; one without a galaxy adds nothing."""
    weights = np.linspace(0.5, 4, 8).tolist()
    classifier = GalaxyClassifier(build_network(PLAIN), asdict(PLAIN), weights).eval()
    images, classes = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8), torch.tensor([1, 6])
    parts = [(images, classes), (images[:1], classes[:1]), (images[1:], classes[1:])]
    parts += [(images[:1], torch.tensor([-100]))]
    whole, *shares = (classifier.loss_of(*one, classes)[1] for one in parts)
    assert shares[2].tolist() == [0, 0, 0, 0]
    assert sum(shares).tolist() == pytest.approx(whole.tolist(), rel=1e-6)


@pytest.mark.parametrize(
    ("capability", "precision"),
    [((9, 0), "bf16-mixed"), ((8, 0), "bf16-mixed"), ((7, 5), "16-mixed"), ((6, 1), "32-true")],
)
def test_a_device_gets_what_its_generation_has(capability: tuple, precision: str, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    for name, last in (("linformer", False), ("resnet50", True), ("hf_vit", False)):
        for images, compiled in ((training.COMPILE_FROM - 1, False), (1e8, capability[0] > 6)):
            chosen = choose_acceleration("auto", name, GPU, images)
            assert chosen == Acceleration(precision, compiled, last, capability[0] > 6)
        assert choose_acceleration("none", name, GPU) == Acceleration()
    for able, half in ((True, "bf16-mixed"), (False, "32-true")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda able=able: able)
        assert choose_acceleration("auto", "resnet50", CPU) == Acceleration(half)
    with pytest.raises(Gz2vitError, match="acceleration is 'fast'"):
        choose_acceleration("fast", "resnet50", CPU)


# ---- A GPU's way to train, here on a CPU: images of the device, one traced function a step


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are made as on a GPU, of images that lie there."""
    made = training.make_batches

    def moved(*words: object) -> dict[str, batches.Batches]:
        found = made(*words)
        for one in found.values():
            one.device, one.images = CPU, batches.load_images(one.cache, one.image_size, CPU)
        return found

    monkeypatch.setattr(training, "make_batches", moved)


def test_a_gpus_way_learns_what_the_cpus_does(
    splits: tuple, tmp_path: Path, request: pytest.FixtureRequest
):
    """The same draws; a GPU does not round augmented images to grey levels."""
    settings = replace(PLAIN, max_epoch=3, lr=1e-4, batch_size=20)
    cpu, other = (train(one, splits, tmp_path / str(one.seed)) for one in
                  (settings, replace(settings, seed=1)))  # fmt: skip
    request.getfixturevalue("on_device")
    gpu = train(settings, splits, tmp_path / "gpu")
    for name in ("train_loss", "valid_loss"):
        assert gpu[name].to_numpy() == pytest.approx(cpu[name].to_numpy(), rel=2e-3)
        assert not np.allclose(other[name], cpu[name], rtol=2e-3)


@pytest.mark.parametrize("architecture", ["linformer", "vit", "hf_vit"])
def test_a_step_is_one_graph_and_changes_nothing(architecture: str):
    """From grey levels and matrices to the loss and its gradients, nothing in Python between."""
    sizes = SMALL.get(architecture, {}) | NO_DROPOUT.get(architecture, {})
    settings = replace(small(architecture), batch_size=3, hyperparameters=sizes)
    classifier = GalaxyClassifier(build_network(settings), asdict(settings), [1.0] * 8)
    images, classes = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8), torch.arange(3)
    draws = batches.draw(np.random.default_rng(0), 3, 32)
    matrices = torch.from_numpy(batches.affine_matrices(draws)).float()
    found = []
    for compiled in (False, True):
        chosen = Acceleration("bf16-mixed", compiled, False, True)
        classifier.use(chosen, backend="eager", fullgraph=True)
        classifier.zero_grad()
        loss, figures = classifier.compute(batches.Batch(images, classes, classes, matrices))
        loss.backward()
        slopes = [one.grad.clone() for one in classifier.parameters() if one.grad is not None]
        found.append([loss.detach(), figures, *slopes])
    assert all(torch.allclose(*pair, rtol=1e-3, atol=1e-5) for pair in zip(*found, strict=True))


def test_next_to_nothing_is_done_in_python_for_a_batch(
    splits: tuple, tmp_path: Path, on_device: None
):
    """All that there is beside the network, in calls of Python functions for each batch."""
    calls: Counter = Counter()
    for batch_size in (2, 16):
        settings = replace(PLAIN, batch_size=batch_size, max_epoch=1)

        def note(frame: object, event: str, _: object, key: int = batch_size) -> None:
            calls[key] += event == "call"

        watch = LambdaCallback(
            on_train_epoch_start=lambda *_, note=note: sys.setprofile(note),
            on_validation_start=lambda *_: sys.setprofile(None),
        )
        network, folder = nn.Sequential(nn.Flatten(), nn.LazyLinear(8)), tmp_path / str(batch_size)
        network(torch.zeros(1, 3, 32, 32))
        train_model(network, settings, *splits[:2], folder, 1, "none", [watch])
    assert (calls[2] - calls[16]) / (24 - 3) < 300


@pytest.mark.gpu
def test_a_gpu_learns_what_a_cpu_learns(faint: Path):
    reach_known_accuracy(faint, "linformer_weighted")
    record = read_json(faint / "models" / "linformer_weighted" / "params.json")
    assert record["sessions"][-1]["precision"] != "32-true"
    assert record["device"] != "cpu"


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["32-true", "16-mixed", "bf16-mixed"])
def test_a_captured_step_is_the_step(
    splits: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
):
    """With learning rates that change, a smaller last batch, and from where a run has ended."""
    chosen, found = Acceleration(precision), []
    monkeypatch.setattr(training, "choose_acceleration", lambda *_: chosen)
    settings = replace(PLAIN, max_epoch=4, step_size=1, gamma=0.5, lr=1e-3)
    for warm_up in (3, 10**6):
        monkeypatch.setattr(training, "WARM_UP", warm_up)
        folder, first = tmp_path / str(warm_up), replace(settings, max_epoch=2)
        train_model(build_network(first), first, *splits[:2], folder)
        continue_with(settings, folder / "unfinished")
        found.append(train(settings, splits, folder))
    for name in ("train_loss", "valid_loss", "lr"):
        assert found[0][name].to_numpy() == pytest.approx(found[1][name].to_numpy(), rel=2e-3)
    assert found[0].lr.tolist() == pytest.approx([1e-3, 5e-4, 2.5e-4, 1.25e-4])


@pytest.mark.gpu
def test_a_captured_step_draws_its_dropout_anew():
    settings = replace(PLAIN, hyperparameters=NETWORK | {"dropout": 0.5})
    classifier = GalaxyClassifier(build_network(settings), asdict(settings), [1.0] * 8)
    step = training.Replayed(classifier.to(GPU).train().judge)
    images, classes = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8), torch.arange(5)
    batch, found = [one.to(GPU) for one in (images, classes, classes)], {}
    for seed in (0, 0, 0, 1, 2, 1, 2):  # the first three before the capture
        torch.manual_seed(seed)
        found.setdefault(seed, []).append([float(step(*batch)[0]) for _ in range(2)])
    assert found[1][0] == found[1][1]
    assert len({*found[1][0], *found[2][0]}) == 4


@pytest.mark.gpu
@pytest.mark.parametrize("room", [True, False])
@pytest.mark.parametrize("architecture", BUILDERS)
def test_every_network_trains_on_a_gpu(
    splits: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str, room: bool
):
    monkeypatch.setattr(training, "fits_on_device", lambda *_: room)
    if architecture == "linformer" and room:  # as long trainings are
        monkeypatch.setattr(training, "COMPILE_FROM", 0)
    settings = replace(small(architecture), max_epoch=3)
    fast = train(settings, splits, tmp_path / "auto")
    assert np.isfinite(fast.valid_loss).all()
    plain = train(settings, splits, tmp_path / "none", 1, "none")
    assert fast.train_loss[0] == pytest.approx(plain.train_loss[0], rel=0.1)
