"""What a finished run leaves for its reader: samples, the table of stages, a link to MLflow, the summary on the terminal."""

from __future__ import annotations

import json
import resource
import shlex
from contextlib import suppress
from typing import TYPE_CHECKING

from mlflow.exceptions import MlflowException
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.context import FlowRunContext
from rich.markup import escape

from flows import progress
from flows.evaluation import assessment
from flows.models import register as registry
from flows.recipe import Recipe
from flows.store.artifacts import Artifact
from flows.tracking.run import Tracker

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

    from gpt.model.transformer import GPT


def finish(recipe: Recipe, tracker: Tracker, named: bool = True) -> dict:
    """Let the model write, and ask it; register it; tell Prefect and MLflow; return the summary that the flow ends with.

    named: False for a reproduction, whose model has its name from the run that it reproduces."""
    from gpt.generation.sample import load

    stages = tracker.stages
    decoder, sequences = stages["train"], stages["pack"]
    with tracker.assessing():
        step, (gpt, tokenizer) = decoder.counts["best_step"], load(decoder.folder / "model")
        written = samples(recipe, gpt, tokenizer)
        texts = [prompt + text for prompt, text in zip(recipe.sample.prompts, written, strict=True)]
        tracker.text("\n\n---\n\n".join(texts), f"samples/step-{step:06d}.txt")
        repeated = assessment.repeats(tracker, step, written, stages["clean"].folder)
        assessment.looks(tracker, gpt, tokenizer, texts[0])
        known = assessment.knows(tracker, step, gpt, tokenizer, recipe)
    model = register(tracker, recipe, decoder, sequences) if named else ""
    summary = {
        "corpus": recipe.corpus,
        "val_bpb": decoder.counts["val_bpb"],
        "baselines": sequences.counts["baselines"],
        "epochs": decoder.counts["steps"] * recipe.train.batch_size / sequences.counts["train_sequences"],
        "parameters": decoder.counts["parameters"],
        "longest_overlap": repeated,
        "facts": known,
        "model": model,
        "champion": tracker.tagged.get("champion", ""),
        "mlflow_run": tracker.run_id,
        "mlflow_url": tracker.url,
        "stages": {
            name: {"key": a.key, "digest": a.digest, "reused": a.reused, "seconds": a.seconds, **a.counts}
            for name, a in stages.items()
        },
        "assessing_seconds": round(tracker.assessing_seconds, 3),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    tracker.tags({"mlflow.note.content": description(recipe, summary)})
    once = {"val/best_bpb": summary["val_bpb"], "train/epochs": summary["epochs"]}
    tracker.step(0, once | {name: summary[name] for name in ("assessing_seconds", "peak_memory_bytes")})
    tracker.text(json.dumps(summary, indent=1), "summary.json")
    if FlowRunContext.get():
        with suppress(Exception):  # a Prefect page without its table is no reason to lose a trained model
            tell_prefect(recipe, tracker, stages, texts)
    if progress.to_terminal and named:
        show(recipe, summary, stages, texts)
    return summary


def register(tracker: Tracker, recipe: Recipe, decoder: Artifact, sequences: Artifact) -> str:
    """`gpt-<corpus>/<version>` in MLflow's registry. A registry that is away costs the name, not the trained model."""
    try:
        return f"gpt-{recipe.corpus}/{registry.register(tracker, recipe, decoder, sequences)}"
    except (MlflowException, OSError) as error:
        progress.say(
            f"the model is trained but not registered: {str(error)[:200]}\nthe same command registers it later"
        )
        return ""


def samples(recipe: Recipe, gpt: GPT, tokenizer: SentencePieceProcessor) -> list[str]:
    """The model's continuation of each of the recipe's prompts."""
    from gpt.generation.sample import texts as continuations

    asked = recipe.sample
    settings = {
        "max_tokens": asked.max_tokens,
        "temperature": asked.temperature,
        "top_k": asked.top_k,
        "seed": asked.seed,
    }
    return [text for (text,) in continuations(gpt, tokenizer, asked.prompts, **settings)]


def tell_prefect(recipe: Recipe, tracker: Tracker, stages: dict[str, Artifact], texts: list[str]) -> None:
    rows = [
        {
            "stage": name,
            "state": "reused" if a.reused else "built",
            "seconds": a.seconds,
            "key": a.key,
            "counts": json.dumps(a.counts),
        }
        for name, a in stages.items()
    ]
    create_table_artifact(table=rows, key=f"stages-{recipe.corpus}", description=f"Stages of {recipe.corpus}")
    text = "\n\n".join(f"```\n{text}\n```" for text in texts)
    create_markdown_artifact(text, key=f"samples-{recipe.corpus}", description="What the model wrote")


def description(recipe: Recipe, summary: dict) -> str:
    """What stands at the top of the run's page, as Markdown."""
    verdict = summary["champion"]
    bits = {"**this model**": summary["val_bpb"]} | summary["baselines"]
    ranked = sorted(bits.items(), key=lambda item: item[1])
    decoder, seconds = summary["stages"]["train"], sum(s["seconds"] for s in summary["stages"].values())
    lines = [
        f"**{recipe.corpus}**: {recipe.title}",
        "",
        "| " + " | ".join(["bits per byte", *(name for name, _ in ranked)]) + " |",
        "|---" * (len(ranked) + 1) + "|",
        "| " + " | ".join(["held-out text", *(f"{value:.3f}" for _, value in ranked)]) + " |",
        "",
        f"- {summary['parameters']:,} parameters; {decoder['tokens_seen']:,} tokens in {decoder['steps']:,} steps",
        f"- {summary['epochs']:.1f} epochs of the training text; best at step {decoder['best_step']:,}",
        f"- {decoder['seconds']:,.0f} s of training, {seconds:,.0f} s for all five stages",
        f"- model {summary['model'] or 'not registered'}" + f"; champion: {verdict}" * bool(verdict),
    ]
    if known := summary["facts"]:
        lines.append(f"- facts: {known['accuracy']:.1%} of {known['facts']} right, chance {known['chance']:.0%}")
    return "\n".join(lines)


def show(recipe: Recipe, summary: dict, stages: dict[str, Artifact], texts: list[str]) -> None:
    """The summary, on the terminal."""
    cleaned, packed = stages["clean"].counts, stages["pack"].counts
    console, corpus = progress.console, recipe.corpus
    seconds = "  ".join(f"{name} {'reused' if a.reused else f'{a.seconds:.1f}'}" for name, a in stages.items())
    bits = {"this model": summary["val_bpb"]} | summary["baselines"]
    facts = (known := summary["facts"]) and (
        f"{known['accuracy']:.1%} of {known['facts']} right, 95 % interval {known['low']:.1%} to {known['high']:.1%}, "
        f"chance {known['chance']:.0%}"
    )
    rows = {
        "documents": f"{cleaned['documents']:,} kept, {cleaned['rejects']:,} dropped",
        "vocabulary": f"{stages['tokenize'].counts['vocab_size']:,} pieces",
        "tokens": f"{packed['train_tokens']:,} to train on, {packed['val_tokens']:,} held out; "
        f"{stages['train'].counts['steps']:,} steps see them {summary['epochs']:.1f} times",
        "parameters": f"{summary['parameters']:,}",
        "bits per byte": "   ".join(
            f"{name} {value:.3f}" for name, value in sorted(bits.items(), key=lambda item: item[1])
        ),
        "seconds": f"{seconds}  assessing {summary['assessing_seconds']:.1f}",
        "peak memory": f"{summary['peak_memory_bytes'] / 1e9:.2f} GB",
        "repeats": f"at most {summary['longest_overlap']} characters in a row of the training text, in these samples",
        "facts": facts,
        "model": summary["model"] or "not registered",
        "MLflow": f"{summary['mlflow_url']}  (run {summary['mlflow_run']})",
    }
    console.print()
    for text in texts:
        console.print(
            "\n".join(f"  | {line}" for line in text.splitlines()[:12]), markup=False, style="cyan", soft_wrap=True
        )
        console.print()
    for name, value in rows.items():
        if value:
            console.print(f"[bold]{name:<14}[/bold] {escape(value)}", soft_wrap=True)
    prompt = shlex.quote(recipe.sample.prompts[0].strip())
    source = f" --from {shlex.quote(recipe.source.path)}" if recipe.source.kind == "local" else ""
    console.print("\n[bold]next[/bold]")
    for command, what in (
        (f"gpt generate {corpus} {prompt}", "let it write"),
        ("gpt ui", "browse runs, checkpoints and models in MLflow"),
        (f"gpt why {corpus}{source} --set train.lr=0.001", "see what a change would run again"),
    ):
        console.print(f"  .venv/bin/{command}   # {what}", markup=False, soft_wrap=True)
