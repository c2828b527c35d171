"""Galaxy Zoo 2 from a bad server: it ends verified, or in one clear error, and then goes on."""

import errno
import gzip
import hashlib
import io
import os
import signal
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock, patch

import numpy as np
import pytest

from gz2vit import download
from gz2vit.catalog import read_data_folder, read_properties
from gz2vit.cli import main
from gz2vit.download import FILES, RemoteFile, bring_file, fetch_galaxy_zoo, resume_download
from gz2vit.io import ROOT, Gz2vitError, read_json, sole_user
from tests.file_server import FileServer, Reply, serve

IMAGES = {f"{100 + row}.jpg": bytes([row]) * (500 + row) for row in range(16)}
SPLITS = {"train": range(100, 108), "valid": range(108, 111), "test": range(111, 114)}
OBJECTS = [587722981736120347 + row for row in range(14)]


def zip_of(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def table(header: str, *rows: str) -> bytes:
    return "\n".join([header, *rows, ""]).encode()


LABELS = {f"gz2_{split}.csv": table("galaxyID,label1", *(f"{row},{row % 8}" for row in rows))
          for split, rows in SPLITS.items()}  # fmt: skip
MAPPING = [f"{objid},original,{100 + row}" for row, objid in enumerate(OBJECTS)]
ROWS = [f"{objid},{5 + row},16.5,0.1" for row, objid in enumerate(OBJECTS[2:])]
SAMPLE = table("OBJID,PETROR90_R,PETROMAG_R,EXTINCTION_R", *ROWS)
VOTES = table("dr7objid", *map(str, range(900)))
ZIP = {"images/": b""} | {f"images/{name}": content for name, content in IMAGES.items()}
ZIP = zip_of(ZIP | {f"__MACOSX/images/._{name}": b"finder" for name in IMAGES})
CONTENTS = LABELS | {
    "gz2_filename_mapping.csv": table("objid,sample,asset_id", *MAPPING),
    "gz2_hart16.csv.gz": gzip.compress(VOTES, mtime=0, compresslevel=1),
    "gz2sample.csv.gz": gzip.compress(SAMPLE, mtime=0),
    "images_gz2.zip": ZIP,
}


def small(remote: RemoteFile) -> RemoteFile:
    """The published file in small, at an address where nothing is."""
    content, algorithm = CONTENTS[remote.name], remote.checksum.partition(":")[0]
    rows = {"gz2_hart16.csv.gz": 900, "gz2sample.csv.gz": 12}.get(remote.name, 16)
    checksum = f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}" if algorithm else ""
    address, size = f"http://127.0.0.1:9/{remote.name}", len(content)
    return replace(remote, url=address, entries=rows, size_bytes=size, checksum=checksum)


SMALL = {kind: tuple(map(small, remotes)) for kind, remotes in FILES.items()}
WITH_CHECKSUM, WITHOUT = SMALL["mapping"][0], SMALL["votes"][0]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "BACKOFF_S", 0.005)
    monkeypatch.setattr(download, "RETRY_AFTER_MAX_S", 0.05)
    monkeypatch.setattr(download, "TIMEOUT_S", (2, 0.4))
    monkeypatch.delenv("GZ2VIT_MIRROR", raising=False)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serve(CONTENTS | {"large": CONTENT}) as running:
        yield running


def get(home: Path, server: FileServer | None, *kinds: str, images: Path | None = None) -> None:
    fetch_galaxy_zoo(home, kinds, server.address if server else None, images, SMALL)


