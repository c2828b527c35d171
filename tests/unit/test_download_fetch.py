"""One file from a server with every fault: it ends verified, or in one clear error."""

import gzip
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from gz2vit.download import RemoteFile, bring_file, clear_staging, staging_folder
from gz2vit.io import Gz2vitError
from tests.unit import file_server
from tests.unit.file_server import FileServer, Reply, hurry, serve

MAPPING = file_server.MAPPING_FILE  # has a published checksum
VOTES = file_server.VOTES_FILE  # has none
HTML = b"<!DOCTYPE html>\n<html><body>please log in</body></html>"
CUT = Reply(cut_after=500)
DATED = Reply(etag="", last_modified="Mon, 02 Nov 2020 10:00:00 GMT")
BARE = Reply(etag="")

# Fault, then how it ends for a file with a published checksum and for one without.
ENDS_VERIFIED = {
    "healthy": [],
    "cut once": [CUT],
    "cut four times": [CUT, Reply(cut_after=100), Reply(cut_after=100), Reply(cut_after=1)],
    "cut, no ETag but a date": [replace(DATED, cut_after=500), DATED],
    "cut, neither ETag nor date": [replace(BARE, cut_after=500), BARE],
    "cut, then 200 for the range": [CUT, Reply(ranges=False)],
    "cut, then a false start": [CUT, Reply(content_range="bytes 400-999/1000")],
    "cut, then another length": [CUT, Reply(content_range="bytes 500-7000/7001")],
    "cut, then nonsense for a range": [CUT, Reply(content_range="lines 5")],
    "cut, then another version in one part": [CUT, replace(DATED, status=206, body=b"x" * 10)],
    "cut, then 416": [CUT, Reply(status=416)],
    "cut, then 503 twice": [CUT, Reply(status=503), Reply(status=503)],
    "no length, whole": [Reply(states_length=False)],
    "chopped small": [Reply(piece=100)],
    "stalls": [Reply(piece=600, pause_s=0.7)],
    "500 then fine": [Reply(status=500), Reply(status=502), Reply(status=504)],
    "429 with Retry-After": [Reply(status=429, headers={"Retry-After": "3600"})],
    "503 with Retry-After": [Reply(status=503, headers={"Retry-After": "3600"})],
    "redirect": [Reply(status=302, headers={"Location": "/elsewhere/{name}"})],
}
ENDS_IN_AN_ERROR = {
    "404": ([Reply(status=404)], "answered 404 Not Found"),
    "403": ([Reply(status=403)], "answered 403 Forbidden"),
    "410": ([Reply(status=410)], "answered 410 Gone"),
    "401": ([Reply(status=401)], "answered 401"),
    "416 at once": ([Reply(status=416)], "answered 416"),
    "500 for ever": ([Reply(status=500)] * 5, "answered 500"),
    "429 for ever": ([Reply(status=429)] * 5, "answered 429"),
    "cut for ever": ([Reply(cut_after=0)] * 5, "broke off 5 times"),
    "cut at the same place, no ranges": ([Reply(cut_after=500, ranges=False)] * 5, "broke off 5"),
    "wrong bytes": ([Reply(body=b"objid,asset_id\n1,2\n")], "did not give the published"),
    "truncated, no length": ([Reply(cut_after=500, states_length=False)], "did not give"),
    "web page": ([Reply(body=HTML)], "did not give the published"),
    "empty": ([Reply(body=b"")], "did not give the published"),
    "moves in a circle": ([Reply(status=302, headers={"Location": "/{name}"})] * 40, "reached"),
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


def made(directory: Path) -> Path:
    clear_staging(directory, [MAPPING, VOTES])
    return directory


def at(remote: RemoteFile, server: FileServer, script: list[Reply]) -> RemoteFile:
    """The file at the server's address, which plays the script."""
    for reply in script:
        headers = {key: value.format(name=remote.name) for key, value in reply.headers.items()}
        server.script.append(replace(reply, headers=headers))
    return replace(remote, url=f"{server.address}/{remote.name}")


def assert_verified(remote: RemoteFile, directory: Path) -> None:
    """The right bytes and their record are there, and nothing else."""
    content = file_server.CONTENTS[remote.name]
    assert remote.path(directory).read_bytes() == content
    record = json.loads(remote.record_path(directory).read_text())
    assert record["sha256"] == hashlib.sha256(content).hexdigest()
    assert record["bytes"] == len(content)
    assert record["source"] == remote.url
    assert not remote.checksum or record["md5"] == remote.checksum
    assert list(staging_folder(directory).iterdir()) == []


@pytest.mark.parametrize("remote", [MAPPING, VOTES], ids=["checksum", "no checksum"])
@pytest.mark.parametrize("fault", ENDS_VERIFIED)
def test_ends_verified(tmp_path: Path, remote: RemoteFile, fault: str):
    with serve(file_server.CONTENTS) as server:
        remote = at(remote, server, ENDS_VERIFIED[fault])
        told = bring_file(remote, made(tmp_path), None)
        assert server.script == [], "the fault did not happen"
        assert "verified" in told
        assert_verified(remote, tmp_path)
        asked = len(server.log)
        assert bring_file(remote, tmp_path, None).endswith("already there")
        assert len(server.log) == asked


@pytest.mark.parametrize("remote", [MAPPING, VOTES], ids=["checksum", "no checksum"])
@pytest.mark.parametrize("fault", ENDS_IN_AN_ERROR)
def test_ends_in_one_error_and_then_goes_on(tmp_path: Path, remote: RemoteFile, fault: str):
    script, words = ENDS_IN_AN_ERROR[fault]
    with serve(file_server.CONTENTS) as server:
        remote = at(remote, server, script)
        with pytest.raises(Gz2vitError, match=words) as caught:
            bring_file(remote, made(tmp_path), None)
        assert remote.url in str(caught.value)
        assert f"--mirror, or put a copy at {remote.path(tmp_path)}" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not remote.path(tmp_path).exists()
        assert not remote.record_path(tmp_path).exists()
        server.script.clear()
        bring_file(remote, made(tmp_path), None)
        assert_verified(remote, tmp_path)


def test_refusals_are_not_asked_again(tmp_path: Path):
    with serve({}) as server, pytest.raises(Gz2vitError, match="404"):
        bring_file(at(MAPPING, server, []), made(tmp_path), None)
    assert len(server.log) == 1


def test_offline_is_one_clear_error(tmp_path: Path):
    with pytest.raises(Gz2vitError, match=r"127.0.0.1:9/.* could not be reached \(no connection"):
        bring_file(MAPPING, made(tmp_path), None)
    strange = replace(MAPPING, url="http:///nowhere")
    with pytest.raises(Gz2vitError, match="could not be reached"):
        bring_file(strange, tmp_path, None)


@pytest.mark.parametrize("remote", [MAPPING, VOTES], ids=["checksum", "no checksum"])
def test_another_version_half_way_is_not_joined(tmp_path: Path, remote: RemoteFile):
    with serve(file_server.CONTENTS) as server:
        remote = at(remote, server, [Reply(cut_after=500, body=b"old" * 400, etag='"old"')])
        bring_file(remote, made(tmp_path), None)
        assert server.log[1].wanted_range == "bytes=500-"
        assert server.log[1].if_range == '"old"'
        assert_verified(remote, tmp_path)


@pytest.mark.parametrize("remote", [MAPPING, VOTES], ids=["checksum", "no checksum"])
def test_pieces_that_do_not_fit_are_fetched_once_more_in_one(tmp_path: Path, remote: RemoteFile):
    mixed = [Reply(cut_after=500, body=b"x" * remote.room_bytes), Reply()]
    with serve(file_server.CONTENTS) as server:
        remote = at(remote, server, mixed)
        bring_file(remote, made(tmp_path), None)
        assert server.ranges() == ["", "bytes=500-", ""]
        assert_verified(remote, tmp_path)


def test_wrong_bytes_in_one_piece_are_not_fetched_again(tmp_path: Path):
    found = hashlib.md5(HTML).hexdigest()
    with serve(file_server.CONTENTS) as server:
        remote = at(MAPPING, server, [Reply(body=HTML)])
        with pytest.raises(Gz2vitError, match=f"md5 is {found}, published is {remote.checksum}"):
            bring_file(remote, made(tmp_path), None)
        assert len(server.log) == 1
        assert list(staging_folder(tmp_path).iterdir()) == []


def test_without_a_checksum_a_web_page_is_named(tmp_path: Path):
    with serve(file_server.CONTENTS) as server:
        remote = at(VOTES, server, [Reply(body=HTML)])
        with pytest.raises(Gz2vitError, match="it looks like a web page"):
            bring_file(remote, made(tmp_path), None)


def other_votes() -> bytes:
    """A catalogue with the right number of rows, but of another day."""
    return gzip.compress(b"dr7objid\n" + b"7\n" * VOTES.entries, mtime=0)


def test_what_was_first_seen_decides_where_no_checksum_is_published(tmp_path: Path):
    first, second = (
        hashlib.sha256(data).hexdigest() for data in (file_server.VOTES, other_votes())
    )
    with serve(file_server.CONTENTS) as server:
        remote = at(VOTES, server, [])
        told = bring_file(remote, made(tmp_path), None)
        assert told.endswith(f"verified; first seen, sha256 {first} recorded")
        remote.path(tmp_path).unlink()
        server.files[remote.name] = other_votes()
        with pytest.raises(Gz2vitError) as caught:
            bring_file(remote, tmp_path, None)
        record = remote.record_path(tmp_path)
        for word in (first, second, f"if the change is wanted, delete {record}"):
            assert word in str(caught.value)
        assert not remote.path(tmp_path).exists()
        record.unlink()
        assert second in bring_file(remote, tmp_path, None)


def test_a_changed_file_is_refused_and_left_alone(tmp_path: Path):
    with serve(file_server.CONTENTS) as server:
        for remote in (at(VOTES, server, []), at(MAPPING, server, [])):
            bring_file(remote, made(tmp_path), None)
            content = other_votes() if remote.name == VOTES.name else b"objid,asset_id\n" * 41
            remote.path(tmp_path).write_bytes(content)
            with pytest.raises(Gz2vitError, match="is not the published file.*move it away"):
                bring_file(remote, tmp_path, None)
            assert remote.path(tmp_path).read_bytes() == content


def test_a_touched_file_is_verified_and_trusted_again(tmp_path: Path):
    with serve(file_server.CONTENTS) as server:
        remote = at(VOTES, server, [])
        bring_file(remote, made(tmp_path), None)
        seen = json.loads(remote.record_path(tmp_path).read_text())["first_seen"]
        remote.path(tmp_path).write_bytes(file_server.VOTES)
        assert bring_file(remote, tmp_path, None).endswith(", as when first seen)")
        assert bring_file(remote, tmp_path, None).endswith("already there")
        assert json.loads(remote.record_path(tmp_path).read_text())["first_seen"] == seen


@pytest.mark.parametrize("remote", [MAPPING, VOTES], ids=["checksum", "no checksum"])
def test_a_copy_made_by_hand_is_verified_and_recorded(tmp_path: Path, remote: RemoteFile):
    path = remote.path(made(tmp_path))
    path.write_bytes(file_server.CONTENTS[remote.name])
    assert "verified" in bring_file(remote, tmp_path, None)
    record = json.loads(remote.record_path(tmp_path).read_text())
    assert record["source"] == "a copy that was there"
    path.write_bytes(b"objid,asset_id\nwrong,1\n")
    remote.record_path(tmp_path).unlink()
    with pytest.raises(Gz2vitError, match=f"{path} is not the published file: .*move it away"):
        bring_file(remote, tmp_path, None)
    assert path.read_bytes() == b"objid,asset_id\nwrong,1\n"


def test_a_folder_as_mirror(tmp_path: Path):
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    with pytest.raises(Gz2vitError, match=f"the mirror has no file {mirror / MAPPING.name}"):
        bring_file(MAPPING, made(tmp_path), mirror)
    (mirror / MAPPING.name).write_bytes(HTML)
    with pytest.raises(Gz2vitError, match=hashlib.md5(HTML).hexdigest()):
        bring_file(MAPPING, tmp_path, mirror)
    assert not MAPPING.path(tmp_path).exists()
    assert (mirror / MAPPING.name).read_bytes() == HTML
    (mirror / MAPPING.name).write_bytes(file_server.MAPPING)
    assert MAPPING.checksum in bring_file(MAPPING, tmp_path, mirror)
    assert_verified(replace(MAPPING, url=str(mirror / MAPPING.name)), tmp_path)


def test_a_spoilt_record_is_named(tmp_path: Path):
    VOTES.path(made(tmp_path)).write_bytes(file_server.VOTES)
    VOTES.record_path(tmp_path).write_text("{")
    with pytest.raises(Gz2vitError, match="record.json: .*; delete it"):
        bring_file(VOTES, tmp_path, None)
