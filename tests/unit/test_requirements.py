"""gz2vit.requirements, and that pyproject.toml, requirements.txt and environment.yml agree."""

import re
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from gz2vit.requirements import missing_requirements, project_requirements, release, satisfies
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

import gz2vit

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
DEPENDENCIES = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]
PIN_LINES = [
    line
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]
PLATFORMS = [
    {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"},
    {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "aarch64"},
    {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"},
]
PYTHONS = ["3.11.0", "3.11.7", "3.12.1", "3.13.0"]


def canonical(name: str) -> str:
    """The name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(python: str, platform: dict[str, str]) -> dict[str, str]:
    """Name to version of the lines that apply to one Python on one platform."""
    found = {}
    marker_values = {
        "python_full_version": python,
        "python_version": python.rpartition(".")[0],
        "implementation_name": "cpython",
        "os_name": "posix",
        **platform,
    }
    for line in PIN_LINES:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(marker_values):
            name = canonical(requirement.name)
            assert name not in found, f"two pins of {name} for Python {python}"
            found[name] = str(requirement.specifier).removeprefix("==")
    return found


def test_the_project_file_is_read_whole():
    assert project_requirements(ROOT) == DEPENDENCIES


@pytest.mark.parametrize("dependency", DEPENDENCIES)
def test_ranges_are_judged_as_packaging_does(dependency):
    requirement = Requirement(dependency)
    assert not requirement.extras
    assert requirement.marker is None
    clauses = dependency.removeprefix(requirement.name)
    bounds = [specifier.version for specifier in requirement.specifier]
    assert bounds, f"{dependency} has no lower bound"
    near = [f"{bound}.1" for bound in bounds] + [f"{bound}.0" for bound in bounds]
    for candidate in [*bounds, *near, "0.0.1", "0.9", "1.0", "9", "10.0", "99.1+cu132"]:
        assert satisfies(candidate, clauses) == requirement.specifier.contains(candidate), candidate


@pytest.mark.parametrize("clauses", ["==2.0", "!=2.0", "<2.0", "<=2.0", ">2.0", ">=2.0,<3"])
@pytest.mark.parametrize("candidate", ["1.9.9", "2", "2.0.0", "2.0.1", "2.10", "3.0"])
def test_each_operator_is_judged_as_packaging_does(candidate, clauses):
    assert satisfies(candidate, clauses) == SpecifierSet(clauses).contains(candidate)


def test_release_numbers():
    assert release("2.10.0+cu132") == (2, 10)
    assert release("9") < release("10.1")
    assert release("unknown") == ()


def test_what_is_missing_is_named(tmp_path):
    (tmp_path / "pyproject.toml").write_text(
        '[project]\ndependencies = ["numpy>=1.0", "numpy>=999", "no-such-package>=1"]\n'
        '[project.optional-dependencies]\ntest = ["pytest<1"]\n'
    )
    assert missing_requirements(tmp_path) == ["numpy>=999", "no-such-package>=1", "pytest<1"]


def test_requirements_are_exact_pins_without_addresses():
    for line in PIN_LINES:
        assert re.fullmatch(r"[\w.-]+==[\w.]+( ; .+)?", line), line
    for name in ("pyproject.toml", "requirements.txt", "environment.yml"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert not re.search(r"://|--index-url |--find-links|--extra-index| @ ", text), name


@pytest.mark.parametrize("platform", PLATFORMS, ids=lambda values: "-".join(values.values()))
@pytest.mark.parametrize("python", PYTHONS)
def test_every_dependency_is_pinned_inside_its_range(python, platform):
    pinned = pins(python, platform)
    for dependency in DEPENDENCIES:
        requirement = Requirement(dependency)
        name = canonical(requirement.name)
        assert name in pinned, f"requirements.txt lacks {name}"
        assert requirement.specifier.contains(pinned[name]), f"{name}=={pinned[name]}"
    # The editable install is built with what is installed, so that it needs no network.
    setuptools = Requirement(PYPROJECT["build-system"]["requires"][0])
    assert setuptools.specifier.contains(pinned[setuptools.name])


def test_the_transformers_are_the_papers():
    pinned = pins("3.11.7", PLATFORMS[0])
    assert Version(pinned["vit-pytorch"]) < Version("1.0")
    assert Version(pinned["linformer"]) == Version("0.2.3")


def test_conda_gets_the_same_pins():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["name"] == PROJECT["name"]
    assert environment["channels"] == ["conda-forge"]
    python, pip, from_pip = environment["dependencies"]
    assert pip == "pip"
    assert from_pip == {"pip": ["-r requirements.txt", "-e ."]}
    name, _, minor = python.partition("=")
    assert name == "python"
    assert SpecifierSet(PROJECT["requires-python"]).contains(f"{minor}.0")


def test_the_version_stands_once():
    assert PROJECT["version"] == gz2vit.__version__
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == gz2vit.__version__
    assert citation["references"][0]["identifiers"][0]["value"] == "arXiv:2110.01024"


@pytest.mark.skipif(
    Path(sys.prefix).resolve() != (ROOT / ".venv").resolve(),
    reason="this Python is not the project's .venv, so other versions in range are fine",
)
def test_what_is_installed_is_what_is_pinned():
    for line in PIN_LINES:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate():
            installed = version(requirement.name)
            assert requirement.specifier.contains(installed), f"{line}, installed: {installed}"
