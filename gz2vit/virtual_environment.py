"""Making `.venv` from requirements.txt, finishing it after a kill, mending it after a move.

Only the standard library is used, because this runs before anything is installed. All output goes
to stderr: the commands read the interpreter's path from stdout.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gz2vit.errors import Gz2vitError
from gz2vit.requirements import release, requirements_hash

RECORD_NAME = "gz2vit-environment.json"
LOCK_NAME = "gz2vit-environment.lock"
LOG_NAME = "gz2vit-pip.log"
# From 25.2 on pip resumes a broken download by itself, which matters for torch's 1 GB file.
RESUMING_PIP = (25, 2)
# .venv on Linux takes 7 GB, most of it torch's CUDA libraries; pip unpacks on the way.
DISK_GB = 10

NETWORK_TROUBLE = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|Connection aborted|"
    r"Connection broken|Connection refused|ConnectionResetError|IncompleteRead|ProxyError|SSLError"
)


def say(message: str) -> None:
    """Print one line on stderr at once, because stdout belongs to the interpreter's path."""
    print(message, file=sys.stderr, flush=True)


def read_record(venv: Path) -> dict[str, str]:
    """What a finished or half-finished making wrote down: root, python, requirements."""
    try:
        record = json.loads((venv / RECORD_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def write_record(venv: Path, root: Path, requirements: str) -> None:
    """Write the record in one step; `requirements` is "" until every package is installed."""
    record = {"root": str(root), "python": venv_version(venv), "requirements": requirements}
    temporary = venv / f"{RECORD_NAME}.tmp"
    temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    temporary.replace(venv / RECORD_NAME)


def ask_python(python: Path, code: str, *flags: str) -> str | None:
    """What `code` prints in another interpreter; None where that fails."""
    command = [str(python), "-I", *flags, "-c", code]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except OSError:
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def venv_version(venv: Path) -> str | None:
    """The Python that `.venv` runs now, such as "3.11"; None where it does not run."""
    return ask_python(
        venv / "bin/python", "import sys; print('%d.%d' % sys.version_info[:2])", "-S"
    )


def pip_version(venv: Path) -> str | None:
    """The version of `.venv`'s pip; None where a kill left none or half of one."""
    code = "from importlib.metadata import distribution as d; p = d('pip'); import pip; "
    code += "print(p.version if p.read_text('RECORD') else 1 / 0)"
    return ask_python(venv / "bin/python", code)


def is_wanted(python: str | None) -> bool:
    """Whether a version such as "3.11" will do; GZ2VIT_PYTHON asks for its own."""
    if os.environ.get("GZ2VIT_PYTHON"):
        return python == f"{sys.version_info.major}.{sys.version_info.minor}"
    return python is not None and release(python) >= (3, 11)


def is_complete(venv: Path, root: Path) -> bool:
    """Whether `.venv` holds exactly what requirements.txt says, for this folder."""
    record = read_record(venv)
    return (
        record.get("requirements") == requirements_hash(root)
        and record.get("root") == str(root)
        and is_wanted(record.get("python"))
        and record.get("python") == venv_version(venv)
    )


def run(command: list[str], lock: int) -> int:
    """Run a command with its output on stderr, so that its progress is seen; its exit code."""
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno(), pass_fds=(lock,)
    ).returncode


def create_venv(venv: Path, lock: int) -> None:
    """Make an empty `.venv` from the running interpreter's base, in place of what is there."""
    # The running interpreter may be .venv's own, which the next lines remove.
    base = getattr(sys, "_base_executable", None) or sys.executable
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    if importlib.util.find_spec("ensurepip") is None:
        raise Gz2vitError(
            f"{base} has no venv module: install it (on Debian and Ubuntu: apt install "
            f"python{minor}-venv), or name another Python 3.11 or newer in GZ2VIT_PYTHON"
        )
    for entry in venv.iterdir():
        if entry.name != LOCK_NAME:
            remove(entry)
    if run([base, "-I", "-m", "venv", str(venv)], lock) != 0 or pip_version(venv) is None:
        raise Gz2vitError(f"`{base} -m venv {venv}` failed: its reason stands above")


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all it holds."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def remove_half_installed(venv: Path) -> bool:
    """Make pip forget the packages that a killed pip left half installed; whether any were.

    pip lists INSTALLER in RECORD, and writes that list last; until then RECORD is missing or the
    wheel's own. Folders that begin with ~ are what pip had set aside to remove.
    """
    found = False
    for site in venv.glob("lib/python3.*/site-packages"):
        for entry in [*site.glob("~*"), *site.glob("*.dist-info")]:
            record = entry / "RECORD"
            if entry.name.startswith("~") or not record.is_file():
                broken = True
            else:
                broken = "INSTALLER" not in record.read_text(encoding="utf-8", errors="replace")
            if broken:
                remove(entry)
                found = True
    return found


def relocate(venv: Path, old: Path, lock: int) -> None:
    """Mend a `.venv` that was made at `old` and moved or copied since, without the network.

    Python itself finds its packages anywhere; what holds the old path are the activate scripts
    and the first line of every script in bin/.
    """
    say(f"The project folder was {old.parent}: mending .venv for {venv.parent}.")
    python = venv / "bin/python"
    if run([str(python), "-I", "-m", "venv", "--without-pip", str(venv)], lock) != 0:
        raise Gz2vitError(f"{venv} could not be mended: remove that folder and try again")
    # This form, which pip itself uses, also holds for long paths and for paths with spaces.
    header = f"#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n".encode()
    for script in (venv / "bin").iterdir():
        if script.is_symlink() or not script.is_file():
            continue
        code = script.read_bytes()
        first = re.match(rb"#!/bin/sh\n'''exec'[^\n]*\n' '''\n|#![^\n]*\n", code)
        if first and str(old / "bin/python").encode() in first[0]:
            script.write_bytes(header + code[first.end() :])


def pip_install(venv: Path, lock: int, *arguments: str) -> None:
    """Run pip with the user's own pip settings; raises `Gz2vitError` with the cause."""
    log = venv / LOG_NAME
    log.unlink(missing_ok=True)
    command = [str(venv / "bin/python"), "-I", "-m", "pip", "install", "--no-user", "--no-input"]
    if run([*command, "--log", str(log), *arguments], lock) != 0:
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        raise Gz2vitError(pip_problem(text, venv))


def pip_problem(log: str, venv: Path) -> str:
    """The sentence for a failed pip, from the log that it left."""
    tail = "\n".join(log.splitlines()[-200:])
    if re.search(r"No space left on device|Disk quota exceeded", tail):
        return disk_full(venv)
    if NETWORK_TROUBLE.search(tail):
        return (
            "the packages could not be downloaded: check the network and run the same command "
            "again, what has been downloaded is kept"
        )
    if unknown := re.search(r"No matching distribution found for (\S+)", tail):
        return (
            f"pip finds no {unknown[1]} for Python {venv_version(venv)} on this machine: name "
            "another Python 3.11 or newer in GZ2VIT_PYTHON, or check your pip settings"
        )
    return f"pip failed: its reason stands above and in {venv / LOG_NAME}"


def disk_full(venv: Path) -> str:
    """The sentence for a full disk."""
    places = f"{venv.parent} and in {tempfile.gettempdir()}"
    return f"the disk is full: free {DISK_GB} GB in {places}, then run the same command again"


def update_pip(venv: Path, lock: int) -> None:
    """Bring pip to a version that resumes broken downloads; an older one will do without."""
    if release(pip_version(venv) or "") >= RESUMING_PIP:
        return
    try:
        pip_install(venv, lock, "--upgrade", f"pip>={'.'.join(map(str, RESUMING_PIP))}")
    except Gz2vitError:
        say("pip could not be updated: going on with the one there is.")


def make_venv(venv: Path, root: Path, lock: int) -> None:
    """Bring `.venv` from whatever state it is in to the one that `is_complete` asks for."""
    started = time.monotonic()
    record = read_record(venv)
    if not is_wanted(venv_version(venv)) or pip_version(venv) is None:
        say(f"Making the Python environment {venv} (once; several GB to download).")
        create_venv(venv, lock)
        record = {}
    elif record.get("root", str(root)) != str(root):
        relocate(venv, Path(record["root"]) / ".venv", lock)
    wanted = requirements_hash(root)
    if remove_half_installed(venv) or record.get("requirements") != wanted:
        write_record(venv, root, "")
        say("Installing the packages of requirements.txt.")
        update_pip(venv, lock)
        pip_install(venv, lock, "-r", str(root / "requirements.txt"))
    # Without isolation nothing is downloaded: requirements.txt holds setuptools.
    pip_install(venv, lock, "--no-deps", "--no-build-isolation", "-e", str(root))
    write_record(venv, root, wanted)
    say(f"The Python environment is ready ({time.monotonic() - started:.0f} s).")
