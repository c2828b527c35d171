"""The images that a long prediction is asked for: folders searched, in the same order each time.

A folder may hold a million files. Their names are sorted in runs of `RUN`, which wait in temporary
files and are merged, so that the search takes the same memory for any number.
"""

import hashlib
import heapq
import os
import pickle
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, nullcontext
from itertools import islice
from pathlib import Path
from typing import IO

from gz2vit.errors import Gz2vitError

ENDINGS = (".jpg", ".jpeg", ".png")
RUN = 50_000  # names sorted in memory at once: some 5 MB
CHUNK = 1000  # names of a run that are read back at once

Entry = tuple[bool, str]  # (is a folder, name): files come first, then folders


def find_images(words: Iterable[str]) -> Iterator[str]:
    """The paths of all images that `words` name, in an order that does not change.

    A word is an image; a folder, searched with all folders in it for `ENDINGS` (large or small
    letters; hidden files are passed over); `@FILE`, a list of images, one a line; or `-`, the same
    from the standard input. Paths begin as they were given. Raises `Gz2vitError` for a word that is
    not there.
    """
    for word in words:
        if word == "-" or word.startswith("@"):
            yield from _listed(word)
        elif os.path.isdir(word):
            yield from _search(word, ())
        elif os.path.lexists(word):
            yield word
        else:
            raise Gz2vitError(f"{word} does not exist; name images, folders of images or @LIST")


def write_list(words: Iterable[str], path: Path) -> tuple[int, str]:
    """Write the paths of all images to `path`, one a line; how many they are, and the sha256.

    Raises `Gz2vitError` as `find_images`, for a path that is no line of UTF-8 text, and where there
    is no image at all.
    """
    words, count, digest = list(words), 0, hashlib.sha256()
    with path.open("wb") as stream:
        for image in find_images(words):
            line = _line(image)
            digest.update(line)
            stream.write(line)
            count += 1
    if count == 0:
        told = " ".join(words)
        raise Gz2vitError(f"there is no image ({', '.join(ENDINGS)}) in {told}")
    return count, digest.hexdigest()


def read_list(path: Path, start: int = 0) -> Iterator[str]:
    """The paths in a list that `write_list` has written, from number `start` (0 the first) on."""
    with path.open(encoding="utf-8", newline="\n") as stream:
        for line in islice(stream, start, None):
            yield line[:-1]


def _line(image: str) -> bytes:
    """A path as a line of a list, and later of a table."""
    try:
        line = image.encode("utf-8")
    except UnicodeEncodeError:
        line = b"\n"
    if b"\n" in line or b"\r" in line:
        raise Gz2vitError(f"the image {image!r} has no name that fits into a table; rename it")
    return line + b"\n"


def _listed(word: str) -> Iterator[str]:
    """The lines, if not empty, of the list `@FILE`, or of the standard input."""
    try:
        with nullcontext(sys.stdin) if word == "-" else open(word[1:], encoding="utf-8") as stream:
            for line in stream:
                if line.strip():
                    yield line.rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Gz2vitError(f"cannot read the list of images {word}: {error}") from error


def _search(folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """The images of a folder, then those of the folders in it; `above`: who is searched already."""
    status = os.stat(folder)
    here = (status.st_dev, status.st_ino)
    if here in above:
        return  # a link to a folder that it stands in
    for is_folder, name in _sorted_entries(folder):
        path = os.path.join(folder, name)
        if is_folder:
            yield from _search(path, (*above, here))
        else:
            yield path


def _sorted_entries(folder: str) -> Iterator[Entry]:
    """Images and folders in `folder`, sorted; from memory where one run holds them all."""
    with ExitStack() as stack:
        entries, runs = _entries(folder), []
        run = sorted(islice(entries, RUN))
        while following := sorted(islice(entries, RUN)):
            runs.append(_put_aside(run, stack.enter_context(tempfile.TemporaryFile())))
            run = following
        yield from heapq.merge(run, *map(_take_back, runs))


def _entries(folder: str) -> Iterator[Entry]:
    """Images and folders in `folder`, as the system lists them."""
    try:
        with os.scandir(folder) as found:
            for entry in found:
                if entry.name.startswith("."):
                    continue
                if entry.name.lower().endswith(ENDINGS) and not entry.is_dir():
                    yield False, entry.name
                elif entry.is_dir():
                    yield True, entry.name
    except OSError as error:
        raise Gz2vitError(f"cannot search {folder}: {error.strerror or error}") from error


def _put_aside(run: list[Entry], file: IO[bytes]) -> IO[bytes]:
    """Write a sorted run to a temporary file."""
    for start in range(0, len(run), CHUNK):
        pickle.dump(run[start : start + CHUNK], file)
    return file


def _take_back(file: IO[bytes]) -> Iterator[Entry]:
    """The entries of a run that was put aside."""
    end = file.tell()
    file.seek(0)
    while file.tell() < end:
        yield from pickle.load(file)
