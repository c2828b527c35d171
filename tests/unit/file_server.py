"""A small Galaxy Zoo 2, and a server that hands it out as badly as real servers do.

Each request takes the next `Reply` of the server's script; when the script is at its end, the
server is healthy: it knows ranges, `If-Range` and ETags.
"""

import gzip
import hashlib
import io
import re
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gz2vit import download as transfer
from gz2vit.download import RemoteFile
from gz2vit.paper import LABEL1_TO_LABEL2, LABEL1_TO_LABEL3, LABEL1_TO_LABEL4


@dataclass(frozen=True)
class Reply:
    """How one request is answered; the default is a healthy answer.

    `cut_after`: bytes of the body after which the connection is closed; `body`: other bytes than
    the file's; `states_length`: whether there is a Content-Length; `ranges`: whether the server
    knows them; `heeds_condition`: whether it looks at `If-Range`; `pause_s`: after each `piece`
    bytes; `content_range`: a false one.
    """

    status: int = 200
    body: bytes | None = None
    cut_after: int | None = None
    states_length: bool = True
    ranges: bool = True
    heeds_condition: bool = True
    etag: str = '"first"'
    last_modified: str = ""
    content_range: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    pause_s: float = 0.0
    piece: int = 1 << 20


@dataclass(frozen=True)
class Request:
    """What was asked: the path and three headers ("" where there was none)."""

    path: str
    wanted_range: str
    if_range: str
    accept_encoding: str


class FileServer:
    """Files by name, the script of replies, and the log of requests."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.script: list[Reply] = []
        self.healthy = Reply()
        self.log: list[Request] = []
        self.address = ""
        self.closing = threading.Event()

    def ranges(self) -> list[str]:
        """The `Range` headers of all requests, in order."""
        return [request.wanted_range for request in self.log]


class _Handler(BaseHTTPRequestHandler):
    """Answers one request by the script."""

    protocol_version = "HTTP/1.1"
    shop: FileServer

    def log_message(self, *words: object) -> None:
        pass

    def do_GET(self) -> None:
        """The next reply of the script, or a healthy one."""
        wanted, condition = self.headers.get("Range", ""), self.headers.get("If-Range", "")
        accepted = self.headers.get("Accept-Encoding", "")
        self.shop.log.append(Request(self.path, wanted, condition, accepted))
        reply = self.shop.script.pop(0) if self.shop.script else self.shop.healthy
        content = self.shop.files.get(self.path.rpartition("/")[2])
        if content is None:
            reply, content = replace(reply, status=404), b""
        if reply.body is not None:
            content = reply.body
        start = re.fullmatch(r"bytes=(\d+)-", wanted)
        validators = [value for value in (reply.etag, reply.last_modified) if value]
        matches = not condition or condition in validators or not reply.heeds_condition
        if reply.status == 200 and reply.ranges and start and matches:
            reply, content = self._part(reply, content, int(start[1]))
        self._send(reply, content)

    def _part(self, reply: Reply, content: bytes, start: int) -> tuple[Reply, bytes]:
        """The rest from `start` on, or 416 where there is none."""
        if start >= len(content):
            headers = {"Content-Range": f"bytes */{len(content)}"}
            return replace(reply, status=416, headers=headers), b""
        stated = reply.content_range or f"bytes {start}-{len(content) - 1}/{len(content)}"
        return replace(reply, status=206, headers={"Content-Range": stated}), content[start:]

    def _send(self, reply: Reply, content: bytes) -> None:
        """Status, headers and as much of the body as the reply wants."""
        content = content if reply.status in (200, 206) else b"no"
        self.send_response(reply.status)
        fixed = {"ETag": reply.etag, "Last-Modified": reply.last_modified}
        fixed["Content-Length"] = str(len(content)) if reply.states_length else ""
        fixed["Connection"] = "close"
        for name, value in {**fixed, **reply.headers}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        sent = content[: reply.cut_after]
        try:
            for place in range(0, len(sent), reply.piece):
                self.wfile.write(sent[place : place + reply.piece])
                self.shop.closing.wait(reply.pause_s)
        except OSError:
            pass  # the other side was killed or has lost patience
        self.close_connection = True


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


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting times for tests; and no mirror from the outside."""
    monkeypatch.setattr(transfer, "BACKOFF_S", 0.005)
    monkeypatch.setattr(transfer, "RETRY_AFTER_MAX_S", 0.05)
    monkeypatch.setattr(transfer, "READ_TIMEOUT_S", 0.3)
    monkeypatch.delenv("GZ2VIT_MIRROR", raising=False)


