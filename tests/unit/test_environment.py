"""gz2vit.environment with real environments and a real pip, on a project with one tiny package.

Nothing is downloaded: pip's index is switched off and its packages are made by tiny_project.
"""

import errno
import os
import shutil
import signal
import subprocess
import time
import zipfile
from pathlib import Path

import pytest
from gz2vit.virtual_environment import read_record

from gz2vit import environment
from gz2vit.io import Gz2vitError
from tests.unit.tiny_project import (
    BASE_PYTHON,
    ROOT,
    Project,
    write_project,
    write_slow_source,
    write_wheel,
)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    for version in ("0.9", "1.0", "2.0"):
        write_wheel(folder, version)
    write_slow_source(folder)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory, wheels) -> Project:
    """A project whose environment was made from nothing; the tests leave it as it is."""
    project = Project(tmp_path_factory.mktemp("made") / "project", wheels)
    write_project(project.root)
    assert "The Python environment is ready" in project.succeed()
    return project


@pytest.fixture
def copied(made, wheels, tmp_path) -> Project:
    """A copy of that project with its environment, in a folder with a space in its name."""
    root = tmp_path / "a copy"
    shutil.copytree(made.root, root, symlinks=True)
    return Project(root, wheels)


def wait_for(path: Path) -> None:
    """Wait until a file exists."""
    limit = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < limit, f"{path} never came"
        time.sleep(0.02)


def test_it_is_made_once(made):
    assert made.tell("import tiny; print(tiny.VERSION)") == "1.0"
    assert made.tell("import gz2vit; print(gz2vit.__file__)").startswith(str(made.root))
    started = time.monotonic()
    assert made.succeed() == ""
    # Measured: 0.1 s; making takes several seconds.
    assert time.monotonic() - started < 1.5


def test_a_moved_folder_is_mended_without_any_package(copied):
    copied.variables["PIP_FIND_LINKS"] = "/nonexistent"
    assert "mending .venv" in copied.succeed()
    assert copied.tell("import gz2vit; print(gz2vit.__file__)").startswith(str(copied.root))
    script = subprocess.run([copied.root / ".venv/bin/tiny"], capture_output=True, text=True)
    assert script.stdout == "tiny 1.0\n", script.stderr
    assert copied.succeed() == ""
    # And back to a folder without a space, from the other form of a script's first lines.
    shutil.move(copied.root, copied.root.parent / "plain")
    plain = Project(copied.root.parent / "plain", Path("/nonexistent"))
    plain.succeed()
    assert str(plain.python) in (plain.root / ".venv/bin/tiny").read_text()
    assert "a copy" not in (plain.root / ".venv/bin/activate").read_text()


def test_it_is_redone_when_the_requirements_change(copied):
    (copied.root / "requirements.txt").write_text("tiny==2.0\n")
    assert "Installing the packages" in copied.succeed()
    assert copied.tell("import tiny; print(tiny.VERSION)") == "2.0"
    assert copied.succeed() == ""


def test_half_an_environment_is_finished(copied):
    """What a kill leaves while pip copies files: no record of success, a package in pieces."""
    copied.succeed()
    site = next(copied.root.glob(".venv/lib/python3.*/site-packages"))
    (site / "tiny.py").unlink()
    (site / "tiny-1.0.dist-info/RECORD").unlink()
    record = copied.root / ".venv/gz2vit-environment.json"
    kept = copied.root / ".venv/kept"
    kept.touch()
    record.write_text(record.read_text().replace('"requirements": "', '"requirements": "old'))
    copied.succeed()
    assert copied.tell("import tiny; print(tiny.VERSION)") == "1.0"
    assert kept.exists(), "what was there must not be made again"


def test_an_environment_made_by_hand_is_kept(wheels, tmp_path):
    project = Project(tmp_path / "project", wheels)
    write_project(project.root)
    subprocess.run([BASE_PYTHON, "-m", "venv", project.root / ".venv"], check=True)
    kept = project.root / ".venv/kept"
    kept.touch()
    assert "Making" not in project.succeed()
    assert project.tell("import tiny; print(tiny.VERSION)") == "1.0"
    assert kept.exists()


def test_an_environment_killed_before_it_had_pip_is_made_anew(copied):
    site = next(copied.root.glob(".venv/lib/python3.*/site-packages"))
    shutil.rmtree(next(site.glob("pip-*.dist-info")))
    assert "Making the Python environment" in copied.succeed()
    assert copied.tell("import tiny; print(tiny.VERSION)") == "1.0"


def test_a_kill_while_pip_runs_is_survived(copied):
    (copied.root / "requirements.txt").write_text("tiny==2.0\nslow==1.0\n")
    process = copied.start()
    wait_for(copied.root / "building")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    # Even with the old requirements.txt back, nobody may take this for a finished environment.
    assert read_record(copied.root / ".venv")["requirements"] == ""
    (copied.root / "requirements.txt").write_text("tiny==2.0\n")
    assert "waiting" not in copied.succeed()
    assert copied.tell("import tiny; print(tiny.VERSION)") == "2.0"


def test_two_commands_do_not_make_it_at_once(copied):
    """The second one waits, even where the first was killed while its pip goes on."""
    (copied.root / "requirements.txt").write_text("tiny==2.0\nslow==1.0\n")
    first = copied.start()
    wait_for(copied.root / "building")
    os.kill(first.pid, signal.SIGKILL)
    (copied.root / "requirements.txt").write_text("tiny==2.0\n")
    second = copied.start()
    assert "waiting for it" in second.stderr.readline()
    (copied.root / "go").touch()
    out, err = second.communicate(timeout=120)
    assert (second.returncode, out.strip()) == (0, str(copied.python)), err
    assert copied.tell("import tiny; print(tiny.VERSION)") == "2.0"
    first.communicate()


