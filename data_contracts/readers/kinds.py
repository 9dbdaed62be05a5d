"""The kinds of files that a user may bring, and how each is read: as one text, or as a table with a text in each row.

Loads no pandera, so that a command can try the first file before anything else is started.
"""

import tempfile
from pathlib import Path

import polars as pl

from data_contracts.readers import tables
from data_contracts.readers.plain_text import text
from data_contracts.readers.rows import reading, rows_of

# Names that the column with the text may have, best first.
TEXT_COLUMNS = [
    "text",
    "body",
    "content",
    "comment_body",
    "comment",
    "selftext",
    "message",
    "document",
    "tweet",
    "line",
]
TABLES = (".csv", ".json", ".jsonl", ".ndjson", ".parquet", ".tsv")
TEXTS = (".log", ".markdown", ".md", ".rst", ".text", ".txt")
FILES = tuple(f"*{ending}" for ending in (*TEXTS, *TABLES))
HEAD_BYTES = 1 << 20  # of a large file that `probe` reads


def read(path: Path, name: str, text_column: str = "", encoding: str = "utf-8") -> pl.DataFrame | pl.LazyFrame:
    """A text, or the rows of a table.

    text_column: the column of a table that holds the text; by default the first of TEXT_COLUMNS that a file has. encoding: of
    text and .csv files.
    """
    if path.suffix.lower() in TABLES:
        return tables.rows(path, name, TEXT_COLUMNS, text_column, encoding, keep=None)
    return rows_of([text(path, name, encoding)], "text", name)


def probe(path: Path, name: str, **options: str) -> None:
    """Read a file, or the beginning of a large one, to raise DataError for what is wrong with it."""
    ending = path.suffix.lower()
    if ending == ".parquet" or path.stat().st_size <= HEAD_BYTES:
        with reading(name):
            read(path, name, **options).lazy().collect_schema()
    elif ending != ".json":  # one array, whose beginning is none
        with path.open("rb") as file, tempfile.NamedTemporaryFile(suffix=ending) as head:
            head.write(file.read(HEAD_BYTES).rpartition(b"\n")[0])
            head.flush()
            read(Path(head.name), name, **options)
