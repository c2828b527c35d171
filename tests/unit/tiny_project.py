"""A project with one tiny package, to make real environments of in seconds, without a network."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BASE_PYTHON = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
PACKAGE_FILES = ("__init__", "environment", "errors", "requirements", "virtual_environment")

# A build backend that needs nothing: `pip install -e` of the project is one .pth file.
BACKEND = """
import zipfile, pathlib
def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "gz2vit-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(folder, name), "w") as wheel:
        wheel.writestr("gz2vit.pth", str(pathlib.Path.cwd()))
        info = "gz2vit-0.1.0.dist-info/"
        metadata = "Metadata-Version: 2.1\\nName: gz2vit\\nVersion: 0.1.0\\n"
        wheel.writestr(info + "METADATA", metadata)
        tag = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
        wheel.writestr(info + "WHEEL", tag)
        wheel.writestr(info + "RECORD", "")
    return name
"""
# The same for a package that is built from source, and that waits while it is built.
SLOW_BACKEND = """
import os, pathlib, time
def build_wheel(folder, config_settings=None, metadata_directory=None):
    signs = pathlib.Path(os.environ["SIGNS"])
    (signs / "building").touch()
    while not (signs / "go").exists():
        time.sleep(0.05)
    raise SystemExit("this build is not meant to end well")
"""


def write_wheel(folder: Path, version: str) -> Path:
    """A wheel of the package `tiny`: one module with VERSION, and one script."""
    path = folder / f"tiny-{version}-py3-none-any.whl"
    info = f"tiny-{version}.dist-info"
    files = {
        "tiny.py": f"VERSION = {version!r}\ndef main():\n    print('tiny', VERSION)\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\ntiny = tiny:main\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in files) + f"{info}/RECORD,,\n"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return path


def write_slow_source(folder: Path) -> None:
    """A source package `slow` whose building waits for the file SIGNS/go."""
    files = {
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\n'
        'backend-path = ["."]\n[project]\nname = "slow"\nversion = "1.0"\n',
        "backend.py": SLOW_BACKEND,
        "PKG-INFO": "Metadata-Version: 2.1\nName: slow\nVersion: 1.0\n",
    }
    with tarfile.open(folder / "slow-1.0.tar.gz", "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"slow-1.0/{name}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))


def write_project(root: Path) -> None:
    """A project with our own environment code, and `tiny` as its only requirement."""
    (root / "gz2vit").mkdir(parents=True)
    for name in PACKAGE_FILES:
        shutil.copy(ROOT / f"gz2vit/{name}.py", root / "gz2vit")
    shutil.copy(ROOT / "gz2vit/environment.sh", root / "gz2vit")
    for name in ("run_all.sh", "run_tests.sh"):
        shutil.copy(ROOT / name, root)
    told = "import os, sys\nprint(sys.prefix, os.getcwd(), sys.argv[1:])\nsys.exit(7)\n"
    (root / "gz2vit/cli.py").write_text(told)
    (root / "pytest.py").write_text(told)
    (root / "backend.py").write_text(BACKEND)
    # pip could not get what this backend asks for: the project must be built without asking.
    (root / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["absent"]\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "gz2vit"\nversion = "0.1.0"\ndependencies = ["tiny>=1.0,<3"]\n'
        "[project.optional-dependencies]\ntest = []\n"
    )
    (root / "requirements.txt").write_text("tiny==1.0\n")


class Project:
    """A folder with a project, and how its commands are called."""

    def __init__(self, root: Path, wheels: Path) -> None:
        self.root = root
        self.python = root / ".venv/bin/python"
        path = f"{BASE_PYTHON.parent}{os.pathsep}{os.environ['PATH']}"
        kept = {key: os.environ[key] for key in ("HOME", "TMPDIR") if key in os.environ}
        self.variables = {**kept, "PATH": path, "PIP_CONFIG_FILE": os.devnull}
        self.variables |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "SIGNS": str(root)}

    def start(self, script: str = "gz2vit/environment.sh", *words: str) -> subprocess.Popen:
        """Start a command in a process group of its own."""
        return subprocess.Popen(
            ["bash", str(self.root / script), *words],
            cwd=self.root.parent,
            env=self.variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, script: str = "gz2vit/environment.sh", *words: str) -> tuple[int, str, str]:
        """Run a command: exit code, stdout, stderr."""
        process = self.start(script, *words)
        out, err = process.communicate(timeout=120)
        return process.returncode, out.strip(), err.strip()

    def succeed(self) -> str:
        """Make or find the environment; returns stderr."""
        code, out, err = self.run()
        assert (code, out) == (0, str(self.python)), err
        return err

    def fail(self) -> str:
        """The last line of a command that fails."""
        code, out, err = self.run()
        assert (code, out) == (1, ""), err
        assert "Traceback" not in err
        return err.splitlines()[-1]

    def tell(self, code: str) -> str:
        """What a line of Python prints in the environment, away from the project."""
        command = [str(self.python), "-I", "-c", code]
        return subprocess.run(command, cwd="/", capture_output=True, text=True).stdout.strip()
