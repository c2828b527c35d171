"""Galaxy Zoo 2 from its public addresses into a data folder: `python -m gz2vit download`.

The folder gets `images/<asset_id>.jpg`, the paper's label tables, and, in `downloads/`, the raw
files with a record of each: its origin, checksums, and the day on which it was first seen.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from gz2vit.downloads.disk import require_room, writing
from gz2vit.downloads.fetch import bring_file, clear_staging, staged_bytes, staging_folder
from gz2vit.downloads.files import FILES, RemoteFile, address_of, choose_mirror, wanted_kinds
from gz2vit.downloads.images import ImageFolder, find_own_images
from gz2vit.downloads.labels import check_published_split
from gz2vit.paper import SPLIT_CLASS_COUNTS
from gz2vit.results import sole_user


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
