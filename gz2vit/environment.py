"""The Python environment of the two commands: find it, or have `.venv` made.

`main` prints the path of the interpreter to use on stdout and tells everything else on stderr;
environment.sh, which both commands call, runs it with any Python 3.11 or newer. In this order:

1. An active conda environment that holds every requirement of pyproject.toml is used as it is.
2. `.venv` is used if its record says that it holds these very requirements in this very folder.
3. Otherwise `.venv` is made, finished or mended; a lock lets only one command at a time do so.
"""

import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gz2vit.errors import Gz2vitError
from gz2vit.requirements import missing_requirements
from gz2vit.virtual_environment import LOCK_NAME, disk_full, is_complete, make_venv, say


def active_conda_python(root: Path) -> Path | None:
    """The active conda environment's interpreter if it is complete, else None and one line why.

    environment.sh starts this file with that interpreter where it is Python 3.11 or newer.
    """
    prefix = os.environ.get("CONDA_PREFIX")
    if not prefix or os.environ.get("GZ2VIT_PYTHON"):
        return None
    missing = ["Python 3.11 or newer"]
    if os.path.realpath(prefix) == os.path.realpath(sys.prefix):
        missing = missing_requirements(root)
    if not missing:
        return Path(sys.executable)
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    say(f"Not used: the conda environment {prefix}, which lacks {missing[0]}{more}; using .venv.")
    return None


@contextmanager
def locked(venv: Path) -> Iterator[int]:
    """Hold `.venv`'s lock, waiting for another command if need be; yields its descriptor.

    pip inherits the descriptor: if this process is killed while its pip goes on, the next
    command waits for that pip instead of writing into the same folder.
    """
    venv.mkdir(exist_ok=True)
    descriptor = os.open(venv / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another command is making .venv: waiting for it.")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            say("This file system has no locks: start no second command until .venv is made.")
        yield descriptor
    finally:
        os.close(descriptor)


def find_environment(root: Path) -> Path:
    """The interpreter to use, in an environment that is made first if there is none.

    Raises `Gz2vitError` where it cannot be made.
    """
    if conda_python := active_conda_python(root):
        return conda_python
    venv = root / ".venv"
    try:
        if not is_complete(venv, root):
            with locked(venv) as lock:
                # Another command may have made it while this one waited.
                if not is_complete(venv, root):
                    make_venv(venv, root, lock)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Gz2vitError(disk_full(venv)) from error
        raise Gz2vitError(f"cannot make {venv}: {error}") from error
    return venv / "bin/python"


def main() -> int:
    """Print the interpreter's path; 1 and one last line on stderr where there is none."""
    try:
        print(find_environment(Path(__file__).resolve().parent.parent))
    except Gz2vitError as problem:
        say(f"error: {problem}")
        return 1
    except KeyboardInterrupt:
        say("error: interrupted: run the same command again to go on")
        return 130
    return 0
