"""Raw files -> rows, the mechanics that the corpora share: each row knows its file and its place in it.

Values stay strings: inference from the first rows has turned real columns into numbers. A record that cannot be read does not
stop the reading: its columns are null, and `malformed` says what is wrong with it. A file that cannot be read does.
"""

import codecs
import csv
import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import polars as pl

from data_contracts import DataError

PLACE = ("source_file", "source_row")
MALFORMED = "malformed"
ROW, BROKEN = "\0row", "\0malformed"  # names that no file has for a column

# Characters. A longer field is the rest of a file after a quote that nobody closed; the csv module holds it at four bytes each.
LONGEST_FIELD = 1 << 24
BATCH_ROWS = 2000  # 68 MB of tweets take 1.2 s; longer batches are slower, and hold more Python strings at a time

# What the csv module says, and what a person can do about it.
CSV_ERRORS = {
    "unexpected end of data": "a quote that is not closed: is the file cut?",
    "expected after": "text after a closing quote: is a quote inside the field not doubled?",
    "field larger than": f"a field of more than {LONGEST_FIELD:,} characters: is a quote not closed?",
}


def csv_rows(
    path: Path, name: str, needed: Iterable[str] = (), encoding: str | None = None, delimiter: str = ","
) -> pl.DataFrame:
    """Records of a CSV file with a header (BOM, CRLF and quoted line breaks understood): strings, null for an empty field.

    Blank lines are no records; column names are stripped; a column without a name is called by its number. needed: columns that
    must be there. encoding: None where the corpus gives no choice, then it is UTF-8. Raises DataError for a file that is of
    no use: another encoding, no header, a column missing or named twice.
    """
    csv.field_size_limit(LONGEST_FIELD)  # of the whole process, and always the same
    try:
        with path.open(encoding=_codec(encoding), newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = _header(reader, name, needed)
            schema = dict.fromkeys([*header, BROKEN], pl.String)
            records = _records(reader, len(header))
            frames = [pl.DataFrame(schema=schema)]
            while batch := list(islice(records, BATCH_ROWS)):
                columns = pl.DataFrame(list(zip(*batch, strict=True)), schema, orient="col")
                frames.append(columns.with_columns(pl.all().replace("", None)))
    except UnicodeError:
        raise _not_text(path, name, encoding) from None
    return pl.concat(frames).with_row_index(ROW).pipe(_place, name, malformed=BROKEN)


def jsonl_rows(path: Path, name: str, columns: Iterable[str] | dict) -> pl.LazyFrame:
    """Objects of a JSON Lines file: only `columns`, as strings (or of the types given), null where an object lacks one.

    Blank lines do not count. Raises DataError naming the line for whatever is not a JSON object in UTF-8.
    """
    _check_jsonl(path, name)
    return pl.scan_ndjson(path, schema=_schema(columns), row_index_name=ROW).pipe(_place, name)


def json_array(path: Path, name: str, columns: Iterable[str] | dict, inside: str = "") -> pl.DataFrame:
    """Objects of a file that is one JSON array: only `columns`, as strings (or of the types given), null where one is missing.

    Numbers and truth values become strings too. inside: in a file that is an object, the name under which the array stands. As
    fast as polars itself: only a file that it refuses is read again, so that DataError can say where the damage is.
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
    return rows.with_row_index(ROW).pipe(_place, name)


def parquet_rows(path: Path, name: str) -> pl.LazyFrame:
    """Rows of a parquet file with the types it has. Raises DataError for a file that polars cannot open."""
    try:
        rows = pl.scan_parquet(path, row_index_name=ROW)
        rows.collect_schema()
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{name} cannot be read as parquet: {str(error).splitlines()[0]}") from None
    return rows.pipe(_place, name)


def text(path: Path, name: str, encoding: str | None = None) -> str:
    """A whole text file, without BOM. Raises DataError naming byte and line of what is not in its encoding."""
    try:
        return path.read_bytes().decode(_codec(encoding))
    except UnicodeError:
        raise _not_text(path, name, encoding) from None


def rows_of(texts: list[str], column: str, name: str) -> pl.DataFrame:
    """Rows out of pieces of one file that Python has cut: `column`, source_file, source_row."""
    places = {"source_file": [name] * len(texts), "source_row": range(len(texts))}
    return pl.DataFrame({column: texts} | places, {column: pl.String, "source_file": pl.String, "source_row": pl.Int64})


def listed(columns: Iterable[str], most: int = 12) -> str:
    """Names of columns for a message, shortened, with a question where they look like data."""
    columns = list(columns)
    shown = ", ".join(repr(column[:30]) for column in columns[:most]) + (", ..." if len(columns) > most else "")
    data = any(len(column) > 40 or re.search(r"\d{3}|^\d+$|://|\n", column) for column in columns)
    return shown + (": these look like data, is the first line a header?" if data else "")


def _place(rows: pl.LazyFrame, name: str, **more: str) -> pl.LazyFrame:
    """Rows with source_file, source_row and `more`; columns of the file that go by these names make way."""
    ours = {"source_file": pl.lit(name), "source_row": pl.col(ROW).cast(pl.Int64)}
    return rows.select(pl.exclude(ROW, BROKEN, MALFORMED, *PLACE), **ours, **more)


def _schema(columns: Iterable[str] | dict) -> dict:
    return columns if isinstance(columns, dict) else dict.fromkeys(columns, pl.String)


def _codec(encoding: str | None) -> str:
    try:
        known = codecs.lookup(encoding or "utf-8").name
    except LookupError:
        raise DataError(f"options.encoding {encoding!r} is not known to Python; try cp1252, or utf-8") from None
    return "utf-8-sig" if known == "utf-8" else known


def _header(reader, name: str, needed: Iterable[str]) -> list[str]:
    try:
        header = [column.strip() for column in next(filter(None, reader), [])]
    except csv.Error as error:
        raise DataError(f"{name} line 1 is no CSV header: {_explain(error)}") from None
    if not any(header):
        raise DataError(f"{name} has an empty header: its first line must name the columns")
    if "\0" in "".join(header):
        raise DataError(f"{name} has NUL bytes in its first line: it is no text, or damaged; fetch or export it again")
    if twice := sorted({column for column in header if column and header.count(column) > 1}):
        raise DataError(f"{name} names a column more than once, rename one: {listed(twice)}")
    if missing := [column for column in needed if column not in header]:
        raise DataError(f"{name} has no column {listed(missing)}; it has {listed(header)}")
    return [column or f"column {number}" for number, column in enumerate(header)]


def _records(reader, width: int) -> Iterator[list[str | None]]:
    """`width` fields and what is wrong with the record: null for a good one; then all fields are."""
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield [None] * width + [f"line {line}: {_explain(error)}"]
            continue
        record = ",".join(fields)
        if len(fields) == width and "\0" not in record:
            yield [*fields, None]
        elif len(fields) > 1 or record.strip():
            short = record[:100].replace("\0", "\\0") + "..." * (len(record) > 100)
            wrong = "a NUL byte" if "\0" in record else f"{len(fields)} fields where the header has {width}"
            yield [None] * width + [f"line {line}: {wrong}: {short}"]


def _explain(error: csv.Error) -> str:
    return next((mend for said, mend in CSV_ERRORS.items() if said in str(error)), str(error))


def _check_jsonl(path: Path, name: str) -> None:
    for number, line in enumerate(_lines(path, name), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{name} line {number} is not JSON ({error}): is the file cut?") from None
        if not isinstance(value, dict):
            raise DataError(
                f"{name} line {number} is a JSON {type(value).__name__}, not an object {{...}} of named values"
            )


def _lines(path: Path, name: str) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            yield from file
    except UnicodeDecodeError:
        raise _not_text(path, name) from None


def _damage(path: Path, name: str, schema: dict, inside: str, error: Exception) -> DataError:
    """What is wrong with a JSON array that polars refused, by decoding it record by record."""
    data = path.read_bytes()
    if (at := data.find(b"\0")) >= 0:
        return DataError(f"{name} has a NUL byte at offset {at}: it is damaged; fetch or export it again")
    try:
        content = data.decode()
    except UnicodeDecodeError:
        return _not_text(path, name)
    at = content.find("[", content.find(f'"{inside}"') if inside else 0) + 1
    decode, between, number = json.JSONDecoder().raw_decode, re.compile(r"[\s,]*"), 0
    while (at := between.match(content, at).end()) < len(content) and content[at] != "]":
        try:
            value, end = decode(content, at)
        except (ValueError, RecursionError) as problem:
            place = f"record {number}, which begins at byte {len(content[:at].encode())}"
            return DataError(f"{name}: {place}, is not whole JSON ({problem}): is the file cut?")
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


def _not_text(path: Path, name: str, encoding: str | None = None) -> DataError:
    """Says where the first byte of another encoding stands, reading the file again by lines: only failures pay for it."""
    utf8 = _codec(encoding) == "utf-8-sig"
    mend = "save it as UTF-8, for example: iconv -f WINDOWS-1252 -t UTF-8"
    if encoding:
        mend += ', or name its encoding: options.encoding = "cp1252"' if utf8 else ", or name another options.encoding"
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8" if utf8 else encoding)
            except UnicodeDecodeError as error:
                at = f"byte 0x{line[error.start]:02x} at offset {offset + error.start} (line {number})"
                return DataError(f"{name} is not {'UTF-8' if utf8 else encoding}: {at}\n{mend}")
            offset += len(line)
    return DataError(f"{name} is not {'UTF-8' if utf8 else encoding}\n{mend}")
