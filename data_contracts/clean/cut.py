"""Long texts cut into parts at line ends, so that one book can be split into train and val, and no document is endless.

Nothing is lost or added: the parts of a text, put together, are the text.
"""

import polars as pl


def cut(texts: pl.LazyFrame, limit: int) -> pl.LazyFrame:
    """Each text longer than `limit` characters as parts of about equal length, in order; the others as they are.

    A part ends where a line ends (where a word ends, in lines longer than `limit`), so it may exceed its share by one line or
    word; a text without either stays whole. metadata of a part gains "part" (from 1) and "parts". limit 0 cuts nothing.
    """
    if not limit:
        return texts
    numbered = texts.with_row_index("text_number")
    parts = numbered.filter(pl.col("text").str.len_chars() > limit).pipe(_parts, limit)
    return (
        numbered.join(parts, on="text_number", how="left", maintain_order="left_right")
        .with_columns(
            text=pl.coalesce("part_text", "text"),
            metadata=pl.when(pl.col("parts") > 1).then(_with_part("metadata")).otherwise("metadata"),
        )
        .drop("text_number", "part_text", "part", "parts")
    )


def _parts(long: pl.LazyFrame, limit: int) -> pl.LazyFrame:
    """text_number, part_text, part (from 1), parts."""
    size = pl.col("unit").str.len_chars().cast(pl.Int64)
    words = pl.when(size > limit).then(pl.col("unit").str.split(" ", inclusive=True)).otherwise(pl.concat_list("unit"))
    # Equal shares instead of full parts and a rest: a short rest would fall to the rule `too_short` and be lost.
    start = size.cum_sum().over("text_number") - size
    shares = (pl.col("size") + limit - 1) // limit
    return (
        long.select(
            "text_number",
            size=pl.col("text").str.len_chars().cast(pl.Int64),
            unit=pl.col("text").str.split("\n", inclusive=True),
        )
        .explode("unit")
        .with_columns(unit=words)
        .explode("unit")
        .with_columns(share=start * shares // pl.col("size"))
        .group_by("text_number", "share", maintain_order=True)
        .agg(part_text=pl.col("unit").str.join())
        .with_columns(part=pl.int_range(1, pl.len() + 1).over("text_number"), parts=pl.len().over("text_number"))
        .drop("share")
    )


def _with_part(metadata: str) -> pl.Expr:
    """A JSON object, as text, with the part's number added."""
    opened = pl.col(metadata).str.strip_suffix("}")
    comma = pl.when(opened == "{").then(pl.lit("")).otherwise(pl.lit(","))
    return pl.format('{}{}"part":{},"parts":{}}}', opened, comma, "part", "parts")
