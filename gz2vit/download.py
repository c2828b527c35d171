"""Galaxy Zoo 2 from its public addresses into a data folder, verified and resumed.

The folder gets `images/<asset_id>.jpg`, the paper's label tables and, in `downloads/`, the raw
files with a record of each: origin, checksums, the day it was first seen. Unfinished files are kept
in `downloads/.incoming/`; nothing gets its final name before it is verified, so that the same call
continues after any interruption.
"""

import errno
import json
import os
import random
import re
import shutil
import stat
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
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

from gz2vit.catalog import PROPERTY_COLUMNS
from gz2vit.io import Gz2vitError, atomic_path, read_json, sole_user, write_json
from gz2vit.paper import DATA_FILES
from gz2vit.votes import MAPPING_FILE, SAMPLE_FILE, label_tables, write_properties

MIRROR_VARIABLE = "GZ2VIT_MIRROR"
# Room on the disk in bytes for one file, on the safe side, where no size is published.
ROOM_BYTES = {
    "labels": 2_000_000,
    "mapping": 20_000_000,
    "votes": 250_000_000,
    "properties": 150_000_000,
}
# JPEG files do not shrink in a zip: unpacked they need as much, and half a disk block each.
UNPACKED_PER_ZIPPED = 1.15
CAP_FACTOR = 4  # other copies of the images may be larger, but not by more (a zip can be a bomb)
IMAGE_NAME = re.compile(r"[0-9]+\.jpg")
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class RemoteFile:
    """One public file: a table, or the zip of images.

    `entries`: rows or images; `columns`: those that a table must have; `checksum`: as published,
    such as "md5:bc64...", or ""; `place`: its folder in the data folder.
    """

    url: str
    entries: int
    room_bytes: int
    columns: tuple[str, ...] = ()
    checksum: str = ""
    place: str = "downloads"

    @property
    def name(self) -> str:
        """The file's name."""
        return self.url.rsplit("/", 1)[-1]

    def source(self, mirror: str | Path | None) -> str:
        """Where the file is taken from."""
        return f"{mirror}/{self.name}" if mirror else self.url

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
FILES: Mapping[str, tuple[RemoteFile, ...]] = {
    kind: tuple(
        RemoteFile(
            row["url"],
            row["images" if kind == "images" else "rows"],
            row.get("bytes") or ROOM_BYTES[kind],
            row.get("columns", ()),
            next((f"{name}:{row[name]}" for name in ("sha256", "md5") if name in row), ""),
            "" if kind == "labels" else "downloads",
        )
        for row in rows
    )
    for kind, rows in DATA_FILES.items()
}


def fetch_galaxy_zoo(
    directory: Path,
    kinds: Sequence[str] = (),
    mirror: str | None = None,
    images: Path | None = None,
    files: Mapping[str, tuple[RemoteFile, ...]] = FILES,
) -> None:
    """Fetch Galaxy Zoo 2 into the data folder `directory`, printing a line per file.

    `kinds`: of labels, mapping, votes, properties, images; empty: all. `mirror`: an http(s) address
    or a folder that holds the files (else the environment's GZ2VIT_MIRROR). `images`: own images
    instead of the published zip: a folder, which is linked, or a zip, which is unpacked (and may
    be deleted then). `galaxy_properties.csv` is joined once its sources are there. Raises
    `Gz2vitError` where a file cannot be had or is not what it should be.
    """
    for word in kinds:
        if word not in files:
            raise Gz2vitError(f"there is no '{word}' to download; choose from {', '.join(files)}")
    wanted = [kind for kind in files if kind in kinds or not kinds]
    if images is not None:
        images = _find_images(images)
        wanted = [kind for kind in wanted if kind != "images"] + ["images"]
    source = mirror or os.environ.get(MIRROR_VARIABLE) or None
    if source and not source.startswith(("http://", "https://")):
        source = Path(source).expanduser().resolve()
        if not source.is_dir():
            raise Gz2vitError(
                f"the mirror {source} is neither a folder nor an http(s) address; correct --mirror "
                f"or {MIRROR_VARIABLE}"
            )
    directory = Path(os.path.abspath(Path(directory).expanduser()))
    incoming, lock = directory / "downloads" / ".incoming", directory / "downloads" / ".lock"
    with writing(directory / "downloads"):
        incoming.mkdir(parents=True, exist_ok=True)
        lock.touch()
    message = f"another download into {directory} is running; wait for it to end, or stop it"
    with sole_user(lock, message):
        require_room(directory, _needed_bytes(directory, wanted, files, images), "the download")
        for kind in wanted:
            if kind == "images":
                _bring_images(directory, files[kind][0], source, images)
                continue
            for remote in files[kind]:
                print(bring_file(remote, directory, source), flush=True)
        with suppress(OSError):  # not empty: what an earlier call for other files left
            incoming.rmdir()
        _join_properties(directory)


