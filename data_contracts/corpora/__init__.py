"""The corpora: one module each, found by listing this folder, so that adding one is adding a file.

A module gives
    FILES                  patterns of the names of the raw files that it reads
    Raw                    contract of the raw rows: the columns that `documents` needs; others are welcome
    read(path, name)       rows of one of its files, called by its relative name, in order, with `source_file` and `source_row`
                           (0-based, in that file), and `malformed` where a record may be unreadable: what is wrong with it,
                           null for none. Raises DataError for a file that cannot be read
    documents(raw)         rows -> text, source_file, source_row, metadata (JSON); n_rows where several rows make a text; reason
                           where the corpus itself rejects texts (null: accepted); source_id where the source gave them ids,
                           which decide the side of the split (null, or no such column: file and row do); drawn where it
                           draws the sides itself (split.side_of)
and where it needs them
    RULES                  text rules of its own, applied between the first and the last of the common ones (rules.read_rules)
    REASONS                what each `reason` means, {name: why}
    build(folder)          writes the raw files of a built-in corpus
Further arguments of `read` are options that a recipe may set, all strings.

`rick-and-morty` lives in `rick_and_morty.py`. A user's own corpus, whatever its name, is read by `own.py`, and a
mixture of corpora by `_mix.py`. Names with an underscore in front, such as `_reddit.py`, are no corpora but what several share.
"""

import importlib
from pathlib import Path
from types import ModuleType
from typing import get_args, get_type_hints

from data_contracts import DataError

OWN, MIX = "own", "_mix"


def names() -> list[str]:
    """The known corpora, sorted, without `own`."""
    modules = (path.stem for path in Path(__file__).parent.glob("*.py"))
    return sorted(name.replace("_", "-") for name in modules if not name.startswith("_") and name != OWN)


def find(name: str) -> ModuleType:
    """The module that reads a corpus: its own where the name is known, else the one for users' folders."""
    return importlib.import_module(f"{__name__}.{name.replace('-', '_') if name in (*names(), MIX) else OWN}")


def reader(name: str) -> ModuleType:
    """What has FILES and `read` of a corpus: for a user's own without pandera, which takes two seconds to load."""
    return importlib.import_module("data_contracts.readers.kinds") if name not in (*names(), MIX) else find(name)


def require_options(name: str, options: dict[str, str]) -> None:
    """Raise DataError for an option, or a value of one, that the corpus's `read` does not take."""
    kinds = dict(list(get_type_hints(reader(name).read).items())[2:-1]) if options else {}
    if unknown := ", ".join(sorted(options.keys() - kinds)):
        raise DataError(f"corpus {name!r} takes no option {unknown}; it takes {', '.join(kinds) or 'none'}")
    for option, value in options.items():
        if (allowed := get_args(kinds[option])) and value not in allowed:
            raise DataError(f"options.{option} {value!r} is not {' or '.join(filter(None, allowed))}")
