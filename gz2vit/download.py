"""Galaxy Zoo 2 from its public addresses into a data folder, verified and resumed.

The folder gets `images/<asset_id>.jpg`, the paper's label tables and, in `downloads/`, the raw
files with a record of each: origin, checksums, the day it was first seen. Nothing gets its final
name before it is verified, so that the same call continues after any interruption.
"""

import hashlib
import os
import random
import re
import shutil
import stat
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any

import pandas as pd
import pooch
import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.util.retry import Retry

from gz2vit.io import Gz2vitError, atomic_path, read_json, sole_user, write_json
from gz2vit.paper import DATA_FILES
from gz2vit.votes import GALAXY_ZOO_DIR, label_tables, write_properties

MIRROR_VARIABLE = "GZ2VIT_MIRROR"
# JPEG files do not shrink in a zip: unpacked they need as much, and half a disk block each.
UNPACKED_PER_ZIPPED = 1.15
CAP_FACTOR = 4  # other copies of the images may be larger, but not by more (a zip can be a bomb)
IMAGE_NAME = re.compile(r"[0-9]+\.jpg")
CHUNK_BYTES = 1 << 20
NO_NOTE = {"url": "", "validator": "", "length": None}
CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+)")


@dataclass(frozen=True)
class RemoteFile:
    """One public file: a table, or the zip of images; `entries`: rows or images.

    `checksum`: as published, such as "md5:bc64...", or "", where a table must have `columns`.
    """

    url: str
    entries: int
    size_bytes: int = 0
    columns: tuple[str, ...] = ()
    checksum: str = ""
    place: str = "downloads"

    @property
    def name(self) -> str:
        """The file's name."""
        return self.url.rsplit("/", 1)[-1]

    def path(self, directory: Path) -> Path:
        """Where the file belongs in the data folder `directory`."""
        return directory / self.place / self.name

    def record_path(self, directory: Path) -> Path:
        """Where the record of its origin is kept."""
        return directory / "downloads" / f"{self.name}.record.json"

    def part(self, directory: Path) -> Path:
        """Where its bytes are kept until they are verified."""
        return directory / "downloads" / ".incoming" / self.name


# In the order in which they are fetched: the smallest first, and the images last, so that the label
# tables are there when images are checked against them.
FILES = {kind: tuple(RemoteFile(**row) for row in rows) for kind, rows in DATA_FILES.items()}