def _join_properties(directory: Path) -> None:
    """Write `galaxy_properties.csv` where its sources are there and newer."""
    sources = [directory / MAPPING_FILE, directory / SAMPLE_FILE]
    target, tables = directory / "galaxy_properties.csv", label_tables(directory)
    if len(tables) < 3 or not all(path.exists() for path in sources):
        return
    paths = [*sources, *(directory / f"gz2_{split}.csv" for split in tables)]
    if target.exists() and target.stat().st_mtime >= max(path.stat().st_mtime for path in paths):
        return
    galaxy_ids = pd.concat([table.galaxyID for table in tables.values()])
    table, unmatched = write_properties(directory, galaxy_ids, *sources)
    missing = ", ".join(f"{table[name].isna().sum():,} without {name}" for name in PROPERTY_COLUMNS)
    counts = f"{len(galaxy_ids):,} galaxies; {missing}; {unmatched:,} of them"
    print(f"{target.name}: {counts} are not in the sample table", flush=True)


# ---- the disk


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
            f"{purpose} needs {needed_bytes / 1e9:.3g} GB on the disk of {directory}, which has "
            f"{free_bytes / 1e9:.3g} GB free; make room or choose another folder with --to"
        )


def _needed_bytes(
    directory: Path,
    kinds: Sequence[str],
    files: Mapping[str, tuple[RemoteFile, ...]],
    own: Path | None,
) -> int:
    """Room on the disk for all that is still missing."""
    missing = [remote for kind in kinds if kind != "images" for remote in files[kind]]
    needed_bytes, remote = 0.0, files["images"][0]
    lacking = _expected_images(directory, remote) - len(image_names(directory / "images"))
    if "images" in kinds and lacking > 0 and (own is None or own.is_file()):
        missing += [remote] if own is None else []
        needed_bytes = min(1, lacking / remote.entries) * UNPACKED_PER_ZIPPED * remote.room_bytes
    for remote in missing:
        if not remote.path(directory).is_file():
            part = remote.part(directory)
            staged_bytes = part.stat().st_size if part.exists() else 0
            needed_bytes += max(0, remote.room_bytes - staged_bytes)
    return int(needed_bytes)


# ---- one large file over a bad line

ATTEMPTS = 5  # for an answer, and for bodies in a row that bring less than PROGRESS_BYTES
PROGRESS_BYTES = 1_000_000
BACKOFF_S = 1.0  # doubled each time, plus as much again by chance
RETRY_AFTER_MAX_S = 120  # a server may ask for hours; it is better to stop then
TIMEOUT_S = (10.0, 60.0)  # to connect; without a single byte


