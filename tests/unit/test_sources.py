"""What makes a step stale: its code and the modules behind it, but not words about them."""

from pathlib import Path

import nbformat
import pytest

from gz2vit.workflow import code_signature, source_files


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project: a notebook in notebooks/ and one in figures/, a package of four modules."""
    package = tmp_path / "gz2vit"
    for folder in (package / "figures", tmp_path / "notebooks", tmp_path / "figures"):
        folder.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "figures" / "__init__.py").write_text("from gz2vit.paper import NAMES\nCOLOUR = 1\n")
    (package / "models.py").write_text('"""Networks."""\nfrom gz2vit import paper\nDEPTH = 12\n')
    (package / "paper.py").write_text("NAMES = 8\n")
    (package / "other.py").write_text("UNUSED = 1\n")
    for folder in ("notebooks", "figures"):
        code = "from gz2vit.models import DEPTH\nfrom gz2vit.figures import COLOUR"
        cells = [nbformat.v4.new_markdown_cell("# Words"), nbformat.v4.new_code_cell(code)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / folder / "a.ipynb")
    return tmp_path


def test_files_behind_a_notebook(project: Path):
    def names(folder: str) -> list[str]:
        files = source_files(project / folder / "a.ipynb", project)
        return [path.relative_to(project / "gz2vit").as_posix() for path in files]

    assert names("notebooks") == ["__init__.py", "models.py", "paper.py"]
    assert names("figures") == ["__init__.py", "figures/__init__.py", "models.py", "paper.py"]


@pytest.mark.parametrize(
    ("file", "content", "notebook_changes", "figure_changes"),
    [
        ("gz2vit/models.py", '"""Networks."""\nfrom gz2vit import paper\nDEPTH = 13\n', True, True),
        ("gz2vit/paper.py", "NAMES = 9\n", True, True),
        ("gz2vit/figures/__init__.py", "COLOUR = 2\n", False, True),
        ("gz2vit/other.py", "UNUSED = 2\n", False, False),
        (
            "gz2vit/models.py",
            '"""New."""\nfrom gz2vit import paper\nDEPTH = 12  # why\n',
            False,
            False,
        ),
    ],
)
def test_signature_changes_with_code_only(
    project: Path, file: str, content: str, notebook_changes: bool, figure_changes: bool
):
    books = [project / folder / "a.ipynb" for folder in ("notebooks", "figures")]
    before = [code_signature(book, project) for book in books]
    (project / file).write_text(content)
    after = [code_signature(book, project) for book in books]
    changed = [old != new for old, new in zip(before, after, strict=True)]
    assert changed == [notebook_changes, figure_changes]


def test_prose_and_outputs_of_a_notebook_do_not_count(project: Path):
    path = project / "notebooks" / "a.ipynb"
    before = code_signature(path, project)
    book = nbformat.read(path, as_version=4)
    book.cells[0].source = "# Other words"
    book.cells[1].outputs = [nbformat.v4.new_output("stream", text="12")]
    nbformat.write(book, path)
    assert code_signature(path, project) == before
    book.cells[1].source += "\nprint(DEPTH)"
    nbformat.write(book, path)
    assert code_signature(path, project) != before