def fetch_galaxy_zoo(
    directory: Path | None, kinds: Sequence[str] = (), mirror: str | None = None,
    images: Path | None = None, files: Mapping[str, tuple[RemoteFile, ...]] = FILES,
) -> None:  # fmt: skip
    """Fetch Galaxy Zoo 2 into the data folder `directory` (`gz2_data`), printing a line per file.

    `kinds`: of labels, mapping, votes, properties, images; empty: all. `mirror`: an http(s) address
    or a folder that holds the files (else the environment's GZ2VIT_MIRROR). `images`: own images
    instead of the published zip: a folder, which is linked, or a zip. Raises `Gz2vitError`.
    """
    for word in kinds:
        if word not in files:
            raise Gz2vitError(f"there is no '{word}' to download; choose from {', '.join(files)}")
    wanted = [kind for kind in files if kind in (kinds or files) or (kind == "images" and images)]
    images = _find_images(images) if images else None
    source = mirror or os.environ.get(MIRROR_VARIABLE) or ""
    if source and not source.startswith(("http://", "https://")):
        source = str(Path(source).expanduser().resolve())
        if not Path(source).is_dir():
            words = f"{source} is neither a folder nor an http(s) address"
            raise Gz2vitError(f"the mirror {words}; correct --mirror or {MIRROR_VARIABLE}")
    directory = Path(os.path.abspath(Path(directory or GALAXY_ZOO_DIR).expanduser()))
    incoming, lock = directory / "downloads" / ".incoming", directory / "downloads" / ".lock"
    with writing(directory / "downloads"):
        incoming.mkdir(parents=True, exist_ok=True)
        lock.touch()
    message = f"another download into {directory} is running; wait for it to end, or stop it"
    with sole_user(lock, message):
        for remote in (one for kind in wanted for one in files[kind]):
            if remote in files["images"]:
                _bring_images(directory, remote, source, images)
            else:
                print(bring_file(remote, directory, source), flush=True)
        with suppress(OSError):  # not empty: what an earlier call for other files left
            incoming.rmdir()
        write_properties(directory)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an error of the operating system while `path` is written into a `Gz2vitError`."""
    try:
        yield
    except OSError as error:
        raise Gz2vitError(f"cannot write {path}: {error.strerror or error}") from error


def require_room(directory: Path, needed_bytes: float, purpose: str) -> None:
    """Raise `Gz2vitError`, in GB, if the disk of `directory` has less than `needed_bytes` free."""
    free_bytes = shutil.disk_usage(directory).free
    if free_bytes < needed_bytes:
        needs = f"{purpose} needs {needed_bytes / 1e9:.3g} GB on the disk of {directory}"
        free = f"which has {free_bytes / 1e9:.3g} GB free"
        raise Gz2vitError(f"{needs}, {free}; make room or choose another folder with --to")


# ---- one large file over a bad line

ATTEMPTS = 5  # for an answer, and for bodies in a row that bring less than PROGRESS_BYTES
PROGRESS_BYTES = 1_000_000
BACKOFF_S = 1.0  # doubled each time, plus as much again by chance
RETRY_AFTER_MAX_S = 120  # a server may ask for hours; it is better to stop then
TRANSIENT = (429, 500, 502, 503, 504)  # answers that may be better later
TIMEOUT_S = (10.0, 60.0)  # to connect; without a single byte


class Unreachable(Gz2vitError):
    """A file cannot be had: there is no network, or it is not where it was."""


def fetch(
    url: str, path: Path, find_fault: Callable[[Path], str], advice: str,
    part: Path | None = None, checksummed: bool = True,
) -> None:  # fmt: skip
    """Bring the file at `url`, or a local one of that path, to `path`, resumed and verified.

    `find_fault`: what is wrong with a file, or "". `part`: where its bytes are kept until then.
    """
    part, in_pieces = part or path.with_name(f".{path.name}.part"), True
    with writing(part):
        part.parent.mkdir(parents=True, exist_ok=True)
    while in_pieces:  # a server may have mixed the pieces up: then once more in one piece
        in_pieces = False
        if url.startswith(("http://", "https://")):
            in_pieces = resume_download(url, part, advice, checksummed)
        elif Path(url).is_file():
            require_room(part.parent, Path(url).stat().st_size, f"the copy of {url}")
            with writing(part):
                shutil.copyfile(url, part)
        else:
            raise Unreachable(f"there is no file {url}; {advice}")
        fault = find_fault(part)
        part.with_name(f"{part.name}.json").unlink(missing_ok=True)
        if not fault:
            with atomic_path(path) as temporary:
                shutil.move(part, temporary)  # not a rename where the folder is on another disk
            return
        part.unlink()
    what = f"{url} is not the published {path.name}"
    raise Gz2vitError(f"{what}: {fault}; it was not kept; {advice}")


def resume_download(url: str, part: Path, advice: str, checksummed: bool = False) -> bool:
    """Bring the bytes at `url` to `part`, continuing where an earlier attempt or call stopped.

    A note beside it (`<part>.json`) holds address, validator (RFC 9110: a strong ETag or
    Last-Modified) and length: the rest is asked for if the file is still the same (`If-Range`).
    `checksummed`: the caller notices bytes of different files. Returns whether there were pieces.
    """
    note_path, failures, best, problem = part.with_name(f"{part.name}.json"), 0, 0, ""
    with tqdm(desc=part.name.strip("."), unit="B", unit_scale=True) as bar, _session() as session:
        while failures < ATTEMPTS:
            note, size = NO_NOTE, part.stat().st_size if part.exists() else 0
            with suppress(KeyError, TypeError):
                known = read_json(note_path, default={})
                note = {name: known[name] for name in NO_NOTE}
            validator = note["validator"] if note["url"] == url else ""
            if size and size == note["length"] and (note["url"] == url or checksummed):
                return True
            size = size if note["url"] and (validator or checksummed) else 0
            headers = {"Range": f"bytes={size}-"} if size else {}
            headers |= {"If-Range": validator} if size and validator else {}
            try:
                response = session.get(url, headers=headers, stream=True, timeout=TIMEOUT_S)
            except requests.RequestException as error:
                problem = f"no answer ({type(error).__name__})"
                raise Unreachable(f"cannot download {url}: {problem}; {advice}") from error
            with response:
                status, answered = response.status_code, response.headers
                if status != 200 and not (size and status in (206, 416)):
                    problem = f"the answer is {status} {response.reason}".strip()
                    raise Unreachable(f"cannot download {url}: {problem}; {advice}")
                etag, date = answered.get("ETag", ""), answered.get("Last-Modified", "")
                found = {"url": url, "validator": etag if etag.startswith('"') else date}
                first, length = 0, answered.get("Content-Length", "")
                if status != 200:
                    stated = CONTENT_RANGE.fullmatch(answered.get("Content-Range", ""))
                    first, length = stated.groups() if stated else ("", "")
                length = int(length) if length.isdecimal() else None
                if status == 416 and length == size:
                    return True
                fits = str(first) == str(size) and note["length"] in (None, length)
                if status == 200 or (fits and validator in ("", found["validator"])):
                    size = int(first)
                    bar.total, bar.n = length, size
                    require_room(part.parent, (length or 0) - size, f"the rest of {url}")
                    write_json(note_path, found | {"length": length})
                    problem = _append(response, part, size, bar)
                    if not problem and length in (None, part.stat().st_size):
                        return size > 0
                else:
                    problem = "the rest that came belongs to another file"
                    part.unlink()
            size = part.stat().st_size if part.exists() else 0
            failures = 1 if size >= best + PROGRESS_BYTES else failures + 1
            best = max(best, size)
            if failures < ATTEMPTS:
                time.sleep(BACKOFF_S * 2 ** (failures - 1) * random.uniform(1, 2))
    words = f"it failed {failures} times ({problem or 'it ended too early'})"
    raise Unreachable(f"cannot download {url}: {words}; {advice}")


def _session() -> requests.Session:
    """A session that asks again when no answer or a transient error comes."""
    waits = {"backoff_factor": BACKOFF_S, "backoff_jitter": BACKOFF_S}
    waits |= {"retry_after_max": RETRY_AFTER_MAX_S, "status_forcelist": TRANSIENT}
    # requests follows redirects by itself
    again = Retry(total=ATTEMPTS - 1, redirect=False, raise_on_status=False, **waits)
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=again))
    # A compressed answer would have another length, and other bytes than the checksum is of.
    session.headers["Accept-Encoding"] = "identity"
    return session


def _append(response: requests.Response, part: Path, size: int, bar: tqdm) -> str:
    """Write the body after the first `size` bytes of `part`; why it broke off, or ""."""
    with writing(part), part.open("ab" if size else "wb") as stream:
        try:
            for piece in iter(partial(response.raw.read1, CHUNK_BYTES, decode_content=False), b""):
                stream.write(piece)
                stream.flush()  # so that a killed process loses nothing that came
                bar.update(len(piece))
        except urllib3.exceptions.HTTPError as error:  # an OSError is the disk's
            return type(error).__name__
    return ""


# ---- one file of Galaxy Zoo 2


def bring_file(remote: RemoteFile, directory: Path, mirror: str = "") -> str:
    """Have `remote` in its place, verified and recorded; one line on what was done.

    A file whose size and time are those of its record is trusted, so that 3.4 GB are hashed once.
    """
    path, record_path = remote.path(directory), remote.record_path(directory)
    record = read_json(record_path) if record_path.exists() else {}
    algorithm, _, published = (remote.checksum or "sha256:").partition(":")
    advice = f"try again later, name another source with --mirror, or put a copy at {path}"
    if record and not published:
        advice += f"; if the change is wanted, delete {record_path}"
    digest = ""

    def find_fault(file: Path) -> str:
        nonlocal digest
        if not published and (fault := _table_fault(file, remote)):
            return fault
        digest = git_name(file) if algorithm == "git" else pooch.file_hash(str(file), alg=algorithm)
        if digest == (published or record.get(algorithm, digest)):
            return ""
        seen = f"the copy first seen on {record.get('first_seen')} had {record.get(algorithm)}"
        return f"its {algorithm} is {digest}, {f'published is {published}' if published else seen}"

    source = f"{mirror}/{remote.name}" if mirror else remote.url
    if path.is_file():
        status, source = path.stat(), record.get("source", "a copy that was there")
        if (record.get("bytes"), record.get("mtime_ns")) == (status.st_size, status.st_mtime_ns):
            return f"{remote.name}: {status.st_size:,} bytes, already there"
        if fault := find_fault(path):
            what = f"{path} is not the published file: {fault}"
            raise Gz2vitError(f"{what}; move it away and run the same command again, or {advice}")
    else:
        fetch(source, path, find_fault, advice, remote.part(directory), bool(published))
    now, status = datetime.now(UTC).isoformat(timespec="seconds"), path.stat()
    first_seen = record.get("first_seen", now) if record.get(algorithm) == digest else now
    origin = {"name": remote.name, "source": source, algorithm: digest, "verified": now}
    origin |= {"first_seen": first_seen, "bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
    write_json(record_path, origin)
    how = f"sha256:{digest}, {'as when first seen' if record else 'first seen'}"
    how = f"verified ({remote.checksum})" if published else how
    return f"{remote.name}: {status.st_size:,} bytes, {how}"


def git_name(path: Path) -> str:
    """The name that git gives the content of a file: the SHA-1 of its size and its bytes."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _table_fault(path: Path, remote: RemoteFile) -> str:
    """What is wrong with the rows and columns of a table without a published checksum, or ""."""
    try:
        # read to its end, where a compressed file's own checksum is
        rows = len(pd.read_csv(path, usecols=list(remote.columns), dtype=str))
    except (OSError, EOFError, zlib.error, ValueError) as error:
        with path.open("rb") as stream:
            is_page = re.match(rb"\s*<(!doctype|html)", stream.read(64), re.IGNORECASE)
        hint = "it looks like a web page, " if is_page else ""
        return f"{hint}it cannot be read ({shorten(str(error), 120)})"
    wrong = f"it holds {rows:,} rows instead of {remote.entries:,}"
    return "" if rows == remote.entries else wrong


