"""A results folder with small galaxies, and with two trained models, made in a few seconds."""

from dataclasses import replace
from pathlib import Path

from gz2vit.attention_maps import open_model
from gz2vit.catalog import read_data_folder, write_selection
from gz2vit.features import write_features
from gz2vit.images import LabelledImages, open_split, pack_images
from gz2vit.predict import evaluate_model
from gz2vit.training import TrainingSettings, build_network, train_model
from tests.folders import make_folder

NETWORK = {"image_size": 32, "patch_size": 8, "depth": 1, "dim": 16, "k_dim": 4, "heads": 2}
SETTINGS = TrainingSettings(
    "linformer", lr=3e-3, step_size=2, gamma=0.5, hyperparameters=NETWORK, image_size=32,
    batch_size=16, max_epoch=3,
)  # fmt: skip
CNN = {"name": "timm/convnext_atto", "image_size": 32}
KEYS = ["linformer", "convnext"]


def make_results(root: Path) -> Path:
    """A results folder with the selection and the image cache of a small data folder."""
    folder = read_data_folder(make_folder(root / "mine", per_class=3))
    selection = write_selection(root, folder, folder.tables, "smoke")
    for split, table in selection.tables.items():
        paths = [folder.image_path(name) for name in table.galaxyID]
        pack_images(paths, table.galaxyID.tolist(), root / "store" / split, 64)
    return root


def open_splits(results: Path) -> tuple[LabelledImages, ...]:
    """The three splits of a results folder."""
    return tuple(open_split(results, split) for split in ("train", "valid", "test"))


def make_trained_run(results: Path) -> Path:
    """96 galaxies, a Linformer with features, a CNN without; its path."""
    train, valid, test = open_splits(make_results(results))
    linformer = replace(SETTINGS, max_epoch=2)
    words = {"hyperparameters": CNN, "architecture": "backbone", "max_epoch": 1}
    cnn = replace(SETTINGS, model_key="convnext", lr=1e-3, **words)
    for key, settings in zip(KEYS, (linformer, cnn), strict=True):
        train_model(build_network(settings), settings, train, valid, results / "models" / key)
        evaluate_model(results, key, test)
    write_features(results, open_model(results, "linformer"))
    return results
