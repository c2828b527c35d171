"""The whole download: from a server to a data folder, through kills, locks and full disks."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gz2vit import download as disk
from gz2vit import download as images
from gz2vit import download as transfer
from gz2vit.catalog import read_data_folder
from gz2vit.download import download
from gz2vit.io import Gz2vitError, sole_user
from tests.unit.file_server import (
    CLASS_COUNTS,
    CONTENTS,
    FILES,
    IMAGES,
    LABELS,
    MAPPING,
    VOTES_FILE,
    ZIP,
    ZIP_FILE,
    FileServer,
    Reply,
    hurry,
    serve,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serve(CONTENTS) as running:
        yield running


def get(home: Path, server: FileServer | None, *what: str, **options: object) -> None:
    """Download the small Galaxy Zoo from the server as a mirror."""
    mirror = server.address if server else None
    download(home, what, mirror, files=FILES, class_counts=CLASS_COUNTS, **options)


def snapshot(folder: Path) -> dict[str, int]:
    """All files below a folder but the lock, with their times."""
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_everything_becomes_a_data_folder(
    tmp_path: Path, server: FileServer, capsys: pytest.CaptureFixture[str]
):
    home = tmp_path / "new" / "gz2"
    get(home, server)
    folder = read_data_folder(home)
    assert sum(map(len, folder.tables.values())) == 14
    for table in folder.tables.values():
        assert all(folder.image_path(name).is_file() for name in table.galaxyID)
    for name, content in CONTENTS.items():
        place = home if name in LABELS else home / "downloads"
        assert (place / name).read_bytes() == content
        assert (home / "downloads" / f"{name}.record.json").is_file()
    record = json.loads((home / "downloads" / "images.record.json").read_text())
    source = f"{server.address}/images_gz2.zip"
    assert record == {"source": source, "images": 16, "skipped": 16}
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [*CONTENTS, "images"]
    assert f"{len(MAPPING):,} bytes, verified (md5 " in lines[3]
    assert "verified; first seen, sha256 " in lines[4]


def test_again_does_nothing_even_without_the_zip(
    tmp_path: Path, server: FileServer, capsys: pytest.CaptureFixture[str]
):
    get(tmp_path, server)
    (tmp_path / "downloads" / "images_gz2.zip").unlink()
    before, asked = snapshot(tmp_path), len(server.log)
    capsys.readouterr()
    get(tmp_path, server)
    assert snapshot(tmp_path) == before
    assert len(server.log) == asked
    assert capsys.readouterr().out.count("already there") == 7


def test_what_was_asked_for_and_no_more(tmp_path: Path, server: FileServer):
    get(tmp_path, server, "votes", "mapping")
    assert [request.path for request in server.log] == [
        "/gz2_filename_mapping.csv",
        "/gz2_hart16.csv.gz",
    ]
    with pytest.raises(Gz2vitError, match="there is no 'pictures' to download"):
        get(tmp_path, server, "pictures")


def test_mirror_from_the_environment_or_a_folder(
    tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("GZ2VIT_MIRROR", server.address)
    get(tmp_path / "a", None, "labels")
    assert len(server.log) == 3
    download(tmp_path / "b", ["labels"], str(tmp_path / "a"), None, FILES, CLASS_COUNTS)
    assert len(server.log) == 3
    for name, content in LABELS.items():
        assert (tmp_path / "b" / name).read_bytes() == content
    with pytest.raises(Gz2vitError, match="nowhere is neither a folder nor"):
        download(tmp_path / "c", ["labels"], "nowhere", None, FILES, CLASS_COUNTS)


def test_offline(tmp_path: Path):
    with pytest.raises(Gz2vitError, match="gz2_train.csv: .* could not be reached .*--mirror, or"):
        get(tmp_path, None)
    assert not (tmp_path / "gz2_train.csv").exists()


def test_label_tables_of_other_origin_are_left_alone(tmp_path: Path, server: FileServer):
    (tmp_path / "gz2_train.csv").write_text("galaxyID,label1\n1,1\n")
    with pytest.raises(Gz2vitError, match="gz2_train.csv is not the published file.*move it away"):
        get(tmp_path, server, "labels")
    assert (tmp_path / "gz2_train.csv").read_text() == "galaxyID,label1\n1,1\n"


def test_counts_are_compared_with_the_published_ones(tmp_path: Path, server: FileServer):
    with pytest.raises(Gz2vitError, match="class 0 Round Elliptical, the published table 21,683"):
        download(tmp_path, ["labels"], server.address, None, FILES)


def test_images_at_hand_need_no_download(tmp_path: Path, server: FileServer):
    (tmp_path / "mine").mkdir()
    for name, content in IMAGES.items():
        (tmp_path / "mine" / name).write_bytes(content)
    get(tmp_path / "a", server, images=tmp_path / "mine")
    assert "/images_gz2.zip" not in [request.path for request in server.log]
    assert len(read_data_folder(tmp_path / "a").tables["train"]) == 8
    server.log.clear()
    get(tmp_path / "b", server, "mapping", images=tmp_path / "mine")
    assert [request.path for request in server.log] == ["/gz2_filename_mapping.csv"]
    assert (tmp_path / "b" / "images").is_symlink()


def give(monkeypatch: pytest.MonkeyPatch, free_bytes: int) -> None:
    """A disk with so much room."""
    usage = namedtuple("usage", "total used free")(0, 0, free_bytes)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: usage)


def test_room_is_asked_for_before_anything_starts(
    tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
):
    needed = sum(map(len, CONTENTS.values())) + ZIP_FILE.unpacked_bytes
    give(monkeypatch, needed - 1)
    with pytest.raises(Gz2vitError, match=f"the download needs {needed / 1e9:.3g} GB on the disk"):
        get(tmp_path, server)
    assert server.log == []
    give(monkeypatch, needed)
    get(tmp_path, server)
    give(monkeypatch, 0)
    get(tmp_path, server)  # all is there
    (tmp_path / "images" / "100.jpg").unlink()
    with pytest.raises(Gz2vitError, match=f"the download needs {100_000 / 16e9:.3g} GB"):
        get(tmp_path, server)


def test_what_is_half_there_needs_less_room(
    tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
):
    server.script = [Reply(cut_after=1000)] * 2
    with monkeypatch.context() as impatient:
        impatient.setattr(transfer, "ATTEMPTS", 1)
        with pytest.raises(Gz2vitError, match="broke off"):
            get(tmp_path, server, "votes")
    server.script.clear()
    give(monkeypatch, VOTES_FILE.room_bytes - 1000)
    get(tmp_path, server, "votes")
    assert server.ranges() == ["", "bytes=1000-"]


def test_real_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    give(monkeypatch, 7_000_000_000)
    with pytest.raises(Gz2vitError, match=r"the download needs 7\.\d\d GB .* has 7 GB free"):
        download(tmp_path)


def test_two_downloads_at_once(tmp_path: Path, server: FileServer):
    told = f"another download into {tmp_path} is running; wait until it has ended or stop it"
    lock = sole_user(tmp_path / "downloads" / ".lock", "mine")
    with lock, pytest.raises(Gz2vitError, match=told):
        get(tmp_path, server)
    get(tmp_path, server, "labels")


def test_a_folder_that_cannot_be_made(tmp_path: Path, server: FileServer):
    (tmp_path / "file").touch()
    with pytest.raises(Gz2vitError, match=f"cannot write {tmp_path / 'file'}.*Not a directory"):
        get(tmp_path / "file" / "gz2", server)


CHILD = """
import signal
import sys
from pathlib import Path
from gz2vit.download import download
from tests.unit.file_server import CLASS_COUNTS, FILES
signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal
download(Path(sys.argv[1]), [sys.argv[3]], sys.argv[2], None, FILES, CLASS_COUNTS)
"""


def kill_in_mid_transfer(home: Path, server: FileServer, what: str, signal_number: int) -> int:
    """Start a download, stop it when half is there, and say how many bytes it left."""
    (remote,) = FILES[what]
    half = remote.room_bytes // 2
    server.script = [Reply(piece=half, pause_s=60)]
    words = [sys.executable, "-c", CHILD, str(home), server.address, what]
    part = home / "downloads" / ".incoming" / f".{remote.name}.part"
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL) as child:
        until = time.monotonic() + 60
        while not part.exists() or part.stat().st_size < half:
            assert child.poll() is None, "it ended too early"
            assert time.monotonic() < until
            time.sleep(0.01)
        child.send_signal(signal_number)
        child.wait(30)
    return part.stat().st_size


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
@pytest.mark.parametrize("what", ["votes", "images"])
def test_killed_in_mid_transfer(tmp_path: Path, server: FileServer, what: str, number: int):
    (remote,) = FILES[what]
    left = kill_in_mid_transfer(tmp_path, server, what, number)
    assert left == len(CONTENTS[remote.name]) // 2
    assert not remote.path(tmp_path).exists()
    assert not remote.record_path(tmp_path).exists()
    get(tmp_path, server, what)
    assert server.ranges() == ["", f"bytes={left}-"]
    assert remote.path(tmp_path).read_bytes() == CONTENTS[remote.name]
    assert not (tmp_path / "downloads" / ".incoming").exists()


def test_what_a_killed_process_left_is_cleared(tmp_path: Path, server: FileServer):
    incoming = tmp_path / "downloads" / ".incoming"
    incoming.mkdir(parents=True)
    (incoming / "tmpabc123").write_bytes(b"pooch's, of no use")
    (incoming / VOTES_FILE.name).write_bytes(b"staged, but not verified")
    get(tmp_path, server, "mapping", "votes")
    assert not incoming.exists()
    assert VOTES_FILE.path(tmp_path).read_bytes() == CONTENTS[VOTES_FILE.name]


def test_interrupted_while_unpacking(
    tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
):
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as impatient:
        impatient.setattr(images, "unpack", stopped)
        with pytest.raises(KeyboardInterrupt):
            get(tmp_path, server, "images")
    get(tmp_path, server, "images")
    assert len(server.log) == 1
    assert len(os.listdir(tmp_path / "images")) == 16


def test_a_zip_with_other_images_than_published(tmp_path: Path, server: FileServer):
    files = FILES | {"images": (replace(ZIP_FILE, entries=17),)}
    with pytest.raises(Gz2vitError, match="it holds 16 images instead of 17"):
        download(tmp_path, ["images"], server.address, None, files, CLASS_COUNTS)
    assert not (tmp_path / "downloads" / "images_gz2.zip").exists()
    assert not (tmp_path / "images").exists()
    (tmp_path / "downloads" / "images_gz2.zip").write_bytes(ZIP)
    get(tmp_path, None, "images")  # a copy made by hand
    assert len(os.listdir(tmp_path / "images")) == 16
