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
PINS = [
    Requirement(line)
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]
PRINTING_MODULE = """
import os, sys
print(*sys.argv[1:], sys.flags.utf8_mode, os.environ.get("PYTHONPATH"), sep="|")
sys.exit(7)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The scripts with a .venv that is up to date, whose gz2vit and pytest print what they get."""
    root = tmp_path / "a project"
    (root / "gz2vit").mkdir(parents=True)
    for name in ("run_all.sh", "run_tests.sh", "gz2vit/environment.sh"):
        shutil.copy(ROOT / name, root / name)
    for name in ("gz2vit/__init__.py", "requirements.txt", "pyproject.toml"):
        (root / name).touch()
    (root / "gz2vit/__main__.py").write_text(PRINTING_MODULE)
    (root / "pytest.py").write_text(PRINTING_MODULE)
    (root / ".venv/bin").mkdir(parents=True)
    (root / ".venv/bin/python").symlink_to(sys.executable)
    checksum = subprocess.run(["cksum"], input="", capture_output=True, text=True).stdout
    (root / ".venv/gz2vit-stamp").write_text(f"{checksum.strip()} {root}\n")
    return root


def run(*command: object, cwd: Path, **variables: str) -> subprocess.CompletedProcess:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=cwd, env=kept | variables, capture_output=True, text=True)


@pytest.mark.parametrize("shell", [[], ["bash"], ["sh"]])
@pytest.mark.parametrize("script", ["run_all.sh", "run_tests.sh"])
def test_words_and_exit_code_pass_through_links_and_shells(script, shell, project, tmp_path):
    (tmp_path / "links").mkdir()
    (tmp_path / "first").symlink_to(project / script)
    (tmp_path / "links/second").symlink_to("../first")
    outcome = run(*shell, "./links/second", "--only", "two words", cwd=tmp_path)
    assert outcome.returncode == 7, outcome.stderr
    assert "|two words|" in outcome.stdout
    assert outcome.stdout.strip().endswith(f"|1|{project}")


