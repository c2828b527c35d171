"""Pretrained weights from a server that this test starts: verified, or one clear error."""

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from gz2vit import downloads
from gz2vit.errors import Gz2vitError


class Quiet(SimpleHTTPRequestHandler):
    """A file server that does not write to the terminal."""

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address under which it is served."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's cache of downloads, empty and of this test alone."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


def serve_weights(folder: Path, spoil: bool = False) -> str:
    """Put weights named after their checksum into the folder; the file's name."""
    path = folder / "weights.pth"
    torch.save({"conv1.weight": torch.ones(3)}, path)
    name = f"net-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth"
    content = path.read_bytes()
    (folder / name).write_bytes(content[:-5] + b"wrong" if spoil else content)
    return name


def point_to(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setitem(downloads.IMAGENET_WEIGHTS, "resnet50", SimpleNamespace(url=url))


def test_download_is_verified_kept_and_recorded(
    server: tuple, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    folder, address = server
    name = serve_weights(folder)
    point_to(monkeypatch, f"{address}/{name}")
    state, record = downloads.imagenet_weights("resnet50", "imagenet")
    assert torch.equal(state["conv1.weight"], torch.ones(3))
    assert record["sha256"].startswith(name[4:12])
    (folder / name).unlink()  # the second time nothing is fetched
    again, _ = downloads.imagenet_weights("resnet50", "imagenet")
    assert torch.equal(again["conv1.weight"], torch.ones(3))
    assert [path.name for path in cache.iterdir()] == [name]


def test_wrong_bytes_are_refused_and_not_kept(
    server: tuple, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    folder, address = server
    point_to(monkeypatch, f"{address}/{serve_weights(folder, spoil=True)}")
    with pytest.raises(Gz2vitError, match="cannot download the ImageNet weights of resnet50"):
        downloads.imagenet_weights("resnet50", "imagenet")
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "{server}"])
def test_offline_or_missing_names_the_file_and_its_place(
    server: tuple, cache: Path, monkeypatch: pytest.MonkeyPatch, address: str
):
    url = f"{address.format(server=server[1])}/net-12345678.pth"
    point_to(monkeypatch, url)
    with pytest.raises(Gz2vitError) as caught:
        downloads.imagenet_weights("resnet50", "imagenet")
    assert f"put {url} at {cache / 'net-12345678.pth'}" in str(caught.value)
    assert "WEIGHTS=none" in str(caught.value)


def test_a_file_that_is_not_what_its_name_says(cache: Path, monkeypatch: pytest.MonkeyPatch):
    point_to(monkeypatch, "http://127.0.0.1:9/net-12345678.pth")
    cache.mkdir(parents=True)
    (cache / "net-12345678.pth").write_bytes(b"half a fi")
    with pytest.raises(Gz2vitError, match="net-12345678.pth is not what its name says"):
        downloads.imagenet_weights("resnet50", "imagenet")


def test_nothing_in_a_weights_file_is_executed(tmp_path: Path):
    class Bomb:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "exploded",))

    torch.save({"weight": Bomb()}, tmp_path / "a.pth")
    with pytest.raises(Gz2vitError, match="a.pth is not a file of weights"):
        downloads.imagenet_weights("resnet50", str(tmp_path / "a.pth"))
    assert not (tmp_path / "exploded").exists()


def test_a_network_that_the_paper_does_not_pretrain():
    with pytest.raises(Gz2vitError, match="no ImageNet weights for 'linformer'"):
        downloads.imagenet_weights("linformer", "imagenet")
