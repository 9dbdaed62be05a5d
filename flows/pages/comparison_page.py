"""The table of a comparison (the dict of flows/compare.py): models, then baselines, by corpora, in bits per byte."""

from flows.pages.render import Table

BASELINES = ("ppmd", "xz", "gzip", "bigram", "unigram", "uniform")


def short_names(result: dict) -> dict[str, str]:
    """Each model's corpus, or its own name where several models are of one corpus. Later comparisons use the same names."""
    corpora = [model["corpus"] for model in result["models"]]
    return {
        model["model"]: model["corpus"] if model["corpus"] and corpora.count(model["corpus"]) == 1 else model["model"]
        for model in result["models"]
    }


def bits(result: dict) -> Table:
    """Of a model also the 95 % interval, and the difference to the corpus's own model."""
    cells = {(cell["model"], cell["corpus"]): _cell(cell) for cell in result["matrix"]}
    for column in result["corpora"]:
        for name, value in column["baselines"].items():
            cells[name, column["corpus"]] = f"{value:.3f}" if value else "–"
    corpora = [column["corpus"] for column in result["corpora"]]
    names = [*(model["model"] for model in result["models"]), *BASELINES]
    return Table(("model", *corpora), [(name, *(cells[name, corpus] for corpus in corpora)) for name in names])


def difference(cell: dict) -> str:
    """To the corpus's own model: `own`, or `+3.4 %`, after a ≈ where the interval of the difference contains 0."""
    if cell["own"] or cell["relative"] is None:
        return "own" if cell["own"] else ""
    low, high = cell["difference_low"], cell["difference_high"]
    certain = low is not None and high is not None and not low <= 0 <= high
    return ("" if certain else "≈ ") + f"{100 * cell['relative']:+.1f} %".replace("-", "−")


def _cell(cell: dict) -> str:
    low, high = cell["bits_per_byte_low"], cell["bits_per_byte_high"]
    interval = "no interval" if low is None or high is None else f"{low:.2f} to {high:.2f}"
    return f"{cell['bits_per_byte']:.3f} ({interval}) {difference(cell)}".strip()
