"""What protects users and readers: the direction of imports, and notebooks that open as stored."""

import ast
import re
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("gz2vit", "gz2sim")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
NOTEBOOKS = sorted(
    path
    for folder in ("data_preprocess", "notebooks", "figures")
    for path in (ROOT / folder).glob("*.ipynb")
)
EXPLORER = "explore_galaxies.ipynb"  # no step: it is for playing, and makes nothing


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in SOURCES}


def imports_of(path: Path) -> set[str]:
    """The project's modules that a file imports anywhere, in functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (members & MODULES.keys()) or {node.module}
    return found & MODULES.keys()


def test_imports_point_downwards():
    """A circle has no downwards: `TopologicalSorter` names one."""
    graph = {module: imports_of(path) - {module} for module, path in MODULES.items()}
    order = list(TopologicalSorter(graph).static_order())
    assert order[-1] == "gz2vit.__main__"


def test_the_simulation_knows_nothing_of_gz2vit():
    for path in (ROOT / "gz2sim").rglob("*.py"):
        assert all(name.startswith("gz2sim") for name in imports_of(path)), name_of(path)


def test_networks_know_nothing_of_profiles_notebooks_and_galaxies():
    assert imports_of(MODULES["gz2vit.models"]) <= {"gz2vit", "gz2vit.io", "gz2vit.weights"}


def test_no_file_name_twice():
    names = Counter(path.name for path in SOURCES if path.name != "__init__.py")
    assert not [name for name, count in names.items() if count > 1]


def test_ruff_is_content():
    command = [sys.executable, "-m", "ruff", "check", "--quiet", str(ROOT)]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_numbers_count_across_the_folders():
    names = [path.name for path in NOTEBOOKS if path.name != EXPLORER]
    assert len({name[:2] for name in names}) == len(names)
    for name in names:
        assert re.fullmatch(r"\d\d_[a-z]+_[a-z0-9_]+\.ipynb", name)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_a_notebook_is_stored_clean_and_says_what_it_is(path: Path):
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    assert book.metadata.kernelspec.name == "python3"
    for cell in book.cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None
    first = book.cells[0].source
    assert first.startswith("# ")
    for word in ("**Question.**", "**Paper.**", "**Reads**", "**Writes**", "**Time**"):
        assert word in first


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_every_parameter_is_a_literal_with_an_explanation(path: Path):
    cells = nbformat.read(path, as_version=4).cells
    tagged = [cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    (source,) = tagged
    lines = source.splitlines()
    for node in ast.parse(source).body:
        ast.literal_eval(node.value)
        explained = "  # " in lines[node.end_lineno - 1] or lines[node.lineno - 2].startswith("#")
        assert explained, lines[node.lineno - 1]


def test_nothing_names_a_machine_or_a_registry():
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, tracked.stdout.split("\0")):
        path = ROOT / name
        if path.suffix not in (".png", ".jpg") and path.is_file() and path != Path(__file__):
            text = path.read_text(encoding="utf-8")
            assert "/work/" not in text, name
            assert "pypi.org" not in text, name
