"""Measure models against each other on the same held-out documents: all models on all texts, or a new version on its champion.

The results of `measure` are plain values, as `gpt compare --json` prints them; the end of an interval that has none is None.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from flows.evaluation import scoring
from flows.evaluation.scoring import HeldOut, TrainedModel
from flows.progress import Report
from flows.recipe import Recipe
from flows.stages.run_stage import turn
from flows.store.artifacts import Artifact, Store
from gpt.config import Runtime
from gpt.evaluation.confidence import Interval, interval

SAMPLING: dict[str, Any] = {"max_tokens": 64, "temperature": 0.9, "top_k": 50, "seed": 0}  # for every model's answers


def measure(models: list[TrainedModel], texts: list[HeldOut], prompts: list[str], report: Report) -> dict:
    """Score every model on every text, and let each answer the prompts."""
    from gpt.generation.sample import texts as generate

    def on_batch(place: int, what: str) -> Callable[[int, int], None]:
        return lambda done, total: report((place + done / total) / (len(models) * len(texts)), what)

    nats: dict[tuple[str, str], np.ndarray] = {}
    result: dict[str, list] = {name: [] for name in ("models", "corpora", "matrix", "notes")}
    answers = [{"prompt": prompt} for prompt in prompts]
    for model in models:
        loaded = scoring.load(model, Runtime())
        n_tokens, seconds = 0, 0.0
        for text in texts:
            found = scoring.score(loaded, text, on_batch(len(nats), f"{model.name} on {text.name}"))
            nats[model.name, text.name] = found.document_nats
            n_tokens, seconds = n_tokens + found.n_tokens, seconds + found.seconds
            if trained := len(scoring.trained_on(model, text)):
                result["notes"].append(f"{model.name} was trained on {trained} documents held out of {text.name}")
        written = [answer for (answer,) in generate(loaded.model, loaded.tokenizer.processor, prompts, **SAMPLING)]
        training, decoder = model.training or {"counts": {}}, loaded.model
        size = {"parameters": decoder.n_parameters, "vocab_size": loaded.tokenizer.vocab_size}
        size["block_size"] = decoder.config.block_size
        cost = {name: training["counts"].get(name) for name in ("steps", "tokens_seen")}
        cost |= {"training_seconds": training.get("seconds"), "digest": training.get("digest")}
        cost["tokens_scored_per_second"] = n_tokens / seconds
        result["models"].append({"model": model.name, "corpus": model.corpus} | size | cost)
        for row, answer in zip(answers, written, strict=True):
            row[model.name] = answer
    for text in texts:
        own = next((model.name for model in models if model.corpus == text.clean.corpus), None)
        about: dict = {"corpus": text.name, "documents": len(text.documents), "of_documents": text.of_documents}
        about |= {"bytes": text.n_bytes, "digest": text.clean.digest, "baselines": text.baselines}
        result["corpora"].append(about)
        result["matrix"] += [_cell(model.name, text, own, nats) for model in models]
    report(1.0)
    return result | {"answers": answers, "device": str(loaded.machine.device)}


def challenge(recipe: Recipe, stages: dict[str, Artifact], champion: str) -> tuple[bool, str]:
    """Whether a run's decoder beats the champion, and by how much, on what the run held out and the champion never saw.

    stages: the run's artifacts. champion: `gpt-<corpus>/<version>`. Raises UserError or GPTError if it cannot be scored.
    """
    store = Store()
    models = [scoring.find(store, name) for name in (champion, str(stages["train"].folder))]
    text = scoring.held_out(stages["clean"])
    trained = scoring.trained_on(models[0], text)
    if len(trained) == len(text.documents):
        return False, "it was trained on all that is held out now, so the two do not compare"
    fresh = text.documents.filter(~pl.col("doc_id").is_in(trained.implode()))
    text = replace(text, documents=fresh)
    with turn(1):
        old, new = (scoring.score(scoring.load(model, recipe.runtime), text) for model in models)
    gap = interval(new.document_nats - old.document_nats, text.documents["n_bytes"].to_numpy())
    without = f" (not on {len(trained)} that the champion was trained on)" if len(trained) else ""
    reason = ", worse than the champion" if gap.low > 0 else "" if gap.high < 0 else ", within the noise"
    figures = f"{new.bits_per_byte:.4f} bits per byte against {old.bits_per_byte:.4f}"
    interval_95 = f"difference {gap.value:+.4f}, 95 % interval {gap.low:+.4f} to {gap.high:+.4f}{reason}"
    return gap.high < 0, f"{figures} on {fresh.height:,} held-out documents{without}; {interval_95}"


def _cell(model: str, text: HeldOut, own: str | None, nats: dict[tuple[str, str], np.ndarray]) -> dict:
    """A model's bits per byte on a text, and their difference from those of the corpus's own model."""
    of_model, n_bytes = nats[model, text.name], text.documents["n_bytes"].to_numpy()
    cell = {"model": model, "corpus": text.name, "own": own == model}
    cell |= interval_row("bits_per_byte", interval(of_model, n_bytes)) | {"relative": None}
    cell |= dict.fromkeys(("difference", "difference_low", "difference_high"))
    if own:
        of_own = nats[own, text.name]
        cell |= interval_row("difference", interval(of_model - of_own, n_bytes))
        cell["relative"] = float(of_model.sum() / of_own.sum() - 1)
    return cell


def interval_row(name: str, found: Interval) -> dict[str, Any]:
    low, high = (end if math.isfinite(end) else None for end in (found.low, found.high))
    return {name: found.value, f"{name}_low": low, f"{name}_high": high}
