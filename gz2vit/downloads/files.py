"""The files of Galaxy Zoo 2: where they are from, what is known of them, where they belong."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gz2vit.errors import Gz2vitError
from gz2vit.public_files import DATA_FILES

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
        name=row["name"],
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
