"""The page of a comparison (the dict of flows/compare.py): models, then baselines, by corpora, as a table and as a heat map.

Numbers are bits per byte. Colour shows them relative to the corpus's own model, since corpora differ in how hard they are.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from flows.pages.figures import draw
from flows.pages.render import Table, publish

BASELINES = ("ppmd", "xz", "gzip", "bigram", "unigram", "uniform")
SCALE = TwoSlopeNorm(0, -0.4, 1)  # from 40 % fewer bits than the corpus's own model to twice as many
SHADES = LinearSegmentedColormap.from_list("relative", ["#7cc4a6", "white", "#8db9e6"])
COLOURS = SHADES.with_extremes(bad="#f2f5f7")  # where it is not known
INK, FAINT, OWN = "#1f2933", "#616e7c", "#d9822b"
TILE_WIDTH, TILE_HEIGHT = 1.5, 0.52  # inches
LEAST_COLUMNS = 4  # for which the title and the caption have room
CAPTION = (
    "Fewer is better. Below each figure the 95 % interval over documents, and the difference to the corpus's own model.\n"
    "Colour: that difference, from 40 % fewer bits (green) to twice as many (blue). Framed: the corpus's own model."
)


class Tile(NamedTuple):
    bits: str
    relative: float | None
    """to the corpus's own model"""
    details: str = ""
    own: bool = False


def write_comparison(folder: Path, result: dict) -> None:
    """card.md, card.html and card.json, with the heat map as matrix.png and matrix.svg."""
    publish(folder, "comparison.jinja", result, heat_map=draw(folder / "matrix", heat_map, result), bits=bits(result))


def short_names(result: dict) -> dict[str, str]:
    """Each model's corpus, or its own name where several models are of one corpus. Later comparisons use the same names."""
    corpora = [model["corpus"] for model in result["models"]]
    return {
        model["model"]: model["corpus"] if model["corpus"] and corpora.count(model["corpus"]) == 1 else model["model"]
        for model in result["models"]
    }


def tiles(result: dict) -> list[tuple[str, list[Tile]]]:
    """(model or baseline, its tiles in the order of the corpora)."""
    names = [model["model"] for model in result["models"]] + list(BASELINES)
    found: dict[str, list[Tile]] = {name: [] for name in names}
    for column in result["corpora"]:
        own = None
        for cell in (cell for cell in result["matrix"] if cell["corpus"] == column["corpus"]):
            bits, relative = cell["bits_per_byte"], cell["relative"]
            found[cell["model"]].append(
                Tile(f"{bits:.3f}", relative, f"({interval(cell)}) {difference(cell)}", cell["own"])
            )
            own = None if relative is None else bits / (1 + relative)
        for name in BASELINES:
            bits = column["baselines"][name]
            relative = bits / own - 1 if bits and own else None
            found[name].append(Tile(f"{bits:.3f}" if bits else "–", relative))
    return list(found.items())


def difference(cell: dict) -> str:
    """To the corpus's own model: `own`, or `+3.4 %`, after a ≈ where the interval of the difference contains 0."""
    if cell["own"] or cell["relative"] is None:
        return "own" if cell["own"] else ""
    low, high = cell["difference_low"], cell["difference_high"]
    certain = low is not None and high is not None and not low <= 0 <= high
    return ("" if certain else "≈ ") + f"{100 * cell['relative']:+.1f} %".replace("-", "−")


def interval(cell: dict) -> str:
    low, high = cell["bits_per_byte_low"], cell["bits_per_byte_high"]
    return "no interval" if low is None or high is None else f"{low:.2f} to {high:.2f}"


def bits(result: dict) -> Table:
    rows = [(name, *(f"{tile.bits} {tile.details}".strip() for tile in row)) for name, row in tiles(result)]
    return Table(("model", *(column["corpus"] for column in result["corpora"])), rows)


def heat_map(result: dict) -> Figure:
    rows, corpora = tiles(result), result["corpora"]
    width = TILE_WIDTH * max(len(corpora), LEAST_COLUMNS) + 0.09 * max(len(name) for name, _ in rows)
    figure = Figure((width + 0.3, TILE_HEIGHT * len(rows) + 2.2), facecolor="white", layout="constrained")
    axes = figure.subplots()
    axes.set_title("Bits per byte on held-out text", loc="left", fontsize=14, color=INK, weight="bold", pad=36)
    figure.supxlabel(CAPTION, x=0.01, ha="left", fontsize=8, color=FAINT)

    relative_RC = np.array([[tile.relative for tile in row] for _, row in rows], float)  # nan for None
    axes.pcolormesh(relative_RC, cmap=COLOURS, norm=SCALE, edgecolor="white", linewidth=2)
    for y, x in np.ndindex(relative_RC.shape):
        tile = rows[y][1][x]
        middle = y + (0.42 if tile.details else 0.5)
        axes.text(x + 0.5, middle, tile.bits, color=INK, fontsize=12, weight="bold", ha="center", va="center")
        axes.text(x + 0.5, y + 0.8, tile.details, color=INK, fontsize=6.5, ha="center", va="center")
        if tile.own:
            axes.add_patch(Rectangle((x + 0.02, y + 0.04), 0.96, 0.92, fill=False, edgecolor=OWN, linewidth=2))
    axes.set(xlim=(0, max(len(corpora), LEAST_COLUMNS)), ylim=(len(rows), 0))
    axes.set_xticks(np.arange(len(corpora)) + 0.5, [column["corpus"] for column in corpora], weight="bold", color=INK)
    axes.set_yticks(np.arange(len(rows)) + 0.5, [name for name, _ in rows], color=INK, parse_math=False)
    axes.tick_params(length=0)
    axes.tick_params("x", labeltop=True, labelbottom=False, pad=6)
    axes.spines[:].set_visible(False)
    return figure
