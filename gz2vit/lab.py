"""`gz2vit lab`: JupyterLab on the notebooks, with the parameters of a run.

The notebooks are copied into `lab/` of the results folder, each with the parameters that its step
ran with (as papermill left them in the executed notebook). A copy that was edited is never touched;
one that was not is renewed where the run or the project's notebook has changed.
"""

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat

from gz2vit.io import ROOT, SETTINGS, Gz2vitError, write_text

LAB = "lab"  # in a results folder
TOUR = "00_start_here.ipynb"
FREE = (TOUR, "explore_galaxies.ipynb")  # no steps: they show a finished run
FOLDERS = ("data_preprocess", "notebooks", "figures")


def open_lab(results: Path | None) -> None:
    """Open JupyterLab on a run's notebooks, by default the latest's; without any, on our own."""
    if results is not None and not (results / SETTINGS).is_file():
        raise Gz2vitError(f"{results} holds no run; name a results folder, such as results/demo")
    runs = sorted(ROOT.glob(f"results/*/{SETTINGS}"), key=lambda path: path.stat().st_mtime)
    results = (results or (runs[-1].parent if runs else ROOT)).resolve()
    place = ROOT / "notebooks"
    if results != ROOT:
        place, kept = make_lab(results)
        edited = f"; edited by you and left alone: {', '.join(kept)}" if kept else ""
        print(f"{place}: the notebooks of this run{edited}", flush=True)
    home = ROOT if place.is_relative_to(ROOT) else results
    address = f"/lab/tree/{(place / TOUR).relative_to(home).as_posix()}"
    os.environ.pop("JUPYTER_NO_CONFIG", None)  # the user's own JupyterLab
    command = [sys.executable, "-P", "-m", "jupyterlab", f"--ServerApp.root_dir={home}"]
    command += [f"--LabApp.default_url={address}", *(["--allow-root"] * (os.geteuid() == 0))]
    subprocess.run(command, cwd=home, check=False)


def make_lab(results: Path) -> tuple[Path, list[str]]:
    """Fill `lab/` with the run's notebooks; the folder, and the copies that a user has edited."""
    sources = {path.name: path for folder in FOLDERS for path in (ROOT / folder).glob("*.ipynb")}
    wanted = {name: (sources[name], {}) for name in FREE}
    for executed in sorted(results.glob("notebooks/[0-9]*.ipynb")):
        record = nbformat.read(executed, as_version=4).metadata.get("papermill", {})
        source = sources.get(Path(record.get("input_path", "")).name)
        if source and ".failed" not in executed.name:
            wanted[executed.name] = source, record["parameters"]
    kept = []
    for name, (source, parameters) in wanted.items():
        book, target = nbformat.read(source, as_version=4), results / LAB / name
        for cell in book.cells:
            if "parameters" in cell.metadata.get("tags", []):
                values = parameters | {"RESULTS_DIR": str(results)}
                cell.source = set_parameters(cell.source, values)
        book.metadata["gz2vit"] = _digest(book)
        old = nbformat.read(target, as_version=4) if target.exists() else None
        if old and old.metadata.get("gz2vit") != _digest(old):
            kept.append(name)
        elif not old or old.metadata["gz2vit"] != book.metadata["gz2vit"]:  # else its outputs stay
            write_text(target, nbformat.writes(book) + "\n")
    return results / LAB, kept


def set_parameters(cell: str, values: Mapping[str, Any]) -> str:
    """The parameter cell with `values` in the place of its own; comments stay."""
    for name, value in values.items():
        line = re.compile(rf"^({name}\b[^=\n]*=) .*?(  #.*)?$", re.MULTILINE)
        cell = line.sub(lambda found, value=value: f"{found[1]} {value!r}{found[2] or ''}", cell)
    return cell


def _digest(book: nbformat.NotebookNode) -> str:
    """A hash of what a user can edit: the cells' kinds and sources."""
    text = "\0".join(f"{cell.cell_type}\0{cell.source}" for cell in book.cells)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
