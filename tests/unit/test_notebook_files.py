"""gz2vit.notebook_files: notebooks are read as nbformat reads them, without its slow companion."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from gz2vit.io import ROOT
from gz2vit.workflow import ADDRESSES, read_notebook, without_addresses

NOTEBOOK = ROOT / "notebooks" / "03_train_linformer.ipynb"
IN_A_NEW_PROCESS = f"""
import sys
from pathlib import Path
from gz2vit.notebook_files import read_notebook
print(len(read_notebook(Path({str(NOTEBOOK)!r})).cells))
print({ADDRESSES!r} in sys.modules)
import {ADDRESSES}
print(hasattr({ADDRESSES}, "is_valid_syntax"))
"""


def test_a_notebook_is_what_nbformat_reads():
    assert read_notebook(NOTEBOOK) == nbformat.read(NOTEBOOK, as_version=4)


def test_reading_one_does_not_import_what_checks_addresses_nor_forbid_it():
    pytest.importorskip(ADDRESSES)
    command = [sys.executable, "-c", IN_A_NEW_PROCESS]
    outcome = subprocess.run(command, capture_output=True, text=True, check=True)
    cells = len(nbformat.read(NOTEBOOK, as_version=4).cells)
    assert outcome.stdout.split() == [str(cells), "False", "True"]


def test_what_is_imported_already_stays(monkeypatch: pytest.MonkeyPatch):
    there = object()
    monkeypatch.setitem(sys.modules, ADDRESSES, there)
    with without_addresses():
        assert sys.modules[ADDRESSES] is there
    assert sys.modules[ADDRESSES] is there


def test_no_notebook_is_nbformats_own_error(tmp_path: Path):
    (tmp_path / "a.ipynb").write_text("{")
    with pytest.raises(nbformat.reader.NotJSONError):
        read_notebook(tmp_path / "a.ipynb")