def test_everything_becomes_a_data_folder(tmp_path: Path, server: FileServer, capsys, monkeypatch):
    home = tmp_path / "new" / "gz2"
    get(home, server)
    folder = read_data_folder(home)
    for labels in folder.tables.values():
        assert all(folder.image_path(name).is_file() for name in labels.galaxyID)
    properties = read_properties(home / "galaxy_properties.csv").set_index("galaxyID")
    assert np.allclose(properties.loc["102", ["petroR90_r", "dered_r"]].astype(float), [5, 16.4])
    assert set(properties.index[properties.petroR90_r.isna()]) == {"100", "101"}
    for remote in (one for remotes in SMALL.values() for one in remotes):
        assert remote.path(home).read_bytes() == CONTENTS[remote.name]
        assert read_json(remote.record_path(home))["source"].startswith(server.address)
    record = read_json(home / "downloads" / "images.record.json")
    assert (record["images"], record["skipped"]) == (16, 16)
    assert "2 without petroR90_r" in capsys.readouterr().out
    # again: nothing is asked for or written, even without the zip, or with a full disk
    (home / "downloads" / "images_gz2.zip").unlink()
    files = [path for path in home.rglob("*") if path.is_file() and path.name != ".lock"]
    before, asked = [path.stat().st_mtime_ns for path in files], len(server.log)
    give(monkeypatch, 0)
    get(home, server)
    assert [path.stat().st_mtime_ns for path in files] == before and len(server.log) == asked
    # a changed file is verified again, and refused
    (home / "gz2_test.csv").write_text(changed := "galaxyID,label1\n1,1\n")
    with pytest.raises(Gz2vitError, match=r"gz2_test\.csv"):
        get(home, server, "labels")
    assert (home / "gz2_test.csv").read_text() == changed


def test_only_what_was_asked_for_is_fetched(tmp_path: Path, server: FileServer, monkeypatch):
    get(tmp_path, server, "votes", "mapping")
    assert [one[0] for one in server.log] == ["/gz2_filename_mapping.csv", "/gz2_hart16.csv.gz"]
    with pytest.raises(Gz2vitError, match="'pictures'"):
        get(tmp_path, server, "pictures")
    monkeypatch.setenv("GZ2VIT_MIRROR", server.address)
    get(tmp_path / "a", None, "labels")
    monkeypatch.setenv("HOME", str(tmp_path))
    fetch_galaxy_zoo(Path("~/b"), ["labels"], "~/a", None, SMALL)
    assert len(server.log) == 5
    assert (tmp_path / "b" / "gz2_valid.csv").read_bytes() == LABELS["gz2_valid.csv"]
    for mirror, offending in (("nowhere", "nowhere"), (f"{tmp_path}/a", "gz2_filename_mapping")):
        with pytest.raises(Gz2vitError, match=offending):
            fetch_galaxy_zoo(tmp_path / "c", ["mapping"], mirror, None, SMALL)


def give(monkeypatch: pytest.MonkeyPatch, free_bytes: int) -> None:
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: Mock(free=free_bytes))


def test_no_room_no_folder_and_two_at_once(tmp_path: Path, server: FileServer, monkeypatch):
    give(monkeypatch, int(2.15 * len(ZIP)) - 1)
    with pytest.raises(Gz2vitError, match="GB free"):
        get(tmp_path, server, "images")
    assert server.log == []
    with sole_user(tmp_path / "downloads/.lock", ""), pytest.raises(Gz2vitError, match="another d"):
        get(tmp_path, server)
    get(tmp_path, server, "labels")
    (tmp_path / "file").touch()
    with pytest.raises(Gz2vitError, match="cannot write"):
        get(tmp_path / "file" / "gz2", server)


CHILD = """from tests.test_download import *
fetch_galaxy_zoo(Path(sys.argv[1]), [sys.argv[3]], sys.argv[2], None, SMALL)"""


