"""The five stages: what each is made from, which code makes it, and how.

A stage is a pure description: its parameters (from the recipe), its inputs (other stages) and its sources are what the
artifact's key is made of; `make` fills a folder and returns the counts. The heavy leaves are imported when they are needed,
so that asking `gpt why` loads no torch.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from flows.home import shared_home
from flows.progress import Report, log_line
from flows.recipe import OWN, Recipe, corpus_names
from flows.stages.code_identity import identity
from flows.stages.documents import compressed_bits_per_byte, read_documents, read_texts
from flows.store.artifacts import Artifact, Store, read_manifest

MODEL = "tokenizer.model"
RAW = "raw"  # the downloaded files, in a folder of their own: a manifest beside them could be taken for one


@dataclass(frozen=True)
class Job:
    """What a stage's `make` is given."""

    recipe: Recipe
    parameters: dict
    """of the stage, as they stand in the artifact's key"""
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
    """files whose code decides the output, with all they import of their package; `file.py:name` is one function"""
    make: Callable[[Job], dict]
    resumable: bool = False
    reads_corpus: bool = False
    """whether the module of the corpus (`data_contracts/corpora/`) decides the output too"""

    def code(self, recipe: Recipe) -> str:
        """Which code makes the stage's artifact: part of its key."""
        if self.name == "download" and recipe.source.kind != "builtin":
            return ""  # its parameters say which bytes are meant: how they are brought changes nothing
        parts = {self.name: self.sources} | (_reader_part(recipe.reader) if self.reads_corpus else {})
        return ", ".join(identity(part, entries) for part, entries in parts.items())


def download(job: Job) -> dict:
    from data_contracts import sources

    raw = job.folder / RAW
    raw.mkdir(exist_ok=True)
    sources.fetch(sources.pinned(job.recipe.source, job.parameters), reader_of(job.recipe), raw, job.report)
    files = [path for path in raw.rglob("*") if path.is_file()]
    return {"files": len(files), "bytes": sum(path.stat().st_size for path in files)}


def clean(job: Job) -> dict:
    from data_contracts import facts
    from data_contracts.clean import clean_corpus
    from flows.pages.data_card import write_data_card
    from flows.stages.workers import spread

    reader, rules = reader_of(job.recipe), job.recipe.clean

    def describe(sample, counts: dict) -> None:
        write_data_card(job.folder / "card", facts.describe(job.folder, sample, counts, rules, _about(job)))

    with spread(job.recipe.workers) as fan_out:
        return clean_corpus(
            reader,
            job.inputs["download"].folder / RAW,
            job.folder,
            rules,
            fan_out=fan_out,
            progress=job.report,
            describe=describe,
            **job.recipe.options,
        )


def tokenize(job: Job) -> dict:
    from flows.pages.tokenizer_card import write_tokenizer_card
    from tokenizers import report, training
    from tokenizers.tokenizer import Tokenizer

    documents, settings = job.inputs["clean"], job.recipe.tokenizer
    texts = read_texts(documents.folder, "train")
    counts, checked = training.train(texts, documents.counts["train_bytes"], job.folder, settings)
    held_out = training.draw(read_texts(documents.folder, "val"), 0, settings.seed).checked
    facts = report.facts(Tokenizer(job.folder / MODEL), checked, held_out)
    counts |= {
        row["split"].replace(" ", "_") + "_bytes_per_token": round(row["bytes_per_token"], 4) for row in facts["splits"]
    }
    counts |= {"byte_fallback": round(facts["splits"][1]["byte_fallback"], 6)}
    (job.folder / "report.json").write_text(json.dumps(counts, indent=1) + "\n")
    write_tokenizer_card(job.folder / "card", job.recipe.corpus, job.parameters["tokenizer"], counts, facts)
    return counts


