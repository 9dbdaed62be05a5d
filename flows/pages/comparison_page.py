"""The page of a comparison (the dict of flows/compare.py): the heat map, the same numbers as tables, and the answers."""

from pathlib import Path

from flows.pages.comparison_text import BASELINES, costs, difference, interval, model_rows
from flows.pages.figures import Drawing, draw
from flows.pages.heat_map import heat_map
from flows.pages.render import Table, columns, publish, render_text

TEMPLATE = "comparison.jinja"
NOTE_CHARS = 5000  # that MLflow shows at the top of a run


def write_comparison(folder: Path, result: dict) -> None:
    """card.md, card.html and card.json, with the heat map as matrix.png and matrix.svg."""
    publish(folder, TEMPLATE, result, **_values(result, draw(folder / "matrix", heat_map, result)))


def comparison_note(result: dict) -> str:
    """The beginning of the page, without the figure, for the top of the run in MLflow."""
    return render_text(TEMPLATE, facts=result, **_values(result, None))[:NOTE_CHARS]


def _values(result: dict, drawing: Drawing | None) -> dict:
    about = costs(result)
    answers: dict[str, list[dict]] = {}
    for answer in result["answers"]:
        answers.setdefault(answer["prompt"], []).append(answer)
    texts = [(c["corpus"], c["documents"], c["of_documents"], c["bytes"], c["digest"][:12]) for c in result["corpora"]]
    return {
        "title": "Comparison of models",
        "heat_map": drawing,
        "bits": _bits(result),
        "texts": Table(("corpus", "documents", "of", "bytes", "digest of the documents"), texts),
        "costs": columns(about, *about[0]),
        "answers": answers,
    }


def _bits(result: dict) -> Table:
    """Models, then baselines, by corpora."""
    corpora = result["corpora"]
    rows = [
        (model, *(f"{cell['bits_per_byte']:.3f} ({interval(cell)}) {difference(cell)}".strip() for cell in cells))
        for model, cells in model_rows(result)
    ]
    rows += [(name, *(f"{column['baselines'][name]:.3f}" for column in corpora)) for name in BASELINES]
    return Table(("model", *(column["corpus"] for column in corpora)), rows)
