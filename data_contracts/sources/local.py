"""Zip archives that somebody downloaded by hand: the wanted files in them, unpacked without trust in names or sizes.

An archive is refused as a whole for an entry that points out of it, and before anything is written for a wanted one that is
encrypted, there twice or a bomb. zipfile itself never gives more of an entry than its declared size, and checks its CRC.
"""

import errno
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PureWindowsPath

from data_contracts import DataError
from data_contracts.sources import files
from data_contracts.sources.disk import Progress, require_space, told

BOMB_BYTES, BOMB_RATIO = 100_000_000, 200  # text shrinks to a tenth, very seldom to a fiftieth
BLOCK_BYTES = 1 << 20


def unpack(
    archives: dict[str, Path], choose: Callable[[Iterable[str]], list[str]], folder: Path, progress: Progress, what: str
) -> None:
    """Write files of zip archives into `folder` under the names that they have there.

    archives: {how to call it: path}. choose: of all names in them, those wanted. what: how to call the files when the disk is
    too small. Raises DataError (one line) naming archive and entry for whatever cannot be trusted or read.
    """
    with ExitStack() as opened:
        there: dict[str, list[tuple[str, zipfile.ZipFile, zipfile.ZipInfo]]] = {}
        for label, path in archives.items():
            with _broken(label):
                archive = opened.enter_context(zipfile.ZipFile(path))
            for entry in archive.infolist():
                if not entry.filename.endswith(("/", "\\")):
                    there.setdefault(_name(entry, label), []).append((label, archive, entry))
        wanted = {name: there[name] for name in choose(there)}
        for name, places in wanted.items():
            _require_sound(name, places)
        total = sum(places[0][2].file_size for places in wanted.values())
        require_space(folder, total, what)
        done = 0
        for number, (name, [(label, archive, entry)]) in enumerate(wanted.items()):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with _broken(f"{name} in {label}"), archive.open(entry) as packed, target.open("wb") as file:
                while block := packed.read(BLOCK_BYTES):
                    done += file.write(block)
                    progress(*told(number, len(wanted), done, total))
                if file.tell() != entry.file_size:
                    raise EOFError
            files.inspect(target, f"{name} in {label}")
    progress(*told(len(wanted), len(wanted), done, total))


def _name(entry: zipfile.ZipInfo, label: str) -> str:
    """An entry's name with / between its parts. Windows' reading takes \\ for that too, and knows drives."""
    place = PureWindowsPath(entry.filename)
    if place.drive or place.root or ".." in place.parts:
        raise DataError(f"{label} is refused: its entry {entry.filename!r} points out of the folder it is unpacked in")
    return place.as_posix()


def _require_sound(name: str, places: list[tuple[str, zipfile.ZipFile, zipfile.ZipInfo]]) -> None:
    label, _, entry = places[0]
    if len(places) > 1:
        labels = " and ".join(sorted({label for label, _, _ in places}))
        raise DataError(f"{name} is {len(places)} times in {labels}: unpack the one that is meant")
    if entry.flag_bits & 1:
        raise DataError(f"{name} in {label} is encrypted: unpack it with its password and name that folder")
    if entry.file_size > BOMB_BYTES and entry.file_size > BOMB_RATIO * entry.compress_size:
        raise DataError(
            f"{name} in {label} would grow from {entry.compress_size} to {entry.file_size} bytes, as a zip bomb does: "
            "if you trust it, unpack it yourself and name that folder"
        )


@contextmanager
def _broken(label: str) -> Iterator[None]:
    try:
        yield
    except NotImplementedError as error:
        raise DataError(f"{label} cannot be unpacked here ({error}): unpack it yourself and name that folder") from None
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (
            None,
            errno.EINVAL,
        ):  # bad bzip2; an offset before the start
            raise
        why = str(error) or "it ends too soon"
        raise DataError(f"{label} is not a zip archive, or is damaged ({why}): download it again") from None
