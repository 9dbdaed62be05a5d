"""The packing report, drawn from the facts of gpt.evaluation.packing_report."""

from pathlib import Path

from flows.pages import figures
from flows.pages.render import Table, publish
from gpt.evaluation.packing_report import PER_TEN


def write_packing_report(folder: Path, corpus: str, settings: dict, report: dict, baselines: dict[str, float]) -> None:
    """Fill `folder`. settings: of the recipe; report: of packing_report.facts; baselines: in bits per byte."""
    drawing = figures.draw(folder / "lengths", figures.lengths, report["lengths"], PER_TEN, "tokens", "documents")
    publish(
        folder,
        "packing_report.jinja",
        {"settings": settings, "baselines": baselines} | report,
        title=f"Packing report: {corpus}",
        drawings={"lengths": drawing},
        baselines=Table(("baseline", "bits per byte"), [(name, f"{bits:.3f}") for name, bits in baselines.items()]),
    )
