"""What the corpora from Reddit share: posts and comments, and the markdown that they are written in.

A row without a title, or with the title "Comment", as the scrapers write it, is a comment. Titles are not markdown, but so few
contain its signs (3 of 1,380 real ones) that the rules run over the whole text.
"""

from pathlib import Path

import polars as pl

from data_contracts import readers
from data_contracts.contracts import Column, raw_rows
from data_contracts.rules import TextRule

FILES = ("*.csv",)

NUMBERS = ("score", "created")  # of the metadata, where a file has them; `timestamp` is local time of an unknown zone

IDS = ("comment_id", "id")  # of a post or comment, the first that a file has

REASONS = {
    "deleted": "[deleted] or [removed] stands where the words were",
    "no_text": "a post without a title and without words of its own",
    "bot": "it ends with *I am a bot*: a program wrote it, the same each time",
}

DELETED = r"(?i)\A\s*\[\s*(?:deleted|removed)(?:\s+by[^\]]*)?\s*\]\s*\z"
BOT = r"(?i)(?:\*|\^\(?)I am a bot\b"

# The emphasis of **bold** and *italics*, but not the stars of f**k, 2*3*4 or an escaped \*.
EMPHASIS = r"(^|[^\w\\*])\*{1,3}([^\s*\\](?:[^*\n]*[^\s*\\])?)\*{1,3}\B"
LINK = r'\[((?:[^\[\]\\]|\\.)*)\]\((?:[^()\s]|\([^()\s]*\))*(?:\s+"[^"\n]*")?\)'


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


RULES = (
    TextRule(
        "quotes",
        "a line after > repeats the words of another comment, which stands on its own; >!spoilers!< are no quotes",
        lambda text: text.str.replace_all(r"(?m)^[ \t]*(?:>|&gt;)(?:[^!\n][^\n]*)?(?:\n|\z)", ""),
        only=">|&gt;",
    ),
    TextRule(
        "images",
        "![img](emote|t5_2th52|4271) is a picture's number, not words",
        lambda text: text.str.replace_all(r"!\[[^\]\n]*\]\([^()\s]*\)", ""),
        only=r"!\[",
    ),
    TextRule("links", "[text](address) reads as its text", lambda text: text.str.replace_all(LINK, "$1"), only=r"\]\("),
    TextRule(
        "tables",
        "rows of |cells| make no sentences",
        lambda text: text.str.replace_all(r"(?m)^[^\S\n]*(?:\|[^\n]*\||:?-+:?(?:\|:?-+:?)+)[^\S\n]*(?:\n|\z)", ""),
        only=r"\|",
    ),
    TextRule(
        "markdown",
        "# headings, --- rules, **bold**, *italics*, ~~struck~~ and >!hidden!< are marks on a text",
        lambda text: (
            text.str.replace_all(r"(?m)^[^\S\n]*(?:-{3,}|_{3,}|(?:\*[^\S\n]*){3,})$", "")
            .str.replace_all(r"(?m)^(?:#{2,6}[^\S\n]*|#[^\S\n]+)", "")
            .str.replace_all(EMPHASIS, "$1$2")
            .str.replace_all(r"~~([^~\n]+)~~", "$1")
            .str.replace_all(r">!([^\n]*?)!<", "$1")
        ),
    ),
    TextRule(
        "escapes",
        "\\_ is how markdown writes a plain _",
        lambda text: text.str.replace_all(r"\\([!-/:-@\[-`{-~])", "$1"),
        only=r"\\",
    ),
)
