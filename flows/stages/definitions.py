"""The five stages: what each is made from, which code makes it, and how. The table of them, STAGES, stands at the end.

An artifact's key is made of its stage's parameters (of the recipe), inputs (other stages' artifacts) and sources (code). `make`
fills a folder and returns the counts. Heavy packages are imported where they are needed, so that `gpt why` loads no torch.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from data_contracts import corpora
from flows.progress import Report, log_line
from flows.recipe import OWN, Recipe
from flows.stages.code_identity import WIRING, identity
from flows.stages.documents import read_documents, read_texts
from flows.stages.parameters import clean_parameters, download_parameters, reader_of, sections, train_parameters
from flows.store.artifacts import Artifact, Store, make_key, read_manifest, to_artifact

HELD_OUT = "test"  # the split whose baselines are computed
RAW = "raw"  # the downloaded files, in a folder of their own: one of them may be named like the manifest


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
    force: bool = False
    """whether to make it anew, from nothing of earlier artifacts"""


@dataclass(frozen=True)
class Stage:
    name: str
    make: Callable[[Job], dict]
    """the function of this file that bears the stage's name"""
    inputs: tuple[str, ...]
    parameters: Callable[[Recipe], dict]
    sources: tuple[str, ...]
    """files beside this one whose code decides the output, with what they import (see `code_identity.source_files`)"""
    resumable: bool = False
    reads_corpus: bool = False
    """whether the module of the corpus (`data_contracts/corpora/`) decides the output too"""

    def code(self, recipe: Recipe) -> str:
        """Which code makes the stage's artifact: part of its key."""
        if self.name == "download" and recipe.source.kind != "builtin":
            return ""  # its parameters name the bytes, however they are downloaded
        parts, names = code_parts(), [self.name, f"reader/{recipe.reader}"] if self.reads_corpus else [self.name]
        return ", ".join(identity(name, parts[name]) for name in names)


def read_tokenizer(folder: Path) -> Any:
    """The `tokenizers.tokenizer.Tokenizer` of a model or a dataset. Raises TokenizerError or GPTError, which name the file."""
    from gpt.data.tokenizer import BYTE_LEVEL, ByteLevel, tokenizer_file
    from tokenizers.tokenizer import Tokenizer

    path = tokenizer_file(folder)
    return Tokenizer(path, ByteLevel(path) if path.name == BYTE_LEVEL else None)


def download(job: Job) -> dict:
    from data_contracts.sources.files import listing
    from data_contracts.sources.source import fetch, pinned

    raw = job.folder / RAW
    raw.mkdir(exist_ok=True)
    others = fetch(pinned(job.recipe.source, job.parameters), reader_of(job.recipe), raw, job.report)
    files = [path for path in raw.rglob("*") if path.is_file()]
    of_kind = ", of kinds that are not read" if job.recipe.source.kind == "local" else ""
    left_out = {"left_out": len(others), "notes": [f"left out{of_kind}: {listing(others)}"]}
    return {"files": len(files), "bytes": sum(path.stat().st_size for path in files)} | (left_out if others else {})


def clean(job: Job) -> dict:
    from data_contracts import facts
    from data_contracts.clean import clean_corpus
    from data_contracts.clean.shard import measured_by
    from flows.pages.figures import write_data_card
    from flows.stages.workers import spread

    recipe, raw = job.recipe, job.inputs["download"].folder
    reader, rules = reader_of(recipe), recipe.clean
    identity = (read_manifest(raw) or {})["parameters"]
    source = {"kind": recipe.source.kind, "address": recipe.source_page()} | identity
    about: dict[str, Any] = {"corpus": reader, "title": recipe.title, "licence": recipe.licence or "not known"}
    about["source"] = {name: value for name, value in source.items() if value}

    def describe(sample, counts: dict) -> None:
        write_data_card(job.folder / "card", facts.describe(job.folder, sample, counts, rules, about))

    # Of an earlier artifact that differs only in what is decided from measures, texts and measures are taken.
    by, store = measured_by(rules) | recipe.options, Store()
    measured = make_key("measured", by, {"download": job.inputs["download"].digest}, STAGES["clean"].code(recipe))
    known = [] if job.force else store.manifests(recipe.corpus, "clean")[::-1]
    same = (to_artifact(manifest) for manifest in known if manifest["counts"].get("measured") == measured)
    earlier = next((artifact.folder for artifact in same if not store.damage(artifact)), None)
    if earlier:
        log_line(
            "texts and measures are those of an earlier cleaning: only settings that decide by measures have changed"
        )
    with spread(recipe.workers) as fan_out:
        how: dict[str, Any] = {"fan_out": fan_out, "progress": job.report, "describe": describe, **recipe.options}
        counts = clean_corpus(reader, raw / RAW, job.folder, rules, earlier=earlier, **how)
    if recipe.reader == OWN and rules.emails == "mask" and (masked := counts["changed"]["emails"]):
        log_line(f"e-mail addresses in {masked} texts are masked as <email>; clean.emails=keep keeps them")
    if counts.get("notes") and (left_out := job.inputs["download"].counts.get("left_out")):
        counts["notes"][0] += f", {left_out} files left out"
    return counts | {"measured": measured}


