"""The raw files of a mixture: of each part's clean documents as many as its share allows."""

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from data_contracts.sources.source import Part

COLUMNS = ("text", "split", "place", "source_file", "source_row", "metadata")


def write(parts: Iterable[Part], folder: Path) -> None:
    """A Parquet file for each part: all documents that it holds out, and those to train on that its share allows.

    The part that is scarcest for its share is taken whole. Of the others those whose ids come first are taken: ids are hashes,
    so this is a random sample, and a smaller share takes some of the same.
    """
    found = {part: pl.scan_parquet(Path(part.folder, "documents"), glob=False) for part in parts}
    sizes = {part: int(_to_train(texts)["n_bytes"].sum()) for part, texts in found.items()}
    whole = min((sizes[part] / part.share for part in found if part.share), default=0.0)
    for part, texts in found.items():
        if part.share is not None:
            drawn = (
                _to_train(texts).sort("doc_id").filter(pl.col("n_bytes").cum_sum() <= part.share * whole * (1 + 1e-9))
            )
            texts = texts.filter((pl.col("split") != "train") | pl.col("doc_id").is_in(drawn["doc_id"].implode()))
        partial = folder / f".{part.corpus}"
        texts.select(COLUMNS).sink_parquet(partial, compression="zstd", compression_level=1)
        partial.replace(folder / f"{part.corpus}.parquet")


def _to_train(texts: pl.LazyFrame) -> pl.DataFrame:
    return texts.filter(pl.col("split") == "train").select("doc_id", "n_bytes").collect()
