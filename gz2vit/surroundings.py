"""The user's settings for other programs that would change results or stop a run, set aside.

Only the standard library: this comes before anything else is imported.
"""

import os
import pwd
import tempfile
from pathlib import Path

# Snakemake's profile, kernels and start-up files of IPython, Lightning's seed and ranks.
FOREIGN = (
    *("SNAKEMAKE_PROFILE", "SNAKEMAKE_OUTPUT_CACHE", "MATPLOTLIBRC", "MPLBACKEND"),
    *("JUPYTER_PATH", "JUPYTER_CONFIG_PATH", "JUPYTER_RUNTIME_DIR", "PL_GLOBAL_SEED"),
    *("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "PYTHONSTARTUP"),
)
PRIVATE = {
    "MPLCONFIGDIR": "matplotlib",
    "JUPYTER_CONFIG_DIR": "jupyter/config",
    "JUPYTER_DATA_DIR": "jupyter/data",
    "IPYTHONDIR": "ipython",
    "NUMBA_CACHE_DIR": "numba",
    "TORCHINDUCTOR_CACHE_DIR": "torchinductor",
}


def isolate() -> Path:
    """Make this process and those that it starts independent of the user's surroundings.

    Returns the folder for caches: `~/.cache/gz2vit`, or one in the temporary folder where the home
    cannot be written (a container's unknown user).
    """
    for name in FOREIGN:
        os.environ.pop(name, None)
    home = os.environ.get("HOME") or "/nonexistent"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or f"{home}/.cache") / "gz2vit"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=cache).close()
    except OSError:
        cache = Path(tempfile.gettempdir()) / f"gz2vit-{os.getuid()}"
        cache.mkdir(mode=0o700, exist_ok=True)
        if cache.stat().st_uid != os.getuid():
            cache = Path(tempfile.mkdtemp(prefix="gz2vit-"))
        os.environ |= {"HOME": str(cache), "XDG_CACHE_HOME": str(cache / "cache")}
    for name, folder in PRIVATE.items():
        os.environ[name] = str(cache / folder)
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # our kernel before the user's of the same name
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ.setdefault("USER", f"user{os.getuid()}")  # or getpass fails
    return cache
