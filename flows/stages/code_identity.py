"""Which code made an artifact: a version while the sources are those of `stages.lock`, their hash once somebody edited them.

The lock has a row for each part: a stage, or the reader of one corpus. Whoever edits a part's sources says by `make lock`
whether its output changes. If not (ANSWER=same), the new hash is accepted and the version stays; else (ANSWER=changed) the
version is raised, and what the part made is rebuilt. Until then the identity is the hash, so an experiment is never served what
older code made. The hash is one of the sources' text, so an edited comment asks, too.
"""

import hashlib
import re
import tomllib
from functools import cache
from pathlib import Path

from flows.home import ROOT

LOCK = Path(__file__).with_name("stages.lock")
WIRING = "flows/stages/definitions.py"  # a source of every stage, without what it imports
IMPORT = re.compile(r"^\s*(?:from ([\w.]+) )?import (?:\(([^)]*)|(.*))", re.MULTILINE)


def identity(part: str, entries: tuple[str, ...], lock: Path = LOCK, root: Path = ROOT) -> str:
    """`part version` if the sources are those of the lock, else `part hash`. entries: see `source_files`."""
    row, found = read_lock(lock).get(part), hash_sources(entries, root)
    return f"{part} {row['version'] if row and row['sources'] == found else found}"


@cache
def hash_sources(entries: tuple[str, ...], root: Path = ROOT) -> str:
    """16 hex digits over these sources and all that they import from their own packages, near and far."""
    texts = [path.read_text(encoding="utf-8") for path in source_files(entries, root)]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def source_files(entries: tuple[str, ...], root: Path = ROOT) -> list[Path]:
    """These files, named from the project's root, and all that they import from their own packages, sorted."""
    found: set[Path] = set()
    waiting = [root / entry for entry in entries]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        if path == root / WIRING:
            continue
        package = path.relative_to(root).parts[0]
        waiting += _modules(root, ".".join(path.relative_to(root).with_suffix("").parts))
        for name in _imports(path.read_text(encoding="utf-8")):
            if name.split(".")[0] == package:
                waiting += _modules(root, name)
    return sorted(found)


def read_lock(path: Path = LOCK) -> dict[str, dict]:
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _modules(root: Path, name: str) -> list[Path]:
    """The file of a module, with the table beside it and the `__init__.py` of each package on the way to it."""
    parts = name.split(".")
    packages = [root.joinpath(*parts[:depth], "__init__.py") for depth in range(1, len(parts) + 1)]
    own = [root.joinpath(*parts).with_suffix(ending) for ending in (".py", ".toml")]
    return [path for path in (*packages, *own) if path.is_file()]


@cache  # many parts are made by the same files
def _imports(text: str) -> set[str]:
    """Every name that a source may import: of `from a import b` both a and a.b."""
    found: set[str] = set()
    for package, several, few in IMPORT.findall(text):
        names = re.findall(r"[\w.]+", several or few)
        found |= {package, *(f"{package}.{name}" for name in names)} if package else {*names}
    return found
