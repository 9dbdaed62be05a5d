"""The page of a comparison (the dict of flows/compare.py): the heat map, the same numbers as tables, and the answers.

In the heat map models, and below them the baselines, stand by corpora. Colour shows bits per byte relative to the corpus's own
model, since corpora differ in how hard they are. The numbers in the tiles are absolute.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from flows.pages.comparison_text import BASELINES, bits, costs, difference, interval, model_rows
from flows.pages.figures import Drawing, draw
from flows.pages.render import Table, columns, publish, render_text, spaced

TEMPLATE = "comparison.jinja"
NOTE_CHARS = 5000  # that MLflow shows at the top of a run
# From 40 % fewer bits than the corpus's own model to twice as many.
SHADES = {-0.4: "#1f7a5c", -0.16: "#8ccbb0", 0: "white", 0.24: "#cfe1f2", 0.5: "#7fb0dc", 0.74: "#2f6fb0", 1: "#16355c"}
SCALE = Normalize(min(SHADES), max(SHADES))
GRADIENT = LinearSegmentedColormap.from_list("relative", [(SCALE(value), shade) for value, shade in SHADES.items()])
COLOURS = GRADIENT.with_extremes(bad="#f2f5f7")  # where it is not known
INK, FAINT, OWN = "#1f2933", "#616e7c", "#d9822b"
TILE_WIDTH, MODEL_HEIGHT, BASELINE_HEIGHT = 1.3, 0.68, 0.36  # inches
LEAST_COLUMNS = 4  # for which the title and the legend have room
CAPTION = "fewer is better; below each the 95 % interval over documents,\nand the difference to the corpus's own model"


def write_comparison(folder: Path, result: dict) -> None:
    """card.md, card.html and card.json, with the heat map as matrix.png and matrix.svg."""
    publish(folder, TEMPLATE, result, **_values(result, draw(folder / "matrix", heat_map, result)))


def comparison_note(result: dict) -> str:
    """The beginning of the page, without the figure, for the top of the run in MLflow."""
    return spaced(render_text(TEMPLATE, facts=result, **_values(result, None)))[:NOTE_CHARS]


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
    rows += [(name, *(bits(column["baselines"][name]) for column in corpora)) for name in BASELINES]
    return Table(("model", *(column["corpus"] for column in corpora)), rows)


def heat_map(result: dict) -> Figure:
    models, corpora = model_rows(result), result["corpora"]
    heights = MODEL_HEIGHT * len(models), BASELINE_HEIGHT * len(BASELINES)
    width = TILE_WIDTH * max(len(corpora), LEAST_COLUMNS) + 0.09 * max(len(name) for name, _ in models)
    figure = Figure((width + 0.3, sum(heights) + 2.2), facecolor="white", layout="constrained")
    above, below = figure.subplots(2, height_ratios=heights)
    above.set_title("Bits per byte on held-out text", loc="left", fontsize=14, color=INK, weight="bold", pad=20)
    figure.supxlabel(CAPTION, x=0.01, ha="left", fontsize=8, color=FAINT)

    bits_MC = np.array([[cell["bits_per_byte"] for cell in cells] for _, cells in models])
    relative_MC = np.array([[cell["relative"] for cell in cells] for _, cells in models], float)  # nan for None
    draw_tiles(above, [name for name, _ in models], bits_MC, relative_MC, fontsize=12, weight="bold", va="bottom")
    above.set_xticks(np.arange(len(corpora)) + 0.5, [column["corpus"] for column in corpora], weight="bold", color=INK)
    above.tick_params("x", labeltop=True, labelbottom=False, pad=14)
    for x, column in enumerate(corpora):
        size = f"{column['documents']:,} documents, {column['bytes'] / 1000:,.0f} kB"
        above.text(x + 0.5, -0.1, size, fontsize=6.5, color=FAINT, ha="center")
        for y, (_, cells) in enumerate(models):
            small = f"{interval(cells[x]).replace(' to ', '–')}   {difference(cells[x])}".strip()
            ink = text_colour(float(relative_MC[y, x]))
            above.text(x + 0.5, y + 0.72, small, fontsize=6.5, color=ink, ha="center", va="center")
            if cells[x]["own"]:
                above.add_patch(Rectangle((x + 0.02, y + 0.04), 0.96, 0.92, fill=False, edgecolor=OWN, linewidth=2))

    bits_BC = np.array([[column["baselines"][name] for column in corpora] for name in BASELINES], float)
    own_C = bits_MC[0] / (1 + relative_MC[0])
    draw_tiles(below, BASELINES, bits_BC, bits_BC / own_C - 1, fontsize=9, va="center")

    bar = figure.colorbar(ScalarMappable(SCALE, COLOURS), ax=[above, below], location="bottom", aspect=40, shrink=0.6)
    bar.set_ticks([-0.4, 0, 0.5, 1], labels=["−40 %", "as its own model", "+50 %", "+100 %"], fontsize=7)
    bar.outline.set_visible(False)
    frame = Rectangle((0, 0), 1, 1, fill=False, edgecolor=OWN, linewidth=2, label="the corpus's own model")
    figure.legend(handles=[frame], loc="outside lower right", fontsize=7, frameon=False)
    return figure


def draw_tiles(axes: Axes, names: Sequence[str], bits_RC: np.ndarray, relative_RC: np.ndarray, **style: Any) -> None:
    """A row of tiles for each name; nan is unknown."""
    rows, columns = bits_RC.shape
    axes.pcolormesh(relative_RC, cmap=COLOURS, norm=SCALE, edgecolor="white", linewidth=2)
    for (y, x), relative in np.ndenumerate(relative_RC):
        axes.text(x + 0.5, y + 0.5, f"{bits_RC[y, x]:.3f}", color=text_colour(relative), ha="center", **style)
    axes.set(xlim=(0, max(columns, LEAST_COLUMNS)), ylim=(rows, 0), xticks=[])
    axes.set_yticks(np.arange(rows) + 0.5, names, color=INK, parse_math=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def text_colour(relative: float) -> str:
    """White on a dark tile."""
    red, green, blue, _ = COLOURS(SCALE(relative))
    return "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.5 else INK
