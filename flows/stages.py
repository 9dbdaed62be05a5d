"""The five stages: what each is made from, which code makes it, and how.

A stage is a pure description: its parameters (from the recipe), its inputs (other stages) and its sources are what the
artifact's key is made of; `make` fills a folder and returns the counts. The heavy leaves are imported when they are needed,
so that asking `gpt why` loads no torch.
"""

import hashlib
import inspect
import json
import lzma
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from flows.environment import ROOT
from flows.progress import Report
from flows.recipes import Recipe
from flows.store import Artifact, code_files, code_version


@dataclass(frozen=True)
class Job:
    """What a stage's `make` is given."""

    recipe: Recipe
    inputs: dict[str, Artifact]
    folder: Path
    """empty, or what an interrupted build of the same key left if the stage is resumable"""
    report: Report
    """progress: report(fraction, text)"""
    on_step: Callable[[int, dict], None]
    on_evaluation: Callable[[int, dict, Path, bool], None]


@dataclass(frozen=True)
class Stage:
    name: str
    inputs: tuple[str, ...]
    parameters: Callable[[Recipe], dict]
    sources: tuple[str, ...]
    """files whose code decides the output, with all they import of their package; {reader} is the recipe's module"""
    make: Callable[[Job], dict]
    resumable: bool = False

    def code(self, recipe: Recipe) -> str:
        files = code_files(*(ROOT / name.format(reader=recipe.reader.replace("-", "_")) for name in self.sources))
        return code_version(*files, inspect.getsource(self.make))


def download(job: Job) -> dict:
    from data_contracts import sources

    sources.fetch(job.recipe.source, job.recipe.reader, job.folder, job.report)
    files = [path for path in job.folder.rglob("*") if path.is_file()]
    return {"files": len(files), "bytes": sum(path.stat().st_size for path in files)}


def clean(job: Job) -> dict:
    from data_contracts import cleaning

    return cleaning.clean(
        job.recipe.reader, job.inputs["download"].folder, job.folder, job.recipe.clean, **job.recipe.options
    )


def tokenize(job: Job) -> dict:
    from tokenizers.training import train

    documents = job.inputs["clean"]
    counts = train(read_texts(documents, "train"), documents.counts["train_bytes"], job.folder, job.recipe.tokenizer)
    (job.folder / "report.json").write_text(json.dumps(counts, indent=1) + "\n")
    return counts


def pack(job: Job) -> dict:
    from gpt import baselines, dataset
    from tokenizers.tokenizer import Tokenizer

    documents, tokenizer = job.inputs["clean"], Tokenizer(job.inputs["tokenize"].folder / "tokenizer.model")
    done = 0

    def encoded(split: str) -> Iterator[tuple]:
        nonlocal done
        for batch in read_documents(documents, split):
            yield from zip(batch["doc_id"], tokenizer.encode(batch["text"].to_list()), batch["n_bytes"], strict=True)
            done += len(batch)
            job.report(done / documents.counts["documents"], f"{done} documents")

    splits = dataset.write(
        job.folder,
        {"train": encoded("train"), "val": encoded("val")},
        vocab_size=tokenizer.vocab_size,
        eos_id=tokenizer.eos_id,
        block_size=job.recipe.pack.block_size,
        tokenizer_fingerprint=tokenizer.fingerprint,
    )
    counts = {f"{split}_{what}": number for split, numbers in splits.items() for what, number in numbers.items()}
    for law in ("train_documents", "train_bytes", "val_documents", "val_bytes"):
        assert counts[law] == documents.counts[law], f"{law}: {counts[law]} packed of {documents.counts[law]}"
    packed = dataset.Dataset.open(job.folder)
    bits = {
        "uniform": 8.0,
        "unigram": baselines.unigram_bits_per_byte(packed),
        "bigram": baselines.bigram_bits_per_byte(packed),
    } | compressed_bits_per_byte(read_texts(documents, "val"))
    (job.folder / "baselines.json").write_text(json.dumps(bits, indent=1) + "\n")
    ids = sorted(doc_id for batch in read_documents(documents, "val") for doc_id in batch["doc_id"])
    return counts | {
        "held_out": hashlib.sha256("\n".join(ids).encode()).hexdigest()[:32],
        "baselines": {name: round(value, 4) for name, value in bits.items()},
    }


def fit(job: Job) -> dict:
    from gpt import trainer

    tokenizer = job.inputs["tokenize"]
    steps = job.recipe.train.steps

    def on_step(step: int, metrics: dict) -> None:
        text = (
            f"step {step}/{steps}  loss {metrics['train/loss']:.3f}  {metrics['train/tokens_per_second']:,.0f} tokens/s"
        )
        job.report(step / steps, text)
        job.on_step(step, metrics)

    result = trainer.train(
        job.inputs["pack"].folder,
        job.folder,
        replace(job.recipe.model, vocab_size=tokenizer.counts["vocab_size"]),
        job.recipe.train,
        job.recipe.runtime,
        on_step=on_step,
        on_evaluation=job.on_evaluation,
    )
    shutil.copy(tokenizer.folder / "tokenizer.model", job.folder / "model" / "tokenizer.model")
    return {
        "parameters": result.n_parameters,
        "tokens_seen": result.tokens,
        "val_loss": result.loss,
        "val_bpb": result.bits_per_byte,
        "best_step": result.step,
        "steps": steps,
        "resumed_from": result.resumed_from,
    }


def read_documents(documents: Artifact, split: str) -> Iterator:
    """The clean documents of a split, in order, as polars frames (doc_id, text, n_bytes) of a few thousand."""
    import polars as pl

    plan = pl.scan_parquet(documents.folder / "documents.parquet").filter(pl.col("split") == split)
    return plan.select("doc_id", "text", "n_bytes").collect_batches(chunk_size=4096, maintain_order=True)


def read_texts(documents: Artifact, split: str) -> Iterator[str]:
    for batch in read_documents(documents, split):
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


def _identity(recipe: Recipe) -> dict:
    from data_contracts import sources

    return sources.resolve(recipe.source, recipe.reader)


def _parameters(*sections: str) -> Callable[[Recipe], dict]:
    return lambda recipe: {name: json.loads(recipe.model_dump_json(include={name}))[name] for name in sections}


def _model_parameters(recipe: Recipe) -> dict:
    values = _parameters("model", "train")(recipe)
    del values["model"]["vocab_size"]  # the tokenizer's, and so part of the inputs
    del values["train"]["checkpoint_every"]  # how much a killed run loses, not what it makes
    return values


STAGES = {
    stage.name: stage
    for stage in (
        Stage("download", (), _identity, ("data_contracts/sources.py", "data_contracts/corpora/{reader}.py"), download),
        Stage(
            "clean",
            ("download",),
            lambda recipe: _parameters("clean", "options")(recipe) | {"reader": recipe.reader},
            ("data_contracts/cleaning.py", "data_contracts/corpora/{reader}.py"),
            clean,
        ),
        Stage("tokenize", ("clean",), _parameters("tokenizer"), ("tokenizers/training.py",), tokenize),
        Stage(
            "pack", ("clean", "tokenize"), _parameters("pack"), ("gpt/baselines.py", "tokenizers/tokenizer.py"), pack
        ),
        Stage("train", ("tokenize", "pack"), _model_parameters, ("gpt/trainer.py",), fit, resumable=True),
    )
}
