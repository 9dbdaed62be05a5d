"""The posts of "Q" on 4chan, 8chan and 8kun, 2017 to 2022, each a document. Other people wrote the posts that they answer."""

from pathlib import Path
from typing import Literal

import polars as pl

from data_contracts import readers
from data_contracts.contracts import Check, Column, raw_rows
from data_contracts.rules import read_rules

FILES = ("posts.json",)  # the archive has the same posts in other files too
RULES = read_rules(__file__)

POST = {
    "post_metadata": pl.Struct(dict.fromkeys(("id", "author", "time"), pl.String)),
    "text": pl.String,
    "referenced_posts": pl.List(pl.Struct({"text": pl.String})),
}

REASONS = {"no_text": "a picture alone, or nothing: a post without words"}

# A row is a post. The oldest collations have no id; text is null where there is none.
Raw = raw_rows(
    id=Column(str, Check.str_matches(r"^\d+$"), nullable=True),
    author=Column(str),
    time=Column(str, Check.str_matches(r"^\d+$")),
    text=Column(str, nullable=True),
    quoted=Column(str, nullable=True),
)


def read(path: Path, name: str, references: Literal["drop", "quote"] = "drop") -> pl.DataFrame:
    """Posts.

    references: "drop" the posts that a post answers, or "quote" them before it, as lines after "> ".
    """
    quoted = pl.col("referenced_posts").list.eval(pl.element().struct.field("text").drop_nulls()).list.join("\n")
    return readers.json_rows(path, name, POST).select(
        *readers.PLACE,
        pl.col("post_metadata").struct.unnest(),
        "text",
        quoted=pl.when(quoted != "", references == "quote").then(quoted.str.replace_all(r"(?m)^", "> ")),
    )


def documents(raw: pl.LazyFrame) -> pl.LazyFrame:
    """What a post quotes, and the post; metadata: id, author, time (seconds since 1970)."""
    about = pl.struct(pl.col("id").cast(pl.Int64), pl.col("author").str.strip_chars(), pl.col("time").cast(pl.Int64))
    return raw.select(
        *readers.PLACE,
        text=pl.concat_str("quoted", "text", separator="\n", ignore_nulls=True),
        source_id="id",
        metadata=about.struct.json_encode(),
        reason=pl.when(pl.col("text").is_null()).then(pl.lit("no_text")),
    )
