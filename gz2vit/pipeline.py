"""The whole road: checks, then Snakemake over the notebooks, then one line that says how it went.

`Snakefile` is the only list of steps. This module hands it the profile, the data and the
overrides, keeps Snakemake's own messages in `logs/snakemake.log`, and lets the steps speak. They
run on this machine, or with an executor on those of a cluster (gz2vit/cluster.py).
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from gz2vit.catalog import read_data_folder
from gz2vit.cluster import (
    JOBS,
    THREADS,
    Follower,
    cancel_jobs,
    check_executor,
    executor_options,
    failure,
)
from gz2vit.data import check_folder
from gz2vit.data.galaxy_zoo import fetch_galaxy_zoo
from gz2vit.errors import Gz2vitError
from gz2vit.galaxy_zoo.folder import GALAXY_ZOO_DIR
from gz2vit.profiles import anchor_override, load_profile
from gz2vit.results import ROAD_RECORD, ROOT, sole_user, write_json

REAL_PROFILE = "paper"  # without --data it is run on the real Galaxy Zoo 2, fetched at first use
INTERRUPT_SECONDS = 60  # for a step to end, after Ctrl-C
FOLLOW_SECONDS = 1.0  # between two looks at what the steps on a cluster say


@dataclass(frozen=True)
class Road:
    """One call of `run_all.sh`: profile, data folder, results folder, options.

    Without a data folder galaxies are simulated, or, at `paper`, the real ones fetched.
    """

    profile: str
    data_dir: Path | None
    results_dir: Path
    only: tuple[str, ...]
    jobs: int
    overrides: tuple[str, ...]
    executor: str | None = None  # Snakemake's name for a cluster, such as slurm
    options: tuple[str, ...] = ()  # for Snakemake, as they are

    @property
    def threads(self) -> int:
        """Processor cores for a step: its share of this machine's; on a cluster the least."""
        return THREADS if self.executor else max(1, (os.cpu_count() or 1) // self.jobs)

    @property
    def logs(self) -> Path:
        """Where Snakemake's messages and the failures go."""
        return self.results_dir / "logs"


def run_road(road: Road) -> None:
    """Run every step that is stale; raises `Gz2vitError` with the one line that matters."""
    load_profile(road.profile)
    if road.jobs < 1:
        raise Gz2vitError(f"--jobs {road.jobs}: give a whole number from 1 on")
    if road.executor:
        check_executor(road.executor)
    start = time.perf_counter()
    told = f"another run is working in {road.results_dir}; wait for it"
    with sole_user(road.results_dir / ".lock", told) as lock:
        for old in road.logs.glob("*.error"):
            old.unlink()
        if road.data_dir is None and road.profile == REAL_PROFILE:
            road = replace(road, data_dir=GALAXY_ZOO_DIR)
            _run_snakemake(road, None, lock, "--list-rules")  # a slip is told before 3.4 GB come
            fetch_galaxy_zoo(GALAXY_ZOO_DIR)
        signature = _check_data(road)
        _run_snakemake(road, signature, lock)
        _report(road, time.perf_counter() - start)


def _check_data(road: Road) -> str | None:
    """Check the data folder, where there is one; its signature."""
    if road.data_dir is None:
        return None
    folder = read_data_folder(road.data_dir)
    return check_folder(folder, road.results_dir, _leaves_out_broken(road))


def _leaves_out_broken(road: Road) -> bool:
    """Whether the step `select` will be told to leave out galaxies without a readable image."""
    name = "LEAVE_OUT_BROKEN"
    asked = load_profile(road.profile).get("select", {}).get(name, False)
    for text in road.overrides:
        path, _, written = text.partition("=")
        if path in (name, f"select.{name}"):
            asked = yaml.safe_load(written)
    return asked is True  # anything but true or false is refused with the other parameters


def _config(road: Road, signature: str | None) -> dict[str, Any]:
    """What the Snakefile needs to know, as its configuration file."""
    return {
        "profile": road.profile,
        "data": str(road.data_dir) if road.data_dir else None,
        "signature": signature,
        "results": str(road.results_dir),
        "only": list(road.only),
        "overrides": list(road.overrides),
        "threads": road.threads,
        "executor": road.executor,
    }


def _run_snakemake(road: Road, signature: str | None, lock: int, *options: str) -> None:
    """Run Snakemake; `Gz2vitError` with the one line that matters where it fails."""
    write_json(road.results_dir / ROAD_RECORD, _config(road, signature))
    if _snakemake(road, lock, options):
        raise Gz2vitError(_failure(road))


def snakemake_command(road: Road) -> list[str]:
    """Snakemake's command line, all but what the user adds."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    record = road.results_dir / ROAD_RECORD
    command += ["--directory", str(road.results_dir), "--configfile", str(record)]
    if road.executor:
        command += executor_options(road.executor, road.jobs, road.logs)
    else:
        command += ["--cores", str(road.jobs * road.threads)]
    # Our own lock dies with its holders; Snakemake's would survive a kill and block the next run.
    return [*command, "--rerun-incomplete", "--nocolor", "--nolock"]


def _snakemake(road: Road, lock: int, options: Sequence[str]) -> int:
    """Run Snakemake in the results folder; its exit code. With options it only tells, unheard.

    It inherits `lock`, so that it keeps the folder even where this process is killed first.
    """
    command = [*snakemake_command(road), *options, *road.options]
    told = subprocess.DEVNULL if options else None
    path = road.logs / "snakemake.log"
    with path.open("w") as log:
        process = subprocess.Popen(command, stdout=told, stderr=log, pass_fds=[lock])
        try:
            return _follow(process, path) if road.executor else process.wait()
        except KeyboardInterrupt:
            _stop(process, road)
            raise


def _follow(process: subprocess.Popen, log: Path) -> int:
    """Tell what the steps on a cluster say until Snakemake ends; its exit code."""
    follower = Follower(log, sys.stdout)
    while True:
        try:
            code = process.wait(FOLLOW_SECONDS)
        except subprocess.TimeoutExpired:
            follower.tell()
        else:
            follower.tell()
            return code


def _stop(process: subprocess.Popen, road: Road) -> None:
    """After Ctrl-C, of which the terminal told Snakemake and the step as well: see them end."""
    if not road.executor:
        process.wait(INTERRUPT_SECONDS)
        return
    cancel_jobs((road.logs / "snakemake.log").read_text(encoding="utf-8", errors="replace"))
    try:
        process.wait(INTERRUPT_SECONDS)
    except subprocess.TimeoutExpired:
        # It sleeps between two looks at the jobs, up to 3 minutes, and has nothing left to do.
        process.kill()
        process.wait()


def _failure(road: Road) -> str:
    """The line that says why the road ended early."""
    told = sorted(road.logs.glob("*.error"), key=lambda path: path.stat().st_mtime)
    if told:
        return told[0].read_text(encoding="utf-8").strip()
    log = (road.logs / "snakemake.log").read_text(encoding="utf-8", errors="replace")
    if road.executor and (line := failure(log)):
        return line
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return f"Snakemake stopped: {lines[-1] if lines else 'no message'} (see {road.logs})"


def _report(road: Road, seconds: float) -> None:
    """Say what was done and where it is."""
    # A file's time, because a file server's clock may differ from ours.
    begun = (road.results_dir / ROAD_RECORD).stat().st_mtime
    books = sorted((road.results_dir / "notebooks").glob("[!.]*.ipynb"))
    fresh = [book for book in books if book.stat().st_mtime >= begun]
    if not fresh:
        print(f"nothing to do: {road.results_dir} is up to date ({len(books)} steps)", flush=True)
        return
    print(f"{len(fresh)} steps run in {seconds / 60:.1f} min, into {road.results_dir}:")
    for name, what in (("notebooks", "ipynb"), ("figures", "png"), ("tables", "md")):
        files = [path.name for path in sorted((road.results_dir / name).glob(f"[!.]*.{what}"))]
        if files:
            print(f"  {name}/: {', '.join(files)}")
    if (road.results_dir / "report.html").exists():
        print("  report.html: all of it on one page, for any browser")


def make_road(
    profile: str,
    data: str | None,
    results: str | None,
    only: Sequence[str],
    jobs: int | None,
    overrides: Sequence[str],
    executor: str | None = None,
    options: Sequence[str] = (),
) -> Road:
    """A `Road` from the command line's words; `options`: those after `--`, for Snakemake."""
    data_dir = Path(data).resolve() if data else None
    folder = Path(results).resolve() if results else ROOT / "results" / profile
    anchored = tuple(anchor_override(text) for text in overrides)
    if jobs is None:
        jobs = JOBS if executor else 1
    words = (tuple(only), jobs, anchored, executor, tuple(options))
    return Road(profile, data_dir, folder, *words)
