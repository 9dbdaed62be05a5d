"""One file over http(s), streamed to disk, its sha256 checked on the way.

What may pass by itself (no connection, 429, 5xx, a body cut short) is tried again with growing pauses; what cannot (404, wrong
hash) is not. A file appears under its name only when it is whole and right.
"""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import requests

from data_contracts import DataError

ATTEMPTS = 4
PAUSE_SECONDS = 0.5  # before the second attempt; doubles each time
TIMEOUT_SECONDS = (10, 30)  # to connect; between bytes
BLOCK_BYTES = 1 << 18


class _Passing(Exception):
    """Something that may go better the next time."""


def download(url: str, sha256: str, target: Path, progress: Callable[[float], None]) -> None:
    """Write the file at `url` to `target`; progress is told the share done where the server says the size.

    Raises DataError: refused (4xx), unreachable or failing after every attempt, or bytes with another sha256.
    """
    part = target.with_name(target.name + ".part")
    for attempt in range(ATTEMPTS):
        try:
            found = _stream(url, part, progress)
            break
        except _Passing as reason:
            if attempt == ATTEMPTS - 1:
                part.unlink(missing_ok=True)
                raise DataError(
                    f"cannot download {public(url)}: {reason}, {ATTEMPTS} times\n"
                    "check the network or proxy and try again, or read a copy that you have from a local path"
                ) from None
            time.sleep(PAUSE_SECONDS * 2**attempt)
    if found != sha256:
        part.unlink()
        raise DataError(
            f"{public(url)} has sha256 {found},\nbut its source says {sha256}: the file changed or is not the one meant"
        )
    part.replace(target)


def public(url: str) -> str:
    """An address that may be shown: without user, password and query, where secrets are kept."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"


def _stream(url: str, part: Path, progress: Callable[[float], None]) -> str:
    """One attempt; returns the sha256 of what came."""
    digest, done = hashlib.sha256(), 0
    try:
        # identity: a compressed transfer would make Content-Length, and so the progress, those of other bytes.
        with requests.get(
            url, stream=True, timeout=TIMEOUT_SECONDS, headers={"Accept-Encoding": "identity"}
        ) as response:
            if response.status_code == 429 or response.status_code >= 500:
                raise _Passing(f"the server answered {response.status_code}")
            if response.status_code != 200:
                raise DataError(f"{public(url)} answered {response.status_code} ({response.reason}): check the address")
            total = int(response.headers.get("Content-Length") or 0)
            with part.open("wb") as file:
                for block in response.iter_content(BLOCK_BYTES):
                    digest.update(block)
                    done += file.write(block)
                    if total:
                        progress(min(1.0, done / total))
    except requests.exceptions.ChunkedEncodingError:
        raise _Passing(f"the connection broke after {done} bytes") from None
    except requests.exceptions.Timeout:
        raise _Passing("the server did not answer in time") from None
    except requests.exceptions.ConnectionError:
        raise _Passing("no connection") from None
    except requests.exceptions.RequestException as error:
        raise DataError(f"cannot download {public(url)}: {type(error).__name__}") from None
    return digest.hexdigest()