@pytest.mark.parametrize(
    "variables",
    [
        {"CDPATH": "{elsewhere}"},
        {"PYTHONPATH": "{elsewhere}"},
        {"PYTHONHOME": "{elsewhere}"},
        {"PYTHONIOENCODING": "latin-1", "LC_ALL": "C"},
        {"PYTHONOPTIMIZE": "2", "PYTHONWARNINGS": "error", "PYTHONSAFEPATH": "1"},
        {"CONDA_PREFIX": "{elsewhere}"},
        {"HOME": "/nonexistent"},
    ],
    ids=lambda variables: next(iter(variables)),
)
@pytest.mark.parametrize("script", ["run_all.sh", "run_tests.sh"])
def test_the_users_settings_do_not_leak_in(script, variables, project, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    for name in ("gz2vit", "numpy", "pytest"):
        (elsewhere / name).mkdir(parents=True)
        (elsewhere / name / "__init__.py").write_text("raise SystemExit(99)\n")
    variables = {name: value.format(elsewhere=elsewhere) for name, value in variables.items()}
    outcome = run("bash", f"{project.name}/{script}", cwd=tmp_path, **variables)
    assert outcome.returncode == 7, outcome.stderr
    assert outcome.stdout.strip().endswith(f"|1|{project}")


def test_the_active_conda_environment_of_this_project_is_used(project, tmp_path):
    shutil.rmtree(project / ".venv")
    conda = tmp_path / "conda/bin"
    conda.mkdir(parents=True)
    (conda / "python").symlink_to(sys.executable)
    (conda / "gz2vit").touch(mode=0o755)
    outcome = run(project / "run_all.sh", cwd=tmp_path, CONDA_PREFIX=str(conda.parent))
    assert outcome.returncode == 7, outcome.stderr


@pytest.mark.parametrize("change", ["requirements.txt", "pyproject.toml", "moved", "python"])
def test_what_has_changed_is_installed_again_and_an_interruption_is_remembered(
    change, project, tmp_path
):
    """uv is one that only writes down what it is asked, and fails once."""
    (project / "requirements.txt").write_text("uv==1\n")
    text = "#!/bin/sh\necho \"$1 $2\" >>'{0}'\n[ \"$1 $2\" != 'pip sync' ] || [ -e '{0}.ok' ]\n"
    for name in ("uv", "pip"):
        (project / ".venv/bin" / name).write_text(text.format(tmp_path / "asked"))
        (project / ".venv/bin" / name).chmod(0o755)
    contents = (project / "requirements.txt").read_text()
    checksum = subprocess.run(["cksum"], input=contents, capture_output=True, text=True).stdout
    (project / ".venv/gz2vit-stamp").write_text(f"{checksum.strip()} {project}\n")
    assert run(project / "run_all.sh", cwd=tmp_path).returncode == 7
    assert not (tmp_path / "asked").exists()
    if change == "moved":
        project = project.rename(tmp_path / "moved here")
        (tmp_path / "asked.ok").touch()
        outcome = run(project / "run_all.sh", cwd=tmp_path)
        assert outcome.returncode == 7, outcome.stderr
        assert "pip sync" in (tmp_path / "asked").read_text()
        return
    if change == "python":
        outcome = run(project / "run_all.sh", cwd=tmp_path, GZ2VIT_PYTHON="/nonexistent/python")
        assert outcome.returncode == 1
        assert "/nonexistent/python" in outcome.stderr.splitlines()[-1]
        return
    (project / change).write_text((project / change).read_text() + "# new\n")
    outcome = run(project / "run_all.sh", cwd=tmp_path)
    assert outcome.returncode == 1
    assert outcome.stderr.splitlines()[-1].startswith("error: ")
    assert (project / ".venv/unfinished").exists()
    assert not (project / ".venv/gz2vit-stamp").exists()
    (project / ".venv/unfinished").unlink()  # else .venv would be made anew, with a real pip
    (tmp_path / "asked.ok").touch()
    outcome = run(project / "run_all.sh", cwd=tmp_path)
    assert outcome.returncode == 7, outcome.stderr
    assert (tmp_path / "asked").read_text().count("pip sync") == 2


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
    assert {"UV_DEFAULT_INDEX=mirror", "PIP_INDEX_URL=mirror", "UV_FIND_LINKS=wheels"} <= (
        set(outcome.stdout.splitlines())
    )
    assert "SSL_CERT_FILE=bundle.pem" in outcome.stdout
    assert "elsewhere" not in outcome.stdout
    assert "PIP_USER" not in outcome.stdout


def test_help_needs_no_environment(tmp_path):
    for folder in ("gz2vit", "gz2sim"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "run_all.sh", tmp_path)
    outcome = run("sh", "run_all.sh", "--help", cwd=tmp_path, GZ2VIT_PYTHON=sys.executable)
    assert outcome.returncode == 0, outcome.stderr
    assert "--data DIR" in outcome.stdout
    assert not (tmp_path / ".venv").exists()


def test_scripts_survive_a_checkout_with_crlf(tmp_path):
    attributes = (ROOT / ".gitattributes").read_text()
    (tmp_path / ".gitattributes").write_text(attributes)
    for script in ("run_all.sh", "run_tests.sh"):
        shutil.copy(ROOT / script, tmp_path)
    git = ["git", "-c", "core.autocrlf=true", "-c", "user.name=t", "-c", "user.email=t@t"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "scripts"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True)
    (tmp_path / "run_all.sh").unlink()
    subprocess.run([*git, "checkout", "-q", "."], cwd=tmp_path, check=True)
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


def test_conda_gets_the_same_pins_and_the_version_is_one():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert conda["name"] == PROJECT["name"]
    assert conda["dependencies"][-1] == {"pip": ["-r requirements.txt", "-e ."]}
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert PROJECT["version"] == gz2vit.__version__ == citation["version"]
    assert citation["references"][0]["identifiers"][0]["value"] == "arXiv:2110.01024"


@pytest.mark.parametrize("name", ["pyproject.toml", "requirements.txt", "environment.yml"])
def test_no_registry_addresses(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not re.search(r"://|--index-url |--find-links|--extra-index| @ ", text)
