"""A Kaggle dataset, through kagglehub in a process of its own that is watched and can be killed.

kagglehub verifies nothing after a download, waits for ever on a silent server and remembers a damaged archive as good
(each measured); so every download here starts from an empty cache inside the target folder, is given up when no byte arrives
for a while, and is inspected before it counts. Whether to sign in is kagglehub's affair: KAGGLE_API_TOKEN,
KAGGLE_USERNAME with KAGGLE_KEY, or ~/.kaggle. Public datasets need none.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from data_contracts import DataError, files

ATTEMPTS = 4
PAUSE_SECONDS = 1.0  # before the second attempt; doubles each time
STALL_SECONDS = 120.0  # without a new byte on disk

QUIET = {
    "KAGGLE_LOGGING_ENABLED": "false",
    "KAGGLEHUB_VERBOSITY": "error",
    # Inside a Kaggle or Colab notebook kagglehub would answer with a read-only mount instead of files of ours.
    "DISABLE_KAGGLE_CACHE": "true",
    "DISABLE_COLAB_CACHE": "true",
}


def current_version(handle: str) -> int:
    """The number of the current version of `owner/dataset`. Raises DataError when Kaggle cannot say."""
    answer = _run({"do": "version", "handle": handle, "files": []}, cache=None, progress=lambda _: None)
    if not answer["version"]:
        raise DataError(f"Kaggle names no version of {handle}: pin one as {handle}/versions/N")
    return answer["version"]


def download(handle: str, names: tuple[str, ...], folder: Path, progress: Callable[[float], None]) -> None:
    """Put the files of a dataset, or only the `names` given, into the empty `folder`, as they lie in its archive.

    Raises DataError (two lines) when Kaggle refuses, lacks or cannot be reached for it, when what came is damaged, empty or
    an HTML page, and when no byte arrived for STALL_SECONDS. Never shows a token or a signed address.
    """
    cache = folder / ".kagglehub"
    try:
        for path in map(
            Path, _run({"do": "download", "handle": handle, "files": list(names)}, cache, progress)["folders"]
        ):
            _move(path, folder, names)
    finally:
        shutil.rmtree(cache, ignore_errors=True)
    for path in (found for found in folder.rglob("*") if found.is_file()):
        with path.open("rb") as file:
            head = file.read(files.HEAD_BYTES)
        if not head or (files.looks_like_html(head) and path.suffix.lower() not in (".html", ".htm")):
            kind = "an HTML page" if head else "empty"
            raise DataError(
                f"{path.relative_to(folder)} from Kaggle's {handle} is {kind}\n"
                "a proxy or login page may stand between; try again"
            )


def _move(path: Path, folder: Path, names: tuple[str, ...]) -> None:
    if path.is_dir():
        for entry in path.iterdir():
            entry.replace(folder / entry.name)
        return
    target = folder / next(name for name in names if path.as_posix().endswith("/" + name))
    target.parent.mkdir(parents=True, exist_ok=True)
    path.replace(target)


def _run(job: dict, cache: Path | None, progress: Callable[[float], None]) -> dict:
    """Start the child, follow it, and return its last word; its errors become DataError here."""
    job |= {"cache": str(cache or ""), "attempts": ATTEMPTS, "pause": PAUSE_SECONDS}
    child = subprocess.Popen(
        # -P: the script's own folder stays off sys.path, where our module names could hide others'.
        [sys.executable, "-P", str(Path(__file__).with_name("kaggle_child.py")), json.dumps(job)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | QUIET | ({"KAGGLEHUB_CACHE": str(cache)} if cache else {}),
        text=True,
    )
    answer: dict = {}

    def listen() -> None:
        for line in child.stdout:
            answer.update(json.loads(line))

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        _watch(child, job["handle"], cache, lambda: progress(answer.get("progress", 0.0)))
    finally:
        child.kill()
        child.wait()
        listener.join()
        child.stdin.close()
        child.stdout.close()
    if "error" in answer or not answer.keys() & {"version", "folders"}:
        raise DataError(
            _message(job["handle"], answer.get("error", ""), answer.get("status", 0), answer.get("detail", ""))
        )
    return answer


def _watch(child: subprocess.Popen, handle: str, cache: Path | None, tick: Callable[[], None]) -> None:
    """Wait for the child; raise DataError when nothing on disk grew for STALL_SECONDS."""
    size, moved = -1, time.monotonic()
    while True:
        try:
            child.wait(timeout=0.2)
            return
        except subprocess.TimeoutExpired:
            tick()
        now = _bytes_below(cache)
        if now != size:
            size, moved = now, time.monotonic()
        elif time.monotonic() - moved > STALL_SECONDS:
            raise DataError(
                f"Kaggle sent nothing of {handle} for {STALL_SECONDS:g} s\ntry again later, or use a copy from a local path"
            )


def _bytes_below(folder: Path | None) -> int:
    total = 0
    for root, _, names in os.walk(folder or ""):
        for name in names:
            try:
                total += os.stat(os.path.join(root, name)).st_size
            except FileNotFoundError:  # the child is at work in there
                continue
    return total


def _message(handle: str, error: str, status: int, detail: str) -> str:
    detail = detail.split(":")[0] if error == "network" else detail  # urllib3 says the rest at length
    local = "a copy that you have can be read from a local path instead"
    if error == "status" and status in (401, 403):
        return (
            f"Kaggle refuses {handle} ({status}): it may be private, ask for consent, or not exist\n"
            "open its page once, then set KAGGLE_API_TOKEN (kaggle.com, Settings, API)"
        )
    if error == "status" and status in (404, 200):
        return f"Kaggle has no dataset {handle} ({status}): check owner, name and version\n{local}"
    return {
        "status": f"Kaggle answered {status} for {handle}\ntry again later; {local}",
        "network": f"cannot reach Kaggle for {handle} ({detail}, {ATTEMPTS} times)\ncheck the network or proxy; {local}",
        "page": f"Kaggle's answer for {handle} is a web page, not data\na login or proxy page stands between; {local}",
        "damaged": f"the download of {handle} came damaged, {ATTEMPTS} times ({detail})\ntry again later; {local}",
        "disk": f"cannot store {handle}: {detail}\nmake room or choose another folder",
    }.get(error, f"the download of {handle} failed: {detail or 'its process ended without a word'}\n{local}")
