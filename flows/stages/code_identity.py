"""Which code made an artifact: a version while the sources are those of `stages.lock`, their hash once somebody edited them.

The lock has a row for each part: a stage, or the reader of one corpus. Whoever edits a part's sources says by `make lock`
whether its output changes. If not (ANSWER=same), the new hash is accepted and the version stays; else (ANSWER=changed) the
version is raised, and what the part made is rebuilt. Until then the identity is the hash, so an experiment is never served what
older code made. The hash is one of the sources' text, so an edited comment asks, too.
"""

import ast
import hashlib
import tomllib
from functools import cache
from pathlib import Path

from flows.home import ROOT

LOCK = Path(__file__).with_name("stages.lock")


def identity(part: str, entries: tuple[str, ...], lock: Path = LOCK, root: Path = ROOT) -> str:
    """`part version` if the sources are those of the lock, else `part hash`. entries: see `source_files`."""
    row, found = read_lock(lock).get(part), hash_sources(entries, root)
    return f"{part} {row['version'] if row and row['sources'] == found else found}"


@cache
def hash_sources(entries: tuple[str, ...], root: Path = ROOT) -> str:
    """16 hex digits over these sources and all that they import from their own packages, near and far."""
    files = source_files(tuple(entry for entry in entries if ":" not in entry), root)
    texts = [path.read_text(encoding="utf-8") for path in files]
    for file, _, name in (entry.partition(":") for entry in entries):
        if name:
            texts += _definitions((root / file).read_text(encoding="utf-8"), name)
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def source_files(entries: tuple[str, ...], root: Path = ROOT) -> list[Path]:
    """These files, named from the project's root, and all that they import from their own packages, sorted. An entry
    `file.py:name` is one function, with what it uses of the same file; what it imports is named by other entries."""
    found: set[Path] = set()
    waiting = [root / entry for entry in entries]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        package = path.relative_to(root).parts[0]
        waiting += _modules(root, ".".join(path.relative_to(root).parent.parts))
        for name in _imports(path.read_text(encoding="utf-8")):
            if name.split(".")[0] == package:
                waiting += _modules(root, name)
    return sorted(found)


def read_lock(path: Path = LOCK) -> dict[str, dict]:
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _modules(root: Path, name: str) -> list[Path]:
    """The file of a module, with the `__init__.py` of each package on the way to it."""
    parts = name.split(".")
    packages = [root.joinpath(*parts[:depth], "__init__.py") for depth in range(1, len(parts) + 1)]
    return [path for path in (*packages, root.joinpath(*parts).with_suffix(".py")) if path.is_file()]


@cache  # many parts are made by the same files
def _imports(text: str) -> set[str]:
    """Every name that a source may import: of `from a import b` both a and a.b."""
    found: set[str] = set()
    for node in ast.walk(_parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def _definitions(text: str, name: str) -> list[str]:
    """A function of a source, and all that it uses of the same source: other functions, classes and constants."""
    defined: dict[str, ast.stmt] = {}
    for node in _parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined[node.name] = node
        elif isinstance(node, ast.Assign):
            defined |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
    found: dict[str, str] = {}
    lines, waiting = text.splitlines(), [name]
    while waiting:
        name = waiting.pop()
        node = defined[name]
        first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])
        found[name] = "\n".join(lines[first - 1 : node.end_lineno])
        inner = [inner for part in getattr(node, "body", [node]) for inner in ast.walk(part)]
        used = {name.id for name in inner if isinstance(name, ast.Name)}
        waiting += (used & defined.keys()) - found.keys()
    return [found[name] for name in sorted(found)]


def _parse(text: str) -> ast.Module:
    """A second time, if another thread parsed meanwhile: CPython 3.11 counts the depth of both as one."""
    try:
        return ast.parse(text)
    except SystemError:
        return ast.parse(text)
