"""What every way of bringing files shares: room on the disk before it begins, words while it goes on, errors of the disk."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.filesize import decimal

from data_contracts import DataError

Progress = Callable[[float, str], None]
"""progress(share done from 0 to 1, "12/605 files, 470.0 MB of 23.7 GB")"""


def require_space(folder: Path, needed: int, what: str) -> None:
    """Raise DataError unless the disk of `folder` has so many bytes free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{what} needs {decimal(needed)}, {folder} has {decimal(free)} free\n"
            "make room, take a part with source.max_files or source.fraction, or set GPT_HOME to a folder on a larger disk"
        )


def told(files: int, n_files: int, done: int, total: int) -> tuple[float, str]:
    """What to call a progress callback with; total is 0 where the bytes to come are not known."""
    if not total:
        return files / n_files, f"{files}/{n_files} files, {decimal(done)}"
    done = min(done, total)
    return done / total, f"{files}/{n_files} files, {decimal(done)} of {decimal(total)}"


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """A file that may not be read, or a disk that is full, is something for the user to mend, not a defect."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                f"{what} does not fit on the disk: {error.strerror}\nmake room, or set GPT_HOME to a folder on a larger one"
            ) from None
        raise DataError(f"{error.filename or what}: {error.strerror or type(error).__name__}") from None


def bytes_below(folder: Path) -> int:
    """Bytes of all files below a folder that another process may be at work in; 0 where there is none."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(root, name)).st_size
            except FileNotFoundError:
                continue
    return total
