"""A Kaggle dataset, file by file, through kagglehub in a process of its own that is watched and can be killed.

kagglehub verifies nothing after a download, tries nothing twice, waits for ever on a silent server and remembers a damaged
file as good (each measured). So every file is fetched by itself into a cache inside the target folder, looked at, and moved to
its own name only when it is whole: what has that name is finished, and an interrupted download goes on with the next file, and
within a file where it broke off. Whether to sign in is kagglehub's affair; public datasets need no credentials.
"""

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from data_contracts import DataError, Unreachable
from data_contracts.sources import files
from data_contracts.sources.disk import Progress, bytes_below, disk_errors, require_space, told

ATTEMPTS = 4  # that bring nothing new
PAUSE_SECONDS = 1.0  # before the second attempt; doubles each time
STALL_SECONDS = 45.0  # without an answer or a new byte on disk

QUIET = {
    "KAGGLE_LOGGING_ENABLED": "false",
    "KAGGLEHUB_VERBOSITY": "error",
    # Inside a Kaggle or Colab notebook kagglehub would answer with a read-only mount instead of files of ours.
    "DISABLE_KAGGLE_CACHE": "true",
    "DISABLE_COLAB_CACHE": "true",
}
SIGN_IN = "KAGGLE_API_TOKEN, or KAGGLE_USERNAME with KAGGLE_KEY, or ~/.kaggle/kaggle.json"


def current_version(handle: str) -> int:
    """The number of the current version of `owner/dataset`. Raises DataError (Unreachable) when Kaggle cannot say."""
    with _Child(handle) as child:
        version = child.ask(do="version")["version"]
    if not version:
        raise DataError(f"Kaggle names no version of {handle}: pin one as {handle}/versions/N")
    return version


def listing(handle: str) -> dict[str, int]:
    """All files of `owner/dataset/versions/N`: {name: bytes, or 0 where Kaggle does not say}. Raises as `current_version`."""
    with _Child(handle) as child:
        return child.listing()


def download(
    handle: str, choose: Callable[[Iterable[str]], list[str]], folder: Path, progress: Progress, what: str
) -> None:
    """Put files of `owner/dataset/versions/N` into `folder`, under their names there, and leave nothing else in it.

    choose: of all names in the dataset, those to fetch. what: how to call them when the disk is too small. Files that are there
    with the size that Kaggle lists are not fetched again. Raises DataError (two lines) when Kaggle refuses or lacks them, when
    what comes is damaged, empty or a web page, and Unreachable when Kaggle does not answer. Shows no token, no signed address.
    """
    cache = folder / ".kagglehub"
    with disk_errors(what), _Child(handle, cache) as child:
        listed = child.listing()
        wanted = {name: listed[name] for name in choose(listed)}
        there = _keep(folder, wanted, cache)
        missing = {name: size for name, size in wanted.items() if name not in there}
        # A file that Kaggle sends zipped lies there twice while it is unpacked.
        needed = sum(missing.values()) + max(missing.values(), default=0)
        require_space(folder, needed - bytes_below(cache), what)
        total = sum(wanted.values()) if all(wanted.values()) else 0

        def tick(came: int) -> None:
            progress(*told(len(there), len(wanted), sum(there.values()) + came, total))

        for name, size in missing.items():
            path = child.fetch(name, size, tick)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            there[name] = path.replace(folder / name).stat().st_size
        shutil.rmtree(cache, ignore_errors=True)
        tick(0)


def _keep(folder: Path, wanted: dict[str, int], cache: Path) -> dict[str, int]:
    """The finished files with their bytes. All else is removed, but for the cache with the file that was interrupted."""
    there = {}
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder comes before it
        name = path.relative_to(folder).as_posix()
        if path.is_relative_to(cache):
            continue
        if path.is_dir():
            with suppress(OSError):  # it goes where it is empty
                path.rmdir()
        elif name in wanted and wanted[name] in (0, path.stat().st_size):
            there[name] = path.stat().st_size
        else:
            path.unlink()
    return there


