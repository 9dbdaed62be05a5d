"""A comparison of models (the dict of flows/compare.py) in words: what the terminal, the page and the heat map print."""

BASELINES = ("ppmd", "xz", "gzip", "bigram", "unigram", "uniform")
COSTS = {  # column: the value of a model that it shows, and its unit
    "parameters": ("parameters", ""),
    "pieces": ("vocab_size", ""),
    "T": ("block_size", ""),
    "steps": ("steps", ""),
    "tokens_seen": ("tokens_seen", ""),
    "training": ("training_seconds", "s"),
    "scores": ("tokens_scored_per_second", "tokens/s"),
    "writes": ("characters_written_per_second", "characters/s"),
}


def short_names(result: dict) -> dict[str, str]:
    """Each model's corpus, or its own name where several models are of one corpus. Later comparisons use the same names."""
    corpora = [model["corpus"] for model in result["models"]]
    return {
        model["model"]: model["corpus"] if model["corpus"] and corpora.count(model["corpus"]) == 1 else model["model"]
        for model in result["models"]
    }


def model_rows(result: dict) -> list[tuple[str, list[dict]]]:
    """(model, its cells) in the order of the corpora."""
    cells = {(cell["model"], cell["corpus"]): cell for cell in result["matrix"]}
    names = [column["corpus"] for column in result["corpora"]]
    return [(model["model"], [cells[model["model"], name] for name in names]) for model in result["models"]]


def difference(cell: dict) -> str:
    """To the corpus's own model: `own`, or `+3.4 %`, after a ≈ where the interval of the difference contains 0."""
    if cell["relative"] is None:
        return ""
    if cell["own"]:
        return "own"
    low, high = cell["difference_low"], cell["difference_high"]
    certain = low is not None and high is not None and not low <= 0 <= high
    return ("" if certain else "≈ ") + f"{100 * cell['relative']:+.1f} %".replace("-", "−")


def bits(value: float | None) -> str:
    """Bits per byte; – where they were not computed."""
    return "–" if value is None else f"{value:.3f}"


def interval(cell: dict) -> str:
    low, high = cell["bits_per_byte_low"], cell["bits_per_byte_high"]
    return "no interval" if low is None or high is None else f"{low:.2f} to {high:.2f}"


def costs(result: dict) -> list[dict[str, str]]:
    """What each model is and what it took, in words; – where it is not known."""
    rows = []
    for model in result["models"]:
        row = {"model": model["model"]}
        for head, (name, unit) in COSTS.items():
            row[head] = "–" if model[name] is None else f"{model[name]:,.0f} {unit}".strip()
        rows.append(row)
    return rows
