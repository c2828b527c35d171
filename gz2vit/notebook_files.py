"""Notebooks as files, read without a wait for what no notebook needs."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbformat import NotebookNode

ADDRESSES = "rfc3987_syntax"  # checks addresses of the web with letters of any script


@contextmanager
def without_addresses() -> Iterator[None]:
    """Inside it, what imports jsonschema (nbformat, papermill) is imported a second sooner.

    jsonschema takes in an optional package, where there is one, that compiles 38 grammars while it
    is imported; they check addresses, of which the schema of a notebook has none.
    """
    if ADDRESSES in sys.modules:
        yield
        return
    sys.modules[ADDRESSES] = None  # "there is no such package", in Python's words
    try:
        yield
    finally:
        del sys.modules[ADDRESSES]


def read_notebook(path: Path) -> "NotebookNode":
    """The notebook in the file `path`, in format 4; nbformat's errors for anything else."""
    with without_addresses():
        import nbformat
    return nbformat.read(path, as_version=4)
