"""The table of a long prediction, written in parts, so that an interrupted run continues.

Beside a table `OUT` stands, while it is made, the folder `OUT.parts`: `run.json`, what the run is;
`images.txt`, its images; and one file for each part, in the table's own format, written whole or
not at all. Given again, the same run keeps its whole parts. At the end they are joined, one at a
time, and the folder goes.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from gz2vit.errors import Gz2vitError
from gz2vit.evaluation import PROBABILITY_COLUMNS
from gz2vit.results import atomic_path, read_json, sole_user, write_json
from gz2vit.training.image_list import read_list, write_list

PART_IMAGES = 2048  # what an interruption may cost: some half a minute of the paper's network
GROUP = 32  # parts in one row group of a Parquet file: 65,536 rows
COLUMNS = ("path", "GalaxyID", "pred", "class_name", *PROBABILITY_COLUMNS)
BROKEN_COLUMNS = ("path", "fault")
SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("GalaxyID", pa.string()),
        ("pred", pa.int64()),
        ("class_name", pa.string()),
        *((name, pa.float64()) for name in PROBABILITY_COLUMNS),
    ]
)
FORMATS = (".csv", ".parquet")


class OutputParts:
    """The parts of the table `out` (`.csv` or `.parquet`).

    Raises `Gz2vitError` for another ending, and where `out` exists and is not to be overwritten.
    """

    def __init__(self, out: Path, overwrite: bool = False) -> None:
        if out.suffix not in FORMATS:
            raise Gz2vitError(f"--out {out} must end in {' or '.join(FORMATS)}")
        if out.is_dir():
            raise Gz2vitError(f"--out {out} is a folder; name a file")
        if out.exists() and not overwrite:
            raise Gz2vitError(f"{out} exists already; give --overwrite or another --out")
        self.out = out
        self.folder = out.with_name(f"{out.name}.parts")
        self.broken_out = out.with_name(f"{out.name}.broken.csv")
        self.part_images = PART_IMAGES
        self.count = 0  # of images, once `begin` has counted them

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the parts for one run; `Gz2vitError` where another has them, or nothing may."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "lock").touch()
        except OSError as error:
            raise Gz2vitError(f"cannot write {self.folder}: {error.strerror or error}") from error
        with sole_user(self.folder / "lock", f"another run is writing {self.out}; wait for it"):
            try:
                yield
            finally:
                if not (self.folder / "run.json").exists():
                    shutil.rmtree(self.folder, ignore_errors=True)  # nothing has begun

    def begin(self, run: dict[str, Any], words: Sequence[str], restart: bool) -> None:
        """List the images and make the folder ready for `run`; `restart` drops what is there.

        Raises `Gz2vitError` where parts of another run, or of other images, are there.
        """
        if restart:
            self._drop()
        note = self.folder / "run.json"
        known = read_json(note) if note.exists() else None
        with atomic_path(self.folder / "images.txt") as listed:
            self.count, digest = write_list(words, listed)
            run = {**run, "part_images": self.part_images}
            run |= {"images": self.count, "images_sha256": digest}
            differing = [key for key in run if known is not None and known.get(key) != run[key]]
            if differing:
                raise Gz2vitError(
                    f"{self.folder} holds an unfinished run of another kind "
                    f"({', '.join(differing)} differ); give --restart to begin anew"
                )
        write_json(note, run)

    def _drop(self) -> None:
        """Remove all but the lock."""
        for path in self.folder.iterdir():
            if path.name != "lock":
                path.unlink()

    def done(self) -> int:
        """How many parts are whole: those before the first that is missing."""
        number = 0
        while self._path(number).exists():
            number += 1
        return number

    def missing_images(self) -> Iterator[str]:
        """The paths of the images from the first missing part on."""
        return read_list(self.folder / "images.txt", self.done() * self.part_images)

    def write(self, number: int, table: pd.DataFrame, broken: pd.DataFrame) -> None:
        """Write part `number` (0 the first): `COLUMNS`, and of broken images `BROKEN_COLUMNS`."""
        with atomic_path(self._path(number, "broken", ".csv")) as temporary:
            broken.to_csv(temporary, index=False, header=False)
        with atomic_path(self._path(number)) as temporary:
            if self.out.suffix == ".csv":
                table.to_csv(temporary, index=False, header=False)
            else:
                rows = pa.Table.from_pandas(table, schema=SCHEMA, preserve_index=False)
                parquet.write_table(rows, temporary)

    def _path(self, number: int, kind: str = "part", ending: str | None = None) -> Path:
        """Where the part `number` stands."""
        return self.folder / f"{kind}-{number:06d}{ending or self.out.suffix}"

    def join(self) -> int:
        """Make the table of all parts, list what is broken, remove the parts; how many are broken.

        Raises `Gz2vitError` where the parts do not hold each image once.
        """
        numbers = range(-(-self.count // self.part_images))
        parts = [self._path(number) for number in numbers]
        lists = [self._path(number, "broken", ".csv") for number in numbers]
        join = _join_text if self.out.suffix == ".csv" else _join_parquet
        with atomic_path(self.broken_out) as listed, atomic_path(self.out) as temporary:
            broken = _join_text(lists, listed, BROKEN_COLUMNS)
            rows = join(parts, temporary, COLUMNS)
            if rows + broken != self.count:
                raise Gz2vitError(
                    f"the parts in {self.folder} hold {rows + broken} images instead of "
                    f"{self.count}; give --restart to begin anew"
                )
        if not broken:
            self.broken_out.unlink()
        shutil.rmtree(self.folder)
        return broken


def _join_text(parts: Sequence[Path], target: Path, columns: Sequence[str]) -> int:
    """Join CSV files without headers under one; how many rows they have."""
    rows = 0
    with target.open("wb") as whole:
        whole.write((",".join(columns) + "\n").encode())
        for part in parts:
            text = part.read_bytes()
            rows += text.count(b"\n")  # no name in a table has a line break (`image_list`)
            whole.write(text)
    return rows


def _join_parquet(parts: Sequence[Path], target: Path, columns: Sequence[str]) -> int:
    """Join Parquet files, `GROUP` to a row group; how many rows they have."""
    rows = 0
    with parquet.ParquetWriter(target, SCHEMA) as whole:
        for start in range(0, len(parts), GROUP):
            group = [parquet.read_table(part) for part in parts[start : start + GROUP]]
            table = pa.concat_tables(group).select(list(columns))
            rows += table.num_rows
            whole.write_table(table)
    return rows
