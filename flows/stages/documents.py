"""The clean documents, as the stages after them read them: in order, a few megabytes in memory at a time."""

import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

COLUMNS = ("doc_id", "text", "n_bytes", "source_file", "source_row")
BATCH_BYTES = 8_000_000  # of text, or one document


def read_documents(folder: Path, split: str, start: int = 0) -> Iterator:
    """The documents of a split from the `start`-th on, as polars frames of COLUMNS. folder: of the clean stage's artifact."""
    import polars as pl

    for path in sorted((folder / "documents").glob("*.parquet")):
        plan = pl.scan_parquet(path).filter(pl.col("split") == split).select(COLUMNS)
        for frame in plan.collect_batches(chunk_size=4096, maintain_order=True):
            skipped = min(start, frame.height)
            start -= skipped
            frame = frame[skipped:]
            full = np.cumsum(frame["n_bytes"].to_numpy(), dtype=np.int64) // BATCH_BYTES
            ends = [*(np.flatnonzero(np.diff(full)) + 1).tolist(), frame.height]
            for first, end in zip([0, *ends], ends, strict=False):
                if first < end:
                    yield frame[first:end]


def read_texts(folder: Path, split: str) -> Iterator[str]:
    for batch in read_documents(folder, split):
        yield from batch["text"]


def compressed_bits_per_byte(texts: Iterator[str]) -> dict[str, float]:
    """gzip -9 and xz -9 of the texts one after another, in bits per byte of them."""
    packers: dict = {"gzip": zlib.compressobj(9, wbits=31), "xz": lzma.LZMACompressor(preset=9)}
    sizes, n_bytes = dict.fromkeys(packers, 0), 0
    for text in texts:
        raw = text.encode()
        n_bytes += len(raw)
        for name, packer in packers.items():
            sizes[name] += len(packer.compress(raw))
    return {name: 8 * (sizes[name] + len(packer.flush())) / n_bytes for name, packer in packers.items()}
