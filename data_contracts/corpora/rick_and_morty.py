"""Rick and Morty: one row a spoken line; an episode in script order is a document of `Speaker: line` lines."""

from pathlib import Path

import polars as pl

from data_contracts import readers
from data_contracts.contracts import Check, Column, raw_rows

FILES = ("*.csv",)
# A row is a line; the file also has a column `index`, with gaps.
NUMBERS, WORDS = ("season no.", "episode no."), ("episode name", "name", "line")
Raw = raw_rows(
    **{name: Column(str, Check.str_matches(r"^\d+$")) for name in NUMBERS} | {name: Column(str) for name in WORDS}
)

# The transcribers mixed typewriter and typographic marks; one spelling of "don't" is enough for 130 kB of text.
TYPEWRITER = {"‘": "'", "’": "'", "“": '"', "”": '"', "…": "..."}


def read(path: Path, name: str) -> pl.DataFrame:
    """Spoken lines. The file must have all these columns."""
    return readers.csv_rows(path, name, (*NUMBERS, *WORDS))


def documents(raw: pl.LazyFrame) -> pl.LazyFrame:
    """An episode each; n_rows: its spoken lines; metadata: season, episode, title."""
    spoken = pl.concat_str(_plain("name"), pl.lit(": "), _plain("line"))
    numbers = (pl.col(f"{name} no.").cast(pl.Int64).alias(name) for name in ("season", "episode"))
    about, source_id = pl.struct(*numbers, "title"), pl.format("season {} episode {}", *NUMBERS)
    return (
        raw.group_by("source_file", *NUMBERS, maintain_order=True)
        .agg(
            pl.col("source_row").first(),
            title=_plain("episode name").first(),
            text=spoken.str.join("\n"),
            n_rows=pl.len().cast(pl.Int64),
        )
        .select(*readers.PLACE, "text", "n_rows", source_id=source_id, metadata=about.struct.json_encode())
    )


def _plain(column: str) -> pl.Expr:
    """Typewriter marks, and one ordinary space for several or for a no-break one."""
    marks = pl.col(column).str.replace_many(TYPEWRITER)
    return marks.str.replace_all(r"[ \u00A0\t]+", " ").str.strip_chars()
