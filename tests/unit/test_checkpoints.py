"""Weights: a checkpoint gives the same bits again, pretrained ones are taken whole or refused."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gz2vit.evaluation import PROBABILITY_COLUMNS
from gz2vit.images import LabelledImages
from gz2vit.io import Gz2vitError, read_json
from gz2vit.predict import predict
from gz2vit.training import (
    TrainingSettings,
    identity,
    load_classifier,
    make_classifier,
    train_model,
)
from tests.unit.small_training import NETWORK, SETTINGS, make_results, open_splits


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_results(tmp_path_factory.mktemp("road"))


@pytest.fixture
def splits(results: Path) -> tuple[LabelledImages, ...]:
    return open_splits(results)


SMALL = {
    "linformer": NETWORK,
    "vit": {"image_size": 32, "patch_size": 8, "depth": 1, "dim": 16, "mlp_dim": 8, "heads": 2},
    "resnet50": {},
    "vgg16_bn": {},
    "hf_vit": {"image_size": 32, "patch_size": 8, "depth": 1, "dim": 16, "mlp_dim": 8, "heads": 2},
    "backbone": {"name": "timm/convnext_atto", "image_size": 32},
}
RELOAD = """
import sys
import numpy as np
from gz2vit.data import open_split
from gz2vit.evaluation import PROBABILITY_COLUMNS
from gz2vit.results import read_json
from gz2vit.training import load_classifier, predict
table = predict(load_classifier(sys.argv[1]), open_split(sys.argv[2], "test"))
np.save(sys.argv[3], table[list(PROBABILITY_COLUMNS)].to_numpy())
"""


@pytest.mark.parametrize("architecture", SMALL)
def test_a_checkpoint_predicts_the_same_bits_in_a_new_process(
    results: Path, splits: tuple, tmp_path: Path, architecture: str
):
    """Trained for an epoch, so that running means and all else that is stored have moved."""
    train, valid, test = splits
    settings = replace(
        SETTINGS,
        model_key=architecture,
        hyperparameters=SMALL[architecture],
        max_epoch=1,
        lr=1e-4,
    )
    train_model(settings, train, valid, tmp_path / "m")
    ours = predict(load_classifier(tmp_path / "m"), test)[list(PROBABILITY_COLUMNS)].to_numpy()
    command = [sys.executable, "-c", RELOAD, tmp_path / "m", results, tmp_path / "p.npy"]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    subprocess.run([*map(str, command)], check=True, env=os.environ | threads)
    assert np.array_equal(ours, np.load(tmp_path / "p.npy"))


def test_a_checkpoint_of_another_network_is_refused(splits: tuple, tmp_path: Path):
    train, valid, _ = splits
    train_model(replace(SETTINGS, max_epoch=1), train, valid, tmp_path / "m")
    state = torch.load(tmp_path / "m" / "best.ckpt", weights_only=True)
    state["hyper_parameters"]["settings"]["hyperparameters"]["depth"] = 2
    torch.save(state, tmp_path / "m" / "best.ckpt")
    with pytest.raises(Gz2vitError, match="best.ckpt is not a checkpoint of this suite"):
        load_classifier(tmp_path / "m")


def test_a_damaged_checkpoint_is_refused(splits: tuple, tmp_path: Path):
    train, valid, _ = splits
    train_model(replace(SETTINGS, max_epoch=1), train, valid, tmp_path / "m")
    path = tmp_path / "m" / "best.ckpt"
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:100] + b"\0" * 400 + whole[500:]):
        path.write_bytes(damaged)
        with pytest.raises(Gz2vitError, match="best.ckpt is not a checkpoint"):
            load_classifier(tmp_path / "m")


def test_a_frozen_backbone_stays_as_it_was(splits: tuple, tmp_path: Path):
    train, valid, _ = splits
    network = SMALL["backbone"] | {"freeze_backbone": True}
    settings = replace(
        SETTINGS, model_key="mine", architecture="backbone", hyperparameters=network, max_epoch=1
    )
    before, _ = make_classifier(settings, train)
    train_model(settings, train, valid, tmp_path / "m")
    after = load_classifier(tmp_path / "m").network.state_dict()
    changed = {
        name
        for name, tensor in before.network.state_dict().items()
        if not torch.equal(tensor, after[name])
    }
    assert changed == {"head.fc.weight", "head.fc.bias"}


def test_a_local_hugging_face_model_is_the_start(splits: tuple, tmp_path: Path):
    from transformers import ViTConfig, ViTForImageClassification

    sizes = SMALL["hf_vit"]
    donor = ViTForImageClassification(
        ViTConfig(
            image_size=32, patch_size=8, hidden_size=16, num_hidden_layers=1,
            num_attention_heads=2, intermediate_size=8, num_labels=1000,
        )
    )  # fmt: skip
    donor.save_pretrained(tmp_path / "donor")
    settings = replace(
        SETTINGS, model_key="hf_vit", hyperparameters=sizes, weights=str(tmp_path / "donor")
    )
    classifier, record = make_classifier(settings, splits[0])
    own = classifier.network.model.vit.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in donor.vit.state_dict().items())
    assert record["file"] == "model.safetensors"
    with pytest.raises(Gz2vitError, match="do not fit hf_vit"):
        make_classifier(replace(settings, hyperparameters=sizes | {"depth": 2}), splits[0])


def test_a_local_file_is_the_start_of_a_network_of_timm(splits: tuple, tmp_path: Path):
    import timm
    from safetensors.torch import save_file

    donor = timm.create_model("convnext_atto", num_classes=1000)
    save_file(donor.state_dict(), tmp_path / "donor.safetensors")
    settings = replace(
        SETTINGS,
        model_key="mine",
        architecture="backbone",
        hyperparameters=SMALL["backbone"],
        weights=str(tmp_path / "donor.safetensors"),
    )
    classifier, _ = make_classifier(settings, splits[0])
    assert torch.equal(classifier.network.stem[0].weight, donor.stem[0].weight)
    mean = -classifier.shift / (255 * classifier.scale)
    assert mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    save_file({"foreign": torch.zeros(2)}, tmp_path / "donor.safetensors")
    with pytest.raises(Gz2vitError, match="do not fit timm/convnext_atto"):
        make_classifier(settings, splits[0])


def test_foreign_checkpoint_is_refused_and_runs_nothing(tmp_path: Path):
    class Bomb:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "exploded",))

    torch.save({"hyper_parameters": Bomb(), "state_dict": {}}, tmp_path / "best.ckpt")
    with pytest.raises(Gz2vitError, match="best.ckpt is not a checkpoint of this suite"):
        load_classifier(tmp_path)
    assert not (tmp_path / "exploded").exists()
    (tmp_path / "best.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(Gz2vitError, match="best.ckpt is not a checkpoint"):
        load_classifier(tmp_path)


def test_missing_checkpoint_names_the_step(tmp_path: Path):
    with pytest.raises(Gz2vitError, match="the step 'resnet50' makes it"):
        load_classifier(tmp_path / "results" / "demo" / "models" / "resnet50")


def test_local_imagenet_weights_are_taken_and_recorded(splits: tuple, tmp_path: Path):
    from gz2vit.models import build_model

    torch.manual_seed(7)
    donor = build_model("resnet50", num_classes=1000)
    torch.save(donor.state_dict(), tmp_path / "donor.pth")
    settings = TrainingSettings(
        "resnet50", lr=1e-4, step_size=1, gamma=1.0, weights=str(tmp_path / "donor.pth")
    )
    classifier, record = make_classifier(settings, splits[0])
    assert torch.equal(classifier.network.conv1.weight, donor.conv1.weight)
    assert classifier.network.fc.out_features == 8
    assert record["source"] == settings.weights
    assert len(record["sha256"]) == 64


def test_weights_that_do_not_fit_or_are_missing_are_told(splits: tuple, tmp_path: Path):
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    settings = TrainingSettings("resnet50", lr=1e-4, step_size=1, gamma=1.0)
    with pytest.raises(Gz2vitError, match="do not fit resnet50"):
        make_classifier(replace(settings, weights=str(tmp_path / "other.pth")), splits[0])
    with pytest.raises(Gz2vitError, match="no weights file .*absent.pth"):
        make_classifier(replace(settings, weights=str(tmp_path / "absent.pth")), splits[0])


def trained_linformer(splits: tuple, folder: Path, **sizes: object) -> tuple:
    """A trained network in `folder`, and settings of another training of the same network."""
    settings = replace(SETTINGS, max_epoch=1, hyperparameters={**NETWORK, **sizes})
    train_model(settings, splits[0], splits[1], folder)
    return load_classifier(folder), replace(SETTINGS, seed=5, lr=1e-4, weights=str(folder))


@pytest.mark.parametrize("name", ["", "best.ckpt"])
def test_a_trained_network_is_the_start_with_its_last_layer(
    splits: tuple, tmp_path: Path, name: str
):
    donor, settings = trained_linformer(splits, tmp_path / "donor")
    settings = replace(settings, weights=str(tmp_path / "donor" / name))
    started, record = make_classifier(settings, splits[0])
    fresh, _ = make_classifier(replace(settings, weights="none"), splits[0])
    state, theirs = started.network.state_dict(), donor.network.state_dict()
    assert state.keys() == theirs.keys()
    assert all(torch.equal(state[key], theirs[key]) for key in theirs)
    last = "mlp_head.1.weight"
    assert not torch.equal(fresh.network.state_dict()[last], state[last])
    path = tmp_path / "donor" / "best.ckpt"
    assert record["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (record["source"], record["file"]) == (settings.weights, "best.ckpt")


def test_fine_tuning_begins_with_the_trained_weights_and_says_so(splits: tuple, tmp_path: Path):
    """With next to no learning rate, what comes out is what went in."""
    donor, settings = trained_linformer(splits, tmp_path / "donor")
    settings = replace(settings, lr=1e-12, max_epoch=1)
    train_model(settings, splits[0], splits[1], tmp_path / "tuned")
    tuned = load_classifier(tmp_path / "tuned").network.state_dict()
    for key, tensor in donor.network.state_dict().items():
        assert torch.allclose(tuned[key], tensor, atol=1e-7), key
    record = read_json(tmp_path / "tuned" / "params.json")
    assert record["weights"]["source"] == str(tmp_path / "donor")
    assert record["parameters"]["weights"] == str(tmp_path / "donor")


def test_a_trained_network_of_other_sizes_is_told(splits: tuple, tmp_path: Path):
    _, settings = trained_linformer(splits, tmp_path / "donor", dim=32, depth=2)
    with pytest.raises(Gz2vitError) as caught:
        make_classifier(settings, splits[0])
    told = str(caught.value)
    assert told.startswith(f"weights '{tmp_path / 'donor' / 'best.ckpt'}' do not fit the linformer")
    assert "depth is 2 there and 1 here; dim is 32 there and 16 here; cls_token is 1x1x32" in told
    other = TrainingSettings("resnet50", lr=1e-4, step_size=1, gamma=1.0, weights=settings.weights)
    with pytest.raises(Gz2vitError, match="do not fit the resnet50 .*: they are of a linformer"):
        make_classifier(other, splits[0])


def test_dropout_may_differ_from_the_trained_networks(splits: tuple, tmp_path: Path):
    donor, settings = trained_linformer(splits, tmp_path / "donor", dropout=0.5)
    started, _ = make_classifier(settings, splits[0])
    assert torch.equal(started.network.cls_token, donor.network.cls_token)


def test_another_network_of_a_library_is_told(splits: tuple, tmp_path: Path):
    sizes = {"image_size": 32}
    settings = TrainingSettings(
        "small", lr=1e-4, step_size=1, gamma=1.0, image_size=32, max_epoch=1,
        architecture="backbone", hyperparameters={"name": "timm/test_resnet", **sizes},
    )  # fmt: skip
    train_model(settings, splits[0], splits[1], tmp_path)
    start = replace(settings, weights=str(tmp_path))
    make_classifier(start, splits[0])
    start = replace(start, hyperparameters={"name": "timm/test_vit", **sizes})
    with pytest.raises(Gz2vitError, match="they are of timm/test_resnet, not of timm/test_vit"):
        make_classifier(start, splits[0])


def test_a_foreign_checkpoint_is_no_start_and_runs_nothing(splits: tuple, tmp_path: Path):
    class Bomb:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "exploded",))

    settings = replace(SETTINGS, weights=str(tmp_path / "best.ckpt"))
    with pytest.raises(Gz2vitError, match="there is no trained network .*best.ckpt"):
        make_classifier(settings, splits[0])
    for content in ({"hyper_parameters": Bomb()}, {"state_dict": {}}, [1, 2]):
        torch.save(content, tmp_path / "best.ckpt")
        with pytest.raises(Gz2vitError, match="best.ckpt is not a checkpoint of this suite"):
            make_classifier(settings, splits[0])
    assert not (tmp_path / "exploded").exists()


def test_another_start_of_the_same_name_is_another_run(splits: tuple, tmp_path: Path):
    _, settings = trained_linformer(splits, tmp_path / "donor")
    first = identity(settings, splits[0], splits[1])
    assert first == identity(settings, splits[0], splits[1])
    path = tmp_path / "donor" / "best.ckpt"
    path.write_bytes(path.read_bytes() + b"more")
    assert identity(settings, splits[0], splits[1])["start"] != first["start"]
