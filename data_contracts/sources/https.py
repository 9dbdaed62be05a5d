"""One file over http(s), streamed to disk, its sha256 checked before it counts.

What may pass by itself (no connection, 429, 5xx, a body cut short, silence) is tried again with growing pauses and goes on
where it broke off; what cannot (404, wrong hash) is not. A file appears under its name only when it is whole and right; until
then it is `<name>.part`, which a later call goes on with.
"""

import time
from pathlib import Path
from urllib.parse import urlsplit

import requests

from data_contracts import DataError, Unreachable
from data_contracts.sources import files
from data_contracts.sources.disk import Progress, disk_errors, require_space, told

ATTEMPTS = 4  # that bring nothing new
PAUSE_SECONDS = 0.5  # before the second attempt; doubles each time
TIMEOUT_SECONDS = (5, 10)  # to connect; between bytes. All attempts together give a silent server up within a minute
BLOCK_BYTES = 1 << 16


class _Passing(Exception):
    """Something that may go better the next time."""


def download(url: str, sha256: str, target: Path, progress: Progress) -> None:
    """Write the file at `url` to `target`.

    Raises DataError: refused (4xx), no room on the disk, bytes with another sha256; Unreachable when no attempt helped.
    """
    part = target.with_name(target.name + ".part")
    with disk_errors(target.name):
        target.parent.mkdir(parents=True, exist_ok=True)
        failures, most = 0, _size(part)
        while True:
            try:
                resumed = _stream(url, part, progress)
                found = files.sha256(part)
                if found == sha256:
                    part.replace(target)
                    return
                part.unlink()
                if not resumed:
                    raise DataError(
                        f"{public(url)} has sha256 {found},\n"
                        f"but its source says {sha256}: the file changed or is not the one meant"
                    )
                reason = "what was there and the rest of it did not fit together"
            except _Passing as passing:
                reason = passing
            came = _size(part)
            failures += came <= most
            most = max(most, came)
            if failures == ATTEMPTS:
                raise Unreachable(
                    f"cannot download {public(url)}: {reason}, {ATTEMPTS} times\n"
                    "check the network or proxy and try again, or read a copy that you have from a local path"
                )
            time.sleep(PAUSE_SECONDS * 2 ** (failures - 1))


def reach(url: str) -> None:
    """Raise DataError if a server has no such file, Unreachable if it does not answer. Asked once; no file is read."""
    try:
        with requests.get(url, stream=True, timeout=TIMEOUT_SECONDS) as response:
            status, reason = response.status_code, response.reason
    except requests.exceptions.RequestException as error:
        raise Unreachable(f"cannot reach {public(url)}: {type(error).__name__}") from None
    if status != 200:
        kind = Unreachable if status == 429 or status >= 500 else DataError
        raise kind(f"{public(url)} answered {status} ({reason})")


def public(url: str) -> str:
    """An address that may be shown: without user, password and query, where secrets are kept."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"


def _stream(url: str, part: Path, progress: Progress) -> bool:
    """One attempt, which goes on with `part` if the server can; returns whether it did."""
    done = _size(part)
    # identity: a compressed transfer would make Content-Length, and so the progress, those of other bytes.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    try:
        with requests.get(url, stream=True, timeout=TIMEOUT_SECONDS, headers=headers) as response:
            status = response.status_code
            if status == 429 or status >= 500:
                raise _Passing(f"the server answered {status}")
            resumed = status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {done}-")
            if done and status in (206, 416) and not resumed:  # nothing that follows what is there
                part.unlink()
                raise _Passing(f"the server answered {status}")
            if status != 200 and not resumed:
                raise DataError(f"{public(url)} answered {status} ({response.reason}): check the address")
            done = done if resumed else 0
            length = int(response.headers.get("Content-Length") or 0)
            require_space(part.parent, length, part.stem)
            total = done + length if length else 0
            with part.open("ab" if resumed else "wb") as file:
                for block in response.iter_content(BLOCK_BYTES):
                    done += file.write(block)
                    progress(*told(0, 1, done, total))
    except requests.exceptions.ChunkedEncodingError:
        raise _Passing(f"the connection broke after {done} bytes") from None
    except requests.exceptions.Timeout:
        raise _Passing("the server did not answer in time") from None
    except requests.exceptions.ConnectionError as error:
        raise _Passing("the server went silent" if "timed out" in str(error) else "no connection") from None
    except requests.exceptions.RequestException as error:
        raise DataError(f"cannot download {public(url)}: {type(error).__name__}") from None
    progress(*told(1, 1, done, done))
    return resumed


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
