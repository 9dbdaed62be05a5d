"""The clean documents, as the stages after them read them: in order, a few megabytes in memory at a time."""

import math
from collections.abc import Iterator
from pathlib import Path

COLUMNS = ("doc_id", "text", "n_bytes", "source_file", "source_row")
BATCH_BYTES = 8_000_000  # of text, or one document


def read_documents(folder: Path, split: str) -> Iterator:
    """The documents of a split, as polars frames of COLUMNS. folder: of the clean stage's artifact."""
    import polars as pl

    for path in sorted((folder / "documents").glob("*.parquet")):
        plan = pl.scan_parquet(path, glob=False).filter(pl.col("split") == split).select(COLUMNS)
        for frame in plan.collect_batches(chunk_size=4096, maintain_order=True):
            batch = pl.col("n_bytes").cum_sum() // BATCH_BYTES
            yield from frame.with_columns(batch=batch).partition_by("batch", include_key=False)


def read_texts(folder: Path, split: str, limit: float = math.inf) -> Iterator[str]:
    """The texts of a split, or the first ones with `limit` bytes together; the last of these ends beyond it."""
    n_bytes = 0
    for batch in read_documents(folder, split):
        for text, size in zip(batch["text"], batch["n_bytes"], strict=True):
            if n_bytes >= limit:
                return
            n_bytes += size
            yield text
