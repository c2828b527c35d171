"""The report's pictures: those that are there, and what to say in the place of one that is not.

A picture is a PNG in a run's `figures/`. Those of the catalogue have a title and a caption, and a
place that says how to make them; any other is shown as well, under its file's name.
"""

import base64
import io
import re
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from gz2vit.errors import Gz2vitError
from gz2vit.figures.missing import NOT_DRAWN
from gz2vit.report.catalogue import (
    DATA,
    EVIDENCE,
    INSIDE,
    KNOWN,
    OTHER,
    PAPER,
    SIMULATED,
    Known,
    kind_of,
    title_of,
)
from gz2vit.results import command_for, read_json

PROPERTIES_FILE = "galaxy_properties.csv"
WIDEST_PX = 1600  # of an embedded picture: 220 dots an inch on paper; the file itself is linked


@dataclass(frozen=True)
class Picture:
    """One picture as the page shows it, or, without `source`, the words that stand in its place.

    `source`: a data address with all of the PNG; `alt`: what it shows, in words; `links`: files
    in the results folder, relative; `width`, `height` [px].
    """

    name: str
    title: str
    caption: str
    alt: str = ""
    source: str = ""
    width: int = 0
    height: int = 0
    links: tuple[str, ...] = ()
    missing: str = ""


def find_pictures(results_dir: Path | str) -> dict[str, list[Picture]]:
    """All pictures by section, in the order of KNOWN; missing ones say what to run.

    Raises `Gz2vitError` for a file that is no picture.
    """
    folder = Path(results_dir) / "figures"
    paths = sorted(folder.glob("[!.]*.png"), key=lambda path: _natural(path.stem))
    kinds = {path: kind_of(path.stem) for path in paths}
    names = (PAPER, DATA, EVIDENCE, SIMULATED, INSIDE)
    sections: dict[str, list[Picture]] = {name: [] for name in names}
    for known in (*KNOWN, OTHER):
        found = [_read(path, known) for path in paths if kinds[path] is known]
        if not found and known.required:
            found = [_missing(Path(results_dir), known)]
        sections[known.section] += found
    return sections


def embed(png: bytes) -> str:
    """PNG bytes as a data address, so that the page needs no other file."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that puts `a2` before `a10`."""
    return [(int(part or 0), text) for text, part in re.findall(r"(\D*)(\d*)", name)]


def _read(path: Path, known: Known) -> Picture:
    """A picture's file, embedded; its words are the file's own, or else the caption.

    Of a frame that only says why something is not drawn the words alone.
    """
    try:
        with Image.open(path) as image:
            words, size = image.info.get("Description", ""), image.size
            png = _shrink(image, path.read_bytes())
    except (OSError, UnidentifiedImageError) as error:
        raise Gz2vitError(f"{path} is no picture ({error}); delete it and run again") from error
    title, caption = title_of(path.stem, known), known.caption
    files = [file.name for file in (path, path.with_suffix(".pdf")) if file.exists()]
    links = tuple(f"figures/{file}" for file in files)
    if NOT_DRAWN in words:  # words are easier to read than their picture
        return Picture(path.stem, title, caption, missing=words, links=links)
    return Picture(
        path.stem,
        title,
        caption,
        words or caption or f"The figure {path.stem}.",
        embed(png),
        *size,
        links,
    )


def _shrink(image: Image.Image, png: bytes) -> bytes:
    """The picture in at most WIDEST_PX, where that is shorter: the page stays light on a phone."""
    if image.width <= WIDEST_PX:
        return png
    height = round(image.height * WIDEST_PX / image.width)
    stream = io.BytesIO()
    smaller = image.convert("RGB").resize((WIDEST_PX, height), Image.Resampling.LANCZOS)
    smaller.save(stream, format="PNG")  # zlib's best level would save 2 % in 3 times the time
    return min(png, stream.getvalue(), key=len)


def _missing(results_dir: Path, known: Known) -> Picture:
    """The place of a picture that is not there: why, and how to make it."""
    command = command_for(results_dir.resolve() / "figures" / f"{known.step}.png", known.step)
    words = f"Not there yet: the step '{known.step}' makes it; run {command}."
    if known.needs_properties and _lacks_properties(results_dir):
        words = (
            f"Not there: the data folder has no {PROPERTIES_FILE} (galaxyID,petroR90_r,dered_r, in "
            f"arcsec and mag); put one there, then run {command}."
        )
    return Picture(known.step, known.title, known.caption, missing=words)


def _lacks_properties(results_dir: Path) -> bool:
    """Whether the run's data folder has no table of sizes and magnitudes."""
    record = results_dir / "selection" / "data.json"
    return record.exists() and not (Path(read_json(record)["folder"]) / PROPERTIES_FILE).exists()
