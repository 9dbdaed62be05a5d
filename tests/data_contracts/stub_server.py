"""A local server that plays a file host and Kaggle, and misbehaves on demand.

    with Stub() as stub:
        stub.files["/input.txt"] = [Reply(500), Reply(body=b"...")]      # one after the other, the last one for ever
        stub.datasets["owner/slug"] = Dataset({"a.csv": b"..."}, version=3)
        environment = stub.kaggle(home)                                  # makes kagglehub talk to this server

kagglehub reaches it with KAGGLE_API_ENVIRONMENT=LOCALHOST through http_proxy: hence request targets in absolute form.
"""

import base64
import hashlib
import io
import json
import threading
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

HTML = b"<!DOCTYPE html><html><body>Please sign in</body></html>"


@dataclass
class Reply:
    """One answer. cut: send only so many bytes of the body; stall: say nothing until the server closes."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int = -1
    stall: bool = False


@dataclass
class Dataset:
    """A Kaggle dataset. view, link, storage: replies to put before the good one at each of the three requests."""

    files: dict[str, bytes]
    version: int = 1
    view: list[Reply] = field(default_factory=list)
    link: list[Reply] = field(default_factory=list)
    storage: list[Reply] = field(default_factory=list)

    def archive(self) -> bytes:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, body in self.files.items():
                archive.writestr(name, body)
        return packed.getvalue()


class Stub(ThreadingHTTPServer):
    """Listens on a free port of 127.0.0.1; `requests` lists what was asked for, `tokens` who asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, list[Reply]] = {}
        self.datasets: dict[str, Dataset] = {}
        self.requests: list[str] = []
        self.tokens: list[str] = []
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def kaggle(self, home: Path) -> dict[str, str]:
        """The environment in which kagglehub takes this server for Kaggle, without anybody's credentials."""
        return {
            "HOME": str(home),
            "KAGGLEHUB_CACHE": str(home / "cache"),
            "KAGGLE_CONFIG_DIR": str(home / ".kaggle"),
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "http_proxy": self.url,
            "no_proxy": "",
            "NO_PROXY": "",
        }

    def __enter__(self) -> "Stub":
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, *_) -> None:
        """A client that was killed or hung up is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: Stub

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.server.requests.append(f"GET {path}")
        if path.startswith("/storage/"):
            self._send(self._stored(path))
        else:
            self._send(_next(self.server.files.get(path, [Reply(404)])))

    def do_POST(self) -> None:
        action = urlsplit(self.path).path.rpartition("/")[2]
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        handle = f"{asked['ownerSlug']}/{asked['datasetSlug']}"
        self.server.requests.append(f"POST {action} {handle}")
        self.server.tokens.append(self.headers.get("Authorization", ""))
        dataset = self.server.datasets.get(handle)
        if dataset is None:
            self._send(_json({"code": 404, "message": "not found"}, 404))
        elif action == "GetDataset":
            good = _json({"currentVersionNumber": dataset.version, "ref": handle})
            self._send(_next([*dataset.view, good], dataset.view))
        else:
            name = asked.get("fileName", "archive.zip")
            link = f"http://localhost/storage/{handle}/{name}?X-Goog-Signature=secret"
            self._send(_next([*dataset.link, Reply(302, headers={"Location": link})], dataset.link))

    def _stored(self, path: str) -> Reply:
        owner, slug, name = path.removeprefix("/storage/").split("/", 2)
        dataset = self.server.datasets[f"{owner}/{slug}"]
        body = dataset.archive() if name == "archive.zip" else dataset.files.get(name)
        if body is None:
            return Reply(404)
        md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
        return _next(
            [
                *dataset.storage,
                Reply(body=body, headers={"Accept-Ranges": "bytes", "x-goog-hash": f"crc32c=AAAAAA==,md5={md5}"}),
            ],
            dataset.storage,
        )

    def _send(self, reply: Reply) -> None:
        if reply.stall:
            self.server.closing.wait(60)
            return
        self.send_response(reply.status)
        for name, value in ({"Content-Length": str(len(reply.body))} | reply.headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body if reply.cut < 0 else reply.body[: reply.cut])
        self.close_connection = True

    def log_message(self, *_) -> None:
        """Quiet."""


def _next(replies: list[Reply], used: list[Reply] | None = None) -> Reply:
    """The first reply, taken off the list it came from as long as another is left to repeat."""
    queue = replies if used is None else used
    reply = replies[0]
    if queue and (used is not None or len(queue) > 1):
        queue.pop(0)
    return reply


def _json(value: dict, status: int = 200) -> Reply:
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/json"})
