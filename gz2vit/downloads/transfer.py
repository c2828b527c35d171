"""A download that survives bad lines: pooch's downloader, with retries and resumption.

The bytes go to `.<name>.part`, and a note beside it (`.<name>.part.json`) says where they are from:
the address, the server's validator (RFC 9110: a strong ETag or Last-Modified) and the length. When
the connection breaks or the process is killed, the next request asks for the rest on the condition
that the file is still the same (`If-Range`).
"""

import json
import logging
import os
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.util.retry import Retry

from gz2vit.downloads.disk import require_room, writing
from gz2vit.errors import Gz2vitError
from gz2vit.results import write_json

ATTEMPTS = 5  # for an answer, and for a body in a row without PROGRESS_BYTES more of it
PROGRESS_BYTES = 1_000_000
BACKOFF_S = 1.0  # doubled each time, plus as much again by chance
RETRY_AFTER_MAX_S = 120.0  # a server may ask for hours; then it is better to stop and say so
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 60.0  # without a single byte
CHUNK_BYTES = 1 << 20
TRANSIENT_STATUSES = (429, 500, 502, 503, 504)


class _Cut(Exception):
    """A body that ended too early or does not fit what is there; it is asked for again."""


class _CappedRetry(Retry):
    """urllib3's `Retry` that never waits longer than RETRY_AFTER_MAX_S for a server's wish."""

    def get_retry_after(self, response: urllib3.BaseHTTPResponse) -> float | None:
        """Seconds that the server asks to wait for, capped."""
        asked_s = super().get_retry_after(response)
        return None if asked_s is None else min(asked_s, RETRY_AFTER_MAX_S)


def _session() -> requests.Session:
    """A session that asks again when no answer or a transient error comes."""
    retries = _CappedRetry(
        total=ATTEMPTS - 1,
        redirect=False,  # requests follows redirects by itself
        status_forcelist=TRANSIENT_STATUSES,
        backoff_factor=BACKOFF_S,
        backoff_jitter=BACKOFF_S,
        raise_on_status=False,
    )
    # Its warnings of each new attempt would tear the progress bar.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retries))
    # A compressed answer would have another length, and other bytes than the checksum is of.
    session.headers["Accept-Encoding"] = "identity"
    return session


