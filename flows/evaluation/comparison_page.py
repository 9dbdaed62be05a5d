"""A comparison (the dict of flows/compare.py) to look at: a heat map, and a page around it.

Colour is relative, since corpora differ in how hard they are: how many bits a byte costs a model, over what it costs the
corpus's own. The figures in the cells are absolute.
"""

from pathlib import Path

from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from data_contracts import pages
from data_contracts.figures import draw

COLORS = LinearSegmentedColormap.from_list(
    "relative",
    [
        (0, "#1f7a5c"),
        (0.3, "#8ccbb0"),
        (0.5, "#ffffff"),
        (0.62, "#cfe1f2"),
        (0.75, "#7fb0dc"),
        (0.87, "#2f6fb0"),
        (1, "#16355c"),
    ],
)
SCALE = TwoSlopeNorm(0.0, -0.4, 1.0)  # 40 % fewer bits, as many, twice as many
INK, FAINT, OWN = "#1f2933", "#7b8794", "#d9822b"
WIDE, HIGH, LOW = 1.3, 0.66, 0.34  # inches: a cell of a model, and the height of one of a baseline
MEANT = (
    "Bits per byte of held-out text, over raw UTF-8 bytes: fewer is better. Each model reads every corpus by its own "
    "tokenizer. In brackets the 95 % interval, drawn over documents; beside it the difference to the corpus's own model, "
    "≈ where that may be noise."
)
BASELINES = ("xz", "gzip", "bigram", "unigram", "uniform")


def short_names(result: dict) -> dict[str, str]:
    """Each model's corpus where no other model is of it, else its own name: by them one comparison is set beside another."""
    corpora = [model["corpus"] for model in result["models"]]
    return {
        model["model"]: model["corpus"] if model["corpus"] and corpora.count(model["corpus"]) == 1 else model["model"]
        for model in result["models"]
    }


def relative(cell: dict) -> str:
    """Against the corpus's own model: `own`, or the difference, behind a ≈ where that may be noise."""
    if cell["relative"] is None:
        return ""
    if cell["own"]:
        return "own"
    low, high = cell["difference_low"], cell["difference_high"]
    noise = "" if low is not None and high is not None and not low <= 0 <= high else "≈ "
    return noise + f"{cell['relative']:+.1%}".replace("%", " %").replace("-", "−")


def ends(cell: dict) -> str:
    low, high = cell["bits_per_byte_low"], cell["bits_per_byte_high"]
    return "no interval" if low is None or high is None else f"{low:.2f} to {high:.2f}"


def rows(result: dict) -> list[tuple[str, list[dict]]]:
    """(model, its cells) in the order of the corpora."""
    cells = {(cell["model"], cell["corpus"]): cell for cell in result["matrix"]}
    columns = [column["corpus"] for column in result["corpora"]]
    return [(model["model"], [cells[model["model"], name] for name in columns]) for model in result["models"]]


def publish(folder: Path, result: dict) -> None:
    """card.md, card.html and card.json, with the heat map as matrix.png and matrix.svg."""
    picture = pages.Figure(
        "matrix", "bits per byte of each model on each corpus", draw(folder / "matrix", heat_map, result)
    )
    pages.publish(folder, "Comparison of models", sections(result, picture), result)


def sections(result: dict, *pictures: pages.Figure) -> pages.Sections:
    """Of the page."""
    names = [column["corpus"] for column in result["corpora"]]
    lines = [
        (model, *(f"{cell['bits_per_byte']:.3f} ({ends(cell)}) {relative(cell)}".strip() for cell in cells))
        for model, cells in rows(result)
    ]
    lines += [
        (baseline, *(f"{column['baselines'][baseline]:.3f}" for column in result["corpora"])) for baseline in BASELINES
    ]
    texts = [(c["corpus"], c["documents"], c["of_documents"], c["bytes"], c["digest"][:12]) for c in result["corpora"]]
    prompts = list(dict.fromkeys(answer["prompt"] for answer in result["answers"]))
    spoken = [
        (
            f"After “{prompt}”" if prompt else "From nothing",
            [pages.Quote(a["model"], [("same", a["text"])]) for a in result["answers"] if a["prompt"] == prompt],
        )
        for prompt in prompts
    ]
    about = facts(result)
    return [
        ("", [*pictures, MEANT, *result["notes"]]),
        ("Bits per byte", [pages.Table(("model", *names), lines)]),
        ("Held-out text", [pages.Table(("corpus", "documents", "of", "bytes", "digest of the documents"), texts)]),
        ("Size, cost and speed", [pages.table(about, *about[0])]),
        *spoken,
    ]


def note(result: dict) -> str:
    """The figures alone, to stand at the top of the run."""
    return pages.markdown("Comparison of models", sections(result)[:2])[:5000]


