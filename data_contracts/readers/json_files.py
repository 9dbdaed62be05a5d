"""JSON files: one object on each line (JSON Lines), or one array of objects."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl

from data_contracts import DataError
from data_contracts.readers.plain_text import not_text
from data_contracts.readers.rows import ROW, place


def jsonl_rows(path: Path, name: str, columns: Iterable[str] | dict) -> pl.LazyFrame:
    """Objects of a JSON Lines file: only `columns`, as strings (or of the types given), null where an object lacks one.

    Blank lines are skipped. Raises DataError naming the line that is not a JSON object in UTF-8.
    """
    _check_jsonl(path, name)
    return pl.scan_ndjson(path, schema=_schema(columns), row_index_name=ROW).pipe(place, name)


def json_array(path: Path, name: str, columns: Iterable[str] | dict, inside: str = "") -> pl.DataFrame:
    """Objects of a file that is one JSON array: only `columns`, as strings (or of the types given), null where one is missing.

    Numbers and truth values become strings too. inside: in a file that is an object, the key of the array. As fast as polars
    itself: only a file that it refuses is read again, so that DataError can say where the damage is.
    """
    schema = _schema(columns)
    with path.open("rb") as file:
        wrapped = file.read(1024).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{"
    if wrapped and not inside:
        raise DataError(f"{name} is one JSON object {{...}}, not an array [...] of records: is it another file?")
    try:
        rows = pl.read_json(path, schema={inside: pl.List(pl.Struct(schema))} if wrapped else schema)
    except pl.exceptions.PolarsError as error:
        raise _damage(path, name, schema, inside if wrapped else "", error) from None
    if wrapped:
        rows = rows.explode(inside).drop_nulls(inside).unnest(inside)
    if rows.is_empty():
        raise DataError(f"{name} holds no record{f' under {inside!r}' * wrapped}: is it another file?")
    return rows.with_row_index(ROW).pipe(place, name)


def _schema(columns: Iterable[str] | dict) -> dict:
    return columns if isinstance(columns, dict) else dict.fromkeys(columns, pl.String)


def _check_jsonl(path: Path, name: str) -> None:
    for number, line in enumerate(_lines(path, name), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{name} line {number} is not JSON ({error}): is the file cut?") from None
        if not isinstance(value, dict):
            kind = type(value).__name__
            raise DataError(f"{name} line {number} is a JSON {kind}, not an object {{...}} of named values")


def _lines(path: Path, name: str) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            yield from file
    except UnicodeDecodeError:
        raise not_text(path, name) from None


def _damage(path: Path, name: str, schema: dict, inside: str, error: Exception) -> DataError:
    """What is wrong with a JSON array that polars refused, found by decoding it record by record."""
    data = path.read_bytes()
    if (at := data.find(b"\0")) >= 0:
        return DataError(f"{name} has a NUL byte at offset {at}: it is damaged; fetch or export it again")
    try:
        content = data.decode()
    except UnicodeDecodeError:
        return not_text(path, name)
    at = content.find("[", content.find(f'"{inside}"') if inside else 0) + 1
    decoder, separator, number = json.JSONDecoder(), re.compile(r"[\s,]*"), 0
    while between := separator.match(content, at):
        at = between.end()
        if content[at : at + 1] in ("", "]"):
            break
        try:
            value, end = decoder.raw_decode(content, at)
        except (ValueError, RecursionError) as problem:
            which = f"record {number}, which begins at byte {len(content[:at].encode())}"
            return DataError(f"{name}: {which}, is not whole JSON ({problem}): is the file cut?")
        if not isinstance(value, dict):
            return DataError(f"{name}: record {number} is no object {{...}}")
        for column, kind in schema.items():
            if kind == pl.String and isinstance(value.get(column), dict | list):
                what = type(value[column]).__name__
                return DataError(f"{name}: record {number} {column!r} holds a {what}, not text")
        at, number = end, number + 1
    if at >= len(content):
        return DataError(f"{name} ends after {number} whole records ({len(data)} bytes) without a ]: is the file cut?")
    return DataError(f"{name} cannot be read as JSON: {str(error).splitlines()[0]}")
