"""gz2vit.features and knowledge: vectors on disk, and what is read off them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from gz2vit.attention_maps import open_model
from gz2vit.catalog import read_selection
from gz2vit.features import (
    Features,
    features_path,
    layer_embeddings,
    layers_of,
    nearest_galaxies,
    probe_layers,
    property_values,
    read_features,
    read_umap,
    umap_table,
    write_features,
)
from gz2vit.io import Gz2vitError
from tests.unit.small_inspection import KEYS
from tests.unit.small_training import open_splits


def test_the_file_holds_every_galaxys_vectors_of_every_layer(inspected: Path):
    path = features_path(inspected, "linformer")
    assert layers_of(path) == ["block 1"]
    found, (train, valid, test) = read_features(path), open_splits(inspected)
    sizes = {split.split: len(split.store) for split in (train, valid, test)}
    assert pd.Series(found.split).value_counts().to_dict() == sizes
    model, own = open_model(inspected, "linformer"), found.of("test")
    assert own.galaxy_ids.tolist() == list(test.store.galaxy_ids)
    assert own.class_index.tolist() == test.class_index.tolist()
    exact = layer_embeddings(model.network, model.prepare(test.store.images))["block 1"]
    assert torch.allclose(own.vectors, exact, rtol=2e-3, atol=2e-3)  # kept at half precision


def test_fewer_galaxies_on_request_always_the_same(inspected: Path, tmp_path: Path):
    for folder in ("selection", "store"):
        (tmp_path / folder).symlink_to(inspected / folder)
    model = open_model(inspected, "convnext")
    first = write_features(tmp_path, model, most=5, seed=1)
    ids = read_features(first).galaxy_ids.tolist()
    assert len(ids) == 15
    again = write_features(tmp_path, model, most=5, seed=1)
    assert read_features(again).galaxy_ids.tolist() == ids
    assert layers_of(first) == ["stage 1", "stage 2", "stage 3", "stage 4"]
    own = read_features(first, "stage 2")
    assert own.layer == "stage 2"
    assert len(own.of("valid", most=3, seed=0).galaxy_ids) == 3


def test_unknown_layers_and_missing_files(inspected: Path, tmp_path: Path):
    with pytest.raises(Gz2vitError, match="has no layer 'block 9'; it has block 1"):
        read_features(features_path(inspected, "linformer"), "block 9")
    with pytest.raises(Gz2vitError, match="the step 'features' makes it"):
        read_features(features_path(tmp_path, "vit"))
    with pytest.raises(Gz2vitError, match="the step 'features' makes it"):
        read_umap(tmp_path)


def test_values_that_are_not_finite_leave_no_file(inspected: Path, tmp_path: Path):
    for folder in ("selection", "store"):
        (tmp_path / folder).symlink_to(inspected / folder)
    model = open_model(inspected, "linformer")
    with torch.no_grad():
        next(model.network.parameters()).fill_(float("nan"))
    with pytest.raises(Gz2vitError, match="features of block 1 are not finite numbers"):
        write_features(tmp_path, model)
    assert not list((tmp_path / "features").iterdir())


def test_probes_learn_from_training_galaxies(inspected: Path):
    table = probe_layers(inspected, "linformer")
    assert table["layer"].tolist() == ["block 1"]
    assert table["model"].tolist() == ["linformer"]
    assert table["galaxies"].tolist() == [len(open_splits(inspected)[2].store)]
    assert table["accuracy"][0] > 0.5  # the classes are colours, which even a mean would tell


def test_neighbours_are_other_galaxies_nearest_first():
    vectors = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [2.0, 0.1]])
    ids = np.array(["a", "b", "c", "d"], dtype=object)
    features = Features("block 1", ids, np.full(4, "test"), np.zeros(4, int), vectors)
    assert nearest_galaxies(features, "a", 2) == ["d", "b"]
    assert nearest_galaxies(features, "a", 9) == ["d", "b", "c"]
    with pytest.raises(Gz2vitError, match="galaxy e has no features; run the step 'features'"):
        nearest_galaxies(features, "e", 1)


def test_the_same_galaxies_are_projected_for_each_model(
    inspected: Path, monkeypatch: pytest.MonkeyPatch
):
    """UMAP itself, which compiles for long, is tested in test_inspection_projection.py."""
    told = []

    def project(vectors: torch.Tensor, neighbours: int, seed: int) -> np.ndarray:
        told.append((neighbours, seed))
        return vectors[:, :2].numpy()

    monkeypatch.setattr("gz2vit.features.project", project)
    table = umap_table(inspected, KEYS[:1], most=20, neighbours=5, seed=3)
    assert told == [(5, 3)]
    own = read_features(features_path(inspected, "linformer")).of("test", 20, seed=3)
    assert table["galaxyID"].tolist() == own.galaxy_ids.tolist()
    assert table["class"].tolist() == own.class_index.tolist()
    np.testing.assert_allclose(table[["x", "y"]], own.vectors[:, :2])


def test_properties_are_joined_by_id_or_said_to_be_missing(inspected: Path, tmp_path: Path):
    selection = read_selection(inspected)
    ids = open_splits(inspected)[2].store.galaxy_ids[:2]
    told = property_values(selection, ids)
    assert all("has no\ngalaxy_properties.csv" in words for words in told.values())
    rows = f"galaxyID,petroR90_r,dered_r,dered_g_r\n{ids[1]},7.5,,0.5\n"
    (tmp_path / "galaxy_properties.csv").write_text(rows)
    selection.data["folder"] = str(tmp_path)
    found = property_values(selection, ids)
    np.testing.assert_array_equal(found["size, R90 [arcsec]"], [np.nan, 7.5])
    assert "dered_r has no value" in found["magnitude, r [mag]"]
