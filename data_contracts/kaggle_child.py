"""The process that talks to Kaggle: `python kaggle_child.py JOB`, JOB being JSON; says what happens as JSON lines.

A process of its own because kagglehub has no timeout on its first request, no retry, keeps its cache's place in the
environment and writes to stdout: here it can be killed, and its words go nowhere. It stops when its stdin closes, so that
it never outlives the program that started it. It imports nothing of this package.

JOB      {"do": "version" | "download", "handle", "files", "cache", "attempts", "pause"}
lines    {"progress": share} ... then one of {"version": N}, {"folders": [...]} or {"error", "status", "detail"}
"""

import json
import os
import re
import shutil
import sys
import threading
import time
import zipfile
import zlib


def main(job: dict) -> None:
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    tell, sys.stdout = sys.stdout, sys.stderr  # whatever the libraries print is not for our reader

    def say(**line) -> None:
        print(json.dumps(line), file=tell, flush=True)

    import requests
    from kagglehub import clients
    from kagglehub.exceptions import DataCorruptionError

    clients.tqdm = _bar(say)
    damaged = (DataCorruptionError, zipfile.BadZipFile, zlib.error, EOFError)
    for attempt in range(job["attempts"]):
        try:
            say(**(_version(job) if job["do"] == "version" else _download(job)))
            return
        except Exception as error:
            status = getattr(getattr(error, "response", None), "status_code", 0)
            kind, again = "other", False
            # JSONDecodeError is also a RequestException where it comes from requests, so it is asked for first.
            if isinstance(error, json.JSONDecodeError):
                kind = "page"
            elif isinstance(error, requests.HTTPError):
                kind, again = "status", status == 429 or status >= 500
            elif isinstance(error, requests.RequestException):
                kind, again = "network", True
            elif isinstance(error, damaged) or "Unsupported archive" in str(error):
                kind, again = "damaged", True
            elif isinstance(error, OSError):
                kind = "disk"
            if not again or attempt == job["attempts"] - 1:
                say(error=kind, status=status, detail=_harmless(error))
                return
        # kagglehub takes a bad leftover archive for a finished one, for ever: each attempt starts from nothing.
        if job["cache"]:
            shutil.rmtree(job["cache"], ignore_errors=True)
        time.sleep(job["pause"] * 2**attempt)


def _version(job: dict) -> dict:
    from kagglehub.clients import build_kaggle_client
    from kagglehub.exceptions import handle_call
    from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetRequest

    request = ApiGetDatasetRequest()
    request.owner_slug, request.dataset_slug = job["handle"].split("/")
    with build_kaggle_client() as client:
        dataset = handle_call(lambda: client.datasets.dataset_api_client.get_dataset(request))
    return {"version": dataset.current_version_number}


def _download(job: dict) -> dict:
    from kagglehub import dataset_download

    # One cache for the whole dataset and another for single files: mixed, kagglehub can delete a good file.
    paths = [dataset_download(job["handle"], path=name) for name in job["files"]] or [dataset_download(job["handle"])]
    return {"folders": paths}


def _bar(say):
    """Stands in for tqdm inside kagglehub: the same calls, but the share done goes to our reader."""

    class Bar:
        def __init__(self, total: int = 0, initial: int = 0, **_) -> None:
            self.total, self.done = total, initial

        def update(self, n: int) -> None:
            self.done += n
            say(progress=min(1.0, self.done / max(1, self.total)))

        def __enter__(self):
            return self

        def __exit__(self, *_) -> None:
            pass

    return Bar


def _harmless(error: Exception) -> str:
    """Type and first line of an error without addresses: Kaggle's storage links carry signatures."""
    first = str(error).strip().split("\n")[0][:200]
    return f"{type(error).__name__}: " + re.sub(r"\S*[/?=]\S*", "...", first)


def _leave_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
