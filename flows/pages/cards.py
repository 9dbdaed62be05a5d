"""The cards of the stages, each drawn into a folder from the facts that its leaf gives."""

from pathlib import Path

from flows.pages import figures
from flows.pages.render import publish


def write_data_card(folder: Path, facts: dict) -> None:
    """The card of the clean stage. facts: of data_contracts.facts."""
    lengths = figures.draw(folder / "lengths", figures.lengths, facts["lengths"])
    publish(folder, "data_card.jinja", facts, lengths=lengths)


def write_tokenizer_card(folder: Path, facts: dict) -> None:
    """facts: corpus; settings, of the recipe; counts, of tokenizers.training.train; and tokenizers.report.facts."""
    publish(folder, "tokenizer_card.jinja", facts)