def pack(job: Job) -> dict:
    from flows.pages.packing_report import write_packing_report
    from gpt.data import dataset
    from gpt.data.shards import Documents
    from gpt.evaluation import baselines, packing_report
    from tokenizers.tokenizer import Tokenizer

    documents, tokenizer = job.inputs["clean"], Tokenizer(job.inputs["tokenize"].folder / MODEL)
    asked, total = job.recipe.pack, documents.counts["documents"]

    def encoded(split: str, start: int) -> Iterator[Documents]:
        done = start + (documents.counts["train_documents"] if split == "val" else 0)
        for batch in read_documents(documents.folder, split, start):
            ids, lengths = tokenizer.encode_flat(batch["text"].to_list(), job.recipe.workers.count or -1)
            names, sources = batch["doc_id"].to_list(), batch["source_file"].to_list()
            yield Documents(names, ids, lengths, batch["n_bytes"].to_numpy(), sources, batch["source_row"].to_numpy())
            done += len(batch)
            job.report(done / total, f"{done} documents")

    about = dataset.Description(
        vocab_size=tokenizer.vocab_size,
        eos_id=tokenizer.eos_id,
        pad_id=tokenizer.pad_id,
        tokenizer_fingerprint=tokenizer.fingerprint,
        **asdict(asked),
    )
    shutil.copy(
        job.inputs["tokenize"].folder / MODEL, job.folder / MODEL
    )  # a machine that only trains has all it needs
    splits = dataset.write(job.folder, {split: partial(encoded, split) for split in dataset.SPLITS}, about)
    counts = {f"{split}_{what}": number for split, numbers in splits.items() for what, number in numbers.items()}
    for law in ("train_documents", "train_bytes", "val_documents", "val_bytes"):
        assert counts[law] == documents.counts[law], f"{law}: {counts[law]} packed of {documents.counts[law]}"
    packed = dataset.Dataset.open(job.folder)
    bits = {
        "uniform": 8.0,
        "unigram": baselines.unigram_bits_per_byte(packed),
        "bigram": baselines.bigram_bits_per_byte(packed),
    } | compressed_bits_per_byte(read_texts(documents.folder, "val"))
    (job.folder / "baselines.json").write_text(json.dumps(bits, indent=1) + "\n")
    figures = packing_report.figures(packed)
    write_packing_report(job.folder / "card", job.recipe.corpus, asdict(asked), figures, bits)
    held_out = sorted(doc_id.decode() for doc_id in packed.splits["val"].index["doc_id"])
    return counts | {
        "train_sequences": figures["splits"][0]["sequences"],
        "utilisation": round(figures["splits"][0]["utilisation"], 6),
        "held_out": hashlib.sha256("\n".join(held_out).encode()).hexdigest()[:32],
        "baselines": {name: round(value, 4) for name, value in bits.items()},
    }


def fit(job: Job) -> dict:
    from flows.store import provenance
    from gpt.trainer import loop as trainer

    tokenizer = job.inputs["tokenize"]

    def on_step(step: int, metrics: dict) -> None:
        rate = f"{metrics['train/tokens_per_second']:,.0f} tokens/s  MFU {metrics['train/mfu']:.0%}"
        text = f"step {step:,}  loss {metrics['train/loss']:.3f}  {rate}  {metrics['train/eta_seconds']:,.0f} s left"
        job.report(metrics["train/progress"], text)
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
    return {
        "parameters": result.n_parameters,
        "tokens_seen": result.tokens,
        "val_loss": result.loss,
        "val_bpb": result.bits_per_byte,
        "best_step": result.step,
        "steps": result.steps,
        "stopped_early": result.stopped_early,
        "skipped_steps": len(result.skipped),
        "resumed_from": result.resumed_from,
        "machine": provenance.machine(job.recipe.runtime),
    }


def _about(job: Job) -> dict:
    """What the data card says of the raw data: where it is found, and its identity as the download has it."""
    from data_contracts.sources.https import public

    source, identity = job.recipe.source, read_manifest(job.inputs["download"].folder)["parameters"]
    where = {"kaggle": f"https://www.kaggle.com/datasets/{identity.get('handle')}", "https": public(source.url)}
    address = {"address": where[source.kind]} if source.kind in where else {}
    return {
        "corpus": reader_of(job.recipe),
        "title": job.recipe.title,
        "source": {"kind": source.kind} | address | identity,
    }


