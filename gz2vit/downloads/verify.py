"""Is a file what it should be? Its checksum, its content, and the record of both.

A file whose size and time have not changed since its record was written is trusted, so that
3.4 GB are hashed once and not with every call.
"""

import hashlib
import os
import zipfile
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from gz2vit.downloads.archive import image_members
from gz2vit.downloads.files import RemoteFile
from gz2vit.errors import Gz2vitError
from gz2vit.results import read_json, write_json

CHUNK_ROWS = 50_000


class WrongContent(Exception):
    """A file is not what it should be; its text says why, for a sentence of the caller's."""


def file_checksum(path: Path, algorithm: str) -> str:
    """The checksum of a file in hexadecimal; `algorithm`: "md5" or "sha256"."""
    with path.open("rb") as stream:
        # MD5 is what the record publishes; it guards against accidents, not against an attack.
        return hashlib.file_digest(
            stream, lambda: hashlib.new(algorithm, usedforsecurity=False)
        ).hexdigest()


def read_record(remote: RemoteFile, directory: Path) -> dict[str, Any]:
    """The record of a file; empty where there is none. `Gz2vitError` where it cannot be read."""
    path = remote.record_path(directory)
    if not path.exists():
        return {}
    try:
        record = read_json(path)
    except Gz2vitError as error:
        raise Gz2vitError(f"{error}; delete it, and {remote.name} is verified again") from error
    return record if isinstance(record, dict) else {}


def is_trusted(remote: RemoteFile, directory: Path, record: Mapping[str, Any]) -> bool:
    """Whether the file stands there as it was when the record was written."""
    status = remote.path(directory).stat()
    known = (record.get("bytes"), record.get("mtime_ns"))
    same_checksum = not remote.checksum or record.get(remote.algorithm) == remote.checksum
    return known == (status.st_size, status.st_mtime_ns) and same_checksum


def verify(
    path: Path, remote: RemoteFile, record: Mapping[str, Any], checksum_known: bool = False
) -> dict[str, str]:
    """The checksums of `path`, if it is `remote`: {"sha256"} and what else is published.

    `record`: of the copy that was seen first, where there was one. With `checksum_known` the
    published checksum was compared before. Raises `WrongContent`.
    """
    checksums = {remote.algorithm: remote.checksum} if remote.checksum else {}
    if remote.checksum and not checksum_known:
        found = file_checksum(path, remote.algorithm)
        if found != remote.checksum:
            raise WrongContent(f"its {remote.algorithm} is {found}, published is {remote.checksum}")
    check_content(path, remote)
    if "sha256" not in checksums:
        checksums["sha256"] = file_checksum(path, "sha256")
    first = record.get("sha256")
    if not remote.checksum and first not in (None, checksums["sha256"]):
        raise WrongContent(
            f"its sha256 is {checksums['sha256']}, but the copy first seen on "
            f"{record.get('first_seen')} had {first}"
        )
    return checksums


def check_content(path: Path, remote: RemoteFile) -> None:
    """Raise `WrongContent` unless the file is whole and holds the rows or images that it should."""
    try:
        if remote.is_archive:
            found, kind = _count_images(path), "images"
        else:
            found, kind = _count_rows(path, remote.columns), "rows"
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, ValueError) as error:
        hint = "it looks like a web page, " if _is_web_page(path) else ""
        told = " ".join(str(error).split())[:120]
        raise WrongContent(f"{hint}it cannot be read ({told})") from error
    if found != remote.entries:
        raise WrongContent(f"it holds {found:,} {kind} instead of {remote.entries:,}")


def _count_images(path: Path) -> int:
    """Images that a zip lists."""
    with zipfile.ZipFile(path) as archive:
        return len(image_members(archive)[0])


def _count_rows(path: Path, columns: tuple[str, ...]) -> int:
    """Rows of a CSV file that has these columns, read in pieces: no memory for 300,000 rows.

    A compressed file is read to its end, where its own checksum stands.
    """
    with pd.read_csv(path, usecols=list(columns), dtype=str, chunksize=CHUNK_ROWS) as pieces:
        return sum(len(piece) for piece in pieces)


def _is_web_page(path: Path) -> bool:
    """Whether a file begins as HTML does."""
    with path.open("rb") as stream:
        return stream.read(64).lstrip().lower().startswith((b"<!doctype", b"<html"))


def write_record(
    remote: RemoteFile,
    directory: Path,
    source: str,
    checksums: Mapping[str, str],
    status: os.stat_result,
    record: Mapping[str, Any],
) -> None:
    """Write the record of a verified file.

    `source`: where it is from; `status`: of the file as it was when it was verified, so that a
    later change shows; `record`: the former one, whose day of first sight stays.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    first_seen = record.get("first_seen") if record.get("sha256") == checksums["sha256"] else None
    write_json(
        remote.record_path(directory),
        {
            "name": remote.name,
            "source": source,
            **checksums,
            "first_seen": first_seen or now,
            "verified": now,
            "bytes": status.st_size,
            "mtime_ns": status.st_mtime_ns,
        },
    )
