"""What every kind of source needs when it writes files: free space checked first, progress, errors of the disk in words."""

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.filesize import decimal

from data_contracts import DataError

Progress = Callable[[float, str], None]
"""progress(share done from 0 to 1, "12/605 files, 470.0 MB of 23.7 GB")"""


def require_space(folder: Path, needed: int, what: str) -> None:
    """Raise DataError unless the disk of `folder` has so many bytes free. what: who needs them, for the message."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        mend = "take a part with source.max_files or source.fraction, or set GPT_HOME to a folder on a larger disk"
        raise DataError(f"{what} needs {decimal(needed)}, {folder} has {decimal(free)} free\nmake room, {mend}")


def report(progress: Progress, files: int, n_files: int, done: int, total: int) -> None:
    """Call `progress`. done, total: bytes; a total of 0 is one that is not known."""
    if total:
        done = min(done, total)
        progress(done / total, f"{files}/{n_files} files, {decimal(done)} of {decimal(total)}")
    else:
        progress(files / n_files, f"{files}/{n_files} files, {decimal(done)}")


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Raise DataError for an OSError: a file that may not be read and a full disk are for the user to mend."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            mend = "make room, or set GPT_HOME to a folder on a larger one"
            raise DataError(f"{what} does not fit on the disk: {error.strerror}\n{mend}") from None
        raise DataError(f"{error.filename or what}: {error.strerror or type(error).__name__}") from None


def bytes_below(folder: Path) -> int:
    """Bytes of all files below a folder, 0 if there is no such folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
