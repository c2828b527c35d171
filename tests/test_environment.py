"""The two scripts in hostile surroundings, and the requirements; nothing is installed here."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement

import gz2vit
from gz2vit import surroundings

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LINES = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
PINS = [Requirement(line) for line in LINES if not line.startswith("#")]
PRINTING_MODULE = """
import os, sys
print(*sys.argv[1:], sys.flags.utf8_mode, os.environ.get("PYTHONPATH"), sep="|")
sys.exit(7)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The scripts with a .venv that is up to date, whose gz2vit and pytest print what they get."""
    root = tmp_path / "a project"
    for folder in ("gz2vit", ".venv/bin"):
        (root / folder).mkdir(parents=True)
    for name in ("run_all.sh", "run_tests.sh", "gz2vit/environment.sh"):
        shutil.copy(ROOT / name, root / name)
    for name in ("gz2vit/__init__.py", "requirements.txt", "pyproject.toml"):
        (root / name).touch()
    for name in ("gz2vit/__main__.py", "pytest.py"):
        (root / name).write_text(PRINTING_MODULE)
    (root / ".venv/bin/python").symlink_to(sys.executable)
    checksum = subprocess.run(["cksum"], input="", capture_output=True, text=True).stdout.strip()
    (root / ".venv/gz2vit-stamp").write_text(f"{checksum} {root}\n")
    return root


def run(*command: object, cwd: Path, **variables: str) -> subprocess.CompletedProcess:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=cwd, env=kept | variables, capture_output=True, text=True)


SETTINGS = ("", "CDPATH={0}", "PYTHONPATH={0}", "PYTHONHOME={0}", "CONDA_PREFIX={0}")
SETTINGS += ("PYTHONIOENCODING=latin-1 LC_ALL=C", "HOME=/nonexistent")
SETTINGS += ("PYTHONOPTIMIZE=2 PYTHONWARNINGS=error PYTHONSAFEPATH=1",)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("script", ["run_all.sh", "run_tests.sh"])
def test_words_and_exit_code_pass_through_and_settings_do_not(script, settings, project, tmp_path):
    """Through links and shells, and not the user's settings for other programs."""
    (tmp_path / "links").mkdir()
    (tmp_path / "first").symlink_to(project / script)
    (tmp_path / "links/second").symlink_to("../first")
    elsewhere = tmp_path / "elsewhere"
    for name in ("gz2vit", "numpy", "pytest"):
        (elsewhere / name).mkdir(parents=True)
        (elsewhere / name / "__init__.py").write_text("raise SystemExit(99)\n")
    variables = dict(one.split("=") for one in settings.format(elsewhere).split())
    direct = f"{project.name}/{script}"
    for command in (["./links/second"], ["sh", "links/second"], ["bash", direct]):
        outcome = run(*command, "--only", "two words", cwd=tmp_path, **variables)
        assert outcome.returncode == 7, outcome.stderr
        assert "|two words|" in outcome.stdout
        assert outcome.stdout.strip().endswith(f"|1|{project}")


def test_the_active_conda_environment_of_this_project_is_used(project, tmp_path):
    shutil.rmtree(project / ".venv")
    conda = tmp_path / "conda/bin"
    conda.mkdir(parents=True)
    (conda / "python").symlink_to(sys.executable)
    (conda / "gz2vit").touch(mode=0o755)
    outcome = run(project / "run_all.sh", cwd=tmp_path, CONDA_PREFIX=str(conda.parent))
    assert outcome.returncode == 7, outcome.stderr


def test_what_has_changed_is_installed_again_and_an_interruption_is_remembered(project, tmp_path):
    """uv is one that only writes down what it is asked, and fails until `asked.ok` is there."""

    def call(**variables: str) -> subprocess.CompletedProcess:
        return run(project / "run_all.sh", cwd=tmp_path, **variables)

    asked, kept = tmp_path / "asked", project / ".venv/gz2vit-stamp"
    text = "#!/bin/sh\necho \"$1 $2\" >>'{0}'\n[ \"$1 $2\" != 'pip sync' ] || [ -e '{0}.ok' ]\n"
    (project / ".venv/bin/uv").write_text(text.format(asked))
    (project / ".venv/bin/uv").chmod(0o755)
    (project / ".venv/bin/python").unlink()
    (project / ".venv/bin/python").symlink_to(ROOT / ".venv/bin/python")  # it has a pip
    for name in ("requirements.txt", "pyproject.toml"):
        (project / name).write_text("uv==1\n")
        outcome = call()
        assert outcome.returncode == 1
        assert outcome.stderr.splitlines()[-1].startswith("error: ")
        assert not kept.exists()
        kept.write_text("earlier")  # without it .venv would be made anew
        (tmp_path / "asked.ok").touch()
        assert call().returncode == 7
        assert asked.read_text().count("pip sync") == 2
        asked.unlink()
        (tmp_path / "asked.ok").unlink()
        assert call().returncode == 7
        assert not asked.exists()
    (tmp_path / "asked.ok").touch()
    project = project.rename(tmp_path / "moved here")
    assert call().returncode == 7
    assert "pip install" in asked.read_text()
    outcome = call(GZ2VIT_PYTHON="/nonexistent/python")
    assert outcome.returncode == 1
    assert "/nonexistent/python" in outcome.stderr.splitlines()[-1]
    (project / ".venv/gz2vit-stamp").unlink()  # as after a kill
    outcome = call(PIP_NO_INDEX="1")
    assert outcome.stderr.startswith("Making") and not (project / ".venv/bin/uv").exists()


