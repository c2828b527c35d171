"""Pretrained weights from a server that this test starts: verified, or one clear error."""

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gz2vit import download as transfer
from gz2vit import weights
from gz2vit.io import Gz2vitError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Quiet(SimpleHTTPRequestHandler):
    """A file server that does not write to the terminal."""

    def log_message(self, *words: object) -> None:
        pass


class Hub(Quiet):
    """As much of the Hugging Face hub as a download of a model needs."""

    def do_GET(self) -> None:
        self.path = "/" + self.path.rsplit("/", 1)[-1].split("?")[0]
        super().do_GET()

    def do_HEAD(self) -> None:
        self.path = "/" + self.path.rsplit("/", 1)[-1].split("?")[0]
        super().do_HEAD()

    def end_headers(self) -> None:
        path = Path(self.directory) / self.path.strip("/")
        if path.is_file():
            self.send_header("ETag", f'"{hashlib.sha256(path.read_bytes()).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
        super().end_headers()


def serve(folder: Path, kind: type) -> Iterator[tuple[Path, str]]:
    folder.mkdir()
    handler = partial(kind, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address under which it is served."""
    yield from serve(tmp_path / "served", Quiet)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's cache of downloads, empty and of this test alone."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(transfer, "BACKOFF_S", 0.01)
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
    monkeypatch.setitem(weights.TORCHVISION_URLS, "resnet50", url)


def test_addresses_are_torchvisions_own():
    from torchvision import models

    assert {
        "resnet50": models.ResNet50_Weights.IMAGENET1K_V1.url,
        "vgg16_bn": models.VGG16_BN_Weights.IMAGENET1K_V1.url,
    } == weights.TORCHVISION_URLS


def test_download_is_verified_kept_and_recorded(
    server: tuple, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    folder, address = server
    name = serve_weights(folder)
    point_to(monkeypatch, f"{address}/{name}")
    path, record = weights.fetch_weights("resnet50", "imagenet")
    assert torch.equal(weights.read_tensors(path)["conv1.weight"], torch.ones(3))
    assert record["sha256"].startswith(name[4:12])
    assert (record["source"], record["file"]) == ("imagenet", name)
    (folder / name).unlink()  # the second time nothing is fetched
    again, _ = weights.fetch_weights("resnet50", "imagenet")
    assert again == path
    assert [path.name for path in cache.iterdir()] == [name]


def test_wrong_bytes_are_refused_and_not_kept(
    server: tuple, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    folder, address = server
    point_to(monkeypatch, f"{address}/{serve_weights(folder, spoil=True)}")
    with pytest.raises(Gz2vitError, match="gave another file than its name says"):
        weights.fetch_weights("resnet50", "imagenet")
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "{server}"])
def test_offline_or_missing_names_the_file_and_its_place(
    server: tuple, cache: Path, monkeypatch: pytest.MonkeyPatch, address: str
):
    url = f"{address.format(server=server[1])}/net-12345678.pth"
    point_to(monkeypatch, url)
    with pytest.raises(Gz2vitError) as caught:
        weights.fetch_weights("resnet50", "imagenet")
    assert url in str(caught.value)
    assert f"put it at {cache / 'net-12345678.pth'}" in str(caught.value)
    assert "WEIGHTS=none" in str(caught.value)


def test_a_file_that_is_not_what_its_name_says(cache: Path, monkeypatch: pytest.MonkeyPatch):
    point_to(monkeypatch, "http://127.0.0.1:9/net-12345678.pth")
    cache.mkdir(parents=True)
    (cache / "net-12345678.pth").write_bytes(b"half a fi")
    with pytest.raises(Gz2vitError, match="net-12345678.pth is not what its name says"):
        weights.fetch_weights("resnet50", "imagenet")


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_nothing_in_a_weights_file_is_executed(tmp_path: Path, name: str):
    class Bomb:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "exploded",))

    torch.save({"weight": Bomb()}, tmp_path / name)
    with pytest.raises(Gz2vitError, match=f"{name} is not a file of weights"):
        weights.read_tensors(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


def test_both_kinds_of_files_are_read(tmp_path: Path):
    tensors = {"weight": torch.arange(4.0)}
    torch.save(tensors, tmp_path / "a.pth")
    save_file(tensors, tmp_path / "a.safetensors")
    for name in ("a.pth", "a.safetensors"):
        assert torch.equal(weights.read_tensors(tmp_path / name)["weight"], tensors["weight"])


def test_a_network_without_published_weights():
    with pytest.raises(Gz2vitError, match="no ImageNet weights for 'linformer'"):
        weights.fetch_weights("linformer", "imagenet")
    with pytest.raises(Gz2vitError, match="no weights file .*absent.pth"):
        weights.fetch_weights("resnet50", "absent.pth")


def in_a_new_process(address: str, home: Path, words: str, **more: str) -> tuple[int, str]:
    """Run a line of Python with the hub at `address` and an empty cache."""
    import os
    import subprocess
    import sys

    settings = {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    outcome = subprocess.run(
        [sys.executable, "-c", f"from gz2vit.weights import *; {words}"],
        env=os.environ | settings | more,
        capture_output=True,
        text=True,
    )
    return outcome.returncode, outcome.stdout + outcome.stderr


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A model and the address of a hub that serves it."""
    for folder, address in serve(tmp_path / "hub", Hub):
        (folder / "config.json").write_text("{}")
        (folder / "evil.py").write_text("raise SystemExit('executed')")
        save_file({"weight": torch.arange(4.0)}, folder / "model.safetensors")
        yield folder, address


def test_a_model_of_the_hub_is_fetched_and_recorded(hub: tuple, tmp_path: Path):
    folder, address = hub
    code, told = in_a_new_process(
        address,
        tmp_path / "home",
        "f, r = hub_folder('some/model'); print(r['revision'], r['sha256'], sorted(p.name for p in "
        "f.iterdir()))",
    )
    assert code == 0, told
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert f"{COMMIT} {digest} ['config.json', 'model.safetensors']" in told  # and no code


def test_no_hub_says_which_files_to_put_where(tmp_path: Path):
    words = "fetch_weights('hf_vit', 'imagenet')"
    # Told that there is no network, its client does not try for half a minute.
    code, told = in_a_new_process("http://127.0.0.1:9", tmp_path, words, HF_HUB_OFFLINE="1")
    assert code == 1
    assert "cannot fetch google/vit-base-patch16-224 from the Hugging Face hub" in told
    assert "put its config.json and model.safetensors into a folder" in told


def test_a_folder_without_weights_is_told(tmp_path: Path):
    (tmp_path / "model").mkdir()
    with pytest.raises(Gz2vitError, match="model has no config.json"):
        weights.fetch_weights("hf_vit", str(tmp_path / "model"))
    (tmp_path / "model" / "config.json").write_text("{}")
    with pytest.raises(Gz2vitError, match="model has no model.safetensors"):
        weights.hub_folder(str(tmp_path / "model"))
