"""A run in one file: what it keeps, that every change is noticed, and what is drawn from it."""

import shutil
import zipfile
from pathlib import Path

import pytest
import yaml
from rocrate.rocrate import ROCrate

from gz2vit.archive import METADATA, open_archive, write_archive
from gz2vit.catalog import read_selection
from gz2vit.io import Gz2vitError, write_json
from tests.file_server import serve

DRAWN = ("fig3", "report")
SETTINGS = ["fig3.LEFT=vit", "linformer.LR=1", "linformer.SEEDS=[0,1]", "COLOUR=red", "LR=1"]


@pytest.fixture(scope="module")
def run(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run as `./run_all.sh` leaves it, with what does not belong in an archive."""
    results = tmp_path_factory.mktemp("archive") / "results" / "demo"
    shutil.copytree(trained_run, results)
    settings = {"profile": "demo", "data": "/elsewhere", "set": SETTINGS}
    (results / "settings.yaml").write_text(yaml.safe_dump(settings))
    for step, parameters in (("linformer", {"LR": 1}), ("fig3", {"COLOUR": "red", "LEFT": "vit"})):
        write_json(results / "logs" / "steps" / f"{step}.json", {"parameters": parameters})
    for name in ("models/vit/unfinished/a.csv", "notebooks/07_vit.failed.ipynb", "tables/.a.tmp"):
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        (results / name).write_text("{}")
    return results


@pytest.fixture(scope="module")
def archive(run: Path) -> Path:
    write_archive(run, run.parent / "demo.zip")
    return run.parent / "demo.zip"


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_what_it_keeps_and_what_it_becomes(run: Path, archive: Path, tmp_path: Path):
    results = tmp_path / "results" / "demo"
    with serve({"demo.zip": archive.read_bytes()}) as server:
        open_archive(f"{server.address}/demo.zip", results, DRAWN, "demo")
        with pytest.raises(Gz2vitError, match="404"):
            open_archive(f"{server.address}/none.zip", tmp_path / "none", DRAWN)
    kept = files_of(results)
    for name in ("predictions.csv", "history.csv", "params.json", "metrics.json"):
        path = f"models/linformer/{name}"
        assert (results / path).read_bytes() == (run / path).read_bytes()
    assert any(name.startswith("features/") for name in kept)
    dropped = (".ckpt", ".tmp", "fail", "unfinished", "store/")
    assert not [name for name in kept if any(part in name for part in dropped)]
    assert read_selection(results).path == results / "data"
    assert 8 <= len([*(results / "data" / "images").iterdir()]) <= 24  # those of Figs. 1 and 2
    settings = yaml.safe_load((results / "settings.yaml").read_text())
    kept = ["fig3.LEFT=vit", "linformer.SEEDS=[0,1]", "COLOUR=red"]
    assert settings == {"profile": "demo", "data": None, "set": kept}
    # Trainings count as done, what is drawn does not.
    assert {path.name for path in (results / "logs" / "steps").iterdir()} == {"linformer.json"}
    before = files_of(results)
    (results / "mine.csv").write_text("x")
    open_archive(str(archive), results, DRAWN)
    assert files_of(results) == before | {"mine.csv"}
    (results / "archive.json").unlink()
    with pytest.raises(Gz2vitError, match=str(results)):
        open_archive(str(archive), results, DRAWN)
    with pytest.raises(Gz2vitError, match="profile demo, not smoke"):
        open_archive(str(archive), tmp_path / "other", DRAWN, "smoke")
    assert not (tmp_path / "other").exists()


def test_it_is_a_research_object_that_lists_every_file_and_weights_if_asked(run, tmp_path: Path):
    write_archive(run, tmp_path / "weights.zip", weights=True)
    with zipfile.ZipFile(tmp_path / "weights.zip") as content:
        names = set(content.namelist())
        content.extractall(tmp_path / "crate")
    listed = {entity.id: entity for entity in ROCrate(tmp_path / "crate").get_by_type("File")}
    assert set(listed) == names - {METADATA} and "models/linformer/best.ckpt" in names
    assert all(len(entity["sha256"]) == 64 for entity in listed.values())
    with pytest.raises(Gz2vitError, match="weights.zip"):
        write_archive(run, tmp_path / "weights.zip")
    with pytest.raises(Gz2vitError, match="holds no run"):
        write_archive(tmp_path, tmp_path / "none.zip")


def test_any_changed_byte_is_noticed(archive: Path, tmp_path: Path):
    content, named = archive.read_bytes(), 0
    places = [*range(0, len(content), max(1, len(content) // 60)), len(content) - 1]
    for place in places:
        changed = tmp_path / "changed.zip"
        changed.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(Gz2vitError, match="changed.zip is damaged") as caught:
            open_archive(str(changed), tmp_path / "out", DRAWN)
        named += " has changed" in str(caught.value)
    assert named > 0.9 * len(places)
    assert not (tmp_path / "out").exists()
    for other in (content[:-1000], b"", b"PK"):
        changed.write_bytes(other)
        with pytest.raises(Gz2vitError, match="changed.zip"):
            open_archive(str(changed), tmp_path / "out", DRAWN)
    name = "models/linformer/predictions.csv"  # a table exchanged in the zip
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(changed, "w") as new:
        for member in old.namelist():
            new.writestr(member, b"GalaxyID,class,pred\n" if member == name else old.read(member))
        new.comment = old.comment
    with pytest.raises(Gz2vitError, match=f"{name} has changed"):
        open_archive(str(changed), tmp_path / "out", DRAWN)
