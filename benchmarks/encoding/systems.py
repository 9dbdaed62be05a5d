"""One system, once, in a process of its own; prints its seconds as JSON.

    python -m benchmarks.encoding.systems SYSTEM THREADS MODEL TEXTS OUT

raw        SentencePiece's own encode of lists of documents, to numpy
processes  the same in THREADS processes of one thread
ours       Tokenizer.encode_flat
pack       the pack stage's work: read Parquet, encode, write shards
load       batches of 16k tokens from a memory map that is in no cache
Reading the texts is part of `pack` alone.
"""

import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import sentencepiece

from flows.stages.documents import read_documents
from gpt.data.dataset import Dataset, Description, write
from gpt.data.shards import Documents
from tokenizers.tokenizer import Tokenizer


def batches(texts: Path) -> list[list[str]]:
    return [frame["text"].to_list() for split in ("train", "val") for frame in read_documents(texts, split)]


def raw(threads: int, model: Path, texts: Path, out: Path) -> dict:
    processor, some = sentencepiece.SentencePieceProcessor(model_file=str(model)), batches(texts)
    start = time.perf_counter()
    tokens = sum(
        len(ids) for batch in some for ids in processor.encode(batch, return_type="numpy", num_threads=threads)
    )
    return {"seconds": time.perf_counter() - start, "tokens": tokens}


def _one(model: Path, batch: list[str]) -> list[np.ndarray]:
    global processor
    if "processor" not in globals():
        processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    return processor.encode(batch, return_type="numpy", num_threads=1)


def processes(threads: int, model: Path, texts: Path, out: Path) -> dict:
    some = batches(texts)
    with ProcessPoolExecutor(threads, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(partial(_one, model), [["start"]] * 2 * threads))
        start = time.perf_counter()
        tokens = sum(len(ids) for encoded in pool.map(partial(_one, model), some) for ids in encoded)
        return {"seconds": time.perf_counter() - start, "tokens": tokens}


def ours(threads: int, model: Path, texts: Path, out: Path) -> dict:
    tokenizer, some = Tokenizer(model), batches(texts)
    start = time.perf_counter()
    tokens = sum(len(tokenizer.encode_flat(batch, threads)[0]) for batch in some)
    return {"seconds": time.perf_counter() - start, "tokens": tokens}


def pack(threads: int, model: Path, texts: Path, out: Path) -> dict:
    tokenizer = Tokenizer(model)

    def encoded(split: str):
        for batch in read_documents(texts, split):
            ids, lengths = tokenizer.encode_flat(batch["text"].to_list(), threads)
            names, sources = batch["doc_id"].to_list(), batch["source_file"].to_list()
            yield Documents(names, ids, lengths, batch["n_bytes"].to_numpy(), sources, batch["source_row"].to_numpy())

    start = time.perf_counter()
    about = Description(tokenizer.vocab_size, 1024, tokenizer.eos_id, tokenizer.pad_id, tokenizer.fingerprint)
    counts = write(out, {split: encoded(split) for split in ("train", "val")}, about)
    return {"seconds": time.perf_counter() - start, "tokens": sum(split["tokens"] for split in counts.values())}


def load(threads: int, system: str, folder: Path, T: str) -> dict:
    """Open a dataset that is in no cache, and draw 33 M tokens in batches of 16,384 (sequential: all), as int64."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    T = int(T)
    B = 16_384 // T
    descriptor = os.open(next(folder.glob("train-*.tokens.npy")), os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    start, before = time.perf_counter(), _read_bytes()
    data = Dataset.open(folder)
    steps = data.splits["train"].n_tokens // (B * T)
    tokens, generator = data.splits["train"].stream, np.random.default_rng(0)
    if system == "ours":
        steps = min(steps, 2000)
        for step in range(steps):
            data.batch(step, B, 1)
    elif system == "random":  # nanoGPT's way: windows anywhere, with replacement
        steps = min(steps, 2000)
        for _ in range(steps):
            places = generator.integers(0, len(tokens) - T - 1, B)
            np.stack([tokens[place : place + T].astype(np.int64) for place in places])
            np.stack([tokens[place + 1 : place + 1 + T].astype(np.int64) for place in places])
    else:
        for step in range(steps):
            part = tokens[step * B * T : (step + 1) * B * T + 1].astype(np.int64)
            part[:-1].copy(), part[1:].copy()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "tokens": steps * B * T, "read": _read_bytes() - before}


def _read_bytes() -> int:
    """What this process had read from the disk so far, the kernel's reading ahead included."""
    return int(Path("/proc/self/io").read_text().split("read_bytes: ")[1].split()[0])


if __name__ == "__main__":
    system, threads, *rest = sys.argv[1:]
    if system == "load":
        print(json.dumps(load(int(threads), rest[0], Path(rest[1]), rest[2])))
    else:
        print(
            json.dumps(
                {"raw": raw, "processes": processes, "ours": ours, "pack": pack}[system](int(threads), *map(Path, rest))
            )
        )
