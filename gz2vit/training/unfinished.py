"""What an unfinished training run leaves, from which the same command continues it.

A model's folder holds `unfinished/` until its predictions are written: `last.ckpt`, the state after
the last whole epoch (weights, optimiser, schedule, history); `best.ckpt`, the best weights;
`run.json`, what the run is. Order, augmentation and dropout of an epoch follow from the seed and
the epoch's number alone, so that no state of a random generator is needed to repeat them. A run
that is another one (settings, galaxies or code) does not continue it but starts anew, and keeps the
old state in `given_up/` until it has ended.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from gz2vit.data.galaxies import LabelledImages
from gz2vit.downloads.weights import file_sha256
from gz2vit.errors import Gz2vitError
from gz2vit.results import atomic_path, read_json, trained_checkpoint, write_json
from gz2vit.sources import files_signature
from gz2vit.training.settings import TrainingSettings

FOLDER, GIVEN_UP = "unfinished", "given_up"
LAST, BEST = "last.ckpt", "best.ckpt"
# The code that decides what a training run ends with.
DECIDING = (
    "gz2vit/models/*.py",
    "gz2vit/class_weights.py",
    "gz2vit/data/augmentation.py",
    "gz2vit/data/batches.py",
    "gz2vit/data/device.py",
    *(
        f"gz2vit/training/{name}.py"
        for name in ("classifier", "recipes", "run", "acceleration", "starting_weights")
    ),
)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's way of writing checkpoints, but whole or not at all."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Path | str, storage_options: Any = None
    ) -> None:
        """Write `checkpoint` to `path`; `Gz2vitError` that names it where the disk is full."""
        with atomic_path(path) as temporary:
            try:
                torch.save(checkpoint, temporary)
            except RuntimeError as error:  # torch's writer knows no OSError
                reason = str(error).splitlines()[0]
                raise Gz2vitError(
                    f"cannot write {path}: is the disk full? ({reason}); make room and give the "
                    "same command again, which continues after the last whole epoch"
                ) from error


def galaxies_signature(galaxies: LabelledImages) -> str:
    """A short hash of the galaxies of a split, their classes and the store's note."""
    digest = hashlib.sha256("\n".join(galaxies.store.galaxy_ids).encode())
    digest.update(galaxies.class_index.tobytes())
    note = galaxies.store.path.with_suffix(".json")
    digest.update(note.read_bytes() if note.exists() else b"")
    digest.update(repr(galaxies.store.images.shape).encode())
    return digest.hexdigest()[:16]


def identity(
    settings: TrainingSettings, train: LabelledImages, valid: LabelledImages
) -> dict[str, Any]:
    """What makes two runs the same: settings, a trained network they start from, galaxies, code."""
    start = trained_checkpoint(settings.weights)
    run = {
        "settings": settings.as_dict(),
        "start": None if start is None else file_sha256(start),
        "train": galaxies_signature(train),
        "valid": galaxies_signature(valid),
        "code": files_signature(DECIDING),
    }
    return json.loads(json.dumps(run))  # as it reads when it comes back: tuples are lists


class Unfinished:
    """The folder `unfinished/` of one model."""

    def __init__(self, model_dir: Path) -> None:
        self.model_dir = model_dir
        self.folder = model_dir / FOLDER

    @property
    def last(self) -> Path:
        """The state after the last whole epoch."""
        return self.folder / LAST

    @property
    def best(self) -> Path:
        """The weights of the best epoch so far."""
        return self.folder / BEST

    def begin(self, run: dict[str, Any]) -> None:
        """Make the folder ready for `run`: what another run has left there is given up."""
        note = self.folder / "run.json"
        known = read_json(note) if note.exists() else None
        if known == run:
            return
        given_up = self.model_dir / GIVEN_UP
        if self.last.exists():
            differing = [key for key in run if known is None or known.get(key) != run[key]]
            print(
                f"an unfinished run with other {' and '.join(differing)} is set aside in "
                f"{given_up}; training starts anew",
                flush=True,
            )
            shutil.rmtree(given_up, ignore_errors=True)
            self.folder.replace(given_up)
        shutil.rmtree(self.folder, ignore_errors=True)
        write_json(note, run)

    def rows(self) -> list[dict[str, Any]]:
        """The history of the whole epochs so far; `Gz2vitError` for a damaged checkpoint."""
        if not self.last.exists():
            return []
        try:
            state = torch.load(self.last, map_location="cpu", weights_only=True, mmap=True)
            return state["callbacks"]["History"]["rows"]
        except Exception as error:  # a damaged file can make the reader fail in any way
            raise Gz2vitError(
                f"{self.last} cannot be read; delete {self.folder} to train from the start"
            ) from error

    def add_session(self, hardware: dict[str, Any]) -> list[dict[str, Any]]:
        """Note on what the run goes on now, and after which epoch; all notes so far."""
        path = self.folder / "sessions.json"
        known = read_json(path) if path.exists() else []
        known.append({"after_epoch": len(self.rows()), **hardware})
        write_json(path, known)
        return known

    def publish(self) -> None:
        """Put the best weights into the model's folder, where the run's results belong."""
        with atomic_path(self.model_dir / BEST) as temporary:
            try:
                os.link(self.best, temporary)
            except OSError:  # a file system without hard links
                shutil.copyfile(self.best, temporary)


def forget(model_dir: Path) -> None:
    """Remove the unfinished state of a model whose results are all written."""
    for folder in (FOLDER, GIVEN_UP):
        shutil.rmtree(model_dir / folder, ignore_errors=True)
