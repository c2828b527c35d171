"""The table of files: it says what the published facts say, and where to take a file from."""

import json
from pathlib import Path

import pytest

from gz2vit import paper
from gz2vit.download import FILES, address_of, choose_mirror, wanted_kinds
from gz2vit.io import Gz2vitError
from tests.unit.folders import needs_shared

IMAGES = FILES["images"][0]


def test_every_file_is_described():
    for what, remotes in FILES.items():
        for remote in remotes:
            assert remote.url.startswith("https://")
            assert remote.url.endswith(f"/{remote.name}")
            assert remote.entries > 0
            assert remote.room_bytes > 0
            assert len(remote.checksum) == {"": 0, "md5": 32, "sha256": 64}[remote.algorithm]
            assert bool(remote.columns) != remote.is_archive
            assert remote.is_archive == (what == "images") == (remote.unpacked_bytes > 0)


def test_label_tables_have_the_published_rows():
    rows = {remote.name: remote.entries for remote in FILES["labels"]}
    for split, counts in paper.SPLIT_CLASS_COUNTS.items():
        assert rows[f"gz2_{split}.csv"] == sum(counts)
    assert [what for what in FILES][-1] == "images"


def test_facts_are_those_at_hand():
    facts = json.loads(needs_shared("paper/facts.json").read_text())
    sources, tables = facts["sources"], facts["label_tables"]["files"]
    for what in ("images", "mapping", "votes", "properties"):
        (remote,) = FILES[what]
        assert remote.url == sources[what]["url"]
        assert remote.checksum == sources[what].get("md5", "")
        assert remote.entries == sources[what].get("rows", sources[what].get("images"))
    assert set(sources["properties"]["columns"]) < set(FILES["properties"][0].columns)
    assert FILES["votes"][0].columns == (sources["votes"]["key"],)
    assert {remote.name: remote.checksum for remote in FILES["labels"]} == {
        name: table["sha256"] for name, table in tables.items()
    }


def test_places(tmp_path: Path):
    assert IMAGES.path(tmp_path) == tmp_path / "downloads" / "images_gz2.zip"
    assert FILES["labels"][0].path(tmp_path) == tmp_path / "gz2_train.csv"
    record = tmp_path / "downloads" / "gz2_train.csv.record.json"
    assert FILES["labels"][0].record_path(tmp_path) == record


def test_kinds_come_in_their_order():
    assert wanted_kinds(()) == ("labels", "mapping", "votes", "properties", "images")
    assert wanted_kinds(("images", "votes", "images")) == ("votes", "images")
    with pytest.raises(Gz2vitError, match="no 'vots' to download; choose from labels, mapping"):
        wanted_kinds(("vots",))


def test_mirrors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("GZ2VIT_MIRROR", raising=False)
    assert choose_mirror(None) is None
    assert address_of(IMAGES, None) == IMAGES.url
    monkeypatch.setenv("GZ2VIT_MIRROR", "https://mirror.example/gz2/")
    from_outside = choose_mirror(None)
    assert address_of(IMAGES, from_outside) == "https://mirror.example/gz2/images_gz2.zip"
    assert address_of(IMAGES, choose_mirror(str(tmp_path))) == tmp_path / "images_gz2.zip"
    for wrong in ("nowhere", "ftp://mirror.example"):
        with pytest.raises(Gz2vitError, match=f"the mirror {wrong} is neither a folder nor"):
            choose_mirror(wrong)
