"""One file, from its address or a mirror to its place in the data folder, by way of staging.

Nothing stands under its final name before it is verified: a download is staged in
`downloads/.incoming/`, its checksum compared (by pooch) and its content looked at, and then
renamed. A file that is there already is verified in the same way, and never changed.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pooch
from tqdm import tqdm

from gz2vit.downloads.disk import require_room, writing
from gz2vit.downloads.files import RemoteFile, address_of
from gz2vit.downloads.transfer import CHUNK_BYTES, ResumingDownloader
from gz2vit.downloads.verify import (
    WrongContent,
    file_checksum,
    is_trusted,
    read_record,
    verify,
    write_record,
)
from gz2vit.errors import Gz2vitError
from gz2vit.results import atomic_path


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
