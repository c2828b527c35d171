"""How fast galaxies are simulated by one process and by several, and whether they are the same.

    python benchmarks/simulation.py [--galaxies N] [--processes P] [--rounds N]

Each round simulates the same galaxies at 424 px, JPEG files and tables included, with one process
and with P (all cores); the fastest round counts. The start of the processes (about two seconds,
whatever N is) is in it. Every file of the two folders must be the same, byte for byte.
"""

import argparse
import os
import platform
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from gz2sim.folder import simulate


def timed(folder: Path, galaxies: int, processes: int) -> float:
    """Seconds to fill `folder`."""
    start = time.perf_counter()
    simulate(folder, galaxies, seed=1, processes=processes)
    return time.perf_counter() - start


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def main() -> None:
    """Measure, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--galaxies", type=int, default=400)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    print(f"{options.galaxies} galaxies, {platform.processor() or platform.machine()}")
    best = dict.fromkeys((1, options.processes), float("inf"))
    with TemporaryDirectory() as scratch:
        folders = {count: Path(scratch) / str(count) for count in best}
        for number in range(options.rounds):
            for count, folder in folders.items():
                place = folder / str(number)
                best[count] = min(best[count], timed(place, options.galaxies, count))
        first, *others = (contents(folder / "0") for folder in folders.values())
        same = all(other == first for other in others)
    for count, seconds in best.items():
        rate = options.galaxies / seconds
        print(f"{count} process(es): {rate:.1f} galaxies/s, {rate / count:.1f} a process")
    print(f"{best[1] / best[options.processes]:.2f} times as fast; all files the same: {same}")


if __name__ == "__main__":
    main()