def facts(result: dict) -> list[dict[str, str]]:
    """What each model is and took, in words; – where nobody knows."""

    def number(value: float | None, unit: str = "") -> str:
        return "–" if value is None else f"{value:,.0f}{unit}"

    return [
        {
            "model": model["model"],
            "parameters": number(model["parameters"]),
            "pieces": number(model["vocab_size"]),
            "T": number(model["block_size"]),
            "steps": number(model["steps"]),
            "tokens_seen": number(model["tokens_seen"]),
            "training": number(model["training_seconds"], " s"),
            "scores": number(model["tokens_scored_per_second"], " tokens/s"),
            "writes": number(model["characters_written_per_second"], " characters/s"),
        }
        for model in result["models"]
    ]


def heat_map(result: dict) -> Figure:
    """Models, and below them the baselines, by corpora."""
    columns, models, baselines = result["corpora"], rows(result), BASELINES
    left = 0.45 + 0.085 * max(len(name) for name, _ in models)
    top, bottom, gap = 1.35, 0.95, 0.18
    body = HIGH * len(models) + gap + LOW * len(baselines)
    width, height = max(left + WIDE * len(columns) + 0.3, 6.4), top + body + bottom
    figure = Figure(figsize=(width, height), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    axes.text(0.3, 0.34, "Bits per byte on held-out text", size=14, weight="bold", color=INK, va="center")
    axes.text(
        0.3, 0.64, "fewer is better; below each the 95 % interval over documents, and the difference to the corpus's own model",
        size=8, color=FAINT, va="center",
    )  # fmt: skip
    for place, column in enumerate(columns):
        x = left + WIDE * (place + 0.5)
        axes.text(x, top - 0.3, column["corpus"], size=9, weight="bold", color=INK, ha="center", va="center")
        many = f"{column['documents']:,} documents, {column['bytes'] / 1000:,.0f} kB"
        axes.text(x, top - 0.13, many, size=6.5, color=FAINT, ha="center", va="center")
    for row, (name, cells) in enumerate(models):
        y = top + HIGH * row
        axes.text(left - 0.15, y + HIGH / 2, name, size=9, color=INK, ha="right", va="center")
        for place, cell in enumerate(cells):
            ink = _tile(axes, left + WIDE * place, y, HIGH, cell["relative"])
            x = left + WIDE * (place + 0.5)
            axes.text(
                x, y + 0.25, f"{cell['bits_per_byte']:.3f}", size=12, weight="bold", color=ink, ha="center", va="center"
            )
            small = "   ".join(filter(None, (ends(cell).replace(" to ", "–"), relative(cell))))
            axes.text(x, y + 0.48, small, size=6.5, color=ink, ha="center", va="center")
            if cell["own"]:
                frame = {"fill": False, "edgecolor": OWN, "linewidth": 2}
                axes.add_patch(Rectangle((left + WIDE * place + 0.03, y + 0.03), WIDE - 0.06, HIGH - 0.06, **frame))
    for row, baseline in enumerate(baselines):
        y = top + HIGH * len(models) + gap + LOW * row
        axes.text(left - 0.15, y + LOW / 2, baseline, size=9, color=FAINT, ha="right", va="center", style="italic")
        for place, column in enumerate(columns):
            own = next((cells[place] for _, cells in models if cells[place]["own"]), None)
            bits = column["baselines"][baseline]
            ink = _tile(axes, left + WIDE * place, y, LOW, own and bits / own["bits_per_byte"] - 1)
            axes.text(
                left + WIDE * (place + 0.5), y + LOW / 2, f"{bits:.3f}", size=9, color=ink, ha="center", va="center"
            )
    _legend(figure, axes, left, height - 0.5, width, height)
    return figure


def _tile(axes, x: float, y: float, high: float, relative: float | None) -> str:
    """Draw it; returns the colour of the ink that can be read on it."""
    color = COLORS(SCALE(min(max(relative, SCALE.vmin), SCALE.vmax))) if relative is not None else (0.95, 0.96, 0.97, 1)
    axes.add_patch(Rectangle((x, y), WIDE, high, facecolor=color, edgecolor="white", linewidth=2))
    red, green, blue, _ = color
    return "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.6 else INK


def _legend(figure: Figure, axes, x: float, y: float, width: float, height: float) -> None:
    bar = figure.add_axes((x / width, 1 - (y + 0.12) / height, 2.6 / width, 0.12 / height))
    steps = [SCALE.vmin + (SCALE.vmax - SCALE.vmin) * n / 255 for n in range(256)]
    bar.imshow([steps], cmap=COLORS, norm=SCALE, aspect="auto", extent=(SCALE.vmin, SCALE.vmax, 0, 1))
    ticks = (-0.4, 0.0, 0.5, 1.0)
    bar.set_xticks(ticks, ["−40 %", "as its own model", "+50 %", "+100 %"], fontsize=7)
    bar.set_yticks([])
    bar.tick_params(length=0)
    for spine in bar.spines.values():
        spine.set_visible(False)
    axes.add_patch(Rectangle((x + 2.95, y - 0.02), 0.28, 0.17, fill=False, edgecolor=OWN, linewidth=2))
    axes.text(x + 3.33, y + 0.065, "the corpus's own model", size=7, color=INK, va="center")
