"""The real Galaxy Zoo 2 in small: fetched from a mirror, joined, and run by the profile `paper`."""

import gzip
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gz2vit import workflow as pipeline
from gz2vit.catalog import read_data_folder
from gz2vit.download import RemoteFile, fetch_galaxy_zoo
from gz2vit.io import Gz2vitError
from gz2vit.votes import DEFAULT_RULE
from tests.unit.file_server import remote_file, zip_of
from tests.unit.folders import make_folder
from tests.vote_catalogues import make_votes_home, random_votes

GALAXIES = 400


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all files of a Galaxy Zoo of 400 galaxies; two lack their properties."""
    root = tmp_path_factory.mktemp("mirror")
    votes = random_votes(GALAXIES, seed=21)
    home = make_votes_home(root / "home", votes, DEFAULT_RULE)
    folder = root / "mirror"
    folder.mkdir()
    for path in (*home.glob("gz2_*.csv"), *(home / "downloads").iterdir()):
        shutil.copy(path, folder / path.name)
    rows = [f"{objid},2,{5 + row / 100},16.5,0.1,0.05" for row, objid in enumerate(votes.index[2:])]
    header = "OBJID,PETROR50_R,PETROR90_R,PETROMAG_R,EXTINCTION_R,REDSHIFT"
    sample = "\n".join([header, *rows]).encode()
    (folder / "gz2sample.csv.gz").write_bytes(gzip.compress(sample, mtime=0))
    images = sorted((make_folder(root / "images") / "images").glob("*.jpg"))
    members = {
        f"images/{1000 + row}.jpg": images[row % len(images)].read_bytes()
        for row in range(GALAXIES)
    }
    (folder / "images_gz2.zip").write_bytes(zip_of(members))
    return folder


def published(mirror: Path) -> dict:
    """What is published about the mirror's files, as `download` wants it."""
    names = {
        "labels": [f"gz2_{split}.csv" for split in ("train", "valid", "test")],
        "mapping": ["gz2_filename_mapping.csv"],
        "votes": ["gz2_hart16.csv.gz"],
        "properties": ["gz2sample.csv.gz"],
        "images": ["images_gz2.zip"],
    }
    files = {}
    for what, some in names.items():
        place = "" if what == "labels" else "downloads"
        files[what] = tuple(published_file(mirror / name, place) for name in some)
    counts = {
        split: np.bincount(pd.read_csv(mirror / f"gz2_{split}.csv").label1, minlength=8).tolist()
        for split in ("train", "valid", "test")
    }
    return {"files": files, "class_counts": counts}


def published_file(path: Path, place: str) -> RemoteFile:
    if path.suffix == ".zip":
        room = {"unpacked_bytes": 10_000_000, "place": place}
        return remote_file(path.name, path.read_bytes(), GALAXIES, **room)
    table = pd.read_csv(path)
    columns = (table.columns[0],)
    return remote_file(path.name, path.read_bytes(), len(table), columns=columns, place=place)


def test_properties_are_joined_and_those_without_counted(
    mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    fetch_galaxy_zoo(tmp_path, mirror=str(mirror), **published(mirror))
    properties = read_data_folder(tmp_path).properties
    tables = read_data_folder(tmp_path).tables
    assert len(properties) == sum(len(table) for table in tables.values())
    known = properties[properties.petroR90_r.notna()]
    assert np.allclose(known.petroR90_r, 5 + (known.galaxyID.astype(int) - 1002) / 100)
    assert (known.dered_r == 16.4).all()
    lost = {"1000", "1001"} & set(properties.galaxyID)
    assert set(properties.galaxyID[properties.petroR90_r.isna()]) == lost
    told = capsys.readouterr().out
    assert f"{len(lost)} without petroR90_r, {len(lost)} without dered_r" in told
    fetch_galaxy_zoo(tmp_path, mirror=str(mirror), **published(mirror))
    assert "galaxy_properties.csv" not in capsys.readouterr().out  # nothing new to join


def test_paper_fetches_checks_and_selects(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """`./run_all.sh paper --only select labels`, on the small Galaxy Zoo."""
    fetch = partial(fetch_galaxy_zoo, mirror=str(mirror), **published(mirror))
    monkeypatch.setattr(pipeline, "fetch_galaxy_zoo", fetch)
    monkeypatch.setattr(pipeline, "GALAXY_ZOO_DIR", tmp_path / "gz2")
    words = ("paper", None, str(tmp_path / "out"))
    pipeline.run_road(pipeline.make_road(*words, ["select", "labels"], 1, ["MIN_VOTES=10"]))
    assert (tmp_path / "out" / "selection" / "data.json").exists()
    assert (tmp_path / "out" / "figures" / "label_agreement.pdf").exists()
    assert (tmp_path / "gz2" / "galaxy_properties.csv").exists()


def test_a_slip_is_told_before_anything_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pipeline, "fetch_galaxy_zoo", lambda directory: pytest.fail("fetched"))
    road = pipeline.make_road("paper", None, str(tmp_path / "out"), [], 1, ["MAX_EPOCHS=3"])
    with pytest.raises(Gz2vitError, match="did you mean 'MAX_EPOCH'"):
        pipeline.run_road(road)
