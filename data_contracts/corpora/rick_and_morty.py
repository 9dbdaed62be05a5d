"""Rick and Morty: one row a spoken line; an episode in script order is a document of `Speaker: line` lines."""

from pathlib import Path

import polars as pl
from pandera.polars import Field

from data_contracts import readers
from data_contracts.contracts import RawRows

FILES = ("*.csv",)
COLUMNS = ("season no.", "episode no.", "episode name", "name", "line")

# The transcribers mixed typewriter and typographic marks; one spelling of "don't" is enough for 130 kB of text.
TYPEWRITER = {"‘": "'", "’": "'", "“": '"', "”": '"', "…": "..."}


class Raw(RawRows):
    """A row is a line; the file also has a column `index`, with gaps."""

    season: str = Field(alias="season no.", str_matches=r"^\d+$")
    episode: str = Field(alias="episode no.", str_matches=r"^\d+$")
    title: str = Field(alias="episode name")
    name: str
    line: str


def read(path: Path, name: str) -> pl.DataFrame:
    """Spoken lines. The file must have all COLUMNS."""
    return readers.csv_rows(path, name, COLUMNS)


def documents(raw: pl.LazyFrame) -> pl.LazyFrame:
    """An episode each; n_rows: its spoken lines; metadata: season, episode, title."""
    episode = ("source_file", "season no.", "episode no.")
    spoken = pl.concat_str(_plain("name"), pl.lit(": "), _plain("line"))
    numbers = (pl.col(f"{name} no.").cast(pl.Int64).alias(name) for name in ("season", "episode"))
    about, source_id = pl.struct(*numbers, "title"), pl.format("season {} episode {}", *episode[1:])
    return (
        raw.group_by(episode, maintain_order=True)
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
