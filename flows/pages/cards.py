"""The cards of the stages, each drawn into a folder from the facts that its leaf gives."""

from pathlib import Path

from flows.pages.figures import draw, funnel, lengths, piece_lengths
from flows.pages.render import publish


def write_data_card(folder: Path, facts: dict) -> None:
    """The card of the clean stage. facts: of data_contracts.facts."""
    steps = [(row["reason"], row["texts"]) for row in facts["funnel"] if row["texts"]]
    drawings = {
        "funnel": draw(folder / "funnel", funnel, steps, facts["figures"]["documents"]),
        "lengths": draw(folder / "lengths", lengths, facts["lengths"]),
    }
    publish(folder, "data_card.jinja", facts, **drawings)


def write_tokenizer_card(folder: Path, facts: dict) -> None:
    """facts: corpus; settings, of the recipe; counts, of tokenizers.training.train; and tokenizers.report.facts."""
    publish(folder, "tokenizer_card.jinja", facts, lengths=draw(folder / "lengths", piece_lengths, facts["lengths"]))
