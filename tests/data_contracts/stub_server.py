"""A local server that plays a file host and Kaggle, and misbehaves on demand.

    with Stub() as stub:
        stub.files["/input.txt"] = [Reply(500), Reply(body=b"...")]      # one after the other, the last one for ever
        stub.datasets["owner/slug"] = Dataset({"a.csv": b"..."}, version=3, storage={"a.csv": [Reply(cut=1000)]})
        environment = stub.kaggle(home)                                  # makes kagglesdk talk to this server

kagglesdk reaches it with KAGGLE_API_ENVIRONMENT=LOCALHOST through http_proxy: hence request targets in absolute form.
"""

import base64
import hashlib
import io
import json
import threading
import zipfile
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

SERVICE = "/api/v1/datasets.DatasetApiService"
HTML = b"<!DOCTYPE html><html><body>Please sign in</body></html>"


@dataclass
class Reply:
    """One answer; what is left out is as a good server would have it.

    headers: None takes one away. cut: only so many bytes of the body, then the end. stall: and then silence, instead of the
    end; without a cut, silence from the start.
    """

    status: int = 200
    body: bytes | None = None
    headers: dict[str, str | None] = field(default_factory=dict)
    cut: int | None = None
    stall: bool = False


LOGIN = Reply(body=HTML, headers={"Content-Type": "text/html; charset=utf-8"})


@dataclass
class Dataset:
    """A Kaggle dataset. view, listing: replies to put before the good one; link, storage: the same, by file."""

    files: dict[str, bytes]
    version: int = 3
    view: list[Reply] = field(default_factory=list)
    listing: list[Reply] = field(default_factory=list)
    link: dict[str, list[Reply]] = field(default_factory=dict)
    storage: dict[str, list[Reply]] = field(default_factory=dict)
    page: int = 200
    """files on a page of the list, at most"""
    sized: bool = True
    """whether the list says how large they are"""
    hashed: bool = True
    zipped: bool = False

    def stored(self, name: str) -> bytes:
        if not self.zipped:
            return self.files[name]
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(zipfile.ZipInfo(Path(name).name), self.files[name])
        return packed.getvalue()


class LocalServer(ThreadingHTTPServer):
    """Listens on a free port of 127.0.0.1 within a `with`."""

    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, *_) -> None:
        """A client that was killed or hung up is what some tests are about."""


class Stub(LocalServer):
    """`requests` lists what was asked for, `tokens` who asked."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.files: dict[str, list[Reply]] = {}
        self.datasets: dict[str, Dataset] = {}
        self.requests: list[str] = []
        self.tokens: list[str] = []

    def kaggle(self, home: Path) -> dict[str, str]:
        """The environment in which kagglesdk takes this server for Kaggle, without anybody's credentials."""
        return {
            "HOME": str(home),
            "KAGGLE_CONFIG_DIR": str(home / ".kaggle"),
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "http_proxy": self.url,
            "no_proxy": "",
            "NO_PROXY": "",
        }

    def asked(self) -> list[str]:
        """The requests since the last call."""
        asked = self.requests[:]
        del self.requests[: len(asked)]
        return asked


class _Handler(BaseHTTPRequestHandler):
    server: Stub

    def do_GET(self) -> None:
        path, asked = unquote(urlsplit(self.path).path), self.headers.get("Range", "")
        if path.startswith("/storage/"):
            owner, slug, version, name = path.removeprefix("/storage/").split("/", 3)
            dataset = self.server.datasets[f"{owner}/{slug}"]
            name = name.removesuffix(".zip") if dataset.zipped else name
            self.server.requests.append(f"GET {name} {asked}".strip())
            if self.headers.get("Authorization"):  # storage refuses a second way to sign in beside the signature
                self._send(Reply(400))
            elif int(version) == dataset.version:
                body = dataset.stored(name)
                md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
                hashes = {"x-goog-hash": f"crc32c=AAAAAA==,md5={md5}"} if dataset.hashed else {}
                self._send(_next(dataset.storage.get(name, [])), _part(body, asked, hashes))
            else:
                self._send(Reply(404))
        else:
            self.server.requests.append(f"GET {path} {asked}".strip())
            replies = self.server.files.get(path, [Reply(404)])
            reply = _next(replies) if len(replies) > 1 else replies[0]
            if "Accept-Ranges" in reply.headers:
                reply = replace(_part(reply.body, asked, {}), cut=reply.cut, stall=reply.stall)
            self._send(reply)

    def do_POST(self) -> None:
        service, _, action = urlsplit(self.path).path.rpartition("/")
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        handle = f"{asked['ownerSlug']}/{asked['datasetSlug']}"
        self.server.requests.append(" ".join([action, *(asked[k] for k in ("pageToken", "fileName") if k in asked)]))
        self.server.tokens.append(self.headers.get("Authorization", ""))
        dataset = self.server.datasets.get(handle)
        if (
            service != SERVICE
            or dataset is None
            or asked.get("datasetVersionNumber", dataset.version) != dataset.version
        ):
            self._send(_json({"code": 404, "message": "not found"}, 404))
        elif action == "GetDataset":
            self._send(_next(dataset.view), _json({"currentVersionNumber": dataset.version, "ref": handle}))
        elif action == "ListDatasetFiles":
            self._send(_next(dataset.listing), _page(dataset, asked))
        else:
            name = asked["fileName"]
            ending = ".zip" if dataset.zipped else ""
            link = f"http://localhost/storage/{handle}/{dataset.version}/{name}{ending}?X-Goog-Signature=secret"
            self._send(_next(dataset.link.get(name, [])), Reply(302, b"", {"Location": link}))

    def _send(self, reply: Reply, good: Reply | None = None) -> None:
        if good and reply.status == 200 and reply.body is None:
            reply = replace(good, headers=good.headers | reply.headers, cut=reply.cut, stall=reply.stall)
        body = reply.body or b""
        if not reply.stall or reply.cut is not None:
            self.send_response(reply.status)
            for name, value in ({"Content-Length": str(len(body))} | reply.headers).items():
                if value is not None:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[: reply.cut])
        if reply.stall:
            self.server.closing.wait(60)
        self.close_connection = True

    def log_message(self, *_) -> None:
        """Quiet."""


def _next(replies: list[Reply]) -> Reply:
    return replies.pop(0) if replies else Reply()


def _part(body: bytes, asked: str, headers: dict[str, str]) -> Reply:
    """What a server sends that goes on from a byte when it is asked to."""
    headers = headers | {"Accept-Ranges": "bytes"}
    if not asked:
        return Reply(200, body, headers)
    start = int(asked.removeprefix("bytes=").removesuffix("-"))
    if start >= len(body):
        return Reply(416)
    return Reply(206, body[start:], headers | {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"})


def _page(dataset: Dataset, asked: dict) -> Reply:
    start, size = int(asked.get("pageToken", 0)), min(dataset.page, asked["pageSize"])
    files = [
        {"name": name} | ({"totalBytes": len(dataset.files[name])} if dataset.sized else {}) for name in dataset.files
    ]
    more = {"nextPageToken": str(start + size)} if start + size < len(files) else {}
    return _json({"datasetFiles": files[start : start + size]} | more)


def _json(value: dict, status: int = 200) -> Reply:
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/json"})
