"""Results on disk: nothing half-written, and errors that name the step to run."""

import errno
import json
from pathlib import Path

import pytest

from gz2vit.io import (
    Gz2vitError,
    atomic_path,
    command_for,
    git_commit,
    read_json,
    require,
    run_record,
    write_json,
    write_text,
)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    path = tmp_path / "table.csv"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        assert temporary.suffix == ".csv"
        temporary.write_text("half of the ne")
        raise RuntimeError("killed")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_names_the_file(tmp_path: Path):
    path = tmp_path / "table.csv"
    told = pytest.raises(Gz2vitError, match="cannot write .*table.csv: No space left")
    with told, atomic_path(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_an_error_about_another_file_stays_what_it_is(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="absent"), atomic_path(tmp_path / "a.csv"):
        (tmp_path / "absent").read_text()


def test_json_round_trip_and_refusals(tmp_path: Path):
    write_json(tmp_path / "a.json", {"accuracy": 0.5, "none": None})
    assert read_json(tmp_path / "a.json") == {"accuracy": 0.5, "none": None}
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "b.json", {"accuracy": float("nan")})
    assert not (tmp_path / "b.json").exists()
    (tmp_path / "c.json").write_text('{"half": ')
    with pytest.raises(Gz2vitError, match="cannot read .*c.json"):
        read_json(tmp_path / "c.json")


def test_require_names_the_step(tmp_path: Path):
    path = tmp_path / "results" / "demo" / "store" / "train.npy"
    with pytest.raises(Gz2vitError, match="'pack' makes it; run `./run_all.sh demo --only pack`"):
        require(path, "pack")
    path.parent.mkdir(parents=True)
    path.touch()
    assert require(path, "pack") == path


def test_command_for_a_folder_of_the_users_own(tmp_path: Path):
    path = tmp_path / "mine" / "store" / "train.npy"
    (tmp_path / "mine" / "logs").mkdir(parents=True)
    assert command_for(path, "pack") == f"`./run_all.sh --results {tmp_path / 'mine'} --only pack`"


@pytest.mark.parametrize(
    ("name", "call", "words"),
    [
        ("results/demo", {"data": "/my data"}, "demo --data '/my data'"),
        ("results/demo", {"overrides": ["vit.DEPTH=2"]}, "demo --set vit.DEPTH=2"),
        ("results/mine", {}, "demo --results {folder}"),
        ("mine", {"data": "/d"}, "demo --results {folder} --data /d"),
    ],
)
def test_command_for_has_profile_data_and_settings(
    tmp_path: Path, name: str, call: dict, words: str
):
    folder = tmp_path / name
    record = {"profile": "demo", "data": None, "overrides": []} | call
    write_json(folder / "logs" / "road.json", record)
    wanted = f"`./run_all.sh {words.format(folder=folder)} --only pack`"
    assert command_for(folder / "store" / "train.npy", "pack") == wanted


def test_run_record_is_complete_and_plain():
    record = run_record({"lr": 3e-4}, seed=0, device="cpu")
    assert json.loads(json.dumps(record)) == record
    assert record["parameters"] == {"lr": 3e-4}
    assert record["versions"]["vit-pytorch"].startswith("0.")
    commit = git_commit().removesuffix("+changes")
    assert record["git_commit"] == git_commit()
    assert commit == "unknown" or len(commit) == 40
