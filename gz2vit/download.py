"""Room on the disk: asked for before the work starts, and one clear sentence when it runs out."""

import errno
import hashlib
import json
import logging
import os
import random
import re
import shutil
import stat
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd
import pooch
import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.util.retry import Retry

from gz2vit.catalog import PROPERTY_COLUMNS, SPLITS, check_disjoint, read_label_table
from gz2vit.io import Gz2vitError, atomic_path, read_json, sole_user, write_json
from gz2vit.paper import (
    CLASS_NAMES,
    DATA_FILES,
    LABEL1_TO_LABEL2,
    LABEL1_TO_LABEL3,
    LABEL1_TO_LABEL4,
    SPLIT_CLASS_COUNTS,
)
from gz2vit.votes import MAPPING_FILE, SAMPLE_FILE, write_properties

BYTES_PER_GB = 1_000_000_000


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an error of the operating system while `path` is written into a `Gz2vitError`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Gz2vitError(
                f"the disk is full: cannot write {path}; make room and run the same command "
                "again, which continues where this one stopped"
            ) from error
        raise Gz2vitError(f"cannot write {path}: {error.strerror or error}") from error


def require_room(directory: Path, needed_bytes: int, purpose: str) -> None:
    """Raise `Gz2vitError`, in GB, if the disk of `directory` has less than `needed_bytes` free."""
    free_bytes = shutil.disk_usage(directory).free
    if free_bytes < needed_bytes:
        raise Gz2vitError(
            f"{purpose} needs {needed_bytes / BYTES_PER_GB:.3g} GB on the disk of {directory}, "
            f"which has {free_bytes / BYTES_PER_GB:.3g} GB free; make room or choose another "
            "folder with --to"
        )


# ------------------------------------------------------------------------------------------
# A zip of images, unpacked safely: only `<digits>.jpg`, and never outside its folder.
#
# Nothing of a member's path is used but its last part, and that only where it is digits and `.jpg`;
# so a path that climbs (`../`) or is absolute leads nowhere. Each image is written under a hidden
# name, its CRC checked, and then renamed: an interrupted extraction goes on where it stopped.

IMAGE_NAME = re.compile(r"[0-9]+\.jpg")
STAGING = ".incoming"  # a folder in the images' folder, gone when all is done
CHUNK_BYTES = 1 << 20
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


def image_members(archive: zipfile.ZipFile) -> tuple[dict[str, zipfile.ZipInfo], int]:
    """Images by their names (`<digits>.jpg`), and how many files are something else.

    An image that is there twice with the same content counts once. Raises `zipfile.BadZipFile`
    where two images of one name differ.
    """
    images: dict[str, zipfile.ZipInfo] = {}
    skipped = 0
    for member in archive.infolist():
        name = member.filename.rpartition("/")[2]
        is_link = stat.S_ISLNK(member.external_attr >> 16)
        in_mac_folder = "__MACOSX" in member.filename.split("/")
        if is_link or in_mac_folder or not IMAGE_NAME.fullmatch(name):
            skipped += not member.is_dir()
            continue
        first = images.setdefault(name, member)
        if (first.CRC, first.file_size) != (member.CRC, member.file_size):
            raise zipfile.BadZipFile(f"{name} is in it twice, with different content")
    return images, skipped


def image_names(folder: Path) -> set[str]:
    """Names `<digits>.jpg` in a folder; empty where there is no folder."""
    if not folder.is_dir():
        return set()
    return {name for name in os.listdir(folder) if IMAGE_NAME.fullmatch(name)}


def unpack(archive: zipfile.ZipFile, folder: Path, cap_bytes: int) -> None:
    """Write the images of a zip into `folder`; those that are there already stay.

    `cap_bytes`: what all of them may have unpacked (a small zip can hold petabytes). Raises
    `Gz2vitError` for more than that, too little room, a damaged member, and a file of an image's
    name that is neither empty nor of its size, which is not ours to replace.
    """
    images, _ = image_members(archive)
    total_bytes = sum(member.file_size for member in images.values())
    if total_bytes > cap_bytes:
        raise Gz2vitError(
            f"{archive.filename} would unpack to {total_bytes / 1e9:.3g} GB, more than the "
            f"{cap_bytes / 1e9:.3g} GB that Galaxy Zoo 2's images can have; give another archive"
        )
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    missing = _missing(images, folder)
    missing_bytes = sum(member.file_size for member in missing.values())
    require_room(folder, missing_bytes, f"unpacking {archive.filename}")
    staging = folder / STAGING
    with writing(staging):
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
    bar = tqdm(desc="unpack images", unit="image", total=len(images))
    with bar:
        bar.update(len(images) - len(missing))
        for name, member in missing.items():
            _unpack_one(archive, member, staging / name)
            with writing(folder / name):
                os.replace(staging / name, folder / name)
            bar.update()
    with writing(staging):
        staging.rmdir()


