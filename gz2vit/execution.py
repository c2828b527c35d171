"""One step of the road: a notebook run through papermill, with what happens told at the terminal.

The notebook is executed under a temporary name. When it succeeds it gets the name that the
workflow expects; when it fails it stays as `<name>.failed.ipynb`, and `logs/<step>.error` holds
the one line that says which cell failed and why.
"""

import logging
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from gz2vit.errors import Gz2vitError
from gz2vit.notebook_files import read_notebook, without_addresses
from gz2vit.results import sole_user, write_text

if TYPE_CHECKING:
    from papermill.exceptions import PapermillExecutionError

BAR_SECONDS = 5.0  # between two lines of a progress bar, where the terminal cannot redraw one


class StepWriter:
    """Passes a notebook's output on, each line headed by `[step]`; progress bars are thinned."""

    def __init__(self, step: str, stream: TextIO) -> None:
        self.head, self.stream = f"[{step}] ", stream
        self.pending, self.last_bar = "", 0.0

    def write(self, text: str) -> None:
        """Take some output; print the lines that are complete."""
        self.pending += text
        while "\n" in self.pending or "\r" in self.pending:
            ends = [i for i in (self.pending.find("\n"), self.pending.find("\r")) if i >= 0]
            line, end = self.pending[: min(ends)], self.pending[min(ends)]
            self.pending = self.pending[min(ends) + 1 :]
            if line.strip() and (end == "\n" or self._bar_is_due()):
                self.stream.write(f"{self.head}{line.rstrip()}\n")
        self.stream.flush()

    def _bar_is_due(self) -> bool:
        due = time.monotonic() - self.last_bar >= BAR_SECONDS
        if due:
            self.last_bar = time.monotonic()
        return due

    def flush(self) -> None:
        """papermill asks for it; lines are flushed as they are written."""


def execute_step(
    step: str, notebook: Path, output: Path, parameters: Mapping[str, Any], logs: Path
) -> None:
    """Run `notebook` with `parameters` into `output`, telling the terminal about it.

    Raises `Gz2vitError` with one line that names the step, the cell, the error and the executed
    notebook; the same line is left in `logs/<step>.error`.
    """
    logging.getLogger("papermill").setLevel(logging.ERROR)
    told = f"step '{step}' still runs in {logs.parent} from an earlier call; wait for it, or end it"
    try:
        with sole_user(logs / f"{step}.lock", told):
            (logs / f"{step}.error").unlink(missing_ok=True)
            _execute(step, notebook, output, parameters)
    except Gz2vitError as error:
        write_text(logs / f"{step}.error", f"{error}\n")
        raise


def _execute(step: str, notebook: Path, output: Path, parameters: Mapping[str, Any]) -> None:
    """`execute_step` once the step is ours."""
    running = output.with_name(f".{output.stem}.running.ipynb")
    failed = output.with_name(f"{output.stem}.failed.ipynb")
    running.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    print(f"[{step}] {notebook.parent.name}/{notebook.name} starts", flush=True)
    try:
        _run(step, notebook, running, parameters)
    except Gz2vitError as error:
        if running.exists():
            running.replace(failed)
        raise Gz2vitError(f"step '{step}' failed {error}; see {failed}") from error
    failed.unlink(missing_ok=True)
    running.replace(output)
    print(f"[{step}] done in {time.perf_counter() - start:.0f} s", flush=True)


def _run(step: str, notebook: Path, running: Path, parameters: Mapping[str, Any]) -> None:
    """papermill's run, its errors turned into one line."""
    with without_addresses():
        import papermill
        from nbclient.exceptions import DeadKernelError
        from papermill.exceptions import PapermillExecutionError

    try:
        papermill.execute_notebook(
            notebook,
            running,
            parameters=dict(parameters),
            progress_bar=False,
            stdout_file=StepWriter(step, sys.stdout),
            stderr_file=StepWriter(step, sys.stdout),
            cwd=notebook.parent,
        )
    except PapermillExecutionError as error:
        raise Gz2vitError(f"in {_cell(running, error)}: {_reason(error)}") from error
    except DeadKernelError as error:
        raise Gz2vitError(
            "because its kernel died, most often for want of memory: try fewer --jobs or a "
            "smaller BATCH_SIZE"
        ) from error
    except OSError as error:
        raise Gz2vitError(f"because {error}") from error


def _reason(error: "PapermillExecutionError") -> str:
    """The notebook's own error as one line; ours are sentences already, others keep their name."""
    text = " ".join(str(error.evalue).split())
    return text if error.ename == Gz2vitError.__name__ else f"{error.ename}: {text}"


def _cell(running: Path, error: "PapermillExecutionError") -> str:
    """The failed cell in words: its execution number and the heading that it stands under."""
    heading = ""
    for cell in read_notebook(running).cells:
        if cell.cell_type == "markdown":
            titles = [line for line in cell.source.splitlines() if line.startswith("## ")]
            heading = titles[-1][3:] if titles else heading
        if cell.cell_type == "code" and cell.execution_count == error.exec_count:
            break
    return f"cell [{error.exec_count}]" + (f" under '{heading}'" if heading else "")
