"""A zip of images, unpacked safely: only `<digits>.jpg`, and never outside its folder.

Nothing of a member's path is used but its last part, and that only where it is digits and `.jpg`;
so a path that climbs (`../`) or is absolute leads nowhere. Each image is written under a hidden
name, its CRC checked, and then renamed: an interrupted extraction goes on where it stopped.
"""

import os
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from tqdm import tqdm

from gz2vit.downloads.disk import require_room, writing
from gz2vit.errors import Gz2vitError

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
