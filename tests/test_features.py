"""Features: every layer in order, the last of which makes the logits; what is read from them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from gz2vit import attention
from gz2vit.attention_maps import open_model
from gz2vit.evaluation import wilson_interval
from gz2vit.features import (
    Features,
    features_path,
    layer_embeddings,
    layers_of,
    nearest_galaxies,
    probe_hits,
    probe_layers,
    project,
    read_features,
    write_features,
    write_no_features,
)
from gz2vit.io import Gz2vitError
from tests.test_attention import SWIN, TIMM, build
from tests.trained_run import open_splits

# name: layers, their first and last width
LAYERS = {
    "linformer": (2, 16, 16),
    "vit": (2, 16, 16),
    "hf_vit": (2, 16, 16),
    "resnet50": (4, 256, 2048),
    "vgg16_bn": (5, 64, 512),
    "timm/convnext_atto": (4, 40, 320),
    TIMM: (12, 192, 192),
    SWIN: (4, 96, 768),
}


# The logits that a network n makes of its last layer's embedding v.
HEADS = {
    "linformer": lambda n, v: n.mlp_head(v),
    "vit": lambda n, v: n.mlp_head(v),
    "hf_vit": lambda n, v: n.model.classifier(n.model.vit.layernorm(v)),
    "resnet50": lambda n, v: n.fc(v),
    # 1 x 1 px are spread over the 7 x 7 that the classifier takes
    "vgg16_bn": lambda n, v: n.classifier(v[..., None, None].expand(-1, -1, 7, 7).flatten(1)),
    "timm/convnext_atto": lambda n, v: n.head(v[..., None, None]),
    TIMM: lambda n, v: n.head(n.norm(v)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_last_layer_makes_the_logits(name: str):
    network, images = build(name, 224 if name == SWIN else 32)
    layers, first, last = LAYERS[name]
    found = layer_embeddings(network.train(), images)
    word = "block" if first == last else "stage"
    assert list(found) == [f"{word} {number}" for number in range(1, layers + 1)]
    vectors = list(found.values())
    assert (vectors[0].shape, vectors[-1].shape) == ((3, first), (3, last))
    assert {one.dtype for one in vectors} == {torch.float32}
    if name != SWIN:  # whose norm is between its last stage and the mean
        with torch.no_grad():
            made = HEADS[name](network.eval(), vectors[-1])
            assert torch.allclose(made, network(images), atol=1e-4)


@pytest.mark.parametrize("name", ["linformer", "hf_vit", "resnet50", TIMM])
def test_threads_do_not_mix_images(name: str, monkeypatch: pytest.MonkeyPatch):
    network, images = build(name)
    images, before = images.repeat(4, 1, 1, 1), torch.get_num_threads()
    images *= torch.arange(1.0, 13.0).view(-1, 1, 1, 1)  # no two alike
    expected = layer_embeddings(network, images)
    monkeypatch.setattr(attention, "BATCH_SIZE", 1)
    try:
        torch.set_num_threads(2)
        found = layer_embeddings(network, images)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    for layer, vectors in expected.items():
        assert torch.allclose(found[layer], vectors, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["linformer", "vit", "hf_vit"])
def test_an_earlier_block_is_what_a_shorter_network_ends_with(name: str):
    network, images = build(name)
    found = layer_embeddings(network, images)
    blocks = {"linformer": "transformer.net.layers", "vit": "transformer.layers"}
    del network.get_submodule(blocks.get(name, "model.vit.layers"))[1]
    with torch.no_grad():
        made = HEADS[name](network, found["block 1"])
        assert torch.allclose(made, network(images), atol=1e-5)
    network, images = build("resnet50")  # of a CNN the mean over the plane
    with torch.no_grad():
        plane = network.maxpool(network.relu(network.bn1(network.conv1(images))))
        expected = network.layer1(plane).mean(dim=(2, 3))
    assert torch.allclose(layer_embeddings(network, images)["stage 1"], expected, atol=1e-5)


def test_odd_networks_of_timm():
    """One goes past its stages: its last vector; one adds its class token late: no token before."""
    network, images = build("timm/coat_tiny")
    (last,) = layer_embeddings(network, images).values()
    with torch.no_grad():
        assert torch.allclose(network.head(last), network(images), atol=1e-5)
    network, images = build("timm/cait_xxs24_224")
    kept = []
    network.blocks[-1].register_forward_hook(lambda _, i, o: kept.append(o))
    found = layer_embeddings(network, images)
    assert kept[0].shape[1] == 4  # patches alone
    assert torch.allclose(found["block 24"], kept[0].mean(dim=1), atol=1e-6)


def test_the_file_holds_every_galaxys_vectors(trained_run: Path):
    path = features_path(trained_run, "linformer")
    assert layers_of(path) == ["block 1"]
    found, splits = read_features(path), open_splits(trained_run)
    sizes = {one.split: len(one.cache) for one in splits}
    assert pd.Series(found.split).value_counts().to_dict() == sizes
    model, test, own = open_model(trained_run, "linformer"), splits[2], found.of("test")
    assert own.galaxy_ids.tolist() == list(test.cache.galaxy_ids)
    assert own.class_index.tolist() == test.class_index.tolist()
    exact = layer_embeddings(model.network, model.prepare(test.cache[:]))["block 1"]
    np.testing.assert_allclose(own.vectors, exact, rtol=2e-3, atol=2e-3)  # half precision


@pytest.fixture
def other(trained_run: Path, tmp_path: Path) -> Path:
    """Another results folder of the same galaxies."""
    for folder in ("selection", "store"):
        (tmp_path / folder).symlink_to(trained_run / folder)
    return tmp_path


def test_fewer_galaxies_on_request_always_the_same(trained_run: Path, other: Path):
    model = open_model(trained_run, "convnext")
    first = write_features(other, model, most=5, seed=1)
    ids = read_features(first).galaxy_ids.tolist()
    assert len(ids) == 15
    assert read_features(write_features(other, model, 5, 1)).galaxy_ids.tolist() == ids
    assert layers_of(first) == ["stage 1", "stage 2", "stage 3", "stage 4"]
    assert len(read_features(first, "stage 2").of("valid", most=3).galaxy_ids) == 3


def test_missing_files_layers_and_numbers(trained_run: Path, other: Path):
    with pytest.raises(Gz2vitError, match=r"block 9.* block 1"):
        read_features(features_path(trained_run, "linformer"), "block 9")
    with pytest.raises(Gz2vitError, match="features"):
        read_features(features_path(other, "vit"))
    write_no_features(other, "vit")
    with pytest.raises(Gz2vitError, match="could not be built"):
        read_features(features_path(other, "vit"))
    model = open_model(trained_run, "linformer")
    with torch.no_grad():
        next(model.network.parameters()).fill_(float("nan"))
    with pytest.raises(Gz2vitError, match="block 1 of linformer"):
        write_features(other, model)
    assert [path.name for path in (other / "features").iterdir()] == ["vit.parquet"]


def features(vectors: np.ndarray, classes: np.ndarray | None = None) -> Features:
    count = len(vectors)
    ids = np.array([f"g{row}" for row in range(count)], dtype=object)
    own = np.zeros(count, int) if classes is None else classes
    return Features("block 1", ids, np.full(count, "test"), own, np.float32(vectors))


def classed(seed: int, feature: bool = True) -> Features:
    """Four classes in one large feature among noise, or in none."""
    rng = np.random.default_rng(seed)
    classes, vectors = np.arange(200) % 4, rng.normal(size=(200, 6))
    vectors[:, 2] += 1000.0 * classes * feature
    return features(vectors, classes)


def test_a_probe_finds_what_is_there_and_nothing_else():
    train = classed(0)
    assert probe_hits(train, classed(1)).mean() > 0.99
    assert 0.1 < probe_hits(classed(0, False), classed(1, False)).mean() < 0.4  # 0.25 by guessing
    # at another scale: a scaler that had seen the test galaxies would bring them back
    far = features(1e6 + 1e3 * train.vectors, train.class_index)
    assert probe_hits(train, far).mean() < 0.5
    with pytest.raises(Gz2vitError, match="one class"):
        probe_hits(features(np.zeros((5, 2))), classed(1))


def test_probes_of_a_run_learn_from_its_training_galaxies(trained_run: Path):
    table, hits = probe_layers(trained_run, "linformer", 6, seed=1)
    every = read_features(features_path(trained_run, "linformer"))
    expected = probe_hits(every.of("train", 6, seed=1), every.of("test"))
    assert hits.index.tolist() == list(open_splits(trained_run)[2].cache.galaxy_ids)
    assert hits["block 1"].tolist() == expected.tolist()
    assert 0 < expected.mean() < 1  # six galaxies do not show all eight classes
    row = table.iloc[0]
    assert (row["model"], row["layer"], row["galaxies"]) == ("linformer", "block 1", len(hits))
    low, high = wilson_interval(expected.sum(), len(hits))
    assert row[["low", "accuracy", "high"]].tolist() == pytest.approx([low, expected.mean(), high])


def test_neighbours_are_other_galaxies_nearest_by_angle():
    own = features(np.array([[1.0, 0.0], [10.0, 1.0], [0.0, 3.0], [-2.0, 0.0], [2.0, 0.0]]))
    assert nearest_galaxies(own, "g0", 2) == ["g4", "g1"]
    assert nearest_galaxies(own, "g0", 9) == ["g4", "g1", "g2", "g3"]
    assert nearest_galaxies(own, "g4", 1) == ["g0"]
    with pytest.raises(Gz2vitError, match="nobody"):
        nearest_galaxies(own, "nobody", 1)


def test_umap_keeps_groups_apart_and_threads_as_they_were():
    rng = np.random.default_rng(0)
    centres = np.repeat([[1.0, 0, 0, 0, 0], [0, 0, 0, 1.0, 0]], 15, axis=0)
    vectors = np.float32(centres + 0.05 * rng.normal(size=(30, 5)))
    threads = torch.get_num_threads()
    points = project(vectors, neighbours=5, seed=1)
    assert torch.get_num_threads() == threads
    assert (points.dtype, points.shape) == (np.float32, (30, 2))
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    assert (distance.argmin(axis=1) // 15 == np.arange(30) // 15).all()
    np.testing.assert_array_equal(points, project(vectors, neighbours=5, seed=1))
    with pytest.raises(Gz2vitError, match="3 galaxies"):
        project(vectors[:3])