@pytest.mark.parametrize(("kind", "number"), [("votes", signal.SIGINT), ("images", signal.SIGKILL)])
def test_killed_in_mid_transfer(tmp_path: Path, server: FileServer, kind: str, number: int):
    (remote,) = SMALL[kind]
    half, part = remote.size_bytes // 2, remote.part(tmp_path)
    server.script = [Reply(piece=half, pause_s=60)]
    words = [sys.executable, "-c", CHILD, str(tmp_path), server.address, kind]
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL) as child:
        until = time.monotonic() + 60
        while not part.exists() or part.stat().st_size < half:
            assert child.poll() is None and time.monotonic() < until
            time.sleep(0.01)
        child.send_signal(number)
        child.wait(30)
    assert not remote.path(tmp_path).exists()
    get(tmp_path, server, kind)
    assert server.ranges() == ["", f"bytes={half}-"]
    assert remote.path(tmp_path).read_bytes() == CONTENTS[remote.name]
    assert not (tmp_path / "downloads" / ".incoming").exists()


CUT, BARE = Reply(cut_after=300), Reply(etag="")
DATED = Reply(etag='W/"weak"', last_modified="Mon, 02 Nov 2020 10:00:00 GMT")
ENDS_VERIFIED = {
    "healthy": [], "cut four times": [CUT, *[Reply(cut_after=20)] * 2, Reply(cut_after=1)],
    "cut, a weak ETag but a date": [replace(DATED, cut_after=300), DATED],
    "cut, neither ETag nor date": [replace(BARE, cut_after=300), BARE],
    "cut, then the whole instead of the range": [CUT, Reply(knows_ranges=False)],
    "cut, then a false start": [CUT, Reply(content_range="bytes 200-399/400")],
    "cut, then another length": [CUT, Reply(content_range="bytes 300-7000/7001")],
    "cut, then nonsense": [CUT, Reply(content_range="lines 5")],
    "cut, then another version": [replace(CUT, body=b"old!" * 300, etag='"old"')],
    "cut, then another version in one part": [CUT, Reply(etag='"b"', heeds_condition=False)],
    "cut, then 416": [CUT, Reply(status=416)],
    "pieces that do not fit": [replace(CUT, body=b"x" * len(CONTENTS[WITHOUT.name])), Reply()],
    "no length": [Reply(states_length=False)], "stalls": [Reply(piece=200, pause_s=0.7)],
    "errors that pass": [Reply(status=500), Reply(status=502), Reply(status=503)],
    "Retry-After": [Reply(status=429, headers={"Retry-After": "3600"})],
    "said to be compressed": [Reply(headers={"Content-Encoding": "gzip"})],
    "redirect": [Reply(status=302, headers={"Location": "/elsewhere/{name}"})],
}  # fmt: skip
ENDS_IN_AN_ERROR = {
    "404": ([Reply(status=404)], "404 Not Found"), "416 at once": ([Reply(status=416)], "416"),
    "500 for ever": ([Reply(status=500)] * 5, "500"),
    "cut for ever": ([Reply(cut_after=0)] * 5, "failed 5 times"),
    "cut at the same place": ([Reply(cut_after=300, knows_ranges=False)] * 5, "failed 5 times"),
    "wrong bytes": ([Reply(body=b"dr7objid\n1\n")], "is not the published"),
    "truncated, no length": ([Reply(cut_after=300, states_length=False)], "is not the published"),
    "web page": ([Reply(body=b"<!DOCTYPE html>\n<html>log in</html>")], "is not the published"),
    "empty": ([Reply(body=b"")], "is not the published"),
    "moves in a circle": ([Reply(status=302, headers={"Location": "/{name}"})] * 40, "no answer"),
}  # fmt: skip


def at(remote: RemoteFile, server: FileServer, home: Path, script: list[Reply] = ()) -> RemoteFile:
    """The file at the server's address, which plays the script, with room for it in `home`."""
    remote.part(home).parent.mkdir(parents=True)
    for reply in script:
        headers = {key: value.format(name=remote.name) for key, value in reply.headers.items()}
        server.script.append(replace(reply, headers=headers))
    return replace(remote, url=f"{server.address}/{remote.name}")