def tokenize(job: Job) -> dict:
    from data_contracts.clean.personal import veiled
    from flows.pages.render import publish
    from tokenizers import report, training

    documents, settings, start = job.inputs["clean"], job.recipe.tokenizer, job.recipe.start
    texts, n_bytes = read_texts(documents.folder, "train"), documents.counts["train_bytes"]
    given = read_tokenizer(Path(start.folder)) if start.model else None
    counts, checked = training.train(texts, n_bytes, job.folder, settings, given)
    held_out = training.draw(read_texts(documents.folder, "val"), 0, settings.seed).checked
    shown = veiled(held_out[: report.EXAMPLES], job.recipe.clean)
    facts = report.facts(read_tokenizer(job.folder), checked, held_out, shown)
    for row in facts["splits"]:
        counts[f"{row['split'].replace(' ', '_')}_bytes_per_token"] = round(row["bytes_per_token"], 4)
    counts["byte_fallback"] = round(facts["splits"][1]["byte_fallback"], 6)
    _write_json(job.folder / "report.json", counts)
    about = {"corpus": job.recipe.corpus, "settings": job.parameters["tokenizer"], "counts": counts}
    publish(job.folder / "card", "tokenizer_card.jinja", about | facts)
    return counts


def pack(job: Job) -> dict:
    from flows.pages.render import publish
    from flows.stages.baselines import measure_baselines
    from gpt.data import dataset
    from gpt.data.shards import Documents

    documents, settings = job.inputs["clean"], asdict(job.recipe.pack)
    tokenizer, done = read_tokenizer(job.inputs["tokenize"].folder), 0
    shutil.copy(tokenizer.path, job.folder)  # all that a training machine needs

    def encode(split: str) -> Iterator[Documents]:
        nonlocal done
        for batch in read_documents(documents.folder, split):
            ids, lengths = tokenizer.encode_flat(batch["text"].to_list(), job.recipe.workers.count or -1)
            names, files = batch["doc_id"].to_list(), batch["source_file"].to_list()
            yield Documents(names, ids, lengths, batch["n_bytes"].to_numpy(), files, batch["source_row"].to_numpy())
            done += len(batch)
            job.report(done / documents.counts["documents"], f"{done} documents")

    tokens = {name: getattr(tokenizer, name) for name in ("vocab_size", "eos_id", "pad_id")}
    about = dataset.Description(**tokens, tokenizer_fingerprint=tokenizer.fingerprint, **settings)
    splits = dataset.write(job.folder, {split: encode(split) for split in dataset.SPLITS}, about)
    counts: dict = {f"{split}_{name}": number for split, numbers in splits.items() for name, number in numbers.items()}
    for law in (f"{split}_{name}" for split in splits for name in ("documents", "bytes")):
        assert counts[law] == documents.counts[law], f"{law}: {counts[law]} packed of {documents.counts[law]}"
    packed = dataset.Dataset.open(job.folder)
    measured = measure_baselines(documents.folder, packed, HELD_OUT)
    _write_json(job.folder / "baselines.json", measured)
    rows = [{"split": name, **numbers, "sequences": packed.n_sequences(name)} for name, numbers in splits.items()]
    facts = {"corpus": job.recipe.corpus, "settings": settings, "splits": rows} | measured
    publish(job.folder / "card", "packing_report.jinja", facts)
    held_out = {split: sorted(packed.splits[split].index["doc_id"].tolist()) for split in ("val", "test")}
    packing = {
        "train_sequences": packed.n_sequences("train"),
        **{f"{split}_digest": hashlib.sha256(b"\n".join(ids)).hexdigest()[:32] for split, ids in held_out.items()},
    }
    return counts | packing | measured


