"""Where a corpus comes from: built into Python, an https file, a local folder, a Kaggle dataset, a store such as S3, or others.

`resolve` identifies the bytes that a source means, without paths, addresses or secrets: sources with the same identity are the
same data, so moving a folder or using a mirror changes nothing. `fetch` brings those bytes.
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from functools import partial
from hashlib import sha256
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from data_contracts import DataError, corpora
from data_contracts.rules import Count
from data_contracts.sources import files, local, mixture
from data_contracts.sources.files import Progress, require_space

Kind = Literal["builtin", "https", "local", "kaggle", "remote", "mix"]

STORES = "hf://datasets/OWNER/NAME[@REVISION][/path], s3://BUCKET[/prefix] or gs://BUCKET[/prefix]"
ADDRESS = re.compile(r"(?:hf://datasets/[\w.-]+/[\w.-]+(?:@[^/?#]+)?|(?:s3|gs)://[\w.-]+)(?:/[^?]*)?")
CHECKED = 1000  # files that `check` looks into
PACKED = ".packed"  # where archives of a store are until they are unpacked
# The fields that each kind uses, and whether it needs them; any other would have no effect, so it is refused.
FIELDS: dict[str, dict[str, bool]] = {
    "builtin": {},
    "https": {"url": True, "sha256": True, "files": False},
    "local": {"path": True, "files": False, "max_files": False},
    "kaggle": {"handle": True, "files": False, "max_files": False},
    "remote": {"url": True, "sha256": False, "files": False, "max_files": False},
    "mix": {"parts": False},
}


@dataclass(frozen=True)
class Source:
    """Where to get a corpus. Raises DataError that lists every problem at once."""

    kind: Kind
    """builtin (the corpus module writes it), https (one file), local (a file, a folder or a zip), kaggle (a dataset), remote (a
    dataset on Hugging Face's Hub, a bucket of S3 or of Google) or mix (other corpora)."""
    handle: str = ""
    """kaggle: `owner/dataset` for its current version, or `owner/dataset/versions/N` to pin one."""
    url: str = ""
    """https: the address of the file. No part of the data's identity: a mirror with the same sha256 is the same source. What
    is secret in it stays in the environment: ${NAME} stands for a variable. remote: hf://datasets/OWNER/NAME[@REVISION][/path],
    s3://BUCKET[/prefix] or gs://BUCKET[/prefix]."""
    sha256: str = ""
    """https: 64 hex digits that the file must have. remote: that of all versions, as `pinned` makes it."""
    path: str = ""
    """local: a file, or a folder that is searched with all its subfolders; `~` is your home. Zip archives are unpacked."""
    files: tuple[str, ...] = ()
    """Only these files, named relative to the dataset, folder or archive; empty means all. https: the name to save under."""
    max_files: Count = 0
    """kaggle, local, remote: only so many files, the first by name; 0 means all. Only these are downloaded. Where names are
    random, as in the Wikipedia dump, they are a random sample."""
    parts: tuple[mixture.Part, ...] = ()
    """mix: what it is made of."""

    @property
    def address(self) -> str:
        """The url with the values of its variables."""
        return os.path.expandvars(self.url)

    def __post_init__(self) -> None:
        known = FIELDS[self.kind]
        given = [field.name for field in fields(self)[1:] if getattr(self, field.name) != field.default]
        problems = [f"{name} has no effect here, leave it out" for name in given if name not in known]
        problems += [f"{name} is missing" for name in known if known[name] and name not in given]
        if self.handle and not re.fullmatch(r"[\w.-]+/[\w.-]+(/versions/[1-9]\d*)?", self.handle, re.ASCII):
            problems.append(f"handle {self.handle!r} is not owner/dataset or owner/dataset/versions/N")
        parts = urlsplit(self.address)
        if missing := re.search(r"\$\{(\w+)\}", self.address):
            problems.append(f"url names the variable {missing[1]}, which the environment does not have")
        elif self.url and self.kind == "remote" and not ADDRESS.fullmatch(self.address):
            problems.append(f"url is not {STORES}")
        elif self.url and self.kind != "remote" and (parts.scheme not in ("http", "https") or not parts.hostname):
            problems.append("url is not an http(s) address")
        if self.sha256 and not re.fullmatch(r"[0-9a-fA-F]{64}", self.sha256):
            problems.append(f"sha256 {self.sha256!r} is not 64 hex digits")
        for name in self.files:
            if not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                problems.append(f"file {name!r} is not a name inside the source")
        if self.kind == "https" and len(self.files) > 1:
            problems.append("files names more than the one file that a url gives")
        if problems:
            raise DataError(f"source of kind {self.kind!r}: " + "; ".join(problems))


def resolve(source: Source, corpus: str) -> dict:
    """Which bytes a source means, as plain JSON: the part of an artifact's key that stands for the raw data.

    A Kaggle version never changes, so only a handle without one asks the network. Of a local archive "files" has the sha256,
    and "entries" what is taken out of it. Of a store's file it has the version that the store says. Raises DataError if the
    source cannot be found, Unreachable if a server is silent.
    """
    if source.kind == "builtin":
        return {"builtin": corpus, "python": ".".join(map(str, sys.version_info[:3]))}
    if source.kind == "https":
        return {"sha256": source.sha256.lower()}
    if source.kind == "mix":
        if gone := [part.corpus for part in source.parts if not Path(part.folder, "documents").is_dir()]:
            raise DataError(f"the clean documents of {', '.join(gone)}, of the mixture, are gone: gpt clean {gone[0]}")
        return {"mix": {part.corpus: [part.share, part.digest] for part in source.parts}}
    part = {"max_files": source.max_files} if source.max_files else {}
    if source.kind in ("local", "remote"):
        found, packed, _ = _found(source, corpus)
        digest: Any = files.digest
        if source.kind == "remote":
            from data_contracts.sources.remote import version as digest
        identity: dict = {"files": {name: digest(one) for name, one in found.items()}}
        entries = {"entries": sorted(source.files)} if source.files else {}
        return identity | part | entries if packed else identity
    handle, _, pin = source.handle.partition("/versions/")
    version = int(pin or 0)
    if not version:
        from data_contracts.sources import kaggle

        version = kaggle.Dataset(handle).version()
    wanted = sorted(source.files or corpora.reader(corpus).FILES)
    return {"handle": handle, "version": version, "files": wanted} | part


def pinned(source: Source, identity: dict) -> Source:
    """The source of exactly the bytes that `resolve` named: a Kaggle dataset at that version, a store with these files."""
    if source.kind == "remote":
        return replace(source, sha256=sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest())
    if source.kind != "kaggle":
        return source
    return replace(source, handle=f"{identity['handle']}/versions/{identity['version']}")


def fetch(source: Source, corpus: str, folder: Path, progress: Progress = lambda share, text: None) -> list[str]:
    """Put the raw files of a source into `folder`, which is empty or holds what an interrupted call for the same source left.

    A Kaggle handle must have a version (see `pinned`). On success the folder holds nothing but those files. Returns the names
    of the files that are left out, of a local source those of no kind that is read. Raises DataError for whatever is wrong
    with the network, the server, the disk or the source.
    """
    choose = partial(_choose, source, corpus)
    if source.kind == "builtin":
        module = corpora.find(corpus)
        if not hasattr(module, "build"):
            raise DataError(f"corpus {corpus!r} is not built in: its source needs kind kaggle, https or local")
        module.build(folder)
        progress(1.0, "")
    elif source.kind == "https":
        from data_contracts.sources import https

        name = source.files[0] if source.files else PurePosixPath(unquote(urlsplit(source.address).path)).name or "data"
        wanted = {name: 0}  # bytes, which only the server knows
        one = partial(https.fetch, source.address, source.sha256.lower())
        https.download(wanted, folder, lambda _, part, received: one(part, received), progress, corpus)
    elif source.kind == "mix":
        mixture.write(source.parts, folder)
        progress(1.0, "")
    elif source.kind in ("local", "remote"):
        found, packed, others = _found(source, corpus)
        known, place = corpora.reader(corpus).FILES, folder / PACKED if packed else folder
        flat = not files.readable(found, known)
        if source.kind == "remote":
            from data_contracts.sources import remote

            remote.download(source.address, found, place, progress, corpus)
            if source.sha256 and pinned(source, resolve(source, corpus)) != source:
                raise DataError(f"{source.url} has changed since its files were listed: start again")
            found = {name: place / name for name in found}
        if packed or source.kind == "local":
            others |= set(local.unpack(found, choose if packed else list, folder, progress, corpus, flat))
            shutil.rmtree(folder / PACKED, ignore_errors=True)
        others -= {*(files.require(folder, known) if source.kind == "remote" else files.readable(others, known))}
        return sorted(files.readable(others, ("*",)))  # not the hidden ones
    else:
        from data_contracts.sources import kaggle

        kaggle.download(source.handle, choose, folder, progress, corpus)
    return []


def check(source: Source, corpus: str, folder: Path | None, options: dict[str, str], least: int = 0) -> None:
    """Raise DataError for what can be known of a source within a second, whatever its size.

    folder: where it will be copied to; None if it may be there already. options: of the corpus's reader.
    least: the characters that a user's own corpus needs.
    """
    corpora.require_options(corpus, options)
    if source.kind not in ("local", "remote"):
        return
    found, packed, _ = _found(source, corpus)
    size = sum(one["size"] if source.kind == "remote" else one.stat().st_size for one in found.values())
    if folder:
        require_space(folder, size, corpus)
    if packed or source.kind == "remote":
        return  # what is wrong with an archive, its unpacking tells
    for name, path in islice(found.items(), CHECKED):
        files.inspect(path, name)
    if corpus not in corpora.names():
        from data_contracts.readers import kinds

        first_of_kind = {path.suffix: name for name, path in reversed(found.items())}
        for name in first_of_kind.values():
            kinds.probe(found[name], name, **options)
    if size < least and not {Path(name).suffix.lower() for name in found} & files.BEGINS.keys():
        raise DataError(f"{corpus} has {size:,} bytes, too few to learn from: bring {least:,} characters or more")


def _choose(source: Source, corpus: str, there: Iterable[str]) -> list[str]:
    """Of the names of all files, those that a source means, sorted. Raises DataError that lists what is there."""
    patterns, names = corpora.reader(corpus).FILES, sorted(there)
    where = source.path or source.url or f"Kaggle's {source.handle}"
    readable, holds = files.readable(names, patterns), f"it has {files.listing(names)}"
    if missing := [name for name in source.files if name not in readable]:
        raise DataError(f"{where} does not hold {', '.join(missing)}; {holds}")
    if not readable:
        if source.kind == "local" and (path := Path(source.path).expanduser()).is_file():
            with path.open("rb") as file:
                kind = files.foreign(file.read(1024))
            where += f" is {kind}, and" if kind else ""
        raise DataError(f"{where} holds no file that corpus {corpus!r} can read ({', '.join(patterns)}); {holds}")
    chosen = [name for name in readable if name in source.files] if source.files else readable
    return chosen[: source.max_files or None]


def _found(source: Source, corpus: str) -> tuple[dict[str, Any], bool, set[str]]:
    """The chosen files by name, False, and the names of the others. Where something is packed, all files that can be read or
    unpacked, and True; but a known corpus is read from its files where it has some. A file: a path, or what a store says."""
    if source.kind == "remote":
        from data_contracts.sources import remote

        there: dict[str, Any] = remote.listing(source.address)
        usual = there if source.files else remote.data_of(source.address, there)
    else:
        path = Path(source.path).expanduser()
        if not path.exists():
            raise DataError(f"{source.path} does not exist: check the path that corpus {corpus!r} is read from")
        usual = there = {path.name: path} if path.is_file() else files.below(path)
    packed, plain = files.readable(usual, local.PACKED), files.readable(usual, corpora.reader(corpus).FILES)
    unpacks = bool(packed) and (corpus not in corpora.names() or not plain)
    wanted = [*plain, *packed] if unpacks else _choose(source, corpus, usual)
    return {name: usual[name] for name in sorted(wanted)}, unpacks, there.keys() - wanted
