"""`make lock`: ask of each part whose sources were edited whether its output changes, and write stages.lock."""

import sys
from pathlib import Path

from flows.home import ROOT
from flows.stages.code_identity import LOCK, hash_sources, read_lock
from flows.stages.definitions import code_parts

ABOUT = "# The version of each part of the pipeline's code, and a hash of the sources that decide its output; by `make lock`.\n"


def main(answer: str = "") -> None:
    """answer: `same` or `changed` for all; empty asks for each."""
    parts, known, changed = code_parts(), read_lock(), set()
    for part in stale(parts):
        question = f"the sources of {part} were edited. Does its output change? [same/changed] "
        given = "new" if part not in known else answer or (input(question) if sys.stdin.isatty() else "")
        if given not in ("new", "same", "changed"):
            sys.exit(f"{part}: answer same or changed (make lock ANSWER=same), not {given!r}; stages.lock is as it was")
        print(f"{part}: {given}")
        if given == "changed":
            changed.add(part)
    write_lock(parts, changed)


def write_lock(parts: dict[str, tuple[str, ...]], changed: set[str], path: Path = LOCK, root: Path = ROOT) -> None:
    """Accept the sources of every part as they are; those whose output has changed get the next version."""
    old, text = read_lock(path), ABOUT
    for part, entries in sorted(parts.items()):
        version = old[part]["version"] + (part in changed) if part in old else 1
        text += f'\n["{part}"]\nversion = {version}\nsources = "{hash_sources(entries, root)}"\n'
    path.write_text(text, encoding="utf-8")


def stale(parts: dict[str, tuple[str, ...]], path: Path = LOCK, root: Path = ROOT) -> list[str]:
    """The parts whose sources are not those of the lock."""
    old = read_lock(path)
    found = {part: hash_sources(entries, root) for part, entries in sorted(parts.items())}
    return [part for part, sources in found.items() if old.get(part, {}).get("sources") != sources]


if __name__ == "__main__":
    main(*sys.argv[1:])
