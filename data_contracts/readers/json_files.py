"""JSON files: one object on each line (JSON Lines), or one array of objects, or objects however they are laid out."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from data_contracts import DataError
from data_contracts.readers.plain_text import codec_of, not_text, text
from data_contracts.readers.rows import ROW, place


def jsonl_rows(path: Path, name: str, columns: Iterable[str] | dict, encoding: str = "") -> pl.LazyFrame:
    """Objects of a JSON Lines file: only `columns`, as strings (or of the types given), null where an object lacks one.

    Blank lines and a BOM are skipped. Raises DataError naming the line that is not a JSON object in UTF-8, or that holds a list
    or an object instead of a string.
    """
    schema, rows = _schema(columns), []
    try:
        with path.open(encoding=codec_of(encoding), newline="\n") as file:
            for number, line in enumerate(file, 1):
                if line.strip(" \t\r\n"):
                    rows.append(_values(_decode(line, f"{name} line {number}"), schema, f"{name} line {number}"))
    except UnicodeError:
        raise not_text(path, name, encoding) from None
    frame = pl.DataFrame(rows, schema, orient="row", strict=False)
    return frame.with_row_index(ROW).pipe(place, name).lazy()


def table_of(found: list[dict], columns: Iterable[str] | dict, name: str) -> pl.DataFrame:
    """The columns of objects, as `jsonl_rows` has them."""
    schema = _schema(columns)
    rows = [_values(one, schema, f"{name}: record {number}") for number, one in enumerate(found)]
    return pl.DataFrame(rows, schema, orient="row", strict=False).with_row_index(ROW).pipe(place, name)


def objects(content: str, name: str) -> list[dict]:
    """The objects of a text, in arrays or not, whatever stands between them; or those of the longest list in a single one.

    Raises DataError naming the line that is no JSON, or if there is no object.
    """
    at, values = 0, []
    try:
        while (at := BETWEEN.match(content, at).end()) < len(content):  # type: ignore[union-attr]
            value, at = DECODER.raw_decode(content, at)
            values += value if isinstance(value, list) else [value]
    except (ValueError, RecursionError) as error:
        line = content.count("\n", 0, getattr(error, "pos", at)) + 1
        raise DataError(f"{name} line {line} is not JSON ({error}): is the file cut?") from None
    if len(values) == 1 and content.lstrip("\ufeff \r\n\t").startswith("{"):
        lists = [one for one in values[0].values() if isinstance(one, list) and one and isinstance(one[0], dict)]
        values = max(lists, key=len, default=values)
    if not values or not all(isinstance(value, dict) for value in values):
        raise DataError(f"{name} holds no objects {{...}} of named values: is it another file?")
    return values


def turns(value: object) -> object:
    """A list of texts as lines, and one of {role, content} as the turns of a conversation; anything else as it is.

    Half of a surrogate pair, which is no character, becomes U+FFFD.
    """
    if isinstance(value, str):
        return HALF.sub("\ufffd", value)
    if not isinstance(value, list) or not all(isinstance(one, str | dict) for one in value):
        return value
    lines = [one if isinstance(one, str) else ": ".join(one[key] for key in TURN if one.get(key)) for one in value]
    return "\n".join(lines) if all(lines) else value


def json_array(path: Path, name: str, columns: Iterable[str] | dict, inside: str = "") -> pl.DataFrame:
    """Objects of a file that is one JSON array: only `columns`, as strings (or of the types given), null where one is missing.

    Numbers and truth values become strings too. inside: in a file that is an object, the key of the array. polars reads it in a
    third of the time; what it refuses is read again, by Python, and a DataError says where the damage is.
    """
    schema = _schema(columns)
    with path.open("rb") as file:
        wrapped = file.read(1024).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{"
    if wrapped and not inside:
        raise DataError(f"{name} is one JSON object {{...}}, not an array [...] of records: is it another file?")
    try:
        rows = pl.read_json(path, schema={inside: pl.List(pl.Struct(schema))} if wrapped else schema)
    except pl.exceptions.PolarsError:
        found = _decode(text(path, name), name)
        found = found.get(inside) if isinstance(found, dict) else found
        if not isinstance(found, list):
            raise DataError(f"{name} holds no array [...] of records: is it another file?") from None
        return table_of(found, schema, name)
    if wrapped:
        rows = rows.explode(inside).drop_nulls(inside).unnest(inside)
    if rows.is_empty():
        raise DataError(f"{name} holds no record{f' under {inside!r}' * wrapped}: is it another file?")
    return rows.with_row_index(ROW).pipe(place, name)


def _schema(columns: Iterable[str] | dict) -> dict:
    return columns if isinstance(columns, dict) else dict.fromkeys(columns, pl.String)


HALF = re.compile("[\ud800-\udfff]")
BETWEEN = re.compile(r"[ \t\r\n,\x1e\ufeff]*")
TURN = ("role", "from", "content", "value")
# Numbers stay as they are written; NaN is nothing.
DECODER = json.JSONDecoder(parse_constant=lambda _: None, parse_float=str, parse_int=str)


def _decode(content: str, where: str) -> object:
    try:
        return DECODER.decode(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON ({error}): is the file cut?") from None


def _values(record: object, schema: dict, where: str) -> list:
    """The values of an object's columns. Raises DataError for one of another kind than it should be."""
    if not isinstance(record, dict):
        raise DataError(f"{where} is not an object {{...}} of named values")
    values = [turns(record.get(column)) for column in schema]
    for (column, kind), value in zip(schema.items(), values, strict=True):
        if kind == pl.String and isinstance(value, dict | list):
            raise DataError(f"{where}: {column!r} holds a {type(value).__name__}, not text")
    return values