def resume_download(url: str, part: Path, advice: str, checksummed: bool = False) -> bool:
    """Bring the bytes at `url` to `part`, continuing where an earlier attempt or call stopped.

    A note beside it (`<part>.json`) holds address, validator (RFC 9110: a strong ETag or
    Last-Modified) and length: the rest is asked for on condition that the file is still the same
    (`If-Range`). `checksummed`: the caller compares a checksum, so that bytes may be joined without
    a validator and across mirrors. Returns whether the bytes came in pieces. Raises `Gz2vitError`,
    with `advice`, where they cannot be had; what has come is kept.
    """
    note_path = part.with_name(f"{part.name}.json")
    in_pieces, failures, best = False, 0, 0
    retries = Retry(  # asks again when no answer or a transient error comes
        total=ATTEMPTS - 1,
        redirect=False,  # requests follows redirects by itself
        status_forcelist=(429, 500, 502, 503, 504),
        backoff_factor=BACKOFF_S,
        backoff_jitter=BACKOFF_S,
        retry_after_max=RETRY_AFTER_MAX_S,
        raise_on_status=False,
    )
    name = part.name.strip(".")
    with tqdm(desc=name, unit="B", unit_scale=True) as bar, requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=retries))
        # A compressed answer would have another length, and other bytes than the checksum is of.
        session.headers["Accept-Encoding"] = "identity"
        while failures < ATTEMPTS:
            note, size = _read_note(note_path), part.stat().st_size if part.exists() else 0
            same_url = note.get("url") == url
            if size and size == note.get("length") and (same_url or checksummed):
                return True
            validator = note.get("validator", "") if same_url else ""
            joins = bool(size and note and (validator or checksummed))
            headers = {"Range": f"bytes={size}-"} if joins else {}
            headers |= {"If-Range": validator} if joins and validator else {}
            try:
                response = session.get(url, headers=headers, stream=True, timeout=TIMEOUT_S)
            except requests.RequestException as error:
                problem = f"no answer ({type(error).__name__})"
                raise Gz2vitError(f"cannot download {url}: {problem}; {advice}") from error
            with response:
                status, answered = response.status_code, response.headers
                if joins and status in (206, 416):
                    content_range = answered.get("Content-Range", "")
                    stated = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+)", content_range)
                    length = int(stated[2]) if stated else None
                    if status == 416 and length == size:
                        return True
                    fits = stated is not None and stated[1] == str(size)
                    fits = fits and note["length"] in (None, length)
                    fits = fits and validator in ("", _validator(response))
                elif status == 200:
                    content_length = answered.get("Content-Length", "")
                    length = int(content_length) if content_length.isdecimal() else None
                    size, fits = 0, True
                else:
                    problem = f"the answer is {status} {response.reason}".strip()
                    raise Gz2vitError(f"cannot download {url}: {problem}; {advice}")
                if fits:
                    in_pieces = size > 0
                    bar.total, bar.n = length, size
                    require_room(part.parent, (length or 0) - size, f"the rest of {url}")
                    found = {"url": url, "validator": _validator(response), "length": length}
                    write_json(note_path, found)
                    problem = _append(response, part, size, bar)
                    if not problem and length in (None, part.stat().st_size):
                        return in_pieces
                else:
                    problem = "the rest that came belongs to another file"
                    part.unlink()
            size = part.stat().st_size if part.exists() else 0
            failures = 1 if size >= best + PROGRESS_BYTES else failures + 1
            best = max(best, size)
            if failures < ATTEMPTS:
                time.sleep(BACKOFF_S * 2 ** (failures - 1) * random.uniform(1, 2))
    problem = problem or "it ended too early"
    raise Gz2vitError(f"cannot download {url}: it failed {failures} times ({problem}); {advice}")


def _append(response: requests.Response, part: Path, size: int, bar: tqdm) -> str:
    """Write the body after the first `size` bytes of `part`; why it broke off, or ""."""
    with writing(part), part.open("ab" if size else "wb") as stream:
        while True:
            try:
                piece = response.raw.read1(CHUNK_BYTES, decode_content=False)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                return type(error).__name__
            if not piece:
                return ""
            stream.write(piece)
            stream.flush()  # so that a killed process loses nothing that came
            bar.update(len(piece))


