"""Packing at full size by the one command, beside the plain decoding of the same images.

    python benchmarks/packing.py --images DIR --scratch DIR [--labels DIR] [--galaxies N]
                                 [--kill-half-way]

Makes a data folder of N galaxies below the scratch folder: the ids and classes of the label tables
of `--labels` (numbers where there are none), each id a hard link to one of the real images of
`--images`, in turn. Then, in one run: as many processes as cores only decode a sample with
`read_image`; `./run_all.sh paper --only pack` packs all. Printed are both rates, their ratio, and
the memory of our processes together (/proc: RssAnon, and Pss_Anon, which counts shared pages once).
With `--kill-half-way` the command's processes get SIGKILL at about half, and the command is
given again.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd

from gz2vit.catalog import SPLITS
from gz2vit.paper import CLASS_COUNT, CROP_PX, SPLIT_FRACTIONS

ROOT = Path(__file__).resolve().parents[1]
SAMPLE, WARM_UP, PIECE = 8000, 512, 64
SAMPLING_SECONDS = 1.0  # four samples a second took 2 s of processor time in a run of 25 s


def main() -> None:
    """Build the folder, measure both, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="folder of 424 px JPEG files")
    parser.add_argument("--scratch", type=Path, required=True, help="26 GB for 155,951 galaxies")
    parser.add_argument("--labels", type=Path, help="folder of gz2_{train,valid,test}.csv")
    parser.add_argument("--galaxies", type=int, default=155_951)
    parser.add_argument("--kill-half-way", action="store_true")
    options = parser.parse_args()
    folder, results = options.scratch / "gz2_data", options.scratch / "results"
    shutil.rmtree(results, ignore_errors=True)
    links = build_folder(folder, options.images, options.labels, options.galaxies)
    cores = len(os.sched_getaffinity(0))
    print(f"{len(links):,} galaxies, {cores} cores", flush=True)
    # Before and after the packing: on a machine that others use the mean is fairer.
    rates = [decode_rate(links, cores)]
    command = [str(ROOT / "run_all.sh"), "paper", "--data", str(folder), "--results", str(results)]
    command += ["--only", "pack"]
    if options.kill_half_way:
        kill_half_way(command, results, len(links))
    packed, watch, seconds = pack(command)
    rates.append(decode_rate(links, cores))
    plain = sum(rates) / len(rates)
    both = " and ".join(f"{rate:,.0f}" for rate in rates)
    print(f"plain decoding, {cores} processes: {plain:,.0f} images/s ({both})")
    print(f"packing: {packed:,.0f} images/s, {packed / plain:.2f} of it")
    print(f"whole command: {seconds:.0f} s")
    peaks = ", ".join(f"{name} {kilobytes / 1e6:.2f} GB" for name, kilobytes in watch.peaks.items())
    print(f"memory of all processes together at its peak: {peaks}")
    gigabytes = sum(path.stat().st_size for path in results.glob("store/*/*.npy")) / 1e9
    print(f"image cache: {gigabytes:.2f} GB")


