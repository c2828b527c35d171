"""The code behind a step: when it changes, the step is stale.

What counts is a notebook's code cells and every module of the package that they use, directly or
through one another, as Python understands them: prose, comments and docstrings may change freely.
Modules that only draw count for the notebooks in `figures/` alone, so that a new colour does not
train a network again.
"""

import ast
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from gz2vit.notebook_files import read_notebook
from gz2vit.results import ROOT

DRAWING = ("gz2vit/figures", "gz2vit/report")


def code_signature(notebook: Path, root: Path = ROOT) -> str:
    """A short hash of all code that decides what `notebook` makes."""
    digest = hashlib.sha256(_meaning(notebook_code(notebook)).encode())
    for path in source_files(notebook, root):
        digest.update(_meaning(path.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()[:16]


def files_signature(patterns: Sequence[str], root: Path = ROOT) -> str:
    """A short hash of what the package's files that fit `patterns` (from the root) mean."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in patterns for path in root.glob(pattern)}):
        digest.update(_meaning(path.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()[:16]


def source_files(notebook: Path, root: Path = ROOT) -> list[Path]:
    """The package's files that count for `notebook`, sorted."""
    draws = notebook.resolve().parent.name == "figures"
    waiting, found = _imported(notebook_code(notebook), root), set()
    while waiting:
        path = waiting.pop()
        inside = path.relative_to(root).as_posix()
        if path not in found and (draws or not inside.startswith(DRAWING)):
            found.add(path)
            waiting |= _imported(path.read_text(encoding="utf-8"), root)
    return sorted(found)


def notebook_code(notebook: Path) -> str:
    """All code cells of a notebook as one text."""
    cells = read_notebook(notebook).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "code")


@cache  # the steps share most of their files
def _meaning(code: str) -> str:
    """The code without comments and docstrings, in one form."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(node, ast.Module | ast.stmt):
            first = body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                body[0] = ast.Pass()
    return ast.dump(tree)


def _imported(code: str, root: Path) -> set[Path]:
    """Files of the package that a piece of Python imports by name."""
    return {path for name in _imported_names(code) for path in _files(name, root)}


@cache
def _imported_names(code: str) -> frozenset[str]:
    """All of the package that a piece of Python imports, as dotted names."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(name for name in names if name.split(".")[0] == "gz2vit")


def _files(module: str, root: Path) -> list[Path]:
    """The file of a module and the `__init__` files above it; nothing for a plain name in one."""
    parts = module.split(".")
    base = root.joinpath(*parts)
    parents = [root.joinpath(*parts[:length], "__init__.py") for length in range(1, len(parts))]
    candidates = [base.with_suffix(".py"), base / "__init__.py", *parents]
    return [path for path in candidates if path.is_file()]
