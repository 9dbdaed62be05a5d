"""The cards of the stages, each drawn into a folder from the facts that its leaf gives."""

from pathlib import Path

from data_contracts.facts import BINS_PER_TEN
from flows.pages import figures
from flows.pages.render import Table, columns, publish


def write_data_card(folder: Path, facts: dict) -> None:
    """The card of the clean stage. facts: of data_contracts.facts."""
    steps = [(row["reason"], row["texts"]) for row in facts["funnel"] if row["texts"]]
    lengths = facts["lengths"], BINS_PER_TEN, "characters", "texts"
    drawings = {
        "funnel": figures.draw(folder / "funnel", figures.funnel, steps, facts["figures"]["documents"]),
        "lengths": figures.draw(folder / "lengths", figures.lengths, *lengths),
    }
    about = Table(("about", ""), [("licence", facts["licence"]), *_source(facts["source"])])
    publish(folder, "data_card.jinja", facts, title=f"Data card: {facts['corpus']}", about=about, drawings=drawings)


def write_tokenizer_card(folder: Path, corpus: str, settings: dict, counts: dict, report: dict) -> None:
    """settings: of the recipe; counts: of tokenizers.training.train; report: of tokenizers.report.facts."""
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


def write_packing_report(folder: Path, corpus: str, settings: dict, splits: list[dict], measured: dict) -> None:
    """settings: of the recipe; splits: a row of counts a split; measured: baselines, ppmd_order, repeated."""
    bits = [(name, f"{value:.3f}") for name, value in measured["baselines"].items()]
    publish(
        folder,
        "packing_report.jinja",
        {"settings": settings, "splits": splits} | measured,
        title=f"Packing report: {corpus}",
        baselines=Table(("baseline", "bits per byte"), bits),
    )


def _source(source: dict) -> list[tuple[str, str]]:
    """The identity of the raw data, one row per part; of files with their hashes the number."""
    rows = []
    for name, value in source.items():
        if isinstance(value, dict):
            value = f"{len(value):,} files"
        if value:
            rows.append((name, ", ".join(value) if isinstance(value, list) else str(value)))
    return rows
