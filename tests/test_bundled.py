"""The network in the box: its files, its predictions of images, and a fine-tuning from it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from gz2vit import io
from gz2vit.cli import main
from gz2vit.evaluation import PROBABILITY_COLUMNS
from gz2vit.models import build_model, count_parameters
from gz2vit.predict import InferenceOptions, predict_images, read_images, warn_of_learnt
from gz2vit.training import TrainingSettings, load_classifier, take_weights
from gz2vit.weights import file_sha256
from tests.folders import make_folder, needs_shared

SHA256 = "0c6562cb5e9e4be6acde99f062156eee045558751a456399ae138a6da62451da"


def test_the_weights_are_the_cards_small_and_read_without_running_anything():
    assert io.BUNDLED.stat().st_size <= 6_000_000 and file_sha256(io.BUNDLED) == SHA256
    assert SHA256 in io.MODEL_CARD.read_text()
    with safe_open(io.BUNDLED, "pt") as file:
        recorded = json.loads(file.metadata()["hyper_parameters"])
    classifier = load_classifier("bundled")
    assert classifier.temperature == recorded["temperature"] > 0
    assert count_parameters(classifier.network) == count_parameters(build_model("linformer"))
    assert not classifier.training


def test_a_folder_of_jpegs_gets_calibrated_classes_without_a_model(tmp_path: Path, capsys):
    folder = make_folder(tmp_path / "mine")
    words = ["predict", str(folder / "images"), "--out", str(tmp_path / "out.csv")]
    assert main([*words, "--labels", str(folder / "gz2_test.csv")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "bundled" in said[0] and str(io.MODEL_CARD) in said[0]
    assert "8 of" in said[-1] and "accuracy" in said[-1] and "calibration error" in said[-1]
    table = pd.read_csv(tmp_path / "out.csv")
    assert np.allclose(table[[*PROBABILITY_COLUMNS]].sum(axis=1), 1)
    # of eight views: a picture turned is the same
    turned = tmp_path / "turned" / "test-003.png"
    turned.parent.mkdir()
    Image.open(folder / "images" / "test-003.jpg").rotate(90).save(turned)
    predict_images("bundled", [turned], tmp_path / "turned.csv")
    own, other = (pd.read_csv(path).set_index("GalaxyID").loc["test-003", [*PROBABILITY_COLUMNS]]
                  for path in (tmp_path / "out.csv", tmp_path / "turned.csv"))  # fmt: skip
    assert np.allclose(own.astype(float), other.astype(float), atol=1e-3)


def test_other_sizes_are_refused_or_scaled_as_asked(tmp_path: Path, capsys):
    whole = np.random.default_rng(0).integers(0, 255, (53, 53, 3), np.uint8)
    Image.fromarray(whole).resize((424, 424), Image.Resampling.NEAREST).save(tmp_path / "gz2.png")
    Image.fromarray(whole).resize((848, 848), Image.Resampling.NEAREST).save(tmp_path / "big.png")
    assert main(["predict", str(tmp_path / "big.png"), "--out", str(tmp_path / "out.csv")]) == 1
    assert "--resize or --pixel-scale" in capsys.readouterr().err

    def see(name: str, **how: object) -> tuple[np.ndarray, str | None]:
        return read_images([str(tmp_path / name)], 224, InferenceOptions(**how, crop_px=224))[0]

    plain, resized = see("gz2.png")[0], see("big.png", resize=True)[0]
    assert np.abs(resized - plain.astype(float)).mean() < 8
    assert np.array_equal(resized, see("big.png", pixel_scale=2.0)[0])
    assert not np.array_equal(resized, see("big.png", pixel_scale=1.0)[0])
    assert "448 px" in see("gz2.png", pixel_scale=2.0)[1]


def test_a_fine_tuning_starts_from_all_of_it_and_its_galaxies_are_warned_of(capsys):
    network = build_model("linformer")
    source = take_weights(network, TrainingSettings("linformer", weights="bundled"))
    assert source["source"] == "bundled" and source["sha256"] == SHA256
    bundled = load_classifier("bundled").network.state_dict()
    assert all(torch.equal(one, bundled[name]) for name, one in network.state_dict().items())
    learnt = pd.read_csv(io.LEARNT, dtype=str)
    assert learnt.split.value_counts().to_dict() == {"train": 2152, "valid": 531}
    warn_of_learnt(["nobody", learnt.galaxyID[0]])
    assert f"1 of these ids, such as {learnt.galaxyID[0]}" in capsys.readouterr().err
    warn_of_learnt(["nobody"])
    assert not capsys.readouterr().err


@pytest.mark.parametrize(("name", "galaxies"), [("real_gz2", 529), ("paper_galaxies", 40)])
def test_no_test_galaxy_was_learnt_from(name: str, galaxies: int):
    ids = pd.read_csv(needs_shared(f"data/{name}/gz2_test.csv"), dtype={"galaxyID": str}).galaxyID
    assert len(ids) == galaxies and not set(ids) & set(pd.read_csv(io.LEARNT, dtype=str).galaxyID)
