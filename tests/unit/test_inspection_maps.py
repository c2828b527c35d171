"""gz2vit.inspection.maps: the maps that go to disk are those of the networks."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gz2vit.attention import attention_rollout, collect_attention, gaze
from gz2vit.attention_maps import fields, map_galaxies, open_model, read_maps, write_maps
from gz2vit.io import Gz2vitError
from tests.unit.small_training import open_splits


def test_a_transformer_has_average_heads_and_evidence(inspected: Path, tmp_path: Path):
    model, images = open_model(inspected, "linformer"), open_splits(inspected)[2].store.images[:5]
    maps = map_galaxies(model, images)
    attentions = collect_attention(model.network, model.prepare(images))
    assert maps.heads.shape == (5, 2, 4, 4)
    expected = attention_rollout(attentions)
    assert torch.allclose(torch.from_numpy(maps.average), expected, atol=1e-5)
    for head in (0, 1):
        expected = attention_rollout(attentions, head)
        assert torch.allclose(torch.from_numpy(maps.heads[:, head]), expected, atol=1e-5)
    assert not np.allclose(maps.heads[:, 0], maps.heads[:, 1])
    evidence = gaze(model.network, model.prepare(images), of_class=True)
    assert torch.allclose(torch.from_numpy(maps.of_class), evidence.maps, atol=1e-5)
    assert (maps.predicted == model.probabilities(images).argmax(axis=1)).all()
    write_maps(tmp_path, "linformer", maps)
    again = read_maps(tmp_path, "linformer")
    for one in fields(maps):
        np.testing.assert_array_equal(getattr(again, one.name), getattr(maps, one.name))
    assert again.method == "attention rollout of absolute effective attention"


def test_a_cnn_has_no_heads(inspected: Path):
    model = open_model(inspected, "convnext")
    maps = map_galaxies(model, open_splits(inspected)[2].store.images[:2])
    side = maps.average.shape[1]
    assert maps.heads.shape == (2, 0, side, side)
    np.testing.assert_array_equal(maps.average, maps.of_class)
    assert maps.method.startswith("Grad-CAM")


def test_a_network_that_cannot_be_looked_into_has_empty_maps_that_say_why(
    inspected: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model, images = open_model(inspected, "convnext"), open_splits(inspected)[2].store.images[:2]
    assert map_galaxies(model, images).seen
    monkeypatch.setattr("gz2vit.attention.class_activation", refuse)
    write_maps(tmp_path, "convnext", map_galaxies(model, images))
    maps = read_maps(tmp_path, "convnext")
    assert not maps.seen
    assert maps.method == maps.class_method == "no map: it has no planes"
    assert (maps.average.shape, maps.heads.shape) == ((2, 1, 1), (2, 0, 1, 1))
    assert not maps.average.any()
    np.testing.assert_allclose(maps.probability, model.probabilities(images), atol=1e-6)


def refuse(*_words: object) -> None:
    raise Gz2vitError("it has no planes")


def test_maps_that_are_not_there_name_the_step(tmp_path: Path):
    with pytest.raises(Gz2vitError, match=r"vit.npz does not exist yet: the step 'attention'"):
        read_maps(tmp_path, "vit")
