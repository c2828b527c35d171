"""What protects users and readers: the direction of imports, and notebooks that open as stored."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [path for package in ("gz2vit", "gz2sim") for path in (ROOT / package).rglob("*.py")]
FOLDERS = ("data_preprocess", "notebooks", "figures")
NOTEBOOKS = sorted(path for folder in FOLDERS for path in (ROOT / folder).glob("*.ipynb"))
EXPLORER = "explore_galaxies.ipynb"  # no step: it is for playing, and makes nothing
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in SOURCES
}


def imports_of(module: str) -> set[str]:
    """The project's modules that a module imports anywhere, in functions too."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (members & MODULES.keys()) or {node.module}
    return found & MODULES.keys()


def test_imports_point_downwards_and_no_file_name_occurs_twice():
    """A circle has no downwards: `TopologicalSorter` names one."""
    graph = {module: imports_of(module) - {module} for module in MODULES}
    assert list(TopologicalSorter(graph).static_order())
    for module, imported in graph.items():
        assert not module.startswith("gz2sim") or all("gz2sim" in name for name in imported), module
    assert graph["gz2vit.models"] <= {"gz2vit", "gz2vit.io", "gz2vit.weights"}
    names = [path.name for path in SOURCES if path.name != "__init__.py"]
    assert len(names) == len(set(names))


def test_ruff_is_content():
    command = [sys.executable, "-m", "ruff", "check", "--quiet", str(ROOT)]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_numbers_count_across_the_folders():
    names = [path.name for path in NOTEBOOKS if path.name != EXPLORER]
    assert len({name[:2] for name in names}) == len(names)
    assert all(re.fullmatch(r"\d\d_[a-z]+_[a-z0-9_]+\.ipynb", name) for name in names)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_stored_clean_and_says_what_it_is(path: Path):
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    assert book.metadata.kernelspec.name == "python3"
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    first = book.cells[0].source
    for word in ("# ", "**Question.**", "**Paper.**", "**Reads**", "**Writes**", "**Time**"):
        assert word in first
    # Every parameter is a literal, with an explanation in its line or above it.
    (source,) = [cell.source for cell in code if "parameters" in cell.metadata.get("tags", [])]
    lines = source.splitlines()
    for node in ast.parse(source).body:
        ast.literal_eval(node.value)
        explained = "  # " in lines[node.end_lineno - 1] or lines[node.lineno - 2].startswith("#")
        assert explained, lines[node.lineno - 1]


def test_nothing_names_a_machine_or_a_registry():
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    for path in map(ROOT.joinpath, filter(None, tracked.stdout.split("\0"))):
        binary = path.suffix in (".png", ".jpg", ".safetensors")
        if not binary and path.is_file() and path != Path(__file__):
            text = path.read_text(encoding="utf-8")
            assert "/work/" not in text and "pypi.org" not in text, path
