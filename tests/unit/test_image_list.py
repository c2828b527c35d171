"""Lists of images: found in any folder, always in the same order, whole or refused."""

import hashlib
import io
import os
from pathlib import Path

import pytest

from gz2vit import predict as image_list
from gz2vit.io import Gz2vitError
from gz2vit.predict import find_images, read_list, write_list


def touch(folder: Path, *names: str) -> Path:
    """Empty files in `folder`; the folder."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def found(*words: Path | str) -> list[str]:
    return list(find_images(map(str, words)))


def test_folders_are_searched_files_first_by_name(tmp_path: Path):
    touch(tmp_path, "b.jpg", "a.JPEG", "c.png", "z/2.jpg", "z/10.jpg", "d/e/1.jpg", "notes.txt")
    touch(tmp_path, ".hidden.jpg", ".folder/1.jpg", "folder.jpg/1.png")
    names = ["a.JPEG", "b.jpg", "c.png", "d/e/1.jpg", "folder.jpg/1.png", "z/10.jpg", "z/2.jpg"]
    assert found(tmp_path) == [f"{tmp_path}/{name}" for name in names]


def test_many_names_are_sorted_in_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    names = [f"{number * 37 % 101}.jpg" for number in range(101)]
    touch(tmp_path, *names, "sub/1.jpg")
    at_once = found(tmp_path)
    monkeypatch.setattr(image_list, "RUN", 7)
    monkeypatch.setattr(image_list, "CHUNK", 3)
    put_aside = []
    plain = image_list._put_aside
    monkeypatch.setattr(
        image_list, "_put_aside", lambda run, file: plain(put_aside.append(run) or run, file)
    )
    assert found(tmp_path) == at_once
    assert at_once == [*(f"{tmp_path}/{name}" for name in sorted(names)), f"{tmp_path}/sub/1.jpg"]
    assert len(put_aside) == 14  # 102 entries in runs of 7, the last of them kept in memory
    assert max(map(len, put_aside)) == 7


def test_a_link_to_a_folder_above_is_passed_over(tmp_path: Path):
    touch(tmp_path, "home/1.jpg", "other/2.jpg")
    (tmp_path / "home" / "linked").symlink_to(tmp_path / "other")
    (tmp_path / "home" / "round").symlink_to(tmp_path / "home")
    home = tmp_path / "home"
    assert found(home) == [f"{home}/1.jpg", f"{home}/linked/2.jpg"]


def test_images_and_lists_keep_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    touch(tmp_path, "b.jpg", "a.tif")
    listed = tmp_path / "list.txt"
    listed.write_text("some/2.jpg\r\n\n  \nsome/1.jpg")
    monkeypatch.setattr("sys.stdin", io.StringIO("x.jpg\ny.jpg\n"))
    words = (tmp_path / "b.jpg", f"@{listed}", tmp_path / "a.tif", "-")
    expected = [words[0], "some/2.jpg", "some/1.jpg", words[2], "x.jpg", "y.jpg"]
    assert found(*words) == [str(path) for path in expected]


def test_a_list_on_disk_says_what_it_holds(tmp_path: Path):
    touch(tmp_path, "é,1.jpg", "b.jpg", "c.jpg")
    target = tmp_path / "images.txt"
    count, digest = write_list([str(tmp_path)], target)
    assert count == 3
    assert digest == hashlib.sha256(target.read_bytes()).hexdigest()
    assert list(read_list(target)) == found(tmp_path)
    assert list(read_list(target, 2)) == [f"{tmp_path}/é,1.jpg"]


@pytest.mark.parametrize("name", ["a\nb.jpg", "a\rb.jpg", os.fsdecode(b"\xff.jpg")])
def test_a_name_that_no_table_can_hold_is_refused(tmp_path: Path, name: str):
    touch(tmp_path / "in", "0.jpg", name)
    with pytest.raises(Gz2vitError, match="has no name that fits into a table; rename it"):
        write_list([str(tmp_path / "in")], tmp_path / "images.txt")


def test_what_is_not_there_is_said(tmp_path: Path):
    for word in (tmp_path / "none", tmp_path / "none.jpg"):
        with pytest.raises(Gz2vitError, match=f"{word} does not exist"):
            found(word)
    with pytest.raises(Gz2vitError, match=f"cannot read the list of images @{tmp_path}/list"):
        found(f"@{tmp_path}/list")
    touch(tmp_path / "empty", "a.fits")
    with pytest.raises(Gz2vitError, match=f"there is no image .* in {tmp_path}/empty"):
        write_list([str(tmp_path / "empty")], tmp_path / "images.txt")
