"""A server of files that answers as badly as real servers do: by a script, then it is healthy."""

import hashlib
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"  # of a model, where the server is a hub


@dataclass(frozen=True)
class Reply:
    """How one request is answered."""

    status: int = 200
    body: bytes | None = None  # other bytes than the file's
    cut_after: int | None = None  # bytes of the body, then the connection is closed
    states_length: bool = True
    knows_ranges: bool = True
    heeds_condition: bool = True
    etag: str | None = '"first"'  # None: the content's sha256
    last_modified: str = ""
    content_range: str = ""  # a false one
    headers: Mapping[str, str] = field(default_factory=dict)
    pause_s: float = 0.0  # after each `piece` bytes
    piece: int = 1 << 20


class FileServer:
    """Files by name, the script of replies, and what was asked: path, Range and If-Range."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files, self.address, self.healthy = dict(files), "", Reply()
        self.script: list[Reply] = []
        self.log: list[tuple[str, str, str]] = []
        self.closing = threading.Event()

    def ranges(self) -> list[str]:
        """The `Range` headers of all requests, in order."""
        return [wanted for _, wanted, _ in self.log]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    shop: FileServer

    def log_message(self, *words: object) -> None:
        pass

    def do_GET(self) -> None:
        wanted, condition = self.headers.get("Range", ""), self.headers.get("If-Range", "")
        self.shop.log.append((self.path, wanted, condition))
        assert self.shop.healthy.etag is None or self.headers["Accept-Encoding"] == "identity"
        reply = self.shop.script.pop(0) if self.shop.script else self.shop.healthy
        content = self.shop.files.get(self.path.rpartition("/")[2].partition("?")[0])
        if content is None:
            reply, content = replace(reply, status=404), b""
        content = content if reply.body is None else reply.body
        etag = reply.etag
        if etag is None:
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
        start = re.fullmatch(r"bytes=(\d+)-", wanted)
        matches = condition in ("", etag, reply.last_modified) or not reply.heeds_condition
        headers = {"ETag": etag, "Last-Modified": reply.last_modified, **reply.headers}
        status, size = reply.status, len(content)
        if status == 200 and reply.knows_ranges and start and matches:
            first = int(start[1])
            status = 416 if first >= size else 206
            stated = f"bytes */{size}" if first >= size else f"bytes {first}-{size - 1}/{size}"
            headers["Content-Range"] = reply.content_range or stated
            content = content[first:]
        content = content if status in (200, 206) else b"no"
        self.send_response(status)
        if reply.states_length:
            headers["Content-Length"] = str(len(content))
        for name, value in {**headers, "X-Repo-Commit": COMMIT, "Connection": "close"}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        sent = content[: reply.cut_after] if self.command == "GET" else b""
        with suppress(OSError):  # the other side was killed or has lost patience
            for place in range(0, len(sent), reply.piece):
                self.wfile.write(sent[place : place + reply.piece])
                self.shop.closing.wait(reply.pause_s)

    do_HEAD = do_GET


@contextmanager
def serve(files: Mapping[str, bytes]) -> Iterator[FileServer]:
    """A running server of `files`."""
    shop = FileServer(files)
    handler = type("Handler", (_Handler,), {"shop": shop})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        httpd.daemon_threads = True
        threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}).start()
        shop.address = f"http://127.0.0.1:{httpd.server_address[1]}"
        try:
            yield shop
        finally:
            shop.closing.set()
            httpd.shutdown()
