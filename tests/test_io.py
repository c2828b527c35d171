"""Files of a results folder: nothing half-written, and errors that name the file and the step."""

import errno
import fcntl
from pathlib import Path

import pytest

from gz2vit.io import (
    SETTINGS,
    Gz2vitError,
    atomic_path,
    code_hash,
    command_for,
    read_json,
    require,
    run_record,
    sole_user,
    write_json,
    write_text,
)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    path = tmp_path / "table.csv"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half of the ne")
        raise RuntimeError("killed")
    with pytest.raises(Gz2vitError, match=r"table\.csv.*No space"), atomic_path(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


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
    with pytest.raises(Gz2vitError, match=r"c\.json"):
        read_json(tmp_path / "c.json")


def test_a_missing_file_names_the_command_that_makes_it(tmp_path: Path):
    """With the results folder that the user chose; its settings need not be repeated."""
    (tmp_path / "my results").mkdir()
    write_text(tmp_path / "my results" / SETTINGS, "profile: smoke\n")
    path = tmp_path / "my results" / "store" / "train.npy"
    assert command_for(path, "pack") == (
        f"`./run_all.sh --results '{tmp_path / 'my results'}' --only pack`"
    )
    with pytest.raises(Gz2vitError, match="--results .* --only pack"):
        require(path, "pack")


def test_a_lock_is_held_and_a_file_system_without_locks_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    taken = pytest.raises(Gz2vitError, match="taken")
    with sole_user(tmp_path / "a.lock", ""), taken, sole_user(tmp_path / "a.lock", "taken"):
        pass

    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.warns(UserWarning, match="without locks"), sole_user(tmp_path / "b.lock", "taken"):
        pass


def test_code_is_what_it_means():
    """Comments and docstrings may change; IPython's own lines count, and do not stop anything."""
    plain = 'def f():\n    """Words."""\n    return 1\n'
    assert code_hash(plain) == code_hash("def f():  # more\n    '''Other.'''\n    return 1\n")
    assert code_hash(plain) != code_hash(plain.replace("1", "2"))
    assert code_hash("%matplotlib inline\nx = 1") != code_hash("x = 1")
    for text in ("!ls\nx = 1", "%%time\nx = 1", "files = !ls", "x ="):
        assert code_hash(text) == code_hash(text)


def test_run_record_is_complete():
    record = run_record({"lr": 0.1}, 3, "cpu")
    assert (record["parameters"], record["seed"], record["device"]) == ({"lr": 0.1}, 3, "cpu")
    assert set(record["versions"]) >= {"python", "torch", "vit-pytorch"}
    assert len(record["git_commit"]) >= 7
