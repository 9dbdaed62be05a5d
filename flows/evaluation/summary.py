"""What is measured of a model and its checkpoints, and how a run ends: the model is registered, its results are told.

Samples, overlaps with the training text, facts: nothing of this stops a training or loses a trained model.
"""

from __future__ import annotations

import json
import resource
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from mlflow.exceptions import MlflowException
from rich.markup import escape

from data_contracts.clean.personal import veiled
from data_contracts.rules import Rules
from flows import progress
from flows.evaluation import scoring
from flows.evaluation.comparison import challenge
from flows.home import shared_home
from flows.models.promotion import promote
from flows.models.register import record_descent, register
from flows.pages.render import against_baselines, render_text, spaced
from flows.progress import left_out_if_it_fails
from flows.recipe import Recipe
from flows.stages.definitions import HELD_OUT
from flows.stages.documents import read_texts
from flows.stages.run_stage import turn
from flows.store.artifacts import Artifact
from flows.store.locks import lock
from flows.tracking.run import Tracker
from gpt import GPTError
from gpt.evaluation import memorisation

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

    from gpt.model.transformer import GPT

LEAST_SAMPLES = 3
SHOWN_LINES = 12  # of each sample, on the terminal
SEARCHED_BYTES = 500_000_000  # of the training text: half a minute
SAMPLED_PROMPTS = 4  # after an evaluation


