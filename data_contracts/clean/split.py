"""Ids of texts, the side of the split that each falls on, and which texts are copies.

A shard draws a side for each text by itself, from the text's own hash. Then `settle` sees the hashes of all shards: it rejects
copies, and moves nearly equal texts to one side.
"""

import hashlib

import numpy as np
import polars as pl

from data_contracts import DataError
from data_contracts.clean.near_duplicates import BUCKET_NAMES, groups, signatures
from data_contracts.rules import Rules


def identify(kept: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """With text_id (of the text alone), doc_id (unique) and split (drawn by text_id, so copies stay together)."""
    kept = kept.with_columns(text_id=short_sha256(kept["text"]))
    where = pl.format("{}:{}:{}:{}", "text_id", "source_file", "source_row", "metadata")
    return kept.with_columns(
        doc_id="text_id" if rules.deduplicate else short_sha256(kept.select(where).to_series()),
        split=side(held_out(kept["text_id"], rules)),
    )


def short_sha256(texts: pl.Series) -> pl.Series:
    """The first 32 hex digits of each text's sha256. The hashes of polars change from one version to the next."""
    return pl.Series([hashlib.sha256(text).hexdigest()[:32] for text in texts.cast(pl.Binary)], dtype=pl.String)


def held_out(text_ids: pl.Series, rules: Rules) -> pl.Series:
    """Whether each text belongs to val: a draw from [0, 1) that depends on the seed and the text's id alone."""
    draws = short_sha256(pl.Series([f"{rules.seed}:{text_id}" for text_id in text_ids], dtype=pl.String))
    return draws.str.slice(0, 8).str.to_integer(base=16) / 2**32 < rules.val_fraction


def side(in_val: pl.Series | pl.Expr) -> pl.Expr:
    return pl.when(in_val).then(pl.lit("val")).otherwise(pl.lit("train"))


def keys(kept: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """What `settle` needs of each text: `key`, `val` (the side it was drawn for), and MinHash buckets where they are used."""
    found = kept.select(key=key(pl.col("text_id")), val=pl.col("split") == "val")
    if rules.near_duplicates == "keep":
        return found
    return pl.concat([found, signatures(kept["text"])], how="horizontal")


def key(text_id: pl.Expr) -> pl.Expr:
    """60 bits of an id, to find copies by: the chance that two of ten million different texts share them is 1 in 20,000."""
    return text_id.str.slice(0, 15).str.to_integer(base=16, dtype=pl.Int64)


def settle(keys: pl.LazyFrame, rules: Rules) -> pl.DataFrame:
    """The verdict on each kept text, in order, from the `keys` of all shards.

    reason: duplicate, near_duplicate or null. val: the side it goes to, which is the one drawn for the first text of its group.
    key: as given.
    """

    def column(name: str) -> pl.Series:  # one at a time in memory
        return keys.select(name).collect()[name]

    verdict = pl.DataFrame({"key": column("key"), "val": column("val")})
    place = pl.Series(np.arange(verdict.height))
    first = place
    if rules.near_duplicates != "keep":
        buckets = BUCKET_NAMES
        first = pl.Series(groups(lambda: map(column, buckets), verdict.height))
    copy = ~pl.col("key").is_first_distinct() if rules.deduplicate else pl.lit(False)
    near_copy = (first != place) & (rules.near_duplicates == "drop")
    return verdict.with_columns(
        val=pl.col("val").gather(first),
        reason=pl.when(copy).then(pl.lit("duplicate")).when(near_copy).then(pl.lit("near_duplicate")),
    )


def require_both_sides(verdict: pl.DataFrame, counts: dict, corpus: str, rules: Rules) -> None:
    """Raise DataError if train or val has no document. counts: the sums over all shards (laws.add_up)."""
    kept = verdict.filter(pl.col("reason").is_null())
    if kept.is_empty():
        why = ", ".join(f"{reason} {count}" for reason, count in counts["rejected"].items())
        raise DataError(f"{corpus}: no document is left of {counts['rows']} rows ({why}): loosen the rules")
    for split, in_val in (("train", False), ("val", True)):
        if not (kept["val"] == in_val).any():
            few = f"{kept.height} documents are too few for val_fraction {rules.val_fraction}: none fell to {split}"
            cut = f"cut long texts: split_chars {max(100, counts['piece_bytes'] // 100)}"
            near = "change clean.near_duplicates: texts that are nearly alike stay on one side"
            raise DataError(f"{corpus}: {few}\nadd texts, change val_fraction, {cut}, or {near}")
