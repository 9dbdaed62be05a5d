"""`make lock`: ask of each part whose sources were edited whether its output changes, and write stages.lock."""

import sys

from flows.stages.code_identity import read_lock, stale, write_lock
from flows.stages.definitions import code_parts


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


if __name__ == "__main__":
    main(*sys.argv[1:])
