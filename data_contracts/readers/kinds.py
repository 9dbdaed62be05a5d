"""The kinds of files that a user may bring, and how each is read: as texts, as a table with a text in each row, as a chat.

Loads no pandera, so that a command can try the first file before anything else is started.
"""

import json
import re
import tempfile
from pathlib import Path
from typing import Any, Literal

import polars as pl

from data_contracts.readers import chats, documents, tables
from data_contracts.readers.plain_text import GUTENBERG, encoding_of, text
from data_contracts.readers.rows import UNDERSTOOD, reading, rows_of

# Names that the column with the text may have, best first.
TEXT_COLUMNS = [
    *("text", "body", "content", "comment_body", "comment", "selftext", "message", "document", "tweet", "line"),
    *("full_text", "contents", "messages", "conversations"),
]
TABLES = (*tables.JSON, ".csv", ".parquet", ".tsv")
TEXTS = (".log", ".markdown", ".md", ".rst", ".text", ".txt")
FILES = (*(f"*{ending}" for ending in (*TEXTS, *TABLES, *documents.KINDS) if ending != ".js"), "*tweet*.js")
HEAD_BYTES = 1 << 20  # of a large file that `probe` reads
HYPHEN = re.compile(r"(?<=[^\W\d_])[-\u00ad\u2010]\r?\n[ \t]*([a-zß-öø-ÿ]\S*)[ \t]*\r?\n?")
GUESSES = 5  # that are shown


def read(
    path: Path,
    name: str,
    text_column: str = "",
    encoding: str = "",
    delimiter: str = "",
    header: Literal["", "false"] = "",
    names: Literal["", "mask"] = "",
    hyphens: Literal["", "join"] = "",
) -> pl.LazyFrame:
    """Texts, the rows of a table, or the conversations of a chat. UNDERSTOOD says what the file was taken for.

    text_column: the column of a table that holds the text; by default the first of TEXT_COLUMNS that a file has. encoding: by
    default it is found out. delimiter, header: of a .csv file ("false": it has no header). names: "mask" those of the people
    who write in a chat. hyphens: "join" words that are parted at line ends, as in a PDF; a compound loses its own hyphen there.
    """
    ending, guess, app, whole, book = path.suffix.lower(), "", "", "", None
    messages = list[chats.Message]()
    if not encoding and ending not in (".parquet", *documents.BINARY):
        encoding, guess = encoding_of(path, name)
    if ending in TEXTS:
        whole = text(path, name, encoding)
        app, messages = chats.written(whole)
        if book := GUTENBERG.search(whole):
            whole = book[1]
    elif ending == ".json":
        app, messages = chats.exported(path, name, encoding)
    messages = [message for message in messages if not chats.NO_TEXT.fullmatch(message[2])]
    if app:
        found = rows_of(chats.conversations(messages, names == "mask") or [""], "text", name).lazy()
    elif ending in TABLES:
        layout = {"header": header != "false"} | ({"delimiter": delimiter} if delimiter else {})
        found = tables.rows(path, name, TEXT_COLUMNS, text_column, encoding, None, **layout)
    else:
        texts = documents.read(path, name, encoding) if ending in documents.KINDS else [whole]
        found = rows_of([HYPHEN.sub(r"\1\n", one) for one in texts] if hyphens else texts, "text", name).lazy()
    kind = f"{'Project Gutenberg' if book else app or ending[1:]} files {encoding and f'in {encoding}'}".strip()
    people = sorted({who for _, who, _ in messages})
    understood = json.dumps([kind, guess, people, len(messages), name if messages else ""])
    return found.with_columns(pl.lit(understood).alias(UNDERSTOOD))


def describe(understood: dict[str, int]) -> list[str]:
    """Lines on what files were taken for, and on each guess. understood: by what `read` says of a file, its texts."""
    files = [(*json.loads(about), texts) for about, texts in sorted(understood.items())]
    guesses, kinds = [guess for _, guess, *_ in files if guess], []
    for kind in dict.fromkeys(kind for kind, *_ in files):
        ours = [file for file in files if file[0] == kind]
        people, messages = {name for file in ours for name in file[2]}, sum(file[3] for file in ours)
        what = f"{sum(file[-1] for file in ours):,} texts of {kind}"
        kinds.append(f"{what}: {messages:,} messages of {len(people)} people" if people else what)
    return [", ".join(kinds), *guesses[:GUESSES], *["... and so for others"] * (len(guesses) > GUESSES)]


def probe(path: Path, name: str, **options: Any) -> None:
    """Read a file, or the beginning of a large one, to raise DataError for what is wrong with it."""
    ending = path.suffix.lower()
    if ending == ".parquet" or path.stat().st_size <= HEAD_BYTES:
        with reading(name):
            read(path, name, **options).lazy().collect_schema()
    elif ending not in (".json", ".js", *documents.BINARY):  # the beginning of an array is none
        with path.open("rb") as file, tempfile.NamedTemporaryFile(suffix=ending) as head:
            head.write(file.read(HEAD_BYTES).rpartition(b"\n")[0])
            head.flush()
            if ending in tables.JSON:  # an object may go on behind the beginning
                wanted, encoding = options.get("text_column", ""), options.get("encoding", "")
                tables.json_columns(Path(head.name), name, TEXT_COLUMNS, wanted, encoding, ())
            else:
                read(Path(head.name), name, **options)