def _read_note(path: Path) -> dict[str, Any]:
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        return {name: note[name] for name in ("url", "validator", "length")}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _validator(response: requests.Response) -> str:
    """What tells this version of the file from another: a strong ETag, Last-Modified, or ""."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


# ---- one file of Galaxy Zoo 2


class WrongContent(Exception):
    """A file is not what it should be; its text says why."""


def bring_file(remote: RemoteFile, directory: Path, mirror: str | Path | None) -> str:
    """Have `remote` in its place, verified and recorded; one line on what was done.

    A file whose size and time have not changed since its record was written is trusted, so that
    3.4 GB are hashed once. Raises `Gz2vitError` where it cannot be had, or where another file is
    in its place.
    """
    path, record_path = remote.path(directory), remote.record_path(directory)
    record = read_json(record_path) if record_path.exists() else {}
    advice = f"try again later, name another source with --mirror, or put a copy at {path}"
    if record and not remote.checksum:
        advice += f"; if the change is wanted, delete {record_path}"
    source, part, in_pieces = remote.source(mirror), remote.part(directory), False
    if path.is_file():
        status = path.stat()
        if (record.get("bytes"), record.get("mtime_ns")) == (status.st_size, status.st_mtime_ns):
            return f"{remote.name}: {status.st_size:,} bytes, already there"
        source = record.get("source", "a copy that was there")
        try:
            found = verify(path, remote, record)
        except WrongContent as error:
            raise Gz2vitError(
                f"{path} is not the published file: {error}; move it away and run the same command "
                f"again, or {advice}"
            ) from error
    while not path.is_file():
        if source.startswith(("http://", "https://")):
            in_pieces = resume_download(source, part, advice, bool(remote.checksum))
        elif Path(source).is_file():
            require_room(part.parent, Path(source).stat().st_size, f"the copy of {source}")
            with writing(part):
                shutil.copyfile(source, part)
        else:
            raise Gz2vitError(f"the mirror has no file {source}; {advice}")
        try:
            found = verify(part, remote, record)
        except WrongContent as error:
            part.unlink()
            if in_pieces:  # a server may have mixed them up: once more in one piece
                continue
            raise Gz2vitError(
                f"{source} is not the published {remote.name}: {error}; not kept: {advice}"
            ) from error
        with atomic_path(path) as temporary:
            shutil.move(part, temporary)  # not a rename where the folder is on another disk
        part.with_name(f"{part.name}.json").unlink(missing_ok=True)
    now, status = datetime.now(UTC).isoformat(timespec="seconds"), path.stat()
    known = record.get("sha256") == found.get("sha256") and "first_seen" in record
    origin = {"name": remote.name, "source": source, **found, "verified": now}
    origin |= {"first_seen": record["first_seen"] if known else now}
    write_json(record_path, origin | {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns})
    how = f"verified ({remote.checksum})"
    if not remote.checksum:
        how = f"sha256:{found['sha256']}, {'as when first seen' if record else 'first seen'}"
    return f"{remote.name}: {status.st_size:,} bytes, {how}"


def verify(path: Path, remote: RemoteFile, record: Mapping[str, Any]) -> dict[str, str]:
    """The checksums of `path` if it is `remote`; raises `WrongContent`.

    Without a published checksum its rows and columns are looked at, and the sha256 of the copy that
    was first seen (`record`) must not change.
    """
    algorithm, _, published = remote.checksum.partition(":")
    if published:
        found = pooch.file_hash(str(path), alg=algorithm)
        if found != published:
            raise WrongContent(f"its {algorithm} is {found}, published is {published}")
        return {algorithm: found}
    try:
        # read to its end, where a compressed file's own checksum is
        with pd.read_csv(path, usecols=list(remote.columns), dtype=str, chunksize=50_000) as pieces:
            rows = sum(map(len, pieces))
    except (OSError, EOFError, zlib.error, ValueError) as error:
        with path.open("rb") as stream:
            is_page = re.match(rb"\s*<(!doctype|html)", stream.read(64), re.IGNORECASE)
        hint = "it looks like a web page, " if is_page else ""
        raise WrongContent(f"{hint}it cannot be read ({shorten(str(error), 120)})") from error
    if rows != remote.entries:
        raise WrongContent(f"it holds {rows:,} rows instead of {remote.entries:,}")
    found = pooch.file_hash(str(path), alg="sha256")
    if record.get("sha256") not in (None, found):
        seen = f"the copy first seen on {record.get('first_seen')} had {record['sha256']}"
        raise WrongContent(f"its sha256 is {found}, but {seen}")
    return {"sha256": found}


# ---- the folder of images


def image_names(folder: Path) -> set[str]:
    """Names `<digits>.jpg` in a folder; empty where there is no folder."""
    names = os.listdir(folder) if folder.is_dir() else []
    return {name for name in names if IMAGE_NAME.fullmatch(name)}


def _expected_images(directory: Path, remote: RemoteFile) -> int:
    """How many images were brought, or are published; the zip is not needed for that."""
    path = directory / "downloads" / "images.record.json"
    if not path.exists():
        return remote.entries
    count = read_json(path).get("images")
    if not isinstance(count, int) or count < 1:
        raise Gz2vitError(f"{path} does not say how many images; delete it")
    return count


def _find_images(path: Path) -> Path:
    """The zip at `path`, or the folder in it that holds `<digits>.jpg`, resolved."""
    path = Path(path).expanduser().resolve()
    if path.is_file() and zipfile.is_zipfile(path):
        return path
    for subfolder in (".", "images", "images_gz2/images"):
        if image_names(path / subfolder):
            return (path / subfolder).resolve()
    raise Gz2vitError(
        f"{path} is neither a zip nor a folder with images <digits>.jpg (nor has it a folder "
        "images or images_gz2/images with them); correct --images"
    )


def _bring_images(
    directory: Path, remote: RemoteFile, mirror: str | Path | None, own: Path | None
) -> None:
    """Have `images/`: a link to the folder `own`, or unpacked from a zip, `own` or published."""
    target = directory / "images"
    there = image_names(target)
    if own is not None and own.is_dir():
        names = image_names(own)
        _check_cover(directory, names, own)
        if target.resolve() != own:
            _refuse_link(target)
            if target.exists() and any(target.iterdir()):
                raise Gz2vitError(
                    f"{target} is there already and is not empty; move it away, or choose another "
                    "folder with --to"
                )
            with writing(target):
                if target.exists():
                    target.rmdir()
                target.symlink_to(own)
        origin = {"source": str(own), "images": len(names)}
        done = f"{len(names):,} in {own}, {target} is a link to it"
    elif len(there) >= _expected_images(directory, remote):
        if own is not None:
            _check_cover(directory, there, target)
        print(f"images: {len(there):,} already there", flush=True)
        return
    else:
        _refuse_link(target)  # before 3.4 GB are on their way
        if own is None:
            print(bring_file(remote, directory, mirror), flush=True)
        path = own or remote.path(directory)
        origin = {"source": str(own or remote.source(mirror)), **_unpack(path, directory, remote)}
        if own is not None:
            origin["md5"] = pooch.file_hash(str(own), alg="md5")
        done = f"{origin['images']:,} unpacked into {target}"
        done += f" ({origin['skipped']:,} other files were left out)" if origin["skipped"] else ""
    write_json(directory / "downloads" / "images.record.json", origin)
    print(f"images: {done}", flush=True)


def _refuse_link(target: Path) -> None:
    """Raise `Gz2vitError` if `images/` is a link: its folder is not ours to write into."""
    if target.is_symlink():
        raise Gz2vitError(
            f"{target} is a link to {os.readlink(target)} with {len(image_names(target)):,} "
            "images; remove the link, or choose another folder with --to"
        )


def _check_cover(directory: Path, names: set[str], source: Path) -> None:
    """Raise `Gz2vitError` if a galaxy of the label tables has no image in `names`."""
    galaxy_ids = [name for table in label_tables(directory).values() for name in table.galaxyID]
    missing = [galaxy_id for galaxy_id in galaxy_ids if f"{galaxy_id}.jpg" not in names]
    if missing:
        raise Gz2vitError(
            f"{source} has no image of {len(missing):,} of the {len(galaxy_ids):,} galaxies in the "
            f"label tables of {directory}, the first is {missing[0]}.jpg; name other images with "
            "--images"
        )


def _unpack(path: Path, directory: Path, remote: RemoteFile) -> dict[str, int]:
    """Write the images of a zip into `images/`; {"images", "skipped"}.

    Nothing of a member's path is used but its last part, and that only where it is digits and
    `.jpg`, so that a path that climbs (`../`) or is absolute leads nowhere. Each image is written
    under a hidden name, its CRC checked, and renamed; those that are there already stay. Raises
    `Gz2vitError` for too few images, a labelled galaxy without one, more than the images can have,
    a damaged member, and a file of an image's name and another size, which is not ours to replace.
    """
    target, members, skipped = directory / "images", {}, 0
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                name = member.filename.rpartition("/")[2]
                is_link = stat.S_ISLNK(member.external_attr >> 16)
                is_mac = "__MACOSX" in member.filename.split("/")
                if is_link or is_mac or not IMAGE_NAME.fullmatch(name):
                    skipped += not member.is_dir()
                    continue
                first = members.setdefault(name, member)
                if (first.CRC, first.file_size) != (member.CRC, member.file_size):
                    raise zipfile.BadZipFile(f"{name} is in it twice, with different content")
            if len(members) < remote.entries:
                raise Gz2vitError(
                    f"{path} holds {len(members):,} images <digits>.jpg instead of "
                    f"{remote.entries:,}; name another zip or a folder with --images"
                )
            _check_cover(directory, set(members), path)
            sizes = {name: (target / name).stat().st_size for name in image_names(target)}
            missing = {name: one for name, one in members.items() if not sizes.get(name)}
            for name in sizes.keys() & members.keys() - missing.keys():
                if sizes[name] != members[name].file_size:
                    raise Gz2vitError(
                        f"{target / name} is there already and is not the archive's image of that "
                        "name; move it away or choose another folder with --to"
                    )
            cap_bytes = CAP_FACTOR * UNPACKED_PER_ZIPPED * remote.room_bytes
            total_bytes = sum(member.file_size for member in members.values())
            if total_bytes > cap_bytes:
                raise Gz2vitError(
                    f"{path} would unpack to {total_bytes / 1e9:.3g} GB, more than the "
                    f"{cap_bytes / 1e9:.3g} GB that Galaxy Zoo 2's images can have; give another"
                )
            missing_bytes = sum(member.file_size for member in missing.values())
            require_room(directory, missing_bytes, f"unpacking {path}")
            staged = target / ".incoming"
            with writing(target):
                target.mkdir(parents=True, exist_ok=True)
                try:
                    for name, member in tqdm(missing.items(), desc="unpack images", unit="image"):
                        with archive.open(member) as source, staged.open("wb") as stream:
                            shutil.copyfileobj(source, stream, CHUNK_BYTES)
                        os.replace(staged, target / name)
                finally:
                    staged.unlink(missing_ok=True)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise Gz2vitError(
            f"{path} is damaged ({error}); move it away and run the same command again, or give "
            "another zip"
        ) from error
    return {"images": len(members), "skipped": skipped}
