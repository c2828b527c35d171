"""notebooks/explore_galaxies.ipynb in JupyterLab, driven in a headless browser."""

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.browser import DESKTOP, open_browser

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = "explore_galaxies.ipynb"
WAIT_MS = 120_000  # for a kernel to start on a busy machine; 10 s on a free one
PICTURE = ".jp-OutputArea img"  # the widget's
# Its bytes; none while the old picture is gone and the new one not yet there.
BYTES = """async image => {
    try { return [...new Uint8Array(await (await fetch(image.src)).arrayBuffer())]; }
    catch { return []; }
}"""


@contextmanager
def jupyter_lab(folder: Path) -> Iterator[str]:
    """The address of a JupyterLab that serves `folder`, ended with all its kernels."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [f"--ServerApp.root_dir={folder}", f"--port={port}", "--port-retries=0"]
    options += ["--ip=127.0.0.1", "--no-browser", "--allow-root", "--IdentityProvider.token="]
    homes = {f"JUPYTER_{name}_DIR": str(folder / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    homes |= {"IPYTHONDIR": str(folder / "ipython"), "JUPYTERLAB_SETTINGS_DIR": str(folder / "s")}
    words = {"env": os.environ | homes | {"PYTHONPATH": str(ROOT)}, "cwd": folder}
    address, log = f"http://127.0.0.1:{port}/lab", folder / "lab.log"
    with log.open("w") as stream:
        command = [sys.executable, "-m", "jupyterlab", *options]
        server = subprocess.Popen(command, stdout=stream, stderr=stream, **words)
        try:
            for _ in range(WAIT_MS // 200):
                assert server.poll() is None, log.read_text()
                with suppress(OSError):  # not yet
                    urllib.request.urlopen(address, timeout=5).close()
                    break
                time.sleep(0.2)
            yield address
        finally:
            server.terminate()  # which ends the kernels, too
            server.wait(30)


def picture(page: Any, but: str = "") -> str:
    """A fingerprint of the picture shown, once it is another one than `but`."""
    deadline = time.monotonic() + WAIT_MS / 1000
    while time.monotonic() < deadline:
        data = bytes(page.locator(PICTURE).first.evaluate(BYTES, timeout=WAIT_MS))
        found = hashlib.sha256(data).hexdigest()
        if data.startswith(b"\x89PNG") and found != but:
            return found
        page.wait_for_timeout(100)
    pytest.fail("the picture stayed as it was")


def open_notebook(browser: Any, address: str) -> Any:
    """A page with the notebook open, all of its cells run."""
    page = browser.new_page(viewport=DESKTOP)
    page.goto(f"{address}/tree/notebooks/{NOTEBOOK}", timeout=WAIT_MS)
    page.locator(".jp-Notebook").wait_for(timeout=WAIT_MS)
    page.get_by_text("| Idle").wait_for(timeout=WAIT_MS)  # the kernel has started
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    return page


def choose(page: Any, menu: str, option: str | int) -> None:
    """Choose in the menu of that name: an option by its words or its place."""
    box = page.locator(".widget-dropdown", has=page.get_by_text(menu, exact=True)).locator("select")
    if isinstance(option, int):
        box.select_option(index=option)
    else:
        box.select_option(label=option)


def test_another_galaxy_is_another_picture(trained_run: Path, tmp_path: Path):
    pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / NOTEBOOK, tmp_path / "notebooks")
    (tmp_path / "results").symlink_to(trained_run.parent)
    with open_browser() as browser, jupyter_lab(tmp_path) as address:
        page = open_notebook(browser, address)
        first = picture(page)
        choose(page, "galaxy", 5)
        second = picture(page, but=first)
        choose(page, "map", "layer 1")
        third = picture(page, but=second)
        choose(page, "network", "convnext")
        fourth = picture(page, but=third)
        page.get_by_role("button", name="next →").click()
        fifth = picture(page, but=fourth)
        choose(page, "galaxy", 0)
        choose(page, "network", "linformer")
        assert len({first, second, third, fourth, fifth}) == 5
        page.close()
