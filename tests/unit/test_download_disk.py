"""Full disks and missing rights as one sentence."""

from collections import namedtuple
from pathlib import Path

import pytest

from gz2vit import download as disk
from gz2vit.download import require_room, writing
from gz2vit.io import Gz2vitError

FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_a_full_disk_says_what_to_do():
    told = f"the disk is full: cannot write {FULL}; make room and run the same command again"
    with pytest.raises(Gz2vitError, match=told), writing(FULL), FULL.open("wb") as stream:
        stream.write(b"a")


def test_another_error_names_the_file(tmp_path: Path):
    told = f"cannot write {tmp_path}: Is a directory"
    with pytest.raises(Gz2vitError, match=told), writing(tmp_path):
        tmp_path.open("wb")
    with pytest.raises(ZeroDivisionError), writing(tmp_path):
        _ = 1 / 0


def test_need_and_room_in_gb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    usage = namedtuple("usage", "total used free")(0, 0, 1_500_000_000)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: usage)
    require_room(tmp_path, 1_500_000_000, "this")
    told = f"this needs 7.31 GB on the disk of {tmp_path}, which has 1.5 GB free; make room"
    with pytest.raises(Gz2vitError, match=told):
        require_room(tmp_path, 7_310_000_000, "this")
