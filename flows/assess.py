"""What a finished model knows, and what it repeats: simple facts, and what its samples share with the training text."""

from collections.abc import Iterator
from pathlib import Path

from flows.documents import read_texts
from flows.recipes import Recipe
from flows.tracking import Tracker
from gpt import GPTError, memorisation

SEARCHED_BYTES = 500_000_000  # of the training text: half a minute
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


def knows(tracker: Tracker, step: int, model, tokenizer, recipe: Recipe) -> dict | None:
    """Log which of the simple facts the model gets right, where the recipe asks for it; returns the row of all."""
    from gpt import facts

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