@pytest.fixture
def conda(wheels, tmp_path) -> Path:
    """What an activated conda environment is to us: a prefix with a Python and packages."""
    prefix = tmp_path / "envs/gz2vit"
    subprocess.run([BASE_PYTHON, "-m", "venv", "--without-pip", prefix], check=True)
    site = next(prefix.glob("lib/python3.*/site-packages"))
    zipfile.ZipFile(wheels / "tiny-1.0-py3-none-any.whl").extractall(site)
    return prefix


def test_a_complete_conda_environment_is_used(conda, wheels, tmp_path):
    project = Project(tmp_path / "project", wheels)
    write_project(project.root)
    project.variables["CONDA_PREFIX"] = str(conda)
    assert project.run() == (0, str(conda / "bin/python"), "")
    assert not (project.root / ".venv").exists()
    code, out, _ = project.run("run_all.sh", "smoke")
    assert (code, out.split()[0]) == (7, str(conda))


@pytest.mark.parametrize("state", ["older", "empty", "no python"])
def test_an_incomplete_conda_environment_is_not_used(state, conda, made, wheels, monkeypatch):
    site = next(conda.glob("lib/python3.*/site-packages"))
    shutil.rmtree(site / "tiny-1.0.dist-info")
    if state == "older":
        zipfile.ZipFile(wheels / "tiny-0.9-py3-none-any.whl").extractall(site)
    if state == "no python":
        (conda / "bin/python").unlink()
    monkeypatch.setitem(made.variables, "CONDA_PREFIX", str(conda))
    lacking = "Python 3.11 or newer" if state == "no python" else "tiny>=1.0,<3"
    notice = f"Not used: the conda environment {conda}, which lacks {lacking}; using .venv."
    assert made.succeed() == notice


def test_a_chosen_python_goes_before_conda(conda, made, monkeypatch):
    monkeypatch.setitem(made.variables, "CONDA_PREFIX", str(conda))
    monkeypatch.setitem(made.variables, "GZ2VIT_PYTHON", str(BASE_PYTHON))
    assert made.succeed() == ""


@pytest.mark.parametrize("script", ["run_all.sh", "run_tests.sh"])
def test_the_commands_pass_on_words_and_exit_code(script, made):
    # Another clone's package in the user's folder must not be taken for ours.
    (made.root.parent / "gz2vit").mkdir(exist_ok=True)
    (made.root.parent / "gz2vit/__init__.py").touch()
    (made.root.parent / "gz2vit/cli.py").write_text("raise SystemExit(99)\n")
    code, out, err = made.run(script, "--only", "two words")
    folder = made.root.parent if script == "run_all.sh" else made.root
    side_by_side = ["-n", "logical", "--maxprocesses", "4", "--dist", "loadfile"]
    side_by_side += ["--no-loadscope-reorder"]
    first = ["run"] if script == "run_all.sh" else ["--tb=short", *side_by_side]
    words = [*first, "--only", "two words"]
    assert (code, out) == (7, f"{made.root / '.venv'} {folder} {words}"), err


def test_help_needs_no_environment():
    variables = {"PATH": os.environ["PATH"], "GZ2VIT_PYTHON": str(BASE_PYTHON)}
    command = ["bash", str(ROOT / "run_all.sh"), "--help"]
    answer = subprocess.run(command, env=variables, cwd="/", capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert "--data DIR" in answer.stdout


def test_a_missing_python_is_said_in_one_line(made, monkeypatch, tmp_path):
    monkeypatch.setitem(made.variables, "GZ2VIT_PYTHON", "/nonexistent/python")
    assert made.fail() == "error: GZ2VIT_PYTHON=/nonexistent/python is not a Python 3.11 or newer"
    bare = Project(tmp_path / "project", tmp_path)
    write_project(bare.root)
    (tmp_path / "bin").mkdir()
    for tool in ("bash", "dirname"):
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    (tmp_path / "bin/python3").write_text("#!/nonexistent/python\n")
    (tmp_path / "bin/python3").chmod(0o755)
    bare.variables["PATH"] = str(tmp_path / "bin")
    assert bare.fail().startswith("error: no Python 3.11 or newer was found")


def test_a_lost_network_is_said_in_one_line(copied):
    (copied.root / "requirements.txt").write_text("absent==1.0\n")
    last = copied.fail()
    assert last.startswith("error: pip finds no absent==1.0 for Python")
    # Port 9 of this machine: nobody listens there.
    del copied.variables["PIP_NO_INDEX"]
    copied.variables |= {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0"}
    assert "check the network and run the same command again" in copied.fail()
    (copied.root / "requirements.txt").write_text("tiny==2.0\n")
    copied.variables["PIP_NO_INDEX"] = "1"
    copied.succeed()


@pytest.mark.parametrize(
    ("number", "sentence"),
    [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "cannot make .*Permission denied")],
)
def test_an_error_of_the_disk_is_said_in_one_line(number, sentence, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    (tmp_path / "requirements.txt").touch()
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    monkeypatch.setattr(environment, "make_venv", fail)
    with pytest.raises(Gz2vitError, match=sentence):
        environment.find_environment(tmp_path)
