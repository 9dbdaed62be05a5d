"""Kernel locks, which a killed process loses: on an artifact that is built, a home that is used, a run that is alive."""

import fcntl
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO

from flows import UserError
from flows.home import shared_home
from flows.progress import log_line


def take(file: IO, *, shared: bool = False, wait: bool = False) -> bool:
    """Lock an open file until it is closed. Returns False if another process has it, unless wait is set. The file must be
    open for reading and writing: NFS gives a shared lock to readers only, another to writers only. Raises UserError when its
    disk has no locks."""
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        problem = f"the disk of {Path(file.name).parent} has no locks ({error.strerror})"
        mend = "set GPT_SHARED_HOME, or GPT_HOME, to one that has"
        raise UserError(f"{problem}, so two runs would write over each other; {mend}") from None
    return True


@contextmanager
def lock(home: Path, name: str, *, shared: bool = False, waiting: str = "") -> Iterator[None]:
    """Hold the lock of a name; logs a line if it has to wait."""
    with _open(home, name) as file:
        if not take(file, shared=shared):
            log_line(waiting or f"{name} is being made by another process; waiting for it")
            take(file, shared=shared, wait=True)
        yield


def in_use() -> AbstractContextManager[None]:
    """Every run holds this from beginning to end, so that nothing is pruned that it still needs."""
    return lock(shared_home(), "in-use", shared=True, waiting="waiting until another process has pruned this home")


@contextmanager
def idle() -> Iterator[None]:
    """No run is in progress in this home while this is held. Raises UserError if one is."""
    with _open(shared_home(), "in-use") as file:
        if not take(file):
            raise UserError("a run is in progress in this home; try again when it has ended")
        yield


def _open(home: Path, name: str) -> IO[str]:
    folder = home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return (folder / name.replace("/", "-")).open("a+")
