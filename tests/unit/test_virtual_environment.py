"""gz2vit.virtual_environment: the parts that need no real environment.

What makes, finishes and mends real ones is tested in test_environment.py.
"""

import json
import sys
from pathlib import Path

import pytest

from gz2vit import virtual_environment
from gz2vit.io import Gz2vitError

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """A `.venv` with no more than an interpreter."""
    (tmp_path / "requirements.txt").write_text("anything==1.0\n")
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    return tmp_path / ".venv"


@pytest.fixture(autouse=True)
def no_choice_of_python(monkeypatch):
    monkeypatch.delenv("GZ2VIT_PYTHON", raising=False)


def test_complete_means_this_folder_these_requirements_this_python(venv):
    root = venv.parent
    wanted = virtual_environment.requirements_hash(root)
    assert not virtual_environment.is_complete(venv, root)
    virtual_environment.write_record(venv, root, "")
    assert not virtual_environment.is_complete(venv, root)
    virtual_environment.write_record(venv, root, wanted)
    assert virtual_environment.is_complete(venv, root)
    for key, other in {"root": "/elsewhere", "python": "3.99", "requirements": "0"}.items():
        virtual_environment.write_record(venv, root, wanted)
        record = {**virtual_environment.read_record(venv), key: other}
        (venv / virtual_environment.RECORD_NAME).write_text(json.dumps(record))
        assert not virtual_environment.is_complete(venv, root), key


def test_a_removed_or_changed_base_python_is_noticed(venv):
    root = venv.parent
    virtual_environment.write_record(venv, root, virtual_environment.requirements_hash(root))
    python = venv / "bin/python"
    python.unlink()
    assert virtual_environment.venv_version(venv) is None
    assert not virtual_environment.is_complete(venv, root)
    python.write_text("#!/bin/sh\necho 3.99\n")
    python.chmod(0o755)
    assert virtual_environment.venv_version(venv) == "3.99"
    assert not virtual_environment.is_complete(venv, root)


@pytest.mark.parametrize("text", ["", "{", "[1]", '"x"'])
def test_a_torn_record_counts_as_none(venv, text):
    (venv / virtual_environment.RECORD_NAME).write_text(text)
    assert virtual_environment.read_record(venv) == {}


def test_the_chosen_python_must_match(monkeypatch):
    assert virtual_environment.is_wanted("3.11")
    assert virtual_environment.is_wanted("3.40")
    assert not virtual_environment.is_wanted("3.9")
    assert not virtual_environment.is_wanted(None)
    monkeypatch.setenv("GZ2VIT_PYTHON", sys.executable)
    assert virtual_environment.is_wanted(MINOR)
    assert not virtual_environment.is_wanted("3.40")


def test_only_half_installed_packages_are_forgotten(venv):
    site = venv / f"lib/python{MINOR}/site-packages"
    for name, record in {
        "whole-1.0.dist-info": "whole.py,,\nwhole-1.0.dist-info/INSTALLER,,\n",
        "unrecorded-1.0.dist-info": None,
        "wheels_own-1.0.dist-info": "wheels_own.py,,\nwheels_own-1.0.dist-info/RECORD,,\n",
        "~orch": None,
    }.items():
        (site / name).mkdir(parents=True)
        if record is not None:
            (site / name / "RECORD").write_text(record)
    assert virtual_environment.remove_half_installed(venv)
    assert [entry.name for entry in site.iterdir()] == ["whole-1.0.dist-info"]
    assert not virtual_environment.remove_half_installed(venv)


def test_a_python_without_venv_says_what_to_install(venv, monkeypatch):
    monkeypatch.setattr(virtual_environment.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Gz2vitError, match=rf"apt install python{MINOR}-venv"):
        virtual_environment.create_venv(venv, lock=0)
    assert (venv / "bin/python").exists(), "nothing may be removed before that is known"


@pytest.mark.parametrize(
    ("log", "sentence"),
    [
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on "
            "device",
            "the disk is full: free 10 GB",
        ),
        (
            "WARNING: Retrying after connection broken by 'NewConnectionError(...)'\n"
            "ERROR: No matching distribution found for numpy==2.4.6",
            "check the network and run the same command again",
        ),
        ("ERROR: No matching distribution found for torch==2.15.0", "finds no torch==2.15.0 for"),
        ("ERROR: Failed building wheel", "pip failed: its reason stands above and in"),
        ("", "pip failed"),
    ],
)
def test_each_failure_of_pip_has_its_sentence(venv, log, sentence):
    problem = virtual_environment.pip_problem(log, venv)
    assert sentence in problem
    assert "\n" not in problem
