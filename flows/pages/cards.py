"""The card of the clean stage, which has a figure. What has none needs no more than `render.publish`."""

from pathlib import Path

from flows.pages import figures
from flows.pages.render import publish


def write_data_card(folder: Path, facts: dict) -> None:
    """facts: of data_contracts.facts."""
    lengths = figures.draw(folder / "lengths", figures.lengths, facts["lengths"])
    publish(folder, "data_card.jinja", facts, lengths=lengths)
