"""Files on this machine: one file, a folder, and what is packed in archives and compressed files there, one in another.

The names and sizes in an archive are not trusted. It is refused as a whole if an entry points out of it, and before anything is
written if a wanted entry occurs twice or has no room. zipfile never gives more of an entry than its declared size, and checks
its CRC. What has no declared size is written for as long as there is room.
"""

import bz2
import errno
import gzip
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path, PurePosixPath, PureWindowsPath
from tempfile import SpooledTemporaryFile
from typing import Any, NamedTuple

from data_contracts import DataError
from data_contracts.sources import files
from data_contracts.sources.files import Progress, report, require_space

BLOCK_BYTES = 1 << 20
IN_MEMORY = 1 << 26  # of a zip archive that is packed itself; a larger one is unpacked on the disk
DEEPEST = 4  # an archive in an archive in ...
STREAMS: dict[str, Callable[[Any], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": lambda file: import_module("pyarrow").CompressedInputStream(file, "zstd"),  # loads numpy
    ".tgz": gzip.open,
}
PACKED = tuple(f"*{ending}" for ending in (".zip", ".tar", *STREAMS))


class Member(NamedTuple):
    """A file, in whatever it is packed: how to call it in a message, and its size as declared (0: nothing says it)."""

    name: str
    label: str
    size: int
    open: Callable[[], Any]


def unpack(
    found: dict[str, Path], choose: files.Choose, folder: Path, progress: Progress, what: str, flat: bool
) -> list[str]:
    """Write the chosen files into `folder`, and return the names of all. No links: a file that its owner edits later must not
    change under a hashed artifact.

    what: how to call the files when the disk is too small. flat: what is in an archive has the name that it has there; else the
    archive's name stands before it. Raises DataError (one line) naming what cannot be trusted or read.
    """

    def members() -> Iterator[Member]:  # each to be read before the next is asked for
        for name, path in found.items():
            yield from _inside(
                Member(name, name, path.stat().st_size, partial(path.open, "rb")), "" if flat else f"{name}/"
            )

    there: dict[str, list[Member]] = {}
    for member in members():
        there.setdefault(member.name, []).append(member)
    left = set(choose(there))
    for name in sorted(left):
        if (n := len(there[name])) > 1:
            labels = " and ".join(sorted({member.label.rpartition(" in ")[2] for member in there[name]}))
            raise DataError(f"{name} is {n} times in {labels}: unpack the one that is meant")
    total, wanted, done = sum(there[name][0].size for name in left), len(left), 0
    require_space(folder, total, what)
    for member in members():
        if member.name not in left:
            continue
        left.remove(member.name)
        target = folder / member.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with _broken(member.label), member.open() as packed, target.open("wb") as file:
            while block := packed.read(BLOCK_BYTES):
                if not member.size:
                    require_space(folder, BLOCK_BYTES, what)
                done += file.write(block)
                report(progress, wanted - len(left), wanted, done, total)
            if member.size and file.tell() != member.size:
                raise EOFError
        files.inspect(target, member.label)
    return list(there)


def _inside(packed: Member, prefix: str) -> Iterator[Member]:
    """The files in a file, or itself. prefix: of their names, if it is an archive."""
    name, label, _, opened = packed
    ending = PurePosixPath(name).suffix.lower()
    if ending in STREAMS:
        name = name[: -len(ending)] + ".tar" * (ending == ".tgz")
        if ending == ".zst" and not PurePosixPath(name).suffix:
            name += ".jsonl"  # as dumps of Reddit are called
        yield from _inside(Member(name, label, 0, lambda: STREAMS[ending](opened())), prefix)
    elif ending not in (".zip", ".tar"):
        yield packed
    elif label.count(" in ") == DEEPEST:
        raise DataError(f"{label} is an archive in {DEEPEST} others: unpack it yourself")
    else:
        with _broken(label), opened() as file, SpooledTemporaryFile(IN_MEMORY) as whole:
            if ending == ".tar":
                archive: Any = tarfile.open(fileobj=file, mode="r|")  # noqa: SIM115
                entries = ((one.name, one.size, partial(archive.extractfile, one)) for one in archive if one.isfile())
            else:
                if label != name:  # a zip is read from its end
                    shutil.copyfileobj(file, whole)
                archive = zipfile.ZipFile(whole if label != name else file)
                infos = [one for one in archive.infolist() if not one.filename.endswith(("/", "\\"))]
                entries = ((one.filename, one.file_size, partial(archive.open, one)) for one in infos)
            for entry, size, content in entries:
                inner = Member(prefix + _name(entry, label), f"{_name(entry, label)} in {label}", size, content)
                yield from _inside(inner, f"{inner.name}/")


def _name(entry: str, label: str) -> str:
    """An entry's name with / between its parts, read as Windows would: with \\ as a separator, and with drives."""
    place = PureWindowsPath(entry)
    if place.drive or place.root or ".." in place.parts:
        raise DataError(f"{label} is refused: its entry {entry!r} points out of the folder it is unpacked in")
    return place.as_posix()


@contextmanager
def _broken(label: str) -> Iterator[None]:
    """Raise DataError for what archives and decompressors raise."""
    try:
        yield
    except RuntimeError as error:  # it is encrypted, or by a method that zipfile does not have
        raise DataError(f"{label} cannot be unpacked here ({error}): unpack it yourself and name that folder") from None
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError, OSError) as error:
        damage = (None, errno.EINVAL)  # bad bzip2; an offset before the start
        if isinstance(error, DataError) or (isinstance(error, OSError) and error.errno not in damage):
            raise
        if "too much memory" in str(error):  # for the window of zstd's long mode, as in dumps of Reddit
            raise DataError(
                f"{label} is packed too tightly: unpack it by zstd -d --long=31 FILE, and name what comes out"
            ) from None
        kind = PurePosixPath(label.rpartition(" in ")[2]).suffix.strip(".") or "whole"
        why = str(error) or "it ends too soon"
        raise DataError(f"{label} is not a {kind} archive, or is damaged ({why}): download it again") from None
