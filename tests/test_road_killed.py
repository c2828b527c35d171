"""A road that is killed in the middle of a training, and given again."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pandas as pd

from tests.unit.folders import make_folder

ROOT = Path(__file__).resolve().parents[1]
EPOCHS = 12
MODEL = "hf_vit"


def command(data: Path, results: Path) -> list[str]:
    """`./run_all.sh` for one small model."""
    words = ["smoke", "--data", str(data), "--results", str(results), "--only", MODEL]
    return [str(ROOT / "run_all.sh"), *words, "--set", f"{MODEL}.MAX_EPOCH={EPOCHS}"]


def kill_in_epoch(epoch: int, words: list[str]) -> None:
    """Start, and `kill -9` everything that was started after the given epoch's line."""
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout
    for line in process.stdout:
        if f"epoch {epoch:3}/{EPOCHS}" in line:
            os.killpg(process.pid, signal.SIGKILL)
            break
    else:
        raise AssertionError(f"epoch {epoch} was never reached")
    process.wait()


def outcome(results: Path) -> tuple[bytes, pd.DataFrame]:
    """What a training left, but for its times."""
    folder = results / "models" / MODEL
    history = pd.read_csv(folder / "history.csv").drop(columns="seconds")
    return (folder / "predictions.csv").read_bytes(), history


def test_a_killed_training_continues_and_ends_as_if_nothing_had_happened(tmp_path: Path):
    data, results = make_folder(tmp_path / "mine", per_class=3), tmp_path / "out"
    words = command(data, results)
    kill_in_epoch(4, words)
    assert not (results / "models" / MODEL / "predictions.csv").exists()
    again = subprocess.run(words, check=True, capture_output=True, text=True)
    assert "continuing after epoch" in again.stdout
    assert "epoch   1/" not in again.stdout
    predictions, history = outcome(results)
    shutil.rmtree(results / "models")
    whole = subprocess.run(words, check=True, capture_output=True, text=True)
    assert "epoch   1/" in whole.stdout
    assert predictions == outcome(results)[0]
    pd.testing.assert_frame_equal(history, outcome(results)[1], check_exact=True)
