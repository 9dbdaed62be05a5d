"""A local server that plays Hugging Face's Hub, S3 and Google's storage, as far as their clients ask.

with Store() as stores:
    stores.files["data/a.txt"] = b"..."           # of the dataset owner/name, and of the bucket `bucket`
    stores.broken = {"data/a.txt": 10}            # only so many bytes of it are sent
    stores.refuse = 403                           # what every request is answered with
"""

import hashlib
import json
from base64 import b64encode
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit

from tests.data_contracts.stub_server import LocalServer

LISTED = '<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated>{}</ListBucketResult>'
ENTRY = "<Contents><Key>{}</Key><ETag>&quot;{}&quot;</ETag><Size>{}</Size><LastModified>{}</LastModified></Contents>"
DAY = "2026-01-01T00:00:00.000Z"


class Store(LocalServer):
    """`requests` lists what was asked for, `tokens` who asked."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.files: dict[str, bytes] = {}
        self.broken: dict[str, int] = {}
        self.refuse = 0
        self.requests: list[str] = []
        self.tokens: set[str] = set()

    def environment(self, home: str) -> dict[str, str]:
        """In which the clients take this server for theirs, without anybody's credentials."""
        clients = ("HF_ENDPOINT", "AWS_ENDPOINT_URL", "STORAGE_EMULATOR_HOST")
        quiet = {"AWS_EC2_METADATA_DISABLED": "true", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        return {"HOME": home, "HF_HOME": f"{home}/hf", "NO_PROXY": "*"} | dict.fromkeys(clients, self.url) | quiet


class _Handler(BaseHTTPRequestHandler):
    server: Store

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.server.requests.append(f"{self.command} {path}")
        self.server.tokens.add(self.headers.get("Authorization", ""))
        files = self.server.files
        if self.server.refuse:
            self._send(b"<Error><Code>AccessDenied</Code></Error>", self.server.refuse)
        elif path.startswith("/api/datasets/owner/name/tree/"):
            below = path.removeprefix("/api/datasets/owner/name/tree/").partition("/")[2]
            entries = [
                {"type": "file", "path": name, "oid": hashlib.sha1(content).hexdigest(), "size": len(content)}
                for name, content in files.items()
                if name.startswith(f"{below}/".lstrip("/"))
            ]
            self._json(entries or {"error": "not found"}, 200 if entries else 404, {"X-Error-Code": "EntryNotFound"})
        elif path.startswith("/api/datasets/owner/name/paths-info/"):
            asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())["paths"]
            self._json(
                [
                    {
                        "type": "file",
                        "path": name,
                        "oid": hashlib.sha1(files[name]).hexdigest(),
                        "size": len(files[name]),
                    }
                    for name in asked
                    if name in files
                ]
            )
        elif path == "/api/datasets/owner/name" or path.startswith("/api/datasets/owner/name/revision/"):
            self._json({"id": "owner/name", "sha": "a" * 40})
        elif path.startswith("/datasets/owner/name/resolve/"):
            self._file(path.removeprefix("/datasets/owner/name/resolve/").partition("/")[2])
        elif path.rstrip("/") == "/bucket":
            named = {name: content for name, content in files.items() if name.startswith(query.get("prefix", ""))}
            entries = [
                ENTRY.format(name, hashlib.md5(content).hexdigest(), len(content), DAY)
                for name, content in named.items()
            ]
            self._send(LISTED.format("".join(entries)).encode(), 200, {"Content-Type": "application/xml"})
        elif path.startswith("/bucket/"):
            self._file(path.removeprefix("/bucket/"))
        elif path == "/storage/v1/b/bucket/o":
            found = [self._google(name) for name in files if name.startswith(query.get("prefix", ""))]
            self._json({"items": found})
        elif path.startswith("/download/storage/v1/b/bucket/o/") or query.get("alt") == "media":
            self._file(path.partition("/bucket/o/")[2])
        elif path.startswith("/storage/v1/b/bucket/o/") and path.partition("/bucket/o/")[2] in files:
            self._json(self._google(path.partition("/bucket/o/")[2]))
        elif path.startswith("/api/"):
            self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        elif path.startswith("/storage/"):
            self._json({"error": {"code": 404, "message": "not found"}}, 404)
        else:
            self._send(b"<Error><Code>NoSuchBucket</Code></Error>", 404)

    do_HEAD = do_POST = do_GET

    def _google(self, name: str) -> dict:
        content = self.server.files[name]
        md5 = b64encode(hashlib.md5(content).digest()).decode()
        return {"bucket": "bucket", "name": name, "size": str(len(content)), "md5Hash": md5, "generation": "1"}

    def _file(self, name: str) -> None:
        if name not in self.server.files:
            self._send(b"<Error><Code>NoSuchKey</Code></Error>", 404)
            return
        body, status, headers = self.server.files[name], 200, {"Accept-Ranges": "bytes"}
        cut = self.server.broken.get(name)
        if asked := self.headers.get("Range", ""):
            start, _, end = asked.removeprefix("bytes=").partition("-")
            headers["Content-Range"] = f"bytes {start}-{end or len(body) - 1}/{len(body)}"
            cut = None if cut is None else max(0, cut - int(start))
            body, status = body[int(start) : int(end) + 1 if end else None], 206
        if name.endswith(".html"):
            headers["Content-Type"] = "text/html"
        headers["ETag"] = f'"{hashlib.md5(self.server.files[name]).hexdigest()}"'
        headers["X-Repo-Commit"] = "a" * 40
        self._send(body, status, headers, cut)

    def _json(self, content, status: int = 200, headers: dict | None = None) -> None:
        headers = {"Content-Type": "application/json"} | (headers or {} if status != 200 else {})
        self._send(json.dumps(content).encode(), status, headers)

    def _send(self, body: bytes, status: int = 200, headers: dict | None = None, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
        self.close_connection = True

    def log_message(self, *_) -> None:
        """Quiet."""
