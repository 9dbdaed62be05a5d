"""Which files of a folder are read, and whether their first bytes fit their names; room for them on the disk, and progress.

Files from every kind of source go through `readable` and `inspect`, so that a login page saved as `posts.csv` or a
spreadsheet renamed to `.csv` is refused by name before anything tries to parse it.
"""

import os
import shutil
from collections.abc import Callable, Iterable
from fnmatch import fnmatch
from hashlib import file_digest
from pathlib import Path, PurePosixPath

from rich.filesize import decimal

from data_contracts import DataError

Progress = Callable[[float, str], None]
"""progress(share done from 0 to 1, "12/605 files, 470.0 MB of 23.7 GB")"""
Choose = Callable[[Iterable[str]], list[str]]
"""choose(names of all files that a source has) -> those that are wanted"""

# First bytes that no text, CSV or JSON file has, and what kind of file has them.
FOREIGN = {
    b"PK\x03\x04": "a zip archive or an Excel file",
    b"PAR1": "a parquet file",
    b"\x1f\x8b": "a gzip file",
    b"%PDF": "a PDF",
    b"\xd0\xcf\x11\xe0": "an old Excel or Word file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"\xfd7zXZ": "an xz file",
    b"SQLite format 3": "an SQLite database",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"{\\rtf": "an RTF document",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself",
}
BEGINS = {".parquet": b"PAR1", ".docx": b"PK\x03\x04", ".epub": b"PK\x03\x04", ".pdf": b"%PDF"}


def below(folder: Path) -> dict[str, Path]:
    """All files below a folder, as {relative name with /: path}, sorted by that name.

    A link to a folder elsewhere is followed once. Bytes of a name that are no UTF-8 are written as \\xff.
    """
    found, places = {}, [folder.resolve()]
    for place, folders, names in os.walk(folder, followlinks=True):
        for link in filter(os.path.islink, [f"{place}/{name}" for name in folders]):
            target = Path(link).resolve()
            if any(target.is_relative_to(known) or known.is_relative_to(target) for known in places):
                folders.remove(os.path.basename(link))
            places.append(target)
        for path in filter(Path.is_file, (Path(place, name) for name in names)):
            name = path.relative_to(folder).as_posix()
            found[name.encode(errors="surrogateescape").decode(errors="backslashreplace")] = path
    return dict(sorted(found.items()))


def readable(names: Iterable[str], patterns: tuple[str, ...]) -> list[str]:
    """The names whose last part fits one of the patterns (case aside).

    Left out are hidden files, files outside the folder (`..`), and the `._x` and `__MACOSX` twins that a Mac adds to archives.
    """

    def wanted(place: PurePosixPath) -> bool:
        hidden = any(part.startswith((".", "/")) or part == "__MACOSX" for part in place.parts)
        return not hidden and any(fnmatch(place.name.lower(), pattern.lower()) for pattern in patterns)

    return [name for name in names if wanted(PurePosixPath(name))]


def require(folder: Path, patterns: tuple[str, ...]) -> dict[str, Path]:
    """The files of a folder that are `readable`, each `inspect`ed. Raises DataError that lists what is there if none is."""
    there = below(folder)
    found = {name: there[name] for name in readable(there, patterns)}
    if not found:
        raise DataError(f"no {' or '.join(patterns)} file among the {listing(there)}")
    for name, path in found.items():
        inspect(path, name)
    return found


def listing(names: Iterable[str], most: int = 6) -> str:
    """Names of files for an error message: '2 files: a.zip, b.xlsx'."""
    names = sorted(names)
    shown = ", ".join(names[:most]) + (", ..." if len(names) > most else "")
    return f"{len(names)} files{': ' + shown if names else ''}"


def inspect(path: Path, name: str, ending: str = "") -> None:
    """Raise DataError if a file is empty, or not of the kind that its ending says: only its first kilobyte is read.

    name: how to call the file in the message. ending: the one that the file will have, if its name is temporary.
    """
    ending = (ending or path.suffix).lower()
    with path.open("rb") as file:
        head = file.read(1024)
    if not head:
        raise DataError(f"{name} is empty (0 bytes): fetch or export it again")
    kind = ending.lstrip(".") or "text"
    if begins := BEGINS.get(ending):
        if head.startswith(begins):
            return
        raise DataError(f"{name} is not a {kind} file: it begins with {head[:4]!r}, not {begins!r}")
    if found := foreign(head):
        raise DataError(f"{name} is {found}, not UTF-8 {kind}: convert it first")
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:15].lower()
    if ending not in (".txt", ".htm", ".html", ".xhtml") and start.startswith((b"<!doctype html", b"<html")):
        raise DataError(f"{name} is an HTML page, not {kind}: a login or error page saved by mistake?")


def foreign(head: bytes) -> str:
    """What kind of file begins so, if it is no text, or no file at all."""
    kinds = (kind for magic, kind in FOREIGN.items() if head.startswith(magic))
    return next(kinds, "a tar archive" if head[257:262] == b"ustar" else "")


def digest(path: Path, algorithm: str = "sha256") -> str:
    """The digest of a file in hex digits, read in blocks."""
    with path.open("rb") as file:
        return file_digest(file, algorithm).hexdigest()


def require_space(folder: Path, needed: int, what: str) -> None:
    """Raise DataError unless the disk of `folder` has so many bytes free. what: who needs them, for the message."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        mend = "take a part with source.max_files, or set GPT_HOME to a folder on a larger disk"
        raise DataError(f"{what} needs {decimal(needed)}, {folder} has {decimal(free)} free\nmake room, {mend}")


def report(progress: Progress, files: int, n_files: int, done: int, total: int) -> None:
    """Call `progress`. done, total: bytes; a total of 0 is one that is not known."""
    done = min(done, total or done)
    size = f"{decimal(done)} of {decimal(total)}" if total else decimal(done)
    progress(done / total if total else files / n_files, f"{files}/{n_files} files, {size}")


def bytes_below(folder: Path) -> int:
    """Bytes of all files below a folder, 0 if there is no such folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