def remote_file(name: str, content: bytes, entries: int, **known: object) -> RemoteFile:
    """A published file with this content; its address is where nobody listens."""
    algorithm = known.get("algorithm", "")
    checksum = hashlib.new(algorithm, content).hexdigest() if algorithm else ""
    url = f"http://127.0.0.1:9/{name}"
    return RemoteFile(name, url, entries, checksum=checksum, room_bytes=len(content), **known)


MAPPING = b"objid,sample,asset_id\n" + b"".join(
    b"5877229817361203%02d,original,%d\n" % (row, 100 + row) for row in range(40)
)
MAPPING_FILE = remote_file(
    "gz2_filename_mapping.csv", MAPPING, 40, columns=("objid", "asset_id"), algorithm="md5"
)
VOTES = gzip.compress(
    b"dr7objid,votes\n" + b"".join(b"%d,%d\n" % (row, row**5) for row in range(300)), mtime=0
)
VOTES_FILE = remote_file("gz2_hart16.csv.gz", VOTES, 300, columns=("dr7objid",))
PROPERTIES = gzip.compress(b"OBJID,REDSHIFT\n1,0.1\n2,0.2\n", mtime=0)
PROPERTIES_FILE = remote_file("gz2sample.csv.gz", PROPERTIES, 2, columns=("OBJID", "REDSHIFT"))
IMAGES = {f"{name}.jpg": b"\xff\xd8 image %d " % name * 50 for name in range(100, 116)}


def label_table(first: int, classes: range | tuple[int, ...]) -> bytes:
    """A label table of one galaxy for each class of `classes`, ids from `first` on."""
    rows = ["galaxyID,label1,label2,label3,label4"]
    for place, label in enumerate(classes):
        merged = (LABEL1_TO_LABEL2[label], LABEL1_TO_LABEL3[label], LABEL1_TO_LABEL4[label])
        rows.append(",".join(map(str, (first + place, label, *merged))))
    return ("\n".join(rows) + "\n").encode()


LABELS = {
    "gz2_train.csv": label_table(100, range(8)),
    "gz2_valid.csv": label_table(108, (0, 1, 2)),
    "gz2_test.csv": label_table(111, (5, 5, 7)),
}
CLASS_COUNTS = {
    "train": (1, 1, 1, 1, 1, 1, 1, 1),
    "valid": (1, 1, 1, 0, 0, 0, 0, 0),
    "test": (0, 0, 0, 0, 0, 2, 0, 1),
}


def zip_of(members: Mapping[str, bytes]) -> bytes:
    """A zip with these members."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


ZIP = zip_of(
    {"images/": b""}
    | {f"images/{name}": content for name, content in IMAGES.items()}
    | {f"__MACOSX/images/._{name}": b"finder" for name in IMAGES}
)
ZIP_FILE = remote_file("images_gz2.zip", ZIP, 16, algorithm="md5", unpacked_bytes=100_000)
FILES = {
    "labels": tuple(
        remote_file(
            name,
            content,
            content.count(b"\n") - 1,
            columns=("galaxyID", "label1"),
            algorithm="sha256",
            place="",
        )
        for name, content in LABELS.items()
    ),
    "mapping": (MAPPING_FILE,),
    "votes": (VOTES_FILE,),
    "properties": (PROPERTIES_FILE,),
    "images": (ZIP_FILE,),
}
CONTENTS = LABELS | {
    MAPPING_FILE.name: MAPPING,
    VOTES_FILE.name: VOTES,
    PROPERTIES_FILE.name: PROPERTIES,
    ZIP_FILE.name: ZIP,
}