@pytest.mark.parametrize("remote", [WITH_CHECKSUM, WITHOUT], ids=["checksum", "none"])
@pytest.mark.parametrize("fault", [*ENDS_VERIFIED, *ENDS_IN_AN_ERROR])
def test_ends_verified_or_in_one_error(tmp_path: Path, server: FileServer, remote, fault: str):
    script, words = ENDS_IN_AN_ERROR.get(fault) or (ENDS_VERIFIED[fault], "")
    remote, content = at(remote, server, tmp_path, script), CONTENTS[remote.name]
    path, record = remote.path(tmp_path), remote.record_path(tmp_path)
    if words:
        with pytest.raises(Gz2vitError, match=words) as caught:
            bring_file(remote, tmp_path)
        assert remote.url in str(caught.value) and str(path) in str(caught.value)
        assert not path.exists() and not record.exists()
        assert words != "404 Not Found" or len(server.log) == 1  # a refusal is not asked again
        server.script.clear()
    bring_file(remote, tmp_path)
    assert server.script == [], "the fault did not happen"
    assert path.read_bytes() == content and list(remote.part(tmp_path).parent.iterdir()) == []
    kept, asked = read_json(record), len(server.log)
    assert (kept["bytes"], kept["source"]) == (len(content), remote.url)
    assert bring_file(remote, tmp_path).endswith("already there") and len(server.log) == asked


def test_the_first_copy_decides_where_no_checksum_is_published(tmp_path: Path, server: FileServer):
    remote = at(WITHOUT, server, tmp_path)
    bring_file(remote, tmp_path)
    remote.path(tmp_path).unlink()
    server.script = [Reply(body=gzip.compress(VOTES.replace(b"899", b"999")))] * 2
    with pytest.raises(Gz2vitError, match=r"first seen .*delete .*record\.json"):
        bring_file(remote, tmp_path)
    remote.record_path(tmp_path).unlink()
    bring_file(remote, tmp_path)


# ---- the resuming downloader

CONTENT = bytes(range(256)) * 8


def resume(server: FileServer, folder: Path, path: str = "large", checksummed=False) -> bool:
    joined = resume_download(f"{server.address}/{path}", folder / "part", "do this", checksummed)
    assert (folder / "part").read_bytes() == CONTENT
    return joined


def test_the_rest_is_asked_for_on_condition(tmp_path: Path, server: FileServer, monkeypatch):
    server.script = [Reply(cut_after=700)]
    # the second time all is there, as after a kill while the checksum is computed
    assert resume(server, tmp_path) and resume(server, tmp_path)
    assert [one[1:] for one in server.log] == [("", ""), ("bytes=700-", '"first"')]
    (tmp_path / "part").write_bytes(CONTENT + b"more")  # more than belongs
    assert not resume(server, tmp_path)
    (tmp_path / "part").unlink()
    monkeypatch.setattr(download, "PROGRESS_BYTES", 200)  # progress gives new attempts
    server.script = [Reply(cut_after=200)] * 8
    assert resume(server, tmp_path) and server.script == []


@pytest.mark.parametrize("note", ["same", "other address", "", "[]", '{"url": "x"}'])
@pytest.mark.parametrize("checksummed", [False, True])
def test_the_next_call_continues(tmp_path: Path, server: FileServer, note: str, checksummed: bool):
    server.script = [Reply(cut_after=700)]
    with patch.object(download, "ATTEMPTS", 1), pytest.raises(Gz2vitError, match="do this"):
        resume(server, tmp_path, checksummed=checksummed)
    assert (tmp_path / "part").read_bytes() == CONTENT[:700]
    if note not in ("same", "other address"):
        (tmp_path / "part.json").write_text(note)
    server.log.clear()
    joined = resume(server, tmp_path, "a/" * (note == "other address") + "large", checksummed)
    assert joined == (note == "same" or (note == "other address" and checksummed))
    assert server.ranges() == ["bytes=700-" if joined else ""]


