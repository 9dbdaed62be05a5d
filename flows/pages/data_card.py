"""The data card of the clean stage, drawn from the facts of data_contracts.facts."""

from pathlib import Path

from data_contracts.facts import BINS_PER_TEN
from flows.pages import figures
from flows.pages.render import Table, publish

SHOWN_FILES = 3  # of the raw data's


def write_data_card(folder: Path, facts: dict) -> None:
    """Fill `folder` with the card and its figures: funnel, lengths and characters."""
    steps = [(row["reason"], row["texts"]) for row in facts["funnel"] if row["texts"]]
    lengths = facts["lengths"], BINS_PER_TEN, "characters", "texts"
    drawings = {
        "funnel": figures.draw(folder / "funnel", figures.funnel, steps, facts["figures"]["documents"]),
        "lengths": figures.draw(folder / "lengths", figures.lengths, *lengths),
        "characters": figures.draw(folder / "characters", figures.characters, facts["characters"]["frequent"]),
    }
    about = Table(("about", ""), [("licence", facts["licence"]), *_source(facts["source"])])
    publish(folder, "data_card.jinja", facts, title=f"Data card: {facts['corpus']}", about=about, drawings=drawings)


def _source(source: dict) -> list[tuple[str, str]]:
    """The identity of the raw data, one row per part; of many files the first ones."""
    rows = []
    for name, value in source.items():
        if isinstance(value, dict):
            value = [f"{file} (sha256 {sha256[:12]})" for file, sha256 in value.items()]
        if isinstance(value, list):
            more = len(value) - SHOWN_FILES
            value = ", ".join(value[:SHOWN_FILES]) + (f" and {more} more" if more > 0 else "")
        if value:
            rows.append((name, str(value)))
    return rows
