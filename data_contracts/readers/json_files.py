"""JSON files, however they are laid out: an object on each line (JSON Lines), in arrays, or one after another on any lines."""

import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

import polars as pl

from data_contracts import DataError
from data_contracts.readers.plain_text import codec_of, not_text
from data_contracts.readers.rows import ROW, place

BLOCK_CHARS, HEAD_CHARS = 1 << 20, 1 << 10
# What may stand between objects, and before those of a Twitter archive.
BETWEEN = re.compile(r"(?:window\.YTD\.[\w.]+ = )?[ \t\r\n,\[\]\x1e\ufeff]*")
HALF = re.compile("[\ud800-\udfff]")  # of a pair of surrogates: no character
TURN = ("role", "from", "content", "value")  # the keys of a message in a conversation
# Numbers stay as they are written; NaN is nothing.
DECODER = json.JSONDecoder(parse_constant=lambda _: None, parse_float=str, parse_int=str)


def json_rows(path: Path, name: str, columns: Iterable[str] | dict, encoding: str = "") -> pl.DataFrame:
    """The `objects` of a file: only `columns`, as strings (or of the types given), null where an object lacks one.

    Numbers and truth values become strings too, and lists what `turns` makes of them. Raises DataError for a file without
    objects, and for the line that is not JSON, or holds something else instead of a string.
    """
    schema = columns if isinstance(columns, dict) else dict.fromkeys(columns, pl.String)
    rows = [
        [_value(record.get(column), kind, f"{name} line {line}: {column!r}") for column, kind in schema.items()]
        for line, record in objects(path, name, encoding)
    ]
    if not rows:
        raise DataError(f"{name} holds no object {{...}} of named values: is it another file?")
    return pl.DataFrame(rows, schema, orient="row", strict=False).with_row_index(ROW).pipe(place, name)


def objects(path: Path, name: str, encoding: str = "") -> Iterator[tuple[int, dict]]:
    """The objects of a file, and the line on which each begins. Where a .json file is one object, those of its longest list.

    A block of the file is in memory at a time, or the object that is longer. Raises DataError naming the line that is damaged.
    """
    try:
        with path.open(encoding=codec_of(encoding)) as file:
            wrapped = path.suffix.lower() == ".json" and file.read(HEAD_CHARS).lstrip().startswith("{")
            file.seek(0)
            found = _decoded(file, name)
            first = list(islice(found, 2))
            lists = [value for _, one in first for value in one.values() if isinstance(value, list) and wrapped]
            inner = [(first[0][0], one) for one in max(lists, key=len, default=()) if isinstance(one, dict)]
            yield from inner if inner and len(first) == 1 else chain(first, found)
    except UnicodeError:
        raise not_text(path, name, encoding) from None


def turns(values: list) -> str | None:
    """Texts as lines, and messages of {role, content} as the turns of a conversation; None if there is anything else."""
    lines: list[Any] = [
        ": ".join(str(one[key]) for key in TURN if one.get(key)) or None if isinstance(one, dict) else one
        for one in values
    ]
    return "\n".join(lines) if all(isinstance(line, str) for line in lines) else None


def _decoded(file: TextIO, name: str) -> Iterator[tuple[int, dict]]:
    text, at, line, depth = "", 0, 1, 0
    while True:
        between = BETWEEN.match(text, at)[0]  # type: ignore[index]
        at, line, depth = at + len(between), line + between.count("\n"), depth + between.count("[") - between.count("]")
        try:
            record, end = DECODER.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            wrong, why = getattr(error, "pos", at), getattr(error, "msg", error)
            # What goes on in the next block is missed at the end of this one; damage is anywhere.
            goes_on = wrong > len(text) - 16 or "Unterminated" in str(why)
            if goes_on and (block := file.read(max(BLOCK_CHARS, len(text) - at))):
                text, at = text[at:] + block, 0
                continue
            if at == len(text) and not depth:
                return
            place = line + text.count("\n", at, wrong)
            raise DataError(f"{name} line {line} is not JSON ({why}, line {place}): is the file cut?") from None
        if not isinstance(record, dict):
            raise DataError(f"{name} line {line} is not an object {{...}} of named values")
        yield line, record.get("tweet", record) if len(record) == 1 else record
        at, line = end, line + text.count("\n", at, end)


def _value(value: object, kind: object, where: str) -> object:
    """Raises DataError for a value of a text's column that is no text."""
    if kind != pl.String:
        return value
    text = turns(value) if isinstance(value, list) else value
    if isinstance(value, dict | list) and not isinstance(text, str):
        raise DataError(f"{where} holds a {type(value).__name__}, not text")
    return HALF.sub("\ufffd", text) if isinstance(text, str) else text
