"""One step at the terminal: its lines, and what is said when a notebook fails."""

import io
from pathlib import Path

import nbformat
import pytest

from gz2vit.io import Gz2vitError, sole_user
from gz2vit.workflow import StepWriter, execute_step


def make_notebook(path: Path, *cells: str) -> Path:
    """A notebook with a parameter cell and `cells` under a heading."""
    book = nbformat.v4.new_notebook()
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    book.metadata["kernelspec"] = kernel
    tags = {"tags": ["parameters"]}
    book.cells = [nbformat.v4.new_code_cell("NUMBER = 1", metadata=tags)]
    book.cells += [nbformat.v4.new_markdown_cell("## Divide\n\nWith care.")]
    book.cells += [nbformat.v4.new_code_cell(source) for source in cells]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, path)
    return path


def test_success_speaks_and_leaves_the_executed_notebook(
    tmp_path: Path, capfd: pytest.CaptureFixture
):
    book = make_notebook(tmp_path / "notebooks" / "03_divide.ipynb", "print('epoch', 6 / NUMBER)")
    output = tmp_path / "results" / "notebooks" / "03_divide.ipynb"
    execute_step("divide", book, output, {"NUMBER": 3}, tmp_path / "logs")
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "[divide] notebooks/03_divide.ipynb starts"
    assert "[divide] epoch 2.0" in lines
    assert lines[-1].startswith("[divide] done in ")
    assert [path.name for path in output.parent.iterdir()] == ["03_divide.ipynb"]
    assert "2.0" in output.read_text()
    assert not book.read_text().count("2.0")


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("6 / 0", "ZeroDivisionError: division by zero"),
        (
            "from gz2vit.errors import Gz2vitError\nraise Gz2vitError('image 7.jpg is missing')",
            "image 7.jpg is missing",
        ),
    ],
)
def test_failure_names_cell_error_and_notebook(tmp_path: Path, cell: str, reason: str):
    book = make_notebook(tmp_path / "notebooks" / "03_divide.ipynb", "1 / 1", cell, "2 / 2")
    output = tmp_path / "results" / "03_divide.ipynb"
    with pytest.raises(Gz2vitError) as caught:
        execute_step("divide", book, output, {"NUMBER": 2}, tmp_path / "logs")
    failed = output.with_name("03_divide.failed.ipynb")
    # Cell [4]: papermill puts the given parameters into a cell of their own.
    expected = f"step 'divide' failed in cell [4] under 'Divide': {reason}; see {failed}"
    assert str(caught.value) == expected
    assert (tmp_path / "logs" / "divide.error").read_text() == expected + "\n"
    assert failed.exists()
    assert not output.exists()


def test_success_clears_an_earlier_failure(tmp_path: Path):
    book = make_notebook(tmp_path / "notebooks" / "a.ipynb", "6 / NUMBER")
    output, logs = tmp_path / "a.ipynb", tmp_path / "logs"
    with pytest.raises(Gz2vitError):
        execute_step("divide", book, output, {"NUMBER": 0}, logs)
    execute_step("divide", book, output, {"NUMBER": 2}, logs)
    assert not (logs / "divide.error").exists()
    assert [path.name for path in tmp_path.glob("*.ipynb")] == ["a.ipynb"]


def test_a_killed_kernel_is_told(tmp_path: Path):
    book = make_notebook(tmp_path / "notebooks" / "a.ipynb", "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(Gz2vitError, match="step 'big' failed because its kernel died"):
        execute_step("big", book, tmp_path / "a.ipynb", {}, tmp_path / "logs")


def test_a_step_that_still_runs_is_not_run_beside_itself(tmp_path: Path):
    """A killed road can leave a step behind that goes on by itself."""
    book = make_notebook(tmp_path / "notebooks" / "a.ipynb", "1 / 1")
    told = pytest.raises(Gz2vitError, match="step 'divide' still runs in")
    with sole_user(tmp_path / "logs" / "divide.lock", "taken"), told:
        execute_step("divide", book, tmp_path / "a.ipynb", {}, tmp_path / "logs")
    execute_step("divide", book, tmp_path / "a.ipynb", {}, tmp_path / "logs")


def test_writer_heads_lines_and_thins_progress_bars():
    stream = io.StringIO()
    writer = StepWriter("pack", stream)
    writer.write("first li")
    writer.write("ne\n\nsecond\r10 %\r20 %\r30 %\rdone\n")
    assert stream.getvalue() == "[pack] first line\n[pack] second\n[pack] done\n"
