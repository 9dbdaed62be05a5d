"""What a finished model knows, and what it repeats: simple facts, and what its samples share with the training text."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from flows.progress import say
from flows.recipe import Recipe
from flows.stages.documents import read_texts
from flows.tracking.run import Tracker
from gpt import GPTError
from gpt.evaluation import memorisation

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from sentencepiece import SentencePieceProcessor

    from gpt.model.transformer import GPT

SEARCHED_BYTES = 500_000_000  # of the training text: half a minute
LONGEST_SAMPLING = 2.0  # seconds after an evaluation
SAMPLED_PROMPTS = 4  # after an evaluation
SHOWN_TOKENS = 24  # of a text, in the figure of attention
AT_LEAST = 50  # characters that a sample shares with the training text to count as repeated


def repeats(tracker: Tracker, step: int, samples: list[str], documents: Path) -> int:
    """Log, and return, the longest overlap of the samples with the training documents, in characters.

    samples: what the model wrote, without the prompts. documents: folder of the clean stage.
    """
    found = memorisation.overlaps(samples, _first(read_texts(documents, "train")), AT_LEAST)
    longest = max((overlap.length for overlap in found), default=0)
    covered = sum(overlap.covered * len(text) for overlap, text in zip(found, samples, strict=True))
    share = covered / max(1, sum(map(len, samples)))
    tracker.step(step, {"sample/longest_overlap": longest, "sample/repeated": share})
    rows = {
        "sample": list(range(len(found))),
        "longest_overlap": [overlap.length for overlap in found],
        "text": [overlap.text for overlap in found],
        "repeated": [overlap.covered for overlap in found],
    }
    tracker.table(rows, "samples/overlaps.json")
    return longest


def writes(tracker: Tracker, step: int, folder: Path, recipe: Recipe) -> None:
    """Add what a checkpoint's model writes, a few tokens a prompt, to the run's table of samples. It takes no longer than
    the evaluation did (or a token a prompt does)."""
    from sentencepiece import SentencePieceProcessor

    from gpt.checkpoint import load_model
    from gpt.generation.sample import stream_texts

    asked, until = recipe.sample, time.monotonic() + min(tracker.evaluation_seconds, LONGEST_SAMPLING)
    if not asked.evaluation_tokens:
        return
    prompts = asked.prompts[:SAMPLED_PROMPTS]
    written = [""] * len(prompts)
    how = {"temperature": asked.temperature, "top_k": asked.top_k, "seed": asked.seed}
    try:
        model, _ = load_model(folder)
        tokenizer = SentencePieceProcessor(model_file=str(tracker.stages["pack"].folder / "tokenizer.model"))
        for row, piece in stream_texts(model, tokenizer, prompts, max_tokens=asked.evaluation_tokens, **how):
            written[row] += piece
            if time.monotonic() > until:
                break
    except Exception as error:  # no reason to stop a training
        say(f"no samples of step {step}: {error}", logging.WARNING)
        return
    rows = {"step": [step] * len(prompts), "prompt": list(prompts), "text": written}
    tracker.table(rows, "samples/evaluations.json")


def knows(tracker: Tracker, step: int, model: GPT, tokenizer: SentencePieceProcessor, recipe: Recipe) -> dict | None:
    """Log which of the simple facts the model gets right, where the recipe asks for it; returns the row of all."""
    from gpt.evaluation import facts

    if not recipe.sample.facts:
        return None
    try:
        verdicts = facts.score(model, tokenizer, facts.load())
    except GPTError as error:  # too short a context: no reason to lose a trained model
        tracker.tags({"facts": str(error)})
        return None
    summary = facts.summarize(verdicts)
    everything = summary[-1]
    tracker.step(step, {f"facts/{name}": everything[name] for name in ("accuracy", "low", "high", "chance", "always")})
    for rows, file in (
        (summary, "facts/summary.json"),
        ([verdict.row() for verdict in verdicts], "facts/sentences.json"),
    ):
        tracker.table({name: [row[name] for row in rows] for name in rows[0]}, file)
    return everything


def _first(texts: Iterator[str]) -> Iterator[str]:
    """Texts until there are SEARCHED_BYTES of them."""
    n_bytes = 0
    for text in texts:
        yield text
        n_bytes += len(text)
        if n_bytes >= SEARCHED_BYTES:
            return


def looks(tracker: Tracker, model: GPT, tokenizer: SentencePieceProcessor, text: str) -> None:
    """Log a figure of what each token of a text is interested in: the mean over the heads of some layers."""
    import torch

    from gpt.evaluation.attention_maps import attention_maps
    from gpt.generation.text import encode

    ids = [tokenizer.eos_id(), *encode(tokenizer, text)][: min(SHOWN_TOKENS, model.config.block_size)]
    maps_LTT = attention_maps(model, torch.tensor([ids]))[:, 0].mean(1).numpy()
    labels = [
        "⏎" if piece == "\n" else piece.replace("\u2581", " ").strip() or "␣" for piece in tokenizer.id_to_piece(ids)
    ]
    labels[0] = "(start)"
    tracker.figure(_attention(maps_LTT, labels), "attention.png")


def _attention(maps_LTT: np.ndarray, labels: list[str]) -> Figure:
    """A panel a layer, four at most: rows are tokens that look, columns those looked at."""
    from matplotlib.figure import Figure

    layers = sorted({round(n * (len(maps_LTT) - 1) / 3) for n in range(4)})
    figure = Figure(figsize=(4.6 * len(layers), 4.8), layout="constrained")
    for axes, layer in zip(figure.subplots(1, len(layers), squeeze=False)[0], layers, strict=True):
        image = axes.imshow(maps_LTT[layer], cmap="Blues", vmin=0, vmax=1)
        axes.set_title(f"layer {layer + 1} of {len(maps_LTT)}", fontsize=10)
        axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=7, parse_math=False)
        axes.set_yticks(range(len(labels)), labels, fontsize=7, parse_math=False)
    figure.colorbar(image, ax=figure.axes, label="share of attention, mean over heads", shrink=0.7)
    return figure
