"""What cleaning did, in figures that must add up.

rows      records of the raw files                       = malformed + the rows that texts are made of
texts     what the corpus makes of them
pieces    texts after cutting                            characters and bytes of pieces = of texts
documents + rejects by reason = pieces + malformed
train + val = documents, in number and in bytes, and share no text
"""

from collections.abc import Iterable

import polars as pl

from data_contracts.contracts import SPLITS

QUANTILES = {"min": 0.0, "p10": 0.1, "p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


def count(shards: list[dict], verdict: pl.DataFrame, documents: pl.LazyFrame, reasons: list[str]) -> dict:
    """The figures of report.json, plain JSON. Raises AssertionError, naming the law, when they do not add up.

    shards: figures of each (shards.clean_shard). verdict: key, val and reason of each text that its shard kept. bytes are UTF-8
    bytes of documents; chars are quantiles (nearest) of their lengths in characters, and the total; changed: texts that
    each text rule changed.
    """
    total = {name: sum(shard[name] for shard in shards) for name in SUMMED}
    late = dict(verdict["reason"].drop_nulls().value_counts().iter_rows())
    rejected = dict.fromkeys(reasons, 0) | add_up([*(shard["rejected"] for shard in shards), late])
    splits = documents.group_by("split").agg(pl.len(), pl.col("n_bytes").sum()).collect()
    by_split = {split: (number, size) for split, number, size in splits.iter_rows()}
    figures = {
        "rows": total["rows"],
        "texts": total["texts"],
        "pieces": total["pieces"] + total["turned_away"],
        "documents": sum(number for number, _ in by_split.values()),
        "rejects": sum(rejected.values()),
        "rejected": rejected,
        "changed": add_up(shard["changed"] for shard in shards),
        "bytes": sum(size for _, size in by_split.values()),
    }
    for split in SPLITS:
        figures[f"{split}_documents"], figures[f"{split}_bytes"] = by_split.get(split, (0, 0))
    lengths = documents.select("n_chars").collect().to_series()
    figures["chars"] = {name: int(lengths.quantile(share, "nearest") or 0) for name, share in QUANTILES.items()}
    figures["chars"]["total"] = int(lengths.sum())

    kept = verdict.filter(pl.col("reason").is_null())
    train, val = (kept.filter(pl.col("val") == side)["key"].unique() for side in (False, True))
    _hold("rows = malformed + rows of texts", total["rows"], total["malformed"] + total["rows_of_texts"])
    _hold("bytes of texts = bytes of pieces", total["text_bytes"], total["piece_bytes"])
    _hold(
        "pieces + malformed = documents + rejects",
        figures["pieces"] + total["malformed"],
        figures["documents"] + figures["rejects"],
    )
    _hold("documents = what was kept", figures["documents"], kept.height)
    _hold("texts in both train and val = 0", train.is_in(val.implode()).sum(), 0)
    return figures


SUMMED = ("rows", "rows_of_texts", "malformed", "texts", "turned_away", "text_bytes", "pieces", "piece_bytes")


def add_up(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    """One sum a name, over all of them."""
    total: dict[str, int] = {}
    for one in counts:
        for name, number in one.items():
            total[name] = total.get(name, 0) + number
    return total


def _hold(law: str, left: int, right: int) -> None:
    if left != right:
        raise AssertionError(f"cleaning broke the law '{law}': {left} is not {right}")
