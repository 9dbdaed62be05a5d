"""Files over http(s): streamed to disk, resumed where they broke off, and checked before they count.

`download` fetches one address with a known sha256; `receive` and `retry` are its halves, which kaggle.py uses too. A request
that may succeed later (no connection, 429, 5xx, a body cut short, silence) is repeated after growing pauses; a 404 is not.
A file is called `<name>.part` until it is complete and checked, and a later call resumes it.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import requests
from requests import exceptions

from data_contracts import DataError, Unreachable
from data_contracts.sources import files

ATTEMPTS = 4  # that bring nothing new
PAUSE_SECONDS = 1.0  # before the second attempt; doubles each time
TIMEOUT_SECONDS = (5, 15)  # to connect; between bytes. So a silent server is given up after about a minute
BLOCK_BYTES = 1 << 16
TRY_LATER = "try again later, what came is kept; a copy that you have can be read from a local path instead"

Answer = TypeVar("Answer")
Send = Callable[[dict[str, str]], requests.Response]


class Failure(Exception):
    """An attempt that failed. Its text shows no address: secrets may stand in one.

    kind: `status` (the server refused), `network` (it did not answer, or broke off), `page` (it sent a web page, not data),
    `damaged` (it sent wrong bytes) or `other`.
    """

    def __init__(self, kind: str, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.kind, self.status = kind, status

    @property
    def is_temporary(self) -> bool:
        return self.kind in ("network", "page") or self.status == 429 or self.status >= 500


def download(url: str, sha256: str, target: Path, progress: files.Progress) -> None:
    """Write the file at `url` to `target`.

    Raises DataError: refused (4xx), no room on the disk, bytes with another sha256; Unreachable when no attempt helped.
    """
    part = part_of(target)

    def attempt() -> None:
        answer = receive(part, lambda headers: get(url, headers), lambda *size: files.report(progress, 0, 1, *size))
        found = files.digest(part)
        if found == sha256:
            return
        part.unlink()
        if answer.status_code == 206:
            raise Failure("damaged", "what was there and the rest of it did not fit together")
        why = "the file changed or is not the one meant"
        raise DataError(f"{public(url)} has sha256 {found},\nbut its source says {sha256}: {why}")

    def message(failure: Failure) -> str:
        again = f", {ATTEMPTS} times\ncheck the network or proxy; {TRY_LATER}"
        return f"cannot download {public(url)}: {failure}" + (again if failure.is_temporary else "\ncheck the address")

    with files.disk_errors(target.name):
        target.parent.mkdir(parents=True, exist_ok=True)
        retry(attempt, message, part)
        size = part.replace(target).stat().st_size
    files.report(progress, 1, 1, size, size)


def public(url: str) -> str:
    """An address that may be shown: without user, password and query, where secrets are kept."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"


def part_of(target: Path) -> Path:
    """Where a file is kept until it is complete."""
    return target.with_name(target.name + ".part")


def get(url: str, headers: dict[str, str] | None = None) -> requests.Response:
    """The answer to a GET request, its body still to be read."""
    return requests.get(url, stream=True, timeout=TIMEOUT_SECONDS, headers=headers)


def retry(attempt: Callable[[], Answer], message: Callable[[Failure], str], part: Path | None = None) -> Answer:
    """What attempt() returns, called again after a Failure; once no further attempt can help, raises DataError or Unreachable
    with the message of the last one.

    part: the file that the attempts write. A connection that breaks again and again still gets there, as long as each attempt
    brings more than any before.
    """
    failures, most = 0, _size(part)
    while True:
        try:
            return attempt()
        except Failure as failure:
            size = _size(part)
            failures += size <= most
            most = max(most, size)
            if failures == ATTEMPTS or not (failure.is_temporary or failure.kind == "damaged"):
                raise (Unreachable if failure.is_temporary else DataError)(message(failure)) from None
        time.sleep(PAUSE_SECONDS * 2 ** (failures - 1))


def receive(part: Path, send: Send, report: Callable[[int, int], None]) -> requests.Response:
    """One attempt: write the body of an answer to `part`, after what is there if the server can resume (status 206).

    send: sends the request with these headers. report: called with the bytes written so far and the bytes in all (0 if not
    known). Raises Failure.
    """
    # The last byte is fetched again: of a complete file there would be nothing left to ask for.
    start = max(0, _size(part) - 1)
    # identity: with a compressed body Content-Length, and so the progress, would count other bytes.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with network_failures(), send(headers) as response:
        status = response.status_code
        resumed = status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        if start and status in (206, 416) and not resumed:
            part.unlink()
            raise Failure("damaged", "the server did not resume where the transfer broke off")
        if status != 200 and not resumed:
            what = f"the server answered {response.status_code} ({response.reason})"
            raise Failure("status", what, response.status_code)
        done = start if resumed else 0
        length = int(response.headers.get("Content-Length") or 0)
        files.require_space(part.parent, length, part.stem)
        with part.open("r+b" if resumed else "wb") as file:
            file.seek(done)
            for block in response.iter_content(BLOCK_BYTES):
                file.write(block)
                report(file.tell(), done + length if length else 0)
    return response


@contextmanager
def network_failures() -> Iterator[None]:
    """Raise Failure for what requests raises: its own messages show the whole address."""
    try:
        yield
    except exceptions.ChunkedEncodingError:
        raise Failure("network", "the connection broke") from None
    except (exceptions.Timeout, TimeoutError):
        raise Failure("network", "the server did not answer in time") from None
    except (exceptions.ConnectionError, ConnectionError) as error:
        silent = "timed out" in str(error)
        raise Failure("network", "the server went silent" if silent else "no connection") from None
    except exceptions.RequestException as error:
        raise Failure("other", type(error).__name__) from None


def _size(part: Path | None) -> int:
    return part.stat().st_size if part and part.exists() else 0


def _hide_queries(record: logging.LogRecord) -> bool:
    """urllib3 logs whole addresses at level DEBUG; what follows the ? of one may be a signature."""
    if isinstance(record.args, tuple):
        record.args = tuple(value.partition("?")[0] if isinstance(value, str) else value for value in record.args)
    return True


logging.getLogger("urllib3.connectionpool").addFilter(_hide_queries)
