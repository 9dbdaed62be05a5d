"""Ids of texts, the side of the split that each falls on, and which texts are copies.

A side is drawn from the place that a text comes from: the id that its source gave it, else its file and row. So it depends on
no rule, on no other text and on no order of files. All parts of a source are drawn together. Of fewer than ENOUGH sources, the
parts of each are divided by where they stand in it (cut.zones), as a draw would hold out one book or none.

Then `settle` sees what all shards have. Of copies, and near copies, on several sides those of test stay, else those of val; the
others are rejected, as `leak`. Of more than FAMILY that are alike, those of train stay: a boilerplate would cost it thousands.
Of few texts none, or one short one, may fall to a side: then the shares are held out in bytes, in the order of the draws. Such
a corpus alone, once it has grown, is divided anew; the texts that a model was trained on are still known by their places.
"""

import hashlib

import numpy as np
import polars as pl

from data_contracts import DataError
from data_contracts.clean.cut import ENOUGH
from data_contracts.clean.near_duplicates import BUCKET_NAMES, groups
from data_contracts.rules import LEAST_CHARS, Rules

FAMILY = 20
TRAIN, VAL, TEST = range(3)  # places in SPLITS


def identify(pieces: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """With text_id (of the text alone), place, and the number drawn for their source, in place of source_id and section.

    place: 16 hex digits of the source, and 16 of the zone within it (`section`; zeros if it is not divided).
    """
    return pieces.with_columns(
        text_id=short_sha256(pieces["text"]),
        place=short_sha256(pieces["source_id"]).str.slice(0, 16) + pieces["section"],
        drawn=pieces["drawn"] if "drawn" in pieces.columns else draw(pieces["source_id"], rules),
    ).drop("source_id", "section")


def sides(kept: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """With doc_id, which is unique, and side: a place in SPLITS."""
    where = pl.format("{}:{}:{}:{}", "text_id", "source_file", "source_row", "metadata")
    doc_id = "text_id" if rules.deduplicate else short_sha256(kept.select(where).to_series())
    return kept.with_columns(doc_id=doc_id, side=side_of(pl.col("drawn"), rules))


def short_sha256(texts: pl.Series) -> pl.Series:
    """The first 32 hex digits of each text's sha256. The hashes of polars change from one version to the next."""
    return pl.Series([hashlib.sha256(text).hexdigest()[:32] for text in texts.cast(pl.Binary)], dtype=pl.String)


def draw(source_ids: pl.Series, rules: Rules) -> pl.Series:
    """For each source a number from [0, 1) that depends on the seed and its id alone."""
    hashes = short_sha256(pl.Series([f"{rules.seed}:{source_id}" for source_id in source_ids], dtype=pl.String))
    return hashes.str.slice(0, 8).str.to_integer(base=16) / 2**32


def side_of(drawn: pl.Expr, rules: Rules) -> pl.Expr:
    """The side of a source by its draw: the low are val, the high test."""
    side = pl.when(drawn < rules.val_fraction).then(VAL).when(drawn >= 1 - rules.test_fraction).then(TEST)
    return side.otherwise(TRAIN).cast(pl.UInt8)


def keys(kept: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """What `settle` needs of each text: `key`, `place`, `drawn`, `side`, `zone`, `size`, and MinHash buckets if used."""
    size = pl.col("text").str.len_bytes()
    found = kept.select("drawn", "side", "zone", key=key(pl.col("text_id")), place=key(pl.col("place")), size=size)
    return found if rules.near_duplicates == "keep" else found.hstack(kept.select(BUCKET_NAMES))


def key(text_id: pl.Expr) -> pl.Expr:
    """60 bits of an id, to find copies by: the chance that two of ten million different texts share them is 1 in 20,000."""
    return text_id.str.slice(0, 15).str.to_integer(base=16, dtype=pl.Int64)


def settle(keys: pl.LazyFrame, rules: Rules, n_sources: int, exact: bool = False) -> pl.DataFrame:
    """The verdict on each kept text, in order, from the `keys` of all shards.

    exact: hold out the shares by the order of the draws, at least one text on each side. reason: leak, duplicate,
    near_duplicate or null. side: the one it was drawn for. key, size: as given.
    """

    def column(name: str) -> pl.Series:  # one at a time in memory
        return keys.select(name).collect()[name]

    texts = pl.DataFrame([column(name) for name in ("key", "place", "side", "size")])
    if n_sources < ENOUGH:
        texts = texts.with_columns(side=pl.coalesce(column("zone"), "side"))
    alike = BUCKET_NAMES if rules.near_duplicates != "keep" else ["key"]
    texts = texts.with_columns(family=groups(lambda: map(column, alike), texts.height))
    if exact:
        drawn = texts.with_columns(column("drawn"), unit=pl.int_range(pl.len()) if n_sources < ENOUGH else "place")
        texts = texts.with_columns(side=_by_rank(drawn, rules))
    side = pl.col("side")
    large = (pl.len().over("family") > FAMILY) & (side.min().over("family") == TRAIN)
    texts = texts.with_columns(leak=side != pl.when(large).then(TRAIN).otherwise(side.max().over("family")))
    # Which of equals stays depends on their places, not on the order of files.
    texts = texts.with_columns(row=np.arange(texts.height)).sort("leak", "place", "key", "row")
    copy = ~pl.col("key").is_first_distinct() & rules.deduplicate
    near_copy = ~pl.col("family").is_first_distinct() & (rules.near_duplicates == "drop")
    reasons = {"leak": pl.col("leak"), "duplicate": copy, "near_duplicate": near_copy}
    reason = pl.coalesce(pl.when(holds).then(pl.lit(name)) for name, holds in reasons.items())
    return texts.with_columns(reason=reason).sort("row").select("key", "side", "size", "reason")


def _by_rank(texts: pl.DataFrame, rules: Rules) -> pl.Series:
    """The side of each text. What is of one `unit` (a source, or a text where sources are few) or `family` stays together."""
    texts = texts.with_columns(group=groups(lambda: [texts["family"], texts["unit"]], texts.height))
    order = texts.group_by("group").agg(pl.col("drawn", "key").min(), pl.col("size").sum()).sort("drawn", "key")
    sizes = order["size"].to_list()
    sides, places, most = [TRAIN] * len(sizes), range(len(sizes)), (len(sizes) - 1) // 2
    for side, share, along in ((VAL, rules.val_fraction, places), (TEST, rules.test_fraction, reversed(places))):
        free, wanted, held, taken = [place for place in along if not sides[place]], share * sum(sizes), 0, list[int]()
        for place in free:
            if held < wanted and held + sizes[place] <= 1.5 * wanted and len(taken) < most:
                taken.append(place)
                held += sizes[place]
        for place in taken or sorted(free, key=sizes.__getitem__)[:1]:  # each may be too large
            sides[place] = side
    return texts["group"].replace_strict(order["group"], sides, return_dtype=pl.UInt8)


def has_all_sides(verdict: pl.DataFrame, rules: Rules, part: float = 0.0) -> bool:
    """Whether each side has a document, and val and test this part of the bytes that they should have."""
    kept = verdict.filter(pl.col("reason").is_null())
    of_side = dict(kept.group_by("side").agg(pl.col("size").sum()).iter_rows())
    shares = enumerate((0.0, rules.val_fraction, rules.test_fraction))
    return all(of_side.get(side, -1) >= part * share * sum(of_side.values()) for side, share in shares)


def require_all_sides(verdict: pl.DataFrame, counts: dict, corpus: str, rules: Rules) -> None:
    """Raise DataError if train, val or test has no document. counts: the sums over all shards (laws.add_up)."""
    kept = verdict.filter(pl.col("reason").is_null())
    if kept.is_empty():
        why = ", ".join(f"{reason} {count}" for reason, count in counts["rejected"].items())
        raise DataError(f"{corpus}: no document is left of {counts['rows']} rows ({why}): loosen the rules")
    if not has_all_sides(verdict, rules):
        mend = f"add texts, cut long ones by clean.split_chars, or change clean.near_duplicates; {LEAST_CHARS:,} characters do"
        raise DataError(f"{corpus}: {kept.height} documents are too few, or too much alike, to hold some out\n{mend}")
