"""Where a corpus comes from: built into Python, an https file, a local folder or a Kaggle dataset.

`resolve` says which bytes are meant, without paths, URLs or secrets: two sources with the same answer are the same data, and
moving a folder or changing a mirror changes nothing. `fetch` brings those bytes.
"""

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal, get_args
from urllib.parse import unquote, urlsplit

from data_contracts import DataError, corpora, files

Kind = Literal["builtin", "https", "local", "kaggle"]

HANDLE = re.compile(r"(?P<dataset>[\w.-]+/[\w.-]+)(/versions/(?P<version>[1-9]\d*))?", re.ASCII)
SHA256 = re.compile(r"[0-9a-fA-F]{64}")

# The fields that mean something to each kind; setting another one would have no effect, so it is refused.
FIELDS: dict[str, dict[str, str]] = {
    "builtin": {},
    "https": {"url": "needed", "sha256": "needed", "files": "optional"},
    "local": {"path": "needed", "files": "optional"},
    "kaggle": {"handle": "needed", "files": "optional"},
}


def ignore(_: float) -> None:
    """The progress callback of somebody who does not want to know."""


@dataclass(frozen=True)
class Source:
    """Where to get a corpus. Raises DataError that lists every problem at once."""

    kind: Kind
    """builtin (the corpus module writes it), https (one file), local (a file or a folder) or kaggle (a dataset)."""
    handle: str = ""
    """kaggle: `owner/dataset` for its current version, or `owner/dataset/versions/N` to pin one."""
    url: str = ""
    """https: the address of the file. No part of the data's identity: a mirror with the same sha256 is the same source."""
    sha256: str = ""
    """https: 64 hex digits that the file must have."""
    path: str = ""
    """local: a file, or a folder that is searched with all its subfolders; `~` is your home."""
    files: tuple[str, ...] = ()
    """Only these files, named relative to the dataset or folder; none means all. https: the name to save under."""

    def __post_init__(self) -> None:
        problems = list(_problems(self))
        if problems:
            raise DataError(f"source of kind {self.kind!r}: " + "; ".join(problems))


def resolve(source: Source, corpus: str) -> dict:
    """Which bytes a source means, as plain JSON: the part of an artifact's key that stands for the raw data.

    builtin {"builtin", "python"}; https {"sha256"}; local {"files": {relative name: sha256}}; kaggle {"handle", "version",
    "files"}. Only an unpinned Kaggle handle asks the network. Raises DataError when the source cannot be found.
    """
    if source.kind == "builtin":
        corpora.load(corpus)
        return {"builtin": corpus, "python": ".".join(map(str, sys.version_info[:3]))}
    if source.kind == "https":
        return {"sha256": source.sha256.lower()}
    if source.kind == "local":
        with _disk_errors():
            return {"files": {name: files.sha256(path) for name, path in _local_files(source, corpus).items()}}
    dataset, version = _split_handle(source.handle)
    if not version:
        from data_contracts import kaggle

        version = kaggle.current_version(dataset)
    return {"handle": dataset, "version": version, "files": sorted(source.files)}


def pinned(source: Source, identity: dict) -> Source:
    """The source of exactly the bytes that `resolve` named: a Kaggle dataset at that version."""
    return (
        replace(source, handle=f"{identity['handle']}/versions/{identity['version']}")
        if source.kind == "kaggle"
        else source
    )


def fetch(source: Source, corpus: str, folder: Path, progress: Callable[[float], None] = ignore) -> None:
    """Put the raw files of a source into `folder`, which exists and is empty.

    progress: called with the share done, 0 to 1, when the total is known. Raises DataError for whatever the network, the
    server or the user got wrong; leaves no temporary file behind when it succeeds.
    """
    if source.kind == "builtin":
        module = corpora.load(corpus)
        if not hasattr(module, "build"):
            raise DataError(f"corpus {corpus!r} is not built in: its source needs kind kaggle, https or local")
        module.build(folder)
    elif source.kind == "https":
        from data_contracts import download

        download.download(source.url, source.sha256.lower(), folder / _file_name(source), progress)
    elif source.kind == "local":
        with _disk_errors():
            _copy(_local_files(source, corpus), folder, progress)
    else:
        from data_contracts import kaggle

        kaggle.download(source.handle, source.files, folder, progress)
        if not source.files:
            files.require(folder, corpora.find(corpus).FILES)
    progress(1.0)


@contextmanager
def _disk_errors() -> Iterator[None]:
    """A file that may not be read, or a disk that is full, is something for the user to mend, not a defect."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}") from None


def _problems(source: Source) -> Iterator[str]:
    if source.kind not in get_args(Kind):
        yield f"kind is not one of {', '.join(get_args(Kind))}"
        return
    fields = FIELDS[source.kind]
    for field in ("handle", "url", "sha256", "path", "files"):
        value = getattr(source, field)
        if value and field not in fields:
            yield f"{field} has no effect here, leave it out"
        if not value and fields.get(field) == "needed":
            yield f"{field} is missing"
    if source.handle and not HANDLE.fullmatch(source.handle):
        yield f"handle {source.handle!r} is not owner/dataset or owner/dataset/versions/N"
    if source.url and (urlsplit(source.url).scheme not in ("http", "https") or not urlsplit(source.url).hostname):
        yield "url is not an http(s) address"
    if source.sha256 and not SHA256.fullmatch(source.sha256):
        yield f"sha256 {source.sha256!r} is not 64 hex digits"
    for name in source.files:
        if not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            yield f"file {name!r} is not a name inside the source"
    if source.kind == "https" and len(source.files) > 1:
        yield "files names more than the one file that a url gives"


def _split_handle(handle: str) -> tuple[str, int]:
    """('owner/dataset', version), 0 standing for the current one."""
    parts = HANDLE.fullmatch(handle)
    return parts["dataset"], int(parts["version"] or 0)


def _file_name(source: Source) -> str:
    return source.files[0] if source.files else PurePosixPath(unquote(urlsplit(source.url).path)).name or "data"


def _local_files(source: Source, corpus: str) -> dict[str, Path]:
    path = Path(source.path).expanduser()
    patterns = corpora.find(corpus).FILES
    if not path.exists():
        raise DataError(f"{source.path} does not exist: check the path that corpus {corpus!r} is read from")
    if path.is_file():
        if not files.matches(path.name, patterns):
            raise DataError(f"{source.path} is not a file that corpus {corpus!r} can read ({', '.join(patterns)})")
        return {path.name: path}
    found = files.find(path, patterns)
    missing = [name for name in source.files if name not in found]
    if missing:
        raise DataError(f"{source.path} does not hold {', '.join(missing)}; it has {files.listing(path)}")
    if not found:
        raise DataError(f"{source.path} holds no file that corpus {corpus!r} can read ({', '.join(patterns)})")
    return {name: found[name] for name in sorted(source.files)} if source.files else found


def _copy(found: dict[str, Path], folder: Path, progress: Callable[[float], None]) -> None:
    """Copy, not link: a file that its owner edits later must not change under an artifact that is already hashed."""
    total = sum(path.stat().st_size for path in found.values())
    done = 0
    for name, path in found.items():
        files.inspect(path, name)
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        done += path.stat().st_size
        progress(done / max(1, total))
