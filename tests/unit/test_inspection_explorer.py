"""gz2vit.explorer and explorer: what is asked for is what is shown."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from gz2vit.attention import attention_rollout, collect_attention, gaze, layer_attention
from gz2vit.attention_maps import read_all_predictions
from gz2vit.explorer import AVERAGE, EVERY, EVIDENCE, GRAD_CAM, MISTAKES, ROLLOUT, Explorer, Viewer
from gz2vit.io import Gz2vitError
from gz2vit.paper import CLASS_NAMES
from tests.unit.small_training import open_splits

PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def viewer(inspected: Path) -> Viewer:
    return Viewer(inspected)


def test_maps_are_those_of_layer_and_head(viewer: Viewer, inspected: Path):
    name = open_splits(inspected)[2].store.galaxy_ids[3]
    model = viewer.model("linformer")
    prepared = model.prepare(viewer.galaxy(name)[0][None])
    attentions = collect_attention(model.network, prepared)
    assert viewer.layers("linformer") == [ROLLOUT, EVIDENCE, "layer 1"]
    assert viewer.heads("linformer", "layer 1") == [AVERAGE, "head 1", "head 2"]
    for layer, head, expected in (
        (ROLLOUT, AVERAGE, attention_rollout(attentions)),
        (ROLLOUT, "head 2", attention_rollout(attentions, 1)),
        ("layer 1", AVERAGE, layer_attention(attentions, 0)),
        ("layer 1", "head 1", layer_attention(attentions, 0, 0)),
        (EVIDENCE, AVERAGE, gaze(model.network, prepared, of_class=True).maps),
    ):
        found = torch.from_numpy(viewer.map_of("linformer", name, layer, head))
        assert torch.allclose(found, expected[0], atol=1e-5)


def test_a_cnn_offers_grad_cam_alone(viewer: Viewer, inspected: Path):
    name = open_splits(inspected)[2].store.galaxy_ids[0]
    assert viewer.layers("convnext") == [GRAD_CAM]
    assert viewer.heads("convnext", GRAD_CAM) == [AVERAGE]
    assert viewer.map_of("convnext", name, GRAD_CAM).max() <= 1
    with pytest.raises(Gz2vitError, match="convnext has no 'layer 1', 'average'; there are Grad"):
        viewer.map_of("convnext", name, "layer 1")


def test_a_network_without_maps_shows_the_rest(inspected: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_words: object) -> None:
        raise Gz2vitError("it has no planes")

    monkeypatch.setattr("gz2vit.attention.class_activation", refuse)
    explorer = Explorer(inspected, "convnext")
    assert explorer.layer.options == ("no map",)
    assert explorer.message.value == ""
    assert bytes(explorer.image.value).startswith(PNG)
    assert not explorer.viewer.map_of("convnext", explorer.shown, "no map").any()


def test_groups_are_all_mistakes_and_classes(viewer: Viewer, inspected: Path):
    table = read_all_predictions(inspected, ["linformer"])["linformer"]
    assert viewer.members("linformer", EVERY) == table.index.tolist()
    mistakes = viewer.members("linformer", MISTAKES)
    assert set(mistakes) == set(table.index[table["pred"] != table["class"]])
    certainty = table.loc[mistakes, [f"p{index}" for index in range(8)]].max(axis=1).to_numpy()
    assert (np.diff(certainty) <= 0).all()
    mergers = viewer.members("linformer", CLASS_NAMES[7])
    assert set(table.loc[mergers, "class"]) == {7}


def test_any_split_can_be_seen_and_neighbours_are_of_its_split(viewer: Viewer, inspected: Path):
    train = open_splits(inspected)[0]
    name = train.store.galaxy_ids[4]
    image, true = viewer.galaxy(name)
    np.testing.assert_array_equal(image, train.store.images[4])
    assert true == train.class_index[4]
    near, note = viewer.neighbours("linformer", name)
    assert len(near) == 7
    assert name not in near
    assert set(near) <= set(train.store.galaxy_ids)
    assert note == "nearest by block 1 of linformer, train galaxies"
    near, note = viewer.neighbours("convnext", name)  # it has no features
    assert near == []
    assert note == "neighbours need features; run `./run_all.sh demo --only features`"
    assert viewer.picture("convnext", name, GRAD_CAM).startswith(PNG)
    with pytest.raises(Gz2vitError, match="galaxy nobody is not among this run's 96"):
        viewer.galaxy("nobody")


def test_without_a_run_the_command_is_named(tmp_path: Path):
    results = tmp_path / "results" / "demo"
    with pytest.raises(Gz2vitError, match="no trained model yet; run `./run_all.sh demo` in"):
        Explorer(results)


def test_another_choice_makes_one_other_picture(inspected: Path, monkeypatch: pytest.MonkeyPatch):
    explorer = Explorer(inspected)
    drawn = []
    whole = explorer.viewer.picture
    monkeypatch.setattr(
        explorer.viewer, "picture", lambda *words: drawn.append(words) or whole(*words)
    )
    pictures = [bytes(explorer.image.value)]
    assert pictures[0].startswith(PNG)
    ids = explorer.galaxy.options
    for change in (
        lambda: setattr(explorer.galaxy, "value", ids[2]),
        lambda: explorer.next.click(),
        lambda: setattr(explorer.layer, "value", "layer 1"),
        lambda: setattr(explorer.head, "value", "head 2"),
        lambda: setattr(explorer.network, "value", "convnext"),
    ):
        change()
        pictures.append(bytes(explorer.image.value))
    assert len(set(pictures)) == len(pictures)
    assert drawn == [
        ("linformer", ids[2], ROLLOUT, AVERAGE),
        ("linformer", ids[3], ROLLOUT, AVERAGE),
        ("linformer", ids[3], "layer 1", AVERAGE),
        ("linformer", ids[3], "layer 1", "head 2"),
        ("convnext", ids[3], GRAD_CAM, AVERAGE),
    ]
    assert explorer.head.disabled


def test_groups_named_galaxies_and_unknown_ones(inspected: Path):
    name = open_splits(inspected)[0].store.galaxy_ids[1]
    explorer = Explorer(inspected, "convnext", name)
    assert (explorer.shown, explorer.network.value) == (name, "convnext")
    before = bytes(explorer.image.value)
    explorer.named.value = "<nobody>"
    assert bytes(explorer.image.value) == before
    assert "galaxy &lt;nobody&gt; is not among this run" in explorer.message.value
    explorer.group.value = CLASS_NAMES[3]
    members = explorer.viewer.members("convnext", CLASS_NAMES[3])
    assert explorer.shown == explorer.galaxy.value == members[0]
    assert explorer.message.value == ""
    explorer.previous.click()
    assert explorer.shown == explorer.galaxy.options[-1]


def test_an_empty_group_is_said_to_be_empty(inspected: Path, tmp_path: Path):
    results = tmp_path / "results" / "demo"
    shutil.copytree(inspected, results)
    path = results / "models" / "linformer" / "predictions.csv"
    lines = path.read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    right = [",".join([name, true, true, *rest]) for name, true, _, *rest in rows]
    path.write_text("\n".join([lines[0], *right]))
    explorer = Explorer(results)
    explorer.group.value = MISTAKES
    assert "this group is empty" in explorer.message.value
    explorer.next.click()  # goes nowhere, and says nothing else
    explorer.group.value = EVERY
    assert explorer.message.value == ""