def test_a_full_disk_keeps_what_came(tmp_path: Path, server: FileServer, monkeypatch):
    server.healthy = Reply(piece=1024, pause_s=0.05)
    give(monkeypatch, len(CONTENT) - 1)
    with pytest.raises(Gz2vitError, match="GB free"):
        resume(server, tmp_path)
    give(monkeypatch, len(CONTENT))
    no_room = OSError(errno.ENOSPC, "No space left on device")
    full = patch.object(download.tqdm, "update", side_effect=no_room)
    with full, pytest.raises(Gz2vitError, match="No space left"):
        resume(server, tmp_path)
    kept = (tmp_path / "part").stat().st_size
    assert 0 < kept < len(CONTENT) and resume(server, tmp_path)
    assert server.ranges()[-1] == f"bytes={kept}-"


@pytest.fixture
def home(tmp_path: Path, server: FileServer) -> Path:
    get(tmp_path / "home", server, "labels")
    server.files.clear()
    return tmp_path / "home"


def pictures(folder: Path, without: tuple[str, ...] = ()) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in IMAGES.keys() - set(without):
        (folder / name).write_bytes(IMAGES[name])
    return folder


def is_whole(home: Path) -> bool:
    return {path.name: path.read_bytes() for path in (home / "images").iterdir()} == IMAGES


def write_zip(path: Path, members: dict[str, bytes] = IMAGES) -> Path:
    path.write_bytes(zip_of(members))
    return path


@pytest.mark.parametrize("inside", [".", "images", "images_gz2/images"])
def test_a_folder_of_images_is_linked(home: Path, tmp_path: Path, inside: str):
    mine = pictures(tmp_path / "mine" / inside).resolve()
    (home / "images").mkdir()  # an empty folder gives way
    for _ in range(2):
        get(home, None, "images", images=tmp_path / "mine")
        assert os.readlink(home / "images") == str(mine)
    get(home, None, "images")  # all there: nothing is fetched
    (mine / "115.jpg").unlink()
    with pytest.raises(Gz2vitError, match="other images"):  # nothing is unpacked through it
        get(home, None, "images")


def test_images_must_be_whole_and_others_stay(home: Path, tmp_path: Path):
    """A folder needs those of the label tables; a zip also as many as are published."""
    with pytest.raises(Gz2vitError, match=r"2 of the 14 .*104\.jpg"):
        get(home, None, "images", images=pictures(tmp_path / "few", ("104.jpg", "112.jpg")))
    few = {name: data for name, data in IMAGES.items() if name != "104.jpg"}
    for extra, offending in (({}, "15 images"), ({"9.jpg": b"not labelled"}, r"104\.jpg")):
        with pytest.raises(Gz2vitError, match=offending):
            get(home, None, "images", images=write_zip(tmp_path / "few.zip", few | extra))
    assert not (home / "images").exists()
    with pytest.raises(Gz2vitError, match="neither a zip nor a folder"):
        get(home, None, "images", images=tmp_path / "absent")
    pictures(home / "images")
    get(home, None, "images", images=home)
    assert not (home / "images").is_symlink()
    for other in (pictures(tmp_path / "mine"), write_zip(tmp_path / "a.zip")):
        (home / "images" / "103.jpg").unlink()
        with pytest.raises(Gz2vitError, match="home/images"):
            get(home, None, "images", images=other)
        pictures(home / "images")
    assert is_whole(home)


