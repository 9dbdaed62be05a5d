"""Files on this machine: one file, a folder, or zip archives that somebody downloaded by hand.

The names and sizes in an archive are not trusted. It is refused as a whole if an entry points out of it, and before anything is
written if a wanted entry is encrypted, occurs twice or looks like a zip bomb. zipfile itself never gives more of an entry than
its declared size, and checks its CRC.
"""

import errno
import lzma
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PureWindowsPath

from data_contracts import DataError
from data_contracts.sources import files
from data_contracts.sources.disk import Progress, report, require_space

BOMB_BYTES, BOMB_RATIO = 100_000_000, 200  # text shrinks to a tenth, very seldom to a fiftieth
BLOCK_BYTES = 1 << 20

Entry = tuple[str, zipfile.ZipFile, zipfile.ZipInfo]  # how an archive is called, the archive, a file in it


def copy(found: dict[str, Path], folder: Path, progress: Progress, what: str) -> None:
    """Copy files into `folder`. No links: a file that its owner edits later must not change under a hashed artifact."""
    total = sum(path.stat().st_size for path in found.values())
    require_space(folder, total, what)
    done = 0
    for number, (name, path) in enumerate(found.items(), 1):
        files.inspect(path, name)
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        done += path.stat().st_size
        report(progress, number, len(found), done, total)


def unpack(archives: dict[str, Path], choose: files.Choose, folder: Path, progress: Progress, what: str) -> None:
    """Write files of zip archives into `folder` under the names that they have there.

    archives: {how to call it: path}. what: how to call the files when the disk is too small. Raises DataError (one line) naming
    archive and entry for whatever cannot be trusted or read.
    """
    with ExitStack() as opened:
        there: dict[str, list[Entry]] = {}
        for label, path in archives.items():
            with _broken(label):
                archive = opened.enter_context(zipfile.ZipFile(path))
            for info in archive.infolist():
                if not info.filename.endswith(("/", "\\")):
                    there.setdefault(_name(info, label), []).append((label, archive, info))
        wanted = {name: _the_one(name, there[name]) for name in choose(there)}
        total = sum(info.file_size for _, _, info in wanted.values())
        require_space(folder, total, what)
        done = 0
        for number, (name, (label, archive, info)) in enumerate(wanted.items()):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with _broken(f"{name} in {label}"), archive.open(info) as packed, target.open("wb") as file:
                while block := packed.read(BLOCK_BYTES):
                    done += file.write(block)
                    report(progress, number, len(wanted), done, total)
                if file.tell() != info.file_size:
                    raise EOFError
            files.inspect(target, f"{name} in {label}")
    report(progress, len(wanted), len(wanted), done, total)


def _name(info: zipfile.ZipInfo, label: str) -> str:
    """An entry's name with / between its parts, read as Windows would: with \\ as a separator, and with drives."""
    place = PureWindowsPath(info.filename)
    if place.drive or place.root or ".." in place.parts:
        raise DataError(f"{label} is refused: its entry {info.filename!r} points out of the folder it is unpacked in")
    return place.as_posix()


def _the_one(name: str, entries: list[Entry]) -> Entry:
    """The only entry of that name. Raises DataError if there are several, or if it cannot be trusted."""
    label, _, info = entries[0]
    if len(entries) > 1:
        labels = " and ".join(sorted({label for label, _, _ in entries}))
        raise DataError(f"{name} is {len(entries)} times in {labels}: unpack the one that is meant")
    if info.flag_bits & 1:
        raise DataError(f"{name} in {label} is encrypted: unpack it with its password and name that folder")
    if info.file_size > BOMB_BYTES and info.file_size > BOMB_RATIO * info.compress_size:
        growth = f"would grow from {info.compress_size} to {info.file_size} bytes, as a zip bomb does"
        raise DataError(f"{name} in {label} {growth}: if you trust it, unpack it yourself and name that folder")
    return entries[0]


@contextmanager
def _broken(label: str) -> Iterator[None]:
    """Raise DataError for what zipfile and its decompressors raise."""
    try:
        yield
    except NotImplementedError as error:
        raise DataError(f"{label} cannot be unpacked here ({error}): unpack it yourself and name that folder") from None
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, OSError) as error:
        damage = (None, errno.EINVAL)  # bad bzip2; an offset before the start
        if isinstance(error, OSError) and error.errno not in damage:
            raise
        why = str(error) or "it ends too soon"
        raise DataError(f"{label} is not a zip archive, or is damaged ({why}): download it again") from None
