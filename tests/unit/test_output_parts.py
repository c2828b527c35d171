"""Tables in parts: joined whole, continued by the same run only, never overwritten unasked."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gz2vit import predict as output_parts
from gz2vit.evaluation import PROBABILITY_COLUMNS
from gz2vit.io import Gz2vitError
from gz2vit.predict import BROKEN_COLUMNS, COLUMNS, OutputParts

RUN = {"model_sha256": "1234", "average": False}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(output_parts, "PART_IMAGES", 4)
    monkeypatch.setattr(output_parts, "GROUP", 2)


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A list of eleven images, one with a name that CSV must quote."""
    names = [f"sky/{number:02d}.jpg" for number in range(10)]
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join([*names, 'a "b", c.png']))
    return [f"@{listed}"]


def table(paths: list[str]) -> pd.DataFrame:
    """Predictions of `paths`, with all the digits that a float can have."""
    values = np.random.default_rng(len(paths[0])).dirichlet(np.ones(8), len(paths))
    frame = pd.DataFrame({"path": paths, "GalaxyID": [Path(path).stem for path in paths]})
    frame = frame.assign(pred=values.argmax(axis=1), class_name="Merger")
    return frame.assign(**dict(zip(PROBABILITY_COLUMNS, values.T, strict=True)))


def fill(parts: OutputParts) -> pd.DataFrame:
    """Make all missing parts; the second image of each is broken. All that is whole."""
    images, written = list(parts.missing_images()), []
    for number in range(parts.done(), -(-parts.count // 4)):
        paths, images = images[:4], images[4:]
        broken = pd.DataFrame([(paths[1], 'image, it\'s "broken"')], columns=BROKEN_COLUMNS)
        written.append(table([paths[0], *paths[2:]]))
        parts.write(number, written[-1], broken)
    return pd.concat(written, ignore_index=True)


def read(path: Path) -> pd.DataFrame:
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    kinds = {"pred": int, **dict.fromkeys(PROBABILITY_COLUMNS, float)}
    return pd.read_csv(path, dtype=str).astype(kinds)  # read_csv's own floats may lose a digit


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_parts_are_joined_without_losing_a_digit(tmp_path: Path, words: list[str], name: str):
    parts = OutputParts(tmp_path / name)
    with parts.locked():
        parts.begin(RUN, words, restart=False)
        whole = fill(parts)
        assert parts.join() == 3
    saved = read(tmp_path / name)
    assert tuple(saved.columns) == COLUMNS
    pd.testing.assert_frame_equal(saved, whole, check_exact=True, check_dtype=False)
    assert saved.pred.dtype == np.int64
    broken = pd.read_csv(tmp_path / f"{name}.broken.csv")
    assert broken.path.tolist() == ["sky/01.jpg", "sky/05.jpg", "sky/09.jpg"]
    assert set(broken.fault) == {'image, it\'s "broken"'}
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"list.txt", name, f"{name}.broken.csv"}


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_a_part_of_broken_images_alone_has_no_rows(tmp_path: Path, words: list[str], name: str):
    parts = OutputParts(tmp_path / name)
    with parts.locked():
        parts.begin(RUN, words, restart=False)
        for number in range(3):
            paths = list(parts.missing_images())[:4]
            faults = pd.DataFrame({"path": paths, "fault": "is missing"})
            parts.write(number, table(paths)[:0], faults)
        assert parts.join() == 11
    assert read(tmp_path / name).empty


def test_no_list_of_broken_images_where_none_is(tmp_path: Path):
    (tmp_path / "list.txt").write_text("a.jpg\nb.jpg")
    (tmp_path / "out.csv.broken.csv").write_text("of an earlier run")
    parts = OutputParts(tmp_path / "out.csv")
    with parts.locked():
        parts.begin(RUN, [f"@{tmp_path / 'list.txt'}"], restart=False)
        parts.write(0, table(["a.jpg", "b.jpg"]), pd.DataFrame(columns=BROKEN_COLUMNS))
        assert parts.join() == 0
    assert not (tmp_path / "out.csv.broken.csv").exists()


def begin(tmp_path: Path, words: list[str], restart: bool = False, **change: object) -> int:
    """Begin a run, make its first two parts if there are none; the parts that were there."""
    parts = OutputParts(tmp_path / "out.csv")
    with parts.locked():
        parts.begin(RUN | change, words, restart)
        done = parts.done()
        if not done:
            fill(parts)
            (parts.folder / "part-000002.csv").unlink()
    return done


def test_the_same_run_continues_and_another_is_refused(tmp_path: Path, words: list[str]):
    assert begin(tmp_path, words) == 0
    assert begin(tmp_path, words) == 2
    with pytest.raises(Gz2vitError, match=r"out.csv.parts .* kind \(average differ\).* --restart"):
        begin(tmp_path, words, average=True)
    (tmp_path / "list.txt").write_text("another.jpg\n" * 11)
    with pytest.raises(Gz2vitError, match=r"\(images_sha256 differ\)"):
        begin(tmp_path, words)
    assert begin(tmp_path, words, restart=True, average=True) == 0
    assert begin(tmp_path, words, average=True) == 2


def test_parts_that_do_not_add_up_are_no_table(tmp_path: Path, words: list[str]):
    parts = OutputParts(tmp_path / "out.csv")
    with parts.locked():
        parts.begin(RUN, words, restart=False)
        fill(parts)
        part = parts.folder / "part-000001.csv"
        part.write_text("".join(part.read_text().splitlines(keepends=True)[:-1]))
        with pytest.raises(Gz2vitError, match="hold 10 images instead of 11; give --restart"):
            parts.join()
    assert not (tmp_path / "out.csv").exists()
    assert not (tmp_path / "out.csv.broken.csv").exists()


def test_one_run_at_a_time(tmp_path: Path, words: list[str]):
    first, second = OutputParts(tmp_path / "out.csv"), OutputParts(tmp_path / "out.csv")
    with first.locked():
        first.begin(RUN, words, restart=False)
        with pytest.raises(Gz2vitError, match="another run is writing .*out.csv"), second.locked():
            pass
        assert (first.folder / "run.json").exists()


def test_what_may_not_be_written_is_refused_before_any_work(tmp_path: Path):
    with pytest.raises(Gz2vitError, match="out.txt must end in .csv or .parquet"):
        OutputParts(tmp_path / "out.txt")
    (tmp_path / "out.csv").write_text("precious")
    with pytest.raises(Gz2vitError, match="out.csv exists already; give --overwrite"):
        OutputParts(tmp_path / "out.csv")
    OutputParts(tmp_path / "out.csv", overwrite=True)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(Gz2vitError, match="folder.csv is a folder; name a file"):
        OutputParts(tmp_path / "folder.csv", overwrite=True)
    (tmp_path / "folder.csv").rmdir()
    parts = OutputParts(tmp_path / "out.csv" / "new.csv")
    told = "cannot write .*new.csv.parts: Not a dir"
    with pytest.raises(Gz2vitError, match=told), parts.locked():
        pass
    parts = OutputParts(tmp_path / "new.csv")
    with pytest.raises(Gz2vitError, match="does not exist"), parts.locked():
        parts.begin(RUN, [str(tmp_path / "none")], restart=False)
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]