def _identity(recipe: Recipe) -> dict:
    """The raw data that is meant. Where Kaggle does not answer, the newest version that this home has of it."""
    from data_contracts import Unreachable, sources

    source, reader = recipe.source, reader_of(recipe)
    try:
        identity = sources.resolve(source, reader)
    except Unreachable as error:
        made = [manifest["parameters"] for manifest in Store(shared_home()).manifests(recipe.corpus, "download")]
        # Named at such a version, the recipe's source must be exactly what the artifact was made from.
        here = [
            known
            for known in made
            if known.get("handle") == source.handle and sources.resolve(sources.pinned(source, known), reader) == known
        ]
        if not here:
            raise
        identity = max(here, key=lambda known: known["version"])
        why = str(error).splitlines()[0]
        log_line(f"{why}; going on with version {identity['version']}, the newest that is here")
        return identity
    if source.kind == "kaggle" and source.handle == identity["handle"]:
        log_line(f"kaggle {source.handle}: current version is {identity['version']}")
    return identity


def code_parts() -> dict[str, tuple[str, ...]]:
    """The sources of every part that stages.lock has a row for: each stage, and the reader of each corpus."""
    parts = {stage.name: stage.sources for stage in STAGES.values()}
    for reader in [*corpus_names(), OWN]:
        parts |= _reader_part(reader)
    return parts


def work_id(recipe: Recipe) -> str:
    """Names what a run of this recipe makes: a stopped run is continued by the next one with the same name."""
    made = {
        name: [stage.code(recipe), stage.parameters(recipe) if name != "download" else repr(recipe.source)]
        for name, stage in STAGES.items()
    }
    return hashlib.sha256(json.dumps([recipe.corpus, recipe.reader, made], sort_keys=True).encode()).hexdigest()[:16]


def _reader_part(reader: str) -> dict[str, tuple[str, ...]]:
    return {f"reader/{reader}": (f"data_contracts/corpora/{reader.replace('-', '_')}.py",)}


def reader_of(recipe: Recipe) -> str:
    """The name that the data contracts know the corpus by: a user's own goes by the name that its user gave it."""
    return recipe.corpus if recipe.reader == OWN else recipe.reader


def _parameters(*sections: str) -> Callable[[Recipe], dict]:
    return lambda recipe: {name: json.loads(recipe.model_dump_json(include={name}))[name] for name in sections}


def _model_parameters(recipe: Recipe) -> dict:
    values = _parameters("model", "train")(recipe)
    del values["model"]["vocab_size"]  # the tokenizer's, and so part of the inputs
    del values["train"]["checkpoint_every"]  # how much a killed run loses, not what it makes
    if recipe.runtime.dtype != "auto":  # hardware, unless it is asked for: then it changes the numbers
        values["dtype"] = recipe.runtime.dtype
    return values


STAGES = {
    stage.name: stage
    for stage in (
        Stage(
            "download",
            (),
            _identity,
            ("flows/stages/definitions.py:download",),
            download,
            resumable=True,
            reads_corpus=True,
        ),
        Stage(
            "clean",
            ("download",),
            lambda recipe: _parameters("clean", "options")(recipe) | {"reader": recipe.reader},
            ("flows/stages/definitions.py:clean", "data_contracts/clean/__init__.py"),
            clean,
            resumable=True,
            reads_corpus=True,
        ),
        Stage(
            "tokenize",
            ("clean",),
            _parameters("tokenizer"),
            (
                "flows/stages/definitions.py:tokenize",
                "tokenizers/training.py",
                "tokenizers/report.py",
                "flows/stages/documents.py",
            ),
            tokenize,
        ),
        Stage(
            "pack",
            ("clean", "tokenize"),
            _parameters("pack"),
            (
                "flows/stages/definitions.py:pack",
                "gpt/evaluation/baselines.py",
                "gpt/evaluation/packing_report.py",
                "tokenizers/tokenizer.py",
                "flows/stages/documents.py",
            ),
            pack,
            resumable=True,
        ),
        Stage(
            "train",
            ("tokenize", "pack"),
            _model_parameters,
            ("flows/stages/definitions.py:fit", "gpt/trainer/loop.py"),
            fit,
            resumable=True,
        ),
    )
}
