"""The images of a data folder that cannot be used: remembered, listed, and told in one sentence.

`logs/checked.json` in the results folder remembers which state of a data folder was read and what
was found; `logs/broken_images.csv` lists the same for people. The check before a run and packing
both add to them.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from gz2vit.catalog import folder_signature
from gz2vit.errors import Gz2vitError
from gz2vit.results import atomic_path, read_json, write_json

COLUMNS = ("galaxyID", "split", "path", "fault")
NAMED = 3  # broken images that an error names; the list has them all


def broken_table(rows: Iterable[tuple[str, str, Path | str, str]] = ()) -> pd.DataFrame:
    """Broken images as a table of text: galaxyID, split, path, fault (a sentence)."""
    return pd.DataFrame([tuple(map(str, row)) for row in rows], columns=list(COLUMNS), dtype=str)


def list_path(results_dir: Path | str) -> Path:
    """Where the list for people stands."""
    return Path(results_dir) / "logs" / "broken_images.csv"


def read_broken(
    results_dir: Path | str, folder: Path | str, signature: str | None = None
) -> pd.DataFrame | None:
    """What was found broken in this state of the data folder; None where nobody has looked yet.

    `signature`: of the folder (`catalog.folder_signature`), where it is known already.
    """
    memo = _memo_path(results_dir)
    past = read_json(memo) if memo.exists() else {}
    state = (str(folder), signature or folder_signature(folder))
    if (past.get("folder"), past.get("signature")) != state or "broken" not in past:
        return None
    return broken_table([tuple(row) for row in past["broken"]])


def write_broken(
    results_dir: Path | str, folder: Path | str, signature: str, broken: pd.DataFrame
) -> None:
    """Remember `broken` as all that is broken in this state, and list it; no list for nothing."""
    if broken.empty:
        list_path(results_dir).unlink(missing_ok=True)
    else:
        with atomic_path(list_path(results_dir)) as temporary:
            broken.to_csv(temporary, index=False)
    rows = broken.to_numpy().tolist()
    memo = {"folder": str(folder), "signature": signature, "broken": rows}
    write_json(_memo_path(results_dir), memo)


def add_broken(
    results_dir: Path | str, folder: Path | str, signature: str, broken: pd.DataFrame
) -> None:
    """Add to what is known of this state of the data folder."""
    known = read_broken(results_dir, folder, signature)
    if known is not None:
        broken = pd.concat([known, broken]).drop_duplicates("galaxyID", keep="last")
    write_broken(results_dir, folder, signature, broken)


def refuse_broken(
    faults: Sequence[tuple[Path | str, str]], results_dir: Path | str | None, way_on: str
) -> None:
    """Raise `Gz2vitError` for (path, fault) pairs: the first, how many more, the list, the way on.

    Nothing happens where there are none.
    """
    if not faults:
        return
    told, others = faults[0][1], faults[1:]
    if others:
        names = ", ".join(Path(path).name for path, _ in others[: NAMED - 1])
        more = ", ..." if len(others) >= NAMED else ""
        number = "1 more file has" if len(others) == 1 else f"{len(others)} more files have"
        told += f" (and {number} faults: {names}{more})"
    where = f"; the whole list is {list_path(results_dir)}" if results_dir is not None else ""
    raise Gz2vitError(f"{told}{where}; {way_on}")


def _memo_path(results_dir: Path | str) -> Path:
    """Where a checked state is remembered."""
    return Path(results_dir) / "logs" / "checked.json"
