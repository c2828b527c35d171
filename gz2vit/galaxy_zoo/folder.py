"""Label tables derived from votes, as a data folder of their own, and questions about one galaxy.

A folder that `python -m gz2vit download` filled holds the raw files in `downloads/`.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gz2vit.catalog import SPLITS, read_label_table
from gz2vit.errors import Gz2vitError
from gz2vit.galaxy_zoo.explanation import explain_class
from gz2vit.galaxy_zoo.identifiers import (
    object_ids,
    read_mapping,
    rename_to_assets,
)
from gz2vit.galaxy_zoo.labels import (
    NO_CLASS,
    class_counts,
    derive_classes,
    label_table,
    split_galaxies,
    write_label_tables,
)
from gz2vit.galaxy_zoo.rules import Rule
from gz2vit.galaxy_zoo.votes import read_votes
from gz2vit.paper import CLASS_NAMES
from gz2vit.results import write_json

VOTES_FILE = "downloads/gz2_hart16.csv.gz"
MAPPING_FILE = "downloads/gz2_filename_mapping.csv"
SAMPLE_FILE = "downloads/gz2sample.csv.gz"
DERIVATION_RECORD = "derivation.json"
# The real Galaxy Zoo 2 lives in the project, unless the environment names another folder.
_IN_THE_PROJECT = Path(__file__).resolve().parents[2] / "gz2_data"
GALAXY_ZOO_DIR = Path(os.environ.get("GZ2VIT_DATA") or _IN_THE_PROJECT)


@dataclass(frozen=True)
class Derivation:
    """What `derive_folder` did: galaxies by class name, by split, and those left out.

    `without_image`: galaxies with a class but without an image (or without a name in the file
    map); `classes`: galaxies for each class before those were left out, and without a class.
    """

    galaxies: Mapping[str, int]
    classes: Mapping[str, int]
    without_image: int


def derive_folder(
    votes_path: Path,
    directory: Path,
    rule: Rule,
    seed: int,
    mapping_path: Path | None = None,
    images: Path | None = None,
) -> Derivation:
    """Write `gz2_<split>.csv` with the classes that `rule` gives, and a record, into `directory`.

    Galaxies are named by their images where `mapping_path` is given, else by their object id. With
    `images` (a folder of `<galaxyID>.jpg`), galaxies without an image are left out and counted,
    and `directory/images` becomes a link to it, so that the result is a data folder. Raises
    `Gz2vitError` as the readers do, where no galaxy is left, and where `directory` holds label
    tables of other origin.
    """
    _check_target(directory)
    classes = derive_classes(read_votes(votes_path), rule)
    named, lost = classes[classes != NO_CLASS], 0
    if mapping_path is not None:
        named, lost = rename_to_assets(named, read_mapping(mapping_path))
    if images is not None:
        present = named.index.isin({path.stem for path in Path(images).glob("*.jpg")})
        named, lost = named[present], lost + int((~present).sum())
        if len(present) and named.empty:
            raise Gz2vitError(f"{images} holds no image <galaxyID>.jpg of any selected galaxy")
    tables = split_galaxies(label_table(named), seed)
    derivation = Derivation(
        {split: len(tables[split]) for split in SPLITS}, class_counts(classes).to_dict(), lost
    )
    if images is not None:
        _link(directory, images)
    write_label_tables(directory, tables)
    write_json(directory / DERIVATION_RECORD, _record(votes_path, rule, seed, derivation))
    return derivation


def _check_target(directory: Path) -> None:
    """Refuse to write over label tables that were not derived here, such as the published ones."""
    tables = [directory / f"gz2_{split}.csv" for split in SPLITS]
    foreign = [path for path in tables if path.exists()]
    if foreign and not (directory / DERIVATION_RECORD).exists():
        raise Gz2vitError(f"{foreign[0]} is there already; give another folder with --to")


def _link(directory: Path, images: Path) -> None:
    """`directory/images`, a link to the folder of images."""
    link, target = directory / "images", Path(images).resolve()
    if link.exists() and link.resolve() == target:
        return
    if link.is_symlink() or link.exists():
        raise Gz2vitError(f"{link} is there already and is not {target}; give another --to")
    directory.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target, target_is_directory=True)


def _record(votes_path: Path, rule: Rule, seed: int, derivation: Derivation) -> dict[str, Any]:
    """Where the label tables are from: the votes, the rule, the seed, the counts."""
    with Path(votes_path).open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {
        "votes": Path(votes_path).name,
        "votes_sha256": digest,
        "rule": asdict(rule),
        "seed": seed,
        **asdict(derivation),
    }


def explain_galaxy(
    galaxy_id: str, votes_path: Path, rule: Rule, data_dir: Path | None = None
) -> str:
    """Why `galaxy_id` (an SDSS object id, or an image's name) got its class, as text.

    In a downloaded `data_dir` image names are looked up in its file map, and the published class
    is told. Raises `Gz2vitError` for a galaxy without votes.
    """
    votes = read_votes(votes_path)
    mapping_path = data_dir / MAPPING_FILE if data_dir is not None else None
    objects = pd.Series(dtype=str)
    if mapping_path is not None and mapping_path.exists():
        objects = object_ids(read_mapping(mapping_path))
    object_id = objects.get(galaxy_id, galaxy_id) if galaxy_id not in votes.index else galaxy_id
    lines = [explain_class(votes, object_id, rule)]
    if object_id != galaxy_id:
        lines.insert(0, f"image {galaxy_id}.jpg shows SDSS object {object_id}")
    if data_dir is not None:
        names = {galaxy_id, *objects.index[objects == object_id]}
        lines += [f"published class: {told}" for told in _published(data_dir, names)]
    return "\n".join(lines)


def _published(data_dir: Path, names: set[str]) -> list[str]:
    """The classes that the label tables of `data_dir` give to the images `names`."""
    found = []
    paths = {split: data_dir / f"gz2_{split}.csv" for split in SPLITS}
    if not any(path.exists() for path in paths.values()):
        return []
    for split, path in paths.items():
        if path.exists():
            table = read_label_table(path)
            for row in table[table.galaxyID.isin(names)].itertuples():
                found.append(
                    f"{row.label1} {CLASS_NAMES[row.label1]} (image {row.galaxyID}, {split})"
                )
    return found or ["none; it is not in the label tables"]
