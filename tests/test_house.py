"""The rules of the house that can be counted: layers, sizes, docstrings, notebooks."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from gz2vit.workflow import notebook_parameters

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "gz2vit"
SOURCES = sorted(PACKAGE.rglob("*.py"))
NOTEBOOKS = sorted(
    path
    for folder in ("data_preprocess", "notebooks", "figures")
    for path in (ROOT / folder).glob("*.ipynb")
)
EXPLORER = "explore_galaxies.ipynb"  # no step: it is for playing, and makes nothing
# From the top: a module may import from its own layer's rooms below it, never from a layer above.
LAYERS = (
    ("__main__", "pipeline", "execution", "prediction"),
    ("inspection", "training", "figures", "report"),
    ("data", "evaluation", "evidence", "attention", "simulation", "realism", "segmentation"),
    ("models",),
    (
        "class_weights",
        "selection",
        "catalog",
        "downloads",
        "galaxy_zoo",
        "results",
        "profiles",
        "resources",
        "cluster",
        "seeds",
        "sources",
        "environment",
        "virtual_environment",
        "requirements",
        "paper",
        "public_files",
        "notebook_files",
        "errors",
        "",
    ),
)
SOLE_USERS = {
    "lightning": "training",
    "matplotlib": "figures",
    "seaborn": "figures",
    "galsim": "simulation",
    "photutils": "realism",
}


def name_of(path: Path | str) -> str:
    return str(Path(path).relative_to(ROOT))


def room_of(path: Path) -> str:
    """The first name below the package: `data/store.py` is in the room `data`."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def layer_of(room: str) -> int:
    return next(number for number, rooms in enumerate(LAYERS) if room in rooms)


def imports_of(path: Path) -> set[str]:
    """All modules that a file imports, whole names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            if node.module == "gz2vit":
                found |= {f"gz2vit.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_point_downwards(path: Path):
    room = room_of(path)
    for module in imports_of(path):
        parts = module.split(".")
        own = parts[0] == "gz2vit" and len(parts) > 1
        if own and any((PACKAGE / f"{parts[1]}{ending}").exists() for ending in ("", ".py")):
            assert layer_of(parts[1]) >= layer_of(room), f"{room} imports {module}, which is above"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_each_library_has_one_room(path: Path):
    for module in imports_of(path):
        owner = SOLE_USERS.get(module.split(".")[0])
        assert owner in (None, room_of(path)), f"only gz2vit.{owner} may import {module}"


def public_definitions(tree: ast.Module) -> list[ast.FunctionDef | ast.ClassDef]:
    """Functions, classes and methods that others may use."""
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    classes = [node for node in found if isinstance(node, ast.ClassDef)]
    found += [node for one in classes for node in one.body if isinstance(node, ast.FunctionDef)]
    return [node for node in found if not node.name.startswith("_")]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_and_functions_are_short_and_documented(path: Path):
    text = path.read_text()
    assert text.count("\n") <= 300, "a file has 300 lines at most"
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "a module says its purpose"
    for node in public_definitions(tree):
        assert ast.get_docstring(node), f"{node.name} has no docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 40, f"{node.name}: 40 lines at most"
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            bare = [
                a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")
            ]
            assert not bare, f"{node.name}: no type for {bare}"
            assert node.returns is not None, f"{node.name}: no return type"


def test_ruff_is_content():
    command = [sys.executable, "-m", "ruff", "check", "--quiet", str(ROOT)]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_numbers_count_across_the_folders():
    steps = [path for path in NOTEBOOKS if path.name != EXPLORER]
    numbers = [path.name[:2] for path in steps]
    assert len(numbers) == len(set(numbers))
    for path in steps:
        assert re.fullmatch(r"\d\d_[a-z]+_[a-z0-9_]+\.ipynb", path.name), path.name


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_a_notebook_is_stored_clean(path: Path):
    book = read(path)
    nbformat.validate(book)
    assert book.metadata.kernelspec.name == "python3"
    for cell in book.cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_a_notebook_opens_with_what_it_is(path: Path):
    first = read(path).cells[0].source
    assert first.startswith("# ")
    for word in ("**Question.**", "**Paper.**", "**Reads**", "**Writes**", "**Time**"):
        assert word in first, f"the first cell does not say {word}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_a_notebook_reads_well(path: Path):
    cells = read(path).cells
    tagged = [i for i, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    code = [i for i, cell in enumerate(cells) if cell.cell_type == "code"]
    assert tagged[0] == code[1], "imports first, then the parameters"
    for i in code:
        lines = [line for line in cells[i].source.splitlines() if line.strip()]
        assert len(lines) <= (25 if i in tagged else 15), f"cell {i} has {len(lines)} lines"
        assert cells[i - 1].cell_type == "markdown" or i in tagged, f"no prose above cell {i}"
        assert not re.search(r"^\s*class ", cells[i].source, re.MULTILINE), f"cell {i}"
        assert not re.search(r"^\s*[!%]|['\"]/", cells[i].source, re.MULTILINE), f"cell {i}"
    assert cells[-2].source.startswith("## Check")
    assert "assert" in cells[-1].source
    assert "print(" in cells[-1].source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_every_parameter_is_explained(path: Path):
    source = next(c.source for c in read(path).cells if "parameters" in c.metadata.get("tags", []))
    lines = source.splitlines()
    assert len(lines) == len(notebook_parameters(path))
    for line in lines:
        assert re.search(r"  # \S", line), f"no word about: {line}"


def test_nothing_names_a_machine_or_a_registry():
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, tracked.stdout.split("\0")):
        path = ROOT / name
        if path.suffix not in (".png", ".jpg") and path.is_file() and path != Path(__file__):
            text = path.read_text()
            assert "/work/" not in text, name
            assert "pypi.org" not in text, name
