"""A results folder with two trained models to look into, made in a few seconds."""

from dataclasses import replace
from pathlib import Path

from gz2vit.attention_maps import open_model
from gz2vit.features import write_features
from gz2vit.images import LabelledImages, open_split
from gz2vit.predict import evaluate_model
from gz2vit.training import build_network, train_model
from tests.unit.small_training import SETTINGS, make_results

KEYS = ["linformer", "convnext"]
CNN = {"name": "timm/convnext_atto", "image_size": 32}


def open_splits(results: Path) -> tuple[LabelledImages, ...]:
    """The three splits of a results folder."""
    return tuple(open_split(results, split) for split in ("train", "valid", "test"))


def make_trained_run(results: Path) -> Path:
    """96 galaxies, a Linformer with features, a CNN without; its path."""
    make_results(results)
    train, valid, test = open_splits(results)
    linformer = replace(SETTINGS, max_epoch=2)
    words = {"hyperparameters": CNN, "architecture": "backbone", "max_epoch": 1}
    cnn = replace(SETTINGS, model_key="convnext", lr=1e-3, **words)
    for key, settings in zip(KEYS, (linformer, cnn), strict=True):
        train_model(build_network(settings), settings, train, valid, results / "models" / key)
        evaluate_model(results, key, test)
    write_features(results, open_model(results, "linformer"))
    return results
