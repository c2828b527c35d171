"""The folder `images/`: unpacked from the published zip or another one, or a link to a folder."""

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gz2vit.downloads.archive import image_members, image_names, unpack
from gz2vit.downloads.disk import writing
from gz2vit.downloads.files import RemoteFile
from gz2vit.downloads.labels import check_images_cover
from gz2vit.downloads.verify import file_checksum
from gz2vit.errors import Gz2vitError
from gz2vit.results import read_json, write_json

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
