"""`make lock`: ask of each part whose sources were edited whether its output changes, and write stages.lock."""

import sys

from flows.stages.code_identity import read_lock, stale, write_lock
from flows.stages.definitions import code_parts

QUESTION = "the sources of {} were edited. Does its output change? [same/changed] "


def main(answer: str = "") -> None:
    """answer: `same` or `changed` for all; empty asks for each."""
    parts, known = code_parts(), read_lock()
    changed = set()
    for part in stale(parts):
        if part not in known:
            print(f"{part}: new")
            continue
        given = answer or (input(QUESTION.format(part)) if sys.stdin.isatty() else "")
        if given not in ("same", "changed"):
            sys.exit(f"{part}: answer same or changed (make lock ANSWER=same), not {given!r}; stages.lock is as it was")
        print(f"{part}: {given}")
        changed |= {part} if given == "changed" else set()
    write_lock(parts, changed)


if __name__ == "__main__":
    main(*sys.argv[1:])
