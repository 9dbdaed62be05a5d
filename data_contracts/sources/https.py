"""Files over http(s): streamed to disk, resumed where they broke off, and checked before they count.

`download` brings files from wherever; `fetch` one of an address with a known sha256. A request that may succeed later (no
connection, 429, 5xx, a body cut short, silence) is repeated after growing pauses; a 404 is not. A file is called `<name>.part`
until it is complete and checked, and a later call resumes it.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
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
Received = Callable[[int, int], None]
Fetch = Callable[[str, Path, Received], None]


class Failure(Exception):
    """An attempt that failed. Its text shows no address: secrets may stand in one. status: the server's, where it refused.
    passing: whether another attempt may succeed."""

    def __init__(self, reason: str, status: int = 0, passing: bool = True) -> None:
        super().__init__(reason)
        self.is_temporary = passing and (status in (0, 429) or status >= 500)


def download(wanted: dict[str, int], folder: Path, fetch: Fetch, progress: files.Progress, what: str) -> None:
    """Bring files into `folder`, but those that an interrupted call has left there.

    wanted: {name: bytes, or 0 where nobody says}. fetch(name, part, received): writes a file, and checks it; received: see
    `receive`. what: how to call the files when the disk is too small.
    """
    folder.mkdir(parents=True, exist_ok=True)
    total, done = sum(wanted.values()) if all(wanted.values()) else 0, 0
    missing = [size for name, size in wanted.items() if not (folder / name).exists()]
    # A file that comes zipped is on the disk twice while it is unpacked.
    needed = sum(wanted.values()) + max(missing, default=0) - files.bytes_below(folder)
    files.require_space(folder, needed, what)

    def show(number: int, before: int, size: int, length: int) -> None:
        files.report(progress, number, len(wanted), before + size, total or length * (len(wanted) == 1))

    for number, name in enumerate(wanted):
        target = folder / name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            fetch(name, part_of(target), partial(show, number, done))
            part_of(target).replace(target)
        done += target.stat().st_size
    files.report(progress, len(wanted), len(wanted), done, done)


def fetch(url: str, sha256: str, part: Path, received: Received) -> None:
    """Write the file at `url`. Raises DataError if it is refused (4xx) or has another sha256; Unreachable when no attempt
    helped."""

    def check(answer: requests.Response) -> None:
        if (found := files.digest(part)) != sha256:
            part.unlink()
            why = f"it has sha256 {found}, its source says {sha256}: it changed, or is not the one meant"
            # Of a resumed one the rest may not fit to what was there.
            raise Failure(why, passing=answer.status_code == 206)

    resume(part, partial(get, url), check, public(url), "check the address", received)


def public(url: str) -> str:
    """An address that may be shown: without user, password and query, where secrets are kept."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"


def part_of(target: Path) -> Path:
    """Where a file is kept until it is complete."""
    return target.with_name(target.name + ".part")


def get(url: str, headers: dict[str, str]) -> requests.Response:
    """The answer to a GET request, its body still to be read."""
    return requests.get(url, stream=True, timeout=TIMEOUT_SECONDS, headers=headers)


def resume(
    part: Path, send: Send, check: Callable[[requests.Response], None], what: str, mend: str, received: Received
) -> None:
    """Write a file to `part`, in as many attempts as help. check: raises DataError if it came damaged. Others: see below."""

    def attempt() -> None:
        answer = receive(part, send, received)
        try:
            check(answer)
        except DataError as error:
            part.unlink()
            raise Failure(f"it came damaged: {error}") from None

    retry(attempt, what, mend, part)


def retry(attempt: Callable[[], Answer], what: str, mend: str, part: Path | None = None) -> Answer:
    """What attempt() returns, called again after a Failure; once no further attempt can help, raises DataError or Unreachable.

    what, mend: what is downloaded, and what a refusal asks for, in the message. part: the file that the attempts write. A
    connection that breaks again and again still gets there, as long as each attempt brings more than any before.
    """
    failures, most = 0, _size(part)
    while True:
        try:
            return attempt()
        except Failure as failure:
            size = _size(part)
            failures += size <= most
            most = max(most, size)
            problem = f"cannot download {what}: {failure}"
            if not failure.is_temporary:
                raise DataError(f"{problem}\n{mend}") from None
            if failures == ATTEMPTS:
                raise Unreachable(f"{problem}, {ATTEMPTS} times\ncheck the network or proxy; {TRY_LATER}") from None
        time.sleep(PAUSE_SECONDS * 2 ** (failures - 1))


def receive(part: Path, send: Send, received: Received) -> requests.Response:
    """One attempt: write the body of an answer to `part`, after what is there if the server can resume (status 206).

    send: sends the request with these headers. received: called with the bytes written so far and the bytes in all (0 if not
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
            raise Failure("the server did not resume where the transfer broke off")
        if status != 200 and not resumed:
            raise Failure(f"the server answered {status} ({response.reason})", status)
        done = start if resumed else 0
        length = int(response.headers.get("Content-Length") or 0)
        files.require_space(part.parent, length, part.stem)
        with part.open("r+b" if resumed else "wb") as file:
            file.seek(done)
            for block in response.iter_content(BLOCK_BYTES):
                file.write(block)
                received(file.tell(), done + length if length else 0)
    return response


@contextmanager
def network_failures() -> Iterator[None]:
    """Raise Failure for what requests raises: its own messages show the whole address."""
    try:
        yield
    except exceptions.ChunkedEncodingError:
        raise Failure("the connection broke") from None
    except (exceptions.Timeout, TimeoutError):
        raise Failure("the server did not answer in time") from None
    except (exceptions.ConnectionError, ConnectionError) as error:
        silent = "timed out" in str(error)
        raise Failure("the server went silent" if silent else "no connection") from None
    except exceptions.RequestException as error:
        raise Failure(type(error).__name__, passing=False) from None


def _size(part: Path | None) -> int:
    return part.stat().st_size if part and part.exists() else 0


def _hide_queries(record: logging.LogRecord) -> bool:
    """urllib3 logs whole addresses at level DEBUG; what follows the ? of one may be a signature."""
    if isinstance(record.args, tuple):
        record.args = tuple(value.partition("?")[0] if isinstance(value, str) else value for value in record.args)
    return True


logging.getLogger("urllib3.connectionpool").addFilter(_hide_queries)
