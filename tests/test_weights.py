"""Pretrained weights from a server that this test starts: verified, or one clear error."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from gz2vit import download, models, weights
from gz2vit.io import Gz2vitError
from gz2vit.models import build_model
from tests.file_server import COMMIT, FileServer, Reply, serve

ENCODER = "zoobot-encoder-convnext_atto"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setattr(download, "BACKOFF_S", 0.01)
    with serve({}) as running:
        yield running


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's cache of downloads, empty and of this test alone."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


def offer(server: FileServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spoil: str) -> str:
    """Serve weights named after their checksum as the ResNet-50's; the file's name."""
    torch.save({"conv1.weight": torch.ones(3)}, tmp_path / "weights.pth")
    content = (tmp_path / "weights.pth").read_bytes()
    name = f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    server.files[name] = content[:-5] + b"wrong" if spoil else content
    monkeypatch.setitem(weights.TORCHVISION_URLS, "resnet50", f"{server.address}/{name}")
    return name


def test_a_download_is_verified_kept_and_recorded(server, cache, monkeypatch, tmp_path):
    name = offer(server, monkeypatch, tmp_path, "")
    server.script = [Reply(cut_after=100)]  # and resumed
    # files and folders of the word's own name change nothing
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imagenet").mkdir()
    (tmp_path / "imagenet" / "best.ckpt").touch()
    path, record = weights.fetch_weights("resnet50", "imagenet")
    assert torch.equal(weights.read_tensors(path)["conv1.weight"], torch.ones(3))
    assert (record["source"], record["file"]) == ("imagenet", name)
    assert record["sha256"].startswith(name[4:12])
    server.files.clear()  # the second time nothing is fetched
    assert weights.fetch_weights("resnet50", "imagenet")[0] == path
    assert [path.name for path in cache.iterdir()] == [name]


def test_wrong_bytes_are_refused(server, cache, monkeypatch, tmp_path):
    name = offer(server, monkeypatch, tmp_path, "spoilt")
    with pytest.raises(Gz2vitError, match=f"{name}.*{cache / name}.*WEIGHTS=none"):
        weights.fetch_weights("resnet50", "imagenet")
    assert list(cache.iterdir()) == []
    (cache / name).write_bytes(b"half a fi")
    with pytest.raises(Gz2vitError, match=str(cache / name)):
        weights.fetch_weights("resnet50", "imagenet")


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_tensors_are_read_and_nothing_is_executed(tmp_path: Path, name: str):
    tensors = {"weight": torch.arange(4.0)}
    (save_file if name.endswith("safetensors") else torch.save)(tensors, tmp_path / name)
    assert torch.equal(weights.read_tensors(tmp_path / name)["weight"], tensors["weight"])

    class Bomb:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "exploded",))

    torch.save({"weight": Bomb()}, tmp_path / name)
    with pytest.raises(Gz2vitError, match=name):
        weights.read_tensors(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


def test_weights_that_do_not_exist_and_a_folder_that_is_not_whole(tmp_path: Path):
    for architecture, source in (("linformer", "imagenet"), ("resnet50", "absent.pth")):
        with pytest.raises(Gz2vitError, match="linformer|absent.pth"):
            weights.fetch_weights(architecture, source)
    for file in weights.HUB_FILES:
        with pytest.raises(Gz2vitError, match=f"{tmp_path} has no {file}"):
            weights.fetch_weights("hf_vit", str(tmp_path))
        (tmp_path / file).write_text("{}")


def in_a_new_process(address: str, home: Path, words: str, **more: str) -> tuple[int, str]:
    """Run a line of Python with the hub at `address` and an empty cache."""
    settings = {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", f"from gz2vit.weights import *; {words}"]
    options = {"env": os.environ | settings | more, "capture_output": True, "text": True}
    outcome = subprocess.run(command, **options)
    return outcome.returncode, outcome.stdout + outcome.stderr


def test_no_hub_says_which_files_to_put_where(tmp_path: Path):
    words = "fetch_weights('hf_vit', 'imagenet')"
    # Without the variable its client tries for half a minute.
    code, output = in_a_new_process("http://127.0.0.1:9", tmp_path, words, HF_HUB_OFFLINE="1")
    parts = ("google/vit-base-patch16-224", *weights.HUB_FILES, "WEIGHTS=FOLDER")
    assert code == 1 and all(part in output for part in parts)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder as Zoobot publishes them: a network of timm without a last layer."""
    folder = tmp_path_factory.mktemp("encoder")
    state = timm.create_model("convnext_atto", num_classes=0).state_dict()
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"architecture": "convnext_atto"}))
    (folder / "evil.py").write_text("raise SystemExit('executed')")
    return folder


def test_an_encoder_of_the_hub_is_a_network_like_any_other(encoder: Path, tmp_path: Path):
    name = f"timm/hf_hub:mwalmsley/{ENCODER}"
    network = build_model("backbone", name=name, image_size=64)  # needs no network connection
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 8)
    files = {path.name: path.read_bytes() for path in encoder.iterdir()}
    with serve(files) as hub:
        hub.healthy = Reply(etag=None)
        words = f"f, r = fetch_weights('backbone', 'imagenet', '{name}'); print(f, r['revision'], "
        words += "r['sha256'], sorted(p.name for p in f.parent.iterdir()))"
        code, output = in_a_new_process(hub.address, tmp_path / "home", words)
    assert code == 0, output
    digest = hashlib.sha256(files["model.safetensors"]).hexdigest()
    assert f"{COMMIT} {digest} ['config.json', 'model.safetensors']" in output  # and no code
    # the same from a local folder or file, without the hub
    for source in (encoder, encoder / "model.safetensors"):
        path, record = weights.fetch_weights("backbone", str(source), name)
        assert record["sha256"] == digest
        sizes = {"name": name, "image_size": 64}
        state = models.pretrained_state("backbone", sizes, path)
        assert torch.equal(state["stem.0.weight"], weights.read_tensors(path)["stem.0.weight"])
        network.load_state_dict(state)


def test_a_local_folder_is_a_network_and_fits_no_other(encoder: Path, tmp_path: Path):
    name = f"timm/local-dir:{encoder}"
    build_model("backbone", name=name, image_size=64)
    assert weights.fetch_weights("backbone", "imagenet", name)[0] == encoder / "model.safetensors"
    (tmp_path / "config.json").write_text('{"architecture": "unheard_of"}')
    with pytest.raises(Gz2vitError, match=str(tmp_path)):
        build_model("backbone", name=f"timm/local-dir:{tmp_path}")
    # nor does another network take its weights
    sizes = {"name": "timm/hf_hub:mwalmsley/zoobot-encoder-resnet18", "image_size": 64}
    path, _ = weights.fetch_weights("backbone", str(encoder), sizes["name"])
    with pytest.raises(Gz2vitError, match="do not fit"):
        models.pretrained_state("backbone", sizes, path)
