"""The explorer: what is asked for is what is shown."""

import shutil
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import torch

from gz2vit.attention import attention_rollout, attribution_maps, collect_attention
from gz2vit.attention_maps import read_all_predictions
from gz2vit.explorer import AVERAGE, EVERY, EVIDENCE, GRAD_CAM, MISTAKES, ROLLOUT, Explorer, Viewer
from gz2vit.io import Gz2vitError
from gz2vit.paper import CLASS_NAMES
from tests.trained_run import open_splits

PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def viewer(trained_run: Path) -> Viewer:
    return Viewer(trained_run)


def test_maps_are_those_of_layer_and_head(viewer: Viewer, trained_run: Path):
    name = open_splits(trained_run)[2].cache.galaxy_ids[3]
    model = viewer.model("linformer")
    prepared = model.prepare(viewer.galaxy(name)[0][None])
    attentions = collect_attention(model.network, prepared)
    heads = [AVERAGE, "head 1", "head 2"]
    assert viewer.maps("linformer") == {ROLLOUT: heads, EVIDENCE: [AVERAGE], "layer 1": heads}
    each, one = attention_rollout(attentions, True), attention_rollout(attentions[:1], True)
    for layer, head, expected in (
        (ROLLOUT, AVERAGE, attention_rollout(attentions)),
        (ROLLOUT, "head 2", each[:, 1]),
        ("layer 1", AVERAGE, attention_rollout(attentions[:1])),
        ("layer 1", "head 1", one[:, 0]),
        (EVIDENCE, AVERAGE, attribution_maps(model.network, prepared)["class"]),
    ):
        found = torch.from_numpy(viewer.map_of("linformer", name, layer, head))
        assert torch.allclose(found, expected[0], atol=1e-5)
    assert viewer.maps("convnext") == {GRAD_CAM: [AVERAGE]}
    with pytest.raises(Gz2vitError, match="layer 1"):
        viewer.map_of("convnext", name, "layer 1")


def test_a_network_without_maps_shows_the_rest(trained_run: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_words: object) -> None:
        raise Gz2vitError("it has no planes")

    monkeypatch.setattr("gz2vit.attention.class_activation", refuse)
    explorer = Explorer(trained_run, "convnext")
    assert explorer.layer.options == ("no map",) and explorer.message.value == ""
    assert bytes(explorer.image.value).startswith(PNG)
    assert not explorer.viewer.map_of("convnext", explorer.shown, "no map").any()


def test_any_split_can_be_seen_and_neighbours_are_of_its_split(viewer: Viewer, trained_run: Path):
    train = open_splits(trained_run)[0]
    name = train.cache.galaxy_ids[4]
    image, true = viewer.galaxy(name)
    np.testing.assert_array_equal(image, train.cache[:][4])
    assert true == train.class_index[4]
    near, note = viewer.neighbours("linformer", name)
    assert len(near) == 7 and set(near) <= set(train.cache.galaxy_ids) - {name}
    assert "block 1 of linformer, train" in note
    near, note = viewer.neighbours("convnext", name)  # it has no features
    assert near == [] and "--only features" in note
    assert viewer.picture("convnext", name, GRAD_CAM).startswith(PNG)
    with pytest.raises(Gz2vitError, match="nobody"):
        viewer.galaxy("nobody")


def test_without_a_run_others_are_offered_or_the_command(trained_run: Path, tmp_path: Path):
    with pytest.raises(Gz2vitError, match=r"`\./run_all\.sh( demo)?`"):
        Explorer(tmp_path / "results" / "demo")
    (tmp_path / "results" / "empty").mkdir(parents=True)
    (tmp_path / "results" / "mine").symlink_to(trained_run)
    shutil.copytree(trained_run, tmp_path / "results" / "other")
    explorer = Explorer(tmp_path / "results" / "demo")
    assert [name for name, _ in explorer.run.options] == ["mine", "other"]
    other = tmp_path / "results" / "other"
    (other / "models" / "linformer").rename(other / "models" / "renamed")
    explorer.run.value = other
    assert explorer.network.options == ("convnext", "renamed")
    assert explorer.viewer.results_dir == other
    assert explorer.message.value == ""


def test_another_choice_makes_one_other_picture(trained_run: Path, monkeypatch: pytest.MonkeyPatch):
    explorer = Explorer(trained_run)
    drawn = Mock(wraps=explorer.viewer.picture)
    monkeypatch.setattr(explorer.viewer, "picture", drawn)
    pictures = [bytes(explorer.image.value)]
    assert pictures[0].startswith(PNG)
    ids = explorer.galaxy.options
    for menu, value in (
        (explorer.galaxy, ids[2]), (explorer.next, None), (explorer.layer, "layer 1"),
        (explorer.head, "head 2"), (explorer.network, "convnext"),
    ):  # fmt: skip
        menu.click() if value is None else setattr(menu, "value", value)
        pictures.append(bytes(explorer.image.value))
    assert len(set(pictures)) == len(pictures)
    assert [call.args for call in drawn.call_args_list] == [
        *(("linformer", name, ROLLOUT, AVERAGE) for name in ids[2:4]),
        *(("linformer", ids[3], "layer 1", head) for head in (AVERAGE, "head 2")),
        ("convnext", ids[3], GRAD_CAM, AVERAGE),
    ]
    assert explorer.head.disabled


def test_groups_named_galaxies_and_unknown_ones(trained_run: Path):
    name = open_splits(trained_run)[0].cache.galaxy_ids[1]
    explorer = Explorer(trained_run, "convnext", name)
    assert (explorer.shown, explorer.network.value) == (name, "convnext")
    before = bytes(explorer.image.value)
    explorer.named.value = "<nobody>"
    assert bytes(explorer.image.value) == before
    assert "galaxy &lt;nobody&gt; is not among this run" in explorer.message.value
    table = read_all_predictions(trained_run, ["convnext"])["convnext"]
    viewer = explorer.viewer
    assert viewer.members("convnext", EVERY) == table.index.tolist()
    mistakes = viewer.members("convnext", MISTAKES)
    assert set(mistakes) == set(table.index[table["pred"] != table["class"]])
    assert table.loc[mistakes, "p0":"p7"].max(axis=1).is_monotonic_decreasing
    explorer.group.value = CLASS_NAMES[3]
    members = viewer.members("convnext", CLASS_NAMES[3])
    assert set(table.loc[members, "class"]) == {3}
    assert explorer.shown == explorer.galaxy.value == members[0]
    assert explorer.message.value == ""
    explorer.previous.click()
    assert explorer.shown == explorer.galaxy.options[-1]


def test_an_empty_group_shows_a_message(trained_run: Path, tmp_path: Path):
    results = tmp_path / "results" / "demo"
    shutil.copytree(trained_run, results)
    path = results / "models" / "linformer" / "predictions.csv"
    table = pd.read_csv(path, dtype={"GalaxyID": str})
    table.assign(pred=table["class"]).to_csv(path, index=False)
    explorer = Explorer(results)
    explorer.group.value = MISTAKES
    assert "empty" in explorer.message.value
    explorer.next.click()  # goes nowhere
    explorer.group.value = EVERY
    assert explorer.message.value == ""