@pytest.mark.parametrize("how", ["damaged", "encrypted", "bomb", "twice", "not a zip"])
def test_a_bad_zip_is_refused_and_gets_no_name(home: Path, tmp_path: Path, how: str):
    path = write_zip(tmp_path / "a.zip")
    content = path.read_bytes()
    with zipfile.ZipFile(path, "a") as archive:
        more = {"damaged": ("7.jpg", b"content of seven"), "twice": ("b/100.jpg", b"else")}
        archive.writestr(*more.get(how, ("7.jpg", bytes(10_000_000))))
    if how == "damaged":
        path.write_bytes(path.read_bytes().replace(b"content of seven", b"c0ntent of seven"))
    elif how == "encrypted":
        spoiled = bytearray(content)
        spoiled[6], spoiled[content.index(b"PK\x01\x02") + 8] = 1, 1
        path.write_bytes(spoiled)
    elif how == "not a zip":
        path.write_bytes(content[:-40])
    with pytest.raises(Gz2vitError, match=r"a\.zip"):
        get(home, None, "images", images=path)
    assert "7.jpg" not in download.image_names(home / "images")
    get(home, None, "images", images=write_zip(path))
    assert is_whole(home)


def test_no_member_leaves_the_folder(home: Path, tmp_path: Path):
    path = write_zip(tmp_path / "a.zip")
    unsafe = ["../evil.jpg", "../../1.jpg", "/2.jpg", "C:\\3.jpg", "..\\4.jpg"]
    unsafe += ["5.jpg/../../../6.jpg", "١٣.jpg", "14.jpg\n", "readme.txt"]
    unsafe += ["__MACOSX/7.jpg", "a/__MACOSX/8.jpg", "._9.jpg", "10.JPG", "11.jpg.exe", "x12.jpg"]
    link = zipfile.ZipInfo("15.jpg")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        for name in unsafe:
            archive.writestr(name, b"content")
        archive.writestr(link, "/etc/passwd")
    before = set(tmp_path.rglob("*"))
    get(home, None, "images", images=path)
    added = {path for path in set(tmp_path.rglob("*")) - before if path.parent != home / "images"}
    assert added <= {home / "images", home / "downloads" / "images.record.json"}
    assert download.image_names(home / "images") - IMAGES.keys() == {"1.jpg", "2.jpg", "6.jpg"}


def test_an_interrupted_extraction_of_another_layout_goes_on(home: Path, tmp_path: Path):
    members, copies = {f"images_gz2/images/{name}": data for name, data in IMAGES.items()}, []
    path = write_zip(tmp_path / "kaggle.zip", members)

    def copy(source: io.BufferedIOBase, target: io.BufferedIOBase, _size: int) -> None:
        if len(copies) == 5:
            target.write(b"half an ima")
            raise KeyboardInterrupt
        copies.append(target.write(source.read()))

    with patch.object(download.shutil, "copyfileobj", copy), pytest.raises(KeyboardInterrupt):
        get(home, None, "images", images=path)
    names = sorted(download.image_names(home / ".images"))
    assert len(names) == 5 and not (home / "images").exists()
    times = {name: (home / ".images" / name).stat().st_mtime_ns for name in names[1:]}
    os.truncate(home / ".images" / names[0], 0)  # what a crash of the machine can leave
    get(home, None, "images", images=path)
    assert is_whole(home)
    assert all((home / "images" / name).stat().st_mtime_ns == t for name, t in times.items())
    record = read_json(home / "downloads" / "images.record.json")
    assert record["md5"] == hashlib.md5(path.read_bytes()).hexdigest()
    path.unlink()
    get(home, None, "images")


def test_steps_that_read_votes_fetch_no_images(tmp_path: Path, monkeypatch):
    """`./run_all.sh paper --only labels --set VOTES=FILE` needs the paper's label tables alone."""
    fetch = Mock(side_effect=Gz2vitError("fetched enough"))
    monkeypatch.setattr(download, "fetch_galaxy_zoo", fetch)
    (tmp_path / "mine.csv").touch()
    words = ["run", "paper", "--results", str(tmp_path / "out"), "--only", "labels"]
    for value, kinds in ((tmp_path / "mine.csv", []), ("default", ["mapping", "votes"])):
        assert main([*words, "--set", f"VOTES={value}"]) == 1
        assert fetch.call_args.args[1] == ["labels", *kinds]