def build_folder(folder: Path, images: Path, labels: Path | None, galaxies: int) -> list[Path]:
    """A data folder of hard links; the paths of its images."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "images").mkdir(parents=True)
    real, links = sorted(images.glob("*.jpg")), []
    try:
        os.link(real[0], folder / "try")
        (folder / "try").unlink()
    except OSError:  # another disk, or others' files
        copies = folder.parent / "copies"
        copies.mkdir(exist_ok=True)
        real = [Path(shutil.copy(path, copies)) for path in real]
    for split, table in label_tables(labels, galaxies).items():
        table.to_csv(folder / f"gz2_{split}.csv", index=False)
        for name in table.galaxyID:
            links.append(folder / "images" / f"{name}.jpg")
            os.link(real[len(links) % len(real)], links[-1])
    return links


def label_tables(labels: Path | None, galaxies: int) -> dict[str, pd.DataFrame]:
    """Label tables of about so many galaxies, each split with its share."""
    tables, first = {}, 1
    for split in SPLITS:
        count = max(CLASS_COUNT, round(galaxies * SPLIT_FRACTIONS[split]))
        if labels is None:
            ids = [str(number) for number in range(first, first + count)]
            classes = [number % CLASS_COUNT for number in range(count)]
            tables[split] = pd.DataFrame({"galaxyID": ids, "label1": classes})
            first += count
        else:
            table = pd.read_csv(labels / f"gz2_{split}.csv", dtype=str)
            tables[split] = table if galaxies >= 155_951 else table.head(count)
    return tables


def decode_piece(paths: list[Path]) -> None:
    """What packing cannot do without."""
    from gz2vit.images import read_image

    for path in paths:
        read_image(path, CROP_PX)


def decode_rate(links: list[Path], processes: int) -> float:
    """Images per second of processes that only decode a sample, all of them started before."""
    sample = [links[i * len(links) // SAMPLE] for i in range(SAMPLE)]
    pieces = [sample[i : i + PIECE] for i in range(0, SAMPLE, PIECE)]
    with get_context("spawn").Pool(processes) as pool:
        pool.map(decode_piece, [sample[:WARM_UP]] * processes * 2, chunksize=1)
        start = time.perf_counter()
        for _ in pool.imap_unordered(decode_piece, pieces):
            pass
        return SAMPLE / (time.perf_counter() - start)


class MemoryWatch(threading.Thread):
    """Samples the memory of a process and all its descendants [kB]; keeps the peaks."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.over = pid, threading.Event()
        self.peaks = {"RssAnon": 0, "Pss_Anon": 0}

    def run(self) -> None:
        """Sample until `over`."""
        while not self.over.wait(SAMPLING_SECONDS):
            found = family(self.pid)
            for name, file in (("RssAnon", "status"), ("Pss_Anon", "smaps_rollup")):
                total = sum(_kilobytes(pid, file, name) for pid in found)
                self.peaks[name] = max(self.peaks[name], total)


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                found += [int(word) for word in task.read_text().split()]
            except OSError:
                continue
    return found


def _kilobytes(pid: int, file: str, name: str) -> int:
    """One number of /proc; 0 for a process that has gone."""
    try:
        text = Path(f"/proc/{pid}/{file}").read_text()
    except OSError:
        return 0
    told = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    return int(told[1]) if told else 0


def pack(command: list[str]) -> tuple[float, MemoryWatch, float]:
    """Run the command; the rate of its packing [images/s], its memory, and its time [s]."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    watch = MemoryWatch(process.pid)
    watch.start()
    images, packing_seconds = 0, 0.0
    for line in process.stdout:
        if "images in" in line or "continued" in line:
            print(line.rstrip(), flush=True)
        if found := re.search(r"packed ([\d,]+) images in ([\d.]+) s", line):
            images += int(found[1].replace(",", ""))
            packing_seconds += float(found[2])
    watch.over.set()
    watch.join()
    if process.wait() or not images:
        sys.exit(f"the command failed: {' '.join(command)}")
    return images / packing_seconds, watch, time.perf_counter() - start


def kill_half_way(command: list[str], results: Path, galaxies: int) -> None:
    """Start the command and kill all its processes when about half of the images are done."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    members: list[int] = []
    while (done := noted(results)) < galaxies / 2:
        if process.poll() is not None:
            sys.exit("the command ended before half of the images were done")
        members = family(process.pid)
        time.sleep(0.1)
    for pid in members:  # Snakemake runs in a session of its own
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    start = time.perf_counter()
    process.wait()
    print(f"killed with {done:,} images in finished shards")
    while left := [pid for pid in members if _kilobytes(pid, "status", "VmRSS")]:
        if time.perf_counter() - start > 60:
            sys.exit(f"still running a minute after the kill: {left}")
        time.sleep(0.1)
    print(f"no process is left after {time.perf_counter() - start:.1f} s", flush=True)


def noted(results: Path) -> int:
    """Images in finished shards."""
    return sum(len(np.load(path, mmap_mode="r")) for path in results.glob("store/*/shard_*.npy"))


if __name__ == "__main__":
    main()