def finish(recipe: Recipe, tracker: Tracker, named: bool = True) -> dict:
    """Assess the model, register it, tell MLflow; returns the summary that the flow ends with.

    named: False for a reproduction, whose model has its name from the run that it reproduces.
    """
    stages = tracker.stages
    decoder, sequences = stages["train"], stages["pack"]
    texts, assessed = assess(recipe, tracker)
    model, champion = register_model(tracker, recipe) if named else ("", "")
    summary = {
        "corpus": recipe.corpus,
        "test_bpb": decoder.counts["test_bpb"],
        "val_bpb": decoder.counts["val_bpb"],
        "baselines": sequences.counts["baselines"],
        "verdict": against_baselines(decoder.counts | sequences.counts),
        "epochs": decoder.counts["steps"] * recipe.train.batch_size / sequences.counts["train_sequences"],
        "parameters": decoder.counts["parameters"],
        **assessed,
        "model": model,
        "champion": champion,
        "mlflow_run": tracker.run_id,
        "mlflow_url": tracker.url,
        "stages": {
            name: {"key": a.key, "digest": a.digest, "reused": a.reused, "seconds": a.seconds, **a.counts}
            for name, a in stages.items()
        },
        "assessing_seconds": round(tracker.assessing_seconds, 3),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    tracker.tags({"mlflow.note.content": spaced(render_text("run_note.md", recipe=recipe, summary=summary))})
    once = {"test/bpb": summary["test_bpb"], "val/best_bpb": summary["val_bpb"], "train/epochs": summary["epochs"]}
    once["baseline/margin"] = min(summary["baselines"].values()) - summary["test_bpb"]
    tracker.step(0, once | {name: summary[name] for name in ("assessing_seconds", "peak_memory_bytes")})
    tracker.content(json.dumps(summary, indent=1), "summary.json")
    if progress.to_terminal and named:
        show_on_terminal(recipe, summary, stages, texts)
    return summary


def assess(recipe: Recipe, tracker: Tracker) -> tuple[list[str], dict]:
    """What the model writes after each prompt, the prompt included, and what was measured of it. What cannot be measured is
    left out, with a line: the model is trained."""
    texts: list[str] = []
    result: dict = {"longest_overlap": None, "facts": None, "parts": {}}
    decoder, documents = tracker.stages["train"], tracker.stages["clean"].folder
    with tracker.assessing(), turn(1), left_out_if_it_fails("the assessment of the model"):
        from gpt.generation import sample

        step, (gpt, tokenizer) = decoder.counts["best_step"], sample.load(decoder.folder / "model")
        prompts, how = recipe.sample.prompts, sampling(recipe, recipe.sample.max_tokens)
        answers = sample.texts(gpt, tokenizer, prompts, -(-LEAST_SAMPLES // len(prompts)), **how)
        written = [text for several in answers for text in several]
        whole = [prompt + text for prompt, several in zip(prompts, answers, strict=True) for text in several]
        texts = veiled(whole, recipe.clean)
        tracker.content("\n\n---\n\n".join(texts), f"samples/step-{step:06d}.txt")
        with left_out_if_it_fails("the search for repeated text"):
            result["longest_overlap"] = log_overlaps(tracker, step, written, documents, recipe.clean)
        with left_out_if_it_fails("the scores of the parts"):
            result["parts"] = score_parts(tracker, step) if recipe.mix else {}
        with left_out_if_it_fails("the test of facts"):
            result["facts"] = score_facts(tracker, step, gpt, tokenizer) if recipe.sample.facts else None
    return texts, result


def log_samples(tracker: Tracker, step: int, folder: Path, recipe: Recipe) -> None:
    """Add what a checkpoint's model writes, a few tokens a prompt, to the run's table of samples. folder: of the checkpoint."""
    from gpt.checkpoint import load_model
    from gpt.data.tokenizer import load_tokenizer, tokenizer_file
    from gpt.generation.sample import texts

    asked = recipe.sample
    if not asked.evaluation_tokens:
        return
    prompts = asked.prompts[:SAMPLED_PROMPTS]
    with left_out_if_it_fails(f"the sample of step {step}"):
        model, _ = load_model(folder)
        tokenizer = load_tokenizer(tokenizer_file(tracker.stages["pack"].folder))
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


def score_parts(tracker: Tracker, step: int) -> dict[str, float]:
    """Log, and return, the bits per byte on the held-out text of each part of a mixture."""
    from gpt.evaluation.baselines import bits_per_byte

    nats = pl.Series("nats", np.load(tracker.stages["train"].folder / "test_nats.npy"))
    part = pl.col("source_file").str.extract("^([^/]+)/").alias("part")
    documents = scoring.documents(tracker.stages["clean"].folder, HELD_OUT).select(part, "n_bytes").collect()
    sums = documents.with_columns(nats).group_by("part").agg(pl.col("nats", "n_bytes").sum()).sort("part")
    bits = {part: bits_per_byte(nats, n_bytes) for part, nats, n_bytes in sums.rows()}
    tracker.step(step, {f"test/bpb/{part}": value for part, value in bits.items()})
    return bits


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


def sampling(recipe: Recipe, max_tokens: int) -> dict[str, Any]:
    """How the recipe's samples are drawn, for gpt.generation.sample."""
    asked = recipe.sample
    return {"max_tokens": max_tokens, "temperature": asked.temperature, "top_k": asked.top_k, "seed": asked.seed}


def register_model(tracker: Tracker, recipe: Recipe) -> tuple[str, str]:
    """`gpt-<corpus>/<version>` in MLflow's registry, and which version is champion and why; empty without a registry."""
    name = f"gpt-{recipe.corpus}"
    try:
        with lock(shared_home(), f"register-{name}"):  # two runs of one corpus may end together
            version = register(tracker, recipe)
            record_descent(tracker, recipe, version)
            verdict = promote(tracker, name, version, partial(challenge, recipe, tracker.stages))
    except (MlflowException, OSError) as error:
        progress.log_line(f"the model is not registered: {str(error)[:200]}\nthe same command registers it later")
        return "", ""
    tracker.tags({"model": f"models:/{name}/{version}", "champion": verdict})
    return f"{name}/{version}", verdict


def show_on_terminal(recipe: Recipe, summary: dict, stages: dict[str, Artifact], texts: list[str]) -> None:
    """The samples, the results, and what to do next."""
    console = progress.console
    for text in texts:
        lines = "\n".join(f"  | {line}" for line in text.splitlines()[:SHOWN_LINES])
        console.print(f"\n{lines}", markup=False, style="cyan", soft_wrap=True)
    console.print()
    for line in render_text("run_results.txt", summary=summary, stages=stages).splitlines():
        name, _, value = line.partition(": ")
        console.print(f"[bold]{name:<14}[/bold] {escape(value)}", soft_wrap=True)
    console.print("\n[bold]next[/bold]")
    console.print(render_text("next.txt", recipe=recipe, quote=shlex.quote), markup=False, soft_wrap=True, end="")
