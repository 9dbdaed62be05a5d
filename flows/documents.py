"""The clean documents, as the stages after them read them: in order, a few thousand in memory at a time."""

import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path


def read_documents(folder: Path, split: str) -> Iterator:
    """The documents of a split as polars frames (doc_id, text, n_bytes). folder: of the clean stage's artifact."""
    import polars as pl

    plan = pl.scan_parquet(folder / "documents" / "*.parquet").filter(pl.col("split") == split)
    return plan.select("doc_id", "text", "n_bytes").collect_batches(chunk_size=4096, maintain_order=True)


def read_texts(folder: Path, split: str) -> Iterator[str]:
    for batch in read_documents(folder, split):
        yield from batch["text"]


def compressed_bits_per_byte(texts: Iterator[str]) -> dict[str, float]:
    """gzip -9 and xz -9 of the texts one after another, in bits per byte of them."""
    gzip, xz, n_bytes, sizes = zlib.compressobj(9, wbits=31), lzma.LZMACompressor(preset=9), 0, [0, 0]
    for text in texts:
        raw = text.encode()
        n_bytes += len(raw)
        sizes[0] += len(gzip.compress(raw))
        sizes[1] += len(xz.compress(raw))
    sizes[0] += len(gzip.flush())
    sizes[1] += len(xz.flush())
    return {"gzip": 8 * sizes[0] / n_bytes, "xz": 8 * sizes[1] / n_bytes}
