"""The resuming downloader: what it asks for, what it joins, and what it keeps."""

import errno
import json
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gz2vit import download as disk
from gz2vit import download as transfer
from gz2vit.download import ResumingDownloader
from gz2vit.io import Gz2vitError
from tests.unit.file_server import FileServer, Reply, hurry, serve

NAME = "votes.csv.gz"
CONTENT = bytes(range(256)) * 8
OLD = b"old!" * 512
CUT = Reply(cut_after=700)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serve({NAME: CONTENT}) as running:
        yield running


def downloader(folder: Path, checksummed: bool = False) -> ResumingDownloader:
    return ResumingDownloader(NAME, folder, "do this", checksummed)


def brought(one: ResumingDownloader, server: FileServer, path: str = NAME) -> bytes:
    """The bytes that a call brings."""
    output = one.folder / "output"
    one(f"{server.address}/{path}", str(output))
    return output.read_bytes()


def test_the_rest_is_asked_for_on_condition(tmp_path: Path, server: FileServer):
    server.script = [CUT]
    one = downloader(tmp_path)
    assert brought(one, server) == CONTENT
    assert server.ranges() == ["", "bytes=700-"]
    assert server.log[1].if_range == '"first"'
    assert {request.accept_encoding for request in server.log} == {"identity"}
    assert one.resumed
    one.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["output"]


def test_in_one_piece(tmp_path: Path, server: FileServer):
    one = downloader(tmp_path)
    assert brought(one, server) == CONTENT
    assert not one.resumed


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_without_a_validator_only_a_checksum_allows_joining(
    tmp_path: Path, server: FileServer, etag: str
):
    for checksummed, asked in ((False, ["", ""]), (True, ["", "bytes=700-"])):
        server.script, server.healthy = [replace(CUT, etag=etag)], Reply(etag=etag)
        one = downloader(tmp_path, checksummed)
        assert brought(one, server) == CONTENT
        assert server.ranges() == asked
        assert server.log[-1].if_range == ""
        one.discard()
        server.log.clear()


def test_a_date_serves_where_the_etag_is_weak(tmp_path: Path, server: FileServer):
    dated = Reply(etag='W/"weak"', last_modified="Mon, 02 Nov 2020 10:00:00 GMT")
    server.script, server.healthy = [replace(dated, cut_after=700)], dated
    assert brought(downloader(tmp_path), server) == CONTENT
    assert server.log[1].if_range == dated.last_modified


@pytest.mark.parametrize("checksummed", [False, True])
def test_another_version_is_not_joined(tmp_path: Path, server: FileServer, checksummed: bool):
    for heeds in (True, False):
        server.script = [replace(CUT, body=OLD, etag='"old"'), Reply(heeds_condition=heeds)]
        one = downloader(tmp_path, checksummed)
        assert brought(one, server) == CONTENT
        assert not one.resumed
        one.discard()


def test_another_length_is_not_joined(tmp_path: Path, server: FileServer):
    server.healthy = Reply(etag="")
    server.script = [replace(server.healthy, cut_after=700, body=OLD + OLD)]
    assert brought(downloader(tmp_path, checksummed=True), server) == CONTENT
    assert server.ranges() == ["", "bytes=700-", ""]


def test_a_range_that_starts_elsewhere_is_not_joined(tmp_path: Path, server: FileServer):
    server.script = [CUT, Reply(content_range=f"bytes 600-2047/{len(CONTENT)}")]
    assert brought(downloader(tmp_path), server) == CONTENT
    assert server.ranges() == ["", "bytes=700-", ""]


def test_what_was_begun_anew_came_in_one_piece(tmp_path: Path, server: FileServer):
    server.script = [CUT, Reply(cut_after=700), Reply(ranges=False)]
    one = downloader(tmp_path)
    assert brought(one, server) == CONTENT
    assert server.ranges() == ["", "bytes=700-", "bytes=1400-"]
    assert not one.resumed


def interrupted(folder: Path, server: FileServer, checksummed: bool) -> ResumingDownloader:
    """The successor of a downloader that gave up after 700 bytes."""
    server.script = [replace(CUT, etag='"here"')]
    first = downloader(folder, checksummed)
    with pytest.MonkeyPatch.context() as impatient:
        impatient.setattr(transfer, "ATTEMPTS", 1)
        with pytest.raises(Gz2vitError, match="broke off 1 times .*; do this"):
            brought(first, server)
    assert first.part.read_bytes() == CONTENT[:700]
    assert not (folder / "output").exists()
    server.log.clear()
    return downloader(folder, checksummed)


