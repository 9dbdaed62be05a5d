"""The counts of cleaning, and the laws that they obey.

Rows are records of the raw files; texts, what the corpus makes of them; pieces, the texts after cutting.
"""

from collections.abc import Iterable

import polars as pl

from data_contracts.contracts import SPLITS

QUANTILES = {"min": 0.0, "p10": 0.1, "p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


def summarise(total: dict, verdict: pl.DataFrame, documents: pl.LazyFrame, reasons: list[str]) -> dict:
    """The counts of report.json, plain JSON. Raises AssertionError, naming the law, if they break one.

    total: the counts of all shards, added up. verdict: of split.settle. reasons: all that the rules may give, so that those
    without a reject are counted too. In the counts: bytes are UTF-8 bytes of documents; chars are quantiles (nearest) of their
    lengths in characters, and the total; changed: texts that each text rule changed.
    """
    late = dict(verdict["reason"].drop_nulls().value_counts().iter_rows())
    rejected = add_up([dict.fromkeys(reasons, 0), total["rejected"], late])
    splits = documents.group_by("split").agg(pl.len(), pl.col("n_bytes").sum()).collect()
    by_split = {split: (number, size) for split, number, size in splits.iter_rows()}
    counts = {
        "rows": total["rows"],
        "texts": total["texts"],
        "pieces": total["pieces"] + total["turned_away"],
        "documents": sum(number for number, _ in by_split.values()),
        "rejects": sum(rejected.values()),
        "rejected": rejected,
        "changed": total["changed"],
        "bytes": sum(size for _, size in by_split.values()),
    }
    for split in SPLITS:
        counts[f"{split}_documents"], counts[f"{split}_bytes"] = by_split.get(split, (0, 0))
    lengths = documents.select("n_chars").collect().to_series()
    quantiles = {name: int(lengths.quantile(share, "nearest") or 0) for name, share in QUANTILES.items()}
    counts["chars"] = quantiles | {"total": int(lengths.sum())}
    _check(total, counts, verdict.filter(pl.col("reason").is_null()))
    return counts


def add_up(counts: Iterable[dict]) -> dict:
    """The sum of each name's numbers; lists one after another; numbers by name (`rejected`, `changed`) added up likewise."""
    total: dict = {}
    for one in counts:
        for name, value in one.items():
            if isinstance(value, dict):
                total[name] = add_up([total.get(name, {}), value])
            else:
                total[name] = total[name] + value if name in total else value
    return total


def _check(total: dict, counts: dict, kept: pl.DataFrame) -> None:
    on_sides = kept.group_by("key").agg(pl.col("side").n_unique())["side"]
    written = counts["documents"] + counts["rejects"]
    for law, left, right in (
        ("rows = malformed + rows of texts", total["rows"], total["malformed"] + total["rows_of_texts"]),
        ("bytes of texts = bytes of pieces", total["text_bytes"], total["piece_bytes"]),
        ("pieces + malformed = documents + rejects", counts["pieces"] + total["malformed"], written),
        ("documents = what was kept", counts["documents"], kept.height),
        ("texts on two sides of the split = 0", int((on_sides > 1).sum()), 0),
    ):
        if left != right:
            raise AssertionError(f"cleaning broke the law '{law}': {left} is not {right}")