def test_pips_settings_reach_the_registry_and_no_more(project, tmp_path):
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = mirror\ntarget = elsewhere\n")
    (project / ".venv/bin/python").unlink()
    (project / ".venv/bin/python").symlink_to(ROOT / ".venv/bin/python")
    code = f"set -eu; root='{project}'; . '{project}/gz2vit/environment.sh'; "
    code += "keep_registry_settings; env"
    settings = {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "PIP_TARGET": "elsewhere"}
    settings |= {"PIP_FIND_LINKS": "wheels", "PIP_USER": "1", "PIP_CERT": "bundle.pem"}
    outcome = run("bash", "-c", code, cwd=tmp_path, **settings)
    assert outcome.returncode == 0, outcome.stderr
    found = {"UV_DEFAULT_INDEX=mirror", "PIP_INDEX_URL=mirror", "UV_FIND_LINKS=wheels"}
    assert found | {"SSL_CERT_FILE=bundle.pem"} <= set(outcome.stdout.splitlines())
    assert "elsewhere" not in outcome.stdout and "PIP_USER" not in outcome.stdout


def test_help_needs_no_environment(tmp_path):
    for folder in ("gz2vit", "gz2sim"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "run_all.sh", tmp_path)
    outcome = run("sh", "run_all.sh", "--help", cwd=tmp_path, GZ2VIT_PYTHON=sys.executable)
    assert outcome.returncode == 0, outcome.stderr
    assert "--data DIR" in outcome.stdout
    assert not (tmp_path / ".venv").exists()


def test_scripts_survive_a_checkout_with_crlf(tmp_path):
    for name in (".gitattributes", "run_all.sh", "run_tests.sh"):
        shutil.copy(ROOT / name, tmp_path)
    git = ["git", "-c", "core.autocrlf=true", "-c", "user.name=t", "-c", "user.email=t@t"]
    for words in ("init -q", "add -A", "commit -qm scripts", "rm -q *.sh", "checkout -q HEAD ."):
        subprocess.run([*git, *words.split()], cwd=tmp_path, check=True)
    assert b"\r" not in (tmp_path / "run_all.sh").read_bytes()


def test_the_users_other_settings_and_a_home_that_cannot_be_written(tmp_path, monkeypatch):
    before = dict(os.environ)
    foreign = ("SNAKEMAKE_PROFILE", "PL_GLOBAL_SEED", "MATPLOTLIBRC", "MPLBACKEND", "JUPYTER_PATH")
    foreign += ("PYTHONSTARTUP", "PYTHONPATH", "PIP_TARGET", "IPYTHONDIR", "LOCAL_RANK")
    (tmp_path / "home").touch()  # a file: not even root can make a folder in it
    try:
        os.environ |= dict.fromkeys(foreign, "the user's")
        os.environ |= {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": ""}
        os.environ.pop("USER", None)
        monkeypatch.setattr(surroundings.tempfile, "tempdir", str(tmp_path))
        cache = surroundings.isolate()
        assert cache.is_dir() and cache.parent == tmp_path
        assert os.environ["USER"] and os.environ["HOME"] == str(cache)
        assert Path(os.environ["MPLCONFIGDIR"]).parent == cache
        assert "the user's" not in os.environ.values()
    finally:
        os.environ.clear()
        os.environ |= before


def test_requirements_are_exact_pins_inside_pyprojects_ranges():
    pinned = {one.name.lower().replace("_", "-"): one for one in PINS}
    environment = default_environment() | {"extra": ""}
    for text in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]:
        wanted = Requirement(text)
        pin = pinned[wanted.name.lower()]
        (exact,) = pin.specifier
        assert exact.operator == "=="
        assert wanted.specifier.contains(exact.version), text
        assert pin.marker is None or pin.marker.evaluate(environment), pin
    assert str(pinned["linformer"].specifier) == "==0.2.3"


def test_conda_gets_the_same_pins_the_version_is_one_and_no_registry_is_named():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert conda["name"] == PROJECT["name"]
    assert conda["dependencies"][-1] == {"pip": ["-r requirements.txt", "-e ."]}
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert PROJECT["version"] == gz2vit.__version__ == citation["version"]
    assert citation["references"][0]["identifiers"][0]["value"] == "arXiv:2110.01024"
    for name in ("pyproject.toml", "requirements.txt", "environment.yml"):
        addresses = r"://|--index-url |--find-links|--extra-index| @ "
        assert not re.search(addresses, (ROOT / name).read_text())
