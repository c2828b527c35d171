"""A results folder with a little of everything that a report shows, made in a second."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from gz2vit.catalog import read_data_folder, write_selection
from gz2vit.plots.style import describe, save_figure
from tests.unit.folders import make_folder
from tests.unit.saved_runs import metrics_of, save_run

MODELS = ["linformer", "linformer_weighted", "resnet50", "vit"]  # the last is not trained
RECORD = {
    "git_commit": "0123456789abcdef+changes",
    "versions": {"gz2vit": "0.1.0", "python": "3.11.7", "torch": "2.10.0"},
    "machine": {"system": "Linux", "cpu_cores": 2},
    "device": "cpu",
}


def make_report_folder(root: Path) -> Path:
    """`results/demo` below `root`: a selection, three models, figures, tables, a notebook."""
    results = root / "results" / "demo"
    folder = read_data_folder(make_folder(root / "mine", per_class=2))
    selection = write_selection(results, folder, folder.tables, "demo")
    for key in MODELS[:3]:
        _train(results, key, selection.data["name"])
    for name in ("fig2", "fig3", "fig10_other", "class_composition", "reliability"):
        _draw(results, name)
    write_verdicts(results)
    write_notebook(results, "03_linformer", "# Train the Linformer")
    return results


def _train(results: Path, key: str, data: str) -> None:
    """What a training leaves, but for the checkpoint."""
    run = metrics_of(key, profile="demo", data=data, test_galaxies=16, epochs=3, best_epoch=2)
    run |= {"class_test_galaxies": [2] * 8}
    folder = save_run(results, run, max_epoch=3).parent
    record = json.loads((folder / "params.json").read_text()) | RECORD
    (folder / "params.json").write_text(json.dumps(record))
    classes = np.repeat(np.arange(8), 2)
    table = pd.DataFrame({"GalaxyID": [f"g{row}" for row in range(16)], "class": classes})
    table.assign(pred=np.roll(classes, 1)).to_csv(folder / "predictions.csv", index=False)
    losses = {"train_loss": [2.0, 1.5, 1.25], "valid_loss": [2.1, 1.7, 1.9]}
    shares = {"train_acc": [0.2, 0.4, 0.5], "valid_acc": [0.2, 0.45, 0.4]}
    history = pd.DataFrame({"epoch": [1, 2, 3]} | losses | shares)
    history.to_csv(folder / "history.csv", index=False)


def _draw(results: Path, name: str) -> None:
    """A small figure of that name, which says what it shows."""
    figure, axes = plt.subplots(figsize=(4, 2))
    axes.plot([0, 1], label="a line")
    axes.legend()
    describe(figure, f"A line, drawn for <{name}> & tests.")
    save_figure(figure, results / "figures" / name)
    plt.close(figure)


def write_verdicts(results: Path) -> None:
    """Two verdicts of one family and one of another."""
    rows = [
        ("Fig. 4", "x", "supported", "The claim that a < b is supported; p = 0.01."),
        ("Fig. 4", "y", "not decided", "The claim that `b` is not decided by this data."),
        ("Accuracy", "z", "contradicted", "The claim that c is contradicted."),
    ]
    table = pd.DataFrame(rows, columns=["family", "claim", "outcome", "sentence"])
    (results / "tables").mkdir(exist_ok=True)
    table.to_csv(results / "tables" / "verdicts.csv", index=False)


def write_notebook(results: Path, name: str, heading: str) -> None:
    """An executed notebook with one cell."""
    cell = {"cell_type": "markdown", "source": [f"{heading}\n", "\n", "text"]}
    path = results / "notebooks" / f"{name}.ipynb"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"cells": [cell], "nbformat": 4}))
