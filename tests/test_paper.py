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
from tests.folders import needs_shared


def test_counts_add_up_to_the_papers_sample():
    for split, counts in paper.SPLIT_CLASS_COUNTS.items():
        assert sum(counts) / 155_951 == pytest.approx(paper.SPLIT_FRACTIONS[split], abs=1e-3)


def test_published_tables_have_these_counts():
    names = {split: f"data/published/gz2_{split}.csv" for split in ("train", "valid", "test")}
    tables = {split: read_label_table(needs_shared(name)) for split, name in names.items()}
    composition = class_composition(tables)
    for split, counts in paper.SPLIT_CLASS_COUNTS.items():
        assert composition[split].tolist() == list(counts)
    merged = (paper.LABEL1_TO_LABEL2, paper.LABEL1_TO_LABEL3, paper.LABEL1_TO_LABEL4)
    for number, mapping in enumerate(merged, start=2):
        expected = [mapping[label] for label in tables["test"].label1]
        assert tables["test"][f"label{number}"].tolist() == expected


@pytest.mark.parametrize("key", ["linformer", "linformer_weighted"])
def test_fig3_agrees_with_the_class_accuracies(key: str):
    diagonal = [row[i] for i, row in enumerate(paper.FIG3_CONFUSION_PERCENT[key])]
    published = [100 * value for value in paper.PUBLISHED_RESULTS[key]["class_acc"]]
    assert diagonal == pytest.approx(published, abs=0.06)
    for row in paper.FIG3_CONFUSION_PERCENT[key]:
        assert sum(row) == pytest.approx(100, abs=0.3)


def test_macro_recall_is_the_mean_of_the_class_accuracies():
    for published in (one for one in paper.PUBLISHED_RESULTS.values() if "class_acc" in one):
        assert sum(published["class_acc"]) / 8 == pytest.approx(published["recall_macro"], abs=2e-4)


def test_networks_matrices_and_times_are_the_published_ones():
    facts = json.loads(needs_shared("paper/facts.json").read_text())
    for key, name in (("linformer", "uniform"), ("linformer_weighted", "weighted")):
        published = facts["figures"]["fig3"][name]
        assert [list(row) for row in paper.FIG3_CONFUSION_PERCENT[key]] == published
    for key, network in paper.NETWORKS.items():
        known = [name for name in network if facts["models"][key].get(name) == network[name]]
        assert len(known) == {"linformer": 8, "vit": 8}.get(key, 0)
    times = {f"{key}, {device}": s for key, (s, device) in paper.EPOCH_SECONDS.items()}
    assert times == facts["epoch_seconds_published"]


@pytest.mark.parametrize("key", list(paper.NETWORKS))
def test_the_networks_are_the_builders_own(key: str):
    """`build_model` without hyperparameters is the paper's network, so both say the same."""
    known = inspect.signature(BUILDERS[key]).parameters
    for name, value in paper.NETWORKS[key].items():
        assert known[name].default == value, name


def test_the_paper_profile_is_the_papers_recipe():
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


def test_the_catalogue_and_the_histories_are_the_published_ones():
    facts = json.loads(needs_shared("paper/facts.json").read_text())
    catalogue = facts["published_predictions"]["catalogue"]
    for name in ("url", "git_blob_sha1", "rows"):
        assert paper.PREDICTION_CATALOGUE[name] == catalogue[name]
    assert list(paper.PREDICTION_CATALOGUE["columns"]) == catalogue["columns"]
    assert set(paper.PREDICTION_CATALOGUE["predictions"].values()) <= set(catalogue["columns"])
    assert sum(paper.FIG4_COUNTS.values()) == catalogue["rows"]
    columns = ["run", "epoch", "train_loss", "train_acc", "valid_loss", "valid_acc", "seconds"]
    published = pd.read_csv(needs_shared("data/published/histories.csv"))[columns]
    ours = pd.read_csv(ROOT / "gz2vit" / paper.HISTORIES_FILE, comment="#")
    assert ours.equals(published)
    best = ours.groupby("run").valid_acc.max()
    assert best["linformer"] == paper.PUBLISHED_RESULTS["linformer"]["valid_acc"]
