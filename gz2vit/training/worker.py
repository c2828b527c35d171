"""One of several processes that train together: `python -m gz2vit.training.worker ORDER`."""

import os
import sys
import threading
import traceback
from pathlib import Path

from gz2vit.data.galaxies import open_split
from gz2vit.errors import Gz2vitError
from gz2vit.results import read_json, write_text
from gz2vit.training.run import fit
from gz2vit.training.settings import TrainingSettings


def main(order_path: Path) -> int:
    """Do what the order says; the exit code. What went wrong is written beside the order."""
    threading.Thread(target=_end_with_the_notebook, daemon=True).start()
    order = read_json(order_path)
    failure = order_path.with_name("failure.txt")
    try:
        settings = TrainingSettings(**order["settings"])
        splits = (open_split(order["results_dir"], split) for split in ("train", "valid"))
        model_dir = Path(order["model_dir"])
        fit(settings, *splits, model_dir, order["devices"], order["acceleration"])
    except Gz2vitError as error:
        write_text(failure, f"{error}\n")
        return 1
    except Exception as error:  # the others wait for this process: tell them by ending
        if not failure.exists():  # else another was first, and this error follows from that
            reason = " ".join(str(error).split())
            write_text(failure, f"{type(error).__name__}: {reason}\n")
        traceback.print_exc()
        return 1
    return 0


def _end_with_the_notebook() -> None:
    """Wait for the end of the pipe to the process that started all, and end."""
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stdout.flush()
    # Without waiting for threads of a process group whose other members may be gone.
    os._exit(code)
