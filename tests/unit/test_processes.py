"""One model trained by two processes: batch size and learning rate keep their meaning."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gz2vit.images import LabelledImages
from gz2vit.io import Gz2vitError
from gz2vit.training import load_classifier, train_model
from tests.unit.small_training import NETWORK, SETTINGS, make_results, open_splits

needs_two = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two processor cores")
# Without dropout, whose masks differ between processes, two must do what one does. 24 galaxies in
# batches of 5: the last batch has an odd number, and one process then an image more.
PLAIN = replace(SETTINGS, hyperparameters=NETWORK | {"dropout": 0.0}, batch_size=5, lr=1e-3,
                class_weights="tuned")  # fmt: skip
NOTEBOOK = """
import sys
from pathlib import Path
from tests.unit.test_processes import PLAIN, open_splits
from gz2vit.training import train_model
from dataclasses import replace
train, valid, _ = open_splits(Path(sys.argv[1]))
train_model(replace(PLAIN, max_epoch=10_000), train, valid, Path(sys.argv[2]), devices=2)
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_results(tmp_path_factory.mktemp("road"))


@pytest.fixture(scope="module")
def splits(results: Path) -> tuple[LabelledImages, ...]:
    return open_splits(results)


@needs_two
def test_two_processes_do_what_one_does(
    splits: tuple, tmp_path: Path, capsys: pytest.CaptureFixture
):
    one, two = tmp_path / "one", tmp_path / "two"
    alone = train_model(PLAIN, *splits[:2], one, acceleration="none")
    capsys.readouterr()
    together = train_model(PLAIN, *splits[:2], two, devices=2, acceleration="none")
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert len(told) == 3  # each epoch once, not once for each process
    for column in ("train_loss", "train_acc", "valid_loss", "valid_acc", "lr"):
        assert together[column].to_numpy() == pytest.approx(alone[column].to_numpy(), rel=1e-4)
    states = [load_classifier(folder).state_dict() for folder in (one, two)]
    assert all(torch.allclose(value, states[1][name], atol=1e-5)
               for name, value in states[0].items())  # fmt: skip
    record = json.loads((two / "params.json").read_text())
    assert record["sessions"][0]["devices"] == 2


@needs_two
def test_two_processes_continue_what_one_began(splits: tuple, tmp_path: Path):
    alone = train_model(PLAIN, *splits[:2], tmp_path / "one", acceleration="none")
    folder = tmp_path / "two"
    train_model(replace(PLAIN, max_epoch=1), *splits[:2], folder, acceleration="none")
    note = folder / "unfinished" / "run.json"
    run = json.loads(note.read_text())
    run["settings"]["max_epoch"] = PLAIN.max_epoch
    note.write_text(json.dumps(run))
    history = train_model(PLAIN, *splits[:2], folder, devices=2, acceleration="none")
    assert history.train_loss.to_numpy() == pytest.approx(alone.train_loss.to_numpy(), rel=1e-4)
    sessions = json.loads((folder / "params.json").read_text())["sessions"]
    assert [(one["after_epoch"], one["devices"]) for one in sessions] == [(0, 1), (1, 2)]


@needs_two
def test_what_a_process_says_of_a_failure_is_the_error(splits: tuple, tmp_path: Path):
    told = "loss of linformer became .* in epoch 1, batch .* at learning rate 1e.30"
    with pytest.raises(Gz2vitError, match=told):
        train_model(replace(PLAIN, lr=1e30), *splits[:2], tmp_path / "m", devices=2)


@pytest.mark.parametrize("devices", [0, -1, 10_000])
def test_devices_that_are_not_there_are_refused(splits: tuple, tmp_path: Path, devices: int):
    with pytest.raises(Gz2vitError, match=f"DEVICES is {devices}, but this machine has"):
        train_model(PLAIN, *splits[:2], tmp_path / "m", devices=devices)


@needs_two
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_the_processes_end_with_the_notebook(results: Path, tmp_path: Path, how: int):
    words = [sys.executable, "-c", NOTEBOOK, str(results), str(tmp_path / "m")]
    notebook = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    while not notebook.stdout.readline().startswith("epoch"):
        assert notebook.poll() is None
    order = str(tmp_path / "m" / "unfinished" / "order.json")
    assert len(processes_with(order)) == 2
    notebook.send_signal(how)
    notebook.wait(60)
    deadline = time.monotonic() + 30
    while processes_with(order) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_with(order) == []


def processes_with(text: str) -> list[int]:
    """Processes of which a word of the command line is `text`."""
    listed = subprocess.run(
        ["ps", "-ww", "-eo", "pid,args"], capture_output=True, text=True, check=True
    )
    lines = [line.split() for line in listed.stdout.splitlines()]
    return [int(line[0]) for line in lines if text in line]


def test_a_share_without_a_galaxy_adds_nothing():
    """The loss of a batch is the sum of its shares' losses, each divided by the whole's weights."""
    from gz2vit.batches import Batch
    from gz2vit.training import GalaxyClassifier

    torch.manual_seed(0)
    classifier = GalaxyClassifier(PLAIN.as_dict(), np.linspace(0.5, 4, 8).tolist()).eval()
    classifier.sums = {"valid": torch.zeros(3, dtype=torch.float64)}
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    classes = torch.tensor([1, 6])
    whole = classifier._step(Batch(images, classes, classes), "valid")
    shares = [
        classifier._step(Batch(images[:1], classes[:1], classes), "valid"),
        classifier._step(Batch(images[1:], classes[1:], classes), "valid"),
        classifier._step(Batch(images[:1], torch.tensor([-100]), classes), "valid"),
    ]
    assert shares[2].item() == 0
    assert sum(shares).item() == pytest.approx(whole.item(), rel=1e-6)
    assert classifier.sums["valid"][2] == 4
