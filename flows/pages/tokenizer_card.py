"""The tokenizer's card, drawn from the facts of tokenizers.report."""

from pathlib import Path

from flows.pages import figures
from flows.pages.render import Table, columns, publish


def write_tokenizer_card(folder: Path, corpus: str, settings: dict, counts: dict, report: dict) -> None:
    """Fill `folder`. settings: of the recipe; counts: of tokenizers.training.train; report: of tokenizers.report.facts."""
    known = [("fingerprint", counts["fingerprint"])]
    known += [(name.replace("_", " "), str(value)) for name, value in settings.items() if value not in ([], ())]
    rates = ("bytes_per_token", "tokens_per_document")  # the other floats are shares
    splits = [row | {name: f"{row[name]:,.2f}" for name in rates} for row in report["splits"]]
    publish(
        folder,
        "tokenizer_card.jinja",
        {"settings": settings, "counts": counts} | report,
        title=f"Tokenizer card: {corpus}",
        about=Table(("about", ""), known),
        splits=columns(splits, *splits[0]),
        sampled_share=counts["sampled_bytes"] / max(1, counts["seen_bytes"]),
        drawings={"lengths": figures.draw(folder / "lengths", figures.piece_lengths, report["lengths"])},
    )
