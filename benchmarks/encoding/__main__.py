"""How fast text becomes ids, shards and batches: beside raw SentencePiece, Hugging Face tokenizers and plain memory maps.

    make bench BENCHES=encoding                              # some ten minutes on two cores
    make bench BENCHES=encoding BENCH="--memory 4000"        # and the memory of packing 4 GB
    python -m benchmarks.encoding --runs 1 --only encode

Every figure comes from a process of its own (systems.py); the systems take turns. README.md says what the figures mean.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks import dump
from benchmarks.encoding import tables
from benchmarks.measure import ROOT, empty, parse, watch
from benchmarks.tables import Results
from gpt.data.dataset import Dataset, Description, write
from gpt.data.shards import Documents
from tokenizers.training import TokenizerConfig, train

PYTHON_OF_PEERS = ROOT / ".venv-bench" / "bin" / "python"
VOCABULARY = 8192
PARTS = ("encode", "pack", "load")
MODELS = ("bpe", "unigram")
ENCODERS = [("raw", 1), ("ours", 1), ("raw", 2), ("ours", 2), ("processes", 2)]
LOADERS = ("sequential", "random windows", "ours")


def main() -> None:
    given = _arguments()
    cache: Path = given.cache
    cache.mkdir(parents=True, exist_ok=True)
    texts = documents(cache, given.megabytes * 1e6)
    models = {name: _model(cache, texts, name) for name in MODELS}
    found = Results(cache / "encoding.json", "encode", "pack", "load", "memory")
    for _ in range(given.runs):
        for name, model in models.items():
            for system, threads in ENCODERS if "encode" in given.only else ():
                found.add("encode", _encode(cache, system, threads, name, model, texts))
            if "encode" in given.only and name == "bpe" and PYTHON_OF_PEERS.exists():
                found.add("encode", _hugging_face(cache, texts))
            if "pack" in given.only:
                found.add("pack", _encode(cache, "pack", 2, name, model, texts))
        for run in _load(cache, int(given.load * 1e6)) if "load" in given.only else ():
            found.add("load", run)
    for size in given.memory:
        many = repeated(cache, texts, size)
        found.add("memory", _encode(cache, "pack", 2, "unigram", models["unigram"], many, every=0.05))
    (cache / "encoding.md").write_text(tables.show(found), encoding="utf-8")


def documents(cache: Path, n_bytes: float) -> Path:
    """A folder as the clean stage leaves it, of about n_bytes of article text."""
    folder = cache / f"texts-{n_bytes / 1e6:.0f}"
    out = folder / "documents"
    if (folder / "done").exists():
        return folder
    empty(out)
    for number, path in enumerate(dump.write(cache / "dump", int(n_bytes * 1.06))):
        row = pl.int_range(pl.len())
        frame = pl.read_json(path, schema=dict.fromkeys(("id", "title", "text"), pl.String)).select(
            doc_id=pl.col("id").hash().cast(pl.String).str.zfill(32),
            text="text",
            split=pl.when(row % 100 == 0).then(pl.lit("val")).otherwise(pl.lit("train")),
            source_file=pl.lit(path.name),
            source_row=row,
            n_bytes=pl.col("text").str.len_bytes(),
        )
        frame.write_parquet(
            out / f"{number:05}.parquet", compression="zstd", compression_level=3, row_group_size=50_000
        )
    (folder / "done").touch()
    return folder


def repeated(cache: Path, texts: Path, n_bytes: float) -> Path:
    """The same documents again and again (links, so at no cost of disk) until there are n_bytes: memory knows no difference."""
    folder = empty(cache / "texts-repeated")
    (folder / "documents").mkdir()
    files = sorted((texts / "documents").glob("*.parquet"))
    size = pl.scan_parquet(files).select(pl.col("n_bytes").sum()).collect().item() / len(files)
    for number in range(max(1, round(n_bytes / size))):
        os.link(files[number % len(files)], folder / "documents" / f"{number:05}.parquet")
    return folder


def _model(cache: Path, texts: Path, model_type: str) -> Path:
    folder = cache / f"tokenizer-{model_type}"
    if not (folder / "tokenizer.model").exists():
        frame = pl.read_parquet(sorted((texts / "documents").glob("*.parquet"))[0])
        folder.mkdir(exist_ok=True)
        train(
            frame["text"],
            int(frame["n_bytes"].sum()),
            folder,
            TokenizerConfig(model_type, VOCABULARY, sample_bytes=8_000_000),
        )
    return folder / "tokenizer.model"


def _encode(cache: Path, system: str, threads: int, name: str, model: Path, texts: Path, every: float = 0.2) -> dict:
    n_bytes = int(pl.scan_parquet(texts / "documents" / "*.parquet").select(pl.col("n_bytes").sum()).collect().item())
    out = empty(cache / "out-packed")
    command = [sys.executable, "-m", "benchmarks.encoding.systems", system, threads, model, texts, out]
    return watch(system, threads, command, n_bytes, every) | {"model": name}


def _hugging_face(cache: Path, texts: Path) -> dict:
    """The peer: byte-level BPE of an equal vocabulary, trained on the same text, over the same documents."""
    frame = pl.read_parquet(texts / "documents" / "*.parquet", columns=["text", "n_bytes"])
    path = cache / "texts.jsonl"
    frame.select("text").write_ndjson(path)
    command = [PYTHON_OF_PEERS, ROOT / "benchmarks" / "encoding" / "hugging_face.py", path, VOCABULARY]
    return watch("hugging face", 2, command, int(frame["n_bytes"].sum()), 0.2) | {"model": "bpe"}


def _load(cache: Path, n_tokens: int) -> Iterator[dict]:
    """Batches from a cold memory map, on one core."""
    for T in (256, 1024):
        for system in LOADERS:
            folder = _tokens(cache, n_tokens, T)
            command = [sys.executable, "-m", "benchmarks.encoding.systems", "load", 1, system.split()[0], folder, T]
            n_bytes = sum(path.stat().st_size for path in folder.glob("train-*.tokens.npy"))
            yield watch(system, 1, command, n_bytes, 0.2) | {"T": T}


def _tokens(cache: Path, total: int, T: int) -> Path:
    """A packed dataset of random ids: `total` in documents of 600 tokens on average, as Wikipedia's articles are."""
    folder = cache / f"loaded-{T}-{total}"
    if not (folder / "dataset.json").exists():

        def made(n_tokens: int):
            generator, done = np.random.default_rng(0), 0
            while done < n_tokens:
                lengths = np.minimum(generator.geometric(1 / 600, 20_000), 8000)
                ids = generator.integers(3, VOCABULARY, lengths.sum(), np.int32)
                names, rows = [f"{done + n}" for n in range(len(lengths))], np.arange(len(lengths))
                yield Documents(names, ids, lengths, 4 * lengths, ["random"] * len(lengths), rows)
                done += len(ids)

        about = Description(VOCABULARY, T, 1, 2, "random")
        write(folder, {"train": made(total), "val": made(1)}, about)
    Dataset.open(folder)
    return folder


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.encoding", description="Encoding, packing, loading and peers."
    )
    parser.add_argument("--megabytes", type=float, default=70, help="of text (70)")
    parser.add_argument("--load", type=float, default=200, help="million tokens to load batches from (200)")
    parser.add_argument("--runs", type=int, default=5, help="rounds, of which medians are taken (5)")
    parser.add_argument(
        "--memory", default="", help="sizes in MB to measure the memory of packing at, such as 1000,4000"
    )
    parser.add_argument("--cache", type=Path, default=ROOT / ".bench", help="for texts and results (.bench)")
    return parse(parser, PARTS)


if __name__ == "__main__":
    os.chdir(ROOT)
    main()
