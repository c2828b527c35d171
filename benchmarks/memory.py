"""Memory while training on 1, 4 and 16 times as many galaxies.

    python benchmarks/memory.py [--data DIR] [--model KEY] [--copies N...] [--epochs N]

Repeats the training galaxies in the image cache so many times, trains on each for `--epochs` epochs
in a process of its own (where there is a GPU, on it), and prints the peaks that the process
reached: its own memory (RssAnon of /proc), and the pages of the image cache that the system kept in
memory for it (RssFile), which it takes back when it needs them. On a GPU also what lay on it.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from galaxies import galaxies_at_hand, open_galaxies

from gz2vit.training import TrainingSettings, build_network, train_model

FIGURES = ("RssAnon", "RssFile")
LOOK_SECONDS = 0.05


class MemoryPeaks(threading.Thread):
    """The highest figures of this process while it runs [kB]."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peaks = dict.fromkeys(FIGURES, 0)

    def run(self) -> None:
        """Look again and again."""
        while True:
            for line in Path("/proc/self/status").read_text().splitlines():
                name, _, value = line.partition(":")
                if name in self.peaks:
                    self.peaks[name] = max(self.peaks[name], int(value.split()[0]))
            time.sleep(LOOK_SECONDS)


def train_and_watch(results: Path, copies: int, options: argparse.Namespace) -> None:
    """In a process of its own: train and print the peaks as JSON."""
    train, valid = open_galaxies(results, copies)
    settings = TrainingSettings(options.model, max_epoch=options.epochs)
    watch = MemoryPeaks()
    watch.start()
    with TemporaryDirectory() as folder:
        train_model(build_network(settings), settings, train, valid, Path(folder))
    gpu = torch.cuda.max_memory_allocated() // 1024 if torch.cuda.is_available() else None
    print(json.dumps({"galaxies": len(train.cache), **watch.peaks, "GPU": gpu}))


def measure(copies: int, options: argparse.Namespace) -> dict[str, int | None]:
    """Galaxies and peaks of one size [kB]."""
    with galaxies_at_hand(options.data, copies) as (_, results):
        command = [sys.executable, __file__, "--model", options.model]
        command += ["--epochs", str(options.epochs), "--copies", str(copies), "--in", str(results)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a data folder; by default one is simulated")
    parser.add_argument("--model", default="linformer", help="the model key")
    parser.add_argument("--copies", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--in", type=Path, dest="results", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.results:
        train_and_watch(options.results, options.copies[0], options)
        return
    for copies in options.copies:
        found = measure(copies, options)
        galaxies, *memory = found.values()
        own, files, gpu = (round((kilobytes or 0) / 1024) for kilobytes in memory)
        print(f"{options.model}, {galaxies:,} galaxies: {own:,} MB of its own, {files:,} MB of "
              "files" + (f", {gpu:,} MB on the GPU" if gpu else ""), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