# ---- the folder of images


def image_names(folder: Path) -> set[str]:
    """Names `<digits>.jpg` in a folder; empty where there is no folder."""
    return set(filter(IMAGE_NAME.fullmatch, os.listdir(folder))) if folder.is_dir() else set()


def _find_images(path: Path) -> Path:
    """The zip at `path`, or the folder in it that holds `<digits>.jpg`, resolved."""
    path = Path(path).expanduser().resolve()
    if path.is_file() and zipfile.is_zipfile(path):
        return path
    for subfolder in (".", "images", "images_gz2/images"):
        if image_names(path / subfolder):
            return (path / subfolder).resolve()
    words = "is neither a zip nor a folder with <digits>.jpg, images/ or images_gz2/images/"
    raise Gz2vitError(f"{path} {words}; correct --images")


def _bring_images(directory: Path, remote: RemoteFile, mirror: str, own: Path | None) -> None:
    """Have `images/`: a link to the folder `own`, or unpacked from a zip, `own` or published."""
    target, record = directory / "images", directory / "downloads" / "images.record.json"
    count = read_json(record)["images"] if record.exists() else remote.entries
    linked = own is not None and own.is_dir()
    if not linked and len(image_names(target)) >= count:
        print(f"images: {len(image_names(target)):,} already there", flush=True)
        return
    is_own = linked and target.resolve() == own
    if not is_own and (target.is_symlink() or (target.exists() and any(target.iterdir()))):
        advice = "move it away, or choose another folder with --to"
        raise Gz2vitError(f"{target} holds other images already; {advice}")
    if linked:
        names = image_names(own)
        _check_cover(directory, names, own)
        origin = {"source": str(own), "images": len(names)}
        if not is_own:
            with writing(target):
                target.rmdir() if target.exists() else None
                target.symlink_to(own)
    else:
        files = [remote.path(directory), remote.part(directory), directory / ".images"]
        if not any(file.exists() for file in files):  # else the rest is checked later
            needed_bytes = (UNPACKED_PER_ZIPPED + (own is None)) * remote.size_bytes
            require_room(directory, needed_bytes, "the images")
        if own is None:
            print(bring_file(remote, directory, mirror), flush=True)
        origin = _unpack(own or remote.path(directory), directory, remote)
        if own is not None:
            origin["md5"] = pooch.file_hash(str(own), alg="md5")
    write_json(record, origin)
    print(f"images: {origin['images']:,} of {origin['source']} in {target}", flush=True)