def _missing(images: Mapping[str, zipfile.ZipInfo], folder: Path) -> dict[str, zipfile.ZipInfo]:
    """The images that are not in the folder yet, in the order of the archive."""
    present = {name: (folder / name).stat().st_size for name in image_names(folder)}
    for name, member in images.items():
        # An empty file is what a crash of the machine can leave of one that was just written.
        if present.get(name, 0) not in (0, member.file_size):
            raise Gz2vitError(
                f"{folder / name} is there already and is not the archive's image of that name; "
                "move it away or choose another folder with --to"
            )
    return {name: member for name, member in images.items() if not present.get(name)}


def _unpack_one(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    """Write one member to `target`; its CRC is checked on the way."""
    try:
        with archive.open(member) as source, writing(target), target.open("wb") as stream:
            while piece := source.read(CHUNK_BYTES):
                stream.write(piece)
    except DAMAGED as error:
        raise Gz2vitError(
            f"{archive.filename} is damaged at {member.filename!r} ({error}); move it away and "
            "run the same command again, or give another archive"
        ) from error


# ------------------------------------------------------------------------------------------
# The files of Galaxy Zoo 2: where they are from, what is known of them, where they belong.

MIRROR_VARIABLE = "GZ2VIT_MIRROR"
# Room on the disk in bytes for one file, rounded up, where no size is published: the largest label
# table has 1.5 MB, the file map some 35 bytes a row; both catalogues are guesses on the safe side.
ROOM_BYTES = {
    "labels": 2_000_000,
    "mapping": 20_000_000,
    "votes": 250_000_000,
    "properties": 150_000_000,
}
# The zip's members are JPEG files, which do not shrink: unpacked they need what the zip needs, and
# on average half a 4 kB block each, 243,434 x 2 kB = 0.5 GB.
UNPACKED_PER_ZIPPED = 1.15


@dataclass(frozen=True)
class RemoteFile:
    """One file that can be downloaded.

    `entries`: rows of a table, or images of a zip; `columns`: those that a table must have;
    `algorithm` ("md5", "sha256") and `checksum`: as published, "" where none is; `room_bytes` and
    `unpacked_bytes`: room that it needs on the disk; `place`: its folder in the data folder.
    """

    name: str
    url: str
    entries: int
    columns: tuple[str, ...] = ()
    algorithm: str = ""
    checksum: str = ""
    room_bytes: int = 0
    unpacked_bytes: int = 0
    place: str = "downloads"

    @property
    def is_archive(self) -> bool:
        """Whether it is a zip of images; everything else is a table."""
        return self.name.endswith(".zip")

    def path(self, directory: Path) -> Path:
        """Where the file stands in the data folder `directory`."""
        return directory / self.place / self.name

    def record_path(self, directory: Path) -> Path:
        """Where the record of its origin stands."""
        return directory / "downloads" / f"{self.name}.record.json"


def _remote_file(what: str, row: Mapping[str, Any]) -> RemoteFile:
    """A row of `public_files.DATA_FILES`, with the room that it needs."""
    algorithm = next((name for name in ("sha256", "md5") if name in row), "")
    room_bytes = row["bytes"] if "bytes" in row else ROOM_BYTES[what]
    return RemoteFile(
        name=row["url"].rsplit("/", 1)[-1],
        url=row["url"],
        entries=row["images"] if "images" in row else row["rows"],
        columns=row.get("columns", ()),
        algorithm=algorithm,
        checksum=row.get(algorithm, ""),
        room_bytes=room_bytes,
        unpacked_bytes=int(UNPACKED_PER_ZIPPED * room_bytes) if "images" in row else 0,
        place="" if what == "labels" else "downloads",
    )


# What can be asked for, in the order in which it is fetched: the smallest first, and the images
# last, so that label tables are there when images are checked against them.
FILES: Mapping[str, tuple[RemoteFile, ...]] = MappingProxyType(
    {what: tuple(_remote_file(what, row) for row in rows) for what, rows in DATA_FILES.items()}
)


def wanted_kinds(what: Sequence[str], known: Mapping[str, Any] = FILES) -> tuple[str, ...]:
    """The keys of `known` that `what` names, in the order of `known`; all where it is empty.

    Raises `Gz2vitError` for a word that is not among them.
    """
    for word in what:
        if word not in known:
            raise Gz2vitError(f"there is no '{word}' to download; choose from {', '.join(known)}")
    return tuple(kind for kind in known if kind in what or not what)


def choose_mirror(mirror: str | None) -> str | Path | None:
    """Where files are taken from instead of their published addresses, or None.

    `mirror`, or else the environment variable GZ2VIT_MIRROR: an http(s) address (returned as text)
    or a folder (returned as a path). Raises `Gz2vitError` where it is neither.
    """
    chosen = mirror or os.environ.get(MIRROR_VARIABLE)
    if not chosen:
        return None
    if chosen.startswith(("http://", "https://")):
        return chosen.rstrip("/")
    folder = Path(chosen).expanduser().resolve()
    if not folder.is_dir():
        raise Gz2vitError(
            f"the mirror {chosen} is neither a folder nor an http(s) address; correct --mirror or "
            f"{MIRROR_VARIABLE}"
        )
    return folder


def address_of(remote: RemoteFile, mirror: str | Path | None) -> str | Path:
    """The address or the local file from which `remote` is taken."""
    if mirror is None:
        return remote.url
    return mirror / remote.name if isinstance(mirror, Path) else f"{mirror}/{remote.name}"


# ------------------------------------------------------------------------------------------
# A download that survives bad lines: pooch's downloader, with retries and resumption.
#
# The bytes go to `.<name>.part`, and a note beside it (`.<name>.part.json`) says where they are from:
# the address, the server's validator (RFC 9110: a strong ETag or Last-Modified) and the length. When
# the connection breaks or the process is killed, the next request asks for the rest on the condition
# that the file is still the same (`If-Range`).

ATTEMPTS = 5  # for an answer, and for a body in a row without PROGRESS_BYTES more of it
PROGRESS_BYTES = 1_000_000
BACKOFF_S = 1.0  # doubled each time, plus as much again by chance
RETRY_AFTER_MAX_S = 120.0  # a server may ask for hours; then it is better to stop and say so
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 60.0  # without a single byte
TRANSIENT_STATUSES = (429, 500, 502, 503, 504)


class _Cut(Exception):
    """A body that ended too early or does not fit what is there; it is asked for again."""


class _CappedRetry(Retry):
    """urllib3's `Retry` that never waits longer than RETRY_AFTER_MAX_S for a server's wish."""

    def get_retry_after(self, response: urllib3.BaseHTTPResponse) -> float | None:
        """Seconds that the server asks to wait for, capped."""
        asked_s = super().get_retry_after(response)
        return None if asked_s is None else min(asked_s, RETRY_AFTER_MAX_S)


def _session() -> requests.Session:
    """A session that asks again when no answer or a transient error comes."""
    retries = _CappedRetry(
        total=ATTEMPTS - 1,
        redirect=False,  # requests follows redirects by itself
        status_forcelist=TRANSIENT_STATUSES,
        backoff_factor=BACKOFF_S,
        backoff_jitter=BACKOFF_S,
        raise_on_status=False,
    )
    # Its warnings of each new attempt would tear the progress bar.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retries))
    # A compressed answer would have another length, and other bytes than the checksum is of.
    session.headers["Accept-Encoding"] = "identity"
    return session


@dataclass
class ResumingDownloader:
    """One file's transfer into `folder`; pooch calls it as `downloader(url, output_file, pooch)`.

    `advice` ends each error and says what else can be done. `checksummed`: a checksum is
    published, so that bytes of different origin may be joined: if they do not fit, it shows.
    `resumed` is true where the bytes did not come in one piece.
    """

    name: str
    folder: Path
    advice: str
    checksummed: bool
    resumed: bool = field(default=False, init=False)

    @property
    def part(self) -> Path:
        """The bytes so far."""
        return self.folder / f".{self.name}.part"

    @property
    def note_path(self) -> Path:
        """The note on where they are from."""
        return self.folder / f".{self.name}.part.json"

    def __call__(self, url: str, output_file: str, _pooch: object = None) -> None:
        """Bring the file at `url` to `output_file`; `Gz2vitError` where that cannot be done.

        The part keeps its own name until `discard`: a process that is killed while pooch computes
        the checksum of `output_file` loses nothing.
        """
        self.resumed = self._is_complete(url)
        bar = tqdm(desc=self.name, unit="B", unit_scale=True, initial=self._size())
        with bar, _session() as session:
            self._fetch(session, url, bar)
        output = Path(output_file)
        with writing(output):
            output.unlink(missing_ok=True)
            try:
                os.link(self.part, output)
            except OSError:  # a file system without links
                os.replace(self.part, output)

    def discard(self) -> None:
        """Remove the bytes so far."""
        self.note_path.unlink(missing_ok=True)
        self.part.unlink(missing_ok=True)

    def _size(self) -> int:
        """How many bytes are there."""
        return self.part.stat().st_size if self.part.exists() else 0

    def _note(self) -> dict[str, Any]:
        """The note on the part: `url`, `validator` ("" for none), `length` (None: unknown)."""
        try:
            note = json.loads(self.note_path.read_text(encoding="utf-8"))
            return {"url": note["url"], "validator": note["validator"], "length": note["length"]}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def _is_complete(self, url: str) -> bool:
        """Whether all bytes are there, as far as the server said how many they are."""
        note = self._note()
        ours = note.get("url") == url or self.checksummed
        return ours and self.part.exists() and note.get("length") == self._size()

    def _fetch(self, session: requests.Session, url: str, bar: tqdm) -> None:
        """Ask until all bytes are there, or until ATTEMPTS in a row bring nothing."""
        failures, best = 0, self._size()
        while not self._is_complete(url):
            try:
                self._ask(session, url, bar)
            except _Cut as cut:
                failures = 1 if self._size() >= best + PROGRESS_BYTES else failures + 1
                best = max(best, self._size())
                if failures >= ATTEMPTS:
                    raise self._error(url, f"broke off {failures} times ({cut})") from cut
                bar.set_postfix_str(f"{cut}; asking again")
                time.sleep(BACKOFF_S * 2 ** (failures - 1) * random.uniform(1, 2))

    def _ask(self, session: requests.Session, url: str, bar: tqdm) -> None:
        """One request, and as much of its body as comes."""
        headers = self._range_headers(url)
        timeout = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
        try:
            response = session.get(url, headers=headers, stream=True, timeout=timeout)
        except requests.RequestException as error:
            raise self._error(url, f"could not be reached ({_reason(error)})") from error
        with response:
            if response.status_code == 416 and headers:
                self._settle_416(response, url)
                return
            length = self._place(response, url)
            bar.total, bar.n = length, self._size()
            bar.refresh()
            if length is not None:
                require_room(self.folder, length - self._size(), f"the rest of {self.name}")
            self._take(response, bar)
        if length is None:  # the server did not say; the end of the body is all there is to go by
            self._write_note(url, response, self._size())

    def _range_headers(self, url: str) -> dict[str, str]:
        """What asks for the rest only; nothing where the bytes so far cannot be trusted."""
        note = self._note()
        validator = note.get("validator", "") if note.get("url") == url else ""
        if not note or not self._size() or not (validator or self.checksummed):
            self.discard()
            return {}
        headers = {"Range": f"bytes={self._size()}-"}
        return headers | ({"If-Range": validator} if validator else {})

    def _settle_416(self, response: requests.Response, url: str) -> None:
        """There is no rest: all is here if the length fits, else the part is of another file."""
        stated = re.fullmatch(r"bytes \*/(\d+)", response.headers.get("Content-Range", ""))
        if stated and int(stated[1]) == self._size():
            self._write_note(url, response, self._size())
            return
        self.discard()
        raise _Cut("the server has no such range")

    def _place(self, response: requests.Response, url: str) -> int | None:
        """Set the part to where the body goes on, and note it; the whole length, if known."""
        if response.status_code == 206:
            length = self._continued_length(response, url)
            self.resumed = True
        elif response.status_code == 200:
            self.discard()
            self.resumed = False
            stated = response.headers.get("Content-Length", "")
            length = int(stated) if stated.isdecimal() else None
        else:
            status = f"{response.status_code} {response.reason}".strip()
            raise self._error(url, f"answered {status}")
        self._write_note(url, response, length)
        return length

    def _continued_length(self, response: requests.Response, url: str) -> int:
        """The whole length by a 206's Content-Range; begin anew where it does not fit the part."""
        stated = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        note = self._note()
        fits = stated is not None and int(stated[1]) == self._size()
        fits = fits and note.get("length") in (None, int(stated[2]))
        if note.get("url") == url and note.get("validator"):
            fits = fits and _validator(response) == note["validator"]
        if not fits:
            self.discard()
            raise _Cut("the rest that came does not belong to what is there")
        return int(stated[2])

    def _write_note(self, url: str, response: requests.Response, length: int | None) -> None:
        """Say where the part is from."""
        write_json(
            self.note_path, {"url": url, "validator": _validator(response), "length": length}
        )

    def _take(self, response: requests.Response, bar: tqdm) -> None:
        """Append the body to the part."""
        with writing(self.part), self.part.open("ab") as stream:
            for piece in _pieces(response):
                stream.write(piece)
                stream.flush()  # so that a killed process loses nothing that came
                bar.update(len(piece))

    def _error(self, url: str, what: str) -> Gz2vitError:
        """One sentence: what happened and what can be done."""
        return Gz2vitError(f"cannot download {self.name}: {url} {what}; {self.advice}")


def _pieces(response: requests.Response) -> Iterator[bytes]:
    """The body as it comes, not decoded; `_Cut` where the connection breaks."""
    try:
        while piece := response.raw.read1(CHUNK_BYTES, decode_content=False):
            yield piece
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise _Cut(_reason(error)) from error


def _validator(response: requests.Response) -> str:
    """What tells this version of the file from another: a strong ETag, Last-Modified, or ""."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def _reason(error: Exception) -> str:
    """A few words on a failed connection."""
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not accepted"
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return "it does not answer in time"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    if isinstance(error, urllib3.exceptions.ProtocolError):
        return "the connection broke"
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__


# ------------------------------------------------------------------------------------------
# Is a file what it should be? Its checksum, its content, and the record of both.
#
# A file whose size and time have not changed since its record was written is trusted, so that
# 3.4 GB are hashed once and not with every call.

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


# ------------------------------------------------------------------------------------------
# One file, from its address or a mirror to its place in the data folder, by way of staging.
#
# Nothing stands under its final name before it is verified: a download is staged in
# `downloads/.incoming/`, its checksum compared (by pooch) and its content looked at, and then
# renamed. A file that is there already is verified in the same way, and never changed.


class LocalCopier:
    """pooch's downloader for a file of a local folder; it copies, and starts anew each time."""

    resumed = False

    def __init__(self, source: Path, advice: str) -> None:
        self.source, self.advice = source, advice

    def __call__(self, _url: str, output_file: str, _pooch: object = None) -> None:
        """Copy the file to `output_file`; `Gz2vitError` where there is none."""
        if not self.source.is_file():
            raise Gz2vitError(f"the mirror has no file {self.source}; {self.advice}")
        output, size = Path(output_file), self.source.stat().st_size
        require_room(output.parent, size, f"the copy of {self.source.name}")
        bar = tqdm(desc=self.source.name, unit="B", unit_scale=True, total=size)
        with bar, self.source.open("rb") as source, writing(output), output.open("wb") as target:
            while piece := source.read(CHUNK_BYTES):
                target.write(piece)
                bar.update(len(piece))

    def discard(self) -> None:
        """Nothing is kept between two calls."""

    @property
    def part(self) -> Path:
        """What the bytes are from."""
        return self.source


def staging_folder(directory: Path) -> Path:
    """Where unfinished files stand."""
    return directory / "downloads" / ".incoming"


def staged_bytes(remote: RemoteFile, directory: Path) -> int:
    """How many bytes of a file an interrupted download left."""
    part = staging_folder(directory) / f".{remote.name}.part"
    return part.stat().st_size if part.exists() else 0


def clear_staging(directory: Path, remotes: Iterable[RemoteFile]) -> None:
    """Remove what a killed process left, but for the parts, which the next one continues."""
    kept = {f".{remote.name}.part{end}" for remote in remotes for end in ("", ".json")}
    folder = staging_folder(directory)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if path.name not in kept:
                path.unlink()


def bring_file(remote: RemoteFile, directory: Path, mirror: str | Path | None) -> str:
    """Have `remote` in its place, verified and recorded; one line on what was done.

    `mirror`: see `files.choose_mirror`. Raises `Gz2vitError` where it cannot be had, or where
    another file stands in its place.
    """
    record = read_record(remote, directory)
    if not remote.path(directory).is_file():
        return _fetch(remote, directory, mirror, record)
    if is_trusted(remote, directory, record):
        size = remote.path(directory).stat().st_size
        return f"{remote.name}: {size:,} bytes, already there"
    return _check_present(remote, directory, record)


def _check_present(remote: RemoteFile, directory: Path, record: dict[str, Any]) -> str:
    """Verify a file that somebody put there or changed, and record it."""
    path = remote.path(directory)
    status = path.stat()
    try:
        checksums = verify(path, remote, record)
    except WrongContent as error:
        raise Gz2vitError(
            f"{path} is not the published file: {error}; move it away and run the same command "
            f"again, which downloads it{_wanted_change(remote, directory, record)}"
        ) from error
    source = record.get("source", "a copy that was there")
    write_record(remote, directory, source, checksums, status, record)
    return _told(remote, status.st_size, checksums, record)


def _fetch(
    remote: RemoteFile, directory: Path, mirror: str | Path | None, record: dict[str, Any]
) -> str:
    """Download a file, verify it, and only then give it its name."""
    address, path = address_of(remote, mirror), remote.path(directory)
    staged = staging_folder(directory) / remote.name
    advice = f"try again later, name another source with --mirror, or put a copy at {path}"
    downloader: LocalCopier | ResumingDownloader = (
        LocalCopier(address, advice)
        if isinstance(address, Path)
        else ResumingDownloader(remote.name, staged.parent, advice, bool(remote.checksum))
    )
    try:
        checksums = _stage(remote, str(address), staged, downloader, record)
    except WrongContent as first:
        # The bytes came in pieces, which a server may have mixed up: once more from the beginning.
        try:
            if not downloader.resumed:
                raise
            checksums = _stage(remote, str(address), staged, downloader, record)
        except WrongContent as error:
            raise Gz2vitError(
                f"{address} did not give the published {remote.name}: {error}; it was not kept: "
                f"{advice}{_wanted_change(remote, directory, record)}"
            ) from first
    with atomic_path(path) as temporary:
        shutil.move(staged, temporary)  # not a rename where the folder is on another disk
    downloader.discard()
    write_record(remote, directory, str(address), checksums, path.stat(), record)
    return _told(remote, path.stat().st_size, checksums, record)


def _stage(
    remote: RemoteFile,
    address: str,
    staged: Path,
    downloader: LocalCopier | ResumingDownloader,
    record: dict[str, Any],
) -> dict[str, str]:
    """Bring the bytes to `staged` and verify them; where they are wrong, nothing of them stays."""
    published = f"{remote.algorithm}:{remote.checksum}" if remote.checksum else None
    pooch.get_logger().setLevel("WARNING")  # our own lines say what was done
    try:
        try:
            with writing(staged):
                pooch.retrieve(address, published, staged.name, staged.parent, None, downloader)
        except ValueError as error:  # pooch's word for another checksum
            if not downloader.part.is_file():
                raise WrongContent(str(error)) from error
            found = file_checksum(downloader.part, remote.algorithm)
            told = f"its {remote.algorithm} is {found}, published is {remote.checksum}"
            raise WrongContent(told) from error
        return verify(staged, remote, record, checksum_known=True)
    except WrongContent:
        staged.unlink(missing_ok=True)
        downloader.discard()
        raise


def _wanted_change(remote: RemoteFile, directory: Path, record: dict[str, Any]) -> str:
    """What to do where the first copy, not a published checksum, decides."""
    if remote.checksum or not record:
        return ""
    return f"; if the change is wanted, delete {remote.record_path(directory)}"


def _told(remote: RemoteFile, size: int, checksums: dict[str, str], record: dict[str, Any]) -> str:
    """One line on a verified file."""
    if remote.checksum:
        how = f"verified ({remote.algorithm} {remote.checksum})"
    elif record:
        how = f"verified (sha256 {checksums['sha256']}, as when first seen)"
    else:
        how = f"verified; first seen, sha256 {checksums['sha256']} recorded"
    return f"{remote.name}: {size:,} bytes, {how}"


# ------------------------------------------------------------------------------------------
# The published label tables, checked against the published counts and against the images.

MERGED_LABELS = {
    "label2": LABEL1_TO_LABEL2,
    "label3": LABEL1_TO_LABEL3,
    "label4": LABEL1_TO_LABEL4,
}


def check_published_split(
    directory: Path, class_counts: Mapping[str, Sequence[int]] = SPLIT_CLASS_COUNTS
) -> None:
    """Check that `gz2_<split>.csv` in `directory` are the paper's label tables.

    `class_counts`: galaxies of each class for each split. Raises `Gz2vitError` that names the
    table and the class for another number of galaxies, a label2 to label4 that does not follow
    from label1, and a galaxy in two splits.
    """
    tables = {split: read_label_table(directory / f"gz2_{split}.csv") for split in SPLITS}
    check_disjoint(tables, directory)
    for split, table in tables.items():
        path = directory / f"gz2_{split}.csv"
        counts = table.label1.value_counts()
        for label, expected in enumerate(class_counts[split]):
            if counts.get(label, 0) != expected:
                raise Gz2vitError(
                    f"{path} holds {counts.get(label, 0):,} galaxies of class {label} "
                    f"{CLASS_NAMES[label]}, the published table {expected:,}; move it away and "
                    "download it again"
                )
        _check_merged_labels(table, path)


def _check_merged_labels(table: pd.DataFrame, path: Path) -> None:
    """label2 to label4 merge the classes of label1, row by row."""
    for column, merged in MERGED_LABELS.items():
        if column not in table:
            raise Gz2vitError(f"{path} has no column {column}; move it away and download it again")
        wrong = table[table[column] != table.label1.map(dict(enumerate(merged)))]
        if len(wrong):
            row = wrong.iloc[0]
            raise Gz2vitError(
                f"{path}: galaxy {row.galaxyID} of class {row.label1} has {column} {row[column]} "
                f"instead of {merged[row.label1]} ({len(wrong):,} such rows); move it away and "
                "download it again"
            )


def check_images_cover(directory: Path, names: Set[str], source: Path) -> None:
    """Raise `Gz2vitError` if a galaxy of the label tables in `directory` has no image.

    `names`: the images' file names, from `source`. Nothing is checked where there are no tables.
    """
    paths = [directory / f"gz2_{split}.csv" for split in SPLITS]
    tables = [read_label_table(path) for path in paths if path.exists()]
    galaxy_ids = [name for table in tables for name in table.galaxyID]
    missing = [galaxy_id for galaxy_id in galaxy_ids if f"{galaxy_id}.jpg" not in names]
    if missing:
        raise Gz2vitError(
            f"{source} has no image of {len(missing):,} of the {len(galaxy_ids):,} galaxies in the "
            f"label tables of {directory}, the first is {missing[0]}.jpg; name other images with "
            "--images"
        )


# ------------------------------------------------------------------------------------------
# The folder `images/`: unpacked from the published zip or another one, or a link to a folder.

# Other copies of the images can be compressed more or less; four times is no such thing.
CAP_FACTOR = 4
SUBFOLDERS = (".", "images", "images_gz2/images")


@dataclass(frozen=True)
class ImageFolder:
    """`images/` of the data folder `directory`; `remote`: the published zip of its images."""

    directory: Path
    remote: RemoteFile

    @property
    def path(self) -> Path:
        """Where the images stand."""
        return self.directory / "images"

    @property
    def record_path(self) -> Path:
        """Where the record of their origin stands."""
        return self.directory / "downloads" / "images.record.json"

    def count(self) -> int:
        """How many images are there."""
        return len(image_names(self.path))

    def is_ready(self) -> bool:
        """Whether as many images are there as were brought, or as are published.

        The zip is not needed for that: it may be deleted once it is unpacked.
        """
        return self.count() >= self._recorded_count()

    def _recorded_count(self) -> int:
        """The number of images in the record, else the published one."""
        if not self.record_path.exists():
            return self.remote.entries
        record = read_json(self.record_path)
        count = record.get("images") if isinstance(record, dict) else None
        if not isinstance(count, int) or count < 1:
            raise Gz2vitError(f"{self.record_path} does not say how many images; delete it")
        return count

    def refuse_link(self) -> None:
        """Raise `Gz2vitError` if `images/` is a link: its folder is not ours to write into."""
        if self.path.is_symlink():
            raise Gz2vitError(
                f"{self.path} is a link to {os.readlink(self.path)}, which holds {self.count():,} "
                "images; remove the link, or choose another folder with --to"
            )

    def unpack_published(self, source: str) -> str:
        """Unpack the published zip, verified before, from `source`; one line on what was done."""
        archive_path = self.remote.path(self.directory)
        with _opened(archive_path) as archive:
            unpack(archive, self.path, CAP_FACTOR * self.remote.unpacked_bytes)
            return self._record_archive(archive, {"source": source})

    def unpack_own(self, archive_path: Path) -> str:
        """Unpack another copy's zip; one line on what was done.

        Its layout and checksum may differ from the published ones. Raises `Gz2vitError` where it
        holds fewer images than were published or lacks one of the label tables' galaxies.
        """
        with _opened(archive_path) as archive:
            images, _ = image_members(archive)
            if len(images) < self.remote.entries:
                raise Gz2vitError(
                    f"{archive_path} holds {len(images):,} images <digits>.jpg instead of "
                    f"{self.remote.entries:,}; name another zip or a folder with --images"
                )
            check_images_cover(self.directory, images.keys(), archive_path)
            self.refuse_link()
            if self.is_ready():
                check_images_cover(self.directory, image_names(self.path), self.path)
                return self.told_ready()
            unpack(archive, self.path, CAP_FACTOR * self.remote.unpacked_bytes)
            origin = {"source": str(archive_path), "md5": file_checksum(archive_path, "md5")}
            return self._record_archive(archive, origin)

    def _record_archive(self, archive: zipfile.ZipFile, origin: dict[str, str]) -> str:
        """Record what was unpacked; one line on it."""
        images, skipped = image_members(archive)
        write_json(self.record_path, {**origin, "images": len(images), "skipped": skipped})
        other = f" ({skipped:,} other files in the zip were left out)" if skipped else ""
        return f"images: {len(images):,} unpacked into {self.path}{other}"

    def link(self, folder: Path) -> str:
        """Make `images/` a link to `folder`, which is checked first; one line on what was done."""
        names = image_names(folder)
        check_images_cover(self.directory, names, folder)
        if self.path.resolve() != folder:
            self.refuse_link()
            with writing(self.path):
                if self.path.exists() and any(self.path.iterdir()):
                    raise Gz2vitError(
                        f"{self.path} is there already and is not empty; move it away, or choose "
                        "another folder with --to"
                    )
                temporary = self.path.with_name(f".images.{os.getpid()}.tmp")
                temporary.unlink(missing_ok=True)
                temporary.symlink_to(folder)
                if self.path.exists():
                    self.path.rmdir()
                os.replace(temporary, self.path)
        write_json(self.record_path, {"source": str(folder), "images": len(names)})
        return f"images: {len(names):,} in {folder}, {self.path} is a link to it"

    def told_ready(self) -> str:
        """One line on images that are there."""
        return f"images: {self.count():,} already there"


def find_own_images(path: Path) -> Path:
    """The zip at `path`, or the folder in it that holds `<digits>.jpg`, resolved.

    Raises `Gz2vitError` where there is neither.
    """
    path = path.expanduser().resolve()
    if path.is_file() and zipfile.is_zipfile(path):
        return path
    for subfolder in SUBFOLDERS:
        if image_names(path / subfolder):
            return (path / subfolder).resolve()
    raise Gz2vitError(
        f"{path} is neither a zip nor a folder with images <digits>.jpg (nor has it a folder "
        "images or images_gz2/images with them); correct --images"
    )


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """An open zip; `Gz2vitError` where it cannot be read as one."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except zipfile.BadZipFile as error:
        raise Gz2vitError(f"{path} cannot be used: {error}; give another zip") from error


# ------------------------------------------------------------------------------------------
# Galaxy Zoo 2 from its public addresses into a data folder: `python -m gz2vit download`.
#
# The folder gets `images/<asset_id>.jpg`, the paper's label tables, and, in `downloads/`, the raw
# files with a record of each: its origin, checksums, and the day on which it was first seen.


def download(
    directory: Path,
    what: Sequence[str] = (),
    mirror: str | None = None,
    images: Path | None = None,
    files: Mapping[str, tuple[RemoteFile, ...]] = FILES,
    class_counts: Mapping[str, Sequence[int]] = SPLIT_CLASS_COUNTS,
) -> None:
    """Fetch Galaxy Zoo 2 into `directory`, and print a line for each file.

    `what`: of labels, mapping, votes, properties, images; all where it is empty. `mirror`: an
    http(s) address or a folder that holds the files, instead of their published addresses (or the
    environment variable GZ2VIT_MIRROR). `images`: images that are at hand, a folder (it is linked)
    or a zip (it is unpacked), instead of the published zip. `files` and `class_counts`: what is
    published, and how many galaxies of each class the label tables hold.

    What is there is verified, or trusted where it has not changed since; so the same call
    continues after an interruption, and does nothing when all is done; the zip of the images may
    be deleted once it is unpacked. Raises `Gz2vitError` where a file cannot be had or is not what
    it should be; nothing wrong gets a final name.
    """
    kinds = wanted_kinds(what, files)
    if images is not None and "images" not in kinds:
        kinds += ("images",)
    source = choose_mirror(mirror)
    own = None if images is None else find_own_images(Path(images))
    directory = _made(Path(directory))
    told = f"another download into {directory} is running; wait until it has ended or stop it"
    with sole_user(directory / "downloads" / ".lock", told):
        clear_staging(directory, [remote for remotes in files.values() for remote in remotes])
        require_room(directory, _needed_bytes(directory, kinds, files, own), "the download")
        for kind in kinds:
            if kind == "images":
                _bring_images(ImageFolder(directory, files[kind][0]), source, own)
            else:
                _bring_tables(directory, files[kind], source)
            if kind == "labels":
                check_published_split(directory, class_counts)
        with suppress(OSError):  # not empty: what an earlier call for other files left
            staging_folder(directory).rmdir()


def _made(directory: Path) -> Path:
    """The data folder, made where it is missing, with a place for raw files; resolved."""
    directory = directory.expanduser().resolve()
    with writing(directory / "downloads"):
        (directory / "downloads").mkdir(parents=True, exist_ok=True)
        (directory / "downloads" / ".lock").touch()
    return directory


def _needed_bytes(
    directory: Path,
    kinds: Sequence[str],
    files: Mapping[str, tuple[RemoteFile, ...]],
    own: Path | None,
) -> int:
    """Room on the disk for all that is still missing, in bytes."""
    missing = [remote for kind in kinds if kind != "images" for remote in files[kind]]
    unpacked_bytes = 0
    if "images" in kinds:
        remote = files["images"][0]
        folder = ImageFolder(directory, remote)
        if not folder.is_ready() and (own is None or own.is_file()):
            lacking = max(0, remote.entries - folder.count()) / remote.entries
            unpacked_bytes = int(lacking * remote.unpacked_bytes)
            missing += [remote] if own is None else []
    return unpacked_bytes + sum(
        max(0, remote.room_bytes - staged_bytes(remote, directory))
        for remote in missing
        if not remote.path(directory).is_file()
    )


def _bring_tables(
    directory: Path, remotes: Sequence[RemoteFile], mirror: str | Path | None
) -> None:
    """Have the tables of one kind."""
    for remote in remotes:
        print(bring_file(remote, directory, mirror), flush=True)


def _bring_images(folder: ImageFolder, mirror: str | Path | None, own: Path | None) -> None:
    """Have the images, from `own` (a folder or a zip) or else from the published zip."""
    if own is not None:
        told = folder.link(own) if own.is_dir() else folder.unpack_own(own)
    elif folder.is_ready():
        told = folder.told_ready()
    else:
        folder.refuse_link()  # before 3.4 GB are on their way
        print(bring_file(folder.remote, folder.directory, mirror), flush=True)
        told = folder.unpack_published(str(address_of(folder.remote, mirror)))
    print(told, flush=True)


# ------------------------------------------------------------------------------------------
# The real Galaxy Zoo 2 as a data folder: fetched, verified, and its properties joined.


def fetch_galaxy_zoo(
    directory: Path,
    what: Sequence[str] = (),
    mirror: str | None = None,
    images: Path | None = None,
    **published: Any,
) -> None:
    """Fetch `what` (all by default) into the data folder `directory`, and join the properties.

    See `downloads.galaxy_zoo.download`, also for `published`. `galaxy_properties.csv` is written
    once label tables, file map and sample table are there; how many galaxies have no value is
    printed.
    """
    download(directory, what, mirror, images, **published)
    tables = [directory / f"gz2_{split}.csv" for split in SPLITS]
    sources = [directory / MAPPING_FILE, directory / SAMPLE_FILE]
    target = directory / "galaxy_properties.csv"
    if not all(path.exists() for path in (*tables, *sources)) or _newer(target, tables + sources):
        return
    galaxy_ids = pd.concat([read_label_table(path).galaxyID for path in tables])
    table, unmatched = write_properties(directory, galaxy_ids, *sources)
    missing = ", ".join(f"{table[name].isna().sum():,} without {name}" for name in PROPERTY_COLUMNS)
    print(
        f"{target.name}: {len(galaxy_ids):,} galaxies; {missing}; {unmatched:,} of them are "
        "not in the sample table",
        flush=True,
    )


def _newer(target: Path, sources: Sequence[Path]) -> bool:
    """Whether `target` was made after all `sources`."""
    if not target.exists():
        return False
    return all(target.stat().st_mtime_ns >= path.stat().st_mtime_ns for path in sources)
