"""Files of a results folder: nothing half-written, and errors that name the file and the step."""

import errno
import fcntl
from pathlib import Path

import pytest

from gz2vit import io
from gz2vit.io import Gz2vitError, atomic_path, code_hash, sole_user


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    path = tmp_path / "table.csv"
    io.write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half of the ne")
        raise RuntimeError("killed")
    with pytest.raises(Gz2vitError, match=r"table\.csv.*No space"), atomic_path(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(FileNotFoundError, match="absent"), atomic_path(path):
        (tmp_path / "absent").read_text()  # an error about another file stays what it is
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_round_trip_and_refusals(tmp_path: Path):
    io.write_json(tmp_path / "a.json", {"accuracy": 0.5, "none": None})
    assert io.read_json(tmp_path / "a.json") == {"accuracy": 0.5, "none": None}
    with pytest.raises(ValueError, match="Out of range"):
        io.write_json(tmp_path / "b.json", {"accuracy": float("nan")})
    assert not (tmp_path / "b.json").exists()
    (tmp_path / "c.json").write_text('{"half": ')
    with pytest.raises(Gz2vitError, match=r"c\.json"):
        io.read_json(tmp_path / "c.json")


def test_a_missing_file_names_the_command_that_makes_it(tmp_path: Path):
    """With the results folder that the user chose; its settings need not be repeated."""
    folder = tmp_path / "my results"
    io.write_text(folder / io.SETTINGS, "profile: smoke\n")
    with pytest.raises(Gz2vitError, match=f"`./run_all.sh --results '{folder}' --only pack`"):
        io.require(folder / "store" / "train.npy", "pack")


def test_a_lock_is_held_and_a_file_system_without_locks_warns(tmp_path: Path, monkeypatch):
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
    assert len({code_hash(text) for text in ("!ls\nx = 1", "%%time", "files = !ls", "x =")}) == 4
