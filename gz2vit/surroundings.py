"""The user's settings for other programs, which would change results or stop a run, set aside.

Only the standard library: this comes before anything else is imported.
"""

import os
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Snakemake's profile, Lightning's seed, kernels, start-up files, ranks of another launcher.
FOREIGN = ("SNAKEMAKE_", "PYTHON", "PIP_", "PL_", "JUPYTER_", "IPYTHON", "MPL", "MATPLOTLIB")
RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE")
CACHES = {"MPLCONFIGDIR": "matplotlib", "IPYTHONDIR": "ipython", "JUPYTER_DATA_DIR": "jupyter"}
CACHES |= {"JUPYTER_RUNTIME_DIR": "jupyter/runtime", "NUMBA_CACHE_DIR": "numba"}
CACHES |= {"TORCHINDUCTOR_CACHE_DIR": "torchinductor"}


def isolate() -> Path:
    """Make this process and its children independent of the user's surroundings; the cache folder.

    It is in the temporary folder where the home cannot be written (a container's unknown user).
    """
    for name in [one for one in os.environ if one.startswith(FOREIGN) or one in RANKS]:
        del os.environ[name]
    # Threads that spin while they wait keep others from the cores that these wait for: beside other
    # work, a training on two cores took ten times as long as with so short a wait.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    home = os.environ.get("HOME") or "/nonexistent"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or f"{home}/.cache") / "gz2vit"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=cache).close()
    except OSError:
        cache = Path(tempfile.gettempdir()) / f"gz2vit-{os.getuid()}"
        cache.mkdir(mode=0o700, exist_ok=True)
        if cache.stat().st_uid != os.getuid():  # somebody else's
            cache = Path(tempfile.mkdtemp(prefix="gz2vit-"))
        os.environ |= {"HOME": str(cache), "XDG_CACHE_HOME": str(cache)}
    os.environ |= {name: str(cache / folder) for name, folder in CACHES.items()}
    # Our kernel before the user's of the same name; this checkout's code before an installed one.
    os.environ |= {"JUPYTER_PREFER_ENV_PATH": "1", "JUPYTER_NO_CONFIG": "1"}
    os.environ |= {"PYTHONPATH": str(ROOT), "PYTHONNOUSERSITE": "1", "PYTHONUTF8": "1"}
    os.environ.setdefault("USER", f"user{os.getuid()}")  # asked for where there is no passwd entry
    return cache