class _Child:
    """kaggle_child.py at work on one dataset: asked one thing after another, and again where that may help."""

    def __init__(self, handle: str, cache: Path = Path(os.devnull)) -> None:
        self.handle, self.cache = handle, cache
        self.answers: queue.SimpleQueue[dict] = queue.SimpleQueue()
        self.process = subprocess.Popen(
            # -P: the script's own folder stays off sys.path, where our module names could hide others'.
            [sys.executable, "-P", str(Path(__file__).with_name("kaggle_child.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | QUIET | {"KAGGLEHUB_CACHE": str(cache)},
            text=True,
        )
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def __enter__(self) -> "_Child":
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.wait()
        self.listener.join()
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()

    def listing(self) -> dict[str, int]:
        """All files of the dataset: {name: bytes, or 0 where Kaggle does not say}."""
        found, token, seen = {}, "", set()
        while token not in seen:  # the last page names none, and a broken list names one again
            seen.add(token)
            page = self.ask(do="page", token=token)
            found |= page["files"]
            token = page["next"]
        return found

    def fetch(self, name: str, size: int, tick: Callable[[int], None]) -> Path:
        """Where the file lies when it is there, whole. size: what it must have, 0 if that is not known."""

        def check(answer: dict) -> str:
            came = Path(answer["path"]).stat().st_size
            if size and came != size:
                return f"{came} bytes came, Kaggle lists {size}"
            try:
                files.inspect(Path(answer["path"]), name)
            except DataError as error:
                return str(error)
            return ""

        return Path(self.ask(tick, check, do="file", name=name)["path"])

    def ask(
        self,
        tick: Callable[[int], None] = lambda _: None,
        check: Callable[[dict], str] = lambda _: "",
        **question: str,
    ) -> dict:
        """The answer to a question. check: what is wrong with it, if something is. Raises DataError when no attempt helped."""
        self.moved, self.size = time.monotonic(), bytes_below(self.cache)
        failures, most = 0, self.size
        while True:
            answer = self._once(question | {"handle": self.handle}, tick)
            if "error" not in answer:
                if not (problem := check(answer)):
                    return answer
                answer = {"error": "damaged", "status": 0, "detail": problem}
            if answer["error"] == "damaged":  # kagglehub would go on from it
                shutil.rmtree(self.cache, ignore_errors=True)
            # A line that breaks again and again still gets there, as long as each attempt brings more than any before.
            came = bytes_below(self.cache)
            failures += came <= most
            most = max(most, came)
            may_pass = answer["error"] in ("network", "page") or answer["status"] == 429 or answer["status"] >= 500
            if failures == ATTEMPTS or not (may_pass or answer["error"] == "damaged"):
                words = _message(self.handle, question.get("name", ""), **answer)
                raise Unreachable(words) if may_pass else DataError(words)
            time.sleep(PAUSE_SECONDS * 2 ** (failures - 1))

    def _once(self, question: dict, tick: Callable[[int], None]) -> dict:
        """One attempt. Raises Unreachable when no byte came for STALL_SECONDS, whether in one attempt or over several."""
        with suppress(BrokenPipeError):  # it died; its last word says so
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
        while True:
            with suppress(queue.Empty):
                return self.answers.get(timeout=0.2)
            size = bytes_below(self.cache)
            tick(size)
            if size > self.size:
                self.moved = time.monotonic()
            self.size = size
            if time.monotonic() - self.moved > STALL_SECONDS:
                raise Unreachable(
                    f"Kaggle sent nothing of {self.handle} for {STALL_SECONDS:g} s\n"
                    "try again later, what came is kept; a copy that you have can be read from a local path instead"
                )

    def _listen(self) -> None:
        with suppress(ValueError):  # a line cut by its death
            for line in self.process.stdout:
                self.answers.put(json.loads(line))
        self.answers.put({"error": "other", "status": 0, "detail": "its process ended without a word"})


def _message(handle: str, name: str, error: str, status: int, detail: str) -> str:
    what = f"{name} of {handle}" if name else handle
    page = f"kaggle.com/datasets/{handle.split('/versions/')[0]}"
    later = "try again later, what came is kept; a copy that you have can be read from a local path instead"
    if error == "status" and status in (401, 403):
        return (
            f"Kaggle refuses {what} ({status}): it is private, or its terms wait to be accepted on {page}\n"
            f"credentials go into {SIGN_IN}"
        )
    if error == "status" and status == 404:
        return (
            f"Kaggle does not know {what} (404): check owner, name and version on {page}\n"
            f"a private one needs credentials in {SIGN_IN}"
        )
    return {
        "status": f"Kaggle answered {status} for {what}\n{later}",
        "network": f"cannot reach Kaggle for {what} ({detail}, {ATTEMPTS} times): check the network or proxy\n{later}",
        "page": f"Kaggle's answer for {what} is a web page, not data: a login or proxy page stands between\n{later}",
        "damaged": f"{what} came damaged, {ATTEMPTS} times: {detail}\n{later}; source.files can leave it out",
        "disk": f"cannot store {what}: {detail}\nmake room, or set GPT_HOME to a folder on a larger disk",
    }.get(error, f"the download of {what} failed ({detail})\ncheck the credentials in {SIGN_IN}, if you set any")
