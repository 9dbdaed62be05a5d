"""Locks of the kernel, which a killed process does not keep: who builds an artifact, who uses a home, which run is alive."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from flows import UserError


def take(file: IO, *, shared: bool = False, wait: bool = False) -> bool:
    """Lock an open file until it is closed. False when another process has it and there is no waiting.

    The file must be open for reading and writing: NFS gives a shared lock to readers only, another to writers only. Raises
    UserError when its disk has no locks.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        raise UserError(
            f"the disk of {Path(file.name).parent} has no locks ({error.strerror}), so two runs would write over each other; "
            "set GPT_SHARED_HOME, or GPT_HOME, to one that has"
        ) from None
    return True


@contextmanager
def lock(home: Path, name: str, log: Callable[[str], None] = print) -> Iterator[None]:
    """One holder at a time of a name; says so when it has to wait."""
    with _open(home, name) as file:
        if not take(file):
            log(f"{name} is being made by another process; waiting for it")
            take(file, wait=True)
        yield


@contextmanager
def in_use(home: Path) -> Iterator[None]:
    """Held by every run from beginning to end, so that nothing is pruned that a run has yet to read."""
    with _open(home, "in-use") as file:
        take(file, shared=True, wait=True)
        yield


@contextmanager
def idle(home: Path) -> Iterator[None]:
    """Nothing runs in this home while this is held. Raises UserError when something does."""
    with _open(home, "in-use") as file:
        if not take(file):
            raise UserError("a run is in progress in this home; try again when it has ended")
        yield


def _open(home: Path, name: str) -> IO[str]:
    folder = home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return (folder / name.replace("/", "-")).open("a+")
