"""What cleaning did, in figures that must add up.

rows      raw rows, as the files hold them
texts     what the corpus makes of them: n_rows raw rows each       sum of n_rows = rows
pieces    texts after cutting; uncut, the same                      characters and bytes of pieces = of texts
documents + rejects by reason = pieces
train + val = documents, in number and in bytes, and share no text
"""

import polars as pl

from data_contracts.documents import REASONS, SPLITS

QUANTILES = {"min": 0.0, "p10": 0.1, "p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


def count(
    raw: pl.DataFrame, texts: pl.DataFrame, pieces: pl.DataFrame, documents: pl.DataFrame, rejects: pl.DataFrame
) -> dict:
    """The figures of report.json, plain JSON. Raises AssertionError, naming the law, when they do not add up.

    bytes are UTF-8 bytes of documents; chars are quantiles (nearest) of their lengths in characters, and the total.
    """
    by_reason = dict(rejects.group_by("reason").len().iter_rows())
    figures = {
        "rows": raw.height,
        "texts": texts.height,
        "pieces": pieces.height,
        "documents": documents.height,
        "rejects": rejects.height,
        "rejected": {reason: by_reason.get(reason, 0) for reason in REASONS},
        "bytes": _sum(documents, pl.col("n_bytes")),
    }
    for split in SPLITS:
        chosen = documents.filter(pl.col("split") == split)
        figures |= {f"{split}_documents": chosen.height, f"{split}_bytes": _sum(chosen, pl.col("n_bytes"))}
    lengths = {name: documents["n_chars"].quantile(share, "nearest") for name, share in QUANTILES.items()}
    figures["chars"] = {name: int(value or 0) for name, value in lengths.items()} | {
        "total": documents["n_chars"].sum()
    }

    in_bytes = pl.col("text").str.len_bytes()
    ids = {split: documents.filter(pl.col("split") == split)["text"].unique() for split in SPLITS}
    _hold("rows = sum of the rows of texts", figures["rows"], _sum(texts, pl.col("n_rows")))
    _hold("bytes of texts = bytes of pieces", _sum(texts, in_bytes), _sum(pieces, in_bytes))
    _hold("pieces = documents + rejects", figures["pieces"], figures["documents"] + figures["rejects"])
    _hold("rejects = sum by reason", figures["rejects"], sum(figures["rejected"].values()))
    _hold("documents = train + val", figures["documents"], sum(figures[f"{split}_documents"] for split in SPLITS))
    _hold("bytes = train + val", figures["bytes"], sum(figures[f"{split}_bytes"] for split in SPLITS))
    _hold("texts in both train and val = 0", ids["train"].is_in(ids["val"].implode()).sum(), 0)
    return figures


def _sum(frame: pl.DataFrame, column: pl.Expr) -> int:
    # UInt32 lengths summed as they are would wrap at 4 GB.
    return frame.select(column.cast(pl.Int64).sum()).item()


def _hold(law: str, left: int, right: int) -> None:
    if left != right:
        raise AssertionError(f"cleaning broke the law '{law}': {left} is not {right}")
