"""Room on the disk: asked for before the work starts, and one clear sentence when it runs out."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gz2vit.errors import Gz2vitError

BYTES_PER_GB = 1_000_000_000


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an error of the operating system while `path` is written into a `Gz2vitError`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Gz2vitError(
                f"the disk is full: cannot write {path}; make room and run the same command "
                "again, which continues where this one stopped"
            ) from error
        raise Gz2vitError(f"cannot write {path}: {error.strerror or error}") from error


def require_room(directory: Path, needed_bytes: int, purpose: str) -> None:
    """Raise `Gz2vitError`, in GB, if the disk of `directory` has less than `needed_bytes` free."""
    free_bytes = shutil.disk_usage(directory).free
    if free_bytes < needed_bytes:
        raise Gz2vitError(
            f"{purpose} needs {needed_bytes / BYTES_PER_GB:.3g} GB on the disk of {directory}, "
            f"which has {free_bytes / BYTES_PER_GB:.3g} GB free; make room or choose another "
            "folder with --to"
        )
