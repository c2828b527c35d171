"""Zips, friendly and hostile, unpacked into a folder and nowhere else."""

import io
import os
import stat
import warnings
import zipfile
from pathlib import Path

import pytest

from gz2vit import download as module
from gz2vit.download import image_members, image_names, unpack
from gz2vit.io import Gz2vitError
from tests.unit.file_server import IMAGES, ZIP, zip_of

CAP = 10_000_000


def opened(content: bytes) -> zipfile.ZipFile:
    archive = zipfile.ZipFile(io.BytesIO(content))
    archive.filename = "a.zip"
    return archive


def tree(folder: Path) -> set[str]:
    """All files and folders below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_every_image_and_nothing_else(tmp_path: Path):
    unpack(opened(ZIP), tmp_path / "images", CAP)
    assert tree(tmp_path / "images") == set(IMAGES)
    for name, content in IMAGES.items():
        assert (tmp_path / "images" / name).read_bytes() == content
    unpack(opened(ZIP), tmp_path / "images", CAP)


def link(name: str) -> zipfile.ZipInfo:
    """A member that is a symbolic link."""
    member = zipfile.ZipInfo(name)
    member.create_system = 3
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


def test_no_member_leaves_the_folder(tmp_path: Path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in (
            "../evil.jpg",
            "../../1.jpg",
            "/2.jpg",
            "C:\\3.jpg",
            "..\\4.jpg",
            "5.jpg/../../../6.jpg",
            "__MACOSX/7.jpg",
            "a/__MACOSX/8.jpg",
            "._9.jpg",
            "10.JPG",
            "11.jpg.exe",
            "x12.jpg",
            "١٣.jpg",
            "14.jpg\n",
            "readme.txt",
        ):
            archive.writestr(name, b"content")
        archive.writestr(link("15.jpg"), "/etc/passwd")
        archive.writestr("16.jpg/", b"")
    folder = tmp_path / "deep" / "down" / "images"
    unpack(opened(stream.getvalue()), folder, CAP)
    assert tree(folder) == {"1.jpg", "2.jpg", "6.jpg"}
    assert tree(tmp_path) - tree(folder) == {"deep", "deep/down", "deep/down/images"} | {
        f"deep/down/images/{name}" for name in tree(folder)
    }
    assert image_members(opened(stream.getvalue()))[1] == 13


def test_a_name_that_is_there_twice():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("a/1.jpg", b"same")
        archive.writestr("b/1.jpg", b"same")
    assert list(image_members(opened(stream.getvalue()))[0]) == ["1.jpg"]
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("c/1.jpg", b"else")
    with pytest.raises(zipfile.BadZipFile, match="1.jpg is in it twice, with different content"):
        image_members(opened(stream.getvalue()))


def stored(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def test_a_damaged_member_gets_no_name(tmp_path: Path):
    spoilt = stored("images/1.jpg", b"content").replace(b"content", b"c0ntent")
    with pytest.raises(Gz2vitError, match=r"a.zip is damaged at 'images/1.jpg' \(Bad CRC-32"):
        unpack(opened(spoilt), tmp_path / "images", CAP)
    assert image_names(tmp_path / "images") == set()
    unpack(opened(stored("images/1.jpg", b"content")), tmp_path / "images", CAP)
    assert tree(tmp_path / "images") == {"1.jpg"}


def test_an_encrypted_member_is_refused(tmp_path: Path):
    content = bytearray(stored("1.jpg", b"content"))
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(Gz2vitError, match="a.zip is damaged at '1.jpg'.*encrypted"):
        unpack(opened(bytes(content)), tmp_path / "images", CAP)


def test_a_bomb_is_refused_before_it_is_opened(tmp_path: Path):
    bomb = zip_of({f"{name}.jpg": bytes(1_000_000) for name in range(5)})
    assert len(bomb) < 10_000
    with pytest.raises(Gz2vitError, match="would unpack to 0.005 GB, more than the 0.0049 GB"):
        unpack(opened(bomb), tmp_path / "images", 4_900_000)
    assert not (tmp_path / "images").exists()


def test_too_little_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def no_room(folder: Path, needed_bytes: int, purpose: str) -> None:
        raise Gz2vitError(f"{needed_bytes} for {purpose}")

    monkeypatch.setattr(module, "require_room", no_room)
    total = sum(map(len, IMAGES.values()))
    with pytest.raises(Gz2vitError, match=f"{total} for unpacking a.zip"):
        unpack(opened(ZIP), tmp_path / "images", CAP)


def test_an_interrupted_extraction_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written: list[str] = []
    unpack_one = module._unpack_one

    def stopped(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
        if len(written) == 5:
            target.write_bytes(b"half an ima")
            raise KeyboardInterrupt
        unpack_one(archive, member, target)
        written.append(target.name)

    monkeypatch.setattr(module, "_unpack_one", stopped)
    with pytest.raises(KeyboardInterrupt):
        unpack(opened(ZIP), tmp_path, CAP)
    assert image_names(tmp_path) == set(written)
    untouched = {name: (tmp_path / name).stat().st_mtime_ns for name in written}
    os.truncate(tmp_path / written.pop(), 0)  # what a crash of the machine can leave
    monkeypatch.setattr(module, "_unpack_one", unpack_one)
    unpack(opened(ZIP), tmp_path, CAP)
    assert tree(tmp_path) == set(IMAGES)
    assert all((tmp_path / name).read_bytes() == content for name, content in IMAGES.items())
    assert all((tmp_path / name).stat().st_mtime_ns == untouched[name] for name in written)


def test_images_of_another_origin_are_left_alone(tmp_path: Path):
    (tmp_path / "103.jpg").write_bytes(b"mine")
    with pytest.raises(Gz2vitError, match="103.jpg is there already and is not the archive's"):
        unpack(opened(ZIP), tmp_path, CAP)
    assert tree(tmp_path) == {"103.jpg"}
    assert (tmp_path / "103.jpg").read_bytes() == b"mine"
