"""From simulated to real galaxies: three trainings of one network, tested on real galaxies.

The arms: simulated galaxies alone; the run's real ones alone; and the real ones again, but from the
weights of the first arm (fine-tuning). Best epochs are chosen with validation galaxies of the kind
that an arm learns from. The test galaxies are opened when every training has ended.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from gz2vit.catalog import DataFolder, folder_signature, read_data_folder
from gz2vit.data import LabelledImages, open_split, pack_images
from gz2vit.errors import Gz2vitError
from gz2vit.realism.transfer import FINE_TUNED, REAL_ALONE, SIMULATED_ALONE
from gz2vit.results import CHECKPOINT, atomic_path, read_json, write_json
from gz2vit.selection import read_selection
from gz2vit.training.classifier import load_classifier
from gz2vit.training.predict import predict
from gz2vit.training.run import train_model
from gz2vit.training.settings import TrainingSettings
from gz2vit.training.unfinished import forget, identity

FOLDER = "transfer"  # in the results folder: everything but the tables
TRAINED = "trained.json"  # in a model's folder: of which training its weights are
CROP_PX = 224  # of the simulated images; as the step `pack` keeps of the real ones


@dataclass(frozen=True)
class Plan:
    """The trainings of the three arms and their seeds.

    Every seed makes a real and a fine-tuned network; the latter starts from the simulated network
    of the same seed, or of the first of `simulated_seeds` where there is none. Raises `Gz2vitError`
    for no seeds, or the same seed twice.
    """

    simulated: TrainingSettings
    real: TrainingSettings
    fine_tuned: TrainingSettings
    seeds: tuple[int, ...]
    simulated_seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        for seeds in (self.seeds, self.simulated_seeds):
            whole = all(type(seed) is int and seed >= 0 for seed in seeds)
            if not seeds or not whole or len(set(seeds)) < len(seeds):
                raise Gz2vitError(
                    f"the seeds are {list(seeds)}; give distinct whole numbers from 0 on"
                )

    def start_of(self, seed: int) -> int:
        """The seed of the simulated network that a fine-tuning starts from."""
        return seed if seed in self.simulated_seeds else self.simulated_seeds[0]


@dataclass(frozen=True)
class Trained:
    """One network that has been trained: its arm and seed, where its `best.ckpt` is.

    `galaxies`: how many it learnt from (last).
    """

    arm: str
    seed: int
    folder: Path
    galaxies: int


def require_real(results_dir: Path | str) -> None:
    """Raise `Gz2vitError` where the run's galaxies are simulated: nothing would be transferred."""
    if read_selection(results_dir).data["simulated"]:
        raise Gz2vitError(
            "this run's galaxies are simulated, so that there are no real ones to test on; give a "
            "folder of real galaxies with --data DIR"
        )


def make_simulated(
    results_dir: Path | str,
    galaxies: int,
    seed: int,
    crop_px: int = CROP_PX,
    processes: int | None = None,
) -> tuple[LabelledImages, LabelledImages]:
    """Simulate galaxies and pack them: those to learn from, and those to choose an epoch with.

    Nothing is tested on them, so that their test split is learnt from as well. What is there
    already is kept. Raises `Gz2vitError` where the run's own galaxies are simulated too, and as
    `simulation.simulate` and `data.pack_images`.
    """
    from gz2vit.simulation import simulate  # GalSim is slow to load

    require_real(results_dir)
    home = Path(results_dir) / FOLDER
    simulate(home / "simulated", galaxies, seed, processes, replace=True)
    folder = read_data_folder(home / "simulated")
    parts = {"train": ("train", "test"), "valid": ("valid",)}
    train, valid = (
        _pack(folder, name, pd.concat([folder.tables[split] for split in splits]), home, crop_px)
        for name, splits in parts.items()
    )
    return train, valid


def _pack(
    folder: DataFolder, name: str, table: pd.DataFrame, home: Path, crop_px: int
) -> LabelledImages:
    """The galaxies of `table` as a store, `store/<name>.npy`."""
    ids = table.galaxyID.tolist()
    paths = [folder.image_path(galaxy_id) for galaxy_id in ids]
    target = home / "store" / f"{name}.npy"
    store = pack_images(paths, ids, target, crop_px, folder_signature(folder.path))
    return LabelledImages(name, store, table.label1.to_numpy())


def train_arms(
    results_dir: Path | str,
    plan: Plan,
    simulated: tuple[LabelledImages, LabelledImages],
    acceleration: str = "auto",
) -> list[Trained]:
    """Train every network of `plan`; those that are trained already are kept.

    `simulated`: as `make_simulated` returns them. Raises `Gz2vitError` as `train_model`.
    """
    real = open_split(results_dir, "train"), open_split(results_dir, "valid")
    home = (Path(results_dir) / FOLDER / "models").resolve()
    orders = [(SIMULATED_ALONE, seed, plan.simulated, simulated) for seed in plan.simulated_seeds]
    for seed in plan.seeds:
        start = home / SIMULATED_ALONE / str(plan.start_of(seed))
        tuned = replace(plan.fine_tuned, weights=str(start / CHECKPOINT))
        orders += [(REAL_ALONE, seed, plan.real, real), (FINE_TUNED, seed, tuned, real)]
    trained = []
    for arm, seed, settings, (train, valid) in orders:
        one = Trained(arm, seed, home / arm / str(seed), len(train.store))
        print(f"{arm}, seed {seed}: {one.galaxies:,} galaxies to learn from", flush=True)
        train_once(replace(settings, seed=seed), train, valid, one.folder, acceleration)
        trained.append(one)
    return trained


def train_once(
    settings: TrainingSettings,
    train: LabelledImages,
    valid: LabelledImages,
    model_dir: Path,
    acceleration: str = "auto",
) -> None:
    """`train_model`, unless `model_dir` holds what the same training has made."""
    run, note = identity(settings, train, valid), model_dir / TRAINED
    if note.exists() and (model_dir / CHECKPOINT).exists() and read_json(note) == run:
        print("trained already", flush=True)
        return
    note.unlink(missing_ok=True)
    train_model(settings, train, valid, model_dir, acceleration=acceleration)
    write_json(note, run)
    forget(model_dir)


def judge_arms(
    results_dir: Path | str, trained: Sequence[Trained]
) -> dict[str, list[pd.DataFrame]]:
    """The predictions of every network for the run's test galaxies, by arm, in order of seeds.

    Each is written beside its weights as `predictions.csv`.
    """
    test = open_split(results_dir, "test")
    found: dict[str, list[pd.DataFrame]] = {}
    for one in trained:
        predictions = predict(load_classifier(one.folder), test)
        with atomic_path(one.folder / "predictions.csv") as temporary:
            predictions.to_csv(temporary, index=False)
        found.setdefault(one.arm, []).append(predictions)
    return found


def describe_arms(trained: Sequence[Trained]) -> pd.DataFrame:
    """What each network learnt from (last), and how: a row each.

    Columns: `arm`, `seed`, `galaxies`, `lr`, `epochs` (as many as were trained), `best_epoch`,
    `valid_acc` (of validation galaxies of the arm's own kind).
    """
    rows = []
    for one in trained:
        history = pd.read_csv(one.folder / "history.csv")
        best = history.loc[history.valid_acc.idxmax()]
        rows.append(
            {
                "arm": one.arm,
                "seed": one.seed,
                "galaxies": one.galaxies,
                "lr": read_json(one.folder / "params.json")["parameters"]["lr"],
                "epochs": len(history),
                "best_epoch": int(best.epoch),
                "valid_acc": float(best.valid_acc),
            }
        )
    return pd.DataFrame(rows)
