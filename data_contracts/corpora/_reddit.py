"""What the corpora from Reddit share: posts and comments, and the markdown that they are written in.

A row without a title, or with the title "Comment", as the scrapers write it, is a comment. Titles are not markdown, but so few
contain its signs (3 of 1,380 real ones) that the rules run over the whole text.
"""

from pathlib import Path

import polars as pl

from data_contracts import readers
from data_contracts.contracts import Column, raw_rows
from data_contracts.rules import read_rules

FILES = ("*.csv",)
RULES = read_rules(__file__)

NUMBERS = ("score", "created")  # of the metadata, where a file has them; `timestamp` is local time of an unknown zone

IDS = ("comment_id", "id")  # of a post or comment, the first that a file has

REASONS = {
    "deleted": "[deleted] or [removed] stands where the words were",
    "no_text": "a post without a title and without words of its own",
    "bot": "it ends with *I am a bot*: a program wrote it, the same each time",
}

DELETED = r"(?i)\A\s*\[\s*(?:deleted|removed)(?:\s+by[^\]]*)?\s*\]\s*\z"
BOT = r"(?i)(?:\*|\^\(?)I am a bot\b"


# A row is a post or a comment. Most files have `score` and `created` too.
Raw = raw_rows(title=Column(str, nullable=True), body=Column(str, nullable=True))


def read(path: Path, name: str, encoding: str = "utf-8") -> pl.DataFrame:
    """Posts and comments. The file must have the columns `title` and `body`."""
    return readers.csv_rows(path, name, ("title", "body"), encoding)


def documents(raw: pl.LazyFrame) -> pl.LazyFrame:
    """The body of a comment; of a post its title, a blank line, its body. metadata: kind, and NUMBERS where there are any.

    source_id: Reddit's id, which a post and a comment may share.
    """
    comment = (pl.col("title").str.strip_chars() == "Comment").fill_null(True)
    title, body = pl.when(~comment).then("title"), pl.col("body")
    text = pl.concat_str(_words(title), _words(body), separator="\n\n", ignore_nulls=True)
    deleted = (title.str.contains(DELETED) | body.str.contains(DELETED)).fill_null(False)
    numbers = [column for column in NUMBERS if column in raw.collect_schema()]
    about = [pl.col(column).cast(pl.Float64, strict=False).cast(pl.Int64, strict=False) for column in numbers]
    kind = pl.when(comment).then(pl.lit("comment")).otherwise(pl.lit("post"))
    why_empty = pl.when(deleted).then(pl.lit("deleted")).otherwise(pl.lit("no_text"))
    name = next((name for name in IDS if name in raw.collect_schema()), None)
    return raw.select(
        *readers.PLACE,
        text=text,
        source_id=pl.format("{} {}", kind, name) if name else pl.lit(None, pl.String),
        metadata=pl.struct(kind.alias("kind"), *about).struct.json_encode(),
        reason=pl.when(text.str.contains(BOT)).then(pl.lit("bot")).when(text == "").then(why_empty),
    )


def _words(column: pl.Expr) -> pl.Expr:
    """Null where nothing was written, or it was deleted."""
    return pl.when(column.str.contains(r"\S") & ~column.str.contains(DELETED)).then(column)
