"""The raw files of a mixture: of each part's clean documents as many as its share allows."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

COLUMNS = ("text", "split", "place", "source_file", "source_row", "metadata")


@dataclass(frozen=True)
class Part:
    """A corpus of a mixture, and its clean documents."""

    corpus: str
    share: float | None
    """of the bytes of text to train on, in proportion to the other parts; None: all that it has"""
    digest: str
    folder: str


def write(parts: Iterable[Part], folder: Path) -> None:
    """A Parquet file for each part: all documents that it holds out, and those to train on that its share allows.

    The part that is scarcest for its share is taken whole. Of the others those whose ids come first are taken: ids are hashes,
    so this is a random sample, and a smaller share takes some of the same.
    """
    import polars as pl  # not to read a recipe

    for_training = pl.col("split") == "train"
    found = {part: pl.scan_parquet(Path(part.folder, "documents"), glob=False) for part in parts}
    drawn = {part: texts.filter(for_training).select("doc_id", "n_bytes").collect() for part, texts in found.items()}
    whole = min((int(drawn[part]["n_bytes"].sum()) / part.share for part in found if part.share), default=0.0)
    for part, texts in found.items():
        if part.share is not None:
            fits = pl.col("n_bytes").cum_sum() <= part.share * whole * (1 + 1e-9)
            chosen = drawn[part].sort("doc_id").filter(fits)["doc_id"]
            texts = texts.filter(~for_training | pl.col("doc_id").is_in(chosen.implode()))
        partial = folder / f".{part.corpus}"
        texts.select(COLUMNS).sink_parquet(partial, compression="zstd", compression_level=1)
        partial.replace(folder / f"{part.corpus}.parquet")
