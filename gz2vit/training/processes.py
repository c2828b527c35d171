"""Training on several devices: as many processes, started by Lightning, outside the notebook.

A notebook cannot be started twice, as Lightning's distributed strategies start a script. So the
run is written down in `unfinished/order.json` and done by `gz2vit.training.worker`, which Lightning
starts once for each device; what it prints appears in the notebook. When the notebook ends in
whatever way, the processes see the end of the pipe between them and end as well.
"""

import os
import subprocess
import sys
import threading
from pathlib import Path

import torch

from gz2vit.data.galaxies import LabelledImages
from gz2vit.errors import Gz2vitError
from gz2vit.results import write_json
from gz2vit.training.settings import TrainingSettings
from gz2vit.training.unfinished import Unfinished

STOP_SECONDS = 30  # for the processes to end by themselves


def train_in_processes(
    settings: TrainingSettings,
    train: LabelledImages,
    model_dir: Path,
    devices: int,
    acceleration: str,
) -> None:
    """Train on `devices` devices of this machine, until the run has ended.

    The galaxies are those of the results folder to which the store of `train` belongs. Raises
    `Gz2vitError` with what the process that failed says.
    """
    folder = Unfinished(model_dir).folder.resolve()
    failure = folder / "failure.txt"
    failure.unlink(missing_ok=True)
    order = {
        "settings": settings.as_dict(),
        "results_dir": str(train.store.path.resolve().parents[1]),
        "model_dir": str(model_dir.resolve()),
        "devices": devices,
        "acceleration": acceleration,
    }
    write_json(folder / "order.json", order)
    command = [sys.executable, "-m", "gz2vit.training.worker", str(folder / "order.json")]
    last = _run(command, devices)
    if failure.exists():
        raise Gz2vitError(failure.read_text(encoding="utf-8").strip())
    if last is not None:
        raise Gz2vitError(f"training on {devices} devices ended early: {last}")


def _run(command: list[str], devices: int) -> str | None:
    """Run the command and print what it prints; the last line that it printed if it failed."""
    threads = str(max(1, torch.get_num_threads() // devices))
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": threads},
    )
    # When the first process ends, so must the others, which may be waiting for it for ever.
    threading.Thread(target=_stop_with, args=[process], daemon=True).start()
    last = "no message"
    try:
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line.strip() or last
        return last if process.wait() else None
    finally:
        process.stdin.close()  # tells the processes to end, if they have not
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def _stop_with(process: subprocess.Popen) -> None:
    """Close the pipe that all processes watch when the first of them has ended."""
    process.wait()
    process.stdin.close()
