"""Checksums, rows, columns and images; and when a record is believed."""

import gzip
import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from gz2vit import download as module
from gz2vit.download import (
    WrongContent,
    check_content,
    file_checksum,
    is_trusted,
    read_record,
    verify,
    write_record,
)
from tests.unit.file_server import (
    MAPPING,
    MAPPING_FILE,
    VOTES,
    VOTES_FILE,
    ZIP,
    ZIP_FILE,
    zip_of,
)

CONTENTS = {"mapping": (MAPPING_FILE, MAPPING), "votes": (VOTES_FILE, VOTES)}
CONTENTS["zip"] = (ZIP_FILE, ZIP)


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_checksums(tmp_path: Path, algorithm: str):
    (tmp_path / "a").write_bytes(ZIP)
    assert file_checksum(tmp_path / "a", algorithm) == hashlib.new(algorithm, ZIP).hexdigest()


@pytest.mark.parametrize("kind", CONTENTS)
def test_the_right_content(tmp_path: Path, kind: str):
    remote, content = CONTENTS[kind]
    path = tmp_path / remote.name
    path.write_bytes(content)
    checksums = verify(path, remote, {})
    assert checksums["sha256"] == hashlib.sha256(content).hexdigest()
    assert checksums.get("md5", "") == remote.checksum
    for wrong in (remote.entries + 1, remote.entries - 1):
        with pytest.raises(WrongContent, match=f"it holds {remote.entries} .* instead of {wrong}"):
            check_content(path, replace(remote, entries=wrong))


@pytest.mark.parametrize("kind", CONTENTS)
def test_another_checksum(tmp_path: Path, kind: str):
    remote, content = CONTENTS[kind]
    path = tmp_path / remote.name
    path.write_bytes(content)
    published = replace(remote, algorithm="sha256", checksum="0" * 64)
    with pytest.raises(WrongContent, match="its sha256 is [0-9a-f]{64}, published is 0000"):
        verify(path, published, {})


SPOILT = {
    "a flipped byte": VOTES[:200] + bytes([VOTES[200] ^ 8]) + VOTES[201:],
    "a flipped byte of the CRC": VOTES[:-6] + bytes([VOTES[-6] ^ 8]) + VOTES[-5:],
    "the last byte missing": VOTES[:-1],
    "half": VOTES[: len(VOTES) // 2],
    "not compressed": b"dr7objid\n1\n",
    "nothing": b"",
    "nothing, compressed": gzip.compress(b""),
    "rubbish behind": VOTES + b"rubbish",
    "another column": gzip.compress(b"objid\n" + b"1\n" * VOTES_FILE.entries),
    "binary": gzip.compress(bytes(range(256)) * 10),
}


@pytest.mark.parametrize("how", SPOILT)
def test_spoilt_tables(tmp_path: Path, how: str):
    path = tmp_path / VOTES_FILE.name
    path.write_bytes(SPOILT[how])
    with pytest.raises(WrongContent, match="it cannot be read"):
        check_content(path, VOTES_FILE)


def test_a_missing_column_is_named(tmp_path: Path):
    path = tmp_path / MAPPING_FILE.name
    path.write_bytes(MAPPING)
    with pytest.raises(WrongContent, match="asset_name"):
        check_content(path, replace(MAPPING_FILE, columns=("objid", "asset_name")))


@pytest.mark.parametrize("content", [ZIP[:-30], ZIP[:500], b"", b"PK"])
def test_spoilt_archives(tmp_path: Path, content: bytes):
    path = tmp_path / ZIP_FILE.name
    path.write_bytes(content)
    with pytest.raises(WrongContent, match="it cannot be read"):
        check_content(path, ZIP_FILE)


def test_only_images_count(tmp_path: Path):
    path = tmp_path / ZIP_FILE.name
    path.write_bytes(zip_of({"a/1.jpg": b"1", "a/._1.jpg": b"2", "__MACOSX/2.jpg": b"3"}))
    check_content(path, replace(ZIP_FILE, entries=1))


def test_many_rows_are_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "CHUNK_ROWS", 7)
    path = tmp_path / VOTES_FILE.name
    path.write_bytes(VOTES)
    check_content(path, VOTES_FILE)


def recorded(tmp_path: Path) -> dict:
    path = VOTES_FILE.path(tmp_path)
    path.parent.mkdir()
    path.write_bytes(VOTES)
    checksums = verify(path, VOTES_FILE, {})
    write_record(VOTES_FILE, tmp_path, "there", checksums, path.stat(), {})
    return read_record(VOTES_FILE, tmp_path)


def test_a_record_is_believed_while_size_and_time_stay(tmp_path: Path):
    record = recorded(tmp_path)
    path = VOTES_FILE.path(tmp_path)
    assert is_trusted(VOTES_FILE, tmp_path, record)
    assert not is_trusted(VOTES_FILE, tmp_path, {})
    published = replace(VOTES_FILE, algorithm="sha256", checksum="0" * 64)
    assert not is_trusted(published, tmp_path, record)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert not is_trusted(VOTES_FILE, tmp_path, record)
    path.write_bytes(VOTES + b" ")
    os.utime(path, ns=(0, record["mtime_ns"]))
    assert not is_trusted(VOTES_FILE, tmp_path, record)


def test_the_first_copy_decides_and_its_day_stays(tmp_path: Path):
    record = recorded(tmp_path) | {"first_seen": "long ago"}
    path = VOTES_FILE.path(tmp_path)
    checksums = verify(path, VOTES_FILE, record)
    write_record(VOTES_FILE, tmp_path, "there", checksums, path.stat(), record)
    assert read_record(VOTES_FILE, tmp_path)["first_seen"] == "long ago"
    path.write_bytes(gzip.compress(b"dr7objid\n" + b"1\n" * VOTES_FILE.entries))
    with pytest.raises(WrongContent, match=f"first seen on long ago had {checksums['sha256']}"):
        verify(path, VOTES_FILE, record)
