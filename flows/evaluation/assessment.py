"""What is measured of a finished model, and of its checkpoints: samples, overlaps with the training text, facts.

Nothing here stops a training or loses a trained model.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from data_contracts.clean.personal import veiled
from data_contracts.rules import Rules
from flows.evaluation import scoring
from flows.home import shared_home
from flows.progress import left_out_if_it_fails
from flows.recipe import Recipe
from flows.stages.documents import read_texts
from flows.store.artifacts import Store
from flows.tracking.run import Tracker
from gpt import GPTError
from gpt.evaluation import memorisation

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

    from gpt.model.transformer import GPT

SEARCHED_BYTES = 500_000_000  # of the training text: half a minute
SAMPLED_PROMPTS = 4  # after an evaluation


def log_samples(tracker: Tracker, step: int, folder: Path, recipe: Recipe) -> None:
    """Add what a checkpoint's model writes, a few tokens a prompt, to the run's table of samples. folder: of the checkpoint."""
    from sentencepiece import SentencePieceProcessor

    from gpt.checkpoint import load_model
    from gpt.generation.sample import texts

    asked = recipe.sample
    if not asked.evaluation_tokens:
        return
    prompts = asked.prompts[:SAMPLED_PROMPTS]
    with left_out_if_it_fails(f"the sample of step {step}"):
        model, _ = load_model(folder)
        tokenizer = SentencePieceProcessor(model_file=str(tracker.stages["pack"].folder / "tokenizer.model"))
        how = sampling(recipe, asked.evaluation_tokens)
        written = veiled([text for (text,) in texts(model, tokenizer, prompts, **how)], recipe.clean)
        rows = [{"step": step, "prompt": prompt, "text": text} for prompt, text in zip(prompts, written, strict=True)]
        tracker.table(rows, "samples/evaluations.json")


def log_overlaps(tracker: Tracker, step: int, samples: list[str], documents: Path, rules: Rules) -> int:
    """Log, and return, the longest overlap of the samples with the training documents, in characters.

    samples: what the model wrote, without the prompts. documents: folder of the clean stage.
    """
    found = memorisation.overlaps(samples, read_texts(documents, "train", SEARCHED_BYTES))
    longest = max(map(len, found), default=0)
    tracker.step(step, {"sample/longest_overlap": longest})
    shown = enumerate(zip(found, veiled(found, rules), strict=True))
    rows = [{"sample": number, "longest_overlap": len(text), "text": veil} for number, (text, veil) in shown]
    tracker.table(rows, "samples/overlaps.json")
    return longest


def score_facts(tracker: Tracker, step: int, model: GPT, tokenizer: SentencePieceProcessor) -> dict | None:
    """Log which of the simple facts the model gets right; returns the row of all facts."""
    from gpt.evaluation import facts

    try:
        verdicts = facts.score(model, tokenizer, facts.load())
    except GPTError as error:  # the context is too short
        tracker.tags({"facts": str(error)})
        return None
    summary = facts.summarize(verdicts)
    everything: dict[str, Any] = summary[-1]
    tracker.step(step, {f"facts/{name}": everything[name] for name in ("accuracy", "low", "high", "chance", "always")})
    tracker.table(summary, "facts/summary.json")
    tracker.table([verdict.row() for verdict in verdicts], "facts/sentences.json")
    return everything


def score_parts(tracker: Tracker, step: int, recipe: Recipe) -> dict[str, float]:
    """Log, and return, the bits per byte on the held-out text of each part of a mixture."""
    from gpt.evaluation.baselines import bits_per_byte
    from gpt.machine.device import prepare

    text, folder = scoring.held_out(tracker.stages["clean"]), tracker.stages["train"].folder
    loaded = scoring.load(scoring.find(Store(shared_home()), str(folder)), prepare(recipe.runtime))
    nats = pl.Series("nats", scoring.score(loaded, text).document_nats)
    part = pl.col("source_file").str.extract("^([^/]+)/").alias("part")
    sums = text.documents.with_columns(nats).group_by(part).agg(pl.col("nats", "n_bytes").sum()).sort("part")
    bits = {part: bits_per_byte(nats, n_bytes) for part, nats, n_bytes in sums.rows()}
    tracker.step(step, {f"test/bpb/{part}": value for part, value in bits.items()})
    return bits


def sampling(recipe: Recipe, max_tokens: int) -> dict[str, Any]:
    """How the recipe's samples are drawn, for gpt.generation.sample."""
    asked = recipe.sample
    return {"max_tokens": max_tokens, "temperature": asked.temperature, "top_k": asked.top_k, "seed": asked.seed}