def _check_cover(directory: Path, names: set[str], source: Path) -> None:
    """Raise `Gz2vitError` if a galaxy of the label tables has no image in `names`."""
    galaxy_ids = [name for table in label_tables(directory).values() for name in table.galaxyID]
    missing = [galaxy_id for galaxy_id in galaxy_ids if f"{galaxy_id}.jpg" not in names]
    if missing:
        words = f"{len(missing):,} of the {len(galaxy_ids):,} galaxies in the label tables"
        words += f" of {directory}, the first is {missing[0]}.jpg"
        raise Gz2vitError(f"{source} has no image of {words}; name others with --images")


def _unpack(path: Path, directory: Path, remote: RemoteFile) -> dict[str, Any]:
    """Unpack the images of a zip as `images/`, all or none; {"source", "images", "skipped"}.

    Nothing of a member's path is used but its last part, and that only where it is digits and
    `.jpg`, so that a path that climbs (`../`) or is absolute leads nowhere.
    """
    target, staged, members, skipped = directory / "images", directory / ".images", {}, 0
    try:
        with zipfile.ZipFile(path) as archive, writing(staged):
            for member in archive.infolist():
                *folders, name = member.filename.split("/")
                is_link = stat.S_ISLNK(member.external_attr >> 16)
                if is_link or "__MACOSX" in folders or not IMAGE_NAME.fullmatch(name):
                    skipped += not member.is_dir()
                    continue
                first = members.setdefault(name, member)
                if (first.CRC, first.file_size) != (member.CRC, member.file_size):
                    raise zipfile.BadZipFile(f"{name} is in it twice, with different content")
            if len(members) < remote.entries:
                count = f"{len(members):,} images <digits>.jpg instead of {remote.entries:,}"
                raise Gz2vitError(f"{path} holds {count}; name another with --images")
            _check_cover(directory, set(members), path)
            total_bytes = sum(member.file_size for member in members.values())
            cap_bytes = CAP_FACTOR * UNPACKED_PER_ZIPPED * remote.size_bytes
            if total_bytes > cap_bytes:
                words = f"{total_bytes / 1e9:.3g} GB, more than the possible {cap_bytes / 1e9:.3g}"
                raise Gz2vitError(f"{path} would unpack to {words} GB; give another")
            staged.mkdir(exist_ok=True)
            there = {name: (staged / name).stat().st_size for name in image_names(staged)}
            missing = {name: m for name, m in members.items() if there.get(name) != m.file_size}
            missing_bytes = sum(member.file_size for member in missing.values())
            require_room(directory, missing_bytes, f"unpacking {path}")
            for name, member in tqdm(missing.items(), desc="unpack images", unit="image"):
                with archive.open(member) as source, (staged / "part").open("wb") as stream:
                    shutil.copyfileobj(source, stream, CHUNK_BYTES)  # checks the CRC at its end
                os.replace(staged / "part", staged / name)
            for name in there.keys() - members.keys() | {"part"}:  # of another zip
                (staged / name).unlink(missing_ok=True)
            os.replace(staged, target)  # an empty folder gives way
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        advice = "move it away and run the same command again, or give another zip"
        raise Gz2vitError(f"{path} is damaged ({error}); {advice}") from error
    return {"source": str(path), "images": len(members), "skipped": skipped}