def test_the_next_call_continues(tmp_path: Path, server: FileServer):
    server.healthy = Reply(etag='"here"')
    assert brought(interrupted(tmp_path, server, False), server) == CONTENT
    assert server.ranges() == ["bytes=700-"]


@pytest.mark.parametrize("checksummed", [False, True])
def test_bytes_of_another_address_need_a_checksum(
    tmp_path: Path, server: FileServer, checksummed: bool
):
    one = interrupted(tmp_path, server, checksummed)
    assert brought(one, server, f"mirror/{NAME}") == CONTENT
    assert server.ranges() == (["bytes=700-"] if checksummed else [""])
    assert server.log[0].if_range == ""


@pytest.mark.parametrize("note", ["", "{", "[]", '{"url": "x"}'])
def test_a_part_without_a_readable_note_is_begun_anew(
    tmp_path: Path, server: FileServer, note: str
):
    one = interrupted(tmp_path, server, True)
    one.note_path.write_text(note)
    assert brought(one, server) == CONTENT
    assert server.ranges() == [""]


def test_a_complete_part_is_not_asked_for_again(tmp_path: Path, server: FileServer):
    brought(downloader(tmp_path), server)  # as after a kill while the checksum is computed
    (tmp_path / "output").unlink()
    server.log.clear()
    one = downloader(tmp_path)
    assert brought(one, server) == CONTENT
    assert server.log == []
    assert one.resumed


@pytest.mark.parametrize("checksummed", [False, True])
def test_a_complete_part_of_another_address_needs_a_checksum(
    tmp_path: Path, server: FileServer, checksummed: bool
):
    brought(downloader(tmp_path, checksummed), server)
    server.log.clear()
    assert brought(downloader(tmp_path, checksummed), server, f"mirror/{NAME}") == CONTENT
    assert server.ranges() == ([] if checksummed else [""])


def test_a_part_that_has_all_is_settled_by_416(tmp_path: Path, server: FileServer):
    brought(downloader(tmp_path), server)
    one = downloader(tmp_path)
    note = json.loads(one.note_path.read_text()) | {"length": None}
    one.note_path.write_text(json.dumps(note))
    server.log.clear()
    assert brought(one, server) == CONTENT
    assert server.ranges() == [f"bytes={len(CONTENT)}-"]


def test_a_part_that_is_too_long_is_begun_anew(tmp_path: Path, server: FileServer):
    brought(downloader(tmp_path), server)
    one = downloader(tmp_path)
    one.part.write_bytes(CONTENT + b"more")
    assert brought(one, server) == CONTENT
    assert not one.resumed


def test_progress_gives_new_attempts(
    tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
):
    cuts = [Reply(cut_after=200)] * 8
    server.script = list(cuts)
    with pytest.raises(Gz2vitError, match="broke off 5 times"):
        brought(downloader(tmp_path), server)
    downloader(tmp_path).discard()
    monkeypatch.setattr(transfer, "PROGRESS_BYTES", 200)
    server.script = list(cuts)
    assert brought(downloader(tmp_path), server) == CONTENT
    assert server.script == []


def test_bytes_are_taken_as_they_come(tmp_path: Path, server: FileServer):
    server.healthy = Reply(headers={"Content-Encoding": "gzip"})
    assert brought(downloader(tmp_path), server) == CONTENT


def test_a_full_disk_keeps_the_part(
    tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
):
    def pieces(_response: object) -> Iterator[bytes]:
        yield CONTENT[:900]
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(transfer, "_pieces", pieces)
        with pytest.raises(Gz2vitError, match="the disk is full.*same command again"):
            brought(downloader(tmp_path), server)
    assert brought(downloader(tmp_path), server) == CONTENT
    assert server.ranges() == ["", "bytes=900-"]


def test_the_length_must_fit_the_disk(
    tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
):
    usage = namedtuple("usage", "total used free")
    for room, fits in ((len(CONTENT) - 1, False), (len(CONTENT), True)):
        monkeypatch.setattr(disk.shutil, "disk_usage", lambda _, room=room: usage(0, 0, room))
        if fits:
            assert brought(downloader(tmp_path), server) == CONTENT
        else:
            with pytest.raises(Gz2vitError, match="the rest of votes.csv.gz needs"):
                brought(downloader(tmp_path), server)


def test_without_links_the_part_is_moved(
    tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
):
    def link(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(transfer.os, "link", link)
    one = downloader(tmp_path)
    assert brought(one, server) == CONTENT
    assert not one.part.exists()


def test_a_bar_shows_the_name(
    tmp_path: Path, server: FileServer, capsys: pytest.CaptureFixture[str]
):
    server.script = [CUT]
    brought(downloader(tmp_path), server)
    assert f"{NAME}: 100%" in capsys.readouterr().err