@dataclass
class ResumingDownloader:
    """One file's transfer into `folder`; pooch calls it as `downloader(url, output_file, pooch)`.

    `advice` ends each error and says what else can be done. `checksummed`: a checksum is
    published, so that bytes of different origin may be joined: if they do not fit, it shows.
    `resumed` is true where the bytes did not come in one piece.
    """

    name: str
    folder: Path
    advice: str
    checksummed: bool
    resumed: bool = field(default=False, init=False)

    @property
    def part(self) -> Path:
        """The bytes so far."""
        return self.folder / f".{self.name}.part"

    @property
    def note_path(self) -> Path:
        """The note on where they are from."""
        return self.folder / f".{self.name}.part.json"

    def __call__(self, url: str, output_file: str, _pooch: object = None) -> None:
        """Bring the file at `url` to `output_file`; `Gz2vitError` where that cannot be done.

        The part keeps its own name until `discard`: a process that is killed while pooch computes
        the checksum of `output_file` loses nothing.
        """
        self.resumed = self._is_complete(url)
        bar = tqdm(desc=self.name, unit="B", unit_scale=True, initial=self._size())
        with bar, _session() as session:
            self._fetch(session, url, bar)
        output = Path(output_file)
        with writing(output):
            output.unlink(missing_ok=True)
            try:
                os.link(self.part, output)
            except OSError:  # a file system without links
                os.replace(self.part, output)

    def discard(self) -> None:
        """Remove the bytes so far."""
        self.note_path.unlink(missing_ok=True)
        self.part.unlink(missing_ok=True)

    def _size(self) -> int:
        """How many bytes are there."""
        return self.part.stat().st_size if self.part.exists() else 0

    def _note(self) -> dict[str, Any]:
        """The note on the part: `url`, `validator` ("" for none), `length` (None: unknown)."""
        try:
            note = json.loads(self.note_path.read_text(encoding="utf-8"))
            return {"url": note["url"], "validator": note["validator"], "length": note["length"]}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def _is_complete(self, url: str) -> bool:
        """Whether all bytes are there, as far as the server said how many they are."""
        note = self._note()
        ours = note.get("url") == url or self.checksummed
        return ours and self.part.exists() and note.get("length") == self._size()

    def _fetch(self, session: requests.Session, url: str, bar: tqdm) -> None:
        """Ask until all bytes are there, or until ATTEMPTS in a row bring nothing."""
        failures, best = 0, self._size()
        while not self._is_complete(url):
            try:
                self._ask(session, url, bar)
            except _Cut as cut:
                failures = 1 if self._size() >= best + PROGRESS_BYTES else failures + 1
                best = max(best, self._size())
                if failures >= ATTEMPTS:
                    raise self._error(url, f"broke off {failures} times ({cut})") from cut
                bar.set_postfix_str(f"{cut}; asking again")
                time.sleep(BACKOFF_S * 2 ** (failures - 1) * random.uniform(1, 2))

    def _ask(self, session: requests.Session, url: str, bar: tqdm) -> None:
        """One request, and as much of its body as comes."""
        headers = self._range_headers(url)
        timeout = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
        try:
            response = session.get(url, headers=headers, stream=True, timeout=timeout)
        except requests.RequestException as error:
            raise self._error(url, f"could not be reached ({_reason(error)})") from error
        with response:
            if response.status_code == 416 and headers:
                self._settle_416(response, url)
                return
            length = self._place(response, url)
            bar.total, bar.n = length, self._size()
            bar.refresh()
            if length is not None:
                require_room(self.folder, length - self._size(), f"the rest of {self.name}")
            self._take(response, bar)
        if length is None:  # the server did not say; the end of the body is all there is to go by
            self._write_note(url, response, self._size())

    def _range_headers(self, url: str) -> dict[str, str]:
        """What asks for the rest only; nothing where the bytes so far cannot be trusted."""
        note = self._note()
        validator = note.get("validator", "") if note.get("url") == url else ""
        if not note or not self._size() or not (validator or self.checksummed):
            self.discard()
            return {}
        headers = {"Range": f"bytes={self._size()}-"}
        return headers | ({"If-Range": validator} if validator else {})

    def _settle_416(self, response: requests.Response, url: str) -> None:
        """There is no rest: all is here if the length fits, else the part is of another file."""
        stated = re.fullmatch(r"bytes \*/(\d+)", response.headers.get("Content-Range", ""))
        if stated and int(stated[1]) == self._size():
            self._write_note(url, response, self._size())
            return
        self.discard()
        raise _Cut("the server has no such range")

    def _place(self, response: requests.Response, url: str) -> int | None:
        """Set the part to where the body goes on, and note it; the whole length, if known."""
        if response.status_code == 206:
            length = self._continued_length(response, url)
            self.resumed = True
        elif response.status_code == 200:
            self.discard()
            self.resumed = False
            stated = response.headers.get("Content-Length", "")
            length = int(stated) if stated.isdecimal() else None
        else:
            status = f"{response.status_code} {response.reason}".strip()
            raise self._error(url, f"answered {status}")
        self._write_note(url, response, length)
        return length

    def _continued_length(self, response: requests.Response, url: str) -> int:
        """The whole length by a 206's Content-Range; begin anew where it does not fit the part."""
        stated = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        note = self._note()
        fits = stated is not None and int(stated[1]) == self._size()
        fits = fits and note.get("length") in (None, int(stated[2]))
        if note.get("url") == url and note.get("validator"):
            fits = fits and _validator(response) == note["validator"]
        if not fits:
            self.discard()
            raise _Cut("the rest that came does not belong to what is there")
        return int(stated[2])

    def _write_note(self, url: str, response: requests.Response, length: int | None) -> None:
        """Say where the part is from."""
        write_json(
            self.note_path, {"url": url, "validator": _validator(response), "length": length}
        )

    def _take(self, response: requests.Response, bar: tqdm) -> None:
        """Append the body to the part."""
        with writing(self.part), self.part.open("ab") as stream:
            for piece in _pieces(response):
                stream.write(piece)
                stream.flush()  # so that a killed process loses nothing that came
                bar.update(len(piece))

    def _error(self, url: str, what: str) -> Gz2vitError:
        """One sentence: what happened and what can be done."""
        return Gz2vitError(f"cannot download {self.name}: {url} {what}; {self.advice}")


def _pieces(response: requests.Response) -> Iterator[bytes]:
    """The body as it comes, not decoded; `_Cut` where the connection breaks."""
    try:
        while piece := response.raw.read1(CHUNK_BYTES, decode_content=False):
            yield piece
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise _Cut(_reason(error)) from error


def _validator(response: requests.Response) -> str:
    """What tells this version of the file from another: a strong ETag, Last-Modified, or ""."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def _reason(error: Exception) -> str:
    """A few words on a failed connection."""
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not accepted"
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return "it does not answer in time"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    if isinstance(error, urllib3.exceptions.ProtocolError):
        return "the connection broke"
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__
