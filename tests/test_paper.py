"""The published facts agree with each other and with the published tables."""

import inspect
import json

import pandas as pd
import pytest

from gz2vit import paper
from gz2vit.catalog import class_composition, read_label_table
from gz2vit.io import ROOT
from gz2vit.models import BUILDERS
from gz2vit.workflow import load_profile, notebook_parameters
from tests.authors_catalogue import COLUMNS
from tests.folders import needs_shared


def test_published_tables_have_these_counts():
    names = {split: f"data/published/gz2_{split}.csv" for split in paper.SPLIT_CLASS_COUNTS}
    tables = {split: read_label_table(needs_shared(name)) for split, name in names.items()}
    composition = class_composition(tables)
    for split, counts in paper.SPLIT_CLASS_COUNTS.items():
        assert composition[split].tolist() == list(counts)
        assert sum(counts) / 155_951 == pytest.approx(paper.SPLIT_FRACTIONS[split], abs=1e-3)
    for name, mapping in paper.MERGED_LABELS.items():
        assert tables["test"][name].tolist() == [mapping[label] for label in tables["test"].label1]


def test_figures_recalls_and_accuracies_agree():
    for key, matrix in paper.FIG3_CONFUSION_PERCENT.items():
        published = [100 * value for value in paper.PUBLISHED_RESULTS[key]["class_acc"]]
        assert [row[i] for i, row in enumerate(matrix)] == pytest.approx(published, abs=0.06)
        assert [sum(row) for row in matrix] == pytest.approx([100] * 8, abs=0.3)
    for published in (one for one in paper.PUBLISHED_RESULTS.values() if "class_acc" in one):
        assert sum(published["class_acc"]) / 8 == pytest.approx(published["recall_macro"], abs=2e-4)


def test_networks_matrices_times_catalogue_and_histories_are_the_published_ones():
    facts = json.loads(needs_shared("paper/facts.json").read_text())
    for key, name in (("linformer", "uniform"), ("linformer_weighted", "weighted")):
        published = facts["figures"]["fig3"][name]
        assert [list(row) for row in paper.FIG3_CONFUSION_PERCENT[key]] == published
    for key, network in paper.NETWORKS.items():
        known = [name for name in network if facts["models"][key].get(name) == network[name]]
        assert len(known) == {"linformer": 8, "vit": 8}.get(key, 0)
    times = {f"{key}, {device}": s for key, (s, device) in paper.EPOCH_SECONDS.items()}
    assert times == facts["epoch_seconds_published"]
    catalogue = facts["published_predictions"]["catalogue"]
    for name in ("url", "git_blob_sha1", "rows"):
        assert paper.PREDICTION_CATALOGUE[name] == catalogue[name]
    assert COLUMNS.split() == catalogue["columns"]  # of the stand-in
    assert set(paper.PREDICTION_CATALOGUE["predictions"].values()) <= set(catalogue["columns"])
    assert sum(paper.FIG4_COUNTS.values()) == catalogue["rows"]
    columns = ["run", "epoch", "train_loss", "train_acc", "valid_loss", "valid_acc", "seconds"]
    ours = pd.read_csv(ROOT / "gz2vit" / paper.HISTORIES_FILE, comment="#")
    assert ours.equals(pd.read_csv(needs_shared("data/published/histories.csv"))[columns])
    best = ours.groupby("run").valid_acc.max()
    assert best["linformer"] == paper.PUBLISHED_RESULTS["linformer"]["valid_acc"]


def test_the_builders_networks_and_the_profile_are_the_papers():
    for key, network in paper.NETWORKS.items():
        known = inspect.signature(BUILDERS[key]).parameters
        assert {name: known[name].default for name in network} == network
    profile = load_profile("paper")
    for key, name in {"linformer": "07_train_linformer", "resnet50": "09_train_resnet50"}.items():
        known = notebook_parameters(ROOT / "notebooks" / f"{name}.ipynb")
        values = {name: one.default for name, one in known.items()} | profile[key]
        assert {name: values[name.upper()] for name in paper.SCHEDULES[key]} == paper.SCHEDULES[key]
        for name in ("EARLY_STOPPING_EPOCHS", "SEED", "BATCH_SIZE", "MAX_EPOCH"):
            assert values[name] == getattr(paper, name)
        assert values["IMAGE_SIZE"] == paper.CROP_PX
    assert profile["linformer_weighted"]["CLASS_WEIGHTS"] == "tuned"
    assert profile["resnet50"]["WEIGHTS"] == "imagenet"
