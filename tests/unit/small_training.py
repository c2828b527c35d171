"""A training that takes a second: its settings, and galaxies to learn from."""

from pathlib import Path

from gz2vit.catalog import read_data_folder, write_selection
from gz2vit.images import LabelledImages, open_split, pack_images
from gz2vit.training import TrainingSettings
from tests.unit.folders import make_folder

NETWORK = {"image_size": 32, "patch_size": 8, "depth": 1, "dim": 16, "k_dim": 4, "heads": 2}
SETTINGS = TrainingSettings(
    "linformer",
    lr=3e-3,
    step_size=2,
    gamma=0.5,
    hyperparameters=NETWORK,
    image_size=32,
    batch_size=16,
    max_epoch=3,
)


def make_results(root: Path) -> Path:
    """A results folder with a selection and packed stores of a small data folder."""
    folder = read_data_folder(make_folder(root / "mine", per_class=3))
    selection = write_selection(root, folder, folder.tables, "smoke")
    for split, table in selection.tables.items():
        paths = [folder.image_path(name) for name in table.galaxyID]
        ids = table.galaxyID.tolist()
        pack_images(paths, ids, root / "store" / split, 64)
    return root


def open_splits(results: Path) -> tuple[LabelledImages, ...]:
    """The three splits of a results folder."""
    return tuple(open_split(results, split) for split in ("train", "valid", "test"))