def train(job: Job) -> dict:
    from flows.stages.baselines import over_ppmd
    from flows.store import provenance
    from gpt.trainer import loop

    def on_step(step: int, metrics: dict) -> None:
        rate = f"{metrics['train/tokens_per_second']:,.0f} tokens/s  MFU {metrics['train/mfu']:.0%}"
        text = f"step {step:,}  loss {metrics['train/loss']:.3f}  {rate}  {metrics['train/eta_seconds']:,.0f} s left"
        job.report(metrics["train/progress"], text)
        job.on_step(step, metrics)

    recipe, packed = job.recipe, job.inputs["pack"].folder
    model = replace(recipe.model, vocab_size=job.inputs["tokenize"].counts["vocab_size"])
    start = recipe.start if recipe.start.model else None
    shorter, digest = _shorter(job)
    settings = (model, recipe.train, recipe.runtime)
    result = loop.train(packed, job.folder, *settings, on_step, job.on_evaluation, start, shorter)
    return {
        "goes_on_from": digest,
        "parameters": result.n_parameters,
        "tokens_seen": result.tokens,
        "val_loss": result.loss,
        "val_bpb": result.bits_per_byte,
        **{f"test_{name}": value for name, value in result.test.items()},
        "test_over_ppmd": over_ppmd(job.folder / "test_nats.npy", packed, HELD_OUT),
        "best_step": result.step,
        "steps": result.steps,
        "advice": result.advice,
        "resumed_from": result.resumed_from,
        "machine": provenance.machine(recipe.runtime),
    }


def _shorter(job: Job) -> tuple[Path | None, str]:
    """Folder and digest of the newest whole training of fewer steps that differs in nothing else, if there is one."""
    store = Store()
    for manifest in reversed([] if job.force else store.manifests(job.recipe.corpus, "train")):
        parameters, artifact = manifest["parameters"], to_artifact(manifest)
        steps = {"steps": min(parameters["train"]["steps"], job.recipe.train.steps - 1)}
        same = parameters == job.parameters | {"train": job.parameters["train"] | steps}
        same &= manifest["inputs"] == {name: job.inputs[name].digest for name in STAGES["train"].inputs}
        same &= manifest["code"] == STAGES["train"].code(job.recipe) and (artifact.folder / "state").is_dir()
        if same and not store.damage(artifact):
            return artifact.folder, artifact.digest
    return None, ""


def _write_json(path: Path, values: dict) -> None:
    path.write_text(json.dumps(values, indent=1) + "\n")


STAGES = {
    stage.name: stage
    for stage in (
        Stage("download", download, (), download_parameters, (), resumable=True, reads_corpus=True),
        Stage(
            "clean", clean, ("download",), clean_parameters, ("data_contracts/clean/__init__.py",),
            resumable=True, reads_corpus=True,
        ),
        Stage(
            "tokenize", tokenize, ("clean",), sections("tokenizer", "start"),
            ("flows/stages/documents.py", "gpt/data/tokenizer.py", "tokenizers/report.py", "tokenizers/training.py"),
        ),
        Stage(
            "pack", pack, ("clean", "tokenize"), sections("pack"),
            ("flows/stages/baselines.py", "flows/stages/documents.py", "gpt/evaluation/baselines.py",
             "gpt/evaluation/memorisation.py", "tokenizers/tokenizer.py"),
        ),
        Stage(
            "train", train, ("tokenize", "pack"), train_parameters, ("flows/stages/baselines.py", "gpt/trainer/loop.py"),
            resumable=True,
        ),
    )
}  # fmt: skip


def code_parts() -> dict[str, tuple[str, ...]]:
    """The sources of every part that stages.lock has a row for: each stage, and the reader of each corpus."""
    parts = {name: (WIRING, *stage.sources) for name, stage in STAGES.items()}
    for reader in (*corpora.names(), corpora.OWN, corpora.MIX):
        parts[f"reader/{reader}"] = (f"data_contracts/corpora/{reader.replace('-', '_')}.py",)
    return parts


def work_id(recipe: Recipe) -> str:
    """Names what a run of this recipe makes: a stopped run is continued by the next one with the same name."""
    made = {
        name: [stage.code(recipe), stage.parameters(recipe) if name != "download" else repr(recipe.source)]
        for name, stage in STAGES.items()
    }
    planned = [recipe.minutes, *recipe.dial] if recipe.dial else []
    named = json.dumps([recipe.corpus, recipe.reader, planned, made], sort_keys=True)
    return hashlib.sha256(named.encode()).hexdigest()[:16]
